//! Messages that come by request: each joins the run of a sender that the node holds open for its name, or, with a key of
//! its own, is a sender of its own, so that a retry finds the first try.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tertulia_group::entry::write_publish;
use tertulia_group::{Input, Name, OpenSender, Output, Refusal, Run, SenderId, Seq};
use tertulia_wire::Code;
use tokio::sync::{mpsc, oneshot};

use crate::directory::{Denied, Directory, Listed};
use crate::hosted::GroupKey;
use crate::remote::{NotEntered, Remote, Said};

/// Messages that wait for one sender; whoever posts more waits.
const WAITING_MAX: usize = 1024;
/// Taken into one run.
const RUN_MAX: usize = 256;
/// Senders that are held open; a further name's message goes by a sender of its own.
const OPEN_MAX: usize = 1024;
/// A sender that is not used for so long is closed.
const IDLE: Duration = Duration::from_secs(10);

/// Why a message has no number.
#[derive(Debug)]
pub(crate) enum NotStored {
    /// It is not stored.
    Denied(Denied),
    /// It may be.
    Unknown,
}

impl From<Denied> for NotStored {
    fn from(denied: Denied) -> Self {
        Self::Denied(denied)
    }
}

impl From<NotEntered> for NotStored {
    fn from(why: NotEntered) -> Self {
        match why {
            NotEntered::Refused(refusal) => refused(refusal),
            NotEntered::Gone => {
                let message = "the group cannot be served just now; send it again";
                Self::Denied(Denied::new(Code::StoreFailed, message))
            }
        }
    }
}

fn refused(refusal: Refusal) -> NotStored {
    match refusal {
        Refusal::SenderExpired => NotStored::Unknown,
        // Another one's message was in the way, not this one.
        Refusal::AfterRefused => refused(Refusal::Busy),
        other => NotStored::Denied(Denied::new(Code::of_refusal(other), other.to_string())),
    }
}

/// A message that waits for its number.
struct Post {
    body: Bytes,
    answer: oneshot::Sender<Result<Seq, NotStored>>,
}

/// The senders that are held open, by group and folded name.
#[derive(Clone, Default)]
pub(crate) struct Posts(Arc<Mutex<HashMap<Place, mpsc::Sender<Post>>>>);

type Place = (GroupKey, String);

/// Who posts, and where.
#[derive(Clone)]
pub(crate) struct Poster {
    pub listed: Arc<Listed>,
    pub name: Name,
    pub address: IpAddr,
    /// Of who is logged in.
    pub account: Option<Name>,
}

impl Poster {
    async fn open(&self, directory: &Directory, id: SenderId) -> Result<Opened, NotStored> {
        let conn = tertulia_group::ConnId(directory.shared.new_id());
        let open = OpenSender { name: self.name.clone(), id, known: false, follow: false };
        let input = Input::OpenSender(conn, open);
        let mut remote =
            Remote::enter(Arc::clone(&self.listed), conn, self.address, None, input).await?;
        match remote.said().await {
            Some(Said::Outputs(outputs)) => {
                let ready = outputs.into_iter().find_map(|output| match output {
                    Output::SenderReady(_, ready) => Some(ready),
                    _ => None,
                });
                let ready = ready.ok_or(NotEntered::Gone)?;
                Ok(Opened { remote, name: ready.name.to_string() })
            }
            _ => Err(NotEntered::Gone.into()),
        }
    }
}

struct Opened {
    remote: Remote,
    name: String,
}

impl Posts {
    /// Stores a message and answers its number.
    pub async fn post(
        &self,
        directory: &Arc<Directory>,
        poster: &Poster,
        mut body: Bytes,
    ) -> Result<Seq, NotStored> {
        let place = (poster.listed.key, poster.name.folded().to_owned());
        // A sender may end just when it is given something: then the next one has it.
        for _ in 0..3 {
            let Some(sender) = self.sender(directory, poster, &place) else { break };
            let (answer, answered) = oneshot::channel();
            match sender.send(Post { body, answer }).await {
                Ok(()) => return answered.await.unwrap_or(Err(NotStored::Unknown)),
                Err(mpsc::error::SendError(post)) => body = post.body,
            }
        }
        post_once(directory, poster, SenderId(rand::random()), &body).await.map(|once| once.seq)
    }

    fn sender(
        &self,
        directory: &Arc<Directory>,
        poster: &Poster,
        place: &Place,
    ) -> Option<mpsc::Sender<Post>> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = open.get(place).filter(|sender| !sender.is_closed()) {
            return Some(sender.clone());
        }
        if open.len() >= OPEN_MAX {
            return None;
        }
        let (sender, posts) = mpsc::channel(WAITING_MAX);
        open.insert(place.clone(), sender.clone());
        let (directory, poster) = (Arc::clone(directory), poster.clone());
        let (all, place) = (self.clone(), place.clone());
        directory.shared.main.clone().spawn(async move {
            hold_open(&directory, &poster, posts).await;
            let mut open = all.0.lock().unwrap_or_else(PoisonError::into_inner);
            // Another one may stand here already.
            if open.get(&place).is_some_and(mpsc::Sender::is_closed) {
                open.remove(&place);
            }
        });
        Some(sender)
    }
}

/// Messages that are on their way, in the order of their counters.
#[derive(Default)]
struct UnderWay {
    last_counter: u64,
    first_counter: u64,
    waiting: std::collections::VecDeque<Option<oneshot::Sender<Result<Seq, NotStored>>>>,
}

impl UnderWay {
    fn add(&mut self, answer: oneshot::Sender<Result<Seq, NotStored>>) -> u64 {
        self.last_counter += 1;
        if self.waiting.is_empty() {
            self.first_counter = self.last_counter;
        }
        self.waiting.push_back(Some(answer));
        self.last_counter
    }

    fn answer(&mut self, counter: u64, answer: Result<Seq, NotStored>) {
        let at = counter.checked_sub(self.first_counter).and_then(|at| usize::try_from(at).ok());
        if let Some(waiting) = at.and_then(|at| self.waiting.get_mut(at)).and_then(Option::take) {
            let _ = waiting.send(answer);
        }
        while self.waiting.front().is_some_and(Option::is_none) {
            self.waiting.pop_front();
            self.first_counter += 1;
        }
    }
}

/// Runs one sender until it is idle, refused or closed. What it does not answer is unknown to who asked.
async fn hold_open(directory: &Directory, poster: &Poster, mut posts: mpsc::Receiver<Post>) {
    let Opened { mut remote, name, .. } =
        match poster.open(directory, SenderId(rand::random())).await {
            Ok(opened) => opened,
            Err(why) => return refuse_all(posts, &why).await,
        };
    let mut under_way = UnderWay::default();
    let mut taken = Vec::new();
    // After a refusal the sender's later messages are refused too: it takes no more, and ends when all are answered.
    let mut refused_one = false;
    loop {
        let quiet = under_way.waiting.is_empty();
        if quiet && refused_one {
            return;
        }
        tokio::select! {
            n = posts.recv_many(&mut taken, RUN_MAX), if !refused_one => {
                if n == 0 {
                    return;
                }
                if let Some(run) = run_of(&name, &mut taken, &mut under_way) {
                    remote.say(Input::Publish(remote.conn(), run)).await;
                }
            }
            said = remote.said() => match said {
                Some(Said::Outputs(outputs)) => {
                    for output in outputs {
                        refused_one |= take_in(&mut under_way, &output);
                    }
                    if refused_one {
                        posts.close();
                    }
                }
                Some(Said::Closing(_)) | None => return,
            },
            () = tokio::time::sleep(IDLE), if quiet => {
                // From here on nobody gives it anything; what it was given already is still taken.
                posts.close();
                if posts.is_empty() {
                    return;
                }
            }
        }
    }
}

fn run_of(name: &str, taken: &mut Vec<Post>, under_way: &mut UnderWay) -> Option<Run> {
    let mut bytes = BytesMut::new();
    for Post { body, answer } in taken.drain(..) {
        let counter = under_way.add(answer);
        write_publish(&mut bytes, name, counter, false, &body);
    }
    let body_max = bytes.len();
    Run::split(&mut bytes, body_max).ok().flatten()
}

/// Answers `true` when something was refused.
fn take_in(under_way: &mut UnderWay, output: &Output) -> bool {
    match output {
        Output::Stored(_, run) | Output::Again(_, run) => {
            for at in 0..u64::from(run.count) {
                under_way.answer(run.counter + at, Ok(run.seq + at));
            }
            false
        }
        Output::MessageRefused(_, counter, refusal) => {
            under_way.answer(*counter, Err(refused(*refusal)));
            true
        }
        _ => false,
    }
}

async fn refuse_all(mut posts: mpsc::Receiver<Post>, why: &NotStored) {
    posts.close();
    while let Some(post) = posts.recv().await {
        let answer = match why {
            NotStored::Denied(denied) => NotStored::Denied(denied.clone()),
            NotStored::Unknown => NotStored::Unknown,
        };
        let _ = post.answer.send(Err(answer));
    }
}

/// A message that has a sender of its own.
pub(crate) struct Once {
    pub seq: Seq,
    /// It was taken before, or at the same moment from somebody else: what it says may be another text.
    pub again: bool,
}

/// Stores one message under a sender id of its own; under the same id it is stored once, however often it is asked for.
pub(crate) async fn post_once(
    directory: &Directory,
    poster: &Poster,
    id: SenderId,
    body: &[u8],
) -> Result<Once, NotStored> {
    let Opened { mut remote, name } = poster.open(directory, id).await?;
    let run = Run::message(&name, 1, false, body);
    remote.say(Input::Publish(remote.conn(), run)).await;
    while let Some(said) = remote.said().await {
        let Said::Outputs(outputs) = said else { break };
        for output in outputs {
            match output {
                Output::Stored(_, run) => return Ok(Once { seq: run.seq, again: false }),
                Output::Again(_, run) => return Ok(Once { seq: run.seq, again: true }),
                Output::MessageRefused(_, _, refusal) => return Err(refused(refusal)),
                _ => {}
            }
        }
    }
    Err(NotStored::Unknown)
}
