//! Whose device is whose, by the book of accounts; everything else about rooms is as others say.

use std::sync::Arc;

use tidings_core::message::UnixMillis;
use tidings_core::rules::Membership;
use tidings_core::state::State;

/// Devices belong to whom their account names; one without an account belongs to nobody.
pub(crate) struct OwnedDevices {
    pub rooms: Arc<dyn Membership + Send + Sync>,
    pub state: Arc<dyn State>,
}

impl Membership for OwnedDevices {
    fn is_member(&self, user: &str, room: &str) -> bool {
        self.rooms.is_member(user, room)
    }

    fn may_write(&self, user: &str, room: &str) -> bool {
        self.rooms.may_write(user, room)
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
        let owner = self.state.account(device).and_then(|device| device.owner);
        owner.is_some_and(|owner| *owner == *user)
    }
}
