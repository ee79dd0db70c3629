//! Will Messages (§3.1.2.5, §3.1.3.2).

use std::time::{Duration, Instant};

use tidings_core::codec::{Disconnect, Packet, PublishProperties, ReasonCode, Will};
use tidings_core::message::QoS::{AtLeastOnce, AtMostOnce, ExactlyOnce};
use tidings_tests::{RawClient, clean};

use crate::door::{
    BOTH, Door, V5, each_door, expect_nothing_but_a_new_message, expect_text, retain,
};

/// A Will Message at QoS 0, to be changed.
pub fn will<'a>(topic: &'a str, payload: &'a [u8]) -> Will<'a> {
    Will {
        topic,
        payload,
        qos: AtMostOnce,
        retain: false,
        delay_s: 0,
        properties: PublishProperties::default(),
    }
}

fn watcher(door: &Door, topic: &str) -> RawClient {
    let mut watcher = door.clean("watcher");
    watcher.subscribe(topic, ExactlyOnce);
    watcher
}

#[test]
fn mqtt_3_1_2_8_the_will_is_published_when_the_network_fails() {
    each_door(BOTH, |door| {
        let (id, topic) = (door.name("client"), door.topic("will"));
        let mut watcher = watcher(door, &topic);
        let mut client = door.with(&id, |connect| connect.will = Some(will(&topic, b"gone")));
        client.expect_silence();
        watcher.expect_silence();
        client.abandon();
        let delivery = expect_text(&mut watcher, "gone");
        assert_eq!(
            (delivery.topic.as_str(), delivery.retain),
            (topic.as_str(), false)
        );
        // [MQTT-3.1.2-10]: once.
        expect_nothing_but_a_new_message(&mut watcher, &mut door.clean("other"), &topic);
    });
}

#[test]
fn mqtt_3_1_2_8_the_will_is_published_when_the_client_breaks_the_protocol() {
    each_door(BOTH, |door| {
        let (id, topic) = (door.name("client"), door.topic("will"));
        let mut watcher = watcher(door, &topic);
        let mut client = door.with(&id, |connect| connect.will = Some(will(&topic, b"gone")));
        client.send_bytes(&door.subscribe_bytes(0x80, b"t", 0));
        client.expect_refusal(ReasonCode::MalformedPacket);
        expect_text(&mut watcher, "gone");
    });
}

#[test]
fn mqtt_3_1_2_8_the_will_is_published_at_a_takeover() {
    each_door(BOTH, |door| {
        let (id, topic) = (door.name("client"), door.topic("will"));
        let mut watcher = watcher(door, &topic);
        let mut old = door.with(&id, |connect| connect.will = Some(will(&topic, b"gone")));
        let _new = RawClient::connect(door.endpoint, &clean(door.version, &id));
        old.expect_refusal(ReasonCode::SessionTakenOver);
        expect_text(&mut watcher, "gone");
    });
}

#[test]
fn mqtt_3_14_4_3_a_normal_disconnect_withdraws_the_will() {
    each_door(BOTH, |door| {
        let (id, topic) = (door.name("client"), door.topic("will"));
        let mut watcher = watcher(door, &topic);
        for stays in [false, true] {
            let client = door.with(&id, |connect| {
                connect.clean_start = !stays;
                if stays && door.is_v5() {
                    connect.properties.session_expiry_s = Some(100);
                }
                connect.will = Some(will(&topic, b"gone"));
            });
            client.disconnect();
            expect_nothing_but_a_new_message(&mut watcher, &mut door.clean("other"), &topic);
        }
    });
}

#[test]
fn mqtt_3_1_2_8_a_disconnect_can_ask_for_the_will() {
    each_door(V5, |door| {
        let (id, topic) = (door.name("client"), door.topic("will"));
        let mut watcher = watcher(door, &topic);
        for reason in [ReasonCode::DisconnectWithWill, ReasonCode::UnspecifiedError] {
            let mut client = door.with(&id, |connect| connect.will = Some(will(&topic, b"gone")));
            client.send(&Packet::Disconnect(Disconnect::new(reason)));
            client.expect_closed();
            expect_text(&mut watcher, "gone");
        }
    });
}

#[test]
fn mqtt_3_1_2_10_a_will_is_part_of_one_connection_only() {
    each_door(BOTH, |door| {
        let (id, topic) = (door.name("client"), door.topic("will"));
        let mut watcher = watcher(door, &topic);
        let client = door.persistent_with(&id, |connect| {
            connect.will = Some(will(&topic, b"gone"));
        });
        client.abandon();
        expect_text(&mut watcher, "gone");
        // [MQTT-3.1.2-12] of 3.1.1: this one has none, whatever the session had.
        let client = door.persistent("client");
        assert!(client.session_present());
        client.abandon();
        expect_nothing_but_a_new_message(&mut watcher, &mut door.clean("other"), &topic);
    });
}

#[test]
fn mqtt_3_1_2_12_the_will_is_published_at_its_qos() {
    each_door(BOTH, |door| {
        let (id, topic) = (door.name("client"), door.topic("will"));
        let mut watcher = watcher(door, &topic);
        for qos in [AtMostOnce, AtLeastOnce, ExactlyOnce] {
            let client = door.with(&id, |connect| {
                connect.will = Some(Will {
                    qos,
                    ..will(&topic, b"gone")
                });
            });
            client.abandon();
            assert_eq!(expect_text(&mut watcher, "gone").qos, qos);
            watcher.settle();
        }
    });
}

#[test]
fn mqtt_3_1_2_14_a_will_without_retain_is_not_retained() {
    each_door(BOTH, |door| {
        let (id, topic) = (door.name("client"), door.topic("will"));
        let mut watcher = watcher(door, &topic);
        door.with(&id, |connect| connect.will = Some(will(&topic, b"gone")))
            .abandon();
        expect_text(&mut watcher, "gone");
        let mut late = door.clean("late");
        late.subscribe(&topic, AtLeastOnce);
        expect_nothing_but_a_new_message(&mut late, &mut door.clean("other"), &topic);
    });
}

#[test]
fn mqtt_3_1_2_15_a_will_with_retain_is_retained() {
    each_door(BOTH, |door| {
        let (id, topic) = (door.name("client"), door.topic("will"));
        let mut watcher = watcher(door, &topic);
        retain(&mut door.clean("other"), &topic, "online", AtLeastOnce);
        assert!(!expect_text(&mut watcher, "online").retain);
        let client = door.with(&id, |connect| {
            connect.will = Some(Will {
                retain: true,
                qos: AtLeastOnce,
                ..will(&topic, b"gone")
            });
        });
        client.abandon();
        assert!(!expect_text(&mut watcher, "gone").retain);
        let mut late = door.clean("late");
        late.subscribe(&topic, AtLeastOnce);
        assert!(expect_text(&mut late, "gone").retain);
    });
}

#[test]
fn mqtt_3_1_2_7_a_will_waits_for_its_delay() {
    each_door(V5, |door| {
        let (id, topic) = (door.name("client"), door.topic("will"));
        let mut watcher = watcher(door, &topic);
        let client = door.persistent_with(&id, |connect| {
            connect.will = Some(Will {
                delay_s: 1,
                ..will(&topic, b"gone")
            });
        });
        let begin = Instant::now();
        client.abandon();
        expect_text(&mut watcher, "gone");
        assert!(
            begin.elapsed() >= Duration::from_secs(1),
            "{:?}",
            begin.elapsed()
        );
        // [MQTT-3.1.2-10]
        let client = door.persistent("client");
        assert!(client.session_present());
        client.disconnect();
        expect_nothing_but_a_new_message(&mut watcher, &mut door.clean("other"), &topic);
    });
}

#[test]
fn mqtt_3_1_3_9_a_reconnect_within_the_delay_withdraws_the_will() {
    each_door(V5, |door| {
        let (id, topic) = (door.name("client"), door.topic("will"));
        let mut watcher = watcher(door, &topic);
        let client = door.persistent_with(&id, |connect| {
            connect.will = Some(Will {
                delay_s: 1,
                ..will(&topic, b"gone")
            });
        });
        client.abandon();
        let client = door.persistent("client");
        let later = Instant::now() + Duration::from_millis(2200);
        assert!(watcher.try_next_until(later).is_err());
        client.disconnect();
        expect_nothing_but_a_new_message(&mut watcher, &mut door.clean("other"), &topic);
    });
}

#[test]
fn mqtt_3_1_3_9_a_takeover_within_the_delay_withdraws_the_will() {
    each_door(V5, |door| {
        let (id, topic) = (door.name("client"), door.topic("will"));
        let mut watcher = watcher(door, &topic);
        let mut old = door.persistent_with(&id, |connect| {
            connect.will = Some(Will {
                delay_s: 1,
                ..will(&topic, b"gone")
            });
        });
        let new = door.persistent("client");
        old.expect_refusal(ReasonCode::SessionTakenOver);
        new.disconnect();
        expect_nothing_but_a_new_message(&mut watcher, &mut door.clean("other"), &topic);
    });
}

#[test]
fn mqtt_3_1_2_8_the_end_of_the_session_does_not_wait_for_the_delay() {
    each_door(V5, |door| {
        let (id, topic) = (door.name("client"), door.topic("will"));
        let mut watcher = watcher(door, &topic);
        // The session ends with its connection.
        let client = door.with(&id, |connect| {
            connect.will = Some(Will {
                delay_s: 100,
                ..will(&topic, b"gone")
            });
        });
        client.abandon();
        expect_text(&mut watcher, "gone");
        // The session ends with a clean start of another connection.
        let client = door.persistent_with(&id, |connect| {
            connect.will = Some(Will {
                delay_s: 100,
                ..will(&topic, b"gone")
            });
        });
        client.abandon();
        watcher.expect_silence();
        let _new = door.clean("client");
        expect_text(&mut watcher, "gone");
    });
}

#[test]
fn mqtt_3_1_2_8_the_end_of_the_expiry_interval_does_not_wait_for_the_delay() {
    each_door(V5, |door| {
        let (id, topic) = (door.name("client"), door.topic("will"));
        let mut watcher = watcher(door, &topic);
        let client = door.persistent_with(&id, |connect| {
            connect.properties.session_expiry_s = Some(1);
            connect.will = Some(Will {
                delay_s: 100,
                ..will(&topic, b"gone")
            });
        });
        client.abandon();
        expect_text(&mut watcher, "gone");
    });
}

#[test]
fn mqtt_3_1_3_10_properties_of_the_will_are_published_in_their_order() {
    each_door(V5, |door| {
        let (id, topic, answers) = (
            door.name("client"),
            door.topic("will"),
            door.topic("answers"),
        );
        let mut watcher = watcher(door, &topic);
        let pairs = vec![("b", "2"), ("a", "1"), ("b", "2"), ("", ""), ("b", "1")];
        let properties = PublishProperties {
            payload_is_utf8: Some(true),
            message_expiry_s: Some(1000),
            response_topic: Some(&answers),
            correlation_data: Some(b"\0\xFF"),
            content_type: Some("text/plain"),
            user: pairs.clone(),
            ..PublishProperties::default()
        };
        let client = door.with(&id, |connect| {
            connect.will = Some(Will {
                properties,
                ..will(&topic, b"gone")
            });
        });
        client.abandon();
        let got = expect_text(&mut watcher, "gone").properties;
        assert_eq!(got.payload_is_utf8, Some(true));
        assert!(
            got.message_expiry_s
                .is_some_and(|left| (900..=1000).contains(&left))
        );
        assert_eq!(got.response_topic.as_deref(), Some(answers.as_str()));
        assert_eq!(got.correlation_data.as_deref(), Some(&b"\0\xFF"[..]));
        assert_eq!(got.content_type.as_deref(), Some("text/plain"));
        let user: Vec<(&str, &str)> = got
            .user
            .iter()
            .map(|(name, value)| (&**name, &**value))
            .collect();
        assert_eq!(user, pairs);
    });
}

#[test]
fn a_will_that_its_client_may_not_publish_is_not_published() {
    each_door(BOTH, |door| {
        let id = door.name("client");
        let mut watcher = door.clean("watcher");
        watcher.subscribe("$SYS/broker/nonsense", AtMostOnce);
        let client = door.with(&id, |connect| {
            connect.will = Some(will("$SYS/broker/nonsense", b"gone"));
        });
        client.abandon();
        let topic = door.topic("t");
        watcher.subscribe(&topic, AtLeastOnce);
        expect_nothing_but_a_new_message(&mut watcher, &mut door.clean("other"), &topic);
    });
}

#[test]
fn mqtt_3_1_3_11_a_will_topic_that_is_no_topic_name_is_refused() {
    each_door(BOTH, |door| {
        let id = door.name("client");
        for topic in ["a/+", "#", ""] {
            let mut connect = clean(door.version, &id);
            connect.will = Some(will(topic, b"gone"));
            let mut client = door.open();
            client.send(&Packet::Connect(connect));
            if door.is_v5() {
                assert_eq!(client.expect_connack().reason, ReasonCode::TopicNameInvalid);
            }
            client.expect_closed();
        }
    });
}
