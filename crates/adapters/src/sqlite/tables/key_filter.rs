//! The key filter tells which segments may have a key: a Bloom filter per segment, laid out so that one look reads 32 of them.
//!
//! The filters are columns of bits beside each other (bit-sliced): row `r` of a group has the bits at
//! place `r` of the filters of 32 segments in one word. A key has [`BITS_PER_KEY`] rows; the segments whose
//! bit is set in all of these may have it, the others surely have not.
//!
//! With 24 bits and 10 places a key, a segment that has not the key is looked at in vain once in 48,000
//! times (Bloom's formula, (1 - e^(-10/24))^10): at ten million messages, 153 segments, once in 300
//! new messages. Such a look is a page of an old segment, which has to be read from the disk; with 16 bits it would be
//! one in nine messages, and the disk the limit. It takes 3 bytes of memory a message, in steps of 6 MiB, up to
//! [`GROUPS_MAX`]: the filters of older segments are in the database (`key_filter_blocks.rs`).

use std::collections::BTreeMap;
use std::ops::Range;

/// Messages are grouped by arrival: a segment is 2^16 places of it.
pub(crate) const SEGMENT_BITS: u32 = 16;

/// Rows of a filter: 24 for each place of a segment.
pub(crate) const ROWS: usize = 24 << SEGMENT_BITS;

/// Bytes of a segment's filter as it is stored.
pub(crate) const COLUMN_BYTES: usize = ROWS / 8;

/// Rows that belong to one key.
const BITS_PER_KEY: u64 = 10;

/// Segments of a group.
pub(crate) const GROUP_BITS: u32 = u32::BITS.ilog2();

/// Groups in memory from which on the oldest are put into the database ([`Archive`](super::key_filter_blocks::Archive)): 144 MiB,
/// for 50 million keys. The memory that the service is allowed has room for one or two more meanwhile.
pub(crate) const GROUPS_MAX: usize = 24;

/// Source and id of a message, as the ledger has them.
pub(crate) type Key = [u8; 16];

/// The filters of all segments but the oldest.
#[derive(Default)]
pub(crate) struct KeyFilter {
    /// By number, for the 32 segments from 32 times that number on.
    groups: BTreeMap<i64, Vec<u32>>,
}

impl KeyFilter {
    /// Adds a key to a segment.
    pub(crate) fn insert(&mut self, segment: i64, key: &Key) {
        let group = self.group(segment);
        for row in rows(key) {
            group[row] |= bit(segment);
        }
    }

    /// Returns the segments that may have the key, the newest first.
    pub(crate) fn candidates(&self, key: &Key) -> impl Iterator<Item = i64> {
        let found = self.groups.iter().rev().map(|(number, group)| {
            let mut bits = u32::MAX;
            for row in rows(key) {
                bits &= group[row];
                if bits == 0 {
                    break;
                }
            }
            (*number, bits)
        });
        found.filter(|(_, bits)| *bits != 0).flat_map(|(number, bits)| {
            (0..i64::from(u32::BITS))
                .rev()
                .filter(move |n| bits >> n & 1 == 1)
                .map(move |n| (number << GROUP_BITS) + n)
        })
    }

    /// Returns the filter of one segment, to be stored.
    pub(crate) fn column(&self, segment: i64) -> Vec<u8> {
        let mut column = vec![0; COLUMN_BYTES];
        if let Some(group) = self.groups.get(&(segment >> GROUP_BITS)) {
            for (row, word) in group.iter().enumerate() {
                column[row / 8] |= u8::from(word & bit(segment) != 0) << (row % 8);
            }
        }
        column
    }

    /// Takes a stored filter; returns false if it is not one.
    pub(crate) fn set_column(&mut self, segment: i64, column: &[u8]) -> bool {
        if column.len() != COLUMN_BYTES {
            return false;
        }
        let group = self.group(segment);
        for (bytes, rows) in column.iter().zip(group.chunks_exact_mut(8)) {
            // Without a branch: a start does this for each place of ten million messages and more.
            for (n, row) in rows.iter_mut().enumerate() {
                *row |= u32::from(bytes >> n & 1) * bit(segment);
            }
        }
        true
    }

    /// Removes the filters of a segment and of all before it.
    pub(crate) fn remove_to(&mut self, segment: i64) {
        self.groups = self.groups.split_off(&((segment + 1) >> GROUP_BITS));
        if let Some(group) = self.groups.get_mut(&(segment >> GROUP_BITS)) {
            group.iter_mut().for_each(|row| *row &= !bit(segment));
        }
    }

    /// Returns the bits of a group of filters at a row, one bit per segment.
    pub(crate) fn word(&self, group: i64, row: usize) -> u32 {
        self.groups.get(&group).map_or(0, |group| group[row])
    }

    pub(crate) fn n_groups(&self) -> usize {
        self.groups.len()
    }

    pub(crate) fn oldest_group(&self) -> Option<i64> {
        self.groups.keys().next().copied()
    }

    /// Removes these groups: the database has them from now on.
    pub(crate) fn forget(&mut self, groups: Range<i64>) {
        self.groups.retain(|number, _| !groups.contains(number));
    }

    fn group(&mut self, segment: i64) -> &mut Vec<u32> {
        self.groups.entry(segment >> GROUP_BITS).or_insert_with(|| vec![0; ROWS])
    }
}

fn bit(segment: i64) -> u32 {
    1 << (segment & ((1 << GROUP_BITS) - 1))
}

/// A key is part of a digest, so that any bits of it are as good as random. (Two of them make the
/// rest: Kirsch and Mitzenmacher, "Less Hashing, Same Performance", 2006.)
pub(crate) fn rows(key: &Key) -> impl Iterator<Item = usize> {
    let half = |n: usize| u64::from_le_bytes(std::array::from_fn(|i| key[8 * n + i]));
    let (first, step) = (half(0), half(1) | 1);
    (0..BITS_PER_KEY).map(move |n| {
        // What part of all numbers is below this one, of the rows.
        let mixed = first.wrapping_add(n.wrapping_mul(step));
        usize::try_from((u128::from(mixed) * ROWS as u128) >> u64::BITS).expect("it is less than ROWS")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As good as random: the finalizer of SplitMix64 (Steele, Lea and Flood, 2014).
    fn mixed(n: u64) -> u64 {
        let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        n ^ (n >> 31)
    }

    fn key(n: u64) -> Key {
        let mut key = [0; 16];
        key[..8].copy_from_slice(&mixed(2 * n + 1).to_le_bytes());
        key[8..].copy_from_slice(&mixed(2 * n + 2).to_le_bytes());
        key
    }

    #[test]
    fn what_was_put_in_is_found_and_little_else() {
        let mut filter = KeyFilter::default();
        let per_segment = 1 << SEGMENT_BITS;
        for segment in 30..34_i64 {
            for n in 0..per_segment {
                filter.insert(segment, &key(segment.unsigned_abs() * per_segment + n));
            }
        }
        for segment in 30..34_i64 {
            for n in (0..per_segment).step_by(97) {
                let found: Vec<i64> =
                    filter.candidates(&key(segment.unsigned_abs() * per_segment + n)).collect();
                assert!(found.contains(&segment), "{n}");
                assert!(found.is_sorted_by(|a, b| a > b), "the newest first: {found:?}");
            }
        }
        let vain: usize = (0..1_000_000).map(|n| filter.candidates(&key(1 << 40 | n)).count()).sum();
        assert!(vain < 1_000_000 * 4 / 24_000, "{vain} looks in vain, twice as many as the formula says");
    }

    #[test]
    fn a_column_is_taken_out_and_put_back() {
        let mut filter = KeyFilter::default();
        filter.insert(3, &key(1));
        filter.insert(4, &key(2));
        let mut other = KeyFilter::default();
        assert!(other.set_column(3, &filter.column(3)));
        assert_eq!(other.candidates(&key(1)).collect::<Vec<_>>(), [3]);
        assert_eq!(other.candidates(&key(2)).count(), 0);
        other.insert(31, &key(3));
        other.insert(32, &key(4));
        other.remove_to(3);
        assert_eq!(other.candidates(&key(1)).count(), 0);
        other.remove_to(31);
        assert_eq!(other.n_groups(), 1, "memory of a group without keys is given back");
        assert_eq!(other.candidates(&key(4)).collect::<Vec<_>>(), [32]);
        assert!(!other.set_column(3, &[0; 7]), "that is no filter");
        assert_eq!(filter.column(1000), KeyFilter::default().column(0));
    }
}
