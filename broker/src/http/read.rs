//! What is read and what is not: `/v1/rooms/{room}/read` and `/v1/unread`. A marker is the retained message `read/{room}/{user}`, which only
//! grows; it is published in the caller's session, and told to whom the topic rules let read it.

use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;
use serde_json::json;
use tidings_bridge::gateway::Outgoing;
use tidings_core::message::{MessageProperties, Offset};
use tidings_core::rooms::RoomError;

use super::place::{At, Query, room};
use super::{Api, Caller, Endpoint, Json, Problem, get, put, reply};
use crate::people::UnreadQuery;

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        get(
            "/v1/rooms/{room}/read",
            mine,
            "How far you have read, and how far there is to read",
        )
        .answers(200, "Your marker", "ReadState"),
        put(
            "/v1/rooms/{room}/read",
            mark,
            "You have read up to this message",
        )
        .takes("ReadMark")
        .answers_nothing(),
        get("/v1/unread", unread, "What you have not read, counted now")
            .query("room", "string", "Only this room")
            .query("after", "string", "Only rooms after this one")
            .query("after_direct", "string", "Only people after this one")
            .query(
                "limit",
                "integer",
                "Rooms, and people, at most; 100 is the default and the most",
            )
            .answers(200, "Rooms and people in the order of names", "Unread"),
    ]
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Part {
    room: Option<String>,
    #[serde(default)]
    after: String,
    #[serde(default)]
    after_direct: String,
    limit: Option<usize>,
}

async fn unread(
    State(api): State<Api>,
    caller: Caller,
    Query(part): Query<Part>,
) -> Result<Response, Problem> {
    if let Some(name) = &part.room {
        room(name)?;
    }
    let query = UnreadQuery {
        rooms: part.room.map(|room| vec![room]),
        after: part.after,
        after_direct: part.after_direct,
        limit: part.limit,
    };
    let max_bytes = api.max_packet_bytes;
    let count = move || api.counts.answer(caller.identity(), &query, max_bytes);
    let counted = tokio::task::spawn_blocking(count).await;
    let counted = counted.map_err(|_| Problem::unavailable("nothing can be counted now"))?;
    Ok(reply::ok(&counted))
}

async fn mine(
    State(api): State<Api>,
    caller: Caller,
    At(name): At<String>,
) -> Result<Response, Problem> {
    let (name, who) = (room(&name)?, caller.identity());
    let topic = format!("chat/{name}/{}", caller.user());
    let rules = api.rules.current();
    if !rules.may_receive(&topic, who, &*api.members).is_allowed() {
        return Err(RoomError::NoSuchRoom.into());
    }
    let mut seq = 0;
    let marker = format!("read/{name}/{}", caller.user());
    let mut take = |retained: &tidings_core::state::Retained| {
        let payload = &retained.published.message.payload;
        let text = std::str::from_utf8(payload).unwrap_or_default();
        seq = text.parse::<u64>().unwrap_or(0);
    };
    api.state
        .for_each_retained(&marker, Offset(u64::MAX), &mut take);
    let head = api.state.stream_head(&rules.stream_of(&topic)).0;
    Ok(reply::ok(
        &json!({ "room": name, "seq": seq, "head": head }),
    ))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReadMark {
    seq: u64,
}

async fn mark(
    State(api): State<Api>,
    caller: Caller,
    At(name): At<String>,
    Json(read): Json<ReadMark>,
) -> Result<Response, Problem> {
    let outgoing = Outgoing {
        topic: format!("read/{}/{}", room(&name)?, caller.user()),
        payload: read.seq.to_string().into(),
        retain: true,
        properties: MessageProperties {
            payload_is_utf8: Some(true),
            ..MessageProperties::default()
        },
    };
    api.publish(&caller, outgoing).await?;
    Ok(reply::done())
}
