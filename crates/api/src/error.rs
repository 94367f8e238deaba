//! Errors of requests: status, headers and body of every answer that is not 200 stand here and nowhere else.

use std::borrow::Cow;

use actix_web::body::BoxBody;
use actix_web::http::{StatusCode, header};
use actix_web::{HttpResponse, ResponseError};
use domain::ingest::IngestError;
use domain::message::{MessageId, Rule};
use domain::payload::{self, FieldError, InvalidPayload, Problem};
use domain::store::{StoreError, StoreErrorKind};
use serde::Serialize;
use utoipa::ToSchema;

use crate::access::refusals::TooMany;
use crate::access::rights::Denied;
use crate::health::Health;
use crate::limits::Overloaded;
use crate::transport::head::BadHead;
use crate::webhook_result::WebhookResult;

/// Seconds until the next try after `Busy` or `Unknown`: a queue empties in this time.
const RETRY_BUSY_SECS: u32 = 1;

/// Seconds until the next try after `Unavailable`, `Fault` or without a secret: an operator has to act first.
const RETRY_UNAVAILABLE_SECS: u32 = 10;

/// Status of a request whose client hung up before the answer: nginx's, for the log and the metrics.
const CLIENT_CLOSED_REQUEST: u16 = 499;

/// Error of a request.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The bytes are not a request.
    #[error(transparent)]
    BadHead(#[from] BadHead),
    /// The path is unknown.
    #[error("Not Found")]
    NotFound,
    /// The path does not have this method.
    #[error("Method Not Allowed")]
    MethodNotAllowed {
        /// Methods of the path, for `Allow`.
        allow: &'static str,
    },
    /// The query is denied.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// The service is not ready.
    #[error("{reason}")]
    NotReady {
        /// Everything that is missing.
        reason: String,
        /// True if the client may read the reason.
        is_told: bool,
    },
    /// The signature is wrong, as too many of the same client were before.
    #[error(transparent)]
    TooManyRefusals(#[from] TooMany),
    /// Parameters of the query break rules.
    #[error("query is not valid")]
    InvalidQuery(Vec<InvalidField>),
    /// The body is larger than allowed.
    #[error("request body is larger than {max} bytes")]
    TooLarge {
        /// Most bytes that are allowed.
        max: usize,
    },
    /// A limit of memory or of queries is reached.
    #[error(transparent)]
    Overloaded(#[from] Overloaded),
    /// The body did not arrive in time, or too few bytes of it did.
    #[error("request body did not {} within {secs} s", match bytes {
        None => "arrive".to_owned(),
        Some(bytes) => format!("bring {bytes} bytes or end"),
    })]
    TooSlow {
        /// Bytes that must arrive in this time; `None` for all of the body.
        bytes: Option<usize>,
        /// Seconds that it may take.
        secs: u64,
    },
    /// The body broke off, or its framing is wrong.
    #[error("request body is incomplete")]
    Incomplete,
    /// The webhook was not received.
    #[error(transparent)]
    Ingest(#[from] IngestError),
    /// The client hung up before the answer.
    #[error("the client has closed the connection")]
    HungUp,
    /// The store did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store did not answer a search: it takes too long, or too many searches are under way.
    #[error(transparent)]
    Search(StoreError),
}

/// Broken rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct InvalidField {
    /// Name of the rule, which does not change.
    #[serde(rename = "type")]
    pub rule: &'static str,
    /// Path of the field: `["body", "from"]`, `["query", "limit"]`.
    pub loc: Vec<Cow<'static, str>>,
    /// Explanation for people.
    pub msg: String,
}

/// Body of an error.
#[derive(Serialize, ToSchema)]
#[schema(as = Error)]
pub(crate) struct ErrorBody<'a> {
    /// Reason, for people. Programs use the status.
    detail: &'a str,
}

/// Body of an error that lists broken rules of a payload or a query.
#[derive(Serialize, ToSchema)]
#[schema(as = ValidationError)]
pub(crate) struct ValidationErrorBody<'a> {
    /// Every broken rule, not only the first.
    detail: Cow<'a, [InvalidField]>,
}

impl ApiError {
    /// Returns the result that this error is for a webhook.
    #[must_use]
    pub fn webhook_result(&self) -> WebhookResult {
        match self {
            Self::TooLarge { .. } => WebhookResult::TooLarge,
            Self::Ingest(IngestError::Refused(_)) | Self::TooManyRefusals(_) => {
                WebhookResult::InvalidSignature
            }
            Self::Ingest(IngestError::Invalid(_)) => WebhookResult::ValidationError,
            Self::Overloaded(_)
            | Self::Ingest(IngestError::NoSecret | IngestError::Store { .. })
            | Self::Store(_)
            | Self::Search(_)
            | Self::NotReady { .. } => WebhookResult::Unavailable,
            Self::TooSlow { .. }
            | Self::Incomplete
            | Self::BadHead(_)
            | Self::HungUp
            | Self::Denied(_)
            | Self::NotFound
            | Self::MethodNotAllowed { .. }
            | Self::InvalidQuery(_) => WebhookResult::Incomplete,
        }
    }

    /// Returns the id of the message that failed, if its signature is right.
    #[must_use]
    pub fn message_id(&self) -> Option<&MessageId> {
        match self {
            Self::Ingest(IngestError::Invalid(invalid)) => invalid.message_id.as_ref(),
            Self::Ingest(IngestError::Store { message_id, .. }) => Some(message_id),
            _ => None,
        }
    }

    /// Returns the cause, for the operator; `None` if the status says it all.
    #[must_use]
    pub fn cause(&self) -> Option<String> {
        match self {
            Self::NotFound | Self::MethodNotAllowed { .. } => None,
            Self::Ingest(IngestError::Invalid(invalid)) => {
                // An unknown key is the sender's text, which must not stand in the log.
                let name = |field: &str| payload::FIELDS.iter().find(|known| **known == field).copied();
                let broken = invalid.errors.iter().map(|e| match e.field.as_deref() {
                    None => "body",
                    Some(field) => name(field).unwrap_or("unknown key"),
                });
                Some(format!("{invalid}: {}", broken.collect::<Vec<_>>().join(", ")))
            }
            other => Some(other.to_string()),
        }
    }

    fn store_error(&self) -> Option<&StoreError> {
        match self {
            Self::Store(error) | Self::Search(error) | Self::Ingest(IngestError::Store { error, .. }) => {
                Some(error)
            }
            _ => None,
        }
    }
}

impl ResponseError for ApiError {
    fn status_code(&self) -> StatusCode {
        match self {
            Self::BadHead(BadHead::Malformed(_)) => StatusCode::BAD_REQUEST,
            Self::BadHead(BadHead::TooLarge | BadHead::TooManyFields) => {
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE
            }
            Self::BadHead(BadHead::TooSlow { .. }) => StatusCode::REQUEST_TIMEOUT,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Self::InvalidQuery(_) | Self::Ingest(IngestError::Invalid(_)) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooSlow { .. } => StatusCode::REQUEST_TIMEOUT,
            Self::HungUp => StatusCode::from_u16(CLIENT_CLOSED_REQUEST).expect("499 has three digits"),
            Self::Incomplete => StatusCode::BAD_REQUEST,
            Self::Ingest(IngestError::Refused(_)) | Self::Denied(Denied::NoToken) => StatusCode::UNAUTHORIZED,
            Self::Denied(Denied::UnknownHost) => StatusCode::FORBIDDEN,
            Self::TooManyRefusals(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::Overloaded(_)
            | Self::BadHead(BadHead::Overloaded)
            | Self::Ingest(IngestError::NoSecret | IngestError::Store { .. })
            | Self::Store(_)
            | Self::Search(_)
            | Self::NotReady { .. } => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// Returns an answer that helps the client; internal causes are only in the log.
    fn error_response(&self) -> HttpResponse<BoxBody> {
        let mut response = HttpResponse::build(self.status_code());
        match self {
            Self::MethodNotAllowed { allow } => {
                response.insert_header((header::ALLOW, *allow));
            }
            Self::Denied(Denied::NoToken) => {
                response.insert_header((header::WWW_AUTHENTICATE, "Bearer"));
            }
            Self::TooManyRefusals(TooMany { retry_after }) => {
                response.insert_header((header::RETRY_AFTER, retry_after.as_secs() + 1));
            }
            _ => {}
        }
        if self.status_code() == StatusCode::SERVICE_UNAVAILABLE {
            let secs = match (self, self.store_error().map(|e| e.kind)) {
                (Self::Overloaded(_) | Self::BadHead(_), _)
                | (_, Some(StoreErrorKind::Busy | StoreErrorKind::Unknown)) => RETRY_BUSY_SECS,
                _ => RETRY_UNAVAILABLE_SECS,
            };
            response.insert_header((header::RETRY_AFTER, secs));
        }
        match self {
            Self::InvalidQuery(errors) => response.json(ValidationErrorBody { detail: errors.into() }),
            Self::Ingest(IngestError::Invalid(InvalidPayload { errors, .. })) => {
                let detail = errors.iter().map(invalid_field).collect();
                response.json(ValidationErrorBody { detail })
            }
            Self::Ingest(IngestError::Refused(_)) => response.json(ErrorBody { detail: "invalid signature" }),
            Self::Ingest(IngestError::NoSecret) => {
                response.json(ErrorBody { detail: "WEBHOOK_SECRET is not set: webhooks are refused" })
            }
            Self::Ingest(IngestError::Store { .. }) | Self::Store(_) => {
                response.json(ErrorBody { detail: "store is unavailable, try again" })
            }
            Self::Search(_) => response.json(ErrorBody {
                detail: "the search takes too long or too many are under way: narrow it by from or since, or try again",
            }),
            Self::NotReady { reason, is_told } => {
                let detail = if *is_told { reason } else { "not ready" };
                response.json(Health::NotReady { detail: detail.to_owned() })
            }
            plain => response.json(ErrorBody { detail: &plain.to_string() }),
        }
    }
}

fn invalid_field(error: &FieldError) -> InvalidField {
    let mut loc = vec![Cow::Borrowed("body")];
    loc.extend(error.field.clone().map(Cow::Owned));
    let rule = match &error.problem {
        Problem::NotJson(_) => "json_invalid",
        Problem::NotAnObject => "object_type",
        Problem::Duplicated => "duplicate_key",
        Problem::Missing => "missing",
        Problem::NotAString => "string_type",
        Problem::NotUnicode => "string_unicode",
        Problem::Broken(Rule::Empty) => "string_too_short",
        Problem::Broken(Rule::TooManyBytes { .. } | Rule::TooManyChars { .. }) => "string_too_long",
        Problem::Broken(Rule::PhoneNumber) => "phone_number",
        Problem::Broken(Rule::Time(_)) => "datetime",
    };
    InvalidField { rule, loc, msg: error.problem.to_string() }
}
