//! What must be found by time or by position, without looking at every session: when sessions are
//! due, and the lowest offset that anyone still needs; and sums that limits ask for.
//!
//! All are kept in memory and built when the state is opened: about 60 bytes and a shared Client
//! Identifier for an offline session that will expire, and one counter per distinct offset. This
//! module does not know the records themselves.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use tidings_core::message::{Offset, UnixMillis};
use tidings_core::state::{Retained, RetainedSum, SessionRecord, will_due_at};

/// Where a session stands in the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    due: Option<UnixMillis>,
    position: Offset,
}

impl Place {
    pub(super) fn of(session: &SessionRecord) -> Self {
        let due = [session.expires_at(), will_due_at(session)];
        Self {
            due: due.into_iter().flatten().min(),
            position: session.position(),
        }
    }
}

/// All retained messages together, and those of each user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct RetainedTotal {
    pub(super) all: RetainedSum,
    /// Who has none is not there; nor are those without a name.
    users: HashMap<Arc<str>, RetainedSum>,
}

impl RetainedTotal {
    /// One changed from `before` to `after`; `None`: it is not there.
    pub(super) fn changed(&mut self, before: Option<&Retained>, after: Option<&Retained>) {
        if let Some(after) = after {
            self.all.add(after);
            let user = user_of(after);
            if !user.is_empty() {
                self.users.entry(user.clone()).or_default().add(after);
            }
        }
        if let Some(before) = before {
            self.all.take(before);
            let user = user_of(before);
            if let Some(sum) = self.users.get_mut(user) {
                sum.take(before);
                if sum.count == 0 {
                    self.users.remove(user);
                }
            }
        }
    }

    pub(super) fn of(&self, user: &str) -> RetainedSum {
        self.users.get(user).copied().unwrap_or_default()
    }
}

fn user_of(retained: &Retained) -> &Arc<str> {
    &retained.published.message.publisher.user
}

/// Sessions by due time, and the positions of sessions and groups.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Index {
    due: BTreeSet<(UnixMillis, Arc<str>)>,
    positions: BTreeMap<Offset, u64>,
    sessions: u64,
}

impl Index {
    /// A session changed from `before` to `after`; `None`: it is not there.
    pub(super) fn session_moved(
        &mut self,
        client_id: &Arc<str>,
        before: Option<Place>,
        after: Option<Place>,
    ) {
        if before == after {
            return;
        }
        self.sessions += u64::from(before.is_none());
        self.sessions -= u64::from(after.is_none());
        if let Some(at) = before.and_then(|place| place.due) {
            self.due.remove(&(at, client_id.clone()));
        }
        if let Some(at) = after.and_then(|place| place.due) {
            self.due.insert((at, client_id.clone()));
        }
        self.position_moved(before.map(|p| p.position), after.map(|p| p.position));
    }

    /// A position, of a session or a group, changed from `before` to `after`.
    pub(super) fn position_moved(&mut self, before: Option<Offset>, after: Option<Offset>) {
        if before == after {
            return;
        }
        if let Some(before) = before
            && let Some(count) = self.positions.get_mut(&before)
        {
            *count -= 1;
            if *count == 0 {
                self.positions.remove(&before);
            }
        }
        if let Some(after) = after {
            *self.positions.entry(after).or_default() += 1;
        }
    }

    /// At most `limit` sessions that are due by `now`, the longest due first.
    pub(super) fn due(&self, now: UnixMillis, limit: usize) -> Vec<Arc<str>> {
        self.due
            .iter()
            .take_while(|(at, _)| *at <= now)
            .take(limit)
            .map(|(_, client_id)| client_id.clone())
            .collect()
    }

    /// How many sessions there are.
    pub(super) fn session_count(&self) -> u64 {
        self.sessions
    }

    /// The lowest position of all.
    pub(super) fn lowest_position(&self) -> Option<Offset> {
        self.positions.keys().next().copied()
    }
}
