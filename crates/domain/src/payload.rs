//! The JSON payload of `POST /webhook`: bytes in, [`Content`] or every broken rule out.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::message::{Content, MessageId, MessageText, PhoneNumber, Rule, SentAt};

/// Most field errors of one payload that are reported; a body of a megabyte could hold a hundred
/// thousand repeated keys, and nobody reads past the first few.
pub const FIELD_ERRORS_MAX: usize = 32;

/// The fields that are known by name.
pub const FIELDS: [&str; 5] = ["message_id", "from", "to", "ts", "text"];

/// White space that may precede a JSON value (RFC 8259, section 2).
const JSON_WHITE_SPACE: [char; 4] = [' ', '\t', '\n', '\r'];

/// Longest unknown key that is repeated back, in bytes.
pub const KEY_BYTES_SHOWN_MAX: usize = 64;

/// A payload that breaks rules: all of them, so that its sender can mend it in one go.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("payload is not valid")]
pub struct InvalidPayload {
    /// The message's id, where that much of it was valid (of two ids neither is).
    pub message_id: Option<MessageId>,
    /// Broken rules; never empty, at most [`FIELD_ERRORS_MAX`].
    pub errors: Vec<FieldError>,
}

/// One broken rule and where it is broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// The key in the payload; `None` if it is the payload as a whole.
    pub field: Option<String>,
    /// The rule that it breaks.
    pub problem: Problem,
}

/// Rule that a field or the payload breaks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The body is not one JSON value, or not in UTF-8.
    #[error("is not valid JSON: {0}")]
    NotJson(String),
    /// It is JSON, but not an object.
    #[error("must be a JSON object")]
    NotAnObject,
    /// A key stands there twice, and which one is meant can't be known.
    #[error("must not be given more than once")]
    Duplicated,
    /// A field that must be there is not.
    #[error("is required")]
    Missing,
    /// The field has another JSON type.
    #[error("must be a string")]
    NotAString,
    /// The field is a string with an escape that stands for no Unicode scalar value.
    #[error(
        "must be Unicode text: one of its \\u escapes is half of a surrogate pair, without the other half"
    )]
    NotUnicode,
    /// The field is a string that breaks its rule.
    #[error(transparent)]
    Broken(#[from] Rule),
}

/// Reads the payload of one message. Unknown fields are ignored, at any depth.
///
/// # Errors
/// [`InvalidPayload`] with every broken field.
pub fn decode(body: &[u8]) -> Result<Content, InvalidPayload> {
    let fields = Fields::read(body).map_err(|problem| InvalidPayload {
        message_id: None,
        errors: vec![FieldError { field: None, problem }],
    })?;

    let mut errors = Vec::new();
    for key in &fields.duplicated {
        let key = String::from_utf8_lossy(key);
        let shown = &key[..key.floor_char_boundary(KEY_BYTES_SHOWN_MAX)];
        errors.push(FieldError { field: Some(shown.to_owned()), problem: Problem::Duplicated });
    }
    let message_id = required(fields.message_id, "message_id", MessageId::parse, &mut errors);
    let sender = required(fields.from, "from", PhoneNumber::parse, &mut errors);
    let recipient = required(fields.to, "to", PhoneNumber::parse, &mut errors);
    let sent_at = required(fields.ts, "ts", SentAt::parse, &mut errors);
    let text = match fields.text {
        None => None,
        Some(value) if value.get() == "null" => None,
        some => required(some, "text", MessageText::parse, &mut errors),
    };

    match (message_id, sender, recipient, sent_at) {
        (Some(message_id), Some(sender), Some(recipient), Some(sent_at)) if errors.is_empty() => {
            Ok(Content { message_id, sender, recipient, sent_at, text })
        }
        (message_id, ..) => {
            errors.truncate(FIELD_ERRORS_MAX);
            let message_id = message_id.filter(|_| !fields.duplicated.contains(&b"message_id"[..]));
            Err(InvalidPayload { message_id, errors })
        }
    }
}

/// Parses a field that must be a string, or notes what is wrong with it.
fn required<T>(
    value: Option<&RawValue>,
    field: &str,
    parse: fn(String) -> Result<T, Rule>,
    errors: &mut Vec<FieldError>,
) -> Option<T> {
    let parsed = match value {
        None => Err(Problem::Missing),
        Some(value) if !value.get().starts_with('"') => Err(Problem::NotAString),
        Some(value) => serde_json::from_str(value.get())
            .map_err(|_| Problem::NotUnicode)
            .and_then(|text| parse(text).map_err(Problem::Broken)),
    };
    parsed
        .map_err(|problem| {
            errors.push(FieldError { field: Some(field.to_owned()), problem });
        })
        .ok()
}

/// The known fields as they stand in the body, and the keys that stand there twice.
#[derive(Default)]
struct Fields<'a> {
    message_id: Option<&'a RawValue>,
    from: Option<&'a RawValue>,
    to: Option<&'a RawValue>,
    ts: Option<&'a RawValue>,
    text: Option<&'a RawValue>,
    duplicated: BTreeSet<Cow<'a, [u8]>>,
}

impl<'a> Fields<'a> {
    fn read(body: &'a [u8]) -> Result<Self, Problem> {
        let text = std::str::from_utf8(body)
            .map_err(|e| Problem::NotJson(format!("not UTF-8 at byte {}", e.valid_up_to())))?;
        if text.trim_start_matches(JSON_WHITE_SPACE).starts_with('{') {
            return serde_json::from_str(text).map_err(|e| not_json(&e));
        }
        match serde_json::from_str::<&RawValue>(text) {
            Ok(_) => Err(Problem::NotAnObject),
            Err(e) => Err(not_json(&e)),
        }
    }
}

fn not_json(error: &serde_json::Error) -> Problem {
    Problem::NotJson(error.to_string())
}

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(FieldsVisitor)
    }
}

struct FieldsVisitor;

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = Fields<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields = Fields::default();
        let mut seen: BTreeSet<Cow<'de, [u8]>> = BTreeSet::new();
        while let Some(key) = map.next_key::<&RawValue>()? {
            let Key(key) = serde_json::from_str(key.get()).map_err(A::Error::custom)?;
            let value: &RawValue = map.next_value()?;
            let known = match key.as_ref() {
                b"message_id" => Some(&mut fields.message_id),
                b"from" => Some(&mut fields.from),
                b"to" => Some(&mut fields.to),
                b"ts" => Some(&mut fields.ts),
                b"text" => Some(&mut fields.text),
                _ => None,
            };
            let first = match known {
                Some(slot) => slot.replace(value).is_none(),
                None => seen.insert(key.clone()),
            };
            if !first {
                fields.duplicated.insert(key);
            }
        }
        Ok(fields)
    }
}

/// A key with its escapes taken apart: UTF-8, but for half of a surrogate pair, which JSON allows and Unicode does
/// not. Such a key is unknown, and so it is ignored.
struct Key<'a>(Cow<'a, [u8]>);

impl<'de> Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // serde_json has bytes take half of a pair as three bytes (WTF-8), and strings refuse it.
        deserializer.deserialize_bytes(KeyVisitor)
    }
}

struct KeyVisitor;

impl<'de> Visitor<'de> for KeyVisitor {
    type Value = Key<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_borrowed_bytes<E>(self, key: &'de [u8]) -> Result<Self::Value, E> {
        Ok(Key(Cow::Borrowed(key)))
    }

    fn visit_bytes<E>(self, key: &[u8]) -> Result<Self::Value, E> {
        Ok(Key(Cow::Owned(key.to_vec())))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn valid() -> serde_json::Value {
        json!({"message_id": "m1", "from": "+919876543210", "to": "+14155550100", "ts": "2025-01-15T10:00:00Z", "text": "Hello"})
    }

    /// Field → problem of a payload that is refused.
    fn problems(body: &[u8]) -> Vec<(Option<String>, Problem)> {
        let errors = decode(body).unwrap_err().errors;
        errors.into_iter().map(|e| (e.field, e.problem)).collect()
    }

    #[test]
    fn a_valid_payload_is_read_as_it_stands() {
        let content = decode(valid().to_string().as_bytes()).unwrap();
        assert_eq!(content.message_id.as_str(), "m1");
        assert_eq!(content.sender.as_str(), "+919876543210");
        assert_eq!(content.recipient.as_str(), "+14155550100");
        assert_eq!(content.sent_at.as_str(), "2025-01-15T10:00:00Z");
        assert_eq!(content.text.unwrap().as_str(), "Hello");
    }

    #[test]
    fn absent_and_null_text_are_none_and_empty_text_is_empty() {
        let mut payload = valid();
        payload["text"] = json!(null);
        assert_eq!(decode(payload.to_string().as_bytes()).unwrap().text, None);
        payload.as_object_mut().unwrap().remove("text");
        assert_eq!(decode(payload.to_string().as_bytes()).unwrap().text, None);
        payload["text"] = json!("");
        assert_eq!(decode(payload.to_string().as_bytes()).unwrap().text.unwrap().as_str(), "");
    }

    #[test]
    fn every_broken_field_is_reported() {
        let got = problems(br#"{"message_id":"","from":"9","to":5,"ts":"now","text":["x"]}"#);
        let fields: Vec<_> = got.iter().map(|(f, _)| f.as_deref().unwrap()).collect();
        assert_eq!(fields, ["message_id", "from", "to", "ts", "text"]);
        assert_eq!(got[2].1, Problem::NotAString);
        let missing = problems(b"{}");
        assert_eq!(missing.len(), 4);
        assert!(missing.iter().all(|(_, p)| *p == Problem::Missing));
    }

    #[test]
    fn the_id_of_an_invalid_payload_is_known_if_it_is_valid_itself() {
        let error = decode(br#"{"message_id":"m9","from":"x"}"#).unwrap_err();
        assert_eq!(error.message_id.unwrap().as_str(), "m9");
    }

    /// Found by the fuzz property `payload`: the last of two ids was logged as the message's.
    #[test]
    fn which_of_two_ids_is_meant_is_not_known() {
        let error = decode(br#"{"message_id":"m8","message_id":"m9"}"#).unwrap_err();
        assert_eq!(error.message_id, None);
    }

    #[test]
    fn a_repeated_key_is_refused_known_or_not() {
        let known =
            br#"{"message_id":"a","message_id":"a","from":"+1","to":"+2","ts":"2025-01-15T10:00:00Z"}"#;
        assert_eq!(problems(known), [(Some("message_id".to_owned()), Problem::Duplicated)]);
        let unknown =
            br#"{"x":1,"\u0078":2,"message_id":"a","from":"+1","to":"+2","ts":"2025-01-15T10:00:00Z"}"#;
        assert_eq!(problems(unknown), [(Some("x".to_owned()), Problem::Duplicated)]);
    }

    #[test]
    fn what_is_not_one_json_object_is_refused_as_a_whole() {
        let nested = "[".repeat(100_000);
        for body in
            ["", " ", "{", "nul", "{}{}", "{} x", "\u{feff}{}", "{'a':1}", "{\"a\":1,}", nested.as_str()]
        {
            assert!(matches!(problems(body.as_bytes())[..], [(None, Problem::NotJson(_))]), "{body:.20}");
        }
        assert!(matches!(problems(b"{\"a\":\"\xff\"}")[..], [(None, Problem::NotJson(_))]));
        for body in ["[]", "null", "\"x\"", "1", "[{}]"] {
            assert_eq!(problems(body.as_bytes()), [(None, Problem::NotAnObject)], "{body}");
        }
    }

    #[test]
    fn deep_nesting_and_huge_numbers_in_unknown_fields_are_ignored() {
        let mut body = valid().to_string();
        body.pop();
        let deep = format!("{body},\"x\":{}1{},\"y\":1e999999}}", "[".repeat(50_000), "]".repeat(50_000));
        assert!(decode(deep.as_bytes()).is_ok());
    }

    #[test]
    fn a_lone_surrogate_is_an_error_of_its_field() {
        let got = problems(br#"{"message_id":"\ud800","from":"+1","to":"+2","ts":"2025-01-15T10:00:00Z"}"#);
        assert_eq!(got, [(Some("message_id".to_owned()), Problem::NotUnicode)]);
        assert!(Problem::NotUnicode.to_string().contains("half of a surrogate pair"));
    }

    #[test]
    fn a_lone_surrogate_in_an_unknown_key_is_ignored_and_twice_is_a_repeat() {
        let with = |keys: &str| {
            let body = valid().to_string();
            [body.trim_end_matches('}'), ",", keys, "}"].concat()
        };
        for key in [r"\ud83d", r"\udE00", r"\ude00\ud83d", r"x\ud83d", r"text\ud83d", r"\ud83d\u0041"] {
            assert!(decode(with(&format!(r#""{key}":{{"{key}":"{key}"}}"#)).as_bytes()).is_ok(), "{key}");
            let twice = with(&format!(r#""{key}":1,"{}":2"#, key.replace("ud83d", "uD83D")));
            assert!(matches!(problems(twice.as_bytes())[..], [(Some(_), Problem::Duplicated)]), "{key}");
        }
        let other = with(r#""\ud83d":1,"\ud83e":2,"\ud83d\ude00":3,"x\ud83d":4,"\ufffd":5"#);
        assert!(decode(other.as_bytes()).is_ok());
        let same = with(r#""\ud83d\ude00":1,"😀":2"#);
        assert_eq!(problems(same.as_bytes()), [(Some("😀".to_owned()), Problem::Duplicated)]);
    }

    proptest! {
        /// Every valid message comes out as it went in, whatever else is in the object.
        #[test]
        fn accepts_the_language_of_the_contract(
            id in "\\PC{1,80}",
            from in "\\+[0-9]{1,20}",
            to in "\\+[0-9]{1,20}",
            fraction in "(\\.[0-9]{1,12})?",
            text in proptest::option::of(any::<String>()),
            other in any::<String>(),
        ) {
            let ts = format!("2024-02-29T23:59:59{fraction}Z");
            let mut payload = json!({"message_id": id, "from": from, "to": to, "ts": ts, "text": text});
            payload[format!("x{other}")] = json!([other]);
            let content = decode(payload.to_string().as_bytes()).unwrap();
            prop_assert_eq!(content.message_id.as_str(), id);
            prop_assert_eq!(content.sender.as_str(), from);
            prop_assert_eq!(content.recipient.as_str(), to);
            prop_assert_eq!(content.sent_at.as_str(), ts);
            prop_assert_eq!(content.text.map(|t| t.as_str().to_owned()), text);
        }
    }
}
