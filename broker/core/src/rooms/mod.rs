//! Rooms: who is in them, who may change what, and what follows for the topic rules. Pure logic.
//!
//! A room is a set of *records*, each of which is one retained message below `room/{room}`; a
//! [`Change`] sets or removes one of them. [`RoomView`] is the sum of all changes, and nothing else:
//! built from the retained messages at start, kept by those that are committed. [`decide`] turns a
//! command of a user into changes, or says why not.
//!
//! Invariants, in every state that a prefix of changes can leave behind:
//! * A room that exists has exactly one owner: the room's own record names it, in one place.
//! * Who is banned is not a member, whatever else is recorded.
//! * A deleted room has no members, and its name is not given again, because its history stays.
//!
//! This module does not know topics' spelling, JSON, the journal, or who asks whether to believe
//! an actor's name.

mod decide;
mod error;
mod farewell;
mod interned;
mod name;
mod pace;
#[cfg(test)]
mod tests;
mod view;

use std::sync::Arc;

use crate::message::UnixMillis;

pub use decide::{
    Act, Command, Limits, MAX_SLOW_S, MAX_TITLE_BYTES, RoomEdit, decide, forget_ended,
};
pub use error::RoomError;
pub use farewell::farewell;
pub use name::{MAX_ROOM_NAME_BYTES, check_room_name, direct_room_name};
pub use pace::Turns;
pub use view::{AccessChange, RoomView, Standing, Summary};

/// What kind of room it is: how one comes in, and who may write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Everyone signed in sees it and may join.
    Open,
    /// Only members know of it; one joins by invitation.
    Private,
    /// Two people, from the beginning and for good.
    Direct,
    /// Everyone signed in may join and read; few write.
    Channel,
}

/// What a member may do; each role may do all that the ones before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Reads.
    Reader,
    /// Writes.
    Member,
    /// Invites, removes, mutes and bans those of lower roles; slow mode; title.
    Moderator,
    /// Everything, and there is one.
    Owner,
}

/// The record of a room itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoomRecord {
    /// What people read; the name in topics never changes.
    pub title: Arc<str>,
    /// What kind of room it is.
    pub kind: Kind,
    /// The one owner.
    pub owner: Arc<str>,
    /// The other one in a direct room.
    pub with: Option<Arc<str>>,
    /// Nobody writes and nobody joins.
    pub archived: bool,
    /// The room is gone; the record stays so that its name is not given again.
    pub deleted: bool,
    /// Slow mode: seconds between two messages of one member; 0 is off.
    pub slow_s: u32,
    /// When it was made.
    pub since: UnixMillis,
}

/// The record of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemberRecord {
    /// What the member may do. Who the owner is, the room's record decides.
    pub role: Role,
    /// Since when, kept to the second.
    pub since: UnixMillis,
}

/// What can be noted about a user in a room beside membership.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MarkKind {
    /// May not be a member.
    Ban,
    /// May not write.
    Mute,
    /// May join a private room.
    Invite,
}

impl MarkKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Ban, Self::Mute, Self::Invite];
}

/// A ban, mute or invitation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Who made it.
    pub by: Arc<str>,
    /// When.
    pub since: UnixMillis,
    /// When it ends, kept to the second; `None`: when somebody takes it back.
    pub until: Option<UnixMillis>,
}

/// One record of a room set or removed: one retained message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Name of the room.
    pub room: Arc<str>,
    /// Which record.
    pub record: Record,
}

/// A record of a room; `None` removes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// Of the room itself.
    Room(Option<RoomRecord>),
    /// Of a member.
    Member {
        /// Who.
        user: Arc<str>,
        /// What is recorded.
        member: Option<MemberRecord>,
    },
    /// Of a ban, mute or invitation.
    Mark {
        /// Which of them.
        kind: MarkKind,
        /// Whose.
        user: Arc<str>,
        /// What is recorded.
        mark: Option<Mark>,
    },
}

impl Change {
    pub(super) fn room(room: &str, record: RoomRecord) -> Self {
        Self {
            room: room.into(),
            record: Record::Room(Some(record)),
        }
    }

    pub(super) fn member(room: &str, user: &str, member: Option<MemberRecord>) -> Self {
        Self {
            room: room.into(),
            record: Record::Member {
                user: user.into(),
                member,
            },
        }
    }

    pub(super) fn mark(room: &str, user: &str, kind: MarkKind, mark: Option<Mark>) -> Self {
        Self {
            room: room.into(),
            record: Record::Mark {
                kind,
                user: user.into(),
                mark,
            },
        }
    }
}

impl Kind {
    /// True if people who are not in it see it and may join.
    pub const fn is_public(self) -> bool {
        matches!(self, Self::Open | Self::Channel)
    }

    /// The role of who joins.
    pub const fn joining_role(self) -> Role {
        match self {
            Self::Channel => Role::Reader,
            Self::Open | Self::Private | Self::Direct => Role::Member,
        }
    }

    /// The word in records and requests.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Private => "private",
            Self::Direct => "direct",
            Self::Channel => "channel",
        }
    }

    /// The kind that a word means.
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Open, Self::Private, Self::Direct, Self::Channel]
            .into_iter()
            .find(|kind| kind.as_str() == word)
    }
}

impl Role {
    /// The word in records and requests.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Reader => "reader",
            Self::Member => "member",
            Self::Moderator => "moderator",
            Self::Owner => "owner",
        }
    }

    /// The role that a word means.
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Reader, Self::Member, Self::Moderator, Self::Owner]
            .into_iter()
            .find(|role| role.as_str() == word)
    }
}

impl MarkKind {
    /// The level of the topic that carries it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ban => "ban",
            Self::Mute => "mute",
            Self::Invite => "invite",
        }
    }

    /// The kind that a level means.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }
}
