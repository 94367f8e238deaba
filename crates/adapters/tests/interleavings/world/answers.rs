//! Answers: each is compared with what the disk did during the call.

use domain::message::NewMessage;
use domain::store::{Appended, StoreError, StoreErrorKind};
use shuttle::current::{get_label_for_task, me};

use super::{Impatient, SHARED, World};
use crate::disk::{Try, ids, is_bad};
use crate::group_commit::SINGLE_FAULTS_MAX;

/// A call, as of its begin.
struct Call {
    delivery: Vec<NewMessage>,
    ids: Vec<String>,
    /// Tries of the disk before.
    n_tries: usize,
    /// Tries up to the last one that somebody had an answer from.
    n_answered: usize,
    /// True if an earlier call may have stored it.
    was_doubtful: bool,
}

impl World {
    /// Appends, and judges the answer.
    pub(super) async fn call(&self, delivery: &[NewMessage]) -> Result<Vec<Appended>, StoreError> {
        let (delivery, ids) = (delivery.to_vec(), ids(delivery));
        let was_doubtful = self.known().doubtful.insert(ids.clone(), delivery.clone()).is_some();
        let n_answered = self.known().n_answered;
        let call = Call { delivery, ids, n_tries: self.disk.n_tries(), n_answered, was_doubtful };
        let answer = self.queue.append(call.delivery.clone()).await;
        if let Some(n) =
            self.disk.since(0, |tries| tries.iter().rposition(|t| t.deliveries.contains(&call.ids)))
            // A try of an earlier call that hung up answered nobody, nor does a caller that is out of patience know of one.
            && n >= call.n_tries
            && !call.was_doubtful
            && !answer.as_ref().is_err_and(|error| error.kind == StoreErrorKind::Unknown)
        {
            let mut known = self.known();
            known.n_answered = known.n_answered.max(n + 1);
        }
        match &answer {
            Ok(appended) => self.judge_appended(&call, appended),
            Err(error) => self.judge_refused(&call, error.kind),
        }
        answer
    }

    fn judge_appended(&self, call: &Call, appended: &[Appended]) {
        let ids = &call.ids;
        assert!(self.own_tries(call).contains(&Ok(())), "{ids:?}: {appended:?}, but no commit returned");
        assert_eq!(appended.len(), ids.len());
        let stored = self.disk.stored();
        let mut known = self.known();
        for (id, appended) in ids.iter().zip(appended) {
            let (Appended::Stored(seq) | Appended::Existing { seq, .. }) = appended;
            assert_eq!(stored.get(id), Some(seq));
            if matches!(appended, Appended::Stored(_)) {
                assert!(known.told_stored.insert(id.clone()), "{id} was stored twice");
            }
        }
        known.doubtful.remove(ids);
    }

    fn judge_refused(&self, call: &Call, kind: StoreErrorKind) {
        let ids = &call.ids;
        let own_tries = self.own_tries(call);
        let was_told = own_tries.contains(&Err(kind));
        let is_given_up = self.disk.since(call.n_tries, |tries| {
            tries.iter().filter(|t| t.n_writes == 1 && t.result.is_err()).count() >= SINGLE_FAULTS_MAX
        });
        let has_panicked = self.disk.has_panicked();
        let mut known = self.known();
        let is_late = known.is_time_up && get_label_for_task::<Impatient>(me()).is_some();
        let is_right = match kind {
            StoreErrorKind::Unknown => was_told || is_late || has_panicked,
            StoreErrorKind::Unavailable => was_told || known.is_closing || has_panicked,
            StoreErrorKind::Busy => self.is_tight || self.was_locked(call),
            StoreErrorKind::Fault => was_told && is_bad(&call.delivery),
        };
        assert!(is_right || is_given_up, "{ids:?}: no reason for {kind:?}");

        if own_tries.last().is_some_and(Result::is_err) && !is_late {
            let is_own = |tries: &[Try]| tries.iter().rposition(|t| t.deliveries.contains(ids));
            known.failed_try = known.failed_try.max(self.disk.since(0, is_own));
        }
        if kind != StoreErrorKind::Unknown && !call.was_doubtful {
            let stored = self.disk.stored();
            let found = ids.iter().find(|id| *id != SHARED && stored.contains_key(*id));
            assert_eq!(found, None, "stored, but refused: {kind:?}");
            known.doubtful.remove(ids);
        }
    }

    /// Returns the results of the tries that this delivery was in.
    fn own_tries(&self, call: &Call) -> Vec<Result<(), StoreErrorKind>> {
        self.disk.since(call.n_tries, |tries| {
            tries.iter().filter(|t| t.deliveries.contains(&call.ids)).map(|t| t.result).collect()
        })
    }

    /// Returns true if a try met a lock, or the last one before the call did and nobody had an answer from that yet: the
    /// call may have come while those were refused who had waited behind that lock.
    fn was_locked(&self, call: &Call) -> bool {
        self.disk.since(call.n_tries.saturating_sub(1).max(call.n_answered), |tries| {
            tries.iter().any(|t| t.result == Err(StoreErrorKind::Busy))
        })
    }

    /// Asks for readiness, and judges the answer.
    pub(super) async fn probe(&self) {
        let failed_try = self.known().failed_try;
        match self.queue.ready().await {
            Ok(()) => {
                let is_well = failed_try
                    .is_none_or(|n| self.disk.since(n + 1, |tries| tries.iter().any(|t| t.result.is_ok())));
                assert!(is_well, "green, though no commit succeeded since one failed");
            }
            Err(error) => {
                let has_failed = self.disk.since(0, |tries| tries.iter().any(|t| t.result.is_err()));
                let is_ended = self.known().is_closing || self.disk.has_panicked();
                assert!(has_failed || is_ended, "red, though none failed: {error}");
            }
        }
    }
}
