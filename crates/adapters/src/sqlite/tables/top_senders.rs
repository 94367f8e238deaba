//! The busiest senders, kept up as messages come in and expire.
//!
//! Some senders, the candidates, are known by their counts, and a bound is: nobody else is busier than that. As counts
//! rise, others become candidates. As counts fall, candidates fall behind the bound and are none any more; when fewer
//! than the ranking needs are left, all senders are looked at anew, some with each transaction, and the busiest thousand
//! become candidates, so that this is seldom. Until it is done there is no ranking in the database.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};

use domain::query::TOP_SENDERS_MAX;
use rusqlite::{Connection, Transaction, params};

use crate::sqlite::tables::senders::{INDEXED_COUNT, TailSenders};

/// Senders that are known by their counts since all were looked at: a hundred to each one of the ranking, in some hundred
/// KiB. As long as no count has fallen, those of the ranking are enough.
const CANDIDATES_MAX: usize = 1_000;

/// In the order of the ranking: the busiest first, then by sender in byte order.
type Place = (Reverse<u64>, Box<str>);

pub(crate) struct Ranking {
    counts: HashMap<Box<str>, u64>,
    /// The same, none of it after the bound.
    places: BTreeSet<Place>,
    /// Candidates that there may be.
    n_max: usize,
    /// All others come after it; `None` if there are no others.
    bound: Option<Place>,
    /// What the table `top_senders` has, the busiest first, and `totals.is_ranked` says that it holds.
    told: Option<Vec<(String, u64)>>,
    /// While all senders are looked at: the last one that was.
    looked_at: Option<String>,
}

/// The ranking in the database; `None` while there is none.
pub(crate) fn told(db: &Connection) -> rusqlite::Result<Option<Vec<(String, u64)>>> {
    let is_ranked: bool =
        db.prepare_cached("SELECT is_ranked FROM totals")?.query_row([], |row| row.get(0))?;
    if !is_ranked {
        return Ok(None);
    }
    let mut senders: Vec<(String, u64)> = db
        .prepare_cached("SELECT sender, message_count FROM top_senders")?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<rusqlite::Result<_>>()?;
    keep_busiest(&mut senders);
    Ok(Some(senders))
}

impl Ranking {
    pub(crate) fn read(db: &Connection) -> rusqlite::Result<Self> {
        let mut ranking = Self {
            counts: HashMap::new(),
            places: BTreeSet::new(),
            n_max: TOP_SENDERS_MAX.into(),
            bound: None,
            told: told(db)?,
            looked_at: None,
        };
        match ranking.told.clone() {
            Some(busiest) => {
                let is_full = busiest.len() == usize::from(TOP_SENDERS_MAX);
                busiest.into_iter().for_each(|(sender, count)| ranking.set(&sender, count));
                ranking.bound = ranking.places.last().filter(|_| is_full).cloned();
            }
            None => ranking.looked_at = Some(String::new()),
        }
        Ok(ranking)
    }

    /// Whether it is known who the busiest are.
    pub(crate) fn is_known(&self) -> bool {
        let is_enough = self.bound.is_none() || self.places.len() >= usize::from(TOP_SENDERS_MAX);
        self.looked_at.is_none() && is_enough
    }

    /// These senders have so many messages now, more than before.
    pub(crate) fn raise(
        &mut self,
        tx: &Transaction<'_>,
        raised: &HashMap<&str, u64>,
    ) -> rusqlite::Result<()> {
        raised.iter().for_each(|(sender, count)| self.set(sender, *count));
        self.tell(tx)
    }

    /// A sender has so many messages less. [`tell`](Self::tell) comes after the last one.
    pub(crate) fn fall(&mut self, sender: &str, n_messages: u64) {
        if let Some(count) = self.counts.get(sender) {
            self.set(sender, count - n_messages);
        }
    }

    /// Looks at so many senders more, while it is not known who the busiest are.
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
            // Those who come to the tail later are raised.
            in_tail.totals().for_each(|(sender, total)| self.set(sender, total));
        }
        let mut next = tx.prepare_cached(&format!(
            "SELECT sender, {INDEXED_COUNT} FROM senders WHERE sender > ?1 ORDER BY sender LIMIT ?2"
        ))?;
        let mut rows = next.query(params![looked_at, n_senders])?;
        let (mut n, mut last) = (0, looked_at);
        while let Some(row) = rows.next()? {
            last = row.get(0)?;
            let count = in_tail.total(&last).map_or_else(|| row.get(1), Ok)?;
            self.set(&last, count);
            n += 1;
        }
        self.looked_at = Some(last).filter(|_| n == n_senders);
        self.tell(tx)
    }

    /// Writes what has changed of the ranking into the database.
    pub(crate) fn tell(&mut self, tx: &Transaction<'_>) -> rusqlite::Result<()> {
        if !self.is_known() {
            if self.told.take().is_some() {
                tx.execute("DELETE FROM top_senders", [])?;
                tx.execute("UPDATE totals SET is_ranked = 0", [])?;
            }
            if self.looked_at.is_none() {
                self.counts.clear();
                self.places.clear();
                self.bound = None;
                self.looked_at = Some(String::new());
            }
            return Ok(());
        }
        let busiest = self.places.iter().take(TOP_SENDERS_MAX.into());
        let before = self.told.as_deref().unwrap_or_default();
        if self.told.is_some()
            && busiest.clone().map(|(n, s)| (&**s, n.0)).eq(before.iter().map(|(s, n)| (&**s, *n)))
        {
            return Ok(());
        }
        let busiest: Vec<(String, u64)> =
            busiest.map(|(count, sender)| (sender.to_string(), count.0)).collect();
        for (sender, _) in before.iter().filter(|(old, _)| busiest.iter().all(|(new, _)| old != new)) {
            tx.prepare_cached("DELETE FROM top_senders WHERE sender = ?1")?.execute([sender])?;
        }
        let mut upsert = tx.prepare_cached(
            "INSERT INTO top_senders (sender, message_count) VALUES (?1, ?2) \
             ON CONFLICT (sender) DO UPDATE SET message_count = excluded.message_count",
        )?;
        for (sender, count) in busiest.iter().filter(|new| !before.contains(new)) {
            upsert.execute(params![sender, count])?;
        }
        if self.told.is_none() {
            tx.execute("UPDATE totals SET is_ranked = 1", [])?;
        }
        self.told = Some(busiest);
        Ok(())
    }

    /// A sender has so many messages. One who was no candidate had no more before, or was not looked at yet.
    fn set(&mut self, sender: &str, count: u64) {
        if let Some(before) = self.counts.remove(sender) {
            self.places.remove(&(Reverse(before), sender.into()));
        }
        let is_after = |(Reverse(n), s): &Place| count < *n || count == *n && sender > &**s;
        if count == 0 || self.bound.as_ref().is_some_and(is_after) {
            return;
        }
        self.counts.insert(sender.into(), count);
        self.places.insert((Reverse(count), sender.into()));
        if self.places.len() > self.n_max
            && let Some((_, least)) = self.places.pop_last()
        {
            self.counts.remove(&least);
            self.bound = self.places.last().cloned();
        }
    }
}

/// Leaves the busiest of these: by count, most first, then by sender in byte order.
pub(crate) fn keep_busiest(senders: &mut Vec<(String, u64)>) {
    senders.sort_unstable_by(|(a, n_a), (b, n_b)| n_b.cmp(n_a).then_with(|| a.cmp(b)));
    senders.truncate(TOP_SENDERS_MAX.into());
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::sqlite::schema;

    /// Goal: whenever the ranking is said to be known it is that of all counts, and it becomes known again. Method: counts
    /// that rise and fall at random, many more senders than candidates, few of them looked at at a time.
    #[test]
    fn it_is_the_ranking_of_all_counts_or_none() {
        let folder = tempfile::tempdir().unwrap();
        let mut db = schema::open_and_migrate(&folder.path().join("app.db")).unwrap();
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut ranking = Ranking::read(&db).unwrap();
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
            let told = told(&tx).unwrap();
            assert_eq!(told.is_some(), ranking.is_known());
            if let Some(told) = told {
                let mut want: Vec<(String, u64)> =
                    counts.iter().filter(|(_, n)| **n > 0).map(|(s, n)| (s.clone(), *n)).collect();
                keep_busiest(&mut want);
                assert_eq!(told, want, "round {round}");
                n_known += 1;
            } else {
                n_unknown += 1;
            }
            tx.commit().unwrap();
            if round % 50 == 49 {
                ranking = Ranking::read(&db).unwrap();
            }
        }
        assert!(n_known > 300 && n_unknown > 10, "{n_known} rounds of 600, {n_unknown} without");
    }
}
