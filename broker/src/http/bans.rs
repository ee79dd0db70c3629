//! For administrators: who is banned, `/v1/admin/bans`, and who reads slowly, `/v1/admin/slow`.

use std::net::IpAddr;

use axum::extract::{Query, State};
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Value, json};
use tidings_core::shard::{Slow, shard_of};
use tracing::warn;

use super::admin::Admin;
use super::{Api, Endpoint, Json, Problem, delete, get, post, reply};
use crate::limits::{Ban, BanBook, BanError, Banned, Sentence};

/// Slow sessions that one answer has; who has more looks at the first ones first.
const MAX_SLOW: usize = 1000;

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        get("/v1/admin/bans", list, "Who is banned").answers(200, "Bans, in order", "Any"),
        post("/v1/admin/bans", ban, "Ban an address, a user or a client")
            .takes("Any")
            .answers_nothing(),
        delete("/v1/admin/bans", unban, "End a ban")
            .query("address", "string", "An address; of IPv6 its /64")
            .query("user", "string", "A user, or whose client it is")
            .query("client_id", "string", "A Client Identifier")
            .answers_nothing(),
        get(
            "/v1/admin/slow",
            slow,
            "Sessions that read slowly, the longest first",
        )
        .answers(
            200,
            "Sessions that are behind for limits.slow_after_s or longer",
            "Any",
        ),
    ]
}

/// Whom a request is about: one address, one user, or a client (of a user, if one is given).
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Who {
    address: Option<IpAddr>,
    user: Option<String>,
    client_id: Option<String>,
}

impl Who {
    fn banned(self) -> Result<Banned, Problem> {
        match (self.address, self.user, self.client_id) {
            (Some(address), None, None) => Ok(Banned::Address(address)),
            (None, Some(user), None) => Ok(Banned::User(user)),
            (None, user, Some(client_id)) => Ok(Banned::Client(client_id, user)),
            _ => Err(Problem::bad_request(
                "say one of address, user and client_id (with or without its user)",
            )),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewBan {
    address: Option<IpAddr>,
    user: Option<String>,
    client_id: Option<String>,
    /// Without it the ban lasts until somebody ends it.
    seconds: Option<u64>,
    #[serde(default)]
    why: String,
}

async fn list(State(api): State<Api>, _: Admin) -> Result<Response, Problem> {
    let bans = book(api).list();
    let bans: Vec<Value> = bans.iter().map(|(who, ban)| told(who, ban)).collect();
    Ok(reply::ok(&json!({ "bans": bans })))
}

async fn ban(
    State(api): State<Api>,
    admin: Admin,
    Json(new): Json<NewBan>,
) -> Result<Response, Problem> {
    let who = Who {
        address: new.address,
        user: new.user,
        client_id: new.client_id,
    };
    let sentence = Sentence {
        who: who.banned()?,
        seconds: new.seconds,
        why: new.why,
    };
    book(api).ban(&admin.actor, sentence).await?;
    Ok(reply::done())
}

async fn unban(
    State(api): State<Api>,
    admin: Admin,
    Query(who): Query<Who>,
) -> Result<Response, Problem> {
    book(api).unban(&admin.actor, who.banned()?).await?;
    Ok(reply::done())
}

fn book(api: Api) -> BanBook {
    BanBook {
        reception: api.reception.clone(),
        audit: api.audit.clone(),
    }
}

impl From<BanError> for Problem {
    fn from(error: BanError) -> Self {
        let text = error.to_string();
        match error {
            BanError::Name | BanError::Why => Self::bad_request(text),
            BanError::NoBan => Self::not_found(text),
            BanError::NotWritten(_) => {
                warn!(%error, "a ban");
                // What the system says is for the log.
                Self::unavailable("it counts from now on, but could not be written")
            }
        }
    }
}

fn told(who: &Banned, ban: &Ban) -> Value {
    let (address, user, client_id) = match who {
        Banned::Address(address) => (Some(address.to_string()), None, None),
        Banned::User(user) => (None, Some(user.clone()), None),
        Banned::Client(client_id, user) => (None, user.clone(), Some(client_id.clone())),
    };
    json!({
        "address": address,
        "user": user,
        "client_id": client_id,
        "since": ban.since,
        "until": ban.until,
        "why": ban.why,
        "by_hand": ban.by_hand,
        "refused": ban.refused,
    })
}

async fn slow(State(api): State<Api>, _: Admin) -> Result<Response, Problem> {
    let reception = &api.reception;
    let least = reception.limits.options.slow_after.as_millis();
    let least_ms = u64::try_from(least).unwrap_or(u64::MAX);
    let mut found: Vec<Slow> = Vec::new();
    for shard in 0..reception.shards.len() {
        let look =
            move |now, shard: &mut tidings_core::shard::Shard| shard.slow(now, least_ms, MAX_SLOW);
        let slow = reception.shards.visit(shard, look).await;
        found.extend(slow.map_err(|_| Problem::unavailable("the broker is stopping"))?);
    }
    found.sort_unstable_by_key(|session| std::cmp::Reverse(session.for_ms));
    found.truncate(MAX_SLOW);
    let now = reception.clock.now().unix_ms;
    let described: Vec<Value> = found
        .iter()
        .map(|session| {
            json!({
                "client_id": &*session.client_id,
                "user": &*session.user,
                "since": now.saturating_sub(session.for_ms),
                "output_bytes": session.output_bytes,
                "behind_entries": session.behind_entries,
                "open_publishes": session.open_publishes,
                "shard": shard_of(&session.client_id, reception.shards.len()),
            })
        })
        .collect();
    Ok(reply::ok(&json!({ "slow": described })))
}
