//! Secrets: read from a variable or a file, and checked for likely mistakes. They are never shown.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use secrecy::SecretSlice;

use crate::small_file;

/// Bytes that are never shown.
pub type Secret = SecretSlice<u8>;

/// Bytes of a good secret: as many as the hash has (RFC 2104, section 3).
const SECRET_BYTES_MIN: usize = 32;

/// Secrets of examples and habit, which an attacker tries first.
const WELL_KNOWN: [&[u8]; 8] =
    [b"changeme", b"change-me", b"hookkeeper", b"password", b"secret", b"test", b"testsecret", b"webhook"];

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Reads a secret from a variable, or from the file that another variable names.
pub(super) fn read(
    variable: &str,
    value: Option<&OsStr>,
    file: Option<&OsStr>,
) -> Result<Option<Vec<u8>>, String> {
    let value = value.filter(|v| !v.is_empty()).map(|v| v.as_bytes().to_vec());
    let file = file.filter(|f| !f.is_empty());
    match (value, file) {
        (value, None) => Ok(value),
        (Some(_), Some(_)) => Err(format!("set {variable} or {variable}_FILE, not both")),
        (None, Some(file)) => {
            let named = |problem| format!("{variable}_FILE: {problem}");
            let bytes = small_file::read(Path::new(file)).map_err(named)?;
            // Editors leave a line break.
            let secret = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
            let secret = secret.strip_suffix(b"\r").unwrap_or(secret);
            // A file that holds nothing is a mistake, and must not turn verification or the token off.
            if secret.is_empty() {
                return Err(named(format!("{} is empty but for a line break", Path::new(file).display())));
            }
            Ok(Some(secret.to_vec()))
        }
    }
}

/// Returns a token without the white space at its ends, which is not part of a header's value (RFC 9110, section 5.5).
pub(super) fn token(variable: &str, bytes: &[u8]) -> Result<Vec<u8>, String> {
    let token = bytes.trim_ascii();
    if token.is_empty() {
        return Err(format!("{variable} is only white space"));
    }
    if token.iter().any(u8::is_ascii_control) {
        return Err(format!(
            "{variable} contains a control character, which no header can carry (is it several lines, or UTF-16?)"
        ));
    }
    Ok(token.to_vec())
}

/// Returns the likely mistakes in a secret that senders sign with.
pub(crate) fn doubts(secret: &[u8]) -> Vec<&'static str> {
    let mut doubts = Vec::new();
    if is_well_known(secret) {
        doubts.push("is well known, so anybody can sign: create one with `openssl rand -hex 32`");
    } else if secret.len() < SECRET_BYTES_MIN {
        doubts.push("has fewer than 32 bytes and may be guessed: create one with `openssl rand -hex 32`");
    }
    if secret.trim_ascii() != secret {
        doubts.push("has white space at its beginning or end, which is part of the secret");
    }
    if secret.starts_with(BYTE_ORDER_MARK) {
        doubts
            .push("begins with a byte order mark, which is part of the secret: save it as UTF-8 without one");
    }
    if is_utf16(secret) {
        doubts.push("looks like UTF-16, whose bytes are taken as they are: save it as UTF-8");
    }
    doubts
}

/// Returns true for a secret that an attacker tries first.
pub(crate) fn is_well_known(secret: &[u8]) -> bool {
    WELL_KNOWN.iter().any(|known| known.eq_ignore_ascii_case(secret.trim_ascii()))
}

fn is_utf16(bytes: &[u8]) -> bool {
    let every_other_is_nul = |first| bytes.iter().skip(first).step_by(2).all(|byte| *byte == 0);
    let has_mark = bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff");
    has_mark || bytes.len() >= 4 && (every_other_is_nul(0) || every_other_is_nul(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_doubt_has_its_words_and_a_good_secret_has_none() {
        let good = "7f9c24e8b3a1d0567f9c24e8b3a1d0567f9c24e8b3a1d0567f9c24e8b3a1d056";
        assert_eq!(doubts(good.as_bytes()), [""; 0]);
        let utf16: Vec<u8> = good.encode_utf16().flat_map(u16::to_le_bytes).collect();
        for (secret, word) in [
            (b"ChangeMe".to_vec(), "well known"),
            (b"secret".to_vec(), "well known"),
            (good.as_bytes()[..31].to_vec(), "fewer than 32 bytes"),
            (format!(" {good}").into_bytes(), "white space"),
            (format!("{good}\n").into_bytes(), "white space"),
            (format!("\u{feff}{good}").into_bytes(), "byte order mark"),
            (utf16.clone(), "UTF-16"),
            ([b"\xff\xfe", &utf16[..]].concat(), "UTF-16"),
            (good.encode_utf16().flat_map(u16::to_be_bytes).collect(), "UTF-16"),
        ] {
            let doubts = doubts(&secret);
            assert!(doubts.len() == 1 && doubts[0].contains(word), "{word}: {doubts:?}");
        }
    }
}
