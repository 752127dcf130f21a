//! Names that are not given: `user-host`, made fit to be a name, and numbered.

use tertulia_client::Target;
use tertulia_group::limits::{NAME_BYTES_MAX, NAME_CHARS_MAX};
use tertulia_group::{Name, NameError};

use crate::failure::Failure;

/// Room for `-` and the number of a numbered name.
const NUMBER_CHARS: usize = 5;

/// A name that somebody wrote, checked before the node is asked.
pub fn check(text: &str) -> Result<Name, Failure> {
    Name::new(text).map_err(|error| Failure::failed("BAD_NAME", format!("{text:?}: {error}")))
}

/// A name on the command line: one that can never be one is wrong usage.
pub fn argument(text: &str) -> Result<String, NameError> {
    Name::new(text).map(|_| text.to_owned())
}

/// The same, where nothing stands for nobody.
pub fn argument_or_none(text: &str) -> Result<String, NameError> {
    if text.is_empty() { Ok(String::new()) } else { argument(text) }
}

/// The account's name of who is logged in, or `user-host`.
pub fn default_at(target: &Target) -> String {
    let own = target.login_shown().and_then(|login| login.name.clone());
    own.unwrap_or_else(default)
}

/// `user-host`.
fn default() -> String {
    legal(&format!("{}-{}", user(), host()))
}

/// The host's name, up to its first dot, as a legal name.
pub fn host() -> String {
    let host = host_name();
    legal(host.split('.').next().unwrap_or_default())
}

/// What a peer of this account is called in the groups that it follows: `ana-peer`.
pub fn of_peer(account: &str) -> String {
    const SUFFIX: &str = "-peer";
    let room = NAME_CHARS_MAX - NUMBER_CHARS - SUFFIX.len();
    let cut: String = account.chars().take(room).collect();
    let bytes = cut.floor_char_boundary(NAME_BYTES_MAX - NUMBER_CHARS - SUFFIX.len());
    format!("{}{SUFFIX}", &cut[..bytes])
}

/// The name with its number: `ana`, `ana-2`, `ana-3`…
pub fn numbered(name: &str, number: u32) -> String {
    if number <= 1 {
        return name.to_owned();
    }
    let number = format!("-{number}");
    let room = NAME_CHARS_MAX - number.len();
    let cut: String = name.chars().take(room).collect();
    let bytes = cut.floor_char_boundary(NAME_BYTES_MAX - number.len());
    format!("{}{number}", &cut[..bytes])
}

/// The nearest legal name: whatever else stands there becomes `-`.
fn legal(text: &str) -> String {
    let changed: String = text
        .chars()
        .map(|c| if c.is_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '-' })
        .take(NAME_CHARS_MAX - NUMBER_CHARS)
        .collect();
    let trimmed = changed.trim_matches('-');
    if let Ok(name) = Name::new(trimmed) {
        return name.to_string();
    }
    let ascii: String = trimmed.chars().filter(char::is_ascii).collect();
    Name::new(&ascii).map_or_else(|_| "someone".to_owned(), |name| name.to_string())
}

fn user() -> String {
    ["USER", "LOGNAME", "USERNAME"]
        .into_iter()
        .find_map(|variable| std::env::var(variable).ok().filter(|name| !name.is_empty()))
        .or_else(user_of_process)
        .unwrap_or_else(|| "user".to_owned())
}

/// The user by the list of accounts, where the environment does not say (in containers).
#[cfg(unix)]
fn user_of_process() -> Option<String> {
    let id = rustix::process::getuid().as_raw().to_string();
    let list = std::fs::read_to_string("/etc/passwd").ok()?;
    list.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == id).then(|| name.to_owned())
    })
}

#[cfg(not(unix))]
fn user_of_process() -> Option<String> {
    None
}

#[cfg(unix)]
fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

#[cfg(not(unix))]
fn host_name() -> String {
    std::env::var("COMPUTERNAME").unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_the_host_is_called_the_name_is_legal() {
        for (text, name) in [
            ("ana-box", "ana-box"),
            ("ana maría@box", "ana-maría-box"),
            ("名前-ホスト", "名前-ホスト"),
            ("", "someone"),
            ("///", "someone"),
        ] {
            assert_eq!(legal(text), name);
        }
        assert!(Name::new(&legal(&"x".repeat(300))).is_ok());
        assert!(Name::new(&default()).is_ok());
    }

    #[test]
    fn a_peers_name_fits_with_its_number() {
        assert_eq!(of_peer("ana"), "ana-peer");
        for long in ["x".repeat(32), "名".repeat(32)] {
            let name = numbered(&of_peer(&long), 1234);
            assert!(Name::new(&name).is_ok() && name.contains("-peer-1234"), "{name}");
        }
    }

    #[test]
    fn numbers_fit() {
        assert_eq!(numbered("ana", 1), "ana");
        assert_eq!(numbered("ana", 12), "ana-12");
        for long in ["x".repeat(32), "名".repeat(32)] {
            assert!(Name::new(&numbered(&long, 1234)).is_ok());
        }
    }
}
