//! The layout of the store must not show: messages are found the same, and stay unique, whether they are in the indexes, on
//! their way there, or waiting; kept, or expired.

use adapters::sqlite::SqliteStore;
use domain::memory::MemoryStore;
use domain::query::MessageQuery;
use domain::store::{Appended, MessageStore, Seq, StoreErrorKind};
use rusqlite::Connection;

use crate::numbered::{append, assert_sound, compare, index_all, indexed_seq, message, wait_until_searched};
use crate::sqlite::open;

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
