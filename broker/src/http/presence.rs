//! Who is here: `/v1/users/{user}/presence`, the retained message `user/{user}/presence` as the topic rules let the
//! caller read it; one's own is changed by the service that makes it.

use axum::extract::State;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tidings_core::message::Offset;

use super::place::{At, user};
use super::{Api, Caller, Endpoint, Json, Problem, get, put, reply};

pub(super) fn endpoints() -> Vec<Endpoint> {
    let path = "/v1/users/{user}/presence";
    vec![
        get(path, show, "Whether somebody is here").answers(200, "Presence", "Presence"),
        put(
            path,
            set,
            "Be away, or back, and choose who sees it; only your own",
        )
        .takes("PresenceChange")
        .answers(200, "What you chose", "PresenceChoice"),
    ]
}

async fn show(
    State(api): State<Api>,
    caller: Caller,
    At(name): At<String>,
) -> Result<Response, Problem> {
    let topic = format!("user/{}/presence", user(&name)?);
    let may = api
        .rules
        .may_receive(&topic, caller.identity(), &*api.members);
    let mut found = None;
    if may.is_allowed() {
        let mut take = |retained: &tidings_core::state::Retained| {
            found = serde_json::from_slice(&retained.published.message.payload).ok();
        };
        api.state
            .for_each_retained(&topic, Offset(u64::MAX), &mut take);
    }
    // Who hides is not told from who was never here.
    let mut presence = match found {
        Some(Value::Object(presence)) => presence,
        _ => Map::from_iter([("state".to_owned(), "offline".into())]),
    };
    presence.insert("user".to_owned(), name.into());
    Ok(reply::ok(&presence))
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct PresenceChange {
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    visible_to: Option<String>,
}

async fn set(
    State(api): State<Api>,
    caller: Caller,
    At(name): At<String>,
    Json(change): Json<PresenceChange>,
) -> Result<Response, Problem> {
    if name != caller.user() {
        return Err(Problem::forbidden("you change your own presence only"));
    }
    let chosen = api.ask(&caller, "presence", &json!(change)).await?;
    Ok(reply::ok(&json!({
        "state": chosen["state"],
        "visible_to": chosen["visible_to"],
        "devices": chosen["devices"],
    })))
}
