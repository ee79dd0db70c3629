//! Records of rooms: what a crash left half done is completed at the next start, and nobody but the
//! service makes them.

use std::collections::BTreeMap;

use crate::peer::{DEADLINE, Peer, TestBroker, Version, connect, connect_bytes, encode, options};
use tidings_broker::listener::Kind;
use tidings_broker::{Broker, RoomOptions, StartError};
use tidings_core::codec::{Packet, Publish, PublishProperties, ReasonCode, decode};
use tidings_core::message::QoS;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::time::timeout;

/// The Client Identifier of the service.
const SERVICE: &str = "$link/@rooms";

fn managed(options: &mut tidings_broker::BrokerOptions) {
    options.rooms = Some(RoomOptions::default());
}

fn retained(topic: &str, payload: &str, packet_id: u16) -> Vec<u8> {
    let publish = Packet::Publish(Publish {
        dup: false,
        qos: QoS::AtLeastOnce,
        retain: true,
        topic,
        packet_id: Some(packet_id),
        properties: PublishProperties::default(),
        payload: payload.as_bytes(),
    });
    encode(Version::V5, &publish)
}

/// Stores retained messages with the broker's rights.
async fn store(mut stream: DuplexStream, client_id: &str, records: &[(&str, &str)]) {
    let mut bytes = connect_bytes(connect(Version::V5, client_id));
    for ((topic, payload), packet_id) in records.iter().zip(1..) {
        bytes.extend(retained(topic, payload, packet_id));
    }
    stream.write_all(&bytes).await.expect("the broker reads");
    let mut answers = 0;
    let mut received = Vec::new();
    // CONNACK, and a PUBACK for each.
    while answers < records.len() + 1 {
        let read = timeout(DEADLINE, stream.read_buf(&mut received)).await;
        assert_ne!(read.expect("in time").expect("a connection"), 0);
        while let Some((packet, used)) =
            decode(Some(Version::V5), &received, usize::MAX).expect("a packet")
        {
            let reason = match packet {
                Packet::ConnAck(ack) => ack.reason,
                Packet::PubAck(ack) => ack.reason,
                other => panic!("{other:?}"),
            };
            assert!(!reason.is_failure(), "{reason:?}");
            received.drain(..used);
            answers += 1;
        }
    }
}

/// Reads retained messages and changes until they are as expected.
fn expect_records(peer: &mut Peer, expected: &[(&str, &str)]) {
    let expected: BTreeMap<String, String> = expected
        .iter()
        .map(|(topic, payload)| ((*topic).to_owned(), (*payload).to_owned()))
        .collect();
    let mut records = BTreeMap::new();
    while records != expected {
        let seen = peer.packet(|packet| match packet {
            Packet::Publish(publish) => {
                let payload = String::from_utf8_lossy(publish.payload).into_owned();
                Some((publish.topic.to_owned(), payload))
            }
            _ => None,
        });
        match seen {
            Some(Some((topic, payload))) if payload.is_empty() => {
                records.remove(&topic);
            }
            Some(Some((topic, payload))) => {
                records.insert(topic, payload);
            }
            Some(None) => {}
            None => panic!("the connection ended with {records:#?}"),
        }
    }
}

const MEMBER: &str = r#"{"role":"member","since":1000}"#;
const MODERATOR: &str = r#"{"role":"moderator","since":1000}"#;
const OWNER: &str = r#"{"role":"owner","since":1000}"#;
const BAN: &str = r#"{"by":"ann","since":1000}"#;
const OF_ANN: &str = r#"{"title":"x","kind":"open","owner":"ann","since":1000}"#;
const OF_BOB: &str = r#"{"title":"x","kind":"open","owner":"bob","since":1000}"#;
const GONE: &str = r#"{"title":"x","kind":"open","owner":"ann","deleted":true,"since":1000}"#;
const DIRECT: &str = r#"{"title":"","kind":"direct","owner":"ann","with":"bob","since":1000}"#;

#[tokio::test]
async fn what_a_crash_left_half_done_is_completed_at_the_next_start() {
    let broker = TestBroker::start(|_| {});
    let half_done = [
        // Made, and its owner not yet in it.
        ("room/made", OF_ANN),
        // Transferred from ann to bob, and only the room knows.
        ("room/moved", OF_BOB),
        ("room/moved/member/ann", OWNER),
        ("room/moved/member/bob", MEMBER),
        // Eve is banned and not yet out.
        ("room/shut", OF_ANN),
        ("room/shut/member/ann", OWNER),
        ("room/shut/member/eve", MEMBER),
        ("room/shut/ban/eve", BAN),
        // Deleted, and people are still recorded.
        ("room/gone", GONE),
        ("room/gone/member/ann", OWNER),
        ("room/gone/ban/eve", BAN),
        // The other one is not yet there.
        ("room/ann&bob", DIRECT),
        ("room/ann&bob/member/ann", OWNER),
    ];
    store(
        broker.running.connect_in_memory("test"),
        SERVICE,
        &half_done,
    )
    .await;
    // What others with the broker's rights say is not believed.
    let forged = [("room/made/member/eve", OWNER)];
    store(
        broker.running.connect_in_memory("test"),
        "$link/other",
        &forged,
    )
    .await;
    let TestBroker { running, folder } = broker;
    running.shutdown().await.unwrap();

    let broker = TestBroker::start_in(folder, managed);
    let mut peer = broker.peer(Kind::Tcp).join(connect(Version::V5, "sees"));
    peer.subscribe("room/#", QoS::AtMostOnce);
    expect_records(
        &mut peer,
        &[
            ("room/made", OF_ANN),
            ("room/made/member/ann", OWNER),
            ("room/made/member/eve", OWNER),
            ("room/moved", OF_BOB),
            ("room/moved/member/ann", MODERATOR),
            ("room/moved/member/bob", OWNER),
            ("room/shut", OF_ANN),
            ("room/shut/member/ann", OWNER),
            ("room/shut/ban/eve", BAN),
            ("room/gone", GONE),
            ("room/ann&bob", DIRECT),
            ("room/ann&bob/member/ann", OWNER),
            ("room/ann&bob/member/bob", MEMBER),
        ],
    );
}

#[tokio::test]
async fn a_broker_without_managed_rooms_does_not_open_private_ones() {
    let broker = TestBroker::start(|_| {});
    let stream = broker.running.connect_in_memory("test");
    store(stream, SERVICE, &[("room/open", OF_ANN)]).await;
    let TestBroker { running, folder } = broker;
    running.shutdown().await.unwrap();

    let broker = TestBroker::start_in(folder, |_| {});
    let stream = broker.running.connect_in_memory("test");
    store(stream, SERVICE, &[("room/ann&bob", DIRECT)]).await;
    let TestBroker { running, folder } = broker;
    running.shutdown().await.unwrap();

    let started = Broker::start(options(&folder, |_| {})).map(|_| ());
    assert!(
        matches!(started, Err(StartError::ClosedRooms)),
        "{started:?}"
    );
    drop(TestBroker::start_in(folder, managed));
}

#[tokio::test]
async fn a_client_cannot_take_the_name_of_the_service() {
    let broker = TestBroker::start(managed);
    let mut peer = broker.peer(Kind::Tcp);
    peer.connect(connect(Version::V5, SERVICE));
    assert_eq!(peer.connack(), ReasonCode::ClientIdentifierNotValid);
}
