//! Backup: a copy of the database as of one moment, made while a server writes to it.
//!
//! The source is only read: not migrated, not checkpointed.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};

use crate::sqlite::files::{beside, folder_of, last_backup, location};
use crate::sqlite::upkeep::check;
use crate::sqlite::upkeep::copy::copy_pages;
use crate::sqlite::upkeep::report::{Problem, Report};
use crate::sqlite::upkeep::snapshot::{self, CheckError};

/// Reason why there is no backup. Nothing was created at its place.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The database can't be read.
    #[error(transparent)]
    Source(#[from] CheckError),
    /// The database is not one that could be restored.
    #[error("cannot back up database at {path}: {problem}")]
    Refused {
        /// The database file.
        path: PathBuf,
        /// Its problem.
        problem: Problem,
    },
    /// A file is there already, or a log that SQLite would take for the backup's.
    #[error("{0} exists already: a backup never overwrites")]
    Exists(PathBuf),
    /// A folder is not the name of a file.
    #[error("cannot write backup {0}: it is a folder, name a file in it")]
    IsFolder(PathBuf),
    /// SQLite can't write the copy.
    #[error("cannot write backup {dest}: {source}")]
    Sqlite {
        /// The backup.
        dest: PathBuf,
        /// Why.
        source: rusqlite::Error,
    },
    /// A file can't be created, flushed or renamed.
    #[error("cannot write backup {dest}: {source}")]
    File {
        /// The backup.
        dest: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The finished copy is not sound; most likely the database is not either.
    #[error("the copy of database at {path} is damaged and was not kept: {report}")]
    Damaged {
        /// The database file.
        path: PathBuf,
        /// Its problems.
        report: Report,
    },
}

/// Copies the database at `path` to the new file `dest`, which is complete by itself, checked, and on disk. It holds every
/// message that was committed before the call. Calls `progress` with the pages that are copied and the pages in all.
///
/// `dest` gets its name at the very end, or never. A process that is killed leaves `.NAME.*.partial`.
///
/// # Errors
/// [`BackupError`]; a file that exists is never overwritten.
pub fn backup(path: &Path, dest: &Path, progress: &mut dyn FnMut(u64, u64)) -> Result<Report, BackupError> {
    let sqlite = |source| BackupError::Sqlite { dest: dest.to_owned(), source };
    let file = |source| BackupError::File { dest: dest.to_owned(), source };

    if dest.is_dir() {
        return Err(BackupError::IsFolder(dest.to_owned()));
    }
    // SQLite would play another file's log beside it into the backup when it is opened.
    for suffix in ["", "-wal", "-journal"] {
        let taken = beside(dest, suffix);
        if taken.symlink_metadata().is_ok() {
            return Err(BackupError::Exists(taken));
        }
    }
    let mut source = snapshot::open(path)?;
    let messages = snapshot::begin(&mut source).map_err(snapshot::cannot_read(path))?;
    if let Err(problem) = snapshot::known_version(&messages).map_err(snapshot::cannot_read(path))? {
        return Err(BackupError::Refused { path: path.to_owned(), problem });
    }

    let folder = folder_of(dest);
    let name = dest.file_name().unwrap_or_default().to_string_lossy();
    let temporary = tempfile::Builder::new()
        .prefix(&format!(".{name}."))
        .suffix(".partial")
        .tempfile_in(folder)
        .map_err(file)?
        // Its descriptor is closed first: closing one later would drop SQLite's locks.
        .into_temp_path();
    write_copy(&messages, &temporary, progress).map_err(sqlite)?;
    // Lets the server cut back its log while the copy is checked.
    drop(messages);

    let report = finish_copy(&temporary).map_err(sqlite)?;
    if !report.is_ok() {
        return Err(BackupError::Damaged { path: path.to_owned(), report });
    }
    File::open(&temporary).and_then(|copy| copy.sync_all()).map_err(file)?;
    temporary.persist_noclobber(dest).map_err(|e| match e.error.kind() {
        io::ErrorKind::AlreadyExists => BackupError::Exists(dest.to_owned()),
        _ => file(e.error),
    })?;
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(file)?;
    // A user who may only read there can't note it; the backup is whole all the same.
    let _ = location::resolve(path).and_then(|path| last_backup::note(&path, dest));
    Ok(report)
}

/// Writes the copy without journal and without flushes: an unfinished copy is thrown away.
fn write_copy(
    snapshot: &rusqlite::Transaction<'_>,
    temporary: &Path,
    progress: &mut dyn FnMut(u64, u64),
) -> rusqlite::Result<()> {
    let mut copy = open_existing(temporary)?;
    copy.pragma_update_and_check(None, "journal_mode", "off", |_| Ok(()))?;
    copy.pragma_update(None, "synchronous", "off")?;
    copy_pages(snapshot, &mut copy, progress)?;
    copy.close().map_err(|(_, error)| error)
}

/// Takes the copy out of write-ahead mode, so that it is one file wherever it is read, and checks it.
fn finish_copy(temporary: &Path) -> rusqlite::Result<Report> {
    let mut copy = open_existing(temporary)?;
    copy.pragma_update(None, "locking_mode", "exclusive")?;
    copy.pragma_update_and_check(None, "journal_mode", "delete", |_| Ok(()))?;
    let report = check::examine(&snapshot::begin(&mut copy)?)?;
    copy.close().map_err(|(_, error)| error)?;
    Ok(report)
}

fn open_existing(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Connection::open_with_flags(path, flags)
}
