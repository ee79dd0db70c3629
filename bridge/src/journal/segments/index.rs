//! The index of one segment: which messages are in it, by topic and by stream.
//!
//! Grows with the active segment, and is kept as a file beside a sealed one:
//! ```text
//! file  = "TIDEINDX" version:u32 header_crc:u32 base:u64 end:u64 data_end:u64
//!         list of topic:text, list of stream:text, list of entry, crc:u32
//! entry = delta:varint position:varint len:varint topic:varint stream:varint (0: the topic, else
//!         number + 1) flags:u8 seq:signed time:signed, each relative to the entry before (seq: to
//!         the one before in its stream)
//! ```
//! `header_crc` is that of the segment's header: an index of another generation is not used. An
//! index that is missing or damaged is built anew from its segment, so nothing depends on it.
//! Records that are no messages are not in it.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::ops::Bound;
use std::sync::Arc;

use tidings_core::hash::KeyedHash;
use tidings_core::message::{Offset, Seq, UnixMillis};

use super::frame::{ENTRY_HEADER_BYTES, FORMAT_VERSION, Place, RawEntry};
use super::fs::{Fs, read_full_at};
use super::record::{PublishedHead, RecordHead, decode_head};
use super::select::Selection;
use super::wire::{DecodeError, Reader, put_signed, put_text, put_varint};

const MAGIC: &[u8; 8] = b"TIDEINDX";
const HISTORY: u8 = 1;
const EVERYONE: u8 = 2;

/// One message of the segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexEntry {
    pub seq: Seq,
    pub time: UnixMillis,
    delta: u32,
    pub place: Place,
    topic: u32,
    stream: u32,
    flags: u8,
}

impl IndexEntry {
    /// True if a topic rule keeps the message.
    pub fn is_history(&self) -> bool {
        self.flags & HISTORY != 0
    }

    /// True if every session may read it.
    pub fn is_for_everyone(&self) -> bool {
        self.flags & EVERYONE != 0
    }

    /// Bytes it takes in the segment.
    pub fn stored_bytes(&self) -> u64 {
        ENTRY_HEADER_BYTES as u64 + u64::from(self.place.len)
    }
}

/// Names with, for each, the entries that bear it, ascending.
#[derive(Debug, Default)]
struct Names {
    numbers: HashMap<Arc<str>, u32, KeyedHash>,
    sorted: BTreeMap<Arc<str>, u32>,
    names: Vec<Arc<str>>,
    entries: Vec<Vec<u32>>,
    text_bytes: usize,
    /// The last one added: publishers repeat their topic, with the same text in memory.
    last: Option<(Arc<str>, u32)>,
}

impl Names {
    fn add(&mut self, name: &Arc<str>, entry: u32) -> u32 {
        let number = match &self.last {
            Some((last, number)) if Arc::ptr_eq(last, name) => *number,
            _ => {
                let known = self.numbers.get(name).copied();
                let number = known.unwrap_or_else(|| self.new_name(name));
                self.last = Some((name.clone(), number));
                number
            }
        };
        // The number was made together with its list.
        if let Some(entries) = self.entries.get_mut(number as usize) {
            entries.push(entry);
        }
        number
    }

    fn new_name(&mut self, name: &Arc<str>) -> u32 {
        let number = self.entries.len() as u32;
        self.numbers.insert(name.clone(), number);
        self.sorted.insert(name.clone(), number);
        self.names.push(name.clone());
        self.entries.push(Vec::new());
        self.text_bytes += name.len();
        number
    }

    fn of(&self, name: &str) -> &[u32] {
        let number = self
            .numbers
            .get(name)
            .map_or(usize::MAX, |number| *number as usize);
        self.entries.get(number).map_or(&[], Vec::as_slice)
    }

    fn memory_bytes(&self) -> usize {
        // Two tables and a list per name, roughly.
        self.text_bytes + self.entries.len() * 176
    }
}

/// What a segment file is, for an index to belong to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentIdentity {
    /// Checksum of its header.
    pub header_crc: u32,
    /// Offset of its first entry.
    pub base: Offset,
    /// Offset after its last.
    pub end: Offset,
    /// Bytes with data.
    pub data_end: u64,
}

/// The index of one segment.
#[derive(Debug, Default)]
pub struct SegmentIndex {
    base: Offset,
    entries: Vec<IndexEntry>,
    topics: Names,
    streams: Names,
    newest: UnixMillis,
    transient_bytes: u64,
}

impl SegmentIndex {
    pub fn new(base: Offset) -> Self {
        Self {
            base,
            ..Self::default()
        }
    }

    /// Adds a message: offsets ascend.
    pub fn push(
        &mut self,
        offset: Offset,
        place: Place,
        topic: &Arc<str>,
        stream: &Arc<str>,
        head: &PublishedHead<'_>,
    ) {
        let number = self.entries.len() as u32;
        let topic = self.topics.add(topic, number);
        let stream = self.streams.add(stream, number);
        let flag = |set: bool, flag: u8| if set { flag } else { 0 };
        let entry = IndexEntry {
            seq: head.seq,
            time: head.time,
            // A segment has fewer bytes than this has numbers.
            delta: (offset.0 - self.base.0) as u32,
            place,
            topic,
            stream,
            flags: flag(head.history, HISTORY) | flag(head.everyone, EVERYONE),
        };
        self.newest = self.newest.max(entry.time);
        if !entry.is_history() {
            self.transient_bytes += entry.stored_bytes();
        }
        self.entries.push(entry);
    }

    /// Adds an entry as it was read, if it is a message.
    pub fn push_raw(&mut self, entry: &RawEntry<'_>) -> Result<(), DecodeError> {
        if let RecordHead::Published(head) = decode_head(entry.record)? {
            let topic = self.topics.interned(head.topic);
            let stream = if head.stream == head.topic {
                topic.clone()
            } else {
                self.streams.interned(head.stream)
            };
            self.push(entry.offset, entry.place, &topic, &stream, &head);
        }
        Ok(())
    }

    pub fn base(&self) -> Offset {
        self.base
    }

    pub fn offset_of(&self, entry: &IndexEntry) -> Offset {
        Offset(self.base.0 + u64::from(entry.delta))
    }

    /// Every message, in offset order.
    pub fn entries(&self) -> &[IndexEntry] {
        &self.entries
    }

    /// The time of the newest message.
    pub fn newest(&self) -> UnixMillis {
        self.newest
    }

    /// Bytes of the messages that no rule keeps.
    pub fn transient_bytes(&self) -> u64 {
        self.transient_bytes
    }

    /// The message at an offset.
    pub fn at(&self, offset: Offset) -> Option<&IndexEntry> {
        let delta = u32::try_from(offset.0.checked_sub(self.base.0)?).ok()?;
        let at = self
            .entries
            .binary_search_by_key(&delta, |entry| entry.delta)
            .ok()?;
        self.entries.get(at)
    }

    /// Messages with a topic that matches one of `filters`, from `from` on, in offset order.
    pub fn select<'a>(&'a self, filters: &'a [Arc<str>], from: Offset) -> Selection<'a> {
        Selection::new(self, filters, from)
    }

    /// Number of the first entry at `from` or after it.
    pub fn first_at(&self, from: Offset) -> usize {
        let delta = from.0.saturating_sub(self.base.0);
        self.entries
            .partition_point(|entry| u64::from(entry.delta) < delta)
    }

    /// Topics that begin with `prefix`, with their numbers.
    pub fn names_from(&self, prefix: &str) -> impl Iterator<Item = (&Arc<str>, u32)> {
        let range = (Bound::Included(prefix), Bound::Unbounded);
        let names = self.topics.sorted.range::<str, _>(range);
        names
            .take_while(move |(name, _)| name.starts_with(prefix))
            .map(|(name, n)| (name, *n))
    }

    pub fn topic_count(&self) -> usize {
        self.topics.entries.len()
    }

    pub fn number_of_topic(&self, name: &str) -> Option<u32> {
        self.topics.numbers.get(name).copied()
    }

    /// Numbers of the entries of a topic, ascending.
    pub fn entries_of_topic(&self, number: u32) -> &[u32] {
        self.topics
            .entries
            .get(number as usize)
            .map_or(&[], Vec::as_slice)
    }

    /// The name of a topic; empty if there is none of this number.
    pub fn topic(&self, number: usize) -> &str {
        self.topics.names.get(number).map_or("", |name| name)
    }

    /// The topic of an entry; empty if it has none.
    pub fn topic_of(&self, entry: &IndexEntry) -> Arc<str> {
        let name = self.topics.names.get(entry.topic as usize);
        name.cloned().unwrap_or_default()
    }

    /// Messages of a stream for everyone, with a seq of at least `from`, ascending.
    pub fn stream(&self, stream: &str, from: Seq) -> impl DoubleEndedIterator<Item = &IndexEntry> {
        let entries = self.streams.of(stream).iter();
        let entries = entries.filter_map(|&number| self.entries.get(number as usize));
        entries.filter(move |entry| entry.is_for_everyone() && entry.seq >= from)
    }

    /// The last seq of a stream in this segment; 0 if there is none.
    pub fn last_seq(&self, stream: &str) -> Seq {
        self.stream(stream, Seq(0))
            .next_back()
            .map_or(Seq(0), |entry| entry.seq)
    }

    /// The names of the topics, by the number that entries have.
    pub fn topics(&self) -> &[Arc<str>] {
        &self.topics.names
    }

    /// The names of the streams, by the number that entries have.
    pub fn streams(&self) -> &[Arc<str>] {
        &self.streams.names
    }

    pub fn topic_number(&self, entry: &IndexEntry) -> usize {
        entry.topic as usize
    }

    pub fn stream_number(&self, entry: &IndexEntry) -> usize {
        entry.stream as usize
    }

    /// Roughly the memory it takes.
    pub fn memory_bytes(&self) -> usize {
        self.entries.len() * (size_of::<IndexEntry>() + 2 * size_of::<u32>())
            + self.topics.memory_bytes()
            + self.streams.memory_bytes()
    }

    /// The index as a file.
    pub fn encode(&self, identity: &SegmentIdentity) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.entries.len() * 12 + self.topics.text_bytes + 64);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        out.extend_from_slice(&identity.header_crc.to_le_bytes());
        for number in [identity.base.0, identity.end.0, identity.data_end] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        let (topics, streams) = (self.topics(), self.streams());
        for names in [topics, streams] {
            put_varint(&mut out, names.len() as u64);
            for name in names.iter() {
                put_text(&mut out, name);
            }
        }
        put_varint(&mut out, self.entries.len() as u64);
        let mut before = Before::new(streams.len());
        for entry in &self.entries {
            let same = topics.get(entry.topic as usize) == streams.get(entry.stream as usize);
            put_varint(&mut out, u64::from(entry.delta - before.delta));
            put_varint(&mut out, u64::from(entry.place.position - before.position));
            put_varint(&mut out, u64::from(entry.place.len));
            put_varint(&mut out, u64::from(entry.topic));
            put_varint(&mut out, if same { 0 } else { u64::from(entry.stream) + 1 });
            out.push(entry.flags);
            let seq = before.seq(entry.stream as usize);
            put_signed(&mut out, entry.seq.0.wrapping_sub(*seq) as i64);
            *seq = entry.seq.0;
            put_signed(&mut out, entry.time.wrapping_sub(before.time) as i64);
            before.move_to(entry);
        }
        out.extend_from_slice(&crc32fast::hash(&out).to_le_bytes());
        out
    }

    /// True if both have the same entries under the same names.
    pub fn says_the_same_as(&self, other: &Self) -> bool {
        self.base == other.base
            && self.entries == other.entries
            && self.topics() == other.topics()
            && self.streams() == other.streams()
    }

    /// Reads an index file, of whatever segment; `None` if it is damaged.
    pub fn decode(bytes: &[u8]) -> Option<(Self, SegmentIdentity)> {
        let (content, crc) = bytes.split_last_chunk::<4>()?;
        if crc32fast::hash(content) != u32::from_le_bytes(*crc) {
            return None;
        }
        Self::decode_content(content).ok()
    }

    fn decode_content(content: &[u8]) -> Result<(Self, SegmentIdentity), DecodeError> {
        let mut reader = Reader::new(content);
        let magic = reader.take(MAGIC.len())?;
        if magic != MAGIC || reader.u32_le()? != FORMAT_VERSION {
            return Err(DecodeError::Unknown {
                what: "index version",
                value: 0,
            });
        }
        let identity = SegmentIdentity {
            header_crc: reader.u32_le()?,
            base: Offset(reader.u64_le()?),
            end: Offset(reader.u64_le()?),
            data_end: reader.u64_le()?,
        };
        let topics = reader.list(Reader::text)?;
        let streams = reader.list(Reader::text)?;
        let by_topic: HashMap<&Arc<str>, u32> = streams.iter().zip(0..).collect();
        let mut index = Self::new(identity.base);
        for names in [(&mut index.topics, &topics), (&mut index.streams, &streams)] {
            names.1.iter().for_each(|name| {
                names.0.new_name(name);
            });
        }
        let mut before = Before::new(streams.len());
        let count: usize = reader.number()?;
        for _ in 0..count {
            let (delta, position): (u32, u32) = (reader.number()?, reader.number()?);
            let place = Place {
                position: before
                    .position
                    .checked_add(position)
                    .ok_or(DecodeError::BadNumber)?,
                len: reader.number()?,
            };
            let topic = topics
                .get(reader.number::<usize>()?)
                .ok_or(DecodeError::BadNumber)?;
            let stream = match reader.varint()? {
                0 => *by_topic.get(topic).ok_or(DecodeError::BadNumber)?,
                number => u32::try_from(number - 1).map_err(|_| DecodeError::BadNumber)?,
            };
            let name = streams.get(stream as usize).ok_or(DecodeError::BadNumber)?;
            let flags = reader.u8()?;
            let seq = before.seq(stream as usize);
            *seq = seq.wrapping_add(reader.signed()? as u64);
            let head = PublishedHead {
                stream: name,
                topic,
                seq: Seq(*seq),
                time: before.time.wrapping_add(reader.signed()? as u64),
                history: flags & HISTORY != 0,
                everyone: flags & EVERYONE != 0,
            };
            let delta = before
                .delta
                .checked_add(delta)
                .ok_or(DecodeError::BadNumber)?;
            index.push(
                Offset(identity.base.0 + u64::from(delta)),
                place,
                topic,
                name,
                &head,
            );
            before.delta = delta;
            before.position = place.position;
            before.time = head.time;
        }
        reader.finish()?;
        Ok((index, identity))
    }
}

/// What is where an index should be.
pub enum IndexFile {
    /// There is no file.
    Missing,
    /// It is not as it was written.
    Damaged,
    /// It belongs to an earlier form of its segment.
    Stale,
    /// It is whole, and belongs to the segment.
    Good(Box<SegmentIndex>),
}

impl IndexFile {
    /// Reads the index of the segment whose header has the checksum `header_crc`.
    pub fn load(fs: &dyn Fs, name: &str, header_crc: u32) -> io::Result<Self> {
        let file = match fs.open(name) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::Missing),
            Err(error) => return Err(error),
        };
        let mut bytes = vec![0; usize::try_from(file.len()?).map_err(io::Error::other)?];
        let len = read_full_at(&*file, &mut bytes, 0)?;
        bytes.truncate(len);
        Ok(match SegmentIndex::decode(&bytes) {
            None => Self::Damaged,
            Some((_, identity)) if identity.header_crc != header_crc => Self::Stale,
            Some((index, _)) => Self::Good(Box::new(index)),
        })
    }
}

impl Names {
    fn interned(&self, name: &str) -> Arc<str> {
        self.numbers
            .get_key_value(name)
            .map_or_else(|| name.into(), |(name, _)| name.clone())
    }
}

/// What the numbers of the next entry are relative to.
struct Before {
    delta: u32,
    position: u32,
    time: u64,
    seqs: Vec<u64>,
}

impl Before {
    fn new(streams: usize) -> Self {
        Self {
            delta: 0,
            position: 0,
            time: 0,
            seqs: vec![0; streams + 1],
        }
    }

    fn seq(&mut self, stream: usize) -> &mut u64 {
        // The last place is a spare one, so that there always is one.
        let last = self.seqs.len() - 1;
        &mut self.seqs[stream.min(last)]
    }

    fn move_to(&mut self, entry: &IndexEntry) {
        self.delta = entry.delta;
        self.position = entry.place.position;
        self.time = entry.time;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index() -> SegmentIndex {
        let mut index = SegmentIndex::new(Offset(100));
        for (number, (topic, stream)) in [
            ("a/b", "a"),
            ("a", "a"),
            ("ab", "ab"),
            ("a/c", "a"),
            ("a/b", "a"),
            ("$x", "$x"),
        ]
        .into_iter()
        .enumerate()
        {
            let place = Place {
                position: 64 + number as u32 * 10,
                len: 9,
            };
            let (seq, time) = (Seq(number as u64 + 1), 1000 - number as u64);
            let head = PublishedHead {
                stream,
                topic,
                seq,
                time,
                history: number > 1,
                everyone: true,
            };
            index.push(
                Offset(100 + number as u64 * 2),
                place,
                &topic.into(),
                &stream.into(),
                &head,
            );
        }
        index
    }

    #[test]
    fn a_stream_is_given_by_seq() {
        let index = index();
        assert_eq!(
            index
                .stream("a", Seq(2))
                .map(|e| e.seq.0)
                .collect::<Vec<_>>(),
            [2, 4, 5]
        );
        assert_eq!(index.last_seq("a"), Seq(5));
    }

    #[test]
    fn an_index_file_comes_back_and_a_changed_one_is_refused() {
        let index = index();
        let (base, end) = (Offset(100), Offset(111));
        let identity = SegmentIdentity {
            header_crc: 5,
            base,
            end,
            data_end: 124,
        };
        let bytes = index.encode(&identity);
        let (decoded, found) = SegmentIndex::decode(&bytes).expect("an index was written");
        assert_eq!(found, identity);
        assert_eq!(decoded.entries, index.entries);
        assert_eq!(decoded.topics(), index.topics());
        assert_eq!(decoded.newest(), index.newest());
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 4;
            assert!(SegmentIndex::decode(&changed).is_none(), "byte {at}");
        }
    }
}
