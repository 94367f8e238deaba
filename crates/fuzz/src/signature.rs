//! Signatures: a verifier takes the right one, however it is written, and nothing else.

use adapters::digest::sha256;
use adapters::signature::XSignature;
use domain::signature::{InboundRequest, Refusal, SignatureVerifier, Verified};
use domain::time::Timestamp;

/// Input: the secret on a line, headers (`name: value`) on a line each, an empty line, the body.
pub fn check(input: &[u8]) {
    let (secret, rest) = cut(input, b"\n");
    let (head, body) = cut(rest, b"\n\n");
    let headers: Vec<(&str, &[u8])> = head.split(|b| *b == b'\n').filter_map(header).collect();

    let Ok(scheme) = XSignature::new(secret) else {
        let is_nothing = secret.iter().all(|byte| *byte == 0);
        return assert!(is_nothing, "all but the empty key, which NUL bytes alone are, is a secret");
    };
    check_given(&scheme, &headers, body);
    check_right(&scheme, body);
}

fn verify(scheme: &XSignature, headers: &[(&str, &[u8])], body: &[u8]) -> Result<Verified, Refusal> {
    scheme.verify(InboundRequest { headers, body }, Timestamp::from_micros(0))
}

/// Returns the parts before and after the first `separator`; all of it and nothing, if there is none.
fn cut<'a>(bytes: &'a [u8], separator: &[u8]) -> (&'a [u8], &'a [u8]) {
    match bytes.windows(separator.len()).position(|window| window == separator) {
        Some(at) => (&bytes[..at], &bytes[at + separator.len()..]),
        None => (bytes, b""),
    }
}

fn header(line: &[u8]) -> Option<(&str, &[u8])> {
    let (name, value) = cut(line, b":");
    Some((std::str::from_utf8(name).ok()?, value))
}

/// The headers as they were given.
fn check_given(scheme: &XSignature, headers: &[(&str, &[u8])], body: &[u8]) {
    let right = scheme.sign(body);
    let values: Vec<&[u8]> =
        headers.iter().filter(|(name, _)| *name == XSignature::HEADER).map(|(_, v)| v.trim_ascii()).collect();
    let is_hex = |value: &[u8]| value.len() == 64 && value.iter().all(u8::is_ascii_hexdigit);
    let want = match values[..] {
        [] => Some(Refusal::Missing),
        [value] if !is_hex(value) => Some(Refusal::Malformed),
        [value] => (!value.eq_ignore_ascii_case(right.as_bytes())).then_some(Refusal::Mismatch),
        _ => Some(Refusal::Repeated),
    };
    assert_eq!(verify(scheme, headers, body).err(), want);
    // The headers alone tell all but whether it is the right one.
    assert_eq!(scheme.check_headers(headers).err(), want.filter(|refusal| *refusal != Refusal::Mismatch));
}

/// The right signature in every writing that is one, and in some that are none.
fn check_right(scheme: &XSignature, body: &[u8]) {
    let right = scheme.sign(body);
    let verify = |value: &str, body: &[u8]| verify(scheme, &[(XSignature::HEADER, value.as_bytes())], body);
    let mixed: String =
        right.char_indices().map(|(i, c)| if i % 2 == 0 { c.to_ascii_uppercase() } else { c }).collect();
    for value in [&right, &right.to_uppercase(), &mixed, &format!("\t {right} \t")] {
        let digest = verify(value, body).unwrap().body_digest;
        assert_eq!(digest, sha256(body));
    }
    let place = body.len() % right.len();
    let other_digit = if right.as_bytes()[place] == b'0' { "1" } else { "0" };
    let mut changed = right.clone();
    changed.replace_range(place..=place, other_digit);
    assert_eq!(verify(&changed, body).unwrap_err(), Refusal::Mismatch);
    for value in
        [&right[..place], &right[place + 1..], &format!("{right}{right}"), &format!("sha256={right}")]
    {
        assert_eq!(verify(value, body).unwrap_err(), Refusal::Malformed);
    }
    let mut longer = body.to_vec();
    longer.push(0);
    assert_eq!(verify(&right, &longer).unwrap_err(), Refusal::Mismatch);
}
