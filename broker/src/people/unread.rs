//! What a user has not read, for every door: derived from the heads of streams, read markers and the
//! last entries of each stream, when somebody asks.
//!
//! A message is stored once, whatever the number of its readers: nothing is written for them. The last
//! entries of a stream are read from the journal when they are needed, and remembered for the next
//! who asks; see [`tidings_core::people::Tail`]. Only rooms in which the user is now are counted.
//! Answering takes the disk: [`Counts::answer`] blocks.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use serde::Deserialize;
use serde_json::{Value, json};
use tidings_core::journal::{Batch, Journal, ReadEntry, Record};
use tidings_core::message::{Seq, UnixMillis};
use tidings_core::people::{MAX_TAIL, Reader, Tail, Unread};
use tidings_core::rooms::RoomError;
use tidings_core::rules::{Identity, Membership};
use tidings_core::state::{State, growing_number, retained_on};
use tracing::error;

use crate::history::{History, Place, Query, Which};
use crate::rooms::Rooms;
use crate::rulebook::Rulebook;
use crate::service::{Answer, request};
use crate::shard::Shared;

/// Rooms, and people, in one answer.
const MAX_LISTED: usize = 100;

/// Streams whose last entries are remembered: some 40 MB if all are long.
const MAX_TAILS: usize = 256;

/// Entries read from the journal at a time: with large messages some 64 MB.
const CHUNK: usize = 64;

/// Entries read for one request; the next one goes on.
const MAX_READ: usize = 50_000;

/// Bytes of one room in an answer; a last message that takes more is left out.
const MAX_LISTED_BYTES: usize = 4096;

/// What an answer has beside rooms and people.
const OVERHEAD_BYTES: usize = 1024;

/// Client Identifier of the service that answers.
pub(crate) const COUNTS: &str = "$link/@unread";

/// Where its requests come from.
pub(crate) const REQUESTS: &[&str] = &["user/+/request/unread"];

/// Entries that are looked through for the last message of a stream that is all read.
const LAST_OF: u64 = 50;

/// Pairs of people, and in open mode rooms, that are remembered: some 100 MB. Later ones are not
/// listed.
const MAX_STREAMS: usize = 1_000_000;

/// What is asked for.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct UnreadQuery {
    /// Only these rooms.
    pub rooms: Option<Vec<String>>,
    /// Rooms whose names come after this one.
    pub after: String,
    /// People whose names come after this one.
    pub after_direct: String,
    /// Rooms, and people, at most.
    pub limit: Option<usize>,
}

/// Which streams there are, beyond what rooms say.
#[derive(Debug, Default)]
struct Streams {
    /// Rooms in which something was said.
    rooms: BTreeSet<Arc<str>>,
    /// Who has direct messages with whom.
    direct: BTreeMap<Arc<str>, BTreeSet<Arc<str>>>,
    count: usize,
}

/// The last entries of a stream, from a number on that was asked for.
struct Known {
    tail: Tail,
    asked_from: u64,
    used: u64,
}

#[derive(Default)]
struct Tails {
    known: HashMap<Arc<str>, Known>,
    used: u64,
}

/// See the module.
pub(crate) struct Counts {
    journal: Arc<dyn Journal>,
    state: Arc<dyn State>,
    rules: Arc<Rulebook>,
    members: Arc<dyn Membership + Send + Sync>,
    history: Arc<History>,
    /// Rooms with members of their own; without, every room is everyone's.
    managed: Option<Arc<Rooms>>,
    streams: RwLock<Streams>,
    tails: Mutex<Tails>,
}

/// Answers requests.
pub(crate) struct CountsService {
    pub counts: Arc<Counts>,
    /// Bytes of an answer: what the broker takes from a client, and so from a service.
    pub max_bytes: usize,
}

/// What one answer may still take.
struct Budget {
    entries: usize,
    bytes: usize,
}

/// What is listed of one stream.
struct Listed {
    head: u64,
    read: u64,
    unread: Unread,
    last: Option<Value>,
}

impl Streams {
    /// Takes note of a stream, by its name.
    fn add(&mut self, stream: &str, with_rooms: bool) {
        if self.count >= MAX_STREAMS {
            return;
        }
        let added = match stream.split('/').collect::<Vec<_>>()[..] {
            ["chat", room] if with_rooms => self.rooms.insert(room.into()),
            ["dm", one, other] => {
                let (one, other): (Arc<str>, Arc<str>) = (one.into(), other.into());
                let with = self.direct.entry(one.clone()).or_default();
                let added = with.insert(other.clone());
                self.direct.entry(other).or_default().insert(one);
                added
            }
            _ => false,
        };
        self.count += usize::from(added);
    }
}

impl Counts {
    /// What the state has. To be called before anything is committed.
    pub fn load(shared: &Shared, history: Arc<History>, managed: Option<Arc<Rooms>>) -> Self {
        let Shared {
            journal,
            state,
            rules,
            members,
            ..
        } = shared.clone();
        let mut streams = Streams::default();
        for prefix in ["chat/", "dm/"] {
            state.for_each_stream(prefix, &mut |stream, _| {
                streams.add(stream, managed.is_none());
            });
        }
        Self {
            journal,
            state,
            rules,
            members,
            history,
            managed,
            streams: RwLock::new(streams),
            tails: Mutex::default(),
        }
    }

    /// Takes up what the journal has: only first messages are looked at.
    pub fn committed(&self, batch: &Batch) {
        for (_, entry) in &batch.entries {
            if let Record::Published(published) = &entry.record
                && published.seq == Seq(1)
            {
                let mut streams = self.streams.write().unwrap_or_else(PoisonError::into_inner);
                streams.add(&published.stream, self.managed.is_none());
            }
        }
    }

    /// What a user has not read: rooms, and direct messages, in at most so many bytes of JSON.
    pub fn answer(&self, who: &Identity, query: &UnreadQuery, max_bytes: usize) -> Value {
        let limit = query.limit.unwrap_or(MAX_LISTED).clamp(1, MAX_LISTED);
        let mut budget = Budget {
            entries: MAX_READ,
            bytes: max_bytes.saturating_sub(OVERHEAD_BYTES),
        };
        let names = self.rooms_of(&who.user, query, limit + 1);
        let room = |room: &str, budget: &mut Budget| self.room(who, room, budget);
        let (rooms, more) = budget.list(&names, limit, room);
        let peers = match query.rooms {
            None => self.peers_of(&who.user, &query.after_direct, limit + 1),
            Some(_) => Vec::new(),
        };
        let peer = |peer: &str, budget: &mut Budget| self.peer(who, peer, budget);
        let (direct, more_direct) = budget.list(&peers, limit, peer);
        json!({
            "rooms": rooms,
            "more": more,
            "direct": direct,
            "more_direct": more_direct,
        })
    }

    fn rooms_of(&self, user: &str, query: &UnreadQuery, limit: usize) -> Vec<Arc<str>> {
        if let Some(named) = &query.rooms {
            let mut named: Vec<Arc<str>> = named.iter().map(|room| (**room).into()).collect();
            named.sort_unstable();
            named.dedup();
            named.retain(|room| **room > *query.after && self.members.is_member(user, room));
            named.truncate(limit);
            return named;
        }
        if let Some(rooms) = &self.managed {
            let summaries = rooms.view().rooms_of(user, &query.after, limit);
            return summaries.into_iter().map(|summary| summary.room).collect();
        }
        let streams = self.streams.read().unwrap_or_else(PoisonError::into_inner);
        let from = (Bound::Excluded(&*query.after), Bound::Unbounded);
        streams
            .rooms
            .range::<str, _>(from)
            .take(limit)
            .cloned()
            .collect()
    }

    fn peers_of(&self, user: &str, after: &str, limit: usize) -> Vec<Arc<str>> {
        let streams = self.streams.read().unwrap_or_else(PoisonError::into_inner);
        let Some(peers) = streams.direct.get(user) else {
            return Vec::new();
        };
        let from = (Bound::Excluded(after), Bound::Unbounded);
        peers.range::<str, _>(from).take(limit).cloned().collect()
    }

    fn room(&self, who: &Identity, room: &str, budget: &mut Budget) -> Value {
        let member = self
            .managed
            .as_ref()
            .and_then(|rooms| rooms.view().member(&who.user, room));
        let marker = format!("read/{room}/{}", who.user);
        let since = member.map_or(0, |member| member.since);
        let listed = self.listed(who, Place::Room(room.into()), &marker, since, budget);
        let mut value = listed.json();
        value["room"] = room.into();
        value["mentions"] = listed.unread.mentions.into();
        value
    }

    fn peer(&self, who: &Identity, peer: &str, budget: &mut Budget) -> Value {
        let me = &*who.user;
        let marker = format!("dm/{peer}/{me}/read");
        let listed = self.listed(who, Place::With(peer.into()), &marker, 0, budget);
        let mut value = listed.json();
        value["with"] = peer.into();
        for what in ["delivered", "read"] {
            let topic = format!("dm/{me}/{peer}/{what}");
            let may = self.rules.may_receive(&topic, who, &*self.members);
            if may.is_allowed() {
                value[format!("peer_{what}")] = self.number(&topic).into();
            }
        }
        value
    }

    /// A number that only grows, as it is retained.
    fn number(&self, topic: &str) -> u64 {
        let retained = retained_on(&*self.state, topic);
        let payload = retained.map(|r| r.published.message.payload.clone());
        payload.and_then(|p| growing_number(&p)).unwrap_or(0)
    }

    fn listed(
        &self,
        who: &Identity,
        place: Place,
        marker: &str,
        since: UnixMillis,
        budget: &mut Budget,
    ) -> Listed {
        let topic = match &place {
            Place::Room(room) => format!("chat/{room}/{}", who.user),
            Place::With(peer) => format!("dm/{peer}/{}", who.user),
            Place::Topic(topic) => topic.to_string(),
        };
        let stream: Arc<str> = (*self.rules.current().stream_of(&topic)).into();
        let head = self.state.stream_head(&stream).0;
        let read = self.number(marker).min(head);
        let reader = Reader {
            user: &who.user,
            read: Seq(read),
            since,
        };
        let (unread, last) = self.count(&stream, head, reader, budget);
        let last = last.and_then(|seq| self.last(who, place, seq));
        Listed {
            head,
            read,
            unread,
            last,
        }
    }

    /// What is unread of a stream, and the number of its last message.
    fn count(
        &self,
        stream: &Arc<str>,
        head: u64,
        reader: Reader<'_>,
        budget: &mut Budget,
    ) -> (Unread, Option<Seq>) {
        let wanted = (reader.read.0 + 1).min(head.saturating_sub(LAST_OF) + 1);
        let wanted = wanted
            .max((head + 1).saturating_sub(MAX_TAIL as u64))
            .max(1);
        let mut tails = self.tails();
        let known = tails.known_from(stream, wanted);
        while known.tail.next().0 <= head {
            let read = self.journal.history(stream, known.tail.next(), CHUNK);
            let entries = read.unwrap_or_else(|error| {
                error!(%error, %stream, "what is unread cannot be counted");
                Vec::new()
            });
            if entries.is_empty() {
                break;
            }
            budget.entries = budget.entries.saturating_sub(entries.len());
            for ReadEntry { published, .. } in &entries {
                known.tail.push(published);
            }
        }
        (known.tail.unread(reader), known.tail.last_message())
    }

    /// The message of a number, as far as the user may have it.
    fn last(&self, who: &Identity, place: Place, seq: Seq) -> Option<Value> {
        let query = Query {
            place,
            which: Which::After(Seq(seq.0.checked_sub(1)?)),
            limit: 1,
        };
        let page = self.history.page(who, &query).ok()?;
        let mut page = self.history.json(&page);
        let last = page.get_mut("messages")?.get_mut(0)?;
        Some(last.take())
    }

    fn tails(&self) -> MutexGuard<'_, Tails> {
        self.tails.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tails {
    /// What is known of a stream from a number on; the one that nobody asked for the longest makes
    /// room.
    fn known_from(&mut self, stream: &Arc<str>, from: u64) -> &mut Known {
        self.used += 1;
        let used = self.used;
        if !self.known.contains_key(stream) && self.known.len() >= MAX_TAILS {
            let oldest = self.known.iter().min_by_key(|(_, known)| known.used);
            if let Some(oldest) = oldest.map(|(stream, _)| stream.clone()) {
                self.known.remove(&oldest);
            }
        }
        let new = || Known {
            tail: Tail::starting(Seq(from)),
            asked_from: from,
            used,
        };
        let known = self.known.entry(stream.clone()).or_insert_with(new);
        if known.asked_from > from {
            *known = new();
        }
        known.used = used;
        known
    }
}

impl Budget {
    /// What is listed of names, at most `limit` of them, and whether there are more.
    fn list(
        &mut self,
        names: &[Arc<str>],
        limit: usize,
        each: impl Fn(&str, &mut Self) -> Value,
    ) -> (Vec<Value>, bool) {
        let mut listed = Vec::new();
        for name in names {
            if listed.len() == limit || self.entries == 0 {
                return (listed, true);
            }
            let mut value = each(name, self);
            let mut bytes = value.to_string().len();
            if bytes > MAX_LISTED_BYTES
                && let Some(fields) = value.as_object_mut()
            {
                fields.remove("last");
                bytes = value.to_string().len();
            }
            if bytes > self.bytes {
                return (listed, true);
            }
            self.bytes -= bytes;
            listed.push(value);
        }
        (listed, false)
    }
}

impl Answer for CountsService {
    async fn answer(
        &mut self,
        user: &str,
        _method: &str,
        payload: &[u8],
    ) -> (Option<Value>, Result<Value, RoomError>) {
        let (id, query) = request::read::<UnreadQuery>(payload);
        let query = match query {
            Ok(query) => query,
            Err(error) => return (id, Err(error)),
        };
        let (counts, who, max_bytes) = (self.counts.clone(), Identity::user(user), self.max_bytes);
        let counting = move || counts.answer(&who, &query, max_bytes);
        let counted = tokio::task::spawn_blocking(counting).await;
        (id, counted.map_err(|_| RoomError::Unavailable))
    }
}

impl Listed {
    fn json(&self) -> Value {
        let mut value = json!({
            "head": self.head,
            "read": self.read,
            "unread": self.unread.messages,
        });
        if self.unread.more {
            value["more"] = true.into();
        }
        if let Some(last) = &self.last {
            value["last"] = last.clone();
        }
        value
    }
}
