//! The report of a check.

use std::fmt;

use crate::sqlite::schema::newest_schema;

/// Problems of one kind that a report lists: repair the first ten, and check again.
pub(crate) const PROBLEMS_OF_A_KIND_MAX: usize = 10;

/// Findings of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Messages, counted one by one.
    pub messages: u64,
    /// Distinct senders of these.
    pub senders: u64,
    /// Version of the schema; 0 without one.
    pub schema_version: i32,
    /// Problems, at most ten of a kind.
    pub problems: Vec<Problem>,
}

/// A problem of a database.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// There is no schema of ours.
    #[error("it is not a database of hookkeeper")]
    NoSchema,
    /// The schema is of a newer version, about which nothing else is known.
    #[error("its schema version is {0}, made by a newer hookkeeper: this one knows up to {known}", known = newest_schema())]
    Newer(i32),
    /// SQLite finds the file damaged, or a row that breaks a rule of its table.
    #[error("damaged: {0}")]
    Damaged(String),
    /// A row refers to another that is not there.
    #[error("row {row} of {table} refers to a row of {parent} that is not there")]
    Reference {
        /// The table of the row.
        table: String,
        /// Its number.
        row: i64,
        /// The table that it refers to.
        parent: String,
    },
    /// The totals are not one row.
    #[error("there are {0} rows of totals, not one")]
    Totals(u64),
    /// The total of messages does not agree with the rows.
    #[error("total of messages is {counted}, there are {rows}")]
    MessageTotal {
        /// Recorded number.
        counted: i64,
        /// Real number.
        rows: u64,
    },
    /// The total of senders does not agree with the rows.
    #[error("total of senders is {counted}, there are {rows}")]
    SenderTotal {
        /// Recorded number.
        counted: i64,
        /// Real number.
        rows: u64,
    },
    /// The count of one sender does not agree with the rows; either may be 0, for not there.
    #[error("count of sender {sender} is {counted}, there are {rows} messages")]
    SenderCount {
        /// The sender.
        sender: String,
        /// Recorded number.
        counted: i64,
        /// Real number.
        rows: u64,
    },
    /// The recorded busiest senders do not agree with the counts.
    #[error("the ranking of the busiest senders does not agree with their counts")]
    Ranking,
    /// A message is not in the ledger or an index that should have it.
    #[error("message {seq} is not in {index}")]
    NotIndexed {
        /// The table.
        index: &'static str,
        /// The place of the message in the order of arrival.
        seq: i64,
    },
    /// The ledger or an index has entries that it should not have.
    #[error("{index} has {entries} entries for {messages} messages")]
    IndexCount {
        /// The table.
        index: &'static str,
        /// Entries of indexed messages.
        entries: u64,
        /// Indexed messages.
        messages: u64,
    },
    /// One message is stored twice.
    #[error("messages {first} and {second} have the same source and id")]
    Doubled {
        /// The place of the first in the order of arrival.
        first: i64,
        /// The place of the last.
        second: i64,
    },
    /// The recorded places are impossible.
    #[error(
        "the last message has place {seq_max}, but the recorded last place is {last_seq}, and the last indexed one {indexed_seq}"
    )]
    Places {
        /// Recorded last place.
        last_seq: i64,
        /// Recorded last place that the indexes include.
        indexed_seq: i64,
        /// Place of the last message.
        seq_max: i64,
    },
    /// The stored filter of a segment is no filter, or lacks some of its keys.
    #[error("the filter of segment {segment} leaves out keys")]
    KeyFilter {
        /// The segment.
        segment: i64,
    },
    /// A count by time does not agree with the messages, or with the counts below it.
    #[error("count of messages by time is wrong: level {level}, span {span}")]
    TimeCount {
        /// The level of the span.
        level: u32,
        /// The span.
        span: i64,
    },
    /// The text index is damaged, or leaves out messages. A backup does not have it, and a start rebuilds it.
    #[error(
        "text index: {0} (to rebuild it, stop the server, remove the file that ends in -search, and start the server)"
    )]
    SearchIndex(String),
    /// A body is not the one that was received, or its digest is not.
    #[error("body of message {seq} does not agree with its digest")]
    Body {
        /// The place of the message in the order of arrival.
        seq: i64,
    },
}

impl Report {
    /// Returns true if there are no problems.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.problems.is_empty()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { messages, senders, schema_version, problems } = self;
        write!(f, "messages {messages}, senders {senders}, schema version {schema_version}: ")?;
        match problems.as_slice() {
            [] => f.write_str("ok"),
            [_] => f.write_str("1 problem"),
            _ => write!(f, "{} problems", problems.len()),
        }?;
        problems.iter().try_for_each(|problem| write!(f, "\n  {problem}"))
    }
}
