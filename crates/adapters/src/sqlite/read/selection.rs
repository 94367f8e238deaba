//! Where the messages that a filter wants are found in the database: in which tables, under which conditions.

use domain::query::{Filter, Place};
use rusqlite::types::Value;

use crate::sqlite::search::file::Search;
use crate::sqlite::tables::key_filter::segment_of;

/// A part of an answer: the rows of one table, called `i`, that meet some conditions. The arms of a filter
/// have nothing in common, and together have all that it wants.
#[derive(Clone)]
pub(crate) struct Arm {
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

/// What the indexes have of what a filter wants, when those of time and sender go up to `indexed_seq`.
pub(crate) fn indexed(filter: &Filter, indexed_seq: i64) -> Arm {
    let arm = match &filter.sender {
        Some(_) => Arm::new(BY_SENDER, [segment_of(indexed_seq).into()]),
        None => Arm::new(BY_TIME, []),
    };
    arm.and("i.seq <= ?", [indexed_seq.into()]).filtered(filter, HAS_TEXT_OF_ENTRY)
}

/// All that a filter wants, by the index of texts: what this has, and the messages that it does not have yet.
pub(crate) fn searched(filter: &Filter, search: Search) -> [Arm; 2] {
    let Search { matching, searched_seq, .. } = search;
    [
        Arm::new(BY_TEXT, [])
            .and("t.texts MATCH ?", [matching.into()])
            .and("i.seq <= ?", [searched_seq.into()])
            .filtered(filter, HAS_TEXT),
        Arm::new(MESSAGES, []).and("i.seq > ?", [searched_seq.into()]).filtered(filter, HAS_TEXT),
    ]
}

/// All that a filter wants, without any index.
pub(crate) fn scanned(filter: &Filter) -> Arm {
    Arm::new(MESSAGES, []).and("i.seq > 0", []).filtered(filter, HAS_TEXT)
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

    /// Only what is not before this microsecond.
    pub(crate) fn not_before(self, ts_us: i64) -> Self {
        self.and("i.ts_us >= ?", [ts_us.into()])
    }

    /// `SELECT columns` of the rows, and the values of its parameters.
    pub(crate) fn select(&self, columns: &str) -> (String, Vec<Value>) {
        let Self { from, conditions, values } = self;
        (format!("SELECT {columns} FROM {from} WHERE {}", conditions.join(" AND ")), values.clone())
    }
}

#[cfg(test)]
mod tests {
    use domain::query::TextQuery;
    use domain::time::ExactTime;
    use rusqlite::functions::FunctionFlags;
    use rusqlite::{Connection, params_from_iter};

    use super::*;
    use crate::sqlite::schema;

    /// The indexed part of every answer comes from its index in order: nothing is scanned, and nothing sorted but
    /// the segments of a sender, or what a text was found in.
    #[test]
    fn no_filter_scans_or_sorts_what_an_index_gives() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.db");
        let db: Connection = schema::open_and_migrate(&path).unwrap();
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
