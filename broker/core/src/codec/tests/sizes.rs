//! Bytes that come in pieces, packets that are too large, and texts that are too long.

use super::*;
use crate::codec::{Ack, Outgoing, ReasonCode, encode, encode_publish, publish_len};
use crate::message::QoS;

fn publish_of(topic: &str) -> Outgoing<'_> {
    Outgoing {
        topic,
        payload: b"hello",
        qos: QoS::AtMostOnce,
        dup: false,
        retain: false,
        packet_id: 0,
        properties: None,
        message_expiry_s: None,
        topic_alias: None,
        subscription_ids: &[],
        extra_user: &[],
    }
}

#[test]
fn a_packet_in_pieces_is_decoded_when_its_last_byte_is_there() {
    let mut bytes = Vec::new();
    encode_publish(Version::V5, &publish_of("a/b"), &mut bytes);
    for len in 0..bytes.len() {
        assert_eq!(decode(Some(Version::V5), &bytes[..len], NO_LIMIT), Ok(None));
    }
    let len = bytes.len();
    bytes.extend_from_slice(&[0xC0, 0]);
    let (packet, consumed) = decode(Some(Version::V5), &bytes, NO_LIMIT)
        .expect("valid")
        .expect("complete");
    assert_eq!(consumed, len);
    assert!(matches!(packet, Packet::Publish(publish) if publish.payload == b"hello"));
    assert_eq!(
        decode(Some(Version::V5), &bytes[consumed..], NO_LIMIT),
        Ok(Some((Packet::PingReq, 2)))
    );
}

#[test]
fn too_large_a_packet_is_refused_by_its_header_alone() {
    let error = decode(None, &[0x10, 0xFF, 0xFF, 0xFF, 0x7F], 1024);
    let expected = DecodeError::PacketTooLarge {
        len: 268_435_460,
        max: 1024,
    };
    assert_eq!(error, Err(expected.clone()));
    assert_eq!(expected.reason(), ReasonCode::PacketTooLarge);
}

#[test]
fn the_limit_counts_the_whole_packet() {
    let mut bytes = Vec::new();
    encode_publish(Version::V311, &publish_of("a"), &mut bytes);
    assert!(matches!(
        decode(Some(Version::V311), &bytes, bytes.len()),
        Ok(Some(_))
    ));
    let error = decode(Some(Version::V311), &bytes, bytes.len() - 1);
    assert_eq!(
        error,
        Err(DecodeError::PacketTooLarge {
            len: bytes.len(),
            max: bytes.len() - 1
        })
    );
}

#[test]
fn publish_len_is_what_encode_publish_writes_at_every_border_of_the_length_field() {
    for payload_len in [
        0, 100, 120, 121, 122, 123, 124, 125, 16_370, 16_379, 16_380, 16_383, 2_097_140, 2_097_150,
    ] {
        let payload = vec![b'x'; payload_len];
        for version in VERSIONS {
            for (qos, packet_id) in [(QoS::AtMostOnce, 0), (QoS::AtLeastOnce, 7)] {
                let publish = Outgoing {
                    payload: &payload,
                    qos,
                    packet_id,
                    message_expiry_s: Some(9),
                    subscription_ids: &[1, 200_000],
                    extra_user: &[("k", "v")],
                    ..publish_of("a")
                };
                let mut bytes = vec![0xAA];
                encode_publish(version, &publish, &mut bytes);
                assert_eq!(bytes.len() - 1, publish_len(version, &publish));
                let Packet::Publish(found) = accepted(version, &bytes[1..]) else {
                    panic!("not a PUBLISH")
                };
                assert_eq!(found.payload, payload);
            }
        }
    }
}

#[test]
fn texts_above_their_length_field_are_cut_between_characters() {
    let long = format!("a{}", "é".repeat(40_000));
    let ack = Ack {
        reason_string: Some(long),
        ..Ack::new(1, ReasonCode::QuotaExceeded)
    };
    let mut bytes = Vec::new();
    encode(Version::V5, &Packet::PubAck(ack), &mut bytes);
    let Packet::PubAck(found) = accepted(Version::V5, &bytes) else {
        panic!("not a PUBACK")
    };
    assert_eq!(found.reason_string.map(|text| text.len()), Some(65_535));
}

#[test]
fn a_topic_of_65535_bytes_is_accepted() {
    let topic = "t".repeat(65_535);
    let mut bytes = Vec::new();
    encode_publish(Version::V311, &publish_of(&topic), &mut bytes);
    accepted(Version::V311, &bytes);
}

#[test]
fn a_publish_without_properties_is_decoded_without_memory() {
    for version in VERSIONS {
        let mut bytes = Vec::new();
        encode_publish(version, &publish_of("a/b"), &mut bytes);
        let Packet::Publish(publish) = accepted(version, &bytes) else {
            panic!("not a PUBLISH")
        };
        assert_eq!(publish.properties.user.capacity(), 0);
        assert_eq!(publish.properties.subscription_ids.capacity(), 0);
        assert_eq!(publish.properties.to_message_properties(), None);
        assert!(bytes.as_ptr_range().contains(&publish.payload.as_ptr()));
        assert!(bytes.as_ptr_range().contains(&publish.topic.as_ptr()));
    }
}
