//! Table `clock`: one row with the readings of the clock that retention goes by.

use domain::time::Timestamp;
use rusqlite::{OptionalExtension, Transaction, params};

/// A clock jumps if it is farther than that from its last reading. Readings are an hour apart. A service that is stopped
/// over night goes on; an error that is not found makes a message expire a day early.
const JUMP_US_MIN: i64 = 24 * 3600 * 1_000_000;

/// After a jump the clock is trusted when it has gone on for this long without another: time for an operator to see it.
const SETTLING_US: i64 = 24 * 3600 * 1_000_000;

/// The meaning of a reading of the clock for retention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    /// It goes on as it did.
    Trusted,
    /// It jumped some time ago, and has gone on since then, not for long enough.
    Settling,
    /// It has gone on for long enough, and is trusted from now on. It had jumped over this many microseconds, forwards or
    /// back; 0 if no clock was trusted before.
    Settled(i64),
    /// It is not near the last reading; `None` if there was none.
    Jumped(Option<Timestamp>),
}

/// The row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Clock {
    /// The last one that was trusted.
    pub(crate) settled_us: Option<i64>,
    /// After a jump, the first and the last one since then.
    since: Option<(i64, i64)>,
}

impl Clock {
    pub(crate) fn load(tx: &Transaction<'_>) -> rusqlite::Result<Self> {
        let clock = tx
            .query_row("SELECT settled_us, since_us, seen_us FROM clock", [], |row| {
                let since: Option<i64> = row.get(1)?;
                Ok(Self { settled_us: row.get(0)?, since: since.zip(row.get(2)?) })
            })
            .optional()?;
        Ok(clock.unwrap_or_default())
    }

    pub(crate) fn store(&self, tx: &Transaction<'_>) -> rusqlite::Result<()> {
        tx.execute(
            "UPDATE clock SET settled_us = ?1, since_us = ?2, seen_us = ?3",
            params![self.settled_us, self.since.map(|(first, _)| first), self.since.map(|(_, last)| last)],
        )?;
        Ok(())
    }

    /// Takes a reading; returns the clock after it, and the meaning of the reading.
    pub(crate) fn read(self, now_us: i64) -> (Self, Reading) {
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

/// Returns the last place whose message has the stamp of an older version.
pub(crate) fn stamped_seq(tx: &Transaction<'_>) -> rusqlite::Result<i64> {
    tx.query_row("SELECT stamped_seq FROM clock", [], |row| row.get(0))
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
