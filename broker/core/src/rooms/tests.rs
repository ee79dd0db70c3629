//! What holds for rooms whatever anyone does: random commands, each cut off at every point.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::*;

const USERS: [&str; 6] = ["ann", "bob", "cat", "dan", "eve", "fay"];
const ROOMS: [&str; 3] = ["lobby", "cellar", "news"];
const ROLES: [Role; 4] = [Role::Reader, Role::Member, Role::Moderator, Role::Owner];

/// xorshift64*: repeatable, and good enough to choose commands.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        number as usize % bound
    }

    fn user(&mut self) -> Arc<str> {
        USERS[self.below(USERS.len())].into()
    }

    fn seconds(&mut self) -> Option<u32> {
        (self.below(2) == 0).then(|| self.below(100) as u32)
    }

    fn command(&mut self) -> Command {
        let room: Arc<str> = ROOMS[self.below(ROOMS.len())].into();
        if self.below(8) == 0 {
            let kind = [Kind::Open, Kind::Private, Kind::Channel, Kind::Direct][self.below(4)];
            let direct = kind == Kind::Direct;
            return Command::Create {
                room: (!direct).then_some(room),
                title: None,
                kind,
                with: direct.then(|| self.user()),
            };
        }
        let user = self.user();
        let act = match self.below(17) {
            0 => Act::Rename("title".into()),
            1 | 2 => Act::Invite(user),
            3 => Act::Uninvite(user),
            4 | 5 => Act::Join,
            6 => Act::Leave,
            7 => Act::Kick(user),
            8 => Act::Ban(user, self.seconds()),
            9 => Act::Unban(user),
            10 => Act::Mute(user, self.seconds()),
            11 => Act::Unmute(user),
            12 => Act::SetRole(user, ROLES[self.below(4)]),
            13 => Act::Transfer(user),
            14 => Act::Archive(self.below(2) == 0),
            15 if self.below(10) == 0 => Act::Delete,
            15 => Act::Change(RoomEdit {
                title: (self.below(2) == 0).then(|| "another".into()),
                slow_s: (self.below(2) == 0).then(|| self.below(60) as u32),
                archived: (self.below(3) == 0).then(|| self.below(2) == 0),
            }),
            _ => Act::Slow(self.below(60) as u32),
        };
        let room = if self.below(6) == 0 {
            direct_room_name(&self.user(), &self.user()).into()
        } else {
            room
        };
        Command::In { room, act }
    }
}

/// The retained messages: what a view is built from after a restart.
type Records = BTreeMap<(Arc<str>, u8, Arc<str>), Change>;

fn place(change: &Change) -> (Arc<str>, u8, Arc<str>) {
    let (number, user) = match &change.record {
        Record::Room(_) => (0, Arc::from("")),
        Record::Member { user, .. } => (1, user.clone()),
        Record::Mark { kind, user, .. } => (2 + *kind as u8, user.clone()),
    };
    (change.room.clone(), number, user)
}

fn is_set(change: &Change) -> bool {
    match &change.record {
        Record::Room(record) => record.is_some(),
        Record::Member { member, .. } => member.is_some(),
        Record::Mark { mark, .. } => mark.is_some(),
    }
}

fn store(records: &mut Records, change: &Change) {
    if is_set(change) {
        records.insert(place(change), change.clone());
    } else {
        records.remove(&place(change));
    }
}

fn rebuilt<'a>(records: impl Iterator<Item = &'a Change>) -> RoomView {
    let mut view = RoomView::default();
    for change in records {
        view.apply(change);
    }
    view
}

/// Everything that a view answers, about everyone.
fn answers(view: &RoomView) -> Vec<(String, Standing, [bool; 4], Option<MemberRecord>)> {
    let mut names: Vec<_> = view.names().cloned().collect();
    names.sort();
    let mut answers = Vec::new();
    for room in &names {
        for user in USERS {
            let flags = [
                view.may_write(user, room),
                view.sees_members(user, room),
                view.is_public(room),
                view.slow_s(user, room) > 0,
            ];
            let standing = view.standing(user, room);
            answers.push((
                format!("{user} in {room}"),
                standing,
                flags,
                view.member(user, room),
            ));
        }
    }
    answers
}

fn assert_invariants(view: &RoomView) {
    for room in view.names() {
        let Some(record) = view.record(room) else {
            continue;
        };
        let owners = USERS
            .iter()
            .filter(|user| view.role(user, room) == Some(Role::Owner))
            .count();
        assert_eq!(owners, usize::from(!record.deleted), "{room}: {record:?}");
        for user in USERS {
            let standing = view.standing(user, room);
            assert!(
                !(standing.banned && standing.role.is_some()),
                "{user} in {room}"
            );
            assert!(
                !(record.deleted && standing.role.is_some()),
                "{user} in {room}"
            );
            if view.may_write(user, room) {
                assert!(standing.role.is_some() && !standing.muted && !record.archived);
            }
        }
    }
}

/// What the actor had to be, said once more and differently than in `decide`.
fn assert_allowed(view: &RoomView, actor: &str, command: &Command) {
    let Command::In { room, act } = command else {
        return;
    };
    let role = view.role(actor, room);
    let over = |user: &str| role >= Some(Role::Moderator) && role > view.role(user, room);
    let allowed = match act {
        Act::Join => !view.standing(actor, room).banned,
        Act::Leave => role.is_some(),
        Act::Uninvite(user) if **user == *actor => true,
        Act::Rename(_) | Act::Invite(_) | Act::Uninvite(_) | Act::Slow(_) => {
            role >= Some(Role::Moderator)
        }
        Act::Unban(_) | Act::Unmute(_) => role >= Some(Role::Moderator),
        Act::Kick(user) | Act::Ban(user, _) | Act::Mute(user, _) => over(user),
        Act::SetRole(user, new) => over(user) && role > Some(*new),
        Act::Archive(_) if room.contains('&') => role.is_some(),
        Act::Change(edit) if room.contains('&') => {
            edit.title.is_none() && edit.slow_s.is_none() && role.is_some()
        }
        Act::Change(edit) if edit.archived.is_some() => role == Some(Role::Owner),
        Act::Change(_) => role >= Some(Role::Moderator),
        Act::Transfer(_) | Act::Archive(_) | Act::Delete => role == Some(Role::Owner),
    };
    assert!(allowed, "{actor} ({role:?}) did {command:?}");
}

/// Nobody is put into a room by another; only direct rooms begin with two.
fn assert_own_will(view: &RoomView, actor: &str, changes: &[Change]) {
    for change in changes {
        if let Record::Member {
            user,
            member: Some(_),
        } = &change.record
        {
            let was_in = view.member(user, &change.room).is_some();
            assert!(was_in || **user == *actor || change.room.contains('&'));
        }
    }
}

fn repair(view: &mut RoomView, records: &mut Records) {
    let names: Vec<_> = view.names().cloned().collect();
    for room in names {
        for round in 0.. {
            let changes = view.repairs(&room, 2);
            if changes.is_empty() {
                break;
            }
            assert!(round < 50, "{room} is repaired for ever: {changes:?}");
            for change in changes {
                view.apply(&change);
                store(records, &change);
                assert_invariants(view);
            }
        }
    }
}

#[test]
fn whatever_users_do_and_wherever_it_is_cut_off_rooms_are_as_they_should_be() {
    let limits = Limits::default();
    for seed in 1..=40 {
        let mut dice = Dice(seed * 0x9e37_79b9);
        let mut view = RoomView::default();
        let mut records = Records::new();
        let mut now = 1_000_000;
        for _ in 0..300 {
            now += dice.below(20_000) as u64;
            let actor = dice.user();
            let command = dice.command();
            let mut changes = forget_ended(&view, now, 3);
            if changes.is_empty() {
                changes = match decide(&view, &limits, now, &actor, &command) {
                    Ok(changes) => changes,
                    Err(_) => continue,
                };
                if !changes.is_empty() {
                    assert_allowed(&view, &actor, &command);
                    assert_own_will(&view, &actor, &changes);
                }
            }
            let cut = dice.below(2) == 0;
            let carried_out = if cut {
                dice.below(changes.len() + 1)
            } else {
                changes.len()
            };
            for change in changes.iter().take(carried_out) {
                view.apply(change);
                store(&mut records, change);
                assert_invariants(&view);
            }
            if carried_out < changes.len() {
                // A crash: everything is built anew from what was stored, and completed.
                view = rebuilt(records.values());
                assert_invariants(&view);
            }
            repair(&mut view, &mut records);
        }
        // The view is its records, in whatever order they are read.
        let expected = answers(&view);
        assert_eq!(answers(&rebuilt(records.values())), expected, "seed {seed}");
        assert_eq!(answers(&rebuilt(records.values().rev())), expected);
        // And it forgets what is gone.
        for change in records.values() {
            let removed = match &change.record {
                Record::Room(_) => Record::Room(None),
                Record::Member { user, .. } => Record::Member {
                    user: user.clone(),
                    member: None,
                },
                Record::Mark { kind, user, .. } => Record::Mark {
                    kind: *kind,
                    user: user.clone(),
                    mark: None,
                },
            };
            view.apply(&Change {
                room: change.room.clone(),
                record: removed,
            });
        }
        assert_eq!(view.counts(), (0, 0), "seed {seed}");
        assert_eq!(view.next_end(), None);
    }
}

fn create(view: &mut RoomView, actor: &str, room: &str, kind: Kind) {
    let command = Command::Create {
        room: Some(room.into()),
        title: None,
        kind,
        with: None,
    };
    carry_out(view, actor, &command).unwrap();
}

fn carry_out(view: &mut RoomView, actor: &str, command: &Command) -> Result<usize, RoomError> {
    let changes = decide(view, &Limits::default(), 5000, actor, command)?;
    for change in &changes {
        view.apply(change);
    }
    Ok(changes.len())
}

fn act(view: &mut RoomView, actor: &str, room: &str, act: Act) -> Result<usize, RoomError> {
    let room = room.into();
    carry_out(view, actor, &Command::In { room, act })
}

#[test]
fn a_private_room_does_not_exist_for_outsiders() {
    let mut view = RoomView::default();
    create(&mut view, "ann", "cellar", Kind::Private);
    for what in [Act::Join, Act::Leave, Act::Delete, Act::Kick("ann".into())] {
        assert_eq!(
            act(&mut view, "eve", "cellar", what.clone()),
            act(&mut view, "eve", "nowhere", what),
        );
    }
    assert_eq!(view.public_rooms("eve", "", 10), Vec::new());
}

#[test]
fn lists_are_given_in_pages_in_the_order_of_names() {
    let mut view = RoomView::default();
    for number in (0..25).rev() {
        create(&mut view, "ann", &format!("room {number:02}"), Kind::Open);
    }
    create(&mut view, "eve", "room 10 b", Kind::Private);
    let mut listed = Vec::new();
    let mut after = String::new();
    loop {
        let page = view.public_rooms("eve", &after, 7);
        let Some(last) = page.last() else { break };
        after = last.room.to_string();
        listed.extend(page.iter().map(|summary| summary.room.to_string()));
    }
    let expected: Vec<_> = (0..25).map(|number| format!("room {number:02}")).collect();
    assert_eq!(listed, expected);
    assert_eq!(view.rooms_of("ann", "room 19", 9).len(), 5);
    let of_eve = view.rooms_of("eve", "", 9);
    assert_eq!(of_eve.len(), 1);
    assert_eq!(of_eve[0].role, Some(Role::Owner));
}

#[test]
fn an_invitation_lets_in_once() {
    let mut view = RoomView::default();
    create(&mut view, "ann", "cellar", Kind::Private);
    act(&mut view, "ann", "cellar", Act::Invite("bob".into())).unwrap();
    act(&mut view, "bob", "cellar", Act::Join).unwrap();
    act(&mut view, "ann", "cellar", Act::Kick("bob".into())).unwrap();
    let again = act(&mut view, "bob", "cellar", Act::Join);
    assert_eq!(again, Err(RoomError::NoSuchRoom));
}

#[test]
fn leaving_does_not_end_a_mute() {
    let mut view = RoomView::default();
    create(&mut view, "ann", "lobby", Kind::Open);
    act(&mut view, "bob", "lobby", Act::Join).unwrap();
    assert!(view.may_write("bob", "lobby"));
    act(&mut view, "ann", "lobby", Act::Mute("bob".into(), None)).unwrap();
    act(&mut view, "bob", "lobby", Act::Leave).unwrap();
    act(&mut view, "bob", "lobby", Act::Join).unwrap();
    assert!(!view.may_write("bob", "lobby"));
}

#[test]
fn people_see_each_other_in_rooms_that_show_their_members() {
    let mut view = RoomView::default();
    create(&mut view, "ann", "lobby", Kind::Open);
    create(&mut view, "ann", "news", Kind::Channel);
    for (user, room) in [("bob", "lobby"), ("bob", "news"), ("eve", "news")] {
        act(&mut view, user, room, Act::Join).unwrap();
    }
    assert!(view.sees("ann", "bob") && view.sees("bob", "ann"));
    assert!(
        view.sees("ann", "eve"),
        "who runs a channel sees its readers"
    );
    assert!(!view.sees("eve", "ann") && !view.sees("eve", "bob") && !view.sees("bob", "eve"));
    assert!(!view.sees("ann", "nobody") && !view.sees("nobody", "ann"));
    act(&mut view, "bob", "lobby", Act::Leave).unwrap();
    assert!(!view.sees("bob", "ann"));
    assert!(view.sees("ann", "bob"), "in the channel");
}

#[test]
fn in_a_channel_who_joins_reads_and_does_not_see_who_else_does() {
    let mut view = RoomView::default();
    create(&mut view, "ann", "news", Kind::Channel);
    act(&mut view, "bob", "news", Act::Join).unwrap();
    assert!(view.is_member("bob", "news"));
    assert!(!view.may_write("bob", "news") && !view.sees_members("bob", "news"));
    assert!(view.sees_members("ann", "news"));
    act(
        &mut view,
        "ann",
        "news",
        Act::SetRole("bob".into(), Role::Member),
    )
    .unwrap();
    assert!(view.may_write("bob", "news"));
}

#[test]
fn the_name_of_a_deleted_room_is_not_given_again() {
    let mut view = RoomView::default();
    create(&mut view, "ann", "lobby", Kind::Open);
    act(&mut view, "bob", "lobby", Act::Join).unwrap();
    act(&mut view, "ann", "lobby", Act::Delete).unwrap();
    assert!(!view.is_member("ann", "lobby") && !view.is_member("bob", "lobby"));
    let again = Command::Create {
        room: Some("lobby".into()),
        title: None,
        kind: Kind::Open,
        with: None,
    };
    assert_eq!(carry_out(&mut view, "eve", &again), Err(RoomError::Exists));
}

#[test]
fn slow_mode_is_for_those_who_do_not_moderate() {
    let mut view = RoomView::default();
    create(&mut view, "ann", "lobby", Kind::Open);
    act(&mut view, "bob", "lobby", Act::Join).unwrap();
    act(&mut view, "ann", "lobby", Act::Slow(30)).unwrap();
    assert_eq!(
        (view.slow_s("ann", "lobby"), view.slow_s("bob", "lobby")),
        (0, 30)
    );
}

#[test]
fn every_error_has_a_code_of_its_own_and_a_failure_for_every_door() {
    let mut codes: Vec<_> = RoomError::ALL.iter().map(|e| e.code()).collect();
    codes.sort_unstable();
    codes.dedup();
    assert_eq!(codes.len(), RoomError::ALL.len());
    for error in RoomError::ALL {
        assert!(error.reason().is_failure() && error.http_status() >= 400);
    }
}

#[test]
fn a_room_of_100_000_members_takes_some_ten_bytes_a_member_beside_the_names() {
    const MEMBERS: usize = 100_000;
    let mut view = RoomView::default();
    create(&mut view, "ann", "stadium", Kind::Channel);
    let member = MemberRecord {
        role: Role::Reader,
        since: 1_795_239_065_000,
    };
    for number in 0..MEMBERS {
        view.apply(&Change::member(
            "stadium",
            &format!("user-{number}"),
            Some(member),
        ));
    }
    let (users, rooms) = view.bytes();
    let per_user = users as f64 / MEMBERS as f64;
    let per_member = rooms as f64 / MEMBERS as f64;
    assert!(
        per_member < 40.0 && per_user < 160.0,
        "{per_user} {per_member}"
    );
    assert_eq!(view.member_count("stadium"), MEMBERS + 1);
    assert!(view.is_member("user-77777", "stadium"));
}
