//! Export: all messages of one moment, one after the other, while a server writes.
//!
//! They come in order of arrival, which needs no index: one row is in memory at a time, however many there are.

use std::io;
use std::path::{Path, PathBuf};

use domain::query::{Filter, Message};
use rusqlite::params_from_iter;

use crate::sqlite::read::selection::scanned;
use crate::sqlite::read::text_contains;
use crate::sqlite::tables::messages::{COLUMNS, message};
use crate::sqlite::upkeep::report::Problem;
use crate::sqlite::upkeep::snapshot::{self, CheckError};

/// Reason why not all messages were exported.
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
        /// Its problem.
        problem: Problem,
    },
    /// A message could not be handed on.
    #[error("cannot write the messages: {0}")]
    Write(#[source] io::Error),
}

/// Calls `each` with each message that matches `filter`, in order of arrival, and returns how many there were. These are the
/// messages that were committed before the call, whatever arrives or expires during it. The server's write-ahead log can't
/// restart until the end.
///
/// # Errors
/// [`ExportError`]; the first error of `each` ends it.
pub fn export(
    path: &Path,
    filter: &Filter,
    each: &mut dyn FnMut(&Message) -> io::Result<()>,
) -> Result<u64, ExportError> {
    let cannot_read = |source| snapshot::cannot_read(path)(source);
    let mut db = snapshot::open(path)?;
    text_contains::register(&db).map_err(cannot_read)?;
    let tx = snapshot::begin(&mut db).map_err(cannot_read)?;
    snapshot::known_version(&tx)
        .map_err(cannot_read)?
        .map_err(|problem| ExportError::Refused { path: path.to_owned(), problem })?;
    let (select, values) = scanned(filter).select(COLUMNS);
    let mut statement = tx.prepare(&format!("{select} ORDER BY i.seq")).map_err(cannot_read)?;
    let mut rows = statement.query(params_from_iter(values)).map_err(cannot_read)?;
    let mut n = 0;
    while let Some(row) = rows.next().map_err(cannot_read)? {
        each(&message(row).map_err(cannot_read)?).map_err(ExportError::Write)?;
        n += 1;
    }
    Ok(n)
}
