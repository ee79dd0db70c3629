//! MQTT over WebSocket (§6).

use std::io::{Read, Write};
use std::net::TcpStream;

use tidings_core::codec::{Packet, Version, encode};
use tidings_core::message::QoS::AtLeastOnce;
use tidings_tests::raw_client::publish_packet;
use tidings_tests::websocket::{self, BINARY, CLOSE, CONTINUATION, PING, TEXT};
use tidings_tests::{DEADLINE, RawClient, TidingsProcess, clean};

use crate::door::{BOTH, Door, each_door, expect_text};

/// Each version over WebSocket only.
fn each_websocket(test: impl Fn(&Door) + Sync) {
    each_door(BOTH, |door| {
        if door.endpoint.is_websocket() {
            test(door);
        }
    });
}

fn encoded(version: Version, packets: &[Packet<'_>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    packets
        .iter()
        .for_each(|packet| encode(version, packet, &mut bytes));
    bytes
}

/// Sends a request to the WebSocket port and gives the head of the answer.
fn ask(request: &str) -> String {
    let address = TidingsProcess::shared().ws().address();
    let mut stream = TcpStream::connect_timeout(&address, DEADLINE).expect("it listens");
    stream.set_read_timeout(Some(DEADLINE)).expect("a deadline");
    stream.write_all(request.as_bytes()).expect("it reads");
    let (mut answer, mut some) = (Vec::new(), [0; 1024]);
    while !answer.windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read(&mut some) {
            Ok(0) | Err(_) => break,
            Ok(len) => answer.extend_from_slice(&some[..len]),
        }
    }
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn mqtt_6_0_0_1_a_text_frame_closes_the_connection() {
    each_websocket(|door| {
        for connected in [false, true] {
            let mut client = if connected {
                door.clean("client")
            } else {
                door.open()
            };
            client
                .link()
                .send_frame(true, TEXT, b"hello")
                .expect("the connection is open");
            client.expect_closed();
            // RFC 6455 §7.4.1: a kind of data that is not accepted.
            assert_eq!(client.link().close_code(), Some(1003));
        }
    });
}

#[test]
fn mqtt_6_0_0_1_what_the_broker_sends_is_binary() {
    // The client of these tests refuses any other data frame.
    each_websocket(|door| {
        let topic = door.topic("t");
        let mut client = door.clean("client");
        client.subscribe(&topic, AtLeastOnce);
        client.publish(&topic, "hello", tidings_core::message::QoS::AtMostOnce);
        expect_text(&mut client, "hello");
        client.expect_silence();
    });
}

#[test]
fn mqtt_6_0_0_2_many_packets_may_be_in_one_frame() {
    each_websocket(|door| {
        let (id, topic) = (door.name("client"), door.topic("t"));
        let mut client = door.open();
        let mut packets = vec![Packet::Connect(clean(door.version, &id))];
        packets.extend((1..=50).map(|id| publish_packet(&topic, b"hello", AtLeastOnce, id)));
        client.send_bytes(&encoded(door.version, &packets));
        client.expect_connack();
        for packet_id in 1..=50 {
            client.expect_puback(packet_id);
        }
    });
}

#[test]
fn mqtt_6_0_0_2_a_packet_may_be_spread_over_many_frames() {
    each_websocket(|door| {
        let (id, topic) = (door.name("client"), door.topic("t"));
        let packets = [
            Packet::Connect(clean(door.version, &id)),
            publish_packet(&topic, b"hello", AtLeastOnce, 1),
            publish_packet(&topic, b"hello", AtLeastOnce, 2),
            Packet::PingReq,
        ];
        let bytes = encoded(door.version, &packets);
        for piece in [1, 2, 3, 7, bytes.len() - 1] {
            let mut client = door.open();
            client.send_in_pieces(&bytes, piece);
            client.expect_connack();
            client.expect_puback(1);
            client.expect_puback(2);
            assert_eq!(client.next().packet(), Packet::PingResp);
        }
    });
}

#[test]
fn mqtt_6_0_0_2_a_message_in_fragments_is_one_stream() {
    each_websocket(|door| {
        let (id, topic) = (door.name("client"), door.topic("t"));
        let packets = [
            Packet::Connect(clean(door.version, &id)),
            publish_packet(&topic, b"hello", AtLeastOnce, 1),
        ];
        let bytes = encoded(door.version, &packets);
        let (first, rest) = bytes.split_at(5);
        let (second, third) = rest.split_at(rest.len() / 2);
        let mut client = door.open();
        let frames = [
            (false, BINARY, first),
            // Control frames may come between fragments, and empty ones too.
            (true, PING, b"between"),
            (false, CONTINUATION, second),
            (false, CONTINUATION, b""),
            (true, CONTINUATION, third),
        ];
        for (fin, opcode, payload) in frames {
            client
                .link()
                .send_frame(fin, opcode, payload)
                .expect("the connection is open");
        }
        client.expect_connack();
        client.expect_puback(1);
    });
}

#[test]
fn mqtt_6_0_0_3_a_client_that_does_not_offer_mqtt_is_refused() {
    let host = TidingsProcess::shared().ws().address().to_string();
    for subprotocol in [None, Some("chat"), Some("mqttv5")] {
        let answer = ask(&websocket::request(&host, "/mqtt", subprotocol));
        assert!(
            answer.starts_with("HTTP/1.1 400 "),
            "{subprotocol:?}: {answer}"
        );
    }
}

#[test]
fn mqtt_6_0_0_4_the_subprotocol_is_mqtt() {
    let host = TidingsProcess::shared().ws().address().to_string();
    for offer in ["mqtt", "chat, mqtt", "mqtt, mqttv3.1"] {
        let answer = ask(&websocket::request(&host, "/mqtt", Some(offer)));
        assert_eq!(websocket::check_answer(answer.trim_end()), Ok(()));
    }
}

#[test]
fn requests_that_are_no_upgrade_are_refused() {
    let host = TidingsProcess::shared().ws().address().to_string();
    let good = websocket::request(&host, "/mqtt", Some("mqtt"));
    for (request, status) in [
        (good.replace("Upgrade: websocket\r\n", ""), "426"),
        (good.replace("Version: 13", "Version: 8"), "426"),
        (good.replace("dGhlIHNhbXBsZSBub25jZQ==", "short"), "400"),
        (
            good.replace("\r\n\r\n", "\r\nOrigin: http://elsewhere.example\r\n\r\n"),
            "403",
        ),
    ] {
        let answer = ask(&request);
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{request}\n{answer}"
        );
    }
}

#[test]
fn a_websocket_ping_is_answered() {
    each_websocket(|door| {
        let mut client = door.clean("client");
        client
            .link()
            .send_frame(true, PING, b"are you there?")
            .expect("the connection is open");
        client.expect_silence();
    });
}

#[test]
fn a_websocket_close_is_answered_and_publishes_the_will() {
    each_websocket(|door| {
        let (id, topic) = (door.name("client"), door.topic("will"));
        let mut watcher = door.clean("watcher");
        watcher.subscribe(&topic, AtLeastOnce);
        let mut client = door.with(&id, |connect| {
            connect.will = Some(crate::will::will(&topic, b"gone"));
        });
        let code = 1000_u16.to_be_bytes();
        client
            .link()
            .send_frame(true, CLOSE, &code)
            .expect("the connection is open");
        client.expect_closed();
        assert_eq!(client.link().close_code(), Some(1000));
        // Without a DISCONNECT before it, it is a lost connection.
        expect_text(&mut watcher, "gone");
    });
}

#[test]
fn frames_that_break_rfc_6455_close_the_connection() {
    each_websocket(|door| {
        for raw in [
            // Not masked, a reserved bit, a reserved opcode, a long ping, a continuation of nothing.
            &[0x82, 0x01, 0x00][..],
            &[0xC2, 0x81, 0, 0, 0, 0, 0],
            &[0x83, 0x81, 0, 0, 0, 0, 0],
            &[0x89, 0xFE, 0, 126],
            &[0x80, 0x80, 0, 0, 0, 0],
        ] {
            let mut client = door.clean("client");
            client
                .link()
                .write_raw(raw)
                .expect("the connection is open");
            client.expect_closed();
            assert_eq!(client.link().close_code(), Some(1002), "{raw:02x?}");
        }
    });
}

#[test]
fn the_close_frame_follows_the_last_packet() {
    each_websocket(|door| {
        let mut client = door.clean("client");
        client.send(&Packet::Connect(clean(door.version, "second")));
        client.expect_refusal(tidings_core::codec::ReasonCode::ProtocolError);
        assert!(
            client.link().close_code().is_some(),
            "a clean close, not a cut"
        );
    });
}

#[test]
fn one_port_recognises_what_is_spoken() {
    let broker = TidingsProcess::shared();
    for version in [Version::V31, Version::V311, Version::V5] {
        for endpoint in [broker.auto_tcp(), broker.auto_ws()] {
            let id = format!("auto-{}", version.level());
            let mut client = RawClient::connect(endpoint, &clean(version, &id));
            client.expect_silence();
            client.disconnect();
        }
    }
}
