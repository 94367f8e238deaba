//! A database that is only read: all commands of an operator begin with it.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, Transaction};

use crate::sqlite::connection;
use crate::sqlite::error::is_damage;
use crate::sqlite::files::location;
use crate::sqlite::files::permissions::Denied;
use crate::sqlite::schema::{self, newest_schema};
use crate::sqlite::upkeep::report::Problem;

/// Reason why a database can't be read at all.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// There is none.
    #[error("there is no database at {0}")]
    NotThere(PathBuf),
    /// A folder is in its place.
    #[error("there is no database at {0}: it is a folder, name a file in it")]
    IsFolder(PathBuf),
    /// This user may not read it.
    #[error("{0}")]
    Denied(Denied),
    /// SQLite can't open or read it.
    #[error("cannot read database at {path}: {source}")]
    Sqlite {
        /// The database file.
        path: PathBuf,
        /// Why.
        source: rusqlite::Error,
    },
}

/// Opens an existing database for reading.
pub(crate) fn open(path: &Path) -> Result<Connection, CheckError> {
    let path = location::resolve(path)
        .ok()
        .filter(|found| found.exists())
        .ok_or_else(|| CheckError::NotThere(path.to_owned()))?;
    if path.is_dir() {
        return Err(CheckError::IsFolder(path));
    }
    if let Some(denied) = Denied::reading(&path) {
        return Err(CheckError::Denied(denied));
    }
    connection::open_reader(&path).map_err(cannot_read(&path))
}

/// Returns the error for a failed read of this database.
pub(crate) fn cannot_read(path: &Path) -> impl FnOnce(rusqlite::Error) -> CheckError {
    let path = path.to_owned();
    move |source| CheckError::Sqlite { path, source }
}

/// Begins a snapshot: it holds everything that was committed before, and nothing later.
pub(crate) fn begin(db: &mut Connection) -> rusqlite::Result<Transaction<'_>> {
    let tx = db.transaction()?;
    // SQLite takes the snapshot with the first read. If it fails by damage, so will the next one.
    let _ = or_damage(tx.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(())))?;
    Ok(tx)
}

/// Returns the schema version, or the problem that makes the database unreadable for this version.
pub(crate) fn known_version(tx: &Transaction<'_>) -> rusqlite::Result<Result<i32, Problem>> {
    Ok(or_damage(schema::version(tx))?.and_then(|version| match version {
        0 => Err(Problem::NoSchema),
        _ if version > newest_schema() => Err(Problem::Newer(version)),
        _ => Ok(version),
    }))
}

/// Sorts errors: damage is a finding of a check, and not an error of it.
pub(crate) fn or_damage<T>(result: rusqlite::Result<T>) -> rusqlite::Result<Result<T, Problem>> {
    match result {
        Ok(value) => Ok(Ok(value)),
        Err(error) if is_damage(&error) => Ok(Err(Problem::Damaged(error.to_string()))),
        Err(error) => Err(error),
    }
}
