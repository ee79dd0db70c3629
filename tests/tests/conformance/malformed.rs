//! What cannot be parsed, or must not come: the exact code in MQTT 5, and the end of the connection
//! in both (§4.13). Packets of one kind are in the file of that kind.

use tidings_core::codec::{Packet, ReasonCode};
use tidings_core::message::QoS::{AtLeastOnce, AtMostOnce};
use tidings_tests::raw_client::publish_packet;

use crate::door::{BOTH, V5, each_door, expect_text, packet};

#[test]
fn mqtt_2_1_3_1_reserved_header_flags_close_the_connection() {
    each_door(BOTH, |door| {
        for bytes in [
            packet(0x41, &[&[0, 1]]),
            packet(0x58, &[&[0, 1]]),
            packet(0x72, &[&[0, 1]]),
            packet(0xC1, &[]),
            packet(0xC8, &[]),
        ] {
            let mut client = door.clean("client");
            client.send_bytes(&bytes);
            client.expect_refusal(ReasonCode::MalformedPacket);
        }
    });
}

#[test]
fn mqtt_3_14_1_1_reserved_disconnect_flags_close_the_connection() {
    each_door(BOTH, |door| {
        for first in [0xE1, 0xE2, 0xE4, 0xE8] {
            let mut client = door.clean("client");
            client.send_bytes(&packet(first, &[]));
            client.expect_refusal(ReasonCode::MalformedPacket);
        }
    });
}

#[test]
fn mqtt_3_15_1_1_reserved_auth_flags_close_the_connection() {
    each_door(V5, |door| {
        let mut client = door.clean("client");
        client.send_bytes(&packet(0xF1, &[]));
        client.expect_refusal(ReasonCode::MalformedPacket);
    });
}

#[test]
fn mqtt_2_1_2_packet_type_0_closes_the_connection() {
    each_door(BOTH, |door| {
        let mut client = door.clean("client");
        client.send_bytes(&[0x00, 0x00]);
        client.expect_refusal(ReasonCode::MalformedPacket);
    });
}

#[test]
fn mqtt_2_1_4_a_remaining_length_of_five_bytes_closes_the_connection() {
    each_door(BOTH, |door| {
        let mut client = door.clean("client");
        client.send_bytes(&[0x30, 0x80, 0x80, 0x80, 0x80, 0x01]);
        client.expect_refusal(ReasonCode::MalformedPacket);
    });
}

#[test]
fn mqtt_1_5_5_1_a_length_in_more_bytes_than_needed_closes_the_connection() {
    each_door(V5, |door| {
        for bytes in [
            // Remaining Length of a PINGREQ; Property Length of a PUBLISH.
            &[0xC0, 0x80, 0x00][..],
            &[0x30, 5, 0, 1, b't', 0x80, 0x00],
        ] {
            let mut client = door.clean("client");
            client.send_bytes(bytes);
            client.expect_refusal(ReasonCode::MalformedPacket);
        }
    });
}

#[test]
fn mqtt_2_2_2_1_a_missing_property_length_closes_the_connection() {
    each_door(V5, |door| {
        for bytes in [
            &[0x30, 3, 0, 1, b't'][..],
            &[0x82, 2, 0, 1],
            &[0xA2, 2, 0, 1],
        ] {
            let mut client = door.clean("client");
            client.send_bytes(bytes);
            client.expect_refusal(ReasonCode::MalformedPacket);
        }
    });
}

#[test]
fn mqtt_4_13_1_1_packets_that_only_a_server_sends_close_the_connection() {
    each_door(BOTH, |door| {
        let v5 = door.is_v5();
        for bytes in [
            packet(0x20, &[&[0, 0], door.no_properties()]),
            packet(0x90, &[&[0, 1], door.no_properties(), &[0]]),
            packet(0xB0, &[&[0, 1], if v5 { &[0, 0] } else { &[] }]),
            packet(0xD0, &[]),
        ] {
            let mut client = door.clean("client");
            client.send_bytes(&bytes);
            client.expect_refusal(ReasonCode::ProtocolError);
        }
    });
}

#[test]
fn mqtt_4_13_1_1_packets_that_are_cut_short_or_too_long_close_the_connection() {
    each_door(BOTH, |door| {
        for bytes in [
            // PUBLISH whose topic is longer than it; PUBACK without identifier; half a SUBSCRIBE;
            // PINGREQ with a body.
            packet(0x30, &[&[0, 9, b't']]),
            packet(0x40, &[&[0]]),
            packet(0x82, &[&[0]]),
            packet(0xC0, &[&[0]]),
        ] {
            let mut client = door.clean("client");
            client.send_bytes(&bytes);
            client.expect_refusal(ReasonCode::MalformedPacket);
        }
    });
}

#[test]
fn mqtt_1_5_4_1_and_2_ill_formed_texts_close_the_connection() {
    each_door(BOTH, |door| {
        // Cut short, a surrogate, above U+10FFFF, longer than needed, a null character.
        let texts: [&[u8]; 5] = [
            b"\xE2\x82",
            b"\xED\xA0\x80",
            b"\xF4\x90\x80\x80",
            b"\xC0\xAF",
            b"a\0b",
        ];
        for text in texts {
            for bytes in [
                door.publish_bytes(0x30, text, None),
                door.subscribe_bytes(0x82, text, 0),
                door.unsubscribe_bytes(0xA2, text),
            ] {
                let mut client = door.clean("client");
                client.send_bytes(&bytes);
                client.expect_refusal(ReasonCode::MalformedPacket);
            }
        }
    });
}

#[test]
fn mqtt_4_2_1_packets_arrive_whole_however_the_stream_is_cut() {
    each_door(BOTH, |door| {
        let topic = door.topic("t");
        let mut receiver = door.clean("receiver");
        receiver.subscribe(&topic, AtMostOnce);
        let mut bytes = Vec::new();
        for packet_id in 1..=20 {
            let publish = publish_packet(&topic, b"in pieces", AtLeastOnce, packet_id);
            tidings_core::codec::encode(door.version, &publish, &mut bytes);
        }
        let mut sender = door.clean("sender");
        for piece in [1, 2, 5, 1000, bytes.len()] {
            sender.send_in_pieces(&bytes, piece);
            for packet_id in 1..=20 {
                sender.expect_puback(packet_id);
                expect_text(&mut receiver, "in pieces");
            }
        }
    });
}

#[test]
fn mqtt_3_12_4_1_each_pingreq_has_its_pingresp() {
    each_door(BOTH, |door| {
        let mut client = door.clean("client");
        client.send_bytes(&[0xC0, 0].repeat(100));
        for _ in 0..100 {
            assert_eq!(client.next().packet(), Packet::PingResp);
        }
        client.expect_silence();
    });
}

#[test]
fn mqtt_3_14_0_1_no_disconnect_comes_before_connack() {
    // Whatever is wrong, the answer to a CONNECT is a CONNACK or nothing.
    each_door(V5, |door| {
        for bytes in [
            &[0x10, 0][..],
            &[0x11, 0],
            &[0x10, 0x80, 0x80, 0x80, 0x80, 1],
            &[0x10, 4, 0, 9],
        ] {
            let mut client = door.open();
            client.send_bytes(bytes);
            match client.try_next() {
                Ok(frame) => assert!(matches!(frame.packet(), Packet::ConnAck(_)), "{frame:?}"),
                Err(tidings_tests::ClientError::Closed) => continue,
                Err(error) => panic!("expected the end of the connection: {error}"),
            }
            client.expect_closed();
        }
    });
}

#[test]
fn mqtt_3_14_2_1_a_disconnect_with_an_unknown_code_is_refused() {
    each_door(V5, |door| {
        let mut client = door.clean("client");
        client.send_bytes(&packet(0xE0, &[&[0x03]]));
        client.expect_refusal(ReasonCode::ProtocolError);
    });
}
