//! Table `key_filter_blocks`: the key filters of old segments. Memory has those of the newest, up to a bound.
//!
//! An area is 512 segments that follow each other. As in memory, the bits of all its segments that belong to one place of
//! a filter lie side by side, so that a key is looked for in all of an area with one page for each of its first places,
//! about seven, until no segment is left that may have it. Areas are written a few blocks with each transaction; when the
//! last block is there, the area is whole, and memory forgets it.

use std::ops::Range;

use rusqlite::{Connection, OptionalExtension, Transaction, params};

use crate::sqlite::tables::key_filter::{GROUP_BITS, GROUPS_MAX, Key, KeyFilter, ROWS, SEGMENT_BITS, rows};
use crate::sqlite::tables::segments;

/// Segments of an area. With more of them fewer pages are read for a key, and memory has more to hold until an area is
/// whole: 96 MiB.
const AREA_BITS: u32 = 9;

/// Bytes of a block: one row of a table that fits into a page of 4 KiB.
const BLOCK_BYTES: usize = 3 << 10;

/// Blocks that a transaction writes while an area is put together: 96 KiB.
const BLOCKS_PER_COMMIT: i64 = 32;

/// The same while the program starts, of what an older version left.
const BLOCKS_PER_START_COMMIT: i64 = 4096;

/// Bound of the filters in memory, and layout of the others.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    groups_max: usize,
    area_bits: u32,
}

impl Default for Shape {
    fn default() -> Self {
        Self { groups_max: GROUPS_MAX, area_bits: AREA_BITS }
    }
}

impl Shape {
    #[cfg(test)]
    pub(crate) fn of(groups_max: usize, area_bits: u32) -> Self {
        Self { groups_max, area_bits }
    }

    /// Bytes of the bits of all segments of an area that belong to one place.
    fn row_bytes(self) -> usize {
        1 << (self.area_bits - 3)
    }

    fn rows_per_block(self) -> usize {
        BLOCK_BYTES / self.row_bytes()
    }

    fn blocks(self) -> i64 {
        i64::try_from(ROWS / self.rows_per_block()).expect("there are at most 2^16")
    }

    fn area_of(self, segment: i64) -> i64 {
        segment >> self.area_bits
    }

    fn groups(self, area: i64) -> Range<i64> {
        let bits = self.area_bits - GROUP_BITS;
        area << bits..(area + 1) << bits
    }
}

fn block_id(area: i64, n: i64) -> i64 {
    area << 16 | n
}

/// Areas that are whole in the database, and the one that is being written.
#[derive(Default)]
pub(crate) struct Archive {
    shape: Shape,
    areas: Vec<i64>,
    /// The area, and its next block.
    writing: Option<(i64, i64)>,
}

impl Archive {
    /// Finds the areas of these segments that are whole.
    pub(crate) fn read(db: &Connection, shape: Shape, last_segment: i64) -> rusqlite::Result<Self> {
        let mut is_there = db.prepare("SELECT 1 FROM key_filter_blocks WHERE block = ?1")?;
        let mut areas = Vec::new();
        for area in 0..=shape.area_of(last_segment) {
            if is_there.exists([block_id(area, shape.blocks() - 1)])? {
                areas.push(area);
            }
        }
        Ok(Self { shape, areas, writing: None })
    }

    /// Returns true if the database has the filter of this segment, so that memory need not.
    pub(crate) fn has(&self, segment: i64) -> bool {
        self.areas.contains(&self.shape.area_of(segment))
    }

    /// Returns the segments that may have the key, the newest first.
    pub(crate) fn candidates(&self, tx: &Connection, key: &Key) -> rusqlite::Result<Vec<i64>> {
        let mut found = Vec::new();
        for area in self.areas.iter().rev() {
            found.extend(candidates(tx, self.shape, *area, key)?);
        }
        Ok(found)
    }

    /// Writes some blocks of the oldest segments in memory, if memory has too many. All segments before `before_segment` are
    /// whole.
    pub(crate) fn write(
        &mut self,
        tx: &Transaction<'_>,
        filter: &mut KeyFilter,
        before_segment: i64,
    ) -> rusqlite::Result<()> {
        self.write_blocks(tx, filter, before_segment, BLOCKS_PER_COMMIT).map(drop)
    }

    /// Returns true if the database lacks the filters of more segments than memory should have.
    pub(crate) fn is_behind(&self, before_segment: i64) -> bool {
        let n_segments = (0..before_segment).filter(|segment| !self.has(*segment)).count();
        n_segments >> GROUP_BITS > self.shape.groups_max
    }

    /// Writes all that is due, before messages come in.
    pub(crate) fn write_all(
        &mut self,
        db: &mut Connection,
        filter: &mut KeyFilter,
        before_segment: i64,
    ) -> rusqlite::Result<()> {
        loop {
            let tx = db.transaction()?;
            let is_due = self.write_blocks(&tx, filter, before_segment, BLOCKS_PER_START_COMMIT)?;
            tx.commit()?;
            if !is_due {
                return Ok(());
            }
        }
    }

    fn write_blocks(
        &mut self,
        tx: &Transaction<'_>,
        filter: &mut KeyFilter,
        before_segment: i64,
        n_max: i64,
    ) -> rusqlite::Result<bool> {
        let Some((area, next)) = self.next_block(tx, filter, before_segment)? else {
            return Ok(false);
        };
        let groups = self.shape.groups(area);
        let to = self.shape.blocks().min(next + n_max);
        let mut insert =
            tx.prepare_cached("INSERT OR REPLACE INTO key_filter_blocks (block, bits) VALUES (?1, ?2)")?;
        for n in next..to {
            let first_row = usize::try_from(n).expect("a block's number") * self.shape.rows_per_block();
            let words = (first_row..first_row + self.shape.rows_per_block())
                .flat_map(|row| groups.clone().map(move |group| (group, row)));
            let mut bits = Vec::with_capacity(BLOCK_BYTES);
            words.for_each(|(group, row)| bits.extend(filter.word(group, row).to_le_bytes()));
            if n + 1 == self.shape.blocks() || bits.iter().any(|byte| *byte != 0) {
                insert.execute(params![block_id(area, n), bits])?;
            }
        }
        self.writing = Some((area, to)).filter(|_| to < self.shape.blocks());
        if self.writing.is_none() {
            self.areas.push(area);
            self.areas.sort_unstable();
            self.areas.dedup();
            filter.forget(groups);
        }
        Ok(true)
    }

    /// Returns the next block to write.
    fn next_block(
        &self,
        tx: &Transaction<'_>,
        filter: &KeyFilter,
        before_segment: i64,
    ) -> rusqlite::Result<Option<(i64, i64)>> {
        if self.writing.is_some() {
            return Ok(self.writing);
        }
        let Some(oldest) = filter.oldest_group().filter(|_| filter.n_groups() > self.shape.groups_max) else {
            return Ok(None);
        };
        let area = self.shape.area_of(oldest << GROUP_BITS);
        if (area + 1) << self.shape.area_bits > before_segment {
            return Ok(None);
        }
        // A crash may have cut it off.
        let written: Option<i64> = tx.query_row(
            "SELECT max(block) FROM key_filter_blocks WHERE block >= ?1 AND block < ?2",
            [block_id(area, 0), block_id(area + 1, 0)],
            |row| row.get(0),
        )?;
        Ok(Some((area, written.map_or(0, |block| block - block_id(area, 0)))))
    }

    /// Removes up to `n_max` blocks of segments that have no keys any more, all before `before_segment`; returns true if there
    /// were any.
    pub(crate) fn forget(
        &mut self,
        tx: &Transaction<'_>,
        before_segment: i64,
        n_max: usize,
    ) -> rusqlite::Result<bool> {
        let before = self.shape.area_of(before_segment);
        self.areas.retain(|area| *area >= before);
        self.writing = self.writing.filter(|(area, _)| *area >= before);
        let n = tx
            .prepare_cached(
                "DELETE FROM key_filter_blocks WHERE block IN \
                    (SELECT block FROM key_filter_blocks WHERE block < ?1 ORDER BY block LIMIT ?2)",
            )?
            .execute(params![block_id(before, 0), n_max])?;
        Ok(n > 0)
    }
}

/// Returns the segments of an area that may have the key, the newest first.
fn candidates(tx: &Connection, shape: Shape, area: i64, key: &Key) -> rusqlite::Result<Vec<i64>> {
    let row_bytes = shape.row_bytes();
    let mut found = vec![u8::MAX; row_bytes];
    let mut block = tx.prepare_cached("SELECT bits FROM key_filter_blocks WHERE block = ?1")?;
    for row in rows(key) {
        let (n, row) = (row / shape.rows_per_block(), row % shape.rows_per_block());
        let id = block_id(area, i64::try_from(n).expect("there are at most 2^16"));
        let is_any = block
            .query_row([id], |columns| {
                let bits = columns.get_ref(0)?.as_blob()?;
                let bits = bits.get(row * row_bytes..).unwrap_or_default();
                found.iter_mut().zip(bits).for_each(|(found, bits)| *found &= bits);
                Ok(bits.len() >= row_bytes && found.iter().any(|byte| *byte != 0))
            })
            .optional()?;
        if is_any != Some(true) {
            return Ok(Vec::new());
        }
    }
    let is_set = |n: &i64| {
        let n = usize::try_from(*n).expect("a segment's number in its area");
        found[n / 8] >> (n % 8) & 1 == 1
    };
    Ok((0..1_i64 << shape.area_bits).rev().filter(is_set).map(|n| (area << shape.area_bits) + n).collect())
}

/// Returns the segments whose stored filters have bits that their area lacks.
pub(crate) fn incomplete(tx: &Connection, shape: Shape) -> rusqlite::Result<Vec<i64>> {
    let mut incomplete = Vec::new();
    for area in Archive::read(tx, shape, segments::last(tx)?)?.areas {
        for (n, group) in shape.groups(area).enumerate() {
            let left_out = left_out(tx, shape, area, n, &segments::read_group(tx, group)?)?;
            incomplete.extend(
                (0..1 << GROUP_BITS).filter(|n| left_out >> n & 1 == 1).map(|n| (group << GROUP_BITS) + n),
            );
        }
    }
    Ok(incomplete)
}

/// Returns the segments of the `n`th group of an area that have a bit which the area lacks, as bits.
fn left_out(tx: &Connection, shape: Shape, area: i64, n: usize, filter: &KeyFilter) -> rusqlite::Result<u32> {
    let group = shape.groups(area).start + i64::try_from(n).expect("some");
    let mut block = tx.prepare_cached("SELECT bits FROM key_filter_blocks WHERE block = ?1")?;
    let mut left_out = 0;
    for n_block in 0..shape.blocks() {
        let bits: Vec<u8> =
            block.query_row([block_id(area, n_block)], |row| row.get(0)).optional()?.unwrap_or_default();
        let first_row = usize::try_from(n_block).expect("a block's number") * shape.rows_per_block();
        for row in 0..shape.rows_per_block() {
            let bytes = bits.get(row * shape.row_bytes() + 4 * n..).and_then(|bits| bits.first_chunk());
            left_out |=
                filter.word(group, first_row + row) & !bytes.map_or(0, |bytes| u32::from_le_bytes(*bytes));
        }
    }
    Ok(left_out)
}

const _: () = assert!(AREA_BITS > GROUP_BITS && ROWS == 24 << SEGMENT_BITS);
