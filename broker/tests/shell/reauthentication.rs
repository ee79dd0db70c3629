//! Newer proof on an open connection (§4.12.1): who shows it stays, with the rights that it gives; who
//! shows what does not count is sent away.

use std::sync::Arc;

use jsonwebtoken::get_current_timestamp;
use serde_json::json;
use tidings_broker::listener::Kind;
use tidings_core::codec::{Auth, ConnectProperties, Packet, ReasonCode, Version};
use tidings_core::rules::{RuleSource, Rules};

use crate::denials::{sign, with_tokens};
use crate::peer::{Connect, Peer, TestBroker, connect, encode, publish_bytes};

const METHOD: &str = "token";

/// It counts for so many seconds from now.
fn token(user: &str, seconds: i64, roles: &[&str]) -> String {
    let now = get_current_timestamp() as i64;
    sign(&json!({ "sub": user, "iat": now - 60, "exp": now + seconds, "roles": roles }))
}

/// A client of alice that came with the method.
fn join(broker: &TestBroker, client_id: &str, proof: &str) -> Peer {
    let mut peer = broker.peer(Kind::Tcp);
    peer.connect(Connect {
        username: Some("alice"),
        properties: ConnectProperties {
            authentication_method: Some(METHOD),
            authentication_data: Some(proof.as_bytes()),
            ..ConnectProperties::default()
        },
        ..connect(Version::V5, client_id)
    });
    let method = peer.packet(|packet| match packet {
        Packet::ConnAck(connack) => {
            assert_eq!(connack.reason, ReasonCode::Success);
            connack.properties.authentication_method.clone()
        }
        other => panic!("no CONNACK: {other:?}"),
    });
    // [MQTT-4.12.0-5]
    assert_eq!(method, Some(Some(METHOD.to_owned())));
    peer
}

fn show(peer: &mut Peer, method: &str, proof: &str) {
    let auth = Packet::Auth(Auth {
        reason: ReasonCode::ReAuthenticate,
        method: Some(method.to_owned()),
        data: Some(proof.as_bytes().to_vec()),
        reason_string: None,
        user: Vec::new(),
    });
    peer.send(&encode(Version::V5, &auth));
}

#[track_caller]
fn assert_counts(peer: &mut Peer) {
    let answer = peer.packet(|packet| match packet {
        Packet::Auth(auth) => (auth.reason, auth.method.clone()),
        other => panic!("no AUTH: {other:?}"),
    });
    assert_eq!(answer, Some((ReasonCode::Success, Some(METHOD.to_owned()))));
}

#[test]
fn a_newer_token_keeps_the_connection() {
    let broker = TestBroker::start(with_tokens);
    let short = token("alice", 2, &[]);
    let mut stays = join(&broker, "stays", &short);
    let mut goes = join(&broker, "goes", &short);
    show(&mut stays, METHOD, &token("alice", 600, &[]));
    assert_counts(&mut stays);
    // By then the first one's old token is over, too.
    assert_eq!(goes.disconnect(), ReasonCode::MaximumConnectTime);
    stays.ping();
    show(&mut stays, METHOD, &token("alice", 1, &[]));
    assert_counts(&mut stays);
    assert_eq!(stays.disconnect(), ReasonCode::MaximumConnectTime);
}

#[test]
fn mqtt_4_12_1_2_what_does_not_count_ends_the_connection() {
    let broker = TestBroker::start(with_tokens);
    for (name, proof) in [
        ("another user", token("bob", 600, &[])),
        ("over", token("alice", -1, &[])),
        ("no token", "guess".to_owned()),
        ("nothing", String::new()),
    ] {
        let mut peer = join(&broker, "phone", &token("alice", 600, &[]));
        show(&mut peer, METHOD, &proof);
        assert_eq!(peer.disconnect(), ReasonCode::NotAuthorized, "{name}");
    }
}

#[test]
fn mqtt_4_12_1_1_another_method_is_a_protocol_error() {
    let broker = TestBroker::start(with_tokens);
    let good = token("alice", 600, &[]);
    let mut peer = join(&broker, "phone", &good);
    show(&mut peer, "SCRAM-SHA-256", &good);
    assert_eq!(peer.disconnect(), ReasonCode::ProtocolError);
}

#[test]
fn roles_of_the_newer_token_count_at_once() {
    let broker = TestBroker::start(|options| {
        with_tokens(options);
        let press = RuleSource {
            pattern: "news/#".to_owned(),
            publish: "role(press)".to_owned(),
            subscribe: "any".to_owned(),
            ..RuleSource::default()
        };
        options.rules = Arc::new(Rules::compile(&[press]).unwrap());
    });
    let mut peer = join(&broker, "phone", &token("alice", 600, &[]));
    let publish = |peer: &mut Peer| {
        peer.send(&publish_bytes("news/today", b"extra", Some(7)));
        peer.packet(|packet| match packet {
            Packet::PubAck(ack) => ack.reason.is_failure(),
            other => panic!("no PUBACK: {other:?}"),
        })
    };
    assert_eq!(publish(&mut peer), Some(true));
    show(&mut peer, METHOD, &token("alice", 600, &["press"]));
    assert_counts(&mut peer);
    assert_eq!(publish(&mut peer), Some(false));
    show(&mut peer, METHOD, &token("alice", 600, &[]));
    assert_counts(&mut peer);
    assert_eq!(publish(&mut peer), Some(true));
}
