//! Connections: how they are opened, and their settings.

use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

/// Time to wait for a lock that another process holds (a backup, an operator's shell).
pub(crate) const BUSY_WAIT_MAX: Duration = Duration::from_secs(5);

/// Bytes that the file of the write-ahead log is cut back to after it grew under a long read.
const WAL_BYTES_KEPT: u64 = 64 << 20;

/// Sets up a connection that writes; returns the journal mode.
pub(crate) fn prepare_writer(db: &Connection) -> rusqlite::Result<String> {
    db.busy_timeout(BUSY_WAIT_MAX)?;
    let mode = db.pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0))?;
    // FULL: a commit returns when the write-ahead log is flushed. The whole product rests on it. A test finds these very
    // words in the binary, and shows what is lost with others.
    db.execute_batch("PRAGMA synchronous = full")?;
    // Removed rows are overwritten, and so are pages that become free: FAST would leave these as they are.
    db.execute_batch("PRAGMA secure_delete = on")?;
    db.pragma_update(None, "foreign_keys", true)?;
    db.pragma_update(None, "journal_size_limit", WAL_BYTES_KEPT)?;
    db.set_prepared_statement_cache_capacity(32);
    Ok(mode)
}

/// Opens an existing database only to read it.
pub(crate) fn open_reader(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags)?;
    prepare_reader(&db)?;
    Ok(db)
}

/// Sets up a connection that reads.
pub(crate) fn prepare_reader(db: &Connection) -> rusqlite::Result<()> {
    db.busy_timeout(BUSY_WAIT_MAX)?;
    db.pragma_update(None, "query_only", true)?;
    // It must not remove the log: by now that may be another file's.
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    db.set_prepared_statement_cache_capacity(32);
    Ok(())
}
