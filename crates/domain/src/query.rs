//! Port: questions about what is stored.

use std::borrow::Cow;

use async_trait::async_trait;
use icu_casemap::CaseMapper;

use crate::message::{MessageId, MessageKey, MessageText, PhoneNumber, SentAt};
use crate::store::{Seq, StoreError};
use crate::time::ExactTime;

/// Answers questions; every method is one consistent snapshot that holds all that was appended
/// before it was called.
///
/// # Errors
/// Each fails with `Busy` if too many questions are being answered or one takes too long, and with
/// `Unavailable` or `Fault` as [`StoreErrorKind`](crate::store::StoreErrorKind) says.
#[async_trait]
pub trait MessageQuery: Send + Sync {
    /// The messages that match every part of `filter`, in order of time, then of message id in byte
    /// order, then of arrival; one page of them, and how many match in all.
    async fn list(&self, filter: &Filter, page: &Page) -> Result<Listing, StoreError>;

    /// Counts and extremes of all that is stored, with the [`TOP_SENDERS_MAX`] busiest senders.
    async fn stats(&self) -> Result<Stats, StoreError>;

    /// Whether the store answers, under the schema that this program was built for, and could write
    /// the last time that it tried (if it could not, it tries again now).
    async fn ready(&self) -> Result<(), StoreError>;
}

/// Most messages of one page.
pub const PAGE_LIMIT_MAX: u16 = 100;

/// Messages of one page if nothing is said.
pub const PAGE_LIMIT_DEFAULT: u16 = 50;

/// Largest offset that a store takes: 2^63 - 1, the largest signed 64-bit integer, in which stores count.
pub const OFFSET_MAX: u64 = i64::MAX.unsigned_abs();

/// Entries that a question passes over before its page, and is no search for that yet.
const PASSED_OVER_MAX: u64 = 1_000;

/// How many of the busiest senders the statistics name.
pub const TOP_SENDERS_MAX: u16 = 10;

/// Which messages are wanted; a part that is `None` wants all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Exactly this sender; a text that is no phone number matches nothing.
    pub sender: Option<String>,
    /// At this time or later.
    pub since: Option<ExactTime>,
    /// With this in the text.
    pub text: Option<TextQuery>,
}

impl Filter {
    /// Whether a page of what it wants may be much more work than the page is long: texts are looked through, or
    /// entries are counted or passed over one by one, as many as there are. All other questions are some
    /// look-ups.
    #[must_use]
    pub fn is_search(&self, page: &Page) -> bool {
        let is_walked = self.sender.is_some() || page.after.is_some();
        self.text.is_some()
            || self.sender.is_some() && self.since.is_some()
            || is_walked && page.offset > PASSED_OVER_MAX
    }
}

/// A stretch of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// How many messages at most, 1 to [`PAGE_LIMIT_MAX`].
    pub limit: u16,
    /// How many to leave out before the first, 0 to [`OFFSET_MAX`].
    pub offset: u64,
    /// Only messages after this place, if there is one: whatever comes in between two pages, none is seen twice,
    /// and none that was there is left out.
    pub after: Option<Place>,
}

impl Page {
    /// The page of `limit` messages after the first `offset`.
    #[must_use]
    pub fn at(limit: u16, offset: u64) -> Self {
        Self { limit, offset, after: None }
    }

    /// The page of `limit` messages after `place`.
    #[must_use]
    pub fn after(limit: u16, place: Place) -> Self {
        Self { limit, offset: 0, after: Some(place) }
    }
}

/// A place in the order of listing: time, then message id in byte order, then arrival.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// When the message at this place was sent.
    pub sent_at: ExactTime,
    /// Its id.
    pub message_id: MessageId,
    /// Its place in the order of arrival.
    pub seq: Seq,
}

/// A stored message as it is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its place in the order of arrival.
    pub seq: Seq,
    /// Its source and id.
    pub key: MessageKey,
    /// Who sent it.
    pub sender: PhoneNumber,
    /// Whom it was sent to.
    pub recipient: PhoneNumber,
    /// When it was sent.
    pub sent_at: SentAt,
    /// What was written, if anything was.
    pub text: Option<MessageText>,
}

impl Message {
    /// Where it stands in a listing.
    #[must_use]
    pub fn place(&self) -> Place {
        Place { sent_at: self.sent_at.time().clone(), message_id: self.key.message_id.clone(), seq: self.seq }
    }
}

/// One page, and how many messages match in all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// The page, in order.
    pub messages: Vec<Message>,
    /// How many match, whatever the page.
    pub total: u64,
    /// The place of the page's last message, if more that match come after it.
    pub next: Option<Place>,
}

/// What is stored, in numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// All messages.
    pub total_messages: u64,
    /// All distinct senders.
    pub senders_count: u64,
    /// The [`TOP_SENDERS_MAX`] busiest senders: by count, most first, then by sender in byte order.
    pub top_senders: Vec<(PhoneNumber, u64)>,
    /// `ts` of the first message in order of listing, as sent.
    pub first_message_ts: Option<SentAt>,
    /// `ts` of the last message in order of listing, as sent.
    pub last_message_ts: Option<SentAt>,
}

/// A text to look for: a substring, without regard to case, with no character special.
///
/// "Without regard to case" is Unicode's default caseless matching (The Unicode Standard, section
/// 3.13, D144): both sides go through full case folding, so that `école` finds `ÉCOLE`, `ΟΔΟΣ` finds
/// `οδος` and `STRASSE` finds `Straße`. Accents count, and composed and decomposed ones differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextQuery {
    folded: String,
}

impl TextQuery {
    /// Looks for `text`.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self { folded: fold_case(text).into_owned() }
    }

    /// A query whose text is folded already, as [`folded`](Self::folded) gives it.
    #[must_use]
    pub fn from_folded(folded: String) -> Self {
        Self { folded }
    }

    /// The text to look for, folded.
    #[must_use]
    pub fn folded(&self) -> &str {
        &self.folded
    }

    /// Whether it stands in `text`.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        fold_case(text).contains(&self.folded)
    }
}

/// Full case folding of Unicode: two texts that differ in case only become the same.
#[must_use]
pub fn fold_case(text: &str) -> Cow<'_, str> {
    if text.is_ascii() { Cow::Owned(text.to_ascii_lowercase()) } else { CaseMapper::new().fold_string(text) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn finds(needle: &str, text: &str) -> bool {
        TextQuery::new(needle).matches(text)
    }

    #[test]
    fn case_does_not_count_in_any_script() {
        for (needle, text) in [
            ("hello", "Oh, HELLO there"),
            ("école", "L'ÉCOLE"),
            ("ÉCOLE", "l'école"),
            ("ΟΔΟΣ", "οδος"),
            ("οδοσα", "ΟΔΟΣΑ"),
            ("привет", "ПРИВЕТ, мир"),
            ("STRASSE", "Straße"),
            ("ǆ", "ǅ"),
        ] {
            assert!(finds(needle, text), "{needle} in {text}");
        }
        assert!(!finds("ecole", "école"));
    }

    #[test]
    fn no_character_is_special() {
        for special in ["%", "_", "\\", "*", "?", "'", "\"", "[a]", "\u{0}"] {
            assert!(finds(special, &format!("a{special}b")));
            assert!(!finds(special, "plain text"));
        }
    }

    proptest! {
        #[test]
        fn every_part_of_a_text_is_found_in_it(before in any::<String>(), part in any::<String>(), after in any::<String>()) {
            let text = [before.as_str(), &part, &after].concat();
            prop_assert!(finds(&part, &text));
        }

        /// On ASCII, the quick way and the Unicode way agree.
        #[test]
        fn ascii_folds_as_unicode_does(text in "[ -~]{0,40}") {
            prop_assert_eq!(text.to_ascii_lowercase(), CaseMapper::new().fold_string(&text));
        }
    }
}
