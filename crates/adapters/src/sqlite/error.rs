//! What an error of SQLite means to a caller of the ports.

use std::sync::Arc;

use domain::store::{StoreError, StoreErrorKind};
use rusqlite::ErrorCode;

/// For a statement whose transaction did not commit.
pub(super) fn store_error(operation: &'static str, error: rusqlite::Error) -> StoreError {
    StoreError { kind: kind_of(&error), operation, source: Arc::new(error) }
}

fn kind_of(error: &rusqlite::Error) -> StoreErrorKind {
    let Some(code) = error.sqlite_error_code() else {
        return StoreErrorKind::Fault;
    };
    match code {
        // Another process holds the lock, or a question was cut off because it took too long.
        ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::OperationInterrupted => {
            StoreErrorKind::Busy
        }
        ErrorCode::DiskFull
        | ErrorCode::SystemIoFailure
        | ErrorCode::CannotOpen
        | ErrorCode::ReadOnly
        | ErrorCode::OutOfMemory
        | ErrorCode::PermissionDenied => StoreErrorKind::Unavailable,
        _ => StoreErrorKind::Fault,
    }
}

/// Whether SQLite has found a file damaged.
pub(super) fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}

/// Whether it is the disk or another process that fails, and the file may be as it should be.
pub(super) fn is_passing(error: &rusqlite::Error) -> bool {
    matches!(kind_of(error), StoreErrorKind::Busy | StoreErrorKind::Unavailable)
}
