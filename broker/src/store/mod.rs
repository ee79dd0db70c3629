//! The store: journal and state in the data directory, opened, recovered, written and kept small.
//!
//! ```text
//! data_dir/journal/    the only truth
//! data_dir/state/ ...  what it says, indexed; see `tidings_bridge::state`
//! ```
//! Invariants: a batch is applied to the state before any shard sees it; when the journal or the
//! state fails, the shards hear it once and nothing after it; the journal is trimmed only behind a
//! verified snapshot, and behind every reader.
//! It does not know what entries mean.

mod upkeep;

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tidings_bridge::journal::segments::fs::RealFs;
use tidings_bridge::journal::segments::{self, SegmentJournal, Writer};
use tidings_bridge::journal::thread::{
    self as journal_thread, Commit, JournalHandle, JournalThread,
};
use tidings_bridge::state::{self as bridge_state, SledState};
use tidings_core::journal::{Batch, Journal, ReadError, Record};
use tidings_core::message::{Epoch, Offset, Seq};
use tidings_core::state::State;
use tracing::{info, warn};

use crate::clock::Clock;
use crate::rulebook::Rulebook;
use crate::shard::AppendSink;

pub use tidings_bridge::journal::thread::Durability;
pub use upkeep::LowestReader;

/// The journal's directory in the data directory.
const JOURNAL: &str = "journal";

/// Records that recovery changes in memory before it writes them to disk: some hundred megabytes
/// at most.
const RECOVERY_RECORDS: usize = 200_000;

/// The journal's directory in a data directory.
pub fn journal_folder(data_dir: &Path) -> PathBuf {
    data_dir.join(JOURNAL)
}

/// How the store works.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where everything is; made if it does not exist.
    pub data_dir: PathBuf,
    /// What an acknowledgement means.
    pub durability: Durability,
    /// Bytes of a segment file.
    pub segment_bytes: u64,
    /// Bytes of one group commit.
    pub batch_max_bytes: usize,
    /// Bytes without history that wait for slow or absent sessions; the oldest go.
    pub backlog_max_bytes: u64,
    /// The same by age.
    pub backlog_max_age: Duration,
    /// Bytes of journal after which a snapshot is taken.
    pub snapshot_every_bytes: u64,
    /// Entries of journal after which a snapshot is taken.
    pub snapshot_every_entries: u64,
}

impl Options {
    /// The defaults, for a data directory.
    pub fn new(data_dir: PathBuf) -> Self {
        Self {
            data_dir,
            durability: Durability::Fsync,
            segment_bytes: 64 * 1024 * 1024,
            batch_max_bytes: 4 * 1024 * 1024,
            backlog_max_bytes: 1024 * 1024 * 1024,
            backlog_max_age: Duration::from_secs(30 * 24 * 60 * 60),
            snapshot_every_bytes: 256 * 1024 * 1024,
            snapshot_every_entries: 1_000_000,
        }
    }
}

/// Why the store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The directory cannot be made or read.
    #[error("the data directory {path} cannot be used: {source}")]
    Folder {
        /// The directory.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// There is a view of a journal, but no journal: to begin anew without a word would lose it.
    #[error(
        "{path} has a state but no journal, which holds the messages: put its journal/ back, or move \
         state/ and snapshots/ away to begin with nothing"
    )]
    JournalGone {
        /// The data directory.
        path: PathBuf,
    },
    /// The journal is in use, damaged, or of another version.
    #[error(transparent)]
    Journal(#[from] segments::OpenError),
    /// The state cannot be opened nor built.
    #[error(transparent)]
    State(#[from] bridge_state::OpenError),
    /// The journal cannot be applied to the state.
    #[error("recovery: {0}")]
    Replay(#[from] ReadError),
    /// A thread of the store did not start or end.
    #[error("the store: {0}")]
    Thread(#[from] io::Error),
}

/// A store that is open and recovered, and to which nothing is written yet.
pub(crate) struct Store {
    options: Options,
    rules: Arc<Rulebook>,
    writer: Writer,
    journal: Arc<SegmentJournal>,
    state: Arc<SledState>,
}

/// Who hears what comes back; called on the journal's thread, in order.
pub(crate) struct Sinks {
    pub committed: Box<dyn Fn(Arc<Batch>) + Send>,
    /// The store failed, with the cause.
    pub failed: FailureSink,
}

/// Hears that the store failed.
pub(crate) type FailureSink = Arc<dyn Fn(Arc<str>) + Send + Sync>;

/// What the store tells about itself in numbers.
#[derive(Clone, Debug)]
pub(crate) struct Figures {
    /// What group commits were like.
    pub commits: journal_thread::Figures,
    /// Bytes that were handed to the journal and did not come back yet.
    pub queued_bytes: u64,
    /// Segment files.
    pub segments: u64,
    /// Bytes of all entries in them.
    pub stored_bytes: u64,
    /// Bytes of the files, with what is preallocated.
    pub disk_bytes: u64,
}

/// Reads the figures as they are now.
pub(crate) type Probe = Arc<dyn Fn() -> Figures + Send + Sync>;

/// A store whose journal is written.
pub(crate) struct RunningStore {
    options: Options,
    rules: Arc<Rulebook>,
    handle: JournalHandle,
    journal: Arc<SegmentJournal>,
    state: Arc<SledState>,
    failed: FailureSink,
    /// Bytes that were committed, roughly; entries are counted by offsets.
    written: Arc<AtomicU64>,
    upkeep: Option<upkeep::Upkeep>,
}

impl Store {
    /// Opens journal and state, and brings the state up to date.
    ///
    /// # Errors
    /// [`StoreError`]: the directory is in use by another process, of a version that is not
    /// known, or damaged beyond what a crash explains.
    pub fn open(options: &Options, rules: &Arc<Rulebook>) -> Result<Self, StoreError> {
        let began = Instant::now();
        let data_dir = &options.data_dir;
        let folder = |source| StoreError::Folder {
            path: data_dir.clone(),
            source,
        };
        if data_dir.join("state").exists() && !journal_folder(data_dir).join("meta").exists() {
            return Err(StoreError::JournalGone {
                path: data_dir.clone(),
            });
        }
        let fs = Arc::new(RealFs::new(journal_folder(data_dir)).map_err(folder)?);
        let known: Arc<OnceLock<Arc<SledState>>> = Arc::default();
        let heads = known.clone();
        let (new_epoch, _) = uuid::Uuid::new_v4().as_u64_pair();
        let (writer, journal, recovery) = Writer::open(
            fs,
            segments::Options {
                segment_bytes: options.segment_bytes,
                ..segments::Options::new(Epoch(new_epoch))
            },
            Box::new(move |stream| {
                heads
                    .get()
                    .map_or(Seq(0), |state| state.stream_head(stream))
            }),
        )?;
        if let Some(torn) = &recovery.torn {
            warn!(
                torn,
                "the end of the journal was torn, as after a crash, and is cut off"
            );
        }
        let (state, report) = SledState::open(
            data_dir,
            &bridge_state::Options::new(journal.epoch(), journal.start(), journal.end()),
        )?;
        let state = Arc::new(state);
        recover(&journal, &state, report.applied)?;
        // Nothing was appended up to here, so no head was asked for too early.
        let _ = known.set(state.clone());
        info!(
            data_dir = %data_dir.display(),
            position = %journal.end(),
            replayed = journal.end().0 - report.applied.0.min(journal.end().0),
            took_ms = began.elapsed().as_millis() as u64,
            created = recovery.created,
            "recovered"
        );
        Ok(Self {
            options: options.clone(),
            rules: rules.clone(),
            writer,
            journal,
            state,
        })
    }

    /// Starts the journal's thread.
    ///
    /// # Errors
    /// If there is no thread to be had.
    pub fn start(self, sinks: Sinks) -> Result<RunningStore, StoreError> {
        let Self {
            options,
            rules,
            writer,
            journal,
            state,
        } = self;
        let written = Arc::new(AtomicU64::new(0));
        let failed = sinks.failed.clone();
        let sink = sink(sinks, state.clone(), written.clone());
        let thread = journal_thread::Options {
            durability: options.durability,
            batch_max_bytes: options.batch_max_bytes,
        };
        let handle = JournalThread::spawn(writer, thread, sink)?;
        Ok(RunningStore {
            options,
            rules,
            handle,
            journal,
            state,
            failed,
            written,
            upkeep: None,
        })
    }
}

/// Applies what the state does not know yet.
fn recover(journal: &SegmentJournal, state: &SledState, from: Offset) -> Result<(), ReadError> {
    if from >= journal.end() {
        return Ok(());
    }
    journal.replay(from, &mut |batch| {
        state.apply(&batch);
        if state.pending_records() > RECOVERY_RECORDS {
            state.checkpoint()?;
        }
        Ok(())
    })
}

/// What happens to each batch: first the state, then the shards.
fn sink(sinks: Sinks, state: Arc<SledState>, written: Arc<AtomicU64>) -> journal_thread::Sink {
    let mut has_failed = false;
    Box::new(move |commit| match commit {
        Commit::Batch(batch) if !has_failed => {
            written.fetch_add(
                batch
                    .entries
                    .iter()
                    .map(|(_, entry)| weight(&entry.record))
                    .sum(),
                Relaxed,
            );
            // The state panics if it meets damage; the shards must hear that nothing comes any more.
            if catch_unwind(AssertUnwindSafe(|| state.apply(&batch))).is_ok() {
                (sinks.committed)(batch);
            } else {
                has_failed = true;
                (sinks.failed)("the state cannot be read".into());
            }
        }
        Commit::Batch(_) => {}
        Commit::Poisoned(cause) => (sinks.failed)(cause.into()),
    })
}

/// Bytes of a record in the journal, roughly.
fn weight(record: &Record) -> u64 {
    // Offsets, lengths, the publisher, or a change of a session.
    const OTHERS: u64 = 64;
    match record {
        Record::Published(published) => {
            (published.message.topic.len() + published.message.payload.len()) as u64 + OTHERS
        }
        Record::Session { .. } | Record::Group { .. } | Record::Account { .. } => OTHERS,
    }
}

impl RunningStore {
    /// The reading side of the journal.
    pub fn journal(&self) -> Arc<dyn Journal> {
        self.journal.clone()
    }

    /// The state.
    pub fn state(&self) -> Arc<dyn State> {
        self.state.clone()
    }

    /// Where appends go.
    pub fn append_sink(&self) -> AppendSink {
        let handle = self.handle.clone();
        Arc::new(move |appends| handle.append(appends))
    }

    /// How figures of the store are read, also by others.
    pub fn probe(&self) -> Probe {
        let (handle, journal) = (self.handle.clone(), self.journal.clone());
        Arc::new(move || Figures {
            commits: handle.figures(),
            queued_bytes: handle.queued_bytes() as u64,
            segments: journal.segment_count(),
            stored_bytes: journal.stored_bytes(),
            disk_bytes: journal.disk_bytes(),
        })
    }

    /// Starts the thread that does checkpoints and snapshots, and trims.
    ///
    /// # Errors
    /// If there is no thread to be had.
    pub fn start_upkeep(&mut self, clock: Clock, readers: LowestReader) -> io::Result<()> {
        let work = upkeep::Work {
            options: self.options.clone(),
            rules: self.rules.clone(),
            handle: self.handle.clone(),
            journal: self.journal.clone(),
            state: self.state.clone(),
            failed: self.failed.clone(),
            written: self.written.clone(),
            clock,
            readers,
            trimmed: Arc::default(),
        };
        self.upkeep = Some(upkeep::Upkeep::start(work)?);
        Ok(())
    }

    /// Writes what was handed over, and ends all threads. The state is written too, so that the
    /// next start has nothing to replay.
    ///
    /// # Errors
    /// If the state cannot be written; the next start recovers.
    pub fn stop(mut self) -> io::Result<()> {
        if let Some(upkeep) = self.upkeep.take() {
            upkeep.stop();
        }
        self.handle.stop();
        self.state.checkpoint().map(|_| ())
    }
}
