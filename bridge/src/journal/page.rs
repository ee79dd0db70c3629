//! Filling a [`Page`]: the limit counts in the same way in every implementation.

use tidings_core::journal::{Page, ReadEntry};
use tidings_core::message::Offset;

/// Collects messages until there are enough bytes of topic and payload.
#[derive(Debug)]
pub struct Collector {
    entries: Vec<ReadEntry>,
    left: usize,
}

impl Collector {
    pub fn new(max_bytes: usize) -> Self {
        // At least one entry is given in any case.
        Self {
            entries: Vec::new(),
            left: max_bytes.max(1),
        }
    }

    /// Bytes that are still wanted.
    pub fn left(&self) -> usize {
        self.left
    }

    /// Adds a message; true if there are enough now.
    pub fn push(&mut self, entry: ReadEntry) -> bool {
        let message = &entry.published.message;
        self.left = self
            .left
            .saturating_sub(message.topic.len() + message.payload.len());
        self.entries.push(entry);
        self.left == 0
    }

    pub fn page(self, next: Offset) -> Page {
        Page {
            entries: self.entries,
            next,
        }
    }
}
