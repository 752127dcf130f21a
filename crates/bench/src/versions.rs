//! The versions of the programs that something is measured with.

use std::ffi::OsStr;
use std::process::Command;

/// What a program says when it is asked for its version; some end with a failure after it.
fn said(program: impl AsRef<OsStr>, argument: &str) -> String {
    let output = Command::new(program).arg(argument).output();
    let output = output.map(|output| [output.stdout, output.stderr].concat()).unwrap_or_default();
    String::from_utf8_lossy(&output).into_owned()
}

/// Its version, beside the name that it is known by.
pub fn of(name: &str, program: impl AsRef<OsStr>, argument: &str) -> String {
    let said = said(program, argument);
    format!("{name} {}", number(&said).unwrap_or("of an unknown version"))
}

/// The TLS library that curl says it has, too.
pub fn of_curl() -> String {
    let (curl, said) = (of("curl", "curl", "--version"), said("curl", "--version"));
    let tls = said.split_whitespace().find(|word| word.starts_with("OpenSSL/"));
    tls.map_or(curl.clone(), |tls| format!("{curl} ({})", tls.replace('/', " ")))
}

/// The version of a crate that this program was built with.
pub fn of_crate(name: &str) -> String {
    let lock = include_str!("../../../Cargo.lock");
    let entry = lock.split_once(&format!("name = \"{name}\"\nversion = \""));
    let number = entry.and_then(|(_, rest)| rest.split('"').next());
    format!("{name} {}", number.unwrap_or("of an unknown version"))
}

/// The first word that looks like one: `2.0.11`, `v2.15.1`, `v=7.0.15`, `nginx/1.22.1`.
fn number(said: &str) -> Option<&str> {
    said.split_whitespace().find_map(|word| {
        let number = word.rsplit('/').next()?.trim_start_matches(['v', '=']);
        (number.starts_with(|first: char| first.is_ascii_digit()) && number.contains('.'))
            .then_some(number)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_in_what_programs_say() {
        let cases = [
            ("nats-server: v2.15.1", "2.15.1"),
            ("Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64", "7.0.15"),
            ("mosquitto version 2.0.11\n\nmosquitto is an MQTT v5.0/v3.1.1/v3.1 broker.", "2.0.11"),
            ("nginx version: nginx/1.22.1", "1.22.1"),
            ("curl 7.88.1 (x86_64-pc-linux-gnu) libcurl/7.88.1 OpenSSL/3.0.19", "7.88.1"),
            ("wrk debian/4.1.0-3+b2 [epoll] Copyright (C) 2012 Will Glozer", "4.1.0-3+b2"),
        ];
        for (said, want) in cases {
            assert_eq!(number(said), Some(want), "{said}");
        }
        assert_eq!(number("no such thing"), None);
        assert!(of_crate("axum").starts_with("axum 0."), "{}", of_crate("axum"));
    }
}
