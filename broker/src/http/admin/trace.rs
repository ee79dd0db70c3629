//! `GET /v1/admin/trace`: a live trace as Server-Sent Events; each `data` is a packet or what happens beside
//! packets, as JSON. It ends when the caller goes, or may not be here any more.

use std::net::IpAddr;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Extension, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use tidings_core::account::ADMIN;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

use super::super::events::Chunks;
use super::super::place::Query;
use super::super::{Api, Caller, Endpoint, Line, Problem, get, reply};
use super::Admin;
use crate::trace::{Following, TraceError, Wanted};

/// How often it is asked whether the caller may still be here; also the heartbeat.
const WELCOME: Duration = Duration::from_secs(1);

/// Bytes of events that are put together while there are more.
const CHUNK: usize = 16 * 1024;

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        get(
            "/v1/admin/trace",
            trace,
            "What a client, user, topic or address does, live",
        )
        .query("client", "string", "A Client Identifier")
        .query("user", "string", "A user name")
        .query("topic", "string", "A topic filter")
        .query("address", "string", "An address without a port")
        .query("payloads", "boolean", "Payloads, too")
        .answers_with(200, "Server-Sent Events", "Any", "text/event-stream"),
    ]
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    client: Option<String>,
    user: Option<String>,
    topic: Option<String>,
    address: Option<IpAddr>,
    #[serde(default)]
    payloads: bool,
}

async fn trace(
    State(api): State<Api>,
    admin: Admin,
    line: Option<Extension<Line>>,
    Query(asked): Query<Asked>,
) -> Result<Response, Problem> {
    let wanted = Wanted {
        client: asked.client,
        user: asked.user,
        topic: asked.topic,
        address: asked.address,
        payloads: asked.payloads,
    };
    let told = serde_json::to_string(&wanted).unwrap_or_default();
    let following = api.tracing.follow(wanted);
    let result = following.as_ref().map(|_| ()).map_err(|error| *error);
    api.audit.record(&admin.actor, "trace", "", &told, result);
    let following = following.map_err(|error| match error {
        TraceError::TooMany => Problem::unavailable(error.to_string()),
        TraceError::Nothing | TraceError::BadFilter => Problem::bad_request(error.to_string()),
    })?;
    let line = line.map(|line| line.0).unwrap_or_default();
    let streaming = line.begin_stream();
    let (out, chunks) = mpsc::channel(1);
    tokio::spawn(feed(api, admin.caller, following, out, line));
    let body = Body::new(Chunks::new(chunks, streaming));
    Ok(reply::with(StatusCode::OK, "text/event-stream", body))
}

async fn feed(
    api: Api,
    caller: Caller,
    mut following: Following,
    out: mpsc::Sender<Bytes>,
    line: Line,
) {
    let mut welcome = interval(WELCOME);
    welcome.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut chunk = ": here\n\n".to_owned();
    loop {
        tokio::select! {
            permit = out.reserve(), if !chunk.is_empty() => match permit {
                Ok(permit) => permit.send(Bytes::from(std::mem::take(&mut chunk))),
                Err(_) => return,
            },
            told = following.next(), if chunk.len() < CHUNK => {
                chunk.push_str(&format!("data: {told}\n\n"));
            }
            _ = welcome.tick() => {
                if !is_admin(&api, &caller) {
                    line.cut();
                    return;
                }
                if chunk.is_empty() {
                    chunk.push_str(": here\n\n");
                }
            }
            () = out.closed() => return,
        }
    }
}

/// Whether the caller may still see this.
fn is_admin(api: &Api, caller: &Caller) -> bool {
    if !api.reception.auth.is_welcome(&caller.admitted) {
        return false;
    }
    let now = api.reception.clock.now().unix_ms;
    if caller.admitted.valid_until.is_some_and(|end| end <= now) {
        return false;
    }
    // A role that was taken away counts at once here.
    let account = api.reception.book.find(caller.user());
    account.is_none_or(|account| account.roles.iter().any(|role| **role == *ADMIN))
}
