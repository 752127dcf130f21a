//! A node that has grown: what it is filled with, and the little group in which operations are done.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use bytes::BytesMut;
use rustix::net::{AddressFamily, SocketType};
use tertulia_wire::native::{Hello, Join, OpenSender, Start, VERSION};
use tertulia_wire::{ClientFrame, NodeFrame};

use super::churn::{self, Churn};
use super::{Back, Size};
use crate::peers::tertulia::{hear, id, send};
use crate::served::{PATIENCE, Served};

/// The group in which operations are done.
pub const GROUP: &str = "work";
/// Members that it has all the time.
pub const MEMBERS: usize = 10;
/// Members of each group whose members only are there.
pub const IDLE_GROUP: usize = 100;
/// Asked at once while a node is filled.
const AT_ONCE: usize = 128;
/// Messages that are sent at once.
const BLOCK: usize = 2048;
/// All messages are as long.
pub const BODY: [u8; 100] = [b'.'; 100];
/// Those that idle are looked at for so long: as long as from one heartbeat to the next.
const IDLE: Duration = Duration::from_secs(1);

/// See the module.
pub struct Grown {
    pub served: Served,
    pub members: Vec<TcpStream>,
    pub sender: TcpStream,
    pub counter: u64,
    _idle: Vec<TcpStream>,
    /// How many come and go in a second, and those who do; the number of the next.
    visits: u32,
    churn: Option<Churn>,
    next_visit: u32,
    /// So many connections have been made: each has an address of its own, since a node paces what one address does.
    conns: u32,
}

impl Grown {
    /// Starts a node, with the embedded store and fsync, within this folder, and fills it.
    pub fn new(program: &Path, within: &Path, size: Size) -> Result<Self> {
        let served = Served::on_a_port(within, |folder, port| {
            let mut command = Command::new(program);
            command.args(["serve", "--no-line", "--no-http", "-q", "--engine", "embedded"]);
            command.args(["--native-port", &port.to_string(), "--keep", "1d,4GiB", "--data"]);
            command.arg(folder.join("data"));
            command
        })?;
        let mut conns = 0;
        let mut first = connect(served.address, &mut conns)?;
        create(&mut first, &[GROUP.to_owned()])?;
        let groups: Vec<String> = (1..size.groups).map(|n| format!("empty{n:05}")).collect();
        create(&mut first, &groups)?;
        let sender = open_sender(served.address, &mut conns)?;
        let mut grown = Self {
            served,
            members: Vec::new(),
            sender,
            counter: 0,
            _idle: Vec::new(),
            visits: u32::try_from(size.visits)?,
            churn: None,
            next_visit: churn::FIRST,
            conns,
        };
        grown.write_history(size.history)?;
        grown.come_and_go(size.gone)?;
        grown.add_idle(&mut first, size.idle)?;
        for _ in 0..MEMBERS {
            let member = grown.join(GROUP)?;
            grown.members.push(member);
        }
        Ok(grown)
    }

    pub fn connect(&mut self) -> Result<TcpStream> {
        connect(self.served.address, &mut self.conns)
    }

    /// A new member of a group.
    pub fn join(&mut self, group: &str) -> Result<TcpStream> {
        join(self.served.address, &mut self.conns, group)
    }

    /// Somebody joins and leaves.
    pub fn visit(&mut self) -> Result<()> {
        visit(self.served.address, &mut self.conns)
    }

    /// From now on members come and go.
    pub fn start_visits(&mut self) {
        let start = || Churn::start(self.served.address, self.visits, self.next_visit);
        self.churn = (self.visits > 0).then(start);
    }

    /// And from now on none.
    pub fn end_visits(&mut self) -> Result<()> {
        if let Some(churn) = self.churn.take() {
            self.next_visit = churn.end()?;
        }
        Ok(())
    }

    fn write_history(&mut self, messages: usize) -> Result<()> {
        for from in (0..messages).step_by(BLOCK) {
            let mut block = BytesMut::new();
            for _ in from..messages.min(from + BLOCK) {
                self.counter += 1;
                let counter = self.counter;
                tertulia_wire::native::write_publish(&mut block, "bench", counter, false, &BODY);
            }
            self.sender.write_all(&block)?;
            self.until_stored(self.counter)?;
        }
        Ok(())
    }

    /// The sender is told that this message is stored.
    pub fn until_stored(&mut self, counter: u64) -> Result<()> {
        loop {
            if let NodeFrame::Stored(runs) = hear(&mut self.sender)?
                && runs.iter().any(|run| run.counter + u64::from(run.count) > counter)
            {
                return Ok(());
            }
        }
    }

    fn come_and_go(&mut self, count: usize) -> Result<()> {
        for from in (0..count).step_by(AT_ONCE) {
            let (node, conns) = (self.served.address, &mut self.conns);
            let asked: Result<Vec<TcpStream>> = (from..count.min(from + AT_ONCE))
                .map(|_| ask_to_join(node, conns, GROUP))
                .collect();
            let mut asked = asked?;
            asked.iter_mut().try_for_each(until_joined)?;
            for stream in &mut asked {
                send(stream, &ClientFrame::Leave)?;
            }
            asked.iter_mut().try_for_each(until_end)?;
        }
        Ok(())
    }

    fn add_idle(&mut self, first: &mut TcpStream, count: usize) -> Result<()> {
        let names = |n: usize| format!("idle{n:03}");
        create(first, &(0..count.div_ceil(IDLE_GROUP)).map(names).collect::<Vec<_>>())?;
        for from in (0..count).step_by(IDLE_GROUP) {
            let (node, conns, group) =
                (self.served.address, &mut self.conns, names(from / IDLE_GROUP));
            let asked: Result<Vec<TcpStream>> = (from..count.min(from + IDLE_GROUP))
                .map(|_| ask_to_join(node, conns, &group))
                .collect();
            let mut asked = asked?;
            asked.iter_mut().try_for_each(until_joined)?;
            self._idle.extend(asked);
        }
        Ok(())
    }

    /// CPU time that the node uses in a second in which nobody asks it for anything.
    pub fn idle_cpu(&self) -> Result<Duration> {
        let before = self.served.process().cpu()?;
        std::thread::sleep(IDLE);
        let used = self.served.process().cpu()?.saturating_sub(before);
        Ok(used.div_f64(IDLE.as_secs_f64()))
    }

    /// Kills the node and starts it again.
    pub fn back(mut self) -> Result<Back> {
        // The clock starts when the old one has gone: how long that takes is the kernel's.
        self.served.kill()?;
        let began = Instant::now();
        self.served.start()?;
        let listens = began.elapsed();
        let mut asking = self.connect()?;
        let (id, after) = (1, String::new());
        send(&mut asking, &ClientFrame::Groups { id, after, limit: 100 })?;
        let NodeFrame::GroupsPage { items, .. } = hear(&mut asking)? else {
            bail!("the question for groups is answered with something else")
        };
        ensure!(!items.is_empty(), "its groups are gone");
        let lists = began.elapsed();
        self.sender = open_sender(self.served.address, &mut self.conns)?;
        let mut out = BytesMut::new();
        tertulia_wire::native::write_publish(&mut out, "bench", 1, false, &BODY);
        self.sender.write_all(&out)?;
        self.until_stored(1)?;
        Ok(Back { listens, lists, stores: began.elapsed() })
    }
}

fn hello() -> ClientFrame {
    let (version, agent) = (VERSION, "bench".to_owned());
    ClientFrame::Hello(Hello { version, features: 0, agent })
}

/// A connection from a loopback address of its own, on which nothing has been said.
fn reach(node: SocketAddr, conns: &mut u32) -> Result<TcpStream> {
    *conns += 1;
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None)?;
    let own = Ipv4Addr::from(u32::from(Ipv4Addr::new(127, 1, 0, 0)) + *conns);
    rustix::net::bind(&socket, &SocketAddr::V4(SocketAddrV4::new(own, 0)))?;
    rustix::net::connect(&socket, &node)?;
    let stream = TcpStream::from(socket);
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

fn connect(node: SocketAddr, conns: &mut u32) -> Result<TcpStream> {
    let mut stream = reach(node, conns)?;
    send(&mut stream, &hello())?;
    until_greeted(&mut stream)?;
    Ok(stream)
}

/// A new member of a group, without waiting for the answers.
fn ask_to_join(node: SocketAddr, conns: &mut u32, group: &str) -> Result<TcpStream> {
    let mut stream = reach(node, conns)?;
    send(&mut stream, &hello())?;
    let number = *conns as usize;
    let join = Join {
        id: 1,
        durable: false,
        follow: false,
        group: group.to_owned(),
        name: format!("member{number}"),
        sender: id(number, false),
        start: Start::Now,
        secret: None,
        position: None,
    };
    send(&mut stream, &ClientFrame::Join(Box::new(join)))?;
    Ok(stream)
}

fn join(node: SocketAddr, conns: &mut u32, group: &str) -> Result<TcpStream> {
    let mut stream = ask_to_join(node, conns, group)?;
    until_joined(&mut stream)?;
    Ok(stream)
}

/// Somebody joins the group in which operations are done, and leaves it.
pub fn visit(node: SocketAddr, conns: &mut u32) -> Result<()> {
    let mut member = join(node, conns, GROUP)?;
    send(&mut member, &ClientFrame::Leave)?;
    until_end(&mut member)
}

fn until_greeted(stream: &mut TcpStream) -> Result<()> {
    match hear(stream)? {
        NodeFrame::Greeting(_) => Ok(()),
        other => bail!("HELLO is answered {other:?}"),
    }
}

fn until_joined(stream: &mut TcpStream) -> Result<()> {
    until_greeted(stream)?;
    match hear(stream)? {
        NodeFrame::Welcome(_) => Ok(()),
        other => bail!("JOIN is answered {other:?}"),
    }
}

/// Whatever comes before the connection's end.
fn until_end(stream: &mut TcpStream) -> Result<()> {
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).context("a member that leaves is let go")?;
    Ok(())
}

fn open_sender(node: SocketAddr, conns: &mut u32) -> Result<TcpStream> {
    let mut stream = connect(node, conns)?;
    let (known, follow, name, group) = (false, false, "bench".to_owned(), GROUP.to_owned());
    let sender = id(*conns as usize, true);
    send(
        &mut stream,
        &ClientFrame::OpenSender(OpenSender { id: 1, known, follow, group, name, sender }),
    )?;
    match hear(&mut stream)? {
        NodeFrame::SenderReady(_) => Ok(stream),
        other => bail!("OPEN_SENDER is answered {other:?}"),
    }
}

fn create(stream: &mut TcpStream, groups: &[String]) -> Result<()> {
    for some in groups.chunks(AT_ONCE) {
        for group in some {
            send(stream, &ClientFrame::Create { id: 1, group: group.clone(), rules: None })?;
        }
        for group in some {
            match hear(stream)? {
                NodeFrame::Done { .. } => {}
                other => bail!("CREATE of {group} is answered {other:?}"),
            }
        }
    }
    Ok(())
}
