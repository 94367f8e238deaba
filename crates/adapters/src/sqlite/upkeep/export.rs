//! All messages of one moment, one after the other, while a server writes.
//!
//! In order of arrival, which no index is needed for: one row is in memory at a time, however many there are.

use std::io;
use std::path::{Path, PathBuf};

use domain::query::{Filter, Message};
use rusqlite::params_from_iter;

use crate::sqlite::read::listing::message;
use crate::sqlite::read::reader::register_text_contains;
use crate::sqlite::read::selection::scanned;
use crate::sqlite::upkeep::check;
use crate::sqlite::upkeep::check::{CheckError, Problem};

/// Why not all messages were exported.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The database can't be read.
    #[error(transparent)]
    Source(#[from] CheckError),
    /// The database is not one of ours, or a newer one.
    #[error("cannot export database at {path}: {problem}")]
    Refused {
        /// The database file.
        path: PathBuf,
        /// What is wrong.
        problem: Problem,
    },
    /// A message could not be handed on.
    #[error("cannot write the messages: {0}")]
    Write(#[source] io::Error),
}

/// Hands each message that `filter` wants to `each`, in order of arrival, and returns how many they were.
/// They are those that were committed before the call, whatever comes in or expires meanwhile. The
/// server's write-ahead log can't be cut back until the end.
///
/// # Errors
/// [`ExportError`]; the first error of `each` ends it.
pub fn export(
    path: &Path,
    filter: &Filter,
    each: &mut dyn FnMut(&Message) -> io::Result<()>,
) -> Result<u64, ExportError> {
    let cannot_read = |source| check::cannot_read(path)(source);
    let mut db = check::open(path)?;
    register_text_contains(&db).map_err(cannot_read)?;
    let tx = check::snapshot(&mut db).map_err(cannot_read)?;
    check::known_version(&tx)
        .map_err(cannot_read)?
        .map_err(|problem| ExportError::Refused { path: path.to_owned(), problem })?;
    let (select, values) = scanned(filter).select(
        "i.seq, (SELECT name FROM sources WHERE sources.source_id = i.source_id), \
         i.message_id, i.sender, i.recipient, i.ts, i.text",
    );
    let mut statement = tx.prepare(&format!("{select} ORDER BY i.seq")).map_err(cannot_read)?;
    let mut rows = statement.query(params_from_iter(values)).map_err(cannot_read)?;
    let mut n = 0;
    while let Some(row) = rows.next().map_err(cannot_read)? {
        each(&message(row).map_err(cannot_read)?).map_err(ExportError::Write)?;
        n += 1;
    }
    Ok(n)
}
