//! Table `time_counts`: the number of indexed messages in each span of time, for spans of a second to centuries.
//!
//! With these, the messages before a time are counted in some hundred rows, however many they are, and
//! the message at an offset is found likewise.

use std::collections::BTreeMap;
use std::ops::Range;

use rusqlite::{Transaction, params};

/// A span of level 0 is 2^20 µs, about a second.
pub(crate) const SPAN_BITS: u32 = 20;

/// A span has 2^6 of the level below.
pub(crate) const LEVEL_BITS: u32 = 6;

/// Levels: the last one's spans, of 2,285 years, are five in all of the years 0 to 9999.
pub(crate) const LEVELS: u32 = 7;

/// Counts to be added or taken away, by level and span.
pub(crate) struct TimeCounts(BTreeMap<(u32, i64), i64>);

impl TimeCounts {
    pub(crate) fn of(times_us: impl Iterator<Item = i64>) -> Self {
        let mut counts = BTreeMap::new();
        for ts_us in times_us {
            *counts.entry((0, span(0, ts_us))).or_default() += 1;
        }
        for level in 1..LEVELS {
            let below: Vec<(i64, i64)> =
                counts.range((level - 1, i64::MIN)..).map(|((_, span), n)| (*span, *n)).collect();
            for (span, n) in below {
                *counts.entry((level, span >> LEVEL_BITS)).or_default() += n;
            }
        }
        Self(counts)
    }

    pub(crate) fn add(&self, tx: &Transaction<'_>) -> rusqlite::Result<()> {
        let mut upsert = tx.prepare_cached(
            "INSERT INTO time_counts (level, span, message_count) VALUES (?1, ?2, ?3) \
             ON CONFLICT (level, span) DO UPDATE SET message_count = message_count + excluded.message_count",
        )?;
        for ((level, span), n) in &self.0 {
            upsert.execute(params![level, span, n])?;
        }
        Ok(())
    }

    pub(crate) fn subtract(&self, tx: &Transaction<'_>) -> rusqlite::Result<()> {
        let mut delete = tx.prepare_cached(
            "DELETE FROM time_counts WHERE level = ?1 AND span = ?2 AND message_count <= ?3",
        )?;
        let mut update = tx.prepare_cached(
            "UPDATE time_counts SET message_count = message_count - ?3 WHERE level = ?1 AND span = ?2",
        )?;
        for ((level, span), n) in &self.0 {
            delete.execute(params![level, span, n])?;
            update.execute(params![level, span, n])?;
        }
        Ok(())
    }
}

fn span(level: u32, ts_us: i64) -> i64 {
    ts_us >> (SPAN_BITS + LEVEL_BITS * level)
}

/// Returns the first microsecond of the span of level 0 that holds a time.
pub(crate) fn start_of_span(ts_us: i64) -> i64 {
    span(0, ts_us) << SPAN_BITS
}

/// Returns how many indexed messages are older than the span of level 0 that holds a time.
pub(crate) fn count_before_span(tx: &Transaction<'_>, ts_us: i64) -> rusqlite::Result<u64> {
    let mut total = 0;
    for level in 0..LEVELS {
        let to = span(level, ts_us);
        // What is before the span that holds `to` is counted by the level above, if there is one.
        let from = if level + 1 < LEVELS { to >> LEVEL_BITS << LEVEL_BITS } else { i64::MIN };
        total += count(tx, level, from..to)?;
    }
    Ok(total)
}

fn count(tx: &Transaction<'_>, level: u32, spans: Range<i64>) -> rusqlite::Result<u64> {
    tx.prepare_cached(
        "SELECT coalesce(sum(message_count), 0) FROM time_counts WHERE level = ?1 AND span >= ?2 AND span < ?3",
    )?
    .query_row(params![level, spans.start, spans.end], |row| row.get(0))
}

/// Returns where a walk to the message at `offset` in order of time begins: the start of a span of level 0, and how many
/// messages are older than that. `unindexed_us` has the times of the messages that the counts lack, in order.
pub(crate) fn skip(tx: &Transaction<'_>, unindexed_us: &[i64], offset: u64) -> rusqlite::Result<(i64, u64)> {
    let mut before = 0;
    let mut spans = i64::MIN..i64::MAX;
    for level in (0..LEVELS).rev() {
        let (span, n) = span_at(tx, level, spans, unindexed_us, offset - before)?;
        before += n;
        spans = span << LEVEL_BITS..(span + 1) << LEVEL_BITS;
    }
    Ok(((spans.start >> LEVEL_BITS) << SPAN_BITS, before))
}

/// Returns the span that holds the message at `offset`, or else the last one, and how many messages lie in the spans before
/// it.
fn span_at(
    tx: &Transaction<'_>,
    level: u32,
    spans: Range<i64>,
    unindexed_us: &[i64],
    offset: u64,
) -> rusqlite::Result<(i64, u64)> {
    let mut counts: BTreeMap<i64, u64> = tx
        .prepare_cached(
            "SELECT span, message_count FROM time_counts WHERE level = ?1 AND span >= ?2 AND span < ?3",
        )?
        .query_map(params![level, spans.start, spans.end], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<rusqlite::Result<_>>()?;
    for ts_us in unindexed_us {
        let span = span(level, *ts_us);
        if spans.contains(&span) {
            *counts.entry(span).or_default() += 1;
        }
    }
    let mut found = (spans.start, 0);
    let mut before = 0;
    for (span, n) in counts {
        if before > offset {
            break;
        }
        found = (span, before);
        before += n;
    }
    Ok(found)
}
