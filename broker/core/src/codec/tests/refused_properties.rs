//! Properties: each in its packets, once, complete, with an allowed value.

use super::*;
use crate::codec::{
    Most, Publish, PublishProperties, ReasonCode, decode_most, decode_publish, encode,
};

#[test]
fn of_user_properties_one_too_many_is_read_and_no_more() {
    let most = Most {
        packet_bytes: 1 << 20,
        user_properties: 3,
    };
    for count in 0..10_usize {
        let user = vec![("k", "v"); count];
        let mut bytes = Vec::new();
        let properties = PublishProperties {
            user,
            ..PublishProperties::default()
        };
        let publish = Publish {
            dup: false,
            qos: crate::message::QoS::AtLeastOnce,
            retain: false,
            topic: "t",
            packet_id: Some(7),
            properties,
            payload: b"payload",
        };
        encode(Version::V5, &Packet::Publish(publish), &mut bytes);
        let (read, used) = decode_publish(Version::V5, &bytes, most, "")
            .unwrap()
            .unwrap();
        assert_eq!(read.properties.user.len(), count.min(4));
        assert_eq!((used, read.payload), (bytes.len(), &b"payload"[..]));
        let (packet, used) = decode_most(Some(Version::V5), &bytes, most)
            .unwrap()
            .unwrap();
        assert_eq!((packet, used), (Packet::Publish(read), bytes.len()));
    }
}

/// Every property of §2.2.2.2 with an allowed value, and the first bytes of the packets that may
/// carry it; 0 stands for Will Properties.
const TABLE: &[(&[u8], &[u8])] = &[
    (&[0x01, 1], &[0x30, 0]),
    (&[0x02, 0, 0, 0, 1], &[0x30, 0]),
    (&[0x03, 0, 1, b'c'], &[0x30, 0]),
    (&[0x08, 0, 1, b'r'], &[0x30, 0]),
    (&[0x09, 0, 1, 0xFF], &[0x30, 0]),
    (&[0x0B, 1], &[0x30, 0x82]),
    (&[0x11, 0, 0, 0, 1], &[0x10, 0x20, 0xE0]),
    (&[0x12, 0, 1, b'i'], &[0x20]),
    (&[0x13, 0, 1], &[0x20]),
    (&[0x15, 0, 1, b'm'], &[0x10, 0x20, 0xF0]),
    (&[0x17, 1], &[0x10]),
    (&[0x18, 0, 0, 0, 1], &[0]),
    (&[0x19, 1], &[0x10]),
    (&[0x1A, 0, 1, b'r'], &[0x20]),
    (&[0x1C, 0, 1, b's'], &[0x20, 0xE0]),
    (
        &[0x1F, 0, 1, b'r'],
        &[0x20, 0x40, 0x50, 0x62, 0x70, 0x90, 0xB0, 0xE0, 0xF0],
    ),
    (&[0x21, 0, 1], &[0x10, 0x20]),
    (&[0x22, 0, 1], &[0x10, 0x20]),
    (&[0x23, 0, 1], &[0x30]),
    (&[0x24, 1], &[0x20]),
    (&[0x25, 1], &[0x20]),
    (
        &[0x26, 0, 1, b'k', 0, 1, b'v'],
        &[
            0, 0x10, 0x20, 0x30, 0x40, 0x50, 0x62, 0x70, 0x82, 0x90, 0xA2, 0xB0, 0xE0, 0xF0,
        ],
    ),
    (&[0x27, 0, 0, 0, 1], &[0x10, 0x20]),
    (&[0x28, 1], &[0x20]),
    (&[0x29, 1], &[0x20]),
    (&[0x2A, 1], &[0x20]),
];

const PLACES: &[u8] = &[
    0, 0x10, 0x20, 0x30, 0x40, 0x50, 0x62, 0x70, 0x82, 0x90, 0xA2, 0xB0, 0xE0, 0xF0,
];

/// A packet of this kind that is right but for its properties.
fn carrier(place: u8, properties: &[u8]) -> (Option<Version>, Vec<u8>) {
    let section = [&[properties.len() as u8], properties].concat();
    let v5 = Some(Version::V5);
    match place {
        0 => {
            let rest = [&[0][..], &text("id"), &section, &text("t"), &text("p")].concat();
            (None, connect("MQTT", 5, 0b110, &rest))
        }
        0x10 => (
            None,
            connect("MQTT", 5, 2, &[&section[..], &text("id")].concat()),
        ),
        0x20 => (v5, packet(0x20, &[&[0, 0], &section[..]].concat())),
        0x30 => (
            v5,
            packet(0x30, &[&text("t"), &section[..], b"payload"].concat()),
        ),
        0x82 => (
            v5,
            packet(0x82, &[&[0, 1], &section[..], &text("f"), &[0]].concat()),
        ),
        0x90 | 0xB0 => (v5, packet(place, &[&[0, 1], &section[..], &[0]].concat())),
        0xA2 => (
            v5,
            packet(0xA2, &[&[0, 1], &section[..], &text("f")].concat()),
        ),
        0xE0 | 0xF0 => (v5, packet(place, &[&[0], &section[..]].concat())),
        _ => (v5, packet(place, &[&[0, 1, 0], &section[..]].concat())),
    }
}

#[test]
fn mqtt_2_2_2_2_each_property_is_accepted_in_its_packets_and_malformed_in_all_others() {
    for (property, places) in TABLE {
        for place in PLACES {
            let (version, bytes) = carrier(*place, property);
            if places.contains(place) {
                accepted(version, &bytes);
            } else {
                assert_malformed(version, &bytes);
            }
        }
    }
}

#[test]
fn authentication_data_needs_a_method() {
    let data = [0x16, 0, 1, b'd'];
    let both = [&[0x15, 0, 1, b'm'][..], &data].concat();
    for place in PLACES {
        let (version, bytes) = carrier(*place, &data);
        let (version_of_both, bytes_of_both) = carrier(*place, &both);
        if [0x10, 0x20, 0xF0].contains(place) {
            assert_protocol_error(version, &bytes);
            accepted(version_of_both, &bytes_of_both);
        } else {
            assert_malformed(version, &bytes);
        }
    }
}

#[test]
fn a_property_given_twice_is_a_protocol_error_unless_it_may_repeat() {
    for (property, places) in TABLE {
        for place in *places {
            let (version, bytes) = carrier(*place, &[*property, *property].concat());
            let may_repeat = property[0] == 0x26 || (property[0] == 0x0B && *place == 0x30);
            if may_repeat {
                accepted(version, &bytes);
            } else {
                assert_protocol_error(version, &bytes);
            }
        }
    }
}

#[test]
fn a_property_that_goes_past_the_end_of_its_section_is_malformed() {
    for (property, places) in TABLE {
        for place in *places {
            for len in 1..property.len() {
                let (version, bytes) = carrier(*place, &property[..len]);
                assert_malformed(version, &bytes);
            }
        }
    }
}

#[test]
fn a_property_length_past_the_end_of_the_packet_is_malformed() {
    assert_malformed(Version::V5, &packet(0x30, &[0, 1, b't', 5, 0x01, 1]));
    assert_malformed(Version::V5, &packet(0x40, &[0, 1, 0, 1]));
    assert_malformed(Version::V5, &packet(0x30, &[0, 1, b't']));
}

#[test]
fn mqtt_1_5_5_1_a_longer_varint_than_needed_is_malformed() {
    assert_malformed(Version::V5, &packet(0x30, &[0, 1, b't', 0x80, 0]));
    assert_malformed(Version::V5, &packet(0x30, &[0, 1, b't', 3, 0x0B, 0x81, 0]));
    assert_malformed(
        Version::V5,
        &packet(0x30, &[0, 1, b't', 6, 0x0B, 0xFF, 0xFF, 0xFF, 0xFF, 0x01]),
    );
    assert_malformed(Version::V5, &packet(0x30, &[0, 1, b't', 3, 0x81, 0, 1]));
}

#[test]
fn unknown_properties_are_malformed() {
    let known: Vec<u8> = TABLE
        .iter()
        .map(|(property, _)| property[0])
        .chain([0x16])
        .collect();
    for id in (0..=255).filter(|id| !known.contains(id)) {
        for place in PLACES {
            let (version, bytes) = carrier(*place, &[id, 0, 0, 0, 0]);
            assert_malformed(version, &bytes);
        }
    }
}

#[test]
fn values_that_the_specification_excludes_are_protocol_errors() {
    let bad: &[(u8, &[u8])] = &[
        (0x30, &[0x01, 2]),
        (0, &[0x01, 2]),
        (0x30, &[0x0B, 0]),
        (0x82, &[0x0B, 0]),
        (0x10, &[0x21, 0, 0]),
        (0x20, &[0x21, 0, 0]),
        (0x10, &[0x27, 0, 0, 0, 0]),
        (0x20, &[0x27, 0, 0, 0, 0]),
        (0x10, &[0x17, 2]),
        (0x10, &[0x19, 2]),
        (0x20, &[0x24, 2]),
        (0x20, &[0x25, 2]),
        (0x20, &[0x28, 2]),
        (0x20, &[0x29, 2]),
        (0x20, &[0x2A, 2]),
    ];
    for (place, property) in bad {
        let (version, bytes) = carrier(*place, property);
        assert_protocol_error(version, &bytes);
    }
}

#[test]
fn mqtt_3_3_2_8_topic_alias_0_is_refused() {
    let (version, bytes) = carrier(0x30, &[0x23, 0, 0]);
    let error = refused(version, &bytes);
    assert_eq!(error, DecodeError::TopicAliasInvalid);
    assert_eq!(error.reason(), ReasonCode::TopicAliasInvalid);
}

#[test]
fn mqtt_3_3_2_14_a_response_topic_with_wildcards_is_refused() {
    for place in [0x30, 0] {
        for topic in ["a/+", "#", ""] {
            let (version, bytes) = carrier(place, &[&[0x08][..], &text(topic)].concat());
            assert_protocol_error(version, &bytes);
        }
    }
}

#[test]
fn texts_in_properties_are_checked_like_all_texts() {
    for bad in [&[0, 1, 0xFF][..], &[0, 1, 0]] {
        for (place, id) in [(0x30, 0x03), (0x30, 0x08), (0x10, 0x15), (0x20, 0x1F)] {
            let (version, bytes) = carrier(place, &[&[id][..], bad].concat());
            assert_malformed(version, &bytes);
        }
        let (version, bytes) = carrier(0x30, &[&[0x26, 0, 1, b'k'][..], bad].concat());
        assert_malformed(version, &bytes);
    }
}

#[test]
fn a_payload_that_only_says_it_is_utf8_is_not_checked_here() {
    let bytes = packet(0x30, &[0, 1, b't', 2, 0x01, 1, 0xFF]);
    accepted(Version::V5, &bytes);
}
