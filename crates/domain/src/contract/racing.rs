//! Promises under calls that race each other, and through several handles on one store.

use futures_util::future::{join, join_all};

use super::ask::{append, ids, list, pause, stored};
use super::{Sample, Stores};
use crate::query::Filter;
use crate::store::{Appended, Seq, StoreErrorKind};

/// Appends of the racing promises.
const APPENDS: usize = 20;

/// Messages of each of these appends.
const APPEND_MESSAGES: usize = 4;

pub(super) async fn of_racing_appends_at_most_one_stores(stores: &dyn Stores) {
    let handles = [stores.open(), stores.open()];
    let racers = (0..50).map(|n| handles[n % 2].append(vec![Sample::id("m1").message()]));
    let mut first: Vec<Seq> = Vec::new();
    let mut seqs: Vec<Seq> = Vec::new();
    let mut n_unknown = 0;
    for result in join_all(racers).await {
        match result {
            Ok(appended) => match appended[..] {
                [Appended::Stored(seq)] => first.push(seq),
                [Appended::Existing { seq, .. }] => seqs.push(seq),
                _ => panic!("{appended:?} for one message"),
            },
            Err(error) if error.kind == StoreErrorKind::Unknown => n_unknown += 1,
            Err(error) => panic!("append: {error}"),
        }
    }
    assert!(
        first.len() == 1 || first.is_empty() && n_unknown > 0,
        "{} were told to have stored",
        first.len()
    );
    let seqs: Vec<Seq> = seqs.into_iter().chain(first).collect();
    assert!(seqs.windows(2).all(|pair| pair[0] == pair[1]), "one message has one place: {seqs:?}");
    assert_eq!(ids(&*handles[1], &Filter::default()).await, ["m1"]);
}

/// Goal: no reader sees a part of an append. Method: a reader lists and counts while appends of four messages come in.
pub(super) async fn a_delivery_is_seen_whole_or_not_at_all(stores: &dyn Stores) {
    let (writer, reader) = (stores.open(), stores.open());
    let write = async {
        for n in 0..APPENDS {
            let samples: Vec<Sample> =
                (0..APPEND_MESSAGES).map(|i| Sample::id(&format!("m{n:02}-{i}"))).collect();
            append(&*writer, &samples).await;
            pause().await;
        }
    };
    let read = async {
        for _ in 0..4 * APPENDS {
            let total = list(&*reader, &Filter::default()).await.total;
            assert_eq!(total % APPEND_MESSAGES as u64, 0, "a part of an append is listed");
            let counted = reader.stats().await.expect("stats").total_messages;
            assert_eq!(counted % APPEND_MESSAGES as u64, 0, "a part of an append is counted");
            pause().await;
        }
    };
    join(write, read).await;
    assert_eq!(list(&*reader, &Filter::default()).await.total, (APPENDS * APPEND_MESSAGES) as u64);
}

/// Goal: page and total of a listing are of one snapshot. Method: a reader lists all while messages come in.
pub(super) async fn a_listing_is_one_snapshot(stores: &dyn Stores) {
    let (writer, reader) = (stores.open(), stores.open());
    let write = async {
        for n in 0..APPENDS {
            append(&*writer, &[Sample::id(&format!("m{n:02}"))]).await;
            pause().await;
        }
    };
    let read = async {
        for _ in 0..4 * APPENDS {
            let listing = list(&*reader, &Filter::default()).await;
            assert_eq!(listing.total, listing.messages.len() as u64, "page and total differ");
            pause().await;
        }
    };
    join(write, read).await;
}

pub(super) async fn an_appended_message_is_seen_by_the_next_query(stores: &dyn Stores) {
    let store = &*stores.open();
    for n in 1..=20_u64 {
        append(store, &[Sample::id(&format!("m{n}"))]).await;
        assert_eq!(list(store, &Filter::default()).await.total, n);
        assert_eq!(store.stats().await.expect("stats").total_messages, n);
    }
}

pub(super) async fn a_message_is_seen_through_another_handle(stores: &dyn Stores) {
    let (one, other) = (stores.open(), stores.open());
    for n in 1..=10_u64 {
        let (writer, reader) = if n % 2 == 0 { (&one, &other) } else { (&other, &one) };
        let sample = Sample::id(&format!("m{n}"));
        let seq = stored(append(&**writer, std::slice::from_ref(&sample)).await[0]);
        assert_eq!(list(&**reader, &Filter::default()).await.total, n);
        assert_eq!(reader.stats().await.expect("stats").total_messages, n);
        let repeated = append(&**reader, &[sample]).await[0];
        assert!(matches!(repeated, Appended::Existing { seq: same, .. } if same == seq), "{repeated:?}");
    }
}

pub(super) async fn a_message_is_there_after_a_restart(stores: &dyn Stores) {
    let seq = {
        let store = stores.open();
        stored(append(&*store, &[Sample::id("m1")]).await[0])
    };
    let store = stores.open();
    assert_eq!(ids(&*store, &Filter::default()).await, ["m1"]);
    let repeated = append(&*store, &[Sample::id("m1")]).await[0];
    assert!(matches!(repeated, Appended::Existing { seq: same, .. } if same == seq), "{repeated:?}");
}
