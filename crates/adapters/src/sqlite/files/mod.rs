//! The files of a database: where they are, who may read them, and what the kernel holds of them.

pub(crate) mod last_backup;
pub(crate) mod location;
pub(crate) mod page_cache;
pub(crate) mod permissions;
pub(crate) mod presence;
pub(crate) mod private;
pub(crate) mod start_lock;

use std::io;
use std::path::{Path, PathBuf};

/// Suffix of the note of the last backup.
pub(crate) const LAST_BACKUP: &str = "-last-backup";

/// Removes the files beside the database with these suffixes, if they are there.
pub(crate) fn remove_beside(path: &Path, suffixes: &[&str]) -> io::Result<()> {
    for suffix in suffixes {
        match std::fs::remove_file(beside(path, suffix)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Returns the path of the file beside the database with this suffix.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.to_owned().into_os_string();
    name.push(suffix);
    PathBuf::from(name)
}

/// Returns the folder that a file is in, as a path that can be opened.
pub(crate) fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    }
}
