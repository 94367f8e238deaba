//! Parser of `DATABASE_URL`.
//!
//! The setting is a scheme and a path, and the path is taken as it is. Options, escapes and shell syntax would become
//! part of a file's name, so they are refused, with the text to write instead.

use std::path::PathBuf;

const SCHEME: &str = "sqlite:///";

/// Returns the path, or the text of what `url` must be.
pub(super) fn parse(url: &str) -> Result<PathBuf, String> {
    let Some(path) = url.strip_prefix(SCHEME) else {
        return Err(format!(
            "{SCHEME} and the path of a file, as in {SCHEME}data/app.db or {SCHEME}/data/app.db"
        ));
    };
    match mistake(path) {
        Some(allowed) => Err(allowed),
        None => Ok(PathBuf::from(path)),
    }
}

fn mistake(path: &str) -> Option<String> {
    if path.chars().any(char::is_control) {
        let clean: String = path.chars().filter(|c| !c.is_control()).collect();
        let why = "without control characters (was the file that sets it saved on Windows?)";
        return Some(format!("{SCHEME}{} {why}", clean.trim()));
    }
    if path.trim() != path {
        return Some(format!("{SCHEME}{} without white space at its ends", path.trim()));
    }
    if path == ":memory:" {
        return Some(format!(
            "the path of a file, as in {SCHEME}data/app.db: in memory nothing would be kept"
        ));
    }
    let file = path.strip_prefix("file:").unwrap_or(path);
    let (file, options) = match file.split_once('?') {
        Some((before, options)) if options.contains('=') => (before, Some(options)),
        _ => (file, None),
    };
    if file.len() < path.len() {
        let what = options.map_or("\"file:\"", |_| "options");
        return Some(format!("{SCHEME}{file} without {what}"));
    }
    if let Some(unescaped) = unescaped(path) {
        return Some(format!("{SCHEME}{unescaped}: the path is taken as it is, without escapes"));
    }
    let bytes = path.as_bytes();
    let is_drive = bytes.len() > 2 && bytes[0].is_ascii_alphabetic() && bytes[1] == b':';
    if path.starts_with('\\') || is_drive && matches!(bytes[2], b'\\' | b'/') {
        return Some(format!("a path of this system, as in {SCHEME}/data/app.db"));
    }
    if path.starts_with(['~', '$']) {
        return Some(format!(
            "the whole path, as in {SCHEME}/home/me/app.db: only a shell knows {:?}",
            path.split('/').next().unwrap_or_default()
        ));
    }
    let name = path.rsplit('/').next().unwrap_or_default();
    matches!(name, "" | "." | "..")
        .then(|| format!("{SCHEME} and the path of a file, not of a folder, as in {SCHEME}data/app.db"))
}

/// Returns the path without its escapes, if it has any.
fn unescaped(path: &str) -> Option<String> {
    let is_escape = |at: usize| {
        path.as_bytes().get(at + 1..at + 3).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    };
    path.match_indices('%')
        .any(|(at, _)| is_escape(at))
        .then(|| percent_encoding::percent_decode_str(path).decode_utf8_lossy().into_owned())
}
