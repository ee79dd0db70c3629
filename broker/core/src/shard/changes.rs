//! Messages that are about others: who may change what, what became of recalled ones, and who is told
//! that they were mentioned.
//!
//! A change is judged when it is published, by what the journal has then: the message that it is about
//! is read through the index, at most one entry. What a recalled message said is not delivered any more:
//! whatever is read from the journal passes [`Shard::redact`] first, and what was read before and waits
//! is looked through again when a recall is stored.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;

use super::access::push_json;
use super::commit::Pending;
use super::deliver::append_cost;
use super::read_on::PAGE_BYTES;
use super::{Now, Shard};
use crate::codec::ReasonCode;
use crate::journal::{Audience, Page, Published, ReadEntry};
use crate::message::{Message, Offset, Publisher, QoS, Seq};
use crate::messages::{Kind, mentions_of, reaction, redacted};
use crate::rules::{Identity, IdentityKind};
use crate::session::content::Content;
use crate::session::{CatchUp, Route};

/// Entries at the end of the journal that are looked through at a start for mentions that were not told: more
/// than one group commit has.
const LOOK_BACK: u64 = 4096;

/// Why a change is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoChange {
    NoSuchMessage(Seq),
    IsChange(Seq),
    Recalled(Seq),
    NotAuthor(Seq),
    BadReaction,
    Unreadable,
}

impl NoChange {
    pub fn answer(self) -> (ReasonCode, String) {
        match self {
            Self::NoSuchMessage(seq) => (
                ReasonCode::TopicNameInvalid,
                format!("there is no message {} here", seq.0),
            ),
            Self::IsChange(seq) => (
                ReasonCode::TopicNameInvalid,
                format!("{} is itself a change of a message", seq.0),
            ),
            Self::Recalled(seq) => (
                ReasonCode::ImplementationSpecificError,
                format!("message {} was recalled", seq.0),
            ),
            Self::NotAuthor(seq) => (
                ReasonCode::NotAuthorized,
                format!("message {} is not yours", seq.0),
            ),
            Self::BadReaction => (
                ReasonCode::PayloadFormatInvalid,
                "a reaction is a text of at most 64 bytes".to_owned(),
            ),
            Self::Unreadable => (
                ReasonCode::ImplementationSpecificError,
                "the message store cannot be read".to_owned(),
            ),
        }
    }
}

impl Shard {
    /// Why a publish about another message is refused, if it is.
    pub(super) fn judge_change(
        &self,
        route: &Route,
        who: &Identity,
        payload: &[u8],
    ) -> Option<NoChange> {
        let seq = route.kind.about()?;
        if !route.history || who.kind == IdentityKind::Broker {
            return None;
        }
        let stream = &route.stream;
        // The journal is not asked for what is not there: anyone could ask.
        if seq > self.state.stream_head(stream) {
            return Some(NoChange::NoSuchMessage(seq));
        }
        if route.kind == Kind::Reply(seq) {
            return None;
        }
        if matches!(route.kind, Kind::React(_)) && reaction(payload).is_none() {
            return Some(NoChange::BadReaction);
        }
        let mut recalled = false;
        self.state
            .for_each_recall(stream, seq, seq, &mut |_| recalled = true);
        if recalled {
            return Some(NoChange::Recalled(seq));
        }
        let found = match self.journal.history(stream, seq, 1) {
            Ok(found) => found.into_iter().next(),
            Err(_) => return Some(NoChange::Unreadable),
        };
        let Some(about) = found.filter(|entry| entry.published.seq == seq) else {
            return Some(NoChange::NoSuchMessage(seq));
        };
        let message = &about.published.message;
        if !Kind::of(&message.topic, stream).is_message() {
            return Some(NoChange::IsChange(seq));
        }
        let is_author = !who.user.is_empty() && message.publisher.user == who.user;
        let may = match route.kind {
            Kind::Edit(_) => is_author,
            Kind::Recall(_) => is_author || route.moderates,
            Kind::Message | Kind::Reply(_) | Kind::React(_) => true,
        };
        (!may).then_some(NoChange::NotAuthor(seq))
    }

    /// A message that may be given out: without what it said, if it is recalled.
    pub(super) fn redact(&self, published: Arc<Published>) -> Arc<Published> {
        match self.recalled_by(&published) {
            Some(by) => redacted(&published, &by),
            None => published,
        }
    }

    fn recalled_by(&self, published: &Published) -> Option<Arc<str>> {
        if !can_be_recalled(published) {
            return None;
        }
        let of = match Kind::of(&published.message.topic, &published.stream) {
            Kind::Message | Kind::Reply(_) => published.seq,
            Kind::Edit(of) => of,
            Kind::Recall(_) | Kind::React(_) => return None,
        };
        let mut by = None;
        let visit = &mut |recall: &crate::messages::ChangeRecord| by = Some(recall.by.clone());
        self.state.for_each_recall(&published.stream, of, of, visit);
        by
    }

    /// The same for a page of the journal: the state is asked once for each stream, and for edits.
    pub(super) fn without_recalled(&self, mut page: Page) -> Page {
        let entries = &mut page.entries;
        let mut ranges: BTreeMap<Arc<str>, (Seq, Seq)> = BTreeMap::new();
        for ReadEntry { published, .. } in entries.iter() {
            if can_be_recalled(published) {
                let seq = published.seq;
                match ranges.get_mut(&published.stream) {
                    Some((low, high)) => (*low, *high) = ((*low).min(seq), (*high).max(seq)),
                    None => drop(ranges.insert(published.stream.clone(), (seq, seq))),
                }
            }
        }
        for (stream, (low, high)) in ranges {
            let mut recalls = BTreeMap::new();
            self.state
                .for_each_recall(&stream, low, high, &mut |recall| {
                    recalls.insert(recall.of, recall.by.clone());
                });
            for ReadEntry { published, .. } in entries.iter_mut() {
                if published.stream != stream {
                    continue;
                }
                let is_edit = matches!(Kind::of(&published.message.topic, &stream), Kind::Edit(_));
                if is_edit {
                    *published = self.redact(published.clone());
                } else if let Some(by) = recalls.get(&published.seq)
                    && Kind::of(&published.message.topic, &stream).is_message()
                {
                    *published = redacted(published, by);
                }
            }
        }
        page
    }

    /// A recall is stored: what was read from the journal and waits must not say what was recalled.
    pub(super) fn note_recall(&mut self, published: &Published) {
        if !can_be_recalled(published) {
            return;
        }
        let kind = Kind::of(&published.message.topic, &published.stream);
        let Kind::Recall(of) = kind else {
            return;
        };
        let (stream, by) = (&published.stream, &published.message.publisher.user);
        let says_it = |waiting: &Published| {
            waiting.stream == *stream
                && match Kind::of(&waiting.message.topic, stream) {
                    Kind::Message | Kind::Reply(_) => waiting.seq == of,
                    Kind::Edit(edited) => edited == of,
                    Kind::Recall(_) | Kind::React(_) => false,
                }
        };
        let redact = |entry: &mut ReadEntry| {
            if says_it(&entry.published) {
                entry.published = redacted(&entry.published, by);
            }
        };
        for session in self.sessions.iter_mut() {
            session.page.iter_mut().for_each(redact);
            for catch_up in session.catch_ups.iter_mut() {
                match catch_up {
                    CatchUp::Replay { page, .. } => page.iter_mut().for_each(redact),
                    CatchUp::After(after) => after.page.iter_mut().for_each(redact),
                    CatchUp::Retained { .. } => {}
                }
            }
        }
    }

    /// Tells those whom a message of a room mentions, as far as they may read it, when it is stored.
    pub(super) fn tell_mentioned(&mut self, now: Now, published: &Published) {
        for (inbox, notice) in self.notices_of(published) {
            let published = self.notice_to(now, inbox, notice);
            if published.history || self.is_wanted(&published.message.topic) {
                let bytes = append_cost(&published);
                self.append_message(published, Pending::Quiet { bytes });
            } else {
                self.spread(now, Content::Shared(&published), None);
            }
        }
    }

    /// A notice is stored after the message that it is about. Who was mentioned just before the last stop
    /// and was not told because of it, is told now: what the last entries mention is held against the
    /// notices among them. One shard does it for all.
    pub(super) fn tell_who_was_mentioned_before(&mut self, now: Now) {
        if self.options.id != 0 {
            return;
        }
        let end = self.position;
        let mut next = Offset(end.0.saturating_sub(LOOK_BACK)).max(self.journal.start());
        let everything = [Arc::from("#")];
        let (mut told, mut to_tell) = (HashSet::new(), Vec::new());
        while next < end {
            let Ok(page) = self.journal.read(&everything, next, end, PAGE_BYTES) else {
                // The journal says so itself to whoever reads next.
                return;
            };
            for ReadEntry { published, .. } in &page.entries {
                let message = &published.message;
                if published.audience != Audience::Everyone {
                    continue;
                }
                if message.publisher.user.is_empty() && message.topic.starts_with("user/") {
                    told.insert((message.topic.clone(), message.payload.clone()));
                }
                to_tell.extend(self.notices_of(published));
            }
            next = page.next.max(next.next());
        }
        for (inbox, notice) in to_tell {
            if told.insert((inbox.clone(), notice.clone())) {
                let published = self.notice_to(now, inbox, notice);
                if published.history {
                    let bytes = append_cost(&published);
                    self.append_message(published, Pending::Quiet { bytes });
                }
            }
        }
    }

    /// Inboxes of those whom a message of a room mentions, as far as they may read it, with what they are to
    /// be told.
    fn notices_of(&self, published: &Published) -> Vec<(Arc<str>, Bytes)> {
        let names = mentions_of(published);
        if names.is_empty() {
            return Vec::new();
        }
        let Some(room) = room_of(&self.rules.decide(&published.message.topic)) else {
            return Vec::new();
        };
        let from = &published.message.publisher.user;
        let notice = |name: Arc<str>| {
            let who = Identity::user(&name);
            let reads = self
                .rules
                .may_receive(&published.message.topic, &who, &*self.members);
            let inbox = self
                .private_inbox(&who)
                .filter(|_| name != *from && reads.is_allowed())?;
            let mut json = String::from("{\"event\":\"mentioned\",\"room\":");
            push_json(&mut json, &room);
            json.push_str(",\"seq\":");
            json.push_str(&published.seq.0.to_string());
            json.push_str(",\"from\":");
            push_json(&mut json, from);
            json.push('}');
            Some((inbox, Bytes::from(json)))
        };
        names.into_iter().filter_map(notice).collect()
    }

    fn notice_to(&self, now: Now, inbox: Arc<str>, notice: Bytes) -> Arc<Published> {
        let nobody: Arc<str> = Arc::from("");
        let message = Message {
            topic: inbox,
            payload: notice,
            qos: QoS::AtLeastOnce,
            retain: false,
            properties: None,
            publisher: Publisher {
                user: nobody.clone(),
                client_id: nobody,
            },
            time: now.unix_ms,
        };
        let route = self.find_route(None, &message.topic, &Identity::broker());
        Arc::new(route.published(message))
    }

    fn is_wanted(&self, topic: &Arc<str>) -> bool {
        let mut wanted = false;
        self.wanted.for_each_match(topic, |_| wanted = true);
        wanted
    }
}

/// The room that a topic's rule names.
pub(super) fn room_of(decision: &crate::rules::Decision<'_>) -> Option<Arc<str>> {
    let mut captures = decision.captures();
    captures.find_map(|(name, value)| (name == "room").then(|| Arc::from(value)))
}

/// Only streams that several topics share have changes.
fn can_be_recalled(published: &Published) -> bool {
    published.history && published.seq != Seq(0) && published.stream != published.message.topic
}
