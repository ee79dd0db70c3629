//! What a crash leaves behind: the journal, and the state that follows from it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tidings_bridge::journal::memory::{MemoryJournal, MemoryWriter};
use tidings_bridge::journal::retention::Retention;
use tidings_bridge::state::MemoryState;
use tidings_core::journal::{Append, Batch, Journal, Page, Published, ReadEntry, ReadError};
use tidings_core::message::{Epoch, Offset, Seq};
use tidings_core::rules::Keep;
use tidings_core::state::State;
use tidings_core::topic::ReplayFrom;

/// One call of [`Journal::read`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadCall {
    /// What it asked for.
    pub filters: Vec<Arc<str>>,
    /// How much it got.
    pub entries: usize,
}

/// The journal with its writer, and the state.
pub struct Disk {
    writer: MemoryWriter,
    state: Arc<MemoryState>,
    batches: Vec<Arc<Batch>>,
    reads: Arc<Mutex<Vec<ReadCall>>>,
    queue: VecDeque<Vec<Append>>,
    /// Why nothing is written any more.
    pub poisoned: Option<Arc<str>>,
}

impl Disk {
    /// An empty one.
    pub fn new() -> Self {
        Self {
            writer: MemoryWriter::new(Epoch(1)),
            state: Arc::new(MemoryState::new()),
            batches: Vec::new(),
            reads: Arc::default(),
            queue: VecDeque::new(),
            poisoned: None,
        }
    }

    /// The reading side of the journal.
    pub fn journal(&self) -> Arc<dyn Journal> {
        Arc::new(Recording {
            journal: self.writer.journal().clone(),
            reads: self.reads.clone(),
        })
    }

    /// How the journal was read, since this was last cleared.
    pub fn reads(&self) -> MutexGuard<'_, Vec<ReadCall>> {
        self.reads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes every message before `keep_from` that is not history.
    pub fn trim(&self, keep_from: Offset) {
        self.writer.journal().trim(&Retention {
            keep_from,
            snapshot: self.journal().end(),
            now: 0,
            history: Arc::new(|_| Some(Keep::default())),
            max_backlog_bytes: None,
        });
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
        let batch = self.writer.commit(appends);
        self.state.apply(&batch);
        self.batches.push(batch.clone());
        Some(batch)
    }

    /// The machine stops. The first `surviving` waiting vectors were written and reached the disk,
    /// though nobody was told; the rest is lost. The state is made anew from the journal.
    pub fn crash(&mut self, surviving: usize) {
        if surviving > 0 {
            self.commit(surviving);
        }
        self.queue.clear();
        self.poisoned = None;
        let state = MemoryState::new();
        for batch in &self.batches {
            state.apply(batch);
        }
        self.state = Arc::new(state);
    }
}

impl Default for Disk {
    fn default() -> Self {
        Self::new()
    }
}

/// A journal that notes how it is read.
struct Recording {
    journal: Arc<MemoryJournal>,
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
        self.reads
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(call);
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
