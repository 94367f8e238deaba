//! The write-ahead log is moved into the database by us, from the first write on. SQLite would do it inside a commit and
//! when it closes, and would tell nobody that it failed: then the log, which has it all, begins anew.

use std::cell::Cell;
use std::thread;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ffi};

use crate::sqlite::wal::gate::{Checkpoint, checkpoint};

/// Pages in the write-ahead log from which on it is moved into the database (4 MiB of 4 KiB pages). SQLite would do it
/// before the commit returns. What comes in waits for some milliseconds; with four times as many pages for four times
/// as long, and little less is written, since few pages are written again and again.
pub(crate) const CHECKPOINT_PAGES: i32 = 1024;

/// Tries at emptying a log. With [`EMPTY_PAUSE`] and the wait of each they take ten seconds: by then every question has
/// ended that was under way.
const EMPTY_TRIES_MAX: usize = 20;

/// How long a writer is left alone between two tries: as long as each of them waits, and webhooks with it.
const EMPTY_PAUSE: Duration = Duration::from_millis(250);

thread_local! {
    /// Pages in the write-ahead log after the last commit of this thread.
    static WAL_PAGES: Cell<i32> = const { Cell::new(0) };
}

/// Takes it over from SQLite.
pub(crate) fn take_over(db: &Connection) -> rusqlite::Result<()> {
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    // It takes the place of SQLite's own hook.
    db.wal_hook(Some(|_, pages| {
        WAL_PAGES.set(pages);
        Ok(())
    }));
    Ok(())
}

/// Pages in the log after the last commit of this thread.
pub(crate) fn log_pages() -> i32 {
    WAL_PAGES.get()
}

/// The log has no pages any more.
pub(crate) fn begun_anew() {
    WAL_PAGES.set(0);
}

/// Moves the log if it is long, between two transactions of a start.
///
/// # Errors
/// The database could not be flushed. Nothing more may be moved until it is opened anew. Other failures are no
/// matter: the log stays as it is.
pub(crate) fn move_long_log(db: &Connection) -> rusqlite::Result<()> {
    if log_pages() < CHECKPOINT_PAGES {
        return Ok(());
    }
    match checkpoint(db, Checkpoint::Passive) {
        Err(error) if is_failed_flush(&error) => Err(error),
        _ => Ok(()),
    }
}

/// Moves all of the log and cuts it to nothing, beside those who read and write; whether it could. Somebody may have been
/// reading all the time.
///
/// # Errors
/// The log stays as it is.
pub(crate) fn empty_log(db: &Connection) -> rusqlite::Result<bool> {
    for n_tries in 1..=EMPTY_TRIES_MAX {
        // Most of it while others write.
        checkpoint(db, Checkpoint::Passive)?;
        if checkpoint(db, Checkpoint::Truncate)? {
            return Ok(true);
        }
        if n_tries < EMPTY_TRIES_MAX {
            thread::sleep(EMPTY_PAUSE);
        }
    }
    Ok(false)
}

/// Moves all of the log before the connection is closed, which then removes it. Waits for nobody.
///
/// # Errors
/// The log stays as it is.
pub(crate) fn move_all_and_close(db: &Connection) -> rusqlite::Result<()> {
    db.busy_timeout(Duration::ZERO)?;
    db.execute_batch("PRAGMA wal_checkpoint(truncate)")?;
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false).map(drop)
}

pub(crate) fn is_failed_flush(error: &rusqlite::Error) -> bool {
    error.sqlite_error().is_some_and(|error| error.extended_code == ffi::SQLITE_IOERR_FSYNC)
}

#[cfg(test)]
mod tests {
    use crate::sqlite::schema;

    /// SQLite's own hook moved the log while a start brought the schema up to date, and nobody heard that it failed.
    #[test]
    fn from_the_first_write_on_only_we_move_the_log() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.db");
        let db = schema::open_writer(&path).unwrap();
        db.execute_batch("CREATE TABLE t (blob)").unwrap();
        for _ in 0..8 {
            db.execute("INSERT INTO t VALUES (zeroblob(1 << 20))", []).unwrap();
        }
        let database_bytes = || path.metadata().unwrap().len();
        assert!(database_bytes() < 1 << 20, "SQLite has moved the log");
        super::move_long_log(&db).unwrap();
        assert!(database_bytes() > 8 << 20);
        drop(db);
        assert!(crate::sqlite::files::beside(&path, "-wal").exists(), "nor does it when it closes");
    }
}
