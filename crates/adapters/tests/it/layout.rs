//! The layout of the store must not show: messages are found the same, and stay unique, whether they are in the indexes, on
//! their way there, or waiting; kept, or expired.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use adapters::digest::sha256;
use adapters::sqlite::{self, Doomed, Expiry, SqliteOptions, SqliteStore};
use domain::contract::Sample;
use domain::event::StoreEvent;
use domain::memory::MemoryStore;
use domain::message::{MessageId, NewMessage};
use domain::query::{Filter, MessageQuery, Page};
use domain::retention::{MessageExpiry, Retention};
use domain::store::{Appended, MessageStore, Seq, StoreErrorKind};
use domain::text_query::TextQuery;
use domain::time::{ExactTime, Timestamp};
use rusqlite::Connection;

use crate::sqlite::{open, options};

/// Of the n-th message: ids at random, times in order but for some, few senders, texts with the number in it.
fn sample(n: u64) -> Sample {
    let mixed = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let at = if n % 50 == 7 { mixed % 86_400 } else { n / 10 % 86_400 };
    let ts = format!("2025-01-{:02}T{:02}:{:02}:{:02}Z", 1 + n / 50_000, at / 3600, at / 60 % 60, at % 60);
    Sample::id(&format!("{mixed:x}"))
        .from(&format!("+{}", mixed % 13))
        .ts(&ts)
        .text((!n.is_multiple_of(3)).then(|| format!("Order {n} has ARRIVED")).as_deref())
}

fn message(n: u64) -> NewMessage {
    let mut message = sample(n).message();
    message.received_at = Timestamp::from_micros(i64::try_from(n).unwrap());
    message.verified.body_digest = sha256(&message.body);
    message
}

async fn append(stores: &[&dyn MessageStore], ns: std::ops::Range<u64>) {
    let ns: Vec<u64> = ns.collect();
    for ns in ns.chunks(500) {
        for store in stores {
            store.append(ns.iter().map(|n| message(*n)).collect()).await.unwrap();
        }
    }
}

/// Every filter there is, near and far.
fn questions() -> Vec<(Filter, Page)> {
    let sender = |s: &str| Some(s.to_owned());
    let since = |s: &str| Some(ExactTime::parse_utc(s).unwrap());
    let text = |s: &str| Some(TextQuery::new(s));
    let mut questions = Vec::new();
    for sender in [None, sender("+1"), sender("+99")] {
        for since in [None, since("2025-01-01T00:13:20.5Z")] {
            for text in [None, text("arrived"), text("order 77"), text("7")] {
                let filter = Filter { sender: sender.clone(), since: since.clone(), text };
                let offsets = if filter.text.is_none() { &[0, 4_321, 9_990, u64::MAX][..] } else { &[120] };
                questions.extend(offsets.iter().map(|offset| (filter.clone(), Page::at(30, *offset))));
            }
        }
    }
    questions
}

async fn compare(store: &SqliteStore, model: &MemoryStore) {
    for (filter, page) in questions() {
        let want = model.list(&filter, &page).await.unwrap();
        assert_eq!(store.list(&filter, &page).await.unwrap(), want, "{filter:?} {page:?}");
        if let Some(place) = want.next {
            let page = Page::after(7, place);
            let want = model.list(&filter, &page).await.unwrap();
            assert_eq!(store.list(&filter, &page).await.unwrap(), want, "{filter:?} {page:?}");
        }
    }
    assert_eq!(store.stats().await.unwrap(), model.stats().await.unwrap());
}

/// Asserts that a check finds no problem in the database, and this many messages.
fn assert_sound(path: &Path, n_messages: u64) {
    let report = sqlite::check(path).unwrap();
    assert!(report.is_ok() && report.messages == n_messages, "{report}");
}

fn indexed_seq(path: &Path) -> i64 {
    let db = Connection::open(path).unwrap();
    db.query_row("SELECT indexed_seq FROM totals", [], |row| row.get(0)).unwrap()
}

fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::yield_now();
    }
}

/// Has the store index all that it has: what may expire is indexed first, and nothing is so old.
pub(crate) async fn index_all(store: &SqliteStore, path: &Path) {
    store.expire_to(Expiry { messages_to: Seq(0), keys_to: None }).await.unwrap();
    let last_seq = i64::try_from(store.stats().await.unwrap().total_messages).unwrap();
    wait_until("all messages are indexed", || indexed_seq(path) == last_seq);
}

fn wait_until_searched(path: &Path, last_seq: i64) {
    let index = Connection::open(path.with_extension("db-search")).unwrap();
    index.busy_timeout(Duration::from_secs(5)).unwrap();
    wait_until("all texts are indexed", || {
        let seq: i64 = index.query_row("SELECT searched_seq FROM progress", [], |row| row.get(0)).unwrap();
        seq == last_seq
    });
}

/// Goal: where a message is in the layout makes no difference to an answer. Method: so many that some are
/// waiting, some in a run under way, and some indexed; the same after a start, and when all are indexed.
#[tokio::test]
async fn indexed_or_not_the_answers_are_those_of_the_model() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    let (store, model) = (open(&path), MemoryStore::default());
    append(&[&store, &model], 1..17_001).await;
    compare(&store, &model).await;
    assert_eq!(indexed_seq(&path), 0, "the first run is under way");
    append(&[&store, &model], 17_001..32_001).await;
    compare(&store, &model).await;
    assert_eq!(indexed_seq(&path), 16_383, "it was published");
    store.close().await;
    assert_sound(&path, 32_000);
    let store = open(&path);
    append(&[&store, &model], 32_001..32_101).await;
    compare(&store, &model).await;
    index_all(&store, &path).await;
    wait_until_searched(&path, 32_100);
    compare(&store, &model).await;
    store.close().await;
    assert_sound(&path, 32_100);
}

/// Goal: while messages expire, when no ranking is kept, the busiest senders are those of all messages, and it is
/// made anew afterwards. Method: it is taken away.
#[tokio::test]
async fn without_a_ranking_the_busiest_senders_are_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    let (store, model) = (open(&path), MemoryStore::default());
    append(&[&store, &model], 1..2_001).await;
    index_all(&store, &path).await;
    append(&[&store, &model], 2_001..2_501).await;
    let db = Connection::open(&path).unwrap();
    db.execute_batch("DELETE FROM top_senders; UPDATE totals SET is_ranked = 0").unwrap();
    assert_eq!(store.stats().await.unwrap(), model.stats().await.unwrap());
    append(&[&store, &model], 2_501..2_601).await;
    assert!(db.query_row("SELECT is_ranked FROM totals", [], |row| row.get::<_, bool>(0)).unwrap());
    assert_eq!(store.stats().await.unwrap(), model.stats().await.unwrap());
    store.close().await;
    assert_sound(&path, 2_600);
}

/// Goal: a message is a duplicate wherever the first one is: in the tail, in a run, in the ledger of this segment
/// or of an older one; and after a start.
#[tokio::test]
async fn a_message_is_unique_in_every_part_of_the_store() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    let store = open(&path);
    append(&[&store], 1..70_001).await;
    let again = async |store: &SqliteStore| {
        for n in (1..70_001).step_by(371).chain(69_000..70_001) {
            let answer = store.append(vec![message(n)]).await.unwrap();
            let want = Appended::Existing {
                seq: Seq(i64::try_from(n).unwrap()),
                digest: Some(message(n).verified.body_digest),
            };
            assert_eq!(answer, [want]);
        }
    };
    again(&store).await;
    store.close().await;
    let store = open(&path);
    again(&store).await;
    assert_eq!(store.stats().await.unwrap().total_messages, 70_000);
    store.close().await;
    assert_sound(&path, 70_000);
}

/// Goal: a second writer, which nobody should start, loses and doubles nothing. Method: two stores of one database
/// in turns, each with messages that the other has stored.
#[tokio::test]
async fn what_another_writer_stored_is_seen() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    let (one, other) = (open(&path), open(&path));
    for n in 0..20 {
        let messages = || (n * 400..n * 400 + 500).map(message).collect::<Vec<_>>();
        let (first, second) = if n % 2 == 0 { (&one, &other) } else { (&other, &one) };
        let stored = first.append(messages()).await.unwrap();
        let n_stored = stored.iter().filter(|a| matches!(a, Appended::Stored(_))).count();
        assert_eq!(n_stored, if n == 0 { 500 } else { 400 });
        let again = second.append(messages()).await.unwrap();
        assert!(again.iter().all(|a| matches!(a, Appended::Existing { .. })));
    }
    assert_eq!(one.stats().await.unwrap().total_messages, 8_100);
    one.close().await;
    other.close().await;
    assert_sound(&path, 8_100);
}

/// Goal: what another program writes into tables of its own (Litestream does) costs the writer nothing, nor does a
/// lock that it could not have. Method: the run under way goes on, which an earlier version began anew each time, so
/// that nothing was ever indexed.
#[tokio::test]
async fn what_another_program_writes_does_not_begin_the_run_anew() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    let store = open(&path);
    append(&[&store], 1..17_001).await;
    let other = Connection::open(&path).unwrap();
    other.execute_batch("CREATE TABLE others (n)").unwrap();
    for n in 34..62 {
        append(&[&store], n * 500 + 1..(n + 1) * 500 + 1).await;
        other.execute("INSERT INTO others VALUES (?1)", [n]).unwrap();
    }
    assert_eq!(indexed_seq(&path), 16_383, "the first run was published");
    append(&[&store], 31_001..40_001).await;
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let error = store.append(vec![message(40_001)]).await.unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Busy);
    other.execute_batch("COMMIT").unwrap();
    append(&[&store], 40_001..47_001).await;
    assert_eq!(indexed_seq(&path), 32_767, "the second one was");
    store.close().await;
    assert_sound(&path, 47_000);
}

/// Goal: what has expired is gone from every answer, and its key is not: a late repeat is a duplicate. Method: the
/// model has only what is kept.
#[tokio::test]
async fn what_has_expired_is_gone_but_stays_a_duplicate() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    let (store, model) = (open(&path), MemoryStore::default());
    append(&[&store], 1..9_001).await;
    append(&[&model], 7_001..9_001).await;
    index_all(&store, &path).await;
    append(&[&store, &model], 9_001..9_101).await;
    wait_until_searched(&path, 9_100);
    store.expire_to(Expiry { messages_to: Seq(7_000), keys_to: None }).await.unwrap();
    wait_until("all that expired is removed", || has_expired(&path, 7_000));
    for n in [1, 4_096, 4_097, 7_000] {
        let answer = store.append(vec![message(n)]).await.unwrap();
        assert!(matches!(answer[..], [Appended::Existing { digest: None, .. }]), "{answer:?}");
    }
    let answer = store.append(vec![message(7_001)]).await.unwrap();
    assert!(matches!(answer[..], [Appended::Existing { digest: Some(_), .. }]), "{answer:?}");
    compare_but_for_seq(&store, &model).await;
    store.close().await;
    assert_sound(&path, 2_100);

    let store = open(&path);
    assert!(matches!(store.append(vec![message(1)]).await.unwrap()[..], [Appended::Existing { .. }]));
    assert!(matches!(store.append(vec![message(9_101)]).await.unwrap()[..], [Appended::Stored(_)]));
    store.close().await;
}

/// The few messages of a quiet inbox are in no index, and expire all the same.
#[tokio::test]
async fn a_handful_of_messages_expires_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    let (store, model) = (open(&path), MemoryStore::default());
    append(&[&store], 1..21).await;
    append(&[&model], 11..21).await;
    store.expire_to(Expiry { messages_to: Seq(10), keys_to: None }).await.unwrap();
    wait_until("all that expired is removed", || has_expired(&path, 10));
    compare_but_for_seq(&store, &model).await;
    store.close().await;
    assert_sound(&path, 10);
}

/// Returns true if all messages up to this place have expired, and the senders are ranked again.
fn has_expired(path: &Path, seq: i64) -> bool {
    let db = Connection::open(path).unwrap();
    let row = db.query_row("SELECT purged_seq, is_ranked FROM totals", [], |row| {
        Ok((row.get::<_, i64>(0)?, row.get::<_, bool>(1)?))
    });
    row.unwrap() == (seq, true)
}

/// The model counts places from its own first message.
async fn compare_but_for_seq(store: &SqliteStore, model: &MemoryStore) {
    for (filter, page) in questions() {
        let (got, want) =
            (store.list(&filter, &page).await.unwrap(), model.list(&filter, &page).await.unwrap());
        assert_eq!(got.total, want.total, "{filter:?} {page:?}");
        let ids = |listing: &domain::query::Listing| -> Vec<String> {
            listing.messages.iter().map(|m| m.key.message_id.as_str().to_owned()).collect()
        };
        assert_eq!(ids(&got), ids(&want), "{filter:?} {page:?}");
    }
    assert_eq!(store.stats().await.unwrap(), model.stats().await.unwrap());
}

/// Goal: keys are kept no shorter than asked for, and then they are gone: their memory and disk are bounded.
#[tokio::test]
async fn a_key_expires_with_the_last_of_its_segment() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    let store = open(&path);
    append(&[&store], 1..70_001).await;
    let n_keys = || {
        let db = Connection::open(&path).unwrap();
        let row = db.query_row("SELECT count(*), min(seq) FROM message_keys", [], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?))
        });
        row.unwrap()
    };
    index_all(&store, &path).await;
    // The last of the first segment is kept.
    store.expire_to(Expiry { messages_to: Seq(67_999), keys_to: Some(Seq(65_534)) }).await.unwrap();
    wait_until("messages are removed", || has_expired(&path, 67_999));
    assert_eq!(n_keys().1, 1, "no key has expired");
    store.expire_to(Expiry { messages_to: Seq(68_999), keys_to: Some(Seq(70_000)) }).await.unwrap();
    wait_until("messages are removed", || has_expired(&path, 68_999));
    wait_until("the first segment's keys are removed", || n_keys().1 == 65_536);
    // As far as the store can tell, it is new.
    assert!(matches!(store.append(vec![message(1)]).await.unwrap()[..], [Appended::Stored(_)]));
    assert!(matches!(store.append(vec![message(65_536)]).await.unwrap()[..], [Appended::Existing { .. }]));
    store.close().await;
    assert_sound(&path, 1_002);
}

/// Goal: while keys expire alone, because they are kept for less long than was asked before, the ranking is kept up.
/// Method: a new busiest sender comes in meanwhile. It was left out until the end, and then the one before stayed
/// beside it.
#[tokio::test]
async fn a_new_busiest_sender_is_seen_while_keys_expire_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    let (store, model) = (open(&path), MemoryStore::default());
    append(&[&store], 1..70_001).await;
    append(&[&model], 68_000..70_001).await;
    store.expire_to(Expiry { messages_to: Seq(67_999), keys_to: None }).await.unwrap();
    wait_until("messages are removed", || has_expired(&path, 67_999));
    assert_eq!(store.stats().await.unwrap(), model.stats().await.unwrap());

    store.expire_to(Expiry { messages_to: Seq(67_999), keys_to: Some(Seq(67_999)) }).await.unwrap();
    let of_one = |n: u64| {
        let mut message = sample(n).from("+4711").message();
        message.received_at = Timestamp::from_micros(i64::try_from(n).unwrap());
        message.verified.body_digest = sha256(&message.body);
        message
    };
    for ns in [70_001..70_301, 70_301..71_001] {
        for store in [&store as &dyn MessageStore, &model] {
            store.append(ns.clone().map(of_one).collect()).await.unwrap();
        }
        assert_eq!(store.stats().await.unwrap(), model.stats().await.unwrap());
    }
    wait_until("the first segment's keys are removed", || {
        let db = Connection::open(&path).unwrap();
        db.query_row("SELECT count(*) FROM message_keys WHERE segment = 0", [], |row| row.get::<_, i64>(0))
            .unwrap()
            == 0
    });
    store.append(vec![of_one(71_001)]).await.unwrap();
    model.append(vec![of_one(71_001)]).await.unwrap();
    assert_eq!(store.stats().await.unwrap(), model.stats().await.unwrap());
    store.close().await;
    assert_sound(&path, 3_002);
}

const HOUR: Duration = Duration::from_secs(3600);

fn at_hour(hour: u32) -> Timestamp {
    Timestamp::from_micros(1_700_000_000_000_000 + i64::try_from((HOUR * hour).as_micros()).unwrap())
}

/// Reads the clock every hour, with messages kept for ten days.
async fn keep(store: &SqliteStore, hours: std::ops::Range<u32>) {
    for hour in hours {
        store.expire(Retention { messages: Some(240 * HOUR), keys: None }, at_hour(hour)).await.unwrap();
    }
}

/// Goal: what expires goes by when the server saw that it was there, whatever a wrong clock stamped it with. Method: one
/// message of 2038, whose stamp kept all later ones from going; some of 1970, which went at once.
#[tokio::test]
async fn a_wrong_stamp_neither_keeps_messages_nor_removes_them() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    let store = open(&path);
    keep(&store, 0..25).await;
    let mut of_2038 = message(1);
    of_2038.received_at = Timestamp::from_micros(2_145_916_800_000_000);
    store.append(vec![of_2038]).await.unwrap();
    append(&[&store], 2..11).await;
    keep(&store, 25..30).await;
    append(&[&store], 11..21).await;
    keep(&store, 30..265).await;
    assert_eq!(store.stats().await.unwrap().total_messages, 20, "ten days are not over");
    keep(&store, 265..266).await;
    wait_until("the first ten are removed", || has_expired(&path, 10));
    keep(&store, 266..270).await;
    assert_eq!(store.stats().await.unwrap().total_messages, 10);
    keep(&store, 270..271).await;
    wait_until("the others are removed", || has_expired(&path, 20));
    store.close().await;
    assert_sound(&path, 0);
}

/// Goal: a start with a clock that is years ahead, or one that was years behind until then, removes nothing: what it
/// jumped over is not counted. Removing goes on when the clock is set right, or has gone on for a day.
#[tokio::test]
async fn what_a_clock_jumped_over_does_not_count() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    let (tell, told) = std::sync::mpsc::channel();
    let on_event = Arc::new(move |event| tell.send(event).unwrap());
    let store = SqliteStore::open(SqliteOptions { on_event, ..options(&path) }).unwrap();
    assert!(matches!(told.recv().unwrap(), StoreEvent::StartGoesOn));
    append(&[&store], 1..11).await;
    keep(&store, 0..30).await;
    assert!(matches!(told.recv().unwrap(), StoreEvent::ClockSettled));
    let year = 365 * 24;
    keep(&store, year..year + 20).await;
    let event = told.recv().unwrap();
    let is_jump =
        matches!(event, StoreEvent::ClockJumped { from, to } if from == at_hour(29) && to == at_hour(year));
    assert!(is_jump, "{event:?}");
    keep(&store, 31..33).await;
    keep(&store, year..year + 23).await;
    let event = told.recv().unwrap();
    assert!(matches!(event, StoreEvent::ClockJumped { .. }), "{event:?}");
    assert_eq!(store.stats().await.unwrap().total_messages, 10);
    append(&[&store], 11..21).await;
    keep(&store, year + 23..year + 25).await;
    assert!(matches!(told.recv().unwrap(), StoreEvent::ClockSettled));
    // The first ten were noted in hour 24, which is eight hours before the jump.
    keep(&store, year + 25..year + 232).await;
    assert_eq!(store.stats().await.unwrap().total_messages, 20, "ten days are not over");
    keep(&store, year + 232..year + 233).await;
    wait_until("those from before the jump are removed", || has_expired(&path, 10));
    assert_eq!(store.stats().await.unwrap().total_messages, 10, "the others came in later");
    store.close().await;
    let events: Vec<StoreEvent> = told.try_iter().collect();
    assert!(
        matches!(
            events[..],
            [StoreEvent::Expired { messages: 10, keys: 0 }, StoreEvent::Purged { messages: 10, .. }]
        ),
        "{events:?}"
    );
    assert_sound(&path, 10);
}

/// Messages of an older version have no notes: their stamps count, but for those from the future.
#[tokio::test]
async fn messages_of_an_older_version_expire_by_their_stamps() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    let store = open(&path);
    for n in 1..31_u32 {
        let mut message = message(u64::from(n));
        message.received_at = if n == 5 { at_hour(999_999) } else { at_hour(n) };
        store.append(vec![message]).await.unwrap();
    }
    Connection::open(&path).unwrap().execute("UPDATE clock SET stamped_seq = 30", []).unwrap();
    keep(&store, 230..255).await;
    wait_until("those that came ten days before are removed", || has_expired(&path, 14));
    store.close().await;
    assert_sound(&path, 16);
}

/// Goal: however fast messages come in, what has expired goes faster: a load that goes on for ever fills no disk.
/// Method: what one commit of 500 messages removes. It was 16.
#[tokio::test]
async fn a_commit_removes_more_than_it_stores() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    let (tell, told) = std::sync::mpsc::channel();
    let on_event = Arc::new(move |event| {
        if let StoreEvent::Expired { messages, .. } = event {
            tell.send(messages).unwrap();
        }
    });
    let store = SqliteStore::open(SqliteOptions { on_event, ..options(&path) }).unwrap();
    append(&[&store], 1..5_001).await;
    index_all(&store, &path).await;
    store.expire_to(Expiry { messages_to: Seq(5_000), keys_to: None }).await.unwrap();
    // What is waiting already is taken before there is time for chores.
    for n in 0..6 {
        store.append((5_001 + n * 500..5_501 + n * 500).map(message).collect()).await.unwrap();
    }
    wait_until("all are removed", || has_expired(&path, 5_000));
    assert_eq!(told.try_iter().max(), Some(625));
    store.close().await;
    assert_sound(&path, 3_000);
}

/// Goal: deleted messages are gone wherever they were, in the tail, in a run under way or in the indexes, while the
/// store is open; their keys are not. A deletion that was cut off is finished by the next one. Method: of all
/// messages, those of one sender go, in several transactions; the model never had them.
#[tokio::test]
async fn what_is_deleted_is_gone_from_every_part_of_the_store_and_stays_a_duplicate() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    let (store, model) = (open(&path), MemoryStore::default());
    let is_kept = |n: u64| sample(n).from != "+3";
    let append_kept = async |ns: std::ops::Range<u64>| {
        model.append(ns.filter(|n| is_kept(*n)).map(message).collect()).await.unwrap();
    };
    append(&[&store], 1..40_001).await;
    append_kept(1..40_001).await;
    assert_eq!(indexed_seq(&path), 16_383, "some are indexed, and a run is under way");
    let doomed = Doomed::Sender("+3".to_owned());
    let cut_off = std::panic::catch_unwind(|| {
        sqlite::delete(&path, &doomed, &mut |_| panic!("the process is killed after the first transaction"))
    });
    assert!(cut_off.is_err());
    let n_left = store.stats().await.unwrap().total_messages;
    let deleted = sqlite::delete(&path, &doomed, &mut |_| ()).unwrap();
    assert_eq!(
        (deleted.left_before, deleted.messages),
        (40_000 - n_left, n_left - model.stats().await.unwrap().total_messages)
    );
    assert!(deleted.left_before > 0 && deleted.messages > 1_000, "{deleted:?}");
    assert_eq!(store.stats().await.unwrap(), model.stats().await.unwrap());
    for (sender, text) in [(Some("+3"), None), (Some("+4"), None), (None, Some("order 77")), (None, None)] {
        let text = text.map(TextQuery::new);
        let filter = Filter { sender: sender.map(str::to_owned), text, ..Filter::default() };
        let (got, want) = (
            store.list(&filter, &Page::at(100, 900)).await.unwrap(),
            model.list(&filter, &Page::at(100, 900)).await.unwrap(),
        );
        assert_eq!((got.total, got.messages.len()), (want.total, want.messages.len()), "{filter:?}");
        let pairs = got.messages.iter().zip(&want.messages);
        assert!(pairs.clone().all(|(got, want)| got.key == want.key), "{filter:?}");
    }

    append(&[&store], 40_001..41_001).await;
    append_kept(40_001..41_001).await;
    let one = Doomed::Message(MessageId::parse(sample(40_500).id).unwrap());
    assert!(is_kept(40_500));
    assert_eq!(sqlite::delete(&path, &one, &mut |_| ()).unwrap().messages, 1);
    assert_eq!(
        sqlite::delete(&path, &one, &mut |_| ()).unwrap().messages,
        0,
        "a second time there is nothing"
    );
    let doomed_ns: Vec<u64> = (1..40_001).filter(|n| !is_kept(*n)).step_by(97).chain([40_500]).collect();
    let are_duplicates = async |store: &SqliteStore| {
        for n in &doomed_ns {
            let answer = store.append(vec![message(*n)]).await.unwrap();
            assert!(matches!(answer[..], [Appended::Existing { digest: None, .. }]), "{n}: {answer:?}");
        }
    };
    are_duplicates(&store).await;
    index_all_but_deleted(&store, &path).await;
    are_duplicates(&store).await;
    store.close().await;
    let n_messages = model.stats().await.unwrap().total_messages
        + (40_001..41_001).filter(|n| !is_kept(*n)).count() as u64
        - 1;
    assert_sound(&path, n_messages);

    let store = open(&path);
    are_duplicates(&store).await;
    assert_eq!(store.stats().await.unwrap().total_messages, n_messages);
    store.close().await;
}

async fn index_all_but_deleted(store: &SqliteStore, path: &Path) {
    store.expire_to(Expiry { messages_to: Seq(0), keys_to: None }).await.unwrap();
    wait_until("all messages are indexed", || indexed_seq(path) == 41_000);
}

/// Goal: an index of texts that is not of this database is not believed. Method: it is put beside another one.
#[tokio::test]
async fn an_index_of_texts_of_another_database_is_made_anew() {
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (path, other) = (folder.path().join("app.db"), other.path().join("app.db"));
    for (path, ns) in [(&path, 1..2_001), (&other, 3_001..6_001)] {
        let store = open(path);
        append(&[&store], ns.clone()).await;
        wait_until_searched(path, i64::try_from(ns.count()).unwrap());
        store.close().await;
    }
    let index = |path: &Path| path.with_extension("db-search");
    for damaged in [false, true] {
        for suffix in ["", "-wal", "-shm"] {
            let file = |path: &Path| format!("{}{suffix}", index(path).display());
            let _ = std::fs::remove_file(file(&path));
            let _ = std::fs::copy(file(&other), file(&path));
        }
        if damaged {
            std::fs::write(index(&path), "Dear diary. ".repeat(1000)).unwrap();
        }
        let store = open(&path);
        wait_until_searched(&path, 2_000);
        let filter = Filter { text: Some(TextQuery::new("order 1234 HAS")), ..Filter::default() };
        let found = store.list(&filter, &Page::at(10, 0)).await.unwrap();
        let ids: BTreeSet<&str> = found.messages.iter().map(|m| m.key.message_id.as_str()).collect();
        assert_eq!((found.total, ids), (1, BTreeSet::from([sample(1234).id.as_str()])));
        store.close().await;
    }
}

/// Goal: a database of an older version becomes one of this version with all that it held. Method: its schema, and what
/// this version had at the same point, in the older one's form.
#[tokio::test]
async fn a_database_of_an_older_version_is_brought_up_to_date() {
    const N_MESSAGES: u64 = 40_000;
    let folder = tempfile::tempdir().unwrap();
    let current = folder.path().join("current.db");
    let (store, model) = (open(&current), MemoryStore::default());
    append(&[&store, &model], 1..N_MESSAGES + 1).await;
    store.close().await;
    assert_eq!(indexed_seq(&current), 16_383, "some are indexed, and a run is under way");

    let of_version_1 = "
        INSERT INTO messages SELECT * FROM current.messages;
        INSERT INTO senders SELECT sender, count(*) FROM current.messages GROUP BY sender;
        INSERT INTO top_senders SELECT * FROM current.top_senders;
        UPDATE totals SET (message_count, sender_count) =
            (SELECT message_count, sender_count FROM current.totals);";
    let of_version_2 = "
        INSERT INTO message_keys SELECT * FROM current.message_keys;
        INSERT INTO messages_by_time SELECT * FROM current.messages_by_time;
        INSERT INTO messages_by_sender SELECT * FROM current.messages_by_sender;
        INSERT INTO time_counts SELECT * FROM current.time_counts;
        UPDATE totals SET (last_seq, indexed_seq) = (SELECT last_seq, indexed_seq FROM current.totals);";
    for version in [1, 2] {
        let path = folder.path().join(format!("version-{version}.db"));
        let db = Connection::open(&path).unwrap();
        db.execute_batch(include_str!("../../../../migrations/sqlite/V1__inbox.sql")).unwrap();
        if version == 2 {
            db.execute_batch(include_str!("../../../../migrations/sqlite/V2__sorted_runs.sql")).unwrap();
        }
        db.execute("ATTACH ?1 AS current", [current.to_str()]).unwrap();
        db.execute_batch(of_version_1).unwrap();
        if version == 2 {
            db.execute_batch(of_version_2).unwrap();
        }
        db.execute_batch(&format!(
            "CREATE TABLE refinery_schema_history AS \
             SELECT * FROM current.refinery_schema_history WHERE version <= {version}"
        ))
        .unwrap();
        drop(db);
        let report = sqlite::check(&path).unwrap();
        assert!(report.is_ok(), "it is sound as it is: {report}");

        let store = open(&path);
        compare(&store, &model).await;
        assert!(matches!(store.append(vec![message(1)]).await.unwrap()[..], [Appended::Existing { .. }]));
        store.close().await;
        assert_sound(&path, N_MESSAGES);
    }
}
