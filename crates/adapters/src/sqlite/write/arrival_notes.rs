//! Retention goes by notes of the place that the messages had reached at a time, by a clock that can be trusted.
//!
//! The stamp of a message decides nothing: a clock that was years ahead or behind for a while has stamped messages wrongly,
//! and these would expire too early, or keep all later ones from expiring. A note covers every message before it. The time
//! that a clock jumped over has not passed: notes from before a jump move with it.

use domain::retention::Retention;
use domain::store::Seq;
use domain::time::Timestamp;
use rusqlite::Transaction;

use crate::sqlite::tables::arrivals;
use crate::sqlite::tables::clock::{self, Clock, Reading};
use crate::sqlite::write::expiry::Expiry;

/// A reading of the clock, and the retention as of then.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Keep {
    /// Time that the clock shows.
    pub(crate) now: Timestamp,
    pub(crate) retention: Retention,
}

/// Notes how far the messages have come, if the clock can be trusted, and then returns what has expired.
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
        arrivals::shift(tx, jump_us)?;
    }
    if arrivals::is_empty(tx)? {
        arrivals::derive(tx, clock::stamped_seq(tx)?, now_us)?;
    }
    arrivals::insert(tx, last_seq, now_us)?;
    let Some(kept) = keep.retention.messages else {
        return Ok((reading, None));
    };
    let messages_to = arrivals::reached_before(tx, now_us, kept)?;
    let keys_to = keep.retention.keys.map(|kept| arrivals::reached_before(tx, now_us, kept)).transpose()?;
    // The last note that has served its turn stays, so that there always is one.
    arrivals::remove_before(tx, keys_to.unwrap_or(messages_to).min(messages_to))?;
    Ok((reading, Some(Expiry { messages_to: Seq(messages_to), keys_to: keys_to.map(Seq) })))
}
