//! Limit of open files, and the number of connections that it leaves room for.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Connections of the whole process, each of which has buffers: more of them wait to be accepted. It does not
/// depend on the number of cores, as memory does not.
pub const CONNECTIONS_MAX: usize = 8192;

/// Files beside connections, so that these never take those away that the database needs: SQLite has 44 open, the
/// database and the text index with a log each for nine readers and for what keeps the index, the database with its log for
/// the writer, and two files of shared memory. The rest is listeners, workers, the log, and what is opened for
/// a moment. On two cores that makes 67 without a client.
const FILES_RESERVED: u64 = 256;

/// The limit of open files that leaves room for as many connections as we would take.
pub const FILES_WANTED: u64 = FILES_RESERVED + CONNECTIONS_MAX as u64;

/// Returns the number of connections that the process has files for, at most [`CONNECTIONS_MAX`]. Raises its limit of open
/// files as far as it may by itself.
#[must_use]
pub fn connections_max() -> usize {
    let limit = getrlimit(Resource::Nofile);
    // Where it may not, what it has counts.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
    room_among(getrlimit(Resource::Nofile).current)
}

/// Connections for which there is room among `files_max` files, or without a limit of them.
fn room_among(files_max: Option<u64>) -> usize {
    let files = files_max.unwrap_or(u64::MAX).saturating_sub(FILES_RESERVED);
    usize::try_from(files).unwrap_or(usize::MAX).clamp(1, CONNECTIONS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_that_are_wanted_leave_room_for_all_connections() {
        assert_eq!(room_among(Some(FILES_WANTED)), CONNECTIONS_MAX);
        assert_eq!(room_among(Some(FILES_WANTED - 1)), CONNECTIONS_MAX - 1);
        assert_eq!(room_among(None), CONNECTIONS_MAX);
        assert_eq!(room_among(Some(1024)), 768);
        assert_eq!(room_among(Some(10)), 1);
    }
}
