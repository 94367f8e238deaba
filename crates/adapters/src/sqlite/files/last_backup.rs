//! When the last backup was made: the time of a small file beside the database, which tells where it went.
//!
//! A backup is another process's work, and the database is only read by it. So whoever watches the server learns of it
//! from this file.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::sqlite::files::beside;
use crate::sqlite::files::private::FILE_MODE;

pub(crate) const SUFFIX: &str = "-last-backup";

/// Notes that a backup was made at `dest`.
pub(crate) fn note(path: &Path, dest: &Path) -> io::Result<()> {
    let file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(FILE_MODE).open(beside(path, SUFFIX));
    file?.write_all(dest.as_os_str().as_bytes())
}

/// How long after 1970 the last backup was made; `None` if there was none.
pub(crate) fn made_at(path: &Path) -> Option<Duration> {
    let made_at = beside(path, SUFFIX).metadata().and_then(|metadata| metadata.modified()).ok()?;
    made_at.duration_since(SystemTime::UNIX_EPOCH).ok()
}
