//! Rooms: `/v1/rooms`. What changes a room is asked of the service of rooms, as over MQTT; what is told
//! of one is what the topic rules would let the caller read of its retained records.

use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tidings_core::rooms::RoomError;

use super::place::{At, Query, room, user};
use super::{Api, Caller, Endpoint, Json, Problem, delete, get, patch, post, reply};
use crate::rooms::MAX_LISTED;

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        get("/v1/rooms", list, "Your rooms, or those that everyone sees")
            .query("public", "boolean", "Those that everyone sees")
            .query("after", "string", "Only names after this one")
            .query("limit", "integer", "At most 100, which is the default")
            .answers(200, "Rooms in the order of names", "Rooms"),
        post("/v1/rooms", create, "Make a room; you become its owner")
            .takes("NewRoom")
            .answers(201, "The room", "Room"),
        get("/v1/rooms/{room}", show, "A room").answers(200, "The room", "Room"),
        patch(
            "/v1/rooms/{room}",
            change,
            "Change title, slow mode, archive: all that is named, or nothing",
        )
        .takes("RoomChange")
        .answers(200, "The room", "Room"),
        delete(
            "/v1/rooms/{room}",
            remove,
            "Delete a room; its name is not given again",
        )
        .answers_nothing(),
        post("/v1/rooms/{room}/join", join, "Join").answers(200, "The room", "Room"),
        post("/v1/rooms/{room}/leave", leave, "Leave").answers_nothing(),
        post(
            "/v1/rooms/{room}/archive",
            archive,
            "Archive: nobody writes any more",
        )
        .answers_nothing(),
        post(
            "/v1/rooms/{room}/unarchive",
            unarchive,
            "Bring back from the archive",
        )
        .answers_nothing(),
        post(
            "/v1/rooms/{room}/transfer",
            transfer,
            "Hand the room over to another member",
        )
        .takes("ToUser")
        .answers_nothing(),
    ]
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Listing {
    #[serde(default)]
    public: bool,
    #[serde(default)]
    after: String,
    limit: Option<usize>,
}

async fn list(
    State(api): State<Api>,
    caller: Caller,
    Query(asked): Query<Listing>,
) -> Result<Response, Problem> {
    let limit = asked.limit.unwrap_or(MAX_LISTED);
    let mut listed = match &api.rooms {
        Some(rooms) => rooms.list(caller.user(), asked.public, &asked.after, limit),
        None => json!({ "rooms": [], "more": false }),
    };
    // Where every name is an open room, an empty list does not mean that there are none.
    listed["managed"] = api.rooms.is_some().into();
    Ok(reply::ok(&listed))
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct NewRoom {
    #[serde(skip_serializing_if = "Option::is_none")]
    room: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    with: Option<String>,
}

async fn create(
    State(api): State<Api>,
    caller: Caller,
    Json(new): Json<NewRoom>,
) -> Result<Response, Problem> {
    let answer = ask(&api, &caller, "create", json!(new)).await?;
    let name = answer["room"].as_str().unwrap_or_default();
    let mut response = reply::json(StatusCode::CREATED, &described(&api, &caller, name)?);
    if let Ok(location) = HeaderValue::from_str(&format!("/v1/rooms/{}", escaped(name))) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

async fn show(
    State(api): State<Api>,
    caller: Caller,
    At(name): At<String>,
) -> Result<Response, Problem> {
    Ok(reply::ok(&described(&api, &caller, room(&name)?)?))
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct RoomChange {
    #[serde(skip_deserializing)]
    room: String,
    title: Option<String>,
    slow_s: Option<u32>,
    archived: Option<bool>,
}

async fn change(
    State(api): State<Api>,
    caller: Caller,
    At(name): At<String>,
    Json(change): Json<RoomChange>,
) -> Result<Response, Problem> {
    let name = room(&name)?;
    let change = RoomChange {
        room: name.to_owned(),
        ..change
    };
    ask(&api, &caller, "change", json!(change)).await?;
    Ok(reply::ok(&described(&api, &caller, name)?))
}

async fn remove(api: State<Api>, caller: Caller, at: At<String>) -> Result<Response, Problem> {
    in_room(api, caller, at, "delete").await
}

async fn join(api: State<Api>, caller: Caller, At(name): At<String>) -> Result<Response, Problem> {
    let at = At(name.clone());
    in_room(api.clone(), caller.clone(), at, "join").await?;
    show(api, caller, At(name)).await
}

async fn leave(api: State<Api>, caller: Caller, at: At<String>) -> Result<Response, Problem> {
    in_room(api, caller, at, "leave").await
}

async fn archive(api: State<Api>, caller: Caller, at: At<String>) -> Result<Response, Problem> {
    in_room(api, caller, at, "archive").await
}

async fn unarchive(api: State<Api>, caller: Caller, at: At<String>) -> Result<Response, Problem> {
    in_room(api, caller, at, "unarchive").await
}

async fn in_room(
    State(api): State<Api>,
    caller: Caller,
    At(name): At<String>,
    method: &str,
) -> Result<Response, Problem> {
    ask(&api, &caller, method, json!({ "room": room(&name)? })).await?;
    Ok(reply::done())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ToUser {
    user: String,
}

async fn transfer(
    State(api): State<Api>,
    caller: Caller,
    At(name): At<String>,
    Json(to): Json<ToUser>,
) -> Result<Response, Problem> {
    let fields = json!({ "room": room(&name)?, "user": user(&to.user)? });
    ask(&api, &caller, "transfer", fields).await?;
    Ok(reply::done())
}

/// Asks the service of rooms, if there is one.
pub(super) async fn ask(
    api: &Api,
    caller: &Caller,
    method: &str,
    fields: Value,
) -> Result<Value, Problem> {
    if api.rooms.is_none() {
        let text = "rooms are open here (rooms.mode): everyone is in all of them";
        return Err(Problem::new(StatusCode::CONFLICT, "not_managed", text));
    }
    api.ask(caller, method, &fields).await
}

/// What the caller may know of a room.
fn described(api: &Api, caller: &Caller, name: &str) -> Result<Value, Problem> {
    let topic = format!("room/{name}");
    let may = api
        .rules
        .may_receive(&topic, caller.identity(), &*api.members);
    let rooms = api.rooms.as_ref().filter(|_| may.is_allowed());
    let view = rooms.ok_or(RoomError::NoSuchRoom)?.view();
    let record = view.record(name).filter(|record| !record.deleted);
    let record = record.ok_or(RoomError::NoSuchRoom)?;
    let standing = view.standing(caller.user(), name);
    Ok(json!({
        "room": name,
        "title": &*record.title,
        "kind": record.kind.as_str(),
        "owner": &*record.owner,
        "with": record.with.as_deref(),
        "archived": record.archived,
        "slow_s": record.slow_s,
        "since": record.since,
        "members": view.member_count(name),
        "role": standing.role.map(tidings_core::rooms::Role::as_str),
        "muted": standing.muted,
    }))
}

/// A name as a level of a path (RFC 3986 §3.3).
fn escaped(name: &str) -> String {
    let mut text = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}
