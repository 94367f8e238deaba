//! Cursor: a place in a listing as text, which a client hands back unchanged.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use domain::message::MessageId;
use domain::query::Place;
use domain::store::Seq;
use domain::time::{ExactTime, Timestamp};

/// Microseconds since 1970 and the digits after them, message id, and place in the order of arrival.
type Parts<'a> = (i64, &'a str, &'a str, i64);

/// Cursor of a message `m1` of 2025-01-15T09:00:00Z, the first to arrive.
pub(crate) const EXAMPLE: &str = "WzE3MzY5MzE2MDAwMDAwMDAsIiIsIm0xIiwxXQ";

/// Returns the text of a place.
///
/// # Panics
/// Never: texts and numbers are JSON.
#[must_use]
pub fn encode(place: &Place) -> String {
    let Place { sent_at, message_id, seq } = place;
    let parts: Parts<'_> = (sent_at.at().as_micros(), sent_at.finer(), message_id.as_str(), seq.0);
    BASE64_URL_SAFE_NO_PAD.encode(serde_json::to_vec(&parts).expect("texts and numbers are JSON"))
}

/// Returns the place of such a text; `None` if it is not a cursor.
#[must_use]
pub fn decode(cursor: &str) -> Option<Place> {
    let json = BASE64_URL_SAFE_NO_PAD.decode(cursor).ok()?;
    let (at_us, finer, message_id, seq): (i64, String, String, i64) = serde_json::from_slice(&json).ok()?;
    Some(Place {
        sent_at: ExactTime::from_parts(Timestamp::from_micros(at_us), finer).ok()?,
        message_id: MessageId::parse(message_id).ok()?,
        seq: Seq(seq),
    })
}

#[cfg(test)]
mod tests {
    use domain::message::MESSAGE_ID_BYTES_MAX;
    use domain::time::FRACTION_DIGITS_MAX;

    use super::*;

    /// A cursor stands in the head of a request, which may have 64 KiB here and 8 KiB in most proxies.
    #[test]
    fn the_longest_cursor_fits_into_a_request_line() {
        let place = Place {
            sent_at: ExactTime::parse_utc(&format!(
                "9999-12-31T23:59:59.{}Z",
                "9".repeat(FRACTION_DIGITS_MAX)
            ))
            .unwrap(),
            // Each NUL takes six characters in JSON.
            message_id: MessageId::parse("\u{0}".repeat(MESSAGE_ID_BYTES_MAX)).unwrap(),
            seq: Seq(i64::MIN),
        };
        let cursor = encode(&place);
        assert!(cursor.len() < 4_300, "{}", cursor.len());
        assert_eq!(decode(&cursor), Some(place));
    }

    #[test]
    fn a_place_comes_back_and_nothing_else_is_one() {
        for (finer, id, seq) in [("", "m1", 1), ("000000001", "\u{0}\"é]", i64::MAX), ("5", "x", -1)] {
            let place = Place {
                sent_at: ExactTime::from_parts(
                    Timestamp::from_micros(-62_167_219_200_000_000),
                    finer.to_owned(),
                )
                .unwrap(),
                message_id: MessageId::parse(id.to_owned()).unwrap(),
                seq: Seq(seq),
            };
            assert_eq!(decode(&encode(&place)), Some(place));
        }
        assert_eq!(decode(EXAMPLE).map(|place| encode(&place)).as_deref(), Some(EXAMPLE));
        let base64 = |json: &str| BASE64_URL_SAFE_NO_PAD.encode(json);
        for cursor in [
            "x",
            "!",
            &base64("{}"),
            &base64(r#"[1,"0","m",1]"#),
            &base64(r#"[1,"","",1]"#),
            &base64(r#"[1,"a","m",1]"#),
        ] {
            assert_eq!(decode(cursor), None, "{cursor}");
        }
    }
}
