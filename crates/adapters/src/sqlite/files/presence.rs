//! Presence: the files that the store has open are still the ones at their paths.
//!
//! A file that somebody deletes, moves or replaces can be written to as before, and is gone when the process ends. So
//! what is stored there is not promised. Two looks at a name after each commit cost it a few microseconds.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::sqlite::files::beside;

/// Identity of a file, whatever its name.
#[derive(Clone, Copy, PartialEq, Eq)]
struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    fn of(path: &Path) -> io::Result<Self> {
        let metadata = fs::metadata(path)?;
        Ok(Self { device: metadata.dev(), inode: metadata.ino() })
    }
}

/// The files of a database as they were when it was opened.
pub(crate) struct Presence {
    database: (PathBuf, FileId),
    log: (PathBuf, OnceLock<FileId>),
}

impl Presence {
    /// To be called when the database has just been opened.
    pub(crate) fn of(path: &Path) -> io::Result<Self> {
        let presence = Self {
            database: (path.to_owned(), FileId::of(path)?),
            log: (beside(path, "-wal"), OnceLock::new()),
        };
        presence.learn_log();
        Ok(presence)
    }

    /// SQLite makes the log when it first needs one, and then keeps it.
    fn learn_log(&self) {
        if self.log.1.get().is_none()
            && let Ok(id) = FileId::of(&self.log.0)
        {
            self.log.1.get_or_init(|| id);
        }
    }

    /// # Errors
    /// One of the files is not where it was; says which, and what to do.
    pub(crate) fn verify(&self) -> Result<(), String> {
        self.learn_log();
        let (database, id) = &self.database;
        expect(database, *id)?;
        match self.log.1.get() {
            Some(id) => expect(&self.log.0, *id),
            None => Ok(()),
        }
    }
}

fn expect(path: &Path, id: FileId) -> Result<(), String> {
    match FileId::of(path) {
        Ok(found) if found == id => Ok(()),
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(format!("cannot look at {}: {error}", path.display()))
        }
        _ => Err(format!(
            "{} was deleted, moved or replaced while it was served: put it back in its place, or stop and restore a \
             backup",
            path.display()
        )),
    }
}
