//! A Client Identifier is not a secret, and says nothing of who comes with it: where people prove who they
//! are, whoever comes with that of another gets nothing of their session, and takes nothing of it away.

use std::time::Instant;

use serde_json::json;
use tidings_core::codec::{Connect, ReasonCode, Version};
use tidings_core::message::QoS;
use tidings_tests::{Api, DEADLINE, RawClient, TidingsOptions, TidingsProcess, clean, persistent};

use crate::secrets::{PASSWORD, tidings};

/// A broker with accounts for alice, bob, mallory and the administrator ann.
fn broker() -> TidingsProcess {
    let broker = TidingsOptions::new()
        .set("auth.mode", "\"accounts\"")
        .set("auth.password_memory_kib", 1024)
        .set("auth.password_passes", 1)
        .start();
    for user in ["alice", "bob", "mallory"] {
        tidings(&broker, &["user", "add", user]);
    }
    tidings(&broker, &["user", "add", "ann", "--role", "admin"]);
    broker
}

fn of<'a>(user: &'a str, connect: Connect<'a>) -> Connect<'a> {
    Connect {
        username: Some(user),
        password: Some(PASSWORD.as_bytes()),
        ..connect
    }
}

/// Whatever mallory tries with a Client Identifier is refused alike.
#[track_caller]
fn mallory_is_refused(broker: &TidingsProcess, id: &str) {
    for version in [Version::V31, Version::V311, Version::V5] {
        for connect in [clean(version, id), persistent(version, id)] {
            for endpoint in broker.endpoints() {
                let connect = of("mallory", connect.clone());
                let answer = RawClient::try_connect(endpoint, &connect, DEADLINE);
                let (mut client, connack) = answer.expect("a CONNACK");
                assert_eq!(
                    connack.reason,
                    ReasonCode::ClientIdentifierNotValid,
                    "{version:?}"
                );
                assert!(!connack.session_present);
                let said = connack.properties.reason_string.unwrap_or_default();
                assert!(!said.contains("alice"), "{said}");
                client.expect_closed();
            }
        }
    }
}

#[test]
fn a_stored_session_is_neither_ended_nor_taken_by_others_nor_after_a_crash() {
    let mut broker = broker();
    let phone = of("alice", persistent(Version::V5, "phone"));
    let mut client = RawClient::connect(broker.tcp(), &phone);
    client.subscribe("dm/alice/+", QoS::AtLeastOnce);
    client.disconnect();
    let mut bob = RawClient::connect(broker.tcp(), &of("bob", clean(Version::V5, "bobs")));
    bob.publish("dm/alice/bob", "for alice", QoS::AtLeastOnce);
    mallory_is_refused(&broker, "phone");
    // Shards tell now and then.
    let until = Instant::now() + DEADLINE;
    while broker.metric("tidings_client_ids_refused_total") < 12 {
        assert!(Instant::now() < until, "not all are counted");
    }
    assert!(
        broker
            .log()
            .contains("the client identifier has a session of another user"),
        "{}",
        broker.log()
    );
    broker.kill();
    broker.restart();
    mallory_is_refused(&broker, "phone");
    let mut client = RawClient::connect(broker.tcp(), &phone);
    assert!(client.session_present());
    assert_eq!(client.receive().text(), "for alice");
}

#[test]
fn who_is_connected_is_not_thrown_out_by_others() {
    let broker = broker();
    for (id, version) in [("laptop", Version::V5), ("tablet", Version::V311)] {
        let alice = of("alice", clean(version, id));
        let mut client = RawClient::connect(broker.tcp(), &alice);
        mallory_is_refused(&broker, id);
        client.settle();
        // Herself does as ever [MQTT-3.1.4-3].
        RawClient::connect(broker.tcp(), &alice).settle();
    }
}

#[test]
fn the_name_of_a_device_is_its_client_identifier_and_nobody_elses() {
    let broker = broker();
    let token = tidings(&broker, &["device", "add", "thermo", "--owner", "alice"]);
    let token = token.trim().lines().last().unwrap_or_default().to_owned();
    mallory_is_refused(&broker, "thermo");
    let thermo = Connect {
        username: Some("thermo"),
        password: Some(token.as_bytes()),
        ..clean(Version::V311, "thermo")
    };
    RawClient::connect(broker.tcp(), &thermo).settle();
}

#[test]
fn what_was_deleted_or_ended_by_an_administrator_is_free_for_others() {
    let broker = broker();
    let ann = Api::new(&broker).sign_in("ann", PASSWORD);
    for (user, id) in [("alice", "phone"), ("bob", "tablet")] {
        let mut client = RawClient::connect(broker.tcp(), &of(user, persistent(Version::V5, id)));
        client.subscribe("dm/+/+", QoS::AtLeastOnce);
        client.disconnect();
        mallory_is_refused(&broker, id);
    }
    let end = "/v1/admin/sessions/phone?forget=true";
    assert_eq!(ann.call("DELETE", end, None).0, 204);
    assert_eq!(ann.call("DELETE", end, None).0, 404);
    tidings(&broker, &["user", "delete", "bob"]);
    for id in ["phone", "tablet"] {
        let connect = of("mallory", persistent(Version::V5, id));
        // Those who are deleted are gone a moment after that is stored.
        let until = Instant::now() + DEADLINE;
        let client = loop {
            let answer = RawClient::try_connect(broker.tcp(), &connect, DEADLINE);
            let (client, connack) = answer.expect("a CONNACK");
            if connack.reason == ReasonCode::Success {
                break client;
            }
            assert_eq!(connack.reason, ReasonCode::ClientIdentifierNotValid);
            assert!(Instant::now() < until, "{id} is never free");
        };
        assert!(!client.session_present(), "{id}");
    }
    let acts = ann.get("/v1/admin/audit?what=session_end");
    let act = &acts["acts"][0];
    assert_eq!(
        (&act["who"], &act["whom"], &act["result"]),
        (&json!("ann"), &json!("phone"), &json!("done"))
    );
}

/// Where nobody proves anything whoever comes is believed, and takes over as the specification says; what
/// was somebody else's is not given to them.
#[test]
fn where_nobody_proves_who_they_are_a_takeover_begins_anew() {
    let broker = TidingsProcess::shared();
    let alice = Connect {
        username: Some("alice"),
        ..persistent(Version::V5, "shared-id")
    };
    let mut client = RawClient::connect(broker.tcp(), &alice);
    client.subscribe("dm/alice/+", QoS::AtLeastOnce);
    let mut bob = RawClient::connect(broker.tcp(), &clean(Version::V5, "client-ids-bob"));
    let mallory = Connect {
        username: Some("mallory"),
        ..persistent(Version::V5, "shared-id")
    };
    let mut taker = RawClient::connect(broker.tcp(), &mallory);
    assert!(!taker.session_present());
    assert_eq!(
        client.expect_disconnect().reason,
        ReasonCode::SessionTakenOver
    );
    bob.publish("dm/alice/client-ids-bob", "for alice", QoS::AtLeastOnce);
    taker.subscribe("client-ids-mark", QoS::AtLeastOnce);
    bob.publish("client-ids-mark", "", QoS::AtLeastOnce);
    assert_eq!(taker.receive().topic, "client-ids-mark");
}
