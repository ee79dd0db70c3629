//! What topic rules ask about rooms, devices and people, from those who know.

use std::sync::Arc;

use tidings_core::message::UnixMillis;
use tidings_core::people::Visibility;
use tidings_core::rules::Membership;
use tidings_core::state::State;

use super::People;
use crate::rooms::Rooms;

/// Whoever is asked; see the module.
pub(crate) struct Rights {
    pub rooms: Arc<dyn Membership + Send + Sync>,
    /// The same, if rooms have members of their own.
    pub managed: Option<Arc<Rooms>>,
    /// Where devices have owners: they belong to whom their account names, and one without an account
    /// belongs to nobody.
    pub owners: Option<Arc<dyn State>>,
    pub people: Arc<People>,
}

impl Membership for Rights {
    fn is_member(&self, user: &str, room: &str) -> bool {
        self.rooms.is_member(user, room)
    }

    fn may_write(&self, user: &str, room: &str) -> bool {
        self.rooms.may_write(user, room)
    }

    fn admits(&self, user: &str, room: &str, to_write: bool) -> bool {
        self.rooms.admits(user, room, to_write)
    }

    fn sees_members(&self, user: &str, room: &str) -> bool {
        self.rooms.sees_members(user, room)
    }

    fn pace_s(&self, user: &str, room: &str) -> u32 {
        self.rooms.pace_s(user, room)
    }

    fn next_turn(&self, user: &str, room: &str, now: UnixMillis) -> Option<UnixMillis> {
        self.rooms.next_turn(user, room, now)
    }

    fn took_turn(&self, user: &str, room: &str, now: UnixMillis) {
        self.rooms.took_turn(user, room, now);
    }

    fn is_moderator(&self, user: &str, room: &str) -> bool {
        self.rooms.is_moderator(user, room)
    }

    fn is_public(&self, room: &str) -> bool {
        self.rooms.is_public(room)
    }

    fn is_owner(&self, user: &str, device: &str) -> bool {
        let Some(state) = &self.owners else {
            return self.rooms.is_owner(user, device);
        };
        let owner = state.account(device).and_then(|device| device.owner);
        owner.is_some_and(|owner| *owner == *user)
    }

    fn is_visible(&self, user: &str, other: &str) -> bool {
        if user == other {
            return true;
        }
        match self.people.visibility(other) {
            Visibility::Everyone => true,
            Visibility::Rooms => self
                .managed
                .as_ref()
                .is_none_or(|rooms| rooms.view().sees(user, other)),
            Visibility::Nobody => false,
        }
    }
}
