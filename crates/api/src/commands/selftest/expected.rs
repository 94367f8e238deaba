//! Messages that a sender expects to be stored, as far as the answers tell.
//!
//! A sender that got no answer, or 503, can't know whether that payload was stored: it may be there or not,
//! until an answer to a later try settles that one of them is.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Value, json};

use super::plan::{Name, Plan, Version};

/// Findings of a kind that are printed in full: the first five are enough to look into.
const TOLD_OF_A_KIND_MAX: usize = 5;

/// Promise that a finding shows to be broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Promise {
    /// The message was answered 200 and is not stored.
    Lost,
    /// The message is stored twice, or was answered `created` after a 200: it was stored twice, or lost and stored again.
    Doubled,
    /// The message is stored or was answered `duplicate`, but was never sent in a valid request.
    Invented,
    /// The stored message is not the one that was accepted first.
    Altered,
    /// The counts do not agree with the messages.
    Miscounted,
    /// An answer that the request must not get, or none from an instance that runs.
    Misanswered,
    /// The check of the database finds damage.
    Damaged,
}

/// The promises that were broken.
#[derive(Debug, Default)]
pub(super) struct Findings(BTreeMap<Promise, Found>);

#[derive(Debug, Default)]
struct Found {
    n: u64,
    told: Vec<String>,
}

/// Answer to one valid request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answered {
    Created,
    Duplicate,
    /// No answer, or 503.
    Unknown,
}

/// Stored messages that one sender expects.
#[derive(Debug)]
pub(super) struct Expected {
    plan: Plan,
    sender: u8,
    /// By the message's number.
    messages: Vec<Known>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Known {
    /// The versions that may be the stored one, by version.
    candidates: [bool; 2],
    acknowledged: bool,
    /// It was met among the stored messages.
    met: bool,
}

impl Findings {
    pub(super) fn note(&mut self, promise: Promise, what: impl fmt::Display) {
        self.add_found(promise, Found { n: 1, told: vec![what.to_string()] });
    }

    pub(super) fn add(&mut self, other: Self) {
        for (promise, found) in other.0 {
            self.add_found(promise, found);
        }
    }

    fn add_found(&mut self, promise: Promise, new: Found) {
        let found = self.0.entry(promise).or_default();
        found.n += new.n;
        found.told.extend(new.told);
        found.told.truncate(TOLD_OF_A_KIND_MAX);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Findings {
    /// By promise: how often it was broken, and the first of these.
    pub(super) fn json(&self) -> Value {
        let promises = self.0.iter().map(|(promise, found)| {
            let promise = format!("{promise:?}").to_lowercase();
            (promise, json!({"count": found.n, "examples": found.told}))
        });
        promises.collect::<serde_json::Map<_, _>>().into()
    }
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let n = |promise| self.0.get(&promise).map_or(0, |found| found.n);
        write!(
            f,
            "lost {}, doubled {}, invented {}, altered {}, miscounted {}, misanswered {}, damaged {}",
            n(Promise::Lost),
            n(Promise::Doubled),
            n(Promise::Invented),
            n(Promise::Altered),
            n(Promise::Miscounted),
            n(Promise::Misanswered),
            n(Promise::Damaged)
        )?;
        for (promise, found) in &self.0 {
            found.told.iter().try_for_each(|what| write!(f, "\n  {promise:?}: {what}"))?;
        }
        Ok(())
    }
}

impl Expected {
    pub(super) fn new(plan: Plan, sender: u8) -> Self {
        Self { plan, sender, messages: Vec::new() }
    }

    fn known(&mut self, number: u32) -> &mut Known {
        let place = number as usize;
        if self.messages.len() <= place {
            self.messages.resize(place + 1, Known::default());
        }
        &mut self.messages[place]
    }

    /// Records the answer to one valid request.
    ///
    /// # Errors
    /// The promise that the answer breaks.
    pub(super) fn record(
        &mut self,
        number: u32,
        version: Version,
        answered: Answered,
    ) -> Result<(), Promise> {
        let known = self.known(number);
        let was_acknowledged = known.acknowledged;
        match answered {
            // Once something is stored, no later request changes it.
            Answered::Unknown if was_acknowledged => Ok(()),
            Answered::Unknown => {
                known.candidates[version as usize] = true;
                Ok(())
            }
            Answered::Created => {
                known.acknowledged = true;
                known.candidates = [version == Version::A, version == Version::B];
                if was_acknowledged { Err(Promise::Doubled) } else { Ok(()) }
            }
            Answered::Duplicate => {
                known.acknowledged = true;
                if known.candidates == [false; 2] { Err(Promise::Invented) } else { Ok(()) }
            }
        }
    }

    /// Meets one stored message of this sender, as it is listed.
    ///
    /// # Errors
    /// The promise that it breaks by being there, or by being as it is.
    pub(super) fn meet(&mut self, number: u32, listed: &Value) -> Result<(), Promise> {
        let (plan, name) = (self.plan, Name { sender: self.sender, number });
        let Some(known) = self.messages.get_mut(number as usize) else {
            return Err(Promise::Invented);
        };
        if std::mem::replace(&mut known.met, true) {
            return Err(Promise::Doubled);
        }
        let candidates: Vec<Version> =
            [Version::A, Version::B].into_iter().filter(|v| known.candidates[*v as usize]).collect();
        if candidates.is_empty() {
            return Err(Promise::Invented);
        }
        let is_one = candidates.iter().any(|version| plan.payload(name, *version) == *listed);
        if is_one { Ok(()) } else { Err(Promise::Altered) }
    }

    /// The ids of the messages that were acknowledged and not met.
    pub(super) fn lost(&self) -> impl Iterator<Item = String> {
        let lost = (0..).zip(&self.messages).filter(|(_, known)| known.acknowledged && !known.met);
        lost.map(|(number, _)| self.plan.message_id(Name { sender: self.sender, number }))
    }

    /// Returns how many messages are left whose result is unknown, and how many of these were met.
    pub(super) fn unknown(&self) -> (u64, u64) {
        let unknown = self.messages.iter().filter(|k| !k.acknowledged && k.candidates != [false; 2]);
        unknown.fold((0, 0), |(n, n_met), known| (n + 1, n_met + u64::from(known.met)))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::Answered::*;
    use super::Version::*;
    use super::*;

    const PLAN: Plan = Plan { seed: 1 };

    fn expected(records: &[(Version, Answered)]) -> Expected {
        let mut expected = Expected::new(PLAN, 0);
        for (version, answered) in records {
            expected.record(0, *version, *answered).unwrap();
        }
        expected
    }

    /// Meets these stored versions of the message; returns the result of each, and the number of lost messages.
    fn judged(records: &[(Version, Answered)], stored: &[Version]) -> (Vec<Result<(), Promise>>, usize) {
        let mut expected = expected(records);
        let name = Name { sender: 0, number: 0 };
        let met = stored.iter().map(|version| expected.meet(0, &PLAN.payload(name, *version))).collect();
        (met, expected.lost().count())
    }

    #[test]
    fn what_was_answered_200_must_be_there_once_as_it_was_accepted_first() {
        for records in [&[(A, Created)][..], &[(A, Unknown), (B, Duplicate)], &[(A, Created), (B, Unknown)]] {
            assert_eq!(judged(records, &[A]), (vec![Ok(())], 0), "{records:?}");
            assert_eq!(judged(records, &[]), (vec![], 1), "lost: {records:?}");
            assert_eq!(judged(records, &[B]), (vec![Err(Promise::Altered)], 0), "{records:?}");
            assert_eq!(judged(records, &[A, A]), (vec![Ok(()), Err(Promise::Doubled)], 0), "{records:?}");
        }
    }

    #[test]
    fn what_had_no_answer_may_be_there_or_not() {
        for stored in [&[][..], &[A], &[B]] {
            let (met, lost) = judged(&[(A, Unknown), (B, Unknown)], stored);
            assert!(met.iter().all(Result::is_ok) && lost == 0, "{stored:?}");
        }
        assert_eq!(judged(&[(A, Unknown)], &[B]).0, [Err(Promise::Altered)]);
        // `created` settles which it is, `duplicate` only that it is one of them.
        assert_eq!(judged(&[(A, Unknown), (B, Created)], &[A]).0, [Err(Promise::Altered)]);
        let either = [(A, Unknown), (B, Unknown), (B, Duplicate)];
        assert_eq!(judged(&either, &[A]), judged(&either, &[B]));
        assert_eq!(judged(&either, &[]).1, 1);
    }

    #[test]
    fn what_was_never_validly_sent_must_not_be_there() {
        let mut nothing = expected(&[]);
        assert_eq!(nothing.meet(0, &json!({})), Err(Promise::Invented));
        // Number 1 was sent, so that there is a place for number 0: it was forged or broken only.
        let mut refused = expected(&[]);
        refused.record(1, A, Created).unwrap();
        let payload = PLAN.payload(Name { sender: 0, number: 0 }, A);
        assert_eq!(refused.meet(0, &payload), Err(Promise::Invented));
        assert_eq!(refused.lost().collect::<Vec<_>>(), [PLAN.message_id(Name { sender: 0, number: 1 })]);
    }

    #[test]
    fn every_field_counts() {
        let payload = PLAN.payload(Name { sender: 0, number: 0 }, A);
        for field in ["message_id", "from", "to", "ts", "text"] {
            let mut other = payload.clone();
            other[field] = json!("other");
            assert_eq!(expected(&[(A, Created)]).meet(0, &other), Err(Promise::Altered), "{field}");
        }
    }

    #[test]
    fn an_answer_alone_can_break_a_promise() {
        assert_eq!(expected(&[]).record(0, A, Duplicate), Err(Promise::Invented));
        assert_eq!(expected(&[(A, Created)]).record(0, A, Created), Err(Promise::Doubled));
        // A repeat was answered 200: so it was stored then, and can't be new now.
        assert_eq!(expected(&[(A, Unknown), (A, Duplicate)]).record(0, B, Created), Err(Promise::Doubled));
    }

    #[test]
    fn findings_are_counted_and_the_first_are_told() {
        let mut findings = Findings::default();
        assert!(findings.is_empty());
        let mut others = Findings::default();
        for n in 0..20 {
            findings.note(Promise::Lost, n);
            others.note(Promise::Damaged, n);
        }
        findings.add(others);
        assert!(!findings.is_empty());
        let said = findings.to_string();
        assert!(said.contains("lost 20, doubled 0") && said.contains("damaged 20"), "{said}");
        assert_eq!(said.lines().count(), 1 + 2 * TOLD_OF_A_KIND_MAX);
    }

    #[test]
    fn unknown_outcomes_are_counted() {
        let mut expected = expected(&[(A, Unknown)]);
        expected.record(1, A, Unknown).unwrap();
        expected.record(2, A, Created).unwrap();
        expected.meet(1, &PLAN.payload(Name { sender: 0, number: 1 }, A)).unwrap();
        assert_eq!(expected.unknown(), (2, 1));
    }
}
