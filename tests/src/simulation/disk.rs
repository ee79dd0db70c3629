//! What a crash leaves behind: the journal, and the state that follows from it.
//!
//! The journal is the one in memory, or the one on segment files of a simulated directory, whose
//! unsynced writes a crash loses, tears or keeps; sealing and preparing of segments is done late, or
//! never. The state is always made anew from the journal.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tidings_bridge::journal::memory::MemoryWriter;
use tidings_bridge::journal::retention::Retention;
use tidings_bridge::journal::segments::sim_fs::{Fault, SimFs};
use tidings_bridge::journal::segments::{Chore, Durability, Options, SegmentJournal, Writer};
use tidings_bridge::state::MemoryState;
use tidings_core::journal::{Append, Batch, Entry, Journal, Page, Published, ReadEntry, ReadError};
use tidings_core::message::{Epoch, Offset, Seq};
use tidings_core::messages::{CidTable, Claim, Known, Names};
use tidings_core::rules::Keep;
use tidings_core::state::State;
use tidings_core::topic::ReplayFrom;

use crate::seeded::Seeded;

/// Small, so that a schedule fills several.
const SEGMENT_BYTES: u64 = 2 * 1024;

/// One call of [`Journal::read`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadCall {
    /// What it asked for.
    pub filters: Vec<Arc<str>>,
    /// How much it got.
    pub entries: usize,
}

/// One table for all shards.
#[derive(Default)]
struct SharedNames(Mutex<CidTable>);

impl Names for SharedNames {
    fn look_up(&self, journal: &dyn Journal, claim: &Claim<'_>) -> Result<Known, ReadError> {
        lock(&self.0).look_up(journal, claim)
    }

    fn claim(&self, journal: &dyn Journal, claim: &Claim<'_>) -> Result<Known, ReadError> {
        lock(&self.0).claim(journal, claim)
    }
}

/// Where the journal is.
enum Place {
    Memory(MemoryWriter),
    Segments(Box<Segments>),
}

/// A journal on segment files.
struct Segments {
    fs: SimFs,
    luck: Seeded,
    /// The state in which the writer looks up the last numbers of streams.
    heads: Heads,
    writer: Writer,
    journal: Arc<SegmentJournal>,
    chores: VecDeque<Chore>,
}

type Heads = Arc<Mutex<Arc<MemoryState>>>;

/// The journal with its writer, and the state.
pub struct Disk {
    place: Place,
    state: Arc<MemoryState>,
    names: Arc<SharedNames>,
    batches: Vec<Arc<Batch>>,
    reads: Arc<Mutex<Vec<ReadCall>>>,
    queue: VecDeque<Vec<Append>>,
    /// What was being written when the disk failed: nobody knows whether it is there.
    doubtful: Vec<Append>,
    /// Why nothing is written any more.
    poisoned: Option<Arc<str>>,
}

impl Disk {
    /// An empty journal in memory.
    pub fn in_memory() -> Self {
        Self::new(Place::Memory(MemoryWriter::new(Epoch(1))))
    }

    /// An empty journal on segment files; the seed says what crashes do to them.
    pub fn on_segments(seed: u64) -> Self {
        let segments = Segments::new(seed);
        let heads = segments.heads.clone();
        let disk = Self::new(Place::Segments(Box::new(segments)));
        *lock(&heads) = disk.state.clone();
        disk
    }

    fn new(place: Place) -> Self {
        Self {
            place,
            state: Arc::new(MemoryState::new()),
            names: Arc::default(),
            batches: Vec::new(),
            reads: Arc::default(),
            queue: VecDeque::new(),
            doubtful: Vec::new(),
            poisoned: None,
        }
    }

    /// The reading side of the journal.
    pub fn journal(&self) -> Arc<dyn Journal> {
        let journal: Arc<dyn Journal> = match &self.place {
            Place::Memory(writer) => writer.journal().clone(),
            Place::Segments(segments) => segments.journal.clone(),
        };
        Arc::new(Recording {
            journal,
            reads: self.reads.clone(),
        })
    }

    /// The names of messages, as all shards see them.
    pub fn names(&self) -> Arc<dyn Names> {
        self.names.clone()
    }

    /// How the journal was read, since this was last cleared.
    pub fn reads(&self) -> MutexGuard<'_, Vec<ReadCall>> {
        lock(&self.reads)
    }

    /// Removes every message before `keep_from` that is not history.
    pub fn trim(&self, keep_from: Offset) {
        let retention = Retention {
            keep_from,
            snapshot: self.journal().end(),
            now: 0,
            history: Arc::new(|topic| {
                let kept = ["kept", "room/"]
                    .iter()
                    .any(|space| topic.starts_with(space));
                kept.then(Keep::default)
            }),
            max_backlog_bytes: None,
        };
        match &self.place {
            Place::Memory(writer) => writer.journal().trim(&retention),
            Place::Segments(segments) => {
                let done = segments.journal.trim(&retention);
                done.expect("a sound disk can be trimmed");
            }
        }
    }

    /// The state.
    pub fn state(&self) -> Arc<dyn State> {
        self.state.clone()
    }

    /// Everything that was committed, in order.
    pub fn batches(&self) -> &[Arc<Batch>] {
        &self.batches
    }

    /// Hands over appends; they are durable only after a commit.
    pub fn append(&mut self, appends: Vec<Append>) {
        self.queue.push_back(appends);
    }

    /// How many vectors of appends wait.
    pub fn waiting(&self) -> usize {
        self.queue.len()
    }

    /// Makes the first `count` waiting vectors durable in one batch. `None` if poisoned.
    pub fn commit(&mut self, count: usize) -> Option<Arc<Batch>> {
        let count = count.min(self.queue.len());
        let appends: Vec<Append> = self.queue.drain(..count).flatten().collect();
        if self.poisoned.is_some() || appends.is_empty() {
            return None;
        }
        let batch = match &mut self.place {
            Place::Memory(writer) => writer.commit(appends),
            Place::Segments(segments) => segments.commit(appends),
        };
        self.state.apply(&batch);
        lock(&self.names.0).committed(&batch);
        self.batches.push(batch.clone());
        Some(batch)
    }

    /// Why nothing is written any more.
    pub fn poisoned(&self) -> Option<&Arc<str>> {
        self.poisoned.as_ref()
    }

    /// The disk fails for good, while it writes what waits.
    pub fn poison(&mut self, cause: Arc<str>) {
        if self.poisoned.replace(cause).is_some() {
            return;
        }
        self.doubtful = self.queue.drain(..).flatten().collect();
        if let Place::Segments(segments) = &mut self.place
            && !self.doubtful.is_empty()
        {
            segments.fail(self.doubtful.clone());
        }
    }

    /// The machine stops. The first `written` waiting vectors were being written, or what was when
    /// the disk failed if `written` is not 0, and nobody was told. In memory they are there
    /// afterwards; on segment files they are or are not. The rest is lost. The state is made anew
    /// from the journal.
    pub fn crash(&mut self, written: usize) {
        let poisoned = self.poisoned.take().is_some();
        let queued = written.min(self.queue.len());
        let at_stake = if poisoned {
            std::mem::take(&mut self.doubtful)
        } else {
            self.queue.drain(..queued).flatten().collect()
        };
        self.queue.clear();
        match &mut self.place {
            Place::Memory(_) => {
                if written > 0 {
                    self.queue.push_back(at_stake);
                    self.commit(1);
                }
            }
            Place::Segments(segments) => {
                let count = at_stake.len();
                if !poisoned && count > 0 {
                    segments.leave_half_done(at_stake);
                }
                segments.crash();
                segments.compare(&mut self.batches, count);
            }
        }
        let state = MemoryState::new();
        for batch in &self.batches {
            state.apply(batch);
        }
        self.state = Arc::new(state);
        self.names = Arc::default();
        if let Place::Segments(segments) = &self.place {
            *lock(&segments.heads) = self.state.clone();
        }
    }
}

impl Segments {
    fn new(seed: u64) -> Self {
        let fs = SimFs::new(seed);
        let heads = Heads::default();
        let (writer, journal) = open(&fs, &heads);
        Self {
            fs,
            luck: Seeded::new(seed),
            heads,
            writer,
            journal,
            chores: VecDeque::new(),
        }
    }

    fn commit(&mut self, appends: Vec<Append>) -> Arc<Batch> {
        let batch = self.writer.commit(appends);
        while let Some(chore) = self.writer.next_chore() {
            self.chores.push_back(chore);
        }
        if self.luck.chance(50) {
            self.chores.drain(..).for_each(Chore::run);
        }
        batch.expect("a sound disk takes a batch")
    }

    /// The disk fails while it writes a batch.
    fn fail(&mut self, appends: Vec<Append>) {
        if self.luck.chance(50) {
            self.fs.inject(Fault::Sync, 0);
        } else {
            self.fs.inject(Fault::ShortWrite, 0);
            self.fs.inject(Fault::Write, 1);
        }
        let failed = self.writer.commit(appends);
        failed.expect_err("a batch that is not durable does not come back");
    }

    /// A batch is being written when the machine stops.
    fn leave_half_done(&mut self, appends: Vec<Append>) {
        if self.luck.chance(30) {
            return self.fail(appends);
        }
        self.writer.set_durability(Durability::Interval);
        let written = self.writer.commit(appends);
        written.expect("a sound disk takes a batch");
    }

    /// The power goes, or only the process; then the directory is opened again.
    fn crash(&mut self) {
        self.chores.clear();
        match self.luck.within(0..4) {
            0 => self.fs.kill(),
            1 => self.fs.crash_hard(),
            _ => self.fs.crash(),
        }
        (self.writer, self.journal) = open(&self.fs, &self.heads);
    }

    /// Holds what is in the files against the batches that came back, and adds the one that was
    /// being written, of so many entries, if it is there.
    fn compare(&self, batches: &mut Vec<Arc<Batch>>, at_stake: usize) {
        let known: Vec<Entry> = batches
            .iter()
            .flat_map(|batch| &batch.entries)
            .map(|(_, entry)| entry.clone())
            .collect();
        let (mut next, end) = (self.journal.start(), self.journal.end().0 as usize);
        assert!(
            end == known.len() || end == known.len() + at_stake,
            "{} entries came back, {at_stake} were at stake, {end} were found",
            known.len()
        );
        let replayed = self.journal.replay(next, &mut |batch| {
            for (_, entry) in &batch.entries {
                assert_eq!(entry.offset, next, "offsets are dense");
                next = next.next();
                if let Some(before) = known.get(entry.offset.0 as usize) {
                    assert_eq!(before, entry, "an entry that came back is what it was");
                }
            }
            let first = batch.entries.first();
            if first.is_some_and(|(_, entry)| entry.offset.0 as usize >= known.len()) {
                batches.push(Arc::new(batch));
            }
            Ok(())
        });
        replayed.expect("what was written can be read");
        assert_eq!(next.0 as usize, end, "what was written is there");
    }
}

/// Opens, or creates, the journal in a directory.
fn open(fs: &SimFs, heads: &Heads) -> (Writer, Arc<SegmentJournal>) {
    let options = Options {
        segment_bytes: SEGMENT_BYTES,
        ..Options::new(Epoch(1))
    };
    let heads = heads.clone();
    let lookup = Box::new(move |stream: &str| lock(&heads).stream_head(stream));
    let opened = Writer::open(Arc::new(fs.clone()), options, lookup);
    let (writer, journal, _) = opened.expect("a directory that only crashed can be opened");
    (writer, journal)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A journal that notes how it is read.
struct Recording {
    journal: Arc<dyn Journal>,
    reads: Arc<Mutex<Vec<ReadCall>>>,
}

impl Journal for Recording {
    fn epoch(&self) -> Epoch {
        self.journal.epoch()
    }

    fn start(&self) -> Offset {
        self.journal.start()
    }

    fn end(&self) -> Offset {
        self.journal.end()
    }

    fn read(
        &self,
        filters: &[Arc<str>],
        from: Offset,
        to: Offset,
        max_bytes: usize,
    ) -> Result<Page, ReadError> {
        let page = self.journal.read(filters, from, to, max_bytes)?;
        let call = ReadCall {
            filters: filters.to_vec(),
            entries: page.entries.len(),
        };
        lock(&self.reads).push(call);
        Ok(page)
    }

    fn read_history(
        &self,
        filters: &[Arc<str>],
        from: Offset,
        to: Offset,
        max_bytes: usize,
    ) -> Result<Page, ReadError> {
        self.journal.read_history(filters, from, to, max_bytes)
    }

    fn read_at(&self, offset: Offset) -> Result<Option<Arc<Published>>, ReadError> {
        self.journal.read_at(offset)
    }

    fn locate(&self, filter: &str, from: ReplayFrom) -> Result<Offset, ReadError> {
        self.journal.locate(filter, from)
    }

    fn history(&self, stream: &str, from: Seq, limit: usize) -> Result<Vec<ReadEntry>, ReadError> {
        self.journal.history(stream, from, limit)
    }
}
