//! Names of members, groups and accounts: what may be one, and when two are the same or look the same.
//!
//! Shown as PRECIS UsernameCasePreserved, compared as UsernameCaseMapped (RFC 8265), told apart from look-alikes by the
//! skeletons of Unicode Technical Standard 39.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use precis_profiles::precis_core::profile::Profile;
use precis_profiles::{UsernameCaseMapped, UsernameCasePreserved};
use unicode_normalization::char::is_combining_mark;

use crate::limits::{NAME_BYTES_MAX, NAME_CHARS_MAX};

/// A name that is fit to be shown and compared. Cheap to clone, and small: everybody in a group has several.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Name {
    /// As it is compared, as it is shown and as it looks, one after the other; the latter two only where they are different.
    text: Arc<str>,
    folded_bytes: u16,
    /// None where it is shown as it is compared.
    shown_bytes: u16,
}

/// Why a text is not a name; the text says what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Empty.
    #[error("a name has at least one character")]
    Empty,
    /// Too many characters.
    #[error("a name has at most {NAME_CHARS_MAX} characters")]
    TooLong,
    /// Something other than letters, digits and `.` `_` `-`.
    #[error("a name has letters, digits and . _ - only")]
    BadCharacter,
}

impl Name {
    /// Makes a name of `text`: full-width letters are narrowed and composed (NFC).
    ///
    /// # Errors
    /// [`NameError`], which says what a name may be.
    pub fn new(text: &str) -> Result<Self, NameError> {
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        // Bounded before anything is computed from it: normalising may lengthen, never past these.
        if text.chars().count() > NAME_CHARS_MAX * 2 || text.len() > NAME_BYTES_MAX * 2 {
            return Err(NameError::TooLong);
        }
        let shown =
            UsernameCasePreserved::new().enforce(text).map_err(|_| NameError::BadCharacter)?;
        if shown.chars().count() > NAME_CHARS_MAX || shown.len() > NAME_BYTES_MAX {
            return Err(NameError::TooLong);
        }
        check_characters(&shown)?;
        let folded =
            UsernameCaseMapped::new().enforce(text).map_err(|_| NameError::BadCharacter)?;
        let skeleton: String = unicode_security::skeleton(&folded).collect();
        let but = |part| if part == folded.as_ref() { "" } else { part };
        let (shown, skeleton) = (but(shown.as_ref()), but(skeleton.as_str()));
        let bytes = |part: &str| u16::try_from(part.len()).map_err(|_| NameError::TooLong);
        Ok(Self {
            folded_bytes: bytes(&folded)?,
            shown_bytes: bytes(shown)?,
            text: [folded.as_ref(), shown, skeleton].concat().into(),
        })
    }

    /// What stands between these places of the text; where that is nothing, it is as it is compared.
    fn part(&self, from: usize, to: usize) -> &str {
        if from == to { self.folded() } else { &self.text[from..to] }
    }

    /// Where it ends as it is shown.
    fn shown_end(&self) -> usize {
        usize::from(self.folded_bytes) + usize::from(self.shown_bytes)
    }

    /// As it was written and is shown.
    pub fn as_str(&self) -> &str {
        self.part(self.folded_bytes.into(), self.shown_end())
    }

    /// As it is compared: equal for names that differ in case only.
    pub fn folded(&self) -> &str {
        &self.text[..self.folded_bytes.into()]
    }

    /// Equal for names that people cannot tell apart; equal names have equal skeletons.
    pub fn skeleton(&self) -> &str {
        self.part(self.shown_end(), self.text.len())
    }
}

impl Ord for Name {
    fn cmp(&self, other: &Self) -> Ordering {
        // How a name looks follows from how it is compared.
        (self.folded(), self.as_str()).cmp(&(other.folded(), other.as_str()))
    }
}

impl PartialOrd for Name {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Letters, digits, `.`, `_`, `-`, and marks on letters (no more than two on one, so that they cannot climb out of their line).
fn check_characters(text: &str) -> Result<(), NameError> {
    let mut marks = usize::MAX;
    for c in text.chars() {
        if is_combining_mark(c) {
            marks = marks.saturating_add(1);
            if marks > 2 {
                return Err(NameError::BadCharacter);
            }
        } else if c.is_alphanumeric() || matches!(c, '.' | '_' | '-') {
            marks = 0;
        } else {
            return Err(NameError::BadCharacter);
        }
    }
    Ok(())
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Name({})", self.as_str())
    }
}

impl std::str::FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::new(text)
    }
}

/// The one of `names` that is nearest to `wanted`, for "did you mean"; `None` when nothing is near.
pub fn nearest<'a>(wanted: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wanted: Vec<char> = wanted.to_lowercase().chars().collect();
    names
        .into_iter()
        .map(|name| (distance(&wanted, &name.to_lowercase().chars().collect::<Vec<_>>()), name))
        .filter(|(distance, _)| *distance <= wanted.len().div_ceil(2))
        .min()
        .map(|(_, name)| name)
}

/// Edit distance (Levenshtein), one row at a time.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let here = (diagonal + usize::from(x != y)).min(row[j] + 1).min(row[j + 1] + 1);
            diagonal = std::mem::replace(&mut row[j + 1], here);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_many_scripts_are_taken_as_written() {
        for text in ["ana", "José", "Ñuño", "名前", "प्रिया", "a.b_c-9", "Ω"] {
            let name = Name::new(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(name.as_str(), text);
        }
    }

    #[test]
    fn what_could_steer_a_terminal_or_pass_for_syntax_is_refused() {
        for text in [
            "",
            "a b",
            "~ana",
            "a\u{1b}[2J",
            "a\u{202e}b",
            "a/b",
            "a\nb",
            "#1",
            "\u{301}x",
            "e\u{301}\u{302}\u{303}\u{304}",
        ] {
            assert!(Name::new(text).is_err(), "{text:?}");
        }
        assert_eq!(Name::new(&"x".repeat(33)), Err(NameError::TooLong));
        assert!(Name::new(&"x".repeat(32)).is_ok());
    }

    #[test]
    fn case_and_look_alikes_are_told() {
        let name = |text| Name::new(text).unwrap();
        assert_eq!(name("JOSÉ").folded(), name("josé").folded());
        assert_eq!(name("jose\u{301}").as_str(), "josé");
        assert_eq!(name("ana").skeleton(), name("аnа").skeleton(), "Cyrillic a");
        assert_ne!(name("jose").skeleton(), name("josé").skeleton());
    }

    #[test]
    fn the_nearest_name_is_found() {
        assert_eq!(nearest("osp", ["ops", "lobby", "1"]), Some("ops"));
        assert_eq!(nearest("zzzzzz", ["ops", "lobby"]), None);
    }
}
