//! Notes of how far the messages had come at a time, by a clock that can be trusted: what expires goes by these.
//!
//! The time that a message itself was stamped with is not asked: a clock that was years ahead or behind for a while has
//! stamped messages wrongly, and these would go too early, or keep all later ones from going. A note covers every
//! message before it. What the clock jumped over is no time that has passed: notes from before it move with it.

use std::time::Duration;

use domain::retention::Retention;
use domain::store::Seq;
use domain::time::Timestamp;
use rusqlite::{OptionalExtension, Transaction, params};

use crate::sqlite::write::expiry::Expiry;

/// A clock jumps if it is farther than that from its last reading. Readings are an hour apart; a service that is
/// stopped over night goes on, and an error that is not found makes a message go a day early.
const JUMP_US_MIN: i64 = 24 * 3600 * 1_000_000;

/// After a jump the clock is trusted when it has gone on for so long without another: time for an operator to see it.
const SETTLING_US: i64 = 24 * 3600 * 1_000_000;

/// Rows that are looked at to make notes for messages that an older version stored.
const SAMPLES_MAX: i64 = 10_000;

/// A reading of the clock, and for how long things are kept as of then.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Keep {
    /// Time that the clock shows.
    pub(crate) now: Timestamp,
    pub(crate) retention: Retention,
}

/// What a reading of the clock means for retention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    /// It goes on as it did.
    Trusted,
    /// It jumped some time ago, and has gone on since then, not for long enough.
    Settling,
    /// It has gone on for long enough, and is trusted from now on. It had jumped over so many microseconds, forwards or
    /// back; 0 if there was no clock to be trusted before.
    Settled(i64),
    /// It is not near the last reading; `None` if there was none.
    Jumped(Option<Timestamp>),
}

/// Notes how far the messages have come, if the clock can be trusted, and then tells what has expired.
pub(crate) fn note(
    tx: &Transaction<'_>,
    last_seq: i64,
    keep: Keep,
) -> rusqlite::Result<(Reading, Option<Expiry>)> {
    let (clock, reading) = Clock::load(tx)?.read(keep.now.as_micros());
    clock.store(tx)?;
    let Some(now_us) = clock.settled_us.filter(|_| matches!(reading, Reading::Trusted | Reading::Settled(_)))
    else {
        return Ok((reading, None));
    };
    if let Reading::Settled(jump_us) = reading {
        tx.execute("UPDATE arrivals SET at_us = at_us + ?1", [jump_us])?;
    }
    if !tx.prepare("SELECT 1 FROM arrivals")?.exists([])? {
        derive(tx, now_us)?;
    }
    // Of two notes of one place the first one holds.
    tx.execute("INSERT OR IGNORE INTO arrivals (seq, at_us) VALUES (?1, ?2)", [last_seq, now_us])?;
    let Some(kept) = keep.retention.messages else {
        return Ok((reading, None));
    };
    let messages_to = arrived_by(tx, now_us, kept)?;
    let keys_to = keep.retention.keys.map(|kept| arrived_by(tx, now_us, kept)).transpose()?;
    // The last one of those that have served their turn stays, so that there always is one.
    tx.execute("DELETE FROM arrivals WHERE seq < ?1", [keys_to.unwrap_or(messages_to).min(messages_to)])?;
    Ok((reading, Some(Expiry { messages_to: Seq(messages_to), keys_to: keys_to.map(Seq) })))
}

/// The last place that had been taken so long ago; 0 if there is none.
fn arrived_by(tx: &Transaction<'_>, now_us: i64, kept: Duration) -> rusqlite::Result<i64> {
    let kept_us = i64::try_from(kept.as_micros()).unwrap_or(i64::MAX);
    tx.query_row(
        "SELECT coalesce(max(seq), 0) FROM arrivals WHERE at_us <= ?1",
        [now_us.saturating_sub(kept_us)],
        |row| row.get(0),
    )
}

/// Notes what the stamps of messages tell, for those of an older version. One from the future tells nothing.
fn derive(tx: &Transaction<'_>, now_us: i64) -> rusqlite::Result<()> {
    let last_seq: i64 = tx.query_row("SELECT stamped_seq FROM clock", [], |row| row.get(0))?;
    tx.execute(
        "INSERT INTO arrivals (seq, at_us) \
         WITH RECURSIVE place(seq) AS \
            (SELECT purged_seq + 1 FROM totals UNION ALL SELECT seq + 1 + ?1 / ?2 FROM place WHERE seq < ?1) \
         SELECT seq, max(received_at_us) OVER (ORDER BY seq) FROM place JOIN messages USING (seq) \
         WHERE seq <= ?1 AND received_at_us <= ?3",
        params![last_seq, SAMPLES_MAX, now_us],
    )?;
    Ok(())
}

/// The readings of the clock that are remembered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Clock {
    /// The last one that was trusted.
    settled_us: Option<i64>,
    /// After a jump, the first and the last one since then.
    since: Option<(i64, i64)>,
}

impl Clock {
    fn load(tx: &Transaction<'_>) -> rusqlite::Result<Self> {
        let clock = tx
            .query_row("SELECT settled_us, since_us, seen_us FROM clock", [], |row| {
                let since: Option<i64> = row.get(1)?;
                Ok(Self { settled_us: row.get(0)?, since: since.zip(row.get(2)?) })
            })
            .optional()?;
        Ok(clock.unwrap_or_default())
    }

    fn store(&self, tx: &Transaction<'_>) -> rusqlite::Result<()> {
        tx.execute(
            "UPDATE clock SET settled_us = ?1, since_us = ?2, seen_us = ?3",
            params![self.settled_us, self.since.map(|(first, _)| first), self.since.map(|(_, last)| last)],
        )?;
        Ok(())
    }

    fn read(self, now_us: i64) -> (Self, Reading) {
        let is_near = |us: i64| now_us.abs_diff(us) <= JUMP_US_MIN.unsigned_abs();
        match (self.settled_us, self.since) {
            // An operator has set it right, or it never was wrong.
            (Some(us), _) if is_near(us) => {
                (Self { settled_us: Some(us.max(now_us)), since: None }, Reading::Trusted)
            }
            (_, Some((first, last))) if is_near(last) => {
                let last = last.max(now_us);
                if last - first >= SETTLING_US {
                    let jump_us = self.settled_us.map_or(0, |before| first - before);
                    (Self { settled_us: Some(last), since: None }, Reading::Settled(jump_us))
                } else {
                    (Self { since: Some((first, last)), ..self }, Reading::Settling)
                }
            }
            (settled_us, since) => {
                let before = since.map(|(_, last)| last).or(settled_us).map(Timestamp::from_micros);
                (Self { since: Some((now_us, now_us)), ..self }, Reading::Jumped(before))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3600 * 1_000_000;

    fn readings(clock: &mut Clock, hours: impl IntoIterator<Item = i64>) -> Vec<Reading> {
        let read = |hour| {
            let (next, reading) = clock.read(hour * HOUR);
            *clock = next;
            reading
        };
        hours.into_iter().map(read).collect()
    }

    #[test]
    fn a_clock_is_trusted_when_it_has_gone_on_for_a_day() {
        let mut clock = Clock::default();
        assert_eq!(readings(&mut clock, [100]), [Reading::Jumped(None)]);
        assert!(readings(&mut clock, 101..124).iter().all(|r| *r == Reading::Settling));
        assert_eq!(
            readings(&mut clock, [124, 125, 149, 148]),
            [Reading::Settled(0), Reading::Trusted, Reading::Trusted, Reading::Trusted]
        );
        assert_eq!(clock.settled_us, Some(149 * HOUR), "it never goes back");
    }

    #[test]
    fn after_a_jump_it_is_trusted_when_it_is_set_right_or_stays() {
        let settled = Clock { settled_us: Some(1_000 * HOUR), since: None };
        let jumped = Reading::Jumped(Some(Timestamp::from_micros(1_000 * HOUR)));
        let mut clock = settled;
        assert_eq!(
            readings(&mut clock, [90_000, 90_001, 1_002]),
            [jumped, Reading::Settling, Reading::Trusted]
        );
        let mut clock = settled;
        assert_eq!(readings(&mut clock, [0, 1])[0], jumped, "back is a jump, too");
        assert_eq!(readings(&mut clock, [50_000]), [Reading::Jumped(Some(Timestamp::from_micros(HOUR)))]);
        assert_eq!(
            readings(&mut clock, [50_012, 50_024]),
            [Reading::Settling, Reading::Settled(49_000 * HOUR)]
        );
    }
}
