//! What of a stream somebody has not read: counted from its last entries, never written down for
//! each reader.
//!
//! What counts is what people say: messages and replies that were not recalled, of others, from the
//! time on that the reader is there. Edits, recalls and reactions have numbers in the stream too, and
//! count for nothing. A [`Tail`] knows the last entries of one stream, up to [`MAX_TAIL`], at some 16
//! bytes each; it is made from the journal when it is needed, and can be forgotten at any time.
//! It does not know who may read what.

use std::collections::VecDeque;

use crate::journal::Published;
use crate::message::{Seq, UnixMillis};
use crate::messages::{Kind, mentions_of};

/// Entries of one stream that are counted: nobody reads more, and it is some 160 KB.
pub const MAX_TAIL: usize = 10_000;

#[derive(Clone, Copy, Debug)]
struct Entry {
    /// Who said it.
    by: u64,
    time_s: u32,
    counts: bool,
}

/// The last entries of a stream; see the module.
#[derive(Debug)]
pub struct Tail {
    /// Number of the first entry.
    first: u64,
    entries: VecDeque<Entry>,
    /// Who is mentioned where, in the order of numbers.
    mentions: VecDeque<(u64, u64)>,
}

/// Who reads, and what they have read.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    /// The user.
    pub user: &'a str,
    /// Everything up to this number is read.
    pub read: Seq,
    /// Nothing from before this time concerns them.
    pub since: UnixMillis,
}

/// What somebody has not read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unread {
    /// Messages that count.
    pub messages: u64,
    /// Those of them that mention the reader.
    pub mentions: u64,
    /// True if there may be more, before the last [`MAX_TAIL`] entries.
    pub more: bool,
}

impl Tail {
    /// A tail that begins with the entry of this number.
    pub fn starting(first: Seq) -> Self {
        Self {
            first: first.0.max(1),
            entries: VecDeque::new(),
            mentions: VecDeque::new(),
        }
    }

    /// Number of the first entry that it knows.
    pub const fn first(&self) -> Seq {
        Seq(self.first)
    }

    /// Number of the entry that it wants next.
    pub fn next(&self) -> Seq {
        Seq(self.first + self.entries.len() as u64)
    }

    /// Takes up an entry. Those that are known are passed over; what lies between the last one and
    /// this was trimmed, and counts for nothing.
    pub fn push(&mut self, published: &Published) {
        let (seq, next) = (published.seq.0, self.next().0);
        if seq < next {
            return;
        }
        let missing = usize::try_from(seq - next).unwrap_or(usize::MAX);
        if self.entries.is_empty() || missing >= MAX_TAIL {
            self.entries.clear();
            self.first = seq;
        } else {
            let gone = Entry {
                by: 0,
                time_s: 0,
                counts: false,
            };
            self.entries.extend(std::iter::repeat_n(gone, missing));
        }
        let message = &published.message;
        let kind = Kind::of(&message.topic, &published.stream);
        if let Kind::Recall(of) = kind
            && let Some(recalled) = self.entry_mut(of.0)
        {
            recalled.counts = false;
        }
        self.entries.push_back(Entry {
            by: name_key(&message.publisher.user),
            time_s: seconds(message.time),
            counts: kind.is_message(),
        });
        let mentioned = mentions_of(published);
        self.mentions
            .extend(mentioned.iter().map(|name| (seq, name_key(name))));
        self.forget_old();
    }

    fn forget_old(&mut self) {
        while self.entries.len() > MAX_TAIL {
            self.entries.pop_front();
            self.first += 1;
        }
        while self
            .mentions
            .front()
            .is_some_and(|(seq, _)| *seq < self.first)
        {
            self.mentions.pop_front();
        }
    }

    fn entry(&self, seq: u64) -> Option<&Entry> {
        let index = usize::try_from(seq.checked_sub(self.first)?).ok()?;
        self.entries.get(index)
    }

    fn entry_mut(&mut self, seq: u64) -> Option<&mut Entry> {
        let index = usize::try_from(seq.checked_sub(self.first)?).ok()?;
        self.entries.get_mut(index)
    }

    /// What the reader has not read.
    pub fn unread(&self, reader: Reader<'_>) -> Unread {
        let (me, since_s) = (name_key(reader.user), seconds(reader.since));
        let concerns = |entry: &Entry| entry.counts && entry.by != me && entry.time_s >= since_s;
        let from = (reader.read.0 + 1).max(self.first);
        let skipped = usize::try_from(from - self.first).unwrap_or(usize::MAX);
        let messages = self.entries.iter().skip(skipped);
        let mine = self.mentions.iter().filter(|(_, name)| *name == me);
        let mentions =
            mine.filter(|(seq, _)| *seq >= from && self.entry(*seq).is_some_and(concerns));
        Unread {
            messages: messages.filter(|entry| concerns(entry)).count() as u64,
            mentions: mentions.count() as u64,
            more: reader.read.0 + 1 < self.first
                && self.entries.len() >= MAX_TAIL
                && self.entries.front().is_some_and(|e| e.time_s >= since_s),
        }
    }

    /// Number of the last message, if it is among the entries.
    pub fn last_message(&self) -> Option<Seq> {
        let back = self.entries.iter().rev().position(|entry| entry.counts)?;
        Some(Seq(self.next().0 - 1 - back as u64))
    }
}

fn seconds(time: UnixMillis) -> u32 {
    u32::try_from(time / 1000).unwrap_or(u32::MAX)
}

/// A name as a number, so that a tail is small: FNV-1a, 64 bit.
fn name_key(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::Audience;
    use crate::message::{Message, Publisher, QoS};

    fn say(tail: &mut Tail, seq: u64, topic: &str, text: &str, time: UnixMillis) {
        let user = topic.split('/').nth(2).unwrap_or_default();
        tail.push(&Published {
            stream: "chat/lobby".into(),
            seq: Seq(seq),
            history: true,
            audience: Audience::Everyone,
            inbound_packet_id: None,
            read_us: 0,
            message: Message {
                topic: topic.into(),
                payload: bytes::Bytes::copy_from_slice(text.as_bytes()),
                qos: QoS::AtLeastOnce,
                retain: false,
                properties: None,
                publisher: Publisher {
                    user: user.into(),
                    client_id: "x".into(),
                },
                time,
            },
        });
    }

    fn unread(tail: &Tail, user: &str, read: u64, since: UnixMillis) -> (u64, u64, bool) {
        let unread = tail.unread(Reader {
            user,
            read: Seq(read),
            since,
        });
        (unread.messages, unread.mentions, unread.more)
    }

    #[test]
    fn what_others_say_counts_and_what_changes_it_does_not() {
        let mut tail = Tail::starting(Seq(1));
        say(&mut tail, 1, "chat/lobby/alice", "hello @bob", 1_000);
        say(&mut tail, 2, "chat/lobby/bob", "hi", 2_000);
        say(
            &mut tail,
            3,
            "chat/lobby/carol/reply/2",
            "@bob @alice",
            3_000,
        );
        say(
            &mut tail,
            4,
            "chat/lobby/alice/edit/1",
            "hello @carol",
            4_000,
        );
        say(&mut tail, 5, "chat/lobby/bob/react/3", "+", 5_000);
        assert_eq!(unread(&tail, "bob", 0, 0), (2, 2, false));
        assert_eq!(unread(&tail, "bob", 1, 0), (1, 1, false));
        assert_eq!(unread(&tail, "bob", 3, 0), (0, 0, false));
        assert_eq!(unread(&tail, "alice", 0, 0), (2, 1, false));
        assert_eq!(unread(&tail, "dave", 0, 0), (3, 0, false));
        assert_eq!(
            unread(&tail, "dave", 0, 2_500),
            (2, 0, false),
            "a second is one"
        );
        assert_eq!(unread(&tail, "dave", 99, 0), (0, 0, false));
        assert_eq!(tail.last_message(), Some(Seq(3)));
        say(&mut tail, 6, "chat/lobby/carol/recall/3", "", 6_000);
        assert_eq!(unread(&tail, "bob", 0, 0), (1, 1, false));
        assert_eq!(tail.last_message(), Some(Seq(2)));
    }

    #[test]
    fn entries_are_taken_once_and_what_was_trimmed_counts_for_nothing() {
        let mut tail = Tail::starting(Seq(1));
        say(&mut tail, 5, "chat/lobby/alice", "a", 0);
        assert_eq!((tail.first(), tail.next()), (Seq(5), Seq(6)));
        say(&mut tail, 5, "chat/lobby/alice", "a", 0);
        say(&mut tail, 9, "chat/lobby/alice", "b", 0);
        assert_eq!(unread(&tail, "bob", 0, 0), (2, 0, false));
        assert_eq!(tail.next(), Seq(10));
    }

    #[test]
    fn memory_is_bounded_and_says_so() {
        let mut tail = Tail::starting(Seq(1));
        let all = MAX_TAIL as u64 + 500;
        for seq in 1..=all {
            say(&mut tail, seq, "chat/lobby/alice", "@bob", 0);
        }
        assert_eq!(tail.entries.len(), MAX_TAIL);
        assert_eq!(tail.mentions.len(), MAX_TAIL);
        let most = MAX_TAIL as u64;
        assert_eq!(unread(&tail, "bob", 0, 0), (most, most, true));
        assert_eq!(unread(&tail, "bob", 500, 0), (most, most, false));
        assert_eq!(unread(&tail, "bob", all - 3, 0), (3, 3, false));
        say(&mut tail, u64::MAX / 2, "chat/lobby/alice", "a leap", 0);
        assert_eq!((tail.entries.len(), tail.mentions.len()), (1, 0));
        assert_eq!(tail.next(), Seq(u64::MAX / 2 + 1));
    }
}
