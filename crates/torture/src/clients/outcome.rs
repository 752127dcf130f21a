//! What became of a message that the library sends: followed to its end and written down.

use std::sync::Arc;

use tertulia_client::{Code, Entry, Error, Kind, Missing, Receipt, Sent, Why};

use super::desk::Desk;
use crate::history::{self, Then, What};

/// Follows a message until it is stored; its receipt is followed by itself. Whether it is stored.
pub async fn follow(desk: &Arc<Desk>, group: &str, text: String, sent: Sent) -> bool {
    let waits = desk.awaiting();
    match sent.stored().await {
        Ok(seq) => desk.record(What::Stored { text: text.clone(), seq }),
        Err(error) => {
            not_stored(desk, text, &error);
            return false;
        }
    }
    let (desk, group) = (Arc::clone(desk), group.to_owned());
    tokio::spawn(async move {
        let _waits = waits;
        match sent.receipt().await {
            Ok(receipt) => desk.record(What::Receipt(of(&group, receipt))),
            Err(error) => desk.record(What::NoReceipt { text, why: error.to_string() }),
        }
    });
    true
}

/// Writes down what the library's error says of a message.
pub fn not_stored(desk: &Desk, text: String, error: &Error) {
    let why = error.to_string();
    desk.record(match error {
        Error::Unknown => What::Unknown { text, why },
        // The library says of all others that nothing is stored.
        _ => What::Failed { text, why },
    });
}

/// A receipt as histories have it.
pub fn of(group: &str, receipt: Receipt) -> history::Receipt {
    let missing = receipt.missing.into_iter().map(|Missing { name, why }| history::Missing {
        name,
        why: why.as_str().to_owned(),
        code: match why {
            Why::Failed { code } => Some(code),
            _ => None,
        },
    });
    history::Receipt {
        group: group.to_owned(),
        seq: receipt.seq,
        members: receipt.members,
        confirmed: receipt.confirmed,
        reached: receipt.reached,
        missing: Some(missing.collect()),
    }
}

/// An entry as histories have it.
pub fn entry(group: &str, name: &str, entry: &Entry) -> history::Entry {
    let kind = kind(entry.header.kind);
    let text = match kind {
        history::Kind::Message => String::from_utf8_lossy(&entry.body()).into_owned(),
        _ => String::new(),
    };
    history::Entry {
        group: group.to_owned(),
        name: name.to_owned(),
        seq: entry.header.seq,
        kind,
        from: entry.name().to_owned(),
        outside: entry.header.publisher().is_none(),
        text,
        then: Then::Confirm,
    }
}

/// Its kind as histories have it.
pub const fn kind(kind: Kind) -> history::Kind {
    match kind {
        Kind::Message | Kind::Publish => history::Kind::Message,
        Kind::Joined => history::Kind::Joined,
        Kind::Left => history::Kind::Left,
        Kind::Epoch => history::Kind::Epoch,
        Kind::File => history::Kind::File,
    }
}

/// A membership with this answer is not to be asked for again.
pub const fn is_final(code: Code) -> bool {
    matches!(code, Code::BadSecret | Code::NameTaken | Code::Removed | Code::Replaced)
}
