//! Comparison of the stored messages with those that the senders expect: as a client lists them, and by `check`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;

use adapters::sqlite;
use domain::query::PAGE_LIMIT_MAX;
use serde_json::Value;
use ureq::Agent;

use super::super::Error;
use super::expected::{Expected, Findings, Promise};
use super::plan::Plan;

/// Messages listed for each phone number.
pub(super) type Listed = BTreeMap<String, u64>;

/// Client of an instance that is not under load.
pub(super) struct Client<'a> {
    pub(super) agent: &'a Agent,
    pub(super) addr: SocketAddr,
}

impl Client<'_> {
    /// Lists every phone number's messages, and compares each with what its sender expects.
    ///
    /// By phone number because the offsets stay small: to list everything page by page takes a time that grows
    /// with the square of what there is.
    pub(super) fn meet_all(
        &self,
        plan: Plan,
        expected: &mut [Expected],
        findings: &mut Findings,
    ) -> Result<Listed, Error> {
        let mut listed = Listed::new();
        for phone in Plan::phones() {
            let (mut n_met, mut total) = (0, 1);
            while n_met < total {
                let number = phone.trim_start_matches('+');
                let page =
                    self.get(&format!("/messages?from=%2B{number}&limit={PAGE_LIMIT_MAX}&offset={n_met}"))?;
                total = page["total"].as_u64().unwrap_or(0);
                let messages = page["data"].as_array().map_or(&[][..], Vec::as_slice);
                if messages.is_empty() {
                    break;
                }
                for message in messages {
                    n_met += 1;
                    if let Err(promise) = meet(plan, expected, message) {
                        findings.note(promise, &message["message_id"]);
                    }
                }
            }
            if n_met != total {
                findings.note(Promise::Miscounted, format!("{phone} has {n_met} messages, total is {total}"));
            }
            if n_met > 0 {
                listed.insert(phone, n_met);
            }
        }
        for lost in expected.iter().flat_map(Expected::lost) {
            findings.note(Promise::Lost, lost);
        }
        Ok(listed)
    }

    /// Compares the statistics with the listing.
    pub(super) fn check_stats(&self, listed: &Listed, findings: &mut Findings) -> Result<(), Error> {
        let stats = self.get("/stats")?;
        let mut agrees = stats["total_messages"] == listed.values().sum::<u64>();
        agrees &= stats["senders_count"] == listed.len();
        let top = stats["messages_per_sender"].as_array().map_or(&[][..], Vec::as_slice);
        agrees &= top.iter().all(|one| {
            let count = one["from"].as_str().and_then(|from| listed.get(from));
            count.is_some_and(|count| one["count"] == *count)
        });
        if !agrees {
            findings
                .note(Promise::Miscounted, format!("{} senders are listed, /stats is {stats}", listed.len()));
        }
        Ok(())
    }

    fn get(&self, target: &str) -> Result<Value, Error> {
        let no = |why: String| Error::Failed(format!("cannot get {target}: {why}"));
        let mut answer =
            self.agent.get(format!("http://{}{target}", self.addr)).call().map_err(|e| no(e.to_string()))?;
        let body = answer.body_mut().read_to_string().map_err(|e| no(e.to_string()))?;
        if answer.status() != 200 {
            return Err(no(format!("{} {body}", answer.status())));
        }
        serde_json::from_str(&body).map_err(|e| no(e.to_string()))
    }
}

fn meet(plan: Plan, expected: &mut [Expected], message: &Value) -> Result<(), Promise> {
    let name = message["message_id"].as_str().and_then(|id| plan.name(id)).ok_or(Promise::Invented)?;
    let expected = expected.get_mut(usize::from(name.sender)).ok_or(Promise::Invented)?;
    expected.meet(name.number, message)
}

/// Checks the database of an instance that has stopped, which also finds rows that no listing showed.
pub(super) fn check_database(path: &Path, listed: &Listed, findings: &mut Findings) -> Result<(), Error> {
    let report = sqlite::check(path)?;
    for problem in &report.problems {
        findings.note(Promise::Damaged, problem);
    }
    let n_listed: u64 = listed.values().sum();
    for _ in n_listed..report.messages {
        findings.note(Promise::Invented, "a message of a sender that is none of ours");
    }
    Ok(())
}
