//! What may be removed from a journal: the decision, not the doing.
//!
//! Two kinds of entries: those that someone still needs (at or after [`Retention::keep_from`], or
//! the snapshot) stay, whatever they are; before that only history stays, as long as the rule of
//! its topic says.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use tidings_core::message::{Offset, UnixMillis};
use tidings_core::rules::Keep;

/// What the rule of a topic keeps; `None` if none does any more.
pub type HistoryRule = Arc<dyn Fn(&str) -> Option<Keep> + Send + Sync>;

/// What is still needed, and by what rules history is kept.
#[derive(Clone)]
pub struct Retention {
    /// The first offset that a session, a group, a reader or the snapshot still needs.
    pub keep_from: Offset,
    /// The offset of the last verified snapshot of the state: entries from there on stay in any
    /// case.
    pub snapshot: Offset,
    /// The time.
    pub now: UnixMillis,
    /// The rule for the history of a topic.
    pub history: HistoryRule,
    /// Most bytes of messages without history that wait for slow readers; beyond it the oldest go
    /// although they are needed, and their readers learn it. `None`: no limit.
    pub max_backlog_bytes: Option<u64>,
}

impl fmt::Debug for Retention {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Retention")
            .field("keep_from", &self.keep_from)
            .field("snapshot", &self.snapshot)
            .field("now", &self.now)
            .field("max_backlog_bytes", &self.max_backlog_bytes)
            .finish_non_exhaustive()
    }
}

impl Retention {
    /// The first offset from which nothing may be missing. `behind`: where the backlog that is
    /// allowed begins, if there is more.
    pub(super) fn new_start(&self, old: Offset, end: Offset, behind: Option<Offset>) -> Offset {
        let wanted = self.keep_from.max(behind.unwrap_or_default());
        wanted.min(self.snapshot).min(end).max(old)
    }
}

/// A message of the history, as far as retention looks at it.
pub(super) struct Stored<'a> {
    pub topic: &'a str,
    pub stream: &'a str,
    pub time: UnixMillis,
    pub bytes: u64,
}

/// Counts history from the newest message to the oldest.
pub(super) struct Ledger<'a> {
    retention: &'a Retention,
    rules: HashMap<Arc<str>, Option<Keep>>,
    streams: HashMap<Arc<str>, (u64, u64)>,
}

impl<'a> Ledger<'a> {
    pub fn new(retention: &'a Retention) -> Self {
        Self {
            retention,
            rules: HashMap::new(),
            streams: HashMap::new(),
        }
    }

    /// True if the rule keeps the message. The newest ones come first.
    pub fn count(&mut self, message: &Stored<'_>) -> bool {
        let rule = match self.rules.get(message.topic) {
            Some(rule) => *rule,
            None => {
                let rule = (self.retention.history)(message.topic);
                self.rules.insert(message.topic.into(), rule);
                rule
            }
        };
        let Some(keep) = rule else { return false };
        let oldest = keep
            .max_age_s
            .map(|age| self.retention.now.saturating_sub(age.saturating_mul(1000)));
        if oldest.is_some_and(|oldest| message.time < oldest) {
            return false;
        }
        if keep.max_count.is_none() && keep.max_bytes.is_none() {
            return true;
        }
        let (count, bytes) = match self.streams.get_mut(message.stream) {
            Some(sums) => sums,
            None => self.streams.entry(message.stream.into()).or_default(),
        };
        *count += 1;
        *bytes += message.bytes;
        keep.max_count.is_none_or(|max| *count <= max)
            && keep.max_bytes.is_none_or(|max| *bytes <= max)
    }
}
