//! Opening a database: its place, its owner, its flushed state, its schema.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use crate::sqlite::connection::{self, BUSY_WAIT_MAX};
use crate::sqlite::files::permissions::Denied;
use crate::sqlite::files::start_lock::StartLock;
use crate::sqlite::files::{beside, folder_of, location, page_cache, private};
use crate::sqlite::schema::{self, Owner, newest_schema};
use crate::sqlite::wal::checkpoint;

/// Before this version, resetting the write-ahead log could lose a commit
/// (<https://sqlite.org/releaselog/3_51_3.html>, "WAL-reset" bug).
const SQLITE_VERSION_MIN: i32 = 3_051_003;

/// Reason why a database can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// SQLite itself is too old.
    #[error("SQLite {0} has a known bug in write-ahead logging, at least 3.51.3 is needed")]
    OldSqlite(&'static str),
    /// A folder can't be created.
    #[error("cannot create folder {path}: {source}")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The path leads nowhere, or the file can't be created.
    #[error("cannot create database at {path}: {source}")]
    Place {
        /// The path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A folder is in its place.
    #[error("cannot open database at {0}: it is a folder, name a file in it")]
    IsFolder(PathBuf),
    /// This user may not read it.
    #[error("{0}")]
    Denied(Denied),
    /// Another process was starting on it all the time.
    #[error(
        "cannot open database at {0}: another hookkeeper is starting on it or migrating it; wait until that has ended, and start again"
    )]
    Starting(PathBuf),
    /// It or its log can't be flushed.
    #[error("cannot flush database at {path}: {source}")]
    Flush {
        /// The database file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// SQLite refuses.
    #[error("cannot open database at {path}: {source}")]
    Sqlite {
        /// The database file.
        path: PathBuf,
        /// Why.
        source: rusqlite::Error,
    },
    /// The file system can't do what write-ahead logging needs.
    #[error(
        "cannot open database at {path}: write-ahead logging is not possible there (journal mode is {mode})"
    )]
    NoWal {
        /// The database file.
        path: PathBuf,
        /// The journal mode that SQLite fell back to.
        mode: String,
    },
    /// The file is not there, or is empty, but its log is not; SQLite would delete the log.
    #[error(
        "there is no database at {path}, but its log {log} is not empty, and may hold messages: put the database back, or move the log away, too; nothing was changed"
    )]
    Lost {
        /// The database file.
        path: PathBuf,
        /// Its write-ahead log.
        log: PathBuf,
    },
    /// It is another program's; it was not touched.
    #[error(
        "database at {0} belongs to another program and was left untouched: name a file of its own for hookkeeper"
    )]
    Foreign(PathBuf),
    /// It was made by a newer version of Hookkeeper; it was not touched.
    #[error(
        "database at {path} has schema version {found}, made by a newer hookkeeper: this one knows up to {known} and leaves it untouched"
    )]
    Newer {
        /// The database file.
        path: PathBuf,
        /// Its schema version.
        found: i32,
        /// Ours.
        known: i32,
    },
    /// A migration fails, or one that was applied is not ours.
    #[error("cannot migrate database at {path}: {source}")]
    Migrate {
        /// The database file.
        path: PathBuf,
        /// Why.
        source: Box<refinery::Error>,
    },
    /// The pool of connections can't be filled.
    #[error("cannot open database at {path} for reading: {source}")]
    Pool {
        /// The database file.
        path: PathBuf,
        /// Why.
        source: r2d2::Error,
    },
}

/// Finds the place of the database, makes the folder, and keeps other starts away from it as long as the lock is
/// held. Returns the file.
pub(crate) fn prepare(path: &Path) -> Result<(PathBuf, StartLock), OpenError> {
    if rusqlite::version_number() < SQLITE_VERSION_MIN {
        return Err(OpenError::OldSqlite(rusqlite::version()));
    }
    let place = |source| OpenError::Place { path: path.to_owned(), source };
    create_folder(&location::follow(path).map_err(place)?)?;
    let path = location::resolve(path).map_err(place)?;
    if path.is_dir() {
        return Err(OpenError::IsFolder(path));
    }
    if let Some(denied) = Denied::reading(&path) {
        return Err(OpenError::Denied(denied));
    }
    match StartLock::take(&path) {
        Ok(lock) => Ok((path, lock)),
        Err(error) if error.kind() == io::ErrorKind::TimedOut => Err(OpenError::Starting(path)),
        Err(source) => Err(OpenError::Place { path, source }),
    }
}

/// Opens the database for writing and brings its schema up to date.
pub(crate) fn open_and_migrate(path: &Path) -> Result<Connection, OpenError> {
    let mut db = open(path)?;
    migrate(&mut db, path)?;
    Ok(db)
}

/// Opens the database for writing, as it is.
pub(crate) fn open(path: &Path) -> Result<Connection, OpenError> {
    refuse_lost(path)?;
    flush_what_is_seen(path)?;
    refuse_others(path)?;
    open_writer(path)
}

/// Brings the schema up to date.
pub(crate) fn migrate(db: &mut Connection, path: &Path) -> Result<(), OpenError> {
    schema::migrate(db)
        .map_err(|source| OpenError::Migrate { path: path.to_owned(), source: Box::new(source) })?;
    checkpoint::move_long_log(db).map_err(|source| OpenError::Sqlite { path: path.to_owned(), source })
}

/// Opens a database for writing.
pub(crate) fn open_writer(path: &Path) -> Result<Connection, OpenError> {
    private::create_file(path).map_err(|source| OpenError::Place { path: path.to_owned(), source })?;
    private::tighten(path);
    let open = || {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let db = Connection::open_with_flags(path, flags)?;
        // Before anything is written.
        checkpoint::take_over(&db)?;
        let mode = connection::prepare_writer(&db)?;
        Ok((db, mode))
    };
    let (db, mode) = open().map_err(|source| OpenError::Sqlite { path: path.to_owned(), source })?;
    if mode != "wal" {
        return Err(OpenError::NoWal { path: path.to_owned(), mode });
    }
    Ok(db)
}

/// Without its database a log is of no use to SQLite, which deletes it.
fn refuse_lost(path: &Path) -> Result<(), OpenError> {
    let is_empty = |path: &Path| fs::metadata(path).map_or(true, |metadata| metadata.len() == 0);
    let log = beside(path, "-wal");
    if is_empty(path) && !is_empty(&log) {
        return Err(OpenError::Lost { path: path.to_owned(), log });
    }
    Ok(())
}

/// Looks before anything is written, not even a write-ahead log that a crash left.
fn refuse_others(path: &Path) -> Result<(), OpenError> {
    if !path.exists() {
        return Ok(());
    }
    let look = || {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let db = Connection::open_with_flags(path, flags)?;
        db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        db.busy_timeout(BUSY_WAIT_MAX)?;
        schema::owner(&db)
    };
    match look().map_err(|source| OpenError::Sqlite { path: path.to_owned(), source })? {
        Owner::Hookkeeper(found) if found <= newest_schema() => Ok(()),
        Owner::Hookkeeper(found) => {
            Err(OpenError::Newer { path: path.to_owned(), found, known: newest_schema() })
        }
        Owner::Another => Err(OpenError::Foreign(path.to_owned())),
    }
}

/// SQLite believes each commit that it can read from the log. Its sender will try again and be told that it is a
/// duplicate, and that writes nothing: so what a crash left is settled first. A database file that could not be
/// flushed is settled, too, before the log is moved into it again.
fn flush_what_is_seen(path: &Path) -> Result<(), OpenError> {
    let settle = || {
        page_cache::flush_and_evict(path)?;
        page_cache::flush_and_evict(&beside(path, "-wal"))?;
        // The log may have been made just before.
        File::open(folder_of(path))?.sync_all()
    };
    settle().map_err(|source| OpenError::Flush { path: path.to_owned(), source })
}

/// Makes the database's folder and those above it, and flushes the name of each: SQLite flushes only what is
/// inside the last one.
pub(crate) fn create_folder(path: &Path) -> Result<(), OpenError> {
    let create = |folder: &Path| {
        private::create_folder(folder)?;
        let absolute = fs::canonicalize(folder)?;
        absolute.parent().map_or(Ok(()), |parent| File::open(parent)?.sync_all())
    };
    let above = path.ancestors().skip(1).filter(|folder| *folder != Path::new(""));
    let missing: Vec<&Path> = above.take_while(|folder| !folder.is_dir()).collect();
    for folder in missing.into_iter().rev() {
        create(folder).map_err(|source| OpenError::Folder { path: folder.to_owned(), source })?;
    }
    Ok(())
}
