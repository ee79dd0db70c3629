//! One SUBSCRIBE is enough for all rooms that somebody is in, however many; and for no other.

use std::collections::BTreeSet;
use std::sync::Arc;

use tidings_broker::listener::Kind;
use tidings_broker::{BrokerOptions, RoomOptions};
use tidings_core::codec::{Ack, Packet, ReasonCode};
use tidings_core::message::QoS;
use tidings_core::rules::{RuleSource, Rules};

use crate::peer::{Connect, TestBroker, Version, connect, encode, publish_bytes};
use crate::records::store_records;

/// Rooms that ann is in.
const HERS: usize = 10_000;
/// Rooms that she is not in.
const OTHERS: usize = 500;

fn rules() -> Arc<Rules> {
    let rule = |pattern: &str, publish: &str, subscribe: &str| RuleSource {
        pattern: pattern.to_owned(),
        publish: publish.to_owned(),
        subscribe: subscribe.to_owned(),
        ..RuleSource::default()
    };
    let rules = [
        rule("chat/{room}/{user}", "self(user)", "member(room)"),
        rule("room/#", "broker", "signed_in"),
        rule("user/#", "broker", "signed_in"),
        rule("end", "any", "any"),
    ];
    Arc::new(Rules::compile(&rules).expect("rules"))
}

/// Room `n`, with bob as its owner, and with ann if it is one of hers.
fn records(n: usize) -> Vec<(String, String)> {
    let member = |user: &str, role: &str| {
        let record = format!(r#"{{"role":"{role}","since":1000}}"#);
        (format!("room/r{n}/member/{user}"), record)
    };
    let room = r#"{"title":"x","kind":"private","owner":"bob","since":1000}"#;
    let mut records = vec![(format!("room/r{n}"), room.to_owned())];
    records.push(member("bob", "owner"));
    if n < HERS {
        records.push(member("ann", "member"));
    }
    records
}

#[test]
fn one_subscribe_gets_10000_rooms_and_no_other() {
    let broker = TestBroker::start(|options| options.rules = rules());
    store_records(&broker, (0..HERS + OTHERS).flat_map(records));
    let managed = |options: &mut BrokerOptions| {
        options.rules = rules();
        options.rooms = Some(RoomOptions::default());
    };
    let broker = TestBroker::start_in(broker.stop(), managed);
    let join = |user: &'static str| {
        broker.peer(Kind::Tcp).join(Connect {
            username: Some(user),
            ..connect(Version::V5, user)
        })
    };
    let mut ann = join("ann");
    ann.subscribe("#", QoS::AtLeastOnce);
    let mut bob = join("bob");
    let mut bytes = Vec::new();
    for n in 0..HERS + OTHERS {
        let topic = format!("chat/r{n}/bob");
        let packet_id = u16::try_from(n + 1).expect("an identifier");
        bytes.extend(publish_bytes(&topic, b"hello", Some(packet_id)));
    }
    bytes.extend(publish_bytes("end", b"", Some(u16::MAX)));
    bob.send(&bytes);

    let mut rooms = BTreeSet::new();
    loop {
        let next = ann.packet(|packet| match packet {
            Packet::Publish(publish) => (publish.topic.to_owned(), publish.packet_id),
            other => panic!("no PUBLISH: {other:?}"),
        });
        let (topic, packet_id) = next.expect("the connection stays");
        if let Some(packet_id) = packet_id {
            let ack = Ack::new(packet_id, ReasonCode::Success);
            ann.send(&encode(Version::V5, &Packet::PubAck(ack)));
        }
        match topic.split('/').collect::<Vec<_>>()[..] {
            ["end"] => break,
            ["chat", room, "bob"] => assert!(rooms.insert(room.to_owned()), "{room} twice"),
            // Retained records of rooms.
            _ => {}
        }
    }
    let hers: BTreeSet<String> = (0..HERS).map(|n| format!("r{n}")).collect();
    assert!(rooms == hers, "{} rooms", rooms.len());
}
