//! Pace at which a body must arrive.

use std::time::Duration;

use actix_web::web::Bytes;
use futures_util::{Stream, StreamExt};
use tokio::time::{Instant, timeout_at};

use crate::error::ApiError;

/// Time from the head of a request to the end of its body. A megabyte takes less over the slowest phone network, and a
/// slower sender keeps a connection from others.
pub(crate) const BODY_TIME_MAX: Duration = Duration::from_secs(10);

/// Period in which a body brings at least [`BODY_BYTES_PER_PERIOD_MIN`] or ends: one that stalls holds memory for
/// nothing. Two lost packets in a row delay a body by less.
pub(crate) const BODY_PERIOD: Duration = Duration::from_secs(5);

/// Bytes that a body brings in each [`BODY_PERIOD`]. A smaller body arrives whole within the first.
pub(crate) const BODY_BYTES_PER_PERIOD_MIN: usize = 16 << 10;

/// Pace of one body.
pub(super) struct Pace {
    deadline: Instant,
    period_end: Instant,
    period_bytes: usize,
}

impl Pace {
    pub(super) fn new(now: Instant) -> Self {
        Self { deadline: now + BODY_TIME_MAX, period_end: now + BODY_PERIOD, period_bytes: 0 }
    }

    /// Returns the next part of a body.
    ///
    /// # Errors
    /// [`ApiError::TooSlow`].
    pub(super) async fn next_of<T>(
        &mut self,
        payload: &mut (impl Stream<Item = Result<Bytes, T>> + Unpin),
    ) -> Result<Option<Result<Bytes, T>>, ApiError> {
        loop {
            match timeout_at(self.period_end.min(self.deadline), payload.next()).await {
                Ok(part) => {
                    if let Some(Ok(bytes)) = &part {
                        self.period_bytes += bytes.len();
                    }
                    return Ok(part);
                }
                Err(_) if self.deadline <= self.period_end => {
                    return Err(ApiError::TooSlow { bytes: None, secs: BODY_TIME_MAX.as_secs() });
                }
                Err(_) if self.period_bytes < BODY_BYTES_PER_PERIOD_MIN => {
                    return Err(ApiError::TooSlow {
                        bytes: Some(BODY_BYTES_PER_PERIOD_MIN),
                        secs: BODY_PERIOD.as_secs(),
                    });
                }
                Err(_) => {
                    self.period_end += BODY_PERIOD;
                    self.period_bytes = 0;
                }
            }
        }
    }
}
