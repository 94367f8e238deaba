//! Options of a store.

use std::path::PathBuf;
use std::sync::Arc;

use domain::event::{CommitReport, StoreEvent};

/// Options of a store.
pub struct SqliteOptions {
    /// Database file; it, its folder and its schema are created if they are missing.
    pub path: PathBuf,
    /// Most messages of one commit: [`BATCH_MESSAGES_MAX`](crate::sqlite::BATCH_MESSAGES_MAX), but for measurements of what it
    /// gains.
    pub batch_messages_max: usize,
    /// Called after each commit, on the writer thread: must be quick.
    pub on_commit: Box<dyn Fn(CommitReport) + Send>,
    /// Called when something has happened by itself, on the thread where it did: must be quick.
    pub on_event: Arc<dyn Fn(StoreEvent) + Send + Sync>,
}
