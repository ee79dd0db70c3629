//! `[people]`: who is here, and who may see it.

use serde::Deserialize;

use crate::reader::{Checks, Section};

/// `[people]`: who is here, and who may see it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct People {
    /// Whether connections make presence.
    pub presence: bool,
    /// Seconds that somebody without a connection still counts as being there.
    pub grace_s: u32,
    /// Seconds between two changes of one user's presence.
    pub interval_s: u32,
    /// Who sees the presence of users who did not choose.
    pub visible_to: VisibleTo,
    /// Requests of one user in a minute.
    pub requests_per_minute: u32,
}

/// Who sees the presence of a user.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VisibleTo {
    /// Everyone who is signed in.
    #[default]
    Everyone,
    /// Who sees them among the members of a room.
    Rooms,
    /// Only the user.
    Nobody,
}

impl Default for People {
    fn default() -> Self {
        Self {
            presence: true,
            grace_s: 30,
            interval_s: 5,
            visible_to: VisibleTo::Everyone,
            requests_per_minute: 60,
        }
    }
}

impl Section for People {
    fn check(&self, checks: &mut Checks<'_>) {
        for (key, value) in [("grace_s", self.grace_s), ("interval_s", self.interval_s)] {
            checks.range(
                key,
                u64::from(value),
                0..=3600,
                "nobody waits longer to know",
            );
        }
        checks.range(
            "requests_per_minute",
            u64::from(self.requests_per_minute),
            1..=60_000,
            "0 would let nobody ask",
        );
    }
}
