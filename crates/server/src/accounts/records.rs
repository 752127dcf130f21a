//! How accounts and tokens stand in the catalog: versioned JSON under a key each.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::passwords::Hashed;

/// Accounts stand under this and their folded name.
pub(crate) const ACCOUNT: &str = "account/";
/// Tokens stand under this and their digest.
pub(crate) const TOKEN: &str = "token/";
/// Who may everything.
pub(crate) const ADMINISTRATORS: &str = "accounts/administrators";

const VERSION: u32 = 1;

/// An account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AccountRecord {
    pub name: String,
    pub password: Hashed,
    pub created_us: u64,
}

/// A token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TokenRecord {
    /// Folded.
    pub account: String,
    pub created_us: u64,
    pub expires_us: u64,
}

/// Folded names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AdministratorsRecord {
    pub names: Vec<String>,
}

#[derive(Serialize, Deserialize)]
struct Versioned<T> {
    v: u32,
    #[serde(flatten)]
    record: T,
}

/// A record's bytes.
pub(crate) fn write<T: Serialize>(record: T) -> Vec<u8> {
    serde_json::to_vec(&Versioned { v: VERSION, record }).unwrap_or_default()
}

/// A record from its bytes; the text says what is wrong with it.
pub(crate) fn read<T: DeserializeOwned>(key: &str, bytes: &[u8]) -> Result<T, String> {
    let read: Versioned<T> =
        serde_json::from_slice(bytes).map_err(|error| format!("the record {key}: {error}"))?;
    if read.v != VERSION {
        return Err(format!("the record {key} is of version {}; update this program", read.v));
    }
    Ok(read.record)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_comes_back_and_another_version_is_refused() {
        let record = TokenRecord { account: "ana".into(), created_us: 1, expires_us: 2 };
        let bytes = write(record.clone());
        assert_eq!(read::<TokenRecord>("k", &bytes), Ok(record));
        let newer = String::from_utf8(bytes).unwrap().replace("\"v\":1", "\"v\":2");
        assert!(read::<TokenRecord>("k", newer.as_bytes()).unwrap_err().contains("version 2"));
        assert!(read::<TokenRecord>("k", b"").unwrap_err().contains("the record k"));
    }
}
