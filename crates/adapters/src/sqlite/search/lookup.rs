//! Looking up a text in the text index.

use std::collections::BTreeSet;

use domain::text_query::TextQuery;
use rusqlite::{OptionalExtension, Transaction, params};

use crate::sqlite::search::file::{is_attached, progress};

/// Characters of a trigram: a shorter text is not found by an index of these.
const TRIGRAM_CHARS: usize = 3;

/// Trigrams of a query that are looked up: the rarest ones. More of them rule out little more.
const QUERY_TRIGRAMS_MAX: usize = 4;

/// Trigrams of a query that are compared to find those: enough for a phrase of some ten words.
const COMPARED_TRIGRAMS_MAX: usize = 64;

/// Hits of a trigram up to which the text index is read: the place of that hit tells how rare the trigram is.
const COMPARED_HITS: u32 = 256;

/// A text as the text index looks it up.
pub(crate) struct Search {
    /// Condition that a message has to match, in the language of FTS5.
    pub(crate) matching: String,
    /// Last message that is indexed.
    pub(crate) searched_seq: i64,
    /// Estimated number of messages with the rarest of its trigrams, as if it were as frequent everywhere as among the oldest.
    pub(crate) n_expected: u64,
}

impl Search {
    /// Returns `None` if the text is too short to have trigrams, or no text index is attached as `search`.
    ///
    /// Call it first in a transaction: a message that expires later may be gone from the text index, but then it is gone from
    /// the snapshot of the messages, too.
    pub(crate) fn of(tx: &Transaction<'_>, text: &TextQuery) -> rusqlite::Result<Option<Self>> {
        let trigrams = trigrams(&indexable(text.folded()));
        if trigrams.is_empty() || !is_attached(tx)? {
            return Ok(None);
        }
        let (searched_seq, purged_seq) = progress(tx)?;
        let mut by_rarity = Vec::new();
        for trigram in trigrams {
            let matching = matching(&trigram);
            let hit: Option<i64> = tx
                .prepare_cached("SELECT rowid FROM search.texts WHERE texts MATCH ?1 LIMIT 1 OFFSET ?2")?
                .query_row(params![matching, COMPARED_HITS], |row| row.get(0))
                .optional()?;
            // A trigram that is nowhere so often is the rarest; of others, the later the hit, the rarer.
            by_rarity.push((hit.map_or(i64::MIN, |seq| -seq), matching));
        }
        by_rarity.sort();
        let n_expected = match by_rarity[0].0 {
            i64::MIN => u64::from(COMPARED_HITS),
            hit => {
                let n_places = |to: i64| u64::try_from(to - purged_seq).unwrap_or(0).max(1);
                n_places(searched_seq).saturating_mul(COMPARED_HITS.into()) / n_places(-hit)
            }
        };
        by_rarity.truncate(QUERY_TRIGRAMS_MAX);
        let rarest: Vec<String> = by_rarity.into_iter().map(|(_, matching)| matching).collect();
        Ok(Some(Self { matching: rarest.join(" AND "), searched_seq, n_expected }))
    }
}

/// Returns one trigram in the language of FTS5.
fn matching(trigram: &str) -> String {
    format!("\"{}\"", trigram.replace('"', "\"\""))
}

/// Returns the condition that a message with this folded text matches; `None` if the text is too short for the text index.
pub(crate) fn matching_all(folded: &str) -> Option<String> {
    let trigrams: Vec<String> =
        trigrams(&indexable(folded)).iter().map(|trigram| matching(trigram)).collect();
    (!trigrams.is_empty()).then(|| trigrams.join(" AND "))
}

/// Returns the trigrams of a text.
fn trigrams(text: &str) -> BTreeSet<String> {
    let chars: Vec<char> = text.chars().collect();
    chars.windows(TRIGRAM_CHARS).map(|w| w.iter().collect()).take(COMPARED_TRIGRAMS_MAX).collect()
}

/// Returns a folded text as FTS5 can index it: to FTS5 a text ends at a NUL.
pub(crate) fn indexable(folded: &str) -> String {
    folded.replace('\0', "\u{fffd}")
}
