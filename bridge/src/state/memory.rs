//! The state in plain maps: lost with the process, and what the one on disk is checked against.
//!
//! One mutex guards everything, and is never held while a visitor runs.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tidings_core::account::AccountRecord;
use tidings_core::journal::Batch;
use tidings_core::message::{Offset, Seq, UnixMillis};
use tidings_core::messages::ChangeRecord;
use tidings_core::state::{GroupRecord, Retained, RetainedSum, SessionRecord, State};
use tidings_core::topic;

use super::apply::{Tables, apply_entries};
use super::changes::{self, Firsts};
use super::index::{Index, Place, RetainedTotal};
use super::record::{Kind, PAGE_RECORDS, Records, StateRecord};
use super::retained::Search;

/// [`State`] in memory.
#[derive(Debug, Default)]
pub struct MemoryState {
    maps: Mutex<Maps>,
}

#[derive(Debug, Default)]
struct Maps {
    applied: Offset,
    sessions: BTreeMap<Arc<str>, SessionRecord>,
    groups: BTreeMap<Arc<str>, GroupRecord>,
    retained: BTreeMap<Arc<str>, Retained>,
    heads: BTreeMap<Arc<str>, Seq>,
    accounts: BTreeMap<Arc<str>, AccountRecord>,
    changes: BTreeMap<Arc<str>, ChangeRecord>,
    index: Index,
    retained_total: RetainedTotal,
}

impl MemoryState {
    /// As [`super::SledState::forget_changes`].
    pub fn forget_changes(&self, first: &mut dyn FnMut(&str) -> Option<Seq>) -> usize {
        let mut firsts = Firsts::new(first);
        let changes = self.lock().changes.clone();
        let over = changes
            .iter()
            .filter(|(key, change)| firsts.have_passed(key, change));
        let mut forgotten = 0;
        for (key, _) in over {
            forgotten += usize::from(self.lock().changes.remove(key).is_some());
        }
        forgotten
    }

    /// An empty state at offset 0.
    pub fn new() -> Self {
        Self::default()
    }

    /// The state at `applied` that `records` describe, with at most one record for each key.
    ///
    /// # Errors
    /// The first error of `records`.
    pub fn from_records<E>(
        applied: Offset,
        records: impl IntoIterator<Item = Result<StateRecord, E>>,
    ) -> Result<Self, E> {
        let mut maps = Maps {
            applied,
            ..Maps::default()
        };
        for record in records {
            maps.insert(record?);
        }
        Ok(Self {
            maps: Mutex::new(maps),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Maps> {
        self.maps.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Maps {
    fn insert(&mut self, record: StateRecord) {
        match record {
            StateRecord::Session(client_id, session) => {
                self.index
                    .session_moved(&client_id, None, Some(Place::of(&session)));
                self.sessions.insert(client_id, session);
            }
            StateRecord::Group(filter, group) => {
                self.index.position_moved(None, Some(group.position()));
                self.groups.insert(filter, group);
            }
            StateRecord::Retained(retained) => {
                let topic = retained.published.message.topic.clone();
                self.retained_total.changed(None, Some(&retained));
                self.retained.insert(topic, retained);
            }
            StateRecord::Head(stream, seq) => {
                self.heads.insert(stream, seq);
            }
            StateRecord::Account(user, account) => {
                self.accounts.insert(user, account);
            }
            StateRecord::Change(key, change) => {
                self.changes.insert(key, change);
            }
        }
    }
}

impl Tables for Maps {
    fn change_session(
        &mut self,
        client_id: &Arc<str>,
        change: &mut dyn FnMut(&mut Option<SessionRecord>),
    ) {
        let mut session = self.sessions.remove(client_id);
        let before = session.as_ref().map(Place::of);
        change(&mut session);
        let after = session.as_ref().map(Place::of);
        self.index.session_moved(client_id, before, after);
        if let Some(session) = session {
            self.sessions.insert(client_id.clone(), session);
        }
    }

    fn change_group(
        &mut self,
        filter: &Arc<str>,
        change: &mut dyn FnMut(&mut Option<GroupRecord>),
    ) {
        let mut group = self.groups.remove(filter);
        let before = group.as_ref().map(GroupRecord::position);
        change(&mut group);
        let after = group.as_ref().map(GroupRecord::position);
        self.index.position_moved(before, after);
        if let Some(group) = group {
            self.groups.insert(filter.clone(), group);
        }
    }

    fn change_account(
        &mut self,
        user: &Arc<str>,
        change: &mut dyn FnMut(&mut Option<AccountRecord>),
    ) {
        let mut account = self.accounts.remove(user);
        change(&mut account);
        if let Some(account) = account {
            self.accounts.insert(user.clone(), account);
        }
    }

    fn retained(&self, topic: &str) -> Option<Retained> {
        self.retained.get(topic).cloned()
    }

    fn set_retained(&mut self, topic: &Arc<str>, retained: Option<Retained>) {
        let before = self.retained.get(topic);
        self.retained_total.changed(before, retained.as_ref());
        match retained {
            Some(retained) => self.retained.insert(topic.clone(), retained),
            None => self.retained.remove(topic),
        };
    }

    fn set_head(&mut self, stream: &Arc<str>, seq: Seq) {
        match self.heads.get_mut(stream) {
            Some(head) => *head = seq,
            None => {
                self.heads.insert(stream.clone(), seq);
            }
        }
    }

    fn set_change(&mut self, key: &Arc<str>, change: Option<ChangeRecord>) {
        match change {
            Some(change) => self.changes.insert(key.clone(), change),
            None => self.changes.remove(key),
        };
    }
}

impl State for MemoryState {
    fn applied(&self) -> Offset {
        self.lock().applied
    }

    fn apply(&self, batch: &Batch) {
        let mut maps = self.lock();
        let applied = maps.applied;
        maps.applied = apply_entries(&mut *maps, applied, &batch.entries);
    }

    fn session(&self, client_id: &str) -> Option<SessionRecord> {
        self.lock().sessions.get(client_id).cloned()
    }

    fn for_each_session(&self, visit: &mut dyn FnMut(&Arc<str>, &SessionRecord)) {
        let mut after: Option<Arc<str>> = None;
        loop {
            let page = page(&self.lock().sessions, after.as_deref(), PAGE_RECORDS);
            for (client_id, session) in &page {
                visit(client_id, session);
            }
            let Some((last, _)) = page.into_iter().next_back() else {
                return;
            };
            after = Some(last);
        }
    }

    fn due_sessions(&self, now: UnixMillis, limit: usize) -> Vec<Arc<str>> {
        self.lock().index.due(now, limit)
    }

    fn group(&self, filter: &str) -> Option<GroupRecord> {
        self.lock().groups.get(filter).cloned()
    }

    fn account(&self, user: &str) -> Option<AccountRecord> {
        self.lock().accounts.get(user).cloned()
    }

    fn for_each_account(&self, visit: &mut dyn FnMut(&Arc<str>, &AccountRecord)) {
        let accounts = self.lock().accounts.clone();
        for (user, account) in &accounts {
            visit(user, account);
        }
    }

    fn for_each_retained(&self, filter: &str, before: Offset, visit: &mut dyn FnMut(&Retained)) {
        let search = Search::of(filter);
        let mut offer = |retained: &Retained| {
            if retained.offset < before {
                visit(retained);
            }
        };
        if let Some(topic) = search.exact {
            let found = self.lock().retained.get(topic).cloned();
            found.iter().for_each(&mut offer);
        }
        let Some(prefix) = search.prefix else {
            return;
        };
        let mut from: (Bound<Arc<str>>, Bound<Arc<str>>) =
            (Bound::Included(prefix.into()), Bound::Unbounded);
        loop {
            let page: Vec<(Arc<str>, Retained)> = self
                .lock()
                .retained
                .range(from)
                .take_while(|(topic, _)| topic.starts_with(prefix))
                .take(PAGE_RECORDS)
                .map(|(topic, retained)| (topic.clone(), retained.clone()))
                .collect();
            for (_, retained) in page.iter().filter(|(name, _)| topic::matches(filter, name)) {
                offer(retained);
            }
            let Some((last, _)) = page.into_iter().next_back() else {
                return;
            };
            from = (Bound::Excluded(last), Bound::Unbounded);
        }
    }

    fn retained_count(&self) -> u64 {
        self.lock().retained.len() as u64
    }

    fn retained_bytes(&self) -> u64 {
        self.lock().retained_total.all.bytes
    }

    fn retained_of(&self, user: &str) -> RetainedSum {
        self.lock().retained_total.of(user)
    }

    fn session_count(&self) -> u64 {
        self.lock().sessions.len() as u64
    }

    fn stream_head(&self, stream: &str) -> Seq {
        self.lock().heads.get(stream).copied().unwrap_or_default()
    }

    fn changes(&self, stream: &str, of: Seq, limit: usize) -> Vec<ChangeRecord> {
        let maps = self.lock();
        let recall = maps.changes.get(changes::recall_key(stream, of).as_str());
        let prefix = changes::others_of(stream, of);
        let others = maps
            .changes
            .range::<str, _>((Bound::Included(prefix.as_str()), Bound::Unbounded));
        let others = others
            .take_while(|(key, _)| key.starts_with(&prefix))
            .map(|(_, change)| change);
        recall
            .into_iter()
            .chain(others)
            .take(limit)
            .cloned()
            .collect()
    }

    fn for_each_recall(
        &self,
        stream: &str,
        from: Seq,
        to: Seq,
        visit: &mut dyn FnMut(&ChangeRecord),
    ) {
        let (first, last) = (
            changes::recall_key(stream, from),
            changes::recall_key(stream, to),
        );
        if first > last {
            return;
        }
        let found: Vec<ChangeRecord> = {
            let maps = self.lock();
            let range = maps.changes.range::<str, _>((
                Bound::Included(first.as_str()),
                Bound::Included(last.as_str()),
            ));
            range.map(|(_, change)| change.clone()).collect()
        };
        found.iter().for_each(visit);
    }

    fn for_each_stream(&self, prefix: &str, visit: &mut dyn FnMut(&Arc<str>, Seq)) {
        let found: Vec<(Arc<str>, Seq)> = {
            let maps = self.lock();
            let range = maps
                .heads
                .range::<str, _>((Bound::Included(prefix), Bound::Unbounded));
            let found = range.take_while(|(stream, _)| stream.starts_with(prefix));
            found.map(|(stream, seq)| (stream.clone(), *seq)).collect()
        };
        for (stream, seq) in &found {
            visit(stream, *seq);
        }
    }

    fn lowest_position(&self) -> Option<Offset> {
        self.lock().index.lowest_position()
    }
}

impl Records for MemoryState {
    fn applied(&self) -> Offset {
        self.lock().applied
    }

    fn page(&self, kind: Kind, after: Option<&str>, limit: usize) -> Vec<StateRecord> {
        fn records<T: Clone>(
            map: &BTreeMap<Arc<str>, T>,
            after: Option<&str>,
            limit: usize,
            record: impl Fn((Arc<str>, T)) -> StateRecord,
        ) -> Vec<StateRecord> {
            page(map, after, limit).into_iter().map(record).collect()
        }
        let maps = self.lock();
        match kind {
            Kind::Session => records(&maps.sessions, after, limit, |(id, session)| {
                StateRecord::Session(id, session)
            }),
            Kind::Group => records(&maps.groups, after, limit, |(filter, group)| {
                StateRecord::Group(filter, group)
            }),
            Kind::Retained => records(&maps.retained, after, limit, |(_, retained)| {
                StateRecord::Retained(retained)
            }),
            Kind::Head => records(&maps.heads, after, limit, |(stream, seq)| {
                StateRecord::Head(stream, seq)
            }),
            Kind::Account => records(&maps.accounts, after, limit, |(user, account)| {
                StateRecord::Account(user, account)
            }),
            Kind::Change => records(&maps.changes, after, limit, |(key, change)| {
                StateRecord::Change(key, change)
            }),
        }
    }
}

fn page<T: Clone>(
    map: &BTreeMap<Arc<str>, T>,
    after: Option<&str>,
    limit: usize,
) -> Vec<(Arc<str>, T)> {
    let from = after.map_or(Bound::Unbounded, Bound::Excluded);
    map.range::<str, _>((from, Bound::Unbounded))
        .take(limit)
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}
