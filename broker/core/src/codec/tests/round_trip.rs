//! What is written is read back the same, in every version as far as that version can say it.

use super::*;
use crate::codec::*;
use crate::message::QoS;

fn encoded(version: Version, packet: &Packet<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(version, packet, &mut bytes);
    bytes
}

/// Written and read in `version`, `packet` becomes `expected`.
#[track_caller]
pub(super) fn assert_becomes(version: Version, packet: &Packet<'_>, expected: &Packet<'_>) {
    let bytes = encoded(version, packet);
    let before = if matches!(packet, Packet::Connect(_)) {
        None
    } else {
        Some(version)
    };
    assert_eq!(&accepted(before, &bytes), expected);
}

#[track_caller]
pub(super) fn assert_survives(version: Version, packet: &Packet<'_>) {
    assert_becomes(version, packet, packet);
}

fn user() -> Vec<(String, String)> {
    vec![
        ("k".into(), "v".into()),
        ("k".into(), "é".into()),
        (String::new(), String::new()),
    ]
}

fn connect(version: Version) -> Connect<'static> {
    let v5 = version == Version::V5;
    let properties = if v5 {
        ConnectProperties {
            session_expiry_s: Some(u32::MAX),
            receive_maximum: Some(10),
            maximum_packet_size: Some(65_536),
            topic_alias_maximum: Some(3),
            request_response_information: Some(true),
            request_problem_information: Some(false),
            user: vec![("a", "b"), ("a", "c")],
            authentication_method: Some("SCRAM-SHA-256"),
            authentication_data: Some(&[0, 255]),
        }
    } else {
        ConnectProperties::default()
    };
    Connect {
        version,
        client_id: "client",
        clean_start: false,
        keep_alive_s: 65_535,
        username: Some("ünser"),
        password: Some(&[0, 1, 2]),
        will: Some(Will {
            topic: "gone/client",
            payload: &[0xFF],
            qos: QoS::ExactlyOnce,
            retain: true,
            delay_s: if v5 { 30 } else { 0 },
            properties: if v5 {
                properties_of_a_will()
            } else {
                PublishProperties::default()
            },
        }),
        properties,
    }
}

pub(super) fn properties_of_a_will() -> PublishProperties<'static> {
    PublishProperties {
        payload_is_utf8: Some(false),
        message_expiry_s: Some(60),
        topic_alias: None,
        response_topic: Some("answers"),
        correlation_data: Some(b"42"),
        user: vec![("x", "y")],
        subscription_ids: Vec::new(),
        content_type: Some("text/plain"),
    }
}

#[test]
fn connect_survives() {
    for version in VERSIONS {
        let full = connect(version);
        assert_survives(version, &Packet::Connect(full.clone()));
        assert_survives(
            version,
            &Packet::Connect(Connect {
                password: None,
                ..full.clone()
            }),
        );
        assert_survives(
            version,
            &Packet::Connect(Connect {
                client_id: "",
                clean_start: true,
                keep_alive_s: 0,
                username: None,
                password: None,
                will: None,
                properties: ConnectProperties::default(),
                ..full
            }),
        );
    }
}

#[test]
fn a_password_without_user_name_survives_in_5_and_is_left_out_in_3_x() {
    for version in VERSIONS {
        let packet = Connect {
            username: None,
            ..connect(version)
        };
        let kept = packet.password.filter(|_| version == Version::V5);
        let expected = Connect {
            password: kept,
            ..packet.clone()
        };
        assert_becomes(
            version,
            &Packet::Connect(packet),
            &Packet::Connect(expected),
        );
    }
}

fn connack_properties() -> ConnAckProperties {
    ConnAckProperties {
        session_expiry_s: Some(1),
        receive_maximum: Some(2),
        maximum_qos: Some(QoS::AtLeastOnce),
        retain_available: Some(true),
        maximum_packet_size: Some(3),
        assigned_client_id: Some("id".into()),
        topic_alias_maximum: Some(4),
        reason_string: Some("why".into()),
        user: user(),
        wildcard_available: Some(true),
        subscription_ids_available: Some(false),
        shared_available: Some(true),
        server_keep_alive_s: Some(5),
        response_information: Some("answers/".into()),
        server_reference: Some("other".into()),
        authentication_method: Some("m".into()),
        authentication_data: Some(vec![1, 2]),
    }
}

#[test]
fn connack_survives_as_far_as_its_version_can_say_it() {
    let full = ConnAck {
        session_present: true,
        reason: ReasonCode::Success,
        properties: connack_properties(),
    };
    assert_survives(Version::V5, &Packet::ConnAck(full.clone()));
    let bare = ConnAck {
        properties: ConnAckProperties::default(),
        ..full.clone()
    };
    assert_survives(Version::V5, &Packet::ConnAck(bare.clone()));
    let packet = Packet::ConnAck(full);
    assert_becomes(Version::V311, &packet, &Packet::ConnAck(bare.clone()));
    let of_3_1 = ConnAck {
        session_present: false,
        ..bare
    };
    assert_becomes(Version::V31, &packet, &Packet::ConnAck(of_3_1));
}

#[test]
fn a_refusing_connack_says_the_nearest_return_code_of_3_x() {
    let codes = [
        (ReasonCode::UnsupportedProtocolVersion, 1),
        (ReasonCode::ClientIdentifierNotValid, 2),
        (ReasonCode::ServerUnavailable, 3),
        (ReasonCode::QuotaExceeded, 3),
        (ReasonCode::BadUserNameOrPassword, 4),
        (ReasonCode::NotAuthorized, 5),
        (ReasonCode::Banned, 5),
    ];
    for (reason, code) in codes {
        let connack = ConnAck {
            session_present: true,
            reason,
            properties: ConnAckProperties::default(),
        };
        let bytes = encoded(Version::V311, &Packet::ConnAck(connack));
        assert_eq!(bytes, [0x20, 2, 0, code]);
    }
}

#[test]
fn maximum_qos_2_is_said_by_leaving_it_out() {
    let properties = ConnAckProperties {
        maximum_qos: Some(QoS::ExactlyOnce),
        ..ConnAckProperties::default()
    };
    let connack = ConnAck {
        session_present: false,
        reason: ReasonCode::Success,
        properties,
    };
    assert_eq!(
        encoded(Version::V5, &Packet::ConnAck(connack)),
        [0x20, 3, 0, 0, 0]
    );
}

#[test]
fn acknowledgements_survive_and_are_as_short_as_possible() {
    type Make = fn(Ack) -> Packet<'static>;
    let kinds: [(Make, ReasonCode); 4] = [
        (Packet::PubAck, ReasonCode::NoMatchingSubscribers),
        (Packet::PubRec, ReasonCode::NotAuthorized),
        (Packet::PubRel, ReasonCode::PacketIdentifierNotFound),
        (Packet::PubComp, ReasonCode::PacketIdentifierNotFound),
    ];
    for (make, reason) in kinds {
        let success = make(Ack::new(513, ReasonCode::Success));
        for version in VERSIONS {
            assert_survives(version, &success);
            assert_eq!(encoded(version, &success).len(), 4);
        }
        let coded = make(Ack::new(513, reason));
        assert_survives(Version::V5, &coded);
        assert_eq!(encoded(Version::V5, &coded).len(), 5);
        assert_becomes(Version::V311, &coded, &success);
        let full = Ack {
            reason_string: Some("x".repeat(200)),
            user: user(),
            ..Ack::new(1, reason)
        };
        assert_survives(Version::V5, &make(full));
        let numbered = Ack {
            user: user(),
            ..Ack::new(1, ReasonCode::Success)
        };
        assert_survives(Version::V5, &make(numbered));
    }
}

#[test]
fn subscribe_survives_as_far_as_its_version_can_say_it() {
    let filter =
        |filter: &str, qos, no_local, retain_as_published, retain_handling| SubscribeFilter {
            filter: filter.into(),
            qos,
            no_local,
            retain_as_published,
            retain_handling,
        };
    let full = Subscribe {
        packet_id: 1,
        subscription_id: Some(268_435_455),
        user: user(),
        filters: vec![
            filter(
                "a/+",
                QoS::AtMostOnce,
                true,
                false,
                RetainHandling::SendAtSubscribe,
            ),
            filter(
                "$share/g/#",
                QoS::AtLeastOnce,
                false,
                true,
                RetainHandling::SendIfNew,
            ),
            filter("#", QoS::ExactlyOnce, true, true, RetainHandling::DoNotSend),
        ],
    };
    assert_survives(Version::V5, &Packet::Subscribe(full.clone()));
    let plain =
        |f: &SubscribeFilter| filter(&f.filter, f.qos, false, false, RetainHandling::default());
    let bare = Subscribe {
        packet_id: 1,
        subscription_id: None,
        user: Vec::new(),
        filters: full.filters.iter().map(plain).collect(),
    };
    for version in [Version::V31, Version::V311] {
        assert_becomes(
            version,
            &Packet::Subscribe(full.clone()),
            &Packet::Subscribe(bare.clone()),
        );
    }
}

#[test]
fn suback_survives_and_failures_are_0x80_in_3_x() {
    let full = SubAck {
        packet_id: 1,
        reasons: vec![
            ReasonCode::Success,
            ReasonCode::GrantedQoS1,
            ReasonCode::GrantedQoS2,
            ReasonCode::NotAuthorized,
        ],
        reason_string: Some("no".into()),
        user: user(),
    };
    assert_survives(Version::V5, &Packet::SubAck(full.clone()));
    let bytes = encoded(Version::V311, &Packet::SubAck(full));
    assert_eq!(bytes, [0x90, 6, 0, 1, 0, 1, 2, 0x80]);
}

#[test]
fn unsubscribe_and_unsuback_survive() {
    let full = Unsubscribe {
        packet_id: 9,
        filters: vec!["a".into(), "$share/g/b/#".into()],
        user: user(),
    };
    let bare = Unsubscribe {
        user: Vec::new(),
        ..full.clone()
    };
    let answer = UnsubAck {
        packet_id: 9,
        reasons: vec![ReasonCode::Success, ReasonCode::NoSubscriptionExisted],
        reason_string: Some("why".into()),
        user: user(),
    };
    assert_survives(Version::V5, &Packet::Unsubscribe(full.clone()));
    assert_survives(Version::V5, &Packet::UnsubAck(answer.clone()));
    for version in [Version::V31, Version::V311] {
        assert_becomes(
            version,
            &Packet::Unsubscribe(full.clone()),
            &Packet::Unsubscribe(bare.clone()),
        );
        assert_eq!(
            encoded(version, &Packet::UnsubAck(answer.clone())),
            [0xB0, 2, 0, 9]
        );
    }
}

#[test]
fn pings_survive() {
    for version in VERSIONS {
        assert_survives(version, &Packet::PingReq);
        assert_survives(version, &Packet::PingResp);
    }
}

#[test]
fn disconnect_survives_and_says_nothing_in_3_x() {
    let full = Disconnect {
        reason: ReasonCode::UseAnotherServer,
        session_expiry_s: Some(0),
        reason_string: Some("why".into()),
        server_reference: Some("other".into()),
        user: user(),
    };
    assert_survives(Version::V5, &Packet::Disconnect(full.clone()));
    let normal = Packet::Disconnect(Disconnect::new(ReasonCode::Success));
    assert_eq!(encoded(Version::V5, &normal), [0xE0, 0]);
    let coded = Packet::Disconnect(Disconnect::new(ReasonCode::ServerShuttingDown));
    assert_eq!(encoded(Version::V5, &coded), [0xE0, 1, 0x8B]);
    assert_survives(Version::V5, &coded);
    for version in [Version::V31, Version::V311] {
        assert_becomes(version, &Packet::Disconnect(full.clone()), &normal);
    }
}

#[test]
fn auth_survives_in_5_and_is_not_written_in_3_x() {
    let full = Auth {
        reason: ReasonCode::ContinueAuthentication,
        method: Some("m".into()),
        data: Some(vec![0, 255]),
        reason_string: Some("why".into()),
        user: user(),
    };
    assert_survives(Version::V5, &Packet::Auth(full.clone()));
    let bare = Auth {
        reason: ReasonCode::Success,
        method: None,
        data: None,
        reason_string: None,
        user: Vec::new(),
    };
    assert_eq!(encoded(Version::V5, &Packet::Auth(bare)), [0xF0, 0]);
    assert_eq!(encoded(Version::V311, &Packet::Auth(full)), []);
}

#[test]
fn every_reason_code_is_found_by_its_value() {
    for value in 0..=255 {
        if let Some(code) = ReasonCode::from_u8(value) {
            assert_eq!(code as u8, value);
        }
    }
    assert_eq!(ReasonCode::ALL.len(), 43);
}
