//! Messages and keys that have expired are removed some hundred at a time, with whatever else is committed.
//!
//! Messages expire in order of arrival, and only indexed ones. Their keys stay in the ledger until these expire too, one
//! segment at a time. SQLite reuses the pages. How far to go is not decided here.

use std::collections::BTreeMap;

use domain::store::Seq;
use rusqlite::Transaction;

use crate::sqlite::tables::key_filter::KeyFilter;
use crate::sqlite::tables::key_filter_blocks::Archive;
use crate::sqlite::tables::messages::{self, MessageRow};
use crate::sqlite::tables::time_counts::TimeCounts;
use crate::sqlite::tables::{INDEXES, keys, segments, totals};
use crate::sqlite::write::tail_senders::TailSenders;
use crate::sqlite::write::top_senders::TopSenders;

/// Places up to which messages and keys have expired.
#[derive(Clone, Copy, Debug)]
pub struct Expiry {
    /// Messages up to this place.
    pub messages_to: Seq,
    /// Keys of expired messages, of each segment that ends at this place or before.
    pub keys_to: Option<Seq>,
}

/// Removes a message and its entries in the indexes. Counts stay.
pub(crate) fn remove_message(tx: &Transaction<'_>, message: &MessageRow) -> rusqlite::Result<()> {
    INDEXES.iter().try_for_each(|index| (index.remove)(tx, message))?;
    messages::remove(tx, message.seq)
}

/// Removes up to `n_max` messages that have expired and are indexed; returns how many.
pub(crate) fn expire_messages(
    tx: &Transaction<'_>,
    senders: &mut TailSenders,
    top_senders: &mut TopSenders,
    to: Seq,
    n_max: usize,
) -> rusqlite::Result<usize> {
    let expired = messages::oldest(tx, to, n_max)?;
    let Some(last) = expired.last() else {
        return Ok(0);
    };
    for message in &expired {
        remove_message(tx, message)?;
    }
    TimeCounts::of(expired.iter().map(|e| e.ts_us)).subtract(tx)?;
    let n_senders = subtract_senders(tx, senders, top_senders, &expired)?;
    totals::subtract_expired(tx, expired.len(), n_senders, last.seq)?;
    Ok(expired.len())
}

/// Returns how many of the senders have no messages any more.
fn subtract_senders(
    tx: &Transaction<'_>,
    senders: &mut TailSenders,
    top_senders: &mut TopSenders,
    expired: &[MessageRow],
) -> rusqlite::Result<usize> {
    let mut per_sender: BTreeMap<&str, u64> = BTreeMap::new();
    for MessageRow { sender, .. } in expired {
        *per_sender.entry(sender).or_default() += 1;
    }
    let mut n_gone = 0;
    for (sender, n) in per_sender {
        n_gone += usize::from(senders.subtract(tx, sender, n)?);
        top_senders.fall(sender, n);
    }
    top_senders.tell(tx)?;
    Ok(n_gone)
}

/// Removes up to `n_max` keys that have expired, of one segment; returns how many, or `None` if no segment is left.
pub(crate) fn expire_keys(
    tx: &Transaction<'_>,
    (filter, archive): (&mut KeyFilter, &mut Archive),
    to: Seq,
    n_max: usize,
) -> rusqlite::Result<Option<usize>> {
    let Some(segment) = segments::oldest_expired(tx, to)? else {
        // Blocks of filters go when the last of their segments has gone.
        return Ok(archive.forget(tx, segments::first(tx)?, n_max)?.then_some(0));
    };
    let n_keys = keys::remove(tx, segment, n_max)?;
    if n_keys < n_max {
        segments::remove(tx, segment)?;
        filter.remove_to(segment);
    }
    Ok(Some(n_keys))
}
