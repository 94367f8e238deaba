//! The time of the last backup: that of a small file beside the database, which has the path of the backup.
//!
//! Another process makes the backup, and only reads the database. The server learns of it from this file.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::sqlite::files::private::FILE_MODE;
use crate::sqlite::files::{LAST_BACKUP, beside};

/// Notes that a backup was made at `dest`.
pub(crate) fn note(path: &Path, dest: &Path) -> io::Result<()> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(FILE_MODE)
        .open(beside(path, LAST_BACKUP));
    file?.write_all(dest.as_os_str().as_bytes())
}

/// Returns the time from 1970 to the last backup; `None` if there was none.
pub(crate) fn made_at(path: &Path) -> Option<Duration> {
    let made_at = beside(path, LAST_BACKUP).metadata().and_then(|metadata| metadata.modified()).ok()?;
    made_at.duration_since(SystemTime::UNIX_EPOCH).ok()
}
