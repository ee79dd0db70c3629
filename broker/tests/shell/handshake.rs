//! What a peer meets before it is a client: limits of time and bytes, refusals with their codes,
//! and that nobody waits for anybody else.

use std::time::Duration;

use crate::peer::{Connect, DEADLINE, TestBroker, connect, connect_bytes, encode};
use tidings_broker::listener::Kind;
use tidings_core::codec::{ConnectProperties, Packet, ReasonCode, Version};

#[test]
fn one_port_recognises_mqtt_and_http() {
    let broker = TestBroker::start(|_| {});
    let mut mqtt = broker.peer(Kind::Auto);
    mqtt.connect(connect(Version::V311, "one"));
    assert_eq!(mqtt.connack(), ReasonCode::Success);

    let mut http = broker.peer(Kind::Auto);
    http.send(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let answer = String::from_utf8(http.until_end()).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");

    let mut other = broker.peer(Kind::Auto);
    other.send(b"\x16\x03\x01");
    assert_eq!(other.until_end(), b"");
}

#[test]
fn silent_and_slow_peers_hold_up_nobody() {
    let broker = TestBroker::start(|_| {});
    let kinds = [Kind::Tcp, Kind::WebSocket, Kind::Auto];
    let silent: Vec<_> = kinds
        .into_iter()
        .flat_map(|kind| [broker.peer(kind), broker.peer(kind)])
        .collect();
    let mut slow = broker.peer(Kind::Tcp);
    let bytes = connect_bytes(connect(Version::V5, "slow"));
    let (begin, end) = bytes.split_at(5);
    slow.send(begin);
    for kind in [Kind::Tcp, Kind::Auto] {
        let mut quick = broker.peer(kind);
        quick.connect(connect(Version::V5, "quick"));
        assert_eq!(quick.connack(), ReasonCode::Success);
    }
    slow.send(end);
    assert_eq!(slow.connack(), ReasonCode::Success);
    drop(silent);
}

#[test]
fn a_peer_without_a_connect_in_time_loses_its_connection() {
    let broker = TestBroker::start(|options| {
        options.handshake.connect_timeout = Duration::from_millis(50);
    });
    for kind in [Kind::Tcp, Kind::WebSocket, Kind::Auto] {
        assert_eq!(broker.peer(kind).until_end(), b"", "{kind:?}");
    }
    let mut half = broker.peer(Kind::Tcp);
    half.send(&[0x10, 0x20, 0, 4, b'M']);
    assert_eq!(half.until_end(), b"");
}

#[test]
fn a_connect_above_the_limit_is_refused_by_its_header() {
    let broker = TestBroker::start(|options| options.handshake.max_connect_bytes = 512);
    let mut peer = broker.peer(Kind::Tcp);
    peer.send(&[0x10, 0xFF, 0xFF, 0x7F]);
    assert_eq!(peer.until_end(), b"");
    let mut peer = broker.peer(Kind::Tcp);
    peer.connect(connect(Version::V5, &"x".repeat(600)));
    assert_eq!(peer.connack(), ReasonCode::PacketTooLarge);
}

#[test]
fn a_first_packet_that_is_no_connect_ends_the_connection() {
    let broker = TestBroker::start(|_| {});
    for bytes in [&[0xC0, 0][..], &[0x00, 0], b"GET / HTTP/1.1\r\n\r\n"] {
        let mut peer = broker.peer(Kind::Tcp);
        peer.send(bytes);
        assert_eq!(peer.until_end(), b"");
    }
}

#[test]
fn mqtt_3_1_2_2_an_unknown_protocol_level_is_answered_with_its_code() {
    let broker = TestBroker::start(|_| {});
    let with_level = |level: u8| {
        let mut bytes = connect_bytes(connect(Version::V311, "c"));
        bytes[8] = level;
        let mut peer = broker.peer(Kind::Tcp);
        peer.send(&bytes);
        peer.until_end()
    };
    assert_eq!(with_level(2), [0x20, 2, 0, 1]);
    let answer = with_level(6);
    assert_eq!((answer[0], answer[3]), (0x20, 0x84));
}

#[test]
fn a_malformed_connect_of_mqtt_5_is_answered_and_one_of_3_1_1_is_not() {
    let broker = TestBroker::start(|_| {});
    for (version, answered) in [(Version::V5, true), (Version::V311, false)] {
        let mut bytes = connect_bytes(connect(version, "c"));
        // The reserved flag.
        bytes[9] |= 1;
        let mut peer = broker.peer(Kind::Tcp);
        peer.send(&bytes);
        let answer = peer.until_end();
        assert_eq!(
            answer.get(3) == Some(&0x81),
            answered,
            "{version:?}: {answer:?}"
        );
    }
}

#[test]
fn client_identifiers_that_are_not_allowed_are_refused() {
    let broker = TestBroker::start(|options| options.handshake.max_client_id_bytes = 30);
    let long = "x".repeat(31);
    for id in ["$link/plant", "$", &long] {
        for version in [Version::V31, Version::V311, Version::V5] {
            let mut peer = broker.peer(Kind::Tcp);
            peer.connect(connect(version, id));
            assert_eq!(
                peer.connack(),
                ReasonCode::ClientIdentifierNotValid,
                "{id} {version:?}"
            );
            assert_eq!(peer.until_end(), b"");
        }
    }
}

#[test]
fn mqtt_3_1_3_8_an_empty_client_identifier_needs_a_clean_session() {
    let broker = TestBroker::start(|_| {});
    for version in [Version::V311, Version::V5] {
        let mut peer = broker.peer(Kind::Tcp);
        peer.connect(connect(version, ""));
        assert_eq!(peer.connack(), ReasonCode::Success, "{version:?}");
    }
    for (version, reason) in [
        (Version::V311, ReasonCode::ClientIdentifierNotValid),
        (Version::V5, ReasonCode::Success),
    ] {
        let mut peer = broker.peer(Kind::Tcp);
        peer.connect(Connect {
            clean_start: false,
            ..connect(version, "")
        });
        assert_eq!(peer.connack(), reason, "{version:?}");
    }
}

#[test]
fn mqtt_3_1_3_6_an_assigned_client_identifier_is_told() {
    let broker = TestBroker::start(|_| {});
    let mut assigned = Vec::new();
    for _ in 0..2 {
        let mut peer = broker.peer(Kind::Tcp);
        peer.connect(connect(Version::V5, ""));
        let id = peer.packet(|packet| match packet {
            Packet::ConnAck(connack) => connack.properties.assigned_client_id.clone(),
            other => panic!("no CONNACK: {other:?}"),
        });
        assigned.push(id.flatten().expect("an assigned identifier"));
    }
    assert_ne!(assigned[0], assigned[1]);
}

#[test]
fn a_user_name_that_cannot_be_a_topic_level_is_refused() {
    let broker = TestBroker::start(|_| {});
    for name in ["", "a/b", "#", "+", "$SYS"] {
        for version in [Version::V311, Version::V5] {
            let mut peer = broker.peer(Kind::Tcp);
            peer.connect(Connect {
                username: Some(name),
                ..connect(version, "c")
            });
            assert_eq!(
                peer.connack(),
                ReasonCode::BadUserNameOrPassword,
                "{name:?}"
            );
        }
    }
}

#[test]
fn mqtt_4_12_0_1_an_unknown_authentication_method_is_refused() {
    let broker = TestBroker::start(|_| {});
    let properties = ConnectProperties {
        authentication_method: Some("SCRAM-SHA-256"),
        ..ConnectProperties::default()
    };
    let mut peer = broker.peer(Kind::Tcp);
    peer.connect(Connect {
        properties,
        ..connect(Version::V5, "c")
    });
    assert_eq!(peer.connack(), ReasonCode::BadAuthenticationMethod);
}

#[test]
fn connections_above_the_limit_are_refused_until_one_ends() {
    let broker = TestBroker::start(|options| options.limits.max_connections = 1);
    let mut first = broker.peer(Kind::Tcp);
    first.connect(connect(Version::V5, "first"));
    assert_eq!(first.connack(), ReasonCode::Success);
    for (version, reason) in [
        (Version::V5, ReasonCode::QuotaExceeded),
        (Version::V311, ReasonCode::ServerUnavailable),
    ] {
        let mut second = broker.peer(Kind::Auto);
        second.connect(connect(version, "second"));
        assert_eq!(second.connack(), reason);
        assert_eq!(second.until_end(), b"");
    }
    first.send(&encode(Version::V5, &Packet::PingReq));
    assert_eq!(
        first.packet(|packet| *packet == Packet::PingResp),
        Some(true)
    );
    drop(first);
    // The place is free when the broker has seen the end, which it does not announce.
    let is_let_in = || {
        let mut third = broker.peer(Kind::Tcp);
        third.connect(connect(Version::V5, "third"));
        third.connack() == ReasonCode::Success
    };
    let begin = std::time::Instant::now();
    while !is_let_in() {
        assert!(begin.elapsed() < DEADLINE, "the place was not given back");
    }
}

#[test]
fn packets_that_come_with_the_connect_are_not_lost() {
    let broker = TestBroker::start(|_| {});
    let mut peer = broker.peer(Kind::Tcp);
    let mut bytes = connect_bytes(connect(Version::V5, "eager"));
    for _ in 0..3 {
        bytes.extend(encode(Version::V5, &Packet::PingReq));
    }
    peer.send(&bytes);
    assert_eq!(peer.connack(), ReasonCode::Success);
    for _ in 0..3 {
        assert_eq!(
            peer.packet(|packet| *packet == Packet::PingResp),
            Some(true)
        );
    }
}

#[tokio::test]
async fn a_stop_says_goodbye_to_every_client() {
    let broker = TestBroker::start(|_| {});
    let mut peer = broker.peer(Kind::Tcp);
    peer.connect(connect(Version::V5, "here"));
    assert_eq!(peer.connack(), ReasonCode::Success);
    broker.running.stop();
    let reason = peer.packet(|packet| match packet {
        Packet::Disconnect(disconnect) => disconnect.reason,
        other => panic!("no DISCONNECT: {other:?}"),
    });
    assert_eq!(reason, Some(ReasonCode::ServerShuttingDown));
    assert_eq!(peer.until_end(), b"");
    drop(peer);
    assert_eq!(broker.running.wait().await, Ok(()));
}

#[tokio::test]
async fn a_connection_in_memory_has_the_brokers_rights_and_a_name_of_its_own() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    let broker = TestBroker::start(|_| {});
    for (id, expected) in [("$link/plant", 0), ("plant", 2)] {
        let mut pipe = broker.running.connect_in_memory("plant");
        pipe.write_all(&connect_bytes(connect(Version::V311, id)))
            .await
            .unwrap();
        let mut connack = [0; 4];
        pipe.read_exact(&mut connack).await.unwrap();
        assert_eq!(connack, [0x20, 2, 0, expected], "{id}");
    }
}
