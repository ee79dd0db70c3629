//! History: one page of a stream, for every door.
//!
//! A page covers a range of numbers `from..=to` of one stream, and has those messages of it that the
//! one who asks may receive now; what one may not is not told from what is not there. Edits, recalls
//! and reactions are entries of their own, and are shown on the message that they change wherever they
//! lie: the state has them by message. Of a message at most [`MAX_REACTIONS`] reactions are looked up.
//! What a recalled message said, and what its edits said, is in no page.
//!
//! Reading is by the journal's index, never along the log, and bounded by [`MAX_LIMIT`] entries and
//! [`MAX_BYTES`]. It takes the disk: [`History::page`] blocks, [`History::page_async`] does not.
//! This module does not know who asks over which door.

mod json;
mod service;

use std::ops::RangeInclusive;
use std::sync::Arc;

use serde_json::Value;
use tidings_core::journal::{Journal, Published, ReadEntry, ReadError};
use tidings_core::message::{Seq, UnixMillis};
use tidings_core::messages::{ChangeRecord, Kind, What, redacted};
use tidings_core::rooms::RoomError;
use tidings_core::rules::{Identity, Membership};
use tidings_core::state::State;
use tidings_core::topic::validate_name;
use tracing::error;

use crate::clock::Clock;
use crate::rulebook::Rulebook;

pub use service::Fields;
pub(crate) use service::{CLIENT_ID, REQUESTS, REQUESTS_PER_MINUTE, Service};

/// Entries in a page unless asked otherwise: a few screens.
pub const DEFAULT_LIMIT: usize = 50;

/// Most entries in a page: what is read for one request has a bound.
pub const MAX_LIMIT: usize = 200;

/// Bytes of payload after which a page ends early: large messages make pages short.
const MAX_BYTES: usize = 1024 * 1024;

/// Entries read at a time, so that a page of large messages is not read much beyond its end.
const CHUNK: usize = 16;

/// Reactions of one message that are looked up, in the order of users.
pub const MAX_REACTIONS: usize = 100;

/// Which stream is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A room.
    Room(Arc<str>),
    /// The direct messages with a user.
    With(Arc<str>),
    /// Whatever the topic rules make of a topic.
    Topic(Arc<str>),
}

/// Which part of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Which {
    /// The newest.
    #[default]
    Newest,
    /// The last before this number.
    Before(Seq),
    /// The first after this number.
    After(Seq),
    /// This number, and as many on each side.
    Around(Seq),
    /// The first from this time on, milliseconds since the Unix epoch.
    At(UnixMillis),
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// The stream.
    pub place: Place,
    /// The part of it.
    pub which: Which,
    /// Entries at most; 1 to [`MAX_LIMIT`] count.
    pub limit: usize,
}

/// One message, and what became of it.
#[derive(Clone, Debug)]
pub struct Shown {
    /// As stored; without payload if it is recalled.
    pub published: Arc<Published>,
    /// The newest edit.
    pub edited: Option<Arc<Published>>,
    /// The recall.
    pub recalled: Option<ChangeRecord>,
    /// The newest reaction of each user.
    pub reactions: Vec<ChangeRecord>,
    /// True if there are more reactions than were looked up.
    pub more_reactions: bool,
}

/// A part of a stream.
#[derive(Clone, Debug)]
pub struct Page {
    /// The stream.
    pub stream: Arc<str>,
    /// The room, if one was asked for.
    pub room: Option<Arc<str>>,
    /// What the one who asks may receive of the range, ascending.
    pub messages: Vec<Shown>,
    /// The first number of the range that was looked at; go on before it.
    pub from: Seq,
    /// The last number of the range that was looked at; go on after it. `from - 1` if it is empty.
    pub to: Seq,
    /// The first number that retention has left; `head + 1` if it left none.
    pub first: Seq,
    /// The last number that was given; 0 if none was.
    pub head: Seq,
    /// Numbers that were asked for and that retention took.
    pub gap: Option<RangeInclusive<u64>>,
}

/// See the module.
pub struct History {
    journal: Arc<dyn Journal>,
    state: Arc<dyn State>,
    rules: Arc<Rulebook>,
    members: Arc<dyn Membership + Send + Sync>,
    clock: Clock,
}

impl History {
    pub(crate) fn new(
        journal: Arc<dyn Journal>,
        state: Arc<dyn State>,
        rules: Arc<Rulebook>,
        members: Arc<dyn Membership + Send + Sync>,
        clock: Clock,
    ) -> Self {
        Self {
            journal,
            state,
            rules,
            members,
            clock,
        }
    }

    /// A page as JSON, the same over every door.
    pub fn json(&self, page: &Page) -> Value {
        json::page_json(&self.rules.current(), page)
    }

    /// A page, read on a thread for things that block.
    ///
    /// # Errors
    /// As for [`History::page`].
    pub async fn page_async(
        self: &Arc<Self>,
        who: &Identity,
        query: Query,
    ) -> Result<Page, RoomError> {
        let (history, who) = (self.clone(), who.clone());
        let read = tokio::task::spawn_blocking(move || history.page(&who, &query));
        read.await.unwrap_or(Err(RoomError::Unavailable))
    }

    /// A page. Blocks on the disk.
    ///
    /// # Errors
    /// [`RoomError::NoSuchRoom`] if `who` may receive nothing there, whether it exists or not;
    /// [`RoomError::Unavailable`] if the journal cannot be read.
    pub fn page(&self, who: &Identity, query: &Query) -> Result<Page, RoomError> {
        let topic = query.place.topic(who).ok_or(RoomError::NoSuchRoom)?;
        if !self.may_receive(who, &topic) {
            return Err(RoomError::NoSuchRoom);
        }
        let rules = self.rules.current();
        let stream = rules.stream_of(&topic);
        let read = self.read(who, &stream, query);
        read.map_err(|error| {
            error!(%error, %stream, "history cannot be read");
            RoomError::Unavailable
        })
    }

    fn may_receive(&self, who: &Identity, topic: &str) -> bool {
        (self.rules.may_receive(topic, who, &*self.members)).is_allowed()
    }

    fn read(&self, who: &Identity, stream: &str, query: &Query) -> Result<Page, ReadError> {
        let head = self.state.stream_head(stream).0;
        let oldest = self.journal.history(stream, Seq(1), 1)?;
        let first = oldest.first().map_or(head + 1, |e| e.published.seq.0);
        // Committed since the head was asked for.
        let head = head.max(first.saturating_sub(1));
        let limit = query.limit.clamp(1, MAX_LIMIT);
        let count = limit as u64;
        let wanted = match query.which {
            Which::Newest => Wanted::down_from(head, count),
            Which::Before(seq) => Wanted::down_from(head.min(seq.0.saturating_sub(1)), count),
            Which::After(seq) => Wanted::up_from(seq.0.saturating_add(1), count, head),
            Which::Around(seq) => {
                let low = seq.0.saturating_sub(count / 2).max(1);
                Wanted::up_from(low, count, head)
            }
            Which::At(time) => {
                let at = self.first_since(stream, first, head, time)?;
                Wanted::up_from(at, count, head)
            }
        };
        let gap = wanted.before(first);
        let (entries, from, to) = self.entries(stream, &wanted, first)?;
        let now = self.clock.now().unix_ms;
        let is_shown = |entry: &&ReadEntry| {
            let message = &entry.published.message;
            let expired = message.expires_at().is_some_and(|at| at <= now);
            // What waits only for somebody's session is nobody's history.
            let kept = entry.published.history && !expired;
            kept && self.may_receive(who, &message.topic)
        };
        let shown = entries.iter().filter(is_shown);
        let messages = shown
            .map(|entry| self.with_changes(&entry.published))
            .collect::<Result<_, _>>()?;
        Ok(Page {
            stream: stream.into(),
            room: match &query.place {
                Place::Room(room) => Some(room.clone()),
                Place::With(_) | Place::Topic(_) => None,
            },
            messages,
            from: Seq(from),
            to: Seq(to),
            first: Seq(first),
            head: Seq(head),
            gap,
        })
    }

    /// The entries of a range, ascending, and the range that was looked at: a part if they are large,
    /// and then that at which reading begins.
    fn entries(
        &self,
        stream: &str,
        wanted: &Wanted,
        first: u64,
    ) -> Result<(Vec<ReadEntry>, u64, u64), ReadError> {
        let (low, high) = (wanted.low.max(first), wanted.high);
        let mut entries: Vec<ReadEntry> = Vec::new();
        let mut bytes = 0;
        let chunk = CHUNK as u64;
        let mut done = 0;
        while low + done <= high && bytes < MAX_BYTES {
            let (from, to) = if wanted.downwards {
                let to = high - done;
                (low.max((to + 1).saturating_sub(chunk)), to)
            } else {
                (low + done, high.min(low + done + chunk - 1))
            };
            let count = usize::try_from(to - from + 1).unwrap_or(CHUNK);
            let mut read = self.journal.history(stream, Seq(from), count)?;
            read.retain(|entry| entry.published.seq.0 <= to);
            bytes += read
                .iter()
                .map(|entry| entry.published.message.payload.len())
                .sum::<usize>();
            if wanted.downwards {
                read.append(&mut entries);
                entries = read;
            } else {
                entries.append(&mut read);
            }
            done += to - from + 1;
        }
        Ok(if wanted.downwards {
            (entries, (high + 1).saturating_sub(done).max(low), high)
        } else {
            (entries, low, (low + done).saturating_sub(1))
        })
    }

    /// The first number whose message was published at `time` or later; `head + 1` if none was. Where
    /// clocks went back it is one of those.
    fn first_since(
        &self,
        stream: &str,
        first: u64,
        head: u64,
        time: UnixMillis,
    ) -> Result<u64, ReadError> {
        let (mut low, mut high) = (first, head + 1);
        while low < high {
            let middle = low + (high - low) / 2;
            let found = self.journal.history(stream, Seq(middle), 1)?;
            match found.first() {
                Some(entry) if entry.published.message.time < time => {
                    low = entry.published.seq.0 + 1;
                }
                _ => high = middle,
            }
        }
        Ok(low)
    }

    fn with_changes(&self, published: &Arc<Published>) -> Result<Shown, ReadError> {
        let mut shown = Shown {
            published: published.clone(),
            edited: None,
            recalled: None,
            reactions: Vec::new(),
            more_reactions: false,
        };
        let stream = &published.stream;
        let kind = Kind::of(&published.message.topic, stream);
        if let Kind::Edit(of) = kind {
            if let Some(recall) = recall_of(&*self.state, stream, of) {
                shown.published = redacted(published, &recall.by);
            }
            return Ok(shown);
        }
        if !kind.is_message() {
            return Ok(shown);
        }
        // The recall, the edit, and one more reaction than are shown.
        let changes = self.state.changes(stream, published.seq, MAX_REACTIONS + 3);
        let mut edit = None;
        for change in changes {
            match change.what {
                What::Recalled => shown.recalled = Some(change),
                What::Edited => edit = Some(change.offset),
                What::Reaction(_) if shown.reactions.len() < MAX_REACTIONS => {
                    shown.reactions.push(change);
                }
                What::Reaction(_) => shown.more_reactions = true,
            }
        }
        if let Some(recall) = &shown.recalled {
            shown.published = redacted(published, &recall.by);
        } else if let Some(offset) = edit {
            shown.edited = match self.journal.read_at(offset) {
                // Retention may take an edit only after what it changes.
                Err(ReadError::Trimmed { .. }) => None,
                read => read?,
            };
        }
        Ok(shown)
    }
}

/// The recall of a message.
pub(crate) fn recall_of(state: &dyn State, stream: &str, of: Seq) -> Option<ChangeRecord> {
    let mut found = None;
    state.for_each_recall(stream, of, of, &mut |recall| found = Some(recall.clone()));
    found
}

/// A message as it may be given out: without what it said, if it is recalled.
pub(crate) fn given_out(state: &dyn State, published: Arc<Published>) -> Arc<Published> {
    let (topic, stream) = (&published.message.topic, &published.stream);
    // Only streams that several topics share have changes.
    if !published.history || **stream == **topic {
        return published;
    }
    let of = match Kind::of(topic, stream) {
        Kind::Message | Kind::Reply(_) => published.seq,
        Kind::Edit(of) => of,
        Kind::Recall(_) | Kind::React(_) => return published,
    };
    match recall_of(state, stream, of) {
        Some(recall) => redacted(&published, &recall.by),
        None => published,
    }
}

impl Place {
    /// A topic of the stream on which the one who asks would publish.
    fn topic(&self, who: &Identity) -> Option<String> {
        let (name, topic) = match self {
            Self::Room(room) => (room, format!("chat/{room}/{}", who.user)),
            Self::With(user) => (user, format!("dm/{user}/{}", who.user)),
            Self::Topic(topic) => {
                validate_name(topic).ok()?;
                return Some(topic.to_string());
            }
        };
        let is_level = !name.is_empty() && !name.contains('/');
        (is_level && validate_name(&topic).is_ok()).then_some(topic)
    }
}

/// Numbers to look at, and from which end.
#[derive(Debug, PartialEq, Eq)]
struct Wanted {
    low: u64,
    high: u64,
    downwards: bool,
}

impl Wanted {
    fn down_from(high: u64, count: u64) -> Self {
        Self {
            low: (high + 1).saturating_sub(count).max(1),
            high,
            downwards: true,
        }
    }

    fn up_from(low: u64, count: u64, head: u64) -> Self {
        let low = low.min(head.saturating_add(1));
        Self {
            low,
            high: head.min(low.saturating_add(count - 1)),
            downwards: false,
        }
    }

    /// Those before `first`.
    fn before(&self, first: u64) -> Option<RangeInclusive<u64>> {
        let last = self.high.min(first.saturating_sub(1));
        (self.low <= last).then_some(self.low..=last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_end_where_the_stream_does() {
        let of = |wanted: Wanted| (wanted.low, wanted.high);
        assert_eq!(of(Wanted::down_from(100, 10)), (91, 100));
        assert_eq!(of(Wanted::down_from(5, 10)), (1, 5));
        assert_eq!(of(Wanted::down_from(0, 10)), (1, 0));
        assert_eq!(of(Wanted::up_from(95, 10, 100)), (95, 100));
        assert_eq!(of(Wanted::up_from(500, 10, 100)), (101, 100));
        assert_eq!(of(Wanted::up_from(u64::MAX, 10, 0)), (1, 0));
    }

    #[test]
    fn what_was_asked_for_and_is_trimmed_is_a_gap() {
        assert_eq!(Wanted::down_from(20, 10).before(15), Some(11..=14));
        assert_eq!(Wanted::down_from(20, 10).before(11), None);
        assert_eq!(Wanted::up_from(3, 5, 100).before(50), Some(3..=7));
    }
}
