//! Summary of what was sent: how many messages were created, duplicate or refused, and why.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::json;

use super::super::client::Answer;
use super::super::{Error, print};

/// Longest latency that is measured, retries included: ten minutes.
const LATENCY_US_MAX: u64 = 600_000_000;

/// Most different reasons of refusal that are printed.
const REASONS_MAX: usize = 10;

/// Result of sending one message.
pub(super) enum Outcome {
    Created,
    Duplicate,
    Refused(String),
}

impl Outcome {
    /// Reads the result from an answer. Other servers answer 200, too, so only one that says that it stored the message
    /// counts.
    pub(super) fn of(answer: &Answer) -> Self {
        match (answer.status, answer.result.as_deref()) {
            (200, Some("created")) => Self::Created,
            (200, Some("duplicate")) => Self::Duplicate,
            (200, _) => {
                Self::Refused("200 without X-Webhook-Result: --url is not that of a webhook".to_owned())
            }
            (status @ 300..=399, _) => Self::Refused(format!(
                "{status} to {:?}: redirects are not followed, --url must be the address itself",
                answer.location.as_deref().unwrap_or_default()
            )),
            _ => Self::Refused(answer.to_string()),
        }
    }
}

/// Counts of the answers, their latencies, and the reasons of refusals.
pub(super) struct Summary {
    created: u64,
    duplicate: u64,
    refused: u64,
    reasons: BTreeMap<String, u64>,
    latency_us: Histogram<u64>,
    /// Error that ended the reading of the messages.
    pub(super) unread: Option<io::Error>,
}

impl Default for Summary {
    fn default() -> Self {
        Self {
            created: 0,
            duplicate: 0,
            refused: 0,
            reasons: BTreeMap::new(),
            latency_us: Histogram::new_with_max(LATENCY_US_MAX, 3).expect("three digits of it are allowed"),
            unread: None,
        }
    }
}

impl Summary {
    /// Counts one message.
    pub(super) fn count(&mut self, outcome: Outcome, latency: Duration) {
        match outcome {
            Outcome::Created => self.created += 1,
            Outcome::Duplicate => self.duplicate += 1,
            Outcome::Refused(why) => {
                self.refused += 1;
                self.add_reason(why, 1);
            }
        }
        self.latency_us.saturating_record(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX));
    }

    fn add_reason(&mut self, why: String, n: u64) {
        let is_room = self.reasons.len() < REASONS_MAX;
        let why = if is_room || self.reasons.contains_key(&why) { why } else { "other reasons".to_owned() };
        *self.reasons.entry(why).or_default() += n;
    }

    /// Adds the counts of another thread.
    pub(super) fn add(&mut self, other: Self) {
        self.created += other.created;
        self.duplicate += other.duplicate;
        self.refused += other.refused;
        for (why, n) in other.reasons {
            self.add_reason(why, n);
        }
        self.latency_us.add(&other.latency_us).expect("both have the same bounds");
        self.unread = self.unread.take().or(other.unread);
    }

    /// Prints the summary.
    ///
    /// # Errors
    /// A message was refused, or not all messages were read.
    pub(super) fn report(self, took: Duration, has_wrong_secret: bool, json: bool) -> Result<(), Error> {
        let Self { created, duplicate, refused, .. } = self;
        let sent = created + duplicate + refused;
        let secs = took.as_secs_f64();
        let ms =
            |quantile| Duration::from_micros(self.latency_us.value_at_quantile(quantile)).as_secs_f64() * 1e3;
        let (p50, p99) = (ms(0.5), ms(0.99));
        if json {
            print(&json!({
                "sent": sent, "created": created, "duplicate": duplicate, "refused": refused,
                "refusals": self.reasons, "took_secs": secs, "latency_p50_ms": p50, "latency_p99_ms": p99,
            }))?;
        } else {
            print(&format_args!(
                "sent {sent} in {secs:.2} s: created {created}, duplicate {duplicate}, refused {refused}; \
                 latency p50 {p50:.1} ms, p99 {p99:.1} ms"
            ))?;
        }
        if let Some(source) = self.unread {
            return Err(Error::Io { what: "read the messages".to_owned(), source });
        }
        if refused == 0 {
            return Ok(());
        }
        let reasons: Vec<String> = self.reasons.iter().map(|(why, n)| format!("\n  {n} × {why}")).collect();
        let stopped = if has_wrong_secret {
            "\nstopped: the server has another WEBHOOK_SECRET than this command; set the same one and send again"
        } else {
            ""
        };
        Err(Error::Failed(format!("{refused} refused:{}{stopped}", reasons.concat())))
    }
}
