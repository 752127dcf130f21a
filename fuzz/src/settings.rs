//! A node's configuration file: any text is taken, or refused with one clean line that says what is wrong.

use std::fs;
use std::path::PathBuf;
use std::sync::OnceLock;

use tempfile::TempDir;
use tertulia_wire::safe::is_clean;

use crate::cli::ServeArgs;
use crate::node_settings::config;

/// The file's text.
pub fn run(data: &[u8]) {
    // Looking hosts up is the system's work, and goes over the network.
    if let Ok(text) = str::from_utf8(data)
        && asks_for_a_host(text)
    {
        return;
    }
    static FOLDER: OnceLock<TempDir> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| crate::store::fast_folder());
    let path = folder.path().join("node.toml");
    fs::write(&path, data).expect("a small file");
    let args =
        ServeArgs { config: Some(path), data: Some(PathBuf::from("data")), ..ServeArgs::default() };
    match config(&args) {
        Ok(config) => {
            assert!(config.limits.connections > 0 || data.len() > 1);
            assert!(config.group_limits.message_bytes_max <= 4 << 20);
        }
        Err(failure) => {
            let message = failure.message();
            assert!(!message.is_empty() && is_clean(&message), "{message:?}");
        }
    }
}

/// Whether a key that names this host's address says anything but a number.
fn asks_for_a_host(text: &str) -> bool {
    let Ok(table) = text.parse::<toml::Table>() else { return false };
    table.iter().any(|(key, value)| {
        let value = value.as_str().unwrap_or_default();
        let host = match key.as_str() {
            "listen" => value,
            "address" => value.rsplit_once(':').map_or("", |(host, _)| host),
            _ => return false,
        };
        host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_err()
    })
}
