//! The busiest senders, kept up as messages come in.
//!
//! Counts only rise, so that one who is not among them can only come in when its own count is raised. When
//! messages expire counts fall: there is no ranking then, until it is made anew.

use std::collections::HashMap;

use domain::query::TOP_SENDERS_MAX;
use rusqlite::{Connection, Transaction, params};

/// Senders with their counts: what the table `top_senders` has, the busiest first.
#[derive(Default)]
pub(super) struct Ranking(Vec<(String, u64)>);

impl Ranking {
    pub(super) fn read(db: &Connection) -> rusqlite::Result<Self> {
        let mut senders: Vec<(String, u64)> = db
            .prepare_cached("SELECT sender, message_count FROM top_senders")?
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<rusqlite::Result<_>>()?;
        keep_busiest(&mut senders);
        Ok(Self(senders))
    }

    pub(super) fn into_senders(self) -> Vec<(String, u64)> {
        self.0
    }

    /// Takes in those of these senders whose raised counts put them there.
    pub(super) fn raise(
        &mut self,
        tx: &Transaction<'_>,
        raised: &HashMap<&str, u64>,
    ) -> rusqlite::Result<()> {
        let is_full = self.0.len() == usize::from(TOP_SENDERS_MAX);
        let least = self.0.last().filter(|_| is_full).map_or(0, |(_, count)| *count);
        let mut senders = self.0.clone();
        senders.retain(|(sender, _)| !raised.contains_key(sender.as_str()));
        let raised = raised.iter().filter(|(_, count)| **count >= least);
        senders.extend(raised.map(|(sender, count)| ((*sender).to_owned(), *count)));
        keep_busiest(&mut senders);
        self.set(tx, senders)
    }

    /// These it is from now on.
    pub(super) fn set(&mut self, tx: &Transaction<'_>, senders: Vec<(String, u64)>) -> rusqlite::Result<()> {
        for (sender, _) in self.0.iter().filter(|(old, _)| senders.iter().all(|(new, _)| old != new)) {
            tx.prepare_cached("DELETE FROM top_senders WHERE sender = ?1")?.execute([sender])?;
        }
        let mut upsert = tx.prepare_cached(
            "INSERT INTO top_senders (sender, message_count) VALUES (?1, ?2) \
             ON CONFLICT (sender) DO UPDATE SET message_count = excluded.message_count",
        )?;
        for (sender, count) in senders.iter().filter(|new| !self.0.contains(new)) {
            upsert.execute(params![sender, count])?;
        }
        self.0 = senders;
        Ok(())
    }
}

/// Leaves the busiest of these: by count, most first, then by sender in byte order.
pub(super) fn keep_busiest(senders: &mut Vec<(String, u64)>) {
    senders.sort_unstable_by(|(a, n_a), (b, n_b)| n_b.cmp(n_a).then_with(|| a.cmp(b)));
    senders.truncate(TOP_SENDERS_MAX.into());
}
