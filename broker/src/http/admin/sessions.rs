//! Sessions of everyone, with a search: `/v1/admin/sessions`; and the end of a connection.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Value, json};
use tidings_core::shard::shard_of;
use tokio::sync::oneshot;

use super::super::place::{At, Query};
use super::super::sessions::{first, offline, online};
use super::super::{Api, Endpoint, Problem, delete, get, reply};
use super::Admin;
use crate::limits::MAX_WORDS;
use crate::metrics::Via;
use crate::shard::{Online, Search};

const MAX_LISTED: usize = 1000;

const DEFAULT_LISTED: usize = 100;

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        get("/v1/admin/sessions", list, "Sessions of everyone")
            .query(
                "search",
                "string",
                "Part of a Client Identifier, a user name or an address",
            )
            .query(
                "door",
                "string",
                "Of those connected: tcp, tls, ws, wss, unix, sse, poll, http, chat",
            )
            .query(
                "state",
                "string",
                "online, offline or lagging; without it all",
            )
            .query("after", "string", "Only Client Identifiers after this one")
            .query("limit", "integer", "At most 1000; without it 100")
            .answers(200, "Sessions in the order of Client Identifiers", "Any"),
        delete(
            "/v1/admin/sessions/{client_id}",
            end,
            "End the connection; Session State stays as long as it would",
        )
        .query("why", "string", "For the audit log, at most 1024 bytes")
        .query(
            "forget",
            "boolean",
            "End Session State, too, also of who is away: the Client Identifier is free",
        )
        .answers_nothing(),
    ]
}

#[derive(Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
enum State_ {
    Online,
    Offline,
    Lagging,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Listing {
    #[serde(default)]
    search: String,
    door: Option<String>,
    state: Option<State_>,
    #[serde(default)]
    after: String,
    limit: Option<usize>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Ending {
    #[serde(default)]
    why: String,
    #[serde(default)]
    forget: bool,
}

fn stopping() -> Problem {
    Problem::unavailable("the broker is stopping")
}

async fn list(
    State(api): State<Api>,
    _: Admin,
    Query(asked): Query<Listing>,
) -> Result<Response, Problem> {
    let via = match asked.door.as_deref() {
        None | Some("") => None,
        Some(name) => {
            let found = Via::ALL.into_iter().find(|via| via.name() == name);
            Some(found.ok_or_else(|| Problem::bad_request("there is no such door"))?)
        }
    };
    let limit = asked.limit.unwrap_or(DEFAULT_LISTED).clamp(1, MAX_LISTED);
    let mut found: Vec<(Arc<str>, Value)> = Vec::new();
    if asked.state != Some(State_::Offline) {
        let shards = &api.reception.shards;
        for shard in 0..shards.len() {
            let (answer, is_found) = oneshot::channel();
            let search = Search {
                text: asked.search.clone(),
                via,
                lagging: asked.state == Some(State_::Lagging),
                after: asked.after.clone(),
                limit: limit + 1,
                found: answer,
            };
            shards.search(shard, search);
            let connected = is_found.await.map_err(|_| stopping())?;
            let told = connected.iter();
            found.extend(told.map(|one| (one.session.client_id.clone(), described(one))));
        }
    }
    let is_for_all = asked.state.is_none() && via.is_none();
    if asked.state == Some(State_::Offline) || is_for_all {
        let (state, text, after) = (api.state.clone(), asked.search, asked.after);
        let waiting = tokio::task::spawn_blocking(move || {
            let end = state_end(&*state);
            let mut found: Vec<(Arc<str>, Value)> = Vec::new();
            state.for_each_session(&mut |client_id, record| {
                let is_meant = client_id.contains(&text) || record.user.contains(&text);
                if record.closed_at.is_some() && is_meant && **client_id > *after {
                    let mut told = offline(client_id, record);
                    told["behind"] = end.saturating_sub(record.position().0).into();
                    found.push((client_id.clone(), told));
                }
                if found.len() > 4 * MAX_LISTED {
                    first(&mut found, limit + 1);
                }
            });
            found
        });
        found.extend(waiting.await.map_err(|_| stopping())?);
    }
    // One that just came back is told once, as it is now.
    first(&mut found, limit + 1);
    let more = found.len() > limit;
    found.truncate(limit);
    let sessions: Vec<Value> = found.into_iter().map(|(_, session)| session).collect();
    Ok(reply::ok(&json!({ "sessions": sessions, "more": more })))
}

fn state_end(state: &dyn tidings_core::state::State) -> u64 {
    state.applied().0
}

fn described(one: &Online) -> Value {
    let mut told = online(&one.session);
    told["behind"] = one.session.behind.into();
    told["door"] = one.via.name().into();
    told["address"] = one.address.map(|address| address.to_string()).into();
    told["since"] = one.since.into();
    told
}

async fn end(
    State(api): State<Api>,
    admin: Admin,
    At(client_id): At<String>,
    Query(Ending { why, forget }): Query<Ending>,
) -> Result<Response, Problem> {
    if why.len() > MAX_WORDS {
        let text = format!("why has at most {MAX_WORDS} bytes");
        return Err(Problem::bad_request(text));
    }
    let shards = &api.reception.shards;
    let shard = shard_of(&client_id, shards.len());
    let id = client_id.clone();
    let end = move |now, shard: &mut tidings_core::shard::Shard| match forget {
        true => shard.end_client(now, &id),
        false => shard.disconnect_client(now, &id, None),
    };
    let ended = shards.visit(shard, end).await.map_err(|_| stopping())?;
    let result = ended.then_some(()).ok_or("there is no such session");
    let what = if forget { "session_end" } else { "disconnect" };
    api.audit
        .record(&admin.actor, what, &client_id, &why, result);
    match result {
        Ok(()) => Ok(reply::done()),
        Err(why) => Err(Problem::not_found(why)),
    }
}
