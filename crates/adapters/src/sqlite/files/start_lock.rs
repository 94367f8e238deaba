//! The start lock: one start at a time on a database. Two starts at once must not both create the schema, migrate it or
//! create the text index.
//!
//! It is a lock on the folder, so that it needs no file of its own, and so that no lock of SQLite's on the database
//! file is given up with it.

use std::fs::{File, TryLockError};
use std::io;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use crate::sqlite::files::folder_of;

/// Time to wait for another start. It takes seconds, unless it migrates a large database.
const START_WAIT_MAX: Duration = Duration::from_secs(30);

/// Time between two tries.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Held until it is dropped, or the process ends.
pub(crate) struct StartLock(#[expect(dead_code, reason = "closing it unlocks it")] File);

impl StartLock {
    /// # Errors
    /// Of kind `TimedOut` if another start holds it for too long.
    pub(crate) fn take(path: &Path) -> io::Result<Self> {
        let folder = File::open(folder_of(path))?;
        let deadline = Instant::now() + START_WAIT_MAX;
        loop {
            match folder.try_lock() {
                Ok(()) => return Ok(Self(folder)),
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => thread::sleep(LOOK_EVERY),
                Err(TryLockError::WouldBlock) => return Err(io::ErrorKind::TimedOut.into()),
                // A file system that has no such locks: SQLite's own are left.
                Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => {
                    return Ok(Self(folder));
                }
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
    }
}
