//! Services: clients of the broker inside the broker, which carry out what users ask for on
//! `user/{user}/request/{method}` and answer where the user may read.
//!
//! A service is one in-memory connection ([`link`]) with the broker's own rights, which it lends to
//! nobody: each asks the topic rules in the name of who asks. What a request and an answer look like is
//! in [`request`], how often one may ask in [`pace`]. [`serve`] is the loop of a service that only
//! answers; one that also does things by itself has a loop of its own.
//! This module does not know what any service does.

pub(crate) mod link;
pub(crate) mod pace;
pub(crate) mod request;

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tidings_core::rooms::RoomError;
use tidings_core::rules::{Identity, Membership};

use crate::rulebook::Rulebook;
use tokio::io::DuplexStream;
use tokio::sync::oneshot;
use tokio::time::sleep;
use tracing::debug;

use crate::clock::Clock;
use link::{Event, Incoming, Link, Outgoing};
use pace::{Pace, Turn};

/// Methods that are not about changing rooms. The service of rooms hears all requests, to answer those
/// that nobody knows, and leaves these to others.
pub(crate) const ELSEWHERE: &[&str] = &["history", "presence", "unread"];

/// Before connecting again.
pub(crate) const RECONNECT: Duration = Duration::from_millis(500);

/// The user and the method of a request's topic.
pub(crate) fn asked(topic: &str) -> Option<(&str, &str)> {
    let (user, method) = topic.strip_prefix("user/")?.split_once("/request/")?;
    let is_level = |text: &str| !text.contains('/');
    (is_level(user) && is_level(method)).then_some((user, method))
}

/// Where answers may go.
#[derive(Clone)]
pub(crate) struct Replies {
    rules: Arc<Rulebook>,
    /// What the rules ask, here as in the shards.
    members: Arc<dyn Membership + Send + Sync>,
}

impl Replies {
    pub fn new(rules: Arc<Rulebook>, members: Arc<dyn Membership + Send + Sync>) -> Self {
        Self { rules, members }
    }

    /// Answers on the Response Topic if the user could use that topic too, else on the user's own.
    pub fn send(&self, link: &mut Link, user: &str, request: &Incoming, answer: &Value) {
        let own = format!("user/{user}/reply");
        let wanted = request.response_topic.as_deref();
        let topic = wanted
            .filter(|topic| self.may_be_answered_on(user, &own, topic))
            .unwrap_or(&own);
        link.publish(&Outgoing {
            topic,
            payload: answer.to_string().as_bytes(),
            retain: false,
            correlation_data: request.correlation_data.as_deref(),
        });
    }

    /// A service has the broker's rights, and lends them to nobody: who may not read and write on
    /// a topic does not make the broker write there.
    fn may_be_answered_on(&self, user: &str, own: &str, topic: &str) -> bool {
        let below_own = topic
            .strip_prefix(own)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        let who = Identity::user(user);
        let reads = self.rules.may_receive(topic, &who, &*self.members);
        let writes = || self.rules.may_publish(topic, &who, &*self.members);
        reads.is_allowed() && (below_own || writes().is_allowed())
    }
}

/// What a service that only answers is started with.
pub(crate) struct Start<C> {
    /// Begins with [`crate::handshake::LINK_PREFIX`] and @, which no link to another broker has.
    pub client_id: &'static str,
    /// The topics of its requests: `user/+/request/{method}`.
    pub filters: &'static [&'static str],
    pub replies: Replies,
    /// Requests of one user; as many may come at once.
    pub requests_per_minute: u32,
    pub clock: Clock,
    /// Makes a connection with the broker's rights.
    pub connect: C,
    /// Told when requests are heard for the first time.
    pub ready: oneshot::Sender<()>,
}

/// A service that answers each request by itself.
pub(crate) trait Answer {
    /// What is answered to `payload`, an object whose keys stand beside `ok`, `method` and `id`.
    fn answer(
        &mut self,
        user: &str,
        method: &str,
        payload: &[u8],
    ) -> impl Future<Output = (Option<Value>, Result<Value, RoomError>)> + Send;
}

/// Serves until the broker ends, one request after the other.
pub(crate) async fn serve(start: Start<impl Fn() -> DuplexStream>, mut service: impl Answer) {
    let mut ready = Some(start.ready);
    let mut pace = Pace::new(start.requests_per_minute);
    let name = start.client_id;
    loop {
        let opened = Link::open((start.connect)(), name, start.filters).await;
        let ended: io::Result<()> = match opened {
            Ok(mut link) => {
                if let Some(ready) = ready.take() {
                    let _ = ready.send(());
                }
                loop {
                    let turn = turn(
                        &mut link,
                        &mut pace,
                        &start.replies,
                        start.clock,
                        &mut service,
                    );
                    if let Err(error) = turn.await {
                        break Err(error);
                    }
                }
            }
            Err(error) => Err(error),
        };
        debug!(name, error = ?ended.err(), "a service is disconnected");
        sleep(RECONNECT).await;
    }
}

async fn turn(
    link: &mut Link,
    pace: &mut Pace,
    replies: &Replies,
    clock: Clock,
    service: &mut impl Answer,
) -> io::Result<()> {
    let Event::Message(message) = link.next().await? else {
        return Ok(());
    };
    if let Some((user, method)) = asked(&message.topic) {
        let answer = match pace.ask(user, clock.now().monotonic_ms) {
            Turn::Granted => {
                let (id, result) = service.answer(user, method, &message.payload).await;
                Some(request::answer(id.as_ref(), method, result))
            }
            turn if turn == Turn::Refused || message.response_topic.is_some() => {
                let id = request::id(&message.payload);
                let refused = Err(RoomError::TooManyRequests);
                Some(request::answer(id.as_ref(), method, refused))
            }
            _ => None,
        };
        if let Some(answer) = answer {
            replies.send(link, user, &message, &answer);
        }
    }
    if let Some(packet_id) = message.packet_id {
        link.acknowledge(packet_id);
    }
    link.flush().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_names_one_user_and_one_method() {
        assert_eq!(asked("user/bob/request/join"), Some(("bob", "join")));
        for topic in [
            "user/bob/reply",
            "user/bob/request/join/x",
            "user/b/c/request/join",
            "request/join",
        ] {
            assert_eq!(asked(topic), None, "{topic}");
        }
    }
}
