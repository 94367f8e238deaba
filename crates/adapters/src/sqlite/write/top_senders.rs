//! The busiest senders, kept up to date as messages come in and expire.
//!
//! The counts of some senders, the candidates, are in memory, with a bound: nobody else is busier than the bound. As counts
//! rise, more senders become candidates. As counts fall, candidates fall behind the bound and are dropped. When fewer are
//! left than the ranking needs, all senders are read again, some with each transaction. The busiest thousand then become
//! candidates, so that this is rare. Until it is done the table `top_senders` is empty.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};

use domain::query::TOP_SENDERS_MAX;
use rusqlite::{Connection, Transaction};

use crate::sqlite::tables::{senders, top_senders, totals};
use crate::sqlite::write::tail_senders::TailSenders;

/// Candidates after all senders were read: a hundred for each one of the ranking, in some hundred KiB. As long as no count
/// has fallen, those of the ranking are enough.
const CANDIDATES_MAX: usize = 1_000;

/// Sorts as the ranking does: the busiest first, then by sender in byte order.
type Rank = (Reverse<u64>, Box<str>);

/// The busiest senders.
pub(crate) struct TopSenders {
    /// Counts of the candidates.
    counts: HashMap<Box<str>, u64>,
    /// The candidates in order, none after the bound.
    ranks: BTreeSet<Rank>,
    /// Most candidates.
    n_max: usize,
    /// Rank that all other senders come after; `None` if there are no others.
    bound: Option<Rank>,
    /// Rows of the table `top_senders`, the busiest first, while `totals.is_ranked`.
    told: Option<Vec<(String, u64)>>,
    /// The last sender that was read, while all are read again.
    looked_at: Option<String>,
}

impl TopSenders {
    pub(crate) fn read(db: &Connection) -> rusqlite::Result<Self> {
        let mut ranking = Self {
            counts: HashMap::new(),
            ranks: BTreeSet::new(),
            n_max: TOP_SENDERS_MAX.into(),
            bound: None,
            told: top_senders::read(db)?,
            looked_at: None,
        };
        match ranking.told.clone() {
            Some(busiest) => {
                let is_full = busiest.len() == usize::from(TOP_SENDERS_MAX);
                busiest.into_iter().for_each(|(sender, count)| ranking.set(&sender, count));
                ranking.bound = ranking.ranks.last().filter(|_| is_full).cloned();
            }
            None => ranking.looked_at = Some(String::new()),
        }
        Ok(ranking)
    }

    /// Returns true if the busiest senders are known.
    pub(crate) fn is_known(&self) -> bool {
        let is_enough = self.bound.is_none() || self.ranks.len() >= usize::from(TOP_SENDERS_MAX);
        self.looked_at.is_none() && is_enough
    }

    /// Takes the new counts of senders that have more messages than before.
    pub(crate) fn raise(
        &mut self,
        tx: &Transaction<'_>,
        raised: &HashMap<&str, u64>,
    ) -> rusqlite::Result<()> {
        raised.iter().for_each(|(sender, count)| self.set(sender, *count));
        self.tell(tx)
    }

    /// Takes messages away from a sender. Call [`tell`](Self::tell) after the last one.
    pub(crate) fn fall(&mut self, sender: &str, n_messages: u64) {
        if let Some(count) = self.counts.get(sender) {
            self.set(sender, count - n_messages);
        }
    }

    /// Reads up to `n_senders` more, while the busiest are not known.
    pub(crate) fn look(
        &mut self,
        tx: &Transaction<'_>,
        in_tail: &TailSenders,
        n_senders: usize,
    ) -> rusqlite::Result<()> {
        let Some(looked_at) = self.looked_at.take() else {
            return Ok(());
        };
        self.n_max = CANDIDATES_MAX;
        if looked_at.is_empty() {
            // Senders that come to the tail later are raised then.
            in_tail.totals().for_each(|(sender, total)| self.set(sender, total));
        }
        let next = senders::after(tx, &looked_at, n_senders)?;
        for (sender, n_indexed) in &next {
            self.set(sender, in_tail.total(sender).unwrap_or(*n_indexed));
        }
        let is_full = next.len() == n_senders;
        self.looked_at = next.into_iter().last().filter(|_| is_full).map(|(sender, _)| sender);
        self.tell(tx)
    }

    /// Writes the changes of the ranking to the database.
    pub(crate) fn tell(&mut self, tx: &Transaction<'_>) -> rusqlite::Result<()> {
        if !self.is_known() {
            if self.told.take().is_some() {
                top_senders::clear(tx)?;
                totals::set_ranked(tx, false)?;
            }
            if self.looked_at.is_none() {
                self.counts.clear();
                self.ranks.clear();
                self.bound = None;
                self.looked_at = Some(String::new());
            }
            return Ok(());
        }
        let busiest = self.ranks.iter().take(TOP_SENDERS_MAX.into());
        let before = self.told.as_deref().unwrap_or_default();
        if self.told.is_some()
            && busiest.clone().map(|(n, s)| (&**s, n.0)).eq(before.iter().map(|(s, n)| (&**s, *n)))
        {
            return Ok(());
        }
        let busiest: Vec<(String, u64)> =
            busiest.map(|(count, sender)| (sender.to_string(), count.0)).collect();
        for (sender, _) in before.iter().filter(|(old, _)| busiest.iter().all(|(new, _)| old != new)) {
            top_senders::remove(tx, sender)?;
        }
        for (sender, count) in busiest.iter().filter(|new| !before.contains(new)) {
            top_senders::set(tx, sender, *count)?;
        }
        if self.told.is_none() {
            totals::set_ranked(tx, true)?;
        }
        self.told = Some(busiest);
        Ok(())
    }

    /// Sets the count of a sender. One that was no candidate had no more before, or was not read yet.
    fn set(&mut self, sender: &str, count: u64) {
        if let Some(before) = self.counts.remove(sender) {
            self.ranks.remove(&(Reverse(before), sender.into()));
        }
        let is_after = |(Reverse(n), s): &Rank| count < *n || count == *n && sender > &**s;
        if count == 0 || self.bound.as_ref().is_some_and(is_after) {
            return;
        }
        self.counts.insert(sender.into(), count);
        self.ranks.insert((Reverse(count), sender.into()));
        if self.ranks.len() > self.n_max
            && let Some((_, least)) = self.ranks.pop_last()
        {
            self.counts.remove(&least);
            self.bound = self.ranks.last().cloned();
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use rusqlite::params;

    use super::*;
    use crate::sqlite::open;

    /// Goal: whenever the ranking is said to be known it is that of all counts, and it becomes known again. Method: counts
    /// that rise and fall at random, many more senders than candidates, few of them looked at at a time.
    #[test]
    fn it_is_the_ranking_of_all_counts_or_none() {
        let folder = tempfile::tempdir().unwrap();
        let mut db = open::open_and_migrate(&folder.path().join("app.db")).unwrap();
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut ranking = TopSenders::read(&db).unwrap();
        let mut counts: HashMap<String, u64> = HashMap::new();
        let mut n_known = 0;
        let mut n_unknown = 0;
        for round in 0..600 {
            let tx = db.transaction().unwrap();
            let senders: BTreeSet<String> = (0..20)
                .map(|_| format!("+{}", rng.random_range(0..if round < 100 { 20_u32 } else { 3_000 })))
                .collect();
            let mut raised = HashMap::new();
            for sender in &senders {
                let count = counts.entry(sender.clone()).or_default();
                let n = rng.random_range(0..=*count);
                if rng.random_bool(0.4) && *count > 0 {
                    *count -= n;
                    ranking.fall(sender, n);
                } else {
                    *count += rng.random_range(1..4);
                    raised.insert(sender.as_str(), *count);
                }
                tx.execute(
                    "INSERT INTO senders VALUES (?1, ?2, 0, 0) ON CONFLICT DO UPDATE SET message_count = ?2",
                    params![sender, *count],
                )
                .unwrap();
            }
            ranking.raise(&tx, &raised).unwrap();
            ranking.look(&tx, &TailSenders::default(), 300).unwrap();
            let told = top_senders::read(&tx).unwrap();
            assert_eq!(told.is_some(), ranking.is_known());
            if let Some(told) = told {
                let mut want: Vec<(String, u64)> =
                    counts.iter().filter(|(_, n)| **n > 0).map(|(s, n)| (s.clone(), *n)).collect();
                top_senders::keep_busiest(&mut want);
                assert_eq!(told, want, "round {round}");
                n_known += 1;
            } else {
                n_unknown += 1;
            }
            tx.commit().unwrap();
            if round % 50 == 49 {
                ranking = TopSenders::read(&db).unwrap();
            }
        }
        assert!(n_known > 300 && n_unknown > 10, "{n_known} rounds of 600, {n_unknown} without");
    }
}
