//! Private files: only their owner can read or lock them, whatever the umask. Messages are confidential, and a lock that
//! another user takes stops webhooks.

use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use rustix::process::geteuid;

use crate::sqlite::files::{LAST_BACKUP, beside};

pub(crate) const FILE_MODE: u32 = 0o600;

const FOLDER_MODE: u32 = 0o700;

/// Permissions of users who are neither the owner nor in the group.
const OTHERS: u32 = 0o007;

/// Suffixes of all files of a database: SQLite's, those of the text index, and the note of the last backup.
pub(crate) const SUFFIXES: [&str; 7] =
    ["", "-wal", "-shm", "-search", "-search-wal", "-search-shm", LAST_BACKUP];

/// Creates an empty file if there is none, which SQLite takes for an empty database. Files that SQLite creates beside it get
/// the same mode.
pub(crate) fn create_file(path: &Path) -> io::Result<()> {
    match OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made.map(drop),
    }
}

/// Creates a folder, unless somebody else has just created it.
pub(crate) fn create_folder(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(FOLDER_MODE).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        made => made,
    }
}

/// Takes away permissions of other users on our files of a database, which an older version or another program gave them.
/// The group keeps its permissions: an operator gave it those on purpose.
pub(crate) fn tighten(path: &Path) {
    for file in SUFFIXES.map(|suffix| beside(path, suffix)) {
        let Ok(metadata) = fs::metadata(&file) else {
            continue;
        };
        let mode = metadata.mode();
        if metadata.uid() == geteuid().as_raw() && mode & OTHERS != 0 {
            // On a file system without modes it stays as it is.
            let _ = fs::set_permissions(&file, Permissions::from_mode(mode & 0o777 & !OTHERS));
        }
    }
}
