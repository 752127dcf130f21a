//! What is saved, found and read in a folder, and what is not.

use std::io::Read as _;

use super::*;
use crate::content::outline_of;

fn name(text: &str) -> FileName {
    FileName::new(text).unwrap()
}

fn save(
    folder: &Folder,
    text: &str,
    content: &[u8],
    replace: bool,
) -> io::Result<(Outline, Stamp)> {
    let mut staged = folder.stage()?;
    staged.write(content)?;
    folder.finish(staged, &name(text), replace)
}

fn names(folder: &Folder) -> Vec<String> {
    folder.scan().unwrap().files.into_iter().map(|(name, _)| name.as_str().to_owned()).collect()
}

#[test]
fn what_is_saved_is_found_and_read_and_never_replaced_unasked() {
    let root = tempfile::tempdir().unwrap();
    let folder = Folder::open(&root.path().join("shared")).unwrap();
    let (outline, stamp) = save(&folder, "a/b/c.txt", b"hola", false).unwrap();
    assert_eq!(outline, outline_of(&b"hola"[..]).unwrap());
    let (mut file, now) = folder.read(&name("a/b/c.txt")).unwrap();
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    assert_eq!((text.as_str(), now), ("hola", stamp));
    let again = save(&folder, "a/b/c.txt", b"adios", false).unwrap_err();
    assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
    assert_eq!(std::fs::read(root.path().join("shared/a/b/c.txt")).unwrap(), b"hola");
    save(&folder, "a/b/c.txt", b"adios", true).unwrap();
    assert_eq!(std::fs::read(root.path().join("shared/a/b/c.txt")).unwrap(), b"adios");
    assert_eq!(names(&folder), ["a/b/c.txt"]);
    assert_eq!(
        std::fs::read_dir(root.path().join("shared")).unwrap().count(),
        1,
        "nothing is left"
    );
}

#[cfg(unix)]
#[test]
fn links_lead_nowhere() {
    let root = tempfile::tempdir().unwrap();
    let (shared, outside) = (root.path().join("shared"), root.path().join("outside"));
    let folder = Folder::open(&shared).unwrap();
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("secret"), "s").unwrap();
    std::fs::write(shared.join("plain"), "p").unwrap();
    let link = |to: &Path, name: &str| std::os::unix::fs::symlink(to, shared.join(name)).unwrap();
    link(&outside.join("secret"), "file");
    link(&outside, "folder");
    link(&shared.join("plain"), "inside");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        shared.join("pipe"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RWXU,
        0,
    )
    .unwrap();
    let found = folder.scan().unwrap();
    assert_eq!(found.files.len(), 1);
    assert_eq!(found.left_out_count, 4, "{:?}", found.left_out);
    for text in ["file", "folder/secret", "inside", "pipe", "nowhere", "plain/x"] {
        assert!(folder.read(&name(text)).is_err(), "{text}");
    }
    assert!(save(&folder, "folder/new", b"x", false).is_err());
    assert!(save(&folder, "file", b"x", false).is_err());
    // A link is replaced, not followed.
    save(&folder, "file", b"x", true).unwrap();
    assert_eq!(std::fs::read(outside.join("secret")).unwrap(), b"s");
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 1);
}

#[cfg(unix)]
#[test]
fn what_cannot_be_called_so_elsewhere_is_left_out_and_named() {
    use std::os::unix::ffi::OsStrExt as _;
    let root = tempfile::tempdir().unwrap();
    let folder = Folder::open(root.path()).unwrap();
    for bytes in
        [&b"ok.txt"[..], b".hidden", b"a:b", b"nul", b"esc\x1b[2J", b"not\xffutf8", b"nin\xcc\x83o"]
    {
        std::fs::write(root.path().join(OsStr::from_bytes(bytes)), "x").unwrap();
    }
    let found = folder.scan().unwrap();
    assert_eq!(found.files.len(), 1);
    assert_eq!(found.left_out_count, 5, "{:?}", found.left_out);
    assert!(found.left_out.iter().all(|(name, _)| tertulia_wire::safe::is_clean(name)));
}

#[test]
fn what_was_not_finished_is_cleared_up() {
    let root = tempfile::tempdir().unwrap();
    let folder = Folder::open(root.path()).unwrap();
    let staged = folder.stage().unwrap();
    std::fs::write(root.path().join("keep.part"), "x").unwrap();
    drop(staged);
    folder.clear_up();
    assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 1);
}

#[test]
fn of_what_may_go_on_the_youngest_stay_and_what_somebody_is_at() {
    let root = tempfile::tempdir().unwrap();
    let folder = Folder::open(root.path()).unwrap();
    let part = |number: usize| {
        let name = part_name(ContentHash::of(&number.to_le_bytes()));
        root.path().join(name)
    };
    let begun = std::time::SystemTime::UNIX_EPOCH;
    let mut kept = Vec::new();
    for number in 0..LEFT_MAX + 3 {
        let file = std::fs::File::create(part(number)).unwrap();
        file.set_modified(begun + std::time::Duration::from_secs(number as u64)).unwrap();
        kept.push(file);
    }
    // Somebody is at the oldest one.
    kept.truncate(1);
    kept[0].try_lock().unwrap();
    folder.clear_up();
    let there: Vec<usize> = (0..LEFT_MAX + 3).filter(|number| part(*number).exists()).collect();
    let right: Vec<usize> = [0].into_iter().chain(3..LEFT_MAX + 3).collect();
    assert_eq!(there, right);
    folder.clear_part(part(0).file_name().unwrap().to_str().unwrap());
    assert!(part(0).exists(), "it is being fetched");
    folder.clear_part(part(3).file_name().unwrap().to_str().unwrap());
    assert!(!part(3).exists());
}
