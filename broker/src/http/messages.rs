//! Messages of rooms and between two: `/v1/rooms/{room}/messages`, `/v1/dm/{user}/messages`. Each is a publish in
//! the caller's session, so that topic rules, slow mode and the journal are those of MQTT; the answer comes when
//! it is stored. What changes a message is in `changes`.

use axum::body::Body;
use axum::extract::{FromRequest, Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;
use tidings_bridge::gateway::{Outgoing, Receipt};
use tidings_core::message::MessageProperties;
use tidings_core::messages::{CID, MAX_CID_BYTES, MAX_MENTIONS, MENTION};

use super::body::{content_type, is_json, parse, read};
use super::place::{At, room, user};
use super::{Api, Caller, Endpoint, Problem, post, put, reply};

/// Bytes of a cid, a name, a content type and a reaction: each is stored with its message.
const MAX_WORD: usize = MAX_CID_BYTES;

pub(super) fn endpoints() -> Vec<Endpoint> {
    let sends = |endpoint: Endpoint| {
        endpoint
            .takes("NewMessage")
            .takes_bytes()
            .query(
                "reply_to",
                "integer",
                "Of a body that is not JSON: the message that it answers",
            )
            .query("cid", "string", "Of a body that is not JSON: as in JSON")
            .query("mention", "string", "Of a body that is not JSON: a user")
    };
    vec![
        sends(post(
            "/v1/rooms/{room}/messages",
            say,
            "Send a message; any body that is not JSON is sent as it is",
        ))
        .answers(201, "It is stored", "Receipt"),
        sends(put(
            "/v1/rooms/{room}/messages/by-cid/{cid}",
            say_once,
            "Send a message once, however often this is asked",
        ))
        .answers(200, "It is stored, now or before", "Receipt"),
        sends(post(
            "/v1/dm/{user}/messages",
            say_to,
            "Send a direct message",
        ))
        .answers(201, "It is stored", "Receipt"),
        sends(put(
            "/v1/dm/{user}/messages/by-cid/{cid}",
            say_to_once,
            "Send a direct message once",
        ))
        .answers(200, "It is stored, now or before", "Receipt"),
    ]
}

/// A message that somebody wants to send.
struct New {
    payload: Bytes,
    is_text: bool,
    content_type: Option<String>,
    reply_to: Option<u64>,
    mentions: Vec<String>,
    cid: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct InJson {
    text: String,
    reply_to: Option<u64>,
    #[serde(default)]
    mentions: Vec<String>,
    cid: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct InQuery {
    reply_to: Option<u64>,
    mention: Option<String>,
    cid: Option<String>,
}

impl FromRequest<Api> for New {
    type Rejection = Problem;

    async fn from_request(request: Request<Body>, api: &Api) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        let query = axum::extract::Query::<InQuery>::try_from_uri(&parts.uri)
            .map_err(|error| Problem::bad_request(format!("the query: {}", error.body_text())))?
            .0;
        let Some(declared) = content_type(&parts.headers) else {
            let text = "say what the body is: Content-Type is missing";
            let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
            return Err(Problem::new(status, "unsupported_media_type", text));
        };
        let bytes = read(&parts.headers, body, api.options.max_body_bytes).await?;
        let new = if is_json(&declared) {
            let json: InJson = parse(&bytes)?;
            Self {
                payload: json.text.into(),
                is_text: true,
                content_type: None,
                reply_to: json.reply_to,
                mentions: json.mentions,
                cid: json.cid,
            }
        } else {
            Self {
                is_text: declared.starts_with("text/") && std::str::from_utf8(&bytes).is_ok(),
                payload: bytes,
                content_type: Some(declared),
                reply_to: query.reply_to,
                mentions: query.mention.into_iter().collect(),
                cid: query.cid,
            }
        };
        new.checked()
    }
}

impl New {
    fn checked(self) -> Result<Self, Problem> {
        let words = self
            .content_type
            .iter()
            .chain(&self.cid)
            .chain(&self.mentions);
        for word in words {
            check_word(word)?;
        }
        if self.mentions.len() > MAX_MENTIONS {
            let text = format!("a message mentions at most {MAX_MENTIONS}");
            return Err(Problem::bad_request(text));
        }
        Ok(self)
    }

    fn with_cid(mut self, cid: String) -> Result<Self, Problem> {
        if self.cid.as_ref().is_some_and(|other| *other != cid) {
            return Err(Problem::bad_request(
                "the path and the body have different cids",
            ));
        }
        self.cid = Some(cid);
        self.checked()
    }

    fn topic(&self, base: String) -> Result<String, Problem> {
        match self.reply_to {
            Some(0) => Err(Problem::bad_request("reply_to is 1 or more")),
            Some(seq) => Ok(format!("{base}/reply/{seq}")),
            None => Ok(base),
        }
    }

    fn on(self, topic: String) -> Outgoing {
        let pair = |name: &str, value: String| (Arc::from(name), Arc::from(value));
        let mentions = self.mentions.into_iter().map(|user| pair(MENTION, user));
        let cid = self.cid.map(|cid| pair(CID, cid));
        Outgoing {
            topic,
            payload: self.payload,
            retain: false,
            properties: MessageProperties {
                payload_is_utf8: self.is_text.then_some(true),
                content_type: self.content_type.map(Arc::from),
                user: cid.into_iter().chain(mentions).collect(),
                ..MessageProperties::default()
            },
        }
    }
}

/// What is to be stored with a message, as a UTF-8 Encoded String of MQTT.
pub(super) fn check_word(word: &str) -> Result<(), Problem> {
    if word.is_empty() || word.len() > MAX_WORD || word.chars().any(char::is_control) {
        let text = format!(
            "cid, mention, reaction and content type have 1 to {MAX_WORD} bytes, and no control characters"
        );
        return Err(Problem::bad_request(text));
    }
    Ok(())
}

async fn say(
    State(api): State<Api>,
    caller: Caller,
    At(name): At<String>,
    new: New,
) -> Result<Response, Problem> {
    let receipt = send(&api, &caller, &name, new).await?;
    Ok(reply::json(StatusCode::CREATED, &told(&receipt)))
}

async fn say_once(
    State(api): State<Api>,
    caller: Caller,
    At((name, cid)): At<(String, String)>,
    new: New,
) -> Result<Response, Problem> {
    let receipt = send(&api, &caller, &name, new.with_cid(cid)?).await?;
    Ok(reply::ok(&told(&receipt)))
}

async fn send(api: &Api, caller: &Caller, name: &str, new: New) -> Result<Receipt, Problem> {
    let base = format!("chat/{}/{}", room(name)?, caller.user());
    let topic = new.topic(base)?;
    api.publish(caller, new.on(topic)).await
}

async fn say_to(
    State(api): State<Api>,
    caller: Caller,
    At(to): At<String>,
    new: New,
) -> Result<Response, Problem> {
    let receipt = send_to(&api, &caller, &to, new).await?;
    Ok(reply::json(StatusCode::CREATED, &told(&receipt)))
}

async fn say_to_once(
    State(api): State<Api>,
    caller: Caller,
    At((to, cid)): At<(String, String)>,
    new: New,
) -> Result<Response, Problem> {
    let receipt = send_to(&api, &caller, &to, new.with_cid(cid)?).await?;
    Ok(reply::ok(&told(&receipt)))
}

async fn send_to(api: &Api, caller: &Caller, to: &str, new: New) -> Result<Receipt, Problem> {
    let topic = new.topic(format!("dm/{}/{}", user(to)?, caller.user()))?;
    api.publish(caller, new.on(topic)).await
}

/// What the sender of a stored message is told.
pub(super) fn told(receipt: &Receipt) -> Value {
    json!({ "seq": receipt.seq, "id": receipt.id, "ts": receipt.ts })
}
