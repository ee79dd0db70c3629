//! Sessions: `/v1/sessions`. Everyone sees and ends their own; who has the role `admin`, everyone's.

use std::sync::Arc;

use axum::extract::{Extension, State};
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Value, json};
use tidings_core::account::ADMIN;
use tidings_core::codec::Version;
use tidings_core::shard::{Connected, shard_of};
use tidings_core::state::SessionRecord;

use super::place::{At, Query};
use super::{Api, Caller, Endpoint, Peer, Problem, admin, delete, get, reply};

const MAX_LISTED: usize = 1000;

const DEFAULT_LISTED: usize = 100;

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        get(
            "/v1/sessions",
            list,
            "Sessions, connected ones and those that wait",
        )
        .query(
            "user",
            "string",
            "Of this user; others than you need the role admin",
        )
        .query("all", "boolean", "Of everyone; needs the role admin")
        .query("after", "string", "Only Client Identifiers after this one")
        .query("limit", "integer", "At most 1000; without it 100")
        .answers(
            200,
            "Sessions in the order of Client Identifiers",
            "Sessions",
        ),
        get("/v1/sessions/{client_id}", show, "One session").answers(200, "The session", "Session"),
        delete(
            "/v1/sessions/{client_id}",
            end,
            "End the connection; Session State stays as long as it would",
        )
        .answers_nothing(),
    ]
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Listing {
    user: Option<String>,
    #[serde(default)]
    all: bool,
    #[serde(default)]
    after: String,
    limit: Option<usize>,
}

async fn list(
    State(api): State<Api>,
    caller: Caller,
    Query(asked): Query<Listing>,
) -> Result<Response, Problem> {
    let user = match (asked.all, asked.user) {
        (true, _) => None,
        (false, Some(user)) => Some(user),
        (false, None) => Some(caller.user().to_owned()),
    };
    if user.as_deref() != Some(caller.user()) && !caller.identity().has_role(ADMIN) {
        return Err(Problem::forbidden(
            "only who has the role admin sees sessions of others",
        ));
    }
    let limit = asked.limit.unwrap_or(DEFAULT_LISTED).clamp(1, MAX_LISTED);
    let shards = &api.reception.shards;
    let mut found: Vec<(Arc<str>, Value)> = Vec::new();
    for shard in 0..shards.len() {
        let (user, after) = (user.clone(), asked.after.clone());
        // One more than is told, to know whether there are more.
        let look = move |now, shard: &mut tidings_core::shard::Shard| {
            shard.connected(now, user.as_deref(), &after, limit + 1)
        };
        let connected = shards.visit(shard, look).await.map_err(|_| stopping())?;
        found.extend(
            connected
                .iter()
                .map(|one| (one.client_id.clone(), online(one))),
        );
    }
    let state = api.state.clone();
    let after = asked.after;
    let waiting = tokio::task::spawn_blocking(move || {
        let mut found: Vec<(Arc<str>, Value)> = Vec::new();
        state.for_each_session(&mut |client_id, record| {
            let is_meant = user.as_ref().is_none_or(|user| **user == *record.user);
            if record.closed_at.is_some() && is_meant && **client_id > *after {
                found.push((client_id.clone(), offline(client_id, record)));
            }
            if found.len() > 4 * MAX_LISTED {
                first(&mut found, limit + 1);
            }
        });
        found
    });
    found.extend(waiting.await.map_err(|_| stopping())?);
    // One that just came back is told once, as it is now.
    first(&mut found, limit + 1);
    let more = found.len() > limit;
    found.truncate(limit);
    let sessions: Vec<Value> = found.into_iter().map(|(_, session)| session).collect();
    Ok(reply::ok(&json!({ "sessions": sessions, "more": more })))
}

/// The first ones by name, each once: what came first counts.
pub(super) fn first(found: &mut Vec<(Arc<str>, Value)>, count: usize) {
    found.sort_by(|a, b| a.0.cmp(&b.0));
    found.dedup_by(|later, earlier| later.0 == earlier.0);
    found.truncate(count);
}

async fn show(
    State(api): State<Api>,
    caller: Caller,
    At(client_id): At<String>,
) -> Result<Response, Problem> {
    let user = (!caller.identity().has_role(ADMIN)).then(|| caller.user().to_owned());
    let shards = &api.reception.shards;
    let (id, of) = (client_id.clone(), user.clone());
    let look = move |now, shard: &mut tidings_core::shard::Shard| {
        shard.connected_client(now, &id, of.as_deref())
    };
    let shard = shard_of(&client_id, shards.len());
    if let Some(connected) = shards.visit(shard, look).await.map_err(|_| stopping())? {
        return Ok(reply::ok(&online(&connected)));
    }
    let record = api.state.session(&client_id);
    let is_theirs =
        |record: &SessionRecord| user.as_ref().is_none_or(|user| **user == *record.user);
    let record = record.filter(is_theirs).ok_or_else(nothing)?;
    Ok(reply::ok(&offline(&client_id, &record)))
}

async fn end(
    State(api): State<Api>,
    caller: Caller,
    peer: Option<Extension<Peer>>,
    At(client_id): At<String>,
) -> Result<Response, Problem> {
    let actor = admin::actor(&caller, peer.as_deref());
    let id = client_id.clone();
    let user = (!caller.identity().has_role(ADMIN)).then(|| caller.user().to_owned());
    let shards = &api.reception.shards;
    let shard = shard_of(&client_id, shards.len());
    let end = move |now, shard: &mut tidings_core::shard::Shard| {
        shard.disconnect_client(now, &client_id, user.as_deref())
    };
    match shards.visit(shard, end).await {
        Ok(true) => {
            let done = Ok::<(), &str>(());
            api.audit.record(&actor, "disconnect", &id, "", done);
            Ok(reply::done())
        }
        Ok(false) => Err(nothing()),
        Err(_) => Err(stopping()),
    }
}

fn nothing() -> Problem {
    Problem::not_found("there is no such session")
}

fn stopping() -> Problem {
    Problem::unavailable("the broker is stopping")
}

pub(super) fn online(session: &Connected) -> Value {
    json!({
        "client_id": &*session.client_id,
        "user": &*session.user,
        "connected": true,
        "protocol": match session.version {
            Version::V31 => "3.1",
            Version::V311 => "3.1.1",
            Version::V5 => "5.0",
        },
        "persistent": session.persistent,
        "expiry_s": session.expiry_s,
        "keep_alive_s": session.keep_alive_s,
        "idle_ms": session.idle_ms,
        "lagging": session.lagging,
        "open_publishes": session.open_publishes,
        "output_bytes": session.output_bytes,
        "subscriptions": session.subscriptions,
        "filters": session.filters.iter().map(|filter| &**filter).collect::<Vec<_>>(),
    })
}

pub(super) fn offline(client_id: &str, record: &SessionRecord) -> Value {
    let filters = record.subscriptions.iter().map(|one| &*one.filter);
    json!({
        "client_id": client_id,
        "user": &*record.user,
        "connected": false,
        "persistent": true,
        "expiry_s": record.expiry_s,
        "closed_at": record.closed_at,
        "subscriptions": record.subscriptions.len(),
        "filters": filters.take(100).collect::<Vec<_>>(),
    })
}
