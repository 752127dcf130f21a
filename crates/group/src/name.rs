//! Names of members, groups and accounts: what may be one, and when two are the same or look the same.
//!
//! Shown as PRECIS UsernameCasePreserved, compared as UsernameCaseMapped (RFC 8265), told apart from look-alikes by the
//! skeletons of Unicode Technical Standard 39.

use std::fmt;
use std::sync::Arc;

use precis_profiles::precis_core::profile::Profile;
use precis_profiles::{UsernameCaseMapped, UsernameCasePreserved};
use unicode_normalization::char::is_combining_mark;

use crate::limits::{NAME_BYTES_MAX, NAME_CHARS_MAX};

/// A name that is fit to be shown and compared. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name {
    folded: Arc<str>,
    shown: Arc<str>,
    skeleton: Arc<str>,
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
        Ok(Self {
            folded: folded.as_ref().into(),
            shown: shown.as_ref().into(),
            skeleton: skeleton.into(),
        })
    }

    /// As it was written and is shown.
    pub fn as_str(&self) -> &str {
        &self.shown
    }

    /// As it is compared: equal for names that differ in case only.
    pub fn folded(&self) -> &str {
        &self.folded
    }

    /// Equal for names that people cannot tell apart; equal names have equal skeletons.
    pub fn skeleton(&self) -> &str {
        &self.skeleton
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
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Name({})", self.shown)
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
