//! PUBLISH from a client (§3.3), and what its receivers get.

use tidings_core::codec::{Packet, ReasonCode};
use tidings_core::message::QoS;
use tidings_tests::RawClient;
use tidings_tests::raw_client::publish_packet;

use crate::door::{
    BOTH, V5, V311, each_door, expect_nothing_but_a_new_message, expect_text, message, packet,
    prefixed,
};

#[test]
fn mqtt_3_3_1_3_the_publishers_dup_is_not_passed_on() {
    each_door(BOTH, |door| {
        let topic = door.topic("t");
        let mut receiver = door.clean("receiver");
        receiver.subscribe(&topic, QoS::ExactlyOnce);
        let mut sender = door.clean("sender");
        for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
            let mut message = message(&topic, b"again, perhaps");
            (message.qos, message.dup) = (qos, true);
            crate::door::publish(&mut sender, message);
            let delivery = expect_text(&mut receiver, "again, perhaps");
            assert_eq!((delivery.qos, delivery.dup), (qos, false));
        }
    });
}

#[test]
fn mqtt_3_3_1_2_dup_at_qos_0_closes_the_connection() {
    each_door(BOTH, |door| {
        let mut client = door.clean("client");
        client.send_bytes(&door.publish_bytes(0x38, b"t", None));
        client.expect_refusal(ReasonCode::MalformedPacket);
    });
}

#[test]
fn mqtt_3_3_1_4_qos_3_closes_the_connection() {
    each_door(BOTH, |door| {
        let mut client = door.clean("client");
        client.send_bytes(&door.publish_bytes(0x36, b"t", Some(1)));
        client.expect_refusal(ReasonCode::MalformedPacket);
    });
}

#[test]
fn mqtt_3_3_2_1_a_topic_that_is_no_utf8_closes_the_connection() {
    each_door(BOTH, |door| {
        let mut client = door.clean("client");
        client.send_bytes(&door.publish_bytes(0x30, b"\xC3\x28", None));
        client.expect_refusal(ReasonCode::MalformedPacket);
    });
}

#[test]
fn mqtt_3_3_2_2_wildcards_in_a_topic_name_close_the_connection() {
    each_door(BOTH, |door| {
        for topic in [&b"a/+"[..], b"#", b"a/#", b"a+b"] {
            let mut client = door.clean("client");
            client.send_bytes(&door.publish_bytes(0x30, topic, None));
            client.expect_refusal(ReasonCode::TopicNameInvalid);
        }
    });
}

#[test]
fn mqtt_4_7_3_1_an_empty_topic_name_closes_the_connection() {
    each_door(BOTH, |door| {
        let mut client = door.clean("client");
        client.send_bytes(&door.publish_bytes(0x30, b"", None));
        // In MQTT 5 an alias could have stood for it.
        client.expect_refusal(ReasonCode::ProtocolError);
    });
}

#[test]
fn mqtt_3_3_2_3_a_delivery_names_the_topic_as_it_was_published() {
    each_door(BOTH, |door| {
        let mut receiver = door.clean("receiver");
        receiver.subscribe(&door.topic("#"), QoS::AtMostOnce);
        let mut sender = door.clean("sender");
        for rest in [
            "a/b",
            "a/b/",
            "a//b",
            "Ä ö",
            "\u{FEFF}bom",
            "e\u{301}",
            "$x",
        ] {
            let topic = door.topic(rest);
            sender.publish(&topic, rest, QoS::AtLeastOnce);
            assert_eq!(expect_text(&mut receiver, rest).topic, topic);
        }
    });
}

#[test]
fn mqtt_2_2_1_3_packet_identifier_0_closes_the_connection() {
    each_door(BOTH, |door| {
        for bytes in [
            door.publish_bytes(0x32, b"t", Some(0)),
            door.publish_bytes(0x34, b"t", Some(0)),
            packet(0x62, &[&[0, 0]]),
            packet(
                0x82,
                &[&[0, 0], door.no_properties(), &prefixed(b"t"), &[0]],
            ),
            packet(0xA2, &[&[0, 0], door.no_properties(), &prefixed(b"t")]),
        ] {
            let mut client = door.clean("client");
            client.send_bytes(&bytes);
            let Some(reason) = refused_with(&mut client, door.is_v5()) else {
                continue;
            };
            assert!(
                matches!(
                    reason,
                    ReasonCode::MalformedPacket | ReasonCode::ProtocolError
                ),
                "{reason:?}"
            );
        }
    });
}

/// The Reason Code of the DISCONNECT that MQTT 5 sends before the close.
#[track_caller]
fn refused_with(client: &mut RawClient, is_v5: bool) -> Option<ReasonCode> {
    let reason = is_v5.then(|| client.expect_disconnect().reason);
    client.expect_closed();
    reason
}

#[test]
fn mqtt_3_3_4_1_each_qos_is_answered_in_its_way() {
    each_door(BOTH, |door| {
        let topic = door.topic("nobody listens");
        let mut client = door.clean("client");
        client.send(&publish_packet(&topic, b"0", QoS::AtMostOnce, 0));
        client.expect_silence();
        // [MQTT-2.2.1-5]: the answer has the identifier of the PUBLISH.
        client.send(&publish_packet(&topic, b"1", QoS::AtLeastOnce, 0x1234));
        client.expect_puback(0x1234);
        client.send(&publish_packet(&topic, b"2", QoS::ExactlyOnce, 0xFFFF));
        client.expect_pubrec(0xFFFF);
        crate::door::release(&mut client, 0xFFFF);
        client.expect_silence();
    });
}

#[test]
fn mqtt_3_3_4_6_a_subscription_identifier_from_a_client_is_a_protocol_error() {
    each_door(V5, |door| {
        let mut client = door.clean("client");
        let mut message = message("t", b"");
        message.properties.subscription_ids = vec![1];
        client.send(&Packet::Publish(message));
        client.expect_refusal(ReasonCode::ProtocolError);
    });
}

#[test]
fn mqtt_311_3_3_5_2_a_forbidden_publish_is_not_acknowledged_as_if_it_were_accepted() {
    each_door(V311, |door| {
        for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
            let mut client = door.clean("client");
            client.send(&publish_packet("$SYS/broker/uptime", b"never", qos, 1));
            client.expect_closed();
        }
    });
}

#[test]
fn mqtt_3_4_2_1_a_forbidden_publish_is_refused_in_its_acknowledgement() {
    each_door(V5, |door| {
        let mut client = door.clean("client");
        client.send(&publish_packet(
            "$SYS/broker/uptime",
            b"never",
            QoS::AtMostOnce,
            0,
        ));
        client.send(&publish_packet(
            "$SYS/broker/uptime",
            b"never",
            QoS::AtLeastOnce,
            1,
        ));
        assert_eq!(client.expect_puback(1).reason, ReasonCode::NotAuthorized);
        client.send(&publish_packet(
            "$SYS/broker/uptime",
            b"never",
            QoS::ExactlyOnce,
            2,
        ));
        assert_eq!(client.expect_pubrec(2).reason, ReasonCode::NotAuthorized);
        client.expect_silence();
    });
}

#[test]
fn mqtt_3_4_2_1_nobody_listening_is_told_in_the_acknowledgement() {
    each_door(V5, |door| {
        let topic = door.topic("nobody listens");
        let mut client = door.clean("client");
        client.send(&publish_packet(&topic, b"", QoS::AtLeastOnce, 1));
        assert_eq!(
            client.expect_puback(1).reason,
            ReasonCode::NoMatchingSubscribers
        );
        client.send(&publish_packet(&topic, b"", QoS::ExactlyOnce, 2));
        assert_eq!(
            client.expect_pubrec(2).reason,
            ReasonCode::NoMatchingSubscribers
        );
    });
}

#[test]
fn mqtt_2_2_1_2_a_delivery_at_qos_0_has_no_packet_identifier() {
    each_door(BOTH, |door| {
        let topic = door.topic("t");
        let mut receiver = door.clean("receiver");
        receiver.subscribe(&topic, QoS::AtMostOnce);
        door.clean("sender").publish(&topic, "", QoS::ExactlyOnce);
        // The empty payload follows the header at once: nothing is between.
        let frame = receiver.next();
        let properties = door.no_properties().len();
        assert_eq!(
            frame.bytes().len(),
            2 + 2 + topic.len() + properties,
            "{frame:?}"
        );
    });
}

#[test]
fn mqtt_3_14_4_1_nothing_behind_a_disconnect_is_processed() {
    each_door(BOTH, |door| {
        let topic = door.topic("t");
        let mut receiver = door.clean("receiver");
        receiver.subscribe(&topic, QoS::AtMostOnce);
        let mut client = door.clean("client");
        let bytes = [
            packet(0xE0, &[]),
            door.publish_bytes(0x30, topic.as_bytes(), None),
        ];
        client.send_bytes(&bytes.concat());
        // [MQTT-3.14.4-2]
        client.expect_closed();
        let mut other = door.clean("other");
        expect_nothing_but_a_new_message(&mut receiver, &mut other, &topic);
    });
}

#[test]
fn payloads_of_any_size_up_to_the_limit_arrive_as_they_were_sent() {
    each_door(BOTH, |door| {
        let topic = door.topic("t");
        let mut receiver = door.clean("receiver");
        receiver.subscribe(&topic, QoS::AtLeastOnce);
        let mut sender = door.clean("sender");
        for len in [
            0, 1, 125, 126, 127, 128, 16_383, 16_384, 65_535, 65_536, 1_000_000,
        ] {
            let payload: Vec<u8> = (0..len).map(|index: u32| (index % 251) as u8).collect();
            sender.publish(&topic, &payload, QoS::AtLeastOnce);
            let delivery = receiver.receive();
            assert!(
                delivery.payload == payload,
                "{len} bytes became {}",
                delivery.payload.len()
            );
        }
    });
}
