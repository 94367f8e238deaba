//! The file of the text index: which messages may have a text that contains another text.
//!
//! It is a file of its own beside the database, so that a thread of low priority writes it and no message waits for it. It
//! is derived from the messages and can be rebuilt at any time: when it was left over from another database, or is found
//! damaged, at start or in use. Searches read the texts of messages that it lacks.
//!
//! It has the trigrams of each folded text: each three characters in a row ([FTS5]). A message with the trigrams of a query
//! need not contain the query, so a search compares the text too.
//!
//! [FTS5]: https://sqlite.org/fts5.html#the_trigram_tokenizer

use std::io;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};

use crate::sqlite::connection::BUSY_WAIT_MAX;
use crate::sqlite::files::{beside, private, remove_beside};
use crate::sqlite::tables::{messages, totals};
use crate::sqlite::wal::checkpoint;
use crate::sqlite::wal::gate::HELD_BYTES;

/// The rows, called `i`, for a selection by trigrams.
pub(crate) const ROWS: &str = "search.texts AS t CROSS JOIN messages AS i ON i.seq = t.rowid";

/// Parts of the text index of one size that are merged into one of the next, [`automerge`]. With twice as many as FTS5's
/// default, entries are merged less often, and a query reads some parts more.
///
/// [`automerge`]: https://sqlite.org/fts5.html#the_automerge_configuration_option
const MERGED_PARTS: i64 = 8;

/// Pages that are merged in one transaction after a deletion: some tens of milliseconds, for which the text index waits.
const MERGED_PAGES: i64 = 1_000;

/// Tables of the file. `texts` has no content of its own, and only which messages have a trigram, not where.
const SCHEMA: &str = "
    CREATE TABLE progress (
        id           INTEGER PRIMARY KEY CHECK (id = 1),
        searched_seq INTEGER NOT NULL, -- the last message that is indexed, or had no text
        purged_seq   INTEGER NOT NULL, -- the last message that is gone from the index because it expired
        body_sha256  BLOB              -- of the last message that is indexed, to tell whether this index is of this database
    ) STRICT;
    INSERT INTO progress (id, searched_seq, purged_seq) VALUES (1, 0, 0);
    CREATE VIRTUAL TABLE texts USING fts5(
        text, content = '', contentless_delete = 1, detail = 'none', tokenize = 'trigram case_sensitive 1'
    );";

/// Version of these tables.
const SCHEMA_VERSION: i32 = 1;

/// Returns the path of the text index of the database at `path`.
pub(crate) fn path_of(path: &Path) -> PathBuf {
    beside(path, "-search")
}

/// Removes the text index of the database at `path`.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    remove_beside(&path_of(path), &["", "-wal", "-shm"])
}

/// Attaches the text index, as `search`, to a connection that reads the messages.
pub(crate) fn attach(db: &Connection, path: &Path) -> rusqlite::Result<()> {
    db.execute("ATTACH ?1 AS search", [path_of(path).to_string_lossy()]).map(drop)
}

/// Returns true if a text index is attached.
pub(crate) fn is_attached(tx: &Transaction<'_>) -> rusqlite::Result<bool> {
    tx.prepare_cached("SELECT 1 FROM pragma_database_list WHERE name = 'search'")?.exists([])
}

/// Opens the text index of the database at `path` for writing, and creates it if there is none.
pub(crate) fn open(path: &Path) -> rusqlite::Result<Connection> {
    let path = path_of(path);
    // If it can't be created, SQLite says so.
    let _ = private::create_file(&path);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut index = Connection::open_with_flags(path, flags)?;
    index.busy_timeout(BUSY_WAIT_MAX)?;
    index.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(()))?;
    index.pragma_update(None, "journal_size_limit", HELD_BYTES / 2)?;
    // Entries that a power cut takes are made again.
    index.pragma_update(None, "synchronous", "normal")?;
    index.execute_batch("PRAGMA secure_delete = on")?;
    let version: i32 = index.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if version == 0 {
        let tx = index.transaction_with_behavior(TransactionBehavior::Immediate)?;
        tx.execute_batch(SCHEMA)?;
        tx.pragma_update(None, "user_version", SCHEMA_VERSION)?;
        tx.commit()?;
    }
    // An older index may lack this setting. It can be read where nothing can be written.
    let is_set = "SELECT 1 FROM texts_config WHERE k = 'automerge' AND v = ?1";
    if !index.prepare(is_set)?.exists([MERGED_PARTS])? {
        index.execute("INSERT INTO texts (texts, rank) VALUES ('automerge', ?1)", [MERGED_PARTS])?;
    }
    Ok(index)
}

/// Returns true if it was made from these messages, by this version.
pub(crate) fn fits(index: &Transaction<'_>, db: &Connection) -> rusqlite::Result<bool> {
    let version: i32 = index.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let (searched_seq, digest): (i64, Option<Vec<u8>>) =
        index.query_row("SELECT searched_seq, body_sha256 FROM progress", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })?;
    let (_, last_seq) = totals::bounds(db)?;
    let of_message = messages::body_digest(db, searched_seq)?;
    let is_same = of_message.is_none_or(|of_message| Some(&of_message.0[..]) == digest.as_deref());
    Ok(version == SCHEMA_VERSION && searched_seq <= last_seq && is_same)
}

/// Removes messages that an operator has deleted. Their trigrams stay until [`overwrite_erased`].
pub(crate) fn erase(path: &Path, seqs: &[i64]) -> rusqlite::Result<()> {
    if !path_of(path).exists() {
        return Ok(());
    }
    let mut index = open(path)?;
    let tx = index.transaction_with_behavior(TransactionBehavior::Immediate)?;
    {
        let mut delete = tx.prepare_cached("DELETE FROM texts WHERE rowid = ?1")?;
        for seq in seqs {
            delete.execute([seq])?;
        }
    }
    tx.commit()
}

/// Merges all parts of the text index, some pages in a transaction, and empties its log: until then the trigrams of erased
/// texts are still there, and a text could be guessed from them. Returns true if the log is empty.
pub(crate) fn overwrite_erased(path: &Path) -> rusqlite::Result<bool> {
    if !path_of(path).exists() {
        return Ok(true);
    }
    let index = open(path)?;
    // https://sqlite.org/fts5.html#the_merge_command: a negative number begins to merge all.
    let mut n_pages = -MERGED_PAGES;
    let n_changes =
        |index: &Connection| index.query_row("SELECT total_changes()", [], |row| row.get::<_, i64>(0));
    loop {
        let before = n_changes(&index)?;
        index.execute("INSERT INTO texts (texts, rank) VALUES ('merge', ?1)", [n_pages])?;
        if n_changes(&index)? - before < 2 {
            break;
        }
        n_pages = MERGED_PAGES;
    }
    checkpoint::empty_log(&index)
}

/// Returns how many messages the text index lacks. It is attached as `search`, or there is none.
pub(crate) fn unindexed(tx: &Transaction<'_>) -> rusqlite::Result<u64> {
    let (_, last_seq) = totals::bounds(tx)?;
    let unsigned = |n: i64| u64::try_from(n).unwrap_or(0);
    if !is_attached(tx)? {
        return Ok(unsigned(last_seq));
    }
    let (searched_seq, _) = progress(tx)?;
    Ok(unsigned(last_seq - searched_seq))
}

/// Returns the last message that the attached text index has, and the last that has expired from it.
pub(crate) fn progress(tx: &Transaction<'_>) -> rusqlite::Result<(i64, i64)> {
    tx.prepare_cached("SELECT searched_seq, purged_seq FROM search.progress")?
        .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))
}
