//! What membership costs: asked once for each receiver of a topic, and then remembered until rights
//! change. An operation is one receiver.

use std::sync::RwLock;

use tidings_core::rooms::{Change, Kind, MemberRecord, Record, Role, RoomRecord, RoomView};
use tidings_core::rules::{Identity, Membership};

use crate::case::Case;
use crate::topic_rules;

/// Members of the room.
const MEMBERS: usize = 100_000;
/// Receivers of a round.
const RECEIVERS: usize = 512;

pub fn cases() -> Vec<Case> {
    vec![Case::new(
        "rooms",
        "receiver in a room of 100,000 by the shipped rules",
        RECEIVERS as u64,
        || {
            let rules = topic_rules::shipped();
            let rooms = Managed(RwLock::new(stadium()));
            let receivers: Vec<Identity> = (0..RECEIVERS)
                .map(|n| Identity::user(&name(n * 7919 % MEMBERS)))
                .collect();
            Box::new(move |meter| {
                let allowed = meter.count(|_| {
                    let may = |who: &&Identity| {
                        let access = rules.may_receive("chat/stadium/ann", who, &rooms);
                        access.is_allowed()
                    };
                    receivers.iter().filter(may).count()
                });
                assert_eq!(allowed, RECEIVERS);
            })
        },
    )]
}

fn name(number: usize) -> String {
    format!("user-{number}")
}

fn stadium() -> RoomView {
    let mut view = RoomView::default();
    let room = RoomRecord {
        title: "".into(),
        kind: Kind::Open,
        owner: "ann".into(),
        with: None,
        archived: false,
        deleted: false,
        slow_s: 0,
        since: 0,
    };
    let mut apply = |record| {
        view.apply(&Change {
            room: "stadium".into(),
            record,
        });
    };
    apply(Record::Room(Some(room)));
    for number in 0..MEMBERS {
        let role = Role::Member;
        apply(Record::Member {
            user: name(number).into(),
            member: Some(MemberRecord { role, since: 0 }),
        });
    }
    view
}

/// Behind a lock, as the shards of a broker have it.
struct Managed(RwLock<RoomView>);

impl Membership for Managed {
    fn is_member(&self, user: &str, room: &str) -> bool {
        let view = self.0.read().expect("nobody panicked");
        view.is_member(user, room)
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
