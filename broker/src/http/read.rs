//! Read markers: `/v1/rooms/{room}/read`. A marker is the retained message `read/{room}/{user}`, which only
//! grows; it is published in the caller's session.

use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;
use tidings_bridge::gateway::Outgoing;
use tidings_core::message::MessageProperties;

use super::place::{At, room};
use super::{Api, Caller, Endpoint, Json, Problem, put, reply};

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        put(
            "/v1/rooms/{room}/read",
            mark,
            "You have read up to this message",
        )
        .takes("ReadMark")
        .answers_nothing(),
    ]
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
