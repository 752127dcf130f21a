//! What people read: receipts and entries as one safe line each.

use std::fmt::Write as _;
use std::time::Duration;

use tertulia_group::entry::LeftBody;
use tertulia_group::{Entry, Kind, Missing, Receipt, Seq, Why};

use crate::file::FileBody;
use crate::safe::{make_safe, make_safe_bytes};
use crate::shown_name;
use crate::time::time_of_day;

/// `delivered 4/5 in 5.0 s  ops #42  missing: luis (away 12 s)`
pub fn receipt_line(group: &str, receipt: &Receipt, elapsed: Duration) -> String {
    receipt_text(group, receipt, &format!(" in {}", elapsed_text(elapsed)))
}

/// The same for a receipt that was asked for later, which took no time: `delivered 5/5  ops #42`.
pub fn receipt_now_line(group: &str, receipt: &Receipt) -> String {
    receipt_text(group, receipt, "")
}

fn receipt_text(group: &str, receipt: &Receipt, elapsed: &str) -> String {
    let count = u64::from(receipt.confirmed) + u64::from(receipt.reached);
    let mut line =
        format!("delivered {count}/{}{elapsed}  {group} #{}", receipt.members, receipt.seq);
    if receipt.members == 0 {
        line.push_str("  nobody is in the group");
    }
    if receipt.reached > 0 {
        let _ = write!(line, "  ({} by host only)", receipt.reached);
    }
    for (i, missing) in receipt.missing.iter().enumerate() {
        line.push_str(if i == 0 { "  missing: " } else { ", " });
        line.push_str(&missing_text(missing));
    }
    make_safe(&line, usize::MAX).into_owned()
}

/// `luis (away 12 s)`
pub fn missing_text(missing: &Missing) -> String {
    let text = match &missing.why {
        Why::Away { ms } => format!("{} (away {})", missing.name, long_text(*ms)),
        Why::Failed { code } => format!("{} (failed: {code})", missing.name),
        why => format!("{} ({})", missing.name, why.as_str()),
    };
    make_safe(&text, usize::MAX).into_owned()
}

/// `3.1 ms` below a second, `5.0 s` from there.
pub fn elapsed_text(elapsed: Duration) -> String {
    let ms = elapsed.as_secs_f64() * 1000.0;
    if ms < 999.95 { format!("{ms:.1} ms") } else { format!("{:.1} s", ms / 1000.0) }
}

/// A longer time in its largest unit, rounded down: `12 s`, `5 min`, `3 h`, `2 days`.
pub fn long_text(ms: u64) -> String {
    let seconds = ms / 1000;
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// `#42 10:00:00 ana: hola`, `#43 10:00:05 ana has the file plan.pdf (1.5 KiB)`, `* ana joined`, `* luis left (lost)`; `None` for
/// internal entries and for a body that cannot be read. The time is so many minutes east of UTC.
pub fn entry_line(entry: &Entry, offset_minutes: i32) -> Option<String> {
    let (name, body) = (shown_name(entry), entry.body());
    let name = make_safe(&name, usize::MAX);
    let (seq, time) = (entry.header.seq, time_of_day(entry.header.time_us, offset_minutes));
    Some(match entry.header.kind {
        Kind::Message => {
            let text = make_safe_bytes(&body, usize::MAX);
            format!("#{seq} {time} {name}: {text}")
        }
        Kind::Joined => format!("* {name} joined"),
        Kind::Left => {
            format!("* {name} left ({})", LeftBody::read(&body).ok()?.reason.as_str())
        }
        Kind::File => {
            let file = FileBody::read(&body).ok()?;
            let file_name = make_safe(&file.name, 255);
            format!("#{seq} {time} {name} has the file {file_name} ({})", size_text(file.size))
        }
        Kind::Epoch | Kind::Publish => return None,
    })
}

/// `* #5 to #7 are no longer kept`
pub fn gap_line(first: Seq, last: Seq) -> String {
    if first == last {
        format!("* #{first} is no longer kept")
    } else {
        format!("* #{first} to #{last} are no longer kept")
    }
}

/// `* the group has a new log, which goes on with #1`
pub fn reset_line(next: Seq) -> String {
    format!("* the group has a new log, which goes on with #{next}")
}

/// `812 B`, `1.5 KiB`, `3.0 GiB`
pub fn size_text(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let (mut value, mut unit) = (bytes as f64 / 1024.0, 0);
    // Below 1023.95 one decimal is still shown as less than 1024.
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}
