//! Where the messages that a filter wants are found: in which tables, under which conditions.

use domain::query::{Filter, Place};
use rusqlite::types::Value;

use super::key_filter::segment_of;
use super::search::Search;

/// A part of an answer: the rows of one table, called `i`, that meet some conditions. The arms of a filter
/// have nothing in common, and together have all that it wants.
#[derive(Clone)]
pub(super) struct Arm {
    from: &'static str,
    conditions: Vec<&'static str>,
    values: Vec<Value>,
}

const BY_TIME: &str = "messages_by_time AS i";

/// Segment by segment; each is in order, so that a page's worth of each is all that is read.
const BY_SENDER: &str = "(WITH RECURSIVE s(segment) AS \
        (SELECT (SELECT purged_seq >> 16 FROM totals) UNION ALL SELECT segment + 1 FROM s WHERE segment < ?) \
     SELECT segment FROM s) AS s \
     CROSS JOIN messages_by_sender AS i ON i.segment = s.segment";

const BY_TEXT: &str = "search.texts AS t CROSS JOIN messages AS i ON i.seq = t.rowid";

const MESSAGES: &str = "messages AS i";

const HAS_TEXT: &str = "text_contains(i.text, ?)";

const HAS_TEXT_OF_ENTRY: &str = "text_contains((SELECT text FROM messages WHERE messages.seq = i.seq), ?)";

/// What finds all messages that `filter` wants, when the indexes of time and sender go up to `indexed_seq`: what
/// an index has, and the messages that it does not have yet.
pub(super) fn arms(filter: &Filter, indexed_seq: i64, search: Option<Search>) -> [Arm; 2] {
    let (indexed, up_to_seq, has_text) = match (&filter.sender, search) {
        (_, Some(Search { matching, searched_seq })) => {
            (Arm::new(BY_TEXT, []).and("t.texts MATCH ?", [matching.into()]), searched_seq, HAS_TEXT)
        }
        (Some(_), None) => {
            (Arm::new(BY_SENDER, [segment_of(indexed_seq).into()]), indexed_seq, HAS_TEXT_OF_ENTRY)
        }
        (None, None) => (Arm::new(BY_TIME, []), indexed_seq, HAS_TEXT_OF_ENTRY),
    };
    let indexed = indexed.and("i.seq <= ?", [up_to_seq.into()]);
    let others = Arm::new(MESSAGES, []).and("i.seq > ?", [up_to_seq.into()]);
    [(indexed, has_text), (others, HAS_TEXT)].map(|(arm, has_text)| arm.filtered(filter, has_text))
}

impl Arm {
    fn new(from: &'static str, values: impl IntoIterator<Item = Value>) -> Self {
        Self { from, conditions: Vec::new(), values: values.into_iter().collect() }
    }

    fn and(mut self, condition: &'static str, values: impl IntoIterator<Item = Value>) -> Self {
        self.conditions.push(condition);
        self.values.extend(values);
        self
    }

    fn filtered(mut self, filter: &Filter, has_text: &'static str) -> Self {
        if let Some(sender) = &filter.sender {
            self = self.and("i.sender = ?", [sender.clone().into()]);
        }
        if let Some(since) = &filter.since {
            let since = [since.at().as_micros().into(), since.finer().to_owned().into()];
            self = self.and("(i.ts_us, i.ts_finer) >= (?, ?)", since);
        }
        if let Some(text) = &filter.text {
            self = self.and(has_text, [text.folded().to_owned().into()]);
        }
        self
    }

    /// Only what comes after a place in the order of listing.
    pub(super) fn after(self, place: &Place) -> Self {
        self.and(
            "(i.ts_us, i.ts_finer, i.message_id, i.seq) > (?, ?, ?, ?)",
            [
                place.sent_at.at().as_micros().into(),
                place.sent_at.finer().to_owned().into(),
                place.message_id.as_str().to_owned().into(),
                place.seq.0.into(),
            ],
        )
    }

    /// Only what is not before this microsecond.
    pub(super) fn not_before(self, ts_us: i64) -> Self {
        self.and("i.ts_us >= ?", [ts_us.into()])
    }

    /// `SELECT columns` of the rows, and the values of its parameters.
    pub(super) fn select(&self, columns: &str) -> (String, Vec<Value>) {
        let Self { from, conditions, values } = self;
        (format!("SELECT {columns} FROM {from} WHERE {}", conditions.join(" AND ")), values.clone())
    }
}
