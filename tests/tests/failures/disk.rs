//! A disk that fails under the journal: nothing more is acknowledged, it is said aloud, and a restart on
//! a disk that works again has everything that was acknowledged, without work by hand.

use std::time::Instant;

use tidings_core::codec::{Packet, Version};
use tidings_core::message::QoS;
use tidings_tests::raw_client::publish_packet;
use tidings_tests::{ClientError, DEADLINE, RawClient, clean};

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

/// What was sent before is not acknowledged as stored: the broker answers what comes after it, or ends
/// the connection.
#[track_caller]
fn is_not_acknowledged(client: &mut RawClient) {
    if client.try_send(&Packet::PingReq).is_err() {
        return;
    }
    loop {
        match client.try_next() {
            Ok(frame) => match frame.packet() {
                Packet::PubAck(ack) | Packet::PubRec(ack) => {
                    assert!(
                        ack.reason.is_failure(),
                        "it was acknowledged, and is not stored"
                    );
                }
                Packet::PingResp => return,
                _ => {}
            },
            Err(ClientError::Closed) => return,
            Err(error) => panic!("neither an answer nor an end: {error}"),
        }
    }
}

#[track_caller]
fn await_answer(machine: &Machine, path: &str, text: &str) {
    let until = Instant::now() + DEADLINE;
    loop {
        let answer = machine.broker.get(path);
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
    await_answer(&machine, "/readyz", "200");
    machine.set(fault);
    let lost = publish_packet("chat/lobby/alice", b"lost", QoS::AtLeastOnce, 99);
    alice.send(&lost);
    await_answer(&machine, "/readyz", "503");
    is_not_acknowledged(&mut alice);
    await_answer(&machine, "/healthz", "200");
    let log = machine.broker.log();
    assert!(log.contains("ERROR"), "a person must look: {log}");
    // Whoever comes now is not told that anything is stored.
    if let Ok((mut bob, connack)) =
        RawClient::try_connect(machine.broker.tcp(), &clean(Version::V5, "bob"), DEADLINE)
        && !connack.reason.is_failure()
    {
        let packet = publish_packet("chat/lobby/bob", b"lost", QoS::ExactlyOnce, 1);
        bob.send(&packet);
        is_not_acknowledged(&mut bob);
    }
    machine.broker.terminate();
    machine.set(Fault::default());
    machine.broker.restart();
    await_answer(&machine, "/readyz", "200");
    let mut alice = RawClient::connect(machine.broker.tcp(), &clean(Version::V5, "alice"));
    // What was not acknowledged may be there or not; it is there once.
    let mut reader = RawClient::connect(machine.broker.tcp(), &clean(Version::V5, "reader"));
    alice.publish("chat/lobby/alice", "three", QoS::AtLeastOnce);
    reader.subscribe("$replay/seq/1/chat/lobby/alice", QoS::AtLeastOnce);
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
    await_answer(&machine, "/readyz", "503");
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
