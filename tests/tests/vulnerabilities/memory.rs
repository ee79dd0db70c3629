//! Memory of the broker that a peer can take: before it said who it is, with lengths that are only
//! announced, with packets that are refused, with exchanges that never end, with depth and number.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use tidings_core::codec::{
    Ack, Connect, Packet, Publish, PublishProperties, ReasonCode, Version, Will, encode,
};
use tidings_core::message::QoS;
use tidings_core::topic::MAX_LEVELS;
use tidings_tests::measure::{memory, mib};
use tidings_tests::raw_client::publish_packet;
use tidings_tests::{DEADLINE, RawClient, TidingsOptions, TidingsProcess, clean};

/// Resident memory of the broker, bytes.
fn resident(broker: &TidingsProcess) -> u64 {
    memory(broker.id()).expect("the broker runs").resident
}

/// What a broker takes that nobody uses any more may vary by so much, bytes.
const NOISE: u64 = 8 << 20;

#[track_caller]
fn assert_grew_less(broker: &TidingsProcess, before: u64, allowed: u64, what: &str) {
    let after = resident(broker);
    let grown = after.saturating_sub(before);
    assert!(
        grown < allowed,
        "{what}: {:.1} MiB more than the {:.1} MiB before",
        mib(grown),
        mib(before)
    );
}

/// The broker has read what came before: somebody else is served.
#[track_caller]
fn is_alive(broker: &TidingsProcess) {
    let mut client = RawClient::connect(broker.tcp(), &clean(Version::V5, "alive"));
    client.send(&Packet::PingReq);
    assert!(matches!(client.next().packet(), Packet::PingResp));
    client.disconnect();
}

#[test]
fn what_is_announced_before_connect_takes_no_memory() {
    let most: usize = 1_048_576;
    let broker = TidingsOptions::new()
        .set("mqtt.max_connect_bytes", most)
        .start();
    is_alive(&broker);
    let before = resident(&broker);
    let mut peers: Vec<TcpStream> = Vec::new();
    for _ in 0..200 {
        let mut peer = TcpStream::connect(broker.tcp().address()).expect("a place");
        // A CONNECT of 1,000,000 bytes, and the first few of them.
        let begin = [
            &[0x10, 0xC0, 0x84, 0x3D][..],
            &[0, 4],
            b"MQTT",
            &[5, 2, 0, 0, 0],
        ]
        .concat();
        peer.write_all(&begin).expect("it is read");
        peers.push(peer);
    }
    is_alive(&broker);
    assert_grew_less(&broker, before, 2 * NOISE, "200 MB were announced");
    drop(peers);
}

#[test]
fn lengths_that_nobody_may_have_are_refused_at_the_header() {
    let broker = TidingsProcess::start();
    is_alive(&broker);
    let before = resident(&broker);
    for begin in [
        // A CONNECT of 256 MB, of 20,000 bytes, and with a length of five bytes.
        &[0x10, 0xFF, 0xFF, 0xFF, 0x7F][..],
        &[0x10, 0xA0, 0x9C, 0x01],
        &[0x10, 0xFF, 0xFF, 0xFF, 0xFF, 0x01],
    ] {
        let mut peer = TcpStream::connect(broker.tcp().address()).expect("a place");
        peer.set_read_timeout(Some(DEADLINE)).expect("a timeout");
        peer.write_all(begin).expect("it is read");
        let mut answer = Vec::new();
        // Bytes that were not read make the end a reset.
        let _ = peer.read_to_end(&mut answer);
        assert!(answer.len() < 200, "it ends: {answer:02x?}");
    }
    for version in [Version::V311, Version::V5] {
        let mut client = RawClient::connect(broker.tcp(), &clean(version, "long"));
        // A PUBLISH of 1,048,577 bytes with its header, which is one too many.
        client.send_bytes(&[0x30, 0xFD, 0xFF, 0x3F]);
        client.expect_refusal(ReasonCode::PacketTooLarge);
    }
    let mut clients = Vec::new();
    for number in 0..100 {
        let id = format!("c{number}");
        let mut client = RawClient::connect(broker.tcp(), &clean(Version::V5, &id));
        // One that is allowed, and never comes.
        client.send_bytes(&[0x30, 0xFC, 0xFF, 0x3F, 0, 1, b't', 0]);
        clients.push(client);
    }
    is_alive(&broker);
    assert_grew_less(&broker, before, 2 * NOISE, "100 MB were announced");
}

/// A CONNECT with a Will and User Properties, of which one byte is turned.
fn broken_connect(number: usize) -> Vec<u8> {
    let payload = [b'w'; 600];
    let will = Will {
        topic: "a/will",
        payload: &payload,
        qos: QoS::AtLeastOnce,
        retain: true,
        delay_s: 5,
        properties: Default::default(),
    };
    let connect = Connect {
        will: Some(will),
        ..clean(Version::V5, "broken")
    };
    let mut bytes = Vec::new();
    encode(Version::V5, &Packet::Connect(connect), &mut bytes);
    match number % 4 {
        // A topic that is no text; a topic with a wildcard; Will QoS 3; a property twice.
        0 => replace(&mut bytes, b"a/will", b"a\xFFwill"),
        1 => replace(&mut bytes, b"a/will", b"a/wi+#"),
        // The flags, after a Remaining Length of two bytes, the name and the level.
        2 => bytes[10] |= 0x18,
        _ => replace(&mut bytes, &[0x18, 0, 0, 0, 5], &[0x01, 1, 0x01, 1, 0x18]),
    }
    bytes
}

#[track_caller]
fn replace(bytes: &mut [u8], old: &[u8], new: &[u8]) {
    let at = bytes.windows(old.len()).position(|window| window == old);
    let at = at.expect("it is there");
    bytes[at..at + new.len()].copy_from_slice(new);
}

#[test]
fn malformed_wills_and_properties_leave_nothing_behind() {
    let broker = TidingsProcess::start();
    let round = |number: usize| {
        let mut peer = RawClient::open(broker.tcp());
        peer.send_bytes(&broken_connect(number));
        assert!(peer.expect_connack().reason.is_failure());
        peer.expect_closed();
        let mut client = RawClient::connect(broker.tcp(), &clean(Version::V5, "broken"));
        let properties = [0x26, 0, 1, b'k'].repeat(100);
        let mut packet = vec![0x30, 0x95, 0x03, 0, 1, b't', 0x90, 0x03];
        packet.extend_from_slice(&properties);
        packet.extend_from_slice(&[0; 5]);
        client.send_bytes(&packet);
        client.expect_refusal(ReasonCode::MalformedPacket);
    };
    (0..150).for_each(round);
    let before = resident(&broker);
    (0..1_000).for_each(round);
    is_alive(&broker);
    assert_grew_less(&broker, before, NOISE / 2, "2,000 connections were refused");
}

#[test]
fn packets_that_only_a_server_sends_end_the_connection_and_reach_nobody() {
    let broker = TidingsProcess::shared();
    for version in [Version::V311, Version::V5] {
        let v5 = version == Version::V5;
        let none: &[u8] = if v5 { &[0] } else { &[] };
        let packets = [
            [&[0x20, 2 + none.len() as u8, 0, 0][..], none].concat(),
            [&[0x90, 3 + none.len() as u8, 0, 1][..], none, &[0]].concat(),
            [&[0xB0, 2 + 2 * none.len() as u8, 0, 1][..], none, none].concat(),
            vec![0xD0, 0],
        ];
        for bytes in packets {
            let mut client = RawClient::connect(broker.tcp(), &clean(version, "pretender"));
            client.subscribe("pretended/#", QoS::AtMostOnce);
            client.send_bytes(&bytes);
            client.expect_refusal(ReasonCode::ProtocolError);
        }
    }
}

#[test]
fn qos2_identifiers_of_a_client_that_never_releases_them_are_bounded() {
    let broker = TidingsOptions::new()
        .set("mqtt.receive_maximum", 10)
        .start();
    let mut client = RawClient::connect(broker.tcp(), &clean(Version::V5, "five"));
    for packet_id in 1..=11 {
        client.send(&publish_packet("t", b"x", QoS::ExactlyOnce, packet_id));
        if packet_id <= 10 {
            client.expect_pubrec(packet_id);
        }
    }
    client.expect_refusal(ReasonCode::ReceiveMaximumExceeded);
    // MQTT 3 cannot say how many there may be, so there may be more, but not any number.
    const MOST: u16 = 16_384;
    let mut client = RawClient::connect(broker.tcp(), &clean(Version::V311, "three"));
    let publish = |packet_id| publish_packet("t", b"x", QoS::ExactlyOnce, packet_id);
    for first in (1..=MOST).step_by(1024) {
        let sent = client.try_send_all((first..first + 1024).map(publish));
        sent.expect("they are read");
        for packet_id in first..first + 1024 {
            client.expect_pubrec(packet_id);
        }
    }
    // One that is there already takes no more, and one that is released makes room.
    client.send(&publish(7));
    client.expect_pubrec(7);
    client.send(&Packet::PubRel(Ack::new(3, ReasonCode::Success)));
    client.expect_pubcomp(3);
    client.send(&publish(MOST + 1));
    client.expect_pubrec(MOST + 1);
    client.send(&publish(MOST + 2));
    client.expect_closed();
    is_alive(&broker);
}

#[test]
fn deep_topics_and_many_properties_are_refused_or_cost_what_they_weigh() {
    let broker = TidingsOptions::new()
        .set("limits.max_user_properties", 65_535)
        .start();
    let deep = "/".repeat(MAX_LEVELS);
    let mut client = RawClient::connect(broker.tcp(), &clean(Version::V5, "deep"));
    client.send(&publish_packet(&deep, b"x", QoS::AtLeastOnce, 1));
    client.expect_refusal(ReasonCode::TopicNameInvalid);
    for filter in [&deep, &"+/".repeat(30_000)] {
        let mut client = RawClient::connect(broker.tcp(), &clean(Version::V311, "deep"));
        let mut bytes = vec![0x82];
        let mut length = filter.len() + 5;
        while length > 0 {
            bytes.push((length % 128) as u8 | u8::from(length >= 128) << 7);
            length /= 128;
        }
        bytes.extend_from_slice(&[0, 1]);
        bytes.extend_from_slice(&(filter.len() as u16).to_be_bytes());
        bytes.extend_from_slice(filter.as_bytes());
        bytes.push(1);
        client.send_bytes(&bytes);
        let answer = client.expect_suback();
        assert!(answer.reasons.iter().all(|reason| reason.is_failure()));
    }
    // As many User Properties as a packet holds, to a receiver and into the journal.
    let mut receiver = RawClient::connect(broker.tcp(), &clean(Version::V5, "receiver"));
    receiver.subscribe("many/#", QoS::AtLeastOnce);
    let mut client = RawClient::connect(broker.tcp(), &clean(Version::V5, "many"));
    let before = resident(&broker);
    for _ in 0..5 {
        let pairs = vec![("", ""); 40_000];
        let publish = Publish {
            dup: false,
            qos: QoS::AtLeastOnce,
            retain: true,
            topic: "many/x",
            packet_id: Some(client.new_packet_id()),
            properties: PublishProperties {
                user: pairs,
                ..Default::default()
            },
            payload: b"x",
        };
        let packet_id = publish.packet_id.unwrap_or_default();
        client.send(&Packet::Publish(publish));
        assert!(!client.expect_puback(packet_id).reason.is_failure());
        receiver.receive();
    }
    is_alive(&broker);
    assert_grew_less(&broker, before, 12 * NOISE, "five messages of 200 KB");
}

#[test]
fn an_mqtt_length_larger_than_its_websocket_frame_waits_for_the_next_frame() {
    let broker = TidingsProcess::shared();
    let mut client = RawClient::connect(broker.ws(), &clean(Version::V5, "framed"));
    client.subscribe("framed", QoS::AtMostOnce);
    let payload = vec![b'x'; 1000];
    let mut packet = Vec::new();
    let publish = publish_packet("framed", &payload, QoS::AtMostOnce, 0);
    encode(Version::V5, &publish, &mut packet);
    // The frame has ten bytes of a packet that says that it has a thousand.
    let (begin, rest) = packet.split_at(10);
    client.send_bytes(begin);
    is_alive(broker);
    client.send_bytes(rest);
    assert_eq!(client.receive().payload, payload);
}

#[test]
fn a_websocket_frame_takes_no_memory_for_what_it_announces() {
    let broker = TidingsProcess::start();
    is_alive(&broker);
    let before = resident(&broker);
    let mut peers = Vec::new();
    for number in 0..50 {
        let id = format!("announcer-{number}");
        let mut client = RawClient::connect(broker.ws(), &clean(Version::V5, &id));
        // A masked binary frame of 4 GiB, and a PINGREQ in it.
        let header = [0x82, 0xFF, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0];
        let link = client.link();
        link.write_raw(&header).expect("it is read");
        link.write_raw(&[0xC0, 0]).expect("it is read");
        assert!(matches!(client.next().packet(), Packet::PingResp));
        peers.push(client);
    }
    assert_grew_less(&broker, before, 2 * NOISE, "frames of 4 GiB were announced");
}
