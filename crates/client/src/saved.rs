//! What a member writes down to come back as the same member after its program has ended.

use std::fmt::Write as _;
use std::str::FromStr;

use tertulia_group::entry::code_is_clean;
use tertulia_group::limits::NAME_BYTES_MAX;
use tertulia_group::{LogId, Position, SenderId, Seq};
use tertulia_wire::Secret;

use crate::tracker::KEPT_MAX;

/// The first line.
const HEAD: &str = "tertulia-member 1";
/// Longest text that is looked at: more than [`KEPT_MAX`] open ones and as many failures can take.
const BYTES_MAX: usize = 1 << 20;

/// What a program keeps to resume its membership. Made by [`crate::Member::saved`]; given back in
/// [`crate::MemberOptions::saved`]. Whoever has it is the member: keep the file private.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Saved {
    /// The group's name as it is written.
    pub group: String,
    /// The member's name as it is written.
    pub name: String,
    /// The resume secret.
    pub secret: Secret,
    /// The id of its own messages.
    pub sender: SenderId,
    /// The log of `cursor`.
    pub log: LogId,
    /// The epoch in which the entry at `cursor` came.
    pub epoch: u32,
    /// Done with everything up to here, apart from `open` and `failed`.
    pub cursor: Seq,
    /// Still at work on these; they come again. At most 4,096.
    pub open: Vec<Seq>,
    /// Will not do these; the node may not know yet. At most 4,096: many more than one acknowledgement tells.
    pub failed: Vec<(Seq, String)>,
}

/// Why bytes are not a [`Saved`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a member's saved state: {0}")]
pub struct SavedError(pub String);

impl Saved {
    /// A few lines of text, a word and its value each, the version first.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut text = format!(
            "{HEAD}\ngroup {}\nname {}\nsecret {}\nsender {}\nlog {}\nepoch {}\ncursor {}\n",
            self.group,
            self.name,
            hex(&self.secret.0),
            hex(&self.sender.0),
            hex(&self.log.0),
            self.epoch,
            self.cursor,
        );
        for seq in &self.open {
            let _ = writeln!(text, "open {seq}");
        }
        for (seq, code) in &self.failed {
            let _ = writeln!(text, "failed {seq} {code}");
        }
        text.push_str("end\n");
        text.into_bytes()
    }

    /// Reads what [`Saved::to_bytes`] wrote; words that are not known are skipped.
    ///
    /// # Errors
    /// [`SavedError`], also for a file that was cut short.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, SavedError> {
        if bytes.len() > BYTES_MAX {
            return Err(bad("too long"));
        }
        let text = std::str::from_utf8(bytes).map_err(|_| bad("not UTF-8"))?;
        let mut lines = text.lines();
        if lines.next() != Some(HEAD) {
            return Err(bad("the first line is not its version's"));
        }
        let mut fields = Fields::default();
        let mut is_whole = false;
        for line in lines {
            is_whole = line == "end";
            if is_whole {
                break;
            }
            let (word, value) = line.split_once(' ').unwrap_or((line, ""));
            fields.take(word, value)?;
        }
        if !is_whole {
            return Err(bad("its end is missing"));
        }
        fields.into_saved()
    }

    pub(crate) const fn position(&self) -> Position {
        Position { log: self.log, epoch: self.epoch, seq: self.cursor }
    }
}

#[derive(Default)]
struct Fields {
    group: Option<String>,
    name: Option<String>,
    secret: Option<[u8; 32]>,
    sender: Option<[u8; 16]>,
    log: Option<[u8; 16]>,
    epoch: Option<u32>,
    cursor: Option<Seq>,
    open: Vec<Seq>,
    failed: Vec<(Seq, String)>,
}

impl Fields {
    fn take(&mut self, word: &str, value: &str) -> Result<(), SavedError> {
        match word {
            "group" => self.group = Some(name(word, value)?),
            "name" => self.name = Some(name(word, value)?),
            "secret" => self.secret = Some(unhex(word, value)?),
            "sender" => self.sender = Some(unhex(word, value)?),
            "log" => self.log = Some(unhex(word, value)?),
            "epoch" => self.epoch = Some(number(word, value)?),
            "cursor" => self.cursor = Some(number(word, value)?),
            "open" => self.open.push(seq(word, value)?),
            "failed" => {
                let (number, code) = value.split_once(' ').ok_or_else(|| bad_value(word))?;
                if !code_is_clean(code) {
                    return Err(bad_value(word));
                }
                self.failed.push((seq(word, number)?, code.to_owned()));
            }
            _ => {}
        }
        if self.open.len() > KEPT_MAX || self.failed.len() > KEPT_MAX {
            return Err(bad_value(word));
        }
        Ok(())
    }

    fn into_saved(self) -> Result<Saved, SavedError> {
        let missing = |word| move || SavedError(format!("{word} is missing"));
        Ok(Saved {
            group: self.group.ok_or_else(missing("group"))?,
            name: self.name.ok_or_else(missing("name"))?,
            secret: Secret(self.secret.ok_or_else(missing("secret"))?),
            sender: SenderId(self.sender.ok_or_else(missing("sender"))?),
            log: LogId(self.log.ok_or_else(missing("log"))?),
            epoch: self.epoch.ok_or_else(missing("epoch"))?,
            cursor: self.cursor.ok_or_else(missing("cursor"))?,
            open: self.open,
            failed: self.failed,
        })
    }
}

fn bad(why: &str) -> SavedError {
    SavedError(why.to_owned())
}

fn bad_value(word: &str) -> SavedError {
    SavedError(format!("{word} has a bad value"))
}

fn name(word: &str, value: &str) -> Result<String, SavedError> {
    if value.is_empty() || value.len() > NAME_BYTES_MAX || value.chars().any(char::is_control) {
        return Err(bad_value(word));
    }
    Ok(value.to_owned())
}

/// Numbers begin at 1.
fn seq(word: &str, value: &str) -> Result<Seq, SavedError> {
    number(word, value).and_then(|seq| if seq == 0 { Err(bad_value(word)) } else { Ok(seq) })
}

fn number<T: FromStr>(word: &str, value: &str) -> Result<T, SavedError> {
    value.parse().map_err(|_| bad_value(word))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn unhex<const N: usize>(word: &str, value: &str) -> Result<[u8; N], SavedError> {
    let mut bytes = [0; N];
    if value.len() != 2 * N || !value.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(bad_value(word));
    }
    for (byte, digits) in bytes.iter_mut().zip(value.as_bytes().chunks(2)) {
        let digits = std::str::from_utf8(digits).map_err(|_| bad_value(word))?;
        *byte = u8::from_str_radix(digits, 16).map_err(|_| bad_value(word))?;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn saved() -> Saved {
        Saved {
            group: "ops".into(),
            name: "ána".into(),
            secret: Secret([0xab; 32]),
            sender: SenderId([1; 16]),
            log: LogId([0xf0; 16]),
            epoch: 7,
            cursor: 42,
            open: vec![3, 40],
            failed: vec![(41, "exit 7".into())],
        }
    }

    #[test]
    fn what_was_saved_is_read_back() {
        for saved in [saved(), Saved { open: vec![], failed: vec![], cursor: 0, ..saved() }] {
            assert_eq!(Saved::from_bytes(&saved.to_bytes()), Ok(saved));
        }
    }

    /// A member that had failed more often than one acknowledgement tells lost its seat with its file.
    #[test]
    fn as_much_as_is_kept_is_read_back() {
        let many = |count: u64, code: &str| Saved {
            group: "ñ".repeat(NAME_BYTES_MAX / 2),
            name: "ñ".repeat(NAME_BYTES_MAX / 2),
            epoch: u32::MAX,
            cursor: Seq::MAX,
            open: (1..=count).map(|i| Seq::MAX - 2 * i).collect(),
            failed: (1..=count).map(|i| (Seq::MAX - 2 * i - 1, code.to_owned())).collect(),
            ..saved()
        };
        let longest = "x".repeat(tertulia_group::limits::CODE_BYTES_MAX);
        for many in [many(65, "exit 1"), many(KEPT_MAX as u64, &longest)] {
            assert_eq!(Saved::from_bytes(&many.to_bytes()), Ok(many));
        }
        assert!(Saved::from_bytes(&many(KEPT_MAX as u64 + 1, "exit 1").to_bytes()).is_err());
    }

    #[test]
    fn words_of_later_versions_are_skipped() {
        let text = String::from_utf8(saved().to_bytes()).unwrap();
        let text = text.replace("epoch", "mood good\nepoch");
        assert_eq!(Saved::from_bytes(text.as_bytes()), Ok(saved()));
    }

    /// Found by the fuzz target `saved`: the node closes the connection of a member whose code is not clean.
    #[test]
    fn a_carriage_return_in_a_code_or_name_is_refused() {
        let text = String::from_utf8(saved().to_bytes()).unwrap();
        for (old, new) in [("exit 7", "exit 7\r\r"), ("group ops", "group ops\r\r")] {
            assert!(Saved::from_bytes(text.replace(old, new).as_bytes()).is_err(), "{new:?}");
        }
    }

    #[test]
    fn everything_else_is_an_error_and_no_panic() {
        let text = String::from_utf8(saved().to_bytes()).unwrap();
        for end in 0..text.len() - 1 {
            assert!(Saved::from_bytes(&text.as_bytes()[..end]).is_err(), "cut at {end}");
        }
        for (old, new) in [
            ("epoch 7", "epoch seven"),
            ("cursor 42", "cursor -1"),
            ("secret ab", "secret zz"),
            ("secret ab", "secret é"),
            ("secret ab", "secret "),
            ("name ána", "name "),
            ("failed 41 exit 7", "failed 41"),
            ("failed 41", "failed 0"),
            ("open 3", "open 0"),
            ("member 1", "member 2"),
        ] {
            assert!(Saved::from_bytes(text.replace(old, new).as_bytes()).is_err(), "{new}");
        }
        assert!(Saved::from_bytes(&[0xff; 10]).is_err());
        assert!(Saved::from_bytes(&vec![b'a'; BYTES_MAX + 1]).is_err());
    }
}
