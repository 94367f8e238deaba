//! A stranger's text where somebody looks at it: characters that act on what shows them, instead of being shown.

use std::fmt::Write;

/// Characters of a stranger's text that are printed for people: what a webhook is answered has fewer.
const CHARS_PRINTED_MAX: usize = 1000;

/// Returns true for a character that acts instead of being seen: controls (C0, DEL, C1), line and paragraph separators, marks that
/// turn the direction of what follows ("Trojan Source", CVE-2021-42574), and what has neither width nor shape.
pub(crate) fn is_active(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// The beginning of `text`, with `\u{1b}` in place of an escape and the like.
pub(crate) fn printable(text: &str) -> String {
    let mut printable = String::new();
    let mut chars = text.chars();
    for c in chars.by_ref().take(CHARS_PRINTED_MAX) {
        if is_active(c) {
            printable.extend(c.escape_unicode());
        } else {
            printable.push(c);
        }
    }
    if chars.next().is_some() {
        printable.push('…');
    }
    printable
}

/// The same JSON with `\u001b` in place of an escape and the like, wherever it stands in a string. What is no part of a
/// string is ASCII.
pub(crate) fn printable_json(json: &str) -> String {
    let mut printable = String::with_capacity(json.len() * 2);
    for c in json.chars() {
        if c == '\n' || !is_active(c) {
            printable.push(c);
            continue;
        }
        for unit in c.encode_utf16(&mut [0; 2]) {
            write!(printable, "\\u{unit:04x}").expect("memory can be written to");
        }
    }
    printable
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_acts_is_escaped_and_what_is_seen_stays() {
        let seen = "नमस्ते École 😀 \"\\";
        assert_eq!(printable(seen), seen);
        assert_eq!(printable("\u{1b}[2J\n\u{9b}\u{202e}"), r"\u{1b}[2J\u{a}\u{9b}\u{202e}");
        assert_eq!(printable(&"x".repeat(5000)).chars().count(), 1001);
        let all: String = ('\0'..='\u{10ffff}').collect();
        let json = serde_json::to_string(&all).unwrap();
        let escaped = printable_json(&json);
        assert!(!escaped.chars().any(is_active));
        assert_eq!(serde_json::from_str::<String>(&escaped).unwrap(), all);
    }
}
