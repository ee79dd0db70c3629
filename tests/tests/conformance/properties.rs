//! Properties of MQTT 5 that travel with a message (§3.3.2.3), and those that say why (§3.1.2.11.7).

use std::time::{Duration, Instant};

use tidings_core::codec::{Packet, Publish, PublishProperties, ReasonCode, Version};
use tidings_core::message::QoS::{self, AtLeastOnce, AtMostOnce, ExactlyOnce};
use tidings_tests::raw_client::publish_packet;
use tidings_tests::{RawClient, clean};

use crate::door::{
    Door, V5, each_door, expect_nothing_but_a_new_message, expect_text, message, packet, publish,
};

const ALL_QOS: [QoS; 3] = [AtMostOnce, AtLeastOnce, ExactlyOnce];

/// Sends a message with these properties at each QoS, and gives what live, persistent and returning
/// receivers get.
fn carried(
    door: &Door,
    round: &str,
    properties: &PublishProperties<'_>,
) -> Vec<tidings_tests::Delivery> {
    let topic = door.topic(&format!("carried/{round}"));
    let mut live = [
        door.clean("clean"),
        door.persistent(&format!("persistent {round}")),
    ];
    for receiver in &mut live {
        receiver.subscribe(&topic, ExactlyOnce);
    }
    let mut away = door.persistent(&format!("away {round}"));
    away.subscribe(&topic, ExactlyOnce);
    away.disconnect();
    let mut sender = door.clean("sender");
    let mut got = Vec::new();
    for qos in ALL_QOS {
        let publish = Publish {
            qos,
            properties: properties.clone(),
            ..message(&topic, b"hello")
        };
        crate::door::publish(&mut sender, publish);
        got.extend(
            live.iter_mut()
                .map(|receiver| expect_text(receiver, "hello")),
        );
        live.iter_mut().for_each(RawClient::settle);
    }
    let mut away = door.persistent(&format!("away {round}"));
    got.push(expect_text(&mut away, "hello"));
    got.push(expect_text(&mut away, "hello"));
    let mut retained = Publish {
        properties: properties.clone(),
        ..message(&topic, b"hello")
    };
    (retained.retain, retained.qos) = (true, AtLeastOnce);
    publish(&mut sender, retained);
    let mut late = door.clean("late");
    late.subscribe(&topic, AtLeastOnce);
    got.push(expect_text(&mut late, "hello"));
    got
}

#[test]
fn mqtt_3_3_2_4_the_payload_format_indicator_is_passed_on() {
    each_door(V5, |door| {
        for indicator in [None, Some(false), Some(true)] {
            let properties = PublishProperties {
                payload_is_utf8: indicator,
                ..PublishProperties::default()
            };
            for delivery in carried(door, &format!("{indicator:?}"), &properties) {
                assert_eq!(delivery.properties.payload_is_utf8, indicator);
            }
        }
    });
}

#[test]
fn mqtt_3_3_2_15_and_16_response_topic_and_correlation_data_are_passed_on() {
    each_door(V5, |door| {
        let answers = door.topic("answers");
        let properties = PublishProperties {
            response_topic: Some(&answers),
            correlation_data: Some(b"\0\x01\xFF"),
            ..PublishProperties::default()
        };
        for delivery in carried(door, "once", &properties) {
            assert_eq!(
                delivery.properties.response_topic.as_deref(),
                Some(answers.as_str())
            );
            assert_eq!(
                delivery.properties.correlation_data.as_deref(),
                Some(&b"\0\x01\xFF"[..])
            );
        }
    });
}

#[test]
fn mqtt_3_3_2_18_user_properties_are_passed_on_in_their_order() {
    each_door(V5, |door| {
        let pairs = vec![
            ("z", "1"),
            ("a", "2"),
            ("z", "1"),
            ("", ""),
            ("a", "0"),
            ("\u{FEFF}", "é"),
        ];
        let properties = PublishProperties {
            user: pairs.clone(),
            ..PublishProperties::default()
        };
        for delivery in carried(door, "once", &properties) {
            let got: Vec<(&str, &str)> = delivery
                .properties
                .user
                .iter()
                .map(|(name, value)| (&**name, &**value))
                .collect();
            assert_eq!(got, pairs);
        }
    });
}

#[test]
fn mqtt_3_3_2_20_the_content_type_is_passed_on() {
    each_door(V5, |door| {
        let properties = PublishProperties {
            content_type: Some("application/vnd.example+json; ä"),
            ..PublishProperties::default()
        };
        for delivery in carried(door, "once", &properties) {
            let got = delivery.properties.content_type.as_deref();
            assert_eq!(got, Some("application/vnd.example+json; ä"));
        }
    });
}

#[test]
fn mqtt_3_3_2_13_and_14_a_response_topic_must_be_a_topic_name() {
    each_door(V5, |door| {
        for (topic, reason) in [
            (&b"a/+"[..], ReasonCode::ProtocolError),
            (b"#", ReasonCode::ProtocolError),
            (b"\xFF", ReasonCode::MalformedPacket),
        ] {
            let property = [&[0x08, 0, topic.len() as u8], topic].concat();
            let mut client = door.clean("client");
            let length = [property.len() as u8];
            client.send_bytes(&packet(0x30, &[&[0, 1, b't'], &length, &property]));
            client.expect_refusal(reason);
        }
    });
}

#[test]
fn mqtt_3_3_2_19_and_1_5_7_1_texts_in_properties_must_be_utf8() {
    each_door(V5, |door| {
        for property in [
            // Content Type, and name and value of a User Property.
            &[0x03, 0, 1, 0xFF][..],
            &[0x26, 0, 1, 0xFF, 0, 0],
            &[0x26, 0, 0, 0, 1, 0],
        ] {
            let mut client = door.clean("client");
            let length = [property.len() as u8];
            client.send_bytes(&packet(0x30, &[&[0, 1, b't'], &length, property]));
            client.expect_refusal(ReasonCode::MalformedPacket);
        }
    });
}

#[test]
fn mqtt_2_2_2_2_properties_in_a_wrong_place_or_twice_close_the_connection() {
    each_door(V5, |door| {
        for (property, reason) in [
            // Unknown, of another packet, cut short; given twice, with a value that is not allowed.
            (&[0x7F, 0][..], ReasonCode::MalformedPacket),
            (&[0x11, 0, 0, 0, 1], ReasonCode::MalformedPacket),
            (&[0x02, 0, 0], ReasonCode::MalformedPacket),
            (&[0x01, 1, 0x01, 1], ReasonCode::ProtocolError),
            (&[0x01, 2], ReasonCode::ProtocolError),
        ] {
            let mut client = door.clean("client");
            let length = [property.len() as u8];
            client.send_bytes(&packet(0x30, &[&[0, 1, b't'], &length, property]));
            client.expect_refusal(reason);
        }
    });
}

#[test]
fn mqtt_3_3_2_6_the_remaining_lifetime_is_told() {
    each_door(V5, |door| {
        let topic = door.topic("t");
        let mut live = door.clean("live");
        live.subscribe(&topic, AtLeastOnce);
        let mut away = door.persistent("away");
        away.subscribe(&topic, AtLeastOnce);
        away.disconnect();
        let mut sender = door.clean("sender");
        for (expiry_s, retain) in [(100, false), (u32::MAX, true)] {
            let mut publish = message(&topic, b"hello");
            (publish.qos, publish.retain) = (AtLeastOnce, retain);
            publish.properties.message_expiry_s = Some(expiry_s);
            crate::door::publish(&mut sender, publish);
            let left = expect_text(&mut live, "hello").properties.message_expiry_s;
            assert!(
                left.is_some_and(|left| left <= expiry_s && left >= expiry_s - 5),
                "{left:?}"
            );
        }
        let later = Instant::now() + Duration::from_millis(2100);
        assert!(sender.try_next_until(later).is_err());
        let mut away = door.persistent("away");
        let mut late = door.clean("late");
        late.subscribe(&topic, AtLeastOnce);
        let left = |delivery: tidings_tests::Delivery| {
            delivery
                .properties
                .message_expiry_s
                .expect("a Message Expiry Interval")
        };
        let waited = left(expect_text(&mut away, "hello"));
        assert!((90..=98).contains(&waited), "{waited} s of 100 are left");
        let retained = left(expect_text(&mut late, "hello"));
        assert!(
            (u32::MAX - 10..=u32::MAX - 2).contains(&retained),
            "{retained}"
        );
    });
}

#[test]
fn mqtt_3_3_2_5_a_message_that_expired_is_not_delivered() {
    each_door(V5, |door| {
        let topic = door.topic("t");
        let mut away = door.persistent("away");
        away.subscribe(&topic, ExactlyOnce);
        away.disconnect();
        let mut sender = door.clean("sender");
        for (text, qos, expiry_s) in [
            ("lost", AtLeastOnce, Some(1)),
            ("kept", ExactlyOnce, Some(1000)),
            ("lost", ExactlyOnce, Some(1)),
            ("kept", AtLeastOnce, None),
        ] {
            let mut publish = message(&topic, text.as_bytes());
            publish.qos = qos;
            publish.properties.message_expiry_s = expiry_s;
            crate::door::publish(&mut sender, publish);
        }
        let later = Instant::now() + Duration::from_millis(1100);
        assert!(sender.try_next_until(later).is_err());
        let mut away = door.persistent("away");
        assert_eq!(away.receive().text(), "kept");
        assert_eq!(away.receive().text(), "kept");
        expect_nothing_but_a_new_message(&mut away, &mut sender, &topic);
    });
}

#[test]
fn mqtt_3_1_2_29_without_problem_information_only_some_packets_say_why() {
    each_door(V5, |door| {
        let (user, room) = (door.name("user"), door.name("room"));
        let topic = format!("chat/{room}/{user}");
        for wanted in [Some(false), Some(true), None] {
            let mut client = door.with(&user, |connect| {
                connect.properties.request_problem_information = wanted;
            });
            let says_why = wanted != Some(false);
            client.send(&publish_packet(&topic, b"hello", AtLeastOnce, 1));
            let ack = client.expect_puback(1);
            assert_eq!(!ack.user.is_empty(), says_why, "{ack:?}");
            client.send(&publish_packet("$SYS/no", b"never", AtLeastOnce, 2));
            let ack = client.expect_puback(2);
            assert_eq!(ack.reason_string.is_some(), says_why, "{ack:?}");
            client.send(&publish_packet("$SYS/no", b"never", ExactlyOnce, 3));
            let ack = client.expect_pubrec(3);
            assert_eq!(ack.reason_string.is_some(), says_why, "{ack:?}");
            let suback =
                client.subscribe_with(None, vec![crate::door::filter("$nobody/may", AtMostOnce)]);
            if !says_why {
                assert_eq!((suback.reason_string, suback.user), (None, Vec::new()));
            }
            client.disconnect();
        }
    });
}

#[test]
fn messages_pass_between_the_versions() {
    each_door(V5, |door| {
        let topic = door.topic("t");
        let id = door.name("old");
        let mut old = RawClient::connect(door.endpoint, &clean(Version::V311, &id));
        let mut new = door.clean("new");
        for client in [&mut old, &mut new] {
            client.subscribe(&topic, ExactlyOnce);
        }
        for qos in ALL_QOS {
            // What 3.1.1 cannot say is left out, and the message is not lost for it.
            let mut publish = message(&topic, b"from 5");
            publish.qos = qos;
            publish.properties.user = vec![("name", "value")];
            publish.properties.message_expiry_s = Some(1000);
            let mut sender = door.clean("sender");
            crate::door::publish(&mut sender, publish);
            assert_eq!(expect_text(&mut old, "from 5").qos, qos);
            assert_eq!(
                expect_text(&mut new, "from 5").user_property("name"),
                Some("value")
            );
            let sender = door.name("old sender");
            let mut sender = RawClient::connect(door.endpoint, &clean(Version::V311, &sender));
            sender.publish(&topic, "from 3.1.1", qos);
            assert_eq!(expect_text(&mut old, "from 3.1.1").qos, qos);
            assert!(expect_text(&mut new, "from 3.1.1").properties.is_empty());
            old.settle();
            new.settle();
        }
    });
}

#[test]
fn a_request_is_answered_where_it_asks() {
    each_door(V5, |door| {
        let (requests, answers) = (door.topic("requests"), door.topic("answers"));
        let mut server = door.clean("server");
        server.subscribe(&requests, AtLeastOnce);
        let mut client = door.clean("client");
        client.subscribe(&answers, AtLeastOnce);
        let mut request = message(&requests, b"what time is it?");
        request.properties.response_topic = Some(&answers);
        request.properties.correlation_data = Some(b"17");
        publish(&mut client, request);
        let asked = expect_text(&mut server, "what time is it?").properties;
        let mut answer = message(
            asked.response_topic.as_deref().expect("it says where"),
            b"late",
        );
        answer.properties.correlation_data = asked.correlation_data.as_deref();
        server.send(&Packet::Publish(answer));
        let answer = expect_text(&mut client, "late");
        assert_eq!(
            answer.properties.correlation_data.as_deref(),
            Some(&b"17"[..])
        );
    });
}
