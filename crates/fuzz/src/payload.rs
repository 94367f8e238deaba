//! The payload of a webhook: `decode` takes what the contract takes, and names what is broken.

use std::fmt;

use domain::message::{
    Content, MESSAGE_ID_BYTES_MAX, MessageId, MessageText, PHONE_DIGITS_MAX, TEXT_CHARS_MAX,
};
use domain::payload::{FIELD_ERRORS_MAX, InvalidPayload, KEY_BYTES_SHOWN_MAX, decode};
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::{Value, json};

use crate::time;

/// Input: a request body.
pub fn check(body: &[u8]) {
    let decoded = decode(body);
    let spaced = decode(&[b" \t", body, b"\r\n"].concat());
    assert_eq!(spaced.as_ref().ok(), decoded.as_ref().ok(), "white space around it means nothing");
    match &decoded {
        Ok(content) => check_round_trip(content),
        Err(invalid) => check_bounds(invalid),
    }
    if !is_json(body) {
        assert_eq!(fields(&decoded), [""], "not JSON");
    } else if let Ok(object) = serde_json::from_slice(body) {
        check_object(&object, &decoded);
    } else if serde_json::from_slice::<Value>(body).is_ok() {
        assert_eq!(fields(&decoded), [""], "not an object");
    }
    // Else it is JSON that `Value` has no room for: nested too deep, a number too large, half a surrogate pair.
}

/// The fields that are complained of, in order of name; `""` is the body as a whole.
fn fields(decoded: &Result<Content, InvalidPayload>) -> Vec<&str> {
    let errors = decoded.as_ref().map_or_else(|invalid| invalid.errors.as_slice(), |_| &[]);
    let mut fields: Vec<&str> = errors.iter().map(|e| e.field.as_deref().unwrap_or_default()).collect();
    fields.sort_unstable();
    fields
}

fn is_json(body: &[u8]) -> bool {
    std::str::from_utf8(body).is_ok_and(|text| serde_json::from_str::<IgnoredAny>(text).is_ok())
}

fn check_round_trip(content: &Content) {
    let again = json!({
        "message_id": content.message_id.as_str(),
        "from": content.sender.as_str(),
        "to": content.recipient.as_str(),
        "ts": content.sent_at.as_str(),
        "text": content.text.as_ref().map(MessageText::as_str),
    });
    assert_eq!(decode(again.to_string().as_bytes()).as_ref(), Ok(content));
}

fn check_bounds(invalid: &InvalidPayload) {
    assert!((1..=FIELD_ERRORS_MAX).contains(&invalid.errors.len()), "{} errors", invalid.errors.len());
    for error in &invalid.errors {
        assert!(error.field.as_ref().is_none_or(|field| field.len() <= KEY_BYTES_SHOWN_MAX));
    }
}

/// The contract's table once more, on a tree of values instead of a stream.
fn check_object(object: &Object, decoded: &Result<Content, InvalidPayload>) {
    let id = object.text("message_id").filter(|id| (1..=MESSAGE_ID_BYTES_MAX).contains(&id.len()));
    let from = object.text("from").filter(|from| is_phone_number(from));
    let to = object.text("to").filter(|to| is_phone_number(to));
    let ts = object.text("ts").filter(|ts| time::is_utc(ts));
    let text = object.text("text").filter(|text| text.chars().count() <= TEXT_CHARS_MAX);
    let text_is_good = text.is_some() || object.get("text").is_none_or(Value::is_null);

    let mut want = object.repeated();
    let known = [("message_id", id), ("from", from), ("to", to), ("ts", ts)];
    want.extend(known.iter().filter(|(_, value)| value.is_none()).map(|(name, _)| (*name).to_owned()));
    want.extend((!text_is_good).then(|| "text".to_owned()));
    want.sort_unstable();
    let got = fields(decoded);
    if want.len() <= FIELD_ERRORS_MAX {
        assert_eq!(got, want);
    } else {
        assert!(got.iter().all(|field| want.iter().any(|w| w == field)), "{got:?} of {want:?}");
        assert_eq!(got.len(), FIELD_ERRORS_MAX);
    }
    match decoded {
        Ok(c) => {
            let parts = [c.message_id.as_str(), c.sender.as_str(), c.recipient.as_str(), c.sent_at.as_str()];
            assert_eq!(parts.map(Some), [id, from, to, ts]);
            assert_eq!(c.text.as_ref().map(MessageText::as_str), text);
        }
        Err(invalid) => {
            let is_known = !object.repeated().iter().any(|key| key == "message_id");
            assert_eq!(invalid.message_id.as_ref().map(MessageId::as_str), id.filter(|_| is_known));
        }
    }
}

fn is_phone_number(text: &str) -> bool {
    let digits = text.strip_prefix('+').unwrap_or_default();
    (1..=PHONE_DIGITS_MAX).contains(&digits.len()) && digits.chars().all(|c| "0123456789".contains(c))
}

/// An object with its keys as they stand there, the repeated ones, too.
struct Object(Vec<(String, Value)>);

impl Object {
    /// The last value of a key.
    fn get(&self, name: &str) -> Option<&Value> {
        self.0.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value)
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.get(name)?.as_str()
    }

    /// The keys that stand there more than once, once each and as far as they are shown.
    fn repeated(&self) -> Vec<String> {
        let mut keys: Vec<&str> = self.0.iter().map(|(key, _)| key.as_str()).collect();
        keys.sort_unstable();
        let mut repeated: Vec<&str> =
            keys.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| pair[0]).collect();
        repeated.dedup();
        let shown = |key: &str| key[..key.floor_char_boundary(KEY_BYTES_SHOWN_MAX)].to_owned();
        repeated.into_iter().map(shown).collect()
    }
}

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;

        impl<'de> Visitor<'de> for Entries {
            type Value = Object;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Object(entries))
            }
        }
        deserializer.deserialize_map(Entries)
    }
}
