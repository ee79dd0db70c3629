//! Read markers: `/v1/rooms/{room}/read`. A marker is the retained message `read/{room}/{user}`, which only
//! grows; it is published in the caller's session, and told to whom the topic rules let read it.

use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;
use serde_json::json;
use tidings_bridge::gateway::Outgoing;
use tidings_core::message::{MessageProperties, Offset};
use tidings_core::rooms::RoomError;

use super::place::{At, room};
use super::{Api, Caller, Endpoint, Json, Problem, get, put, reply};

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
    ]
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
