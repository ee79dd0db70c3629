//! UNSUBSCRIBE and UNSUBACK (§3.10, §3.11).

use tidings_core::codec::{Packet, ReasonCode, Subscribe, Unsubscribe};
use tidings_core::message::QoS::{AtLeastOnce, AtMostOnce, ExactlyOnce};
use tidings_tests::RawClient;

use crate::door::{
    BOTH, each_door, expect_nothing_but_a_new_message, expect_text, filter, packet, release,
};

fn unsubscribe(packet_id: u16, filters: &[&str]) -> Packet<'static> {
    Packet::Unsubscribe(Unsubscribe {
        packet_id,
        filters: filters.iter().map(|&filter| filter.to_owned()).collect(),
        user: Vec::new(),
    })
}

/// Ends subscriptions, and gives the Reason Codes, which MQTT 3.1.1 does not have.
#[track_caller]
fn end(client: &mut RawClient, filters: &[&str]) -> Vec<ReasonCode> {
    let packet_id = client.new_packet_id();
    client.send(&unsubscribe(packet_id, filters));
    let unsuback = client.expect_unsuback();
    assert_eq!(unsuback.packet_id, packet_id);
    unsuback.reasons
}

#[test]
fn mqtt_3_10_1_1_other_header_flags_close_the_connection() {
    each_door(BOTH, |door| {
        for first in [0xA0, 0xA1, 0xAA, 0xAF] {
            let mut client = door.clean("client");
            client.send_bytes(&door.unsubscribe_bytes(first, b"t"));
            client.expect_refusal(ReasonCode::MalformedPacket);
        }
    });
}

#[test]
fn mqtt_3_10_3_1_a_filter_that_is_no_utf8_closes_the_connection() {
    each_door(BOTH, |door| {
        let mut client = door.clean("client");
        client.send_bytes(&door.unsubscribe_bytes(0xA2, b"\xFF"));
        client.expect_refusal(ReasonCode::MalformedPacket);
    });
}

#[test]
fn mqtt_3_10_3_2_an_unsubscribe_without_filter_closes_the_connection() {
    each_door(BOTH, |door| {
        let mut client = door.clean("client");
        client.send_bytes(&packet(0xA2, &[&[0, 1], door.no_properties()]));
        client.expect_refusal(ReasonCode::ProtocolError);
    });
}

#[test]
fn mqtt_3_10_4_1_filters_are_compared_character_by_character() {
    each_door(BOTH, |door| {
        let mut sender = door.clean("sender");
        for mut client in [door.clean("clean"), door.persistent("persistent")] {
            client.subscribe(&door.topic("a/+"), AtLeastOnce);
            for other in ["a/b", "a/#", "#", "A/+", "a/+/", "+/+"] {
                client.unsubscribe(&door.topic(other));
            }
            sender.publish(&door.topic("a/b"), "still there", AtLeastOnce);
            expect_text(&mut client, "still there");
        }
    });
}

#[test]
fn mqtt_3_10_4_2_nothing_new_comes_after_an_unsubscribe() {
    each_door(BOTH, |door| {
        let (topic, other) = (door.topic("t"), door.topic("other"));
        let mut sender = door.clean("sender");
        for mut client in [door.clean("clean"), door.persistent("persistent")] {
            client.subscribe(&topic, ExactlyOnce);
            client.subscribe(&other, AtLeastOnce);
            client.unsubscribe(&topic);
            for qos in [AtMostOnce, AtLeastOnce, ExactlyOnce] {
                sender.publish(&topic, "too late", qos);
            }
            expect_nothing_but_a_new_message(&mut client, &mut sender, &other);
        }
    });
}

#[test]
fn mqtt_3_10_4_2_a_session_without_its_subscription_keeps_nothing_for_it() {
    each_door(BOTH, |door| {
        let (topic, other) = (door.topic("t"), door.topic("other"));
        let mut client = door.persistent("client");
        client.subscribe(&topic, AtLeastOnce);
        client.subscribe(&other, AtLeastOnce);
        client.unsubscribe(&topic);
        client.disconnect();
        let mut sender = door.clean("sender");
        sender.publish(&topic, "too late", AtLeastOnce);
        let mut client = door.persistent("client");
        expect_nothing_but_a_new_message(&mut client, &mut sender, &other);
    });
}

#[test]
fn mqtt_3_10_4_2_an_unsubscribe_right_behind_its_subscribe_ends_it() {
    each_door(BOTH, |door| {
        let (topic, other) = (door.topic("t"), door.topic("other"));
        let mut sender = door.clean("sender");
        for mut client in [door.clean("clean"), door.persistent("persistent")] {
            client.subscribe(&other, AtLeastOnce);
            let subscribe = Packet::Subscribe(Subscribe {
                packet_id: 101,
                subscription_id: None,
                user: Vec::new(),
                filters: vec![filter(&topic, AtLeastOnce)],
            });
            client
                .try_send_all([subscribe, unsubscribe(102, &[&topic])])
                .expect("the connection is open");
            // Which answer comes first is not said.
            let answers = [client.next(), client.next()];
            for answer in &answers {
                match answer.packet() {
                    Packet::SubAck(suback) => assert_eq!(suback.packet_id, 101),
                    Packet::UnsubAck(unsuback) if door.is_v5() => {
                        assert_eq!(unsuback.reasons, [ReasonCode::Success]);
                    }
                    Packet::UnsubAck(unsuback) => assert_eq!(unsuback.packet_id, 102),
                    _ => panic!("expected SUBACK and UNSUBACK, got {answers:?}"),
                }
            }
            sender.publish(&topic, "too late", AtLeastOnce);
            expect_nothing_but_a_new_message(&mut client, &mut sender, &other);
        }
    });
}

#[test]
fn mqtt_3_10_4_3_deliveries_that_have_begun_are_completed() {
    each_door(BOTH, |door| {
        let topic = door.topic("t");
        let mut sender = door.clean("sender");
        for mut client in [door.clean("clean"), door.persistent("persistent")] {
            client.subscribe(&topic, ExactlyOnce);
            sender.publish(&topic, "begun", ExactlyOnce);
            let delivery = client.expect_publish();
            let packet_id = delivery.packet_id.expect("QoS 2");
            client.unsubscribe(&topic);
            client.acknowledge(&delivery);
            client.expect_pubrel(packet_id);
            client.send(&Packet::PubComp(tidings_core::codec::Ack::new(
                packet_id,
                ReasonCode::Success,
            )));
            client.expect_silence();
        }
    });
}

#[test]
fn mqtt_3_10_4_3_a_delivery_that_has_begun_is_completed_after_a_reconnect() {
    each_door(BOTH, |door| {
        let topic = door.topic("t");
        let mut client = door.persistent("client");
        client.subscribe(&topic, AtLeastOnce);
        door.clean("sender").publish(&topic, "begun", AtLeastOnce);
        let begun = client.expect_publish();
        client.unsubscribe(&topic);
        client.abandon();
        let again = expect_text(&mut door.persistent("client"), "begun");
        assert_eq!((again.packet_id, again.dup), (begun.packet_id, true));
    });
}

#[test]
fn mqtt_3_10_4_5_unsuback_comes_even_if_there_was_no_subscription() {
    each_door(BOTH, |door| {
        let topic = door.topic("t");
        for mut client in [door.clean("clean"), door.persistent("persistent")] {
            let reasons = end(&mut client, &[&topic]);
            if door.is_v5() {
                assert_eq!(reasons, [ReasonCode::NoSubscriptionExisted]);
            }
        }
    });
}

#[test]
fn mqtt_3_10_4_6_many_filters_in_one_unsubscribe_are_answered_once_and_in_order() {
    each_door(BOTH, |door| {
        let [a, b, c, other] = ["a", "b", "c", "other"].map(|rest| door.topic(rest));
        let mut sender = door.clean("sender");
        for mut client in [door.clean("clean"), door.persistent("persistent")] {
            for topic in [&a, &c, &other] {
                client.subscribe(topic, AtLeastOnce);
            }
            let reasons = end(&mut client, &[&a, &b, &c]);
            // [MQTT-3.11.3-1]
            let expected: &[ReasonCode] = if door.is_v5() {
                &[
                    ReasonCode::Success,
                    ReasonCode::NoSubscriptionExisted,
                    ReasonCode::Success,
                ]
            } else {
                &[]
            };
            assert_eq!(reasons, expected);
            for topic in [&a, &b, &c] {
                sender.publish(topic, "too late", AtLeastOnce);
            }
            expect_nothing_but_a_new_message(&mut client, &mut sender, &other);
            client.expect_silence();
        }
        // A publisher of its own uses the same identifier for something else meanwhile.
        sender.send(&tidings_tests::raw_client::publish_packet(
            &a,
            b"",
            ExactlyOnce,
            500,
        ));
        sender.expect_pubrec(500);
        end(&mut sender, &[&a]);
        release(&mut sender, 500);
    });
}
