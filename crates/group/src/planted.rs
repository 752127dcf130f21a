//! Bugs that the simulator has to catch, each at the very line of the rule that it breaks.
//!
//! Without the feature `planted`, which only tests build with, [`planted`] is a constant `false` and nothing of this is left.
//! With it every bug is off until its thread switches one on.

/// One broken rule. Those of the journal and of the driver are planted in the simulator, which stands in for both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// Journal: a batch is answered as stored before it is durable.
    SkipFsync,
    /// Journal: takes what an older coordinator appends.
    SkipFence,
    /// Journal: a record that a power cut has cut short is taken for a whole one.
    TakeTornWrite,
    /// Driver: trims what no snapshot covers.
    TrimAboveSnapshot,
    /// Driver: a member that lags behind what is kept is not told of the gap.
    TrimSilently,
    /// Driver: an entry of a join is not delivered.
    DropView,
    /// Driver: nobody is sent more than the slowest connection has taken.
    DeliverInStep,
    /// The coordinator begins without its epoch's record.
    SilentTakeOver,
    /// After a restart the last number is given again.
    ReuseNumber,
    /// A restart does not take a `left` in.
    ForgetLeft,
    /// A restart takes every cursor for one that has come to the end.
    ConfirmOnRestart,
    /// A restart forgets who has sent what.
    ForgetSenders,
    /// What a sender has sent is forgotten as soon as it was taken.
    ForgetDuplicate,
    /// A sender keeps the numbers of a batch that could not be stored.
    KeepLostNumbers,
    /// The sender is answered before its message is stored.
    AnswerEarly,
    /// A member that left counts as having confirmed.
    ConfirmForLeft,
    /// A failure counts as a confirmation.
    ConfirmFailed,
    /// What a member is at work on counts as confirmed.
    ConfirmOpen,
    /// Who comes back goes on one too late.
    ResumeLate,
    /// Who comes back goes on one too early.
    ResumeEarly,
    /// Who comes back is not sent again what it is at work on.
    ResumeWithoutOpen,
    /// A position behind the end of its epoch is not cut back.
    KeepLostPlace,
    /// A position in another log is taken for one in this.
    MixUpLogs,
    /// Two members may have names that look alike.
    MixUpNames,
    /// A name is enough to take a membership over.
    IgnoreSecret,
    /// Messages after a refused one are taken before it comes again.
    TakeAfterRefused,
    /// An answer to who joins or opens overtakes what it reveals.
    WelcomeEarly,
    /// A restart forgets who failed what.
    ForgetFailures,
    /// A restart forgets who is at work on what.
    ForgetOpen,
    /// A snapshot says of senders what is not stored yet.
    SnapshotAhead,
    /// Who joined after a message is asked for it, too.
    AskNewcomers,
    /// A receipt is given although what it needs is no longer kept.
    AnswerExpired,
    /// Receipts are complete one number too early.
    CompleteEarly,
    /// A receipt that cannot be given at once is never given.
    LoseReceipt,
    /// What a leaver says after its final cursor was written still counts.
    HearLeavers,
    /// Nobody who is away ever leaves.
    EndlessGrace,
    /// Who comes back does not replace its older connection.
    TwoConnections,
    /// Messages are refused while somebody has not confirmed the earlier ones.
    WaitForSlowest,
    /// What is known of the past for receipts grows for ever.
    KeepAllPast,
    /// Who follows is told of a cursor that is one further than it is.
    TellEarly,
    /// Failures that are lost with their batch are not written again where the table has dropped them.
    DropLostFailures,
}

impl Bug {
    /// All of them.
    pub const ALL: [Self; 41] = [
        Self::SkipFsync,
        Self::SkipFence,
        Self::TakeTornWrite,
        Self::TrimAboveSnapshot,
        Self::TrimSilently,
        Self::DropView,
        Self::DeliverInStep,
        Self::SilentTakeOver,
        Self::ReuseNumber,
        Self::ForgetLeft,
        Self::ConfirmOnRestart,
        Self::ForgetSenders,
        Self::ForgetDuplicate,
        Self::KeepLostNumbers,
        Self::AnswerEarly,
        Self::ConfirmForLeft,
        Self::ConfirmFailed,
        Self::ConfirmOpen,
        Self::ResumeLate,
        Self::ResumeEarly,
        Self::ResumeWithoutOpen,
        Self::KeepLostPlace,
        Self::MixUpLogs,
        Self::MixUpNames,
        Self::IgnoreSecret,
        Self::TakeAfterRefused,
        Self::WelcomeEarly,
        Self::ForgetFailures,
        Self::ForgetOpen,
        Self::SnapshotAhead,
        Self::AskNewcomers,
        Self::AnswerExpired,
        Self::CompleteEarly,
        Self::LoseReceipt,
        Self::HearLeavers,
        Self::EndlessGrace,
        Self::TwoConnections,
        Self::WaitForSlowest,
        Self::KeepAllPast,
        Self::TellEarly,
        Self::DropLostFailures,
    ];
}

#[cfg(feature = "planted")]
thread_local! {
    static SWITCHED_ON: std::cell::Cell<Option<Bug>> = const { std::cell::Cell::new(None) };
}

/// Whether this thread has switched `bug` on.
#[cfg(feature = "planted")]
pub fn planted(bug: Bug) -> bool {
    SWITCHED_ON.get() == Some(bug)
}

/// Never, in this build.
#[cfg(not(feature = "planted"))]
pub const fn planted(_: Bug) -> bool {
    false
}

/// Switches one bug on for this thread, or all off; answers whether this build can.
#[cfg(feature = "planted")]
pub fn plant(bug: Option<Bug>) -> bool {
    SWITCHED_ON.set(bug);
    true
}

/// Switches one bug on for this thread, or all off; answers whether this build can.
#[cfg(not(feature = "planted"))]
pub const fn plant(bug: Option<Bug>) -> bool {
    bug.is_none()
}
