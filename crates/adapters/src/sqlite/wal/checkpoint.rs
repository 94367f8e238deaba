//! Checkpoints: this program moves the write-ahead log into the database, from the first write on.
//!
//! SQLite would do it within a commit and when it closes, and would report a failure to nobody: then the log, which has all
//! of it, restarts.

use std::cell::Cell;
use std::thread;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ffi};

use crate::sqlite::connection::BUSY_WAIT_MAX;

/// Pages in the write-ahead log from which on it is moved into the database (4 MiB of 4 KiB pages). SQLite would do it
/// before the commit returns. Messages wait for some milliseconds; with four times as many pages they wait four times as
/// long, and little less is written, since few pages are written again and again.
pub(crate) const CHECKPOINT_PAGES: i32 = 1024;

/// Tries at emptying a log. With [`EMPTY_PAUSE`] and the wait of each they take ten seconds: by then every query that ran has
/// ended.
const EMPTY_TRIES_MAX: usize = 20;

/// Time that a writer is left alone between two tries: as long as each of them waits, and webhooks with it.
const EMPTY_PAUSE: Duration = Duration::from_millis(250);

/// Time that a writer waits for look-ups to end. Messages wait as long.
const RESTART_WAIT_MAX: Duration = Duration::from_millis(250);

thread_local! {
    /// Pages in the write-ahead log after the last commit of this thread.
    static WAL_PAGES: Cell<i32> = const { Cell::new(0) };
}

/// Way of moving a log into its database.
#[derive(Clone, Copy)]
pub(crate) enum Checkpoint {
    /// Waits for nobody: pages that are still read stay.
    Passive,
    /// Moves all of it, waiting for up to [`RESTART_WAIT_MAX`], so that it restarts with the next write.
    Restart,
    /// Does the same and empties the file.
    Truncate,
}

/// Moves a log; returns true if nobody was in the way.
pub(crate) fn move_log(db: &Connection, how: Checkpoint) -> rusqlite::Result<bool> {
    let sql = match how {
        Checkpoint::Passive => "PRAGMA wal_checkpoint(passive)",
        Checkpoint::Restart => "PRAGMA wal_checkpoint(restart)",
        Checkpoint::Truncate => "PRAGMA wal_checkpoint(truncate)",
    };
    db.busy_timeout(RESTART_WAIT_MAX)?;
    let is_blocked = db.query_row(sql, [], |row| row.get::<_, bool>(0));
    db.busy_timeout(BUSY_WAIT_MAX)?;
    is_blocked.map(|is_blocked| !is_blocked)
}

/// Takes checkpoints over from SQLite.
pub(crate) fn take_over(db: &Connection) -> rusqlite::Result<()> {
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    // Replaces SQLite's own hook.
    db.wal_hook(Some(|_, pages| {
        WAL_PAGES.set(pages);
        Ok(())
    }));
    Ok(())
}

/// Returns the pages in the log after the last commit of this thread.
pub(crate) fn log_pages() -> i32 {
    WAL_PAGES.get()
}

/// Notes that the log has no pages any more.
pub(crate) fn restarted() {
    WAL_PAGES.set(0);
}

/// Moves the log if it is long, between two transactions of a start.
///
/// # Errors
/// The database could not be flushed: nothing more may be moved until it is opened again. After other failures the log stays
/// as it is, which is no error.
pub(crate) fn move_long_log(db: &Connection) -> rusqlite::Result<()> {
    if log_pages() < CHECKPOINT_PAGES {
        return Ok(());
    }
    match move_log(db, Checkpoint::Passive) {
        Err(error) if is_failed_flush(&error) => Err(error),
        _ => Ok(()),
    }
}

/// Moves all of the log and empties its file, while others read and write. Returns false if somebody was reading all the
/// time.
///
/// # Errors
/// The log stays as it is.
pub(crate) fn empty_log(db: &Connection) -> rusqlite::Result<bool> {
    for n_tries in 1..=EMPTY_TRIES_MAX {
        // Most of it while others write.
        move_log(db, Checkpoint::Passive)?;
        if move_log(db, Checkpoint::Truncate)? {
            return Ok(true);
        }
        if n_tries < EMPTY_TRIES_MAX {
            thread::sleep(EMPTY_PAUSE);
        }
    }
    Ok(false)
}

/// Moves all of the log before the connection is closed, which then removes it. Waits for nobody.
///
/// # Errors
/// The log stays as it is.
pub(crate) fn move_all_and_close(db: &Connection) -> rusqlite::Result<()> {
    db.busy_timeout(Duration::ZERO)?;
    db.execute_batch("PRAGMA wal_checkpoint(truncate)")?;
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false).map(drop)
}

pub(crate) fn is_failed_flush(error: &rusqlite::Error) -> bool {
    error.sqlite_error().is_some_and(|error| error.extended_code == ffi::SQLITE_IOERR_FSYNC)
}

#[cfg(test)]
mod tests {
    use crate::sqlite::open;

    /// SQLite's own hook moved the log while a start brought the schema up to date, and nobody heard that it failed.
    #[test]
    fn from_the_first_write_on_only_we_move_the_log() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.db");
        let db = open::open_writer(&path).unwrap();
        db.execute_batch("CREATE TABLE t (blob)").unwrap();
        for _ in 0..8 {
            db.execute("INSERT INTO t VALUES (zeroblob(1 << 20))", []).unwrap();
        }
        let database_bytes = || path.metadata().unwrap().len();
        assert!(database_bytes() < 1 << 20, "SQLite has moved the log");
        super::move_long_log(&db).unwrap();
        assert!(database_bytes() > 8 << 20);
        drop(db);
        assert!(crate::sqlite::files::beside(&path, "-wal").exists(), "nor does it when it closes");
    }
}
