//! Opening the database: settings of a connection, migrations, and the check that we know them all.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use refinery::{Migration, Runner};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};
use rustix::fs::{Access, access};
use rustix::process::geteuid;

use crate::sqlite::files::beside;
use crate::sqlite::files::location;
use crate::sqlite::files::page_cache;
use crate::sqlite::files::private;
use crate::sqlite::files::start_lock::StartLock;
use crate::sqlite::upkeep::backup::folder_of;
use crate::sqlite::wal::checkpoint as checkpoints;

mod embedded {
    refinery::embed_migrations!("../../migrations/sqlite");
}

/// The newest schema that this program knows: the number of the last file in `migrations/sqlite`.
pub const SCHEMA_VERSION: i32 = 7;

/// What the first file there is called.
const FIRST_MIGRATION: &str = "inbox";

/// Before this version, resetting the write-ahead log could lose a commit
/// (<https://sqlite.org/releaselog/3_51_3.html>, "WAL-reset" bug).
const SQLITE_VERSION_MIN: i32 = 3_051_003;

/// How long to wait for a lock that another process holds (a backup, an operator's shell).
pub(super) const BUSY_WAIT_MAX: Duration = Duration::from_secs(5);

/// What the write-ahead log is cut back to after it grew under a long read.
const WAL_BYTES_KEPT: u64 = 64 << 20;

/// Why a database can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// SQLite itself is too old.
    #[error("SQLite {0} has a known bug in write-ahead logging, at least 3.51.3 is needed")]
    OldSqlite(&'static str),
    /// A folder can't be made.
    #[error("cannot create folder {path}: {source}")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The path leads nowhere, or the file can't be made.
    #[error("cannot create database at {path}: {source}")]
    Place {
        /// The path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is a folder in its place.
    #[error("cannot open database at {0}: it is a folder, name a file in it")]
    IsFolder(PathBuf),
    /// This user may not read it.
    #[error("{0}")]
    Denied(Denied),
    /// Another process has been starting on it all the time.
    #[error(
        "cannot open database at {0}: another hookkeeper is starting on it, or migrates it; wait for it to end, and start again"
    )]
    Starting(PathBuf),
    /// What is there of it, or of its log, can't be flushed.
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

/// A file that this user may not read.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot read {path}: it belongs to user {owner} (mode {mode:o}), and this is user {user}; run as that user, or chown the file"
)]
pub struct Denied {
    path: PathBuf,
    owner: u32,
    mode: u32,
    user: u32,
}

impl Denied {
    /// `None` if the file may be read, or is not there.
    pub(super) fn reading(path: &Path) -> Option<Self> {
        let metadata = fs::metadata(path).ok()?;
        access(path, Access::READ_OK).err()?;
        let (owner, mode) = (metadata.uid(), metadata.mode() & 0o777);
        Some(Self { path: path.to_owned(), owner, mode, user: geteuid().as_raw() })
    }
}

/// Finds the place of the database, makes the folder, and keeps other starts away from it as long as the lock is
/// held. Returns the file.
pub(super) fn prepare(path: &Path) -> Result<(PathBuf, StartLock), OpenError> {
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
pub(super) fn open_and_migrate(path: &Path) -> Result<Connection, OpenError> {
    let mut db = open(path)?;
    migrate(&mut db, path)?;
    Ok(db)
}

/// Opens the database for writing, as it is.
pub(super) fn open(path: &Path) -> Result<Connection, OpenError> {
    refuse_lost(path)?;
    settle_what_is_seen(path)?;
    refuse_others(path)?;
    open_writer(path)
}

/// Brings the schema up to date.
pub(super) fn migrate(db: &mut Connection, path: &Path) -> Result<(), OpenError> {
    // Grouped: all that is missing in one transaction, with the record of it.
    let runner = runner(embedded::migrations::runner().get_migrations());
    runner
        .run(db)
        .map_err(|source| OpenError::Migrate { path: path.to_owned(), source: Box::new(source) })?;
    checkpoints::move_long_log(db).map_err(|source| OpenError::Sqlite { path: path.to_owned(), source })
}

fn runner(migrations: &[Migration]) -> Runner {
    Runner::new(migrations).set_grouped(true)
}

/// Opens a database for writing.
pub(super) fn open_writer(path: &Path) -> Result<Connection, OpenError> {
    let sqlite = |source| OpenError::Sqlite { path: path.to_owned(), source };
    private::create_file(path).map_err(|source| OpenError::Place { path: path.to_owned(), source })?;
    private::tighten(path);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags).map_err(sqlite)?;
    // Before anything is written.
    checkpoints::take_over(&db).map_err(sqlite)?;
    let mode = prepare_writer(&db).map_err(sqlite)?;
    if mode != "wal" {
        return Err(OpenError::NoWal { path: path.to_owned(), mode });
    }
    Ok(db)
}

/// SQLite believes each commit that it can read from the log. Its sender will try again and be told that it is a
/// duplicate, and that writes nothing: so what a crash left is settled first. A database file that could not be
/// flushed is settled, too, before the log is moved into it again.
fn settle_what_is_seen(path: &Path) -> Result<(), OpenError> {
    let settle = || {
        page_cache::settle(path)?;
        page_cache::settle(&beside(path, "-wal"))?;
        // The log may have been made just before.
        File::open(folder_of(path))?.sync_all()
    };
    settle().map_err(|source| OpenError::Flush { path: path.to_owned(), source })
}

/// Returns the journal mode.
fn prepare_writer(db: &Connection) -> rusqlite::Result<String> {
    db.busy_timeout(BUSY_WAIT_MAX)?;
    let mode = db.pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0))?;
    // FULL: a commit returns when the write-ahead log is flushed. The whole product rests on it, and one of its
    // tests finds these very words in the binary, to show what is lost with others.
    db.execute_batch("PRAGMA synchronous = full")?;
    // What is removed is overwritten, pages that get free, too: FAST would leave these as they are.
    db.execute_batch("PRAGMA secure_delete = on")?;
    db.pragma_update(None, "foreign_keys", true)?;
    db.pragma_update(None, "journal_size_limit", WAL_BYTES_KEPT)?;
    db.set_prepared_statement_cache_capacity(32);
    Ok(mode)
}

/// Opens an existing database only to read it.
pub(super) fn open_reader(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags)?;
    prepare_reader(&db)?;
    Ok(db)
}

/// Settings of a connection that reads.
pub(super) fn prepare_reader(db: &Connection) -> rusqlite::Result<()> {
    db.busy_timeout(BUSY_WAIT_MAX)?;
    db.pragma_update(None, "query_only", true)?;
    // It removes no log: by now that may be another file's.
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    db.set_prepared_statement_cache_capacity(32);
    Ok(())
}

/// The version of the last migration that was applied.
pub(super) fn version(db: &Connection) -> rusqlite::Result<i32> {
    let migrated = db.table_exists(None, "refinery_schema_history")?;
    if !migrated {
        return Ok(0);
    }
    db.query_row("SELECT coalesce(max(version), 0) FROM refinery_schema_history", [], |row| row.get(0))
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

/// Whose a database is.
enum Owner {
    /// Ours, or nobody's yet; with its schema version.
    Hookkeeper(i32),
    Another,
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
        owner(&db)
    };
    match look().map_err(|source| OpenError::Sqlite { path: path.to_owned(), source })? {
        Owner::Hookkeeper(..=SCHEMA_VERSION) => Ok(()),
        Owner::Hookkeeper(found) => {
            Err(OpenError::Newer { path: path.to_owned(), found, known: SCHEMA_VERSION })
        }
        Owner::Another => Err(OpenError::Foreign(path.to_owned())),
    }
}

/// Ours is told by its first migration, which never changes: other programs that use the same library for migrations have
/// another one. Without one there must be nothing at all.
fn owner(db: &Connection) -> rusqlite::Result<Owner> {
    let version = version(db)?;
    let is_ours = if version == 0 {
        let application_id: i32 = db.pragma_query_value(None, "application_id", |row| row.get(0))?;
        // The library's own table comes first, in a transaction of its own.
        let others = "SELECT 1 FROM sqlite_schema WHERE tbl_name <> 'refinery_schema_history'";
        application_id == 0 && !db.prepare(others)?.exists([])?
    } else {
        let first = "SELECT 1 FROM refinery_schema_history WHERE version = 1 AND name = ?1";
        db.prepare(first)?.exists([FIRST_MIGRATION])?
    };
    Ok(if is_ours { Owner::Hookkeeper(version) } else { Owner::Another })
}

/// Makes the database's folder and those above it, and flushes the name of each: SQLite flushes only what is
/// inside the last one.
pub(super) fn create_folder(path: &Path) -> Result<(), OpenError> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_known_version_is_that_of_the_last_migration() {
        let runner = embedded::migrations::runner();
        let last = runner.get_migrations().iter().map(Migration::version).max();
        assert_eq!(last.map(i64::from), Some(i64::from(SCHEMA_VERSION)));
        let first = runner.get_migrations().iter().find(|migration| migration.version() == 1);
        assert_eq!(first.map(Migration::name), Some(FIRST_MIGRATION));
    }
}
