//! The state on disk: sled behind the journal, and what was applied since in memory over it.
//!
//! * Reading sees everything applied: the growing layer, then the layer that a checkpoint is
//!   writing, then sled.
//! * A checkpoint writes a layer in one atomic step, makes it durable, and only then drops the
//!   layer. The journal must be durable up to what a checkpoint writes: the view must never know
//!   more than the journal.
//! * Sessions, groups, retained messages and heads need not fit into memory; the index of due times
//!   and positions must (see [`super::index`]).
//!
//! Reading cannot report an error, and a made-up answer ("no such session") would end up in the
//! journal. Everything is therefore verified when it is opened, and damage that appears later stops
//! the thread that meets it with a panic, after a mark is left that makes the next start build the
//! view anew. This module does not know when checkpoints and snapshots are due.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tidings_core::account::AccountRecord;
use tidings_core::journal::Batch;
use tidings_core::message::{Epoch, Offset, Seq, UnixMillis};
use tidings_core::messages::ChangeRecord;
use tidings_core::state::{GroupRecord, Retained, RetainedSum, SessionRecord, State};
use tidings_core::topic;
use tracing::error;

use super::apply::{Tables, apply_entries};
use super::changes::{self, Firsts};
use super::index::{Index, Place, RetainedTotal};
use super::overlay::{Found, Layer, MergedPage, merged_page};
use super::record::{Kind, PAGE_RECORDS, Records, StateRecord};
use super::retained::Search;
use super::snapshot;
use super::store::{Ledger, Store, StoreError, Stored};

/// Recalls that are looked up at a time: usually there are none.
const RECALLS_AT_ONCE: usize = 16;

/// Entries that are applied while nobody can look: some hundred microseconds.
const APPLIED_AT_ONCE: usize = 16;

/// [`State`] on disk; see the module.
pub struct SledState {
    live: Mutex<Live>,
    /// Apart from `live`, for as long as one change takes: whoever publishes asks, and does not wait until a
    /// batch is applied.
    retained: Mutex<RetainedTotal>,
    /// Who holds it may write: one checkpoint or snapshot at a time.
    writing: Mutex<Writing>,
    disk: Disk,
    snapshots: PathBuf,
    epoch: Epoch,
}

/// What changes with every batch.
pub(super) struct Live {
    pub(super) applied: Offset,
    pub(super) index: Index,
    pub(super) active: Layer,
    pub(super) frozen: Option<Arc<Layer>>,
}

struct Writing {
    ledger: Ledger,
    /// True after a failed checkpoint: what sled holds is unknown until it is opened anew.
    broken: bool,
}

/// sled, for reading that must not fail.
pub(super) struct Disk {
    pub(super) store: Store,
    /// The file that says: do not open this again.
    pub(super) mark: PathBuf,
}

impl Disk {
    fn must<T>(&self, result: Result<T, StoreError>) -> T {
        result.unwrap_or_else(|error| self.stop(&error))
    }

    fn stop(&self, error: &StoreError) -> ! {
        let marked = File::create(&self.mark).and_then(|file| file.sync_all());
        error!(%error, ?marked, "the state on disk is damaged: restart to build it again from snapshot and journal");
        panic!("the state on disk is damaged: {error}");
    }

    fn get(&self, kind: Kind, key: &str) -> Option<StateRecord> {
        self.must(self.store.get(kind, key))
    }

    fn session(&self, client_id: &str) -> Option<SessionRecord> {
        match self.get(Kind::Session, client_id) {
            Some(StateRecord::Session(_, session)) => Some(session),
            _ => None,
        }
    }

    fn group(&self, filter: &str) -> Option<GroupRecord> {
        match self.get(Kind::Group, filter) {
            Some(StateRecord::Group(_, group)) => Some(group),
            _ => None,
        }
    }

    fn account(&self, user: &str) -> Option<AccountRecord> {
        match self.get(Kind::Account, user) {
            Some(StateRecord::Account(_, account)) => Some(account),
            _ => None,
        }
    }

    fn change(&self, key: &str) -> Option<ChangeRecord> {
        match self.get(Kind::Change, key) {
            Some(StateRecord::Change(_, change)) => Some(change),
            _ => None,
        }
    }

    fn retained(&self, topic: &str) -> Option<Retained> {
        match self.get(Kind::Retained, topic) {
            Some(StateRecord::Retained(retained)) => Some(retained),
            _ => None,
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl SledState {
    pub(super) fn new(
        disk: Disk,
        ledger: Ledger,
        live: Live,
        retained: RetainedTotal,
        snapshots: PathBuf,
        epoch: Epoch,
    ) -> Self {
        Self {
            live: Mutex::new(live),
            retained: Mutex::new(retained),
            writing: Mutex::new(Writing {
                ledger,
                broken: false,
            }),
            disk,
            snapshots,
            epoch,
        }
    }

    /// Number of changed records that wait in memory for a checkpoint: nothing else bounds it, so
    /// the owner does one when it grows, also while a long journal is replayed.
    pub fn pending_records(&self) -> usize {
        self.live().active.len()
    }

    /// Writes everything applied to disk and drops it from memory; returns the offset that sled
    /// now stands at. The journal must be durable up to [`State::applied`].
    ///
    /// # Errors
    /// If sled or the disk fails. Every later checkpoint fails too, reading goes on while sled
    /// lets it, and opening anew recovers.
    pub fn checkpoint(&self) -> io::Result<Offset> {
        let mut writing = self.writing();
        self.checkpoint_with(&mut writing)?;
        Ok(writing.ledger.applied)
    }

    /// Does a checkpoint, writes a snapshot of it (unless the newest one stands there already),
    /// verifies it, and returns the offset before which the journal is no longer needed to build
    /// the state again. Applying goes on meanwhile; checkpoints wait.
    ///
    /// # Errors
    /// As for [`SledState::checkpoint`]; or the snapshot cannot be written, then older ones stay.
    pub fn snapshot(&self) -> io::Result<Offset> {
        let settled = self.settle()?;
        let newest = match snapshot::find(&self.snapshots, self.epoch, settled.applied()) {
            Some(found) => found,
            None => snapshot::write(&self.snapshots, self.epoch, &settled)?,
        };
        snapshot::remove_old(&self.snapshots, self.epoch, &newest)
    }

    /// Does a checkpoint and holds sled at it, to be walked over; checkpoints wait until it is
    /// dropped.
    ///
    /// # Errors
    /// As for [`SledState::checkpoint`].
    pub fn settle(&self) -> io::Result<Settled<'_>> {
        let mut writing = self.writing();
        self.checkpoint_with(&mut writing)?;
        Ok(Settled {
            disk: &self.disk,
            writing,
        })
    }

    fn checkpoint_with(&self, writing: &mut Writing) -> io::Result<()> {
        if writing.broken {
            return Err(io::Error::other(
                "an earlier checkpoint failed: the state must be opened anew",
            ));
        }
        let (layer, applied) = {
            let mut live = self.live();
            // What was forgotten changes records without an entry.
            if live.applied == writing.ledger.applied && live.active.len() == 0 {
                return Ok(());
            }
            let layer = Arc::new(std::mem::take(&mut live.active));
            live.frozen = Some(layer.clone());
            (layer, live.applied)
        };
        let written = self.disk.store.write(writing.ledger, applied, |put| {
            layer.for_each(|kind, key, record| put(kind, key, record))
        });
        match written {
            Ok(ledger) => {
                writing.ledger = ledger;
                self.live().frozen = None;
                Ok(())
            }
            Err(error) => {
                writing.broken = true;
                Err(error.into())
            }
        }
    }

    /// Spoils the stored retained message of a topic, as a failing disk would.
    #[cfg(test)]
    pub(super) fn damage_for_test(&self, topic: &str) {
        self.disk.store.damage_for_test(Kind::Retained, topic);
    }

    fn live(&self) -> MutexGuard<'_, Live> {
        lock(&self.live)
    }

    fn writing(&self) -> MutexGuard<'_, Writing> {
        lock(&self.writing)
    }

    fn session_page(&self, after: Option<&str>) -> MergedPage<SessionRecord, Stored> {
        let live = self.live();
        let stored = self.disk.store.page(Kind::Session, "", after, PAGE_RECORDS);
        let frozen = live.frozen.as_deref();
        merged_page(
            [Some(&live.active.sessions), frozen.map(|f| &f.sessions)],
            self.disk.must(stored).into_iter(),
            "",
            after,
            PAGE_RECORDS,
        )
    }

    fn account_page(&self, after: Option<&str>) -> MergedPage<AccountRecord, Stored> {
        let live = self.live();
        let stored = self.disk.store.page(Kind::Account, "", after, PAGE_RECORDS);
        let frozen = live.frozen.as_deref();
        merged_page(
            [Some(&live.active.accounts), frozen.map(|f| &f.accounts)],
            self.disk.must(stored).into_iter(),
            "",
            after,
            PAGE_RECORDS,
        )
    }

    fn change_page(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> MergedPage<ChangeRecord, Stored> {
        let live = self.live();
        let stored = self.disk.store.page(Kind::Change, prefix, after, limit);
        let frozen = live.frozen.as_deref();
        merged_page(
            [Some(&live.active.changes), frozen.map(|f| &f.changes)],
            self.disk.must(stored).into_iter(),
            prefix,
            after,
            limit,
        )
    }

    /// Forgets the changes of messages that retention has taken, and gives how many. `first` gives the number
    /// of the first message that a stream has left; `None`: not to be known. It is called without a lock.
    pub fn forget_changes(&self, first: &mut dyn FnMut(&str) -> Option<Seq>) -> usize {
        let mut firsts = Firsts::new(first);
        let mut forgotten = 0;
        let mut after: Option<Arc<str>> = None;
        loop {
            let page = self.change_page("", after.as_deref(), PAGE_RECORDS);
            let mut over = Vec::new();
            for (key, found) in page.records {
                let change = match found {
                    Found::Changed(change) => change,
                    Found::OnDisk(stored) => match self.disk.must(stored.read()) {
                        StateRecord::Change(_, change) => change,
                        _ => continue,
                    },
                };
                if firsts.have_passed(&key, &change) {
                    over.push(key);
                }
            }
            forgotten += over.len();
            // Nobody changes them meanwhile: a change of what is not there is refused.
            let mut live = self.live();
            for key in over {
                live.active.changes.insert(key, None);
            }
            drop(live);
            if page.go_on_after.is_none() {
                return forgotten;
            }
            after = page.go_on_after;
        }
    }

    /// Shows the changes whose key begins with `prefix` and comes after `after`, in order, until
    /// `visit` has enough.
    fn visit_changes(
        &self,
        prefix: &str,
        after: Option<Arc<str>>,
        limit: usize,
        visit: &mut dyn FnMut(ChangeRecord) -> ControlFlow<()>,
    ) {
        let mut after = after;
        loop {
            let page = self.change_page(prefix, after.as_deref(), limit);
            for (_, found) in page.records {
                let change = match found {
                    Found::Changed(change) => change,
                    Found::OnDisk(stored) => match self.disk.must(stored.read()) {
                        StateRecord::Change(_, change) => change,
                        _ => continue,
                    },
                };
                if visit(change).is_break() {
                    return;
                }
            }
            if page.go_on_after.is_none() {
                return;
            }
            after = page.go_on_after;
        }
    }

    fn retained_page(&self, prefix: &str, after: Option<&str>) -> MergedPage<Retained, Stored> {
        let live = self.live();
        let stored = self
            .disk
            .store
            .page(Kind::Retained, prefix, after, PAGE_RECORDS);
        let frozen = live.frozen.as_deref();
        merged_page(
            [Some(&live.active.retained), frozen.map(|f| &f.retained)],
            self.disk.must(stored).into_iter(),
            prefix,
            after,
            PAGE_RECORDS,
        )
    }
}

impl Live {
    /// What the layers say of a key; the inner `None`: it was removed. `which` picks the kind.
    fn changed<T: Clone>(&self, which: impl Fn(&Layer) -> Option<&Option<T>>) -> Option<Option<T>> {
        which(&self.active)
            .or_else(|| which(self.frozen.as_deref()?))
            .cloned()
    }

    fn session(&self, client_id: &str) -> Option<Option<SessionRecord>> {
        self.changed(|layer| layer.sessions.get(client_id))
    }

    fn group(&self, filter: &str) -> Option<Option<GroupRecord>> {
        self.changed(|layer| layer.groups.get(filter))
    }

    fn account(&self, user: &str) -> Option<Option<AccountRecord>> {
        self.changed(|layer| layer.accounts.get(user))
    }

    fn change(&self, key: &str) -> Option<Option<ChangeRecord>> {
        self.changed(|layer| layer.changes.get(key))
    }

    fn retained(&self, topic: &str) -> Option<Option<Retained>> {
        self.changed(|layer| layer.retained.get(topic))
    }
}

/// Where a batch is applied.
struct Applying<'a> {
    live: &'a mut Live,
    retained: &'a Mutex<RetainedTotal>,
    disk: &'a Disk,
}

impl Tables for Applying<'_> {
    fn change_session(
        &mut self,
        client_id: &Arc<str>,
        change: &mut dyn FnMut(&mut Option<SessionRecord>),
    ) {
        let mut session = match self.live.active.sessions.get_mut(client_id) {
            Some(changed) => changed.take(),
            None => (self.live.session(client_id)).unwrap_or_else(|| self.disk.session(client_id)),
        };
        let before = session.as_ref().map(Place::of);
        change(&mut session);
        let after = session.as_ref().map(Place::of);
        if before.is_none() && after.is_none() {
            return;
        }
        self.live.index.session_moved(client_id, before, after);
        self.live.active.sessions.insert(client_id.clone(), session);
    }

    fn change_group(
        &mut self,
        filter: &Arc<str>,
        change: &mut dyn FnMut(&mut Option<GroupRecord>),
    ) {
        let mut group = match self.live.active.groups.get_mut(filter) {
            Some(changed) => changed.take(),
            None => (self.live.group(filter)).unwrap_or_else(|| self.disk.group(filter)),
        };
        let before = group.as_ref().map(GroupRecord::position);
        change(&mut group);
        let after = group.as_ref().map(GroupRecord::position);
        if before.is_none() && after.is_none() {
            return;
        }
        self.live.index.position_moved(before, after);
        self.live.active.groups.insert(filter.clone(), group);
    }

    fn change_account(
        &mut self,
        user: &Arc<str>,
        change: &mut dyn FnMut(&mut Option<AccountRecord>),
    ) {
        let mut account = (self.live.account(user)).unwrap_or_else(|| self.disk.account(user));
        let was_there = account.is_some();
        change(&mut account);
        if was_there || account.is_some() {
            self.live.active.accounts.insert(user.clone(), account);
        }
    }

    fn retained(&self, topic: &str) -> Option<Retained> {
        let changed = self.live.retained(topic);
        changed.unwrap_or_else(|| self.disk.retained(topic))
    }

    fn set_retained(&mut self, topic: &Arc<str>, retained: Option<Retained>) {
        let before = self.retained(topic);
        if before.is_none() && retained.is_none() {
            return;
        }
        lock(self.retained).changed(before.as_ref(), retained.as_ref());
        self.live.active.retained.insert(topic.clone(), retained);
    }

    fn set_head(&mut self, stream: &Arc<str>, seq: Seq) {
        match self.live.active.heads.get_mut(stream) {
            Some(head) => *head = seq,
            None => {
                self.live.active.heads.insert(stream.clone(), seq);
            }
        }
    }

    fn set_change(&mut self, key: &Arc<str>, change: Option<ChangeRecord>) {
        self.live.active.changes.insert(key.clone(), change);
    }
}

impl State for SledState {
    fn applied(&self) -> Offset {
        self.live().applied
    }

    fn apply(&self, batch: &Batch) {
        // Who looks something up meanwhile waits for a part of a batch only.
        for entries in batch.entries.chunks(APPLIED_AT_ONCE) {
            let mut live = self.live();
            let applied = live.applied;
            let mut applying = Applying {
                live: &mut live,
                retained: &self.retained,
                disk: &self.disk,
            };
            live.applied = apply_entries(&mut applying, applied, entries);
        }
    }

    // A single record is looked for in sled without the lock: it may be a newer one by then, which
    // is as good.
    fn session(&self, client_id: &str) -> Option<SessionRecord> {
        let changed = self.live().session(client_id);
        changed.unwrap_or_else(|| self.disk.session(client_id))
    }

    fn for_each_session(&self, visit: &mut dyn FnMut(&Arc<str>, &SessionRecord)) {
        let mut after: Option<Arc<str>> = None;
        loop {
            let page = self.session_page(after.as_deref());
            for (client_id, found) in page.records {
                let session = match found {
                    Found::Changed(session) => session,
                    Found::OnDisk(stored) => match self.disk.must(stored.read()) {
                        StateRecord::Session(_, session) => session,
                        _ => continue,
                    },
                };
                visit(&client_id, &session);
            }
            if page.go_on_after.is_none() {
                return;
            }
            after = page.go_on_after;
        }
    }

    fn due_sessions(&self, now: UnixMillis, limit: usize) -> Vec<Arc<str>> {
        self.live().index.due(now, limit)
    }

    fn group(&self, filter: &str) -> Option<GroupRecord> {
        let changed = self.live().group(filter);
        changed.unwrap_or_else(|| self.disk.group(filter))
    }

    fn account(&self, user: &str) -> Option<AccountRecord> {
        let changed = self.live().account(user);
        changed.unwrap_or_else(|| self.disk.account(user))
    }

    fn for_each_account(&self, visit: &mut dyn FnMut(&Arc<str>, &AccountRecord)) {
        let mut after: Option<Arc<str>> = None;
        loop {
            let page = self.account_page(after.as_deref());
            for (user, found) in page.records {
                let account = match found {
                    Found::Changed(account) => account,
                    Found::OnDisk(stored) => match self.disk.must(stored.read()) {
                        StateRecord::Account(_, account) => account,
                        _ => continue,
                    },
                };
                visit(&user, &account);
            }
            if page.go_on_after.is_none() {
                return;
            }
            after = page.go_on_after;
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
            let changed = self.live().retained(topic);
            let found = changed.unwrap_or_else(|| self.disk.retained(topic));
            found.iter().for_each(&mut offer);
        }
        let Some(prefix) = search.prefix else {
            return;
        };
        let mut after: Option<Arc<str>> = None;
        loop {
            let page = self.retained_page(prefix, after.as_deref());
            for (name, found) in page.records {
                if !topic::matches(filter, &name) {
                    continue;
                }
                match found {
                    Found::Changed(retained) => offer(&retained),
                    Found::OnDisk(stored) => {
                        if let StateRecord::Retained(retained) = self.disk.must(stored.read()) {
                            offer(&retained);
                        }
                    }
                }
            }
            if page.go_on_after.is_none() {
                return;
            }
            after = page.go_on_after;
        }
    }

    fn retained_count(&self) -> u64 {
        lock(&self.retained).all.count
    }

    fn retained_bytes(&self) -> u64 {
        lock(&self.retained).all.bytes
    }

    fn retained_of(&self, user: &str) -> RetainedSum {
        lock(&self.retained).of(user)
    }

    fn session_count(&self) -> u64 {
        self.live().index.session_count()
    }

    fn stream_head(&self, stream: &str) -> Seq {
        let changed = {
            let live = self.live();
            let frozen = live.frozen.as_deref();
            let head = live.active.heads.get(stream);
            head.or_else(|| frozen?.heads.get(stream)).copied()
        };
        changed.unwrap_or_else(|| match self.disk.get(Kind::Head, stream) {
            Some(StateRecord::Head(_, seq)) => seq,
            _ => Seq(0),
        })
    }

    fn changes(&self, stream: &str, of: Seq, limit: usize) -> Vec<ChangeRecord> {
        let recall = changes::recall_key(stream, of);
        let changed = self.live().change(&recall);
        let recall = changed.unwrap_or_else(|| self.disk.change(&recall));
        let mut found: Vec<ChangeRecord> = recall.into_iter().take(limit).collect();
        if found.len() < limit {
            let prefix = changes::others_of(stream, of);
            let at_once = (limit - found.len()).min(PAGE_RECORDS);
            self.visit_changes(&prefix, None, at_once, &mut |change| {
                found.push(change);
                if found.len() < limit {
                    ControlFlow::Continue(())
                } else {
                    ControlFlow::Break(())
                }
            });
        }
        found
    }

    fn for_each_recall(
        &self,
        stream: &str,
        from: Seq,
        to: Seq,
        visit: &mut dyn FnMut(&ChangeRecord),
    ) {
        let before = from.0.checked_sub(1);
        let after = before.map(|seq| changes::recall_key(stream, Seq(seq)).into());
        let prefix = changes::recalls_of(stream);
        self.visit_changes(&prefix, after, RECALLS_AT_ONCE, &mut |change| {
            if change.of > to {
                return ControlFlow::Break(());
            }
            visit(&change);
            ControlFlow::Continue(())
        });
    }

    fn for_each_stream(&self, prefix: &str, visit: &mut dyn FnMut(&Arc<str>, Seq)) {
        let mut changed: HashMap<Arc<str>, Seq> = HashMap::new();
        {
            let live = self.live();
            let frozen = live.frozen.iter().flat_map(|layer| &layer.heads);
            let heads = frozen.chain(&live.active.heads);
            let wanted = heads.filter(|(stream, _)| stream.starts_with(prefix));
            changed.extend(wanted.map(|(stream, seq)| (stream.clone(), *seq)));
        }
        let mut after: Option<Arc<str>> = None;
        loop {
            let page = self
                .disk
                .store
                .page(Kind::Head, prefix, after.as_deref(), PAGE_RECORDS);
            let page = self.disk.must(page);
            for (stream, stored) in &page {
                if !changed.contains_key(stream)
                    && let StateRecord::Head(_, seq) = self.disk.must(stored.read())
                {
                    visit(stream, seq);
                }
            }
            let Some((last, _)) = page.into_iter().next_back() else {
                break;
            };
            after = Some(last);
        }
        for (stream, seq) in &changed {
            visit(stream, *seq);
        }
    }

    fn lowest_position(&self) -> Option<Offset> {
        self.live().index.lowest_position()
    }
}

/// sled, held at a checkpoint: everything applied up to it, and nothing later.
pub struct Settled<'a> {
    disk: &'a Disk,
    writing: MutexGuard<'a, Writing>,
}

impl Records for Settled<'_> {
    fn applied(&self) -> Offset {
        self.writing.ledger.applied
    }

    fn page(&self, kind: Kind, after: Option<&str>, limit: usize) -> Vec<StateRecord> {
        let page = self.disk.must(self.disk.store.page(kind, "", after, limit));
        page.iter()
            .map(|(_, stored)| self.disk.must(stored.read()))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::thread;
    use std::time::Duration;

    use tempfile::TempDir;

    use super::super::Options;
    use super::*;

    #[test]
    fn sums_of_retained_messages_do_not_wait_for_what_is_being_applied() {
        let home = TempDir::new().unwrap();
        let options = Options::new(Epoch(1), Offset(0), Offset(0));
        let (state, _) = SledState::open(home.path(), &options).unwrap();
        let applying = state.live();
        thread::scope(|scope| {
            let (asked, answer) = channel();
            let state = &state;
            scope.spawn(move || {
                let sums = (state.retained_count(), state.retained_bytes());
                asked.send((sums, state.retained_of("ann"))).unwrap();
            });
            let answered = answer.recv_timeout(Duration::from_secs(10));
            // Whoever still waits does not keep the test from ending.
            drop(applying);
            assert_eq!(answered, Ok(((0, 0), RetainedSum::default())));
        });
    }
}
