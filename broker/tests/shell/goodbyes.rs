//! Close codes of WebSocket: each that a broker says, for what it says it.

use std::time::Duration;

use tidings_broker::auth::AccountOptions;
use tidings_core::codec::{Packet, ReasonCode, Version};

use crate::frames::{DEFLATE, Framed, deflated};
use crate::peer::{
    TestBroker, block_on, connect, connect_bytes, encode, publish_bytes, with_accounts,
};

fn joined(broker: &TestBroker, version: Version, client_id: &str) -> Framed {
    let mut socket = Framed::open(broker, "");
    socket.send(0x82, &connect_bytes(connect(version, client_id)));
    let reason = socket.packet(|packet| match packet {
        Packet::ConnAck(connack) => connack.reason,
        other => panic!("{other:?}"),
    });
    assert_eq!(reason, Some(ReasonCode::Success));
    socket
}

#[test]
fn code_1000_follows_a_disconnect() {
    let broker = TestBroker::start(|_| {});
    let mut socket = joined(&broker, Version::V5, "a");
    socket.send(0x82, &[0xE0, 0]);
    assert_eq!(socket.end(), Some(1000));
}

#[test]
fn code_1001_says_that_the_server_stops() {
    let broker = TestBroker::start(|_| {});
    let mut sockets = [
        joined(&broker, Version::V5, "a"),
        joined(&broker, Version::V5, "b"),
    ];
    broker.stop();
    for socket in &mut sockets {
        assert_eq!(socket.end(), Some(1001));
    }
}

#[test]
fn code_1002_says_that_a_protocol_was_broken_below_mqtt_or_in_it() {
    let broker = TestBroker::start(|_| {});
    let mut below = joined(&broker, Version::V5, "a");
    below.send(0x80, b"a continuation of nothing");
    assert_eq!(below.end(), Some(1002));
    let mut within = joined(&broker, Version::V5, "b");
    within.send(0x82, &connect_bytes(connect(Version::V5, "again")));
    assert_eq!(within.end(), Some(1002));
    let mut never = Framed::open(&broker, "");
    never.send(0x82, &encode(Version::V5, &Packet::PingReq));
    assert_eq!(never.end(), Some(1002));
}

#[test]
fn code_1003_says_that_text_is_not_taken() {
    let broker = TestBroker::start(|_| {});
    let mut socket = joined(&broker, Version::V5, "a");
    socket.send(0x81, b"hello");
    assert_eq!(socket.end(), Some(1003));
}

#[test]
fn code_1007_says_that_data_are_not_what_they_should_be() {
    let broker = TestBroker::start(|_| {});
    let mut malformed = joined(&broker, Version::V5, "a");
    // A PUBLISH with QoS 3.
    malformed.send(0x82, &[0x36, 5, 0, 1, b't', 0, 1]);
    assert_eq!(malformed.end(), Some(1007));
}

#[test]
fn code_1008_says_that_somebody_may_not_or_came_too_late() {
    let broker = TestBroker::start(|options| {
        with_accounts(options, AccountOptions::default());
        options.handshake.connect_timeout = Duration::from_secs(1);
    });
    let mut wrong = Framed::open(&broker, "");
    let mut stranger = connect(Version::V5, "a");
    stranger.username = Some("nobody");
    stranger.password = Some(b"guess");
    wrong.send(0x82, &connect_bytes(stranger));
    assert_eq!(wrong.end(), Some(1008));
    let mut late = Framed::open(&broker, "");
    assert_eq!(late.end(), Some(1008));
    let open = TestBroker::start(|_| {});
    let mut first = joined(&open, Version::V5, "same");
    let _second = joined(&open, Version::V5, "same");
    assert_eq!(first.end(), Some(1008), "taken over");
}

#[test]
fn code_1009_says_that_it_was_too_much() {
    let broker = TestBroker::start(|options| options.session.maximum_packet_bytes = 10_000);
    let mut socket = joined(&broker, Version::V5, "a");
    socket.send(0x82, &publish_bytes("t", &[0; 20_000], None));
    assert_eq!(socket.end(), Some(1009));
    let mut packed = Framed::open(&broker, DEFLATE);
    packed.send(0x82, &connect_bytes(connect(Version::V5, "b")));
    packed.send(0xC2, &deflated(&publish_bytes("t", &[7; 20_000], None)));
    assert_eq!(packed.end(), Some(1009));
}

#[test]
fn code_1013_says_that_there_is_no_place_now() {
    let broker = TestBroker::start(|options| options.limits.max_connections = 1);
    let _only = joined(&broker, Version::V5, "a");
    let mut next = Framed::open(&broker, "");
    next.send(0x82, &connect_bytes(connect(Version::V5, "b")));
    let reason = next.packet(|packet| match packet {
        Packet::ConnAck(connack) => connack.reason,
        other => panic!("{other:?}"),
    });
    assert_eq!(reason, Some(ReasonCode::QuotaExceeded));
    assert_eq!(next.end(), Some(1013));
}

#[test]
fn who_does_not_answer_a_ping_is_closed_with_1008_and_who_does_stays() {
    let broker = TestBroker::start(|options| {
        options.websocket.ping_interval = Some(Duration::from_secs(2));
        options.websocket.ping_timeout = Duration::from_secs(1);
    });
    let mut answers = joined(&broker, Version::V5, "a");
    let mut silent = joined(&broker, Version::V5, "b");
    let mut pings = 0;
    while pings < 3 {
        let (first, payload) = answers.frame().expect("it stays");
        assert_eq!(first, 0x89);
        answers.send(0x8A, &payload);
        pings += 1;
    }
    assert_eq!(silent.end(), Some(1008));
    answers.send(0x82, &encode(Version::V5, &Packet::PingReq));
    let answered = answers.packet(|packet| *packet == Packet::PingResp);
    assert_eq!(answered, Some(true));
}

#[test]
fn an_account_that_is_disabled_is_shown_out_with_1008() {
    let broker = TestBroker::start(|options| with_accounts(options, AccountOptions::default()));
    let book = broker.running.accounts();
    block_on(book.add_user("alice", Some("correct horse".to_owned()), &[])).expect("an account");
    let mut socket = Framed::open(&broker, "");
    let mut alice = connect(Version::V311, "a");
    alice.username = Some("alice");
    alice.password = Some(b"correct horse");
    socket.send(0x82, &connect_bytes(alice));
    let (first, _) = socket.frame().expect("a CONNACK");
    assert_eq!(first, 0x82);
    block_on(book.disable("alice")).expect("it is disabled");
    assert_eq!(socket.end(), Some(1008));
}
