//! The writing side: one batch, one frame, one write, one sync.
//!
//! Invariants: offsets are dense; a batch is shown to readers only after it and everything before
//! it are as durable as [`Durability`] says; after the first failure of the disk nothing is written
//! nor shown any more. A batch may be written while the one before it is synced
//! ([`Writer::begin`], [`Writer::finish`]); a segment ends only when nothing is under way.
//! There are no threads here: the work that need not hold up a batch is handed out as [`Chore`]s,
//! and is made good for if nobody does it. Where appends come from is none of its business.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use tidings_core::hash::KeyedHash;
use tidings_core::journal::{Append, Audience, Batch, Entry, Journal, Published, Record};
use tidings_core::message::{Epoch, Offset, Seq};

use super::cache::Loaded;
use super::frame::{FrameBuilder, HEADER_BYTES, Header, MAX_FRAME_BYTES, Place};
use super::fs::{Fs, FsFile, replace_file, write_whole_at, zero_fill};
use super::index::{SegmentIdentity, SegmentIndex};
use super::layout::{TEMPORARY_SUFFIX, index_name, segment_name};
use super::reader::{Sealed, SegmentJournal};
use super::record::PublishedHead;

/// Stream heads that are remembered; those of more streams are looked up again.
const HEADS_CACHED: usize = 64 * 1024;
/// What the buffer may keep after a batch: more than an ordinary batch has.
const BUFFER_KEPT_BYTES: usize = 4 * 1024 * 1024;

/// The last part of a segment, in which batches are written one by one.
const END_OF_SEGMENT_PART: u64 = 16;

/// When a batch comes back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// After it is durable.
    #[default]
    Fsync,
    /// After it is written; it is durable after the next [`Writer::sync`].
    Interval,
}

/// How a journal is written.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// When a batch comes back.
    pub durability: Durability,
    /// Bytes of a segment file: what is preallocated, and what trimming removes at once.
    pub segment_bytes: u64,
    /// Memory for the newest entries, bytes.
    pub tail_bytes: usize,
    /// Identity of the journal if it is created now: a random number.
    pub new_epoch: Epoch,
}

impl Options {
    /// Segments of 64 MiB: preallocated in about a tenth of a second, and few enough files for a
    /// terabyte. 8 MiB of newest entries: some ten thousand messages.
    pub fn new(new_epoch: Epoch) -> Self {
        Self {
            durability: Durability::Fsync,
            segment_bytes: 64 * 1024 * 1024,
            tail_bytes: 8 * 1024 * 1024,
            new_epoch,
        }
    }
}

/// Why a batch was not written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JournalError {
    /// The disk failed, now or earlier: nothing is written until the journal is opened anew.
    #[error("the journal is poisoned: {cause}")]
    Poisoned {
        /// The first failure.
        cause: String,
    },
    /// The batch has more bytes than a frame can hold; nothing was written, the next one can be.
    #[error("a batch of {bytes} bytes is larger than {MAX_FRAME_BYTES}")]
    TooLarge {
        /// Bytes of the batch.
        bytes: usize,
    },
}

/// Looks up the last seq of a stream as of all batches that came back; 0 if there is none.
pub type HeadLookup = Box<dyn Fn(&str) -> Seq + Send>;

/// The one who appends.
pub struct Writer {
    fs: Arc<dyn Fs>,
    options: Options,
    journal: Arc<SegmentJournal>,
    heads: Heads,
    frame: FrameBuilder,
    segment: Segment,
    next: Offset,
    /// Batches that were begun and not finished.
    under_way: usize,
    /// Batches came back that are not durable.
    unsynced: bool,
    poisoned: Option<String>,
    chores: VecDeque<Chore>,
    spare: Arc<Mutex<Spare>>,
    spares_made: u64,
    _lock: Box<dyn Send + Sync>,
}

/// A batch that was written and is not durable yet.
pub struct Written {
    batch: Batch,
    places: Vec<Place>,
    /// Position of its frame.
    at: u64,
    /// Position after its frame.
    end: u64,
    file: Arc<dyn FsFile>,
}

impl Written {
    /// Makes it durable. May take long; any thread may do it.
    ///
    /// # Errors
    /// What the disk says, for [`Writer::finish`].
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// As [`Written::sync`], for a thread that has nothing else of it.
    pub fn sync_later(&self) -> impl FnOnce() -> io::Result<()> + Send + 'static {
        let file = self.file.clone();
        move || file.sync_data()
    }
}

/// The segment that is written.
pub(super) struct Segment {
    pub base: Offset,
    pub header_crc: u32,
    pub file: Arc<dyn FsFile>,
    pub position: u64,
    /// Up to here everything is durable.
    pub synced: u64,
    /// Bytes that are preallocated.
    pub capacity: u64,
}

/// A segment file that is ready before it is needed.
#[derive(Default)]
enum Spare {
    #[default]
    None,
    Wanted,
    Ready {
        name: String,
        file: Arc<dyn FsFile>,
    },
}

/// Work that may be done by another thread, at any time, or never.
pub enum Chore {
    /// A sealed segment gives back what it did not use, and gets its index file.
    Seal(SealChore),
    /// The next segment file is preallocated.
    Spare(SpareChore),
    /// As `Seal`, for a segment that was sealed before a crash.
    Reseal(ResealChore),
}

/// See [`Chore::Seal`].
pub struct SealChore {
    fs: Arc<dyn Fs>,
    journal: Arc<SegmentJournal>,
    identity: SegmentIdentity,
    loaded: Arc<Loaded>,
}

/// See [`Chore::Reseal`].
pub struct ResealChore {
    pub(super) journal: Arc<SegmentJournal>,
    pub(super) base: Offset,
}

/// See [`Chore::Spare`].
pub struct SpareChore {
    fs: Arc<dyn Fs>,
    name: String,
    bytes: u64,
    spare: Arc<Mutex<Spare>>,
}

impl Writer {
    pub(super) fn new(
        fs: Arc<dyn Fs>,
        options: Options,
        journal: Arc<SegmentJournal>,
        segment: Segment,
        heads: HeadLookup,
        lock: Box<dyn Send + Sync>,
    ) -> Self {
        let (next, epoch) = (journal.end(), journal.epoch());
        Self {
            fs,
            options,
            journal,
            heads: Heads::new(heads),
            frame: FrameBuilder::new(epoch),
            segment,
            next,
            under_way: 0,
            unsynced: false,
            poisoned: None,
            chores: VecDeque::new(),
            spare: Arc::default(),
            spares_made: 0,
            _lock: lock,
        }
    }

    /// The reading side.
    pub fn journal(&self) -> &Arc<SegmentJournal> {
        &self.journal
    }

    /// Changes when batches come back from now on.
    pub fn set_durability(&mut self, durability: Durability) {
        self.options.durability = durability;
    }

    /// The first failure, if there was one.
    pub fn poisoned(&self) -> Option<&str> {
        self.poisoned.as_deref()
    }

    /// Makes everything durable together, and shows it to readers.
    ///
    /// # Errors
    /// [`JournalError::Poisoned`] from the first failure on.
    pub fn commit(&mut self, appends: Vec<Append>) -> Result<Arc<Batch>, JournalError> {
        if appends.is_empty() {
            self.check()?;
            return Ok(Arc::default());
        }
        let written = self.begin(appends)?;
        let synced = match self.options.durability {
            Durability::Fsync => written.sync(),
            Durability::Interval => Ok(()),
        };
        self.finish(written, synced)
    }

    /// True when the segment ends soon: what is under way is to be finished before more begins,
    /// or the segment becomes longer than it should.
    pub fn is_at_end_of_segment(&self) -> bool {
        self.segment.position + self.segment.capacity / END_OF_SEGMENT_PART > self.segment.capacity
    }

    /// Writes a batch. It is not durable, and nobody sees it, before [`Writer::finish`].
    ///
    /// # Errors
    /// [`JournalError::Poisoned`] from the first failure on.
    pub fn begin(&mut self, appends: Vec<Append>) -> Result<Written, JournalError> {
        self.check()?;
        let first = self.next;
        let (batch, places) = self.assemble(appends);
        if self.frame.len() > MAX_FRAME_BYTES {
            let bytes = self.frame.len();
            self.next = first;
            self.heads.forget();
            self.frame.shrink_to(0);
            return Err(JournalError::TooLarge { bytes });
        }
        let written = self.write();
        let at = self.or_poison(written)?;
        self.frame.shrink_to(BUFFER_KEPT_BYTES);
        self.under_way += 1;
        Ok(Written {
            batch,
            places,
            at,
            end: self.segment.position,
            file: self.segment.file.clone(),
        })
    }

    /// Shows a batch, whose [`Written::sync`] said `synced`. Batches are finished in the order in
    /// which they were begun.
    ///
    /// # Errors
    /// [`JournalError::Poisoned`] from the first failure on.
    pub fn finish(
        &mut self,
        written: Written,
        synced: io::Result<()>,
    ) -> Result<Arc<Batch>, JournalError> {
        self.check()?;
        self.under_way -= 1;
        self.or_poison(synced)?;
        match self.options.durability {
            Durability::Fsync => self.segment.synced = written.end,
            Durability::Interval => self.unsynced = true,
        }
        self.show(&written);
        Ok(Arc::new(written.batch))
    }

    /// Makes what came back durable; for [`Durability::Interval`].
    ///
    /// # Errors
    /// [`JournalError::Poisoned`].
    pub fn sync(&mut self) -> Result<(), JournalError> {
        self.check()?;
        if self.unsynced {
            let synced = self.segment.file.sync_data();
            self.or_poison(synced)?;
            self.segment.synced = self.segment.position;
            self.unsynced = false;
        }
        Ok(())
    }

    pub(super) fn add_chore(&mut self, chore: Chore) {
        self.chores.push_back(chore);
    }

    /// Work that is better done by someone else than in the next [`Writer::commit`].
    pub fn next_chore(&mut self) -> Option<Chore> {
        if self.segment.position > self.segment.capacity / 2 && self.poisoned.is_none() {
            let mut spare = lock(&self.spare);
            if matches!(*spare, Spare::None) {
                *spare = Spare::Wanted;
                drop(spare);
                let (name, bytes) = (self.spare_name(), self.options.segment_bytes);
                let (fs, spare) = (self.fs.clone(), self.spare.clone());
                self.chores.push_back(Chore::Spare(SpareChore {
                    fs,
                    name,
                    bytes,
                    spare,
                }));
            }
        }
        self.chores.pop_front()
    }

    fn check(&self) -> Result<(), JournalError> {
        match &self.poisoned {
            Some(cause) => Err(JournalError::Poisoned {
                cause: cause.clone(),
            }),
            None => Ok(()),
        }
    }

    fn or_poison<T>(&mut self, result: io::Result<T>) -> Result<T, JournalError> {
        result.map_err(|error| {
            let cause = format!("{}: {error}", segment_name(self.segment.base));
            self.poisoned = Some(cause.clone());
            JournalError::Poisoned { cause }
        })
    }

    /// Gives each append its numbers and encodes it.
    fn assemble(&mut self, appends: Vec<Append>) -> (Batch, Vec<Place>) {
        let mut batch = Batch {
            entries: Vec::with_capacity(appends.len()),
        };
        let mut places = Vec::with_capacity(appends.len());
        self.frame.begin(self.next);
        for Append { shard, mut record } in appends {
            if let Record::Published(published) = &mut record {
                let seq = match published.audience {
                    Audience::Everyone => {
                        let settled = self.under_way == 0;
                        self.heads.next(&published.stream, &self.journal, settled)
                    }
                    Audience::Only(_) | Audience::Growing => Seq(0),
                };
                if published.seq != seq {
                    Arc::make_mut(published).seq = seq;
                }
            }
            let offset = self.next;
            places.push(self.frame.push(offset, &record));
            batch.entries.push((shard, Entry { offset, record }));
            self.next = offset.next();
        }
        (batch, places)
    }

    /// Writes the frame; returns where it is.
    fn write(&mut self) -> io::Result<u64> {
        let len = self.frame.len() as u64;
        if self.segment.position + len > self.segment.capacity
            && self.segment.position > HEADER_BYTES
            && self.under_way == 0
        {
            self.roll(len)?;
        }
        let Segment {
            file,
            position,
            synced,
            ..
        } = &mut self.segment;
        let at = *position;
        // Positions of a segment fit, see `MAX_FRAME_BYTES` and `roll`.
        write_whole_at(&**file, self.frame.finish(*synced as u32), at)?;
        *position += len;
        Ok(at)
    }

    fn show(&mut self, written: &Written) {
        let Written {
            batch, places, at, ..
        } = written;
        let mut shared = self.journal.shared_mut();
        let shared = &mut *shared;
        for ((_, entry), place) in batch.entries.iter().zip(places) {
            let Record::Published(published) = &entry.record else {
                shared.tail.push(None);
                continue;
            };
            let place = Place {
                position: place.position + *at as u32,
                len: place.len,
            };
            let (topic, stream) = (&published.message.topic, &published.stream);
            shared
                .active
                .index
                .push(entry.offset, place, topic, stream, &head_of(published));
            shared.tail.push(Some(published.clone()));
        }
        shared.active.data_end = written.end;
        shared.end = batch.end().unwrap_or(shared.end);
    }

    /// Seals the segment and goes on in a new one that has room for `frame_bytes`.
    fn roll(&mut self, frame_bytes: u64) -> io::Result<()> {
        if self.unsynced {
            self.segment.file.sync_data()?;
            self.unsynced = false;
        }
        let base = self.journal.end();
        let old_base = self.segment.base;
        let (name, file) = self.take_spare(HEADER_BYTES + frame_bytes)?;
        let header = Header {
            generation: 0,
            epoch: self.journal.epoch(),
            base,
            previous: old_base,
            end: Offset(0),
            data_end: 0,
        };
        install(&*self.fs, &name, &*file, &header)?;
        let segment = Segment {
            base,
            header_crc: header.crc(),
            capacity: file.len()?,
            file: file.clone(),
            position: HEADER_BYTES,
            synced: HEADER_BYTES,
        };
        let old = std::mem::replace(&mut self.segment, segment);
        let identity = SegmentIdentity {
            header_crc: old.header_crc,
            base: old.base,
            end: base,
            data_end: old.position,
        };
        let mut shared = self.journal.shared_mut();
        let index = std::mem::replace(&mut shared.active.index, SegmentIndex::new(base));
        shared.active.file = file;
        let transient_bytes = Some(index.transient_bytes());
        let loaded = Arc::new(Loaded {
            index,
            file: old.file,
            generation: 0,
        });
        let sealed = Sealed {
            end: base,
            generation: 0,
            bytes: old.position,
            transient_bytes,
        };
        shared.sealed.insert(old_base, sealed);
        self.journal.keep_loaded(old_base, loaded.clone());
        drop(shared);
        let (fs, journal) = (self.fs.clone(), self.journal.clone());
        self.chores.push_back(Chore::Seal(SealChore {
            fs,
            journal,
            identity,
            loaded,
        }));
        Ok(())
    }

    /// A file of at least so many bytes, all zero.
    fn take_spare(&mut self, bytes: u64) -> io::Result<(String, Arc<dyn FsFile>)> {
        let ready = {
            let mut spare = lock(&self.spare);
            match std::mem::take(&mut *spare) {
                Spare::Ready { name, file } => Some((name, file)),
                other => {
                    *spare = other;
                    None
                }
            }
        };
        let (name, file) = match ready {
            Some(ready) => ready,
            None => {
                let name = self.spare_name();
                let file = self.fs.create(&name)?;
                (name, file)
            }
        };
        let (len, wanted) = (file.len()?, bytes.max(self.options.segment_bytes));
        if len < wanted {
            zero_fill(&*file, len, wanted)?;
        }
        Ok((name, file))
    }

    fn spare_name(&mut self) -> String {
        self.spares_made += 1;
        format!("spare-{}{TEMPORARY_SUFFIX}", self.spares_made)
    }
}

/// Gives a prepared file its header and its name, durably.
pub(super) fn install(
    fs: &dyn Fs,
    temporary: &str,
    file: &dyn FsFile,
    header: &Header,
) -> io::Result<()> {
    write_whole_at(file, &header.encode(), 0)?;
    file.sync_data()?;
    fs.rename(temporary, &segment_name(header.base))?;
    fs.sync_dir()
}

fn head_of(published: &Published) -> PublishedHead<'_> {
    PublishedHead {
        stream: &published.stream,
        topic: &published.message.topic,
        seq: published.seq,
        time: published.message.time,
        history: published.history,
        everyone: published.audience == Audience::Everyone,
    }
}

fn lock(spare: &Mutex<Spare>) -> std::sync::MutexGuard<'_, Spare> {
    spare.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Chore {
    /// Does the work. Failures are told to the log only: everything here is made good for later.
    pub fn run(self) {
        let (what, result) = match self {
            Self::Seal(chore) => ("seal a segment", chore.run()),
            Self::Spare(chore) => ("preallocate a segment", chore.run()),
            Self::Reseal(ResealChore { journal, base }) => {
                let loaded = journal.load_uncached(base).map(drop);
                ("index a segment", loaded.map_err(io::Error::other))
            }
        };
        if let Err(error) = result {
            tracing::warn!(%error, "cannot {what}");
        }
    }
}

impl SealChore {
    fn run(self) -> io::Result<()> {
        let SegmentIdentity { base, data_end, .. } = self.identity;
        // Not while it is being trimmed: the name may be another file's by then.
        let _not_trimmed = self
            .journal
            .trimming
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let current = self.journal.shared().sealed.get(&base).copied();
        if current.is_none_or(|sealed| sealed.generation != self.loaded.generation) {
            return Ok(());
        }
        self.loaded.file.set_len(data_end)?;
        let index = self.loaded.index.encode(&self.identity);
        replace_file(&*self.fs, &index_name(base), &index)
    }
}

impl SpareChore {
    fn run(self) -> io::Result<()> {
        let made = self.fs.create(&self.name).and_then(|file| {
            zero_fill(&*file, 0, self.bytes)?;
            Ok(file)
        });
        let mut spare = lock(&self.spare);
        match made {
            Ok(file) => {
                *spare = Spare::Ready {
                    name: self.name,
                    file,
                };
                Ok(())
            }
            Err(error) => {
                *spare = Spare::None;
                Err(error)
            }
        }
    }
}

/// The last seq of each stream.
struct Heads {
    lookup: HeadLookup,
    places: HashMap<Arc<str>, usize, KeyedHash>,
    seqs: Vec<Seq>,
    /// The last one asked for: publishers repeat their topic, with the same text in memory.
    last: Option<(Arc<str>, usize)>,
}

impl Heads {
    fn new(lookup: HeadLookup) -> Self {
        Self {
            lookup,
            places: HashMap::default(),
            seqs: Vec::new(),
            last: None,
        }
    }

    /// The next seq of a stream. While batches are under way (`settled` is false) nothing is
    /// forgotten: what they gave away cannot be looked up yet.
    fn next(&mut self, stream: &Arc<str>, journal: &SegmentJournal, settled: bool) -> Seq {
        let place = match &self.last {
            Some((last, place)) if Arc::ptr_eq(last, stream) => *place,
            _ => self.place_of(stream, journal, settled),
        };
        // A place was made together with its seq.
        let Some(seq) = self.seqs.get_mut(place) else {
            return Seq(0);
        };
        seq.0 += 1;
        *seq
    }

    fn place_of(&mut self, stream: &Arc<str>, journal: &SegmentJournal, settled: bool) -> usize {
        if settled && self.seqs.len() >= HEADS_CACHED && !self.places.contains_key(stream) {
            self.forget();
        }
        let place = match self.places.get(stream) {
            Some(place) => *place,
            None => {
                let known = journal.shared().active.index.last_seq(stream);
                self.seqs.push((self.lookup)(stream).max(known));
                self.places.insert(stream.clone(), self.seqs.len() - 1);
                self.seqs.len() - 1
            }
        };
        self.last = Some((stream.clone(), place));
        place
    }

    fn forget(&mut self) {
        self.places.clear();
        self.seqs.clear();
        self.last = None;
    }
}
