//! One sender: sends the requests of the plan, and records what it expects to be stored.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::ops::AddAssign;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;

use adapters::signature::XSignature;
use ureq::Agent;

use super::super::client::{self, Answer};
use super::expected::{Answered, Expected, Findings, Promise};
use super::plan::{Attempt, Form, Name, Plan, Version};

/// An instance, from when it is ready until it is killed.
#[derive(Clone)]
pub(super) struct Life<'a> {
    pub(super) addr: SocketAddr,
    pub(super) agent: Agent,
    /// Receives each answer 200, as long as it listens.
    pub(super) acknowledged: SyncSender<()>,
    /// The instance is being killed: from now on an answer may be missing.
    pub(super) is_killed: &'a AtomicBool,
}

/// Counts of requests by their result.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub(super) sent: u64,
    pub(super) created: u64,
    pub(super) duplicate: u64,
    /// 401, or 429 after too many of them.
    pub(super) refused_signature: u64,
    pub(super) refused_payload: u64,
    pub(super) unavailable: u64,
    /// The sender hung up.
    pub(super) hung_up: u64,
    /// The kill came before the answer.
    pub(super) cut_off: u64,
}

/// Error: the instance does not answer any more.
struct CutOff;

/// One sender: its part of the plan, the messages it expects, and its findings.
pub(super) struct Sender<'a> {
    sender: u8,
    plan: Plan,
    signer: &'a XSignature,
    attempts: Box<dyn Iterator<Item = Attempt> + Send>,
    last_acknowledged: Option<(u32, Version)>,
    pub(super) expected: Expected,
    pub(super) counts: Counts,
    pub(super) findings: Findings,
}

impl<'a> Sender<'a> {
    pub(super) fn new(plan: Plan, sender: u8, signer: &'a XSignature) -> Self {
        Self {
            sender,
            plan,
            signer,
            attempts: Box::new(plan.attempts(sender)),
            last_acknowledged: None,
            expected: Expected::new(plan, sender),
            counts: Counts::default(),
            findings: Findings::default(),
        }
    }

    /// Sends until the connection is cut. What the last instance acknowledged last comes first: it is what
    /// that one's death is most likely to have cost.
    pub(super) fn send_until_cut_off(&mut self, life: &Life<'_>) {
        let last = self.last_acknowledged.map(|(number, version)| Attempt {
            number,
            form: Form::Valid(version),
            hangs_up: false,
        });
        let mut next = last.or_else(|| self.attempts.next());
        while let Some(attempt) = next {
            if self.send(life, attempt).is_err() {
                return;
            }
            next = self.attempts.next();
        }
    }

    fn name(&self, attempt: Attempt) -> Name {
        Name { sender: self.sender, number: attempt.number }
    }

    fn send(&mut self, life: &Life<'_>, attempt: Attempt) -> Result<(), CutOff> {
        let body = self.plan.body(self.name(attempt), attempt.form);
        let signature = match attempt.form {
            Form::Forged => self.signer.sign(b"another body"),
            Form::Valid(_) | Form::Broken => self.signer.sign(&body),
        };
        self.counts.sent += 1;
        if attempt.hangs_up {
            self.counts.hung_up += 1;
            self.record(attempt, Answered::Unknown);
            return send_and_hang_up(life.addr, &signature, &body).map_err(|_| CutOff);
        }
        let url = format!("http://{}/webhook", life.addr).parse().expect("an address makes a URL");
        match client::post(&life.agent, &url, &signature, &body) {
            Ok(answer) => {
                if answer.status == 200 {
                    // It listens only until it has heard enough.
                    let _ = life.acknowledged.send(());
                }
                self.take(attempt, &answer);
                Ok(())
            }
            Err(error) => {
                self.counts.cut_off += 1;
                self.record(attempt, Answered::Unknown);
                if !life.is_killed.load(Ordering::SeqCst) {
                    self.findings.note(Promise::Misanswered, format!("{attempt:?}: {error}"));
                }
                Err(CutOff)
            }
        }
    }

    /// Records an answer, and notes a finding if the request must not get it.
    fn take(&mut self, attempt: Attempt, answer: &Answer) {
        match (attempt.form, answer.status, answer.result.as_deref()) {
            (Form::Valid(version), 200, Some("created")) => {
                self.counts.created += 1;
                self.last_acknowledged = Some((attempt.number, version));
                self.record(attempt, Answered::Created);
            }
            (Form::Valid(version), 200, Some("duplicate")) => {
                self.counts.duplicate += 1;
                self.last_acknowledged = Some((attempt.number, version));
                self.record(attempt, Answered::Duplicate);
            }
            (Form::Forged, 401 | 429, _) => self.counts.refused_signature += 1,
            (Form::Broken, 422, _) => self.counts.refused_payload += 1,
            (_, 503, _) => {
                self.counts.unavailable += 1;
                self.record(attempt, Answered::Unknown);
            }
            _ => {
                self.findings.note(Promise::Misanswered, format!("{attempt:?}: {answer}"));
                self.record(attempt, Answered::Unknown);
            }
        }
    }

    fn record(&mut self, attempt: Attempt, answered: Answered) {
        if let Form::Valid(version) = attempt.form
            && let Err(promise) = self.expected.record(attempt.number, version, answered)
        {
            let id = self.plan.message_id(self.name(attempt));
            self.findings.note(promise, format!("{id} sent as {version:?} was answered {answered:?}"));
        }
    }
}

/// Sends one request whole, and does not wait for its answer.
fn send_and_hang_up(addr: SocketAddr, signature: &str, body: &[u8]) -> std::io::Result<()> {
    let length = body.len();
    let head = format!(
        "POST /webhook HTTP/1.1\r\nHost: {addr}\r\nX-Signature: {signature}\r\nContent-Length: {length}\r\n\r\n"
    );
    TcpStream::connect(addr)?.write_all(&[head.as_bytes(), body].concat())
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.sent += other.sent;
        self.created += other.created;
        self.duplicate += other.duplicate;
        self.refused_signature += other.refused_signature;
        self.refused_payload += other.refused_payload;
        self.unavailable += other.unavailable;
        self.hung_up += other.hung_up;
        self.cut_off += other.cut_off;
    }
}
