//! Plan of a run: the requests, their order, and the kills. All of it follows from the seed.
//!
//! The answers are not part of it. Which messages are under way when a kill comes is up to the
//! scheduling of threads, and no seed brings that back.

use std::time::Duration;

use domain::message::TEXT_CHARS_MAX;
use domain::time::Timestamp;
use rand::prelude::*;
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

/// Senders at a time, a thread and a connection each: enough that commits are shared.
pub(super) const SENDERS: u8 = 16;

/// Phone numbers that one sender writes from: few enough that each has pages of messages.
const PHONES_PER_SENDER: u32 = 16;

/// Time of the first message, 2025-01-15T10:00:00Z, and the time between two: a quarter of a second.
const FIRST_US: i64 = 1_736_935_200_000_000;
const STEP_US: i64 = 250_000;

/// Everything that follows from a seed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    pub(super) seed: u64,
}

/// One message of one sender; `number` counts that sender's messages from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Name {
    pub(super) sender: u8,
    pub(super) number: u32,
}

/// One request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Attempt {
    pub(super) number: u32,
    pub(super) form: Form,
    /// The connection is closed before the answer is read.
    pub(super) hangs_up: bool,
}

/// Content that is sent under a message's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Valid(Version),
    /// A valid payload with the signature of another body.
    Forged,
    /// A well-signed payload that breaks a rule.
    Broken,
}

/// A message has two valid payloads: whichever is accepted first is the one to keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    A,
    B,
}

/// Moment at which an instance is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kill {
    /// This long after its process began, while it starts or soon after.
    Starting { after: Duration },
    /// Under load: so long after it has acknowledged so many messages.
    Serving { acknowledged: u32, after: Duration },
}

impl Plan {
    /// A generator for one purpose, whose numbers don't depend on how many the others took.
    fn rng(self, stream: u64) -> ChaCha8Rng {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        rng.set_stream(stream);
        rng
    }

    /// The requests of one sender, without end.
    pub(super) fn attempts(self, sender: u8) -> impl Iterator<Item = Attempt> {
        let mut rng = self.rng(1 + u64::from(sender));
        let mut n_messages = 0;
        std::iter::repeat_with(move || {
            let back = match rng.random_range(0..100) {
                _ if n_messages == 0 => 0,
                0..60 => 0,
                // The last few, whose answers may have been lost just now.
                60..90 => rng.random_range(1..=3),
                // Long answered, perhaps by an instance that was killed.
                _ => rng.random_range(1..=200),
            };
            if back == 0 {
                n_messages += 1;
            }
            let form = match rng.random_range(0..100) {
                0..60 => Form::Valid(Version::A),
                60..88 => Form::Valid(Version::B),
                88..94 => Form::Forged,
                _ => Form::Broken,
            };
            let number = u32::saturating_sub(n_messages, back.max(1));
            Attempt { number, form, hangs_up: rng.random_ratio(1, 16) }
        })
    }

    /// Returns the kills of the instances, one after the other, without end.
    pub(super) fn kills(self) -> impl Iterator<Item = Kill> {
        let mut rng = self.rng(0);
        std::iter::repeat_with(move || {
            // Longer than a commit takes, so that every moment of it is as likely.
            let after = Duration::from_micros(rng.random_range(0..20_000));
            match rng.random_range(0..100) {
                // What the one before has left is being read and moved into the database.
                0..10 => Kill::Starting { after },
                // The write-ahead log grows so long that it is moved into the database under load.
                10..14 => Kill::Serving { acknowledged: rng.random_range(2000..6000), after },
                _ => Kill::Serving { acknowledged: rng.random_range(1..400), after },
            }
        })
    }

    pub(super) fn message_id(self, name: Name) -> String {
        format!("selftest-{:016x}-{}-{}", self.seed, name.sender, name.number)
    }

    /// The message that has this id, if it is one of ours.
    pub(super) fn name(self, message_id: &str) -> Option<Name> {
        let mut parts = message_id.rsplit('-');
        let number = parts.next()?.parse().ok()?;
        let sender = parts.next()?.parse().ok()?;
        let name = Name { sender, number };
        (self.message_id(name) == message_id).then_some(name)
    }

    /// A phone number for every message that has the same number modulo [`PHONES_PER_SENDER`].
    fn phone(sender: u8, number: u32) -> String {
        format!("+1555{sender:03}{:02}", number % PHONES_PER_SENDER)
    }

    /// Every phone number that messages are sent from.
    pub(super) fn phones() -> impl Iterator<Item = String> {
        (0..SENDERS).flat_map(|sender| (0..PHONES_PER_SENDER).map(move |n| Self::phone(sender, n)))
    }

    /// A valid payload, which is also how a message is listed.
    pub(super) fn payload(self, name: Name, version: Version) -> Value {
        let Name { sender, number } = name;
        let length = if number % 100 == 0 { TEXT_CHARS_MAX - 2 } else { number as usize % 100 };
        json!({
            "message_id": self.message_id(name),
            "from": Self::phone(sender, number),
            "to": "+14155550100",
            "ts": Timestamp::from_micros(FIRST_US + STEP_US * i64::from(number)).to_string(),
            "text": format!("{version:?} {}", "é".repeat(length)),
        })
    }

    /// The bytes of one request's body.
    pub(super) fn body(self, name: Name, form: Form) -> Vec<u8> {
        let mut payload = match form {
            Form::Valid(version) => return self.payload(name, version).to_string().into_bytes(),
            Form::Forged | Form::Broken => self.payload(name, Version::A),
        };
        payload["text"] = json!(format!("{form:?}"));
        let ts = payload["ts"].as_str().unwrap_or_default();
        match (form, name.number % 4) {
            (Form::Broken, 0) => payload["from"] = json!("15550000000"),
            (Form::Broken, 1) => payload["ts"] = json!(ts.replace('Z', "+00:00")),
            (Form::Broken, 2) => payload["to"] = Value::Null,
            (Form::Broken, _) => return payload.to_string().into_bytes()[1..].to_vec(),
            _ => {}
        }
        payload.to_string().into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_seed_gives_the_same_plan_again() {
        let plan = |seed| {
            let plan = Plan { seed };
            let attempts: Vec<Attempt> = plan.attempts(3).take(1000).collect();
            let bodies: Vec<Vec<u8>> =
                attempts.iter().map(|a| plan.body(Name { sender: 3, number: a.number }, a.form)).collect();
            (attempts, bodies, plan.kills().take(100).collect::<Vec<Kill>>())
        };
        assert_eq!(plan(7), plan(7));
        assert_ne!(plan(7).0, plan(8).0);
        assert_ne!(plan(7).2, plan(8).2);
        let other: Vec<Attempt> = Plan { seed: 7 }.attempts(4).take(1000).collect();
        assert_ne!(plan(7).0, other, "each sender has its own");
    }

    #[test]
    fn every_form_is_what_it_is_called_and_no_two_are_the_same() {
        let plan = Plan { seed: 1 };
        for number in 0..300 {
            let name = Name { sender: 2, number };
            let valid = [Form::Valid(Version::A), Form::Valid(Version::B), Form::Forged];
            let bodies = valid.map(|form| plan.body(name, form));
            for body in &bodies {
                let content = domain::payload::decode(body).unwrap();
                assert_eq!(plan.name(content.message_id.as_str()), Some(name));
            }
            assert_eq!(bodies.iter().collect::<BTreeSet<_>>().len(), 3);
            assert!(domain::payload::decode(&plan.body(name, Form::Broken)).is_err());
        }
        for foreign in ["m1", "selftest-0-0-0", "selftest-0000000000000001-2-03", "é-1-2"] {
            assert_eq!(plan.name(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn everything_that_can_be_sent_is_sent() {
        let plan = Plan { seed: 1 };
        let attempts: Vec<Attempt> = plan.attempts(0).take(10_000).collect();
        let n = |is: fn(&Attempt) -> bool| attempts.iter().filter(|a| is(a)).count();
        assert!(n(|a| a.form == Form::Valid(Version::A)) > 5000);
        assert!(n(|a| a.form == Form::Valid(Version::B)) > 2000);
        assert!(n(|a| a.form == Form::Forged) > 300 && n(|a| a.form == Form::Broken) > 300);
        assert!(n(|a| a.hangs_up) > 300);
        // Numbers are taken one after the other, and some come again.
        let numbers: BTreeSet<u32> = attempts.iter().map(|a| a.number).collect();
        assert_eq!(*numbers.last().unwrap() as usize, numbers.len() - 1);
        assert!((5000..7000).contains(&numbers.len()), "{}", numbers.len());
        let kills: Vec<Kill> = plan.kills().take(1000).collect();
        let starting = kills.iter().filter(|kill| matches!(kill, Kill::Starting { .. })).count();
        assert!((50..200).contains(&starting), "{starting}");
    }
}
