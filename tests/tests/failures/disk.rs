//! A disk that fails under the journal: nothing more is acknowledged, it is said aloud, and a restart on
//! a disk that works again has everything that was acknowledged, without work by hand.

use std::time::Instant;

use tidings_core::codec::{
    Packet, ReasonCode, RetainHandling, Subscribe, SubscribeFilter, Version,
};
use tidings_core::message::QoS;
use tidings_tests::raw_client::publish_packet;
use tidings_tests::{DEADLINE, RawClient, TidingsProcess, clean, persistent};

use crate::faults::{Fault, Machine};

const EIO: i32 = 5;
const ENOSPC: i32 = 28;
const EROFS: i32 = 30;

/// Everything in the history of the topic, by somebody who never was there.
#[track_caller]
fn history(machine: &Machine, id: &str, expected: &[&str]) {
    let mut reader = RawClient::connect(machine.broker.tcp(), &clean(Version::V5, id));
    reader.subscribe("$replay/seq/1/chat/lobby/+", QoS::AtLeastOnce);
    for (number, text) in expected.iter().enumerate() {
        let delivery = reader.receive();
        assert_eq!(delivery.text(), *text);
        assert_eq!(
            delivery.user_property("seq"),
            Some((number + 1).to_string().as_str())
        );
    }
    reader.expect_silence();
    reader.disconnect();
}

/// Who waits for an acknowledgement that will not come is told so, in MQTT 5, and sent away.
#[track_caller]
pub fn is_sent_away(client: &mut RawClient) {
    if client.version() == Version::V5 {
        let frame = client.next();
        let Packet::Disconnect(disconnect) = frame.packet() else {
            panic!("no DISCONNECT but {frame:?}");
        };
        assert_eq!(disconnect.reason, ReasonCode::ImplementationSpecificError);
        let why = disconnect.reason_string.unwrap_or_default();
        assert!(why.contains("the message store failed"), "{why}");
    }
    client.expect_closed();
}

#[track_caller]
pub fn await_answer(broker: &TidingsProcess, path: &str, text: &str) {
    let until = Instant::now() + DEADLINE;
    loop {
        let answer = broker.get(path);
        if answer.contains(text) {
            return;
        }
        assert!(Instant::now() < until, "{path}: {answer}");
    }
}

#[track_caller]
fn a_disk_that_fails(fault: Fault) {
    let mut machine = Machine::start();
    let mut alice = RawClient::connect(machine.broker.tcp(), &clean(Version::V5, "alice"));
    for text in ["one", "two"] {
        alice.publish("chat/lobby/alice", text, QoS::AtLeastOnce);
    }
    await_answer(&machine.broker, "/readyz", "200");
    let listens = |version, id: &str, topic: &str| {
        let mut client = RawClient::connect(machine.broker.tcp(), &clean(version, id));
        client.subscribe(topic, QoS::AtMostOnce);
        client
    };
    let mut bystander = listens(Version::V5, "bystander", "free/talk");
    let mut late = listens(Version::V5, "late", "free/late");
    let mut old = RawClient::connect(machine.broker.tcp(), &clean(Version::V311, "old"));
    let stays = persistent(Version::V5, "stays");
    let mut subscriber = RawClient::connect(machine.broker.tcp(), &stays);
    machine.set(fault);
    for (client, user) in [(&mut alice, "alice"), (&mut old, "old")] {
        let topic = format!("chat/lobby/{user}");
        client.send(&publish_packet(&topic, b"lost", QoS::AtLeastOnce, 99));
    }
    await_answer(&machine.broker, "/readyz", "503");
    await_answer(
        &machine.broker,
        "/readyz",
        "the store failed, and a restart recovers",
    );
    await_answer(&machine.broker, "/healthz", "200");
    is_sent_away(&mut alice);
    is_sent_away(&mut old);
    // Who wants something stored now, too; what is to stay of a subscription is as much.
    let packet = publish_packet("chat/lobby/late", b"lost", QoS::ExactlyOnce, 1);
    late.send(&packet);
    is_sent_away(&mut late);
    subscriber.send(&Packet::Subscribe(Subscribe {
        packet_id: 1,
        subscription_id: None,
        user: Vec::new(),
        filters: vec![SubscribeFilter {
            filter: "free/more".to_owned(),
            qos: QoS::AtLeastOnce,
            no_local: false,
            retain_as_published: false,
            retain_handling: RetainHandling::DoNotSend,
        }],
    }));
    is_sent_away(&mut subscriber);
    let (_, refused) =
        RawClient::try_connect(machine.broker.tcp(), &clean(Version::V5, "bob"), DEADLINE)
            .expect("an answer");
    assert_eq!(refused.reason, ReasonCode::ServerUnavailable);
    // Who wants nothing stored goes on.
    bystander.publish("free/talk", "still here", QoS::AtMostOnce);
    assert_eq!(bystander.receive().text(), "still here");
    let log = machine.broker.log();
    assert!(log.contains("ERROR"), "a person must look: {log}");
    assert!(log.contains("restart"), "and is told what to do: {log}");
    machine.broker.terminate();
    machine.set(Fault::default());
    machine.broker.restart();
    await_answer(&machine.broker, "/readyz", "200");
    let mut alice = RawClient::connect(machine.broker.tcp(), &clean(Version::V5, "alice"));
    // What was not acknowledged may be there or not; it is there once.
    let mut reader = RawClient::connect(machine.broker.tcp(), &clean(Version::V5, "reader"));
    alice.publish("chat/lobby/alice", "three", QoS::AtLeastOnce);
    reader.subscribe("$replay/seq/1/chat/lobby/+", QoS::AtLeastOnce);
    let mut texts = Vec::new();
    while texts.last().is_none_or(|text| text != "three") {
        let delivery = reader.receive();
        texts.push(delivery.text());
        assert_eq!(
            delivery.user_property("seq"),
            Some(texts.len().to_string().as_str())
        );
    }
    texts.retain(|text| text != "lost");
    assert_eq!(texts, ["one", "two", "three"]);
    machine.broker.terminate();
    let checked = machine.broker.command("fsck");
    let said = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert!(checked.status.success(), "{said}");
}

#[test]
fn eio_on_a_write_stops_acknowledging_and_a_restart_recovers() {
    a_disk_that_fails(Fault {
        write: EIO,
        ..Fault::default()
    });
}

#[test]
fn eio_on_a_sync_stops_acknowledging_and_a_restart_recovers() {
    a_disk_that_fails(Fault {
        sync: EIO,
        ..Fault::default()
    });
}

#[test]
fn a_disk_that_became_read_only_stops_acknowledging_and_a_restart_recovers() {
    a_disk_that_fails(Fault {
        write: EROFS,
        sync: EROFS,
        ..Fault::default()
    });
}

#[test]
fn a_sync_that_says_the_disk_is_full_stops_acknowledging_and_a_restart_recovers() {
    a_disk_that_fails(Fault {
        sync: ENOSPC,
        ..Fault::default()
    });
}

/// A browser, which may know no other word, is told that it is the broker's fault.
#[test]
fn over_websocket_a_disk_that_failed_is_close_code_1011() {
    let machine = Machine::start();
    let mut clients = [(Version::V311, "alice"), (Version::V5, "bob")].map(|(version, name)| {
        let client = RawClient::connect(machine.broker.ws(), &clean(version, name));
        (client, format!("chat/lobby/{name}"))
    });
    machine.set(Fault {
        write: EIO,
        sync: EIO,
        ..Fault::default()
    });
    let (first, topic) = &mut clients[0];
    first.send(&publish_packet(topic, b"lost", QoS::AtLeastOnce, 1));
    await_answer(&machine.broker, "/readyz", "503");
    for (client, topic) in &mut clients {
        // It may have ended already.
        let _ = client.try_send(&publish_packet(topic, b"lost", QoS::AtLeastOnce, 2));
        while client.try_next().is_ok() {}
        assert_eq!(client.link().close_code(), Some(1011), "{topic}");
    }
}

/// The state is the journal, indexed: what cannot be written there is in the journal.
#[test]
fn a_disk_that_fails_under_the_state_loses_nothing() {
    let mut machine = Machine::start();
    machine.set(Fault {
        write: EIO,
        sync: EIO,
        of_state: true,
        ..Fault::default()
    });
    let mut alice = RawClient::connect(machine.broker.tcp(), &clean(Version::V5, "alice"));
    for text in ["one", "two"] {
        alice.publish("chat/lobby/alice", text, QoS::AtLeastOnce);
    }
    machine.broker.kill();
    machine.set(Fault::default());
    machine.broker.restart();
    history(&machine, "reader", &["one", "two"]);
}
