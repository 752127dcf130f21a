//! What peers and a node say to each other of files, over HTTP: JSON forms. Names and order of fields are a promise.

use serde::{Deserialize, Serialize};

/// A peer in a list: `files peers`, `GET /api/peers`.
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerLine {
    /// The account that it is of.
    pub user: String,
    /// `host:port`.
    pub address: String,
    /// It has been heard of lately.
    pub online: bool,
}

/// A file in a list: `files list` and `search`, `GET /api/files`.
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileLine {
    /// Its name, with `/` between folders, and at the end of a folder's own; not yet fit to be opened.
    pub name: String,
    /// Its bytes, as its holders say; of a folder, those of all files in it.
    pub size: u64,
    /// The BLAKE3 hash of its content: 64 hexadecimal digits. Of a folder: of the list of its files.
    pub hash: String,
    /// The accounts whose peers have it.
    pub holders: Vec<String>,
    /// One of them is there.
    pub online: bool,
    /// A folder: how many files are in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<u64>,
}

/// A peer says where it is, again before its lease ends: `PUT /api/peers/me`.
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerHere {
    /// The host by which others reach it; where nothing is said, the address that the request comes from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Its port.
    pub port: u16,
    /// The SHA-256 of its certificate (DER): 64 hexadecimal digits. It is what tells one peer of an account from another.
    pub fingerprint: String,
    /// What it is fetching, all of it each time: it has some of each and gives it to others. In no search.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unfinished: Vec<FileHeld>,
}

/// What a peer is told then.
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerLease {
    /// The account that it is of.
    pub user: String,
    /// Where others find it.
    pub address: String,
    /// For so long it is taken to be there.
    pub lease_ms: u64,
    /// How many announcements the node has of it: 0 where it has forgotten, or never had any.
    pub revision: u64,
}

/// A file that a peer has.
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileHeld {
    /// Its name, with `/` between folders; a folder's own ends with `/`, too.
    pub name: String,
    /// Its bytes; of a folder, those of the list of its files.
    pub size: u64,
    /// The BLAKE3 hash of its content: 64 hexadecimal digits. Of a folder: of the list of its files.
    pub hash: String,
    /// It is a folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folder: Option<FolderHeld>,
}

/// What is in a folder that a peer has.
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FolderHeld {
    /// How many files.
    pub files: u64,
    /// Their bytes in all.
    pub bytes: u64,
}

/// What has changed of a peer's files: `POST /api/files`.
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilesChanged {
    /// Which peer of the account.
    pub fingerprint: String,
    /// The revision that this follows; another one than the node's is refused (409 `REVISION`), and the peer says everything
    /// anew. 0 begins anew.
    pub revision: u64,
    /// It has these from now on.
    #[serde(default)]
    pub add: Vec<FileHeld>,
    /// It has these no more.
    #[serde(default)]
    pub remove: Vec<FileHeld>,
}

/// What a peer is told then.
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilesKnown {
    /// What to give as `revision` with the next change.
    pub revision: u64,
    /// How many files the node knows of this peer.
    pub files: u64,
}

/// Where a content can be had: `GET /api/files/{hash}/holders`.
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HolderLine {
    /// The account that the peer is of.
    pub user: String,
    /// `host:port`.
    pub address: String,
    /// The SHA-256 of the peer's certificate, which the node vouches for.
    pub fingerprint: String,
    /// What it calls the file.
    pub name: String,
    /// The bytes that it says the file has.
    pub size: u64,
    /// It is fetching it, and has some of it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unfinished: bool,
}

/// Asks for a capability: `POST /api/capabilities`.
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CapabilityWanted {
    /// The SHA-256 of the certificate that will be shown to the peers.
    pub fingerprint: String,
    /// The contents that are to be fetched.
    pub hashes: Vec<String>,
    /// Who has them is wanted, too; then it is no mistake that nobody has some of them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub holders: bool,
}

/// A capability: whoever shows it to a peer, with the certificate that it is for, may fetch.
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CapabilityGiven {
    /// `v4.public.…` (PASETO); [`Capability`] is what it says.
    pub capability: String,
    /// When it ends.
    pub expires: String,
    /// Where they were wanted: who has each of the contents, in the order in which they were asked for. What nobody has is not
    /// opened by the capability.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holders: Option<Vec<Vec<HolderLine>>>,
}

impl std::fmt::Debug for CapabilityGiven {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CapabilityGiven").field("expires", &self.expires).finish_non_exhaustive()
    }
}

/// What a capability says, signed by the node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capability {
    /// The node's store, in hexadecimal.
    pub iss: String,
    /// The account that asks.
    pub sub: String,
    /// When it ends (RFC 3339).
    pub exp: String,
    /// The SHA-256 of the certificate that it is for.
    pub fpr: String,
    /// The contents that it opens.
    pub hashes: Vec<String>,
}

/// What else is signed with a capability, so that nothing else that the node signs is one.
pub const CAPABILITY_PURPOSE: &[u8] = b"tertulia capability 1";

/// By what capabilities are verified: `GET /api/peers/key`.
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeKey {
    /// An Ed25519 public key: 64 hexadecimal digits.
    pub key: String,
    /// The node's store, in hexadecimal: the `iss` of its capabilities.
    pub instance: String,
}

/// 32 bytes from 64 hexadecimal digits: a hash or a fingerprint.
pub fn bytes_of_hex(text: &str) -> Option<[u8; 32]> {
    let is_hex = text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let mut bytes = [0; 32];
    for (byte, at) in bytes.iter_mut().zip((0..).step_by(2)).filter(|_| is_hex) {
        *byte = u8::from_str_radix(text.get(at..at + 2)?, 16).ok()?;
    }
    is_hex.then_some(bytes)
}

/// As few digits of a hash as are taken for one: fewer are a word more often than a hash.
pub const HASH_DIGITS_MIN: usize = 8;

/// Whether this may be a hash (64 hexadecimal digits), or the first [`HASH_DIGITS_MIN`] or more digits of one.
pub fn is_hash_beginning(text: &str) -> bool {
    (HASH_DIGITS_MIN..=64).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_comes_back_and_nothing_else_is_taken() {
        let bytes: [u8; 32] = std::array::from_fn(|at| at as u8 * 8);
        assert_eq!(bytes_of_hex(&hex(&bytes)), Some(bytes));
        assert_eq!(bytes_of_hex(&hex(&bytes).to_uppercase()), Some(bytes));
        for text in [
            "",
            "00",
            &"0".repeat(63),
            &"0".repeat(65),
            &"g".repeat(64),
            &"é".repeat(32),
            &"+1".repeat(32),
        ] {
            assert_eq!(bytes_of_hex(text), None, "{text}");
        }
    }

    #[test]
    fn the_promised_fields_are_there_in_their_order() {
        let peer = PeerLine { user: "ana".into(), address: "10.0.0.7:50051".into(), online: true };
        let text = r#"{"user":"ana","address":"10.0.0.7:50051","online":true}"#;
        assert_eq!(crate::json::to_line(&peer), text);
        let file = FileLine {
            name: "a.txt".into(),
            size: 5,
            hash: "ab".into(),
            holders: vec!["ana".into()],
            online: true,
            files: None,
        };
        let text = r#"{"name":"a.txt","size":5,"hash":"ab","holders":["ana"],"online":true}"#;
        assert_eq!(crate::json::to_line(&file), text);
        let folder = FileLine { name: "fotos/".into(), files: Some(2), ..file };
        let text =
            r#"{"name":"fotos/","size":5,"hash":"ab","holders":["ana"],"online":true,"files":2}"#;
        assert_eq!(crate::json::to_line(&folder), text);
    }
}
