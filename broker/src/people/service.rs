//! The one service that tells others who is here, and answers what people ask about it.
//!
//! What was under way when its connection was lost is told again. Who chooses to be seen by fewer is
//! told as offline to those who saw them until then, before the choice counts.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tidings_core::people::{Shown, Visibility};
use tidings_core::rooms::RoomError;
use tokio::io::DuplexStream;
use tokio::sync::oneshot;
use tokio::time::sleep;
use tracing::debug;

use super::presence::{self, Fields};
use super::{CLIENT_ID, People, topics};
use crate::service::link::{Event, Incoming, Link, Outgoing};
use crate::service::pace::{Pace, Turn};
use crate::service::{RECONNECT, Replies, asked, request};

/// Where requests come from.
const REQUESTS: &[&str] = &["user/+/request/presence"];

/// Users that others are told about at once: less than any Receive Maximum.
const CHUNK: usize = 256;

/// Longest sleep until somebody's grace period ends.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

/// What the service is started with.
pub(crate) struct Start<C> {
    pub people: Arc<People>,
    pub replies: Replies,
    /// Makes a connection with the broker's rights.
    pub connect: C,
    /// Told when requests are heard for the first time.
    pub ready: oneshot::Sender<()>,
}

/// Serves until the broker ends.
pub(crate) async fn run(start: Start<impl Fn() -> DuplexStream>) {
    let Start {
        people,
        replies,
        connect,
        ready,
    } = start;
    let mut ready = Some(ready);
    let mut pace = Pace::new(people.options.requests_per_minute);
    loop {
        let ended = match Link::open(connect(), CLIENT_ID, REQUESTS).await {
            Ok(link) => {
                if let Some(ready) = ready.take() {
                    let _ = ready.send(());
                }
                let session = Session {
                    people: people.clone(),
                    replies: replies.clone(),
                    link,
                    waiting: VecDeque::new(),
                    under_way: HashMap::new(),
                };
                session.serve(&mut pace).await
            }
            Err(error) => error,
        };
        debug!(error = %ended, "the service of people is disconnected");
        sleep(RECONNECT).await;
    }
}

/// One connection of the service.
struct Session {
    people: Arc<People>,
    replies: Replies,
    link: Link,
    /// Requests that came while something was stored.
    waiting: VecDeque<Incoming>,
    /// Publishes that are not stored yet, and whose presence they are.
    under_way: HashMap<u16, (Arc<str>, Shown)>,
}

impl Session {
    async fn serve(mut self, pace: &mut Pace) -> io::Error {
        loop {
            if let Err(error) = self.turn(pace).await {
                let now = self.people.now();
                for (user, shown) in self.under_way.into_values() {
                    self.people.presence().untold(&user, shown, now);
                }
                return error;
            }
        }
    }

    /// One request, or whatever others are to be told now.
    async fn turn(&mut self, pace: &mut Pace) -> io::Result<()> {
        if let Some(request) = self.waiting.pop_front() {
            return self.handle(pace, request).await;
        }
        let now = self.people.now();
        let told = self.people.presence().poll(now, CHUNK);
        if !told.is_empty() {
            return self.tell(told).await;
        }
        let next_due = self.people.presence().next_due();
        let until = next_due.map_or(LONGEST_SLEEP, |due| {
            Duration::from_millis(due.saturating_sub(now.monotonic_ms)).min(LONGEST_SLEEP)
        });
        let people = self.people.clone();
        tokio::select! {
            event = self.link.next() => {
                if let Event::Message(request) = event? {
                    self.waiting.push_back(request);
                }
            }
            () = people.changed.notified() => {}
            () = sleep(until) => {}
        }
        Ok(())
    }

    /// Stores what others are told.
    async fn tell(&mut self, told: Vec<(Arc<str>, Shown)>) -> io::Result<()> {
        for (user, shown) in told {
            let packet_id = self.link.publish(&Outgoing {
                topic: &topics::presence(&user),
                payload: topics::write_presence(&shown).as_bytes(),
                retain: true,
                ..Outgoing::default()
            });
            self.under_way.insert(packet_id, (user, shown));
        }
        self.link.flush().await?;
        while !self.under_way.is_empty() {
            match self.link.next().await? {
                Event::Message(request) => self.waiting.push_back(request),
                Event::Acked { packet_id, reason } => {
                    if let Some((user, shown)) = self.under_way.remove(&packet_id)
                        && reason.is_failure()
                    {
                        let now = self.people.now();
                        self.people.presence().untold(&user, shown, now);
                    }
                }
                Event::Answer => {}
            }
        }
        Ok(())
    }

    async fn handle(&mut self, pace: &mut Pace, asking: Incoming) -> io::Result<()> {
        if let Some((user, method)) = asked(&asking.topic) {
            let answer = match pace.ask(user, self.people.now().monotonic_ms) {
                Turn::Granted => {
                    let (id, fields) = request::read::<Fields>(&asking.payload);
                    let result = match fields {
                        Ok(fields) => self.choose(user, fields).await?,
                        Err(error) => Err(error),
                    };
                    Some(request::answer(id.as_ref(), method, result))
                }
                Turn::Refused => {
                    let id = request::id(&asking.payload);
                    let refused = Err(RoomError::TooManyRequests);
                    Some(request::answer(id.as_ref(), method, refused))
                }
                Turn::Ignored => None,
            };
            if let Some(answer) = answer {
                self.replies.send(&mut self.link, user, &asking, &answer);
            }
        }
        if let Some(packet_id) = asking.packet_id {
            self.link.acknowledge(packet_id);
        }
        self.link.flush().await
    }

    async fn choose(&mut self, user: &str, fields: Fields) -> io::Result<Result<Value, RoomError>> {
        let before = self.people.choice(user);
        let wish = match fields.wish(before) {
            Ok(wish) => wish,
            Err(error) => return Ok(Err(error)),
        };
        let now = self.people.now();
        if let Some((device, away)) = wish.device
            && !self
                .people
                .presence()
                .set_device_away(user, &device, away, now)
        {
            return Ok(Err(RoomError::NoSuchDevice));
        }
        if wish.choice != before {
            let default = self.people.options.visible_to;
            let seen_by = |chosen: Option<Visibility>| chosen.unwrap_or(default);
            let (old, new) = (seen_by(before.visible_to), seen_by(wish.choice.visible_to));
            let mut all = true;
            if new > old {
                let gone = topics::write_presence(&Shown::default());
                all &= self.store(&topics::presence(user), &gone).await?;
            }
            let settings = topics::write_settings(wish.choice);
            all &= self.store(&topics::settings(user), &settings).await?;
            let mut presence = self.people.presence();
            if new != old {
                presence.tell_again(user, now);
            }
            if !all {
                return Ok(Err(RoomError::Unavailable));
            }
            presence.set_away(user, wish.choice.away, now);
        }
        Ok(Ok(presence::answer(&self.people, user)))
    }

    /// Stores a retained message; true when it is on disk.
    async fn store(&mut self, topic: &str, payload: &str) -> io::Result<bool> {
        let stored = self.link.publish(&Outgoing {
            topic,
            payload: payload.as_bytes(),
            retain: true,
            ..Outgoing::default()
        });
        self.link.flush().await?;
        loop {
            match self.link.next().await? {
                Event::Message(request) => self.waiting.push_back(request),
                Event::Acked { packet_id, reason } if packet_id == stored => {
                    return Ok(!reason.is_failure());
                }
                Event::Acked { .. } | Event::Answer => {}
            }
        }
    }
}
