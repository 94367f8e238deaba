//! The files of a database: where they are, who may read them, and what the kernel holds of them.

pub(crate) mod location;
pub(crate) mod page_cache;
pub(crate) mod presence;
pub(crate) mod private;
pub(crate) mod start_lock;

use std::io;
use std::path::{Path, PathBuf};

/// Removes those of these files beside the database that are there.
pub(crate) fn remove_beside(path: &Path, suffixes: &[&str]) -> io::Result<()> {
    for suffix in suffixes {
        match std::fs::remove_file(beside(path, suffix)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// The file that SQLite keeps beside the database under its name and this suffix.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.to_owned().into_os_string();
    name.push(suffix);
    PathBuf::from(name)
}
