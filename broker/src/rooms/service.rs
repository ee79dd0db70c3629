//! The one service that changes rooms: it takes requests in the order in which they come, decides,
//! stores the changes, and answers when they are stored.
//!
//! A crash between the changes of one command leaves a harmless state; so does a lost connection.
//! After each start, and after a command that leaves much to do, every room is looked at and
//! completed. A request whose answer was lost may have been carried out: asking again says so.

use std::collections::{HashSet, VecDeque};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tidings_core::message::UnixMillis;
use tidings_core::rooms::{
    Act, Change, Command, MarkKind, Record, RoomError, decide, forget_ended,
};
use tokio::io::DuplexStream;
use tokio::sync::oneshot;
use tokio::time::sleep;
use tracing::{debug, info, warn};

use super::request::{self as room_request, Request};
use super::{CLIENT_ID, Options, Rooms, topics};
use crate::clock::Clock;
use crate::service::link::{Event, Incoming, Link, Outgoing};
use crate::service::pace::{Pace, Turn};
use crate::service::{ELSEWHERE, RECONNECT, Replies, asked, request};

/// Where requests come from.
const REQUESTS: &str = "user/+/request/+";

/// Changes that are under way at once when much is to do: less than any Receive Maximum.
const CHUNK: usize = 256;

/// Longest sleep until the next end of a ban, mute or invitation, so that a clock that is set is
/// noticed.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

/// What the service is started with.
pub(crate) struct Start<C> {
    pub rooms: Arc<Rooms>,
    pub replies: Replies,
    pub options: Options,
    pub clock: Clock,
    /// Makes a connection with the broker's rights.
    pub connect: C,
    /// Told when requests are heard for the first time.
    pub ready: oneshot::Sender<()>,
}

/// Serves until the broker ends.
pub(crate) async fn run(start: Start<impl Fn() -> DuplexStream>) {
    let Start {
        rooms,
        replies,
        options,
        clock,
        connect,
        ready,
    } = start;
    let mut ready = Some(ready);
    let mut pace = Pace::new(options.requests_per_minute);
    loop {
        let session = match Link::open(connect(), CLIENT_ID, &[REQUESTS]).await {
            Ok(link) => {
                if let Some(ready) = ready.take() {
                    let _ = ready.send(());
                }
                let to_repair = rooms.view().names().cloned().collect();
                let session = Session {
                    rooms: rooms.clone(),
                    replies: replies.clone(),
                    options,
                    clock,
                    link,
                    waiting: VecDeque::new(),
                    to_repair,
                };
                session.serve(&mut pace).await
            }
            Err(error) => error,
        };
        debug!(error = %session, "the service of rooms is disconnected");
        sleep(RECONNECT).await;
    }
}

/// One connection of the service.
struct Session {
    rooms: Arc<Rooms>,
    replies: Replies,
    options: Options,
    clock: Clock,
    link: Link,
    /// Requests that came while another was carried out.
    waiting: VecDeque<Incoming>,
    /// Rooms that may need to be completed.
    to_repair: VecDeque<Arc<str>>,
}

impl Session {
    async fn serve(mut self, pace: &mut Pace) -> io::Error {
        loop {
            if let Err(error) = self.turn(pace).await {
                return error;
            }
        }
    }

    /// One request, or one step of what is to be done without one.
    async fn turn(&mut self, pace: &mut Pace) -> io::Result<()> {
        if let Some(request) = self.waiting.pop_front() {
            return self.handle(pace, request).await;
        }
        let now = self.now();
        let ended = forget_ended(&self.rooms.view(), now, CHUNK);
        if !ended.is_empty() {
            return self.store_quietly(&ended).await;
        }
        if let Some(room) = self.to_repair.front().cloned() {
            let repairs = self.rooms.view().repairs(&room, CHUNK);
            if repairs.is_empty() {
                self.to_repair.pop_front();
                return Ok(());
            }
            info!(%room, changes = repairs.len(), "completing a room");
            return self.store_quietly(&repairs).await;
        }
        let next_end = self.rooms.view().next_end();
        let until = next_end.map_or(LONGEST_SLEEP, |end| {
            Duration::from_millis(end.saturating_sub(now)).min(LONGEST_SLEEP)
        });
        tokio::select! {
            event = self.link.next() => {
                if let Event::Message(request) = event? {
                    self.waiting.push_back(request);
                }
            }
            () = sleep(until) => {}
        }
        Ok(())
    }

    fn now(&self) -> UnixMillis {
        self.clock.now().unix_ms
    }

    async fn handle(&mut self, pace: &mut Pace, asking: Incoming) -> io::Result<()> {
        let topic = asking.topic.clone();
        if let Some((user, method)) = asked(&topic)
            && !ELSEWHERE.contains(&method)
        {
            let turn = pace.ask(user, self.clock.now().monotonic_ms);
            let answer = match turn {
                Turn::Granted => Some(self.carry_out(user, method, &asking.payload).await?),
                turn if turn == Turn::Refused || asking.response_topic.is_some() => {
                    let id = request::id(&asking.payload);
                    let error = RoomError::TooManyRequests;
                    Some(request::refused(id.as_ref(), method, error))
                }
                _ => None,
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

    async fn carry_out(&mut self, user: &str, method: &str, payload: &[u8]) -> io::Result<Value> {
        let (id, wanted) = room_request::read(method, payload);
        let id = id.as_ref();
        let command = match wanted {
            Ok(Request::Change(command)) => command,
            Ok(Request::List {
                public,
                after,
                limit,
            }) => {
                let which = (public, after.as_str(), limit);
                let listed = room_request::list(&self.rooms.view(), user, which);
                return Ok(request::done(id, method, listed));
            }
            Err(error) => return Ok(request::refused(id, method, error)),
        };
        let decided = {
            let view = self.rooms.view();
            decide(&view, &self.options.limits, self.now(), user, &command)
        };
        let changes = match decided {
            Ok(changes) => changes,
            Err(error) => return Ok(request::refused(id, method, error)),
        };
        if !self.store(&changes).await? {
            return Ok(request::refused(id, method, RoomError::Unavailable));
        }
        let room = match (&command, changes.first()) {
            (Command::In { room, .. }, _) => room.clone(),
            (_, Some(change)) => change.room.clone(),
            (_, None) => Arc::from(""),
        };
        if changes.iter().any(closes_room) {
            self.to_repair.push_back(room.clone());
        }
        debug!(user, method, %room, changes = changes.len(), "rooms changed");
        self.tell_those_concerned(user, &command, &changes);
        Ok(request::done(id, method, json!({ "room": *room })))
    }

    /// Stores changes in their order; true when all of them are on disk.
    async fn store(&mut self, changes: &[Change]) -> io::Result<bool> {
        let mut open = HashSet::new();
        for change in changes {
            let (topic, payload) = topics::write(change);
            open.insert(self.link.publish(&Outgoing {
                topic: &topic,
                payload: &payload,
                retain: true,
                ..Outgoing::default()
            }));
        }
        self.link.flush().await?;
        let mut all = true;
        while !open.is_empty() {
            match self.link.next().await? {
                Event::Message(request) => self.waiting.push_back(request),
                Event::Acked { packet_id, reason } => {
                    all &= !(open.remove(&packet_id) && reason.is_failure());
                }
                Event::Answer => {}
            }
        }
        Ok(all)
    }

    async fn store_quietly(&mut self, changes: &[Change]) -> io::Result<()> {
        if self.store(changes).await? {
            return Ok(());
        }
        // Not to be tried in a tight loop.
        warn!("changes of rooms were refused");
        Err(io::Error::other("changes of rooms were refused"))
    }

    /// An event for everyone else whose standing changed.
    fn tell_those_concerned(&mut self, actor: &str, command: &Command, changes: &[Change]) {
        for change in changes {
            let Some((user, event)) = event(command, change).filter(|(user, _)| **user != *actor)
            else {
                continue;
            };
            let mut event = event;
            if let Some(object) = event.as_object_mut() {
                object.insert("room".to_owned(), (*change.room).into());
                object.insert("by".to_owned(), actor.into());
                if let Some(record) = self.rooms.view().record(&change.room) {
                    object.insert("title".to_owned(), (*record.title).into());
                }
            }
            self.link.publish(&Outgoing {
                topic: &format!("user/{user}/inbox"),
                payload: event.to_string().as_bytes(),
                ..Outgoing::default()
            });
        }
    }
}

fn closes_room(change: &Change) -> bool {
    matches!(&change.record, Record::Room(Some(record)) if record.deleted)
}

/// Whom a change concerns, and what they are told.
fn event(command: &Command, change: &Change) -> Option<(Arc<str>, Value)> {
    let act = match command {
        Command::Create { .. } => None,
        Command::In { act, .. } => Some(act),
    };
    Some(match &change.record {
        Record::Mark {
            kind,
            user,
            mark: Some(mark),
        } => {
            let event = match kind {
                MarkKind::Ban => "banned",
                MarkKind::Mute => "muted",
                MarkKind::Invite => "invited",
            };
            let event = match mark.until {
                Some(until) => json!({ "event": event, "until": until }),
                None => json!({ "event": event }),
            };
            (user.clone(), event)
        }
        Record::Mark {
            kind,
            user,
            mark: None,
        } => {
            let event = match kind {
                MarkKind::Ban => "unbanned",
                MarkKind::Mute => "unmuted",
                MarkKind::Invite => return None,
            };
            (user.clone(), json!({ "event": event }))
        }
        Record::Member { user, member } => match (act, member) {
            (Some(Act::Kick(_)), None) => (user.clone(), json!({ "event": "removed" })),
            (None | Some(Act::SetRole(..) | Act::Transfer(_)), Some(member)) => {
                let role = member.role.as_str();
                (user.clone(), json!({ "event": "role", "role": role }))
            }
            _ => return None,
        },
        Record::Room(_) => return None,
    })
}
