//! What stands in a request's path and query: read here, with refusals that say how it is written.

use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::extract::rejection::{PathRejection, QueryRejection};
use serde::Deserialize;

use super::problem::Problem;

/// A query string; what cannot be read is a [`Problem`].
#[derive(FromRequestParts)]
#[from_request(via(axum::extract::Query), rejection(Problem))]
pub(crate) struct Query<T>(pub T);

/// What stands in the path; what cannot be read is a [`Problem`].
#[derive(FromRequestParts)]
#[from_request(via(axum::extract::Path), rejection(Problem))]
pub(crate) struct Path<T>(pub T);

impl From<PathRejection> for Problem {
    fn from(rejection: PathRejection) -> Self {
        Self::bad(rejection.body_text())
    }
}

impl From<QueryRejection> for Problem {
    fn from(rejection: QueryRejection) -> Self {
        Self::bad(rejection.body_text())
    }
}

/// For how many answers a post waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// Of everybody who is asked.
    All,
    /// Of nobody: stored is enough.
    Stored,
    /// Of so many.
    Count(u32),
}

impl Wait {
    /// `all`, `stored` or a number.
    pub fn parse(text: Option<&str>) -> Result<Self, Problem> {
        match text {
            None | Some("all") => Ok(Self::All),
            Some("stored") => Ok(Self::Stored),
            Some(text) => {
                let count = text.parse().map(Self::Count);
                count.map_err(|_| Problem::bad("wait: all, stored, or a number of answers"))
            }
        }
    }
}

/// The longest wait in one request.
pub(crate) const WAIT_MAX: Duration = Duration::from_secs(60);

/// `5s`, `500ms`, `1m`; at most [`WAIT_MAX`].
pub(crate) fn duration(name: &str, text: Option<&str>, or: Duration) -> Result<Duration, Problem> {
    let Some(text) = text else { return Ok(or) };
    let bad = || Problem::bad(format!("{name}: a time such as 5s, 500ms or 1m"));
    let unit_at = text.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(bad)?;
    let (number, unit) = text.split_at(unit_at);
    let number: f64 = number.parse().map_err(|_| bad())?;
    let seconds = match unit {
        "ms" => number / 1000.0,
        "s" => number,
        "m" => number * 60.0,
        _ => return Err(bad()),
    };
    Ok(Duration::try_from_secs_f64(seconds).map_err(|_| bad())?.min(WAIT_MAX))
}

/// The part of a list that is asked for.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Paging {
    /// The `next` of the page before.
    pub after: Option<String>,
    /// At most so many items (1 to 1,000).
    pub limit: Option<u16>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_with_their_unit() {
        let read = |text| duration("timeout", Some(text), Duration::ZERO).ok();
        assert_eq!(read("500ms"), Some(Duration::from_millis(500)));
        assert_eq!(read("2.5s"), Some(Duration::from_millis(2500)));
        assert_eq!(read("1m"), Some(WAIT_MAX));
        assert_eq!(read("9999999999999s"), Some(WAIT_MAX));
        for text in ["", "5", "s", "-1s", "5h", "1e9s", "١s", "5ss"] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn a_wait_is_all_stored_or_a_number() {
        assert_eq!(Wait::parse(None).ok(), Some(Wait::All));
        assert_eq!(Wait::parse(Some("stored")).ok(), Some(Wait::Stored));
        assert_eq!(Wait::parse(Some("3")).ok(), Some(Wait::Count(3)));
        assert!(Wait::parse(Some("-3")).is_err() && Wait::parse(Some("ALL")).is_err());
    }
}
