//! Report of a run.

use std::fmt;
use std::time::Duration;

use serde_json::{Value, json};

use super::expected::Findings;
use super::sender::Counts;

/// Result of a run.
pub(super) struct Report {
    pub(super) kills: u16,
    /// Without the check at the end.
    pub(super) took: Duration,
    /// From the start of a process until it was ready, shortest first.
    pub(super) starts: Vec<Duration>,
    pub(super) counts: Counts,
    pub(super) stored: u64,
    /// Messages that are left without an answer, and how many of them are stored.
    pub(super) unknown: (u64, u64),
    pub(super) findings: Findings,
}

impl Report {
    /// Returns the report as JSON.
    pub(super) fn json(&self, seed: u64) -> Value {
        let Self { kills, took, starts, counts, stored, unknown: (unknown, unknown_stored), findings } = self;
        let ms = |d: Option<&Duration>| d.map(|d| d.as_secs_f64() * 1e3);
        json!({
            "seed": seed,
            "kills": kills,
            "took_secs": took.as_secs_f64(),
            "ready_p50_ms": ms(starts.get(starts.len() / 2)),
            "ready_max_ms": ms(starts.last()),
            "sent": counts.sent,
            "created": counts.created,
            "duplicate": counts.duplicate,
            "refused_signature": counts.refused_signature,
            "refused_payload": counts.refused_payload,
            "unavailable": counts.unavailable,
            "hung_up": counts.hung_up,
            "cut_off": counts.cut_off,
            "stored": stored,
            "unanswered": unknown,
            "unanswered_stored": unknown_stored,
            "broken_promises": findings.json(),
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kills, took, starts, counts, stored, unknown: (unknown, unknown_stored), findings } = self;
        let ms = |d: Option<&Duration>| d.map_or(0.0, |d| d.as_secs_f64() * 1e3);
        let (p50, max) = (ms(starts.get(starts.len() / 2)), ms(starts.last()));
        let secs = took.as_secs_f64();
        writeln!(f, "kills {kills} in {secs:.1} s; ready after p50 {p50:.0} ms, max {max:.0} ms")?;
        let Counts { sent, created, duplicate, refused_signature, refused_payload, .. } = counts;
        let Counts { unavailable, hung_up, cut_off, .. } = counts;
        writeln!(
            f,
            "sent {sent}: created {created}, duplicate {duplicate}, 401 {refused_signature}, \
             422 {refused_payload}, 503 {unavailable}, hung up {hung_up}, cut off {cut_off}"
        )?;
        writeln!(f, "stored {stored}; left without an answer {unknown}, of which stored {unknown_stored}")?;
        write!(f, "{findings}")
    }
}
