//! `files save`: several paths at once, and paths that have to do with the shared folder itself.

use std::path::Path;

use serde_json::Value;

use crate::files::{Sharer, read};
use crate::files_group::{GROUP, teller};
use crate::support::{Ended, Node, object};

/// The errors that programs are told, a line each: code and message.
fn errors(ended: &Ended) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let error = |line: &str| object(line)["error"].clone();
    let errors = ended.stderr();
    let errors = errors.lines().map(error);
    errors.map(|error| (text(&error["code"]), text(&error["message"]))).collect()
}

fn make(path: &Path, text: &str) -> String {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

/// What is directly in a folder.
fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn the_shared_folder_is_not_saved_into_itself() {
    let node = Node::start();
    let ana = Sharer::start(&node, "0");
    make(&ana.folder.join("a.txt"), "uno");
    let (home, shared) = (ana.user.home.path().to_str().unwrap(), ana.folder.to_str().unwrap());
    let localhost = format!("localhost:{}", ana.port());
    let port = ana.port().to_string();
    for peer in [&[][..], &["--peer", &ana.address], &["--peer", &port], &["--peer", &localhost]] {
        for path in [home, shared, &format!("{shared}/../shared/"), "."] {
            let args = [&["files", "save", path, "--json"], peer].concat();
            let mut command = ana.user.command(&args);
            command.current_dir(&ana.folder);
            let refused = Ended(command.output().unwrap()).expect(1);
            let errors = errors(&refused);
            assert_eq!((errors.len(), &*errors[0].0), (1, "SHARED_FOLDER"), "{errors:?}");
            assert!(errors[0].1.starts_with(&format!("{path} ")), "{errors:?}");
        }
    }
    assert_eq!(names(&ana.folder), ["a.txt"]);
    // A link leads there, too.
    let link = ana.user.home.path().join("link");
    std::os::unix::fs::symlink(&ana.folder, &link).unwrap();
    let refused = ana.files(&["save", link.to_str().unwrap()]).expect(1).stderr();
    assert!(refused.contains("is shared already"), "{refused}");
    let refused = ana.files(&["save", home]).expect(1).stderr();
    let whole = ana.folder.canonicalize().unwrap();
    assert!(refused.contains(whole.to_str().unwrap()) && refused.contains("--folder"), "{refused}");
    assert_eq!(names(&ana.folder), ["a.txt"]);
}

#[test]
fn what_is_in_the_shared_folder_stays_where_it_is_and_is_told() {
    let node = Node::start();
    let ana = teller(&node);
    node.run(&["groups", "create", GROUP]).expect(0);
    // Nobody waits until the peer has looked.
    let acta = make(&ana.folder.join("x/y/acta.txt"), "uno");
    let saved = ana.files(&["save", &acta]).expect(0).stdout();
    assert!(saved.starts_with("is there already x/y/acta.txt  3 B  "), "{saved}");
    make(&ana.folder.join("x/y/acta.txt"), "cuatro");
    let told = ["save", &acta, "--group", GROUP, "--json", "--node", &node.native];
    let said = ana.files(&told).expect(0).objects();
    assert_eq!((&said[0]["name"], &said[0]["size"]), (&"x/y/acta.txt".into(), &6.into()));
    let history = node.run(&["history", GROUP, "--json"]).expect(0).objects();
    let entry = history.last().unwrap();
    assert_eq!((&entry["type"], &entry["name"]), (&"file".into(), &"acta.txt".into()));
    assert_eq!(entry["hash"], said[0]["hash"]);
    let x = ana.folder.join("x");
    let saved = ana.files(&["save", x.to_str().unwrap()]).expect(0).stdout();
    assert!(saved.starts_with("is there already x/  6 B in 1 file  "), "{saved}");
    make(&ana.folder.join("x/otro.txt"), "dos");
    std::fs::remove_file(&acta).unwrap();
    let saved = ana.files(&["save", x.to_str().unwrap()]).expect(0).stdout();
    assert!(saved.starts_with("is there already x/  3 B in 1 file  "), "{saved}");
    assert_eq!(names(&ana.folder), ["x"]);
    // One that is deeper is no whole of its own: it becomes one.
    make(&ana.folder.join("x/z/a.txt"), "tres");
    let deep = ana.folder.join("x/z");
    let saved = ana.files(&["save", deep.to_str().unwrap()]).expect(0).stdout();
    assert!(saved.starts_with("saved z/  4 B in 1 file  "), "{saved}");
    assert_eq!(read(&ana.folder.join("z/a.txt")), b"tres");
    // What is hidden is not shared, here or from elsewhere.
    for hidden in [ana.folder.join(".a.txt"), ana.user.home.path().join(".b.txt")] {
        let refused = ana.files(&["save", &make(&hidden, "x"), "--json"]).expect(1);
        let errors = errors(&refused);
        assert_eq!(errors[0].0, "BAD_NAME", "{errors:?}");
        assert!(errors[0].1.contains(hidden.to_str().unwrap()), "{errors:?}");
    }
    assert!(!ana.folder.join(".b.txt").exists());
}

#[test]
fn what_fails_is_named_and_the_others_are_saved() {
    let node = Node::start();
    let ana = teller(&node);
    let at = |name: &str| ana.user.home.path().join(name);
    let (first, last) = (make(&at("uno.txt"), "uno"), make(&at("dos.txt"), "dos"));
    let (missing, folder) = (at("nada.txt"), at("Viaje"));
    make(&folder.join("a.txt"), "a");
    make(&ana.folder.join("Viaje/a.txt"), "another");
    let paths = [&*first, missing.to_str().unwrap(), folder.to_str().unwrap(), &last];
    let ended = ana.files(&[&["save"], &paths[..], &["--json"]].concat()).expect(1);
    let saved: Vec<_> = ended.objects().iter().map(|file| file["name"].clone()).collect();
    assert_eq!(saved, ["uno.txt", "dos.txt"]);
    let errors = errors(&ended);
    let codes: Vec<_> = errors.iter().map(|(code, _)| &**code).collect();
    assert_eq!(codes, ["IO", "EXISTS"]);
    for ((_, message), path) in errors.iter().zip(&paths[1..]) {
        assert!(message.contains(path), "{path}: {message}");
    }
    assert_eq!(names(&ana.folder), ["Viaje", "dos.txt", "uno.txt"]);
    // The worst of all counts, also where a group is told.
    node.join(&[GROUP, "--name", "eva"]).freeze();
    let tell = |paths: &[&str], group: &str| {
        let more = ["--json", "--timeout", "500ms", "--node", &node.native, "--group", group];
        ana.files(&[&["save"], paths, &more[..]].concat())
    };
    assert_eq!(tell(&[&first, &last], GROUP).expect(3).objects().len(), 4);
    assert_eq!(tell(&[paths[1], &first], GROUP).expect(1).objects().len(), 2);
    let ended = tell(&[&first, &last], "nadie").expect(1);
    let errors = self::errors(&ended);
    assert_eq!(errors.len(), 2, "{errors:?}");
    for ((code, message), path) in errors.iter().zip([&first, &last]) {
        assert_eq!(code, "UNKNOWN_GROUP");
        assert!(message.starts_with(&format!("{path}: ")), "{message}");
    }
}
