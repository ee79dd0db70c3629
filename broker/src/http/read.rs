//! What is read, what is not, and who is writing: `/v1/rooms/{room}/read` and `typing`, `/v1/dm/{user}/read` and
//! `delivered`, `/v1/unread`. A marker is a retained message, `read/{room}/{user}` or `dm/{to}/{from}/read`, which
//! only grows; it is published in the caller's session, and told to whom the topic rules let read it. So is typing,
//! which is nowhere kept.

use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;
use serde_json::json;
use tidings_bridge::gateway::Outgoing;
use tidings_core::message::{MessageProperties, Offset};
use tidings_core::rooms::RoomError;

use super::place::{At, Query, room, user};
use super::{Api, Caller, Endpoint, Json, Problem, get, post, put, reply};
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
        get(
            "/v1/dm/{user}/read",
            direct,
            "How far you and the other have read and got what you wrote to each other",
        )
        .answers(200, "Markers of both", "DirectReadState"),
        put(
            "/v1/dm/{user}/read",
            mark_direct,
            "You have read direct messages up to this one",
        )
        .takes("ReadMark")
        .answers_nothing(),
        put(
            "/v1/dm/{user}/delivered",
            mark_delivered,
            "You have got direct messages up to this one",
        )
        .takes("ReadMark")
        .answers_nothing(),
        post(
            "/v1/rooms/{room}/typing",
            typing,
            "You are typing; others are told for some seconds",
        )
        .takes("Typing")
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
    let seq = marker(&api, &format!("read/{name}/{}", caller.user()));
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
    let topic = format!("read/{}/{}", room(&name)?, caller.user());
    tell(&api, &caller, topic, read.seq.to_string(), true).await
}

/// The number that is retained on a topic; 0 if there is none.
fn marker(api: &Api, topic: &str) -> u64 {
    let mut seq = 0;
    let mut take = |retained: &tidings_core::state::Retained| {
        let payload = &retained.published.message.payload;
        let text = std::str::from_utf8(payload).unwrap_or_default();
        seq = text.parse::<u64>().unwrap_or(0);
    };
    api.state
        .for_each_retained(topic, Offset(u64::MAX), &mut take);
    seq
}

async fn direct(
    State(api): State<Api>,
    caller: Caller,
    At(with): At<String>,
) -> Result<Response, Problem> {
    let (with, own) = (user(&with)?, caller.user());
    let rules = api.rules.current();
    let (mine, theirs) = (format!("dm/{with}/{own}"), format!("dm/{own}/{with}"));
    let mut numbers = json!({ "user": with });
    for (base, key) in [(&mine, ""), (&theirs, "their_")] {
        for word in ["read", "delivered"] {
            let topic = format!("{base}/{word}");
            let may = rules.may_receive(&topic, caller.identity(), &*api.members);
            let seq = may.is_allowed().then(|| marker(&api, &topic));
            numbers[format!("{key}{word}")] = seq.unwrap_or(0).into();
        }
    }
    numbers["head"] = api.state.stream_head(&rules.stream_of(&mine)).0.into();
    Ok(reply::ok(&numbers))
}

async fn mark_direct(
    State(api): State<Api>,
    caller: Caller,
    At(with): At<String>,
    Json(read): Json<ReadMark>,
) -> Result<Response, Problem> {
    let topic = format!("dm/{}/{}/read", user(&with)?, caller.user());
    tell(&api, &caller, topic, read.seq.to_string(), true).await
}

async fn mark_delivered(
    State(api): State<Api>,
    caller: Caller,
    At(with): At<String>,
    Json(read): Json<ReadMark>,
) -> Result<Response, Problem> {
    let topic = format!("dm/{}/{}/delivered", user(&with)?, caller.user());
    tell(&api, &caller, topic, read.seq.to_string(), true).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Typing {
    #[serde(default = "yes")]
    typing: bool,
}

const fn yes() -> bool {
    true
}

async fn typing(
    State(api): State<Api>,
    caller: Caller,
    At(name): At<String>,
    Json(typing): Json<Typing>,
) -> Result<Response, Problem> {
    let topic = format!("typing/{}/{}", room(&name)?, caller.user());
    // An empty message says that it is over.
    let text = if typing.typing { "1" } else { "" };
    tell(&api, &caller, topic, text.to_owned(), false).await
}

/// Publishes a short text as the caller.
async fn tell(
    api: &Api,
    caller: &Caller,
    topic: String,
    text: String,
    retain: bool,
) -> Result<Response, Problem> {
    let outgoing = Outgoing {
        topic,
        payload: text.into(),
        retain,
        properties: MessageProperties {
            payload_is_utf8: Some(true),
            ..MessageProperties::default()
        },
    };
    api.publish(caller, outgoing).await?;
    Ok(reply::done())
}
