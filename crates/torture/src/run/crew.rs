//! The client processes: started on their hosts, listened to, killed and stopped.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::clients::{Order, Role, Status};
use crate::place::Host;

/// What all client processes are told.
#[derive(Clone, Debug)]
pub struct Common {
    /// This program.
    pub program: PathBuf,
    /// Where they write.
    pub folder: PathBuf,
    /// The node's doors.
    pub native: String,
    /// See [`Common::native`].
    pub line: String,
    /// The groups.
    pub groups: Vec<String>,
    /// The `tertulia` program.
    pub binary: PathBuf,
    /// Decides what they do.
    pub seed: u64,
}

/// What they have said, and that one has said something.
#[derive(Debug, Default)]
struct Board {
    statuses: Mutex<Vec<Status>>,
    news: Condvar,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Debug)]
struct Client {
    name: String,
    role: Role,
    host: Host,
    life: u64,
    child: Child,
    orders: ChildStdin,
    /// Stored in earlier lives.
    stored: u64,
}

/// All client processes.
#[derive(Debug)]
pub struct Crew {
    common: Common,
    clients: Vec<Client>,
    board: Arc<Board>,
    era: u64,
    goes: bool,
}

impl Crew {
    /// Starts one process of each kind given; they are quiet.
    pub fn start(common: Common, members: &[(Role, &str, Host)]) -> Result<Self> {
        let board = Arc::<Board>::default();
        *locked(&board.statuses) = vec![Status::default(); members.len()];
        let mut crew = Self { common, clients: Vec::new(), board, era: 1, goes: false };
        for (index, (role, name, host)) in members.iter().enumerate() {
            let client = crew.spawn(index, *role, name, host.clone(), 1, 0)?;
            crew.clients.push(client);
        }
        Ok(crew)
    }

    fn spawn(
        &self,
        index: usize,
        role: Role,
        name: &str,
        host: Host,
        life: u64,
        stored: u64,
    ) -> Result<Client> {
        let common = &self.common;
        let mut command = host.command(&common.program);
        command.args(["client", "--role", role.name(), "--name", name]);
        command.args(["--life", &life.to_string(), "--era", &self.era.to_string()]);
        command.arg("--folder").arg(&common.folder).arg("--binary").arg(&common.binary);
        command.args(["--native", &common.native, "--line", &common.line]);
        command.args(["--groups", &common.groups.join(",")]);
        command.args(["--seed", &(common.seed ^ index as u64).to_string()]);
        let errors = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(common.folder.join(format!("{name}.err")))?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(errors);
        let mut child = command.spawn().with_context(|| format!("cannot start {name}"))?;
        let orders = child.stdin.take().context("no standard input")?;
        let said = child.stdout.take().context("no standard output")?;
        locked(&self.board.statuses)[index] = Status::default();
        let board = Arc::clone(&self.board);
        std::thread::spawn(move || {
            for line in BufReader::new(said).lines() {
                let Ok(line) = line else { return };
                // A killed process may leave half a line.
                let Ok(status) = serde_json::from_str(&line) else { return };
                locked(&board.statuses)[index] = status;
                board.news.notify_all();
            }
        });
        Ok(Client { name: name.to_owned(), role, host, life, child, orders, stored })
    }

    /// Says it to everybody.
    pub fn order(&mut self, order: Order) -> Result<()> {
        match order {
            Order::Go => self.goes = true,
            Order::Pause => self.goes = false,
            Order::Era(era) => self.era = era,
        }
        for client in &mut self.clients {
            say(client, order)?;
        }
        Ok(())
    }

    /// Waits until what everybody says is enough; fails with who says what.
    pub fn wait(
        &mut self,
        within: Duration,
        mut is_enough: impl FnMut(&[Status]) -> bool,
    ) -> Result<()> {
        let until = Instant::now() + within;
        let board = Arc::clone(&self.board);
        let mut statuses = locked(&board.statuses);
        while !is_enough(&statuses) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let all = self.clients.iter().zip(statuses.iter());
                let all: Vec<String> =
                    all.map(|(client, status)| format!("{}: {status:?}", client.name)).collect();
                bail!("not within {within:?}: {}", all.join("; "));
            }
            let turn = left.min(Duration::from_millis(500));
            statuses =
                board.news.wait_timeout(statuses, turn).unwrap_or_else(PoisonError::into_inner).0;
            drop(statuses);
            self.look()?;
            statuses = locked(&board.statuses);
        }
        Ok(())
    }

    /// What they have said last.
    pub fn statuses(&self) -> Vec<Status> {
        locked(&self.board.statuses).clone()
    }

    /// Messages that were answered as stored so far, by all in all their lives. As far as they have said so.
    pub fn stored(&self) -> u64 {
        let before: u64 = self.clients.iter().map(|client| client.stored).sum();
        before + locked(&self.board.statuses).iter().map(|status| status.stored).sum::<u64>()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.clients.len()
    }

    /// One that ended by itself has found something that cannot be.
    pub fn look(&mut self) -> Result<()> {
        for client in &mut self.clients {
            if let Some(status) = client.child.try_wait()? {
                let path = self.common.folder.join(format!("{}.err", client.name));
                let said = std::fs::read_to_string(path).unwrap_or_default();
                bail!("{} ended ({}): {}", client.name, how(status), said.trim());
            }
        }
        Ok(())
    }

    /// Kills one with SIGKILL and starts it again, with what it has saved. Its name.
    pub fn kill(&mut self, index: usize) -> Result<String> {
        let client = &mut self.clients[index];
        client.child.kill()?;
        client.child.wait()?;
        let stored = client.stored + locked(&self.board.statuses)[index].stored;
        let (name, role, host) = (client.name.clone(), client.role, client.host.clone());
        let life = client.life + 1;
        self.clients[index] = self.spawn(index, role, &name, host, life, stored)?;
        if self.goes {
            say(&mut self.clients[index], Order::Go)?;
        }
        Ok(name)
    }

    /// Stops one (SIGSTOP), or lets it go on (SIGCONT). Its name.
    pub fn signal(&self, index: usize, stop: bool) -> Result<String> {
        let client = &self.clients[index];
        let pid = i32::try_from(client.child.id()).ok().and_then(Pid::from_raw);
        let signal = if stop { Signal::STOP } else { Signal::CONT };
        kill_process(pid.context("no process")?, signal)?;
        Ok(client.name.clone())
    }

    /// Ends all of them.
    pub fn end(&mut self) {
        for client in &mut self.clients {
            let _ = client.child.kill();
            let _ = client.child.wait();
        }
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        self.end();
    }
}

fn say(client: &mut Client, order: Order) -> Result<()> {
    let mut line = serde_json::to_vec(&order)?;
    line.push(b'\n');
    let said = client.orders.write_all(&line).and_then(|()| client.orders.flush());
    said.with_context(|| format!("{} does not listen", client.name))
}

fn how(status: ExitStatus) -> String {
    status.signal().map_or_else(|| status.to_string(), |signal| format!("signal {signal}"))
}
