//! Runs programs that are not ours (`nc`, `ip`, `python3`), and skips what needs one that is not there.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use crate::support::WITHIN;

/// Whether it can be run. Who has it not is told that a test was skipped; continuous integration has to have it.
pub fn is_there(program: &str) -> bool {
    let mut command = Command::new(program);
    command.arg("-h").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    match command.status() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            skipped(&format!("{program} is not installed"));
            false
        }
        _ => true,
    }
}

/// Says that a test cannot be run here; on continuous integration that is a failure.
pub fn skipped(why: &str) {
    assert!(std::env::var("CI").as_deref() != Ok("true"), "cannot be run: {why}");
    eprintln!("skipped: {why}");
}

/// A process, and the lines of both its outputs.
pub struct Program {
    name: String,
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Program {
    pub fn spawn(mut command: Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let words: Vec<_> = command.get_args().map(|word| word.to_string_lossy()).collect();
        let name = format!("{} {}", command.get_program().display(), words.join(" "));
        let (sender, lines) = channel();
        let seen = Arc::default();
        read(child.stdout.take().unwrap(), sender.clone(), Arc::clone(&seen));
        read(child.stderr.take().unwrap(), sender, Arc::clone(&seen));
        let stdin = child.stdin.take();
        Self { name, child, stdin, lines, seen }
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The next line that has this in it.
    #[track_caller]
    pub fn says(&self, part: &str) -> String {
        let until = Instant::now() + WITHIN;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) if line.contains(part) => return line,
                Ok(_) => {}
                Err(_) => panic!("{part:?} did not come\n{}", self.story()),
            }
        }
    }

    /// All lines so far.
    pub fn said(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }

    pub fn write(&mut self, text: &str) {
        self.stdin.as_mut().unwrap().write_all(text.as_bytes()).unwrap();
    }

    /// Ends it suddenly.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits for its end, which comes with the end of its outputs.
    #[track_caller]
    pub fn end(&mut self) -> Option<i32> {
        self.stdin = None;
        let until = Instant::now() + WITHIN;
        while self.lines.recv_timeout(until.saturating_duration_since(Instant::now())).is_ok() {}
        assert!(Instant::now() < until, "does not end\n{}", self.story());
        self.child.wait().unwrap().code()
    }

    fn story(&self) -> String {
        format!("--- {}\n{}", self.name, self.said().join("\n"))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // By its id: `Child` knows whether it is still ours.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("{}", self.story());
        }
    }
}

fn read(from: impl Read + Send + 'static, to: Sender<String>, seen: Arc<Mutex<Vec<String>>>) {
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            seen.lock().unwrap().push(line.clone());
            let _ = to.send(line);
        }
    });
}

/// The command with a disk of its own of this size at the folder, which goes with the process; root only.
pub fn on_small_disk(of: &Command, folder: &str, size: &str) -> Command {
    let mut command = Command::new("unshare");
    let mount = format!("mount -t tmpfs -o size={size} none \"$0\" && exec \"$@\"");
    command.args(["-m", "sh", "-c", &mount, folder]);
    command.arg(of.get_program()).args(of.get_args());
    for (key, value) in of.get_envs() {
        match value {
            Some(value) => command.env(key, value),
            None => command.env_remove(key),
        };
    }
    command
}
