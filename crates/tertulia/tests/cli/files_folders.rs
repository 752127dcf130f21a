//! Folders as a whole: saved, found as one, fetched as one or not at all, told to a group; and lists that somebody made up.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;

use rustix::process::Signal;
use tertulia_files::content::ContentHash;
use tertulia_files::identity::Fingerprint;
use tertulia_files::manifest::{Entry, Manifest};
use tertulia_files::names::FileName;
use tertulia_wire::sharing::{FileHeld, FolderHeld};

use crate::files::{Sharer, content, read};
use crate::files_group::{GROUP, account, as_it_stands, fetching, folder, missing, tell, teller};
use crate::files_scripted::Account;
use crate::support::{Ended, Node, Running, User, object};

/// The files below a folder.
fn names(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(at) = folders.pop() {
        // What is being written may be gone again.
        for entry in std::fs::read_dir(at).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    found
}

/// What is below a folder, by its path.
fn tree(root: &Path) -> BTreeMap<String, Vec<u8>> {
    names(root).into_iter().map(|name| (name.clone(), read(&root.join(name)))).collect()
}

fn make(root: &Path, files: &[(&str, Vec<u8>)]) {
    for (name, content) in files {
        let path = root.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
}

/// Files of all kinds: empty, large, twice the same, deep, with spaces.
fn files() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("leeme.txt", b"hola".to_vec()),
        ("vacio", Vec::new()),
        ("mapas/Madrid centro.png", content(3 * (1 << 20) + 5)),
        ("mapas/a/b/c/año.txt", b"hondo".to_vec()),
        ("mapas/copia.txt", b"hola".to_vec()),
    ]
}

fn pairs(files: &[(&str, Vec<u8>)]) -> BTreeMap<String, Vec<u8>> {
    files.iter().map(|(name, content)| ((*name).to_owned(), content.clone())).collect()
}

#[test]
fn a_folder_is_saved_found_and_fetched_as_one() {
    let node = Node::start();
    let (ana, luis) = (Sharer::start(&node, "0"), Sharer::start(&node, "0"));
    ana.log_in("ana");
    luis.log_in("luis");
    let viaje = ana.user.home.path().join("Viaje");
    make(&viaje, &files());
    make(&viaje, &[(".oculto", b"x".to_vec())]);
    std::os::unix::fs::symlink("/etc/passwd", viaje.join("enlace")).unwrap();
    let viaje = viaje.to_str().unwrap();
    let said = ana.files(&["save", viaje]).expect(0);
    assert!(said.stdout().starts_with("saved Viaje/  3.0 MiB in 5 files  "), "{}", said.stdout());
    assert!(said.stderr().contains("left out 1: enlace (it is a link"), "{}", said.stderr());
    assert_eq!(tree(&ana.folder.join("Viaje")), pairs(&files()));
    assert_eq!(std::fs::read_dir(&ana.folder).unwrap().count(), 1, "nothing is left beside it");
    let again = ana.files(&["save", viaje]).expect(0).stdout();
    assert!(again.starts_with("is there already Viaje/"), "{again}");

    // One result, by its name; what is in it by its own.
    let found = luis.files(&["search", "viaje", "--json"]).expect(0).objects();
    assert_eq!(found.len(), 1, "{found:?}");
    let bytes: usize = files().iter().map(|(_, content)| content.len()).sum();
    assert_eq!((&found[0]["name"], &found[0]["files"]), (&"Viaje/".into(), &5.into()));
    assert_eq!((&found[0]["size"], &found[0]["online"]), (&bytes.into(), &true.into()));
    assert_eq!(found[0]["holders"], serde_json::json!(["ana"]));
    assert_eq!(luis.finds("madrid", 1)[0]["name"], "Viaje/mapas/Madrid centro.png");
    assert_eq!(ana.files(&["list", "--json"]).expect(0).objects().len(), 6);
    let hash = found[0]["hash"].as_str().unwrap();

    // By its name, by its name with /, by its hash; under another name; never over anything.
    let out = luis.user.home.path().join("out");
    std::fs::create_dir(&out).unwrap();
    let to = out.to_str().unwrap();
    let got = luis.files(&["get", "Viaje", "-o", to, "--json"]).expect(0).objects().remove(0);
    assert_eq!((&got["name"], &got["files"]), (&"Viaje/".into(), &5.into()), "{got}");
    assert_eq!((&got["size"], &got["hash"]), (&bytes.into(), &hash.into()), "{got}");
    // One of the two that are the same was a copy.
    assert_eq!((&got["kept"], &got["fetched"]), (&4.into(), &(bytes - 4).into()), "{got}");
    assert_eq!(tree(&out.join("Viaje")), pairs(&files()));
    assert_eq!(std::fs::read_dir(&out).unwrap().count(), 1, "nothing is left beside it");
    for name in ["Viaje/", hash] {
        let taken = luis.files(&["get", name, "-o", to, "--json"]).expect(1);
        assert_eq!(object(&taken.stderr())["error"]["code"], "EXISTS", "{name}");
        let other = out.join(format!("otro{}", name.len()));
        luis.files(&["get", name, "-o", other.to_str().unwrap()]).expect(0);
        assert_eq!(tree(&other), pairs(&files()), "{name}");
    }

    // Another folder of the same name is not taken for it, and replaces nothing.
    std::fs::write(Path::new(viaje).join("leeme.txt"), "otra cosa").unwrap();
    for force in [&["save", viaje, "--json"][..], &["save", viaje, "--force", "--json"]] {
        let taken = ana.files(force).expect(1);
        let last = taken.stderr();
        let error = &object(last.lines().last().unwrap())["error"];
        assert_eq!(error["code"], "EXISTS", "{error}");
    }
    assert_eq!(tree(&ana.folder.join("Viaje")), pairs(&files()));
    // What changes in it, it changes as a whole.
    std::fs::write(ana.folder.join("Viaje/nuevo.txt"), "nuevo").unwrap();
    let until = std::time::Instant::now() + crate::support::WITHIN;
    while luis.finds("viaje", 1)[0]["files"] != 6 {
        assert!(std::time::Instant::now() < until, "the change is not seen");
    }
}

#[test]
fn what_is_no_folder_is_refused_with_what_to_do() {
    let node = Node::start();
    let ana = Sharer::start(&node, "0");
    ana.log_in("ana");
    let root = ana.user.home.path().join("casa");
    let refused = |path: &Path| {
        let ended = ana.files(&["save", path.to_str().unwrap(), "--json"]).expect(1).stderr();
        let error = object(ended.lines().last().unwrap())["error"].clone();
        (error["code"].as_str().unwrap().to_owned(), error["message"].as_str().unwrap().to_owned())
    };
    std::fs::create_dir(&root).unwrap();
    let (code, message) = refused(&root);
    assert_eq!((&*code, message.contains("no files in it")), ("BAD_FOLDER", true), "{message}");
    make(&root, &[("LEEME", b"1".to_vec()), ("leeme", b"2".to_vec())]);
    let (code, message) = refused(&root);
    assert_eq!((&*code, message.contains("rename one")), ("BAD_FOLDER", true), "{message}");
    std::fs::remove_file(root.join("leeme")).unwrap();
    let hidden = ana.user.home.path().join(".oculta");
    make(&hidden, &[("a", b"1".to_vec())]);
    assert_eq!(refused(&hidden).0, "BAD_NAME");
    assert_eq!(std::fs::read_dir(&ana.folder).unwrap().count(), 0, "nothing is left");
    // `.` is called as its folder is.
    let mut here = ana.user.command(&["files", "save", "."]);
    here.current_dir(&root);
    let said = here.output().unwrap();
    let said = String::from_utf8(said.stdout).unwrap();
    assert!(said.starts_with("saved casa/  1 B in 1 file  "), "{said}");
}

#[test]
fn a_receiver_that_is_killed_fetches_only_what_is_missing_of_a_folder() {
    const FILES: usize = 40;
    let node = Node::start();
    let (ana, luis) = (Sharer::start(&node, "0"), Sharer::start(&node, "0"));
    ana.log_in("ana");
    luis.log_in("luis");
    let bytes = content((1 << 20) + FILES);
    for number in 0..FILES {
        let name = format!("fotos/{}/{number}.raw", number % 3);
        make(&ana.folder, &[(&name, bytes[number..number + (1 << 20)].to_vec())]);
    }
    let until = std::time::Instant::now() + crate::support::WITHIN;
    while luis.finds("fotos", 1)[0]["files"] != FILES {
        assert!(std::time::Instant::now() < until, "it is never whole");
    }
    let out = luis.user.home.path().join("out");
    std::fs::create_dir(&out).unwrap();
    let to = out.to_str().unwrap();
    let mut killed = luis.user.spawn(&["files", "get", "fotos", "-o", to, "--json"]);
    let done = || names(&out).iter().filter(|name| name.ends_with(".raw")).count();
    while done() < 2 {
        assert!(std::time::Instant::now() < until, "nothing comes");
    }
    killed.signal(Signal::KILL);
    killed.end();
    assert!(!out.join("fotos").exists(), "it was faster than the test: take more files");
    let left = done();
    let got = luis.files(&["get", "fotos", "-o", to, "--json"]).expect(0).objects().remove(0);
    let (kept, fetched) = (got["kept"].as_u64().unwrap(), got["fetched"].as_u64().unwrap());
    assert!(kept >= (left as u64) << 20, "{left}: {got}");
    assert_eq!(kept + fetched, (FILES as u64) << 20, "{got}");
    assert_eq!(tree(&out.join("fotos")), tree(&ana.folder.join("fotos")));
    assert_eq!(std::fs::read_dir(&out).unwrap().count(), 1, "nothing is left beside it");
}

#[test]
fn members_get_a_folder_from_each_other_and_confirm_all_of_it() {
    const MEMBERS: usize = 6;
    let node = Node::start();
    let ana = teller(&node);
    let users: Vec<_> = ["luis", "eva"].map(|name| account(&node, name)).into();
    let called: Vec<String> = (0..MEMBERS).map(|number| format!("m{number}")).collect();
    let members: Vec<Running> =
        called.iter().enumerate().map(|(at, name)| fetching(&node, &users[at % 2], name)).collect();
    for member in &members {
        member.notes(&format!("joined {GROUP} as"));
    }
    // Somebody has something else of this name.
    let first = folder(&users[0], "m0");
    make(&first, &[("Viaje/mio.txt", b"mio".to_vec())]);
    let viaje = ana.user.home.path().join("Viaje");
    make(&viaje, &files());
    let viaje = viaje.to_str().unwrap();
    let args = ["save", viaje, "--group", GROUP, "--timeout", "2m", "--json"];
    let said = ana.files(&[&args[..], &["--node", &node.native]].concat()).expect(0).objects();
    let receipt = said.last().unwrap();
    assert_eq!((&receipt["confirmed"], &receipt["members"]), (&6.into(), &6.into()), "{receipt}");
    for (at, (member, name)) in members.iter().zip(&called).enumerate() {
        let called = if at == 0 { "Viaje (2)" } else { "Viaje" };
        member.notes(&format!("got {called}/  3.0 MiB: "));
        let to = folder(&users[at % 2], name);
        assert_eq!(tree(&to.join(called)), pairs(&files()), "{name}");
        let beside = if at == 0 { 2 } else { 1 };
        assert_eq!(std::fs::read_dir(&to).unwrap().count(), beside, "{name}: nothing is left");
    }
    // All of them have it now: who told it may go.
    let luis = Sharer::start(&node, "0");
    luis.log_in("pia");
    drop(ana);
    let out = luis.user.home.path().join("Viaje");
    let folder = Manifest::read(&list(&files())).unwrap();
    let hash = ContentHash::of(&folder.write());
    let got =
        luis.files(&["get", &hash.to_string(), "-o", out.to_str().unwrap()]).expect(0).stdout();
    assert!(!got.contains("ana ("), "{got}");
    assert_eq!(tree(&out), pairs(&files()));
    // It is there: told again, it is not fetched again, and what an earlier try has left goes.
    let to = users[1].home.path().join("m1");
    let left = format!(".tertulia-{}.folder/files/a.txt", &hash.to_string()[..32]);
    make(&to, &[(&left, b"a".to_vec())]);
    let seq = tell(&node, "Otro nombre/", folder.bytes(), hash.0).unwrap();
    members[1].notes(&format!("#{seq} got Viaje/"));
    assert_eq!(std::fs::read_dir(&to).unwrap().count(), 1, "{:?}", names(&to));
}

fn list(files: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let entry = |(name, content): &(&str, Vec<u8>)| Entry {
        path: FileName::new(name).unwrap(),
        size: content.len() as u64,
        hash: ContentHash::of(content),
    };
    Manifest::new(files.iter().map(entry).collect()).unwrap().write()
}

#[test]
fn lists_that_somebody_made_up_write_nothing() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let node = Node::start();
    let luis = Sharer::start(&node, "0");
    luis.log_in("luis");
    let pia = account(&node, "pia");
    let member = fetching(&node, &pia, "pia");
    member.notes("joined");
    let eva = runtime.block_on(Account::new(&node, "eva"));
    let hash = ContentHash::of(b"x");
    let lines =
        |lines: &str| format!("tertulia folder 1\n{}", lines.replace("HASH", &hash.to_string()));
    let out = luis.user.home.path().join("out");
    std::fs::create_dir(&out).unwrap();
    let to = out.to_str().unwrap();
    let lists = [
        ("arriba/", lines("1 HASH ../../evil.sh\n")),
        ("raiz/", lines("1 HASH /etc/evil\n")),
        ("llaves/", lines("1 HASH .ssh/authorized_keys\n")),
        ("dos/", lines("1 HASH a\n1 HASH a\n")),
        ("caja/", lines("1 HASH A\n1 HASH a\n")),
        ("mixto/", lines("1 HASH a\n1 HASH a/b\n")),
        ("vacio/", lines("")),
        ("inmenso/", lines(&format!("{} HASH a\n{} HASH b\n", u64::MAX, u64::MAX))),
        ("texto/", "no list at all".to_owned()),
        ("pantalla/", lines("1 HASH \u{1b}[2J\n")),
    ];
    // An account has eight peers at most.
    let tom = runtime.block_on(Account::new(&node, "tom"));
    for (at, (name, list)) in lists.iter().enumerate() {
        let account = if at % 2 == 0 { &tom } else { &eva };
        runtime.block_on(account.share(name, list.as_bytes(), Box::new(|_, part| part)));
        luis.finds(name, 1);
        let refused = luis.files(&["get", name, "-o", to, "--json"]).expect(1);
        assert_eq!(object(&refused.stderr())["error"]["code"], "BAD_FOLDER", "{name}");
        assert_eq!(std::fs::read_dir(&out).unwrap().count(), 0, "{name}: something is left");
        let seq = tell(&node, name, 1, ContentHash::of(list.as_bytes()).0).unwrap();
        let noted = member.notes(&format!("#{seq} failed: "));
        assert!(noted.contains("failed: bad folder ("), "{noted}");
        assert!(!noted.contains('\u{1b}'), "{noted}");
    }
    // What it says of a file's size or content is not what the file is.
    let lies = lines("9 HASH a\n");
    runtime.block_on(eva.share("miente/", lies.as_bytes(), Box::new(|_, part| part)));
    runtime.block_on(eva.share("a", b"x", Box::new(|_, part| part)));
    luis.finds("miente", 1);
    let refused = luis.files(&["get", "miente/", "-o", to, "--json"]).expect(1);
    assert_eq!(object(&refused.stderr())["error"]["code"], "NO_HOLDERS");
    assert!(!out.join("miente").exists());
    // Told under a name that leads elsewhere, or with another size.
    for (name, why) in [
        ("../x/", "bad name"),
        ("a/b/", "bad name"),
        (".ssh/", "bad name"),
        ("nul/", "bad name"),
        ("/", "bad name"),
    ] {
        let seq = tell(&node, name, 9, ContentHash::of(lies.as_bytes()).0).unwrap();
        let noted = member.notes(&format!("#{seq} failed: "));
        assert!(noted.contains(&format!("failed: {why}")), "{name:?}: {noted}");
    }
    let seq = tell(&node, "miente/", 8, ContentHash::of(lies.as_bytes()).0).unwrap();
    member.notes(&format!("#{seq} failed: bad folder (it has 9 bytes, not 8)"));
    // Who calls a file a folder keeps nobody from getting it by its hash.
    runtime.block_on(tom.share("foto.png", b"a picture", Box::new(|_, part| part)));
    runtime.block_on(tom.share("foto/", b"a picture", Box::new(|_, part| part)));
    luis.finds("foto.png", 1);
    let hash = ContentHash::of(b"a picture").to_string();
    luis.files(&["get", &hash, "-o", to]).expect(0);
    assert_eq!(read(&out.join("foto.png")), b"a picture");
    let seq = tell(&node, "nada/", 5, [7; 32]).unwrap();
    let sent = node.run(&["send", GROUP, "seguimos", "--json"]).expect(0).objects().remove(0);
    assert_eq!(sent["confirmed"], 1, "{sent}");
    let open = [("pia".to_owned(), "pending".to_owned())];
    assert_eq!(missing(&as_it_stands(&node, seq)), open);
    // What has failed is gone; what is open has begun.
    let left = names(&folder(&pia, "pia"));
    let own = format!(".tertulia-{}.folder/", "07".repeat(16));
    assert!(left.iter().all(|name| name.starts_with(&own)), "{left:?}");
}

/// Waits until something is found under exactly this name.
fn known(sharer: &Sharer, name: &str) {
    let until = std::time::Instant::now() + crate::support::WITHIN;
    loop {
        let found = sharer.files(&["search", name, "--json"]).expect(0).objects();
        if found.iter().any(|line| line["name"] == name) {
            return;
        }
        assert!(std::time::Instant::now() < until, "{name}: {found:?}");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

/// Somebody calls a file a folder, as which it cannot be had: whoever wants it has it all the same.
#[test]
fn who_calls_a_file_a_folder_keeps_nobody_from_getting_it() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let node = Node::start();
    let (ana, luis) = (Sharer::start(&node, "0"), Sharer::start(&node, "0"));
    ana.log_in("ana");
    luis.log_in("luis");
    let eva = runtime.block_on(Account::new(&node, "eva"));
    // Lists of files that nobody has.
    let list = |path| format!("tertulia folder 1\n1 {} {path}\n", ContentHash::of(b"x"));
    // What it is called by who has it, what eva calls it, and what is there already where it is to be.
    let cases = [
        ("foto.png", "foto/", b"a picture".to_vec(), Some("foto")),
        ("mapa.png", "../../mapa/", b"a map".to_vec(), None),
        ("plano", "plano/", b"a plan".to_vec(), None),
        ("lista.txt", "docs/", list("a").into_bytes(), None),
        ("indice.txt", "../indice/", list("b").into_bytes(), None),
        ("grande.bin", "grande/", content((4 << 20) + 1), None),
    ];
    for (at, (name, lie, content, there)) in cases.into_iter().enumerate() {
        let hash = ContentHash::of(&content).to_string();
        if content.len() < 1 << 20 {
            runtime.block_on(eva.share(lie, &content, Box::new(|_, part| part)));
        } else {
            // That it is small is not true, either.
            let folder = Some(FolderHeld { files: 1, bytes: 1 });
            let held = FileHeld { name: lie.into(), size: 99, hash: hash.clone(), folder };
            runtime.block_on(eva.announce(Fingerprint([9; 32]), 9, vec![held], Vec::new()));
        }
        std::fs::write(ana.folder.join(name), &content).unwrap();
        known(&luis, name);
        let out = luis.user.home.path().join(format!("out{at}"));
        std::fs::create_dir(&out).unwrap();
        if let Some(there) = there {
            std::fs::create_dir(out.join(there)).unwrap();
        }
        let to = out.to_str().unwrap();
        // By its hash, and by its name, which may be the folder's, too.
        for asked in [&*hash, name] {
            let got = luis.files(&["get", asked, "-o", to, "--json"]).expect(0).objects().remove(0);
            assert_eq!((&got["name"], &got["files"]), (&name.into(), &serde_json::Value::Null));
            assert!(read(&out.join(name)) == content, "{name}");
            std::fs::remove_file(out.join(name)).unwrap();
        }
        std::fs::remove_file(ana.folder.join(name)).unwrap();
    }
}

#[test]
fn a_folder_of_more_folders_than_open_files_is_saved_and_shared_whole() {
    const FOLDERS: usize = 400;
    let node = Node::start();
    // However many its programs ask for, they may have no more open.
    let ana = Sharer::start_by(User::with_files(200), &node, "0");
    ana.log_in("ana");
    let many = ana.user.home.path().join("Muchas");
    for number in 0..FOLDERS {
        make(&many.join(number.to_string()), &[("a.txt", number.to_string().into_bytes())]);
    }
    let saved = ana.files(&["save", many.to_str().unwrap()]).expect(0);
    let (said, noted) = (saved.stdout(), saved.stderr());
    assert!(said.contains(&format!(" in {FOLDERS} files ")) && noted.is_empty(), "{said}{noted}");
    // Whoever looks through all of it finds all of it.
    let ana = Sharer::start_by(
        {
            let Sharer { user, mut peer, .. } = ana;
            peer.end_by(Signal::TERM, 0);
            user
        },
        &node,
        "0",
    );
    ana.peer.notes(&format!("shares {FOLDERS} files"));
    ana.finds("Muchas/", 1);
}

#[test]
fn a_folder_of_which_something_cannot_be_read_is_not_saved() {
    let node = Node::start();
    let ana = Sharer::start(&node, "0");
    ana.log_in("ana");
    let viaje = ana.user.home.path().join("Viaje");
    make(&viaje, &files());
    let closed = viaje.join("mapas/a");
    let mode = |mode| std::fs::Permissions::from_mode(mode);
    std::fs::set_permissions(&closed, mode(0)).unwrap();
    // Root reads everything: somebody else saves it then, by the running peer.
    let mut command = ana.user.command(&["files", "save", viaje.to_str().unwrap(), "--json"]);
    command.args(["--peer", &ana.address]);
    if rustix::process::geteuid().is_root() {
        std::fs::set_permissions(ana.user.home.path(), mode(0o755)).unwrap();
        command.uid(65_534).gid(65_534).env("HOME", "/nonexistent");
    }
    let refused = Ended(command.output().unwrap()).expect(1);
    let error = &object(&refused.stderr())["error"];
    assert!(error["message"].as_str().unwrap().contains("mapas/a in "), "{error}");
    assert_eq!(std::fs::read_dir(&ana.folder).unwrap().count(), 0);
    std::fs::set_permissions(&closed, mode(0o755)).unwrap();
}
