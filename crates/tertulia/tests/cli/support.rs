//! Runs the binary: every process is killed by its id in the end, and says what it said when something is not as it should be.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::process::{Child, ChildStdin, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use serde_json::Value;
use tempfile::TempDir;

/// Nothing here takes as long as this; a loaded machine may be slow.
pub const WITHIN: Duration = Duration::from_secs(30);

/// A user of their own: folders and a name that nobody else has.
pub struct User {
    pub home: TempDir,
    name: String,
    /// How many open files its programs may have, where not as many as the test.
    files: Option<u32>,
}

impl User {
    pub fn new() -> Self {
        Self { home: tempfile::tempdir().unwrap(), name: "tester".to_owned(), files: None }
    }

    /// One whose programs may have so many open files.
    pub fn with_files(files: u32) -> Self {
        Self { files: Some(files), ..Self::new() }
    }

    /// The binary with these arguments, nothing else from outside.
    pub fn command(&self, args: &[&str]) -> Command {
        let binary = env!("CARGO_BIN_EXE_tertulia");
        let mut command = Command::new(binary);
        if let Some(files) = self.files {
            command = Command::new("sh");
            command.args(["-c", &format!("ulimit -n {files} && exec \"$0\" \"$@\""), binary]);
        }
        for (key, _) in std::env::vars_os() {
            if key.to_string_lossy().starts_with("TERTULIA_") {
                command.env_remove(key);
            }
        }
        command
            .args(args)
            .env("HOME", self.home.path())
            .env("USER", &self.name)
            // Many nodes at once: none of them at the port that is the default.
            .env("TERTULIA_HTTP_PORT", "0")
            .env_remove("XDG_CONFIG_HOME")
            .env_remove("XDG_STATE_HOME")
            .env_remove("XDG_DATA_HOME")
            .env_remove("RUST_LOG")
            .stdin(Stdio::null());
        command
    }

    /// Runs it to its end.
    pub fn run(&self, args: &[&str]) -> Ended {
        Ended(self.command(args).output().unwrap())
    }

    /// Runs it to its end with this on standard input.
    pub fn run_with(&self, args: &[&str], input: &str) -> Ended {
        let mut running = self.spawn(args);
        // Whoever is refused before it reads ends without it.
        match running.stdin.as_mut().unwrap().write_all(input.as_bytes()) {
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {}
            written => written.unwrap(),
        }
        running.close_input();
        let status = running.end();
        let stdout = running.stdout.all();
        let stderr = running.stderr.all();
        Ended(Output { status, stdout: stdout.into_bytes(), stderr: stderr.into_bytes() })
    }

    pub fn spawn(&self, args: &[&str]) -> Running {
        self.spawn_by(args, self.command(args))
    }

    /// The same by a command that was made otherwise ready.
    pub fn spawn_by(&self, args: &[&str], mut command: Command) -> Running {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Running::new(args.join(" "), command)
    }
}

/// What came of a command.
pub struct Ended(pub Output);

impl Ended {
    pub fn code(&self) -> Option<i32> {
        self.0.status.code()
    }

    pub fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.0.stdout).into_owned()
    }

    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.0.stderr).into_owned()
    }

    /// Panics unless it ended so.
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(
            self.code(),
            Some(code),
            "stdout:\n{}\nstderr:\n{}",
            self.stdout(),
            self.stderr()
        );
        self
    }

    /// The objects on standard output, one a line.
    #[track_caller]
    pub fn objects(&self) -> Vec<Value> {
        self.stdout().lines().map(|line| object(line)).collect()
    }
}

#[track_caller]
pub fn object(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{line:?}: {error}"))
}

/// One of a process's outputs, line by line.
pub struct Stream {
    lines: Receiver<String>,
    seen: Arc<Mutex<String>>,
}

impl Stream {
    fn read(from: impl Read + Send + 'static) -> Self {
        let (sender, lines) = channel();
        let seen = Arc::new(Mutex::new(String::new()));
        let log = Arc::clone(&seen);
        std::thread::spawn(move || {
            for line in BufReader::new(from).lines().map_while(Result::ok) {
                let mut log = log.lock().unwrap();
                log.push_str(&line);
                log.push('\n');
                drop(log);
                let _ = sender.send(line);
            }
        });
        Self { lines, seen }
    }

    /// Everything until its end.
    fn all(&self) -> String {
        while self.lines.recv().is_ok() {}
        self.seen()
    }

    fn seen(&self) -> String {
        self.seen.lock().unwrap().clone()
    }
}

/// A process, and what it has said.
pub struct Running {
    name: String,
    child: Child,
    stdin: Option<ChildStdin>,
    pub stdout: Stream,
    pub stderr: Stream,
    status: Option<ExitStatus>,
}

impl Running {
    fn new(name: String, mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let stdout = Stream::read(child.stdout.take().unwrap());
        let stderr = Stream::read(child.stderr.take().unwrap());
        let stdin = child.stdin.take();
        Self { name, child, stdin, stdout, stderr, status: None }
    }

    /// The next line of standard output that has this in it.
    #[track_caller]
    pub fn says(&self, part: &str) -> String {
        self.wait_for(&self.stdout, part)
    }

    /// The same of standard error.
    #[track_caller]
    pub fn notes(&self, part: &str) -> String {
        self.wait_for(&self.stderr, part)
    }

    #[track_caller]
    fn wait_for(&self, stream: &Stream, part: &str) -> String {
        let until = Instant::now() + WITHIN;
        loop {
            match stream.lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(line) if line.contains(part) => return line,
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => self.fail(&format!("{part:?} did not come")),
                Err(RecvTimeoutError::Disconnected) => {
                    self.fail(&format!("ended without {part:?}"))
                }
            }
        }
    }

    #[track_caller]
    fn fail(&self, what: &str) -> ! {
        let (stdout, stderr) = (self.stdout.seen(), self.stderr.seen());
        panic!("tertulia {}: {what}\nstdout:\n{stdout}\nstderr:\n{stderr}", self.name)
    }

    /// The lines of standard output so far.
    pub fn said(&self) -> String {
        self.stdout.seen()
    }

    /// The lines of standard error so far.
    pub fn noted(&self) -> String {
        self.stderr.seen()
    }

    pub fn write(&mut self, text: &str) {
        self.stdin.as_mut().unwrap().write_all(text.as_bytes()).unwrap();
    }

    /// Standard input, to be written and closed by somebody else.
    pub fn take_input(&mut self) -> ChildStdin {
        self.stdin.take().unwrap()
    }

    /// Everything that it has said, once it has ended.
    pub fn all_said(&self) -> String {
        self.stdout.all()
    }

    /// The same of standard error.
    pub fn all_noted(&self) -> String {
        self.stderr.all()
    }

    pub fn close_input(&mut self) {
        self.stdin = None;
    }

    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// How much memory it has: now, or at most so far (`VmRSS`, `VmHWM`).
    pub fn memory(&self, field: &str) -> u64 {
        let pid = self.pid().as_raw_nonzero();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
        line.trim_start_matches(':').trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// Stops it, and waits until it is.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
        waitpid(Some(self.pid()), WaitOptions::UNTRACED).unwrap();
    }

    /// Waits for its end.
    #[track_caller]
    pub fn end(&mut self) -> ExitStatus {
        let until = Instant::now() + WITHIN;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                self.status = Some(status);
                return status;
            }
            if Instant::now() > until {
                self.fail("does not end");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Sends the signal, and expects this exit code.
    #[track_caller]
    pub fn end_by(&mut self, signal: Signal, code: i32) {
        self.signal(signal);
        let status = self.end();
        if status.code() != Some(code) {
            self.fail(&format!("ended with {status}, not {code}"));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.status.is_none() {
            // By its id: `Child` knows whether it is still ours.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        if std::thread::panicking() {
            let (stdout, stderr) = (self.stdout.seen(), self.stderr.seen());
            eprintln!("--- tertulia {}\nstdout:\n{stdout}\nstderr:\n{stderr}", self.name);
        }
    }
}

/// A node on free ports, and a user beside it.
pub struct Node {
    pub user: User,
    pub data: TempDir,
    pub process: Running,
    pub native: String,
    pub line: String,
    pub http: String,
}

impl Node {
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    pub fn start_with(more: &[&str]) -> Self {
        Self::start_by(User::new(), more)
    }

    pub fn start_by(user: User, more: &[&str]) -> Self {
        let data = tempfile::tempdir().unwrap();
        let process = serve(&user, data.path().to_str().unwrap(), more);
        let endpoints =
            object(&std::fs::read_to_string(data.path().join("endpoints.json")).unwrap());
        let door = |name: &str| endpoints[name].as_str().unwrap_or_default().to_owned();
        let (native, line, http) = (door("native"), door("line"), door("http"));
        Self { user, data, process, native, line, http }
    }

    /// One whose native port is its own after a crash, too.
    pub fn start_again() -> Self {
        let port = free_port().to_string();
        Self::start_with(&["--native-port", &port])
    }

    /// Ends it as a crash does.
    pub fn kill(&mut self) {
        self.process.signal(Signal::KILL);
        self.process.end();
    }

    /// Starts it again with the same store, at the same native port.
    #[track_caller]
    pub fn restart(&mut self) {
        let port = self.native.rsplit(':').next().unwrap();
        let data = self.data.path().to_str().unwrap();
        self.process = serve(&self.user, data, &["--native-port", port]);
    }

    /// How much memory the node has: now, or at most so far (`VmRSS`, `VmHWM`).
    pub fn memory(&self, field: &str) -> u64 {
        self.process.memory(field)
    }

    fn with_node<'a>(&'a self, args: &[&'a str]) -> Vec<&'a str> {
        let mut all = args.to_vec();
        all.extend(["--node", &self.native]);
        all
    }

    /// A client command to its end.
    pub fn run(&self, args: &[&str]) -> Ended {
        self.user.run(&self.with_node(args))
    }

    pub fn run_with(&self, args: &[&str], input: &str) -> Ended {
        self.user.run_with(&self.with_node(args), input)
    }

    /// A client command that goes on.
    pub fn spawn(&self, args: &[&str]) -> Running {
        self.user.spawn(&self.with_node(args))
    }

    /// A member, once it is one; with the group that it is in and its name.
    #[track_caller]
    pub fn join(&self, args: &[&str]) -> Running {
        let mut all = vec!["join"];
        all.extend(args);
        let running = self.spawn(&all);
        running.notes(" as ");
        running
    }

    /// The receipt of a message, when everybody has it.
    #[track_caller]
    pub fn receipt(&self, group: &str, seq: &str) -> Value {
        let ended = self.run(&["receipt", group, seq, "--wait", "20s", "--json"]).expect(0);
        ended.objects().remove(0)
    }
}

/// A port that the system gives nobody by itself, so that it is still free after a crash; nor is it another test's.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = 20_000 + (std::process::id() % 100) as u16 * 100;
    loop {
        let port = first + NEXT.fetch_add(1, Ordering::Relaxed) % 10_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// A node that is ready.
#[track_caller]
pub fn serve(user: &User, data: &str, more: &[&str]) -> Running {
    let mut args = vec!["serve", "--data", data];
    if !more.contains(&"--native-port") && !more.contains(&"--address") {
        args.extend(["--native-port", "0"]);
    }
    if !more.contains(&"--line-port") && !more.contains(&"--no-line") {
        args.extend(["--line-port", "0"]);
    }
    args.extend(more);
    let process = user.spawn(&args);
    process.says("native");
    process
}
