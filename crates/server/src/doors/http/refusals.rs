//! Which refusals each kind of route may answer, for the description: all of them problems, none left out.

use std::collections::BTreeMap;

use utoipa::IntoResponses;
use utoipa::openapi::{Content, Ref, RefOr, Response, ResponseBuilder};

/// What a problem is said to be.
pub(crate) const PROBLEM: &str = "application/problem+json";

type Responses = BTreeMap<String, RefOr<Response>>;

fn responses(refusals: &[(&str, &str)]) -> Responses {
    let one = |(status, description): &(&str, &str)| {
        let content = Content::new(Some(Ref::from_schema_name("Problem")));
        let response = ResponseBuilder::new().description(*description).content(PROBLEM, content);
        ((*status).to_owned(), RefOr::T(response.build()))
    };
    refusals.iter().map(one).collect()
}

/// Of every route.
pub(crate) struct Refused;

impl IntoResponses for Refused {
    fn responses() -> Responses {
        responses(&[
            ("400", "The request cannot be read, or names what cannot be."),
            ("401", "A token that is not valid (any more), or no guest may do this."),
            ("403", "Who asks may not do this, or another site's page asks."),
            ("503", "Not just now; `Retry-After` says when."),
        ])
    }
}

/// Of routes that are about a group.
pub(crate) struct RefusedGroup;

impl IntoResponses for RefusedGroup {
    fn responses() -> Responses {
        responses(&[("404", "There is no such group, or who asks may not know of it.")])
    }
}

/// Of routes that take a body.
pub(crate) struct RefusedBody;

impl IntoResponses for RefusedBody {
    fn responses() -> Responses {
        responses(&[
            ("408", "The body did not come in time."),
            ("413", "The body is too long."),
            ("415", "The body is not said to be JSON, or a form comes on a cookie."),
            ("422", "The JSON is not what is asked for, or the key was used for another text."),
        ])
    }
}

/// Of routes that keep something.
pub(crate) struct RefusedStored;

impl IntoResponses for RefusedStored {
    fn responses() -> Responses {
        responses(&[
            ("409", "It is there already, or something else is in the way."),
            (
                "429",
                "There are as many as there may be, or too many tries; `detail` says how long to wait.",
            ),
            ("507", "The store has no room."),
        ])
    }
}
