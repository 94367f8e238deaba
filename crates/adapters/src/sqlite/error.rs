//! What an error of SQLite means to a caller of the ports.

use std::sync::Arc;

use domain::store::{StoreError, StoreErrorKind};
use rusqlite::ErrorCode;

/// For a statement whose transaction did not commit.
pub(super) fn store_error(operation: &'static str, error: rusqlite::Error) -> StoreError {
    let kind = match error.sqlite_error_code() {
        // Another process holds the lock, or a question was cut off because it took too long.
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::OperationInterrupted) => {
            StoreErrorKind::Busy
        }
        Some(
            ErrorCode::DiskFull
            | ErrorCode::SystemIoFailure
            | ErrorCode::CannotOpen
            | ErrorCode::ReadOnly
            | ErrorCode::OutOfMemory
            | ErrorCode::PermissionDenied,
        ) => StoreErrorKind::Unavailable,
        _ => StoreErrorKind::Fault,
    };
    StoreError { kind, operation, source: Arc::new(error) }
}
