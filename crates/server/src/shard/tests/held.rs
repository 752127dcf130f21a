//! A journal that answers when it is told to: what is said while a batch is on its way, and after one that found no room.

use std::sync::Mutex;

use tertulia_group::{Ack, From, LogId, Name, SecretDigest};
use tertulia_journal::{
    AppendError, Batch, Done, Journal, MemoryJournal, Opened, ReadError, Record, Snapshot, Usage,
};
use tokio::sync::Notify;

use super::*;
use crate::hosted::Hosted;
use crate::recovering::{Recovered, recover};

const KEY: GroupKey = GroupKey(1);
const LOG: LogId = LogId([1; 16]);
const STORE_LOG: tertulia_journal::LogId = tertulia_journal::LogId(LOG.0);

/// Keeps in memory what it was let go of.
struct Held {
    inner: Arc<MemoryJournal>,
    waiting: Mutex<Vec<(Batch, Done)>>,
    came: Notify,
}

impl Held {
    /// The batch that is on its way, as soon as there is one.
    async fn taken(&self) -> (Batch, Done) {
        loop {
            let came = self.came.notified();
            if let Some(taken) = self.waiting.lock().expect("nobody panics").pop() {
                return taken;
            }
            tokio::time::timeout(testing::PATIENCE, came).await.expect("a batch is appended");
        }
    }

    fn is_empty(&self) -> bool {
        self.waiting.lock().expect("nobody panics").is_empty()
    }

    /// Stores the next batch.
    async fn store(&self) {
        let (batch, done) = self.taken().await;
        self.inner.append(batch, done);
    }
}

impl Journal for Held {
    fn level(&self) -> tertulia_journal::Level {
        self.inner.level()
    }

    fn open(&self, log: tertulia_journal::LogId) -> Result<Opened, ReadError> {
        self.inner.open(log)
    }

    fn append(&self, batch: Batch, done: Done) {
        self.waiting.lock().expect("nobody panics").push((batch, done));
        self.came.notify_one();
    }

    fn read(
        &self,
        log: tertulia_journal::LogId,
        from: u64,
        bytes_max: usize,
    ) -> Result<Vec<Record>, ReadError> {
        self.inner.read(log, from, bytes_max)
    }

    fn save_snapshot(
        &self,
        log: tertulia_journal::LogId,
        epoch: u32,
        snapshot: Snapshot,
        done: Done,
    ) {
        self.inner.save_snapshot(log, epoch, snapshot, done);
    }

    fn trim(&self, log: tertulia_journal::LogId, below: u64) -> Result<(), AppendError> {
        self.inner.trim(log, below)
    }

    fn delete(&self, log: tertulia_journal::LogId) -> Result<(), AppendError> {
        self.inner.delete(log)
    }

    fn usage(&self, log: tertulia_journal::LogId) -> Usage {
        self.inner.usage(log)
    }

    fn keep_from(&self, log: tertulia_journal::LogId, bytes_max: u64, since_us: u64) -> u64 {
        self.inner.keep_from(log, bytes_max, since_us)
    }
}

/// A shard and its one group. Ana has become a member with entry 2, and has not confirmed that eva did so with entry 3.
/// Cursors are stored so many milliseconds after they moved.
struct Rig {
    journal: Arc<Held>,
    shard: Shard,
    stored: mpsc::UnboundedReceiver<Stored>,
    hosted: Rc<Hosted>,
}

impl Rig {
    async fn new(checkpoint_ms: u64) -> Self {
        let inner = Arc::new(MemoryJournal::new(1 << 30));
        let (waiting, came) = (Mutex::default(), Notify::new());
        let journal = Arc::new(Held { inner: Arc::clone(&inner), waiting, came });
        let shared = testing::shared_over(Arc::clone(&journal) as _, inner, NodeLimits::default());
        let shard = Shard::new(Arc::clone(&shared), directory(&shared));
        let stored = shard.stored_rx.borrow_mut().take().expect("nobody has it");
        let limits = tertulia_group::Limits { checkpoint_ms, ..Default::default() };
        let recovered = Box::new(Recovered {
            group: tertulia_group::Group::new(LOG, limits),
            bytes: 0,
            batches: 0,
        });
        let (answer, served) = oneshot::channel();
        let (stats, feed) = Default::default();
        shard.work(Job::Host { key: KEY, name: name("ops"), recovered, stats, feed, answer });
        let hosted = shard.group(KEY).expect("it is hosted");
        let mut rig = Self { journal, shard, stored, hosted };
        rig.store().await;
        served.await.expect("it is answered").unwrap_or_else(|down| panic!("{down:?}"));
        for (conn, member) in [(1, "ana"), (2, "eva")] {
            rig.join(conn, member);
            rig.store().await;
        }
        assert_eq!(rig.stored_cursor(), 2);
        rig
    }

    /// Stores the next batch, and hands the journal's answer to the group.
    async fn store(&mut self) {
        self.journal.store().await;
        self.answered().await;
    }

    /// Hands the journal's answer to the group.
    async fn answered(&mut self) {
        let stored = self.stored.recv().await.expect("the journal answers");
        self.shard.batch_done(stored);
    }

    fn join(&self, conn: u64, member: &str) {
        let join = tertulia_group::Join {
            name: name(member),
            door: Door::Native,
            durable: false,
            sender: SenderId([conn as u8; 16]),
            shown: None,
            fresh: SecretDigest([conn as u8; 32]),
            from: From::Now,
            follow: false,
        };
        self.hosted.input(Input::Join(ConnId(conn), Box::new(join)));
    }

    /// Ana has confirmed everything up to there.
    fn ack(&self, cursor: u64) {
        self.hosted.input(Input::Ack(ConnId(1), Ack { cursor, ..Ack::default() }));
    }

    /// Where ana would be after a crash.
    fn stored_cursor(&self) -> u64 {
        let inner = self.journal.inner.as_ref();
        let recovered = recover(inner, STORE_LOG, tertulia_group::Limits::default());
        let group = recovered.unwrap_or_else(|_| panic!("it can be read")).group;
        group.member(&name("ana")).expect("a member").acked
    }
}

fn name(text: &str) -> Name {
    Name::new(text).expect("a name")
}

/// The bug: nothing was waited for while a batch was on its way, and the end of the batch set no timer.
#[tokio::test]
async fn what_is_confirmed_while_a_batch_is_on_its_way_is_stored_in_a_quiet_group() {
    LocalSet::new()
        .run_until(async {
            let mut rig = Rig::new(100).await;
            rig.join(3, "zoe");
            rig.store().await;
            rig.ack(3);
            let (batch, done) = rig.journal.taken().await;
            assert_eq!(batch.count, 0, "no more than a cursor");
            rig.ack(4);
            // Its driver has seen it, and that nothing can be done.
            tokio::task::yield_now().await;
            rig.journal.inner.append(batch, done);
            rig.answered().await;
            assert_eq!(rig.stored_cursor(), 3);
            rig.store().await;
            assert_eq!(rig.stored_cursor(), 4);
        })
        .await;
}

/// The bug: cursors alone were tried again at once, without end, for as long as the disk was full.
#[tokio::test]
async fn cursors_that_find_no_room_are_tried_again_later_and_not_at_once() {
    LocalSet::new()
        .run_until(async {
            let mut rig = Rig::new(100).await;
            rig.ack(3);
            for _ in 0..2 {
                let (_, done) = rig.journal.taken().await;
                done(Err(AppendError::NoSpace("for a test".to_owned())));
                rig.answered().await;
                assert!(rig.journal.is_empty(), "tried again at once");
            }
            rig.store().await;
            assert_eq!(rig.stored_cursor(), 3);
        })
        .await;
}

/// The bug: cursors were stored once, at the beginning of the end, and what came after that only in memory.
#[tokio::test]
async fn a_clean_end_stores_what_is_confirmed_while_it_lasts() {
    LocalSet::new()
        .run_until(async {
            let mut rig = Rig::new(3_600_000).await;
            rig.join(3, "zoe");
            let (batch, done) = rig.journal.taken().await;
            let confirming = async {
                tokio::task::yield_now().await;
                rig.hosted.input(Input::Ack(ConnId(1), Ack { cursor: 3, ..Ack::default() }));
                rig.journal.inner.append(batch, done);
                loop {
                    rig.journal.store().await;
                }
            };
            tokio::select! {
                () = rig.shard.end(&mut rig.stored) => {}
                () = confirming => {}
            }
            assert_eq!(rig.stored_cursor(), 3);
        })
        .await;
}
