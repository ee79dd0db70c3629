//! What is sent twice is stored once: the user property `cid` names a message among those of its user in
//! its stream, for as long as the message is one of the last [`WINDOW`] of the stream.
//!
//! Whoever wants to store a message claims its name first. The table is shared by all shards, so that of
//! two that come at the same time one waits until the journal has the other. What a table does not know
//! of a stream it reads from the journal when it is first asked, so a restart forgets nothing.
//! Invariants: a name that is claimed and not stored stays under way; a stream with such a name is not
//! forgotten; all names together are about [`MAX_NAMES`] at most, but for those under way.
//! This module does not know how it is shared, nor what is answered.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use crate::hash::KeyedHash;
use crate::journal::{Batch, Journal, Published, ReadError, Record};
use crate::message::{MessageProperties, Seq, UnixMillis};

/// The user property.
pub const CID: &str = "cid";

/// Messages of a stream in which names are looked for: hours in a busy room, and more than a client
/// keeps to send again.
pub const WINDOW: u64 = 1000;

/// Bytes of payload that are read at most to know what a stream has: a bound on how long the first
/// question after a start takes, where messages are large.
const MAX_READ_BYTES: usize = 8 * 1024 * 1024;

/// Messages read from the journal at a time.
const CHUNK: u64 = 100;

/// Names and streams that are remembered: some tens of megabytes. Streams that were not asked about for
/// longest are forgotten first, and read again when they are asked about.
pub const MAX_NAMES: usize = 200_000;

/// Bytes of a name; longer ones are refused, because they are held.
pub const MAX_CID_BYTES: usize = 128;

/// What a message is known by, and what it says.
#[derive(Clone, Copy, Debug)]
pub struct Claim<'a> {
    /// Its stream.
    pub stream: &'a Arc<str>,
    /// The last number of the stream.
    pub head: Seq,
    /// Its publisher.
    pub user: &'a Arc<str>,
    /// Its name.
    pub cid: &'a str,
    /// See [`digest`].
    pub digest: u64,
}

/// What is known of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// Nothing.
    New,
    /// A message of this name is on its way to the journal.
    UnderWay,
    /// The same message is stored.
    Stored {
        /// Its number.
        seq: Seq,
        /// Its time.
        time: UnixMillis,
    },
    /// Another message has the name.
    Other,
}

/// The table, as shards see it.
pub trait Names: Send + Sync {
    /// What is known of a name.
    ///
    /// # Errors
    /// If the journal cannot be read.
    fn look_up(&self, journal: &dyn Journal, claim: &Claim<'_>) -> Result<Known, ReadError>;

    /// The same, and what was new is under way from now on: whoever asked appends it.
    ///
    /// # Errors
    /// If the journal cannot be read.
    fn claim(&self, journal: &dyn Journal, claim: &Claim<'_>) -> Result<Known, ReadError>;
}

/// The name of a message; `None`: it has none.
pub fn cid_of(properties: Option<&MessageProperties>) -> Option<&str> {
    let mut user = properties?.user.iter();
    user.find_map(|(key, value)| (**key == *CID).then_some(&**value))
}

/// A number for what a message says: FNV-1a of topic and payload.
pub fn digest(topic: &str, payload: &[u8]) -> u64 {
    let bytes = topic.bytes().chain([0]).chain(payload.iter().copied());
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

type Key = (Arc<str>, Arc<str>);

#[derive(Clone, Copy, Debug)]
struct Entry {
    digest: u64,
    /// `None`: under way.
    stored: Option<(Seq, UnixMillis)>,
}

/// The last names of one stream.
#[derive(Debug, Default)]
struct Recent {
    names: BTreeMap<Key, Entry>,
    /// Those that are stored, in the order of numbers.
    order: VecDeque<(Seq, Key)>,
    under_way: usize,
    used: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub struct CidTable {
    streams: HashMap<Arc<str>, Recent, KeyedHash>,
    names: usize,
    clock: u64,
}

impl CidTable {
    /// See [`Names::look_up`].
    ///
    /// # Errors
    /// If the journal cannot be read.
    pub fn look_up(
        &mut self,
        journal: &dyn Journal,
        claim: &Claim<'_>,
    ) -> Result<Known, ReadError> {
        let recent = self.stream(journal, claim)?;
        let found = recent.find(claim.user, claim.cid);
        Ok(match found {
            None => Known::New,
            Some(entry) if entry.is_over(claim.head) => Known::New,
            Some(entry) if entry.digest != claim.digest => Known::Other,
            Some(Entry { stored: None, .. }) => Known::UnderWay,
            Some(Entry {
                stored: Some((seq, time)),
                ..
            }) => Known::Stored { seq, time },
        })
    }

    /// See [`Names::claim`].
    ///
    /// # Errors
    /// If the journal cannot be read.
    pub fn claim(&mut self, journal: &dyn Journal, claim: &Claim<'_>) -> Result<Known, ReadError> {
        let known = self.look_up(journal, claim)?;
        if known == Known::New {
            let recent = self.stream(journal, claim)?;
            let key = (claim.user.clone(), Arc::from(claim.cid));
            let entry = Entry {
                digest: claim.digest,
                stored: None,
            };
            let replaced = recent.names.insert(key, entry);
            recent.under_way += 1;
            self.names += usize::from(replaced.is_none());
        }
        Ok(known)
    }

    /// Takes up what the journal has.
    pub fn committed(&mut self, batch: &Batch) {
        for (_, entry) in &batch.entries {
            if let Record::Published(published) = &entry.record
                && published.message.properties.is_some()
                && let Some(recent) = self.streams.get_mut(&published.stream)
            {
                let before = recent.names.len();
                recent.stored(published);
                self.names = self.names + recent.names.len() - before;
            }
        }
    }

    /// What is known of a stream, read from the journal if nothing is.
    fn stream(
        &mut self,
        journal: &dyn Journal,
        claim: &Claim<'_>,
    ) -> Result<&mut Recent, ReadError> {
        self.clock += 1;
        let (stream, head) = (claim.stream, claim.head);
        if !self.streams.contains_key(stream) {
            let recent = Recent::read(journal, head, stream)?;
            self.make_room(recent.names.len());
            self.names += recent.names.len();
            self.streams.insert(stream.clone(), recent);
        }
        let recent = self.streams.entry(stream.clone()).or_default();
        recent.used = self.clock;
        Ok(recent)
    }

    /// Forgets the half of the streams that was not asked about for longest, if there are too many names.
    fn make_room(&mut self, more: usize) {
        if self.names + self.streams.len() + more <= MAX_NAMES {
            return;
        }
        let idle = self.streams.values().filter(|r| r.under_way == 0);
        let mut used: Vec<u64> = idle.map(|recent| recent.used).collect();
        used.sort_unstable();
        let Some(&middle) = used.get(used.len() / 2) else {
            return;
        };
        self.streams
            .retain(|_, recent| recent.under_way > 0 || recent.used > middle);
        self.names = self.streams.values().map(|recent| recent.names.len()).sum();
    }
}

impl Entry {
    /// True if the message has left the window of a stream with this head.
    fn is_over(self, head: Seq) -> bool {
        self.stored.is_some_and(|(seq, _)| seq.0 + WINDOW <= head.0)
    }
}

impl Recent {
    fn read(journal: &dyn Journal, head: Seq, stream: &str) -> Result<Self, ReadError> {
        let mut chunks = Vec::new();
        let mut bytes = 0;
        // What was stored since the head was asked for is read too.
        let mut above = head.0.saturating_add(1);
        let lowest = above.saturating_sub(WINDOW).max(1);
        let newer = journal.history(stream, Seq(above), WINDOW as usize)?;
        while above > lowest && bytes < MAX_READ_BYTES {
            let from = above.saturating_sub(CHUNK).max(lowest);
            let mut chunk = journal.history(stream, Seq(from), (above - from) as usize)?;
            chunk.retain(|entry| entry.published.seq.0 < above);
            bytes += chunk
                .iter()
                .map(|entry| entry.published.message.payload.len())
                .sum::<usize>();
            chunks.push(chunk);
            above = from;
        }
        let mut recent = Self::default();
        for entry in chunks.into_iter().rev().flatten().chain(newer) {
            recent.stored(&entry.published);
        }
        Ok(recent)
    }

    fn find(&self, user: &Arc<str>, cid: &str) -> Option<Entry> {
        self.names.get(&(user.clone(), Arc::from(cid))).copied()
    }

    /// The journal has a message.
    fn stored(&mut self, published: &Published) {
        let Published { message, seq, .. } = published;
        let user = &message.publisher.user;
        let Some(cid) = cid_of(message.properties.as_deref()) else {
            return;
        };
        if !published.history || *seq == Seq(0) || user.is_empty() {
            return;
        }
        let key = (user.clone(), Arc::from(cid));
        let entry = Entry {
            digest: digest(&message.topic, &message.payload),
            stored: Some((*seq, message.time)),
        };
        match self.names.insert(key.clone(), entry) {
            Some(Entry { stored: None, .. }) => self.under_way = self.under_way.saturating_sub(1),
            // It was read from the journal before it came back.
            Some(Entry { stored, .. }) if stored == entry.stored => return,
            _ => {}
        }
        self.order.push_back((*seq, key));
        while let Some((oldest, _)) = self.order.front()
            && oldest.0 + WINDOW <= seq.0
            && let Some((oldest, key)) = self.order.pop_front()
        {
            let is_it = |entry: &Entry| entry.stored.is_some_and(|(seq, _)| seq == oldest);
            if self.names.get(&key).is_some_and(is_it) {
                self.names.remove(&key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::{Audience, Entry as Stored, Page, ReadEntry};
    use crate::message::{Epoch, Message, Offset, Publisher, QoS};
    use crate::topic::ReplayFrom;
    use bytes::Bytes;

    /// A journal with one stream.
    #[derive(Default)]
    struct Stream(Vec<Arc<Published>>);

    impl Stream {
        fn push(&mut self, cid: &str, payload: &str) -> Batch {
            let seq = self.0.len() as u64 + 1;
            let published = Arc::new(Published {
                stream: "s".into(),
                seq: Seq(seq),
                history: true,
                audience: Audience::Everyone,
                inbound_packet_id: None,
                read_us: 0,
                message: Message {
                    topic: "s/ann".into(),
                    payload: Bytes::copy_from_slice(payload.as_bytes()),
                    qos: QoS::AtLeastOnce,
                    retain: false,
                    properties: Some(Box::new(MessageProperties {
                        user: vec![(CID.into(), cid.into())],
                        ..MessageProperties::default()
                    })),
                    publisher: Publisher {
                        user: "ann".into(),
                        client_id: "a".into(),
                    },
                    time: 1000 + seq,
                },
            });
            self.0.push(published.clone());
            let record = Record::Published(published);
            let offset = Offset(seq);
            Batch {
                entries: vec![(0, Stored { offset, record })],
            }
        }

        fn head(&self) -> Seq {
            Seq(self.0.len() as u64)
        }
    }

    impl Journal for Stream {
        fn epoch(&self) -> Epoch {
            Epoch(1)
        }
        fn start(&self) -> Offset {
            Offset(0)
        }
        fn end(&self) -> Offset {
            Offset(self.0.len() as u64)
        }
        fn read(&self, _: &[Arc<str>], _: Offset, _: Offset, _: usize) -> Result<Page, ReadError> {
            Ok(Page::default())
        }
        fn read_history(
            &self,
            _: &[Arc<str>],
            _: Offset,
            _: Offset,
            _: usize,
        ) -> Result<Page, ReadError> {
            Ok(Page::default())
        }
        fn read_at(&self, _: Offset) -> Result<Option<Arc<Published>>, ReadError> {
            Ok(None)
        }
        fn locate(&self, _: &str, _: ReplayFrom) -> Result<Offset, ReadError> {
            Ok(Offset(0))
        }
        fn history(&self, _: &str, from: Seq, limit: usize) -> Result<Vec<ReadEntry>, ReadError> {
            let wanted = self.0.iter().filter(|p| p.seq >= from).take(limit);
            let entry = |published: &Arc<Published>| ReadEntry {
                offset: Offset(published.seq.0),
                published: published.clone(),
            };
            Ok(wanted.map(entry).collect())
        }
    }

    fn ask(table: &mut CidTable, stream: &Stream, cid: &str, payload: &str) -> Known {
        let claim = Claim {
            stream: &"s".into(),
            head: stream.head(),
            user: &"ann".into(),
            cid,
            digest: digest("s/ann", payload.as_bytes()),
        };
        let known = table.claim(stream, &claim);
        known.expect("this journal can be read")
    }

    #[test]
    fn of_two_at_the_same_time_one_waits_and_gets_the_same_answer() {
        let (mut table, mut stream) = (CidTable::default(), Stream::default());
        assert_eq!(ask(&mut table, &stream, "a", "hi"), Known::New);
        assert_eq!(ask(&mut table, &stream, "a", "hi"), Known::UnderWay);
        assert_eq!(ask(&mut table, &stream, "a", "ho"), Known::Other);
        table.committed(&stream.push("a", "hi"));
        let (seq, time) = (Seq(1), 1001);
        assert_eq!(
            ask(&mut table, &stream, "a", "hi"),
            Known::Stored { seq, time }
        );
        assert_eq!(ask(&mut table, &stream, "a", "ho"), Known::Other);
        assert_eq!(ask(&mut table, &stream, "b", "hi"), Known::New);
    }

    #[test]
    fn a_new_table_knows_what_the_journal_has() {
        let mut stream = Stream::default();
        for n in 0..250 {
            stream.push(&n.to_string(), "x");
        }
        let mut table = CidTable::default();
        for n in [0, 99, 100, 249] {
            let known = ask(&mut table, &stream, &n.to_string(), "x");
            assert!(
                matches!(known, Known::Stored { seq, .. } if seq.0 == n + 1),
                "{n}"
            );
        }
    }

    #[test]
    fn streams_that_are_not_asked_about_are_forgotten_first() {
        let mut table = CidTable::default();
        let empty = Stream::default();
        let ask = |table: &mut CidTable, stream: usize| {
            let claim = Claim {
                stream: &format!("s{stream}").into(),
                head: Seq(0),
                user: &"ann".into(),
                cid: "a",
                digest: 0,
            };
            table.look_up(&empty, &claim).expect("it can be read");
        };
        for stream in 0..MAX_NAMES + 10 {
            ask(&mut table, stream);
        }
        assert!(table.streams.len() <= MAX_NAMES / 2 + 10);
        assert!(table.streams.contains_key(&*format!("s{}", MAX_NAMES + 9)));
        assert!(!table.streams.contains_key("s0"));
    }

    #[test]
    fn what_has_left_the_window_is_new_again_and_takes_no_memory() {
        let (mut table, mut stream) = (CidTable::default(), Stream::default());
        ask(&mut table, &stream, "first", "x");
        table.committed(&stream.push("first", "x"));
        for n in 0..2 * WINDOW {
            table.committed(&stream.push(&n.to_string(), "x"));
        }
        assert_eq!(table.names as u64, WINDOW);
        assert_eq!(ask(&mut table, &stream, "first", "other words"), Known::New);
        // A table that was made later says the same.
        let mut later = CidTable::default();
        assert_eq!(ask(&mut later, &stream, "first", "other words"), Known::New);
    }
}
