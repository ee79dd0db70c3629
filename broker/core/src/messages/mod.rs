//! What messages mean to each other: replies, edits, recalls and reactions, which are entries of the
//! same stream as the message that they are about.
//!
//! ```text
//! chat/{room}/{user}                 a message
//! chat/{room}/{user}/reply/{seq}     a message that answers message seq
//! chat/{room}/{user}/edit/{seq}      new words for it, by its author
//! chat/{room}/{user}/recall/{seq}    it is withdrawn, by its author or a moderator
//! chat/{room}/{user}/react/{seq}     a reaction, one for each user; an empty payload takes it back
//! ```
//! The topic alone says which: any topic of at least five levels that ends so, in a stream that several
//! topics share. Invariants: a change is about a message or a reply with a smaller seq; what is recalled
//! stays recalled, and what it said, in the message and in its edits, is not given out again.
//! This module does not know who may publish what (see [`crate::rules`]), nor where changes are kept
//! (see [`crate::state::State`]).

mod cid;
mod mentions;

use std::sync::Arc;

use bytes::Bytes;

use crate::journal::Published;
use crate::message::{Offset, Seq, UnixMillis};

pub use cid::{CID, CidTable, Claim, Known, MAX_CID_BYTES, Names, WINDOW, cid_of, digest};
pub use mentions::{MAX_MENTIONS, MENTION, mentions_of};

/// Bytes of a reaction: the longest emoji sequences have some 40.
pub const MAX_REACTION_BYTES: usize = 64;

/// The user property that a recalled message has, with the name of who recalled it.
pub const RECALLED: &str = "recalled";

/// Levels of a topic that says what it is about: a place of at least three, a word and a number.
const MIN_LEVELS: usize = 5;

/// What an entry of a stream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A message.
    Message,
    /// A message that answers another.
    Reply(Seq),
    /// New words for a message.
    Edit(Seq),
    /// The withdrawal of a message.
    Recall(Seq),
    /// A reaction to a message.
    React(Seq),
}

impl Kind {
    /// What is published on `topic`, which belongs to `stream`.
    pub fn of(topic: &str, stream: &str) -> Self {
        // Most topics of streams end with a name.
        if !topic.ends_with(|c: char| c.is_ascii_digit()) || topic == stream {
            return Self::Message;
        }
        Self::by_topic(topic).unwrap_or(Self::Message)
    }

    fn by_topic(topic: &str) -> Option<Self> {
        let (above, number) = topic.rsplit_once('/')?;
        let (place, word) = above.rsplit_once('/')?;
        if place.split('/').count() + 2 < MIN_LEVELS || number.starts_with(['+', '0']) {
            return None;
        }
        let seq = Seq(number.parse().ok()?);
        Some(match word {
            "reply" => Self::Reply(seq),
            "edit" => Self::Edit(seq),
            "recall" => Self::Recall(seq),
            "react" => Self::React(seq),
            _ => return None,
        })
    }

    /// The message that it is about.
    pub const fn about(self) -> Option<Seq> {
        match self {
            Self::Message => None,
            Self::Reply(seq) | Self::Edit(seq) | Self::Recall(seq) | Self::React(seq) => Some(seq),
        }
    }

    /// True for what people say, false for what changes it.
    pub const fn is_message(self) -> bool {
        matches!(self, Self::Message | Self::Reply(_))
    }
}

/// What a change made of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// It has new words: those of the change.
    Edited,
    /// It is withdrawn.
    Recalled,
    /// Somebody reacted to it; an empty text takes back what was there.
    Reaction(Arc<str>),
}

/// The newest change of one kind to a message, of reactions the newest of one user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangeRecord {
    /// The message that changed.
    pub of: Seq,
    /// How.
    pub what: What,
    /// Place of the change in the journal.
    pub offset: Offset,
    /// Number of the change in the stream.
    pub seq: Seq,
    /// When it was published.
    pub time: UnixMillis,
    /// Who did it.
    pub by: Arc<str>,
}

impl ChangeRecord {
    /// The change that a stored message is, if it is one.
    pub fn of(offset: Offset, published: &Published) -> Option<Self> {
        // 0 is "no number": a copy for single sessions.
        if !published.history || published.seq == Seq(0) {
            return None;
        }
        let message = &published.message;
        let (of, what) = match Kind::of(&message.topic, &published.stream) {
            Kind::Edit(of) => (of, What::Edited),
            Kind::Recall(of) => (of, What::Recalled),
            Kind::React(of) => (of, What::Reaction(reaction(&message.payload)?.into())),
            Kind::Message | Kind::Reply(_) => return None,
        };
        (of < published.seq).then(|| Self {
            of,
            what,
            offset,
            seq: published.seq,
            time: message.time,
            by: message.publisher.user.clone(),
        })
    }
}

/// The text of a reaction; `None`: it is too long or no text.
pub fn reaction(payload: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(payload).ok()?;
    let fits = text.len() <= MAX_REACTION_BYTES && !text.chars().any(char::is_control);
    fits.then_some(text)
}

/// What is left of a recalled message, or of an edit of one: its place, without what it said.
pub fn redacted(published: &Published, by: &Arc<str>) -> Arc<Published> {
    let mut left = published.clone();
    left.message.payload = Bytes::new();
    let properties = left.message.properties.get_or_insert_default();
    properties.content_type = None;
    properties.payload_is_utf8 = None;
    properties.correlation_data = None;
    properties.user = vec![(RECALLED.into(), by.clone())];
    Arc::new(left)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_topic_says_what_an_entry_is() {
        let of = |topic: &str| Kind::of(topic, "chat/lobby");
        assert_eq!(of("chat/lobby/alice"), Kind::Message);
        assert_eq!(of("chat/lobby/alice/reply/7"), Kind::Reply(Seq(7)));
        assert_eq!(of("chat/lobby/alice/edit/7"), Kind::Edit(Seq(7)));
        assert_eq!(of("chat/lobby/alice/recall/7"), Kind::Recall(Seq(7)));
        assert_eq!(of("chat/lobby/alice/react/7"), Kind::React(Seq(7)));
        assert_eq!(
            Kind::of("dm/bob/alice/edit/12", "dm/alice/bob"),
            Kind::Edit(Seq(12))
        );
    }

    #[test]
    fn names_of_rooms_and_people_are_not_taken_for_changes() {
        for topic in [
            "chat/edit/5",
            "chat/lobby/edit/5",
            "chat/lobby/alice/edit/x",
            "chat/lobby/alice/edit/+7",
            "chat/lobby/alice/edit/07",
            "chat/lobby/alice/edit/0",
            "chat/lobby/alice/edit/99999999999999999999",
            "chat/lobby/alice/shout/7",
        ] {
            assert_eq!(Kind::of(topic, "chat/edit"), Kind::Message, "{topic}");
        }
        let alone = "a/b/c/edit/7";
        assert_eq!(Kind::of(alone, alone), Kind::Message);
    }

    #[test]
    fn a_reaction_is_a_short_text() {
        assert_eq!(reaction("👍".as_bytes()), Some("👍"));
        assert_eq!(reaction(b""), Some(""));
        assert_eq!(reaction(b"\xff"), None);
        assert_eq!(reaction(b"a\nb"), None);
        assert_eq!(reaction(&[b'x'; MAX_REACTION_BYTES + 1]), None);
    }
}
