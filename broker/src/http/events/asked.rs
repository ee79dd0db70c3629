//! What a request asks for: whose it is, which filters, and from where on.
//!
//! `EventSource` sets no headers, so that a token may stand in the query, as for a WebSocket.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use tidings_core::message::{Cursor, Offset};
use tidings_core::topic::{FilterKind, parse_filter};

use super::super::caller::admit;
use super::super::{Api, Caller, Line, Peer, Problem};
use crate::auth::{Admitted, Credentials, DoorMode};

/// Filters of one request: one for each kind of topic, and then some.
pub(super) const MAX_FILTERS: usize = 50;

/// Messages of a poll, unless it says otherwise, and at most.
const LIMIT: usize = 100;
const MAX_LIMIT: usize = 1000;

/// Where a reader begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Since {
    /// Here.
    Now,
    /// After a position.
    Cursor(Cursor),
    /// After something that is no position of ours: begin anew, and say so.
    Unknown,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Asked {
    pub admitted: Arc<Admitted>,
    pub filters: Vec<Arc<str>>,
    /// The filters are the user's own choice: who may not have one is told.
    pub chosen: bool,
    pub since: Since,
    pub wait: Duration,
    pub limit: usize,
    /// The connection that the answer takes.
    pub line: Line,
}

impl Asked {
    /// Filters of somebody who is known; without any, everything of theirs.
    ///
    /// # Errors
    /// If they may not have one of them.
    pub fn of_filters(
        api: &Api,
        admitted: Arc<Admitted>,
        filters: Vec<Arc<str>>,
        since: Since,
    ) -> Result<Self, Problem> {
        let chosen = !filters.is_empty();
        let filters = match chosen {
            true => filters,
            false => everything_of(&admitted.identity.user),
        };
        for filter in &filters {
            judge(api, &admitted, filter, chosen)?;
        }
        Ok(Self {
            admitted,
            filters,
            chosen,
            since,
            wait: Duration::ZERO,
            limit: LIMIT,
            line: Line::default(),
        })
    }

    /// # Errors
    /// If it is nobody's, or cannot be understood.
    pub async fn of(api: &Api, request: Request) -> Result<Self, Problem> {
        let (mut parts, _) = request.into_parts();
        let query = Query::of(parts.uri.query().unwrap_or_default())?;
        let admitted = Arc::new(admitted(api, &mut parts, query.token.as_deref()).await?);
        let last_event = last_event_id(&parts.headers)?;
        let since = last_event.unwrap_or(query.since);
        let longest = Duration::from_secs(u64::from(api.options.max_poll_s));
        Ok(Self {
            wait: query.wait.min(longest),
            limit: query.limit,
            line: parts.extensions.remove::<Line>().unwrap_or_default(),
            ..Self::of_filters(api, admitted, query.filters, since)?
        })
    }
}

pub(super) async fn admitted(
    api: &Api,
    parts: &mut Parts,
    token: Option<&str>,
) -> Result<Admitted, Problem> {
    let has_header = parts.headers.contains_key(header::AUTHORIZATION);
    match token.filter(|_| !has_header) {
        Some(token) => {
            let peer = parts.extensions.get::<Peer>();
            let credentials = Credentials {
                username: None,
                password: None,
                client_id: "",
                address: peer.and_then(Peer::ip),
                bearer: Some(token),
                certificate: peer.and_then(Peer::certified),
                door: peer.map_or(DoorMode::Inherit, |peer| peer.door.mode),
            };
            admit(api, credentials).await
        }
        None => {
            let caller = Caller::from_request_parts(parts, api).await?;
            Ok(caller.admitted)
        }
    }
}

/// As a SUBSCRIBE is judged; the session judges it again.
pub(super) fn judge(
    api: &Api,
    admitted: &Admitted,
    filter: &str,
    chosen: bool,
) -> Result<(), Problem> {
    let Ok(FilterKind::Plain(_)) = parse_filter(filter) else {
        return Err(Problem::bad_request(format!("no topic filter: {filter}")));
    };
    let who = &admitted.identity;
    let access = api
        .rules
        .current()
        .may_subscribe(filter, who, &*api.members);
    if chosen && !access.is_allowed() {
        return Err(Problem::forbidden(format!("you may not receive {filter}")));
    }
    Ok(())
}

/// What concerns a user; of this they receive what they may.
fn everything_of(user: &str) -> Vec<Arc<str>> {
    let inbox = format!("user/{user}/inbox");
    let filters = [
        "chat/#",
        "typing/#",
        "read/#",
        "room/#",
        "dm/#",
        "user/+/presence",
        &inbox,
    ];
    filters.into_iter().map(Arc::from).collect()
}

fn last_event_id(headers: &HeaderMap) -> Result<Option<Since>, Problem> {
    let Some(value) = headers.get("last-event-id") else {
        return Ok(None);
    };
    let text = value.to_str();
    let text = text.map_err(|_| Problem::bad_request("Last-Event-ID is no cursor"))?;
    Ok((!text.is_empty()).then(|| since(text)))
}

pub(super) fn since(text: &str) -> Since {
    match text {
        "" | "now" => Since::Now,
        text => text.parse().map_or(Since::Unknown, Since::Cursor),
    }
}

/// What a query says.
pub(super) struct Query {
    pub filters: Vec<Arc<str>>,
    pub since: Since,
    pub wait: Duration,
    pub limit: usize,
    pub token: Option<String>,
}

impl Query {
    /// # Errors
    /// If it cannot be understood.
    pub fn of(query: &str) -> Result<Self, Problem> {
        let mut asked = Self {
            filters: Vec::new(),
            since: Since::Now,
            wait: Duration::ZERO,
            limit: LIMIT,
            token: None,
        };
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let number = || {
                let no_number = |_| Problem::bad_request(format!("{name} is no number"));
                value.parse::<u32>().map_err(no_number)
            };
            match &*name {
                "filter" if asked.filters.len() == MAX_FILTERS => {
                    let text = format!("more than {MAX_FILTERS} filters");
                    return Err(Problem::bad_request(text));
                }
                "filter" => asked.filters.push((*value).into()),
                "since" => asked.since = since(&value),
                "wait" => asked.wait = Duration::from_secs(u64::from(number()?)),
                "limit" => asked.limit = (number()? as usize).clamp(1, MAX_LIMIT),
                "token" if !value.is_empty() => asked.token = Some(value.into_owned()),
                // Pages add parameters against caches.
                _ => {}
            }
        }
        Ok(asked)
    }
}

/// Filters and limit of a query, if it is one: for [`crate::fuzzing`].
pub(crate) fn measure_query(query: &str) -> Option<(usize, usize)> {
    let query = Query::of(query).ok()?;
    Some((query.filters.len(), query.limit))
}

/// Whether a cursor can be gone on from, as a SUBSCRIBE judges it.
pub(super) fn is_ours(api: &Api, cursor: Cursor) -> bool {
    cursor.epoch == api.journal.epoch() && cursor.offset <= api.journal.end()
}

/// The cursor of an offset.
pub(super) fn cursor(api: &Api, offset: Offset) -> Cursor {
    Cursor {
        epoch: api.journal.epoch(),
        offset,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_says_filters_place_and_patience() {
        let query =
            "filter=chat%2F%23&since=00000000deadbeef-7&filter=room/%2b&wait=5&x=y&limit=9999";
        let asked = Query::of(query).unwrap();
        assert_eq!(asked.filters, ["chat/#".into(), Arc::from("room/+")]);
        let cursor = "00000000deadbeef-7".parse().unwrap();
        assert_eq!(asked.since, Since::Cursor(cursor));
        assert_eq!((asked.wait.as_secs(), asked.limit), (5, MAX_LIMIT));
        let nothing = Query::of("token=").unwrap();
        assert_eq!((nothing.since, nothing.token), (Since::Now, None));
        assert_eq!(Query::of("since=7").unwrap().since, Since::Unknown);
        for bad in ["wait=long", "limit=-1", &"filter=a&".repeat(51)] {
            assert!(Query::of(bad).is_err(), "{bad}");
        }
    }
}
