//! What becomes of messages: edits, recalls and reactions, of rooms and between two, `.../messages/{seq}`. Each is
//! itself a message of the same stream, published in the caller's session: who may change what is judged there.

use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;
use tidings_bridge::gateway::Outgoing;
use tidings_core::message::MessageProperties;

use super::messages::{check_word, told};
use super::place::{At, room, seq, user};
use super::{Api, Caller, Endpoint, Json, Problem, delete, history, patch, put, reply};
use crate::history::Place;

pub(super) fn endpoints() -> Vec<Endpoint> {
    let changes = |endpoint: Endpoint| endpoint.answers(200, "The change is stored", "Receipt");
    vec![
        changes(
            patch(
                "/v1/rooms/{room}/messages/{seq}",
                edit,
                "Give your message new words",
            )
            .takes("NewText"),
        ),
        changes(delete(
            "/v1/rooms/{room}/messages/{seq}",
            recall,
            "Withdraw a message",
        )),
        changes(put(
            "/v1/rooms/{room}/messages/{seq}/reactions/{emoji}",
            react,
            "React to a message; one reaction for each user",
        )),
        changes(delete(
            "/v1/rooms/{room}/messages/{seq}/reactions/{emoji}",
            unreact,
            "Take your reaction back",
        )),
        changes(
            patch(
                "/v1/dm/{user}/messages/{seq}",
                edit_direct,
                "Give your direct message new words",
            )
            .takes("NewText"),
        ),
        changes(delete(
            "/v1/dm/{user}/messages/{seq}",
            recall_direct,
            "Withdraw a direct message",
        )),
        changes(put(
            "/v1/dm/{user}/messages/{seq}/reactions/{emoji}",
            react_directly,
            "React to a direct message",
        )),
        changes(delete(
            "/v1/dm/{user}/messages/{seq}/reactions/{emoji}",
            unreact_directly,
            "Take your reaction to a direct message back",
        )),
    ]
}

/// A message: in a room, or in what two wrote to each other.
enum Of {
    Room(String, u64),
    Direct(String, u64),
}

impl Of {
    fn room(name: &str, number: &str) -> Result<Self, Problem> {
        Ok(Self::Room(room(name)?.to_owned(), seq(number)?))
    }

    fn direct(with: &str, number: &str) -> Result<Self, Problem> {
        Ok(Self::Direct(user(with)?.to_owned(), seq(number)?))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewText {
    text: String,
}

async fn edit(
    State(api): State<Api>,
    caller: Caller,
    At((name, number)): At<(String, String)>,
    Json(new): Json<NewText>,
) -> Result<Response, Problem> {
    change(&api, &caller, &Of::room(&name, &number)?, "edit", new.text).await
}

async fn edit_direct(
    State(api): State<Api>,
    caller: Caller,
    At((with, number)): At<(String, String)>,
    Json(new): Json<NewText>,
) -> Result<Response, Problem> {
    let of = Of::direct(&with, &number)?;
    change(&api, &caller, &of, "edit", new.text).await
}

async fn recall(
    State(api): State<Api>,
    caller: Caller,
    At((name, number)): At<(String, String)>,
) -> Result<Response, Problem> {
    let of = Of::room(&name, &number)?;
    change(&api, &caller, &of, "recall", String::new()).await
}

async fn recall_direct(
    State(api): State<Api>,
    caller: Caller,
    At((with, number)): At<(String, String)>,
) -> Result<Response, Problem> {
    let of = Of::direct(&with, &number)?;
    change(&api, &caller, &of, "recall", String::new()).await
}

async fn react(
    State(api): State<Api>,
    caller: Caller,
    At((name, number, emoji)): At<(String, String, String)>,
) -> Result<Response, Problem> {
    check_word(&emoji)?;
    change(&api, &caller, &Of::room(&name, &number)?, "react", emoji).await
}

async fn react_directly(
    State(api): State<Api>,
    caller: Caller,
    At((with, number, emoji)): At<(String, String, String)>,
) -> Result<Response, Problem> {
    check_word(&emoji)?;
    let of = Of::direct(&with, &number)?;
    change(&api, &caller, &of, "react", emoji).await
}

async fn unreact(
    State(api): State<Api>,
    caller: Caller,
    At((name, number, emoji)): At<(String, String, String)>,
) -> Result<Response, Problem> {
    take_back(&api, &caller, &Of::room(&name, &number)?, &emoji).await
}

async fn unreact_directly(
    State(api): State<Api>,
    caller: Caller,
    At((with, number, emoji)): At<(String, String, String)>,
) -> Result<Response, Problem> {
    take_back(&api, &caller, &Of::direct(&with, &number)?, &emoji).await
}

/// One has one reaction, and takes back the one that is meant or none.
async fn take_back(api: &Api, caller: &Caller, of: &Of, emoji: &str) -> Result<Response, Problem> {
    check_word(emoji)?;
    let (place, number) = match of {
        Of::Room(name, number) => (Place::Room(name.as_str().into()), *number),
        Of::Direct(with, number) => (Place::With(with.as_str().into()), *number),
    };
    let message = history::message(api, caller, place, number).await?;
    let users = message["reactions"][emoji].as_array();
    if !users.is_some_and(|users| users.iter().any(|user| user == caller.user())) {
        return Err(Problem::not_found("you did not react so"));
    }
    change(api, caller, of, "react", String::new()).await
}

/// A change of a message is a message of the same stream.
async fn change(
    api: &Api,
    caller: &Caller,
    of: &Of,
    word: &str,
    payload: String,
) -> Result<Response, Problem> {
    let topic = match of {
        Of::Room(name, number) => format!("chat/{name}/{}/{word}/{number}", caller.user()),
        Of::Direct(with, number) => format!("dm/{with}/{}/{word}/{number}", caller.user()),
    };
    let outgoing = Outgoing {
        topic,
        payload: payload.into(),
        retain: false,
        properties: MessageProperties {
            payload_is_utf8: Some(true),
            ..MessageProperties::default()
        },
    };
    let receipt = api.publish(caller, outgoing).await?;
    Ok(reply::ok(&told(&receipt)))
}
