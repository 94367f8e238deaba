//! How many messages each sender has.
//!
//! The table `senders` counts what is indexed. A run writes the counts of its messages beside those that were there
//! before, so that they count from when it is published, and a run that is begun again after a crash writes over
//! what it left. The tail is counted by whoever asks; the writer remembers the senders in it with their counts.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension, Transaction, params};

use crate::sqlite::tables::top_senders::keep_busiest;
use crate::sqlite::tail::{Entry, Stretch};

/// Senders that are compared at a time to find the busiest: many to each that is kept.
const CANDIDATES_MAX: usize = 1000;

/// SQL: the count of a row of `senders`, as of what is indexed.
pub(crate) const INDEXED_COUNT: &str =
    "message_count + iif(run_seq <= (SELECT indexed_seq FROM totals), run_message_count, 0)";

/// How many indexed messages a sender has.
pub(crate) fn count_indexed(db: &Connection, sender: &str) -> rusqlite::Result<u64> {
    let count = db
        .prepare_cached(&format!("SELECT {INDEXED_COUNT} FROM senders WHERE sender = ?1"))?
        .query_row([sender], |row| row.get(0))
        .optional()?;
    Ok(count.unwrap_or(0))
}

/// Writes how many messages a sender has in the run from `indexed_seq` to `to_seq`.
pub(crate) fn write_of_run(
    tx: &Transaction<'_>,
    (sender, n_messages): (&str, usize),
    indexed_seq: i64,
    to_seq: i64,
) -> rusqlite::Result<()> {
    tx.prepare_cached(
        "INSERT INTO senders (sender, message_count, run_seq, run_message_count) VALUES (?1, 0, ?3, ?2) \
         ON CONFLICT (sender) DO UPDATE SET \
            message_count = message_count + iif(run_seq <= ?4, run_message_count, 0), \
            run_seq = excluded.run_seq, run_message_count = excluded.run_message_count",
    )?
    .execute(params![sender, n_messages, to_seq, indexed_seq])?;
    Ok(())
}

/// Takes away indexed messages of a sender; whether it has none in the table any more.
fn subtract_indexed(tx: &Transaction<'_>, sender: &str, n_messages: u64) -> rusqlite::Result<bool> {
    tx.prepare_cached(&format!(
        "UPDATE senders SET message_count = {INDEXED_COUNT} - ?2, \
                run_message_count = iif(run_seq <= (SELECT indexed_seq FROM totals), 0, run_message_count) \
         WHERE sender = ?1"
    ))?
    .execute(params![sender, n_messages])?;
    let n_gone = tx
        .prepare_cached(
            "DELETE FROM senders WHERE sender = ?1 AND message_count = 0 AND run_message_count = 0",
        )?
        .execute([sender])?;
    Ok(n_gone > 0)
}

/// Takes away messages of a sender that an operator deletes: so many that are indexed, and others of the tail. What a run
/// under way has written of these is nothing: it is begun again.
pub(crate) fn delete(tx: &Transaction<'_>, sender: &str, n_indexed: u64) -> rusqlite::Result<()> {
    tx.execute(
        "UPDATE senders SET run_message_count = 0 WHERE sender = ?1 AND run_seq > (SELECT indexed_seq FROM totals)",
        [sender],
    )?;
    subtract_indexed(tx, sender, n_indexed).map(drop)
}

/// The busiest senders: by count, most first, then by sender in byte order. It looks at every sender.
pub(crate) fn busiest(tx: &Transaction<'_>, unindexed: &Stretch) -> rusqlite::Result<Vec<(String, u64)>> {
    let mut in_tail: HashMap<&str, u64> = HashMap::new();
    for Entry { sender, .. } in unindexed.iter() {
        *in_tail.entry(sender).or_default() += 1;
    }
    let mut busiest = Vec::new();
    let mut keep = |sender: String, count: u64| {
        busiest.push((sender, count));
        if busiest.len() == CANDIDATES_MAX {
            keep_busiest(&mut busiest);
        }
    };
    let mut senders = tx.prepare_cached(&format!("SELECT sender, {INDEXED_COUNT} FROM senders"))?;
    let mut rows = senders.query([])?;
    while let Some(row) = rows.next()? {
        let sender: String = row.get(0)?;
        let count = row.get::<_, u64>(1)? + in_tail.remove(sender.as_str()).unwrap_or(0);
        if count > 0 {
            keep(sender, count);
        }
    }
    for (sender, count) in in_tail {
        keep(sender.to_owned(), count);
    }
    keep_busiest(&mut busiest);
    Ok(busiest)
}

/// The senders of the tail.
#[derive(Default)]
pub(crate) struct TailSenders(HashMap<Box<str>, Counts>);

struct Counts {
    /// All messages.
    total: u64,
    /// Those of the tail.
    in_tail: u64,
}

impl TailSenders {
    /// Counts messages that come to the tail. Returns how many the sender has now.
    pub(crate) fn add(&mut self, tx: &Connection, sender: &str, n_messages: u64) -> rusqlite::Result<u64> {
        let counts = match self.0.get_mut(sender) {
            Some(counts) => counts,
            None => {
                let total = count_indexed(tx, sender)?;
                self.0.entry(sender.into()).or_insert(Counts { total, in_tail: 0 })
            }
        };
        counts.total += n_messages;
        counts.in_tail += n_messages;
        Ok(counts.total)
    }

    /// All messages of a sender, if any of them is in the tail.
    pub(crate) fn total(&self, sender: &str) -> Option<u64> {
        self.0.get(sender).map(|counts| counts.total)
    }

    /// The senders of the tail, with all their messages.
    pub(crate) fn totals(&self) -> impl Iterator<Item = (&str, u64)> {
        self.0.iter().map(|(sender, counts)| (&**sender, counts.total))
    }

    /// A message is in the tail no longer.
    pub(crate) fn forget(&mut self, sender: &str) {
        if let Some(counts) = self.0.get_mut(sender) {
            counts.in_tail -= 1;
            if counts.in_tail == 0 {
                self.0.remove(sender);
            }
        }
    }

    /// Takes away indexed messages; whether the sender has none any more.
    pub(crate) fn subtract(
        &mut self,
        tx: &Transaction<'_>,
        sender: &str,
        n_messages: u64,
    ) -> rusqlite::Result<bool> {
        let is_gone = subtract_indexed(tx, sender, n_messages)?;
        match self.0.get_mut(sender) {
            Some(counts) => {
                counts.total -= n_messages;
                Ok(false)
            }
            None => Ok(is_gone),
        }
    }
}
