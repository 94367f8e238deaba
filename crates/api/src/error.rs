//! What goes wrong with a request, and the only place that says what the client is answered.

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

use crate::routes::health::Health;
use crate::transport::head::BadHead;

/// When to try again after `Busy` or `Unknown`: a queue empties within this.
const RETRY_BUSY_SECS: u32 = 1;

/// When to try again after `Unavailable`, `Fault` or without a secret: somebody has to mend something.
const RETRY_UNAVAILABLE_SECS: u32 = 10;

/// The status of what was not answered because the client has hung up: that of nginx, for the log and the metrics.
const CLIENT_CLOSED_REQUEST: u16 = 499;

/// A request that is not answered 200.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// What came is no request.
    #[error(transparent)]
    BadHead(#[from] BadHead),
    /// The path is not one of ours.
    #[error("Not Found")]
    NotFound,
    /// The path is, the method is not one of its methods.
    #[error("Method Not Allowed")]
    MethodNotAllowed {
        /// `Allow`: those that are.
        allow: &'static str,
    },
    /// What was asked wants the token, and the request has none or another one.
    #[error("missing or wrong bearer token")]
    NoToken,
    /// There is no token, and the request names us as a stranger's web page would.
    #[error("not answered under this name: use the address, name it in ALLOWED_HOSTS, or set API_TOKEN")]
    UnknownHost,
    /// The service can't work.
    #[error("{reason}")]
    NotReady {
        /// What is missing.
        reason: String,
        /// Whether the client may be told.
        is_told: bool,
    },
    /// The signature is wrong, as too many before it of the same client.
    #[error("too many invalid signatures")]
    TooManyRefusals {
        /// When the next is looked at as the first was.
        retry_secs: u64,
    },
    /// Parameters of the query break rules.
    #[error("query is not valid")]
    InvalidQuery(Vec<InvalidField>),
    /// The body is larger than it may be.
    #[error("request body is larger than {max} bytes")]
    TooLarge {
        /// The most that is allowed.
        max: usize,
    },
    /// What these take up fills the memory that they may have.
    #[error("too many {0} at once")]
    Overloaded(&'static str),
    /// The body did not come in time, or too few bytes of it did.
    #[error("request body did not {} within {secs} s", match bytes {
        None => "arrive".to_owned(),
        Some(bytes) => format!("bring {bytes} bytes or end"),
    })]
    TooSlow {
        /// What must come in this time; `None` for all of it.
        bytes: Option<usize>,
        /// The time that there is.
        secs: u64,
    },
    /// The body broke off, or its framing is wrong.
    #[error("request body is incomplete")]
    Incomplete,
    /// The webhook was not received.
    #[error(transparent)]
    Ingest(#[from] IngestError),
    /// Nobody waits for the answer any more.
    #[error("the client has closed the connection")]
    HungUp,
    /// The store did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store did not answer a search, because it takes too long or too many are under way.
    #[error(transparent)]
    Search(StoreError),
}

/// One broken rule, as clients are told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct InvalidField {
    /// Which rule: a word that does not change.
    #[serde(rename = "type")]
    pub rule: &'static str,
    /// Where: `["body", "from"]`, `["query", "limit"]`.
    pub loc: Vec<Cow<'static, str>>,
    /// What is wanted, for people.
    pub msg: String,
}

/// Why a request is not answered 200.
#[derive(Serialize, ToSchema)]
#[schema(as = Error)]
pub(crate) struct ErrorBody<'a> {
    /// For people; the status is for programs.
    detail: &'a str,
}

/// The rules that a payload or a query breaks.
#[derive(Serialize, ToSchema)]
#[schema(as = ValidationError)]
pub(crate) struct ValidationErrorBody<'a> {
    /// Every broken rule, not only the first.
    detail: Cow<'a, [InvalidField]>,
}

impl ApiError {
    /// `result` of `webhook_requests_total` and of the log line.
    #[must_use]
    pub fn webhook_result(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "too_large",
            Self::Ingest(IngestError::Refused(_)) | Self::TooManyRefusals { .. } => "invalid_signature",
            Self::Ingest(IngestError::Invalid(_)) => "validation_error",
            Self::Overloaded(_)
            | Self::Ingest(IngestError::NoSecret | IngestError::Store { .. })
            | Self::Store(_)
            | Self::Search(_)
            | Self::NotReady { .. } => "unavailable",
            Self::TooSlow { .. }
            | Self::Incomplete
            | Self::BadHead(_)
            | Self::HungUp
            | Self::NoToken
            | Self::UnknownHost
            | Self::NotFound
            | Self::MethodNotAllowed { .. }
            | Self::InvalidQuery(_) => "incomplete",
        }
    }

    /// Whose message it was about, once the signature held.
    #[must_use]
    pub fn message_id(&self) -> Option<&MessageId> {
        match self {
            Self::Ingest(IngestError::Invalid(invalid)) => invalid.message_id.as_ref(),
            Self::Ingest(IngestError::Store { message_id, .. }) => Some(message_id),
            _ => None,
        }
    }

    /// What went wrong, for the operator; `None` if the status says all.
    #[must_use]
    pub fn cause(&self) -> Option<String> {
        match self {
            Self::NotFound | Self::MethodNotAllowed { .. } => None,
            Self::Ingest(IngestError::Invalid(invalid)) => {
                // An unknown key is the sender's text, which is not for the log.
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
            Self::HungUp => StatusCode::from_u16(CLIENT_CLOSED_REQUEST).expect("it has three digits"),
            Self::Incomplete => StatusCode::BAD_REQUEST,
            Self::Ingest(IngestError::Refused(_)) | Self::NoToken => StatusCode::UNAUTHORIZED,
            Self::UnknownHost => StatusCode::FORBIDDEN,
            Self::TooManyRefusals { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::Overloaded(_)
            | Self::BadHead(BadHead::Overloaded)
            | Self::Ingest(IngestError::NoSecret | IngestError::Store { .. })
            | Self::Store(_)
            | Self::Search(_)
            | Self::NotReady { .. } => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// Says what the client can act on; what went wrong inside stays inside.
    fn error_response(&self) -> HttpResponse<BoxBody> {
        let mut response = HttpResponse::build(self.status_code());
        match self {
            Self::MethodNotAllowed { allow } => {
                response.insert_header((header::ALLOW, *allow));
            }
            Self::NoToken => {
                response.insert_header((header::WWW_AUTHENTICATE, "Bearer"));
            }
            Self::TooManyRefusals { retry_secs } => {
                response.insert_header((header::RETRY_AFTER, *retry_secs));
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
                response.json(ErrorBody { detail: "not configured to receive" })
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
