//! Before every method: who asks, and whether they may. What is not named here is nobody's.

use std::sync::{Arc, PoisonError, RwLock};
use std::task::{Context, Poll};

use jiff::Timestamp;
use tonic::codegen::http::{HeaderMap, Request, Response, header};
use tonic::{Code, Status};
use tower::{Layer, Service};

use super::listen::{Caller, Link};
use super::refused;
use crate::capability::{Granted, Verifier};
use crate::identity::Fingerprint;

/// Whose a method is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// One's own client's.
    Own,
    /// Another peer's, with a capability.
    Between,
}

/// Every method and whose it is.
const METHODS: [(&str, Kind); 11] = [
    ("/tertulia.peer.v1.Peer/Register", Kind::Own),
    ("/tertulia.peer.v1.Peer/Login", Kind::Own),
    ("/tertulia.peer.v1.Peer/Logout", Kind::Own),
    ("/tertulia.peer.v1.Peer/SaveFile", Kind::Own),
    ("/tertulia.peer.v1.Peer/SaveFolder", Kind::Own),
    ("/tertulia.peer.v1.Peer/Peers", Kind::Own),
    ("/tertulia.peer.v1.Peer/Search", Kind::Own),
    ("/tertulia.peer.v1.Peer/List", Kind::Own),
    ("/tertulia.peer.v1.Peer/Sources", Kind::Own),
    ("/tertulia.peer.v1.Peer/Have", Kind::Between),
    ("/tertulia.peer.v1.Peer/Pieces", Kind::Between),
];

/// By what capabilities are verified, once the node has said so.
pub type SharedVerifier = Arc<RwLock<Option<Verifier>>>;

/// Puts the guard before a service.
#[derive(Clone)]
pub struct Guard {
    /// Who has the key of this certificate is the owner.
    pub own: Fingerprint,
    /// By what capabilities are verified.
    pub verifier: SharedVerifier,
}

impl<S> Layer<S> for Guard {
    type Service = Guarded<S>;

    fn layer(&self, inner: S) -> Guarded<S> {
        Guarded { guard: self.clone(), inner }
    }
}

/// A service that only who may reaches.
#[derive(Clone)]
pub struct Guarded<S> {
    guard: Guard,
    inner: S,
}

impl Guard {
    /// Whether this caller may call this method; what a capability opens, where one is needed.
    fn check(
        &self,
        path: &str,
        caller: Option<Caller>,
        headers: &HeaderMap,
        now: Timestamp,
    ) -> Result<Option<Granted>, Status> {
        let kind = METHODS.iter().find(|(method, _)| *method == path).map(|(_, kind)| *kind);
        let (Some(kind), Some(caller)) = (kind, caller) else {
            return Err(refused(Code::PermissionDenied, "DENIED", "there is nothing here for you"));
        };
        match kind {
            Kind::Own if caller.is_own => Ok(None),
            Kind::Own if caller.fingerprint == Some(self.own) => Ok(None),
            Kind::Own => {
                let message = "this is for the peer's owner: as the user whose peer it is, on \
                               its machine, or with its certificate";
                Err(refused(Code::PermissionDenied, "DENIED", message))
            }
            Kind::Between => self.granted(caller, headers, now).map(Some),
        }
    }

    fn granted(
        &self,
        caller: Caller,
        headers: &HeaderMap,
        now: Timestamp,
    ) -> Result<Granted, Status> {
        let deny = |message: &str| refused(Code::PermissionDenied, "NO_CAPABILITY", message);
        let shown = caller
            .fingerprint
            .ok_or_else(|| deny("contents are sent over TLS, to a certificate only"))?;
        let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let text = bearer.and_then(|value| value.strip_prefix("Bearer "));
        let text = text.ok_or_else(|| deny("ask the node for a capability first"))?;
        let verifier = self.verifier.read().unwrap_or_else(PoisonError::into_inner).clone();
        let verifier = verifier.ok_or_else(|| {
            refused(
                Code::Unavailable,
                "NODE_UNREACHABLE",
                "this peer has not reached its node yet; try again",
            )
        })?;
        verifier.verify(text, shown, now).map_err(|why| deny(&why.to_string()))
    }
}

impl<S, B, R> Service<Request<B>> for Guarded<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
    R: Default + Send + 'static,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<Response<R>, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let caller = request.extensions().get::<Link>().map(|link| link.caller);
        let path = request.uri().path();
        let checked = self.guard.check(path, caller, request.headers(), Timestamp::now());
        let known = METHODS.iter().find(|(method, _)| *method == path);
        let method = known.and_then(|(method, _)| method.rsplit('/').next()).unwrap_or("unknown");
        let address = caller.map(|caller| tracing::field::display(caller.address));
        tracing::debug!(method, address, may = checked.is_ok(), "called over gRPC");
        match checked {
            Err(status) => Box::pin(std::future::ready(Ok(status.into_http()))),
            Ok(granted) => {
                if let Some(granted) = granted {
                    request.extensions_mut().insert(granted);
                }
                Box::pin(self.inner.call(request))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn methods() -> Vec<String> {
        let described = include_str!("../../proto/tertulia/peer/v1/peer.proto");
        let rpcs = described.lines().filter_map(|line| line.trim().strip_prefix("rpc "));
        rpcs.filter_map(|rest| rest.split('(').next())
            .map(|name| format!("/tertulia.peer.v1.Peer/{name}"))
            .collect()
    }

    #[test]
    fn every_method_is_somebodys_and_nothing_else_is() {
        let described = methods();
        assert_eq!(described.len(), METHODS.len());
        for method in &described {
            assert!(METHODS.iter().any(|(known, _)| known == method), "{method} is nobody's");
        }
    }

    #[test]
    fn strangers_may_call_nothing() {
        let guard = Guard { own: Fingerprint([1; 32]), verifier: SharedVerifier::default() };
        let (near, far) = ([127, 0, 0, 1].into(), [10, 0, 0, 7].into());
        let caller = |address, fingerprint: Option<u8>, is_own| {
            let fingerprint = fingerprint.map(|byte| Fingerprint([byte; 32]));
            Some(Caller { address, fingerprint, is_own })
        };
        let check = |path: &str, caller| {
            guard
                .check(path, caller, &HeaderMap::new(), Timestamp::UNIX_EPOCH)
                .map_err(|status| status.code())
        };
        for method in methods() {
            let is_own = !method.ends_with("/Pieces") && !method.ends_with("/Have");
            let denied = Err(Code::PermissionDenied);
            for (who, may) in [
                (None, false),
                (caller(far, None, false), false),
                (caller(far, Some(2), false), false),
                (caller(far, Some(1), false), is_own),
                (caller(near, None, false), false),
                (caller(near, Some(2), false), false),
                (caller(near, None, true), is_own),
            ] {
                assert_eq!(
                    check(&method, who),
                    if may { Ok(None) } else { denied.clone() },
                    "{method} {who:?}"
                );
            }
        }
        for path in ["/tertulia.peer.v1.Peer/Delete", "/grpc.health.v1.Health/Check", "/", "", "*"]
        {
            assert_eq!(
                check(path, caller(near, Some(1), true)),
                Err(Code::PermissionDenied),
                "{path}"
            );
        }
    }
}
