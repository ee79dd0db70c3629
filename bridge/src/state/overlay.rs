//! What was applied and is not yet in sled: a layer of changed records over it, where an absent
//! record is remembered as such.
//!
//! There are at most two layers: the one that grows, and the one that a checkpoint is writing.
//! This module does not know sled.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::Arc;

use tidings_core::account::AccountRecord;
use tidings_core::message::Seq;
use tidings_core::messages::ChangeRecord;
use tidings_core::state::{GroupRecord, Retained, SessionRecord};

use super::record::{Kind, StateRecord};

/// Changed records by key; `None`: removed.
pub(super) type Changes<T> = BTreeMap<Arc<str>, Option<T>>;

/// Records that changed since a checkpoint.
#[derive(Debug, Default)]
pub(super) struct Layer {
    pub(super) sessions: Changes<SessionRecord>,
    pub(super) groups: Changes<GroupRecord>,
    pub(super) retained: Changes<Retained>,
    /// Not ordered: it changes with every message, and nobody walks over it.
    pub(super) heads: HashMap<Arc<str>, Seq>,
    pub(super) accounts: Changes<AccountRecord>,
    pub(super) changes: Changes<ChangeRecord>,
}

impl Layer {
    /// Number of changed records.
    pub(super) fn len(&self) -> usize {
        self.sessions.len()
            + self.groups.len()
            + self.retained.len()
            + self.heads.len()
            + self.accounts.len()
            + self.changes.len()
    }

    /// Shows every changed record: its kind, its key, and what it is now.
    pub(super) fn for_each<E>(
        &self,
        mut visit: impl FnMut(Kind, &Arc<str>, Option<StateRecord>) -> Result<(), E>,
    ) -> Result<(), E> {
        for (id, session) in &self.sessions {
            let record = session.clone().map(|s| StateRecord::Session(id.clone(), s));
            visit(Kind::Session, id, record)?;
        }
        for (filter, group) in &self.groups {
            let record = group.clone().map(|g| StateRecord::Group(filter.clone(), g));
            visit(Kind::Group, filter, record)?;
        }
        for (topic, retained) in &self.retained {
            let record = retained.clone().map(StateRecord::Retained);
            visit(Kind::Retained, topic, record)?;
        }
        for (stream, seq) in &self.heads {
            let record = StateRecord::Head(stream.clone(), *seq);
            visit(Kind::Head, stream, Some(record))?;
        }
        for (user, account) in &self.accounts {
            let record = account
                .clone()
                .map(|a| StateRecord::Account(user.clone(), a));
            visit(Kind::Account, user, record)?;
        }
        for (key, change) in &self.changes {
            let record = change.clone().map(|c| StateRecord::Change(key.clone(), c));
            visit(Kind::Change, key, record)?;
        }
        Ok(())
    }
}

/// A record of a merged page: from a layer, or still as the bytes that sled holds.
pub(super) enum Found<T, D> {
    Changed(T),
    OnDisk(D),
}

/// One page of a merge.
pub(super) struct MergedPage<T, D> {
    /// The records that are there, in the order of keys.
    pub(super) records: Vec<(Arc<str>, Found<T, D>)>,
    /// Go on after this key; `None`: this was the last page.
    pub(super) go_on_after: Option<Arc<str>>,
}

/// Merges up to `limit` keys of each source that come after `after` and begin with `prefix`.
/// `layers` are newest first; `disk` gives keys in order, all in that range.
pub(super) fn merged_page<T: Clone, D>(
    layers: [Option<&Changes<T>>; 2],
    disk: impl Iterator<Item = (Arc<str>, D)>,
    prefix: &str,
    after: Option<&str>,
    limit: usize,
) -> MergedPage<T, D> {
    let mut merged: BTreeMap<Arc<str>, Option<Found<T, D>>> = BTreeMap::new();
    // A source that gave its limit may have more: only keys up to its last one are complete.
    let mut complete_to: Option<Arc<str>> = None;
    let mut limit_reached = |last: &Arc<str>| {
        if complete_to.as_ref().is_none_or(|key| last < key) {
            complete_to = Some(last.clone());
        }
    };
    let from = after.map_or(Bound::Included(prefix), Bound::Excluded);
    for layer in layers.into_iter().flatten() {
        let range = layer
            .range::<str, _>((from, Bound::Unbounded))
            .take_while(|(key, _)| key.starts_with(prefix));
        for (at, (key, value)) in range.take(limit).enumerate() {
            merged
                .entry(key.clone())
                .or_insert_with(|| value.clone().map(Found::Changed));
            if at + 1 == limit {
                limit_reached(key);
            }
        }
    }
    for (at, (key, value)) in disk.take(limit).enumerate() {
        if at + 1 == limit {
            limit_reached(&key);
        }
        merged.entry(key).or_insert(Some(Found::OnDisk(value)));
    }
    let records = merged
        .into_iter()
        .take_while(|(key, _)| complete_to.as_ref().is_none_or(|last| key <= last))
        .filter_map(|(key, found)| Some((key, found?)))
        .collect();
    MergedPage {
        records,
        go_on_after: complete_to,
    }
}
