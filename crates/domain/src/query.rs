//! Port: queries about what is stored.

use async_trait::async_trait;

use crate::message::{MessageId, MessageKey, MessageText, PhoneNumber, SentAt};
use crate::store::{Seq, StoreError};
use crate::text_query::TextQuery;
use crate::time::ExactTime;

/// Answers queries; each method reads one consistent snapshot, with everything that was appended before the call.
///
/// # Errors
/// Each fails with `Busy` if too many queries run or one takes too long, and with `Unavailable` or `Fault` as [`StoreErrorKind`](crate::store::StoreErrorKind) says.
#[async_trait]
pub trait MessageQuery: Send + Sync {
    /// The messages that match every part of `filter`, in order of time, then of message id in byte
    /// order, then of arrival; one page of them, and how many match in all.
    async fn list(&self, filter: &Filter, page: &Page) -> Result<Listing, StoreError>;

    /// Counts and extremes of all that is stored, with the [`TOP_SENDERS_MAX`] busiest senders.
    async fn stats(&self) -> Result<Stats, StoreError>;

    /// Succeeds if the store answers, has the schema of this program, and could write the last time that it tried (if it
    /// could not, it tries again now).
    async fn ready(&self) -> Result<(), StoreError>;
}

/// Most messages of one page.
pub const PAGE_LIMIT_MAX: u16 = 100;

/// Messages of one page by default.
pub const PAGE_LIMIT_DEFAULT: u16 = 50;

/// Largest offset that a store takes: 2^63 - 1, the largest signed 64-bit integer, in which stores count.
pub const OFFSET_MAX: u64 = i64::MAX.unsigned_abs();

/// Entries that a query may skip before its page without being a search.
const PASSED_OVER_MAX: u64 = 1_000;

/// Busiest senders that the statistics name.
pub const TOP_SENDERS_MAX: u16 = 10;

/// Messages that are wanted; a part that is `None` matches all.
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
    /// Returns true if a page may take much more work than its length: it reads texts, or counts or skips entries one by one,
    /// however many there are. All other queries are a few look-ups.
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
    /// Most messages, 1 to [`PAGE_LIMIT_MAX`].
    pub limit: u16,
    /// Messages to leave out before the first, 0 to [`OFFSET_MAX`].
    pub offset: u64,
    /// Only messages after this place, if there is one: whatever arrives between two pages, no message is seen twice, and
    /// none that was there is left out.
    pub after: Option<Place>,
}

impl Page {
    /// Returns the page of `limit` messages after the first `offset`.
    #[must_use]
    pub fn at(limit: u16, offset: u64) -> Self {
        Self { limit, offset, after: None }
    }

    /// Returns the page of `limit` messages after `place`.
    #[must_use]
    pub fn after(limit: u16, place: Place) -> Self {
        Self { limit, offset: 0, after: Some(place) }
    }
}

/// A place in the order of listing: time, then message id in byte order, then arrival.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Time at which the message at this place was sent.
    pub sent_at: ExactTime,
    /// Its id.
    pub message_id: MessageId,
    /// Its place in the order of arrival.
    pub seq: Seq,
}

/// A stored message, as a listing has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its place in the order of arrival.
    pub seq: Seq,
    /// Its source and id.
    pub key: MessageKey,
    /// Sender.
    pub sender: PhoneNumber,
    /// Recipient.
    pub recipient: PhoneNumber,
    /// Time at which it was sent.
    pub sent_at: SentAt,
    /// Text, if there is one.
    pub text: Option<MessageText>,
}

impl Message {
    /// Returns its place in a listing.
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
    /// Messages that match, on all pages.
    pub total: u64,
    /// The place of the page's last message, if more that match come after it.
    pub next: Option<Place>,
}

/// Statistics of all that is stored.
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
