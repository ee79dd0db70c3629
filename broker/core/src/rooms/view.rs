//! The rooms as their records say, in memory: answers who is a member of what, for each delivery.
//!
//! A member takes some thirty bytes: names of users and rooms are stored once and are numbers
//! here; times are whole seconds. The view never contradicts its records: it has no state of its own.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::interned::{IdMap, Interned};
use super::{Change, Kind, MarkKind, MemberRecord, Record, Role, RoomRecord};
use crate::message::UnixMillis;

/// An end that never comes.
const NEVER: u32 = u32::MAX;

/// What a change of a room's records means to those who are connected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessChange {
    /// The user is in the room now, and was not.
    Joined {
        /// The room.
        room: Arc<str>,
        /// The user.
        user: Arc<str>,
    },
    /// The user was in the room, and is not.
    Left {
        /// The room.
        room: Arc<str>,
        /// The user.
        user: Arc<str>,
    },
    /// Something else about who may write or receive.
    Other,
}

/// How a user stands to a room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// The role; `None`: not a member.
    pub role: Option<Role>,
    /// May not be a member.
    pub banned: bool,
    /// May not write.
    pub muted: bool,
    /// Has an invitation.
    pub invited: bool,
}

/// A room as it is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Its name.
    pub room: Arc<str>,
    /// Its record.
    pub record: RoomRecord,
    /// How many members it has.
    pub members: usize,
    /// Role of who asks; `None`: not a member.
    pub role: Option<Role>,
}

#[derive(Clone, Copy, Debug)]
struct Member {
    since_s: u32,
    role: Role,
}

#[derive(Debug, Default)]
struct Room {
    record: Option<Box<RoomRecord>>,
    /// The owner's number, if there is a record.
    owner: Option<u32>,
    members: IdMap<Member>,
    /// Ends of bans, mutes and invitations, by [`MarkKind`].
    marks: [IdMap<u32>; 3],
}

#[derive(Debug, Default)]
struct User {
    /// Records that name the user.
    records: u32,
    /// Rooms with a record of membership, sorted.
    rooms: Vec<u32>,
    /// Rooms whose record names the user as owner, deleted ones included.
    owned: u32,
}

/// See the module.
#[derive(Debug, Default)]
pub struct RoomView {
    rooms: Interned<Room>,
    users: Interned<User>,
    /// Marks that end by themselves: end in seconds, room, user, kind.
    ends: BTreeSet<(u32, u32, u32, MarkKind)>,
}

impl RoomView {
    /// Sets or removes a record.
    pub fn apply(&mut self, change: &Change) -> AccessChange {
        let room = self.rooms.intern(&change.room);
        let access = match &change.record {
            Record::Room(record) => {
                self.set_room(room, record.as_ref());
                AccessChange::Other
            }
            Record::Member { user, member } => {
                let before = self.role(user, &change.room);
                self.set_member(room, user, *member);
                self.access_change(before, &change.room, user)
            }
            Record::Mark { kind, user, mark } => {
                let before = self.role(user, &change.room);
                let is_ban = *kind == MarkKind::Ban && mark.is_some();
                let end = mark.as_ref().map(|mark| mark.until.map_or(NEVER, end_s));
                self.set_mark(room, user, *kind, end);
                if is_ban {
                    // A token may have let them in.
                    AccessChange::Left {
                        room: change.room.clone(),
                        user: user.clone(),
                    }
                } else {
                    self.access_change(before, &change.room, user)
                }
            }
        };
        if self.rooms.get(room).is_some_and(Room::is_nothing) {
            self.rooms.remove(room);
        }
        access
    }

    fn access_change(
        &self,
        before: Option<Role>,
        room: &Arc<str>,
        user: &Arc<str>,
    ) -> AccessChange {
        let (room, user) = (room.clone(), user.clone());
        match (before, self.role(&user, &room)) {
            (None, Some(_)) => AccessChange::Joined { room, user },
            (Some(_), None) => AccessChange::Left { room, user },
            _ => AccessChange::Other,
        }
    }

    fn set_room(&mut self, room: u32, record: Option<&RoomRecord>) {
        let owner = record.map(|record| self.refer(&record.owner));
        if let Some(user) = owner.and_then(|owner| self.users.get_mut(owner)) {
            user.owned += 1;
        }
        let Some(entry) = self.rooms.get_mut(room) else {
            return;
        };
        entry.record = record.cloned().map(Box::new);
        if let Some(old) = std::mem::replace(&mut entry.owner, owner) {
            if let Some(user) = self.users.get_mut(old) {
                user.owned -= 1;
            }
            self.unrefer(old);
        }
    }

    fn set_member(&mut self, room: u32, user: &Arc<str>, member: Option<MemberRecord>) {
        let id = self.refer(user);
        let (Some(entry), Some(found)) = (self.rooms.get_mut(room), self.users.get_mut(id)) else {
            return;
        };
        let place = found.rooms.binary_search(&room);
        let replaced = match member {
            Some(MemberRecord { role, since }) => {
                if let Err(place) = place {
                    found.rooms.insert(place, room);
                }
                let since_s = u32::try_from(since / 1000).unwrap_or(NEVER);
                entry.members.insert(id, Member { since_s, role }).is_some()
            }
            None => {
                if let Ok(place) = place {
                    found.rooms.remove(place);
                }
                let removed = entry.members.remove(&id).is_some();
                if entry.members.capacity() > 16 * (entry.members.len() + 1) {
                    entry.members.shrink_to_fit();
                }
                if removed {
                    self.unrefer(id);
                }
                true
            }
        };
        if replaced {
            self.unrefer(id);
        }
    }

    fn set_mark(&mut self, room: u32, user: &Arc<str>, kind: MarkKind, end: Option<u32>) {
        let id = self.refer(user);
        let Some(entry) = self.rooms.get_mut(room) else {
            return;
        };
        let marks = entry.marks_mut(kind);
        let old = match end {
            Some(end) => marks.insert(id, end),
            None => marks.remove(&id),
        };
        if let Some(old) = old {
            self.ends.remove(&(old, room, id, kind));
            self.unrefer(id);
        }
        match end {
            Some(NEVER) => {}
            Some(end) => {
                self.ends.insert((end, room, id, kind));
            }
            None => self.unrefer(id),
        }
    }

    /// The number of a user that one more record names.
    fn refer(&mut self, name: &Arc<str>) -> u32 {
        let id = self.users.intern(name);
        if let Some(user) = self.users.get_mut(id) {
            user.records += 1;
        }
        id
    }

    fn unrefer(&mut self, id: u32) {
        if let Some(user) = self.users.get_mut(id) {
            user.records = user.records.saturating_sub(1);
            if user.records == 0 {
                self.users.remove(id);
            }
        }
    }

    /// The record of a room; deleted rooms have one, too.
    pub fn record(&self, room: &str) -> Option<&RoomRecord> {
        self.rooms.by_name(room)?.record.as_deref()
    }

    /// The role of a user in a room now; `None`: not a member.
    pub fn role(&self, user: &str, room: &str) -> Option<Role> {
        self.rooms.by_name(room)?.role(self.users.find(user)?)
    }

    /// Whether the user is in the room now.
    pub fn is_member(&self, user: &str, room: &str) -> bool {
        self.role(user, room).is_some()
    }

    /// Whether the user may act on what others wrote.
    pub fn is_moderator(&self, user: &str, room: &str) -> bool {
        self.role(user, room) >= Some(Role::Moderator)
    }

    /// Whether the room shows itself to those who are not in it.
    pub fn is_public(&self, room: &str) -> bool {
        self.record(room)
            .is_some_and(|record| !record.deleted && record.kind.is_public())
    }

    /// Whether the user may write: by role, not muted, and the room is not archived.
    pub fn may_write(&self, user: &str, room: &str) -> bool {
        let (Some(user), Some(room)) = (self.users.find(user), self.rooms.by_name(room)) else {
            return false;
        };
        room.role(user) >= Some(Role::Member)
            && !room.is_marked(MarkKind::Mute, user)
            && room.record.as_ref().is_some_and(|record| !record.archived)
    }

    /// Whether the user sees who else is in the room: in a channel only moderators do.
    pub fn sees_members(&self, user: &str, room: &str) -> bool {
        let least = match self.record(room).map(|record| record.kind) {
            Some(Kind::Channel) => Role::Moderator,
            _ => Role::Reader,
        };
        self.role(user, room) >= Some(least)
    }

    /// Whether the user sees the other one among the members of some room.
    pub fn sees(&self, user: &str, other: &str) -> bool {
        let rooms = |name| self.users.by_name(name).map_or(&[][..], |u| &u.rooms);
        let (mine, theirs) = (rooms(user), rooms(other));
        let (few, many) = if mine.len() < theirs.len() {
            (mine, theirs)
        } else {
            (theirs, mine)
        };
        let both = few.iter().filter(|room| many.binary_search(room).is_ok());
        let mut names = both.filter_map(|room| self.rooms.name(*room));
        names.any(|room| self.sees_members(user, room) && self.is_member(other, room))
    }

    /// Seconds between two messages of the user in the room; 0: none. Moderators need not wait.
    pub fn slow_s(&self, user: &str, room: &str) -> u32 {
        match self.record(room) {
            Some(record) if record.slow_s > 0 && !self.is_moderator(user, room) => record.slow_s,
            _ => 0,
        }
    }

    /// How a user stands to a room.
    pub fn standing(&self, user: &str, room: &str) -> Standing {
        let (Some(user), Some(room)) = (self.users.find(user), self.rooms.by_name(room)) else {
            return Standing::default();
        };
        Standing {
            role: room.role(user),
            banned: room.is_marked(MarkKind::Ban, user),
            muted: room.is_marked(MarkKind::Mute, user),
            invited: room.is_marked(MarkKind::Invite, user),
        }
    }

    /// The record of a member.
    pub fn member(&self, user: &str, room: &str) -> Option<MemberRecord> {
        let id = self.users.find(user)?;
        let member = self.rooms.by_name(room)?.members.get(&id)?;
        Some(MemberRecord {
            role: member.role,
            since: u64::from(member.since_s) * 1000,
        })
    }

    /// Who is to own a room when its owner is gone: of the highest role, and there longest; and since when.
    pub fn heir(&self, room: &str) -> Option<(Arc<str>, UnixMillis)> {
        let room = self.rooms.by_name(room)?;
        let others = room
            .members
            .iter()
            .filter(|(id, _)| Some(**id) != room.owner);
        let others = others.filter_map(|(id, member)| {
            let rank = (std::cmp::Reverse(room.role(*id)?), member.since_s);
            Some((rank, self.users.name(*id)?))
        });
        let ((_, since_s), name) = others.min()?;
        Some((name.clone(), u64::from(since_s) * 1000))
    }

    /// Whether a token may let the user in who is no member: not where they are banned, nor into a room
    /// of two; to write only as somebody who joins could.
    pub fn admits(&self, user: &str, room: &str, to_write: bool) -> bool {
        let Some(record) = self.record(room).filter(|record| !record.deleted) else {
            return false;
        };
        let standing = self.standing(user, room);
        let may_write =
            || !standing.muted && !record.archived && record.kind.joining_role() >= Role::Member;
        record.kind != Kind::Direct && !standing.banned && (!to_write || may_write())
    }

    /// How many records of members a room has.
    pub fn member_count(&self, room: &str) -> usize {
        self.rooms
            .by_name(room)
            .map_or(0, |room| room.members.len())
    }

    /// How many bans, mutes or invitations a room has.
    pub fn mark_count(&self, room: &str, kind: MarkKind) -> usize {
        self.rooms
            .by_name(room)
            .map_or(0, |room| room.marks(kind).len())
    }

    /// How many rooms a user is in, by record.
    pub fn joined_count(&self, user: &str) -> usize {
        self.users.by_name(user).map_or(0, |user| user.rooms.len())
    }

    /// How many rooms name the user as owner, deleted ones included.
    pub fn owned_count(&self, user: &str) -> usize {
        self.users
            .by_name(user)
            .map_or(0, |user| user.owned as usize)
    }

    /// The rooms that a user is in, in the order of their names: up to `limit` after `after`.
    pub fn rooms_of(&self, user: &str, after: &str, limit: usize) -> Vec<Summary> {
        let rooms = self.users.by_name(user).map_or(&[][..], |user| &user.rooms);
        let names = rooms.iter().filter_map(|room| self.rooms.name(*room));
        let names = names.filter(|name| self.is_member(user, name)).collect();
        self.summaries(names, user, after, limit)
    }

    /// The rooms that show themselves to everyone, as [`Self::rooms_of`].
    pub fn public_rooms(&self, user: &str, after: &str, limit: usize) -> Vec<Summary> {
        let is_public = |room: &Room| {
            let record = room.record.as_ref();
            record.is_some_and(|record| !record.deleted && record.kind.is_public())
        };
        let public = self.rooms.iter().filter(|(_, room)| is_public(room));
        self.summaries(public.map(|(name, _)| name).collect(), user, after, limit)
    }

    fn summaries(
        &self,
        mut names: Vec<&Arc<str>>,
        user: &str,
        after: &str,
        limit: usize,
    ) -> Vec<Summary> {
        names.retain(|name| ***name > *after);
        // Only those that are listed are sorted: there may be many others.
        if names.len() > limit {
            names.select_nth_unstable(limit);
            names.truncate(limit);
        }
        names.sort_unstable();
        let summary = |name: &Arc<str>| {
            Some(Summary {
                room: name.clone(),
                record: self.record(name)?.clone(),
                members: self.member_count(name),
                role: self.role(user, name),
            })
        };
        names.into_iter().filter_map(summary).collect()
    }

    /// Names of all rooms that have a record, in no particular order.
    pub fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.rooms.iter().map(|(name, _)| name)
    }

    /// About the bytes that users, with their names, and rooms, with their members, take.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> (usize, usize) {
        let reference_counts = 2 * size_of::<usize>();
        let names = self.users.iter().map(|(name, user)| {
            name.len() + reference_counts + user.rooms.capacity() * size_of::<u32>()
        });
        let users = self.users.table_bytes() + names.sum::<usize>();
        let slot = size_of::<(u32, Member)>() + 1;
        let members = self.rooms.iter().map(|(_, room)| {
            // A hash table is filled to seven eighths at most.
            (room.members.capacity() * 8 / 7) * slot
        });
        (users, self.rooms.table_bytes() + members.sum::<usize>())
    }

    /// How many rooms and users have records.
    pub fn counts(&self) -> (usize, usize) {
        (self.rooms.len(), self.users.len())
    }

    /// When the next ban, mute or invitation ends.
    pub fn next_end(&self) -> Option<UnixMillis> {
        self.ends.first().map(|(end, ..)| u64::from(*end) * 1000)
    }

    /// Up to `limit` bans, mutes and invitations that have ended: room, user and kind.
    pub(super) fn ended(
        &self,
        now: UnixMillis,
        limit: usize,
    ) -> impl Iterator<Item = (&Arc<str>, &Arc<str>, MarkKind)> {
        self.ends
            .iter()
            .take_while(move |(end, ..)| u64::from(*end) * 1000 <= now)
            .take(limit)
            .filter_map(|(_, room, user, kind)| {
                Some((self.rooms.name(*room)?, self.users.name(*user)?, *kind))
            })
    }

    /// What a command left to do in a room when it was interrupted, or leaves to do because it is
    /// much: at most `limit` changes; none if the room is as it should be.
    pub fn repairs(&self, room: &str, limit: usize) -> Vec<Change> {
        let Some(entry) = self.rooms.by_name(room) else {
            return Vec::new();
        };
        let user = |id: &u32| self.users.name(*id);
        let removed = |id: &u32| Some(Change::member(room, user(id)?, None));
        let unmarked = |kind| move |id: &u32| Some(Change::mark(room, user(id)?, kind, None));
        let Some(record) = entry.record.as_ref().filter(|record| !record.deleted) else {
            // Nobody is in it any more; the records follow.
            let members = entry.members.keys().filter_map(removed);
            let marks = MarkKind::ALL
                .into_iter()
                .flat_map(|kind| entry.marks(kind).keys().filter_map(unmarked(kind)));
            return members.chain(marks).take(limit).collect();
        };
        let mut changes = Vec::new();
        let set = |id: u32, role| {
            let since = entry
                .members
                .get(&id)
                .map_or(record.since, |member| u64::from(member.since_s) * 1000);
            Some(Change::member(
                room,
                user(&id)?,
                Some(MemberRecord { role, since }),
            ))
        };
        let owner = entry.owner;
        if let Some(owner) = owner
            && entry
                .members
                .get(&owner)
                .is_none_or(|m| m.role != Role::Owner)
        {
            changes.extend(set(owner, Role::Owner));
        }
        if let Some(with) = &record.with
            && self.member(with, room).is_none()
        {
            let member = MemberRecord {
                role: Role::Member,
                since: record.since,
            };
            changes.push(Change::member(room, with, Some(member)));
        }
        for (id, member) in &entry.members {
            if Some(*id) != owner && member.role == Role::Owner {
                changes.extend(set(*id, Role::Moderator));
            }
        }
        let banned = entry.marks(MarkKind::Ban).keys();
        changes.extend(
            banned
                .filter(|id| entry.members.contains_key(id))
                .filter_map(removed),
        );
        let invited = entry.marks(MarkKind::Invite).keys();
        changes.extend(
            invited
                .filter(|id| entry.role(**id).is_some())
                .filter_map(unmarked(MarkKind::Invite)),
        );
        changes.truncate(limit);
        changes
    }
}

impl Room {
    const fn marks(&self, kind: MarkKind) -> &IdMap<u32> {
        let [bans, mutes, invites] = &self.marks;
        match kind {
            MarkKind::Ban => bans,
            MarkKind::Mute => mutes,
            MarkKind::Invite => invites,
        }
    }

    const fn marks_mut(&mut self, kind: MarkKind) -> &mut IdMap<u32> {
        let [bans, mutes, invites] = &mut self.marks;
        match kind {
            MarkKind::Ban => bans,
            MarkKind::Mute => mutes,
            MarkKind::Invite => invites,
        }
    }

    fn is_marked(&self, kind: MarkKind, user: u32) -> bool {
        let marks = self.marks(kind);
        !marks.is_empty() && marks.contains_key(&user)
    }

    fn role(&self, user: u32) -> Option<Role> {
        if self.record.as_ref()?.deleted || self.is_marked(MarkKind::Ban, user) {
            return None;
        }
        if self.owner == Some(user) {
            return Some(Role::Owner);
        }
        // Only the room's own record makes an owner.
        Some(self.members.get(&user)?.role.min(Role::Moderator))
    }

    fn is_nothing(&self) -> bool {
        self.record.is_none()
            && self.members.is_empty()
            && self.marks.iter().all(|marks| marks.is_empty())
    }
}

/// An end in seconds, never before the time that was said.
fn end_s(end: UnixMillis) -> u32 {
    u32::try_from(end.div_ceil(1000)).unwrap_or(NEVER - 1)
}
