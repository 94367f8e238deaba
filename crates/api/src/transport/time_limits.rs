//! Time limits of a connection: each bounds how long its client may keep the service waiting.

use std::time::Duration;

/// Time for a head to arrive whole, from the start of the connection or from its first byte.
pub(crate) const HEAD_TIME_MAX: Duration = Duration::from_secs(10);

/// Time that a connection may idle between requests: more than the minute that most senders' pools keep
/// theirs, so that the sender closes it and not the service.
pub(crate) const KEEP_ALIVE: Duration = Duration::from_secs(75);

/// Time for an answer to be read and the next head to arrive. An answer that is read at once leaves the whole of
/// [`KEEP_ALIVE`] to idle. Of a streamed answer it is the time in which some of it must be read.
pub(crate) const CLIENT_TIME_MAX: Duration = Duration::from_secs(90);
