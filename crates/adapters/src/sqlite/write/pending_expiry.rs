//! The removal of all that had expired when somebody asked for it: it takes many transactions.

use std::time::Instant;

use domain::event::StoreEvent;

use crate::sqlite::write::expiry::Expiry;
use crate::sqlite::write::state::Removed;

/// The removal under way, if there is one.
#[derive(Default)]
pub(crate) struct PendingExpiry(Option<Pending>);

struct Pending {
    expiry: Expiry,
    /// Last place that was taken when it was asked for: messages before it have to be indexed first.
    awaited_seq: Option<i64>,
    started: Instant,
    n_messages: usize,
    n_keys: usize,
}

impl PendingExpiry {
    /// Begins a removal. It goes as far as one that is under way, and farther.
    pub(crate) fn begin(&mut self, expiry: Expiry, awaited_seq: Option<i64>) {
        let (n_messages, n_keys) =
            self.0.as_ref().map_or((0, 0), |pending| (pending.n_messages, pending.n_keys));
        self.0 = Some(Pending { expiry, awaited_seq, started: Instant::now(), n_messages, n_keys });
    }

    pub(crate) fn is_under_way(&self) -> bool {
        self.0.is_some()
    }

    pub(crate) fn expiry(&self) -> Option<Expiry> {
        self.0.as_ref().map(|pending| pending.expiry)
    }

    /// Returns the place up to which messages have to be indexed, however few they are.
    pub(crate) fn awaited_seq(&self) -> i64 {
        self.0.as_ref().and_then(|pending| pending.awaited_seq).unwrap_or(0)
    }

    /// Counts what a transaction removed, and ends the removal if nothing is left.
    pub(crate) fn removed(&mut self, removed: Removed, last_seq: Option<i64>, events: &mut Vec<StoreEvent>) {
        let Removed { n_messages, n_keys, is_all } = removed;
        if n_messages + n_keys > 0 {
            events.push(StoreEvent::Expired { messages: n_messages as u64, keys: n_keys as u64 });
        }
        let Some(pending) = &mut self.0 else {
            return;
        };
        pending.n_messages += n_messages;
        pending.n_keys += n_keys;
        let ended = if is_all { self.0.take_if(|pending| pending.awaited_seq.is_some()) } else { None };
        if let Some(Pending { n_messages, n_keys, started, .. }) = ended
            && n_messages + n_keys > 0
        {
            let (messages, keys) = (n_messages as u64, n_keys as u64);
            events.push(StoreEvent::Purged { messages, keys, took: started.elapsed() });
        }
        // After a failed transaction the last place was not known when the removal began.
        if let (Some(pending), Some(last_seq)) = (&mut self.0, last_seq) {
            pending.awaited_seq.get_or_insert(last_seq);
        }
    }
}
