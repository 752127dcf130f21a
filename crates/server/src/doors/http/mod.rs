//! The HTTP door: decodes requests, asks the directory or a group, encodes the answers; see `/api/openapi.json`.

#![allow(unused_qualifications, reason = "in what `utoipa::path` makes of `params`")]

mod accounts;
mod ask;
mod body;
mod events;
mod groups;
mod guard;
mod line_end;
mod messages;
mod origin;
mod params;
mod posts;
mod problem;
mod refusals;
mod relay;
mod sharing;
mod web;
mod web_session;
mod web_told;

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::DefaultBodyLimit;
use axum::http::{Method, StatusCode, Uri};
use axum::routing::get;
use axum::{Json, Router, middleware};
use hyper::Request;
use hyper::body::Incoming;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tertulia_wire::Code;
use tokio_io_timeout::TimeoutStream;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use self::posts::Posts;
use self::problem::Problem;
#[cfg(test)]
pub(crate) use self::web::kinds as web_kinds;
use super::Arrival;
use crate::accounts::Caller;
use crate::accounts::table::Operation;
use crate::budget::Held;
use crate::config::NodeLimits;
use crate::directory::{Denied, Directory, Listed};
use crate::shared::Counted;

/// Header fields of a request.
const HEADERS_MAX: usize = 64;
/// What is read ahead and written behind on a connection.
const BUFFER_BYTES: usize = 64 << 10;

/// What every handler has.
#[derive(Clone)]
pub(crate) struct Door {
    directory: Arc<Directory>,
    posts: Posts,
}

/// The connection that a request came on.
#[derive(Clone)]
pub(crate) struct Peer {
    /// The connection's number, for the log.
    conn: u64,
    address: IpAddr,
    /// Who asks; of each request once it was looked at.
    caller: Caller,
    /// The address at which it reached the node.
    dialled: SocketAddr,
    /// What waits for it, or of it.
    held: Arc<Mutex<Held>>,
    /// Counts it as long as anything of it is left.
    _counted: Arc<Counted>,
}

impl Peer {
    /// So many bytes wait on this connection now; beyond what the node has room for, the one that has held on for longest
    /// is closed.
    fn hold(&self, bytes: usize) {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).set(bytes, true);
    }
}

impl Door {
    /// The group of this name, where who asks may do this with it.
    async fn listed(
        &self,
        peer: &Peer,
        operation: Operation,
        group: &str,
    ) -> Result<Arc<Listed>, Problem> {
        Ok(self.directory.admit(&peer.caller, operation, group).await?.listed)
    }
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Tertulia",
        description = "Tell a group something, and know that everyone got it.",
        license(name = "MIT OR Apache-2.0")
    ),
    components(schemas(Problem))
)]
struct Description;

/// Everything that the door answers.
pub(crate) fn app(directory: &Arc<Directory>) -> Router {
    let door = Door { directory: Arc::clone(directory), posts: Posts::default() };
    let (routes, description) = OpenApiRouter::with_openapi(Description::openapi())
        .routes(routes!(groups::healthz))
        .routes(routes!(groups::metrics))
        .routes(routes!(groups::list, groups::create))
        .routes(routes!(groups::show))
        .routes(routes!(groups::rules, groups::set_rules))
        .routes(routes!(accounts::register))
        .routes(routes!(accounts::login))
        .routes(routes!(accounts::password))
        .routes(routes!(accounts::logout))
        .routes(routes!(accounts::whoami))
        .routes(routes!(groups::locate))
        .routes(routes!(groups::allocate))
        .routes(routes!(messages::post, messages::history))
        .routes(routes!(messages::receipt))
        .routes(routes!(events::events))
        .routes(routes!(web::socket))
        .routes(routes!(sharing::peers))
        .routes(routes!(sharing::here, sharing::gone))
        .routes(routes!(sharing::key))
        .routes(routes!(sharing::search, sharing::announce))
        .routes(routes!(relay::content))
        .routes(routes!(sharing::holders))
        .routes(routes!(sharing::capability))
        .split_for_parts();
    let description = Json(description);
    routes
        .route("/api/openapi.json", get(move || std::future::ready(description.clone())))
        .route_layer(middleware::from_fn_with_state(door.clone(), guard::guard))
        .fallback(not_here)
        .method_not_allowed_fallback(not_so)
        .layer(middleware::from_fn_with_state(door.clone(), origin::check))
        .layer(middleware::map_response(line_end::put))
        // Bodies are gathered by `body`, which knows what each may be.
        .layer(DefaultBodyLimit::disable())
        .with_state(door)
}

async fn not_here(uri: Uri) -> Problem {
    let detail = format!("nothing is at {}; see /api/openapi.json", uri.path());
    Problem::new(StatusCode::NOT_FOUND, "NO_SUCH_PATH", detail)
}

async fn not_so(method: Method, uri: Uri) -> Problem {
    let detail = format!("{} takes no {method}; see /api/openapi.json", uri.path());
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "NO_SUCH_METHOD", detail)
}

/// The answer to whatever one connection too many asks.
pub(crate) fn turned_away(code: Code, message: &str) -> Vec<u8> {
    Problem::from(Denied::new(code, message)).into_last_answer()
}

/// Serves a connection until it ends.
pub(crate) async fn serve(arrival: Arrival, app: Router, directory: Arc<Directory>) {
    let Arrival { id, stream, address, dialled, counted, secure, .. } = arrival;
    let held = directory.shared.budget.holder();
    let NodeLimits { answer, head, .. } = directory.shared.config.limits;
    drop(directory);
    let called = held.caller();
    let (held, counted) = (Arc::new(Mutex::new(held)), Arc::new(counted));
    let caller = Caller::new(address, secure);
    let peer = Peer { conn: id.0, address, caller, dialled, held, _counted: counted };
    let _ = socket2::SockRef::from(&stream).set_send_buffer_size(BUFFER_BYTES);
    let mut stream = TimeoutStream::new(stream);
    // Who reads nothing of an answer for so long holds memory for nothing: streams can be resumed.
    stream.set_write_timeout(Some(answer));
    // Not as a layer: that would be a copy of every route for each connection.
    let app = TowerToHyperService::new(app);
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer.clone());
        app.call(request)
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(head)
        .max_headers(HEADERS_MAX)
        .max_buf_size(BUFFER_BYTES)
        .serve_connection(TokioIo::new(Box::pin(stream)), service)
        .with_upgrades();
    tokio::select! {
        served = connection => if let Err(error) = served {
            tracing::debug!(conn = id.0, %error, "a connection ended");
        },
        () = called.called() => tracing::debug!(conn = id.0, "too much waited for a connection"),
    }
}
