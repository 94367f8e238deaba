//! Selections: the tables and conditions by which the database finds the messages that match a filter.

use domain::query::{Filter, Place};
use rusqlite::types::Value;

use crate::sqlite::search::file;
use crate::sqlite::search::lookup::Search;
use crate::sqlite::tables::key_filter::SEGMENT_BITS;
use crate::sqlite::tables::segments::segment_of;
use crate::sqlite::tables::{by_sender, by_time, messages};

/// A part of an answer: the rows of one table, called `i`, that meet some conditions. The selections of a filter are
/// disjoint, and together have all messages that match.
#[derive(Clone)]
pub(crate) struct Selection {
    from: &'static str,
    conditions: Vec<&'static str>,
    values: Vec<Value>,
}

/// Condition: the message `i` has this text.
const HAS_TEXT: &str = "text_contains(i.text, ?)";

/// Selects the indexed messages that match a filter; the indexes by time and by sender go up to `indexed_seq`.
pub(crate) fn indexed(filter: &Filter, indexed_seq: i64) -> Selection {
    let selection = match &filter.sender {
        Some(_) => Selection::new(by_sender::ROWS, [SEGMENT_BITS.into(), segment_of(indexed_seq).into()]),
        None => Selection::new(by_time::ROWS, []),
    };
    selection.and("i.seq <= ?", [indexed_seq.into()]).filtered(filter, messages::HAS_TEXT_OF_ENTRY)
}

/// Selects all messages that match a filter, by the text index: those that it has, and those that it lacks.
pub(crate) fn searched(filter: &Filter, search: Search) -> [Selection; 2] {
    let Search { matching, searched_seq, .. } = search;
    [
        Selection::new(file::ROWS, [])
            .and("t.texts MATCH ?", [matching.into()])
            .and("i.seq <= ?", [searched_seq.into()])
            .filtered(filter, HAS_TEXT),
        Selection::new(messages::ROWS, []).and("i.seq > ?", [searched_seq.into()]).filtered(filter, HAS_TEXT),
    ]
}

/// Selects all messages that match a filter, without any index.
pub(crate) fn scanned(filter: &Filter) -> Selection {
    Selection::new(messages::ROWS, []).and("i.seq > 0", []).filtered(filter, HAS_TEXT)
}

impl Selection {
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

    /// Narrows it to what comes after a place in the order of listing.
    pub(crate) fn after(self, place: &Place) -> Self {
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

    /// Narrows it to what is not before this microsecond.
    pub(crate) fn not_before(self, ts_us: i64) -> Self {
        self.and("i.ts_us >= ?", [ts_us.into()])
    }

    /// Returns `SELECT columns` of the rows, and the values of its parameters.
    pub(crate) fn select(&self, columns: &str) -> (String, Vec<Value>) {
        let Self { from, conditions, values } = self;
        (format!("SELECT {columns} FROM {from} WHERE {}", conditions.join(" AND ")), values.clone())
    }
}

#[cfg(test)]
mod tests {
    use domain::text_query::TextQuery;
    use domain::time::ExactTime;
    use rusqlite::functions::FunctionFlags;
    use rusqlite::{Connection, params_from_iter};

    use super::*;
    use crate::sqlite::open;

    /// The indexed part of every answer comes from its index in order: nothing is scanned, and nothing sorted but
    /// the segments of a sender, or what a text was found in.
    #[test]
    fn no_filter_scans_or_sorts_what_an_index_gives() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.db");
        let db: Connection = open::open_and_migrate(&path).unwrap();
        db.create_scalar_function("text_contains", 2, FunctionFlags::default(), |_| Ok(true)).unwrap();
        let since = Some(ExactTime::parse_utc("2025-01-15T10:00:00Z").unwrap());
        let sender = Some("+1".to_owned());
        let text = Some(TextQuery::new("x"));
        for (sender, since, text, index) in [
            (None, None, None, "SCAN i"),
            (None, since.clone(), None, "SEARCH i USING PRIMARY KEY ((ts_us,ts_finer)>(?,?))"),
            (None, since.clone(), text, "SEARCH i USING PRIMARY KEY ((ts_us,ts_finer)>(?,?))"),
            (sender.clone(), None, None, "SEARCH i USING PRIMARY KEY (segment=? AND sender=?)"),
            (
                sender,
                since,
                None,
                "SEARCH i USING PRIMARY KEY (segment=? AND sender=? AND (ts_us,ts_finer)>(?,?))",
            ),
        ] {
            let is_by_time = sender.is_none();
            let (select, values) = indexed(&Filter { sender, since, text }, 7).select("i.seq");
            let sql = format!(
                "EXPLAIN QUERY PLAN {select} ORDER BY i.ts_us, i.ts_finer, i.message_id, i.seq LIMIT 1"
            );
            let plan: Vec<String> = db
                .prepare(&sql)
                .unwrap()
                .query_map(params_from_iter(values), |row| row.get(3))
                .unwrap()
                .collect::<rusqlite::Result<_>>()
                .unwrap();
            let plan = plan.join("; ");
            assert!(plan.contains(index), "{sql}: {plan}");
            assert!(!is_by_time || !plan.contains("TEMP B-TREE"), "{sql}: {plan}");
        }
    }
}
