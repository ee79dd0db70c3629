//! What packets after the CONNECT must not be.

use super::*;
use crate::codec::{Publish, ReasonCode};

fn publish(version: Version, flags: u8, body: &[&[u8]], payload: &[u8]) -> Vec<u8> {
    let properties: &[u8] = if version == Version::V5 { &[0] } else { &[] };
    packet(
        0x30 | flags,
        &[&body.concat(), properties, payload].concat(),
    )
}

fn subscribe(version: Version, filter: &str, options: u8) -> Vec<u8> {
    let properties: &[u8] = if version == Version::V5 { &[0] } else { &[] };
    packet(
        0x82,
        &[&[0, 1], properties, &text(filter), &[options]].concat(),
    )
}

fn unsubscribe(version: Version, filter: &str) -> Vec<u8> {
    let properties: &[u8] = if version == Version::V5 { &[0] } else { &[] };
    packet(0xA2, &[&[0, 1], properties, &text(filter)].concat())
}

#[test]
fn mqtt_2_1_2_packet_type_0_is_refused_at_its_first_byte() {
    assert_malformed(None, &[0x00]);
    assert_malformed(Version::V5, &[0x0F]);
}

#[test]
fn mqtt_2_1_2_auth_does_not_exist_in_3_x() {
    assert_malformed(Version::V31, &[0xF0]);
    assert_malformed(Version::V311, &[0xF0]);
}

#[test]
fn mqtt_2_1_3_1_reserved_header_flags_are_refused_at_the_first_byte() {
    assert_malformed(None, &[0x11]);
    for version in VERSIONS {
        for good in [
            0x20, 0x40, 0x50, 0x62, 0x70, 0x82, 0x90, 0xA2, 0xB0, 0xC0, 0xD0, 0xE0,
        ] {
            for flags in (0..16).filter(|flags| good & 0x0F != *flags) {
                let dup_of_3_1 = version == Version::V31 && good & 0x0F == 2 && flags == 0b1010;
                let first = good & 0xF0 | flags;
                if dup_of_3_1 {
                    assert_eq!(decode(Some(version), &[first], NO_LIMIT), Ok(None));
                } else {
                    assert_malformed(version, &[first]);
                }
            }
        }
    }
    assert_malformed(Version::V5, &[0xF1]);
}

#[test]
fn mqtt_2_1_4_a_remaining_length_of_five_bytes_is_refused_before_its_fifth() {
    assert_malformed(Version::V311, &[0x30, 0xFF, 0xFF, 0xFF, 0xFF]);
    assert_malformed(None, &[0x10, 0x80, 0x80, 0x80, 0x80]);
}

#[test]
fn mqtt_1_5_4_1_ill_formed_utf8_is_malformed() {
    for bad in [
        &[0xFF][..],
        &[0xC0, 0x80],
        &[0xED, 0xA0, 0x80],
        &[0xF4, 0x90, 0x80, 0x80],
        &[0xC3],
    ] {
        let len = [0, bad.len() as u8];
        for version in VERSIONS {
            assert_malformed(version, &publish(version, 0, &[&len, bad], b""));
        }
    }
}

#[test]
fn mqtt_1_5_4_2_nul_in_string_is_malformed() {
    for version in VERSIONS {
        assert_malformed(version, &publish(version, 0, &[&text("a\0b")], b""));
        assert_malformed(version, &subscribe(version, "a\0b", 0));
        assert_malformed(version, &unsubscribe(version, "a\0b"));
    }
}

#[test]
fn mqtt_1_5_4_3_a_byte_order_mark_is_a_character() {
    let bytes = publish(Version::V5, 0, &[&text("\u{FEFF}a")], b"");
    assert!(matches!(
        accepted(Version::V5, &bytes),
        Packet::Publish(Publish {
            topic: "\u{FEFF}a",
            ..
        })
    ));
}

#[test]
fn mqtt_2_2_1_3_packet_identifier_0_is_refused() {
    for version in VERSIONS {
        assert_protocol_error(
            version,
            &publish(version, 0b0010, &[&text("a"), &[0, 0]], b""),
        );
        assert_protocol_error(
            version,
            &publish(version, 0b0100, &[&text("a"), &[0, 0]], b""),
        );
        for first in [0x40, 0x50, 0x62, 0x70, 0x82, 0x90, 0xA2, 0xB0] {
            assert_protocol_error(version, &packet(first, &[0, 0, 0, 0]));
        }
    }
}

#[test]
fn mqtt_3_3_1_2_dup_at_qos_0_is_malformed() {
    for version in VERSIONS {
        assert_malformed(version, &publish(version, 0b1000, &[&text("a")], b""));
        accepted(
            version,
            &publish(version, 0b1010, &[&text("a"), &[0, 1]], b""),
        );
    }
}

#[test]
fn mqtt_3_3_1_4_qos_3_is_malformed() {
    for version in VERSIONS {
        assert_malformed(
            version,
            &publish(version, 0b0110, &[&text("a"), &[0, 1]], b""),
        );
    }
}

#[test]
fn mqtt_3_3_2_1_a_publish_without_topic_field_is_malformed() {
    for version in VERSIONS {
        assert_malformed(version, &packet(0x30, &[]));
        assert_malformed(version, &packet(0x30, &[0]));
        assert_malformed(version, &packet(0x32, &text("a")));
    }
}

#[test]
fn mqtt_3_3_2_2_wildcards_in_a_topic_name_are_refused() {
    for version in VERSIONS {
        for topic in ["#", "+", "a/+", "a/#", "a+b", "a#"] {
            let error = refused(version, &publish(version, 0, &[&text(topic)], b""));
            assert_eq!(error, DecodeError::TopicNameInvalid);
            assert_eq!(error.reason(), ReasonCode::TopicNameInvalid);
        }
    }
}

#[test]
fn mqtt_4_7_3_1_an_empty_topic_name_is_refused() {
    for version in [Version::V31, Version::V311] {
        let error = refused(version, &publish(version, 0, &[&text("")], b""));
        assert_eq!(error, DecodeError::TopicNameInvalid);
    }
    assert_protocol_error(Version::V5, &publish(Version::V5, 0, &[&text("")], b""));
}

#[test]
fn mqtt_3_3_2_1_an_alias_may_stand_for_the_topic() {
    let bytes = packet(0x30, &[0, 0, 3, 0x23, 0, 1, b'x']);
    let Packet::Publish(publish) = accepted(Version::V5, &bytes) else {
        panic!("not a PUBLISH")
    };
    assert_eq!(
        (
            publish.topic,
            publish.properties.topic_alias,
            publish.payload
        ),
        ("", Some(1), &b"x"[..])
    );
}

#[test]
fn mqtt_3_8_3_1_and_4_7_1_malformed_filters_are_refused() {
    let bad = [
        "",
        "a#",
        "#/a",
        "a/#/b",
        "a+",
        "+a",
        "a/b+/c",
        "##",
        "++",
        "$share//a",
        "$share/+/a",
        "$share/#",
        "$share/a+/b",
        "$share/g",
        "$share/g/",
        "$share/",
        "$share/g/a#",
    ];
    for version in VERSIONS {
        for filter in bad {
            let error = refused(version, &subscribe(version, filter, 0));
            assert_eq!(error, DecodeError::TopicFilterInvalid, "{filter}");
            let error = refused(version, &unsubscribe(version, filter));
            assert_eq!(error, DecodeError::TopicFilterInvalid, "{filter}");
            assert_eq!(error.reason(), ReasonCode::TopicFilterInvalid);
        }
    }
}

#[test]
fn well_formed_filters_are_accepted_even_those_the_session_will_refuse() {
    let deep = "a/".repeat(200);
    let good = [
        "#",
        "+",
        "/",
        "//",
        "+/+",
        "a/+/b",
        "/#",
        "$SYS/#",
        "$share/g/#",
        "$share/g//",
        "$share",
        "$replay/last/5/a",
        "$replay/soon/a",
        "$share/g/$replay/x",
        &deep,
    ];
    for version in VERSIONS {
        for filter in good {
            accepted(version, &subscribe(version, filter, 0));
            accepted(version, &unsubscribe(version, filter));
        }
    }
}

#[test]
fn mqtt_3_8_3_2_and_3_10_3_2_a_request_without_filter_is_a_protocol_error() {
    for version in VERSIONS {
        let body: &[u8] = if version == Version::V5 {
            &[0, 1, 0]
        } else {
            &[0, 1]
        };
        assert_protocol_error(version, &packet(0x82, body));
        assert_protocol_error(version, &packet(0xA2, body));
    }
}

#[test]
fn mqtt_3_8_3_4_no_local_on_a_shared_subscription_is_a_protocol_error() {
    let error = refused(Version::V5, &subscribe(Version::V5, "$share/g/a", 0b100));
    assert_eq!(error.reason(), ReasonCode::ProtocolError);
    accepted(Version::V5, &subscribe(Version::V5, "a", 0b100));
}

#[test]
fn mqtt_3_8_3_5_reserved_subscription_options_are_malformed() {
    for options in [0x40, 0x80, 0xC0] {
        assert_malformed(Version::V5, &subscribe(Version::V5, "a", options));
    }
    for options in [0x04, 0x08, 0x10, 0x20, 0x40, 0x80] {
        assert_malformed(Version::V311, &subscribe(Version::V311, "a", options));
        accepted(Version::V31, &subscribe(Version::V31, "a", options));
    }
}

#[test]
fn qos_3_and_retain_handling_3_in_subscription_options_are_refused() {
    assert_protocol_error(Version::V5, &subscribe(Version::V5, "a", 0b11));
    assert_protocol_error(Version::V5, &subscribe(Version::V5, "a", 0b11_0000));
    assert_malformed(Version::V311, &subscribe(Version::V311, "a", 0b11));
    assert_malformed(Version::V31, &subscribe(Version::V31, "a", 0b11));
}

#[test]
fn a_filter_without_its_options_is_malformed() {
    for version in VERSIONS {
        let mut bytes = subscribe(version, "a", 0);
        bytes.pop();
        bytes[1] -= 1;
        assert_malformed(version, &bytes);
    }
}

#[test]
fn bytes_after_the_end_of_a_packet_are_malformed() {
    for version in [Version::V31, Version::V311] {
        for first in [0x40, 0x50, 0x62, 0x70, 0xB0] {
            accepted(version, &packet(first, &[0, 1]));
            assert_malformed(version, &packet(first, &[0, 1, 0]));
        }
        assert_malformed(version, &packet(0x20, &[0, 0, 0]));
        assert_malformed(version, &packet(0xE0, &[0]));
    }
    for version in VERSIONS {
        assert_malformed(version, &packet(0xC0, &[0]));
        assert_malformed(version, &packet(0xD0, &[0]));
    }
    for first in [0x40, 0x50, 0x62, 0x70] {
        assert_malformed(Version::V5, &packet(first, &[0, 1, 0, 0, 0]));
    }
    assert_malformed(Version::V5, &packet(0x20, &[0, 0, 0, 0]));
    assert_malformed(Version::V5, &packet(0xE0, &[0, 0, 0]));
    assert_malformed(Version::V5, &packet(0xF0, &[0, 0, 0]));
}

#[test]
fn packets_that_are_only_a_header_are_refused_before_their_body_comes() {
    assert_malformed(Version::V5, &[0xC0, 0xFF, 0x7F]);
    assert_malformed(Version::V311, &[0xE0, 0xFF, 0x7F]);
}

#[test]
fn a_reason_code_of_another_packet_is_a_protocol_error() {
    let places = [(0x40, 4), (0x50, 5), (0x62, 6), (0x70, 7)];
    for (first, place) in places {
        for value in 0..=255 {
            let allowed = match place {
                4 | 5 => matches!(
                    value,
                    0 | 0x10 | 0x80 | 0x83 | 0x87 | 0x90 | 0x91 | 0x97 | 0x99
                ),
                _ => matches!(value, 0 | 0x92),
            };
            let bytes = packet(first, &[0, 1, value]);
            if allowed {
                accepted(Version::V5, &bytes);
            } else {
                assert_protocol_error(Version::V5, &bytes);
            }
        }
    }
    for value in 0..=255 {
        let suback = packet(0x90, &[0, 1, 0, value]);
        match value {
            0..=2 | 0x80 | 0x83 | 0x87 | 0x8F | 0x91 | 0x97 | 0x9E | 0xA1 | 0xA2 => {
                accepted(Version::V5, &suback);
            }
            _ => assert_protocol_error(Version::V5, &suback),
        }
        let unsuback = packet(0xB0, &[0, 1, 0, value]);
        match value {
            0 | 0x11 | 0x80 | 0x83 | 0x87 | 0x8F | 0x91 => drop(accepted(Version::V5, &unsuback)),
            _ => assert_protocol_error(Version::V5, &unsuback),
        }
        let disconnect = packet(0xE0, &[value]);
        match value {
            0 | 4 | 0x80..=0x83 | 0x87 | 0x89 | 0x8B..=0x90 | 0x93..=0xA2 => {
                accepted(Version::V5, &disconnect);
            }
            _ => assert_protocol_error(Version::V5, &disconnect),
        }
        let connack = packet(0x20, &[0, value, 0]);
        match value {
            0 | 0x80..=0x8A | 0x8C | 0x90 | 0x95 | 0x97 | 0x99..=0x9D | 0x9F => {
                accepted(Version::V5, &connack);
            }
            _ => assert_protocol_error(Version::V5, &connack),
        }
    }
}

#[test]
fn mqtt_3_9_3_2_other_suback_codes_are_refused_in_3_x() {
    for value in 0..=255 {
        let bytes = packet(0x90, &[0, 1, value]);
        match value {
            0..=2 | 0x80 => drop(accepted(Version::V311, &bytes)),
            _ => drop(refused(Version::V311, &bytes)),
        }
    }
}

#[test]
fn mqtt_3_2_2_connack_flags_and_codes_are_checked() {
    assert_malformed(Version::V311, &packet(0x20, &[2, 0]));
    assert_malformed(Version::V311, &packet(0x20, &[0, 6]));
    assert_malformed(Version::V5, &packet(0x20, &[3, 0, 0]));
    assert_protocol_error(Version::V311, &packet(0x20, &[1, 5]));
    assert_protocol_error(Version::V5, &packet(0x20, &[1, 0x87, 0]));
    accepted(Version::V31, &packet(0x20, &[0xFF, 5]));
}

#[test]
fn answers_without_codes_are_refused() {
    for version in VERSIONS {
        let body: &[u8] = if version == Version::V5 {
            &[0, 1, 0]
        } else {
            &[0, 1]
        };
        assert_protocol_error(version, &packet(0x90, body));
    }
    assert_protocol_error(Version::V5, &packet(0xB0, &[0, 1, 0]));
}

#[test]
fn an_auth_must_say_its_method_and_its_reason() {
    accepted(Version::V5, &packet(0xF0, &[]));
    assert_malformed(Version::V5, &packet(0xF0, &[0x18]));
    assert_protocol_error(Version::V5, &packet(0xF0, &[0x18, 0]));
    assert_protocol_error(Version::V5, &packet(0xF0, &[0x00, 4, 0x16, 0, 1, b'd']));
    assert_protocol_error(Version::V5, &packet(0xF0, &[0x87, 0]));
    accepted(Version::V5, &packet(0xF0, &[0x18, 4, 0x15, 0, 1, b'm']));
}
