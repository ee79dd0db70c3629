//! A session that reads for somebody from a cursor on: from the messages of MQTT to those of a stream.
//!
//! Invariants: a message is handed out only if its reader may have it at that moment; what is handed
//! out and not taken is bounded by [`RECEIVE_MAXIMUM`] and the pipe.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use axum::http::StatusCode;
use serde_json::json;
use tidings_bridge::gateway::{
    Event, Granted, Message, MessageJson, Options, Session, SessionError,
};
use tidings_core::codec::{ReasonCode, RetainHandling};
use tidings_core::message::{Cursor, QoS};

use super::super::{Api, Problem};
use super::asked::{Asked, Since, cursor, is_ours};
use super::backlog;
use super::places::Place;
use crate::auth::Admitted;
use crate::handshake::{HTTP_PREFIX, Origin};
use crate::metrics::Via;

/// Messages of QoS 1 that were handed out and not taken.
const RECEIVE_MAXIMUM: u16 = 32;

/// Something for the other end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// A message as JSON; it ends the gap before a position, if it is kept.
    Message {
        json: String,
        cursor: Option<Cursor>,
    },
    /// Entries were trimmed before they were read.
    Gap(String),
}

/// See the module.
pub(super) struct Reader {
    api: Api,
    admitted: Arc<Admitted>,
    filters: Vec<Arc<str>>,
    session: Session,
    /// Messages that came before the SUBSCRIBE was answered.
    early: VecDeque<Message>,
    ready: VecDeque<News>,
    cursor: Cursor,
    _place: Place,
}

/// A reader, and what is to be said first.
pub(super) struct Opened {
    pub reader: Reader,
    /// The cursor was not of this journal: this is a new beginning.
    pub reset: bool,
    pub gap: Option<String>,
}

impl Reader {
    /// A session that has subscribed.
    ///
    /// # Errors
    /// If there is no place for it, or it may not be.
    pub async fn open(
        api: &Api,
        asked: &Asked,
        retained: RetainHandling,
        via: Via,
    ) -> Result<Opened, Problem> {
        let (since, reset) = match asked.since {
            Since::Now => (None, false),
            Since::Cursor(cursor) if is_ours(api, cursor) => (Some(cursor), false),
            Since::Cursor(_) | Since::Unknown => (None, true),
        };
        let admitted = asked.admitted.clone();
        let maximum = api.options.max_streams_per_user;
        let place = api.streams.take(&admitted.identity.user, maximum);
        let place = place.ok_or_else(|| {
            let text = "you have as many streams and waiting polls as you may";
            let status = StatusCode::TOO_MANY_REQUESTS;
            Problem::new(status, "too_many_streams", text)
        })?;
        let origin = Origin::Gateway {
            admitted: admitted.clone(),
            via,
        };
        let options = Options {
            client_id: format!("{HTTP_PREFIX}{}", uuid::Uuid::new_v4().simple()),
            receive_maximum: RECEIVE_MAXIMUM,
        };
        let stream = api.reception.connect_in_memory(origin);
        let session = Session::open(stream, &options).await.map_err(refused)?;
        let mut reader = Self {
            api: api.clone(),
            admitted,
            filters: asked.filters.clone(),
            session,
            early: VecDeque::new(),
            ready: VecDeque::new(),
            cursor: since.unwrap_or_else(|| cursor(api, api.journal.end())),
            _place: place,
        };
        // A session that only waits for what it is to read.
        if reader.filters.is_empty() {
            return Ok(Opened {
                reader,
                reset: false,
                gap: None,
            });
        }
        let place = since.map_or_else(|| "now".to_owned(), |cursor| cursor.to_string());
        let granted = reader.subscribe(&place, retained).await.map_err(refused)?;
        let refusal = granted.reasons.iter().find(|reason| reason.is_failure());
        if let Some(reason) = refusal.filter(|_| asked.chosen) {
            return Err(Problem::of_reason(*reason, granted.reason_string));
        }
        let told = granted
            .user_property("cursor")
            .and_then(|text| text.parse().ok());
        reader.cursor = told.unwrap_or(reader.cursor);
        let gap = granted.user_property("gap");
        let gap = gap.map(|to| json!({ "from": place, "to": to }).to_string());
        Ok(Opened { reader, reset, gap })
    }

    async fn subscribe(
        &mut self,
        place: &str,
        retained: RetainHandling,
    ) -> Result<Granted, SessionError> {
        let filters: Vec<String> = self
            .filters
            .iter()
            .map(|filter| format!("$replay/after/{place}/{filter}"))
            .collect();
        self.session.subscribe(&filters, QoS::AtLeastOnce, retained);
        loop {
            match self.session.next().await? {
                Event::Granted(granted) => return Ok(granted),
                Event::Message(message) => self.early.push_back(message),
                Event::Acked(_) | Event::Unsubscribed { .. } => {}
            }
        }
    }

    /// The position up to which everything was handed out.
    pub const fn cursor(&self) -> Cursor {
        self.cursor
    }

    /// Waits for news. Nothing is lost if the future is dropped.
    ///
    /// # Errors
    /// When the session is over.
    pub async fn next(&mut self) -> Result<News, SessionError> {
        loop {
            if let Some(news) = self.ready.pop_front() {
                return Ok(news);
            }
            if !self.is_welcome() {
                return Err(SessionError::Ended {
                    reason: ReasonCode::NotAuthorized,
                    text: Some("you may not be here any more".to_owned()),
                });
            }
            let message = match self.early.pop_front() {
                Some(message) => message,
                None => match self.session.next().await? {
                    Event::Message(message) => message,
                    Event::Granted(_) | Event::Acked(_) | Event::Unsubscribed { .. } => continue,
                },
            };
            self.take(&message);
        }
    }

    /// News that are there already.
    ///
    /// # Errors
    /// When the session is over.
    pub async fn try_next(&mut self) -> Result<Option<News>, SessionError> {
        let mut next = pin!(self.next());
        poll_fn(|cx| {
            Poll::Ready(match next.as_mut().poll(cx) {
                Poll::Ready(news) => news.map(Some),
                Poll::Pending => Ok(None),
            })
        })
        .await
    }

    /// Whether who reads may still be here.
    pub fn is_welcome(&self) -> bool {
        let now = self.api.reception.clock.now().unix_ms;
        self.admitted.valid_until.is_none_or(|end| end > now)
            && self.api.reception.auth.is_welcome(&self.admitted)
    }

    fn take(&mut self, message: &Message) {
        if let Some(packet_id) = message.packet_id {
            self.session.acknowledge(packet_id);
        }
        let cursor = message.cursor().and_then(|text| text.parse().ok());
        self.cursor = cursor.unwrap_or(self.cursor);
        if cursor.is_some()
            && let Some((from, to)) = message
                .user_property("trimmed")
                .and_then(|trimmed| trimmed.split_once('-'))
        {
            let gap = json!({ "from": from, "to": to });
            self.ready.push_back(News::Gap(gap.to_string()));
        }
        let rules = self.api.rules.current();
        let rule = rules.decide(&message.topic);
        let who = &self.admitted.identity;
        if rule.may_receive(who, &*self.api.members).is_allowed() {
            // Strings and numbers can always be written.
            let json = serde_json::to_string(&MessageJson::of_delivery(message, &rule));
            self.ready.push_back(News::Message {
                json: json.unwrap_or_default(),
                cursor,
            });
        }
    }

    /// Moves the cursor on over what is not for this reader, if everything that is for it was handed
    /// out: so that it need not be looked through again, nor is missed when it is trimmed.
    pub async fn move_on(&mut self) {
        if !self.ready.is_empty() || !self.early.is_empty() || self.filters.is_empty() {
            return;
        }
        let (from, filters) = (self.cursor.offset, &self.filters);
        let found = backlog::read(&self.api, &self.admitted, filters, from, 1).await;
        if let Ok(backlog) = found
            && backlog.messages.is_empty()
        {
            self.cursor = cursor(&self.api, backlog.next);
        }
    }

    /// Says goodbye.
    pub async fn close(self) {
        // It may be over already.
        let _ = self.session.disconnect().await;
    }
}

/// Why there is no session.
fn refused(error: SessionError) -> Problem {
    match error {
        SessionError::Ended {
            reason: ReasonCode::QuotaExceeded,
            text,
        } => Problem::unavailable(text.unwrap_or_else(|| "too many connections".to_owned())),
        SessionError::Ended { reason, text } => Problem::of_reason(reason, text),
        SessionError::Closed | SessionError::Protocol(_) => {
            Problem::unavailable("the broker stops")
        }
    }
}
