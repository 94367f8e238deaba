//! Where the database is: the file itself, not a link that leads to it.
//!
//! SQLite follows links before it opens a file, and keeps the write-ahead log beside the file that it found. So must
//! everything that looks at the log.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::sqlite::files::folder_of;

/// Links that are followed one after the other: as many as Linux follows.
const LINKS_MAX: usize = 40;

/// The file that `path` leads to, whether there is one yet or not, as an absolute path. SQLite takes that for nothing
/// but a path: a relative one may begin with `file:`, or be `:memory:`.
///
/// # Errors
/// The folder can't be reached, or `path` does not name a file in it.
pub(crate) fn resolve(path: &Path) -> io::Result<PathBuf> {
    let path = follow(path)?;
    let name = path.file_name().ok_or_else(|| io::Error::other("it names a folder, not a file"))?;
    Ok(fs::canonicalize(folder_of(&path))?.join(name))
}

/// Follows links as long as `path` is one. The last may lead to where nothing is yet.
///
/// # Errors
/// There are too many.
pub(crate) fn follow(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..=LINKS_MAX {
        match fs::read_link(&path) {
            Ok(target) => path = folder_of(&path).join(target),
            // It is no link, or not there.
            Err(_) => return Ok(path),
        }
    }
    Err(io::Error::other(format!("more than {LINKS_MAX} links lead from one to the next")))
}
