//! A PUBLISH is read back as it was written, and as it was stored.

use bytes::Bytes;

use super::round_trip::{assert_becomes, assert_survives, properties_of_a_will};
use super::*;
use crate::codec::*;
use crate::message::{MessageProperties, QoS};

#[test]
fn publish_survives() {
    for version in VERSIONS {
        let v5 = version == Version::V5;
        for (qos, packet_id) in [
            (QoS::AtMostOnce, None),
            (QoS::AtLeastOnce, Some(1)),
            (QoS::ExactlyOnce, Some(u16::MAX)),
        ] {
            let bare = Publish {
                dup: qos != QoS::AtMostOnce,
                qos,
                retain: true,
                topic: "a/ü",
                packet_id,
                properties: PublishProperties::default(),
                payload: b"hello",
            };
            assert_survives(version, &Packet::Publish(bare.clone()));
            assert_survives(
                version,
                &Packet::Publish(Publish {
                    payload: b"",
                    ..bare.clone()
                }),
            );
            let full = Publish {
                properties: PublishProperties {
                    topic_alias: Some(9),
                    subscription_ids: vec![1, 127, 128, 268_435_455],
                    ..properties_of_a_will()
                },
                ..bare.clone()
            };
            let expected = if v5 { full.clone() } else { bare };
            assert_becomes(
                version,
                &Packet::Publish(full.clone()),
                &Packet::Publish(expected),
            );
            if v5 {
                assert_survives(version, &Packet::Publish(Publish { topic: "", ..full }));
            }
        }
    }
}

#[test]
fn a_stored_message_reaches_its_receiver_with_its_properties_and_its_remaining_lifetime() {
    let properties = MessageProperties {
        payload_is_utf8: Some(true),
        message_expiry_s: Some(100),
        response_topic: Some("answers".into()),
        correlation_data: Some(Bytes::from_static(b"42")),
        user: vec![("own".into(), "1".into())],
        content_type: Some("text/plain".into()),
    };
    let outgoing = Outgoing {
        topic: "",
        payload: b"hello",
        qos: QoS::AtLeastOnce,
        dup: true,
        retain: false,
        packet_id: 77,
        properties: Some(&properties),
        message_expiry_s: Some(40),
        topic_alias: Some(3),
        subscription_ids: &[5, 300],
        extra_user: &[("seq", "12")],
    };
    let mut bytes = Vec::new();
    encode_publish(Version::V5, &outgoing, &mut bytes);
    let Packet::Publish(found) = accepted(Version::V5, &bytes) else {
        panic!("not a PUBLISH")
    };
    assert_eq!(
        (found.dup, found.packet_id, found.topic),
        (true, Some(77), "")
    );
    assert_eq!(found.properties.topic_alias, Some(3));
    assert_eq!(found.properties.subscription_ids, [5, 300]);
    assert_eq!(found.properties.user, [("own", "1"), ("seq", "12")]);
    let mut travelled = *found
        .properties
        .to_message_properties()
        .expect("there are some");
    assert_eq!(travelled.message_expiry_s, Some(40));
    travelled.message_expiry_s = Some(100);
    travelled.user.pop();
    assert_eq!(travelled, properties);

    let unchanged = Outgoing {
        message_expiry_s: None,
        ..outgoing
    };
    let mut bytes = Vec::new();
    encode_publish(Version::V5, &unchanged, &mut bytes);
    let Packet::Publish(found) = accepted(Version::V5, &bytes) else {
        panic!("not a PUBLISH")
    };
    assert_eq!(found.properties.message_expiry_s, Some(100));
}

#[test]
fn an_alias_or_a_subscription_identifier_does_not_travel_with_the_message() {
    let properties = PublishProperties {
        topic_alias: Some(1),
        subscription_ids: vec![1],
        ..PublishProperties::default()
    };
    assert_eq!(properties.to_message_properties(), None);
}
