//! From a command to changes: who may do what, and in which order its records change.
//!
//! Order: each prefix of the changes is a harmless state, which [`RoomView::repairs`] completes.
//! What takes rights away comes before what gives some.

use std::sync::Arc;

use super::name::{check_room_name, direct_room_name};
use super::{Change, Kind, Mark, MarkKind, MemberRecord, Role, RoomError, RoomRecord, RoomView};
use crate::message::UnixMillis;

/// Bytes of a title.
pub const MAX_TITLE_BYTES: usize = 256;

/// Longest interval of slow mode, seconds: six hours, a few messages a day.
pub const MAX_SLOW_S: u32 = 6 * 60 * 60;

/// Bounds on what users may make.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Members of one room.
    pub members_per_room: usize,
    /// Rooms one user is in.
    pub rooms_per_user: usize,
    /// Rooms one user owns, deleted ones included: their names stay taken.
    pub owned_per_user: usize,
    /// Bans, mutes and invitations of one room, each.
    pub marks_per_room: usize,
    /// How long an invitation is good, seconds.
    pub invitation_s: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            members_per_room: 100_000,
            rooms_per_user: 10_000,
            owned_per_user: 1000,
            marks_per_room: 10_000,
            invitation_s: 14 * 24 * 60 * 60,
        }
    }
}

/// Something that a user wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Makes a room; the actor becomes its owner.
    Create {
        /// Its name; a direct room has none of its own.
        room: Option<Arc<str>>,
        /// What people read; the name if none is given.
        title: Option<Arc<str>>,
        /// What kind of room.
        kind: Kind,
        /// The other one in a direct room.
        with: Option<Arc<str>>,
    },
    /// Something in a room that exists.
    In {
        /// Its name.
        room: Arc<str>,
        /// What.
        act: Act,
    },
}

/// What can be done in a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// Gives it a new title.
    Rename(Arc<str>),
    /// Lets a user join a private room.
    Invite(Arc<str>),
    /// Takes an invitation back, or declines it.
    Uninvite(Arc<str>),
    /// Comes in.
    Join,
    /// Goes.
    Leave,
    /// Removes a user, who may come back.
    Kick(Arc<str>),
    /// Removes a user, who may not come back, for so many seconds or for good.
    Ban(Arc<str>, Option<u32>),
    /// Takes a ban back.
    Unban(Arc<str>),
    /// Lets a user not write, for so many seconds or until unmuted.
    Mute(Arc<str>, Option<u32>),
    /// Takes a mute back.
    Unmute(Arc<str>),
    /// Gives a member another role.
    SetRole(Arc<str>, Role),
    /// Hands the room over.
    Transfer(Arc<str>),
    /// Closes the room for writing and joining, or opens it again.
    Archive(bool),
    /// Removes the room for good.
    Delete,
    /// Sets the interval of slow mode, seconds; 0 is off.
    Slow(u32),
    /// Some of these at once, all or nothing.
    Change(RoomEdit),
}

/// What of a room's own record is to be otherwise; `None` leaves it as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoomEdit {
    /// As [`Act::Rename`].
    pub title: Option<Arc<str>>,
    /// As [`Act::Slow`].
    pub slow_s: Option<u32>,
    /// As [`Act::Archive`].
    pub archived: Option<bool>,
}

/// The changes that carry out a command, in their order; empty if everything is so already.
///
/// # Errors
/// Why the actor may not, or it cannot be.
pub fn decide(
    view: &RoomView,
    limits: &Limits,
    now: UnixMillis,
    actor: &str,
    command: &Command,
) -> Result<Vec<Change>, RoomError> {
    let scene = |room| Scene {
        view,
        limits,
        now,
        actor,
        room,
    };
    match command {
        Command::Create {
            room,
            title,
            kind: Kind::Direct,
            with,
        } => {
            let with = with.as_deref().ok_or(RoomError::BadRequest)?;
            if room.is_some() || with == actor {
                return Err(RoomError::BadRequest);
            }
            let room = direct_room_name(actor, with);
            scene(&room).create_direct(title.as_deref(), with)
        }
        Command::Create {
            room,
            title,
            kind,
            with,
        } => {
            let room = room.as_deref().ok_or(RoomError::BadRequest)?;
            if with.is_some() {
                return Err(RoomError::BadRequest);
            }
            check_room_name(room)?;
            scene(room).create(title.as_deref(), *kind)
        }
        Command::In { room, act } => scene(room).act(act),
    }
}

/// The changes that remove up to `limit` bans, mutes and invitations whose time is over.
pub fn forget_ended(view: &RoomView, now: UnixMillis, limit: usize) -> Vec<Change> {
    view.ended(now, limit)
        .map(|(room, user, kind)| Change::mark(room, user, kind, None))
        .collect()
}

/// A command where and when it is given.
struct Scene<'a> {
    view: &'a RoomView,
    limits: &'a Limits,
    now: UnixMillis,
    actor: &'a str,
    room: &'a str,
}

type Decided = Result<Vec<Change>, RoomError>;

impl Scene<'_> {
    fn create(&self, title: Option<&str>, kind: Kind) -> Decided {
        let record = self.new_record(title.unwrap_or(self.room), kind)?;
        let owner = self.member(Role::Owner);
        Ok(vec![
            Change::room(self.room, record),
            Change::member(self.room, self.actor, Some(owner)),
        ])
    }

    fn create_direct(&self, title: Option<&str>, with: &str) -> Decided {
        if self.view.joined_count(with) >= self.limits.rooms_per_user {
            return Err(RoomError::LimitReached);
        }
        let mut record = self.new_record(title.unwrap_or_default(), Kind::Direct)?;
        record.with = Some(with.into());
        let (owner, other) = (self.member(Role::Owner), self.member(Role::Member));
        Ok(vec![
            Change::room(self.room, record),
            Change::member(self.room, self.actor, Some(owner)),
            Change::member(self.room, with, Some(other)),
        ])
    }

    fn new_record(&self, title: &str, kind: Kind) -> Result<RoomRecord, RoomError> {
        // Private rooms that one does not know of take their names, too: it cannot be otherwise.
        if self.view.record(self.room).is_some() {
            return Err(RoomError::Exists);
        }
        if self.view.owned_count(self.actor) >= self.limits.owned_per_user {
            return Err(RoomError::LimitReached);
        }
        self.check_joined(self.actor)?;
        Ok(RoomRecord {
            title: check_title(title)?.into(),
            kind,
            owner: self.actor.into(),
            with: None,
            archived: false,
            deleted: false,
            slow_s: 0,
            since: self.now,
        })
    }

    fn act(&self, act: &Act) -> Decided {
        let record = self.known_room()?;
        let for_direct = match act {
            Act::Archive(_) => true,
            Act::Change(edit) => edit.title.is_none() && edit.slow_s.is_none(),
            _ => false,
        };
        if record.kind == Kind::Direct && !for_direct {
            return Err(RoomError::NotForKind);
        }
        match act {
            Act::Rename(title) => self.change(
                record,
                &RoomEdit {
                    title: Some(title.clone()),
                    ..RoomEdit::default()
                },
            ),
            Act::Invite(user) => self.invite(record, user),
            Act::Uninvite(user) => self.uninvite(user),
            Act::Join => self.join(record),
            Act::Leave => self.leave(record),
            Act::Kick(user) => {
                self.need_over(user)?;
                if !self.view.is_member(user, self.room) {
                    return Err(RoomError::NotThere);
                }
                Ok(vec![self.without(user)])
            }
            Act::Ban(user, seconds) => self.ban(user, *seconds),
            Act::Unban(user) => self.unmark(user, MarkKind::Ban),
            Act::Mute(user, seconds) => {
                self.need_over(user)?;
                if !self.view.is_member(user, self.room) {
                    return Err(RoomError::NotThere);
                }
                self.mark(user, MarkKind::Mute, *seconds)
            }
            Act::Unmute(user) => self.unmark(user, MarkKind::Mute),
            Act::SetRole(user, role) => self.set_role(user, *role),
            Act::Transfer(user) => self.transfer(record, user),
            Act::Archive(archived) => self.change(
                record,
                &RoomEdit {
                    archived: Some(*archived),
                    ..RoomEdit::default()
                },
            ),
            Act::Delete => {
                self.need(Role::Owner)?;
                Ok(self.edit(record, |record| record.deleted = true))
            }
            Act::Slow(seconds) => self.change(
                record,
                &RoomEdit {
                    slow_s: Some(*seconds),
                    ..RoomEdit::default()
                },
            ),
            Act::Change(edit) => self.change(record, edit),
        }
    }

    /// The room's own record changes as a whole or not at all.
    fn change(&self, record: &RoomRecord, edit: &RoomEdit) -> Decided {
        if edit.title.is_some() || edit.slow_s.is_some() {
            self.need(Role::Moderator)?;
        }
        if edit.archived.is_some() && record.kind != Kind::Direct {
            self.need(Role::Owner)?;
        }
        let title = edit.title.as_deref().map(check_title).transpose()?;
        if edit.slow_s.is_some_and(|seconds| seconds > MAX_SLOW_S) {
            return Err(RoomError::BadRequest);
        }
        Ok(self.edit(record, |record| {
            if let Some(title) = title {
                record.title = title.into();
            }
            record.slow_s = edit.slow_s.unwrap_or(record.slow_s);
            record.archived = edit.archived.unwrap_or(record.archived);
        }))
    }

    fn invite(&self, record: &RoomRecord, user: &str) -> Decided {
        self.need(Role::Moderator)?;
        let standing = self.view.standing(user, self.room);
        if standing.role.is_some() {
            return Err(RoomError::AlreadyMember);
        }
        if standing.banned {
            return Err(RoomError::Banned);
        }
        if record.archived {
            return Err(RoomError::Archived);
        }
        let seconds = u32::try_from(self.limits.invitation_s).unwrap_or(u32::MAX);
        self.mark(user, MarkKind::Invite, Some(seconds))
    }

    fn uninvite(&self, user: &str) -> Decided {
        if user != self.actor {
            self.need(Role::Moderator)?;
        }
        if !self.view.standing(user, self.room).invited {
            return Err(RoomError::NoSuchMark);
        }
        Ok(vec![Change::mark(self.room, user, MarkKind::Invite, None)])
    }

    fn join(&self, record: &RoomRecord) -> Decided {
        let standing = self.view.standing(self.actor, self.room);
        if standing.role.is_some() {
            return Ok(Vec::new());
        }
        if standing.banned {
            return Err(RoomError::Banned);
        }
        if record.archived {
            return Err(RoomError::Archived);
        }
        if !record.kind.is_public() && !standing.invited {
            return Err(RoomError::NoSuchRoom);
        }
        if self.view.member_count(self.room) >= self.limits.members_per_room {
            return Err(RoomError::LimitReached);
        }
        self.check_joined(self.actor)?;
        let member = self.member(record.kind.joining_role());
        let mut changes = vec![Change::member(self.room, self.actor, Some(member))];
        if standing.invited {
            changes.push(Change::mark(self.room, self.actor, MarkKind::Invite, None));
        }
        Ok(changes)
    }

    fn leave(&self, record: &RoomRecord) -> Decided {
        let role = self.need(Role::Reader)?;
        if role < Role::Owner {
            return Ok(vec![self.without(self.actor)]);
        }
        if self.view.member_count(self.room) > 1 {
            return Err(RoomError::OwnerStays);
        }
        // The last one out: an empty room has nobody who could do anything with it.
        Ok(self.edit(record, |record| record.deleted = true))
    }

    fn ban(&self, user: &str, seconds: Option<u32>) -> Decided {
        self.need_over(user)?;
        let mut changes = self.mark(user, MarkKind::Ban, seconds)?;
        if self.view.member(user, self.room).is_some() {
            changes.push(self.without(user));
        }
        if self.view.standing(user, self.room).invited {
            changes.push(Change::mark(self.room, user, MarkKind::Invite, None));
        }
        Ok(changes)
    }

    fn set_role(&self, user: &str, role: Role) -> Decided {
        let own = self.need_over(user)?;
        if role >= own {
            return Err(RoomError::NotAllowed);
        }
        let Some(member) = self
            .view
            .member(user, self.room)
            .filter(|_| self.view.is_member(user, self.room))
        else {
            return Err(RoomError::NotThere);
        };
        if member.role == role {
            return Ok(Vec::new());
        }
        let member = MemberRecord { role, ..member };
        Ok(vec![Change::member(self.room, user, Some(member))])
    }

    /// The room's own record decides who the owner is; the records of the two members follow.
    fn transfer(&self, record: &RoomRecord, user: &str) -> Decided {
        self.need(Role::Owner)?;
        if user == self.actor {
            return Ok(Vec::new());
        }
        if !self.view.is_member(user, self.room) {
            return Err(RoomError::NotThere);
        }
        if self.view.owned_count(user) >= self.limits.owned_per_user {
            return Err(RoomError::LimitReached);
        }
        let with_role = |user: &str, role| {
            let member = self.view.member(user, self.room);
            let since = member.map_or(record.since, |member| member.since);
            Change::member(self.room, user, Some(MemberRecord { role, since }))
        };
        let mut changes = self.edit(record, |record| record.owner = user.into());
        changes.push(with_role(user, Role::Owner));
        changes.push(with_role(self.actor, Role::Moderator));
        if self.view.standing(user, self.room).muted {
            changes.push(Change::mark(self.room, user, MarkKind::Mute, None));
        }
        Ok(changes)
    }

    fn mark(&self, user: &str, kind: MarkKind, seconds: Option<u32>) -> Decided {
        if self.view.mark_count(self.room, kind) >= self.limits.marks_per_room {
            return Err(RoomError::LimitReached);
        }
        let until = seconds.map(|s| self.now.saturating_add(u64::from(s) * 1000));
        let mark = Mark {
            by: self.actor.into(),
            since: self.now,
            until,
        };
        Ok(vec![Change::mark(self.room, user, kind, Some(mark))])
    }

    fn unmark(&self, user: &str, kind: MarkKind) -> Decided {
        self.need(Role::Moderator)?;
        let standing = self.view.standing(user, self.room);
        let marked = match kind {
            MarkKind::Ban => standing.banned,
            MarkKind::Mute => standing.muted,
            MarkKind::Invite => standing.invited,
        };
        if !marked {
            return Err(RoomError::NoSuchMark);
        }
        if user == self.actor && kind == MarkKind::Mute {
            return Err(RoomError::NotAllowed);
        }
        Ok(vec![Change::mark(self.room, user, kind, None)])
    }

    /// The room, if the actor may know that it exists.
    fn known_room(&self) -> Result<&RoomRecord, RoomError> {
        let record = self.view.record(self.room);
        let record = record.filter(|r| !r.deleted).ok_or(RoomError::NoSuchRoom)?;
        let standing = self.view.standing(self.actor, self.room);
        let invited = standing.invited && !standing.banned;
        if record.kind.is_public() || standing.role.is_some() || invited {
            Ok(record)
        } else {
            Err(RoomError::NoSuchRoom)
        }
    }

    fn need(&self, least: Role) -> Result<Role, RoomError> {
        match self.view.role(self.actor, self.room) {
            None => Err(RoomError::NotMember),
            Some(role) if role < least => Err(RoomError::NotAllowed),
            Some(role) => Ok(role),
        }
    }

    /// A moderator whose role is above that of `user`, who may be no member at all.
    fn need_over(&self, user: &str) -> Result<Role, RoomError> {
        let own = self.need(Role::Moderator)?;
        if self.view.role(user, self.room) >= Some(own) {
            return Err(RoomError::NotAllowed);
        }
        Ok(own)
    }

    fn check_joined(&self, user: &str) -> Result<(), RoomError> {
        if self.view.joined_count(user) >= self.limits.rooms_per_user {
            return Err(RoomError::LimitReached);
        }
        Ok(())
    }

    fn member(&self, role: Role) -> MemberRecord {
        MemberRecord {
            role,
            since: self.now,
        }
    }

    fn without(&self, user: &str) -> Change {
        Change::member(self.room, user, None)
    }

    fn edit(&self, record: &RoomRecord, how: impl FnOnce(&mut RoomRecord)) -> Vec<Change> {
        let mut edited = record.clone();
        how(&mut edited);
        if edited == *record {
            return Vec::new();
        }
        vec![Change::room(self.room, edited)]
    }
}

fn check_title(title: &str) -> Result<&str, RoomError> {
    if title.len() > MAX_TITLE_BYTES || title.chars().any(char::is_control) {
        return Err(RoomError::BadRequest);
    }
    Ok(title)
}
