//! A folder as a content: the list of its files, whose hash names the folder. Read strictly: a list that could do harm is none.
//!
//! Text, one line a file after a first line that says what it is, in the order of the paths' bytes:
//!
//! ```text
//! tertulia folder 1
//! 5 b4c2…64 hexadecimal digits… notes/hola.txt
//! ```
//!
//! One folder has one list: whoever has the same files gets the same hash.

use std::collections::HashMap;
use std::fmt::Write as _;

use unicode_normalization::UnicodeNormalization as _;

use super::content::ContentHash;
use super::limits::{FILE_BYTES_MAX, FOLDER_FILES_MAX, MANIFEST_BYTES_MAX};
use super::names::{BadName, FileName};

/// What every list begins with.
const FIRST_LINE: &str = "tertulia folder 1\n";

/// A file of a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its path below the folder.
    pub path: FileName,
    /// Its bytes.
    pub size: u64,
    /// Its content.
    pub hash: ContentHash,
}

/// See the module. Its paths are sorted, fit for every system, and do not get into each other's way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    entries: Vec<Entry>,
    bytes: u64,
}

/// Why a list is none, or files are no folder. Safe to show.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadManifest {
    /// It is not written as a list is.
    #[error("it is not a list of files: line {0} is not as it should be")]
    Line(usize),
    /// A path that is no name.
    #[error("the path in line {line}: {why}")]
    Path {
        /// Which line.
        line: usize,
        /// Why not.
        why: BadName,
    },
    /// Part of a path is hidden.
    #[error("{0} is hidden: a name in a folder does not begin with a dot")]
    Hidden(String),
    /// There is nothing in it.
    #[error("there are no files in it")]
    Empty,
    /// Too many files.
    #[error("a folder has at most {FOLDER_FILES_MAX} files; share parts of it")]
    TooMany,
    /// The list itself, or all files together.
    #[error(
        "it is too large: a folder has at most 1 TiB, and a list of at most 4 MiB; share parts of it"
    )]
    TooLarge,
    /// On some systems these are one name.
    #[error(
        "{0} and {1} are the same name where upper and lower case are not told apart; rename one"
    )]
    SameName(String, String),
    /// Something is a file and a folder.
    #[error("{0} cannot be a file and a folder")]
    FileAndFolder(String),
}

impl Manifest {
    /// Of these files, in any order.
    ///
    /// # Errors
    /// [`BadManifest`]
    pub fn new(mut entries: Vec<Entry>) -> Result<Self, BadManifest> {
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        let bytes = check(&entries)?;
        let manifest = Self { entries, bytes };
        if manifest.write().len() > MANIFEST_BYTES_MAX {
            return Err(BadManifest::TooLarge);
        }
        Ok(manifest)
    }

    /// Reads a list. What it says of sizes is what somebody says: each content's own hash proves it.
    ///
    /// # Errors
    /// [`BadManifest`], wherever it is not to the letter what [`Manifest::write`] writes.
    pub fn read(list: &[u8]) -> Result<Self, BadManifest> {
        if list.len() > MANIFEST_BYTES_MAX {
            return Err(BadManifest::TooLarge);
        }
        let text = std::str::from_utf8(list).map_err(|_| BadManifest::Line(1))?;
        let mut rest = text.strip_prefix(FIRST_LINE).ok_or(BadManifest::Line(1))?;
        let mut entries: Vec<Entry> = Vec::new();
        while !rest.is_empty() {
            let line = entries.len() + 2;
            if entries.len() >= FOLDER_FILES_MAX {
                return Err(BadManifest::TooMany);
            }
            let (text, after) = rest.split_once('\n').ok_or(BadManifest::Line(line))?;
            let entry = entry_of(text, line)?;
            if entries.last().is_some_and(|last| last.path >= entry.path) {
                return Err(BadManifest::Line(line));
            }
            entries.push(entry);
            rest = after;
        }
        let bytes = check(&entries)?;
        Ok(Self { entries, bytes })
    }

    /// As it is sent and hashed.
    pub fn write(&self) -> Vec<u8> {
        let mut text = FIRST_LINE.to_owned();
        for Entry { path, size, hash } in &self.entries {
            let _ = writeln!(text, "{size} {hash} {}", path.as_str());
        }
        text.into_bytes()
    }

    /// Its files, in the order of their paths; there is one at least.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The bytes of all files.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }
}

fn entry_of(text: &str, line: usize) -> Result<Entry, BadManifest> {
    let bad = || BadManifest::Line(line);
    let (size_text, after) = text.split_once(' ').ok_or_else(bad)?;
    let (hash_text, path_text) = after.split_once(' ').ok_or_else(bad)?;
    let size: u64 = size_text.parse().map_err(|_| bad())?;
    let hash: ContentHash = hash_text.parse().map_err(|_| bad())?;
    if size.to_string() != size_text || hash.to_string() != hash_text {
        return Err(bad());
    }
    let path = FileName::new(path_text).map_err(|why| BadManifest::Path { line, why })?;
    if path.as_str() != path_text {
        return Err(BadManifest::Path { line, why: BadName::NotNormal });
    }
    Ok(Entry { path, size, hash })
}

/// What a folder's files have to be besides having names: the bytes of all, where they are so.
fn check(entries: &[Entry]) -> Result<u64, BadManifest> {
    if entries.is_empty() {
        return Err(BadManifest::Empty);
    }
    if entries.len() > FOLDER_FILES_MAX {
        return Err(BadManifest::TooMany);
    }
    let mut taken = Taken::default();
    let mut bytes = 0_u64;
    for entry in entries {
        if let Some(part) = entry.path.components().find(|part| part.starts_with('.')) {
            return Err(BadManifest::Hidden(shown(part)));
        }
        taken.file(&entry.path)?;
        bytes = bytes.checked_add(entry.size).ok_or(BadManifest::TooLarge)?;
        if bytes > FILE_BYTES_MAX {
            return Err(BadManifest::TooLarge);
        }
    }
    Ok(bytes)
}

/// Names that are taken, on a system that does not tell case apart.
#[derive(Default)]
struct Taken<'a> {
    /// By the folded path: as it is written, and whether it is a folder.
    by_fold: HashMap<String, (&'a str, bool)>,
}

impl<'a> Taken<'a> {
    fn file(&mut self, path: &'a FileName) -> Result<(), BadManifest> {
        let text = path.as_str();
        for (slash, _) in text.match_indices('/') {
            self.take(&text[..slash], true)?;
        }
        self.take(text, false)
    }

    fn take(&mut self, text: &'a str, is_folder: bool) -> Result<(), BadManifest> {
        let Some((other, was_folder)) = self.by_fold.insert(fold(text), (text, is_folder)) else {
            return Ok(());
        };
        if other != text {
            return Err(BadManifest::SameName(shown(other), shown(text)));
        }
        // A folder comes with each of its files; a file comes once.
        if is_folder && was_folder {
            return Ok(());
        }
        Err(BadManifest::FileAndFolder(shown(text)))
    }
}

fn shown(text: &str) -> String {
    tertulia_wire::safe::make_safe(text, 200).into_owned()
}

/// As systems compare names that do not tell case apart; there and back, so that all forms of a letter become one.
fn fold(text: &str) -> String {
    if text.is_ascii() {
        return text.to_ascii_lowercase();
    }
    let lower = text.nfd().flat_map(char::to_lowercase);
    lower.flat_map(char::to_uppercase).flat_map(char::to_lowercase).nfc().collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(path: &str, size: u64) -> Entry {
        let hash = ContentHash::of(path.as_bytes());
        Entry { path: FileName::new(path).unwrap(), size, hash }
    }

    fn of(paths: &[&str]) -> Result<Manifest, BadManifest> {
        Manifest::new(paths.iter().map(|path| entry(path, 1)).collect())
    }

    #[test]
    fn a_folder_has_one_list_whatever_the_order() {
        let paths = ["b.txt", "a/ñandú 2.txt", "a/z", "a-b"];
        let mut other = paths;
        other.reverse();
        let manifest = of(&paths).unwrap();
        assert_eq!(manifest, of(&other).unwrap());
        assert_eq!((manifest.bytes(), manifest.entries().len()), (4, 4));
        let list = manifest.write();
        assert_eq!(Manifest::read(&list), Ok(manifest));
        let text = String::from_utf8(list).unwrap();
        let hash = ContentHash::of(b"a/z");
        assert!(text.starts_with("tertulia folder 1\n1 "), "{text}");
        assert!(text.contains(&format!("\n1 {hash} a/z\n")), "{text}");
    }

    #[test]
    fn what_would_be_one_name_elsewhere_is_refused() {
        for paths in [
            &["LEEME", "leeme"][..],
            &["a/x", "A/y"],
            &["Σς", "σς"],
            &["straße", "STRASSE"],
            &["n\u{303}", "Ñ"],
            &["stra\u{1e9e}e", "straße"],
        ] {
            assert!(matches!(of(paths), Err(BadManifest::SameName(..))), "{paths:?}");
        }
        for paths in [&["a", "a/b"][..], &["a", "a"]] {
            assert!(matches!(of(paths), Err(BadManifest::FileAndFolder(_))), "{paths:?}");
        }
        assert!(matches!(of(&["a", "A/b"]), Err(BadManifest::SameName(..))));
        for path in [".ssh/authorized_keys", "a/.git/config", ".bashrc"] {
            assert!(matches!(of(&[path]), Err(BadManifest::Hidden(_))), "{path}");
        }
        assert_eq!(of(&[]), Err(BadManifest::Empty));
        assert!(of(&["m2", "m²"]).is_ok());
    }

    #[test]
    fn a_letter_and_what_case_makes_of_it_are_one_name() {
        for letter in '\0'..=char::MAX {
            let own = fold(&letter.to_string());
            for other in [letter.to_lowercase().to_string(), letter.to_uppercase().to_string()] {
                assert_eq!(fold(&other), own, "{letter:?} and {other:?}");
            }
        }
    }

    #[test]
    fn a_list_that_somebody_made_up_is_none() {
        let hash = ContentHash::of(b"x").to_string();
        let list = |lines: &[&str]| {
            let lines = lines.iter().map(|line| line.replace("HASH", &hash));
            FIRST_LINE.to_owned() + &lines.map(|line| line + "\n").collect::<String>()
        };
        let check = |text: String| Manifest::read(text.as_bytes());
        assert!(check(list(&["1 HASH a", "1 HASH b"])).is_ok());
        for lines in [
            &["1 HASH ../a"][..],
            &["1 HASH /etc/passwd"],
            &["1 HASH a/../../b"],
            &["1 HASH a//b"],
            &["1 HASH a/"],
            &["1 HASH "],
            &["1 HASH C:\\x"],
            &["1 HASH nul"],
            &["1 HASH a\u{1b}[2J"],
            &["1 HASH a\u{202e}b"],
            &["1 HASH nin\u{303}o"],
            &["1 HASH .tertulia-x"],
        ] {
            let read = check(list(lines));
            assert!(matches!(read, Err(BadManifest::Path { line: 2, .. })), "{lines:?}: {read:?}");
        }
        for lines in [
            &["1 HASH b", "1 HASH a"][..],
            &["1 HASH a", "1 HASH a"],
            &["1 HASH a", ""],
            &["01 HASH a"],
            &["+1 HASH a"],
            &["-1 HASH a"],
            &["18446744073709551616 HASH a"],
            &[" HASH a"],
            &["1 00 a"],
            &["1  HASH a"],
            &["1 HASH"],
            &["1"],
        ] {
            let read = check(list(lines));
            assert!(matches!(read, Err(BadManifest::Line(_))), "{lines:?}: {read:?}");
        }
        assert!(check(list(&["1 HASH a"]).replace(&hash, &hash.to_uppercase())).is_err());
        let sizes = format!("{FILE_BYTES_MAX} HASH a");
        assert!(check(list(&[&sizes])).is_ok());
        assert_eq!(check(list(&[&sizes, "1 HASH b"])), Err(BadManifest::TooLarge));
        let huge = format!("{} HASH a", u64::MAX);
        assert_eq!(check(list(&[&huge, "1 HASH b"])), Err(BadManifest::TooLarge));
        let text = list(&["1 HASH a"]);
        for cut in 0..text.len() {
            assert!(check(text[..cut].to_owned()).is_err(), "{cut}");
        }
        assert!(check(text.replace('\n', "\r\n")).is_err());
        assert!(check(text.replace("folder 1", "folder 2")).is_err());
        let many = (0..=FOLDER_FILES_MAX).map(|n| format!("1 {hash} {n:08}\n"));
        let many = FIRST_LINE.to_owned() + &many.collect::<String>();
        assert_eq!(check(many), Err(BadManifest::TooMany));
        let long = vec![b'x'; MANIFEST_BYTES_MAX + 1];
        assert_eq!(Manifest::read(&long), Err(BadManifest::TooLarge));
    }

    proptest! {
        #[test]
        fn what_is_read_is_written_the_same(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let list = [FIRST_LINE.as_bytes(), &bytes].concat();
            if let Ok(manifest) = Manifest::read(&list) {
                prop_assert_eq!(manifest.write(), list);
            }
        }
    }
}
