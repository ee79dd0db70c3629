//! Whose a session is: nobody else takes over, ends or hears of what is connected, stored, or on its way
//! between the two; and what was forgotten is free.

use std::sync::Arc;

use tidings_core::codec::{Disconnect, Packet, ReasonCode};
use tidings_core::shard::{Input, Revocation, Takeover};
use tidings_tests::simulation::{ClientId, Filter, House, Login, Post, Said, Setup};

fn alice() -> Login {
    Login::v5("phone").persistent().user("alice")
}

/// All that others than alice may try with her Client Identifier.
fn others() -> Vec<Login> {
    let v5 = Login::v5("phone");
    let v3 = Login::v3("phone");
    vec![
        v5.clone().user("mallory"),
        v5.clone().persistent().user("mallory"),
        v3.clone().user("mallory"),
        v3.persistent().user("mallory"),
        // Nobody at all is somebody else, too.
        v5.clone(),
        v5.persistent(),
    ]
}

/// The client is refused, and told nothing but that.
#[track_caller]
fn expect_refused(house: &mut House, client: ClientId) {
    let said = house.take_said(client);
    let [Said::ConnAck(connack), Said::Closed] = &said[..] else {
        panic!("told {said:?}");
    };
    assert_eq!(connack.reason, ReasonCode::ClientIdentifierNotValid);
    assert!(!connack.session_present);
    assert_eq!(connack.properties.reason_string, None);
}

#[test]
fn what_is_stored_is_taken_by_nobody_else_also_after_a_crash() {
    for crashes in [false, true] {
        for login in others() {
            let mut house = House::new(Setup::default());
            let phone = house.connect(alice());
            let bob = house.connect(Login::v5("bob"));
            house.subscribe(phone, &[Filter::qos1("secret/alice")]);
            house.leave(phone);
            house.publish(bob, Post::qos1("secret/alice", "m"));
            if crashes {
                house.crash(0);
                house.settle();
            }
            let mallory = house.add_client(login.clone());
            house.dial(mallory, login);
            house.settle();
            expect_refused(&mut house, mallory);
            assert!(house.take_payloads(mallory).is_empty());
            assert!(house.reconnect(phone, alice()));
            assert_eq!(house.take_payloads(phone), ["m"]);
            assert_eq!(house.violations(), Vec::<String>::new());
        }
    }
}

#[test]
fn who_is_connected_does_not_hear_of_it_and_stays() {
    for mine in [alice(), Login::v5("phone").user("alice")] {
        for login in others() {
            let mut house = House::new(Setup::default());
            let phone = house.connect(mine.clone());
            let mallory = house.add_client(login.clone());
            house.take_said(phone);
            house.dial(mallory, login);
            house.settle();
            expect_refused(&mut house, mallory);
            assert!(house.client(phone).online);
            assert!(house.take_said(phone).is_empty());
            let refused: u64 = house
                .shards
                .iter()
                .map(|s| s.stats().refused_client_ids)
                .sum();
            assert_eq!(refused, 1);
        }
    }
}

#[test]
fn of_two_users_at_once_the_first_has_it() {
    for first in [0, 1] {
        for persistent in [false, true] {
            let login = |user: &str| {
                let login = Login::v5("phone").user(user);
                if persistent {
                    login.persistent()
                } else {
                    login
                }
            };
            let mut house = House::new(Setup::default());
            let logins = [login("alice"), login("mallory")];
            let clients = logins.clone().map(|login| house.add_client(login));
            for number in [first, 1 - first] {
                house.dial(clients[number], logins[number].clone());
            }
            house.settle();
            assert!(house.client(clients[first]).online);
            expect_refused(&mut house, clients[1 - first]);
        }
    }
}

/// Somebody else comes while the session is on its way from connected to stored: she has it all the same.
#[test]
fn what_is_on_its_way_through_the_journal_is_taken_by_nobody_else() {
    for login in others() {
        let mut house = House::new(Setup::default());
        let phone = house.connect(alice());
        let mallory = house.add_client(login.clone());
        // Nothing is settled between these.
        house.cut(phone);
        house.dial(mallory, login);
        house.dial(phone, alice());
        house.settle();
        expect_refused(&mut house, mallory);
        assert!(house.client(phone).online);
    }
}

#[test]
fn what_has_ended_or_expired_is_free() {
    let mut house = House::new(Setup::default());
    let phone = house.connect(Login::v5("phone").user("alice"));
    house.leave(phone);
    let short = Login {
        session_expiry_s: Some(3),
        ..Login::v5("phone").user("bob")
    };
    let bob = house.connect(short);
    house.drop_line(bob);
    house.advance(4_000);
    let carol = house.connect(Login::v5("phone").user("carol").persistent());
    let mut forget = Disconnect::new(ReasonCode::Success);
    forget.session_expiry_s = Some(0);
    house.tell(carol, |c| c.send(&Packet::Disconnect(forget)));
    house.drop_line(carol);
    assert!(!house.reconnect(phone, alice()));
}

#[test]
fn where_nobody_proves_who_they_are_whoever_comes_begins_anew() {
    let mut house = House::new(Setup::default().with(|o| o.takeover = Takeover::ByAnyone));
    let phone = house.connect(alice());
    let bob = house.connect(Login::v5("bob"));
    house.subscribe(phone, &[Filter::qos1("secret/alice")]);
    house.leave(phone);
    house.publish(bob, Post::qos1("secret/alice", "m"));
    let mallory = house.add_client(Login::v5("phone"));
    assert!(!house.reconnect(mallory, Login::v5("phone").persistent().user("mallory")));
    assert!(house.take_payloads(mallory).is_empty());
    house.dial(phone, alice());
    house.settle();
    let taken = house.take_said(mallory);
    let is_told = |said: &Said| matches!(said, Said::Disconnect(d) if d.reason == ReasonCode::SessionTakenOver);
    assert!(taken.iter().any(is_told), "{taken:?}");
}

/// Whatever a session is doing when its user is deleted, nothing of it stays, and its Client Identifier is
/// free.
#[test]
fn a_deleted_users_session_is_gone_whatever_was_on_its_way() {
    let gone = |offline: &[Arc<str>]| {
        Input::Revoked(Revocation {
            user: "alice".into(),
            reason: ReasonCode::NotAuthorized,
            text: "gone",
            forget: true,
            offline: offline.into(),
        })
    };
    let mut late = 0;
    for (was_there, steps) in [false, true]
        .into_iter()
        .flat_map(|was_there| (0..25).map(move |steps| (was_there, steps)))
    {
        let mut house = House::new(Setup::default());
        let phone = house.add_client(alice());
        if was_there {
            house.reconnect(phone, alice());
            house.subscribe(phone, &[Filter::qos1("a")]);
            house.cut(phone);
        } else {
            house.dial(phone, alice());
        }
        // As far as the bytes, the shard and the journal have come by then.
        for _ in 0..steps {
            if let Some(work) = house.work().first().copied() {
                house.perform(work, &mut None);
            }
        }
        house.input_to_all(|| gone(&[]));
        house.input_to_all(|| gone(&["phone".into()]));
        house.settle();
        if house.client(phone).online {
            // Its CONNECT was not there yet: that is for who judges it.
            continue;
        }
        late += 1;
        assert_eq!(
            house.disk.state().session("phone"),
            None,
            "{was_there} {steps}"
        );
        let carol = house.connect(Login::v5("phone").persistent().user("carol"));
        assert!(house.client(carol).online);
    }
    assert!(late > 30, "only {late}");
}
