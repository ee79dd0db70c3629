//! Requests for history: `user/{user}/request/history`.
//!
//! ```text
//! {"room":"lobby"}                    the newest 50; or "with":"bob" for direct messages, or "topic"
//! {"room":"lobby","before":120,"limit":20}     or "after", "around", "at" (milliseconds)
//! ```

use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;
use tidings_core::message::Seq;
use tidings_core::rooms::RoomError;
use tidings_core::rules::Identity;

use super::{DEFAULT_LIMIT, History, Place, Query, Which};
use crate::service::{Answer, request};

/// Answers requests with pages.
pub(crate) struct Service {
    pub history: Arc<History>,
    /// Bytes of an answer: what the broker takes from a client, and so from a service.
    pub max_bytes: usize,
}

/// What a PUBLISH has beside its payload: topic, Correlation Data, and so on.
const OVERHEAD_BYTES: usize = 1024;

/// Requests of one user in a minute: who scrolls fast asks for some pages in a second.
pub(crate) const REQUESTS_PER_MINUTE: u32 = 600;

/// The Client Identifier of the service.
pub(crate) const CLIENT_ID: &str = "$link/@history";

/// Where its requests come from.
pub(crate) const REQUESTS: &[&str] = &["user/+/request/history"];

/// The fields of a request; as those of the query of a URL.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Fields {
    room: Option<String>,
    with: Option<String>,
    dm: Option<String>,
    topic: Option<String>,
    before: Option<u64>,
    after: Option<u64>,
    around: Option<u64>,
    at: Option<u64>,
    limit: Option<usize>,
}

impl Fields {
    /// What is asked for; one place and at most one part of it.
    ///
    /// # Errors
    /// [`RoomError::BadRequest`] for anything else.
    pub fn query(self) -> Result<Query, RoomError> {
        let places = [
            self.room.map(|room| Place::Room(room.into())),
            self.with.or(self.dm).map(|user| Place::With(user.into())),
            self.topic.map(|topic| Place::Topic(topic.into())),
        ];
        let parts = [
            self.before.map(|seq| Which::Before(Seq(seq))),
            self.after.map(|seq| Which::After(Seq(seq))),
            self.around.map(|seq| Which::Around(Seq(seq))),
            self.at.map(Which::At),
        ];
        let place = only(places)?.ok_or(RoomError::BadRequest)?;
        Ok(Query {
            place,
            which: only(parts)?.unwrap_or_default(),
            limit: self.limit.unwrap_or(DEFAULT_LIMIT),
        })
    }
}

fn only<T, const N: usize>(given: [Option<T>; N]) -> Result<Option<T>, RoomError> {
    let mut given = given.into_iter().flatten();
    let one = given.next();
    match given.next() {
        None => Ok(one),
        Some(_) => Err(RoomError::BadRequest),
    }
}

impl Service {
    /// A page that fits into an answer: one with fewer messages, if those asked for do not.
    async fn page(&self, who: &Identity, mut query: Query) -> Result<Value, RoomError> {
        loop {
            let page = self.history.page_async(who, query.clone()).await?;
            let json = self.history.json(&page);
            let bytes = json.to_string().len() + OVERHEAD_BYTES;
            if bytes <= self.max_bytes {
                return Ok(json);
            }
            if query.limit <= 1 {
                return Err(RoomError::LimitReached);
            }
            query.limit = query.limit.min(page.messages.len()) / 2;
        }
    }
}

impl Answer for Service {
    async fn answer(
        &mut self,
        user: &str,
        _method: &str,
        payload: &[u8],
    ) -> (Option<Value>, Result<Value, RoomError>) {
        let (id, fields) = request::read::<Fields>(payload);
        let query = match fields.and_then(Fields::query) {
            Ok(query) => query,
            Err(error) => return (id, Err(error)),
        };
        (id, self.page(&Identity::user(user), query).await)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(payload: &str) -> Result<Query, RoomError> {
        request::read::<Fields>(payload.as_bytes()).1?.query()
    }

    #[test]
    fn a_request_names_one_place_and_one_part() {
        assert_eq!(
            query(r#"{"room":"lobby","before":7,"limit":3}"#),
            Ok(Query {
                place: Place::Room("lobby".into()),
                which: Which::Before(Seq(7)),
                limit: 3,
            })
        );
        for payload in [
            "{}",
            r#"{"room":"a","with":"b"}"#,
            r#"{"room":"a","before":1,"after":1}"#,
            r#"{"room":"a","befor":1}"#,
            r#"{"room":"a","before":-1}"#,
        ] {
            assert_eq!(query(payload), Err(RoomError::BadRequest), "{payload}");
        }
    }
}
