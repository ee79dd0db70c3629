//! A wall clock that is set while the broker runs: numbers and order stay, keep alive goes on, nothing
//! that was acknowledged goes because of it, and a lifetime is never longer than it was.

use tidings_core::codec::{Connect, Packet, Publish, PublishProperties, Version};
use tidings_core::message::QoS;
use tidings_tests::{RawClient, clean, persistent};

use crate::faults::{Fault, Machine};

const DAY_S: i64 = 86_400;

fn clock(machine: &Machine, clock_s: i64) {
    machine.set(Fault {
        clock_s,
        ..Fault::default()
    });
}

#[track_caller]
fn publish_expiring(client: &mut RawClient, topic: &str, text: &str, expiry_s: u32) {
    let packet_id = client.new_packet_id();
    client.send(&Packet::Publish(Publish {
        dup: false,
        qos: QoS::AtLeastOnce,
        retain: false,
        topic,
        packet_id: Some(packet_id),
        properties: PublishProperties {
            message_expiry_s: Some(expiry_s),
            ..PublishProperties::default()
        },
        payload: text.as_bytes(),
    }));
    assert!(!client.expect_puback(packet_id).reason.is_failure());
}

#[test]
fn numbers_and_order_go_on_whatever_the_clock_says() {
    let machine = Machine::start();
    let away = persistent(Version::V5, "away");
    let mut reader = RawClient::connect(machine.broker.tcp(), &away);
    reader.subscribe("chat/lobby/+", QoS::AtLeastOnce);
    reader.disconnect();
    let keeps_alive = Connect {
        keep_alive_s: 60,
        ..clean(Version::V5, "alice")
    };
    let mut alice = RawClient::connect(machine.broker.tcp(), &keeps_alive);
    let mut times = Vec::new();
    // A day on, two weeks back, to before 1970, and right again.
    let errors = [0, DAY_S, -14 * DAY_S, -100 * 366 * DAY_S, 0];
    for (number, clock_s) in errors.into_iter().enumerate() {
        clock(&machine, clock_s);
        alice.publish("chat/lobby/alice", number.to_string(), QoS::AtLeastOnce);
        // Keep alive does not go by this clock.
        alice.send(&Packet::PingReq);
        assert!(matches!(alice.next().packet(), Packet::PingResp));
    }
    let mut reader = RawClient::connect(machine.broker.tcp(), &away);
    assert!(reader.session_present());
    for number in 0..errors.len() {
        let delivery = reader.receive();
        assert_eq!(delivery.text(), number.to_string());
        let seq = (number + 1).to_string();
        assert_eq!(delivery.user_property("seq"), Some(seq.as_str()));
        let ts = delivery
            .user_property("ts")
            .and_then(|ts| ts.parse::<i64>().ok());
        times.push(ts.expect("a time"));
    }
    let apart = |one: usize, other: usize| (times[other] - times[one]) / 1000;
    assert!((DAY_S..DAY_S + 60).contains(&apart(0, 1)), "{times:?}");
    assert!(
        (14 * DAY_S - 60..14 * DAY_S + 60).contains(&apart(2, 4)),
        "{times:?}"
    );
    assert_eq!(times[3], 0, "before 1970 is 1970");
    let mut late = RawClient::connect(machine.broker.tcp(), &clean(Version::V5, "late"));
    late.subscribe("$replay/last/3/chat/lobby/+", QoS::AtLeastOnce);
    for number in 2..errors.len() {
        assert_eq!(late.receive().text(), number.to_string());
    }
}

#[test]
fn a_clock_that_is_set_back_gives_no_message_a_longer_life() {
    let machine = Machine::start();
    let away = persistent(Version::V5, "away");
    let mut reader = RawClient::connect(machine.broker.tcp(), &away);
    reader.subscribe("free/#", QoS::AtLeastOnce);
    reader.disconnect();
    let mut alice = RawClient::connect(machine.broker.tcp(), &clean(Version::V5, "alice"));
    publish_expiring(&mut alice, "free/x", "an hour", 3_600);
    clock(&machine, -14 * DAY_S);
    let mut reader = RawClient::connect(machine.broker.tcp(), &away);
    let delivery = reader.receive();
    let left = delivery.properties.message_expiry_s.expect("a lifetime");
    assert!((1..=3_600).contains(&left), "{left} s");
}

#[test]
fn a_clock_that_is_set_forward_ends_no_session() {
    let mut machine = Machine::start();
    let away = Connect {
        clean_start: false,
        properties: tidings_core::codec::ConnectProperties {
            session_expiry_s: Some(3_600),
            ..Default::default()
        },
        ..clean(Version::V5, "away")
    };
    let mut reader = RawClient::connect(machine.broker.tcp(), &away);
    reader.subscribe("chat/lobby/+", QoS::AtLeastOnce);
    reader.disconnect();
    let mut alice = RawClient::connect(machine.broker.tcp(), &clean(Version::V5, "alice"));
    alice.publish("chat/lobby/alice", "one", QoS::AtLeastOnce);
    clock(&machine, 2 * 365 * DAY_S);
    alice.publish("chat/lobby/alice", "two", QoS::AtLeastOnce);
    let mut reader = RawClient::connect(machine.broker.tcp(), &away);
    assert!(reader.session_present(), "an hour has not passed");
    for text in ["one", "two"] {
        assert_eq!(reader.receive().text(), text);
    }
    clock(&machine, 0);
    alice.publish("chat/lobby/alice", "three", QoS::AtLeastOnce);
    assert_eq!(reader.receive().text(), "three");
    machine.broker.terminate();
}
