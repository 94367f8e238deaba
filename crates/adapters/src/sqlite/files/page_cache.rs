//! The kernel's page cache: bytes of a file that need not be on the disk.
//!
//! They may never have been flushed. And when a flush fails, the kernel keeps what it could not write, takes it for
//! written, and the next flush succeeds without it (<https://wiki.postgresql.org/wiki/Fsync_Errors>). On ext4 it does not
//! even help to write it again as long as the kernel keeps it: where the file had just grown, the place stays marked
//! as never written, and reads as zeros after the next mount.

use std::fs::File;
use std::io;
use std::path::Path;

use rustix::fs::{Advice, fadvise};

/// Flushes a file and has the kernel forget it, so that everything read later is on the disk. A file that does not exist is
/// no error.
///
/// Not for a database file that SQLite has open in this process: closing a file gives up all locks on it.
pub(crate) fn flush_and_evict(path: &Path) -> io::Result<()> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        file => file?,
    };
    file.sync_data()?;
    fadvise(&file, 0, None, Advice::DontNeed)?;
    Ok(())
}
