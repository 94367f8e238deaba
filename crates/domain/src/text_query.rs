//! Text without regard to case.

use std::borrow::Cow;

use icu_casemap::CaseMapper;

/// A text to look for: a substring, without regard to case, with no character special.
///
/// "Without regard to case" is Unicode's default caseless matching (The Unicode Standard, section
/// 3.13, D144): both sides go through full case folding, so that `école` finds `ÉCOLE`, `ΟΔΟΣ` finds
/// `οδος` and `STRASSE` finds `Straße`. Accents count, and composed and decomposed ones differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextQuery {
    folded: String,
}

impl TextQuery {
    /// Returns a query for `text`.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self { folded: fold_case(text).into_owned() }
    }

    /// Returns a query for a text that is folded already, as [`folded`](Self::folded) returns it.
    #[must_use]
    pub fn from_folded(folded: String) -> Self {
        Self { folded }
    }

    /// Returns the text to look for, folded.
    #[must_use]
    pub fn folded(&self) -> &str {
        &self.folded
    }

    /// Returns true if `text` contains it.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        fold_case(text).contains(&self.folded)
    }
}

/// Folds the case of a text in full, as Unicode defines it: two texts that differ in case only become the same.
#[must_use]
pub fn fold_case(text: &str) -> Cow<'_, str> {
    if text.is_ascii() { Cow::Owned(text.to_ascii_lowercase()) } else { CaseMapper::new().fold_string(text) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn finds(needle: &str, text: &str) -> bool {
        TextQuery::new(needle).matches(text)
    }

    #[test]
    fn case_does_not_count_in_any_script() {
        for (needle, text) in [
            ("hello", "Oh, HELLO there"),
            ("école", "L'ÉCOLE"),
            ("ÉCOLE", "l'école"),
            ("ΟΔΟΣ", "οδος"),
            ("οδοσα", "ΟΔΟΣΑ"),
            ("привет", "ПРИВЕТ, мир"),
            ("STRASSE", "Straße"),
            ("ǆ", "ǅ"),
        ] {
            assert!(finds(needle, text), "{needle} in {text}");
        }
        assert!(!finds("ecole", "école"));
    }

    #[test]
    fn no_character_is_special() {
        for special in ["%", "_", "\\", "*", "?", "'", "\"", "[a]", "\u{0}"] {
            assert!(finds(special, &format!("a{special}b")));
            assert!(!finds(special, "plain text"));
        }
    }

    proptest! {
        #[test]
        fn every_part_of_a_text_is_found_in_it(before in any::<String>(), part in any::<String>(), after in any::<String>()) {
            let text = [before.as_str(), &part, &after].concat();
            prop_assert!(finds(&part, &text));
        }

        /// On ASCII, the quick way and the Unicode way agree.
        #[test]
        fn ascii_folds_as_unicode_does(text in "[ -~]{0,40}") {
            prop_assert_eq!(text.to_ascii_lowercase(), CaseMapper::new().fold_string(&text));
        }
    }
}
