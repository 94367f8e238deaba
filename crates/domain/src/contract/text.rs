//! Promises of the text filter.

use super::ask::{append, ids, text_filter};
use super::{Sample, Stores};

pub(super) async fn text_is_found_without_regard_to_case_and_without_wildcards(stores: &dyn Stores) {
    let store = &*stores.open();
    for (id, text) in [
        ("1", Some("L'ÉCOLE est finie")),
        ("2", Some("100% sure_thing\\")),
        ("3", Some("100 percent")),
        ("4", Some("")),
        ("5", None),
        ("6", Some("a\u{0}Hidden")),
    ] {
        append(store, &[Sample::id(id).text(text)]).await;
    }
    for (query, want) in [
        ("école", &["1"][..]),
        ("%", &["2"]),
        ("E_T", &["2"]),
        ("\\", &["2"]),
        ("*", &[]),
        ("\"", &[]),
        ("'", &["1"]),
        ("hidden", &["6"]),
        ("\u{0}", &["6"]),
        ("1", &["2", "3"]),
        ("", &["1", "2", "3", "4", "6"]),
    ] {
        assert_eq!(ids(store, &text_filter(query)).await, want, "{query:?}");
    }
}

/// Full case folding (The Unicode Standard, section 3.13, D144), not lower case: one character may become several, and final
/// sigma is a sigma.
pub(super) async fn case_is_folded_in_full(stores: &dyn Stores) {
    let store = &*stores.open();
    let same = [
        &["Straße", "STRASSE", "strasse", "STRAẞE"][..],
        &["ΟΔΟΣ", "οδος", "οδοσ"],
        &["eﬃcient", "EFFICIENT"],
        &["İstanbul", "i\u{307}STANBUL"],
        &["ǆ", "ǅ", "Ǆ"],
        &["ᾳ", "αι", "ΑΙ"],
        &["K", "k"],
    ];
    for (n, texts) in same.iter().enumerate() {
        for (i, text) in texts.iter().enumerate() {
            append(store, &[Sample::id(&format!("{n}-{i}")).text(Some(text))]).await;
        }
    }
    for (n, texts) in same.iter().enumerate() {
        let want: Vec<String> = (0..texts.len()).map(|i| format!("{n}-{i}")).collect();
        for needle in *texts {
            let found: Vec<String> = ids(store, &text_filter(needle))
                .await
                .into_iter()
                .filter(|id| id.starts_with(&format!("{n}-")))
                .collect();
            assert_eq!(found, want, "{needle}");
        }
    }
}
