//! State of the service, which every request can reach.

use std::net::IpAddr;
use std::sync::Arc;

use actix_web::HttpRequest;
use domain::ingest::Ingest;
use domain::query::MessageQuery;
use domain::source::{SourceName, Sources};
use slog::Logger;
use tokio::sync::Semaphore;

use crate::access::client_addr::TrustedProxies;
use crate::access::host::AllowedHosts;
use crate::access::refusals::Refusals;
use crate::access::token::Token;
use crate::limits::bodies::Bodies;
use crate::limits::queries::Queries;
use crate::telemetry::metrics::Metrics;

/// Bytes of all listings that are being sent. Listings that are being read and put together come on top, as many as
/// the store answers at once.
const LISTINGS_BYTES_MAX: usize = 64 << 20;

/// State that every request can reach. `compose` puts it together.
pub struct App {
    /// Sources of webhooks.
    pub(crate) sources: Sources,
    /// Receiver of webhooks.
    pub(crate) ingest: Ingest,
    /// Store that answers queries.
    pub(crate) query: Arc<dyn MessageQuery>,
    /// Log.
    pub(crate) log: Logger,
    /// Metrics.
    pub(crate) metrics: Metrics,
    /// Token that queries must carry; `None` leaves them open.
    pub(crate) token: Option<Token>,
    /// Host names under which queries are answered without a token.
    pub(crate) allowed_hosts: AllowedHosts,
    /// Proxies whose `X-Forwarded-For` is believed.
    pub(crate) trusted_proxies: TrustedProxies,
    /// Wrong signatures by client.
    pub(crate) refusals: Refusals,
    /// Largest request body, in bytes.
    pub(crate) body_bytes_max: usize,
    /// Memory that requests may take up.
    pub(crate) budgets: Budgets,
    /// Queries under way.
    pub(crate) queries: Queries,
}

/// Memory that requests may take up, in bytes.
pub(crate) struct Budgets {
    /// Bodies of requests under way.
    pub(crate) bodies: Bodies,
    /// Listings that are being sent.
    pub(crate) listings: Arc<Semaphore>,
}

impl Default for Budgets {
    fn default() -> Self {
        Self { bodies: Bodies::default(), listings: Arc::new(Semaphore::new(LISTINGS_BYTES_MAX)) }
    }
}

impl App {
    /// Returns the address of the client of a request.
    pub(crate) fn client(&self, request: &HttpRequest) -> IpAddr {
        self.trusted_proxies.client(request)
    }

    /// Checks that the service can receive and answer.
    ///
    /// # Errors
    /// Text that names all that is missing.
    pub(crate) async fn ready(&self) -> Result<(), String> {
        let mut missing = Vec::new();
        if let Err(error) = self.query.ready().await {
            missing.push(format!("database: {error}"));
        }
        if self.sources.get(SourceName::DEFAULT).is_none_or(|source| source.verifier.is_none()) {
            missing.push("WEBHOOK_SECRET is not set".to_owned());
        }
        if missing.is_empty() { Ok(()) } else { Err(missing.join("; ")) }
    }
}
