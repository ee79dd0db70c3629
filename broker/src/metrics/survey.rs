//! What can only be known by looking at everything that is stored: sessions that wait, and the disk. Looked
//! at when somebody asks, and then not again for a while.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::fs::statvfs;
use tidings_core::message::Offset;
use tidings_core::state::State;

/// How old an answer may be: with a hundred thousand sessions a look takes some tenths of a second.
const FRESH: Duration = Duration::from_secs(10);

/// What was found.
#[derive(Clone, Debug, Default)]
pub(crate) struct Survey {
    /// Sessions with a record.
    pub persistent_sessions: u64,
    /// Of these, those whose client is away.
    pub offline_sessions: u64,
    /// First offset that a session or a shared subscription with a record needs.
    pub lowest_position: Option<Offset>,
    /// Bytes that the data directory's file system has left for this user.
    pub disk_free_bytes: u64,
    /// Bytes of that file system.
    pub disk_bytes: u64,
}

/// Looks, and remembers what it saw.
pub(crate) struct Surveyor {
    state: Arc<dyn State>,
    data_dir: PathBuf,
    last: Mutex<Option<(Instant, Survey)>>,
}

impl Surveyor {
    pub fn new(state: Arc<dyn State>, data_dir: PathBuf) -> Self {
        Self {
            state,
            data_dir,
            last: Mutex::default(),
        }
    }

    /// What is so, or was a short time ago. May take long: not for a thread that serves others.
    pub fn survey(&self) -> Survey {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, survey)) = &*last
            && at.elapsed() < FRESH
        {
            return survey.clone();
        }
        let mut survey = Survey {
            lowest_position: self.state.lowest_position(),
            ..Survey::default()
        };
        self.state.for_each_session(&mut |_, record| {
            survey.persistent_sessions += 1;
            survey.offline_sessions += u64::from(record.closed_at.is_some());
        });
        if let Ok(disk) = statvfs(&self.data_dir) {
            survey.disk_free_bytes = disk.f_bavail.saturating_mul(disk.f_frsize);
            survey.disk_bytes = disk.f_blocks.saturating_mul(disk.f_frsize);
        }
        *last = Some((Instant::now(), survey.clone()));
        survey
    }
}
