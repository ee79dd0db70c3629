//! The journal: the only truth of the broker, and the contract that every implementation keeps.
//!
//! # Contract
//! * One writer. What is handed over together is made durable together (group commit); it comes
//!   back as one [`Batch`], in the order in which it was handed over, and batches come back in
//!   order. Each append gets the next [`Offset`]; a message also gets the next [`Seq`] of its
//!   stream.
//! * A batch comes back only after it is durable as the configured durability says. After a failed
//!   or short write, a full disk or a failed fsync the journal is *poisoned*: nothing comes back any
//!   more, and reading goes on. Only opening it anew recovers.
//! * After a crash exactly a prefix of whole batches is found again, and every batch that came
//!   back is in it.
//! * [`Journal::read`] sees everything that came back before the call, in offset order, and
//!   nothing else. Trimmed entries are an error that names the first readable offset, never a gap.
//! * Trimming and compaction never change the offset, seq or content of what stays.
//!
//! How appends reach the writer and batches come back is the shell's business (a thread and
//! mailboxes; a virtual disk in simulation): for the core both are an output and an input of
//! [`Shard`](crate::shard::Shard).

use std::sync::Arc;

use crate::account::AccountChange;
use crate::message::{Epoch, Message, Offset, Seq};
use crate::state::{GroupChange, SessionChange};
use crate::topic::ReplayFrom;

/// A number of a shard, 0 for the first.
pub type ShardId = u16;

/// Instead of a shard's number: the append is of the broker around the shards, and none counts it.
pub const NO_SHARD: ShardId = ShardId::MAX;

/// What one journal entry says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// A message was published.
    Published(Arc<Published>),
    /// Something about a persistent session changed.
    Session {
        /// The Client Identifier.
        client_id: Arc<str>,
        /// What changed.
        change: SessionChange,
    },
    /// A shared subscription that outlives its connections moved on.
    Group {
        /// `$share/{group}/{filter}`.
        filter: Arc<str>,
        /// What changed.
        change: GroupChange,
    },
    /// An account changed.
    Account {
        /// The user name.
        user: Arc<str>,
        /// What changed.
        change: AccountChange,
    },
}

/// A message in the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// The stream that orders it; the topic itself unless a topic rule says otherwise.
    pub stream: Arc<str>,
    /// Number in the stream: assigned by the append; 0 before, and for all but
    /// [`Audience::Everyone`].
    pub seq: Seq,
    /// The message.
    pub message: Message,
    /// True if a topic rule keeps it as history; otherwise it goes when no session needs it.
    pub history: bool,
    /// Who may read it from the journal.
    pub audience: Audience,
    /// Packet Identifier of an inbound QoS 2 exchange of a persistent session: the publisher's
    /// session remembers it in the same commit, so that PUBREC is safe to send (§4.3.3).
    pub inbound_packet_id: Option<u16>,
    /// When its packet was read, microseconds of the shell's clock, if it is one of those that are timed;
    /// 0 otherwise. It is not stored.
    pub read_us: u64,
}

/// Who may read a message from the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Audience {
    /// Every session with a matching filter and the permission.
    Everyone,
    /// Only these sessions (by Client Identifier): the message was delivered live, they were full.
    Only(Vec<Arc<str>>),
    /// As [`Audience::Everyone`], as long as it is what the state retains: the payload is a number, and
    /// only a larger one replaces it (see [`crate::state::growing_number`]). It is no message of a
    /// stream.
    Growing,
}

/// One record in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its place.
    pub offset: Offset,
    /// What it says.
    pub record: Record,
}

/// A record on its way to the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Append {
    /// The shard that appends, and is told by its own count when it gets the batch back.
    pub shard: ShardId,
    /// What is to be stored.
    pub record: Record,
}

/// One group commit, as it comes back: `entries[i].0` is the shard that appended it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// Entries with dense, ascending offsets.
    pub entries: Vec<(ShardId, Entry)>,
}

impl Batch {
    /// The offset after the last entry; `None` for an empty batch.
    pub fn end(&self) -> Option<Offset> {
        self.entries.last().map(|(_, entry)| entry.offset.next())
    }
}

/// A message read from the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadEntry {
    /// Its place.
    pub offset: Offset,
    /// The message.
    pub published: Arc<Published>,
}

/// Part of an answer to [`Journal::read`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// Every matching message in `from..next`, in offset order.
    pub entries: Vec<ReadEntry>,
    /// Where to read on.
    pub next: Offset,
}

/// Why the journal could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Entries from the asked offset on were trimmed.
    #[error("entries before offset {first} were trimmed")]
    Trimmed {
        /// The first offset that can be read.
        first: Offset,
    },
    /// The disk did not give what was written.
    #[error("the journal cannot be read: {0}")]
    Io(#[from] std::io::Error),
    /// A record's checksum or form is wrong.
    #[error("the journal is damaged: {0}")]
    Damaged(String),
}

/// The reading side of the journal. Calls may come from every shard's thread at once.
pub trait Journal: Send + Sync {
    /// Identity of this life of the journal.
    fn epoch(&self) -> Epoch;

    /// The first offset from which nothing is missing: `start() <= end()`. Before it only what a
    /// topic rule keeps as history may be left: see [`Journal::read_history`].
    fn start(&self) -> Offset;

    /// The offset after the last batch that came back.
    fn end(&self) -> Offset;

    /// Messages whose topic matches one of `filters` (plain filters, no `$share`), at offsets
    /// `from..to`, until about `max_bytes` of topic and payload are collected (at least one entry
    /// if there is one). Cost follows the matching entries and the number of segments, not the
    /// length of the log. `to` past the end means the end. Messages of every audience are given.
    ///
    /// # Errors
    /// [`ReadError::Trimmed`] if `from < start()`; others for a disk that fails.
    fn read(
        &self,
        filters: &[Arc<str>],
        from: Offset,
        to: Offset,
        max_bytes: usize,
    ) -> Result<Page, ReadError>;

    /// As [`Journal::read`], but from before [`Journal::start`] it gives the history that is left
    /// there: what was trimmed is not missed.
    ///
    /// # Errors
    /// [`ReadError::Io`] and [`ReadError::Damaged`].
    fn read_history(
        &self,
        filters: &[Arc<str>],
        from: Offset,
        to: Offset,
        max_bytes: usize,
    ) -> Result<Page, ReadError>;

    /// The message at `offset`; `None` if that entry is no message. History that is left before
    /// [`Journal::start`] is given too.
    ///
    /// # Errors
    /// As for [`Journal::read`].
    fn read_at(&self, offset: Offset) -> Result<Option<Arc<Published>>, ReadError>;

    /// The smallest offset from which [`Journal::read_history`] with `filter` sees everything that
    /// `from` asks for: the last n matching messages for everyone, those with a seq, or a time in
    /// milliseconds, of at least the given one. `end()` if there are none. What was trimmed is
    /// not missed here.
    ///
    /// # Errors
    /// [`ReadError::Io`] and [`ReadError::Damaged`].
    fn locate(&self, filter: &str, from: ReplayFrom) -> Result<Offset, ReadError>;

    /// Up to `limit` messages of `stream` with `seq >= from`, ascending; of [`Audience::Everyone`].
    ///
    /// # Errors
    /// [`ReadError::Io`] and [`ReadError::Damaged`].
    fn history(&self, stream: &str, from: Seq, limit: usize) -> Result<Vec<ReadEntry>, ReadError>;
}
