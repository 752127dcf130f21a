//! Reads the small things that people write on command lines: times, sizes, how long to keep, where to begin.

use std::str::FromStr;
use std::time::Duration;

use tertulia_server::Keep;
use tertulia_wire::native::{Audience, Start};

/// `5s`, `500ms`, `2m`, `1h30m`, `30d`; a bare number counts seconds.
pub fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is not a time: write it like 500ms, 5s, 2m, 1h or 30d");
    if let Ok(seconds) = text.parse::<u64>() {
        return Ok(Duration::from_secs(seconds));
    }
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let (number, unit, after) = number_and_unit(rest).ok_or_else(wrong)?;
        let seconds = match unit {
            "ms" => 0.001,
            "s" => 1.0,
            "m" | "min" => 60.0,
            "h" => 3600.0,
            "d" => 86_400.0,
            _ => return Err(wrong()),
        };
        let part = Duration::try_from_secs_f64(number * seconds).map_err(|_| wrong())?;
        total = total.checked_add(part).ok_or_else(wrong)?;
        rest = after;
    }
    if text.is_empty() { Err(wrong()) } else { Ok(total) }
}

/// A time to wait for something that takes some.
pub fn timeout(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err("nothing can be done in no time: write it like 500ms or 5s".into()),
        time => Ok(time),
    }
}

/// `10GiB`, `500MB`, `64k`, `1024`: `K` and `Ki` are 1024, `KB` is 1000, and so on.
pub fn size(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is not a size: write it like 512MiB or 10GiB");
    if let Ok(bytes) = text.parse::<u64>() {
        return Ok(bytes);
    }
    let (number, unit, after) = number_and_unit(text).ok_or_else(wrong)?;
    let unit = unit.to_ascii_lowercase();
    let (letter, tail) = unit.split_at_checked(1).ok_or_else(wrong)?;
    let power = match letter {
        "b" if tail.is_empty() => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        _ => return Err(wrong()),
    };
    let base: f64 = match tail {
        "" | "i" | "ib" => 1024.0,
        "b" => 1000.0,
        _ => return Err(wrong()),
    };
    let bytes = number * base.powi(power);
    if !after.is_empty() || bytes >= u64::MAX as f64 { Err(wrong()) } else { Ok(bytes as u64) }
}

/// A number, the letters after it, and the rest.
fn number_and_unit(text: &str) -> Option<(f64, &str, &str)> {
    let number_len = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (number, rest) = text.split_at(number_len);
    let unit_len = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
    let (unit, after) = rest.split_at(unit_len);
    let number: f64 = number.parse().ok()?;
    (!unit.is_empty()).then_some((number, unit, after))
}

/// `30d,10GiB`, or one of the two.
pub fn keep(text: &str) -> Result<Keep, String> {
    let mut keep = Keep::default();
    let (mut ages, mut sizes) = (0, 0);
    for part in text.split(',').map(str::trim) {
        // A bare number would be either: it has to have its unit.
        let bare = part.parse::<u64>().is_ok();
        if let (false, Ok(age)) = (bare, duration(part)) {
            (keep.age, ages) = (age, ages + 1);
        } else if let (false, Ok(bytes)) = (bare, size(part)) {
            (keep.bytes, sizes) = (bytes, sizes + 1);
        } else {
            return Err(format!("{part:?} is neither a time nor a size: write --keep 30d,10GiB"));
        }
    }
    if ages > 1 || sizes > 1 {
        return Err(format!("{text:?} says the same thing twice: write --keep 30d,10GiB"));
    }
    Ok(keep)
}

/// `first`, a number, or `-N` for the last N.
pub fn start(text: &str) -> Result<Start, String> {
    let wrong = |_| format!("{text:?}: write first, a number such as 42, or -10 for the last ten");
    match text {
        "first" => Ok(Start::First),
        _ => match text.strip_prefix('-') {
            Some(count) => count.parse().map(Start::Last).map_err(wrong),
            None => text.parse().map(Start::Seq).map_err(wrong),
        },
    }
}

/// A message's number, with or without the `#` that is shown before it.
pub fn seq(text: &str) -> Result<u64, String> {
    let number = text.strip_prefix('#').unwrap_or(text);
    number.parse().map_err(|_| format!("{text:?} is not a message's number, such as 42"))
}

/// What a sender waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Everybody's confirmation.
    All,
    /// That it is stored.
    Stored,
    /// This many confirmations.
    Count(u32),
}

impl FromStr for Wait {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "all" => Ok(Self::All),
            "stored" => Ok(Self::Stored),
            _ => text
                .parse()
                .map(Self::Count)
                .map_err(|_| format!("{text:?}: write all, stored or a number of members")),
        }
    }
}

/// What makes a retry safe, as over HTTP.
pub fn key(text: &str) -> Result<String, String> {
    let is_key =
        (1..=255).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    if is_key { Ok(text.to_owned()) } else { Err("1 to 255 visible ASCII characters".to_owned()) }
}

/// `open`, `members` or `private`.
pub fn audience(text: &str) -> Result<Audience, String> {
    Audience::parse(text).ok_or_else(|| "write open, members or private".to_owned())
}

/// How the log is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// An object a line.
    Json,
}

impl LogFormat {
    /// `text` or `json`.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "text" => Some(Self::Text),
            "json" => Some(Self::Json),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read() {
        for (text, ms) in [
            ("5s", 5_000),
            ("500ms", 500),
            ("2m", 120_000),
            ("1.5s", 1_500),
            ("1h30m", 5_400_000),
            ("30d", 2_592_000_000),
            ("7", 7_000),
            ("0s", 0),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in ["", "s", "5x", "-5s", "5s!", "1..5s", "99999999999999999999d", "5 s", "é"] {
            assert!(duration(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn sizes_are_read() {
        for (text, bytes) in [
            ("10GiB", 10 << 30),
            ("512MiB", 512 << 20),
            ("64k", 64 << 10),
            ("1.5K", 1536),
            ("2MB", 2_000_000),
            ("12b", 12),
            ("4096", 4096),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in ["", "GiB", "5x", "5kxb", "1e3G", "99999999999T", "5é", "-1k"] {
            assert!(size(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn keeping_is_read() {
        let days = |n: u64| Duration::from_secs(n * 86_400);
        assert_eq!(keep("7d,1GiB"), Ok(Keep { age: days(7), bytes: 1 << 30 }));
        assert_eq!(keep("1GiB, 7d"), Ok(Keep { age: days(7), bytes: 1 << 30 }));
        assert_eq!(keep("7d"), Ok(Keep { age: days(7), ..Keep::default() }));
        for text in ["", "7", "7d,8d", "1G,2G", "7d,,1G"] {
            assert!(keep(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn beginnings_and_waits_are_read() {
        assert_eq!(start("first"), Ok(Start::First));
        assert_eq!(start("42"), Ok(Start::Seq(42)));
        assert_eq!(start("-10"), Ok(Start::Last(10)));
        assert!(start("last").is_err() && start("-").is_err() && start("--1").is_err());
        assert_eq!((seq("42"), seq("#42")), (Ok(42), Ok(42)));
        assert!(["", "x", "-1", "##1"].iter().all(|text| seq(text).is_err()));
        assert_eq!("all".parse(), Ok(Wait::All));
        assert_eq!("stored".parse(), Ok(Wait::Stored));
        assert_eq!("3".parse(), Ok(Wait::Count(3)));
        assert!("most".parse::<Wait>().is_err());
        assert_eq!(key("deploy-17"), Ok("deploy-17".to_owned()));
        assert!(["", "a b", "ñ", &"x".repeat(256)].iter().all(|text| key(text).is_err()));
    }
}
