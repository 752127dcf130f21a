//! What has happened how often, so that it shows when something does not happen any more.

use std::cell::RefCell;
use std::fmt;

use crate::settings::kebab;

macro_rules! kinds {
    ($($name:ident)*) => {
        /// Something that many seeds are expected to come to; its name says what.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(missing_docs, reason = "the names say it")]
        pub enum Seen {
            $($name,)*
        }

        impl Seen {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name),*];
        }
    };
}

kinds! {
    // Kinds of worlds.
    LevelMemory LevelOs LevelFsync OneMember ManyMembers
    // Joining, coming back (also over an older connection of the same stay, or to the place of an earlier stay), leaving.
    Join Resume Replaced PlaceKept Reset CutBack Exit Removed Lost RetentionPassed
    NameTaken GroupFull JoinBusy Impostor WrongDisk
    // What members hear and say; an acknowledgement that never arrived.
    Gap Again OpenAck FailedAck LostAck
    // What senders hear.
    Busy AfterRefused NoSpace NotJoined SenderExpired OutcomeUnknown
    Duplicate DuplicateInStore
    Complete CompleteRun NamedReceipt Paused ReceiptAsked AskedFirst ReceiptExpired
    Pending Lagging Away Failed Left Followed
    // Programs and connections.
    Cut Kill Stall OldConnection Repeat
    Stopped NeverReads NeverAcks ReadsSlowly WindowFull Isolation
    ClockForward ClockBack
    // Keeping and coming back; power cuts that take what was answered, leave some of what was not synced, tear a record.
    Snapshot Trim SnapshotRecovered LogRecovered
    Crash CrashKept CrashLost PowerCut TailLost TailKept TornWrite
    SlowDisk BatchNotStored StoreBroken
    Succession ManyOvertaken Fenced
}

/// How often each was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Coverage([u64; Seen::ALL.len()]);

impl Default for Coverage {
    fn default() -> Self {
        Self([0; Seen::ALL.len()])
    }
}

thread_local! {
    /// A world lives on one thread, as the bugs that are planted in it do.
    static HERE: RefCell<Coverage> = RefCell::new(Coverage::default());
}

/// Something happened in this thread's world.
pub(crate) fn saw(what: Seen) {
    HERE.with_borrow_mut(|here| here.0[what as usize] += 1);
}

/// What this thread's world has seen; nothing of it is left.
pub(crate) fn take() -> Coverage {
    HERE.take()
}

impl Coverage {
    /// How often it happened.
    pub const fn of(&self, what: Seen) -> u64 {
        self.0[what as usize]
    }

    /// Takes in what was seen elsewhere.
    pub fn add(&mut self, other: &Self) {
        self.0.iter_mut().zip(other.0).for_each(|(own, other)| *own += other);
    }

    /// What never happened.
    pub fn blind_to(&self) -> Vec<Seen> {
        Seen::ALL.iter().copied().filter(|what| self.of(*what) == 0).collect()
    }
}

/// `join 12, resume 3, ...`
impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, what) in Seen::ALL.iter().enumerate() {
            write!(f, "{}{} {}", if i > 0 { ", " } else { "" }, kebab(what), self.of(*what))?;
        }
        Ok(())
    }
}
