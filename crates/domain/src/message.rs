//! The parts of a message, each parsed once at the edge into a type that can't be wrong.

use std::fmt;

use bytes::Bytes;

use crate::signature::Verified;
use crate::source_name::SourceName;
use crate::time::{ExactTime, TimeError, Timestamp};

/// Longest `message_id` in bytes: it is a key of an index, and no provider's ids come near it.
pub const MESSAGE_ID_BYTES_MAX: usize = 512;

/// Most digits of `from` and `to`: twice as many as E.164 has at most, and two more.
pub const PHONE_DIGITS_MAX: usize = 32;

/// Longest `text` in Unicode scalar values: the limit of a WhatsApp text message.
pub const TEXT_CHARS_MAX: usize = 4096;

/// The sender's idempotency key. Compared byte for byte: no trimming, no case folding.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId(String);

/// `+` and one or more ASCII digits: at most [`PHONE_DIGITS_MAX`], unless an older version stored it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PhoneNumber(String);

/// At most [`TEXT_CHARS_MAX`] Unicode scalar values; may be empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageText(String);

/// When the sender says that the message was sent: the exact characters, and the instant they name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SentAt {
    text: String,
    time: ExactTime,
}

/// Content of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// The sender's idempotency key.
    pub message_id: MessageId,
    /// Sender (`from` on the wire).
    pub sender: PhoneNumber,
    /// Whom it was sent to (`to` on the wire).
    pub recipient: PhoneNumber,
    /// When it was sent (`ts` on the wire).
    pub sent_at: SentAt,
    /// Text, if there is one.
    pub text: Option<MessageText>,
}

/// Key of a message: two messages with the same key are the same message.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageKey {
    /// The inbound endpoint that it came in by.
    pub source: SourceName,
    /// The idempotency key that its sender gave it.
    pub message_id: MessageId,
}

/// A message on its way to the store. It holds a [`Verified`], so that there is no way to the store
/// but through a verifier.
#[derive(Clone, Debug)]
pub struct NewMessage {
    /// The inbound endpoint that it came in by.
    pub source: SourceName,
    /// Its content.
    pub content: Content,
    /// The request body, byte for byte.
    pub body: Bytes,
    /// That the body is the sender's, and its digest.
    pub verified: Verified,
    /// When it arrived.
    pub received_at: Timestamp,
}

impl NewMessage {
    /// Returns its key.
    #[must_use]
    pub fn key(&self) -> MessageKey {
        MessageKey { source: self.source.clone(), message_id: self.content.message_id.clone() }
    }
}

/// The rule that a value breaks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rule {
    /// It is empty where something is wanted.
    #[error("must not be empty")]
    Empty,
    /// It has more bytes than allowed.
    #[error("must have at most {max} bytes")]
    TooManyBytes {
        /// The most that is allowed.
        max: usize,
    },
    /// It has more Unicode scalar values than allowed.
    #[error("must have at most {max} characters")]
    TooManyChars {
        /// The most that is allowed.
        max: usize,
    },
    /// It is not a phone number.
    #[error("must be + and 1 to {PHONE_DIGITS_MAX} ASCII digits")]
    PhoneNumber,
    /// It is not a time.
    #[error(transparent)]
    Time(#[from] TimeError),
}

impl MessageId {
    /// # Errors
    /// [`Rule::Empty`], [`Rule::TooManyBytes`].
    pub fn parse(text: String) -> Result<Self, Rule> {
        match text.len() {
            0 => Err(Rule::Empty),
            1..=MESSAGE_ID_BYTES_MAX => Ok(Self(text)),
            _ => Err(Rule::TooManyBytes { max: MESSAGE_ID_BYTES_MAX }),
        }
    }
}

impl PhoneNumber {
    /// # Errors
    /// [`Rule::PhoneNumber`].
    pub fn parse(text: String) -> Result<Self, Rule> {
        Self::stored(text).and_then(|number| match number.0.len() - "+".len() {
            ..=PHONE_DIGITS_MAX => Ok(number),
            _ => Err(Rule::PhoneNumber),
        })
    }

    /// Of any length: what an older version stored stays readable, whatever [`parse`](Self::parse) refuses now.
    ///
    /// # Errors
    /// [`Rule::PhoneNumber`].
    pub fn stored(text: String) -> Result<Self, Rule> {
        match text.as_bytes() {
            [b'+', digits @ ..] if !digits.is_empty() && digits.iter().all(u8::is_ascii_digit) => {
                Ok(Self(text))
            }
            _ => Err(Rule::PhoneNumber),
        }
    }
}

impl MessageText {
    /// # Errors
    /// [`Rule::TooManyChars`].
    pub fn parse(text: String) -> Result<Self, Rule> {
        if text.chars().count() > TEXT_CHARS_MAX {
            return Err(Rule::TooManyChars { max: TEXT_CHARS_MAX });
        }
        Ok(Self(text))
    }
}

impl SentAt {
    /// # Errors
    /// [`Rule::Time`].
    pub fn parse(text: String) -> Result<Self, Rule> {
        let time = ExactTime::parse_utc(&text)?;
        Ok(Self { text, time })
    }

    /// With a fraction of any length: what an older version stored stays readable, whatever [`parse`](Self::parse)
    /// refuses now.
    ///
    /// # Errors
    /// [`Rule::Time`].
    pub fn stored(text: String) -> Result<Self, Rule> {
        let time = ExactTime::parse_utc_with(&text, usize::MAX)?;
        Ok(Self { text, time })
    }

    /// The instant.
    #[must_use]
    pub fn time(&self) -> &ExactTime {
        &self.time
    }

    /// The characters as they were sent.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

macro_rules! text_access {
    ($($name:ident),*) => {$(
        impl $name {
            /// The characters as they were sent.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )*};
}
text_access!(MessageId, PhoneNumber, MessageText);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_message_id_is_one_to_512_bytes() {
        assert_eq!(MessageId::parse(String::new()), Err(Rule::Empty));
        for id in [" ", "\u{0}", "M1", "é", &"x".repeat(512), &"é".repeat(256)] {
            assert_eq!(MessageId::parse(id.to_owned()).unwrap().as_str(), id);
        }
        let max = MESSAGE_ID_BYTES_MAX;
        assert_eq!(MessageId::parse("x".repeat(513)), Err(Rule::TooManyBytes { max }));
        assert_eq!(MessageId::parse("é".repeat(257)), Err(Rule::TooManyBytes { max }));
    }

    #[test]
    fn what_was_stored_without_a_bound_is_still_read() {
        let number = format!("+{}", "9".repeat(PHONE_DIGITS_MAX + 1));
        assert_eq!(PhoneNumber::parse(number.clone()), Err(Rule::PhoneNumber));
        assert_eq!(PhoneNumber::stored(number.clone()).unwrap().as_str(), number);
        let ts = format!("2025-01-15T10:00:00.{}Z", "5".repeat(100));
        assert_eq!(SentAt::parse(ts.clone()), Err(Rule::Time(TimeError::TooManyDigits)));
        assert_eq!(SentAt::stored(ts.clone()).unwrap().as_str(), ts);
        assert!(PhoneNumber::stored("1".to_owned()).is_err() && SentAt::stored("now".to_owned()).is_err());
    }

    #[test]
    fn a_text_is_counted_in_characters() {
        assert!(MessageText::parse("😀".repeat(4096)).is_ok());
        assert!(MessageText::parse("😀".repeat(4097)).is_err());
        assert!(MessageText::parse(String::new()).is_ok());
    }

    proptest! {
        #[test]
        fn every_plus_and_digits_is_a_phone_number(number in "\\+[0-9]{1,32}") {
            prop_assert!(PhoneNumber::parse(number).is_ok());
        }

        /// The rule once more, said differently: the regular expression `^\+[0-9]+$`.
        #[test]
        fn nothing_else_is_a_phone_number(text in "[+]?[0-9+ \\n٣a-]{0,6}") {
            let mut chars = text.chars();
            let plus = chars.next() == Some('+');
            let digits: Vec<char> = chars.collect();
            let expected = plus && !digits.is_empty() && digits.iter().all(|c| "0123456789".contains(*c));
            prop_assert_eq!(PhoneNumber::parse(text).is_ok(), expected);
        }
    }
}
