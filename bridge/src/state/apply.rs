//! How a journal entry changes the state: one implementation for every place where records are
//! kept, so that recovery and the running broker agree.
//!
//! This module does not know where the records are.

use std::sync::Arc;

use tidings_core::account::{AccountRecord, apply_account_change};
use tidings_core::journal::{Audience, Entry, Published, Record, ShardId};
use tidings_core::message::{Offset, Seq};
use tidings_core::messages::{ChangeRecord, What};
use tidings_core::state::{
    GroupChange, GroupRecord, Retained, SessionChange, SessionRecord, apply_session_change,
    growing_number,
};

use super::changes;

const SHARE_PREFIX: &str = "$share/";

/// Where [`apply_entries`] finds and leaves records.
pub(super) trait Tables {
    /// Shows the record of a session, or its absence, to `change`, and keeps what it leaves.
    fn change_session(
        &mut self,
        client_id: &Arc<str>,
        change: &mut dyn FnMut(&mut Option<SessionRecord>),
    );

    /// The same for a shared subscription.
    fn change_group(&mut self, filter: &Arc<str>, change: &mut dyn FnMut(&mut Option<GroupRecord>));

    /// The same for an account.
    fn change_account(
        &mut self,
        user: &Arc<str>,
        change: &mut dyn FnMut(&mut Option<AccountRecord>),
    );

    /// The retained message of a topic.
    fn retained(&self, topic: &str) -> Option<Retained>;

    /// Sets or removes the retained message of a topic.
    fn set_retained(&mut self, topic: &Arc<str>, retained: Option<Retained>);

    /// Sets the number of the last message of a stream.
    fn set_head(&mut self, stream: &Arc<str>, seq: Seq);

    /// Sets or removes the change under a key.
    fn set_change(&mut self, key: &Arc<str>, change: Option<ChangeRecord>);
}

/// Applies those of `entries` that are not before `applied`; the result is the new `applied`.
pub(super) fn apply_entries(
    tables: &mut impl Tables,
    mut applied: Offset,
    entries: &[(ShardId, Entry)],
) -> Offset {
    for (_, entry) in entries {
        if entry.offset >= applied {
            apply_entry(tables, entry);
            applied = entry.offset.next();
        }
    }
    applied
}

fn apply_entry(tables: &mut impl Tables, entry: &Entry) {
    match &entry.record {
        Record::Published(published) => apply_published(tables, entry.offset, published),
        Record::Session { client_id, change } => {
            apply_session(tables, entry.offset, client_id, change);
        }
        Record::Group { filter, change } => tables.change_group(filter, &mut |group| {
            let GroupChange::Progress { cursor, unfinished } = change;
            if let Some(group) = group {
                group.cursor = *cursor;
                group.unfinished.clone_from(unfinished);
            }
        }),
        Record::Account { user, change } => tables.change_account(user, &mut |account| {
            apply_account_change(account, change);
        }),
    }
}

fn apply_published(tables: &mut impl Tables, offset: Offset, published: &Arc<Published>) {
    // 0 is "no number": the copy for single sessions is not a message of the stream.
    if published.seq != Seq(0) {
        tables.set_head(&published.stream, published.seq);
    }
    if let Some(change) = ChangeRecord::of(offset, published) {
        let key = changes::key(&published.stream, &change);
        let is_gone = matches!(&change.what, What::Reaction(text) if text.is_empty());
        tables.set_change(&key, (!is_gone).then_some(change));
    }
    let message = &published.message;
    if message.retain && counts(tables, published) {
        let retained = (!message.payload.is_empty()).then(|| Retained {
            offset,
            published: published.clone(),
        });
        tables.set_retained(&message.topic, retained);
    }
    if let Some(packet_id) = published.inbound_packet_id {
        tables.change_session(&message.publisher.client_id, &mut |session| {
            if let Some(session) = session
                && !session.inbound_qos2.contains(&packet_id)
            {
                session.inbound_qos2.push(packet_id);
            }
        });
    }
}

/// Of numbers that grow, one that is not larger than the retained one changes nothing.
fn counts(tables: &impl Tables, published: &Published) -> bool {
    let message = &published.message;
    if published.audience != Audience::Growing || message.payload.is_empty() {
        return true;
    }
    let number = |payload: &[u8]| growing_number(payload).unwrap_or(0);
    let retained = tables.retained(&message.topic);
    retained.is_none_or(|r| number(&message.payload) > number(&r.published.message.payload))
}

fn apply_session(
    tables: &mut impl Tables,
    offset: Offset,
    client_id: &Arc<str>,
    change: &SessionChange,
) {
    let mut moves = GroupMoves::default();
    tables.change_session(client_id, &mut |session| {
        moves = GroupMoves::of(session.as_ref(), change);
        apply_session_change(session, offset, change);
    });
    for filter in &moves.left {
        tables.change_group(filter, &mut leave);
    }
    if let Some(filter) = &moves.joined {
        tables.change_group(filter, &mut |group| join(group, offset));
    }
}

/// Which groups a change of a session makes it leave and join.
#[derive(Default)]
struct GroupMoves {
    left: Vec<Arc<str>>,
    joined: Option<Arc<str>>,
}

impl GroupMoves {
    fn of(session: Option<&SessionRecord>, change: &SessionChange) -> Self {
        let Some(session) = session else {
            return Self::default();
        };
        let has = |filter: &str| session.subscriptions.iter().any(|s| *s.filter == *filter);
        match change {
            SessionChange::Subscribed(new) if is_shared(&new.filter) && !has(&new.filter) => Self {
                left: Vec::new(),
                joined: Some(new.filter.clone()),
            },
            SessionChange::Unsubscribed { filter } if is_shared(filter) && has(filter) => Self {
                left: vec![filter.clone()],
                joined: None,
            },
            SessionChange::Opened { clean: true, .. } | SessionChange::Ended { .. } => Self {
                left: session
                    .subscriptions
                    .iter()
                    .map(|subscription| &subscription.filter)
                    .filter(|filter| is_shared(filter))
                    .cloned()
                    .collect(),
                joined: None,
            },
            _ => Self::default(),
        }
    }
}

fn is_shared(filter: &str) -> bool {
    filter.starts_with(SHARE_PREFIX)
}

fn join(group: &mut Option<GroupRecord>, offset: Offset) {
    match group {
        Some(group) => group.members = group.members.saturating_add(1),
        None => {
            *group = Some(GroupRecord {
                cursor: offset.next(),
                unfinished: Vec::new(),
                members: 1,
            });
        }
    }
}

fn leave(group: &mut Option<GroupRecord>) {
    if let Some(record) = group {
        record.members = record.members.saturating_sub(1);
        if record.members == 0 {
            *group = None;
        }
    }
}
