//! Sample messages.

use bytes::Bytes;

use crate::message::{Content, MessageId, MessageText, NewMessage, PhoneNumber, SentAt};
use crate::signature::{BodyDigest, Verified};
use crate::source::SourceName;
use crate::time::Timestamp;

/// A message by the parts that a test cares about; the rest has a plain value.
#[derive(Clone, Debug)]
pub struct Sample {
    /// `message_id`.
    pub id: String,
    /// `from`.
    pub from: String,
    /// `ts`.
    pub ts: String,
    /// `text`.
    pub text: Option<String>,
    /// The source.
    pub source: String,
}

impl Sample {
    /// Returns a message with this id.
    #[must_use]
    pub fn id(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            from: "+919876543210".to_owned(),
            ts: "2025-01-15T10:00:00Z".to_owned(),
            text: Some("Hello".to_owned()),
            source: SourceName::DEFAULT.to_owned(),
        }
    }

    /// Sets the sender.
    #[must_use]
    pub fn from(mut self, from: &str) -> Self {
        self.from = from.to_owned();
        self
    }

    /// Sets the time.
    #[must_use]
    pub fn ts(mut self, ts: &str) -> Self {
        self.ts = ts.to_owned();
        self
    }

    /// Sets the text.
    #[must_use]
    pub fn text(mut self, text: Option<&str>) -> Self {
        self.text = text.map(str::to_owned);
        self
    }

    /// Returns the message as it goes to a store. The digest is no real one: its bytes depend on the parts, and a store can't
    /// tell the difference.
    #[must_use]
    pub fn message(&self) -> NewMessage {
        let body = format!("{self:?}");
        let mut digest = [0; 32];
        for (i, byte) in body.bytes().enumerate() {
            digest[i % 32] = (digest[i % 32] ^ byte).rotate_left(3);
        }
        NewMessage {
            source: SourceName::parse(&self.source).expect("a valid sample"),
            content: Content {
                message_id: MessageId::parse(self.id.clone()).expect("a valid sample"),
                sender: PhoneNumber::parse(self.from.clone()).expect("a valid sample"),
                recipient: PhoneNumber::parse("+14155550100".to_owned()).expect("a valid sample"),
                sent_at: SentAt::parse(self.ts.clone()).expect("a valid sample"),
                text: self.text.clone().map(|t| MessageText::parse(t).expect("a valid sample")),
            },
            body: Bytes::from(body),
            verified: Verified { body_digest: BodyDigest(digest) },
            received_at: Timestamp::from_micros(1_736_935_200_000_000),
        }
    }
}
