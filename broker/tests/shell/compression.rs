//! permessage-deflate (RFC 7692) at the door of a broker: what is agreed on, what is compressed and
//! what is not, and what is refused.

use tidings_core::codec::{Packet, RetainHandling, Subscribe, SubscribeFilter, Version};
use tidings_core::message::QoS;

use crate::frames::{DEFLATE, Framed, deflated, frame};
use crate::peer::{TestBroker, connect, connect_bytes, encode, publish_bytes};

fn subscribe_bytes(filter: &str) -> Vec<u8> {
    let subscribe = Packet::Subscribe(Subscribe {
        packet_id: 1,
        subscription_id: None,
        user: Vec::new(),
        filters: vec![SubscribeFilter {
            filter: filter.to_owned(),
            qos: QoS::AtMostOnce,
            no_local: false,
            retain_as_published: false,
            retain_handling: RetainHandling::SendAtSubscribe,
        }],
    });
    encode(Version::V5, &subscribe)
}

/// A client that subscribed to `t`.
fn reader(broker: &TestBroker, headers: &str, client_id: &str) -> Framed {
    let mut socket = Framed::open(broker, headers);
    socket.send(0x82, &connect_bytes(connect(Version::V5, client_id)));
    socket.packet(|packet| assert!(matches!(packet, Packet::ConnAck(_))));
    socket.send(0x82, &subscribe_bytes("t"));
    socket.packet(|packet| assert!(matches!(packet, Packet::SubAck(_))));
    socket
}

fn payload_of(packet: &Packet<'_>) -> Vec<u8> {
    match packet {
        Packet::Publish(publish) => publish.payload.to_vec(),
        other => panic!("no PUBLISH: {other:?}"),
    }
}

/// What people say, so that it compresses as that does.
fn talk(bytes: usize) -> Vec<u8> {
    let words = [
        "the ",
        "meeting ",
        "is ",
        "at ",
        "nine ",
        "tomorrow, ",
        "bring ",
        "coffee ",
    ];
    let text = (0_usize..).map(|n| words[n * n * 7919 % 31 % 8]);
    let mut text: Vec<u8> = text.take(bytes).flat_map(str::bytes).collect();
    text.truncate(bytes);
    text
}

#[test]
fn rfc_7692_5_1_only_what_was_offered_and_understood_is_agreed_on() {
    let broker = TestBroker::start(|_| {});
    let agreed = |headers: &str| {
        let head = Framed::open(&broker, headers).head.to_ascii_lowercase();
        let line = head
            .lines()
            .find(|line| line.starts_with("sec-websocket-extensions"));
        line.map(str::to_owned)
    };
    let plain = "sec-websocket-extensions: permessage-deflate; server_no_context_takeover; client_no_context_takeover";
    assert_eq!(agreed(DEFLATE).as_deref(), Some(plain));
    assert_eq!(agreed(""), None);
    let unknown = "Sec-WebSocket-Extensions: permessage-deflate; speed=9\r\n";
    assert_eq!(agreed(unknown), None);
    let two_lines = format!("{unknown}{DEFLATE}");
    assert_eq!(agreed(&two_lines).as_deref(), Some(plain));
    let small = "Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=11\r\n";
    let expected = format!("{plain}; server_max_window_bits=11");
    assert_eq!(agreed(small), Some(expected));
    let off = TestBroker::start(|options| options.websocket.compression = false);
    let head = Framed::open(&off, DEFLATE).head;
    assert!(!head.contains("permessage"), "{head}");
}

#[test]
fn large_messages_are_compressed_for_who_agreed_and_for_nobody_else() {
    let broker = TestBroker::start(|_| {});
    let mut agreed = reader(&broker, DEFLATE, "agreed");
    let mut plain = reader(&broker, "", "plain");
    let small_window =
        "Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=11\r\n";
    let mut small = reader(&broker, small_window, "small");
    let mut writer = Framed::open(&broker, "");
    writer.send(0x82, &connect_bytes(connect(Version::V5, "writer")));
    let long = talk(20_000);
    writer.send(0x82, &publish_bytes("t", b"a word", None));
    for socket in [&mut agreed, &mut plain, &mut small] {
        assert_eq!(socket.packet(payload_of).unwrap(), b"a word");
        assert_eq!(socket.compressed, 0, "below websocket.compress_from_bytes");
        socket.payload_bytes = 0;
    }
    writer.send(0x82, &publish_bytes("t", &long, None));
    for socket in [&mut agreed, &mut plain, &mut small] {
        assert_eq!(socket.packet(payload_of).unwrap(), long);
    }
    assert!(agreed.compressed >= 1);
    assert!(
        agreed.payload_bytes < long.len() / 2,
        "{}",
        agreed.payload_bytes
    );
    assert_eq!(plain.compressed, 0);
    // In pieces of the window that the client wanted.
    assert!(small.compressed >= 10_000 / 2048, "{}", small.compressed);
}

#[test]
fn what_comes_compressed_in_fragments_and_between_other_messages_is_one_stream() {
    let broker = TestBroker::start(|_| {});
    let mut watch = reader(&broker, "", "watch");
    let mut socket = Framed::open(&broker, DEFLATE);
    // CONNECT itself is compressed, and in pieces that arrive with what follows.
    let mut bytes = frame(
        0xC2,
        &deflated(&connect_bytes(connect(Version::V5, "sender"))),
    );
    let mut expected = Vec::new();
    for n in 0..60_usize {
        let payload = talk(n * 97 + 1);
        let packet = publish_bytes("t", &payload, None);
        expected.push(payload);
        let (first, second) = packet.split_at(packet.len() / 3);
        match n % 4 {
            0 => bytes.extend(frame(0xC2, &deflated(&packet))),
            1 => bytes.extend(frame(0x82, &packet)),
            // Part of a packet plain, the rest compressed.
            2 => {
                bytes.extend(frame(0x82, first));
                bytes.extend(frame(0xC2, &deflated(second)));
            }
            _ => {
                let packed = deflated(&packet);
                let (first, second) = packed.split_at(packed.len() / 2);
                bytes.extend(frame(0x42, first));
                bytes.extend(frame(0x89, b"between"));
                bytes.extend(frame(0x00, b""));
                bytes.extend(frame(0x80, second));
            }
        }
    }
    // Pieces of changing length.
    let mut rest = bytes.as_slice();
    let mut len = 1;
    while !rest.is_empty() {
        len = len * 7 % 1009;
        let (piece, more) = rest.split_at(len.min(rest.len()));
        socket.send_raw(piece);
        rest = more;
    }
    for payload in expected {
        assert_eq!(watch.packet(payload_of).unwrap(), payload);
    }
}

#[test]
fn a_bomb_is_closed_with_1009_before_and_after_connect() {
    let broker = TestBroker::start(|_| {});
    let bomb = deflated(&vec![0; 30_000_000]);
    let mut before = Framed::open(&broker, DEFLATE);
    // What is announced is more than a CONNECT may have: it is refused without being read.
    assert!(before.try_send_raw(&frame(0xC2, &bomb)) || before.close_code.is_none());
    assert_eq!(before.end(), Some(1009));
    let mut small = Framed::open(&broker, DEFLATE);
    small.send(0xC2, &deflated(&vec![0x10; 100_000]));
    assert_eq!(
        small.end(),
        Some(1009),
        "small on the wire, and too large for a CONNECT"
    );
    let mut after = reader(&broker, DEFLATE, "bomber");
    after.send(0xC2, &bomb);
    assert_eq!(after.end(), Some(1009));
}

#[test]
fn what_is_not_compressed_as_it_says_is_closed_with_1007_and_rsv1_out_of_place_with_1002() {
    let broker = TestBroker::start(|_| {});
    let mut garbage = reader(&broker, DEFLATE, "garbage");
    garbage.send(0xC2, &[0xFF; 20]);
    assert_eq!(garbage.end(), Some(1007));
    for (headers, first) in [
        ("", 0xC2),
        (DEFLATE, 0xC9),
        (DEFLATE, 0xC0),
        (DEFLATE, 0xA2),
    ] {
        let mut socket = reader(&broker, headers, "rsv");
        socket.send(first, b"x");
        assert_eq!(socket.end(), Some(1002), "{headers}{first:02x}");
    }
}

#[test]
fn a_reader_that_takes_its_time_gets_every_compressed_byte() {
    let broker = TestBroker::start(|_| {});
    let mut slow = reader(&broker, DEFLATE, "slow");
    let mut writer = Framed::open(&broker, "");
    writer.send(0x82, &connect_bytes(connect(Version::V5, "writer")));
    writer.packet(|packet| assert!(matches!(packet, Packet::ConnAck(_))));
    // More than sockets hold, at QoS 1, so that nothing may be left out.
    let subscribe = Packet::Subscribe(Subscribe {
        packet_id: 2,
        subscription_id: None,
        user: Vec::new(),
        filters: vec![SubscribeFilter {
            filter: "kept".to_owned(),
            qos: QoS::AtLeastOnce,
            no_local: false,
            retain_as_published: false,
            retain_handling: RetainHandling::SendAtSubscribe,
        }],
    });
    slow.send(0x82, &encode(Version::V5, &subscribe));
    slow.packet(|packet| assert!(matches!(packet, Packet::SubAck(_))));
    let count = 150_u16;
    let long = talk(40_000);
    let payload = |n: u16| &long[..30_000 + usize::from(n)];
    for n in 1..=count {
        writer.send(0x82, &publish_bytes("kept", payload(n), Some(n)));
    }
    for _ in 1..=count {
        writer.packet(|packet| assert!(matches!(packet, Packet::PubAck(_))));
    }
    for n in 1..=count {
        let got = slow.packet(payload_of).expect("it stays");
        assert!(got == payload(n), "message {n}");
    }
    assert!(slow.compressed > 0);
}
