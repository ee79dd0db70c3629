//! The HTTP API, on the port of WebSocket: `/v1/...`, JSON, one file for each resource.
//!
//! ```text
//! request -> Caller (who is it?) -> resource -> answer, or Problem {"error":{"code","status","text"}}
//! ```
//! Invariants: whoever asks has proved who they are ([`Caller`]) before anything is looked at; what
//! they see and do is judged by the topic rules and the services that judge MQTT, at the time of the
//! answer; every endpoint is in one table, of which the router and the OpenAPI document are made.
//! This module does not know sockets; they are the listener's.

mod admin;
mod bans;
mod body;
mod caller;
mod changes;
mod devices;
mod docs;
mod endpoint;
mod events;
mod hand;
mod health;
mod history;
mod line;
mod login;
mod members;
mod messages;
mod metrics;
mod openapi;
mod place;
mod presence;
mod problem;
mod read;
mod reply;
mod rooms;
mod sessions;

use std::ops::Deref;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::any;
use tidings_core::journal::Journal;
use tidings_core::rules::Membership;

use crate::service::pace::Pace;
use tidings_core::state::State;

use crate::audit::AuditLog;
use crate::handshake::Reception;
use crate::history::History;
use crate::listener::Peer;
use crate::log_tail::LogTail;
use crate::metrics::{Hour, Sources};
use crate::people::Counts;
use crate::readiness::Readiness;
use crate::rooms::Rooms;
use crate::rulebook::Rulebook;
use crate::trace::Tracing;

pub(crate) use body::Json;
pub(crate) use caller::{Caller, MARK};
pub(crate) use endpoint::{Endpoint, delete, get, patch, post, put};
pub use events::Understood;
pub(crate) use events::{Streams, measure_query as events_query, understand as chat_text};
pub(crate) use hand::Hands;
pub(crate) use line::{Line, Streaming};
pub(crate) use metrics::Requests;
pub(crate) use place::judge as place;
pub(crate) use problem::Problem;

/// Where all paths of the API begin.
const BASE: &str = "/v1";

/// How the HTTP API works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Hours that a login counts.
    pub login_hours: u32,
    /// Bytes of a request's body.
    pub max_body_bytes: usize,
    /// Who is given the metrics.
    pub metrics: MetricsFor,
    /// Requests of one user; as many may come at once.
    pub requests_per_minute: u32,
    /// Seconds between two signs of life of a stream.
    pub heartbeat_s: u32,
    /// Seconds that a poll may wait.
    pub max_poll_s: u32,
    /// Streams and waiting polls of one user.
    pub max_streams_per_user: u32,
}

/// Who is given the metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MetricsFor {
    /// Requests from this machine that no proxy passed on, and administrators.
    #[default]
    Local,
    /// Administrators.
    Admin,
    /// Whoever asks.
    Anyone,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            login_hours: 7 * 24,
            max_body_bytes: 1024 * 1024,
            metrics: MetricsFor::Local,
            requests_per_minute: 6000,
            heartbeat_s: 15,
            max_poll_s: 60,
            max_streams_per_user: 50,
        }
    }
}

/// What the API works with.
pub(crate) struct Parts {
    pub options: Options,
    pub reception: Arc<Reception>,
    /// `None`: everyone is in every room.
    pub rooms: Option<Arc<Rooms>>,
    pub rules: Arc<Rulebook>,
    pub members: Arc<dyn Membership + Send + Sync>,
    pub state: Arc<dyn State>,
    pub history: Arc<History>,
    pub counts: Arc<Counts>,
    pub sources: Arc<Sources>,
    pub readiness: Readiness,
    /// People have passwords and devices have tokens.
    pub has_accounts: bool,
    /// Bytes of the largest packet that a session takes.
    pub max_packet_bytes: usize,
    pub hands: Hands,
    pub requests: Requests,
    /// How often each user asks.
    pub pace: Mutex<Pace>,
    pub streams: Arc<Streams>,
    pub journal: Arc<dyn Journal>,
    pub audit: AuditLog,
    pub tracing: Arc<Tracing>,
    pub hour: Arc<Hour>,
    /// The last lines of the log, if somebody keeps them.
    pub log: Option<Arc<LogTail>>,
}

/// The API, as every request sees it.
#[derive(Clone)]
pub(crate) struct Api(Arc<Parts>);

impl Api {
    pub fn new(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }
}

impl Deref for Api {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

/// Every endpoint there is.
fn endpoints() -> Vec<Endpoint> {
    [
        health::endpoints(),
        login::endpoints(),
        rooms::endpoints(),
        members::endpoints(),
        history::endpoints(),
        messages::endpoints(),
        changes::endpoints(),
        read::endpoints(),
        presence::endpoints(),
        sessions::endpoints(),
        bans::endpoints(),
        devices::endpoints(),
        metrics::endpoints(),
        admin::endpoints(),
        events::endpoints(),
        openapi::endpoints(),
        docs::endpoints(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Whether a path belongs to the API.
pub(crate) fn has(path: &str) -> bool {
    path == BASE || path.starts_with("/v1/") || endpoints().iter().any(|one| one.path == path)
}

/// Serves all endpoints, and answers for everything else below their base.
pub(crate) fn router(api: Api) -> Router {
    let nothing = || async { Problem::not_found("there is nothing at this path") };
    let not_so = || async { Problem::method_not_allowed() };
    let mut router = Router::new()
        .route(BASE, any(nothing))
        .route("/v1/", any(nothing))
        .route("/v1/{*rest}", any(nothing));
    for endpoint in endpoints() {
        let counted = (api.requests.clone(), endpoint.method, endpoint.path);
        let handler = endpoint
            .handler
            .layer(from_fn_with_state(counted, metrics::count));
        router = router.route(endpoint.path, handler);
    }
    router.method_not_allowed_fallback(not_so).with_state(api)
}
