//! Short ways to append and to query, for the promises.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::{Sample, Store};
use crate::query::{Filter, Listing, Page};
use crate::store::{Appended, Seq};
use crate::text_query::TextQuery;
use crate::time::ExactTime;

pub(super) async fn append(store: &dyn Store, samples: &[Sample]) -> Vec<Appended> {
    let messages = samples.iter().map(Sample::message).collect();
    store.append(messages).await.expect("append")
}

pub(super) async fn list(store: &dyn Store, filter: &Filter) -> Listing {
    store.list(filter, &Page::at(100, 0)).await.expect("list")
}

pub(super) async fn ids(store: &dyn Store, filter: &Filter) -> Vec<String> {
    let listing = list(store, filter).await;
    assert_eq!(listing.total, listing.messages.len() as u64);
    listing.messages.iter().map(|m| m.key.message_id.as_str().to_owned()).collect()
}

pub(super) fn stored(appended: Appended) -> Seq {
    match appended {
        Appended::Stored(seq) => seq,
        Appended::Existing { .. } => panic!("{appended:?} where the first was expected"),
    }
}

pub(super) fn text_filter(text: &str) -> Filter {
    Filter { text: Some(TextQuery::new(text)), ..Filter::default() }
}

pub(super) fn since_filter(ts: &str) -> Filter {
    Filter { since: Some(ExactTime::parse_utc(ts).expect("a time")), ..Filter::default() }
}

/// Lets other futures of the same task go on.
pub(super) async fn pause() {
    struct Pause(bool);
    impl Future for Pause {
        type Output = ();
        fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
            if std::mem::replace(&mut self.0, true) {
                return Poll::Ready(());
            }
            context.waker().wake_by_ref();
            Poll::Pending
        }
    }
    Pause(false).await;
}
