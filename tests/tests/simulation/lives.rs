//! Connections and sessions come and go: takeover, expiry, wills, keep alive, shutdown.

use tidings_core::codec::{Packet, ReasonCode};
use tidings_core::shard::Input;
use tidings_core::state::NEVER_EXPIRES;
use tidings_tests::simulation::{Filter, House, Login, Post, Said, Setup};

#[test]
fn a_persistent_session_gets_what_was_published_while_it_was_away() {
    for shards in [1, 4] {
        for login in [
            Login::v5("alice").persistent(),
            Login::v3("alice").persistent(),
        ] {
            let mut house = House::new(Setup::shards(shards));
            let alice = house.connect(login.clone());
            let bob = house.connect(Login::v5("bob"));
            house.subscribe(alice, &[Filter::qos2("a/#")]);
            house.leave(alice);
            house.publish(bob, Post::qos1("a/1", "1"));
            house.publish(bob, Post::new("a/1", "qos 0 is not kept"));
            house.publish(bob, Post::qos2("a/2", "2"));
            assert!(house.reconnect(alice, login.clone()));
            assert_eq!(house.take_payloads(alice), ["1", "2"]);
            house.leave(alice);
            assert!(house.reconnect(alice, login));
            assert!(house.take_payloads(alice).is_empty(), "nothing comes twice");
        }
    }
}

#[test]
fn clean_start_forgets_the_session() {
    let mut house = House::new(Setup::shards(4));
    let alice = house.connect(Login::v5("alice").persistent());
    let bob = house.connect(Login::v5("bob"));
    house.subscribe(alice, &[Filter::qos1("a")]);
    house.leave(alice);
    house.publish(bob, Post::qos1("a", "1"));
    assert!(!house.reconnect(alice, Login::v5("alice")));
    house.publish(bob, Post::qos1("a", "2"));
    house.leave(alice);
    assert!(!house.reconnect(alice, Login::v5("alice").persistent()));
    house.publish(bob, Post::qos1("a", "3"));
    assert!(house.take_payloads(alice).is_empty());
}

#[test]
fn a_session_expires_and_a_later_connection_finds_none() {
    for crash in [false, true] {
        let mut house = House::new(Setup::shards(4));
        let login = Login {
            session_expiry_s: Some(10),
            ..Login::v5("alice").persistent()
        };
        let alice = house.connect(login.clone());
        house.subscribe(alice, &[Filter::qos1("a")]);
        house.leave(alice);
        house.advance(9_000);
        assert!(house.reconnect(alice, login.clone()));
        house.drop_line(alice);
        if crash {
            house.crash(0);
            house.settle();
        }
        house.advance(12_000);
        assert!(!house.reconnect(alice, login));
        let state = house.disk.state();
        assert!(
            state
                .session("alice")
                .is_some_and(|s| s.subscriptions.is_empty())
        );
    }
}

#[test]
fn a_session_that_expired_while_the_broker_was_down_is_not_taken_up() {
    let mut house = House::new(Setup::default());
    let login = Login {
        session_expiry_s: Some(10),
        ..Login::v5("alice").persistent()
    };
    let alice = house.connect(login.clone());
    house.subscribe(alice, &[Filter::qos1("a")]);
    house.leave(alice);
    house.crash(0);
    house.now.monotonic_ms += 60_000;
    house.now.unix_ms += 60_000;
    assert!(!house.reconnect(alice, login));
}

#[test]
fn disconnect_may_change_the_expiry_but_not_prolong_an_ending_session() {
    let mut house = House::new(Setup::default());
    let login = Login {
        session_expiry_s: Some(10),
        ..Login::v5("alice").persistent()
    };
    let alice = house.connect(login.clone());
    let with_expiry = |seconds| {
        let mut disconnect = tidings_core::codec::Disconnect::new(ReasonCode::Success);
        disconnect.session_expiry_s = Some(seconds);
        Packet::Disconnect(disconnect)
    };
    house.tell(alice, |c| c.send(&with_expiry(0)));
    assert!(!house.reconnect(alice, login.clone()));
    house.tell(alice, |c| c.send(&with_expiry(100)));
    house.advance(50_000);
    assert!(house.reconnect(alice, login));
    house.leave(alice);
    let bob = house.connect(Login::v5("bob"));
    house.take_said(bob);
    house.tell(bob, |c| c.send(&with_expiry(100)));
    assert_eq!(
        house.take_said(bob)[0].disconnect_reason(),
        Some(ReasonCode::ProtocolError)
    );
}

#[test]
fn a_takeover_disconnects_the_older_connection_and_goes_on_with_the_session() {
    for shards in [1, 4] {
        let mut house = House::new(Setup::shards(shards));
        let old = house.connect(Login::v5("alice").persistent());
        house.subscribe(old, &[Filter::qos1("a")]);
        house.take_said(old);
        let new = house.add_client(Login::v5("alice"));
        assert!(house.reconnect(new, Login::v5("alice").persistent()));
        let said = house.take_said(old);
        assert_eq!(
            said[0].disconnect_reason(),
            Some(ReasonCode::SessionTakenOver)
        );
        assert_eq!(said[1], Said::Closed);
        let bob = house.connect(Login::v5("bob"));
        house.publish(bob, Post::qos1("a", "m"));
        assert_eq!(house.take_payloads(new), ["m"]);
        assert!(house.take_payloads(old).is_empty());
    }
}

#[test]
fn of_many_connections_at_once_the_last_one_stays() {
    for logins in [
        Login::v5("alice").persistent(),
        Login::v5("alice"),
        Login::v3("alice"),
    ] {
        let mut house = House::new(Setup::default());
        let clients: Vec<_> = (0..5).map(|_| house.add_client(logins.clone())).collect();
        for client in &clients {
            house.dial(*client, logins.clone());
        }
        house.settle();
        let online: Vec<bool> = clients.iter().map(|c| house.client(*c).online).collect();
        assert_eq!(online, [false, false, false, false, true]);
        house.drop_line(clients[4]);
        let state = house.disk.state();
        assert!(state.session("alice").is_none_or(|s| s.closed_at.is_some()));
    }
}

#[test]
fn a_will_is_published_when_the_connection_ends_without_disconnect() {
    for shards in [1, 4] {
        let mut house = House::new(Setup::shards(shards));
        let watcher = house.connect(Login::v5("watcher"));
        house.subscribe(watcher, &[Filter::qos2("wills/#")]);
        for login in [Login::v5("c"), Login::v3("c"), Login::v5("c").persistent()] {
            let login = login.will(Post::qos2("wills/c", "gone").retain(), 0);
            let client = house.connect(login.clone());
            house.leave(client);
            assert!(
                house.take_payloads(watcher).is_empty(),
                "DISCONNECT withdraws it"
            );
            house.reconnect(client, login.clone());
            house.drop_line(client);
            assert_eq!(house.take_payloads(watcher), ["gone"]);
            house.reconnect(client, login);
            house.tell(client, |c| c.disconnect(ReasonCode::DisconnectWithWill));
            let expected: &[&str] =
                if house.client(client).login.version == tidings_core::codec::Version::V5 {
                    &["gone"]
                } else {
                    &[]
                };
            assert_eq!(house.take_payloads(watcher), expected);
            house.reconnect(client, Login::v5("c"));
            house.leave(client);
        }
    }
}

#[test]
fn a_will_with_a_delay_waits_and_is_withdrawn_by_a_new_connection() {
    let mut house = House::new(Setup::shards(4));
    let watcher = house.connect(Login::v5("watcher"));
    house.subscribe(watcher, &[Filter::qos1("wills/#")]);
    let login = Login::v5("c")
        .persistent()
        .will(Post::qos1("wills/c", "gone"), 10);
    let client = house.connect(login.clone());
    house.drop_line(client);
    house.advance(8_000);
    assert!(house.take_payloads(watcher).is_empty());
    house.reconnect(client, login.clone());
    house.advance(20_000);
    assert!(
        house.take_payloads(watcher).is_empty(),
        "it came back in time"
    );
    house.drop_line(client);
    house.advance(12_000);
    assert_eq!(house.take_payloads(watcher), ["gone"]);
    house.advance(60_000);
    assert!(house.take_payloads(watcher).is_empty(), "once");
}

#[test]
fn the_end_of_the_session_is_the_end_of_the_wills_delay() {
    let mut house = House::new(Setup::default());
    let watcher = house.connect(Login::v5("watcher"));
    house.subscribe(watcher, &[Filter::qos1("wills/#")]);
    let short = Login {
        session_expiry_s: Some(3),
        ..Login::v5("c")
            .persistent()
            .will(Post::qos1("wills/c", "expired"), 100)
    };
    let client = house.connect(short);
    house.drop_line(client);
    house.advance(6_000);
    assert_eq!(house.take_payloads(watcher), ["expired"]);
    let long = Login::v5("d")
        .persistent()
        .will(Post::qos1("wills/d", "ended"), 100);
    let other = house.connect(long);
    house.drop_line(other);
    house.reconnect(other, Login::v5("d"));
    assert_eq!(house.take_payloads(watcher), ["ended"]);
}

#[test]
fn the_will_of_a_persistent_session_survives_a_crash() {
    let mut house = House::new(Setup::shards(4));
    let watcher = house.connect(Login::v5("watcher").persistent());
    house.subscribe(watcher, &[Filter::qos1("wills/#")]);
    house.connect(
        Login::v5("c")
            .persistent()
            .will(Post::qos1("wills/c", "gone"), 5),
    );
    house.crash(0);
    house.settle();
    house.reconnect(watcher, Login::v5("watcher").persistent());
    house.advance(10_000);
    assert_eq!(house.take_payloads(watcher), ["gone"]);
}

#[test]
fn silence_for_one_and_a_half_keep_alives_ends_the_connection() {
    let mut house = House::new(Setup::default());
    let alice = house.connect(Login {
        keep_alive_s: 10,
        ..Login::v5("alice")
    });
    let zero = house.connect(Login::v5("zero"));
    house.take_said(alice);
    house.advance(14_000);
    house.tell(alice, |c| c.send(&Packet::PingReq));
    house.advance(14_000);
    assert_eq!(house.take_said(alice), [Said::PingResp]);
    house.advance(3_000);
    let said = house.take_said(alice);
    assert_eq!(
        said[0].disconnect_reason(),
        Some(ReasonCode::KeepAliveTimeout)
    );
    assert!(house.client(zero).online, "0 is no keep alive");
}

#[test]
fn the_server_says_which_keep_alive_and_expiry_it_grants() {
    let setup = Setup::default().with(|o| {
        o.keep_alive_max_s = 60;
        o.session_expiry_max_s = 100;
    });
    let mut house = House::new(setup);
    let alice = house.connect(Login {
        keep_alive_s: 100,
        ..Login::v5("alice").persistent()
    });
    let Some(Said::ConnAck(ack)) = house.client(alice).said.first() else {
        panic!()
    };
    assert_eq!(ack.properties.server_keep_alive_s, Some(60));
    assert_eq!(ack.properties.session_expiry_s, Some(100));
    let old = house.connect(Login::v3("old").persistent());
    house.drop_line(old);
    house.advance(102_000);
    assert!(!house.reconnect(old, Login::v3("old").persistent()));
}

#[test]
fn an_mqtt_3_session_never_expires_by_default() {
    let mut house = House::new(Setup::default());
    let alice = house.connect(Login::v3("alice").persistent());
    house.drop_line(alice);
    let expiry = house.disk.state().session("alice").map(|s| s.expiry_s);
    assert_eq!(expiry, Some(NEVER_EXPIRES));
}

#[test]
fn shutdown_tells_everyone_saves_everything_and_becomes_quiet() {
    for shards in [1, 4] {
        let mut house = House::new(Setup::shards(shards));
        let alice = house.connect(Login::v5("alice").persistent());
        let bob = house.connect(Login::v5("bob"));
        let old = house.connect(Login::v3("old"));
        house.subscribe(alice, &[Filter::qos1("a")]);
        house.publish(bob, Post::qos1("a", "before"));
        house.input_to_all(|| Input::Shutdown);
        house.settle();
        let reason = |said: &[Said]| said.iter().rev().find_map(|s| s.disconnect_reason());
        for client in [alice, bob] {
            let said = house.take_said(client);
            assert_eq!(reason(&said), Some(ReasonCode::ServerShuttingDown));
            assert_eq!(said.last(), Some(&Said::Closed));
        }
        assert_eq!(house.take_said(old).last(), Some(&Said::Closed));
        assert!(house.shards.iter().all(|s| s.is_quiet()));
        house.crash(0);
        house.settle();
        assert!(house.reconnect(alice, Login::v5("alice").persistent()));
        assert_eq!(
            house.take_payloads(alice),
            ["before"],
            "what was acknowledged is not repeated"
        );
    }
}

/// Seed 216419: a SUBSCRIBE that was refused as a whole need not wait for the journal, and took the
/// place of the one before it, which did.
#[test]
fn suback_waits_for_the_journal_also_when_a_refused_subscribe_follows() {
    let mut house = House::new(Setup::default());
    let alice = house.connect(Login::v3("alice").persistent());
    house.take_said(alice);
    house.hold_commits = true;
    house.say(alice, |c| c.subscribe(&[Filter::qos1("a")], None));
    house.tell(alice, |c| {
        c.subscribe(&[Filter::qos1("secret/other")], None)
    });
    assert!(house.take_said(alice).is_empty());
    house.hold_commits = false;
    house.settle();
    let acks: Vec<u16> = house
        .take_said(alice)
        .iter()
        .filter_map(|said| match said {
            Said::SubAck(ack) => Some(ack.packet_id),
            _ => None,
        })
        .collect();
    assert_eq!(acks, [1, 2]);
    house.crash(0);
    house.settle();
    house.reconnect(alice, Login::v3("alice").persistent());
    let bob = house.connect(Login::v5("bob"));
    house.publish(bob, Post::qos1("a", "m"));
    assert_eq!(house.take_payloads(alice), ["m"]);
}

/// Seed 118522: the second of two UNSUBSCRIBEs found nothing any more, and said so before the first
/// was in the journal; after a crash the filter was there again.
#[test]
fn unsuback_is_given_when_the_end_of_the_filter_is_durable() {
    let mut house = House::new(Setup::default());
    let alice = house.connect(Login::v5("alice").persistent());
    house.subscribe(alice, &[Filter::qos1("a")]);
    house.take_said(alice);
    house.hold_commits = true;
    house.tell(alice, |c| c.unsubscribe(&["a"]));
    house.tell(alice, |c| c.unsubscribe(&["a"]));
    assert!(house.take_said(alice).is_empty());
    house.hold_commits = false;
    house.settle();
    let reasons: Vec<_> = house
        .take_said(alice)
        .into_iter()
        .filter_map(|said| match said {
            Said::UnsubAck(ack) => Some(ack.reasons),
            _ => None,
        })
        .collect();
    assert_eq!(
        reasons,
        [[ReasonCode::Success], [ReasonCode::NoSubscriptionExisted]]
    );
}

/// Seeds 330 and 91: a filter whose SUBSCRIBE committed after its connection had let go was a member
/// of a shared subscription that nobody could reach; and an UNSUBSCRIBE overtook a SUBSCRIBE.
#[test]
fn a_subscribe_on_its_way_is_not_overtaken_by_unsubscribe_nor_outlives_its_connection() {
    let mut house = House::new(Setup::default());
    let alice = house.connect(Login::v5("alice").persistent());
    let bob = house.connect(Login::v5("bob"));
    house.hold_commits = true;
    house.say(alice, |c| c.subscribe(&[Filter::qos1("a")], None));
    house.tell(alice, |c| c.unsubscribe(&["a"]));
    house.hold_commits = false;
    house.settle();
    house.publish(bob, Post::qos1("a", "m"));
    assert!(house.take_payloads(alice).is_empty());
    let other = house.connect(Login::v5("other").persistent());
    house.subscribe(other, &[Filter::qos1("$share/g/a")]);
    house.hold_commits = true;
    house.say(alice, |c| c.subscribe(&[Filter::qos1("$share/g/a")], None));
    house.tell(alice, |c| c.disconnect(ReasonCode::Success));
    house.hold_commits = false;
    house.settle();
    for n in 0..4 {
        house.publish(bob, Post::qos1("a", &n.to_string()));
    }
    assert_eq!(house.take_payloads(other), ["0", "1", "2", "3"]);
}
