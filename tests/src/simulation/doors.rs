//! Rooms with doors, as the broker has them: who is in a room is what is retained on
//! `room/{room}/member/{user}`, and the shards hear of a change before the batch that makes it.

use std::sync::Arc;

use tidings_core::journal::{Batch, Record};
use tidings_core::rooms::AccessChange;
use tidings_core::rules::Membership;
use tidings_core::state::{State, retained_on};

/// Members as the state has them.
pub(super) struct Doors(pub Arc<dyn State>);

/// Where it stands that somebody is in a room.
pub(super) fn record(room: &str, user: &str) -> String {
    format!("room/{room}/member/{user}")
}

/// What a batch means to those who are connected.
pub(super) fn changes(batch: &Batch) -> Arc<[AccessChange]> {
    let change = |record: &Record| {
        let Record::Published(published) = record else {
            return None;
        };
        let message = &published.message;
        let (room, user) = message
            .topic
            .strip_prefix("room/")?
            .split_once("/member/")?;
        let (room, user) = (room.into(), user.into());
        Some(match message.payload.is_empty() {
            true => AccessChange::Left { room, user },
            false => AccessChange::Joined { room, user },
        })
    };
    let entries = batch.entries.iter();
    entries
        .filter_map(|(_, entry)| change(&entry.record))
        .collect()
}

impl Membership for Doors {
    fn is_member(&self, user: &str, room: &str) -> bool {
        retained_on(&*self.0, &record(room, user)).is_some()
    }

    fn is_moderator(&self, _user: &str, _room: &str) -> bool {
        false
    }

    fn is_public(&self, _room: &str) -> bool {
        false
    }

    fn is_owner(&self, _user: &str, _device: &str) -> bool {
        false
    }
}
