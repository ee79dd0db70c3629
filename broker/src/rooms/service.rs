//! The one service that changes rooms: it takes requests in the order in which they come, decides,
//! stores the changes, and answers when they are stored.
//!
//! Commands that have nothing to do with each other are under way together, and share a group commit of
//! the journal: each claims what it reads and changes (see [`claims`]), and one that claims what another
//! is changing waits until that is stored, and what comes after it waits too. So each is decided as if it
//! came alone.
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
    Act, Change, Command, Limits, MarkKind, Record, RoomError, decide, direct_room_name, farewell,
    forget_ended,
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

/// Commands that are under way at once; each has a few changes.
const MAX_UNDER_WAY: usize = 64;

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
                    under_way: VecDeque::new(),
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
    /// Requests that came while others were carried out.
    waiting: VecDeque<Incoming>,
    /// Commands whose changes are on their way to the disk, in their order.
    under_way: VecDeque<UnderWay>,
    /// Rooms that may need to be completed.
    to_repair: VecDeque<Arc<str>>,
}

/// A command whose changes are on their way to the disk.
struct UnderWay {
    asking: Incoming,
    user: Arc<str>,
    method: Arc<str>,
    id: Option<Value>,
    command: Command,
    changes: Vec<Change>,
    /// What it reads or changes, and whether it changes it.
    claims: Vec<(Claim, bool)>,
    /// Publishes that are not acknowledged.
    open: HashSet<u16>,
    /// One was refused.
    failed: bool,
}

/// Something that commands are decided by.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Claim {
    /// The record of a room.
    Room(Arc<str>),
    /// How a user stands in a room.
    Standing(Arc<str>, Arc<str>),
    /// The rooms that a user is in or owns.
    RoomsOf(Arc<str>),
}

/// What a command reads (`false`) and changes (`true`). How many members and marks a room has is not
/// among it: see [`Session::decide`].
fn claims(user: &Arc<str>, command: &Command) -> Vec<(Claim, bool)> {
    let own = |changes| (Claim::RoomsOf(user.clone()), changes);
    let (room, act) = match command {
        Command::Create { room, with, .. } => {
            let name = match (room, with) {
                (Some(room), _) => room.clone(),
                (None, Some(with)) => direct_room_name(user, with).into(),
                (None, None) => Arc::from(""),
            };
            let other = with.iter().map(|with| (Claim::RoomsOf(with.clone()), true));
            return [(Claim::Room(name), true), own(true)]
                .into_iter()
                .chain(other)
                .collect();
        }
        Command::In { room, act } => (room, act),
    };
    let standing = |of: &Arc<str>, changes| (Claim::Standing(room.clone(), of.clone()), changes);
    let room_itself = |changes| (Claim::Room(room.clone()), changes);
    match act {
        // Whoever owns it afterwards, and whether it is there, is for everything in it.
        Act::Rename(_) | Act::Archive(_) | Act::Slow(_) | Act::Change(_) => {
            vec![room_itself(true)]
        }
        Act::Delete | Act::Leave => vec![room_itself(true), own(true)],
        Act::Transfer(other) => vec![
            room_itself(true),
            own(true),
            (Claim::RoomsOf(other.clone()), true),
        ],
        Act::Join => vec![room_itself(false), standing(user, true), own(true)],
        Act::Invite(other)
        | Act::Uninvite(other)
        | Act::Kick(other)
        | Act::Ban(other, _)
        | Act::Unban(other)
        | Act::Mute(other, _)
        | Act::Unmute(other)
        | Act::SetRole(other, _) => vec![
            room_itself(false),
            standing(user, false),
            standing(other, true),
            (Claim::RoomsOf(other.clone()), true),
        ],
    }
}

/// What became of the first request that waits.
enum Begun {
    /// It is answered, or on its way.
    Yes,
    /// It depends on what is under way.
    NotYet(Incoming),
}

impl Session {
    async fn serve(mut self, pace: &mut Pace) -> io::Error {
        loop {
            if let Err(error) = self.turn(pace).await {
                return error;
            }
        }
    }

    /// What can be done with what is there, or one step of what is to be done without a request.
    async fn turn(&mut self, pace: &mut Pace) -> io::Result<()> {
        let gone = self.rooms.next_gone();
        // Who is gone goes first, alone.
        while gone.is_none()
            && let Some(asking) = self.waiting.pop_front()
        {
            if let Begun::NotYet(asking) = self.begin(pace, asking) {
                self.waiting.push_front(asking);
                break;
            }
        }
        self.link.flush().await?;
        if !self.under_way.is_empty() {
            let event = self.link.next().await?;
            self.take(event);
            return Ok(());
        }
        if let Some(gone) = gone {
            return self.take_out(&gone).await;
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
                let event = event?;
                self.take(event);
            }
            () = self.rooms.somebody_left() => {}
            () = sleep(until) => {}
        }
        Ok(())
    }

    /// Takes somebody whose account is gone out of some rooms, and tells those who own them now.
    async fn take_out(&mut self, gone: &str) -> io::Result<()> {
        let changes = farewell(&self.rooms.view(), gone, CHUNK / 4);
        if changes.is_empty() {
            self.rooms.took_out();
            return Ok(());
        }
        info!(
            user = gone,
            changes = changes.len(),
            "leaves rooms, because the account is gone"
        );
        self.store_quietly(&changes).await?;
        for change in &changes {
            if closes_room(change) {
                self.to_repair.push_back(change.room.clone());
            }
            if let Record::Member {
                user,
                member: Some(_),
            } = &change.record
            {
                let act = Act::Transfer(user.clone());
                let command = Command::In {
                    room: change.room.clone(),
                    act,
                };
                self.tell_those_concerned(gone, &command, std::slice::from_ref(change));
            }
        }
        self.link.flush().await
    }

    fn now(&self) -> UnixMillis {
        self.clock.now().unix_ms
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Message(request) => self.waiting.push_back(request),
            Event::Acked { packet_id, reason } => {
                for one in &mut self.under_way {
                    one.failed |= one.open.remove(&packet_id) && reason.is_failure();
                }
                self.finish_stored();
            }
            Event::Answer => {}
        }
    }

    fn begin(&mut self, pace: &mut Pace, asking: Incoming) -> Begun {
        let topic = asking.topic.clone();
        let Some((user, method)) = asked(&topic).filter(|(_, method)| !ELSEWHERE.contains(method))
        else {
            self.acknowledge(&asking);
            return Begun::Yes;
        };
        let (id, wanted) = room_request::read(method, &asking.payload);
        let name: Arc<str> = user.into();
        let claims = match &wanted {
            Ok(Request::Change(command)) => claims(&name, command),
            Ok(Request::List { .. }) => vec![(Claim::RoomsOf(name.clone()), false)],
            Err(_) => Vec::new(),
        };
        let is_full = !self.under_way.is_empty()
            && (self.under_way.len() >= MAX_UNDER_WAY || self.link.is_busy());
        if is_full || self.under_way.iter().any(|one| one.touches(&claims)) {
            return Begun::NotYet(asking);
        }
        let turn = pace.ask(user, self.clock.now().monotonic_ms);
        if turn != Turn::Granted {
            let answer = (turn == Turn::Refused || asking.response_topic.is_some())
                .then(|| request::refused(id.as_ref(), method, RoomError::TooManyRequests));
            self.answer(user, &asking, answer.as_ref());
            return Begun::Yes;
        }
        let answer = match wanted {
            Ok(Request::Change(command)) => match self.decide(&name, &command) {
                Decided::Yes(changes) => {
                    let open = changes.iter().map(|change| self.publish(change)).collect();
                    self.under_way.push_back(UnderWay {
                        asking,
                        user: name,
                        method: method.into(),
                        id,
                        command,
                        changes,
                        claims,
                        open,
                        failed: false,
                    });
                    // There may be nothing to change.
                    self.finish_stored();
                    return Begun::Yes;
                }
                Decided::No(error) => request::refused(id.as_ref(), method, error),
                Decided::NotYet => {
                    pace.give_back(user);
                    return Begun::NotYet(asking);
                }
            },
            Ok(Request::List {
                public,
                after,
                limit,
            }) => {
                let which = (public, after.as_str(), limit);
                let listed = room_request::list(&self.rooms.view(), user, which);
                request::done(id.as_ref(), method, listed)
            }
            Err(error) => request::refused(id.as_ref(), method, error),
        };
        self.answer(user, &asking, Some(&answer));
        Begun::Yes
    }

    /// Decides by what is stored. Limits of rooms could be reached by what is under way, so it counts as
    /// if all of it were in this room; what is refused for that is decided again when it is stored.
    fn decide(&self, user: &str, command: &Command) -> Decided {
        let expected = self.under_way.len();
        let limits = Limits {
            members_per_room: self
                .options
                .limits
                .members_per_room
                .saturating_sub(expected),
            marks_per_room: self.options.limits.marks_per_room.saturating_sub(expected),
            ..self.options.limits
        };
        match decide(&self.rooms.view(), &limits, self.now(), user, command) {
            Ok(changes) => Decided::Yes(changes),
            Err(RoomError::LimitReached) if expected > 0 => Decided::NotYet,
            Err(error) => Decided::No(error),
        }
    }

    /// Answers what is stored, in the order of the requests.
    fn finish_stored(&mut self) {
        let is_stored = |one: &UnderWay| one.open.is_empty();
        while self.under_way.front().is_some_and(is_stored)
            && let Some(done) = self.under_way.pop_front()
        {
            self.finish(done);
        }
    }

    /// All changes of a command are stored, or one was refused.
    fn finish(&mut self, done: UnderWay) {
        let (id, method) = (done.id.as_ref(), &*done.method);
        let answer = if done.failed {
            request::refused(id, method, RoomError::Unavailable)
        } else {
            let room = match (&done.command, done.changes.first()) {
                (Command::In { room, .. }, _) => room.clone(),
                (_, Some(change)) => change.room.clone(),
                (_, None) => Arc::from(""),
            };
            if done.changes.iter().any(closes_room) {
                self.to_repair.push_back(room.clone());
            }
            let changes = done.changes.len();
            debug!(user = %done.user, method, %room, changes, "rooms changed");
            self.tell_those_concerned(&done.user, &done.command, &done.changes);
            request::done(id, method, json!({ "room": *room }))
        };
        self.answer(&done.user, &done.asking, Some(&answer));
    }

    fn answer(&mut self, user: &str, asking: &Incoming, answer: Option<&Value>) {
        if let Some(answer) = answer {
            self.replies.send(&mut self.link, user, asking, answer);
        }
        self.acknowledge(asking);
    }

    fn acknowledge(&mut self, asking: &Incoming) {
        if let Some(packet_id) = asking.packet_id {
            self.link.acknowledge(packet_id);
        }
    }

    fn publish(&mut self, change: &Change) -> u16 {
        let (topic, payload) = topics::write(change);
        self.link.publish(&Outgoing {
            topic: &topic,
            payload: &payload,
            retain: true,
            ..Outgoing::default()
        })
    }

    /// Stores changes in their order, when nothing else is under way; true when all of them are on disk.
    async fn store(&mut self, changes: &[Change]) -> io::Result<bool> {
        let mut open: HashSet<u16> = changes.iter().map(|change| self.publish(change)).collect();
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

/// What is to become of a command.
enum Decided {
    Yes(Vec<Change>),
    No(RoomError),
    /// Perhaps, when what is under way is stored.
    NotYet,
}

impl UnderWay {
    /// Whether something with these claims has to wait for it.
    fn touches(&self, claims: &[(Claim, bool)]) -> bool {
        let conflict = |(own, changes): &(Claim, bool)| {
            (claims.iter()).any(|(other, also)| own == other && (*changes || *also))
        };
        self.claims.iter().any(conflict)
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
