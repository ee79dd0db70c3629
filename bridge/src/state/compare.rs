//! What differs between two states: the check that the view on disk says what the journal says.
//!
//! Walks over both in the order of keys, a page at a time, so that neither need fit into memory.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

use tidings_core::message::{Epoch, Offset};

use super::memory::MemoryState;
use super::record::{Kind, Records, StateRecord, every_record};
use super::snapshot;

/// One difference between two states.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Difference {
    /// They stand at different offsets, so that other differences mean nothing.
    Applied {
        /// Where the first one stands.
        left: Offset,
        /// Where the second one stands.
        right: Offset,
    },
    /// Only the first one has the record.
    OnlyLeft(Kind, Arc<str>),
    /// Only the second one has the record.
    OnlyRight(Kind, Arc<str>),
    /// Both have the record, and not the same.
    Record(Box<(StateRecord, StateRecord)>),
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Applied { left, right } => {
                write!(
                    f,
                    "the first stands at offset {left}, the second at {right}"
                )
            }
            Self::OnlyLeft(kind, key) => write!(f, "{kind} {key:?} is only in the first"),
            Self::OnlyRight(kind, key) => write!(f, "{kind} {key:?} is only in the second"),
            Self::Record(both) => {
                write!(f, "{} {:?} differs", both.0.kind(), both.0.key())
            }
        }
    }
}

/// Reports every difference between `left` and `right`, and after each record of either how many
/// were looked at. Returns that number.
pub fn compare(
    left: &dyn Records,
    right: &dyn Records,
    progress: &mut dyn FnMut(u64),
    report: &mut dyn FnMut(Difference),
) -> u64 {
    if left.applied() != right.applied() {
        report(Difference::Applied {
            left: left.applied(),
            right: right.applied(),
        });
    }
    let mut lefts = every_record(left).peekable();
    let mut rights = every_record(right).peekable();
    let mut seen = 0;
    loop {
        let order = match (lefts.peek(), rights.peek()) {
            (None, None) => return seen,
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (Some(l), Some(r)) => (l.kind(), l.key()).cmp(&(r.kind(), r.key())),
        };
        let l = if order.is_le() { lefts.next() } else { None };
        let r = if order.is_ge() { rights.next() } else { None };
        match (l, r) {
            (Some(l), Some(r)) if l != r => report(Difference::Record(Box::new((l, r)))),
            (Some(l), None) => report(Difference::OnlyLeft(l.kind(), l.key().clone())),
            (None, Some(r)) => report(Difference::OnlyRight(r.kind(), r.key().clone())),
            _ => {}
        }
        seen += 1;
        progress(seen);
    }
}

/// The state of the newest whole snapshot that is not past `end`, or an empty one at offset 0; the
/// caller applies the journal from its `applied` on.
///
/// # Errors
/// If the snapshots cannot be read.
pub fn rebuild_in_memory(snapshots: &Path, epoch: Epoch, end: Offset) -> io::Result<MemoryState> {
    match snapshot::load_newest(snapshots, epoch, end)? {
        Some(found) => MemoryState::from_records(found.applied, found.records(epoch)?),
        None => Ok(MemoryState::new()),
    }
}
