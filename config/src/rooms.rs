//! `[rooms]`: who is in which room, and how much of that one user can make.

use serde::Deserialize;

use crate::reader::{Checks, Section};

/// `[rooms]`: who is in which room.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rooms {
    /// Whether rooms have members of their own.
    pub mode: RoomMode,
    /// Members of one room.
    pub max_members: usize,
    /// Rooms one user is in.
    pub max_rooms_per_user: usize,
    /// Rooms one user owns, deleted ones included.
    pub max_owned_per_user: usize,
    /// Bans, mutes and invitations of one room, each.
    pub max_marks_per_room: usize,
    /// Days an invitation is good.
    pub invitation_days: u32,
    /// Requests of one user in a minute.
    pub requests_per_minute: u32,
}

/// Whether rooms have members of their own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RoomMode {
    /// No: every signed-in user is a member of every room.
    #[default]
    Open,
    /// Yes: they are made, joined and left.
    Managed,
}

impl Default for Rooms {
    fn default() -> Self {
        Self {
            mode: RoomMode::Open,
            max_members: 100_000,
            max_rooms_per_user: 10_000,
            max_owned_per_user: 1000,
            max_marks_per_room: 10_000,
            invitation_days: 14,
            requests_per_minute: 60,
        }
    }
}

impl Section for Rooms {
    fn check(&self, checks: &mut Checks<'_>) {
        checks.range(
            "max_members",
            self.max_members as u64,
            2..=10_000_000,
            "each takes memory",
        );
        for (key, value) in [
            ("max_rooms_per_user", self.max_rooms_per_user),
            ("max_owned_per_user", self.max_owned_per_user),
            ("max_marks_per_room", self.max_marks_per_room),
        ] {
            checks.range(key, value as u64, 1..=1_000_000, "each takes memory");
        }
        checks.range(
            "invitation_days",
            u64::from(self.invitation_days),
            1..=3650,
            "invitations end some day",
        );
        checks.range(
            "requests_per_minute",
            u64::from(self.requests_per_minute),
            1..=60_000,
            "0 would let nobody change anything",
        );
    }
}
