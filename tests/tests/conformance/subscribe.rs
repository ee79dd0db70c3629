//! SUBSCRIBE and SUBACK (§3.8, §3.9), and which topics a filter matches (§4.7).

use tidings_core::codec::{Packet, ReasonCode, Subscribe};
use tidings_core::message::QoS::{self, AtLeastOnce, AtMostOnce, ExactlyOnce};

use crate::door::{
    BOTH, V5, each_door, expect_nothing_but_a_new_message, expect_text, filter, message, packet,
    publish,
};

const ALL_QOS: [QoS; 3] = [AtMostOnce, AtLeastOnce, ExactlyOnce];

#[test]
fn mqtt_3_8_1_1_other_header_flags_close_the_connection() {
    each_door(BOTH, |door| {
        for first in [0x80, 0x81, 0x8A, 0x8F] {
            let mut client = door.clean("client");
            client.send_bytes(&door.subscribe_bytes(first, b"t", 0));
            client.expect_refusal(ReasonCode::MalformedPacket);
        }
    });
}

#[test]
fn mqtt_3_8_3_1_a_filter_that_is_no_utf8_closes_the_connection() {
    each_door(BOTH, |door| {
        let mut client = door.clean("client");
        client.send_bytes(&door.subscribe_bytes(0x82, b"\xFF", 0));
        client.expect_refusal(ReasonCode::MalformedPacket);
    });
}

#[test]
fn mqtt_3_8_3_2_a_subscribe_without_filter_closes_the_connection() {
    each_door(BOTH, |door| {
        let mut client = door.clean("client");
        client.send_bytes(&packet(0x82, &[&[0, 1], door.no_properties()]));
        client.expect_refusal(ReasonCode::ProtocolError);
    });
}

#[test]
fn mqtt_3_8_3_3_no_local_keeps_a_clients_own_messages_from_it() {
    each_door(V5, |door| {
        let topic = door.topic("t");
        let mut other = door.clean("other");
        for mut client in [door.clean("clean"), door.persistent("persistent")] {
            let mut local = filter(&topic, ExactlyOnce);
            local.no_local = true;
            client.subscribe_with(None, vec![local]);
            for qos in ALL_QOS {
                client.publish(&topic, "own", qos);
            }
            other.publish(&topic, "another's", ExactlyOnce);
            expect_text(&mut client, "another's");
            client.settle();
        }
    });
}

#[test]
fn mqtt_3_8_3_3_no_local_holds_for_retained_messages() {
    each_door(V5, |door| {
        let topic = door.topic("t");
        let mut client = door.clean("client");
        crate::door::retain(&mut client, &topic, "own", AtLeastOnce);
        let mut local = filter(&topic, AtLeastOnce);
        local.no_local = true;
        client.subscribe_with(None, vec![local]);
        expect_nothing_but_a_new_message(&mut client, &mut door.clean("other"), &topic);
    });
}

#[test]
fn mqtt_3_8_3_4_no_local_on_a_shared_subscription_closes_the_connection() {
    each_door(V5, |door| {
        let mut client = door.clean("client");
        client.send_bytes(&door.subscribe_bytes(0x82, b"$share/g/t", 0b100));
        client.expect_refusal(ReasonCode::ProtocolError);
    });
}

#[test]
fn mqtt_3_8_3_5_reserved_option_bits_close_the_connection() {
    each_door(BOTH, |door| {
        // MQTT 3.1.1 knows no options but the QoS.
        let reserved: &[u8] = if door.is_v5() {
            &[0x40, 0x80, 0xC1]
        } else {
            &[0x04, 0x08, 0x10, 0x80]
        };
        for &options in reserved {
            let mut client = door.clean("client");
            client.send_bytes(&door.subscribe_bytes(0x82, b"t", options));
            client.expect_refusal(ReasonCode::MalformedPacket);
        }
    });
}

#[test]
fn mqtt_3_8_3_5_qos_3_and_retain_handling_3_close_the_connection() {
    each_door(BOTH, |door| {
        let options: &[u8] = if door.is_v5() { &[0x03, 0x30] } else { &[0x03] };
        for &options in options {
            let mut client = door.clean("client");
            client.send_bytes(&door.subscribe_bytes(0x82, b"t", options));
            client.expect_refusal(ReasonCode::ProtocolError);
        }
    });
}

#[test]
fn mqtt_3_8_4_2_suback_has_the_packet_identifier_of_its_subscribe() {
    each_door(BOTH, |door| {
        let topic = door.topic("t");
        for mut client in [door.clean("clean"), door.persistent("persistent")] {
            for packet_id in [1, 0x1234, 0xFFFF, 7] {
                client.send(&Packet::Subscribe(Subscribe {
                    packet_id,
                    subscription_id: None,
                    user: Vec::new(),
                    filters: vec![filter(&topic, AtLeastOnce)],
                }));
                assert_eq!(client.expect_suback().packet_id, packet_id);
            }
        }
    });
}

#[test]
fn mqtt_3_8_4_3_the_same_filter_again_replaces_the_subscription() {
    each_door(BOTH, |door| {
        let topic = door.topic("t");
        let mut sender = door.clean("sender");
        for mut client in [door.clean("clean"), door.persistent("persistent")] {
            for qos in [ExactlyOnce, AtMostOnce, AtLeastOnce] {
                client.subscribe(&topic, qos);
                sender.publish(&topic, "once", ExactlyOnce);
                assert_eq!(expect_text(&mut client, "once").qos, qos);
                client.settle();
            }
        }
    });
}

#[test]
fn mqtt_3_8_4_4_replacing_a_subscription_loses_no_message() {
    each_door(BOTH, |door| {
        let topic = door.topic("t");
        let mut sender = door.clean("sender");
        for mut client in [door.clean("clean"), door.persistent("persistent")] {
            client.subscribe(&topic, AtLeastOnce);
            let mut got = Vec::new();
            for number in 0..20 {
                sender.publish(&topic, format!("{number}"), AtLeastOnce);
                client.send(&Packet::Subscribe(Subscribe {
                    packet_id: number + 1,
                    subscription_id: None,
                    user: Vec::new(),
                    filters: vec![filter(&topic, AtLeastOnce)],
                }));
            }
            let mut subacks = 0;
            while got.len() < 20 || subacks < 20 {
                let frame = client.next();
                match frame.delivery() {
                    Some(delivery) => {
                        client.acknowledge(&delivery);
                        got.push(delivery.text());
                    }
                    None => subacks += 1,
                }
            }
            let all: Vec<String> = (0..20).map(|number| number.to_string()).collect();
            assert_eq!(got, all);
            client.expect_silence();
        }
    });
}

#[test]
fn mqtt_3_8_4_5_many_filters_in_one_subscribe_are_many_subscriptions() {
    each_door(BOTH, |door| {
        let topics = ["a", "b", "c"].map(|rest| door.topic(rest));
        let mut sender = door.clean("sender");
        for mut client in [door.clean("clean"), door.persistent("persistent")] {
            let filters = topics
                .iter()
                .zip(ALL_QOS)
                .map(|(topic, qos)| filter(topic, qos));
            client.subscribe_with(None, filters.collect());
            for (topic, qos) in topics.iter().zip(ALL_QOS) {
                sender.publish(topic, "hello", ExactlyOnce);
                assert_eq!(expect_text(&mut client, "hello").qos, qos);
            }
        }
    });
}

#[test]
fn mqtt_3_9_3_1_reason_codes_stand_in_the_order_of_the_filters() {
    each_door(BOTH, |door| {
        let deep = vec!["x"; 300].join("/");
        let filters = vec![
            filter(&door.topic("a"), ExactlyOnce),
            filter("$nobody/may", AtLeastOnce),
            filter(&door.topic("b"), AtMostOnce),
            filter(&deep, AtLeastOnce),
            filter(&door.topic("c"), AtLeastOnce),
        ];
        let expected = if door.is_v5() {
            [
                ReasonCode::GrantedQoS2,
                ReasonCode::NotAuthorized,
                ReasonCode::Success,
                ReasonCode::TopicFilterInvalid,
                ReasonCode::GrantedQoS1,
            ]
        } else {
            // [MQTT-3.9.3-2] of 3.1.1: one code for all failures.
            [
                ReasonCode::GrantedQoS2,
                ReasonCode::UnspecifiedError,
                ReasonCode::Success,
                ReasonCode::UnspecifiedError,
                ReasonCode::GrantedQoS1,
            ]
        };
        for mut client in [door.clean("clean"), door.persistent("persistent")] {
            assert_eq!(
                client.subscribe_with(None, filters.clone()).reasons,
                expected
            );
        }
    });
}

#[test]
fn mqtt_3_8_4_7_suback_shows_the_granted_qos() {
    each_door(BOTH, |door| {
        let mut client = door.clean("client");
        let topic = door.topic("t");
        assert_eq!(client.subscribe(&topic, AtMostOnce), ReasonCode::Success);
        assert_eq!(
            client.subscribe(&topic, AtLeastOnce),
            ReasonCode::GrantedQoS1
        );
        assert_eq!(
            client.subscribe(&topic, ExactlyOnce),
            ReasonCode::GrantedQoS2
        );
    });
}

#[test]
fn mqtt_3_8_4_8_a_delivery_has_the_smaller_qos_of_message_and_subscription() {
    each_door(BOTH, |door| {
        let topic = door.topic("t");
        let mut sender = door.clean("sender");
        for mut client in [door.clean("clean"), door.persistent("persistent")] {
            for granted in ALL_QOS {
                client.subscribe(&topic, granted);
                for published in ALL_QOS {
                    sender.publish(&topic, "hello", published);
                    assert_eq!(
                        expect_text(&mut client, "hello").qos,
                        granted.min(published)
                    );
                    client.settle();
                }
            }
        }
    });
}

#[test]
fn mqtt_3_3_4_2_overlapping_subscriptions_deliver_at_the_highest_qos() {
    each_door(BOTH, |door| {
        let mut sender = door.clean("sender");
        let topic = door.topic("a/b");
        for mut client in [door.clean("clean"), door.persistent("persistent")] {
            client.subscribe(&door.topic("#"), AtMostOnce);
            client.subscribe(&door.topic("a/+"), ExactlyOnce);
            client.subscribe(&topic, AtLeastOnce);
            sender.publish(&topic, "one copy", ExactlyOnce);
            assert_eq!(expect_text(&mut client, "one copy").qos, ExactlyOnce);
            client.settle();
        }
    });
}

#[test]
fn mqtt_3_3_4_4_one_copy_has_the_identifiers_of_all_matching_subscriptions() {
    each_door(V5, |door| {
        let mut sender = door.clean("sender");
        for mut client in [door.clean("clean"), door.persistent("persistent")] {
            client.subscribe_with(Some(1), vec![filter(&door.topic("#"), AtLeastOnce)]);
            client.subscribe_with(
                Some(268_435_455),
                vec![filter(&door.topic("a/+"), AtMostOnce)],
            );
            client.subscribe_with(None, vec![filter(&door.topic("a/b"), AtLeastOnce)]);
            client.subscribe_with(Some(77), vec![filter(&door.topic("c"), AtLeastOnce)]);
            for qos in ALL_QOS {
                sender.publish(&door.topic("a/b"), "hello", qos);
                let mut ids = expect_text(&mut client, "hello").subscription_ids;
                ids.sort_unstable();
                assert_eq!(ids, [1, 268_435_455]);
            }
            client.settle();
        }
    });
}

#[test]
fn mqtt_3_3_4_3_a_replaced_subscription_has_its_new_identifier() {
    each_door(V5, |door| {
        let topic = door.topic("t");
        let mut sender = door.clean("sender");
        let mut client = door.clean("client");
        for id in [Some(1), Some(2), None, Some(3)] {
            client.subscribe_with(id, vec![filter(&topic, AtMostOnce)]);
            sender.publish(&topic, "hello", AtMostOnce);
            let ids: Vec<u32> = id.into_iter().collect();
            assert_eq!(expect_text(&mut client, "hello").subscription_ids, ids);
        }
    });
}

#[test]
fn mqtt_3_3_4_3_subscription_identifiers_are_part_of_the_session() {
    each_door(V5, |door| {
        let topic = door.topic("t");
        let mut sender = door.clean("sender");
        let mut client = door.persistent("client");
        client.subscribe_with(Some(42), vec![filter(&topic, AtLeastOnce)]);
        client.disconnect();
        sender.publish(&topic, "while away", AtLeastOnce);
        let mut client = door.persistent("client");
        assert_eq!(
            expect_text(&mut client, "while away").subscription_ids,
            [42]
        );
        sender.publish(&topic, "live", AtMostOnce);
        assert_eq!(expect_text(&mut client, "live").subscription_ids, [42]);
    });
}

#[test]
fn subscription_identifier_0_closes_the_connection() {
    each_door(V5, |door| {
        let mut client = door.clean("client");
        client.send_bytes(&packet(0x82, &[&[0, 1], &[2, 0x0B, 0], &[0, 1, b't', 0]]));
        client.expect_refusal(ReasonCode::ProtocolError);
    });
}

#[test]
fn mqtt_4_5_0_1_a_message_reaches_all_matching_clients() {
    each_door(BOTH, |door| {
        let topic = door.topic("room/7");
        let mut clients = Vec::new();
        for (number, rest) in ["room/7", "room/+", "#", "+/7"].into_iter().enumerate() {
            let mut client = door.clean(&format!("client-{number}"));
            client.subscribe(&door.topic(rest), AtLeastOnce);
            clients.push(client);
        }
        let mut sender = door.clean("sender");
        for qos in ALL_QOS {
            sender.publish(&topic, "to all", qos);
            for client in &mut clients {
                assert_eq!(expect_text(client, "to all").topic, topic);
            }
        }
    });
}

#[test]
fn mqtt_4_7_1_1_a_misplaced_multi_level_wildcard_closes_the_connection() {
    each_door(BOTH, |door| {
        for filter in [&b"a#"[..], b"a/#/b", b"##", b"#/a"] {
            let mut client = door.clean("client");
            client.send_bytes(&door.subscribe_bytes(0x82, filter, 0));
            client.expect_refusal(ReasonCode::TopicFilterInvalid);
        }
    });
}

#[test]
fn mqtt_4_7_1_2_a_misplaced_single_level_wildcard_closes_the_connection() {
    each_door(BOTH, |door| {
        for filter in [&b"a+"[..], b"+a", b"a/b+/c", b"++"] {
            let mut client = door.clean("client");
            client.send_bytes(&door.subscribe_bytes(0x82, filter, 0));
            client.expect_refusal(ReasonCode::TopicFilterInvalid);
        }
    });
}

#[test]
fn mqtt_4_7_3_1_an_empty_filter_closes_the_connection() {
    each_door(BOTH, |door| {
        let mut client = door.clean("client");
        client.send_bytes(&door.subscribe_bytes(0x82, b"", 0));
        client.expect_refusal(ReasonCode::TopicFilterInvalid);
    });
}

#[test]
fn mqtt_4_7_3_2_a_null_character_closes_the_connection() {
    each_door(BOTH, |door| {
        for bytes in [
            door.subscribe_bytes(0x82, b"a\0b", 0),
            door.unsubscribe_bytes(0xA2, b"a\0b"),
            door.publish_bytes(0x30, b"a\0b", None),
        ] {
            let mut client = door.clean("client");
            client.send_bytes(&bytes);
            client.expect_refusal(ReasonCode::MalformedPacket);
        }
    });
}

/// What each filter gets of these topics, as the examples of §4.7 have it.
#[test]
fn mqtt_4_7_1_1_and_4_7_1_2_wildcards_match_whole_levels() {
    each_door(BOTH, |door| {
        let topics = [
            "sport",
            "sport/",
            "sport/tennis",
            "sport/tennis/player1",
            "sports",
            "/sport",
        ];
        let mut sender = door.clean("sender");
        for (rest, matching) in [
            (
                "sport/#",
                &["sport", "sport/", "sport/tennis", "sport/tennis/player1"][..],
            ),
            ("sport/+", &["sport/", "sport/tennis"]),
            ("sport/+/+", &["sport/tennis/player1"]),
            ("+", &["sport", "sports"]),
            ("+/tennis/#", &["sport/tennis", "sport/tennis/player1"]),
            ("/+", &["/sport"]),
            ("+/+", &["sport/", "sport/tennis", "/sport"]),
            ("sport", &["sport"]),
        ] {
            let mut client = door.clean("client");
            client.subscribe(&door.topic(rest), AtMostOnce);
            client.subscribe(&door.topic("end/of/these/topics"), AtMostOnce);
            for topic in topics {
                sender.publish(&door.topic(topic), topic, AtLeastOnce);
            }
            for topic in matching {
                expect_text(&mut client, topic);
            }
            expect_nothing_but_a_new_message(
                &mut client,
                &mut sender,
                &door.topic("end/of/these/topics"),
            );
        }
    });
}

#[test]
fn mqtt_4_7_2_1_leading_wildcards_do_not_match_dollar_topics() {
    each_door(BOTH, |door| {
        let topic = door.topic("t");
        let mut client = door.clean("client");
        // The `$SYS` topics have values: who asks for them by name gets them at once.
        client.subscribe("+/broker/version", AtMostOnce);
        client.subscribe("+/broker/#", AtMostOnce);
        expect_nothing_but_a_new_message_after_subscribing(&mut client, door, &topic);
        client.subscribe("$SYS/+/version", AtMostOnce);
        let delivery = client.receive();
        assert_eq!(
            (&*delivery.topic, delivery.retain),
            ("$SYS/broker/version", true)
        );
        client.expect_silence();
    });
}

#[track_caller]
fn expect_nothing_but_a_new_message_after_subscribing(
    client: &mut tidings_tests::RawClient,
    door: &crate::door::Door,
    topic: &str,
) {
    client.subscribe(topic, AtLeastOnce);
    expect_nothing_but_a_new_message(client, &mut door.clean("other"), topic);
}

#[test]
fn mqtt_4_7_3_4_topics_are_compared_as_they_are() {
    each_door(BOTH, |door| {
        let mut sender = door.clean("sender");
        // The same to a human eye, or to a file system, but not to MQTT.
        for (filter, others) in [
            ("\u{E9}", &["e\u{301}", "e", "E\u{301}"][..]),
            ("Accounts", &["accounts", "ACCOUNTS"]),
            ("a/b", &["a//b", "a/./b", "a/b/", "/a/b", "a\\b", "a%2Fb"]),
            ("x", &["\u{FEFF}x", "x ", " x", "\u{FF58}"]),
        ] {
            let filter = door.topic(filter);
            let mut client = door.clean("client");
            client.subscribe(&filter, AtMostOnce);
            for other in others {
                sender.publish(&door.topic(other), *other, AtLeastOnce);
            }
            expect_nothing_but_a_new_message(&mut client, &mut sender, &filter);
        }
    });
}

#[test]
fn mqtt_1_5_4_3_a_byte_order_mark_is_part_of_a_filter() {
    each_door(BOTH, |door| {
        let topic = format!("\u{FEFF}{}", door.topic("t"));
        let mut client = door.clean("client");
        client.subscribe(&topic, AtMostOnce);
        let mut sender = door.clean("sender");
        publish(&mut sender, message(&door.topic("t"), b"without"));
        publish(&mut sender, message(&topic, b"with"));
        assert_eq!(expect_text(&mut client, "with").topic, topic);
    });
}
