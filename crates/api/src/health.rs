//! Health of the service, as `/health/live` and `/health/ready` answer it.

use serde::Serialize;
use utoipa::ToSchema;

/// Health of the service.
#[derive(Serialize, ToSchema)]
#[serde(tag = "status", rename_all = "snake_case")]
pub(crate) enum Health {
    Live,
    Ready,
    NotReady {
        /// The reason, for a client that has the token or connects from the machine itself. Others read `not ready`.
        detail: String,
    },
}
