//! Who is in a room, and who may not be: members, bans, mutes and invitations of `/v1/rooms/{room}`.
//! They are the retained records below `room/{room}/`, each told to whom the topic rules let read it.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tidings_core::message::Offset;
use tidings_core::rooms::RoomError;

use super::place::{At, Query, room, user};
use super::rooms::ask;
use super::{Api, Caller, Endpoint, Json, Problem, delete, get, put, reply};

/// Records in one answer.
const MAX_LISTED: usize = 1000;

const DEFAULT_LISTED: usize = 100;

macro_rules! marks {
    ($($list:ident, $set:ident, $remove:ident, $level:literal, $give:literal, $take:literal;)*) => {$(
        async fn $list(
            api: State<Api>,
            caller: Caller,
            at: At<String>,
            asked: Query<Listing>,
        ) -> Result<Response, Problem> {
            list(api, caller, at, asked, $level).await
        }

        async fn $set(
            State(api): State<Api>,
            caller: Caller,
            At((name, whom)): At<(String, String)>,
            Json(asked): Json<For>,
        ) -> Result<Response, Problem> {
            let fields = json!({ "room": room(&name)?, "user": user(&whom)?, "seconds": asked.seconds });
            ask(&api, &caller, $give, fields).await?;
            Ok(reply::done())
        }

        async fn $remove(
            api: State<Api>,
            caller: Caller,
            at: At<(String, String)>,
        ) -> Result<Response, Problem> {
            about(api, caller, at, $take).await
        }
    )*};
}

marks! {
    bans, ban, unban, "ban", "ban", "unban";
    mutes, mute, unmute, "mute", "mute", "unmute";
    invitations, invite, uninvite, "invite", "invite", "uninvite";
}

pub(super) fn endpoints() -> Vec<Endpoint> {
    let listing = |endpoint: Endpoint| {
        endpoint
            .query("after", "string", "Only users after this one")
            .query("limit", "integer", "At most 1000; without it 100")
    };
    vec![
        listing(get(
            "/v1/rooms/{room}/members",
            members,
            "Members, in the order of names",
        ))
        .answers(200, "Members that you may know of", "Members"),
        put(
            "/v1/rooms/{room}/members/{user}",
            set_role,
            "Give a member a role",
        )
        .takes("RoleChange")
        .answers_nothing(),
        delete(
            "/v1/rooms/{room}/members/{user}",
            kick,
            "Send a member away",
        )
        .answers_nothing(),
        listing(get("/v1/rooms/{room}/bans", bans, "Who is banned")).answers(
            200,
            "Bans that you may know of",
            "Marks",
        ),
        put(
            "/v1/rooms/{room}/bans/{user}",
            ban,
            "Ban, for a time or for good",
        )
        .takes("ForSeconds")
        .answers_nothing(),
        delete("/v1/rooms/{room}/bans/{user}", unban, "Take a ban back").answers_nothing(),
        listing(get("/v1/rooms/{room}/mutes", mutes, "Who may not write")).answers(
            200,
            "Mutes that you may know of",
            "Marks",
        ),
        put(
            "/v1/rooms/{room}/mutes/{user}",
            mute,
            "Mute, for a time or for good",
        )
        .takes("ForSeconds")
        .answers_nothing(),
        delete("/v1/rooms/{room}/mutes/{user}", unmute, "Take a mute back").answers_nothing(),
        listing(get(
            "/v1/rooms/{room}/invitations",
            invitations,
            "Who is invited",
        ))
        .answers(200, "Invitations that you may know of", "Marks"),
        put("/v1/rooms/{room}/invitations/{user}", invite, "Invite").answers_nothing(),
        delete(
            "/v1/rooms/{room}/invitations/{user}",
            uninvite,
            "Take an invitation back, or decline it",
        )
        .answers_nothing(),
    ]
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Listing {
    #[serde(default)]
    after: String,
    limit: Option<usize>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct For {
    seconds: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RoleChange {
    role: String,
}

async fn members(
    api: State<Api>,
    caller: Caller,
    at: At<String>,
    asked: Query<Listing>,
) -> Result<Response, Problem> {
    list(api, caller, at, asked, "member").await
}

async fn set_role(
    State(api): State<Api>,
    caller: Caller,
    At((name, whom)): At<(String, String)>,
    Json(asked): Json<RoleChange>,
) -> Result<Response, Problem> {
    let fields = json!({ "room": room(&name)?, "user": user(&whom)?, "role": asked.role });
    ask(&api, &caller, "role", fields).await?;
    Ok(reply::done())
}

async fn kick(
    api: State<Api>,
    caller: Caller,
    at: At<(String, String)>,
) -> Result<Response, Problem> {
    about(api, caller, at, "kick").await
}

async fn about(
    State(api): State<Api>,
    caller: Caller,
    At((name, whom)): At<(String, String)>,
    method: &str,
) -> Result<Response, Problem> {
    let fields = json!({ "room": room(&name)?, "user": user(&whom)? });
    ask(&api, &caller, method, fields).await?;
    Ok(reply::done())
}

/// Records of one kind in a room. Who may not know of the room is told that there is none.
async fn list(
    State(api): State<Api>,
    caller: Caller,
    At(name): At<String>,
    Query(asked): Query<Listing>,
    level: &'static str,
) -> Result<Response, Problem> {
    let base = format!("room/{}", room(&name)?);
    let may = api
        .rules
        .may_receive(&base, caller.identity(), &*api.members);
    let is_there = api.rooms.as_ref().is_some_and(|rooms| {
        let view = rooms.view();
        view.record(&name).is_some_and(|record| !record.deleted)
    });
    if !may.is_allowed() || !is_there {
        return Err(RoomError::NoSuchRoom.into());
    }
    let limit = asked.limit.unwrap_or(DEFAULT_LISTED).clamp(1, MAX_LISTED);
    // A room may have a hundred thousand members, and they may be on disk.
    let search = move || {
        records(
            &api,
            &caller,
            &format!("{base}/{level}/"),
            &asked.after,
            limit,
        )
    };
    let (found, more) = tokio::task::spawn_blocking(search)
        .await
        .map_err(|_| Problem::unavailable("the records cannot be read"))?;
    let key = if level == "member" {
        "members"
    } else {
        "users"
    };
    Ok(reply::ok(&json!({ key: found, "more": more })))
}

/// The first records below `prefix` after a name that the caller may read, and whether there are more.
fn records(
    api: &Api,
    caller: &Caller,
    prefix: &str,
    after: &str,
    limit: usize,
) -> (Vec<Value>, bool) {
    let mut found: BTreeMap<Arc<str>, Map<String, Value>> = BTreeMap::new();
    let mut more = false;
    let filter = format!("{prefix}+");
    api.state
        .for_each_retained(&filter, Offset(u64::MAX), &mut |retained| {
            let message = &retained.published.message;
            let user = message.topic.strip_prefix(prefix).unwrap_or_default();
            let is_past_the_page = found.len() >= limit
                && found
                    .last_key_value()
                    .is_some_and(|(last, _)| **last < *user);
            if user <= after || (is_past_the_page && more) {
                return;
            }
            let may = api
                .rules
                .may_receive(&message.topic, caller.identity(), &*api.members);
            if !may.is_allowed() {
                return;
            }
            if let Ok(Value::Object(record)) = serde_json::from_slice(&message.payload) {
                found.insert(user.into(), record);
            }
            if found.len() > limit {
                more = true;
                found.pop_last();
            }
        });
    let told = found.into_iter().map(|(user, mut record)| {
        record.insert("user".to_owned(), (*user).into());
        Value::Object(record)
    });
    (told.collect(), more)
}
