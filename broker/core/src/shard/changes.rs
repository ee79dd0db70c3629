//! Messages that are about others: who may change what, what became of recalled ones, and who is told
//! that they were mentioned.
//!
//! A change is judged when it is published, by what the journal has then: the message that it is about
//! is read through the index, at most one entry. What a recalled message said is not delivered any more:
//! whatever is read from the journal passes [`Shard::redact`] first, and what was read before and waits
//! is looked through again when a recall is stored.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::access::push_json;
use super::commit::Pending;
use super::deliver::append_cost;
use super::{Now, Shard};
use crate::codec::ReasonCode;
use crate::journal::{Page, Published, ReadEntry};
use crate::message::{Message, Publisher, QoS, Seq};
use crate::messages::{Kind, mentions_of, reaction, redacted};
use crate::rules::{Identity, IdentityKind};
use crate::session::content::Content;
use crate::session::{CatchUp, Route};

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
        let names = mentions_of(published);
        if names.is_empty() {
            return;
        }
        let Some(room) = room_of(&self.rules.decide(&published.message.topic)) else {
            return;
        };
        let from = &published.message.publisher.user;
        for name in names {
            let who = Identity::user(&name);
            let reads = self
                .rules
                .may_receive(&published.message.topic, &who, &*self.members);
            let Some(inbox) = self
                .private_inbox(&who)
                .filter(|_| name != *from && reads.is_allowed())
            else {
                continue;
            };
            let mut json = String::from("{\"event\":\"mentioned\",\"room\":");
            push_json(&mut json, &room);
            json.push_str(",\"seq\":");
            json.push_str(&published.seq.0.to_string());
            json.push_str(",\"from\":");
            push_json(&mut json, from);
            json.push('}');
            let nobody: Arc<str> = Arc::from("");
            let message = Message {
                topic: inbox,
                payload: json.into(),
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
            let published = Arc::new(route.published(message));
            if published.history || route.wanted {
                let bytes = append_cost(&published);
                self.append_message(published, Pending::Quiet { bytes });
            } else {
                self.spread(now, Content::Shared(&published), None);
            }
        }
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
