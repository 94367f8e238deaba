//! Promises of [`stats`](crate::query::MessageQuery::stats) and [`ready`](crate::query::MessageQuery::ready).

use super::ask::append;
use super::{Sample, Stores};

pub(super) async fn stats_count_all_and_rank_the_senders(stores: &dyn Stores) {
    let store = &*stores.open();
    let mut n = 0;
    // The busiest come last, and the last three are one too many: by count, then by sender.
    let counts =
        [("+9", 1), ("+8", 1), ("+10", 2), ("+11", 2), ("+30", 2), ("+12", 2), ("+13", 2), ("+14", 2)];
    for (sender, count) in counts.into_iter().chain([("+15", 2), ("+2", 2), ("+20", 3), ("+1", 3), ("+7", 5)])
    {
        for _ in 0..count {
            n += 1;
            append(store, &[Sample::id(&format!("m{n}")).from(sender)]).await;
        }
    }
    let stats = store.stats().await.expect("stats");
    assert_eq!((stats.total_messages, stats.senders_count), (n, 13));
    let top: Vec<(&str, u64)> = stats.top_senders.iter().map(|(s, n)| (s.as_str(), *n)).collect();
    let rest = ["+10", "+11", "+12", "+13", "+14", "+15", "+2"].map(|sender| (sender, 2));
    assert_eq!(top, [&[("+7", 5), ("+1", 3), ("+20", 3)], &rest[..]].concat());
}

pub(super) async fn a_store_that_works_is_ready(stores: &dyn Stores) {
    let store = &*stores.open();
    store.ready().await.expect("ready");
}
