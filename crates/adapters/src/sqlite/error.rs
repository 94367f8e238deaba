//! Errors of SQLite as errors of the ports.

use std::sync::Arc;

use domain::store::{StoreError, StoreErrorKind};
use rusqlite::ErrorCode;

/// Returns the error of a statement whose transaction did not commit.
pub(crate) fn store_error(operation: &'static str, error: rusqlite::Error) -> StoreError {
    StoreError { kind: kind_of(&error), operation, source: Arc::new(error) }
}

fn kind_of(error: &rusqlite::Error) -> StoreErrorKind {
    let Some(code) = error.sqlite_error_code() else {
        return StoreErrorKind::Fault;
    };
    match code {
        // Another process holds the lock, or a query was cut off because it took too long.
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

/// Returns true if SQLite has found a file damaged.
pub(crate) fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}

/// Returns true if the disk or another process fails, and the file may be sound.
pub(crate) fn is_passing(error: &rusqlite::Error) -> bool {
    matches!(kind_of(error), StoreErrorKind::Busy | StoreErrorKind::Unavailable)
}
