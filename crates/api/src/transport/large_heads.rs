//! Memory of the heads that are larger than usual: bounded for all clients and for each.

use std::sync::Arc;

use crate::limits::share::Shares;

/// Bytes of a head that every connection may have. What larger ones have beyond is counted in [`Heads`].
pub(crate) const SMALL_HEAD_BYTES_MAX: usize = 4 << 10;

/// Bytes of all large heads.
const HEADS_BYTES_MAX: usize = 16 << 20;

/// Bytes of the large heads from one address.
const CLIENT_HEADS_BYTES_MAX: usize = 4 << 20;

/// Memory of all large heads.
pub(crate) type Heads = Arc<Shares>;

/// Returns memory for large heads, all of it free.
pub(crate) fn heads() -> Heads {
    Shares::of_all(HEADS_BYTES_MAX, CLIENT_HEADS_BYTES_MAX)
}
