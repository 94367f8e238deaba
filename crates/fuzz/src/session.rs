//! The service end to end: each request of a session is answered as the rules and the reference model say.

use std::io::Write;

use adapters::digest::sha256;
use adapters::signature::XSignature;
use api::routes::parameters;
use arbitrary::{Arbitrary, Unstructured};
use domain::memory::MemoryStore;
use domain::message::{MessageText, NewMessage, SentAt};
use domain::payload::{FIELDS, decode};
use domain::query::{Listing, MessageQuery, Page, Stats};
use domain::signature::Verified;
use domain::source::SourceName;
use domain::store::{Appended, MessageStore};
use domain::time::Timestamp;
use form_urlencoded::Serializer;
use futures_util::FutureExt;
use serde_json::json;

use crate::service::{Answer, BODY_BYTES_MAX, SECRET, Service};
use crate::{payload, query};

/// Most requests of a session.
const REQUESTS_MAX: usize = 16;

/// Longest input: in percent-encoding it is still a target that fits into a `http::Uri` (64 KiB).
const INPUT_BYTES_MAX: usize = 16 << 10;

/// Input: requests, in the encoding of the crate arbitrary.
pub fn check(input: &[u8]) {
    if input.len() > INPUT_BYTES_MAX {
        return;
    }
    let mut input = Unstructured::new(input);
    let requests = input.arbitrary_iter::<Request<'_>>().unwrap().map_while(Result::ok).take(REQUESTS_MAX);
    let service = Service::start();
    let model = MemoryStore::default();
    let mut n_requests = 0;
    for request in requests {
        let answers = service.ask(&request.bytes());
        assert_eq!(answers.len(), 1, "{request:?}: {answers:?}");
        request.check(&answers[0], &model);
        n_requests += 1;
    }
    assert_eq!(service.stop().len(), n_requests, "a request is a line of the log");
}

#[derive(Arbitrary, Debug)]
enum Request<'a> {
    Webhook {
        body: Body<'a>,
        signature: Signature<'a>,
        chunk_bytes: Option<u8>,
    },
    /// The values of [`PARAMETERS`].
    Messages([Option<Value<'a>>; 5]),
    Stats,
}

const PARAMETERS: [&str; 5] = ["limit", "offset", "from", "since", "q"];

#[derive(Arbitrary, Debug)]
enum Body<'a> {
    /// A good value of each of [`FIELDS`], and what one of them gives way to.
    Message([u8; 5], Option<(u8, Option<&'a str>)>),
    Bytes(&'a [u8]),
}

/// The value of a parameter: one of [`good`], or any.
#[derive(Arbitrary, Debug)]
enum Value<'a> {
    Good(u8),
    Text(&'a str),
}

#[derive(Arbitrary, Debug)]
enum Signature<'a> {
    Right,
    Missing,
    Twice,
    Other(&'a [u8]),
}

impl Request<'_> {
    fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Webhook { body, signature, chunk_bytes } => {
                let body = body.bytes();
                let mut bytes = b"POST /webhook HTTP/1.1\r\nHost: a\r\n".to_vec();
                for value in signature.values(&body) {
                    bytes.extend([b"X-Signature: ", &value[..], b"\r\n"].concat());
                }
                match chunk_bytes {
                    None => {
                        write!(bytes, "Content-Length: {}\r\n\r\n", body.len()).unwrap();
                        bytes.extend(body);
                    }
                    Some(chunk_bytes) => {
                        bytes.extend(b"Transfer-Encoding: chunked\r\n\r\n");
                        for chunk in body.chunks(usize::from(*chunk_bytes) + 1) {
                            write!(bytes, "{:x}\r\n", chunk.len()).unwrap();
                            bytes.extend([chunk, b"\r\n"].concat());
                        }
                        bytes.extend(b"0\r\n\r\n");
                    }
                }
                bytes
            }
            Self::Messages(values) => get(&format!("/messages?{}", query_string(values))),
            Self::Stats => get("/stats"),
        }
    }

    fn check(&self, answer: &Answer, model: &MemoryStore) {
        match self {
            Self::Webhook { body, signature, .. } => check_webhook(&body.bytes(), signature, answer, model),
            Self::Messages(values) => check_messages(&query_string(values), answer, model),
            Self::Stats => {
                let stats = model.stats().now_or_never().unwrap().unwrap();
                assert_eq!((answer.status, answer.json()), (200, stats_body(&stats)));
            }
        }
    }
}

impl Body<'_> {
    fn bytes(&self) -> Vec<u8> {
        let (numbers, change) = match self {
            Self::Bytes(bytes) => return bytes.to_vec(),
            Self::Message(numbers, change) => (numbers, change),
        };
        let mut message = json!({});
        for (name, n) in FIELDS.iter().zip(numbers) {
            message[name] = json!(good(name, *n));
        }
        if let Some((field, text)) = change {
            message[FIELDS[usize::from(*field) % FIELDS.len()]] = json!(text);
        }
        message.to_string().into_bytes()
    }
}

/// Good values of a field or parameter: few, so that repeats, ties and matches are common.
fn good(name: &str, n: u8) -> String {
    match name {
        "message_id" => format!("m{}", n % 8),
        "from" | "to" => format!("+{}", n % 4),
        "ts" | "since" => format!("2025-01-15T10:00:0{}.{}Z", n % 3, n / 3),
        "limit" => (n % 100 + 1).to_string(),
        "offset" => (n % 4).to_string(),
        _ => ["É", "é", "cole", "l\u{0}x", "%_\\", "ß", "SS", ""][usize::from(n % 8)].to_owned(),
    }
}

impl Signature<'_> {
    /// The values of the header for this body.
    fn values(&self, body: &[u8]) -> Vec<Vec<u8>> {
        let right = XSignature::new(SECRET).unwrap().sign(body).into_bytes();
        match self {
            Self::Right => vec![right],
            Self::Missing => vec![],
            Self::Twice => vec![right.clone(), right],
            // A control character would end the header.
            Self::Other(value) => vec![value.iter().copied().filter(|b| !b.is_ascii_control()).collect()],
        }
    }
}

fn get(target: &str) -> Vec<u8> {
    format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n").into_bytes()
}

fn query_string(values: &[Option<Value<'_>>; 5]) -> String {
    let mut query = Serializer::new(String::new());
    for (name, value) in PARAMETERS.iter().zip(values) {
        let value = match value {
            None => continue,
            Some(Value::Good(n)) => good(name, *n),
            Some(Value::Text(text)) => (*text).to_owned(),
        };
        query.append_pair(name, &value);
    }
    query.finish()
}

fn check_webhook(body: &[u8], signature: &Signature<'_>, answer: &Answer, model: &MemoryStore) {
    let is_too_large = body.len() > BODY_BYTES_MAX;
    if !matches!(signature, Signature::Right) {
        // From the 300th wrong one on it is 429. What has the form of a signature is compared only with a whole body.
        return assert!(
            matches!(answer.status, 401 | 429) || is_too_large && answer.status == 413,
            "{answer:?}"
        );
    }
    if is_too_large {
        return assert_eq!(answer.status, 413, "{answer:?}");
    }
    payload::check(body);
    let content = match decode(body) {
        Ok(content) => content,
        Err(invalid) => {
            let loc = |field| ["body"].into_iter().chain(field).collect::<Vec<_>>();
            return assert_invalid(answer, invalid.errors.iter().map(|e| json!(loc(e.field.as_deref()))));
        }
    };
    let message = NewMessage {
        source: SourceName::default(),
        content,
        body: body.to_vec().into(),
        verified: Verified { body_digest: sha256(body) },
        received_at: Timestamp::from_micros(0),
    };
    let want = match model.append(vec![message]).now_or_never().unwrap().unwrap()[..] {
        [Appended::Stored(_)] => "created",
        _ => "duplicate",
    };
    assert_eq!((answer.status, answer.json()), (200, json!({"status": "ok"})), "{answer:?}");
    assert_eq!(answer.headers["x-webhook-result"], want, "{answer:?}");
}

fn check_messages(query: &str, answer: &Answer, model: &MemoryStore) {
    query::check(query.as_bytes());
    match parameters::parse(query) {
        Err(errors) => assert_invalid(answer, errors.iter().map(|e| json!(e.loc))),
        Ok((filter, page)) => {
            let listing = model.list(&filter, &page).now_or_never().unwrap().unwrap();
            assert_eq!((answer.status, answer.json()), (200, listing_body(&listing, &page)), "{query}");
            let next = listing.next.as_ref().map(|place| parameters::next(query, page.limit, place));
            let link = next.map(|next| format!("</messages?{next}>; rel=\"next\""));
            assert_eq!(answer.headers.get("link"), link.as_ref(), "{query}");
        }
    }
}

/// Asserts that it is a 422 which names these fields.
fn assert_invalid(answer: &Answer, locs: impl Iterator<Item = serde_json::Value>) {
    assert_eq!(answer.status, 422, "{answer:?}");
    let json = answer.json();
    let detail = json["detail"].as_array().unwrap();
    assert!(locs.eq(detail.iter().map(|d| d["loc"].clone())), "{json}");
    assert!(detail.iter().all(|d| d["type"].is_string() && d["msg"].is_string()), "{json}");
}

fn listing_body(listing: &Listing, page: &Page) -> serde_json::Value {
    let data: Vec<_> = listing
        .messages
        .iter()
        .map(|m| {
            json!({
                "message_id": m.key.message_id.as_str(),
                "from": m.sender.as_str(),
                "to": m.recipient.as_str(),
                "ts": m.sent_at.as_str(),
                "text": m.text.as_ref().map(MessageText::as_str),
            })
        })
        .collect();
    json!({
        "data": data,
        "total": listing.total,
        "limit": page.limit,
        "offset": page.offset,
    })
}

fn stats_body(stats: &Stats) -> serde_json::Value {
    let senders: Vec<_> = stats
        .top_senders
        .iter()
        .map(|(from, count)| json!({"from": from.as_str(), "count": count}))
        .collect();
    json!({
        "total_messages": stats.total_messages,
        "senders_count": stats.senders_count,
        "messages_per_sender": senders,
        "first_message_ts": stats.first_message_ts.as_ref().map(SentAt::as_str),
        "last_message_ts": stats.last_message_ts.as_ref().map(SentAt::as_str),
    })
}
