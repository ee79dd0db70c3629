//! What each side takes of the other: Receive Maximum (§4.9), Maximum Packet Size (§3.1.2.11.4,
//! §3.2.2.3.6), Topic Alias (§3.3.2.3.4).

use tidings_core::codec::{Ack, Packet, ReasonCode};
use tidings_core::message::QoS::{AtLeastOnce, AtMostOnce, ExactlyOnce};
use tidings_tests::RawClient;
use tidings_tests::raw_client::publish_packet;

use crate::door::{
    Door, V5, each_door, expect_nothing_but_a_new_message, expect_text, message, publish, release,
};

fn with_receive_maximum(door: &Door, who: &str, stays: bool, maximum: u16) -> RawClient {
    let id = door.name(who);
    door.with(&id, |connect| {
        connect.properties.receive_maximum = Some(maximum);
        connect.properties.session_expiry_s = stays.then_some(u32::MAX);
        connect.clean_start = !stays;
    })
}

#[test]
fn mqtt_3_3_4_9_the_clients_receive_maximum_is_never_exceeded() {
    each_door(V5, |door| {
        let topic = door.topic("t");
        let mut sender = door.clean("sender");
        for stays in [false, true] {
            let mut client = with_receive_maximum(door, &format!("stays {stays}"), stays, 3);
            client.subscribe(&topic, ExactlyOnce);
            for number in 0..12 {
                let qos = if number % 2 == 0 {
                    AtLeastOnce
                } else {
                    ExactlyOnce
                };
                sender.publish(&topic, format!("{number}"), qos);
            }
            let mut open = Vec::new();
            for number in 0..12 {
                // Three are open, and no fourth comes.
                while open.len() < 3 && number + open.len() < 12 {
                    open.push(client.expect_publish());
                }
                client.expect_silence();
                let first = open.remove(0);
                assert_eq!(first.text(), number.to_string());
                client.acknowledge(&first);
                if first.qos == ExactlyOnce {
                    // [MQTT-4.9.0-2]: only PUBCOMP makes room, PUBREC does not.
                    let packet_id = first.packet_id.expect("QoS 2");
                    client.expect_pubrel(packet_id);
                    client.expect_silence();
                    client.send(&Packet::PubComp(Ack::new(packet_id, ReasonCode::Success)));
                }
            }
            client.expect_silence();
        }
    });
}

#[test]
fn mqtt_3_3_4_9_the_receive_maximum_holds_for_what_a_session_kept() {
    each_door(V5, |door| {
        let topic = door.topic("t");
        let mut client = with_receive_maximum(door, "client", true, 10);
        client.subscribe(&topic, AtLeastOnce);
        let mut sender = door.clean("sender");
        for number in 0..4 {
            sender.publish(&topic, format!("{number}"), AtLeastOnce);
        }
        (0..4).for_each(|_| drop(client.expect_publish()));
        client.abandon();
        let mut client = with_receive_maximum(door, "client", true, 4);
        let first = [(); 4].map(|()| client.expect_publish());
        sender.publish(&topic, "4", AtLeastOnce);
        client.expect_silence();
        client.acknowledge(&first[0]);
        assert_eq!(client.expect_publish().text(), "4");
    });
}

#[test]
fn mqtt_4_9_0_2_a_refusing_pubrec_makes_room_again() {
    each_door(V5, |door| {
        let topic = door.topic("t");
        let mut sender = door.clean("sender");
        let mut client = with_receive_maximum(door, "client", false, 1);
        client.subscribe(&topic, ExactlyOnce);
        sender.publish(&topic, "1", ExactlyOnce);
        sender.publish(&topic, "2", ExactlyOnce);
        let one = client.expect_publish();
        client.expect_silence();
        let packet_id = one.packet_id.expect("QoS 2");
        client.send(&Packet::PubRec(Ack::new(
            packet_id,
            ReasonCode::QuotaExceeded,
        )));
        assert_eq!(client.expect_publish().text(), "2");
    });
}

#[test]
fn mqtt_4_9_0_3_everything_else_goes_on_while_the_window_is_full() {
    each_door(V5, |door| {
        let (topic, other) = (door.topic("t"), door.topic("other"));
        let mut sender = door.clean("sender");
        let mut client = with_receive_maximum(door, "client", false, 1);
        client.subscribe(&topic, AtLeastOnce);
        sender.publish(&topic, "1", AtLeastOnce);
        let one = client.expect_publish();
        sender.publish(&topic, "2", AtLeastOnce);
        // [MQTT-3.3.4-10]: the window is full, and all of this is answered.
        client.expect_silence();
        client.subscribe(&other, ExactlyOnce);
        client.unsubscribe(&other);
        client.publish(&other, "", AtLeastOnce);
        client.publish(&other, "", ExactlyOnce);
        client.acknowledge(&one);
        expect_text(&mut client, "2");
    });
}

#[test]
fn mqtt_3_3_4_7_more_open_publishes_than_the_receive_maximum_close_the_connection() {
    each_door(V5, |door| {
        let topic = door.topic("t");
        let mut client = door.clean("client");
        let maximum = client
            .connack()
            .properties
            .receive_maximum
            .expect("there is a limit");
        let publishes =
            (1..=maximum).map(|packet_id| publish_packet(&topic, b"", ExactlyOnce, packet_id));
        client
            .try_send_all(publishes)
            .expect("the connection is open");
        for packet_id in 1..=maximum {
            client.expect_pubrec(packet_id);
        }
        // One less makes room for one more.
        release(&mut client, 1);
        client.send(&publish_packet(&topic, b"", ExactlyOnce, maximum + 1));
        client.expect_pubrec(maximum + 1);
        client.send(&publish_packet(&topic, b"", ExactlyOnce, maximum + 2));
        client.expect_refusal(ReasonCode::ReceiveMaximumExceeded);
    });
}

#[test]
fn mqtt_3_1_2_24_nothing_larger_than_the_clients_maximum_is_sent() {
    each_door(V5, |door| {
        let topic = door.topic("t");
        let mut sender = door.clean("sender");
        for stays in [false, true] {
            let id = door.name(&format!("stays {stays}"));
            let mut client = door.with(&id, |connect| {
                connect.properties.maximum_packet_size = Some(100);
                connect.properties.session_expiry_s = stays.then_some(u32::MAX);
            });
            client.subscribe(&topic, ExactlyOnce);
            // 2 bytes of header, 2 + topic, 2 of identifier (not at QoS 0), 1 of property length.
            for (qos, header) in [(AtMostOnce, 5), (AtLeastOnce, 7), (ExactlyOnce, 7)] {
                let largest = vec![b'x'; 100 - header - topic.len()];
                let too_large = vec![b'x'; largest.len() + 1];
                sender.publish(&topic, &too_large, qos);
                sender.publish(&topic, &largest, qos);
                // [MQTT-3.1.2-25]: as if it had been sent; the next one comes.
                let delivery = client.receive();
                assert_eq!((delivery.payload.len(), delivery.qos), (largest.len(), qos));
            }
            client.settle();
        }
    });
}

#[test]
fn mqtt_3_1_2_25_what_was_too_large_is_not_sent_by_a_later_connection_either() {
    each_door(V5, |door| {
        let (id, topic) = (door.name("client"), door.topic("t"));
        let mut sender = door.clean("sender");
        let mut client = door.persistent_with(&id, |connect| {
            connect.properties.maximum_packet_size = Some(100);
        });
        client.subscribe(&topic, AtLeastOnce);
        sender.publish(&topic, [b'x'; 200], AtLeastOnce);
        sender.publish(&topic, "small", AtLeastOnce);
        expect_text(&mut client, "small");
        client.disconnect();
        let mut client = door.persistent("client");
        expect_nothing_but_a_new_message(&mut client, &mut sender, &topic);
    });
}

#[test]
fn mqtt_3_4_2_3_acknowledgements_fit_the_clients_maximum_packet_size() {
    each_door(V5, |door| {
        // A message with history: PUBACK says its number, if there is room.
        let (user, room) = (door.name("user"), door.name("room"));
        let topic = format!("chat/{room}/{user}");
        let mut client = door.with(&user, |_| {});
        client.send(&publish_packet(&topic, b"hello", AtLeastOnce, 1));
        assert!(!client.expect_puback(1).user.is_empty());
        client.disconnect();
        let mut client = door.with(&user, |connect| {
            connect.properties.maximum_packet_size = Some(40);
        });
        for (qos, packet_id) in [(AtLeastOnce, 2), (ExactlyOnce, 3)] {
            client.send(&publish_packet(&topic, b"hello", qos, packet_id));
            // A refusal has a Reason String, if there is room.
            let refused = publish_packet("$SYS/a/long/topic", b"never", qos, packet_id + 10);
            client.send(&refused);
            for _ in 0..2 {
                let frame = client.next();
                assert!(frame.bytes().len() <= 40, "{frame:?}");
            }
        }
    });
}

#[test]
fn mqtt_3_14_2_3_a_disconnect_fits_the_clients_maximum_packet_size() {
    each_door(V5, |door| {
        let id = door.name("client");
        let mut client = door.with(&id, |_| {});
        client.send_bytes(&door.subscribe_bytes(0x80, b"t", 0));
        let disconnect = client.expect_disconnect();
        assert!(disconnect.reason_string.is_some(), "{disconnect:?}");
        // [MQTT-3.14.2-2]
        assert_eq!(disconnect.session_expiry_s, None);
        let mut client = door.with(&id, |connect| {
            connect.properties.maximum_packet_size = Some(25);
        });
        client.send_bytes(&door.subscribe_bytes(0x80, b"t", 0));
        let frame = client.next();
        assert!(frame.bytes().len() <= 25, "{frame:?}");
        client.expect_closed();
    });
}

#[test]
fn mqtt_3_2_2_15_a_packet_above_the_brokers_maximum_closes_the_connection() {
    each_door(crate::door::BOTH, |door| {
        let mut client = door.clean("client");
        // 268,435,455 bytes are announced, four come.
        client.send_bytes(&[0x30, 0xFF, 0xFF, 0xFF, 0x7F, 0, 1, b't']);
        client.expect_refusal(ReasonCode::PacketTooLarge);
        if !door.is_v5() {
            return;
        }
        let mut client = door.clean("client");
        let maximum = client
            .connack()
            .properties
            .maximum_packet_size
            .expect("there is one");
        let (topic, header) = (door.topic("t"), 1 + 3 + 2 + 1);
        let payload = vec![0; maximum as usize - header - topic.len()];
        client.publish(&topic, &payload, AtMostOnce);
        client.expect_silence();
        client.publish(&topic, [&payload[..], &[0]].concat(), AtMostOnce);
        client.expect_refusal(ReasonCode::PacketTooLarge);
    });
}

#[test]
fn mqtt_3_3_2_12_all_topic_aliases_up_to_the_maximum_are_accepted() {
    each_door(V5, |door| {
        let mut receiver = door.clean("receiver");
        receiver.subscribe(&door.topic("#"), AtMostOnce);
        let mut sender = door.clean("sender");
        let maximum = sender
            .connack()
            .properties
            .topic_alias_maximum
            .expect("aliases are accepted");
        let topics: Vec<String> = (1..=maximum)
            .map(|alias| door.topic(&format!("{alias}")))
            .collect();
        for (topic, alias) in topics.iter().zip(1..) {
            let mut named = message(topic, topic.as_bytes());
            named.properties.topic_alias = Some(alias);
            publish(&mut sender, named);
        }
        for (topic, alias) in topics.iter().zip(1..) {
            let mut short = message("", topic.as_bytes());
            short.properties.topic_alias = Some(alias);
            publish(&mut sender, short);
        }
        for topic in topics.iter().chain(&topics) {
            // The alias of the publisher is not that of the receiver.
            let delivery = expect_text(&mut receiver, topic);
            assert_eq!((&delivery.topic, delivery.topic_alias), (topic, None));
        }
    });
}

#[test]
fn mqtt_3_3_2_12_a_topic_alias_can_be_given_another_meaning() {
    each_door(V5, |door| {
        let mut receiver = door.clean("receiver");
        receiver.subscribe(&door.topic("+"), AtLeastOnce);
        let mut sender = door.clean("sender");
        for (topic, qos) in [("a", AtMostOnce), ("b", AtLeastOnce), ("a", ExactlyOnce)] {
            let topic = door.topic(topic);
            for named in [true, false, false] {
                let mut aliased = message(if named { &topic } else { "" }, b"aliased");
                aliased.properties.topic_alias = Some(1);
                aliased.qos = qos;
                publish(&mut sender, aliased);
                assert_eq!(expect_text(&mut receiver, "aliased").topic, topic);
            }
        }
    });
}

#[test]
fn mqtt_3_3_2_8_topic_alias_0_closes_the_connection() {
    each_door(V5, |door| {
        let mut client = door.clean("client");
        let bytes = crate::door::packet(0x30, &[&[0, 1, b't'], &[3, 0x23, 0, 0], b"payload"]);
        client.send_bytes(&bytes);
        client.expect_refusal(ReasonCode::TopicAliasInvalid);
    });
}

#[test]
fn mqtt_3_3_2_9_a_topic_alias_above_the_maximum_closes_the_connection() {
    each_door(V5, |door| {
        let mut client = door.clean("client");
        let maximum = client.connack().properties.topic_alias_maximum.unwrap_or(0);
        let mut aliased = message("t", b"");
        aliased.properties.topic_alias = Some(maximum + 1);
        client.send(&Packet::Publish(aliased));
        client.expect_refusal(ReasonCode::TopicAliasInvalid);
    });
}

#[test]
fn mqtt_3_3_2_7_topic_aliases_end_with_the_connection() {
    each_door(V5, |door| {
        let (topic, short) = (door.topic("t"), b"");
        let mut client = door.persistent("client");
        let mut named = message(&topic, short);
        named.properties.topic_alias = Some(1);
        publish(&mut client, named);
        client.expect_silence();
        client.disconnect();
        let mut client = door.persistent("client");
        assert!(client.session_present());
        let mut aliased = message("", short);
        aliased.properties.topic_alias = Some(1);
        client.send(&Packet::Publish(aliased));
        client.expect_refusal(ReasonCode::ProtocolError);
    });
}

#[test]
fn mqtt_3_1_2_27_a_client_that_takes_no_topic_aliases_gets_none() {
    each_door(V5, |door| {
        let (topic, id) = (door.topic("t"), door.name("receiver"));
        let mut sender = door.clean("sender");
        for maximum in [None, Some(0)] {
            let mut receiver = door.with(&id, |connect| {
                connect.properties.topic_alias_maximum = maximum;
            });
            receiver.subscribe(&topic, AtLeastOnce);
            for qos in [AtMostOnce, AtLeastOnce, AtMostOnce] {
                sender.publish(&topic, "hello", qos);
                let delivery = expect_text(&mut receiver, "hello");
                assert_eq!((delivery.topic_alias, &delivery.topic), (None, &topic));
            }
        }
    });
}

#[test]
fn mqtt_3_1_2_26_topic_aliases_to_a_client_stay_within_its_maximum() {
    each_door(V5, |door| {
        let id = door.name("receiver");
        let mut sender = door.clean("sender");
        let mut receiver = door.with(&id, |connect| {
            connect.properties.topic_alias_maximum = Some(2);
        });
        receiver.subscribe(&door.topic("+"), AtLeastOnce);
        let mut known = [None, None];
        for rest in ["a", "b", "c", "a", "c", "b", "b", "a", "d"] {
            let topic = door.topic(rest);
            sender.publish(&topic, rest, AtLeastOnce);
            let delivery = expect_text(&mut receiver, rest);
            match delivery.topic_alias {
                None => assert_eq!(delivery.topic, topic),
                Some(alias) => {
                    // [MQTT-3.3.2-11]
                    assert!((1..=2).contains(&alias), "{delivery:?}");
                    let known = &mut known[usize::from(alias) - 1];
                    if !delivery.topic.is_empty() {
                        *known = Some(delivery.topic);
                    }
                    assert_eq!(known.as_ref(), Some(&topic));
                }
            }
        }
    });
}
