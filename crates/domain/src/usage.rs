//! Port: the resources that a store takes up.

use std::time::Duration;

use async_trait::async_trait;

use crate::store::StoreError;

/// Resources that a store takes up.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    /// Appends that wait for a commit.
    pub queue_depth: usize,
    /// Appends that may wait.
    pub queue_capacity: usize,
    /// Bytes of all files of the store.
    pub store_bytes: u64,
    /// Bytes of the write-ahead log.
    pub wal_bytes: u64,
    /// Bytes that are free on its file system for a process that is not root's.
    pub disk_free_bytes: u64,
    /// Bytes of its file system.
    pub disk_size_bytes: u64,
    /// Time from 1970 to the last backup; `None` if there was none.
    pub last_backup: Option<Duration>,
}

/// Tells the resources that a store takes up.
#[async_trait]
pub trait StoreUsage: Send + Sync {
    /// Returns the usage now; a resource that can't be read counts as 0.
    fn usage(&self) -> Usage;

    /// Returns how many messages the text index does not have yet. A search reads the texts of these.
    ///
    /// # Errors
    /// As [`list`](crate::query::MessageQuery::list).
    async fn unindexed_texts(&self) -> Result<u64, StoreError>;
}
