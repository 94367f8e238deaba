//! Work that an older version left, which a start does before messages come in.

use rusqlite::{Connection, TransactionBehavior};

use crate::sqlite::tables::key_filter::KeyFilter;
use crate::sqlite::tables::key_filter_blocks::{Archive, Shape};
use crate::sqlite::tables::messages;
use crate::sqlite::tables::segments::{self, segment_of};
use crate::sqlite::tables::totals::bounds;
use crate::sqlite::wal::checkpoint;
use crate::sqlite::write::sorted_run::{SortedRun, end_of_run};
use crate::sqlite::write::state::{WriterState, data_version, read_filter};

/// Indexes the messages of an older version, which had other indexes. This version leaves two runs at most, and goes on with
/// these.
pub(crate) fn index_backlog(db: &mut Connection, shape: Shape) -> rusqlite::Result<()> {
    let has_backlog = |(indexed_seq, last_seq)| last_seq > end_of_run(end_of_run(indexed_seq));
    let mut known = None;
    while has_backlog(bounds(db)?) {
        let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        // Another server may have done some of it by now: counts must be added only once.
        let (indexed_seq, last_seq) = bounds(&tx)?;
        if !has_backlog((indexed_seq, last_seq)) {
            return Ok(());
        }
        let data_version = data_version(&tx)?;
        let (mut filter, mut archive) = match known.take() {
            Some((version, filter, archive)) if version == data_version => (filter, archive),
            _ => {
                let archive = Archive::read(&tx, shape, segment_of(last_seq))?;
                (read_filter(&tx, KeyFilter::default(), &archive, 0..=segment_of(last_seq))?, archive)
            }
        };
        let end_seq = end_of_run(indexed_seq);
        let mut run = SortedRun::new(messages::entries(&tx, indexed_seq, end_seq)?);
        run.write(&tx, &mut filter, usize::MAX)?;
        tx.commit()?;
        archive.write_all(db, &mut filter, segment_of(end_seq + 1))?;
        known = Some((data_version, filter, archive));
        checkpoint::move_long_log(db)?;
    }
    Ok(())
}

/// Writes key filters to the database for which memory has no room, as an older version left them.
pub(crate) fn archive_backlog(db: &mut Connection, shape: Shape) -> rusqlite::Result<()> {
    let (indexed_seq, last_seq) = bounds(db)?;
    let before_segment = segment_of(indexed_seq + 1);
    let mut archive = Archive::read(db, shape, segment_of(last_seq))?;
    if !archive.is_behind(before_segment) {
        return Ok(());
    }
    let mut filter = KeyFilter::default();
    for segment in 0..before_segment {
        filter = read_filter(db, filter, &archive, segment..=segment)?;
        archive.write_all(db, &mut filter, before_segment)?;
    }
    Ok(())
}

/// Stores the key filters again that an older version stored in another form.
pub(crate) fn renew_filters(db: &mut Connection, state: &WriterState) -> rusqlite::Result<()> {
    // Mostly there are none, and nothing is written.
    let tx = db.transaction()?;
    for segment in segments::with_old_filters(&tx)? {
        if let Some(column) = state.filter_column(segment) {
            segments::set_filter(&tx, segment, &column)?;
        }
    }
    tx.commit()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sqlite::open;

    /// Two servers that started together read how far the indexes went, waited for each other, and added the same run to the
    /// counts by time twice. Method: without the lock that keeps starts apart.
    #[test]
    fn what_is_to_be_indexed_is_indexed_once_whoever_starts() {
        const N_MESSAGES: i64 = 60_000;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.db");
        let db = open::open_and_migrate(&path).unwrap();
        let messages = "INSERT INTO messages WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < ?1) \
                        SELECT n, 1, 'm' || n, '+1', '+2', '', n * 1000, '', NULL, n, zeroblob(32), x'' FROM n";
        db.execute(messages, [N_MESSAGES]).unwrap();
        db.execute("UPDATE totals SET last_seq = ?1, message_count = ?1", [N_MESSAGES]).unwrap();
        let start = || {
            let mut db = open::open_writer(&path).unwrap();
            index_backlog(&mut db, Shape::default()).unwrap();
        };
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(start);
            }
        });
        let (indexed_seq, _) = bounds(&db).unwrap();
        assert!(indexed_seq > N_MESSAGES / 3);
        let sum = "SELECT sum(message_count) FROM time_counts WHERE level = 0";
        let counted: i64 = db.query_row(sum, [], |row| row.get(0)).unwrap();
        assert_eq!(counted, indexed_seq);
    }
}
