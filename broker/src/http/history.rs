//! History: GET of messages, in rooms and between two. A page is what [`History`] gives the caller now; its ETag is
//! that of its content, so that who asks again for what has not changed is told only that.

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tidings_core::message::Seq;

use super::place::{At, Query, room, seq, user};
use super::{Api, Caller, Endpoint, Problem, get, reply};
use crate::history::{self, DEFAULT_LIMIT, Page, Place, Which};

/// Bytes of an ETag, before they are text: no two pages that anyone compares have the same.
const TAG_BYTES: usize = 16;

pub(super) fn endpoints() -> Vec<Endpoint> {
    let paged = |endpoint: Endpoint| {
        endpoint
            .query("before", "integer", "The last ones before this number")
            .query("after", "integer", "The first ones after this number")
            .query("around", "integer", "This number, and those on both sides")
            .query("at", "integer", "The first ones from this time on")
            .query("limit", "integer", "At most 200; without it 50")
            .answers(
                200,
                "Messages in their order; ETag is that of the content",
                "Page",
            )
            .answers(304, "What If-None-Match names has not changed", "")
    };
    let single = |endpoint: Endpoint| {
        endpoint
            .answers(200, "The message, and what became of it", "Message")
            .answers(304, "What If-None-Match names has not changed", "")
    };
    vec![
        paged(get(
            "/v1/rooms/{room}/messages",
            in_room,
            "Messages of a room; the newest, unless asked otherwise",
        )),
        single(get("/v1/rooms/{room}/messages/{seq}", one, "One message")),
        single(get(
            "/v1/dm/{user}/messages/{seq}",
            one_with_user,
            "One direct message",
        )),
        paged(get(
            "/v1/dm/{user}/messages",
            with_user,
            "Direct messages with a user",
        )),
    ]
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Part {
    before: Option<u64>,
    after: Option<u64>,
    around: Option<u64>,
    at: Option<u64>,
    limit: Option<usize>,
}

impl Part {
    fn of(self, place: Place) -> Result<history::Query, Problem> {
        let given = [
            self.before.map(|seq| Which::Before(Seq(seq))),
            self.after.map(|seq| Which::After(Seq(seq))),
            self.around.map(|seq| Which::Around(Seq(seq))),
            self.at.map(Which::At),
        ];
        let mut given = given.into_iter().flatten();
        let which = given.next().unwrap_or_default();
        if given.next().is_some() {
            return Err(Problem::bad_request(
                "only one of before, after, around and at",
            ));
        }
        Ok(history::Query {
            place,
            which,
            limit: self.limit.unwrap_or(DEFAULT_LIMIT),
        })
    }
}

async fn in_room(
    State(api): State<Api>,
    caller: Caller,
    headers: HeaderMap,
    At(name): At<String>,
    Query(part): Query<Part>,
) -> Result<Response, Problem> {
    let query = part.of(Place::Room(room(&name)?.into()))?;
    let page = page(&api, &caller, query).await?;
    Ok(tagged(&headers, &api.history.json(&page)))
}

async fn with_user(
    State(api): State<Api>,
    caller: Caller,
    headers: HeaderMap,
    At(name): At<String>,
    Query(part): Query<Part>,
) -> Result<Response, Problem> {
    let query = part.of(Place::With(user(&name)?.into()))?;
    let page = page(&api, &caller, query).await?;
    Ok(tagged(&headers, &api.history.json(&page)))
}

async fn one(
    State(api): State<Api>,
    caller: Caller,
    headers: HeaderMap,
    At((name, number)): At<(String, String)>,
) -> Result<Response, Problem> {
    let number = seq(&number)?;
    let place = Place::Room(room(&name)?.into());
    let message = message(&api, &caller, place, number).await?;
    Ok(tagged(&headers, &message))
}

async fn one_with_user(
    State(api): State<Api>,
    caller: Caller,
    headers: HeaderMap,
    At((name, number)): At<(String, String)>,
) -> Result<Response, Problem> {
    let number = seq(&number)?;
    let place = Place::With(user(&name)?.into());
    let message = message(&api, &caller, place, number).await?;
    Ok(tagged(&headers, &message))
}

/// One message of a room or between two, as the caller may see it.
pub(super) async fn message(
    api: &Api,
    caller: &Caller,
    place: Place,
    number: u64,
) -> Result<Value, Problem> {
    let query = history::Query {
        place,
        which: Which::After(Seq(number - 1)),
        limit: 1,
    };
    let page = page(api, caller, query).await?;
    if page.gap.as_ref().is_some_and(|gap| gap.contains(&number)) {
        let text = "the message was trimmed by retention";
        return Err(Problem::new(StatusCode::GONE, "gone", text));
    }
    let found = api.history.json(&page)["messages"].get(0).cloned();
    found
        .filter(|message| message["seq"] == number)
        .ok_or_else(|| Problem::not_found("there is no such message"))
}

async fn page(api: &Api, caller: &Caller, query: history::Query) -> Result<Page, Problem> {
    Ok(api.history.page_async(caller.identity(), query).await?)
}

/// 200 with the content and its ETag, or 304 if whoever asks has it.
fn tagged(headers: &HeaderMap, value: &Value) -> Response {
    let text = value.to_string();
    let digest = Sha256::digest(text.as_bytes());
    let short = digest.get(..TAG_BYTES).unwrap_or(&digest);
    let tag = format!("\"{}\"", URL_SAFE_NO_PAD.encode(short));
    let mut response = if has(headers, &tag) {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response
    } else {
        reply::with(StatusCode::OK, "application/json", text)
    };
    let headers = response.headers_mut();
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        headers.insert(header::ETAG, tag);
    }
    // Kept by the browser alone, and asked for again each time: rights change.
    let private = HeaderValue::from_static("private, no-cache");
    headers.insert(header::CACHE_CONTROL, private);
    let vary = HeaderValue::from_static("Authorization, Cookie");
    headers.insert(header::VARY, vary);
    response
}

/// Whether `If-None-Match` names the tag (RFC 9110 §13.1.2).
fn has(headers: &HeaderMap, tag: &str) -> bool {
    let values = headers.get_all(header::IF_NONE_MATCH).into_iter();
    let mut tags = values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|one| one.trim().trim_start_matches("W/"));
    tags.any(|one| one == tag || one == "*")
}
