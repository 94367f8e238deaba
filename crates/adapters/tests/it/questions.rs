//! What questions take from each other, and from the writer.

use std::cell::Cell;

use domain::contract::Sample;
use domain::query::{Filter, MessageQuery, Page, TextQuery};
use domain::store::MessageStore;
use futures_util::future::{join, join_all};

use crate::sqlite::open;

/// Messages with texts so long that to look through all of them takes some tens of milliseconds.
async fn append_long_texts(store: &impl MessageStore) {
    let text = "x".repeat(4_000);
    for n in 0..10 {
        let sample = |m| Sample::id(&format!("{n}-{m}")).text(Some(&text)).message();
        store.append((0..200).map(sample).collect()).await.unwrap();
    }
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
    append_long_texts(&store).await;
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
