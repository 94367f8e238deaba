//! Files that nobody but their owner can read or lock, whatever the umask: messages are nobody else's business, and
//! a lock that another user takes stops webhooks.

use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use rustix::process::geteuid;

use crate::sqlite::files::beside;
use crate::sqlite::files::last_backup;

pub(crate) const FILE_MODE: u32 = 0o600;

const FOLDER_MODE: u32 = 0o700;

/// What users have who are neither the owner nor of the group.
const OTHERS: u32 = 0o007;

/// All files of a database: SQLite's, the index of texts with its own, and the note of the last backup.
pub(crate) const SUFFIXES: [&str; 7] =
    ["", "-wal", "-shm", "-search", "-search-wal", "-search-shm", last_backup::SUFFIX];

/// Makes an empty file if there is none, which SQLite takes for an empty database. What SQLite makes beside it gets
/// the same mode.
pub(crate) fn create_file(path: &Path) -> io::Result<()> {
    match OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made.map(drop),
    }
}

/// Makes a folder, unless somebody else has made it just before.
pub(crate) fn create_folder(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(FOLDER_MODE).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        made => made,
    }
}

/// Takes from others what an older version, or another program, let them do with the files of a database that are
/// ours. The group keeps what it may: who gave it that knows why.
pub(crate) fn tighten(path: &Path) {
    let files = SUFFIXES.into_iter().chain([last_backup::SUFFIX]);
    for file in files.map(|suffix| beside(path, suffix)) {
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
