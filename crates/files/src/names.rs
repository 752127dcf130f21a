//! Names from outside, made safe once: what is no [`FileName`] is neither opened nor passed on.
//!
//! A name is one or more components with `/` between them, the last one the file's. It is the same on every system: what
//! would be a device, another folder or another name on one of them is refused on all.

use std::fmt;

use tertulia_wire::safe::make_safe;
use unicode_normalization::UnicodeNormalization as _;

use super::limits::{COMPONENT_BYTES_MAX, DEPTH_MAX, NAME_BYTES_MAX};

/// A name that is safe to create below a folder, and to print.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileName(String);

/// Why a name is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadName {
    /// Nothing is there, or nothing between two separators.
    #[error("a name, or a part of it, is empty")]
    Empty,
    /// It is too long.
    #[error(
        "a name has at most {NAME_BYTES_MAX} bytes, {COMPONENT_BYTES_MAX} between two /, and {DEPTH_MAX} folders"
    )]
    TooLong,
    /// `.` or `..`.
    #[error("a part of a name is not . or ..")]
    Dots,
    /// A character that some system takes for a separator, a stream, a pattern, or that steers a terminal or turns text around.
    #[error(
        "a name has no control, invisible or direction characters, and none of \\ : * ? \" < > |"
    )]
    Character,
    /// It ends in a dot or a space, or begins with a space: some systems drop those.
    #[error("a part of a name does not begin or end with a space, or end with a dot")]
    Edge,
    /// A device on some system.
    #[error("a name such as con, nul or com1 is a device on some systems")]
    Device,
    /// Not Unicode.
    #[error("a name is UTF-8")]
    NotUnicode,
    /// On the disk it is written with other bytes than the ones it would have here.
    #[error("a name is in Unicode's normal form (NFC)")]
    NotNormal,
    /// Something that is not shown.
    #[error(
        "a name that others give does not begin with a dot: programs read such files by themselves"
    )]
    Hidden,
    /// This program's own, for what is not complete.
    #[error("a name does not begin with {PART_PREFIX}")]
    Ours,
}

/// What the names of files that are not complete begin with.
pub const PART_PREFIX: &str = ".tertulia-";

const DEVICES: [&str; 28] = [
    "con",
    "prn",
    "aux",
    "nul",
    "conin$",
    "conout$",
    "com0",
    "com1",
    "com2",
    "com3",
    "com4",
    "com5",
    "com6",
    "com7",
    "com8",
    "com9",
    "lpt0",
    "lpt1",
    "lpt2",
    "lpt3",
    "lpt4",
    "lpt5",
    "lpt6",
    "lpt7",
    "lpt8",
    "lpt9",
    "clock$",
    "desktop.ini",
];

impl FileName {
    /// Takes a name, normalised (NFC).
    ///
    /// # Errors
    /// [`BadName`]
    pub fn new(text: &str) -> Result<Self, BadName> {
        if text.len() > NAME_BYTES_MAX {
            return Err(BadName::TooLong);
        }
        let text: String = text.nfc().collect();
        if text.len() > NAME_BYTES_MAX || text.split('/').count() > DEPTH_MAX + 1 {
            return Err(BadName::TooLong);
        }
        text.split('/').try_for_each(check_component)?;
        Ok(Self(text))
    }

    /// The whole of it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its components, the file's own the last.
    pub fn components(&self) -> impl Iterator<Item = &str> {
        self.0.split('/')
    }

    /// The file's own name, without folders.
    pub fn base(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }

    /// A path below the folder of this name.
    ///
    /// # Errors
    /// [`BadName::TooLong`] where the two together are.
    pub fn child_path(&self, path: &Self) -> Result<Self, BadName> {
        Self::new(&format!("{}/{}", self.0, path.0))
    }

    /// The file's own name as a name.
    #[must_use]
    pub fn own(&self) -> Self {
        Self(self.base().to_owned())
    }

    /// The own name of what somebody else calls so, which has to be one that is shown: nobody puts a `.bash_profile` or a `.ssh`
    /// anywhere by calling something so.
    ///
    /// # Errors
    /// [`BadName::Hidden`]
    pub fn own_shown(&self) -> Result<Self, BadName> {
        if self.base().starts_with('.') { Err(BadName::Hidden) } else { Ok(self.own()) }
    }

    /// A name in the folder of this name.
    ///
    /// # Errors
    /// [`BadName`]
    pub fn child(&self, component: &str) -> Result<Self, BadName> {
        Self::new(&format!("{self}/{component}"))
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&make_safe(&self.0, usize::MAX))
    }
}

impl fmt::Debug for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

fn check_component(part: &str) -> Result<(), BadName> {
    if part.is_empty() {
        return Err(BadName::Empty);
    }
    if part.len() > COMPONENT_BYTES_MAX {
        return Err(BadName::TooLong);
    }
    if part == "." || part == ".." {
        return Err(BadName::Dots);
    }
    if part.chars().any(is_refused) {
        return Err(BadName::Character);
    }
    if part.starts_with(' ') || part.ends_with([' ', '.']) {
        return Err(BadName::Edge);
    }
    if part.starts_with(PART_PREFIX) {
        return Err(BadName::Ours);
    }
    // A device with an extension is the device, and so are the superscript digits.
    let folded: String = part.nfkc().flat_map(char::to_lowercase).collect();
    let stem = folded.split('.').next().unwrap_or_default().trim_end();
    if DEVICES.contains(&stem) || DEVICES.contains(&folded.as_str()) {
        return Err(BadName::Device);
    }
    Ok(())
}

fn is_refused(c: char) -> bool {
    tertulia_wire::safe::is_unsafe(c)
        || matches!(c, '/' | '\\' | ':' | '*' | '?' | '"' | '<' | '>' | '|')
        // Invisible ones, the format characters of Unicode, and what is no character.
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{600}'..='\u{605}' | '\u{6dd}' | '\u{70f}' | '\u{890}' | '\u{891}' | '\u{8e2}'
            | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200d}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0e}'
            | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{fdd0}'..='\u{fdef}'
            | '\u{110bd}' | '\u{110cd}' | '\u{13430}'..='\u{1343f}' | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
        || (c as u32) & 0xfffe == 0xfffe
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_people_call_their_files_is_taken() {
        for text in [
            "informe.pdf",
            "año 2026/niño.txt",
            "名前.txt",
            ".hidden",
            "a..b",
            "con-crete.txt",
            "comb",
            "x.con",
            "résumé (2).doc",
            "a'b&c;d$(e)`f`",
            "-rf",
            "~",
            "%2e%2e",
            "emoji ❤\u{fe0f}.png",
        ] {
            assert_eq!(
                FileName::new(text).map(|name| name.as_str().nfc().eq(text.nfc())),
                Ok(true),
                "{text}"
            );
        }
        // Two ways to write the same letter are one name.
        assert_eq!(FileName::new("nin\u{303}o"), FileName::new("ni\u{f1}o"));
        assert_eq!(FileName::new("a/b/c.txt").unwrap().base(), "c.txt");
    }

    #[test]
    fn what_leads_elsewhere_is_refused() {
        for (text, why) in [
            ("", BadName::Empty),
            ("/etc/passwd", BadName::Empty),
            ("a//b", BadName::Empty),
            ("a/", BadName::Empty),
            (".", BadName::Dots),
            ("..", BadName::Dots),
            ("../x", BadName::Dots),
            ("a/../../x", BadName::Dots),
            ("..\\x", BadName::Character),
            ("C:\\x", BadName::Character),
            ("x.txt:stream", BadName::Character),
            ("a\0b", BadName::Character),
            ("a\nb", BadName::Character),
            ("\u{1b}[2Jx", BadName::Character),
            ("\u{9b}2J", BadName::Character),
            ("gpj.\u{202e}exe", BadName::Character),
            ("a\u{200b}b", BadName::Character),
            ("a\u{2066}b", BadName::Character),
            ("\u{feff}a", BadName::Character),
            ("a\u{e0041}", BadName::Character),
            ("a\u{ffff}", BadName::Character),
            ("a ", BadName::Edge),
            (" a", BadName::Edge),
            ("...", BadName::Edge),
            ("a.", BadName::Edge),
            ("CON", BadName::Device),
            ("nul.txt", BadName::Device),
            ("a/com1.tar.gz", BadName::Device),
            ("COM\u{b9}", BadName::Device),
            ("con .txt", BadName::Device),
            ("desktop.ini", BadName::Device),
            (".tertulia-x.part", BadName::Ours),
        ] {
            assert_eq!(FileName::new(text), Err(why), "{text:?}");
        }
        let long = |len| "x".repeat(len);
        assert!(FileName::new(&long(255)).is_ok());
        assert_eq!(FileName::new(&long(256)), Err(BadName::TooLong));
        assert_eq!(FileName::new(&vec![long(200); 6].join("/")), Err(BadName::TooLong));
        assert_eq!(FileName::new(&vec!["x"; 18].join("/")), Err(BadName::TooLong));
    }

    proptest! {
        #[test]
        fn a_name_stays_below_its_folder_and_can_be_printed(text in "\\PC{0,40}|[./\\\\ a\u{202e}\u{0}]{0,12}") {
            if let Ok(name) = FileName::new(&text) {
                for part in std::path::Path::new(name.as_str()).components() {
                    prop_assert!(matches!(part, std::path::Component::Normal(_)), "{text:?}");
                }
                prop_assert_eq!(name.to_string(), name.as_str());
                prop_assert_eq!(FileName::new(name.as_str()), Ok(name));
            }
        }
    }
}
