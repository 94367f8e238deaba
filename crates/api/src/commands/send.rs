//! `hookkeeper send`: signs and sends messages, and says what became of them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use adapters::clock::SystemClock;
use adapters::signature::XSignature;
use backon::{BlockingRetryable, ExponentialBuilder};
use domain::time::Clock;
use hdrhistogram::Histogram;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use ureq::Agent;
use ureq::http::Uri;

use super::Error;
use super::client::{self, Answer, Destination};
use crate::config::{BODY_BYTES_MAX_LIMIT, SecretArgs};

/// Most connections: a thread each.
const CONCURRENCY_MAX: i64 = 256;

/// How often one message is tried again after no answer, 408, 429 or 503.
const RETRIES_MAX: usize = 5;

/// Before the first of these tries; each next one waits twice as long.
const RETRY_WAIT_MIN: Duration = Duration::from_millis(200);

/// The longest latency that is told apart, retries included: ten minutes.
const LATENCY_US_MAX: u64 = 600_000_000;

/// How many different reasons of refusal are told.
const REASONS_MAX: usize = 10;

/// Sign and send messages; exit code 1 if any was refused.
///
/// One message from --from, --to and --text, or those of FILE: a name that ends in .json is one
/// message, any other (and - for standard input) has one message a line. Every message is sent byte
/// for byte as it stands there. No answer, 408, 429 and 503 are tried again: a message that was
/// stored after all is then a duplicate. A message counts as stored if the answer says so in
/// X-Webhook-Result; redirects are not followed. The first 401 ends it: the secret is another one.
#[derive(clap::Args)]
#[command(group = clap::ArgGroup::new("what").required(true).args(["file", "from"]))]
pub struct Args {
    #[command(flatten)]
    secret: SecretArgs,
    #[command(flatten)]
    destination: Destination,
    /// A JSON file, a file with a JSON object a line, or - for such lines on standard input
    file: Option<PathBuf>,
    /// Sender of one message, as in +14155550100
    #[arg(long, requires = "to")]
    from: Option<String>,
    /// Recipient of one message
    #[arg(long, requires = "from")]
    to: Option<String>,
    /// Text of one message; none if it is left out
    #[arg(long, requires = "from", allow_hyphen_values = true)]
    text: Option<String>,
    /// Id of one message; a new random one if it is left out
    #[arg(long, requires = "from", allow_hyphen_values = true)]
    message_id: Option<String>,
    /// Time of one message, as in 2025-01-15T10:00:00Z; now if it is left out
    #[arg(long, requires = "from")]
    ts: Option<String>,
    /// How many to send at a time, 1 to 256
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=CONCURRENCY_MAX))]
    concurrency: u16,
    /// Print the result as one JSON object
    #[arg(long)]
    json: bool,
}

/// # Errors
/// There is no secret, a file can't be read, or a message was refused.
pub fn run(args: &Args) -> Result<(), Error> {
    let signer = super::signer(&args.secret)?;
    let agent = args.destination.agent(args.concurrency.into())?;
    let is_one = args.file.as_deref().is_none_or(is_one_message);
    let progress = ProgressBar::new_spinner();
    let (source, total): (Box<dyn Read + Send>, Option<u64>) = match (&args.file, &args.from) {
        (Some(path), _) if path.as_os_str() == "-" => (Box::new(io::stdin()), None),
        (Some(path), _) => {
            let read = || format!("read {}", path.display());
            let mut file = File::open(path).map_err(Error::io(read()))?;
            // A pipe can be read only once.
            let is_counted =
                !progress.is_hidden() && file.metadata().is_ok_and(|metadata| metadata.is_file());
            let total = if is_counted {
                Some(n_messages(&mut file, is_one).map_err(Error::io(read()))?)
            } else {
                None
            };
            (Box::new(file), total)
        }
        (None, from) => (Box::new(io::Cursor::new(one_message(args, from.as_deref()))), Some(1)),
    };
    let bodies = Mutex::new(Bodies::of(source, is_one));

    if let Some(total) = total.filter(|n| *n > 1) {
        progress.set_length(total);
        progress.set_style(
            ProgressStyle::with_template("{bar:40} {pos}/{len} {per_sec} {eta} left")
                .expect("the template is valid"),
        );
    }
    let has_wrong_secret = AtomicBool::new(false);
    let sender =
        Sender { agent, url: &args.destination.url, signer: &signer, has_wrong_secret: &has_wrong_secret };
    let started = Instant::now();
    let mut summary = Summary::default();
    thread::scope(|scope| {
        let threads: Vec<_> =
            (0..args.concurrency).map(|_| scope.spawn(|| sender.send_all(&bodies, &progress))).collect();
        for thread in threads {
            summary.add(thread.join().expect("a sending thread does not panic"));
        }
    });
    progress.finish_and_clear();
    summary.report(started.elapsed(), has_wrong_secret.into_inner(), args.json)
}

fn one_message(args: &Args, from: Option<&str>) -> Vec<u8> {
    let new_id = || uuid::Uuid::new_v4().to_string();
    let message_id = args.message_id.clone().unwrap_or_else(new_id);
    let ts = args.ts.clone().unwrap_or_else(|| SystemClock.now().to_string());
    json!({"message_id": message_id, "from": from, "to": args.to, "ts": ts, "text": args.text})
        .to_string()
        .into_bytes()
}

fn is_one_message(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json"))
}

/// For the progress bar: counts what [`Bodies`] will yield, and goes back to the first.
fn n_messages(file: &mut File, is_one: bool) -> io::Result<u64> {
    let mut bodies = Bodies::of(&mut *file, is_one);
    let mut n = 0;
    while bodies.next()?.is_some() {
        n += 1;
    }
    file.rewind()?;
    Ok(n)
}

/// The bodies to send, one after the other.
struct Bodies<R> {
    from: BufReader<R>,
    /// All of it is one body; else each line that is not empty.
    is_one: bool,
    ended: bool,
}

impl<R: Read> Bodies<R> {
    fn of(source: R, is_one: bool) -> Self {
        Self { from: BufReader::new(source), is_one, ended: false }
    }

    fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        while !self.ended {
            let mut body = Vec::new();
            let mut bounded = (&mut self.from).take(BODY_BYTES_MAX_LIMIT as u64 + 1);
            if self.is_one {
                bounded.read_to_end(&mut body)?;
                self.ended = true;
                return Ok(Some(body));
            }
            self.ended = bounded.read_until(b'\n', &mut body)? == 0;
            if body.len() > BODY_BYTES_MAX_LIMIT {
                return Err(io::Error::other(format!("a line has more than {BODY_BYTES_MAX_LIMIT} bytes")));
            }
            let line = body.trim_ascii_end();
            if !line.is_empty() {
                return Ok(Some(line.to_vec()));
            }
        }
        Ok(None)
    }
}

struct Sender<'a> {
    agent: Agent,
    url: &'a Uri,
    signer: &'a XSignature,
    /// A message was refused for its signature, and so would be all others.
    has_wrong_secret: &'a AtomicBool,
}

enum Outcome {
    Created,
    Duplicate,
    Refused(String),
}

impl Outcome {
    /// Only what says that it stored the message is believed to have done so: other servers say 200, too.
    fn of(answer: &Answer) -> Self {
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

impl Sender<'_> {
    fn send_all<R: Read>(&self, bodies: &Mutex<Bodies<R>>, progress: &ProgressBar) -> Summary {
        let mut summary = Summary::default();
        while !self.has_wrong_secret.load(Ordering::Relaxed) {
            let body = bodies.lock().unwrap_or_else(PoisonError::into_inner).next();
            let body = match body {
                Ok(Some(body)) => body,
                Ok(None) => return summary,
                Err(e) => {
                    summary.unread.get_or_insert(e);
                    return summary;
                }
            };
            let started = Instant::now();
            summary.count(self.send(&body), started.elapsed());
            progress.inc(1);
        }
        summary
    }

    fn send(&self, body: &[u8]) -> Outcome {
        let signature = self.signer.sign(body);
        let waits = ExponentialBuilder::default().with_min_delay(RETRY_WAIT_MIN).with_max_times(RETRIES_MAX);
        // `Err` is what is worth another try.
        let what_came = || match client::post(&self.agent, self.url, &signature, body) {
            Ok(answer @ Answer { status: 408 | 429 | 503, .. }) => Err(answer.to_string()),
            Ok(answer) => {
                if answer.status == 401 {
                    self.has_wrong_secret.store(true, Ordering::Relaxed);
                }
                Ok(Outcome::of(&answer))
            }
            Err(e) if client::is_distrusted(&e) => {
                Ok(Outcome::Refused(format!("{e} (--ca-file names its authority)")))
            }
            Err(e) => Err(format!("no answer: {e}")),
        };
        what_came.retry(waits.with_jitter()).call().unwrap_or_else(Outcome::Refused)
    }
}

/// What became of the messages.
struct Summary {
    created: u64,
    duplicate: u64,
    refused: u64,
    reasons: BTreeMap<String, u64>,
    latency_us: Histogram<u64>,
    unread: Option<io::Error>,
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
    fn count(&mut self, outcome: Outcome, latency: Duration) {
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

    fn add(&mut self, other: Self) {
        self.created += other.created;
        self.duplicate += other.duplicate;
        self.refused += other.refused;
        for (why, n) in other.reasons {
            self.add_reason(why, n);
        }
        self.latency_us.add(&other.latency_us).expect("both have the same bounds");
        self.unread = self.unread.take().or(other.unread);
    }

    fn report(self, took: Duration, has_wrong_secret: bool, json: bool) -> Result<(), Error> {
        let Self { created, duplicate, refused, .. } = self;
        let sent = created + duplicate + refused;
        let secs = took.as_secs_f64();
        let ms =
            |quantile| Duration::from_micros(self.latency_us.value_at_quantile(quantile)).as_secs_f64() * 1e3;
        let (p50, p99) = (ms(0.5), ms(0.99));
        if json {
            super::print(&json!({
                "sent": sent, "created": created, "duplicate": duplicate, "refused": refused,
                "refusals": self.reasons, "took_secs": secs, "latency_p50_ms": p50, "latency_p99_ms": p99,
            }))?;
        } else {
            super::print(&format_args!(
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
            "\nstopped: the service has another WEBHOOK_SECRET than this command; set the right one and send again"
        } else {
            ""
        };
        Err(Error::No(format!("{refused} refused:{}{stopped}", reasons.concat())))
    }
}
