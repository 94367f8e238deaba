//! Queries that take from each other, and from the writer.

#![expect(clippy::print_stdout, reason = "what a long run has found, which is shown with --nocapture")]

use std::cell::Cell;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use domain::contract::Sample;
use domain::query::{Filter, MessageQuery, Page};
use domain::store::{MessageStore, StoreErrorKind};
use domain::text_query::TextQuery;
use domain::usage::StoreUsage;
use futures_util::FutureExt;
use futures_util::future::{join, join_all};
use rusqlite::Connection;

use crate::sqlite::open;

/// Messages with texts so long that to look through 2,000 of them takes some tens of milliseconds.
async fn append_long_texts(store: &impl MessageStore, n_messages: usize) {
    let text = "x".repeat(4_000);
    for n in 0..n_messages / 200 {
        let sample = |m| Sample::id(&format!("{n}-{m}")).text(Some(&text)).message();
        store.append((0..200).map(sample).collect()).await.unwrap();
    }
}

async fn append_mebibyte(store: &impl MessageStore, n: usize) {
    let mut message = Sample::id(&format!("large{n}")).text(None).message();
    message.body = vec![b'x'; 1 << 20].into();
    store.append(vec![message]).await.unwrap();
}

/// A question that looks through every text.
fn search() -> Filter {
    Filter { text: Some(TextQuery::new("y")), ..Filter::default() }
}

/// Goal: whoever searches does not shut out others. Method: many searches wait when a look-up comes.
#[tokio::test]
async fn a_look_up_does_not_wait_for_searches() {
    const N_SEARCHES: usize = 40;
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder.path().join("app.db"));
    append_long_texts(&store, 2_000).await;
    let n_searched = Cell::new(0);
    let searches = join_all((0..N_SEARCHES).map(async |_| {
        // It may have waited for too long.
        let _ = store.list(&search(), &Page::at(1, 0)).await;
        n_searched.set(n_searched.get() + 1);
    }));
    let look_ups = async {
        store.stats().await.unwrap();
        let since = Filter {
            since: Some(Sample::id("m").message().content.sent_at.time().clone()),
            ..Filter::default()
        };
        for filter in
            [Filter::default(), Filter { sender: Some("+1".to_owned()), ..Filter::default() }, since]
        {
            store.list(&filter, &Page::at(1, 0)).await.unwrap();
        }
        n_searched.get()
    };
    let (_, n_searched_before) = join(searches, look_ups).await;
    assert!(n_searched_before < N_SEARCHES / 2, "{n_searched_before} searches were answered first");
    store.close().await;
}

/// From now on a question about a sender ends with its time only: it goes through all segments.
fn make_sender_questions_endless(path: &Path) {
    let db = Connection::open(path).unwrap();
    db.execute("UPDATE totals SET indexed_seq = 1 << 60", []).unwrap();
}

/// Goal: whoever hangs up takes nothing from others. Method: as many searches as there are turns, which would take ten
/// seconds each. They are begun, and then nobody waits for them.
#[tokio::test]
async fn a_search_that_nobody_waits_for_gives_its_turn_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    let store = open(&path);
    store.append(vec![Sample::id("m1").from("+1").message()]).await.unwrap();
    make_sender_questions_endless(&path);
    let endless = Filter { sender: Some("+1".to_owned()), ..search() };
    for _ in 0..3 {
        let page = Page::at(1, 0);
        let mut searches = join_all((0..4).map(|_| store.list(&endless, &page))).boxed_local();
        assert!((&mut searches).now_or_never().is_none(), "they are under way");
        drop(searches);
        store.list(&search(), &page).await.unwrap();
    }
    store.close().await;
}

/// Mebibytes that are written while questions overlap: `LOG_MEBIBYTES`, or what every test run has time for. The more,
/// the longer the questions take, too.
const LOG_MEBIBYTES: usize = 160;

/// Most MiB of the log, with a commit that is larger than usual; and while queries end within a moment.
const LOG_MEBIBYTES_MAX: u64 = 256 + 16;
const SHORT_LOG_MEBIBYTES_MAX: u64 = 128;

/// Goal: questions that overlap, so that somebody reads at every moment, do not make the log grow without end. Method:
/// more of them than there are turns, all the time that messages come in.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_is_bounded_while_questions_overlap() {
    let (mebibytes, mebibytes_max) = match std::env::var("LOG_MEBIBYTES") {
        Ok(mebibytes) => (mebibytes.parse().unwrap(), LOG_MEBIBYTES_MAX),
        Err(_) => (LOG_MEBIBYTES, SHORT_LOG_MEBIBYTES_MAX),
    };
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(open(&folder.path().join("app.db")));
    append_long_texts(&*store, mebibytes * 10).await;

    let (is_over, n_answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let searches = (0..6).map(|_| {
        let (store, is_over, n_answered) =
            (Arc::clone(&store), Arc::clone(&is_over), Arc::clone(&n_answered));
        tokio::spawn(async move {
            while !is_over.load(Ordering::Relaxed) {
                match store.list(&search(), &Page::at(1, 0)).await {
                    Ok(_) => drop(n_answered.fetch_add(1, Ordering::Relaxed)),
                    Err(error) => assert_eq!(error.kind, StoreErrorKind::Busy, "{error}"),
                }
            }
        })
    });
    let searches: Vec<_> = searches.collect();
    let mut wal_mebibytes_max = 0;
    for n in 0..mebibytes {
        append_mebibyte(&*store, n).await;
        wal_mebibytes_max = wal_mebibytes_max.max(store.usage().wal_bytes >> 20);
    }
    is_over.store(true, Ordering::Relaxed);
    join_all(searches).await.into_iter().for_each(Result::unwrap);
    let n_answered = n_answered.load(Ordering::Relaxed);
    println!(
        "{n_answered} searches while {mebibytes} MiB came in; the log had up to {wal_mebibytes_max} MiB"
    );
    assert!(wal_mebibytes_max < mebibytes_max, "the log had {wal_mebibytes_max} MiB");
    assert!(n_answered > 0);
    store.close().await;
}

/// Goal: what another process reads for long, as a backup does, is not waited for. Method: it reads while the log grows
/// beyond its bound, and ends.
#[tokio::test]
async fn another_process_that_reads_makes_the_log_grow_and_keeps_no_search_waiting() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    let store = open(&path);
    let db = Connection::open(&path).unwrap();
    db.execute_batch("BEGIN; SELECT count(*) FROM messages").unwrap();
    for n in 0..80 {
        append_mebibyte(&store, n).await;
        store.list(&search(), &Page::at(1, 0)).await.unwrap();
    }
    let wal_bytes = store.usage().wal_bytes;
    assert!(wal_bytes > 80 << 20, "{wal_bytes}");
    drop(db);
    for n in 80..100 {
        append_mebibyte(&store, n).await;
    }
    assert_eq!(store.usage().wal_bytes, 64 << 20, "it has begun anew, and this is what is kept of its file");
    store.close().await;
}
