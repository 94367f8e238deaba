//! Requests of a load: messages made from their number, signed.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use adapters::clock::SystemClock;
use adapters::signature::XSignature;
use domain::time::Clock;
use uuid::Uuid;

use crate::BenchError;
use crate::server::SECRET;

/// In which order ids come.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) enum Ids {
    /// At random: each goes to another place of an index
    #[default]
    Random,
    /// Each after the one before, as version 7 UUIDs do
    Ordered,
    /// At random, and every second one is one of the last [`RECENT_MESSAGES`]
    Repeated,
}

/// Messages among which a repeat is chosen: what comes in within a moment. Some of them are still under way.
const RECENT_MESSAGES: u64 = 1000;

/// Messages of a load that were sent in the same second by their `ts`.
const MESSAGES_PER_TS: u64 = 20_000;

/// More requests than any server answers in a millisecond that shares two cores with its load.
const REQUESTS_PER_MS_MAX: u64 = 100;

/// Requests that are made before a load begins take up so many bytes at most: a million of the usual size.
const PREPARED_BYTES_MAX: usize = 512 << 20;

const SECS_PER_DAY: u64 = 24 * 3600;

/// An odd number without a pattern in its bits (2^64 divided by the golden ratio): a multiple of it is
/// anywhere, and no two are the same.
const MIX: u64 = 0x9e37_79b9_7f4a_7c15;

/// Content of the requests.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Shape {
    pub(crate) ids: Ids,
    /// Bytes of a body, if these are more than usual.
    pub(crate) body_bytes_min: usize,
}

/// Makes messages and signs them: most of them before the load begins, so that what it takes of the machine is sending
/// and receiving.
pub(crate) struct Sender {
    signer: XSignature,
    shape: Shape,
    /// A version 7 UUID, which makes the ids of each sender its own and later than those of earlier ones.
    run: u128,
    /// Today, with which all `ts` begin.
    date: String,
    /// The second of this day when the load began: earlier ones sent at other times.
    first_second: u64,
    filler: String,
    /// The first requests.
    prepared: Vec<Vec<u8>>,
    n_requests: AtomicU64,
}

impl Sender {
    /// With what a load of so long will send.
    pub(crate) fn new(shape: Shape, lasting: Duration) -> Result<Arc<Self>, BenchError> {
        let now = SystemClock.now();
        let mut sender = Self {
            signer: XSignature::new(SECRET.as_bytes())?,
            shape,
            run: Uuid::now_v7().as_u128(),
            date: now.to_string()[..10].to_owned(),
            first_second: u64::try_from(now.as_micros() / 1_000_000)? % SECS_PER_DAY,
            filler: String::new(),
            prepared: Vec::new(),
            n_requests: AtomicU64::new(0),
        };
        let usual = sender.body(0).len();
        sender.filler = "x".repeat(shape.body_bytes_min.saturating_sub(usual));
        let n_max = REQUESTS_PER_MS_MAX * u64::try_from(lasting.as_millis())?;
        let mut n_bytes = 0;
        let requests = (0..n_max).map(|n| sender.make(n));
        sender.prepared = requests
            .take_while(|request| {
                n_bytes += request.len();
                n_bytes <= PREPARED_BYTES_MAX
            })
            .collect();
        Ok(Arc::new(sender))
    }

    /// Number of requests.
    pub(crate) fn n_requests(&self) -> u64 {
        self.n_requests.load(Ordering::Relaxed)
    }

    /// The next request, and its place among all.
    pub(crate) fn request(&self) -> (u64, Cow<'_, [u8]>) {
        let n = self.n_requests.fetch_add(1, Ordering::Relaxed);
        let prepared = usize::try_from(n).ok().and_then(|n| self.prepared.get(n));
        (n, prepared.map_or_else(|| self.make(n).into(), Into::into))
    }

    fn make(&self, n: u64) -> Vec<u8> {
        let body = self.body(self.message_of(n));
        let signature = self.signer.sign(body.as_bytes());
        let length = body.len();
        let request = format!(
            "POST /webhook HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nX-Signature: {signature}\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        request.into_bytes()
    }

    /// The message that a request is about.
    fn message_of(&self, request: u64) -> u64 {
        match self.shape.ids {
            Ids::Random | Ids::Ordered => request,
            Ids::Repeated if request.is_multiple_of(2) => request / 2,
            Ids::Repeated => (request / 2).saturating_sub(request.wrapping_mul(MIX) % RECENT_MESSAGES),
        }
    }

    fn body(&self, n: u64) -> String {
        let own = self.run + u128::from(n);
        #[expect(clippy::cast_possible_truncation, reason = "its low half is the one that differs most")]
        let mixed = (own as u64).wrapping_mul(MIX);
        let id = match self.shape.ids {
            Ids::Ordered => format!("{own:032X}"),
            Ids::Random | Ids::Repeated => format!("{mixed:016X}{n:X}"),
        };
        let second = (self.first_second + n / MESSAGES_PER_TS) % SECS_PER_DAY;
        format!(
            r#"{{"message_id":"wamid.{id}","from":"+91987654{:04}","to":"+14155550100","ts":"{}T{:02}:{:02}:{:02}Z","text":"Where is my order number {n}? It should have been here on Monday.","filler":"{}"}}"#,
            mixed % 5000,
            self.date,
            second / 3600,
            second / 60 % 60,
            second % 60,
            self.filler,
        )
    }
}
