//! Retained messages (§3.3.1.3) and when a subscription gets them (§3.8.3.1).

use std::time::{Duration, Instant};

use tidings_core::codec::{Packet, RetainHandling, Subscribe};
use tidings_core::message::QoS::{self, AtLeastOnce, AtMostOnce, ExactlyOnce};

use crate::door::{
    BOTH, Door, V5, each_door, expect_nothing_but_a_new_message, expect_text, filter, message,
    publish, retain,
};

const ALL_QOS: [QoS; 3] = [AtMostOnce, AtLeastOnce, ExactlyOnce];

/// What a new client gets for a new subscription before anything live, at most one message.
#[track_caller]
fn retained_on(door: &Door, topic: &str) -> Option<String> {
    let mut reader = door.clean("reader");
    reader.subscribe(topic, ExactlyOnce);
    reader.publish(topic, "live", AtMostOnce);
    let first = reader.receive();
    assert_eq!(first.retain, first.text() != "live", "{first:?}");
    first.retain.then(|| first.text())
}

#[test]
fn mqtt_3_3_1_5_a_retained_message_replaces_the_one_before() {
    each_door(BOTH, |door| {
        let topic = door.topic("t");
        let mut sender = door.clean("sender");
        for (number, qos) in ALL_QOS.into_iter().cycle().take(7).enumerate() {
            let text = format!("{number}");
            retain(&mut sender, &topic, &text, qos);
            // QoS 0 has no acknowledgement that says it was stored; what is stored behind it has.
            retain(&mut sender, &door.topic("behind"), &text, AtLeastOnce);
            assert_eq!(retained_on(door, &topic), Some(text));
        }
    });
}

#[test]
fn mqtt_3_3_1_5_a_retained_message_keeps_its_qos() {
    each_door(BOTH, |door| {
        let mut sender = door.clean("sender");
        for published in [AtLeastOnce, ExactlyOnce] {
            let topic = door.topic(&format!("{published:?}"));
            retain(&mut sender, &topic, "stored", published);
            for granted in ALL_QOS {
                let mut reader = door.clean("reader");
                reader.subscribe(&topic, granted);
                assert_eq!(
                    expect_text(&mut reader, "stored").qos,
                    granted.min(published)
                );
                reader.settle();
            }
        }
    });
}

#[test]
fn mqtt_3_3_1_6_an_empty_payload_removes_the_retained_message() {
    each_door(BOTH, |door| {
        let topic = door.topic("t");
        let mut sender = door.clean("sender");
        let mut listener = door.clean("listener");
        listener.subscribe(&topic, AtLeastOnce);
        retain(&mut sender, &topic, "stored", AtLeastOnce);
        expect_text(&mut listener, "stored");
        assert_eq!(retained_on(door, &topic), Some("stored".to_owned()));
        expect_text(&mut listener, "live");
        retain(&mut sender, &topic, "", AtLeastOnce);
        // It is a message like any other for who is subscribed.
        expect_text(&mut listener, "");
        // [MQTT-3.3.1-7]: and it is not retained itself.
        assert_eq!(retained_on(door, &topic), None);
    });
}

#[test]
fn mqtt_3_3_1_8_a_message_that_is_not_retained_changes_nothing() {
    each_door(BOTH, |door| {
        let topic = door.topic("t");
        let mut sender = door.clean("sender");
        sender.publish(&topic, "passing", AtLeastOnce);
        assert_eq!(retained_on(door, &topic), None);
        retain(&mut sender, &topic, "stored", AtLeastOnce);
        for qos in ALL_QOS {
            sender.publish(&topic, "passing", qos);
            sender.publish(&topic, "", qos);
        }
        assert_eq!(retained_on(door, &topic), Some("stored".to_owned()));
    });
}

#[test]
fn mqtt_3_3_1_9_a_subscription_gets_all_retained_messages_that_match() {
    each_door(BOTH, |door| {
        let mut sender = door.clean("sender");
        for rest in ["a", "a/b", "a/b/c", "a/x", "b", "$a"] {
            retain(&mut sender, &door.topic(rest), rest, AtLeastOnce);
        }
        for (rest, expected) in [
            ("a", &["a"][..]),
            ("a/+", &["a/b", "a/x"]),
            ("a/#", &["a", "a/b", "a/b/c", "a/x"]),
            ("#", &["$a", "a", "a/b", "a/b/c", "a/x", "b"]),
            ("+/b/#", &["a/b", "a/b/c"]),
            ("nothing", &[]),
        ] {
            for mut reader in [door.clean("clean"), door.persistent("persistent")] {
                reader.subscribe(&door.topic(rest), AtLeastOnce);
                let mut got: Vec<String> = expected
                    .iter()
                    .map(|_| {
                        let delivery = reader.receive();
                        assert!(delivery.retain && !delivery.dup, "{delivery:?}");
                        delivery.text()
                    })
                    .collect();
                got.sort();
                assert_eq!(got, expected);
                reader.expect_silence();
                reader.unsubscribe(&door.topic(rest));
            }
        }
    });
}

#[test]
fn mqtt_3_8_4_4_the_same_subscription_again_gets_the_retained_messages_again() {
    each_door(BOTH, |door| {
        let topic = door.topic("t");
        retain(&mut door.clean("sender"), &topic, "stored", AtLeastOnce);
        for mut reader in [door.clean("clean"), door.persistent("persistent")] {
            for qos in [AtLeastOnce, AtLeastOnce, AtMostOnce] {
                reader.subscribe(&topic, qos);
                let delivery = expect_text(&mut reader, "stored");
                assert_eq!((delivery.retain, delivery.qos), (true, qos));
            }
        }
    });
}

#[test]
fn mqtt_3_3_1_10_retain_handling_1_sends_them_to_new_subscriptions_only() {
    each_door(V5, |door| {
        let topic = door.topic("t");
        retain(&mut door.clean("sender"), &topic, "stored", AtLeastOnce);
        for mut reader in [door.clean("clean"), door.persistent("persistent")] {
            let mut options = filter(&topic, AtLeastOnce);
            options.retain_handling = RetainHandling::SendIfNew;
            for is_new in [true, false, false] {
                reader.subscribe_with(None, vec![options.clone()]);
                if is_new {
                    expect_text(&mut reader, "stored");
                }
                reader.expect_silence();
            }
            reader.unsubscribe(&topic);
            reader.subscribe_with(None, vec![options]);
            expect_text(&mut reader, "stored");
        }
    });
}

#[test]
fn mqtt_3_3_1_10_a_resumed_session_has_its_subscriptions_already() {
    each_door(V5, |door| {
        let topic = door.topic("t");
        retain(&mut door.clean("sender"), &topic, "stored", AtLeastOnce);
        let mut options = filter(&topic, AtLeastOnce);
        options.retain_handling = RetainHandling::SendIfNew;
        let mut reader = door.persistent("reader");
        reader.subscribe_with(None, vec![options.clone()]);
        expect_text(&mut reader, "stored");
        reader.disconnect();
        let mut reader = door.persistent("reader");
        reader.subscribe_with(None, vec![options]);
        reader.expect_silence();
    });
}

#[test]
fn mqtt_3_3_1_11_retain_handling_2_sends_none() {
    each_door(V5, |door| {
        let topic = door.topic("t");
        let mut sender = door.clean("sender");
        retain(&mut sender, &topic, "stored", AtLeastOnce);
        for mut reader in [door.clean("clean"), door.persistent("persistent")] {
            let mut options = filter(&topic, AtLeastOnce);
            options.retain_handling = RetainHandling::DoNotSend;
            reader.subscribe_with(None, vec![options]);
            expect_nothing_but_a_new_message(&mut reader, &mut sender, &topic);
        }
    });
}

#[test]
fn mqtt_3_3_1_12_a_live_message_does_not_have_the_retain_flag() {
    each_door(BOTH, |door| {
        let topic = door.topic("t");
        let mut sender = door.clean("sender");
        for mut reader in [door.clean("clean"), door.persistent("persistent")] {
            retain(&mut sender, &topic, "", AtLeastOnce);
            reader.subscribe(&topic, ExactlyOnce);
            for qos in ALL_QOS {
                retain(&mut sender, &topic, "live", qos);
                assert!(!expect_text(&mut reader, "live").retain);
            }
            reader.settle();
        }
    });
}

#[test]
fn mqtt_3_3_1_13_retain_as_published_keeps_the_flag() {
    each_door(V5, |door| {
        let topic = door.topic("t");
        let mut sender = door.clean("sender");
        for mut reader in [door.clean("clean"), door.persistent("persistent")] {
            retain(&mut sender, &topic, "", AtLeastOnce);
            let mut options = filter(&topic, ExactlyOnce);
            options.retain_as_published = true;
            reader.subscribe_with(None, vec![options]);
            for qos in ALL_QOS {
                retain(&mut sender, &topic, "retained", qos);
                assert!(expect_text(&mut reader, "retained").retain);
                sender.publish(&topic, "passing", qos);
                assert!(!expect_text(&mut reader, "passing").retain);
            }
            reader.settle();
        }
    });
}

#[test]
fn a_retained_message_that_expired_is_not_sent() {
    each_door(V5, |door| {
        let (short, long) = (door.topic("short"), door.topic("long"));
        let mut sender = door.clean("sender");
        for (topic, expiry_s) in [(&short, 1), (&long, 100)] {
            let mut stored = message(topic, b"stored");
            (stored.retain, stored.qos) = (true, AtLeastOnce);
            stored.properties.message_expiry_s = Some(expiry_s);
            publish(&mut sender, stored);
        }
        let later = Instant::now() + Duration::from_millis(1100);
        assert!(sender.try_next_until(later).is_err());
        assert_eq!(retained_on(door, &short), None);
        assert_eq!(retained_on(door, &long), Some("stored".to_owned()));
    });
}

#[test]
fn retained_messages_and_live_ones_leave_no_gap_between_them() {
    each_door(BOTH, |door| {
        let topic = door.topic("counter");
        let mut sender = door.clean("sender");
        let numbers: Vec<String> = (0..100).map(|number| number.to_string()).collect();
        retain(&mut sender, &topic, "0", AtLeastOnce);
        let packets = numbers.iter().zip(1..).skip(1).map(|(text, packet_id)| {
            let mut message = message(&topic, text.as_bytes());
            (message.retain, message.qos) = (true, AtLeastOnce);
            message.packet_id = Some(packet_id);
            tidings_core::codec::Packet::Publish(message)
        });
        sender
            .try_send_all(packets)
            .expect("the connection is open");
        let mut reader = door.clean("reader");
        reader.send(&Packet::Subscribe(Subscribe {
            packet_id: 1,
            subscription_id: None,
            user: Vec::new(),
            filters: vec![filter(&topic, AtLeastOnce)],
        }));
        // One of them is retained, the later ones are live; SUBACK may come between (§3.8.4).
        let mut got: Vec<usize> = Vec::new();
        while got.last() != Some(&99) {
            let frame = reader.next();
            let Some(delivery) = frame.delivery() else {
                continue;
            };
            reader.acknowledge(&delivery);
            got.push(delivery.text().parse().expect("a number"));
        }
        let first = got[0];
        assert_eq!(got, (first..100).collect::<Vec<_>>());
    });
}
