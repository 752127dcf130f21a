//! What is put together: earlier tries, what others do to it meanwhile, disks that fail or are full.

use super::*;

fn name(text: &str) -> FileName {
    FileName::new(text).unwrap()
}

impl Assembly {
    fn path(&self, path: &FileName) -> std::path::PathBuf {
        self.path.join(path.as_str())
    }

    fn list_path(&self) -> std::path::PathBuf {
        self.path.with_file_name(LIST)
    }
}

fn manifest(files: &[(&str, &str)]) -> Manifest {
    let entry = |(path, content): &(&str, &str)| Entry {
        path: name(path),
        size: content.len() as u64,
        hash: ContentHash::of(content.as_bytes()),
    };
    Manifest::new(files.iter().map(entry).collect()).unwrap()
}

#[test]
fn what_an_earlier_try_left_is_used_where_it_is_right_and_nothing_else_stays() {
    let root = tempfile::tempdir().unwrap();
    let manifest = manifest(&[("a/b.txt", "uno"), ("a/c.txt", "dos"), ("d.txt", "uno")]);
    let (target, hash) = (name("fotos"), ContentHash::of(&manifest.write()));
    let open = || Assembly::open(root.path(), hash);
    let assembly = open().unwrap();
    assert_eq!(open().unwrap_err().kind(), io::ErrorKind::WouldBlock);
    assert_eq!(assembly.list(hash).unwrap(), None);
    assert!(assembly.prepare(&manifest).unwrap().is_empty());
    let at = |path: &str| assembly.path(&name(path));
    std::fs::write(at("a/b.txt"), "uno").unwrap();
    std::fs::write(at("a/c.txt"), "DOS").unwrap();
    std::fs::write(at("a/x.txt"), "nobody's").unwrap();
    std::fs::write(assembly.list_path(), manifest.write()).unwrap();
    let left = at("a/b.txt").with_file_name(".tertulia-00.part");
    std::fs::write(&left, "part").unwrap();
    #[cfg(unix)]
    std::os::unix::fs::symlink("/etc/passwd", at("d.txt")).unwrap();
    drop(assembly);
    let assembly = open().unwrap();
    assert_eq!(assembly.list(hash).unwrap(), Some(manifest.write()));
    assert_eq!(assembly.list(ContentHash::of(b"")).unwrap(), None);
    let here = assembly.prepare(&manifest).unwrap();
    assert_eq!(here.iter().map(|(path, _)| path.as_str()).collect::<Vec<_>>(), ["a/b.txt"]);
    assert!(left.exists());
    let missing = assembly.finish(&manifest, &target).unwrap_err();
    assert_eq!(missing.kind(), io::ErrorKind::NotFound);
    assert!(!root.path().join("fotos").exists());
    let at = |path: &str| assembly.path(&name(path));
    std::fs::write(at("a/c.txt"), "dos").unwrap();
    let from = assembly.read(&name("a/b.txt")).unwrap();
    let wrong = Entry { size: 4, ..manifest.entries()[2].clone() };
    let refused = assembly.copy(from, &wrong, Durable::Now).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::InvalidData);
    let from = assembly.read(&name("a/b.txt")).unwrap();
    assembly.copy(from, &manifest.entries()[2], Durable::Now).unwrap();
    std::fs::create_dir(root.path().join("fotos")).unwrap();
    let taken = assembly.finish(&manifest, &target).unwrap_err();
    assert_eq!(taken.kind(), io::ErrorKind::AlreadyExists);
    assert!(assembly.is_taken(&target) && !assembly.is_taken(&name("otras")));
    assembly.leave();
    assert!(assembly.path.exists(), "what was begun stays");
    assembly.finish(&manifest, &name("otras")).unwrap();
    let read = |path: &str| std::fs::read_to_string(root.path().join("otras").join(path));
    assert_eq!((read("a/b.txt").unwrap(), read("d.txt").unwrap()), ("uno".into(), "uno".into()));
    assert_eq!(std::fs::read_dir(root.path().join("otras/a")).unwrap().count(), 2);
    assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 2, "nothing is left beside it");
    open().unwrap().leave();
    assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 2, "nothing was begun");
}

#[cfg(unix)]
#[test]
fn what_somebody_else_made_is_not_used_and_links_lead_nowhere() {
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    let root = tempfile::tempdir().unwrap();
    let outside = root.path().join("outside");
    std::fs::create_dir_all(outside.join("a")).unwrap();
    let manifest = manifest(&[("a/b.txt", "uno"), ("d.txt", "dos")]);
    let hash = ContentHash::of(&manifest.write());
    // Somebody was there first, and everybody may write in it.
    let made = root.path().join(name_of(hash));
    let make = |mode| {
        std::fs::create_dir_all(made.join(FILES)).unwrap();
        std::fs::write(made.join(FILES).join("d.txt"), "dos").unwrap();
        std::fs::set_permissions(&made, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    let there = |assembly: &Assembly| assembly.prepare(&manifest).unwrap().len();
    for (mode, used) in [(0o777, 0), (0o770, 0), (0o755, 1)] {
        make(mode);
        let assembly = Assembly::open(root.path(), hash).unwrap();
        assert_eq!(there(&assembly), used, "{mode:o}");
        let now = made.metadata().unwrap().permissions().mode();
        assert_eq!(now & 0o022, 0, "{mode:o}: {now:o}");
        assembly.abandon();
    }
    if rustix::process::geteuid().is_root() {
        make(0o755);
        std::os::unix::fs::chown(&made, Some(65_534), None).unwrap();
        let assembly = Assembly::open(root.path(), hash).unwrap();
        assert_eq!(there(&assembly), 0, "somebody else's");
        assembly.abandon();
    }
    // What is swapped for a link while it is fetched.
    let assembly = Assembly::open(root.path(), hash).unwrap();
    assembly.prepare(&manifest).unwrap();
    let inner = assembly.target(&name("a/b.txt"), Durable::Now).unwrap();
    std::fs::rename(&assembly.path, assembly.path.with_file_name("away")).unwrap();
    symlink(&outside, &assembly.path).unwrap();
    assert!(assembly.target(&name("a/b.txt"), Durable::Now).is_err());
    assert!(assembly.target(&name("d.txt"), Durable::Now).is_err());
    assert!(assembly.read(&name("d.txt")).is_err());
    let outline = crate::content::outline_of(&b"uno"[..]).unwrap();
    // What was opened before is where it was.
    assert!(crate::fetch::Part::put(&inner, &outline, &[b"uno"]).unwrap());
    assert!(assembly.finish(&manifest, &name("fotos")).is_err());
    assert_eq!(std::fs::read_dir(outside.join("a")).unwrap().count(), 0);
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 1);
}

#[test]
fn what_somebody_puts_away_meanwhile_is_busy_and_two_are_never_at_it() {
    use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
    let root = tempfile::tempdir().unwrap();
    let (hash, taken) = (ContentHash::of(b"x"), AtomicBool::new(false));
    let one = || {
        let mut begun = 0;
        while begun < 300 {
            match Assembly::open(root.path(), hash) {
                Ok(assembly) => {
                    assert!(!taken.swap(true, SeqCst), "two are at it");
                    std::fs::write(assembly.list_path(), "x").expect("it is there");
                    taken.store(false, SeqCst);
                    assembly.abandon();
                    begun += 1;
                }
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock, "{error}"),
            }
        }
    };
    std::thread::scope(|scope| {
        (0..4).for_each(|_| drop(scope.spawn(one)));
    });
    let own = format!("{PART_PREFIX}{}{SUFFIX}", &hash.to_string()[..32]);
    assert!(!root.path().join(own).exists());
}

#[test]
fn what_an_earlier_try_left_is_synced_before_it_is_believed() {
    let root = tempfile::tempdir().unwrap();
    let manifest = manifest(&[("a", "uno"), ("b", "dos")]);
    let assembly = Assembly::open(root.path(), ContentHash::of(&manifest.write())).unwrap();
    for (path, content) in [("a", "uno"), ("b", "DOS")] {
        std::fs::write(assembly.path(&name(path)), content).unwrap();
    }
    let here = |assembly: &Assembly| assembly.prepare(&manifest).unwrap().len();
    let synced = place::faults::synced();
    assert_eq!((here(&assembly), place::faults::synced() - synced), (1, 1));
    place::faults::fail_sync(true);
    assert_eq!(here(&assembly), 0, "what cannot be synced is not there");
    place::faults::fail_sync(false);
}

/// Fills an assembly by copies: as many as are synced at once, and a large file. `None` on a disk that is not synced so.
#[cfg(target_os = "linux")]
fn filled(root: &Path) -> Option<(Assembly, Manifest)> {
    let large = "x".repeat(crate::limits::PIECE_BYTES + 1);
    let small: Vec<(String, String)> = (0..crate::limits::SYNCED_AT_ONCE_MIN)
        .map(|at| (format!("a/{at}"), at.to_string()))
        .collect();
    let mut files: Vec<(&str, &str)> = small.iter().map(|(a, b)| (&**a, &**b)).collect();
    files.push(("large", &large));
    let manifest = manifest(&files);
    let assembly = Assembly::open(root, ContentHash::of(&manifest.write())).unwrap();
    if place::FileSystem::of(&assembly.outer).is_none() {
        eprintln!("skipped: this file system is not synced as a whole");
        return None;
    }
    let durable = assembly.small_files(&manifest);
    assert_eq!(durable, Durable::Later);
    assembly.prepare(&manifest).unwrap();
    for (path, content) in files {
        let from = root.join("from");
        std::fs::write(&from, content).unwrap();
        let entry = manifest.entries().iter().find(|entry| entry.path.as_str() == path);
        let durable = if path == "large" { Durable::Now } else { durable };
        let from = std::fs::File::open(&from).unwrap();
        assembly.copy(from, entry.unwrap(), durable).unwrap();
    }
    std::fs::remove_file(root.join("from")).unwrap();
    Some((assembly, manifest))
}

/// Syncs of contents, and of whole file systems, in this thread so far.
#[cfg(target_os = "linux")]
fn synced() -> (usize, usize) {
    (place::faults::synced(), place::faults::synced_whole())
}

#[cfg(target_os = "linux")]
#[test]
fn many_small_files_are_synced_at_once_before_the_folder_has_its_name() {
    let root = tempfile::tempdir().unwrap();
    let before = synced();
    let Some((assembly, manifest)) = filled(root.path()) else { return };
    // The large one, once.
    assert_eq!(synced(), (before.0 + 1, before.1));
    // Nothing that may not be on the disk gets the folder's name.
    place::faults::fail_sync_whole(true);
    place::faults::fail_sync(true);
    assert!(assembly.finish(&manifest, &name("fotos")).is_err());
    assert!(!root.path().join("fotos").exists());
    place::faults::fail_sync(false);
    // What the system has forgotten with the file is seen in what is there.
    std::fs::write(assembly.path(&name("a/0")), "1").unwrap();
    let lost = assembly.finish(&manifest, &name("otras")).unwrap_err();
    assert_eq!(lost.kind(), io::ErrorKind::InvalidData);
    std::fs::write(assembly.path(&name("a/0")), "0").unwrap();
    // Where the file system as a whole has an error, each file says whether it is there.
    let before = synced();
    std::fs::create_dir(root.path().join("fotos")).unwrap();
    assembly.finish(&manifest, &name("fotos")).unwrap_err();
    let small = manifest.entries().len() - 1;
    assert_eq!(synced(), (before.0 + small, before.1 + 1));
    place::faults::fail_sync_whole(false);
    assembly.finish(&manifest, &name("otras")).unwrap();
    assert!(root.path().join("otras/a/0").exists());

    let (assembly, manifest) = filled(root.path()).unwrap();
    let before = synced();
    assembly.finish(&manifest, &name("mas")).unwrap();
    assert_eq!(synced(), (before.0, before.1 + 1));
}

#[cfg(target_os = "linux")]
#[test]
fn what_is_left_of_many_small_files_is_synced_one_by_one_before_it_is_believed() {
    let root = tempfile::tempdir().unwrap();
    let Some((assembly, manifest)) = filled(root.path()) else { return };
    drop(assembly);
    let assembly = Assembly::open(root.path(), ContentHash::of(&manifest.write())).unwrap();
    std::fs::write(assembly.path(&name("a/0")), "1").unwrap();
    let before = synced();
    let here = assembly.prepare(&manifest).unwrap();
    assert_eq!(here.len(), manifest.entries().len() - 1);
    assert_eq!(synced().0 - before.0, here.len());
    // Nobody has to sync them again.
    let from = std::fs::File::open(assembly.path(&name("a/1"))).unwrap();
    let entry = manifest.entries().iter().find(|entry| entry.path.as_str() == "a/0").unwrap();
    let wrong = assembly.copy(from, entry, Durable::Later).unwrap_err();
    assert_eq!(wrong.kind(), io::ErrorKind::InvalidData);
}

#[cfg(unix)]
#[test]
fn what_nobody_here_asked_for_leaves_some_of_the_disk_free() {
    let root = tempfile::tempdir().unwrap();
    let manifest = manifest(&[("a", "uno"), ("b", "uno"), ("c", "uno")]);
    let hash = ContentHash::of(&manifest.write());
    let full = |done: io::Result<()>| done.is_err_and(|e| e.kind() == io::ErrorKind::StorageFull);
    let with_free = |free, done: &dyn Fn() -> io::Result<()>| {
        place::faults::set_free(Some(free));
        let done = done();
        place::faults::set_free(None);
        full(done)
    };
    let asked = Assembly::open(root.path(), hash).unwrap();
    assert!(!with_free(9, &|| asked.prepare(&manifest).map(drop)), "its user may fill it");
    drop(asked);
    let told = Assembly::open(root.path(), hash).unwrap().keeping_free();
    let keep = told.keep_free;
    assert!(keep > 0 && keep <= crate::limits::FREE_BYTES_KEPT, "{keep}");
    assert!(with_free(keep + 8, &|| told.prepare(&manifest).map(drop)));
    assert!(!with_free(keep + 9, &|| told.prepare(&manifest).map(drop)));
    // The disk is filled by others meanwhile.
    std::fs::write(told.path(&name("a")), "uno").unwrap();
    let copy = || {
        let from = told.read(&name("a"))?;
        told.copy(from, &manifest.entries()[1], Durable::Now).map(drop)
    };
    assert!(with_free(keep + 2, &copy));
    assert!(!told.path(&name("b")).exists());
    assert!(!with_free(keep + 3, &copy));
    let outline = crate::content::outline_of(&b"uno"[..]).unwrap();
    let target = told.target(&name("c"), Durable::Now).unwrap();
    let put = || crate::fetch::Part::put(&target, &outline, &[b"uno"]).map(drop);
    assert!(with_free(keep + 2, &put));
    assert!(!with_free(keep + 3, &put));
}

#[cfg(unix)]
#[test]
fn what_parts_have_on_the_disk_already_needs_no_space() {
    let root = tempfile::tempdir().unwrap();
    let text = "x".repeat(1_000_000);
    let manifest = manifest(&[("a", &text)]);
    let assembly = Assembly::open(root.path(), ContentHash::of(&manifest.write())).unwrap();
    let left = assembly.path(&name("a")).with_file_name(".tertulia-00.part");
    std::fs::write(&left, &text[..800_000]).unwrap();
    std::fs::File::open(&left).unwrap().sync_all().unwrap();
    for (free, fits) in [(250_000, true), (100_000, false)] {
        place::faults::set_free(Some(free));
        let prepared = assembly.prepare(&manifest);
        place::faults::set_free(None);
        assert_eq!(prepared.is_ok(), fits, "{free}");
        if let Err(error) = prepared {
            assert_eq!(error.kind(), io::ErrorKind::StorageFull);
            assert!(error.to_string().ends_with(" needed, 97.7 KiB free"), "{error}");
        }
    }
}
