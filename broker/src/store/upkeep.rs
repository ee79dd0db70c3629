//! Keeping the store small and quick to open: checkpoints of the state, snapshots, and trimming of
//! the journal, on a thread of their own.
//!
//! A checkpoint bounds what is in memory and what a start replays. A snapshot lets the journal
//! go. Trimming gives disk space back: behind the snapshot, and behind everyone who still reads,
//! unless they are further behind than the backlog may be.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use tidings_bridge::journal::retention::Retention;
use tidings_bridge::journal::segments::SegmentJournal;
use tidings_bridge::journal::thread::JournalHandle;
use tidings_bridge::priority;
use tidings_bridge::state::{SledState, snapshot};
use tidings_core::journal::Journal;
use tidings_core::message::{Offset, Seq};
use tidings_core::state::State;
use tidings_core::topic::ReplayFrom;
use tracing::{debug, error, warn};

use super::{FailureSink, Options};
use crate::clock::Clock;
use crate::rulebook::Rulebook;

/// How often the thread looks what is due.
const LOOK: Duration = Duration::from_secs(1);

/// Changed records in memory after which a checkpoint is due: some tens of megabytes.
const CHECKPOINT_RECORDS: usize = 50_000;

/// A checkpoint is due after so long in any case, so that a start has little to replay.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(10);

/// Between two trims: what is kept by age is kept by days.
const TRIM_EVERY: Duration = Duration::from_secs(60);

/// The first offset that a connected session still reads; `None`: there are no shards.
pub type LowestReader = Box<dyn Fn() -> Option<Offset> + Send>;

/// The thread.
pub(super) struct Upkeep {
    stop: mpsc::Sender<()>,
    thread: thread::JoinHandle<()>,
}

/// What it works on.
pub(super) struct Work {
    pub options: Options,
    pub rules: Arc<Rulebook>,
    pub handle: JournalHandle,
    pub journal: Arc<SegmentJournal>,
    pub state: Arc<SledState>,
    pub failed: FailureSink,
    pub written: Arc<AtomicU64>,
    pub clock: Clock,
    pub readers: LowestReader,
    /// Messages went, and what is known of their edits, recalls and reactions is to go.
    pub trimmed: Arc<AtomicBool>,
}

/// When things were done last.
struct Last {
    checkpoint: Instant,
    trim: Instant,
    snapshot_entries: u64,
    snapshot_bytes: u64,
    /// The journal before it is not needed to build the state.
    needed_from: Offset,
}

impl Upkeep {
    pub fn start(work: Work) -> io::Result<Self> {
        let (stop, stopped) = mpsc::channel();
        let thread = thread::Builder::new()
            .name("upkeep".to_owned())
            .spawn(move || {
                priority::go_last();
                work.run(&stopped);
            })?;
        Ok(Self { stop, thread })
    }

    /// Ends the thread, after what it is doing.
    pub fn stop(self) {
        drop(self.stop);
        if self.thread.join().is_err() {
            error!("the upkeep of the store panicked");
        }
    }
}

impl Work {
    fn run(self, stopped: &mpsc::Receiver<()>) {
        let now = Instant::now();
        let mut last = Last {
            checkpoint: now,
            trim: now,
            snapshot_entries: self.newest_snapshot().0,
            snapshot_bytes: 0,
            // What is needed is known after the next snapshot; until then nothing is trimmed.
            needed_from: Offset(0),
        };
        while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(LOOK) {
            if let Err(cause) = self.look(&mut last) {
                error!(error = %cause, "the state cannot be written: restart the broker");
                (self.failed)(cause.to_string().into());
                return;
            }
        }
    }

    fn newest_snapshot(&self) -> Offset {
        let snapshots = SledState::snapshots_in(&self.options.data_dir);
        let newest = snapshot::load_newest(&snapshots, self.journal.epoch(), self.journal.end());
        newest
            .ok()
            .flatten()
            .map_or(Offset(0), |newest| newest.applied)
    }

    fn look(&self, last: &mut Last) -> io::Result<()> {
        let (entries, bytes) = (self.journal.end().0, self.written.load(Relaxed));
        let is_snapshot_due = entries.saturating_sub(last.snapshot_entries)
            >= self.options.snapshot_every_entries
            || bytes.saturating_sub(last.snapshot_bytes) >= self.options.snapshot_every_bytes;
        if is_snapshot_due {
            let began = Instant::now();
            last.needed_from = self.state.snapshot()?;
            (last.snapshot_entries, last.snapshot_bytes) = (entries, bytes);
            last.checkpoint = Instant::now();
            debug!(
                took_ms = began.elapsed().as_millis() as u64,
                "snapshot of the state"
            );
        } else if self.state.pending_records() >= CHECKPOINT_RECORDS
            || last.checkpoint.elapsed() >= CHECKPOINT_EVERY
        {
            self.state.checkpoint()?;
            last.checkpoint = Instant::now();
        }
        if self.trimmed.swap(false, Relaxed) {
            self.forget_changes();
        }
        if is_snapshot_due || last.trim.elapsed() >= TRIM_EVERY {
            last.trim = Instant::now();
            self.trim(last.needed_from);
        }
        Ok(())
    }

    /// What became of messages that are gone is of no use.
    fn forget_changes(&self) {
        let mut first = |stream: &str| {
            let found = self.journal.history(stream, Seq(1), 1).ok()?;
            let left = found.first().map(|entry| entry.published.seq);
            Some(left.unwrap_or_else(|| Seq(self.state.stream_head(stream).0 + 1)))
        };
        let forgotten = self.state.forget_changes(&mut first);
        if forgotten > 0 {
            debug!(forgotten, "changes of messages that were trimmed");
        }
    }

    fn trim(&self, snapshot: Offset) {
        let now = self.clock.careful_unix_ms();
        // In this order: a reader that becomes a session meanwhile is in one of the two.
        let readers = (self.readers)().unwrap_or_default();
        let sessions = self.state.lowest_position().unwrap_or(Offset(u64::MAX));
        let needed = readers.min(sessions).min(self.journal.end());
        let rules = self.rules.current();
        let retention = Retention {
            keep_from: needed.max(self.too_old(now)),
            snapshot,
            now,
            history: Arc::new(move |topic| rules.decide(topic).keep.copied()),
            max_backlog_bytes: Some(self.options.backlog_max_bytes),
        };
        let trimmed = self.trimmed.clone();
        self.handle.trim(
            retention,
            Box::new(move |done| match done {
                Ok(report) if report.removed + report.compacted > 0 => {
                    trimmed.store(true, Relaxed);
                    debug!(start = %report.start, freed_bytes = report.freed_bytes, "trimmed the journal");
                }
                Ok(_) => {}
                Err(error) => warn!(%error, "the journal cannot be trimmed"),
            }),
        );
    }

    /// The first offset that is not older than the backlog may be.
    fn too_old(&self, now: u64) -> Offset {
        let age = u64::try_from(self.options.backlog_max_age.as_millis()).unwrap_or(u64::MAX);
        let oldest = ReplayFrom::Ts(now.saturating_sub(age));
        match self.journal.locate("#", oldest) {
            Ok(offset) => offset.min(self.journal.end()),
            Err(error) => {
                warn!(%error, "the age of the backlog cannot be seen");
                Offset(0)
            }
        }
    }
}
