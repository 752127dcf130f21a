//! Codes of refusals and errors on the native door.

use std::fmt;

use tertulia_group::Refusal;

macro_rules! codes {
    ($($(#[$doc:meta])* $number:literal $name:ident $text:literal)*) => {
        /// Why something was refused; each variant says what to do about it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Code {
            $($(#[$doc])* $name,)*
            /// A code of a newer node; its message says more.
            Unknown(u16),
        }

        impl Code {
            /// Every known code, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The word that people and programs see.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                    Self::Unknown(_) => "UNKNOWN_CODE",
                }
            }

            /// Its number in a frame.
            pub const fn to_u16(self) -> u16 {
                match self {
                    $(Self::$name => $number,)*
                    Self::Unknown(number) => number,
                }
            }

            /// The code of this number.
            pub const fn from_u16(number: u16) -> Self {
                match number {
                    $($number => Self::$name,)*
                    _ => Self::Unknown(number),
                }
            }
        }
    };
}

codes! {
    /// There is no such group: look at the list, or create it.
    1 UnknownGroup "UNKNOWN_GROUP"
    /// A group of this name, or one that looks the same, is there: use it or take another name.
    2 GroupExists "GROUP_EXISTS"
    /// The group has as many members as it may have: join another.
    3 GroupFull "GROUP_FULL"
    /// The group has members: remove them first.
    4 GroupInUse "GROUP_IN_USE"
    /// Not a name; the message says what a name may be.
    5 BadName "BAD_NAME"
    /// A member has this name, or one that looks the same: take another, or show the resume secret.
    6 NameTaken "NAME_TAKEN"
    /// The name belongs to an account: log in, or take another.
    7 NameReserved "NAME_RESERVED"
    /// The group has no member of this name.
    8 NoSuchMember "NO_SUCH_MEMBER"
    /// JOIN or OPEN_SENDER comes first.
    9 NotJoined "NOT_JOINED"
    /// A connection serves one membership or sender: open another.
    10 AlreadyJoined "ALREADY_JOINED"
    /// The message is longer than GREETING's `message_bytes_max`: send less.
    11 TooLong "TOO_LONG"
    /// Bytes that are no frame: a bug of the sender; the connection is closed.
    12 BadFrame "BAD_FRAME"
    /// The node does not speak this version of the protocol: update.
    13 BadVersion "BAD_VERSION"
    /// An acknowledgement beyond what was sent, or of more than may be open; the connection is closed.
    14 BadAck "BAD_ACK"
    /// The resume secret is not the membership's: join without it, under another name.
    15 BadSecret "BAD_SECRET"
    /// Not allowed to this user: log in.
    16 Denied "DENIED"
    /// Too much is being stored just now: send again a little later, beginning with this counter.
    17 Busy "BUSY"
    /// A limit of the node, which the message names.
    18 Limit "LIMIT"
    /// An earlier counter of this sender was refused: begin again with that one.
    19 AfterRefused "AFTER_REFUSED"
    /// The node has forgotten this sender: whether the message is stored is unknown.
    20 SenderExpired "SENDER_EXPIRED"
    /// The number is not a message's.
    21 NoSuchMessage "NO_SUCH_MESSAGE"
    /// What was asked for is no longer kept.
    22 Expired "EXPIRED"
    /// The store is full: nothing was stored; make room on the node.
    23 NoSpace "NO_SPACE"
    /// The store failed: whether the message is stored is unknown until it is sent again.
    24 StoreFailed "STORE_FAILED"
    /// The group's log is damaged on the node: its operator has to restore it.
    25 Damaged "DAMAGED"
    /// The same membership was taken over by another connection: do not reconnect.
    26 Replaced "REPLACED"
    /// The membership was removed by name: do not reconnect.
    27 Removed "REMOVED"
    /// Another node coordinates the group: ask the directory and connect there.
    28 Moved "MOVED"
    /// Nothing came in time: connect again.
    29 Idle "IDLE"
    /// The node is ending: connect again a little later.
    30 ShuttingDown "SHUTTING_DOWN"
    /// A counter below the sender's highest that was never taken: it will not be; go on with a higher one.
    31 CounterSkipped "COUNTER_SKIPPED"
    /// The token is not valid (any more), or name and password do not belong together: log in.
    32 NotLoggedIn "NOT_LOGGED_IN"
    /// Not fit to be a password; the message says what one may be.
    33 BadPassword "BAD_PASSWORD"
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Code {
    /// The code of what a group refuses: the native door's words, in one exhaustive mapping.
    pub const fn of_refusal(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NameTaken => Self::NameTaken,
            Refusal::GroupFull => Self::GroupFull,
            Refusal::WrongName => Self::BadName,
            Refusal::TooLong => Self::TooLong,
            Refusal::Busy => Self::Busy,
            Refusal::SenderExpired => Self::SenderExpired,
            Refusal::CounterSkipped => Self::CounterSkipped,
            Refusal::AfterRefused => Self::AfterRefused,
            Refusal::BadAck => Self::BadAck,
            Refusal::NotJoined => Self::NotJoined,
            Refusal::AlreadyJoined => Self::AlreadyJoined,
            Refusal::NoSpace => Self::NoSpace,
            Refusal::Replaced => Self::Replaced,
        }
    }
}
