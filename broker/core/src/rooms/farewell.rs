//! Somebody whose account is gone leaves all rooms: a room of theirs goes to whoever stood highest and was
//! there longest, one that nobody else is in goes with them, and one of two is archived for the other.

use std::sync::Arc;

use super::{Change, Kind, MemberRecord, Role, RoomRecord, RoomView};

/// The changes that take `user` out of rooms, those of some rooms at a time, about `limit` of them; none when
/// the user is in no room any more.
pub fn farewell(view: &RoomView, user: &str, limit: usize) -> Vec<Change> {
    let mut changes = Vec::new();
    for summary in view.rooms_of(user, "", usize::MAX) {
        if changes.len() >= limit {
            break;
        }
        let (room, record) = (&*summary.room, &summary.record);
        let edited = |edit: &dyn Fn(&mut RoomRecord)| {
            let mut record = record.clone();
            edit(&mut record);
            Change::room(room, record)
        };
        if record.kind == Kind::Direct {
            // Both are in it for good; the name of who is gone is not given again.
            if !record.archived {
                changes.push(edited(&|record| record.archived = true));
            }
            continue;
        }
        if *record.owner == *user {
            match view.heir(room) {
                Some((heir, since)) => {
                    let role = Role::Owner;
                    changes.push(edited(&|record| record.owner = Arc::clone(&heir)));
                    let member = MemberRecord { role, since };
                    changes.push(Change::member(room, &heir, Some(member)));
                }
                None => changes.push(edited(&|record| record.deleted = true)),
            }
        }
        changes.push(Change::member(room, user, None));
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rooms::{Act, Command, Limits, decide};

    struct House(RoomView);

    impl House {
        fn does(&mut self, now: u64, actor: &str, command: &Command) {
            let changes = decide(&self.0, &Limits::default(), now, actor, command).unwrap();
            self.apply(&changes);
        }

        fn act(&mut self, now: u64, actor: &str, room: &str, act: Act) {
            let room = room.into();
            self.does(now, actor, &Command::In { room, act });
        }

        fn apply(&mut self, changes: &[Change]) {
            for change in changes {
                self.0.apply(change);
            }
        }
    }

    fn create(room: &str, kind: Kind) -> Command {
        let is_direct = kind == Kind::Direct;
        Command::Create {
            room: (!is_direct).then(|| room.into()),
            title: None,
            kind,
            with: is_direct.then(|| room.into()),
        }
    }

    #[test]
    fn who_is_gone_is_in_no_room_and_every_room_has_an_owner_who_is_there() {
        let mut house = House(RoomView::default());
        house.does(1000, "ann", &create("yard", Kind::Open));
        house.does(1000, "ann", &create("cell", Kind::Private));
        house.does(1000, "ann", &create("bob", Kind::Direct));
        house.does(1000, "bob", &create("park", Kind::Open));
        house.act(2000, "cat", "yard", Act::Join);
        house.act(3000, "bob", "yard", Act::Join);
        house.act(4000, "dan", "yard", Act::Join);
        house.act(5000, "dan", "park", Act::Join);
        house.act(5000, "ann", "park", Act::Join);
        for user in ["bob", "dan"] {
            house.act(
                6000,
                "ann",
                "yard",
                Act::SetRole(user.into(), Role::Moderator),
            );
        }
        let before = house.0.rooms_of("ann", "", 10).len();
        assert_eq!(before, 4);
        // A crash after any of the changes is completed by asking again.
        loop {
            let changes = farewell(&house.0, "ann", 1);
            let Some(first) = changes.first() else {
                break;
            };
            house.apply(std::slice::from_ref(first));
            for summary in house.0.rooms_of("bob", "", 10) {
                let room = &summary.room;
                let owner = house.0.record(room).unwrap().owner.clone();
                assert_eq!(house.0.role(&owner, room), Some(Role::Owner), "{room}");
            }
        }
        let left = house.0.rooms_of("ann", "", 10);
        let left: Vec<_> = left
            .iter()
            .map(|s| (s.record.kind, s.record.archived))
            .collect();
        assert_eq!(left, [(Kind::Direct, true)]);
        assert_eq!(house.0.role("bob", "yard"), Some(Role::Owner));
        assert_eq!(house.0.role("dan", "yard"), Some(Role::Moderator));
        assert!(house.0.record("cell").unwrap().deleted);
        assert_eq!(house.0.role("bob", "park"), Some(Role::Owner));
        assert!(!house.0.is_member("ann", "park"));
    }
}
