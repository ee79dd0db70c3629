//! The thread that writes the journal: everything that arrived while the last batch was written
//! becomes the next one.
//!
//! Invariants: batches reach the sink in order, each once, after it and all before it are as durable
//! as configured;
//! after a failure the sink hears so once, and nothing after it. Handing over never blocks: who
//! hands over looks at [`JournalHandle::queued_bytes`] and stops reading from its clients in time.
//! Work that may wait (preparing and sealing segments, trimming) has threads of its own. What the
//! sink does with a batch is none of its business; while the sink works the next batch gathers.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tidings_core::histogram::Histogram;
use tidings_core::journal::{Append, Batch, ReadError, Record};

use super::pipeline::{DEPTH, Done, Pace, Syncers};
use super::retention::Retention;
use super::segments::{self, Chore, JournalError, SegmentJournal, TrimReport, Writer, Written};
use crate::priority;

/// What an append weighs besides its topic and payload, roughly.
const APPEND_BYTES: usize = 128;

/// When a batch comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// After it is durable.
    Fsync,
    /// After it is written; it is durable at most so much later.
    Interval(Duration),
}

/// How the thread works.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// When a batch comes back.
    pub durability: Durability,
    /// Bytes after which a batch takes no more: bounds its memory and how long others wait. What
    /// was handed over together stays together.
    pub batch_max_bytes: usize,
}

impl Default for Options {
    /// 8 MiB: on a common disk some ten milliseconds.
    fn default() -> Self {
        Self {
            durability: Durability::Fsync,
            batch_max_bytes: 8 * 1024 * 1024,
        }
    }
}

/// What the sink gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Commit {
    /// A batch came back.
    Batch(Arc<Batch>),
    /// The disk failed: nothing comes back any more until the journal is opened anew.
    Poisoned(String),
}

/// Called on the journal's thread with everything that comes back, in order.
pub type Sink = Box<dyn FnMut(Commit) + Send>;

/// Called on the trimming thread when a [`JournalHandle::trim`] is done.
pub type TrimDone = Box<dyn FnOnce(Result<TrimReport, ReadError>) + Send>;

/// Starts the thread.
#[derive(Debug)]
pub struct JournalThread;

/// The way to the thread. Clones lead to the same one.
#[derive(Clone)]
pub struct JournalHandle {
    mailbox: Arc<Mailbox>,
    journal: Arc<SegmentJournal>,
    trims: Arc<Mutex<Option<Sender<TrimJob>>>>,
    threads: Arc<Mutex<Vec<JoinHandle<()>>>>,
}

type TrimJob = (Retention, TrimDone);

#[derive(Default)]
struct Mailbox {
    queue: Mutex<Queue>,
    arrived: Condvar,
    queued_bytes: AtomicUsize,
    batches: AtomicU64,
    entries: AtomicU64,
    figures: Mutex<Figures>,
}

/// What group commits were like, since the start.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    /// Microseconds from the end of a write until the disk had it.
    pub sync_us: Histogram,
    /// Entries of a group commit.
    pub batch_entries: Histogram,
    /// Bytes of a group commit, roughly.
    pub batch_bytes: Histogram,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Handover>,
    /// Syncs that are done, by number.
    synced: Vec<(u64, io::Result<()>)>,
    /// The thread sleeps and wants to be woken.
    asleep: bool,
    stopping: bool,
    /// The thread is gone, or the journal poisoned: nothing more is taken.
    closed: bool,
}

/// What one caller handed over together.
struct Handover {
    appends: Vec<Append>,
    bytes: usize,
}

enum Next {
    Work(Vec<Handover>),
    /// Syncs beside this thread are done.
    Synced(Vec<(u64, io::Result<()>)>),
    /// Time for a sync.
    Tick,
    Stop,
}

impl JournalThread {
    /// Starts the writer's thread and its two assistants.
    ///
    /// # Errors
    /// If the operating system gives no thread.
    pub fn spawn(mut writer: Writer, options: Options, sink: Sink) -> io::Result<JournalHandle> {
        writer.set_durability(match options.durability {
            Durability::Fsync => segments::Durability::Fsync,
            Durability::Interval(_) => segments::Durability::Interval,
        });
        let journal = writer.journal().clone();
        let mailbox = Arc::<Mailbox>::default();
        let (chores, to_do) = channel();
        let (trims, to_trim) = channel();
        let mut threads = Vec::new();
        let mut spawn = |name: &str, run: Box<dyn FnOnce() + Send>| {
            threads.push(
                std::thread::Builder::new()
                    .name(name.to_owned())
                    .spawn(run)?,
            );
            io::Result::Ok(())
        };
        let work = move || {
            priority::go_last();
            to_do.iter().for_each(Chore::run);
        };
        spawn("journal-chores", Box::new(work))?;
        let trimmed = journal.clone();
        let work = move || {
            priority::go_last();
            trim_all(&trimmed, &to_trim);
        };
        spawn("journal-trim", Box::new(work))?;
        let reply = mailbox.clone();
        let done: Done = Arc::new(move |number, result| reply.synced(number, result));
        let worker = Worker {
            writer,
            options,
            sink,
            mailbox: mailbox.clone(),
            chores,
            syncers: Some(Syncers::start(&done)?),
            pace: Pace::default(),
            under_way: VecDeque::new(),
            last_number: 0,
        };
        let work = move || {
            priority::ask_for_short_slices();
            worker.run();
        };
        spawn("journal", Box::new(work))?;
        Ok(JournalHandle {
            mailbox,
            journal,
            trims: Arc::new(Mutex::new(Some(trims))),
            threads: Arc::new(Mutex::new(threads)),
        })
    }
}

impl JournalHandle {
    /// Hands over what is to be durable together. Never blocks. After a failure, or after
    /// [`JournalHandle::stop`], it is dropped: nobody gets it back.
    pub fn append(&self, appends: Vec<Append>) {
        if appends.is_empty() {
            return;
        }
        let bytes = appends.iter().map(weight).sum();
        let mut queue = self.mailbox.queue();
        if queue.closed || queue.stopping {
            return;
        }
        self.mailbox
            .queued_bytes
            .fetch_add(bytes, Ordering::Relaxed);
        queue.waiting.push_back(Handover { appends, bytes });
        self.mailbox.wake(queue);
    }

    /// Bytes that were handed over and did not come back yet.
    pub fn queued_bytes(&self) -> usize {
        self.mailbox.queued_bytes.load(Ordering::Relaxed)
    }

    /// Batches and entries that came back so far.
    pub fn committed(&self) -> (u64, u64) {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (read(&self.mailbox.batches), read(&self.mailbox.entries))
    }

    /// What group commits were like so far.
    pub fn figures(&self) -> Figures {
        lock(&self.mailbox.figures).clone()
    }

    /// The reading side.
    pub fn journal(&self) -> &Arc<SegmentJournal> {
        &self.journal
    }

    /// Trims in the background; one trim after the other.
    pub fn trim(&self, retention: Retention, done: TrimDone) {
        if let Some(trims) = &*lock(&self.trims) {
            // The thread ends only after the sender is gone.
            let _ = trims.send((retention, done));
        }
    }

    /// Takes nothing more, writes and syncs what was handed over, and returns when the threads
    /// have ended and the directory is free. Must not be called from the sink.
    pub fn stop(&self) {
        self.mailbox.queue().stopping = true;
        self.mailbox.arrived.notify_one();
        self.journal.stop_trimming();
        drop(lock(&self.trims).take());
        for thread in std::mem::take(&mut *lock(&self.threads)) {
            let name = thread.thread().name().unwrap_or("journal").to_owned();
            if thread.join().is_err() {
                tracing::error!(thread = %name, "a thread of the journal panicked");
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One batch of what was handed over, and its bytes.
fn together(gathered: Vec<Handover>) -> (Vec<Append>, usize) {
    let bytes = gathered.iter().map(|one| one.bytes).sum();
    let mut all = gathered.into_iter().map(|one| one.appends);
    let mut appends = all.next().unwrap_or_default();
    all.for_each(|more| appends.extend(more));
    (appends, bytes)
}

fn weight(append: &Append) -> usize {
    APPEND_BYTES
        + match &append.record {
            Record::Published(p) => p.message.topic.len() + p.message.payload.len(),
            Record::Session { .. } | Record::Group { .. } | Record::Account { .. } => 0,
        }
}

fn trim_all(journal: &SegmentJournal, jobs: &Receiver<TrimJob>) {
    for (retention, done) in jobs {
        done(journal.trim(&retention));
    }
}

impl Mailbox {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        lock(&self.queue)
    }

    fn synced(&self, number: u64, result: io::Result<()>) {
        let mut queue = self.queue();
        queue.synced.push((number, result));
        self.wake(queue);
    }

    /// Wakes the thread if it sleeps, and not before it can look: it might have the core at once.
    fn wake(&self, mut queue: MutexGuard<'_, Queue>) {
        let is_asleep = std::mem::take(&mut queue.asleep);
        drop(queue);
        if is_asleep {
            self.arrived.notify_one();
        }
    }

    /// Waits for work, if more `may_begin`, or for the syncs `under_way`, at most until `deadline`.
    fn next(
        &self,
        max_bytes: usize,
        deadline: Option<Instant>,
        may_begin: bool,
        under_way: bool,
    ) -> Next {
        let mut queue = self.queue();
        loop {
            if !queue.synced.is_empty() {
                return Next::Synced(std::mem::take(&mut queue.synced));
            }
            if may_begin && !queue.waiting.is_empty() {
                let gathered = queue.gather(max_bytes);
                drop(queue);
                return Next::Work(gathered);
            }
            if queue.stopping && !under_way {
                queue.closed = true;
                return Next::Stop;
            }
            queue.asleep = true;
            queue = match deadline {
                None => self
                    .arrived
                    .wait(queue)
                    .unwrap_or_else(PoisonError::into_inner),
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return Next::Tick;
                    }
                    let woken = self.arrived.wait_timeout(queue, left);
                    woken.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    fn close(&self) {
        let mut queue = self.queue();
        queue.closed = true;
        queue.waiting.clear();
        self.queued_bytes.store(0, Ordering::Relaxed);
    }
}

impl Queue {
    /// What fits into a batch; the first in any case.
    fn gather(&mut self, max_bytes: usize) -> Vec<Handover> {
        let mut bytes = 0;
        let fits = |next: &&Handover| {
            let is_first = bytes == 0;
            bytes += next.bytes;
            is_first || bytes <= max_bytes
        };
        let count = self.waiting.iter().take_while(fits).count();
        self.waiting.drain(..count).collect()
    }
}

struct Worker {
    writer: Writer,
    options: Options,
    sink: Sink,
    mailbox: Arc<Mailbox>,
    chores: Sender<Chore>,
    syncers: Option<Syncers>,
    pace: Pace,
    /// Batches that were written, oldest first.
    under_way: VecDeque<UnderWay>,
    last_number: u64,
}

/// A batch whose sync was begun beside this thread.
struct UnderWay {
    number: u64,
    written: Written,
    bytes: usize,
    began: Instant,
    /// What the disk said.
    synced: Option<io::Result<()>>,
}

impl Drop for Worker {
    /// Also if the sink panicked: then nothing may pile up in the mailbox.
    fn drop(&mut self) {
        self.mailbox.close();
        if let Some(syncers) = self.syncers.take() {
            syncers.stop();
        }
    }
}

impl Worker {
    fn run(mut self) {
        if let Err(error) = self.work() {
            tracing::error!(%error, "nothing is acknowledged any more; restart to recover");
            self.mailbox.close();
            (self.sink)(Commit::Poisoned(match error {
                JournalError::Poisoned { cause } => cause,
                error @ JournalError::TooLarge { .. } => error.to_string(),
            }));
        }
    }

    fn work(&mut self) -> Result<(), JournalError> {
        let mut sync_at = None;
        loop {
            let under_way = self.under_way.len();
            let may_begin =
                under_way == 0 || (under_way < DEPTH && !self.writer.is_at_end_of_segment());
            let max_bytes = self.options.batch_max_bytes;
            match self
                .mailbox
                .next(max_bytes, sync_at, may_begin, under_way > 0)
            {
                Next::Synced(synced) => self.finish_synced(synced)?,
                Next::Work(gathered) => {
                    let (appends, bytes) = together(gathered);
                    self.begin(appends, bytes)?;
                    if let Durability::Interval(interval) = self.options.durability {
                        sync_at.get_or_insert_with(|| Instant::now() + interval);
                    }
                }
                Next::Tick => {}
                Next::Stop => return self.writer.sync(),
            }
            if sync_at.is_some_and(|at| at <= Instant::now()) {
                self.writer.sync()?;
                sync_at = None;
            }
            while let Some(chore) = self.writer.next_chore() {
                // Who takes the chores ends after this.
                let _ = self.chores.send(chore);
            }
        }
    }

    /// Commits a batch, or only begins it if the disk is slow.
    fn begin(&mut self, appends: Vec<Append>, bytes: usize) -> Result<(), JournalError> {
        let syncs = self.options.durability == Durability::Fsync;
        if !syncs {
            let batch = self.writer.commit(appends)?;
            self.came_back(batch, bytes);
            return Ok(());
        }
        let written = self.writer.begin(appends)?;
        let began = Instant::now();
        if let Some(syncers) = &self.syncers
            && (self.pace.is_slow() || !self.under_way.is_empty())
        {
            self.last_number += 1;
            syncers.begin(self.last_number, written.sync_later());
            self.under_way.push_back(UnderWay {
                number: self.last_number,
                written,
                bytes,
                began,
                synced: None,
            });
            return Ok(());
        }
        let synced = written.sync();
        self.synced_in(began.elapsed());
        let batch = self.writer.finish(written, synced)?;
        self.came_back(batch, bytes);
        Ok(())
    }

    /// Hands on what is durable, in order: a batch waits for those before it.
    fn finish_synced(&mut self, synced: Vec<(u64, io::Result<()>)>) -> Result<(), JournalError> {
        for (number, result) in synced {
            if let Some(one) = self.under_way.iter_mut().find(|one| one.number == number) {
                let time = one.began.elapsed();
                one.synced = Some(result);
                self.synced_in(time);
            }
        }
        while let Some(oldest) = self.under_way.pop_front() {
            let Some(result) = oldest.synced else {
                self.under_way.push_front(oldest);
                return Ok(());
            };
            let batch = self.writer.finish(oldest.written, result)?;
            self.came_back(batch, oldest.bytes);
        }
        Ok(())
    }

    fn synced_in(&mut self, time: Duration) {
        self.pace.took(time);
        let time_us = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        lock(&self.mailbox.figures).sync_us.record(time_us);
    }

    fn came_back(&mut self, batch: Arc<Batch>, bytes: usize) {
        {
            let mut figures = lock(&self.mailbox.figures);
            figures.batch_entries.record(batch.entries.len() as u64);
            figures.batch_bytes.record(bytes as u64);
        }
        self.mailbox
            .queued_bytes
            .fetch_sub(bytes, Ordering::Relaxed);
        self.mailbox.batches.fetch_add(1, Ordering::Relaxed);
        self.mailbox
            .entries
            .fetch_add(batch.entries.len() as u64, Ordering::Relaxed);
        (self.sink)(Commit::Batch(batch));
    }
}

#[cfg(test)]
#[path = "thread_tests.rs"]
mod tests;
