//! What a CONNECT must not be, and what it may.

use super::*;
use crate::codec::{Connect, ReasonCode};
use crate::message::QoS;

fn accepted_connect(bytes: &[u8]) -> Connect<'_> {
    match accepted(None, bytes) {
        Packet::Connect(connect) => connect,
        other => panic!("not a CONNECT: {other:?}"),
    }
}

#[test]
fn mqtt_3_1_0_1_the_first_packet_must_be_a_connect() {
    for first in [
        0x20, 0x30, 0x40, 0x50, 0x62, 0x70, 0x82, 0x90, 0xA2, 0xB0, 0xC0, 0xD0, 0xE0, 0xF0,
    ] {
        assert_protocol_error(None, &[first]);
    }
}

#[test]
fn mqtt_3_1_0_2_a_second_connect_is_a_protocol_error() {
    for version in VERSIONS {
        assert_protocol_error(version, &[0x10]);
    }
}

#[test]
fn mqtt_3_1_2_1_another_protocol_name_is_refused() {
    for name in ["", "mqtt", "MQTT ", "MQIsdq", "HTTP"] {
        assert_malformed(None, &connect(name, 4, 2, &text("a")));
    }
}

#[test]
fn mqtt_3_1_2_2_an_unknown_level_is_told_whatever_follows_it() {
    for (name, level) in [
        ("MQTT", 0),
        ("MQTT", 3),
        ("MQTT", 6),
        ("MQTT", 0x84),
        ("MQIsdp", 4),
        ("MQIsdp", 0x83),
    ] {
        let error = refused(None, &connect(name, level, 0xFF, &[]));
        assert_eq!(error, DecodeError::UnsupportedVersion(level));
        assert_eq!(error.reason(), ReasonCode::UnsupportedProtocolVersion);
    }
}

#[test]
fn mqtt_3_1_2_3_the_reserved_connect_flag_must_be_zero() {
    assert_malformed(None, &connect("MQTT", 4, 0b11, &text("a")));
    assert_malformed(
        None,
        &connect("MQTT", 5, 0b11, &[&[0][..], &text("a")].concat()),
    );
    accepted(None, &connect("MQIsdp", 3, 0b11, &text("a")));
}

#[test]
fn mqtt_3_1_2_11_without_will_flag_will_qos_is_zero() {
    for flags in [0b0000_1000, 0b0001_0000, 0b0001_1000] {
        assert_malformed(None, &connect("MQTT", 4, flags, &text("a")));
        assert_malformed(
            None,
            &connect("MQTT", 5, flags, &[&[0][..], &text("a")].concat()),
        );
        accepted(None, &connect("MQIsdp", 3, flags, &text("a")));
    }
}

#[test]
fn mqtt_3_1_2_12_will_qos_3_is_malformed() {
    let rest = [text("a"), text("t"), text("gone")].concat();
    assert_malformed(None, &connect("MQTT", 4, 0b0001_1110, &rest));
    assert_malformed(None, &connect("MQIsdp", 3, 0b0001_1110, &rest));
    let rest = [&[0][..], &text("a"), &[0], &text("t"), &text("gone")].concat();
    assert_malformed(None, &connect("MQTT", 5, 0b0001_1110, &rest));
}

#[test]
fn mqtt_3_1_2_13_without_will_flag_will_retain_is_zero() {
    assert_malformed(None, &connect("MQTT", 4, 0b0010_0010, &text("a")));
    assert_malformed(
        None,
        &connect("MQTT", 5, 0b0010_0010, &[&[0][..], &text("a")].concat()),
    );
}

#[test]
fn mqtt_3_1_2_9_with_will_flag_topic_and_payload_must_be_there() {
    assert_malformed(None, &connect("MQTT", 4, 0b110, &text("a")));
    assert_malformed(
        None,
        &connect("MQTT", 4, 0b110, &[text("a"), text("t")].concat()),
    );
}

#[test]
fn mqtt_3_1_2_22_password_without_user_name_is_malformed_in_3_1_1_but_not_in_5() {
    let rest = [text("a"), text("secret")].concat();
    assert_malformed(None, &connect("MQTT", 4, 0b0100_0010, &rest));
    assert_malformed(None, &connect("MQIsdp", 3, 0b0100_0010, &rest));
    let bytes = connect("MQTT", 5, 0b0100_0010, &[&[0][..], &rest].concat());
    assert_eq!(accepted_connect(&bytes).password, Some(&b"secret"[..]));
}

#[test]
fn mqtt_3_1_3_1_fields_that_the_flags_announce_must_be_there_and_no_others() {
    assert_malformed(None, &connect("MQTT", 4, 0b1000_0010, &text("a")));
    assert_malformed(
        None,
        &connect("MQTT", 4, 0b1100_0010, &[text("a"), text("u")].concat()),
    );
    assert_malformed(
        None,
        &connect("MQTT", 4, 0b10, &[text("a"), text("u")].concat()),
    );
    assert_malformed(None, &connect("MQTT", 4, 0b10, &[]));
    assert_malformed(None, &connect("MQTT", 4, 0b10, &[0, 5, b'a']));
}

#[test]
fn mqtt_3_1_allows_user_name_and_password_to_be_missing_behind_their_flags() {
    let bytes = connect("MQIsdp", 3, 0b1100_0010, &text("a"));
    let found = accepted_connect(&bytes);
    assert_eq!((found.username, found.password), (None, None));
    let bytes = connect("MQIsdp", 3, 0b1100_0010, &[text("a"), text("u")].concat());
    let found = accepted_connect(&bytes);
    assert_eq!((found.username, found.password), (Some("u"), None));
}

#[test]
fn client_ids_that_only_a_connack_can_refuse_are_decoded() {
    let bytes = connect("MQTT", 4, 0, &text(""));
    let found = accepted_connect(&bytes);
    assert_eq!((found.client_id, found.clean_start), ("", false));
    accepted(None, &connect("MQIsdp", 3, 2, &text("")));
    accepted(
        None,
        &connect(
            "MQIsdp",
            3,
            2,
            &text("a-client-id-of-more-than-23-characters"),
        ),
    );
}

#[test]
fn a_will_topic_must_be_a_topic_name() {
    for topic in ["", "a/+", "#"] {
        let rest = [text("a"), text(topic), text("gone")].concat();
        let error = refused(None, &connect("MQTT", 4, 0b110, &rest));
        assert_eq!(error, DecodeError::TopicNameInvalid);
    }
}

#[test]
fn mqtt_3_1_3_4_a_client_id_must_be_utf8() {
    assert_malformed(None, &connect("MQTT", 4, 2, &[0, 1, 0xFF]));
    assert_malformed(None, &connect("MQTT", 4, 2, &[0, 1, 0]));
}

#[test]
fn mqtt_1_5_5_1_a_longer_remaining_length_than_needed_is_malformed_in_5_only() {
    for (level, rest) in [(4, text("a")), (5, [&[0][..], &text("a")].concat())] {
        let mut bytes = connect("MQTT", level, 2, &rest);
        let len = bytes[1];
        bytes.splice(1..2, [len | 0x80, 0]);
        if level == 5 {
            assert_malformed(None, &bytes);
        } else {
            accepted(None, &bytes);
        }
    }
    accepted(Version::V311, &[0xC0, 0x80, 0x80, 0x00]);
    assert_malformed(Version::V5, &[0xC0, 0x80, 0x80, 0x00]);
}

#[test]
fn everything_in_a_connect_is_found() {
    let bytes = connect(
        "MQTT",
        4,
        0b1110_1110,
        &[text("id"), text("t/w"), text("gone"), text("u"), text("p")].concat(),
    );
    let found = accepted_connect(&bytes);
    assert_eq!(found.version, Version::V311);
    assert_eq!(
        (found.client_id, found.clean_start, found.keep_alive_s),
        ("id", true, 60)
    );
    assert_eq!(
        (found.username, found.password),
        (Some("u"), Some(&b"p"[..]))
    );
    let will = found.will.expect("there is a will");
    assert_eq!(
        (will.topic, will.payload, will.qos, will.retain),
        ("t/w", &b"gone"[..], QoS::AtLeastOnce, true)
    );
}
