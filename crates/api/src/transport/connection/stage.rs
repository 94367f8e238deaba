//! Part of a request that the next byte belongs to.

use crate::transport::chunks::Chunks;

/// Part of a request.
pub(super) enum Stage {
    Head,
    /// A body, with the number of bytes that are still to come.
    Body(u64),
    Chunks(Chunks),
    /// Bytes that are not served, and only read so that the client can read its answer.
    Rest,
    /// The rest of a connection on which nothing valid can follow.
    End,
}

impl Stage {
    /// Returns the stage, or that of the next head if the body has ended.
    pub(super) fn unless_ended(self) -> Self {
        match self {
            Self::Body(0) => Self::Head,
            Self::Chunks(chunks) if chunks.has_ended() => Self::Head,
            stage => stage,
        }
    }
}
