//! Shards: threads that each run the groups given to them, and the mailbox through which the rest of the node reaches these.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tertulia_group::{
    ConnId, Incarnation, Input, Moved, Name, Position, Presence, Receipt, Refusal, Seq,
};
use tertulia_wire::Code;
use tertulia_wire::line::LineSplitter;
use tertulia_wire::native::MemberItem;
use tokio::runtime::LocalOptions;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::accounts::Pass;
use crate::beating::Beats;
use crate::conn::Conn;
use crate::directory::Directory;
use crate::doors::{line_session, native_session};
use crate::feed::Feed;
use crate::hosted::{Answer, Down, GroupKey, Hosted, Stats, Stored};
use crate::keeping;
use crate::listing;
use crate::metrics::Crowd;
use crate::recovering::Recovered;
use crate::remote::{self, Said};
use crate::shared::{Counted, Shared};
use crate::stream::Detached;

/// Jobs that wait for a shard; whoever brings more waits.
const JOBS_MAX: usize = 1024;
/// What a clean end waits for at most.
const END_WAIT: Duration = Duration::from_secs(10);

/// So often the cursors are stored at the end: members may go on confirming while it lasts.
const LAST_CHECKPOINTS: usize = 3;

/// Between two looks at whether all is stored, at the end.
const STORED_WAIT: Duration = Duration::from_millis(5);

/// What a connection needs on its shard, besides its socket.
pub(crate) struct Entrant {
    pub conn: ConnId,
    pub door: tertulia_group::Door,
    pub address: std::net::IpAddr,
    pub pass: Option<Pass>,
}

/// A connection that has entered its group and goes on at the group's shard.
pub(crate) struct Attachment {
    pub conn: ConnId,
    pub stream: Detached,
    /// What came after the request.
    pub inbound: BytesMut,
    pub counted: Counted,
    pub door: AttachedDoor,
}

/// What only one of the doors needs.
pub(crate) enum AttachedDoor {
    Native(native_session::Opening),
    Line(LineSplitter),
}

/// What is to be done when a session ends.
struct Ending {
    hosted: Rc<Hosted>,
    conn: ConnId,
    counted: Counted,
    /// Of a member: when it came.
    since: Option<Instant>,
}

impl Ending {
    /// Its session ended, by its own fault or not.
    fn end(&self, is_bad: bool) {
        let short = self.hosted.shared.config.limits.short_stay;
        if is_bad || self.since.is_some_and(|since| since.elapsed() < short) {
            self.counted.ends_badly();
        }
        self.hosted.leave(self.conn);
    }
}

/// Runs a session, which says whether it ended by its own fault. All of it is one block on the heap that its task points to: a future
/// has room for what is moved into it and for what it awaits, each for itself, so the session is awaited where it is.
fn serve(mut session: impl Future<Output = bool> + Unpin + 'static, ending: Ending) {
    tokio::task::spawn_local(Box::pin(async move {
        let is_bad = (&mut session).await;
        ending.end(is_bad);
    }));
}

/// What a shard can be asked.
pub(crate) enum Job {
    /// Run this group; the answer comes when it serves.
    Host {
        key: GroupKey,
        name: Name,
        recovered: Box<Recovered>,
        stats: Arc<Stats>,
        feed: Arc<Feed>,
        answer: oneshot::Sender<Result<(), Down>>,
    },
    /// A connection wants to be a member or sender of the group.
    Enter {
        key: GroupKey,
        entrant: Entrant,
        input: Input,
        answer: oneshot::Sender<Result<(), Refusal>>,
    },
    /// It has become one.
    Attach { key: GroupKey, attachment: Box<Attachment> },
    /// It ended before it could be attached.
    Abandon { key: GroupKey, conn: ConnId },
    /// A connection whose session is elsewhere wants to be a member or sender; what the group says goes to `to`, and it has
    /// left when nobody holds the other end.
    Connect {
        key: GroupKey,
        entrant: Entrant,
        input: Input,
        to: mpsc::Sender<Said>,
        answer: oneshot::Sender<Result<(), Refusal>>,
    },
    /// What such a connection says.
    Say { key: GroupKey, conn: ConnId, input: Input },
    /// Where reading goes on for somebody who was at this position.
    Place { key: GroupKey, position: Position, answer: oneshot::Sender<(Seq, Option<Moved>)> },
    /// Members after this name, and whether there are more.
    Members {
        key: GroupKey,
        after: String,
        limit: usize,
        answer: oneshot::Sender<(Vec<MemberItem>, bool)>,
    },
    /// Remove a member by name.
    Remove { key: GroupKey, name: Name, answer: oneshot::Sender<bool> },
    /// The receipt of a message.
    Receipt {
        key: GroupKey,
        seq: Seq,
        publisher: Option<Incarnation>,
        wait: Duration,
        answer: oneshot::Sender<Option<Receipt>>,
    },
    /// Stop serving a group that has no members; answers whether it did.
    Delete { key: GroupKey, answer: oneshot::Sender<bool> },
    /// How the members of all its groups are.
    Crowd { answer: oneshot::Sender<Crowd> },
    /// End cleanly: everything stored, everybody told.
    End { answer: oneshot::Sender<()> },
}

/// The way to a shard.
#[derive(Clone)]
pub(crate) struct ShardHandle {
    jobs: mpsc::Sender<Job>,
}

impl ShardHandle {
    /// Hands over a job; waits while the mailbox is full. Lost only when the node ends.
    pub async fn send(&self, job: Job) {
        let _ = self.jobs.send(job).await;
    }

    /// Jobs that wait.
    pub fn waiting(&self) -> usize {
        self.jobs.max_capacity() - self.jobs.capacity()
    }

    /// Hands over a job and waits for its answer; `None` when the group is not there (any more).
    pub async fn ask<T>(&self, job: impl FnOnce(oneshot::Sender<T>) -> Job) -> Option<T> {
        let (sender, receiver) = oneshot::channel();
        self.send(job(sender)).await;
        receiver.await.ok()
    }
}

/// Starts a shard's thread.
pub(crate) fn spawn(
    number: usize,
    shared: Arc<Shared>,
    directory: Arc<Directory>,
) -> std::io::Result<(ShardHandle, std::thread::JoinHandle<()>)> {
    let (jobs, receiver) = mpsc::channel(JOBS_MAX);
    let thread = std::thread::Builder::new().name(format!("shard-{number}")).spawn(move || {
        crate::linux::take_short_turns();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build_local(LocalOptions::default());
        match runtime {
            Ok(runtime) => runtime.block_on(Shard::new(shared, directory).run(receiver)),
            Err(error) => tracing::error!(%error, "a shard cannot start"),
        }
    })?;
    Ok((ShardHandle { jobs }, thread))
}

struct Shard {
    shared: Arc<Shared>,
    directory: Arc<Directory>,
    groups: RefCell<HashMap<GroupKey, Rc<Hosted>>>,
    /// At most one message a group: a group has one batch under way.
    stored: mpsc::UnboundedSender<Stored>,
    stored_rx: RefCell<Option<mpsc::UnboundedReceiver<Stored>>>,
}

impl Shard {
    fn new(shared: Arc<Shared>, directory: Arc<Directory>) -> Self {
        let (stored, stored_rx) = mpsc::unbounded_channel();
        let stored_rx = RefCell::new(Some(stored_rx));
        Self { shared, directory, groups: RefCell::default(), stored, stored_rx }
    }

    async fn run(self, mut jobs: mpsc::Receiver<Job>) {
        let Some(mut stored) = self.stored_rx.borrow_mut().take() else { return };
        let mut beat = tokio::time::interval(Duration::from_secs(1));
        let mut beats = Beats::default();
        let mut ending: Option<oneshot::Sender<()>> = None;
        while ending.is_none() {
            tokio::select! {
                biased;
                Some(stored) = stored.recv() => self.batch_done(stored),
                job = jobs.recv() => match job {
                    Some(Job::End { answer }) => ending = Some(answer),
                    Some(job) => self.work(job),
                    None => return,
                },
                _ = beat.tick() => {
                    let groups = self.groups.borrow();
                    beats.begin(&groups);
                    groups.values().for_each(keeping::look_after);
                }
                () = std::future::ready(()), if beats.is_due() => {
                    beats.go_on();
                    tokio::task::yield_now().await;
                }
            }
        }
        let _ = tokio::time::timeout(END_WAIT, self.end(&mut stored)).await;
        self.groups.borrow_mut().clear();
        let _ = ending.map(|answer| answer.send(()));
    }

    fn batch_done(&self, stored: Stored) {
        if let Some(hosted) = self.group(stored.key) {
            hosted.batch_done(stored.result);
            keeping::look_after(&hosted);
        }
    }

    fn group(&self, key: GroupKey) -> Option<Rc<Hosted>> {
        self.groups.borrow().get(&key).filter(|hosted| hosted.down().is_none()).cloned()
    }

    /// A job for a group that is not there drops its answer, which says so.
    fn work(&self, job: Job) {
        match job {
            Job::Host { key, name, recovered, stats, feed, answer } => {
                self.host(key, name, *recovered, (stats, feed), answer);
            }
            Job::Enter { key, entrant, input, answer } => {
                if let Some(hosted) = self.group(key) {
                    hosted.enter(
                        Conn::new(entrant.conn, entrant.door, entrant.address, entrant.pass),
                        input,
                        answer,
                    );
                }
            }
            Job::Attach { key, attachment } => self.attach(key, *attachment),
            Job::Abandon { key, conn } => {
                if let Some(hosted) = self.group(key) {
                    hosted.leave(conn);
                }
            }
            Job::Members { key, after, limit, answer } => {
                if let Some(hosted) = self.group(key) {
                    let _ = answer.send(members(&hosted, &after, limit));
                }
            }
            Job::Remove { key, name, answer } => {
                if let Some(hosted) = self.group(key) {
                    let (_, removed) = hosted.ask(|ticket| Input::Remove(ticket, name));
                    tokio::task::spawn_local(async move {
                        if let Ok(Answer::Removed(there)) = removed.await {
                            let _ = answer.send(there);
                        }
                    });
                }
            }
            Job::Connect { key, entrant, input, to, answer } => {
                if let Some(hosted) = self.group(key) {
                    let Entrant { conn, door, address, pass } = entrant;
                    let conn = Conn::new(conn, door, address, pass);
                    tokio::task::spawn_local(remote::relay(hosted, conn, input, to, answer));
                }
            }
            Job::Say { key, conn, input } => {
                if let Some(hosted) = self.group(key)
                    && hosted.conns.borrow().contains_key(&conn)
                {
                    hosted.input(input);
                }
            }
            Job::Place { key, position, answer } => {
                if let Some(hosted) = self.group(key) {
                    let _ = answer.send(hosted.group.borrow().place(position));
                }
            }
            Job::Receipt { key, seq, publisher, wait, answer } => {
                if let Some(hosted) = self.group(key) {
                    tokio::task::spawn_local(async move {
                        let _ = answer.send(hosted.receipt(seq, publisher, wait).await);
                    });
                }
            }
            Job::Crowd { answer } => {
                let groups = self.groups.borrow();
                let all = groups.values().fold(Crowd::default(), |all, hosted| {
                    let one = hosted.crowd();
                    Crowd {
                        here: all.here + one.here,
                        lagging: all.lagging + one.lagging,
                        away: all.away + one.away,
                        lag: all.lag.max(one.lag),
                    }
                });
                let _ = answer.send(all);
            }
            Job::Delete { key, answer } => self.delete(key, answer),
            Job::End { .. } => {}
        }
    }

    fn host(
        &self,
        key: GroupKey,
        name: Name,
        recovered: Recovered,
        (stats, feed): (Arc<Stats>, Arc<Feed>),
        answer: oneshot::Sender<Result<(), Down>>,
    ) {
        let Recovered { mut group, bytes, batches } = recovered;
        let epoch = group.epoch() + 1;
        group.take_over(crate::clock::now(), epoch, &self.shared.config.node_id);
        let shared = Arc::clone(&self.shared);
        let hosted =
            Rc::new(Hosted::new(key, name, group, (stats, feed), shared, self.stored.clone()));
        hosted.keeping.begin(bytes, batches);
        self.groups.borrow_mut().insert(key, Rc::clone(&hosted));
        tokio::task::spawn_local(Rc::clone(&hosted).drive());
        hosted.turn();
        tokio::task::spawn_local(async move {
            let _ = answer.send(hosted.until_ready().await);
        });
    }

    fn attach(&self, key: GroupKey, attachment: Attachment) {
        let Some(hosted) = self.group(key) else { return };
        let id = attachment.conn;
        let Some(conn) = hosted.conns.borrow().get(&id).cloned() else { return };
        let Attachment { stream, inbound, counted, door, .. } = attachment;
        let Ok(stream) = stream.attach() else { return hosted.leave(id) };
        let directory = Arc::clone(&self.directory);
        let since = hosted.group.borrow().stay(id).map(|_| Instant::now());
        let ending = Ending { hosted: Rc::clone(&hosted), conn: id, counted, since };
        match door {
            AttachedDoor::Native(opening) => {
                let session = native_session::Session::begin(
                    hosted, conn, stream, inbound, opening, directory,
                );
                serve(session, ending);
            }
            AttachedDoor::Line(splitter) => {
                let session = line_session::run(hosted, conn, stream, inbound, splitter, directory);
                serve(Box::pin(session), ending);
            }
        }
    }

    fn delete(&self, key: GroupKey, answer: oneshot::Sender<bool>) {
        let Some(hosted) = self.group(key) else { return };
        let empty = hosted.group.borrow().member_count() == 0 && hosted.group.borrow().is_idle();
        if empty {
            hosted.end(Code::UnknownGroup, "the group was deleted");
            self.groups.borrow_mut().remove(&key);
        }
        let _ = answer.send(empty);
    }

    /// Stores what is under way and every cursor, then a snapshot, and tells everybody.
    async fn end(&self, stored: &mut mpsc::UnboundedReceiver<Stored>) {
        let all: Vec<Rc<Hosted>> = self.groups.borrow().values().cloned().collect();
        for _ in 0..LAST_CHECKPOINTS {
            all.iter().for_each(|hosted| hosted.stop_publishing());
            self.until_idle(&all, stored).await;
            // What was confirmed meanwhile may be in a receipt that somebody has.
            let is_saved = |hosted: &Rc<Hosted>| hosted.group.borrow().is_saved();
            if all.iter().all(|hosted| hosted.down().is_some() || is_saved(hosted)) {
                break;
            }
        }
        for hosted in all.iter().filter(|hosted| hosted.down().is_none()) {
            hosted.end(Code::ShuttingDown, "the node is ending; connect again in a while");
        }
        // Their sessions write the last frame; those who do not read it are not waited for.
        let farewell = Duration::from_millis(200);
        let _ = tokio::time::timeout(farewell, async {
            while all.iter().any(|hosted| !hosted.conns.borrow().is_empty()) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
    }

    /// Takes the journal's answers until no group that still serves waits for one.
    async fn until_idle(&self, all: &[Rc<Hosted>], stored: &mut mpsc::UnboundedReceiver<Stored>) {
        while all.iter().any(|hosted| hosted.down().is_none() && !hosted.group.borrow().is_idle()) {
            // What a driver stores in its own turn is told to nobody: looked at again before long.
            match tokio::time::timeout(STORED_WAIT, stored.recv()).await {
                Ok(Some(stored)) => self.batch_done(stored),
                Ok(None) => break,
                Err(_) => {}
            }
        }
    }
}

fn members(hosted: &Hosted, after: &str, limit: usize) -> (Vec<MemberItem>, bool) {
    let group = hosted.group.borrow();
    let all: Vec<_> = group.members().filter(|member| member.name.as_str() > after).collect();
    let (page, more) = listing::least(all, limit, |a, b| a.name.as_str().cmp(b.name.as_str()));
    let item = |member: &tertulia_group::Member| MemberItem {
        name: member.name.to_string(),
        acked: member.acked,
        reached: member.reached,
        presence: match member.presence {
            Presence::Away { .. } => tertulia_wire::native::Presence::Away,
            Presence::Here(_) if member.lagging => tertulia_wire::native::Presence::Lagging,
            Presence::Here(_) => tertulia_wire::native::Presence::Here,
        },
        door: member.door,
        since_us: member.since_us,
    };
    (page.into_iter().map(item).collect(), more)
}

#[cfg(test)]
mod tests;
