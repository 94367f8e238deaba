//! Check: compares everything in a database with everything else, in one snapshot, also beside a running server.
//!
//! A check does not write, and does not compare the parsed columns of a message with its body. Its SQL is its own, on purpose:
//! it is an independent witness of what the tables' own files do.

mod contents;
mod indexes;
mod texts;

use std::path::Path;

use rusqlite::Transaction;

use crate::sqlite::upkeep::check::contents::{bodies, integrity, ranking, references, sender_counts, totals};
use crate::sqlite::upkeep::check::indexes::{indexes, key_filters, keys, register_message_key, time_counts};
use crate::sqlite::upkeep::report::Report;
use crate::sqlite::upkeep::snapshot::{self, CheckError, known_version, or_damage};

/// Checks everything that can be checked without another copy: the file, the references, the counts both ways, and each body
/// by its digest. It reads the whole database; a server may write at the same time.
///
/// # Errors
/// [`CheckError`], if it can't be read. Damage is not an error but a [`Problem`](crate::sqlite::Problem).
pub fn check(path: &Path) -> Result<Report, CheckError> {
    let mut db = snapshot::open(path)?;
    let mut look = || {
        let mut index = texts::open(&db)?;
        // Before the messages: so the text index has none that they lack.
        let index = index.as_mut().map(snapshot::begin).transpose()?;
        let tx = snapshot::begin(&mut db)?;
        let mut report = examine(&tx)?;
        // Before version 2 there was none.
        if let Some(index) = index.filter(|_| report.schema_version >= 2) {
            texts::examine(&index, &tx, &mut report)?;
        }
        Ok(report)
    };
    look().map_err(snapshot::cannot_read(path))
}

/// Part of a check; it adds its findings to the report.
type Part = fn(&Transaction<'_>, &mut Report) -> rusqlite::Result<()>;

/// Runs all checks on one snapshot.
pub(crate) fn examine(tx: &Transaction<'_>) -> rusqlite::Result<Report> {
    let mut report = Report { messages: 0, senders: 0, schema_version: 0, problems: Vec::new() };
    let version = match known_version(tx)? {
        Ok(version) => version,
        Err(problem) => {
            report.problems.push(problem);
            return Ok(report);
        }
    };
    report.schema_version = version;
    register_message_key(tx)?;
    let mut run = |parts: &[Part]| -> rusqlite::Result<()> {
        for part in parts {
            if let Err(problem) = or_damage(part(tx, &mut report))? {
                report.problems.push(problem);
            }
        }
        Ok(())
    };
    run(&[integrity, references, bodies, totals, sender_counts, ranking])?;
    // Before version 2 there were none of these. Without totals nobody can tell how far they should go.
    if version >= 2 && has_totals(tx)? {
        run(&[indexes, keys, time_counts])?;
    }
    // Filters of version 2 have another form; a migration replaces them.
    if version >= 3 {
        run(&[key_filters])?;
    }
    report.problems.dedup();
    Ok(report)
}

fn has_totals(tx: &Transaction<'_>) -> rusqlite::Result<bool> {
    Ok(or_damage(tx.prepare("SELECT 1 FROM totals").and_then(|mut s| s.exists([])))?.unwrap_or(false))
}
