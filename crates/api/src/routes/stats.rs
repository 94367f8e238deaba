//! `GET /stats`.

use actix_web::HttpRequest;
use actix_web::web::{Data, Json};
use domain::message::PhoneNumber;
use domain::query::Stats;
use domain::store::{StoreError, StoreErrorKind};
use serde::Serialize;
use utoipa::ToSchema;

use super::answer::answer;
use crate::access::rights::Denied;
use crate::error::ApiError;
use crate::limits::queries::{CLIENT_LOOK_UPS, Kind};
use crate::routes::messages::EXAMPLE;
use crate::schema;
use crate::state::App;

/// Path of [`stats`].
pub(crate) const PATH: &str = "/stats";

/// Count messages
#[utoipa::path(get, path = PATH, tag = "messages", security((), ("token" = [])), responses(
    (status = 200, description = "Counts of all messages.", body = StatsBody, example = json!({
        "total_messages": 1,
        "senders_count": 1,
        "messages_per_sender": [{"from": EXAMPLE.from, "count": 1}],
        "first_message_ts": EXAMPLE.ts,
        "last_message_ts": EXAMPLE.ts,
    })),
))]
pub(crate) async fn stats(request: HttpRequest, app: Data<App>) -> Result<Json<StatsBody>, ApiError> {
    let stats = answer(&app, &request, Kind::LookUp, app.query.stats()).await?;
    Ok(Json(StatsBody::new(stats)))
}

/// Returns every error of this path.
pub(crate) fn errors() -> Vec<ApiError> {
    let busy = StoreError::new(StoreErrorKind::Busy, "read the statistics", "too many queries");
    vec![Denied::NoToken.into(), Denied::UnknownHost.into(), busy.into(), CLIENT_LOOK_UPS.into()]
}

/// Counts of all messages.
#[derive(Serialize, ToSchema)]
#[schema(as = Stats)]
pub(crate) struct StatsBody {
    total_messages: u64,
    /// Number of different senders.
    senders_count: u64,
    /// Ten busiest senders: by count, largest first, then by sender.
    messages_per_sender: Vec<SenderBody>,
    /// `ts` of the first message by time, as it was sent.
    #[schema(schema_with = schema::sent_at_or_null, required)]
    first_message_ts: Option<String>,
    /// `ts` of the last message by time, as it was sent.
    #[schema(schema_with = schema::sent_at_or_null, required)]
    last_message_ts: Option<String>,
}

/// Sender, and the number of its messages.
#[derive(Serialize, ToSchema)]
#[schema(as = Sender)]
struct SenderBody {
    #[schema(schema_with = schema::phone_number)]
    from: String,
    count: u64,
}

impl StatsBody {
    fn new(stats: Stats) -> Self {
        let sender = |(from, count): (PhoneNumber, u64)| SenderBody { from: from.to_string(), count };
        Self {
            total_messages: stats.total_messages,
            senders_count: stats.senders_count,
            messages_per_sender: stats.top_senders.into_iter().map(sender).collect(),
            first_message_ts: stats.first_message_ts.map(|ts| ts.as_str().to_owned()),
            last_message_ts: stats.last_message_ts.map(|ts| ts.as_str().to_owned()),
        }
    }
}
