//! Opening the state on disk: verify it whole, or set it aside and build it again.
//!
//! ```text
//! data_dir/state/               sled
//! data_dir/state.broken         mark: do not open it, damage was met while running
//! data_dir/state.damaged-<n>/   set aside, the latest few
//! data_dir/snapshots/           see snapshot.rs
//! ```
//! sled answers some damage with a panic, and may answer it by never returning: it is opened and
//! read on a thread of its own, which is given up after a while. Nothing is ever repaired in place,
//! and nothing is set aside because someone else holds the lock.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use tidings_core::message::{Epoch, Offset};
use tracing::{info, warn};

use super::index::{Index, Place, RetainedTotal};
use super::overlay::Layer;
use super::record::StateRecord;
use super::sled_state::{Disk, Live, SledState};
use super::snapshot;
use super::store::{Ledger, Store, StoreError, sync_directory};

const VIEW: &str = "state";
const MARK: &str = "state.broken";
const ASIDE_PREFIX: &str = "state.damaged-";
const SNAPSHOTS: &str = "snapshots";

/// Damaged views that are kept to be looked at: the latest, and the one before it.
const KEEP_ASIDE: usize = 2;

/// How long the lock may be held by a handle that is just being dropped.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);
const LOCK_RETRY: Duration = Duration::from_millis(10);

/// After so long without a sign of life, and the time to read the file at a slow disk's pace,
/// opening counts as hanging. Generous, as a busy disk must not look like it.
const OPEN_PATIENCE: Duration = Duration::from_secs(30);
const SLOW_BYTES_PER_S: u64 = 4 << 20;

/// Records between two signs of life while verifying.
const SIGN_EVERY_RECORDS: u64 = 1024;

/// Default of [`Options::cache_bytes`]: holds the records of some 100,000 sessions.
const DEFAULT_CACHE_BYTES: u64 = 64 << 20;

/// What [`SledState::open`] must know of the journal.
#[derive(Clone, Debug)]
pub struct Options {
    /// Identity of the journal.
    pub epoch: Epoch,
    /// The first offset from which the journal can be applied.
    pub journal_start: Offset,
    /// The offset after the last entry of the journal.
    pub journal_end: Offset,
    /// Memory for sled's page cache.
    pub cache_bytes: u64,
}

impl Options {
    /// For a journal that holds `start..end`.
    pub fn new(epoch: Epoch, journal_start: Offset, journal_end: Offset) -> Self {
        Self {
            epoch,
            journal_start,
            journal_end,
            cache_bytes: DEFAULT_CACHE_BYTES,
        }
    }
}

/// A view that was not used, and where it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetAside {
    /// What was wrong.
    pub reason: String,
    /// Where it was moved to.
    pub path: PathBuf,
}

/// What opening found and did.
#[derive(Clone, Debug)]
pub struct OpenReport {
    /// The journal must be applied from here.
    pub applied: Offset,
    /// Number of records that were verified or written.
    pub records: u64,
    /// Time it took.
    pub took: Duration,
    /// The view that was there, if it could not be used.
    pub set_aside: Option<SetAside>,
    /// The snapshot from which the view was built anew, if so.
    pub rebuilt_from: Option<PathBuf>,
}

/// Why there is no state.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The disk failed.
    #[error("the state on disk cannot be opened: {0}")]
    Io(#[from] io::Error),
    /// Another process uses it.
    #[error("the state on disk is locked by another process")]
    Locked,
    /// The view is gone or damaged and the journal does not go back far enough to do without.
    #[error(
        "the state must be built anew, but the journal begins at offset {journal_start} and there \
         is no whole snapshot at or after it"
    )]
    NothingToBuildFrom {
        /// The first offset that the journal can give.
        journal_start: Offset,
    },
}

/// A view that is open and whole.
struct Opened {
    store: Store,
    ledger: Ledger,
    index: Index,
    retained: RetainedTotal,
}

impl SledState {
    /// Opens the view in `data_dir` and verifies all of it; sets a damaged one aside, with a
    /// warning, and builds it from the newest whole snapshot. The caller then applies the journal
    /// from [`OpenReport::applied`] on.
    ///
    /// # Errors
    /// [`OpenError`]; a damaged view alone is none.
    pub fn open(data_dir: &Path, options: &Options) -> Result<(Self, OpenReport), OpenError> {
        let began = Instant::now();
        fs::create_dir_all(data_dir)?;
        let view = data_dir.join(VIEW);
        let snapshots = data_dir.join(SNAPSHOTS);
        let mark = data_dir.join(MARK);
        snapshot::remove_past(&snapshots, options.epoch, options.journal_end)?;

        let (usable, set_aside) = match find_view(&view, &mark, options)? {
            View::Whole(opened) => (Some(*opened), None),
            View::Absent => (None, None),
            View::Unusable(reason) => {
                let path = set_view_aside(data_dir, &view)?;
                warn!(%reason, path = %path.display(), "the state on disk cannot be used: set aside");
                (None, Some(SetAside { reason, path }))
            }
        };
        // Only now: a crash before this point must not forget it.
        remove_if_there(&mark)?;
        let (opened, rebuilt_from) = match usable {
            Some(opened) => (opened, None),
            None => build(&view, &snapshots, options)?,
        };
        sync_directory(data_dir)?;
        let report = OpenReport {
            applied: opened.ledger.applied,
            records: opened.ledger.count,
            took: began.elapsed(),
            set_aside,
            rebuilt_from,
        };
        let live = Live {
            applied: opened.ledger.applied,
            index: opened.index,
            active: Layer::default(),
            frozen: None,
        };
        let disk = Disk {
            store: opened.store,
            mark,
        };
        let (ledger, retained) = (opened.ledger, opened.retained);
        let state = Self::new(disk, ledger, live, retained, snapshots, options.epoch);
        Ok((state, report))
    }

    /// Where the snapshots of a data directory are, for [`rebuild_in_memory`](super::rebuild_in_memory).
    pub fn snapshots_in(data_dir: &Path) -> PathBuf {
        data_dir.join(SNAPSHOTS)
    }
}

enum View {
    Whole(Box<Opened>),
    Absent,
    Unusable(String),
}

fn find_view(view: &Path, mark: &Path, options: &Options) -> Result<View, OpenError> {
    if !view.try_exists()? {
        return Ok(View::Absent);
    }
    if mark.try_exists()? {
        return Ok(View::Unusable("damage was met while running".to_owned()));
    }
    let opened = match open_verified(view, options) {
        Ok(opened) => opened,
        Err(StoreError::Locked) => return Err(OpenError::Locked),
        Err(error) => return Ok(View::Unusable(error.to_string())),
    };
    let applied = opened.ledger.applied;
    let (start, end) = (options.journal_start, options.journal_end);
    Ok(if applied > end {
        View::Unusable(format!(
            "it stands at offset {applied}, past the journal's end {end}"
        ))
    } else if applied < start {
        View::Unusable(format!(
            "it stands at offset {applied}, before the journal's start {start}"
        ))
    } else {
        View::Whole(Box::new(opened))
    })
}

/// Opens and verifies on a thread of its own, and gives up on one that hangs.
fn open_verified(view: &Path, options: &Options) -> Result<Opened, StoreError> {
    enum Sign {
        Alive,
        Done(Box<Result<Opened, StoreError>>),
    }
    let bytes = fs::metadata(view.join("db")).map_or(0, |metadata| metadata.len());
    let patience = OPEN_PATIENCE + Duration::from_secs(bytes / SLOW_BYTES_PER_S);
    let (signs, received) = mpsc::channel();
    let path = view.to_owned();
    let options = options.clone();
    thread::Builder::new()
        .name("state-open".to_owned())
        .spawn(move || {
            let mut records = 0;
            let opened = open_when_unlocked(&path, &options).and_then(|store| {
                let mut index = Index::default();
                let mut retained = RetainedTotal::default();
                let ledger = store.verify(|record| {
                    index_record(&mut index, &mut retained, &record);
                    records += 1;
                    if records % SIGN_EVERY_RECORDS == 0 {
                        // Nobody listens any more after the patience ended.
                        let _ = signs.send(Sign::Alive);
                    }
                })?;
                Ok(Opened {
                    store,
                    ledger,
                    index,
                    retained,
                })
            });
            let _ = signs.send(Sign::Done(Box::new(opened)));
        })?;
    loop {
        match received.recv_timeout(patience) {
            Ok(Sign::Alive) => {}
            Ok(Sign::Done(opened)) => return *opened,
            Err(RecvTimeoutError::Timeout) => {
                let text = format!("no answer for {} s", patience.as_secs());
                return Err(StoreError::Panicked(text));
            }
            Err(RecvTimeoutError::Disconnected) => {
                return Err(StoreError::Panicked("the thread ended".to_owned()));
            }
        }
    }
}

fn open_when_unlocked(path: &Path, options: &Options) -> Result<Store, StoreError> {
    let deadline = Instant::now() + LOCK_PATIENCE;
    loop {
        match Store::open(path, options.epoch, options.cache_bytes) {
            Err(StoreError::Locked) if Instant::now() < deadline => thread::sleep(LOCK_RETRY),
            opened => return opened,
        }
    }
}

fn index_record(index: &mut Index, retained: &mut RetainedTotal, record: &StateRecord) {
    match record {
        StateRecord::Session(client_id, session) => {
            index.session_moved(client_id, None, Some(Place::of(session)));
        }
        StateRecord::Group(_, group) => index.position_moved(None, Some(group.position())),
        StateRecord::Retained(set) => retained.changed(None, Some(set)),
        StateRecord::Head(..) | StateRecord::Account(..) | StateRecord::Change(..) => {}
    }
}

/// Writes a new view from the newest whole snapshot, or an empty one.
fn build(
    view: &Path,
    snapshots: &Path,
    options: &Options,
) -> Result<(Opened, Option<PathBuf>), OpenError> {
    let found = snapshot::load_newest(snapshots, options.epoch, options.journal_end)?;
    let applied = found.as_ref().map_or(Offset(0), |found| found.applied);
    if applied < options.journal_start {
        return Err(OpenError::NothingToBuildFrom {
            journal_start: options.journal_start,
        });
    }
    let store = Store::open(view, options.epoch, options.cache_bytes).map_err(io::Error::from)?;
    let mut index = Index::default();
    let mut retained = RetainedTotal::default();
    let records: Box<dyn Iterator<Item = _>> = match &found {
        Some(found) => Box::new(found.records(options.epoch)?),
        None => Box::new(std::iter::empty()),
    };
    let ledger = store
        .fill(applied, records, |record| {
            index_record(&mut index, &mut retained, record);
        })
        .map_err(io::Error::from)?;
    let opened = Opened {
        store,
        ledger,
        index,
        retained,
    };
    let rebuilt_from = found.map(|found| found.path);
    if let Some(path) = &rebuilt_from {
        info!(path = %path.display(), %applied, "the state on disk was built from a snapshot");
    }
    Ok((opened, rebuilt_from))
}

fn set_view_aside(data_dir: &Path, view: &Path) -> io::Result<PathBuf> {
    let mut aside: Vec<(u64, PathBuf)> = Vec::new();
    for entry in fs::read_dir(data_dir)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        if let Some(n) = name.and_then(|name| name.strip_prefix(ASIDE_PREFIX)?.parse().ok()) {
            aside.push((n, path));
        }
    }
    aside.sort();
    let n = aside.last().map_or(1, |(n, _)| n + 1);
    let target = data_dir.join(format!("{ASIDE_PREFIX}{n}"));
    fs::rename(view, &target)?;
    let old = (aside.len() + 1).saturating_sub(KEEP_ASIDE);
    for (_, path) in aside.into_iter().take(old) {
        if path.is_dir() {
            fs::remove_dir_all(path)?;
        } else {
            fs::remove_file(path)?;
        }
    }
    sync_directory(data_dir)?;
    Ok(target)
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
