//! SQLite against a model at a size at which every part of its layout is in use: crowds of messages in one second
//! and in one span of the counts by time, ties, several runs, starts, expiry and deletion in between. Nothing here knows the
//! layout: messages go in, questions are asked, and the model says what is right.
//!
//! `MESSAGES=100000 QUESTIONS=10000` sets its size. A failure prints its seed; `SEED=…` with the same size replays it.

use std::hash::{BuildHasher, RandomState};
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use adapters::digest::sha256;
use adapters::sqlite::{self, Doomed, Expiry, SqliteStore};
use domain::contract::Sample;
use domain::message::{MessageId, NewMessage};
use domain::query::{Filter, Listing, Message, MessageQuery, PAGE_LIMIT_MAX, Page, Place};
use domain::store::{MessageStore, Seq};
use domain::text_query::TextQuery;
use domain::time::{ExactTime, Timestamp};
use rand::prelude::*;
use rand_chacha::ChaCha8Rng;

use crate::plain_model::{Model, page_of};
use crate::sqlite::open;

/// Messages of every test run: three sorted runs of the store, of which one is under way.
const MESSAGES: usize = 40_000;
const QUESTIONS: usize = 250;

/// Parts of a test: messages, then perhaps another change, then questions.
const ROUNDS: usize = 10;

/// Messages of one delivery at most.
const DELIVERY_MESSAGES_MAX: usize = 700;

/// Pages of one walk by cursors at most.
const WALK_PAGES_MAX: usize = 40;

/// A change of the store between queries.
#[derive(Clone, Copy, Debug)]
enum Change {
    /// The oldest messages, a part of all, expire.
    Expire,
    /// One message, and all of a sender, are deleted, as by another process.
    Delete,
    /// It is closed and opened.
    Restart,
}

const WORDS: [&str; 12] =
    ["order", "ORDER", "arrived", "école", "ÉCOLE", "Straße", "STRASSE", "の", "ab", "%", "_x", "q\u{0}z"];

/// Texts to look for: words and parts of them, with one, two and more characters, often and hardly ever found.
const NEEDLES: [&str; 16] = [
    "o",
    "rd",
    "order",
    "ORDER",
    "arr",
    "école",
    "cole",
    "ss",
    "strasse",
    "の",
    "ab",
    "%",
    "_",
    "\u{0}",
    "order arrived",
    "nowhere",
];

/// The senders that are often asked for.
const BUSY_SENDERS: RangeInclusive<u32> = 1..=4;

struct Random {
    rng: ChaCha8Rng,
    /// Messages that were made.
    n_made: i64,
}

impl Random {
    /// A time in one of a few crowded seconds, with ties at every number of digits.
    fn time(&mut self) -> String {
        let rng = &mut self.rng;
        let second = match rng.random_range(0..100) {
            0..40 => "2025-01-15T10:00:00".to_owned(),
            40..80 => format!("2025-01-15T10:00:0{}", rng.random_range(1..5)),
            80..97 => format!("2025-01-15T1{0}:{0}0:00", rng.random_range(1..5)),
            97 => "0000-01-01T00:00:00".to_owned(),
            98 => "1969-12-31T23:59:59".to_owned(),
            _ => "9999-12-31T23:59:59".to_owned(),
        };
        let n_digits = if rng.random_ratio(1, 2) { rng.random_range(0..=2) } else { rng.random_range(0..=9) };
        let digits: String = (0..n_digits).map(|_| *b"0159".choose(rng).unwrap() as char).collect();
        if digits.is_empty() { second + "Z" } else { format!("{second}.{digits}Z") }
    }

    fn sender(&mut self) -> u32 {
        match self.rng.random_range(0..100) {
            0..45 => 1,
            45..60 => self.rng.random_range(BUSY_SENDERS),
            60..90 => self.rng.random_range(5..40),
            _ => self.rng.random_range(40..20_000),
        }
    }

    fn text(&mut self) -> Option<String> {
        let rng = &mut self.rng;
        let n_words = rng.random_range(0..6_usize).checked_sub(1)?;
        let words: Vec<&str> = (0..n_words).map(|_| *WORDS.choose(rng).unwrap()).collect();
        Some(words.join(" "))
    }

    /// Ids come again now and then, those of expired messages, too.
    fn message(&mut self, n_ids: u32) -> NewMessage {
        let id = self.rng.random_range(0..n_ids);
        let text = self.text();
        let mut sample = Sample::id(&format!("{id:x}"))
            .from(&format!("+{}", self.sender()))
            .ts(&self.time())
            .text(text.as_deref());
        if self.rng.random_ratio(1, 20) {
            sample.source = "billing".to_owned();
        }
        let mut message = sample.message();
        message.verified.body_digest = sha256(&message.body);
        self.n_made += 1;
        message.received_at = Timestamp::from_micros(self.n_made);
        message
    }

    fn since(&mut self, model: &Model) -> ExactTime {
        let place = model.listed.choose(&mut self.rng).map(|known| known.place.sent_at.clone());
        let at_us = place.as_ref().map_or(0, |time| time.at().as_micros());
        let at =
            |us, finer: &str| ExactTime::from_parts(Timestamp::from_micros(us), finer.to_owned()).unwrap();
        match (self.rng.random_range(0..6), place) {
            (0..=2, Some(time)) => time,
            (3, Some(time)) => at(at_us, &format!("{}1", time.finer())),
            (4, _) => at(at_us - at_us.rem_euclid(1_000_000), ""),
            // Where a span of the counts by time begins.
            (5, _) => at(at_us >> 20 << 20, ""),
            _ => ExactTime::parse_utc(&self.time()).unwrap(),
        }
    }

    fn filter(&mut self, model: &Model) -> Filter {
        let sender = self.rng.random_ratio(1, 2).then(|| match self.rng.random_range(0..10) {
            0..6 => format!("+{}", self.rng.random_range(BUSY_SENDERS)),
            6..9 => format!("+{}", self.sender()),
            _ => "nobody".to_owned(),
        });
        let since = self.rng.random_bool(0.5).then(|| self.since(model));
        let text =
            self.rng.random_ratio(2, 5).then(|| TextQuery::new(NEEDLES.choose(&mut self.rng).unwrap()));
        Filter { sender, since, text }
    }

    /// The place of a message, whether it matches or not, or one beside it.
    fn place(&mut self, model: &Model) -> Option<Place> {
        let mut place = model.listed.choose(&mut self.rng)?.place.clone();
        match self.rng.random_range(0..6) {
            0 => place.seq.0 += self.rng.random_range(-1..=1),
            1 => place.message_id = MessageId::parse(format!("{}!", place.message_id.as_str())).unwrap(),
            _ => {}
        }
        Some(place)
    }

    fn page(&mut self, model: &Model, n_matching: usize) -> Page {
        let rng = &mut self.rng;
        let limit =
            if rng.random_ratio(1, 3) { PAGE_LIMIT_MAX } else { rng.random_range(1..=PAGE_LIMIT_MAX) };
        let n = n_matching as u64;
        let offset = match rng.random_range(0..20) {
            0..5 => 0,
            5..13 => rng.random_range(0..=n),
            13..15 => rng.random_range(990..1_010),
            15..19 => (n + 3).saturating_sub(rng.random_range(0..u64::from(limit) + 6)),
            _ => u64::MAX - rng.random_range(0..2),
        };
        let after = rng.random_ratio(1, 4).then(|| self.place(model)).flatten();
        Page { limit, offset, after }
    }
}

/// Tells the question and where the answers part: pages are too long to be read.
fn assert_same(got: &Listing, want: &Listing, seed: u64, filter: &Filter, page: &Page) {
    if got == want {
        return;
    }
    let n_same = got.messages.iter().zip(&want.messages).take_while(|(got, want)| got == want).count();
    let outline = |listing: &Listing| {
        let Listing { messages, total, next } = listing;
        format!("total {total}, {} messages, then {:?}, next {next:?}", messages.len(), messages.get(n_same))
    };
    panic!(
        "SEED={seed}: {filter:?} {page:?}: after {n_same} messages\n got {}\nwant {}",
        outline(got),
        outline(want)
    );
}

struct Test {
    seed: u64,
    folder: tempfile::TempDir,
    store: SqliteStore,
    model: Model,
    random: Random,
}

impl Test {
    fn new(seed: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = open(&folder.path().join("app.db"));
        let random = Random { rng: ChaCha8Rng::seed_from_u64(seed), n_made: 0 };
        Self { seed, folder, store, model: Model::default(), random }
    }

    async fn append(&mut self, n_messages: usize, n_ids: u32) {
        let mut n_left = n_messages;
        while n_left > 0 {
            let n = self.random.rng.random_range(1..=DELIVERY_MESSAGES_MAX.min(n_left));
            n_left -= n;
            let messages: Vec<NewMessage> = (0..n).map(|_| self.random.message(n_ids)).collect();
            let answers = self.store.append(messages.clone()).await.unwrap();
            self.model.append(&messages, &answers);
        }
        self.model.sort();
    }

    async fn change(&mut self, change: Change) {
        match change {
            Change::Expire => {
                let mut seqs: Vec<Seq> = self.model.listed.iter().map(|known| known.place.seq).collect();
                seqs.sort_unstable();
                let n_expired = self.random.rng.random_range(0..seqs.len() / 2);
                let messages_to = Seq(seqs[n_expired].0 - 1);
                self.model.forget(|known| known.place.seq <= messages_to);
                self.store.expire_to(Expiry { messages_to, keys_to: None }).await.unwrap();
                let deadline = Instant::now() + Duration::from_secs(60);
                let n_kept = self.model.listed.len() as u64;
                while self.store.stats().await.unwrap().total_messages != n_kept {
                    assert!(Instant::now() < deadline, "not all that has expired is removed");
                    tokio::task::yield_now().await;
                }
            }
            Change::Delete => {
                let message_id = self.random.place(&self.model).unwrap().message_id;
                self.delete(&Doomed::Message(message_id.clone()), |m| m.key.message_id == message_id);
                // Not the busiest, whose thousands of messages would take long.
                let sender = format!("+{}", self.random.rng.random_range(3..40));
                self.delete(&Doomed::Sender(sender.clone()), |m| m.sender.as_str() == sender);
            }
            Change::Restart => {
                self.store.close().await;
                self.store = open(&self.folder.path().join("app.db"));
            }
        }
    }

    fn delete(&mut self, doomed: &Doomed, is_doomed: impl Fn(&Message) -> bool) {
        let n_doomed = self.model.listed.iter().filter(|known| is_doomed(&known.message)).count();
        self.model.forget(|known| is_doomed(&known.message));
        let path = self.folder.path().join("app.db");
        let deleted = sqlite::delete(&path, doomed, &mut |_| ()).unwrap();
        assert_eq!(deleted.messages, n_doomed as u64, "SEED={}: {doomed:?}", self.seed);
    }

    async fn ask(&mut self) {
        let Self { seed, store, model, random, .. } = self;
        let filter = random.filter(model);
        let matching = model.matching(&filter);
        let page = random.page(model, matching.len());
        let got = store.list(&filter, &page).await.unwrap();
        assert_same(&got, &page_of(&matching, &page), *seed, &filter, &page);
    }

    /// From the first page to the last, each by the cursor of the one before.
    async fn walk(&mut self) {
        let Self { seed, store, model, random, .. } = self;
        let filter = random.filter(model);
        let matching = model.matching(&filter);
        let mut after = None;
        for _ in 0..WALK_PAGES_MAX {
            let page = Page { limit: random.rng.random_range(1..=PAGE_LIMIT_MAX), offset: 0, after };
            let got = store.list(&filter, &page).await.unwrap();
            assert_same(&got, &page_of(&matching, &page), *seed, &filter, &page);
            after = got.next;
            if after.is_none() {
                return;
            }
        }
    }
}

fn number<T: std::str::FromStr<Err: std::fmt::Debug>>(variable: &str) -> Option<T> {
    std::env::var(variable).ok().map(|n| n.parse().unwrap())
}

#[tokio::test]
async fn crowds_are_listed_and_counted_as_the_model_does() {
    let n_messages = number("MESSAGES").unwrap_or(MESSAGES);
    let n_questions = number("QUESTIONS").unwrap_or(QUESTIONS);
    let seed = number("SEED").unwrap_or_else(|| RandomState::new().hash_one(0));
    let mut test = Test::new(seed);
    // One in five or so comes again.
    let n_ids = u32::try_from(n_messages * 2).unwrap();
    for round in 0..ROUNDS {
        test.append(n_messages / ROUNDS, n_ids).await;
        match round {
            2 | 5 | 8 => test.change(Change::Expire).await,
            1 | 6 => test.change(Change::Restart).await,
            3 | 7 | 9 => test.change(Change::Delete).await,
            _ => {}
        }
        assert_eq!(test.store.stats().await.unwrap(), test.model.stats(), "SEED={seed}, round {round}");
        for n in 0..n_questions / ROUNDS {
            test.ask().await;
            if n % 50 == 0 {
                test.walk().await;
            }
        }
    }
    test.store.close().await;
    let report = sqlite::check(&test.folder.path().join("app.db")).unwrap();
    assert!(report.is_ok() && report.messages == test.model.listed.len() as u64, "SEED={seed}: {report}");
}
