//! The newest entries, in memory: readers that are nearly up to date need no disk.

use std::collections::VecDeque;
use std::sync::Arc;

use tidings_core::journal::Published;
use tidings_core::message::Offset;

/// What an entry takes besides its topic and payload, roughly.
const ENTRY_BYTES: usize = 256;

/// Entries with dense offsets; `None` for those that are no messages.
#[derive(Debug)]
pub struct Tail {
    first: Offset,
    entries: VecDeque<Option<Arc<Published>>>,
    bytes: usize,
    max_bytes: usize,
}

impl Tail {
    /// Nothing yet; the next entry has offset `first`.
    pub fn new(first: Offset, max_bytes: usize) -> Self {
        Self {
            first,
            entries: VecDeque::new(),
            bytes: 0,
            max_bytes,
        }
    }

    pub fn push(&mut self, published: Option<Arc<Published>>) {
        self.bytes += weight(published.as_ref());
        self.entries.push_back(published);
        while self.bytes > self.max_bytes
            && let Some(oldest) = self.entries.pop_front()
        {
            self.bytes -= weight(oldest.as_ref());
            self.first = self.first.next();
        }
    }

    /// The message, if it is here.
    pub fn get(&self, offset: Offset) -> Option<&Arc<Published>> {
        let at = usize::try_from(offset.0.checked_sub(self.first.0)?).ok()?;
        self.entries.get(at)?.as_ref()
    }
}

fn weight(published: Option<&Arc<Published>>) -> usize {
    let content = published.map_or(0, |p| p.message.topic.len() + p.message.payload.len());
    if published.is_some() {
        ENTRY_BYTES + content
    } else {
        size_of::<usize>()
    }
}
