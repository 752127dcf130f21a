//! Damage on the disk: one byte that is another costs at most one group, by name; no history is shortened or altered.
//!
//! `TERTULIA_TEST_FLIPS=N` tries N bytes instead of a few, `all` every byte that is in use.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tertulia_client::{Directory, Error, Sender, SenderOptions, Target};
use tertulia_server::{Config, Engine, Keep, Node, NodeLimits, Notice};
use tertulia_wire::Code;
use tertulia_wire::native::HistoryMode;
use tokio::sync::mpsc;

use crate::support::{User, WITHIN};

const GROUPS: [&str; 5] = ["1", "a-name-longer-than-16-bytes", "archive", "lobby", "ops"];
/// Messages of each group.
const MESSAGES: usize = 12;
/// Bytes that are tried where nobody says how many.
const FLIPS: usize = 40;

fn config(data: &Path) -> Config {
    Config {
        listen: std::net::Ipv4Addr::LOCALHOST.into(),
        advertise: None,
        data: data.to_owned(),
        native_port: Some(0),
        line_port: None,
        http_port: None,
        guests: true,
        accounts: tertulia_server::AccountRules::default(),
        tls: None,
        keep: Keep::default(),
        engine: Engine::Embedded,
        fsync: false,
        node_id: "n".to_owned(),
        limits: NodeLimits::default(),
        group_limits: tertulia_group::Limits::default(),
    }
}

/// A node of this process on a folder, and what it has told its operator.
struct Running {
    node: Node,
    target: Target,
    notices: mpsc::Receiver<Notice>,
    lock: PathBuf,
}

impl Running {
    async fn start(data: &Path) -> Self {
        let (sender, notices) = mpsc::channel(4096);
        let node = Node::start(config(data), sender).await;
        let node = node.unwrap_or_else(|error| panic!("one byte is never everybody's: {error}"));
        let target = Target::new(node.endpoints().native.unwrap().to_string());
        Self { node, target, notices, lock: data.join("store/lock") }
    }

    /// Ends it, and waits until it has closed its files.
    async fn stop(self) {
        self.node.stop().await;
        let lock = File::open(self.lock).unwrap();
        let began = Instant::now();
        while lock.try_lock().is_err() {
            assert!(began.elapsed() < WITHIN, "the store stays open");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    async fn history(&self, group: &str) -> Result<Vec<String>, Error> {
        let mut directory = Directory::connect(&self.target).await?;
        let page = directory.history(group, HistoryMode::After(0), 10_000).await?;
        let entry = |entry: &tertulia_group::Entry| {
            let text = String::from_utf8_lossy(&entry.body()).into_owned();
            format!("#{} {:?} {}: {text}", entry.header.seq, entry.header.kind, entry.name())
        };
        Ok(page.entries.iter().map(entry).collect())
    }

    async fn send(&self, group: &str, text: &str) {
        let sender =
            Sender::open(&self.target, group, "eva", SenderOptions::default()).await.unwrap();
        sender.send(text.to_owned()).await.unwrap().stored().await.unwrap();
    }

    fn troubles(&mut self) -> Vec<String> {
        let all = std::iter::from_fn(|| self.notices.try_recv().ok());
        all.filter_map(|notice| match notice {
            Notice::Trouble(text) => Some(text),
            _ => None,
        })
        .collect()
    }
}

type Histories = BTreeMap<&'static str, Vec<String>>;

/// A store of several groups, made by a node that was stopped: its folder and what is in it.
async fn store() -> (TempDir, Histories) {
    // Nothing here is about power: where there is a disk in memory, its syncs cost nothing.
    let data = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let running = Running::start(data.path()).await;
    let mut directory = Directory::connect(&running.target).await.unwrap();
    for group in GROUPS {
        directory.create(group).await.unwrap();
    }
    directory.create("gone").await.unwrap();
    directory.delete("gone").await.unwrap();
    drop(directory);
    for number in 1..=MESSAGES {
        for group in GROUPS {
            running.send(group, &format!("{number} of {group}. ").repeat(number * 3)).await;
        }
    }
    let mut histories = Histories::new();
    for group in GROUPS {
        let history = running.history(group).await.unwrap();
        assert_eq!(history.len(), MESSAGES);
        histories.insert(group, history);
    }
    running.stop().await;
    (data, histories)
}

/// A store's files, to be made what they were again and again: only what is in use of them is kept.
struct Files {
    folder: PathBuf,
    files: Vec<(String, Vec<u8>, u64)>,
}

impl Files {
    fn of(data: &Path) -> Self {
        let folder = data.join("store");
        let mut files: Vec<_> = fs::read_dir(&folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name != "lock")
            .map(|name| {
                let mut bytes = fs::read(folder.join(&name)).unwrap();
                let len = bytes.len() as u64;
                bytes.truncate(bytes.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1));
                (name, bytes, len)
            })
            .collect();
        files.sort();
        Self { folder, files }
    }

    /// All bytes in use.
    fn len(&self) -> usize {
        self.files.iter().map(|(_, bytes, _)| bytes.len()).sum()
    }

    fn open(&self, name: &str) -> File {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).open(self.folder.join(name)).unwrap()
    }

    fn restore(&self) {
        for entry in fs::read_dir(&self.folder).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            if name != "lock" && !self.files.iter().any(|(known, ..)| *known == name) {
                fs::remove_file(self.folder.join(name)).unwrap();
            }
        }
        for (name, bytes, len) in &self.files {
            let file = self.open(name);
            // A hole is zeros, as they were.
            file.set_len(bytes.len() as u64).unwrap();
            file.set_len(*len).unwrap();
            file.write_all_at(bytes, 0).unwrap();
        }
    }

    /// Makes the byte at this place of all another, and says where that is.
    fn flip(&self, mut at: usize, with: u8) -> String {
        for (name, bytes, _) in &self.files {
            if at < bytes.len() {
                self.open(name).write_all_at(&[bytes[at] ^ with], at as u64).unwrap();
                return format!("{name} at {at}");
            }
            at -= bytes.len();
        }
        panic!("there are not so many bytes");
    }
}

/// Which bytes are tried: spread, and by chance within their part, but the same in every run.
fn places(len: usize) -> Vec<usize> {
    let wanted = match std::env::var("TERTULIA_TEST_FLIPS").as_deref() {
        Ok("all") => len,
        Ok(count) => count.parse().expect("a number, or all"),
        Err(_) => FLIPS,
    };
    let step = (len / wanted).max(1);
    let mut state = 0x9e37_79b9_u64;
    let mut chance = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) as usize % below
    };
    (0..len).step_by(step).map(|at| (at + chance(step)).min(len - 1)).collect()
}

async fn flips(is_clean: bool) {
    let (data, histories) = store().await;
    if !is_clean {
        fs::remove_file(data.path().join("store/clean")).unwrap();
    }
    let files = Files::of(data.path());
    let mut counts = BTreeMap::<&str, usize>::new();
    for at in places(files.len()) {
        files.restore();
        let place = files.flip(at, 0x10);
        let mut running = Running::start(data.path()).await;
        let mut refused = Vec::new();
        for (group, history) in &histories {
            match running.history(group).await {
                Ok(now) => assert_eq!(now, *history, "{place}: {group}"),
                Err(Error::Refused { code: Code::Damaged, message }) => {
                    assert!(message.contains(group) && message.contains(".seg at "), "{message}");
                    refused.push(*group);
                }
                Err(error) => panic!("{place}: {group}: {error}"),
            }
        }
        assert!(refused.len() <= 1, "{place}: {refused:?}");
        let troubles = running.troubles();
        for group in &refused {
            let is_told = |text: &String| text.contains(&group[..group.len().min(10)]);
            assert!(troubles.iter().any(is_told), "{place}: {group}: {troubles:?}");
            assert!(troubles.iter().all(|text| text.contains("tertulia check --data")));
        }
        *counts.entry(if refused.is_empty() { "nobody" } else { "one group" }).or_default() += 1;
        running.stop().await;
    }
    println!("{counts:?}");
    assert!(counts["one group"] > counts["nobody"], "most bytes are some group's: {counts:?}");
}

fn block_on(future: impl Future<Output = ()>) {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime.worker_threads(2).enable_all().build().unwrap().block_on(future);
}

#[test]
fn a_flipped_byte_after_a_clean_end_costs_one_group_at_most() {
    block_on(flips(true));
}

#[test]
fn a_flipped_byte_after_a_kill_costs_one_group_at_most() {
    block_on(flips(false));
}

/// Changes the first byte of `text` on the disk.
fn damage(data: &Path, text: &str) {
    let path = data.join("store/00000001.seg");
    let bytes = fs::read(&path).unwrap();
    let at = bytes.windows(text.len()).position(|part| part == text.as_bytes()).unwrap();
    let file = OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(&[bytes[at] ^ 1], at as u64).unwrap();
}

#[test]
fn damage_that_a_read_meets_is_named_and_the_rest_goes_on() {
    block_on(async {
        let (data, histories) = store().await;
        let mut running = Running::start(data.path()).await;
        // All groups run by now.
        assert_eq!(running.history("ops").await.unwrap(), histories["ops"]);
        damage(data.path(), "3 of ops. ");
        for _ in 0..2 {
            let Err(Error::Refused { code, message }) = running.history("ops").await else {
                panic!("what is damaged was answered");
            };
            assert_eq!(code, Code::Damaged);
            assert!(message.contains("a part of group ops") && message.contains(".seg at "));
        }
        let troubles = running.troubles();
        assert_eq!(troubles.len(), 1, "told once: {troubles:?}");
        assert_eq!(running.history("lobby").await.unwrap(), histories["lobby"]);
        // What comes after is not concerned.
        running.send("ops", "still here").await;
        let mut directory = Directory::connect(&running.target).await.unwrap();
        let later =
            directory.history("ops", HistoryMode::After(MESSAGES as u64 + 1), 100).await.unwrap();
        assert!(later.entries.iter().any(|entry| &entry.body()[..] == b"still here"));
        running.stop().await;
    });
}

#[test]
fn check_says_what_is_whole_and_what_is_lost() {
    let (user, data) = (User::new(), tempfile::tempdir().unwrap());
    let folder = data.path().to_str().unwrap().to_owned();
    let nothing = user.run(&["check", "--data", &folder]).expect(1);
    assert!(nothing.stderr().contains("there is no store in"), "{}", nothing.stderr());
    block_on(async {
        let running = Running::start(data.path()).await;
        for group in ["archive", "ops"] {
            Directory::connect(&running.target).await.unwrap().create(group).await.unwrap();
            for number in 1..=5 {
                running.send(group, &format!("{number} of {group}")).await;
            }
        }
        let user = User::new();
        let ended = user.run(&["check", "--data", data.path().to_str().unwrap()]).expect(1);
        assert!(ended.stderr().contains("a node is running on"), "{}", ended.stderr());
        running.stop().await;
    });
    let before = Files::of(data.path());
    let whole = user.run(&["check", "--data", &folder]).expect(0).stdout();
    assert!(whole.contains("whole: nothing is damaged"), "{whole}");
    fs::remove_file(data.path().join("store/clean")).unwrap();
    let killed = user.run(&["check", "--data", &folder]).expect(0).stdout();
    assert!(killed.contains("That is no damage."), "{killed}");
    before.restore();

    damage(data.path(), "3 of ops");
    let damaged = user.run(&["check", "--data", &folder]).expect(1).stdout();
    for text in ["archive  whole", "ops      DAMAGED", "lost: #4", "store/00000001.seg at "] {
        assert!(damaged.contains(text), "{text}: {damaged}");
    }
    assert!(damaged.contains("1 of 2 groups") && damaged.contains("groups delete NAME"));
    let objects = user.run(&["check", "--data", &folder, "--json"]).expect(1).objects();
    let of = |kind: &str| objects.iter().filter(|o| o["type"] == kind).collect::<Vec<_>>();
    let (groups, summary) = (of("group"), of("summary"));
    assert_eq!((groups.len(), summary.len()), (2, 1));
    assert_eq!((&groups[1]["group"], &groups[1]["whole"]), (&"ops".into(), &false.into()));
    assert_eq!(groups[1]["lost"][0][0], 4);
    assert!(groups[1]["damage"][0]["offset"].is_u64());
    assert_eq!((&summary[0]["damaged"], &summary[0]["refused"]), (&1.into(), &false.into()));
    assert!(user.run(&["check", "--data", &folder, "-q"]).expect(1).stdout().lines().count() == 2);
}

#[test]
fn a_damaged_group_can_be_given_up() {
    block_on(async {
        let (data, histories) = store().await;
        // Of one group the log, of another the catalog's record.
        damage(data.path(), "3 of ops. ");
        damage(data.path(), "group/lobby");
        for start in 0..2 {
            let running = Running::start(data.path()).await;
            let mut directory = Directory::connect(&running.target).await.unwrap();
            for group in ["ops", "lobby"] {
                if start == 0 {
                    for refused in [
                        directory.locate(group).await.map(|_| ()),
                        directory.create(group).await,
                        directory.members(group).await.map(|_| ()),
                        running.history(group).await.map(|_| ()),
                    ] {
                        let code = match refused {
                            Err(Error::Refused { code, .. }) => code,
                            other => panic!("{group}: {other:?}"),
                        };
                        let is_known = code == Code::GroupExists && group == "ops";
                        assert!(code == Code::Damaged || is_known, "{group}: {code}");
                    }
                    directory.delete(group).await.unwrap();
                    directory.create(group).await.unwrap();
                }
                running.send(group, "anew").await;
                assert!(running.history(group).await.unwrap()[start].ends_with("anew"));
            }
            assert_eq!(running.history("archive").await.unwrap(), histories["archive"]);
            running.stop().await;
        }
        let whole = User::new().run(&["check", "--data", data.path().to_str().unwrap()]);
        assert!(whole.stdout().contains("whole: nothing is damaged"), "{}", whole.stdout());
    });
}
