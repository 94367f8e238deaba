//! The senders in the tail, with their counts, as the writer remembers them.

use std::collections::HashMap;

use rusqlite::{Connection, Transaction};

use crate::sqlite::tables::senders::{count_indexed, subtract_indexed};

/// Senders of the tail.
#[derive(Default)]
pub(crate) struct TailSenders(HashMap<Box<str>, Counts>);

struct Counts {
    /// All messages of the sender.
    total: u64,
    /// Messages in the tail.
    in_tail: u64,
}

impl TailSenders {
    /// Counts messages that come to the tail; returns how many the sender has now.
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

    /// Returns the number of all messages of a sender, if any of them is in the tail.
    pub(crate) fn total(&self, sender: &str) -> Option<u64> {
        self.0.get(sender).map(|counts| counts.total)
    }

    /// Returns the senders of the tail, with the numbers of all their messages.
    pub(crate) fn totals(&self) -> impl Iterator<Item = (&str, u64)> {
        self.0.iter().map(|(sender, counts)| (&**sender, counts.total))
    }

    /// Takes a message out of the tail.
    pub(crate) fn forget(&mut self, sender: &str) {
        if let Some(counts) = self.0.get_mut(sender) {
            counts.in_tail -= 1;
            if counts.in_tail == 0 {
                self.0.remove(sender);
            }
        }
    }

    /// Takes away indexed messages; returns true if the sender has none any more.
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
