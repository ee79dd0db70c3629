//! The delivery protocols (§4.3), within one connection.

use std::time::{Duration, Instant};

use tidings_core::codec::{Ack, Packet, ReasonCode};
use tidings_core::message::QoS::{AtLeastOnce, AtMostOnce, ExactlyOnce};
use tidings_tests::raw_client::publish_packet;

use crate::door::{
    BOTH, V5, each_door, expect_nothing_but_a_new_message, expect_text, message, release,
};

#[test]
fn mqtt_4_3_1_1_qos_0_is_sent_once_without_dup() {
    each_door(BOTH, |door| {
        let topic = door.topic("t");
        let mut receiver = door.clean("receiver");
        receiver.subscribe(&topic, AtMostOnce);
        let mut sender = door.clean("sender");
        sender.publish(&topic, "once", AtMostOnce);
        let delivery = receiver.expect_publish();
        assert_eq!(
            (delivery.qos, delivery.dup, delivery.packet_id),
            (AtMostOnce, false, None)
        );
        expect_nothing_but_a_new_message(&mut receiver, &mut sender, &topic);
    });
}

#[test]
fn mqtt_4_3_2_1_qos_1_messages_have_identifiers_that_are_not_in_use() {
    each_door(BOTH, |door| {
        let topic = door.topic("t");
        let mut sender = door.clean("sender");
        for mut receiver in [door.clean("clean"), door.persistent("persistent")] {
            receiver.subscribe(&topic, AtLeastOnce);
            let mut open = Vec::new();
            for number in 0..10 {
                sender.publish(&topic, format!("{number}"), AtLeastOnce);
                let delivery = receiver.expect_publish();
                // [MQTT-4.3.2-2]
                assert_eq!((delivery.qos, delivery.dup), (AtLeastOnce, false));
                let packet_id = delivery.packet_id.expect("QoS 1");
                assert!(
                    packet_id != 0 && !open.contains(&packet_id),
                    "{packet_id} in {open:?}"
                );
                open.push(packet_id);
                // Every other one is acknowledged at once.
                if number % 2 == 0 {
                    open.pop();
                    receiver.acknowledge(&delivery);
                }
            }
        }
    });
}

#[test]
fn mqtt_4_3_2_5_after_puback_the_same_identifier_is_a_new_message_even_with_dup() {
    each_door(BOTH, |door| {
        let topic = door.topic("t");
        let mut sender = door.clean("sender");
        for mut receiver in [door.clean("clean"), door.persistent("persistent")] {
            receiver.subscribe(&topic, AtLeastOnce);
            for dup in [false, true, false] {
                let mut publish = message(&topic, b"new");
                (publish.qos, publish.dup, publish.packet_id) = (AtLeastOnce, dup, Some(9));
                sender.send(&Packet::Publish(publish));
                sender.expect_puback(9);
                expect_text(&mut receiver, "new");
            }
        }
    });
}

#[test]
fn mqtt_4_3_3_2_a_qos_2_delivery_goes_through_all_its_steps() {
    each_door(BOTH, |door| {
        let topic = door.topic("t");
        let mut sender = door.clean("sender");
        for mut receiver in [door.clean("clean"), door.persistent("persistent")] {
            receiver.subscribe(&topic, ExactlyOnce);
            sender.publish(&topic, "exactly once", ExactlyOnce);
            let delivery = receiver.expect_publish();
            assert_eq!((delivery.qos, delivery.dup), (ExactlyOnce, false));
            // [MQTT-4.3.3-1]
            let packet_id = delivery.packet_id.expect("QoS 2");
            assert_ne!(packet_id, 0);
            receiver.expect_silence();
            receiver.send(&Packet::PubRec(Ack::new(packet_id, ReasonCode::Success)));
            // [MQTT-4.3.3-4]: the same identifier.
            let release = receiver.expect_pubrel(packet_id);
            assert_eq!(release.reason, ReasonCode::Success);
            receiver.expect_silence();
            receiver.send(&Packet::PubComp(Ack::new(packet_id, ReasonCode::Success)));
            receiver.expect_silence();
        }
    });
}

#[test]
fn mqtt_4_3_3_10_a_repeated_qos_2_publish_is_delivered_once() {
    each_door(BOTH, |door| {
        let topic = door.topic("t");
        let mut receivers = [door.clean("clean"), door.persistent("persistent")];
        for receiver in &mut receivers {
            receiver.subscribe(&topic, ExactlyOnce);
        }
        for mut sender in [door.clean("one sender"), door.persistent("another")] {
            for dup in [false, true, true] {
                let mut publish = message(&topic, b"once");
                (publish.qos, publish.dup, publish.packet_id) = (ExactlyOnce, dup, Some(3));
                sender.send(&Packet::Publish(publish));
                // [MQTT-4.3.3-8]
                sender.expect_pubrec(3);
            }
            release(&mut sender, 3);
            sender.publish(&topic, "another one", ExactlyOnce);
            for receiver in &mut receivers {
                assert_eq!(receiver.receive().text(), "once");
                assert_eq!(receiver.receive().text(), "another one");
                receiver.settle();
            }
        }
    });
}

#[test]
fn mqtt_4_3_3_10_a_qos_2_publish_repeated_after_a_reconnect_is_delivered_once() {
    each_door(BOTH, |door| {
        let topic = door.topic("t");
        let mut receiver = door.clean("receiver");
        receiver.subscribe(&topic, ExactlyOnce);
        // Both kept for a session, and only passed on.
        for keeper in [None, Some(door.persistent("keeper"))] {
            if let Some(mut keeper) = keeper {
                keeper.subscribe(&topic, ExactlyOnce);
                keeper.disconnect();
            }
            let mut sender = door.persistent("sender");
            let mut publish = message(&topic, b"once");
            (publish.qos, publish.packet_id) = (ExactlyOnce, Some(3));
            sender.send(&Packet::Publish(publish.clone()));
            sender.expect_pubrec(3);
            expect_text(&mut receiver, "once");
            receiver.settle();
            sender.abandon();
            let mut sender = door.persistent("sender");
            assert!(sender.session_present());
            publish.dup = true;
            sender.send(&Packet::Publish(publish));
            sender.expect_pubrec(3);
            release(&mut sender, 3);
            expect_nothing_but_a_new_message(&mut receiver, &mut sender, &topic);
            sender.disconnect();
        }
    });
}

#[test]
fn mqtt_4_3_3_12_after_pubcomp_the_same_identifier_is_a_new_message() {
    each_door(BOTH, |door| {
        let topic = door.topic("t");
        let mut receiver = door.clean("receiver");
        receiver.subscribe(&topic, AtMostOnce);
        for mut sender in [door.clean("clean"), door.persistent("persistent")] {
            for round in ["first", "second", "third"] {
                sender.send(&publish_packet(&topic, round.as_bytes(), ExactlyOnce, 3));
                sender.expect_pubrec(3);
                // [MQTT-4.3.3-11]
                let complete = release(&mut sender, 3);
                assert_eq!(complete.reason, ReasonCode::Success);
                expect_text(&mut receiver, round);
            }
        }
    });
}

#[test]
fn mqtt_4_3_3_9_after_a_refusing_pubrec_the_same_identifier_is_a_new_message() {
    each_door(V5, |door| {
        let topic = door.topic("t");
        let mut receiver = door.clean("receiver");
        receiver.subscribe(&topic, AtMostOnce);
        let mut sender = door.clean("sender");
        sender.send(&publish_packet(
            "$SYS/broker/uptime",
            b"never",
            ExactlyOnce,
            3,
        ));
        assert_eq!(sender.expect_pubrec(3).reason, ReasonCode::NotAuthorized);
        sender.send(&publish_packet(&topic, b"new", ExactlyOnce, 3));
        assert_eq!(sender.expect_pubrec(3).reason, ReasonCode::Success);
        expect_text(&mut receiver, "new");
        release(&mut sender, 3);
    });
}

#[test]
fn mqtt_4_3_3_11_pubrel_is_answered_whether_its_identifier_is_known_or_not() {
    each_door(BOTH, |door| {
        let topic = door.topic("t");
        for mut sender in [door.clean("clean"), door.persistent("persistent")] {
            sender.send(&publish_packet(&topic, b"", ExactlyOnce, 0x1234));
            sender.expect_pubrec(0x1234);
            assert_eq!(release(&mut sender, 0x1234).reason, ReasonCode::Success);
            let again = release(&mut sender, 0x1234);
            if door.is_v5() {
                assert_eq!(again.reason, ReasonCode::PacketIdentifierNotFound);
            }
        }
    });
}

#[test]
fn mqtt_3_6_2_1_pubrec_for_an_unknown_identifier_is_answered_with_its_code() {
    each_door(BOTH, |door| {
        let mut client = door.clean("client");
        client.send(&Packet::PubRec(Ack::new(77, ReasonCode::Success)));
        let release = client.expect_pubrel(77);
        if door.is_v5() {
            assert_eq!(release.reason, ReasonCode::PacketIdentifierNotFound);
        }
        // Acknowledgements of nothing are nothing.
        client.send(&Packet::PubAck(Ack::new(78, ReasonCode::Success)));
        client.send(&Packet::PubComp(Ack::new(77, ReasonCode::Success)));
        client.expect_silence();
    });
}

#[test]
fn mqtt_3_6_1_1_other_pubrel_flags_close_the_connection() {
    each_door(BOTH, |door| {
        for first in [0x60, 0x61, 0x66, 0x6A, 0x6F] {
            let mut client = door.clean("client");
            client.send_bytes(&[first, 2, 0, 1]);
            client.expect_refusal(ReasonCode::MalformedPacket);
        }
    });
}

#[test]
fn mqtt_4_3_3_13_the_steps_of_qos_2_go_on_after_the_message_expired() {
    each_door(V5, |door| {
        let topic = door.topic("t");
        let mut sender = door.clean("sender");
        let mut receiver = door.persistent("receiver");
        receiver.subscribe(&topic, ExactlyOnce);
        let mut publish = message(&topic, b"short-lived");
        (publish.qos, publish.packet_id) = (ExactlyOnce, Some(3));
        publish.properties.message_expiry_s = Some(1);
        sender.send(&Packet::Publish(publish));
        sender.expect_pubrec(3);
        let delivery = receiver.expect_publish();
        let packet_id = delivery.packet_id.expect("QoS 2");
        let expired = Instant::now() + Duration::from_millis(1100);
        assert!(receiver.try_next_until(expired).is_err());
        release(&mut sender, 3);
        // [MQTT-4.3.3-7]: what was sent once is sent again, expired or not.
        receiver.abandon();
        let mut receiver = door.persistent("receiver");
        let again = receiver.expect_publish();
        assert_eq!((again.packet_id, again.dup), (Some(packet_id), true));
        receiver.acknowledge(&again);
        receiver.expect_pubrel(packet_id);
        receiver.send(&Packet::PubComp(Ack::new(packet_id, ReasonCode::Success)));
        receiver.expect_silence();
    });
}

#[test]
fn mqtt_4_4_0_1_nothing_is_sent_again_while_the_connection_lasts() {
    each_door(BOTH, |door| {
        let topic = door.topic("t");
        let mut receivers = [door.clean("clean"), door.persistent("persistent")];
        let mut sender = door.clean("sender");
        for receiver in &mut receivers {
            receiver.subscribe(&topic, ExactlyOnce);
        }
        sender.publish(&topic, "1", AtLeastOnce);
        sender.publish(&topic, "2", ExactlyOnce);
        for receiver in &mut receivers {
            receiver.expect_publish();
            receiver.expect_publish();
            let some_time = Instant::now() + Duration::from_millis(1500);
            let next = receiver.try_next_until(some_time);
            assert!(next.is_err(), "{next:?}");
        }
    });
}

#[test]
fn mqtt_4_6_0_5_messages_of_a_publisher_arrive_in_their_order() {
    each_door(BOTH, |door| {
        let topic = door.topic("t");
        let mut receivers = [door.clean("clean"), door.persistent("persistent")];
        for receiver in &mut receivers {
            receiver.subscribe(&door.topic("+"), ExactlyOnce);
        }
        let mut sender = door.clean("sender");
        for qos in [AtMostOnce, AtLeastOnce, ExactlyOnce] {
            let payloads: Vec<String> = (0..200).map(|number| format!("{number}")).collect();
            let packets = payloads.iter().zip(1..).map(|(payload, packet_id)| {
                publish_packet(&topic, payload.as_bytes(), qos, packet_id)
            });
            sender
                .try_send_all(packets)
                .expect("the connection is open");
            for packet_id in 1..=200 {
                match qos {
                    AtMostOnce => {}
                    AtLeastOnce => drop(sender.expect_puback(packet_id)),
                    ExactlyOnce => drop(sender.expect_pubrec(packet_id)),
                }
            }
            if qos == ExactlyOnce {
                (1..=200).for_each(|packet_id| drop(release(&mut sender, packet_id)));
            }
            for receiver in &mut receivers {
                for payload in &payloads {
                    let delivery = receiver.receive();
                    assert_eq!((&delivery.text(), delivery.qos), (payload, qos));
                }
                receiver.settle();
            }
        }
    });
}
