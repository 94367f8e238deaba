//! `hookkeeper send`: signs and sends messages, and reports how each was answered.

mod bodies;
mod summary;

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use adapters::signature::XSignature;
use backon::{BlockingRetryable, ExponentialBuilder};
use indicatif::{ProgressBar, ProgressStyle};
use ureq::Agent;
use ureq::http::Uri;

use self::bodies::{Bodies, is_one_message, n_messages, one_message};
use self::summary::{Outcome, Summary};
use super::Error;
use super::client::{self, Answer, Destination};
use crate::config::SecretArgs;

/// Most connections: a thread each.
const CONCURRENCY_MAX: i64 = 256;

/// Most retries of one message after no answer, 408, 429 or 503.
const RETRIES_MAX: usize = 5;

/// Wait before the first retry; each next one waits twice as long.
const RETRY_WAIT_MIN: Duration = Duration::from_millis(200);

/// Sign and send messages; exit code 1 if any was refused.
///
/// Sends one message from --from, --to and --text, or the messages of FILE. A FILE whose name ends in .json is one
/// message; any other, and - for standard input, has one message a line. Every message is sent byte for byte as it
/// is in FILE. After no answer, 408, 429 or 503 the message is sent again; if it was stored the first time, it is
/// then a duplicate. A message counts as stored if X-Webhook-Result says so. Redirects are not followed. The first
/// 401 stops the command, because the server has another secret.
#[derive(clap::Args)]
#[command(group = clap::ArgGroup::new("what").required(true).args(["file", "from"]))]
pub struct Args {
    #[command(flatten)]
    secret: SecretArgs,
    #[command(flatten)]
    destination: Destination,
    /// JSON file, file with a JSON object a line, or - for such lines on standard input
    file: Option<PathBuf>,
    /// Sender of one message, as in +14155550100
    #[arg(long, requires = "to")]
    from: Option<String>,
    /// Recipient of one message
    #[arg(long, requires = "from")]
    to: Option<String>,
    /// Text of one message [default: no text]
    #[arg(long, requires = "from", allow_hyphen_values = true)]
    text: Option<String>,
    /// Id of one message [default: random]
    #[arg(long, requires = "from", allow_hyphen_values = true)]
    message_id: Option<String>,
    /// Time of one message, as in 2025-01-15T10:00:00Z [default: now]
    #[arg(long, requires = "from")]
    ts: Option<String>,
    /// Messages to send at a time, 1 to 256
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

struct Sender<'a> {
    agent: Agent,
    url: &'a Uri,
    signer: &'a XSignature,
    /// A message was refused for its signature, as all others would be.
    has_wrong_secret: &'a AtomicBool,
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
