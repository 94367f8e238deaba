//! Result of a webhook, as the metric `webhook_requests_total`, the log line and the answer's header name it.

use domain::ingest::Outcome;

/// Result of one webhook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WebhookResult {
    /// The message was new and is stored.
    Created,
    /// The message was stored before.
    Duplicate,
    /// The signature does not match.
    InvalidSignature,
    /// The signature matches, and the payload breaks a rule.
    ValidationError,
    /// The body is larger than allowed.
    TooLarge,
    /// The service can't take the message now.
    Unavailable,
    /// The request did not arrive whole.
    Incomplete,
}

impl WebhookResult {
    /// Every result.
    pub const ALL: [Self; 7] = [
        Self::Created,
        Self::Duplicate,
        Self::InvalidSignature,
        Self::ValidationError,
        Self::TooLarge,
        Self::Unavailable,
        Self::Incomplete,
    ];

    /// Returns the word for it, which does not change.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Duplicate => "duplicate",
            Self::InvalidSignature => "invalid_signature",
            Self::ValidationError => "validation_error",
            Self::TooLarge => "too_large",
            Self::Unavailable => "unavailable",
            Self::Incomplete => "incomplete",
        }
    }
}

impl From<Outcome> for WebhookResult {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Created => Self::Created,
            Outcome::Duplicate => Self::Duplicate,
        }
    }
}
