//! Restore: a backup takes the place of a database that does not exist or is empty.
//!
//! The backup is copied into the database's own file, in one transaction of SQLite. It is not renamed over that file: a
//! server that starts during the restore has opened the old file by then, and would write its messages into a file without a
//! name. This way the server waits for the lock, and then sees the whole backup. A restore that is killed leaves a journal,
//! with which SQLite undoes it when it opens the database next.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use crate::sqlite::files::{beside, folder_of, private, remove_beside};
use crate::sqlite::open::{self, OpenError};
use crate::sqlite::schema::{self, newest_schema};
use crate::sqlite::search::file as search;
use crate::sqlite::tables::messages;
use crate::sqlite::upkeep::check;
use crate::sqlite::upkeep::copy::copy_pages;
use crate::sqlite::upkeep::report::Report;
use crate::sqlite::upkeep::snapshot::{self, CheckError};

/// Reason why nothing was restored. A database that existed is unchanged; one that did not may exist now, and is empty.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// There is no backup.
    #[error("there is no backup at {0}")]
    NoBackup(PathBuf),
    /// The backup can't be read.
    #[error(transparent)]
    Source(#[from] CheckError),
    /// The backup is damaged, or of a newer version.
    #[error("cannot restore {src}: {report}")]
    Damaged {
        /// The backup.
        src: PathBuf,
        /// Its problems.
        report: Report,
    },
    /// The database can't be created or opened.
    #[error(transparent)]
    Target(#[from] OpenError),
    /// There are messages in the database.
    #[error("database at {path} holds {messages} messages: a restore never overwrites, move it away first")]
    Holds {
        /// The database file.
        path: PathBuf,
        /// Their number.
        messages: u64,
    },
    /// The file has tables, but is not a database of ours.
    #[error("{0} is not a database of hookkeeper: a restore never overwrites, move it away first")]
    Foreign(PathBuf),
    /// There is a write-ahead log, in which there may be messages.
    #[error(
        "{0} is not empty: a server runs on the database, or was killed; stop it, or start and stop it, and try again"
    )]
    Log(PathBuf),
    /// Another process has the database open.
    #[error("database at {0} is in use: stop the server and try again")]
    InUse(PathBuf),
    /// A folder can't be flushed, or a file not removed.
    #[error("cannot finish the restore of {path}: {source}")]
    File {
        /// The database file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Copies the backup `src` into the database at `path`, which is created if it does not exist. Checks `src` first, in the same
/// snapshot that is copied. Restores all of it or nothing. Calls `progress` with the pages that are copied and the pages in
/// all.
///
/// # Errors
/// [`RestoreError`]; a database that holds anything, or is in use, is left as it is.
pub fn restore(src: &Path, path: &Path, progress: &mut dyn FnMut(u64, u64)) -> Result<Report, RestoreError> {
    let mut source = snapshot::open(src).map_err(|error| match error {
        CheckError::NotThere(path) => RestoreError::NoBackup(path),
        error => error.into(),
    })?;
    let backup = snapshot::begin(&mut source).map_err(snapshot::cannot_read(src))?;
    let report = check::examine(&backup).map_err(snapshot::cannot_read(src))?;
    if !report.is_ok() {
        return Err(RestoreError::Damaged { src: src.to_owned(), report });
    }

    let (path, _alone) = open::prepare(path)?;
    let path = path.as_path();
    let log = beside(path, "-wal");
    if log.metadata().is_ok_and(|log| log.len() > 0) {
        return Err(RestoreError::Log(log));
    }
    let mut target = open_alone(path)?;
    refuse_unless_empty(&target, path)?;
    let file = |source| RestoreError::File { path: path.to_owned(), source };
    leave_wal_mode(&target).map_err(cannot_write(path))?;
    // What lay beside the old file. It is locked and in another mode, so that nobody uses them.
    remove_beside(path, &["-wal", "-shm"]).and_then(|()| search::remove(path)).map_err(file)?;
    copy_pages(&backup, &mut target, progress).map_err(cannot_write(path))?;
    target.close().map_err(|(_, error)| cannot_write(path)(error))?;
    File::open(folder_of(path)).and_then(|folder| folder.sync_all()).map_err(file)?;
    Ok(report)
}

/// Opens the database and keeps everybody else out of it until it is closed. A server has its
/// database locked for reading as long as it runs, so that this fails beside one.
fn open_alone(path: &Path) -> Result<Connection, RestoreError> {
    private::create_file(path).map_err(|source| OpenError::Place { path: path.to_owned(), source })?;
    let open = || {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let db = Connection::open_with_flags(path, flags)?;
        // One that is refused is not touched.
        db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        // Whoever has it open keeps it for long.
        db.busy_timeout(Duration::ZERO)?;
        db.pragma_update(None, "locking_mode", "exclusive")?;
        // The lock outlasts the transaction, by the line above.
        db.execute_batch("BEGIN EXCLUSIVE; COMMIT")?;
        Ok(db)
    };
    open().map_err(|error: rusqlite::Error| match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => RestoreError::InUse(path.to_owned()),
        _ => cannot_write(path)(error),
    })
}

fn cannot_write(path: &Path) -> impl FnOnce(rusqlite::Error) -> RestoreError {
    let path = path.to_owned();
    move |source| OpenError::Sqlite { path, source }.into()
}

fn refuse_unless_empty(target: &Connection, path: &Path) -> Result<(), RestoreError> {
    let look = || {
        let has_tables = target.prepare("SELECT 1 FROM sqlite_schema")?.exists([])?;
        let version = schema::version(target)?;
        let is_known = (1..=newest_schema()).contains(&version);
        let messages = if is_known { messages::count(target)? } else { 0 };
        Ok((has_tables, version, messages))
    };
    let path = path.to_owned();
    match look().map_err(cannot_write(&path))? {
        (false, _, _) => Ok(()),
        (_, 0, _) => Err(RestoreError::Foreign(path)),
        (_, found, _) if found > newest_schema() => {
            Err(OpenError::Newer { path, found, known: newest_schema() }.into())
        }
        (_, _, 0) => Ok(()),
        (_, _, messages) => Err(RestoreError::Holds { path, messages }),
    }
}

/// The copy goes through a journal that undoes it, and not through a write-ahead log, which would
/// take all of it once more.
fn leave_wal_mode(target: &Connection) -> rusqlite::Result<()> {
    target.pragma_update_and_check(None, "journal_mode", "delete", |_| Ok(()))?;
    // EXTRA: the folder is flushed too when the journal is gone. Were the journal to come back after
    // a power cut, it would undo what was said to be restored.
    target.pragma_update(None, "synchronous", "extra")
}
