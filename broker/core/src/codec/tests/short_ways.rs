//! The short ways of decoding find what the long one finds, also in bytes that are wrong.

use super::*;
use crate::codec::{Ack, Most, ShortAck, decode_publish, decode_short_ack, is_publish};

/// Numbers that look random, from a seed.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 33) as usize % end
    }
}

/// A PUBLISH, mostly well-formed, in which some bytes were changed.
fn publish_with_faults(numbers: &mut Numbers, topic: &str) -> Vec<u8> {
    let first = 0x30 | numbers.below(16) as u8;
    let mut body = text(topic);
    if first & 0b0110 != 0 {
        body.extend_from_slice(&[0, numbers.below(3) as u8]);
    }
    if numbers.below(2) == 0 {
        body.extend_from_slice(&[3, 0x23, 0, 1]);
    } else {
        body.push(0);
    }
    body.extend_from_slice(b"payload");
    let mut bytes = packet(first, &body);
    for _ in 0..numbers.below(3) {
        let at = numbers.below(bytes.len());
        bytes[at] = numbers.below(256) as u8;
    }
    bytes.truncate(bytes.len() - numbers.below(2) * numbers.below(4));
    bytes
}

#[test]
fn a_publish_on_a_known_topic_is_read_as_any_other() {
    let topics = ["chat/lobby/alice", "a", "a/+", "", "\u{fffd}/x", "a\0b"];
    let known = ["", "chat/lobby/alice", "a"];
    let mut numbers = Numbers(7);
    let mut accepted = 0;
    for round in 0..60_000 {
        let bytes = publish_with_faults(&mut numbers, topics[round % topics.len()]);
        if !is_publish(&bytes) {
            continue;
        }
        for version in VERSIONS {
            let expected = decode(Some(version), &bytes, 64);
            for known in known {
                let found = decode_publish(version, &bytes, Most::packet_bytes(64), known)
                    .map(|found| found.map(|(publish, len)| (Packet::Publish(publish), len)));
                assert_eq!(found, expected, "{version:?} {known:?} {bytes:02x?}");
            }
            accepted += usize::from(matches!(expected, Ok(Some(_))));
        }
    }
    assert!(
        accepted > 10_000,
        "few of them were well-formed: {accepted}"
    );
}

#[test]
fn an_acknowledgement_of_four_bytes_is_read_as_any_other() {
    for first in 0..=u8::MAX {
        for id in [0, 1, 0x0102, u16::MAX] {
            let [high, low] = id.to_be_bytes();
            for len in [1, 2, 3] {
                let bytes = [first, len, high, low, 0, 0];
                let Some((kind, packet_id)) = decode_short_ack(&bytes) else {
                    continue;
                };
                let ack = Ack::new(packet_id, crate::codec::ReasonCode::Success);
                let expected = match kind {
                    ShortAck::PubAck => Packet::PubAck(ack),
                    ShortAck::PubRec => Packet::PubRec(ack),
                    ShortAck::PubRel => Packet::PubRel(ack),
                    ShortAck::PubComp => Packet::PubComp(ack),
                };
                for version in VERSIONS {
                    let found = decode(Some(version), &bytes, NO_LIMIT);
                    assert_eq!(found, Ok(Some((expected.clone(), 4))), "{bytes:02x?}");
                }
            }
        }
    }
}

#[test]
fn each_acknowledgement_of_success_has_the_short_form() {
    for version in VERSIONS {
        let ack = Ack::new(0x0102, crate::codec::ReasonCode::Success);
        let packets = [
            (Packet::PubAck(ack.clone()), ShortAck::PubAck),
            (Packet::PubRec(ack.clone()), ShortAck::PubRec),
            (Packet::PubRel(ack.clone()), ShortAck::PubRel),
            (Packet::PubComp(ack), ShortAck::PubComp),
        ];
        for (packet, kind) in packets {
            let mut bytes = Vec::new();
            crate::codec::encode(version, &packet, &mut bytes);
            assert_eq!(decode_short_ack(&bytes), Some((kind, 0x0102)));
            assert_eq!(decode_short_ack(&bytes[..3]), None);
        }
    }
}
