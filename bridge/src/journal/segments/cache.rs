//! Sealed segments that were used lately: their indexes and open files, bounded by memory; and the
//! summaries of all.

use std::collections::HashMap;
use std::sync::Arc;

use tidings_core::message::Offset;

use super::fs::FsFile;
use super::index::SegmentIndex;
use super::summary::Summary;

/// Memory that the indexes of sealed segments may take: some ten segments of small messages, or
/// hundreds of large ones. One index is kept even if it alone is larger.
pub const SEALED_INDEX_CACHE_BYTES: usize = 64 * 1024 * 1024;
/// Most sealed segments that are open at once, for their file handles: who gives those to others leaves as many.
pub const SEALED_OPEN_MAX: usize = 128;

/// A sealed segment, ready to be read.
pub struct Loaded {
    pub index: SegmentIndex,
    pub file: Arc<dyn FsFile>,
    /// Of the header that was read: see [`super::frame::Header::generation`].
    pub generation: u32,
}

struct Slot {
    loaded: Arc<Loaded>,
    bytes: usize,
    used: u64,
}

/// Least recently used goes first.
#[derive(Default)]
pub struct IndexCache {
    slots: HashMap<Offset, Slot>,
    /// Of every segment that was loaded once: these stay.
    summaries: HashMap<Offset, Arc<Summary>>,
    bytes: usize,
    clock: u64,
}

impl IndexCache {
    pub fn get(&mut self, base: Offset) -> Option<Arc<Loaded>> {
        self.clock += 1;
        let slot = self.slots.get_mut(&base)?;
        slot.used = self.clock;
        Some(slot.loaded.clone())
    }

    pub fn summary(&self, base: Offset) -> Option<Arc<Summary>> {
        self.summaries.get(&base).cloned()
    }

    pub fn insert_summary(&mut self, base: Offset, summary: Summary) {
        self.summaries.insert(base, Arc::new(summary));
    }

    pub fn insert(&mut self, base: Offset, loaded: Arc<Loaded>) {
        self.evict(base);
        self.clock += 1;
        let bytes = loaded.index.memory_bytes();
        self.bytes += bytes;
        self.slots.insert(
            base,
            Slot {
                loaded,
                bytes,
                used: self.clock,
            },
        );
        while self.slots.len() > 1
            && (self.bytes > SEALED_INDEX_CACHE_BYTES || self.slots.len() > SEALED_OPEN_MAX)
        {
            // At most `SEALED_OPEN_MAX` slots to look at.
            let oldest = self
                .slots
                .iter()
                .min_by_key(|(_, slot)| slot.used)
                .map(|(base, _)| *base);
            if let Some(oldest) = oldest {
                self.evict(oldest);
            }
        }
    }

    /// The segment is another one now, or gone.
    pub fn remove(&mut self, base: Offset) {
        self.summaries.remove(&base);
        self.evict(base);
    }

    fn evict(&mut self, base: Offset) {
        if let Some(slot) = self.slots.remove(&base) {
            self.bytes -= slot.bytes;
        }
    }
}
