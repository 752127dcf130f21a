//! Each fault is really there while it lasts, and gone when it is healed: asked of a small program in the node's place.
//!
//! Needs root and some programs, and is skipped without them.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands, helpers too")]

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rand::SeedableRng;
use rand::rngs::StdRng;
use rustix::process::{Pid, Signal, kill_process};
use tertulia_torture::place::{Fault, Healed, Host, Inflicted, Options, Place};

/// The arguments that the program in the node's place was started with.
const ARGUMENTS: &str = "TORTURE_TEST_NODE";
/// What a place of another process does: `kill`, `wait`.
const OTHER: &str = "TORTURE_TEST_OTHER";
/// How long an answer may take.
const WITHIN: Duration = Duration::from_secs(20);
/// How long none may come, where there is none.
const NONE_FOR: Duration = Duration::from_millis(200);

/// Whether this machine can make places. Continuous integration has to.
fn is_possible() -> bool {
    let missing = Place::missing(true);
    if missing.is_empty() {
        return true;
    }
    let why = missing.join("; ");
    assert!(std::env::var("CI").as_deref() != Ok("true"), "cannot be run: {why}");
    eprintln!("skipped: {why}");
    false
}

/// A place whose node is [`node`] below.
struct Scene {
    place: Place,
    rng: StdRng,
    _program: tempfile::TempDir,
}

impl Scene {
    fn new() -> Option<Self> {
        if !is_possible() {
            return None;
        }
        let (program, options) = options();
        let mut place = Place::new(options).unwrap();
        place.start_node().unwrap();
        Some(Self { place, rng: StdRng::seed_from_u64(1), _program: program })
    }

    fn inflict(&mut self, fault: Fault) -> Inflicted {
        self.place.inflict(fault, &mut self.rng).unwrap()
    }

    #[track_caller]
    fn heal(&mut self, inflicted: Inflicted) -> Healed {
        let fault = inflicted.fault;
        let healed = self.place.heal(inflicted).unwrap();
        assert_eq!(healed.fault, fault);
        assert!(self.place.node_pid().is_some());
        healed
    }

    /// Connects from a host.
    fn ask(&self, host: &Host) -> Asked {
        let to = self.place.line();
        let stream = host.on(|| Ok(TcpStream::connect_timeout(&to, WITHIN)?)).unwrap();
        stream.set_read_timeout(Some(WITHIN)).unwrap();
        Asked(BufReader::new(stream))
    }

    fn ask_here(&self) -> Asked {
        self.ask(self.place.node_host())
    }

    fn ask_client(&self) -> Asked {
        self.ask(&self.place.clients()[0])
    }
}

/// The small program as the place's, and where the script is that starts it.
fn options() -> (tempfile::TempDir, Options) {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("node");
    let program = std::env::current_exe().unwrap();
    let text = format!(
        "#!/bin/sh\n{ARGUMENTS}=\"$*\" exec {} --exact node --ignored --nocapture\n",
        program.display()
    );
    std::fs::write(&script, text).unwrap();
    std::fs::set_permissions(&script, PermissionsExt::from_mode(0o755)).unwrap();
    let options = Options { disk_mib: 16, ..Options::new(script) };
    (folder, options)
}

/// A connection to [`node`].
struct Asked(BufReader<TcpStream>);

impl Asked {
    fn write(&mut self, question: &str) -> std::io::Result<()> {
        self.0.get_mut().write_all(format!("{question}\n").as_bytes())
    }

    fn read(&mut self) -> std::io::Result<String> {
        let mut line = String::new();
        match self.0.read_line(&mut line)? {
            0 => Err(std::io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(line.trim_end().to_owned()),
        }
    }

    fn try_say(&mut self, question: &str) -> std::io::Result<String> {
        self.write(question).and_then(|()| self.read())
    }

    #[track_caller]
    fn say(&mut self, question: &str) -> String {
        self.try_say(question).unwrap_or_else(|error| panic!("{question}: {error}"))
    }

    /// Nothing is answered for a moment.
    #[track_caller]
    fn says_nothing(&mut self) {
        self.0.get_ref().set_read_timeout(Some(NONE_FOR)).unwrap();
        let error = self.read().unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
        self.0.get_ref().set_read_timeout(Some(WITHIN)).unwrap();
    }
}

/// Stands in the node's place: answers lines with what its system calls said, and echoes datagrams.
#[test]
#[ignore = "a program that the tests above start"]
fn node() {
    let Ok(arguments) = std::env::var(ARGUMENTS) else { return };
    let mut words = arguments.split(' ').skip_while(|word| *word != "--data");
    let data = PathBuf::from(words.nth(1).unwrap());
    std::fs::create_dir_all(&data).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
    let terminate = tokio::signal::unix::SignalKind::terminate();
    let mut terminate = runtime.block_on(async { tokio::signal::unix::signal(terminate) }).unwrap();
    std::thread::spawn(move || {
        runtime.block_on(terminate.recv());
        std::process::exit(0);
    });
    let native = TcpListener::bind(("0.0.0.0", 5001)).unwrap();
    let line = TcpListener::bind(("0.0.0.0", 5000)).unwrap();
    let datagrams = UdpSocket::bind(("0.0.0.0", 5001)).unwrap();
    std::fs::write(data.join("endpoints.json"), "{}\n").unwrap();
    println!("\nnative  0.0.0.0:5001");
    std::thread::spawn(move || {
        let mut bytes = [0; 64];
        while let Ok((_, from)) = datagrams.recv_from(&mut bytes) {
            let _ = datagrams.send_to(&bytes[..1], from);
        }
    });
    std::thread::spawn(move || native.incoming().for_each(drop));
    for stream in line.incoming().flatten() {
        let data = data.clone();
        std::thread::spawn(move || answer(stream, &data));
    }
}

fn answer(stream: TcpStream, data: &Path) {
    let mut to = stream.try_clone().unwrap();
    let mut opened = Vec::new();
    for line in BufReader::new(stream).lines().map_while(Result::ok) {
        let (verb, name) = line.split_once(' ').unwrap_or((&line, ""));
        let path = data.join(name);
        let said = match verb {
            "write" => write(&path).map(|_| "ok".to_owned()),
            "store" => write(&path).and_then(|file| file.sync_data()).map(|()| "ok".to_owned()),
            "read" => File::open(&path).and_then(|mut file| {
                let mut text = String::new();
                file.read_to_string(&mut text).map(|_| text)
            }),
            "open" => File::open("/dev/null").map(|file| {
                opened.push(file);
                "ok".to_owned()
            }),
            "time" => Ok(now_s().to_string()),
            "exit" => std::process::exit(name.parse().unwrap()),
            _ => panic!("asked for it"),
        };
        let said = said.unwrap_or_else(|error| error.to_string());
        if writeln!(to, "{said}").is_err() {
            break;
        }
    }
}

fn write(path: &Path) -> std::io::Result<File> {
    let mut file = OpenOptions::new().create(true).truncate(true).write(true).open(path)?;
    // More than fits into an inode.
    file.write_all(&[b'x'; 5000]).map(|()| file)
}

fn now_s() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs().cast_signed()
}

fn is_stored(said: &str) -> bool {
    said.len() == 5000 && said.bytes().all(|byte| byte == b'x')
}

#[test]
fn a_killed_node_is_started_again() {
    let Some(mut scene) = Scene::new() else { return };
    let pid = scene.place.node_pid();
    assert_eq!(scene.ask_here().say("write a"), "ok");
    let inflicted = scene.inflict(Fault::Kill);
    assert_eq!(scene.place.node_pid(), None);
    let healed = scene.heal(inflicted);
    assert_eq!(healed.ended.unwrap().signal, Some(9));
    assert!(healed.restarted);
    assert_ne!(scene.place.node_pid(), pid);
    // The file system is still there, and with it what was only written.
    assert!(is_stored(&scene.ask_client().say("read a")));
    assert_eq!(scene.place.stop_node().unwrap().code, Some(0));
}

#[test]
fn after_a_power_cut_only_what_was_synced_is_there() {
    let Some(mut scene) = Scene::new() else { return };
    for round in 0..4 {
        let mut asked = scene.ask_here();
        let (stored, written) = (format!("stored{round}"), format!("written{round}"));
        assert_eq!(asked.say(&format!("store {stored}")), "ok");
        assert_eq!(asked.say(&format!("write {written}")), "ok");
        assert!(is_stored(&asked.say(&format!("read {written}"))));
        let inflicted = scene.inflict(Fault::PowerCut);
        assert!(scene.heal(inflicted).restarted);
        let mut asked = scene.ask_here();
        for round in 0..=round {
            assert!(is_stored(&asked.say(&format!("read stored{round}"))), "{round}");
            assert!(!is_stored(&asked.say(&format!("read written{round}"))), "{round}");
        }
    }
}

#[test]
fn a_full_disk_has_room_again() {
    let Some(mut scene) = Scene::new() else { return };
    let mut asked = scene.ask_here();
    assert_eq!(asked.say("store a"), "ok");
    let inflicted = scene.inflict(Fault::FullDisk);
    assert_eq!(asked.say("store b"), "No space left on device (os error 28)");
    assert!(is_stored(&asked.say("read a")));
    let healed = scene.heal(inflicted);
    assert_eq!((healed.ended, healed.restarted), (None, false));
    assert_eq!(asked.say("store b"), "ok");
}

#[test]
fn syncs_fail_until_the_node_is_another() {
    let Some(mut scene) = Scene::new() else { return };
    let mut asked = scene.ask_here();
    assert_eq!(asked.say("store a"), "ok");
    let inflicted = scene.inflict(Fault::FailingSync);
    let failed = (0..100).find(|_| asked.say("store b") == "Input/output error (os error 5)");
    assert!(failed.is_some(), "{inflicted:?}");
    let healed = scene.heal(inflicted);
    assert!(healed.restarted);
    assert_eq!(healed.ended.unwrap().code, Some(0));
    assert_eq!(scene.ask_here().say("store b"), "ok");
}

#[test]
fn writes_are_lost_and_the_sync_says_so() {
    let Some(mut scene) = Scene::new() else { return };
    let mut asked = scene.ask_here();
    assert_eq!(asked.say("store a"), "ok");
    let inflicted = scene.inflict(Fault::LostWrites);
    let failed = (0..100).map(|n| asked.say(&format!("store b{n}"))).find(|said| said != "ok");
    let errors = ["Input/output error (os error 5)", "No space left on device (os error 28)"];
    assert!(failed.as_deref().is_some_and(|said| errors.contains(&said)), "{failed:?}");
    assert!(is_stored(&asked.say("read a")));
    assert!(scene.heal(inflicted).restarted);
    let mut asked = scene.ask_here();
    assert!(is_stored(&asked.say("read a")));
    assert_eq!(asked.say("store b"), "ok");
}

#[test]
fn a_broken_file_system_is_read_only_until_it_is_mounted_again() {
    let Some(mut scene) = Scene::new() else { return };
    let mut asked = scene.ask_here();
    assert_eq!(asked.say("store a"), "ok");
    let inflicted = scene.inflict(Fault::ReadOnly);
    assert_eq!(asked.say("store b"), "Read-only file system (os error 30)");
    assert!(is_stored(&asked.say("read a")));
    assert!(scene.heal(inflicted).restarted);
    let mut asked = scene.ask_here();
    assert!(is_stored(&asked.say("read a")));
    assert_eq!(asked.say("store b"), "ok");
}

#[test]
fn a_frozen_disk_or_a_stopped_process_answers_late() {
    let Some(mut scene) = Scene::new() else { return };
    let mut asked = scene.ask_here();
    for fault in [Fault::Frozen, Fault::Stop] {
        let inflicted = scene.inflict(fault);
        asked.write("store a").unwrap();
        asked.says_nothing();
        let healed = scene.heal(inflicted);
        assert_eq!((healed.ended, healed.restarted), (None, false));
        assert_eq!(asked.read().unwrap(), "ok");
    }
    // A place can go while its disk is frozen.
    let _inflicted = scene.inflict(Fault::Frozen);
    asked.write("store a").unwrap();
}

#[test]
fn the_clock_jumps_both_ways() {
    let Some(mut scene) = Scene::new() else { return };
    let mut asked = scene.ask_here();
    let mut ahead = || asked.say("time").parse::<i64>().unwrap() - now_s();
    let mut signs = BTreeSet::new();
    while signs.len() < 2 {
        let inflicted = scene.inflict(Fault::ClockJump);
        let told: i64 = inflicted.told.split(' ').rev().nth(1).unwrap().parse().unwrap();
        assert!((ahead() - told).abs() <= 2, "{inflicted:?}");
        assert!(!scene.heal(inflicted).restarted);
        assert!(ahead().abs() <= 2);
        signs.insert(told.signum());
    }
}

#[test]
fn few_files_can_be_opened() {
    let Some(mut scene) = Scene::new() else { return };
    let mut asked = scene.ask_here();
    let inflicted = scene.inflict(Fault::FewFiles);
    let said: Vec<String> = (0..20).map(|_| asked.say("open")).collect();
    assert_eq!(said[19], "Too many open files (os error 24)", "{said:?}");
    scene.heal(inflicted);
    assert_eq!(asked.say("open"), "ok");
}

#[test]
fn connections_are_reset() {
    let Some(mut scene) = Scene::new() else { return };
    let clients = scene.place.clients().to_vec();
    let mut told = BTreeSet::new();
    while told.len() < 3 {
        let mut here = scene.ask_here();
        let mut asked: Vec<_> = clients.iter().map(|host| scene.ask(host)).collect();
        assert_eq!(here.say("open"), "ok");
        asked.iter_mut().for_each(|asked| assert_eq!(asked.say("open"), "ok"));
        let inflicted = scene.inflict(Fault::KillConnections);
        let whose = inflicted.told.split_once(" of ").unwrap().1.to_owned();
        let is_of = |host: &str| whose == host || whose == "all hosts";
        assert_eq!(here.try_say("open").is_err(), is_of("node"), "{whose}");
        for (host, asked) in clients.iter().zip(&mut asked) {
            assert_eq!(asked.try_say("open").is_err(), is_of(&host.name), "{whose} {}", host.name);
        }
        assert!(!scene.heal(inflicted).restarted);
        told.insert(whose);
    }
}

#[test]
fn hosts_are_cut_off_each_way() {
    let Some(mut scene) = Scene::new() else { return };
    let clients = scene.place.clients().to_vec();
    let native = scene.place.native();
    let mut ways = BTreeSet::new();
    while ways.len() < 3 {
        let old: Vec<_> = clients.iter().map(|host| scene.ask(host)).collect();
        let inflicted = scene.inflict(Fault::Partition);
        let told = inflicted.told.clone();
        let mut cut = Vec::new();
        for (host, mut old) in clients.iter().zip(old) {
            let is_cut = told.contains(&host.name);
            let reached = host.reaches(native, if is_cut { NONE_FOR } else { WITHIN });
            assert_eq!(reached.is_err(), is_cut, "{told} {}", host.name);
            old.write("time").unwrap();
            if is_cut {
                old.says_nothing();
                cut.push(old);
            } else {
                old.read().unwrap();
            }
        }
        assert_eq!(cut.len(), 1, "{told}");
        scene.heal(inflicted);
        // TCP comes through by itself.
        cut[0].read().unwrap();
        ways.insert(clients.iter().fold(told, |told, host| told.replace(&host.name, "CLIENT")));
    }
}

#[test]
fn packets_are_lost() {
    let Some(mut scene) = Scene::new() else { return };
    let host = scene.place.clients()[0].clone();
    let native = scene.place.native();
    const SENT: usize = 200;
    let echoed = || {
        let socket = host.on(|| Ok(UdpSocket::bind(("0.0.0.0", 0))?)).unwrap();
        socket.connect(native).unwrap();
        socket.set_read_timeout(Some(NONE_FOR)).unwrap();
        let mut count = 0;
        for _ in 0..SENT / 10 {
            (0..10).for_each(|_| assert_eq!(socket.send(b"?").unwrap(), 1));
            while count < SENT && socket.recv(&mut [0; 64]).is_ok() {
                count += 1;
                if count % 10 == 0 {
                    break;
                }
            }
        }
        count
    };
    assert_eq!(echoed(), SENT);
    let inflicted = scene.inflict(Fault::Loss);
    let count = echoed();
    assert!((40..=195).contains(&count), "{count} {inflicted:?}");
    scene.heal(inflicted);
    assert_eq!(echoed(), SENT);
}

#[test]
fn a_node_is_killed_at_a_call() {
    let Some(mut scene) = Scene::new() else { return };
    let mut exact = 0;
    for _ in 0..5 {
        let mut asked = scene.ask_client();
        let load = std::thread::spawn(move || while asked.try_say("store a").is_ok() {});
        let inflicted = scene.inflict(Fault::KillAtCall);
        load.join().unwrap();
        exact += usize::from(inflicted.told.contains("at a thread's call"));
        let healed = scene.heal(inflicted);
        assert_eq!(healed.ended.unwrap().signal, Some(9));
    }
    assert!(exact >= 2, "{:?}", scene.place.log());
    let count = scene.place.counts()[&Fault::KillAtCall];
    assert_eq!((count.inflicted, count.restarts, count.exits), (5, 5, 0));
}

/// A node may end by itself with a message; one that panics is reported.
#[test]
fn how_the_node_ended_is_known() {
    let Some(mut scene) = Scene::new() else { return };
    let inflicted = scene.inflict(Fault::FullDisk);
    assert!(scene.ask_here().try_say("exit 7").is_err());
    let healed = scene.heal(inflicted);
    assert_eq!(healed.ended.unwrap().code, Some(7));
    assert_eq!(scene.place.counts()[&Fault::FullDisk].exits, 1);
    assert!(scene.place.panics().is_empty());
    let inflicted = scene.inflict(Fault::FullDisk);
    assert!(scene.ask_here().try_say("panic").is_err());
    let error = format!("{:#}", scene.place.heal(inflicted).unwrap_err());
    assert!(error.contains("the node panicked: ") && error.contains("panicked at"), "{error}");
}

/// Another process with a place, which says its folder.
#[test]
#[ignore = "a program that the tests below start"]
fn other() {
    let Ok(what) = std::env::var(OTHER) else { return };
    let (_program, options) = options();
    let mut place = Place::new(Options { ends_on_signals: what == "wait", ..options }).unwrap();
    place.start_node().unwrap();
    println!("\nplace {}", place.scratch().display());
    loop {
        std::thread::park();
    }
}

/// Starts [`other`], ends it by a signal once it has its place, and gives the place's folder.
fn end_other(what: &str, signal: Signal) -> (PathBuf, ExitStatus) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "other", "--ignored", "--nocapture"]).env(OTHER, what);
    let mut child: Child = command.stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let mut folders = lines.filter_map(|line| Some(line.strip_prefix("place ")?.to_owned()));
    let folder = PathBuf::from(folders.next().expect("no place"));
    assert!(folder.join("memory/disk/store/endpoints.json").exists());
    kill_process(Pid::from_raw(child.id().cast_signed()).unwrap(), signal).unwrap();
    (folder, child.wait().unwrap())
}

#[test]
fn a_place_goes_with_its_process() {
    if !is_possible() {
        return;
    }
    let (folder, status) = end_other("wait", Signal::TERM);
    assert_eq!(status.code(), Some(130));
    assert!(!folder.exists());
    let (folder, _) = end_other("kill", Signal::KILL);
    // The next one removes what it left behind; another test may be faster.
    let (_program, options) = options();
    drop(Place::new(options).unwrap());
    assert!(!folder.exists());
}
