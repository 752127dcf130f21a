//! Lists of the files of a folder: what is read is written the same, and can be put on any disk; what is not says why.

use std::collections::{HashMap, HashSet};
use std::path::{Component, Path};

use tertulia_wire::safe::is_clean;

use self::content::ContentHash;
use self::limits::{FILE_BYTES_MAX, FOLDER_FILES_MAX, MANIFEST_BYTES_MAX};
use self::manifest::{BadManifest, Entry, Manifest};
use self::names::FileName;
use crate::input::Input;

// The files of `tertulia-files` that do no I/O: the rest of it, which takes minutes to build, is not needed here.
#[allow(dead_code)]
#[path = "../../crates/files/src/content.rs"]
mod content;
#[allow(dead_code)]
#[path = "../../crates/files/src/limits.rs"]
mod limits;
#[allow(dead_code)]
#[path = "../../crates/files/src/manifest.rs"]
mod manifest;
#[allow(dead_code)]
#[path = "../../crates/files/src/names.rs"]
mod names;

/// What a list begins with.
const FIRST_LINE: &str = "tertulia folder 1\n";

/// A list as it comes from a stranger, one with lines that are nearly right, or the files of a folder that is being saved.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    match input.u8() % 3 {
        0 => {
            let rest = input.rest();
            read(rest);
            read(&[FIRST_LINE.as_bytes(), rest].concat());
        }
        1 => read(lines(&mut input).as_bytes()),
        _ => made(&mut input),
    }
}

/// Right hashes are out of the fuzzer's reach.
fn lines(input: &mut Input<'_>) -> String {
    let mut list = FIRST_LINE.to_owned();
    while !input.is_empty() {
        let size = match input.u8() {
            0 => input.text(),
            _ => input.number().to_string(),
        };
        let path = input.text();
        list += &format!("{size} {} {path}\n", ContentHash([7; 32]));
    }
    list
}

fn read(list: &[u8]) {
    match Manifest::read(list) {
        Ok(manifest) => {
            assert_eq!(manifest.write(), list, "one folder has one list");
            check(&manifest);
            let mut entries = manifest.entries().to_vec();
            entries.reverse();
            assert_eq!(Manifest::new(entries), Ok(manifest), "whatever the order");
        }
        Err(why) => explain(&why),
    }
}

fn made(input: &mut Input<'_>) {
    let mut entries = Vec::new();
    while !input.is_empty() {
        let (size, text) = (input.number(), input.text());
        match FileName::new(&text) {
            Ok(path) => entries.push(Entry { path, size, hash: ContentHash([7; 32]) }),
            Err(why) => assert!(is_clean(&why.to_string())),
        }
    }
    match Manifest::new(entries) {
        Ok(manifest) => {
            check(&manifest);
            assert_eq!(Manifest::read(&manifest.write()), Ok(manifest));
        }
        Err(why) => explain(&why),
    }
}

fn explain(why: &BadManifest) {
    let text = why.to_string();
    assert!(!text.is_empty() && is_clean(&text), "{text:?}");
}

/// Its files are within the limits, below the folder, and in nobody's way, also where case is not told apart.
fn check(manifest: &Manifest) {
    let entries = manifest.entries();
    assert!(!entries.is_empty() && entries.len() <= FOLDER_FILES_MAX);
    assert!(manifest.write().len() <= MANIFEST_BYTES_MAX);
    let bytes: u128 = entries.iter().map(|entry| u128::from(entry.size)).sum();
    assert!(bytes == u128::from(manifest.bytes()) && bytes <= u128::from(FILE_BYTES_MAX));
    let (mut files, mut folders) = (HashSet::new(), HashSet::new());
    for entry in entries {
        let path = entry.path.as_str();
        assert!(is_clean(path), "{path:?}");
        for part in Path::new(path).components() {
            let Component::Normal(part) = part else { panic!("{path:?} leads elsewhere") };
            assert!(!part.to_string_lossy().starts_with('.'), "{path:?} is hidden");
        }
        assert!(files.insert(path), "{path:?} comes twice");
        folders.extend(path.match_indices('/').map(|(slash, _)| &path[..slash]));
    }
    assert!(files.is_disjoint(&folders), "a file that is a folder");
    for fold in [str::to_lowercase, str::to_uppercase] {
        let mut folded = HashMap::new();
        for path in files.union(&folders) {
            let other = folded.insert(fold(path), path);
            assert_eq!(other, None, "the same as {path:?}");
        }
    }
}
