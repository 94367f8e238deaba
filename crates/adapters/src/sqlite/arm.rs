//! Where the messages that a filter wants are found: in which tables, under which conditions.

use domain::query::{Filter, Place};
use rusqlite::types::Value;

use super::key_filter::segment_of;

/// A part of an answer: the rows of one table, called `i`, that meet some conditions. The arms of a filter
/// have nothing in common, and together have all that it wants.
#[derive(Clone)]
pub(super) struct Arm {
    from: &'static str,
    conditions: Vec<&'static str>,
    values: Vec<Value>,
}

/// How far the indexes go: places in the order of arrival.
#[derive(Clone, Copy)]
pub(super) struct Bounds {
    /// Up to here messages are in the indexes of time and sender.
    pub(super) indexed_seq: i64,
}

const BY_TIME: &str = "messages_by_time AS i";

/// Segment by segment; each is in order, so that a page's worth of each is all that is read.
const BY_SENDER: &str = "(WITH RECURSIVE s(segment) AS \
        (SELECT 0 UNION ALL SELECT segment + 1 FROM s WHERE segment < ?) SELECT segment FROM s) AS s \
     CROSS JOIN messages_by_sender AS i ON i.segment = s.segment";

const MESSAGES: &str = "messages AS i";

/// What finds all messages that `filter` wants.
pub(super) fn arms(filter: &Filter, bounds: Bounds) -> [Arm; 2] {
    let Bounds { indexed_seq } = bounds;
    let indexed = match &filter.sender {
        None => Arm::new(BY_TIME, []),
        Some(sender) => Arm::new(BY_SENDER, [segment_of(indexed_seq).into()])
            .and("i.sender = ?", [sender.clone().into()]),
    };
    let indexed = indexed.and("i.seq <= ?", [indexed_seq.into()]);
    let tail = Arm::new(MESSAGES, []).and("i.seq > ?", [indexed_seq.into()]);
    let tail = match &filter.sender {
        None => tail,
        Some(sender) => tail.and("i.sender = ?", [sender.clone().into()]),
    };
    let [indexed, tail] = [indexed, tail].map(|arm| match &filter.since {
        None => arm,
        Some(since) => arm.and(
            "(i.ts_us, i.ts_finer) >= (?, ?)",
            [since.at().as_micros().into(), since.finer().to_owned().into()],
        ),
    });
    match &filter.text {
        None => [indexed, tail],
        Some(text) => {
            let text = || [text.folded().to_owned().into()];
            [
                indexed.and(
                    "text_contains((SELECT text FROM messages WHERE messages.seq = i.seq), ?)",
                    text(),
                ),
                tail.and("text_contains(i.text, ?)", text()),
            ]
        }
    }
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
