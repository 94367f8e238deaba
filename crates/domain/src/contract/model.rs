//! The promise that holds all others together: a store answers as the reference model does.
//!
//! Random messages go into both, random queries to both, and the answers have to be the same. Places of arrival are the
//! store's to choose, so they are compared by rank: the first stored message has rank 1.

use std::collections::HashMap;

use super::{Sample, Stores};
use crate::memory::MemoryStore;
use crate::query::{Filter, Listing, MessageQuery, Page, Place};
use crate::store::{Appended, MessageStore, Seq};
use crate::text_query::TextQuery;
use crate::time::ExactTime;

/// Rounds of appends and queries.
const ROUNDS: u64 = 12;

/// Appends of a round.
const APPENDS: usize = 12;

/// Queries of a round, half of them walks from page to page.
const QUERIES: usize = 40;

/// Pages of a walk at most.
const WALK_PAGES_MAX: usize = 6;

const IDS: [&str; 12] = ["a", "A", "b", "ab", "aB", "é", "e\u{301}", "z", "10", "9", "\u{ffee}", "\u{10000}"];
const SENDERS: [&str; 5] = ["+1", "+12", "+2", "+30", "+9"];
const TEXTS: [&str; 12] = [
    "",
    "a",
    "Order",
    "ORDER arrived",
    "Straße",
    "STRASSE",
    "ΟΔΟΣ",
    "οδος",
    "100%_\\",
    "'\"*",
    "x\u{0}y",
    "no order here",
];
const NEEDLES: [&str; 11] = ["", "o", "rd", "order", "ss", "STRASSE", "οδος", "%", "_", "\u{0}", "nowhere"];

/// SplitMix64 (Steele, Lea and Flood, 2014): the same numbers in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % n as u64).expect("it is less than n")
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }

    fn time(&mut self) -> String {
        let second = self.below(4);
        let fraction = match self.below(4) {
            0 => String::new(),
            1 => format!(".{}", self.below(10)),
            2 => format!(".000000{:03}", self.below(3)),
            _ => format!(".0000000000{:04}", self.below(3)),
        };
        format!("2025-01-15T10:00:0{second}{fraction}Z")
    }

    fn sample(&mut self) -> Sample {
        let id = format!("{}{}", self.of(&IDS), self.below(20));
        let mut sample = Sample::id(&id).from(self.of(&SENDERS)).ts(&self.time());
        sample.text = (self.below(5) > 0).then(|| self.of(&TEXTS).to_owned());
        if self.below(6) == 0 {
            sample.source = "billing".to_owned();
        }
        sample
    }

    fn filter(&mut self) -> Filter {
        Filter {
            sender: (self.below(3) == 0).then(|| self.of(&SENDERS).to_owned()),
            since: (self.below(3) == 0).then(|| ExactTime::parse_utc(&self.time()).expect("a time")),
            text: (self.below(3) == 0).then(|| TextQuery::new(self.of(&NEEDLES))),
        }
    }
}

/// The ranks of places: 1, 2, ... in order of arrival.
#[derive(Default)]
struct Ranks {
    ranks: HashMap<Seq, i64>,
    last: Option<Seq>,
}

impl Ranks {
    /// Takes the answer to a message; returns it with its rank in place of its place.
    fn ranked(&mut self, appended: Appended) -> Appended {
        match appended {
            Appended::Stored(seq) => {
                assert!(self.last < Some(seq), "{seq:?} is not after {:?}", self.last);
                self.last = Some(seq);
                let rank = i64::try_from(self.ranks.len()).expect("some hundred") + 1;
                self.ranks.insert(seq, rank);
                Appended::Stored(Seq(rank))
            }
            Appended::Existing { seq, digest } => Appended::Existing { seq: self.rank(seq), digest },
        }
    }

    fn rank(&self, seq: Seq) -> Seq {
        Seq(*self.ranks.get(&seq).unwrap_or_else(|| panic!("no message was stored at {seq:?}")))
    }

    fn listing(&self, mut listing: Listing) -> Listing {
        for message in &mut listing.messages {
            message.seq = self.rank(message.seq);
        }
        listing.next = listing.next.map(|place| Place { seq: self.rank(place.seq), ..place });
        listing
    }
}

pub(super) async fn a_store_answers_as_the_reference_model_does(stores: &dyn Stores) {
    let handles = [stores.open(), stores.open()];
    let model = MemoryStore::default();
    let mut random = Random(1);
    let (mut ranks, mut model_ranks) = (Ranks::default(), Ranks::default());
    for _ in 0..ROUNDS {
        for _ in 0..APPENDS {
            let messages: Vec<_> = (0..=random.below(4)).map(|_| random.sample().message()).collect();
            let want = model.append(messages.clone()).await.expect("append");
            let got = random.of(&[&handles[0], &handles[1]]).append(messages).await.expect("append");
            let want: Vec<Appended> = want.into_iter().map(|appended| model_ranks.ranked(appended)).collect();
            let got: Vec<Appended> = got.into_iter().map(|appended| ranks.ranked(appended)).collect();
            assert_eq!(got, want);
        }
        for n in 0..QUERIES {
            let store = random.of(&[&handles[0], &handles[1]]);
            let filter = random.filter();
            let limit = u16::try_from(1 + random.below(20)).expect("it is small");
            let mut page = Page::at(limit, random.below(60) as u64);
            let mut model_page = page.clone();
            for _ in 0..if n % 2 == 0 { 1 } else { WALK_PAGES_MAX } {
                let want = model.list(&filter, &model_page).await.expect("list");
                let got = store.list(&filter, &page).await.expect("list");
                let (next, model_next) = (got.next.clone(), want.next.clone());
                assert_eq!(ranks.listing(got), model_ranks.listing(want), "{filter:?} {model_page:?}");
                let (Some(next), Some(model_next)) = (next, model_next) else { break };
                page = Page::after(limit, next);
                model_page = Page::after(limit, model_next);
            }
        }
        let (got, want) = (handles[0].stats().await.expect("stats"), model.stats().await.expect("stats"));
        assert_eq!(got, want);
    }
}
