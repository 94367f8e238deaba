//! SQLite against the reference model: the same random messages into both, the same random
//! questions to both, the same answers wanted.

use domain::contract::Sample;
use domain::memory::MemoryStore;
use domain::query::{Filter, MessageQuery, Page};
use domain::store::MessageStore;
use domain::text_query::TextQuery;
use domain::time::ExactTime;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use crate::sqlite::open;

/// Few values each, so that repeats, ties and matches are common.
fn sample() -> impl Strategy<Value = Sample> {
    let id = prop_oneof!["[abAB]{1,2}", "\\PC{1,3}"];
    let from = prop_oneof!["\\+[12]", "\\+[0-9]{1,3}"];
    let source = prop_oneof![4 => Just("default"), 1 => Just("billing")];
    (id, from, time(), option::of(text()), source).prop_map(|(id, from, ts, text, source)| Sample {
        id,
        from,
        ts,
        text,
        source: source.to_owned(),
    })
}

fn time() -> impl Strategy<Value = String> {
    prop_oneof![
        "2025-01-15T10:00:0[0-3]Z",
        "2025-01-15T10:00:00\\.[01]{1,9}Z",
        "(0000|1969|9999)-12-31T23:59:59Z"
    ]
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof!["[aAbB%_ ]{0,6}", "[éÉßẞσςΣİıⅷ]{0,4}", any::<String>()]
}

fn question() -> impl Strategy<Value = (Filter, Page)> {
    let sender = option::of(prop_oneof!["\\+[12]", "\\+?[0-9]{0,3}"]);
    let since = option::of(time().prop_map(|t| ExactTime::parse_utc(&t).unwrap()));
    let text =
        option::of(prop_oneof!["[aAbB%_]{1,2}", "[éÉßsσςİi]{1,2}", any::<char>().prop_map(String::from)]);
    let filter = (sender, since, text).prop_map(|(sender, since, text)| Filter {
        sender,
        since,
        text: text.map(|t| TextQuery::new(&t)),
    });
    let page = (1_u16..=100, prop_oneof![4 => 0_u64..40, 1 => any::<u64>()]);
    (filter, page.prop_map(|(limit, offset)| Page::at(limit, offset)))
}

#[derive(Clone, Debug)]
struct Case {
    deliveries: Vec<Vec<Sample>>,
    questions: Vec<(Filter, Page)>,
}

fn case() -> impl Strategy<Value = Case> {
    (vec(vec(sample(), 1..5), 0..15), vec(question(), 80))
        .prop_map(|(deliveries, questions)| Case { deliveries, questions })
}

proptest! {
    // 50 stores of up to 60 messages, 80 questions each: 4,000 comparisons.
    #![proptest_config(ProptestConfig { cases: 50, ..ProptestConfig::default() })]

    #[test]
    fn sqlite_answers_as_the_reference_model_does(case in case()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let folder = tempfile::tempdir().unwrap();
            let sqlite = open(&folder.path().join("app.db"));
            let model = MemoryStore::default();
            for delivery in &case.deliveries {
                let messages: Vec<_> = delivery.iter().map(Sample::message).collect();
                let want = model.append(messages.clone()).await.unwrap();
                assert_eq!(sqlite.append(messages).await.unwrap(), want);
            }
            for (filter, page) in &case.questions {
                let want = model.list(filter, page).await.unwrap();
                assert_eq!(sqlite.list(filter, page).await.unwrap(), want, "{filter:?} {page:?}");
            }
            assert_eq!(sqlite.stats().await.unwrap(), model.stats().await.unwrap());
            sqlite.close().await;
        });
    }
}
