//! The tokens of who is logged in: one private file for each node that was logged in to.

use std::io::Write;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use tertulia_client::{Instance, LoggedIn, Login};

use crate::failure::Failure;
use crate::state::{create_folder, private, tokens_folder};

/// What a file says.
#[derive(Serialize, Deserialize)]
struct Kept {
    /// The node's store, in hexadecimal: another node at the same address is not shown the token.
    instance: String,
    name: String,
    token: String,
    expires_us: u64,
}

/// The token for the node at `address`: that of `TERTULIA_TOKEN`, or the one that is kept.
pub fn find(address: &str) -> Result<Option<Login>, Failure> {
    if let Some(token) = std::env::var("TERTULIA_TOKEN").ok().filter(|token| !token.is_empty()) {
        return Ok(Some(Login { token, instance: None, name: None }));
    }
    let path = path_of(address)?;
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Failure::io(&format!("cannot read {}", path.display()), &error)),
    };
    let damaged = || {
        let text = format!("{} is damaged; log in again, or delete it", path.display());
        Failure::failed("BAD_TOKEN_FILE", text)
    };
    let kept: Kept = serde_json::from_slice(&bytes).map_err(|_| damaged())?;
    let instance = u128::from_str_radix(&kept.instance, 16).map_err(|_| damaged())?;
    let instance = Some(Instance(instance.to_be_bytes()));
    Ok(Some(Login { token: kept.token, instance, name: Some(kept.name) }))
}

/// Keeps a token for the node at `address`.
pub fn keep(address: &str, instance: Instance, logged_in: &LoggedIn) -> Result<(), Failure> {
    let path = path_of(address)?;
    let doing = format!("cannot write {}", path.display());
    let kept = Kept {
        instance: instance.to_string(),
        name: logged_in.name.clone(),
        token: logged_in.token.clone(),
        expires_us: logged_in.expires_us,
    };
    let write = || -> std::io::Result<()> {
        create_folder(&tokens_folder().map_err(|_| std::io::ErrorKind::NotFound)?)?;
        let new = path.with_extension("new");
        // One that was left there with other rights would keep them.
        let _ = std::fs::remove_file(&new);
        let mut file =
            private(std::fs::OpenOptions::new().create_new(true).write(true)).open(&new)?;
        file.write_all(&serde_json::to_vec(&kept)?)?;
        file.sync_all()?;
        std::fs::rename(&new, &path)
    };
    write().map_err(|error| Failure::io(&doing, &error))
}

/// Forgets the token for the node at `address`; whether there was one.
pub fn forget(address: &str) -> Result<bool, Failure> {
    let path = path_of(address)?;
    match std::fs::remove_file(&path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Failure::io(&format!("cannot delete {}", path.display()), &error)),
    }
}

/// Where the token for the node at `address` is.
fn path_of(address: &str) -> Result<PathBuf, Failure> {
    Ok(tokens_folder()?.join(file_of(address)))
}

/// `host_port.json`; whatever else stands in an address becomes `_`, so that it leads nowhere else. `localhost` is
/// 127.0.0.1: where it is not, the node there is another instance, which is not shown the token.
fn file_of(address: &str) -> String {
    let legal = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '-') { c } else { '_' };
    let address = address.to_ascii_lowercase();
    let port = address.strip_prefix("localhost:");
    let address = port.map_or_else(|| address.clone(), |port| format!("127.0.0.1:{port}"));
    let name: String = address.chars().map(legal).collect();
    format!("{name}.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_named_after_the_node_and_leads_nowhere_else() {
        assert_eq!(file_of("127.0.0.1:5001"), "127.0.0.1_5001.json");
        assert_eq!(file_of("LocalHost:5001"), "127.0.0.1_5001.json");
        assert_eq!(file_of("../[::1]:5001"), "..____1__5001.json");
    }
}
