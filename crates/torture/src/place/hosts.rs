//! Hosts: network namespaces with a cable each to one switch, which is a bridge in a namespace of its own.

use std::ffi::OsStr;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use rustix::fs::{Mode, OFlags};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::tools::{program, run, words};

/// The node's address; clients have those from 11 on.
const NODE: Ipv4Addr = Ipv4Addr::new(10, 78, 0, 1);

/// A computer of the place, which is a network namespace. A handle: it may be cloned and sent to any thread, and is of no
/// use once the place is gone.
#[derive(Clone, Debug)]
pub struct Host {
    /// `node`, or `client1` and so on.
    pub name: String,
    /// Where the other hosts reach it.
    pub address: Ipv4Addr,
    space: String,
}

impl Host {
    /// Puts this thread on the host, for good: its sockets from now on, and the threads and processes that it starts from
    /// now on. Sockets that it has stay where they were made. A runtime with threads of its own has to be built afterwards.
    pub fn enter(&self) -> Result<()> {
        let path = self.path();
        let opened = rustix::fs::open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
        let space = opened.with_context(|| path.display().to_string())?;
        move_into_link_name_space(
            std::os::fd::AsFd::as_fd(&space),
            Some(LinkNameSpaceType::Network),
        )
        .with_context(|| format!("cannot enter {}", self.name))
    }

    /// Does something on the host, in a thread of its own.
    pub fn on<T: Send>(&self, what: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| self.enter().and_then(|()| what()));
            thread.join().map_err(|_| anyhow!("a thread on {} panicked", self.name))?
        })
    }

    /// A program that will run on the host, and whose process id is the one that its starter gets. It is wrapped: to take
    /// a variable out of its environment, or to put a library before it, use [`Self::spawn`].
    pub fn command(&self, name: impl AsRef<OsStr>) -> Command {
        let mut command = program("nsenter");
        let mut space = std::ffi::OsString::from("--net=");
        space.push(self.path());
        command.arg(space).arg("--").arg(name);
        command
    }

    /// Starts a program on the host.
    pub fn spawn(&self, command: &mut Command) -> Result<Child> {
        self.on(|| command.spawn().with_context(|| format!("{command:?} cannot be started")))
    }

    /// Whether one can connect to there from here.
    pub fn reaches(&self, to: SocketAddr, within: Duration) -> Result<()> {
        self.on(|| {
            TcpStream::connect_timeout(&to, within)
                .map(drop)
                .with_context(|| format!("{to} is not reached from {}", self.name))
        })
    }

    fn path(&self) -> PathBuf {
        PathBuf::from("/run/netns").join(&self.space)
    }

    /// `ip …` on the host.
    fn ip(&self, arguments: &str) -> Result<()> {
        run(words("ip", &format!("-n {} {arguments}", self.space))).map(drop)
    }
}

/// All hosts of a place; [`leftovers`](super::leftovers) removes them.
pub struct Hosts {
    pub node: Host,
    pub clients: Vec<Host>,
}

impl Hosts {
    /// Makes them, with cables.
    pub fn new(place: &str, clients: u8) -> Result<Self> {
        let host = |name: &str, address| Host {
            name: name.to_owned(),
            address,
            space: format!("{place}-{name}"),
        };
        let switch = host("switch", Ipv4Addr::UNSPECIFIED);
        add(&switch)?;
        switch.ip("link add switch type bridge")?;
        switch.ip("link set switch up")?;
        let address = |number: u8| Ipv4Addr::new(10, 78, 0, 10 + number);
        let hosts = Self {
            node: host("node", NODE),
            clients: (1..=clients).map(|n| host(&format!("client{n}"), address(n))).collect(),
        };
        for host in std::iter::once(&hosts.node).chain(&hosts.clients) {
            add(host)?;
            let (name, space) = (&host.name, &host.space);
            switch.ip(&format!("link add {name} type veth peer name cable netns {space}"))?;
            switch.ip(&format!("link set {name} master switch up"))?;
            host.ip(&format!("address add {}/24 dev cable", host.address))?;
            host.ip("link set cable up")?;
        }
        Ok(hosts)
    }
}

fn add(host: &Host) -> Result<()> {
    run(words("ip", &format!("netns add {}", host.space)))?;
    host.ip("link set lo up")
}
