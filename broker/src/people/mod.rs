//! People of a running broker: who is here, as their connections say, what they chose about being
//! seen, and the service that tells others and answers requests about it.
//!
//! ```text
//! shards  ->  connected, disconnected  ->  Presence (core)  ->  service  ->  user/{user}/presence
//! user/{user}/request/presence  ->  service  ->  user/{user}/settings  ->  journal  ->  choices
//! ```
//! Invariants: shards only count, nothing is published from their threads; what users chose changes by
//! what the journal has, and by nothing else. Devices (accounts with an owner), clients without a name
//! and parts of the broker are not people.
//! What people have not read is counted when they ask: see [`unread`].
//! This module does not know how users prove who they are, nor who shares a room with whom.

mod presence;
mod rights;
mod service;
mod topics;
mod unread;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use tidings_core::journal::{Batch, Record};
use tidings_core::message::{Message, Offset};
use tidings_core::people::{Presence, PresenceOptions, Visibility};
use tidings_core::shard::{Event, Now};
use tidings_core::state::State;
use tokio::sync::Notify;

use crate::clock::Clock;
use crate::handshake::is_hand;

pub(crate) use rights::Rights;
pub(crate) use service::{Start, run};
use topics::Choice;
pub(crate) use unread::{COUNTS, Counts, CountsService, REQUESTS as COUNT_REQUESTS, UnreadQuery};

/// Client Identifier of the service. No link to another broker can have it: their names have no @.
const CLIENT_ID: &str = "$link/@people";

/// What people are told and may ask.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Whether connections make presence.
    pub presence: bool,
    /// How patient it is.
    pub patience: PresenceOptions,
    /// Who sees the presence of users who did not choose.
    pub visible_to: Visibility,
    /// Requests of one user; as many may come at once.
    pub requests_per_minute: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            presence: true,
            patience: PresenceOptions::default(),
            visible_to: Visibility::Everyone,
            requests_per_minute: 60,
        }
    }
}

/// The people, as all threads see them.
pub(crate) struct People {
    options: Options,
    clock: Clock,
    state: Arc<dyn State>,
    presence: Mutex<Presence>,
    /// What users chose, of those who chose something else than the default.
    choices: RwLock<HashMap<Arc<str>, Choice>>,
    /// Somebody came or went.
    changed: Notify,
}

impl People {
    /// What the state has. To be called before anything is committed.
    pub fn load(options: Options, state: Arc<dyn State>, clock: Clock) -> Self {
        let now = clock.now();
        let mut presence = Presence::new(options.patience);
        let mut choices = HashMap::new();
        let mut visit = |message: &Message| {
            if *message.publisher.client_id != *CLIENT_ID {
                return;
            }
            if let Some(user) = topics::user_of_presence(&message.topic)
                && let Some(shown) = topics::read_presence(&message.payload)
            {
                presence.restore(&user.into(), shown, now);
            } else if let Some(user) = topics::user_of_settings(&message.topic)
                && let Some(choice) = topics::read_settings(&message.payload)
            {
                choices.insert(user.into(), choice);
            }
        };
        for filter in [topics::PRESENCE, topics::SETTINGS] {
            state.for_each_retained(filter, Offset(u64::MAX), &mut |retained| {
                visit(&retained.published.message);
            });
        }
        Self {
            options,
            clock,
            state,
            presence: Mutex::new(presence),
            choices: RwLock::new(choices),
            changed: Notify::new(),
        }
    }

    /// Something happened in a shard.
    pub fn happened(&self, event: &Event) {
        match event {
            Event::Connected {
                client_id, user, ..
            } if self.options.presence && !user.is_empty() && !is_hand(client_id) => {
                // Asked before the lock, and once for each time that somebody comes.
                let known = self.presence().knows(user);
                if !known && self.is_device(user) {
                    return;
                }
                let away = self.choice(user).away;
                let now = self.now();
                self.presence().connected(user, client_id, away, now);
            }
            Event::Disconnected {
                client_id, user, ..
            } if !user.is_empty() => {
                let now = self.now();
                self.presence().disconnected(user, client_id, now);
            }
            _ => return,
        }
        self.changed.notify_one();
    }

    /// Takes up what the journal has; true if it changes who may see whom.
    pub fn committed(&self, batch: &Batch) -> bool {
        let mut changed = false;
        for (_, entry) in &batch.entries {
            let Record::Published(published) = &entry.record else {
                continue;
            };
            let message = &published.message;
            if message.retain
                && let Some(user) = topics::user_of_settings(&message.topic)
                && *message.publisher.client_id == *CLIENT_ID
            {
                let choice = topics::read_settings(&message.payload);
                let mut choices = self.choices.write().unwrap_or_else(PoisonError::into_inner);
                match choice {
                    Some(choice) => choices.insert(user.into(), choice),
                    None => choices.remove(user),
                };
                changed = true;
            }
        }
        changed
    }

    /// Who sees the presence of a user.
    pub fn visibility(&self, user: &str) -> Visibility {
        self.choice(user)
            .visible_to
            .unwrap_or(self.options.visible_to)
    }

    /// A device signs in under a name of its own, and is not somebody.
    fn is_device(&self, user: &str) -> bool {
        let account = self.state.account(user);
        account.is_some_and(|account| account.owner.is_some())
    }

    fn choice(&self, user: &str) -> Choice {
        let choices = self.choices.read().unwrap_or_else(PoisonError::into_inner);
        choices.get(user).copied().unwrap_or_default()
    }

    /// To be held shortly: shards wait for it.
    fn presence(&self) -> MutexGuard<'_, Presence> {
        self.presence.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Now {
        self.clock.now()
    }
}
