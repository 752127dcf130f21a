//! Waiting for many sockets at once (epoll, edge-triggered), each known by a number.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::epoll;
use rustix::time::Timespec;

/// See the module.
pub struct Poll {
    fd: OwnedFd,
    events: Vec<MaybeUninit<epoll::Event>>,
}

impl Poll {
    /// Waits for nothing yet.
    pub fn new() -> io::Result<Self> {
        let fd = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        Ok(Self { fd, events: vec![MaybeUninit::uninit(); 1024] })
    }

    /// From now on `number` is told when there is something to read or room to write.
    pub fn add(&self, socket: impl AsFd, number: u64) -> io::Result<()> {
        let flags = epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::RDHUP;
        let data = epoll::EventData::new_u64(number);
        Ok(epoll::add(&self.fd, socket, data, flags | epoll::EventFlags::ET)?)
    }

    /// The same, for a listener.
    pub fn add_listener(&self, socket: impl AsFd, number: u64) -> io::Result<()> {
        let data = epoll::EventData::new_u64(number);
        Ok(epoll::add(&self.fd, socket, data, epoll::EventFlags::IN)?)
    }

    /// Numbers that have something to read or room to write, at the latest after `within`: (number, may read, may write).
    pub fn wait(&mut self, within: Option<Duration>) -> io::Result<Vec<(u64, bool, bool)>> {
        let within = within.map(|within| Timespec::try_from(within).expect("seconds"));
        let (told, _) = match epoll::wait(&self.fd, &mut self.events[..], within.as_ref()) {
            Ok(told) => told,
            Err(rustix::io::Errno::INTR) => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        };
        let read = epoll::EventFlags::IN | epoll::EventFlags::RDHUP | epoll::EventFlags::HUP;
        let told = told.iter().map(|event| {
            let flags = event.flags;
            (event.data.u64(), flags.intersects(read), flags.contains(epoll::EventFlags::OUT))
        });
        Ok(told.collect())
    }
}
