//! The names of messages (`cid`) as all shards see them: one table behind one lock.
//!
//! It is held for a look-up, and while the end of a stream is read from the journal when the stream is
//! first asked about; commits wait for it that long.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tidings_core::journal::{Batch, Journal, ReadError};
use tidings_core::messages::{CidTable, Claim, Known, Names};

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct SharedNames(Mutex<CidTable>);

impl SharedNames {
    /// Takes up what the journal has; before any shard sees it.
    pub fn committed(&self, batch: &Batch) {
        self.table().committed(batch);
    }

    // A panic under this lock leaves a table that is still true.
    fn table(&self) -> MutexGuard<'_, CidTable> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Names for SharedNames {
    fn look_up(&self, journal: &dyn Journal, claim: &Claim<'_>) -> Result<Known, ReadError> {
        self.table().look_up(journal, claim)
    }

    fn claim(&self, journal: &dyn Journal, claim: &Claim<'_>) -> Result<Known, ReadError> {
        self.table().claim(journal, claim)
    }
}
