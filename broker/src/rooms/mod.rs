//! Rooms of a running broker: who is in them, as their retained messages say, and the service that
//! carries out what users ask for.
//!
//! ```text
//! user/{user}/request/{method}  ->  service  ->  room/... (retained, through the journal)
//! journal  ->  committed  ->  view  ->  topic rules of every shard
//! ```
//! Invariants: the view changes by what the journal has, and by nothing else; it changes before any
//! shard sees the batch, and the shards hear of it before the batch. There is one service, which
//! decides one command after the other.
//! This module does not know how users prove who they are.

mod request;
mod service;
mod topics;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use tidings_core::account::AccountChange;
use tidings_core::journal::{Batch, Record};
use tidings_core::message::{Message, Offset, UnixMillis};
use tidings_core::rooms::{AccessChange, Change, Limits, RoomView, Turns};
use tidings_core::rules::Membership;
use tidings_core::state::State;
use tokio::sync::Notify;
use tracing::warn;

pub(crate) use request::{MAX_LISTED, judge as judge_request};
pub(crate) use service::{Start, run};

/// Client Identifier of the service. No link to another broker can have it: their names have no @.
const CLIENT_ID: &str = "$link/@rooms";

/// What all records of rooms begin with.
const RECORDS: &str = "room/";

/// How rooms are managed.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Bounds on what users may make.
    pub limits: Limits,
    /// Requests of one user; as many may come at once.
    pub requests_per_minute: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            requests_per_minute: 60,
        }
    }
}

/// The rooms, as all shards see them.
#[derive(Debug, Default)]
pub(crate) struct Rooms {
    view: RwLock<RoomView>,
    turns: Mutex<Turns>,
    /// People whose accounts are gone, and who are to be taken out of their rooms.
    gone: Mutex<VecDeque<Arc<str>>>,
    /// There are more of them.
    left: Notify,
}

impl Rooms {
    /// The rooms that the state has. To be called before anything is committed.
    pub fn load(state: &dyn State) -> Self {
        let mut view = RoomView::default();
        state.for_each_retained("room/#", Offset(u64::MAX), &mut |retained| {
            if let Some(change) = record(&retained.published.message) {
                view.apply(&change);
            }
        });
        let mut gone = VecDeque::new();
        state.for_each_account(&mut |user, account| {
            if account.deleted && view.joined_count(user) > 0 {
                gone.push_back(user.clone());
            }
        });
        Self {
            view: RwLock::new(view),
            turns: Mutex::default(),
            gone: Mutex::new(gone),
            left: Notify::new(),
        }
    }

    /// Somebody whose account is gone, until [`Rooms::took_out`] says that they are in no room.
    pub fn next_gone(&self) -> Option<Arc<str>> {
        self.gone().front().cloned()
    }

    /// The one that [`Rooms::next_gone`] gave is in no room any more.
    pub fn took_out(&self) {
        self.gone().pop_front();
    }

    /// Waits until somebody's account is gone.
    pub async fn somebody_left(&self) {
        self.left.notified().await;
    }

    fn gone(&self) -> MutexGuard<'_, VecDeque<Arc<str>>> {
        self.gone.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An account is gone; or a device has the name of one that was there before.
    fn note_account(&self, user: &Arc<str>, change: &AccountChange) {
        let is_gone = match change {
            AccountChange::Deleted => true,
            AccountChange::Created(record) => record.owner.is_some(),
            _ => false,
        };
        if is_gone && self.view().joined_count(user) > 0 {
            self.gone().push_back(user.clone());
            self.left.notify_one();
        }
    }

    /// True if there is a room that not everyone may see.
    pub fn has_closed_ones(&self) -> bool {
        let view = self.view();
        view.names().any(|room| {
            let record = view.record(room);
            record.is_some_and(|record| !record.deleted && !record.kind.is_public())
        })
    }

    /// Takes up what the journal has; gives what it means to those who are connected, if anything
    /// changed.
    pub fn committed(&self, batch: &Batch) -> Option<Arc<[AccessChange]>> {
        let mut changes = Vec::new();
        for (_, entry) in &batch.entries {
            if let Record::Account { user, change } = &entry.record {
                self.note_account(user, change);
            }
            if let Record::Published(published) = &entry.record
                && let Some(change) = record(&published.message)
            {
                let mut view = self.view.write().unwrap_or_else(PoisonError::into_inner);
                changes.push(view.apply(&change));
            }
        }
        (!changes.is_empty()).then(|| changes.into())
    }

    /// The rooms as they are now. To be held shortly: commits wait for it.
    pub fn view(&self) -> RwLockReadGuard<'_, RoomView> {
        self.view.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// What `list` is answered: the user's rooms, or those that everyone sees.
    pub fn list(&self, user: &str, public: bool, after: &str, limit: usize) -> serde_json::Value {
        let limit = limit.clamp(1, MAX_LISTED);
        request::list(&self.view(), user, (public, after, limit))
    }

    fn turns(&self) -> MutexGuard<'_, Turns> {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The record that a message sets or removes, if it is one of the service's own.
fn record(message: &Message) -> Option<Change> {
    if !message.retain
        || !message.topic.starts_with(RECORDS)
        || *message.publisher.client_id != *CLIENT_ID
    {
        return None;
    }
    let change = topics::read(&message.topic, &message.payload);
    if change.is_none() {
        warn!(topic = %message.topic, "a record of a room cannot be read, and is passed over");
    }
    change
}

impl Membership for Rooms {
    fn is_member(&self, user: &str, room: &str) -> bool {
        self.view().is_member(user, room)
    }

    fn may_write(&self, user: &str, room: &str) -> bool {
        self.view().may_write(user, room)
    }

    fn admits(&self, user: &str, room: &str, to_write: bool) -> bool {
        self.view().admits(user, room, to_write)
    }

    fn sees_members(&self, user: &str, room: &str) -> bool {
        self.view().sees_members(user, room)
    }

    fn pace_s(&self, user: &str, room: &str) -> u32 {
        self.view().slow_s(user, room)
    }

    fn next_turn(&self, user: &str, room: &str, now: UnixMillis) -> Option<UnixMillis> {
        self.turns().next(room, user, now)
    }

    fn took_turn(&self, user: &str, room: &str, now: UnixMillis) {
        let slow_s = self.pace_s(user, room);
        self.turns().take(room, user, now, slow_s);
    }

    fn is_moderator(&self, user: &str, room: &str) -> bool {
        self.view().is_moderator(user, room)
    }

    fn is_public(&self, room: &str) -> bool {
        self.view().is_public(room)
    }

    /// Until devices have owners, everyone signed in counts as one.
    fn is_owner(&self, _user: &str, _device: &str) -> bool {
        true
    }
}
