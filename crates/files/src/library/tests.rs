//! What is shared follows the folder, and is what it says.

use super::*;

fn names(library: &Library) -> Vec<String> {
    library.files().iter().map(|file| file.name.as_str().to_owned()).collect()
}

#[test]
fn what_changes_is_hashed_again_and_nothing_else_is() {
    let root = tempfile::tempdir().unwrap();
    let (shared, cache) = (root.path().join("shared"), root.path().join("hashes"));
    let library = Library::open(&shared, &cache).unwrap();
    std::fs::write(shared.join("a"), "first").unwrap();
    std::fs::write(shared.join("b"), "second").unwrap();
    assert_eq!(library.look().unwrap().hashed, 2);
    assert_eq!(library.look().unwrap().hashed, 0);
    let first = ContentHash::of(b"first");
    assert!(library.content(first).is_some());
    std::fs::write(shared.join("a"), "other").unwrap();
    // What is on the disk now is not what was hashed: nobody is sent it.
    assert!(library.content(first).is_none());
    assert_eq!(library.look().unwrap().hashed, 1);
    assert!(library.content(ContentHash::of(b"other")).is_some());
    std::fs::rename(shared.join("a"), shared.join("c")).unwrap();
    library.look().unwrap();
    assert_eq!(names(&library), ["b", "c"]);
    std::fs::remove_file(shared.join("c")).unwrap();
    library.look().unwrap();
    assert!(library.content(ContentHash::of(b"other")).is_none());
    // Another life hashes nothing that has not changed.
    let library = Library::open(&shared, &cache).unwrap();
    assert_eq!(library.look().unwrap().hashed, 0);
    assert_eq!(names(&library), ["b"]);
}

#[cfg(unix)]
#[test]
fn what_is_overwritten_is_hashed_again_even_if_it_says_that_it_is_old() {
    use std::os::unix::fs::MetadataExt as _;
    let root = tempfile::tempdir().unwrap();
    let (shared, cache) = (root.path().join("shared"), root.path().join("hashes"));
    let library = Library::open(&shared, &cache).unwrap();
    let path = shared.join("a");
    std::fs::write(&path, "first").unwrap();
    assert_eq!(library.look().unwrap().hashed, 1);
    let before = path.metadata().unwrap();
    let changed = || path.metadata().map(|now| (now.ctime(), now.ctime_nsec())).unwrap();
    let then = changed();
    // The system's clock for this has ticks.
    while changed() == then {
        std::fs::write(&path, "other").unwrap();
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        file.set_modified(before.modified().unwrap()).unwrap();
    }
    let now = path.metadata().unwrap();
    assert_eq!((now.len(), now.mtime_nsec()), (before.len(), before.mtime_nsec()));
    // Nobody is sent it for what it was.
    assert!(library.content(ContentHash::of(b"first")).is_none());
    assert_eq!(library.look().unwrap().hashed, 1);
    assert!(library.content(ContentHash::of(b"other")).is_some());
    let library = Library::open(&shared, &cache).unwrap();
    assert_eq!(library.look().unwrap().hashed, 0);
}

#[test]
fn what_is_placed_is_shared_at_once() {
    let root = tempfile::tempdir().unwrap();
    let library = Library::open(&root.path().join("shared"), &root.path().join("hashes")).unwrap();
    let mut staged = library.stage(4).unwrap();
    staged.write(b"hola").unwrap();
    let name = FileName::new("x/hola.txt").unwrap();
    let file = library.place(staged, &name, false).unwrap();
    assert_eq!(file.outline.hash(), ContentHash::of(b"hola"));
    assert!(library.content(ContentHash::of(b"hola")).is_some());
    assert_eq!(library.look().unwrap().hashed, 0);
    let full = library.stage(u64::MAX).unwrap_err();
    assert_eq!(full.kind(), io::ErrorKind::StorageFull);
    assert!(full.to_string().contains("TiB needed, "), "{full}");
}

#[test]
fn a_folder_in_the_folder_is_shared_as_a_whole_as_long_as_it_is_one() {
    let root = tempfile::tempdir().unwrap();
    let shared = root.path().join("shared");
    let library = Library::open(&shared, &root.path().join("hashes")).unwrap();
    let write = |name: &str, text: &str| {
        let path = shared.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    // Names that sort between a folder and what is in it.
    ["f/b/c", "f/a", "f-x", "f.d/y", "g"].iter().for_each(|name| write(name, name));
    library.look().unwrap();
    let folders = |library: &Library| -> Vec<(String, u64, ContentHash)> {
        let folders = library.folders().into_iter();
        folders
            .map(|folder| (folder.name.as_str().to_owned(), folder.files, folder.outline.hash()))
            .collect()
    };
    let before = folders(&library);
    assert_eq!(before.iter().map(|f| (&*f.0, f.1)).collect::<Vec<_>>(), [("f", 2), ("f.d", 1)]);
    let list = |hash| {
        let (file, outline) = library.content(hash)?;
        assert_eq!(outline_of(&file).unwrap(), *outline);
        Some(outline.size())
    };
    assert!(list(before[0].2).is_some());
    assert_eq!(library.announced()["f/"].folder, Some(FolderHeld { files: 2, bytes: 8 }));
    assert_eq!(library.announced().len(), 7);
    write("f/b/c", "another");
    library.look().unwrap();
    assert_ne!(folders(&library)[0].2, before[0].2);
    assert!(list(before[0].2).is_none());
    // On some systems these would be one.
    write("f/A", "x");
    library.look().unwrap();
    assert_eq!(folders(&library).len(), 1);
    std::fs::remove_dir_all(shared.join("f.d")).unwrap();
    library.look().unwrap();
    assert_eq!(folders(&library), []);
}

/// A library in which `a`, `f/b` and `f/c` are shared.
fn with_files(root: &Path) -> (Library, impl Fn(&str, &str)) {
    let shared = root.join("shared");
    let library = Library::open(&shared, &root.join("hashes")).unwrap();
    let write = move |name: &str, text: &str| {
        let path = shared.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        // Another file each time, as when somebody replaces it.
        let new = path.with_extension("new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, path).unwrap();
    };
    [("a", "uno"), ("f/b", "dos"), ("f/c", "tres")].iter().for_each(|(at, text)| write(at, text));
    library.look().unwrap();
    (library, write)
}

#[test]
fn what_has_gone_or_changed_since_the_last_look_is_not_confirmed() {
    let root = tempfile::tempdir().unwrap();
    let (library, write) = with_files(root.path());
    let uno = ContentHash::of(b"uno");
    let list = library.folders()[0].outline.hash();
    let (file, folder) =
        (|| library.find_synced(uno).is_some(), || library.find_folder_synced(list).is_some());
    let before = crate::place::faults::synced();
    assert!(file() && folder());
    assert_eq!(crate::place::faults::synced() - before, 3);
    crate::place::faults::fail_sync(true);
    assert!(!file() && !folder(), "what cannot be synced is not confirmed");
    crate::place::faults::fail_sync(false);
    write("a", "UNO");
    write("f/c", "TRES");
    assert!(!file() && !folder());
    write("a", "uno");
    write("f/c", "tres");
    library.look().unwrap();
    assert!(file() && folder());
    for name in ["a", "f/b"] {
        std::fs::remove_file(root.path().join("shared").join(name)).unwrap();
    }
    assert!(!file() && !folder());
}

#[test]
fn nothing_is_hashed_to_learn_that_it_has_another_size() {
    let root = tempfile::tempdir().unwrap();
    let (library, write) = with_files(root.path());
    let list = library.folders()[0].outline.hash();
    let name = |text: &str| FileName::new(text).unwrap();
    // Hashed already, and not yet.
    write("new", "nuevo");
    write("g/b", "dos");
    write("g/c", "tres");
    let is_known = |text: &str| {
        let (_, stamp) = library.folder.read(&name(text)).unwrap();
        library.cache().get(&name(text), &stamp).is_some()
    };
    let nuevo = ContentHash::of(b"nuevo");
    assert!(!library.is_file(&name("new"), 6, nuevo) && !library.is_folder(&name("g"), 8, list));
    assert!(!is_known("new") && !is_known("g/b") && !is_known("g/c"));
    assert!(library.is_file(&name("new"), 5, nuevo) && library.is_folder(&name("g"), 7, list));
    assert!(is_known("new") && is_known("g/b") && is_known("g/c"));
    assert!(library.is_file(&name("a"), 3, ContentHash::of(b"uno")));
    assert!(!library.is_file(&name("a"), 3, ContentHash::of(b"dos")));
    assert!(!library.is_file(&name("f"), 3, list) && !library.is_folder(&name("a"), 3, list));
}

#[tokio::test]
async fn a_folder_is_watched() {
    let root = tempfile::tempdir().unwrap();
    let (shared, cache) = (root.path().join("shared"), root.path().join("hashes"));
    let library = Arc::new(Library::open(&shared, &cache).unwrap());
    let mut changes = library.changes();
    let following = tokio::spawn(Arc::clone(&library).follow(|_| {}));
    for (name, content) in [("a", "one"), ("b", "two")] {
        // Written aside and renamed, as most programs do.
        std::fs::write(root.path().join("new"), content).unwrap();
        std::fs::rename(root.path().join("new"), shared.join(name)).unwrap();
        let hash = ContentHash::of(content.as_bytes());
        let shared = async {
            while library.content(hash).is_none() {
                changes.changed().await.unwrap();
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(20), shared).await.expect(name);
    }
    following.abort();
}
