//! Statements that show only at limits which the shipped defaults do not have, and at the end of a
//! broker. Each test starts one of its own.

use std::time::Duration;

use tidings_core::codec::{Packet, Publish, ReasonCode, Version, Will};
use tidings_core::message::QoS::{AtLeastOnce, AtMostOnce, ExactlyOnce};
use tidings_tests::{RawClient, TidingsOptions, TidingsProcess, clean, persistent};

use crate::door::{BOTH, V5, each_door_of, expect_text, filter, message};
use crate::will::will;

#[test]
fn mqtt_3_2_2_21_server_keep_alive_is_told_and_held() {
    let broker = TidingsOptions::new()
        .set("mqtt.keep_alive_max_s", 1)
        .start();
    each_door_of(&broker, BOTH, |door| {
        let ids = [0, 1, 60].map(|asked| (asked, door.name(&format!("asked {asked}"))));
        let clients = ids.each_ref().map(|(asked, id)| {
            let client = door.with(id, |connect| connect.keep_alive_s = *asked);
            let told = client.connack().properties.server_keep_alive_s;
            // [MQTT-3.2.2-22]: what is not told is what was asked for.
            let expected = (door.is_v5() && *asked != 1).then_some(1);
            assert_eq!(told, expected, "asked for {asked}");
            client
        });
        for mut client in clients {
            client.set_deadline(Duration::from_secs(10));
            client.expect_refusal(ReasonCode::KeepAliveTimeout);
        }
    });
}

#[test]
fn a_session_expiry_interval_above_the_maximum_is_granted_as_far_as_it_goes() {
    let broker = TidingsOptions::new()
        .set("mqtt.session_expiry_max_s", 1000)
        .start();
    each_door_of(&broker, V5, |door| {
        for (asked, told) in [
            (u32::MAX, Some(1000)),
            (1001, Some(1000)),
            (1000, None),
            (0, None),
        ] {
            let id = door.name(&format!("asked {asked}"));
            let client = door.with(&id, |connect| {
                connect.properties.session_expiry_s = Some(asked);
            });
            assert_eq!(client.connack().properties.session_expiry_s, told);
        }
    });
}

#[test]
fn mqtt_3_2_2_9_a_maximum_qos_is_told_granted_and_held() {
    let broker = TidingsOptions::new().set("mqtt.max_qos", 1).start();
    each_door_of(&broker, V5, |door| {
        let topic = door.topic("t");
        let mut client = door.clean("client");
        assert_eq!(client.connack().properties.maximum_qos, Some(AtLeastOnce));
        // [MQTT-3.2.2-10]: a subscription at a higher QoS is accepted, and granted what there is.
        let granted = client.subscribe(&topic, ExactlyOnce);
        assert_eq!(granted, ReasonCode::GrantedQoS1);
        door.clean("sender").publish(&topic, "1", AtLeastOnce);
        expect_text(&mut client, "1");
        client.send(&Packet::Publish(Publish {
            qos: ExactlyOnce,
            packet_id: Some(7),
            ..message(&topic, b"2")
        }));
        client.expect_refusal(ReasonCode::QoSNotSupported);
    });
}

#[test]
fn mqtt_3_2_2_12_a_will_above_the_maximum_qos_is_refused() {
    let broker = TidingsOptions::new().set("mqtt.max_qos", 0).start();
    each_door_of(&broker, V5, |door| {
        let (id, topic) = (door.name("client"), door.topic("will"));
        let mut connect = clean(door.version, &id);
        connect.will = Some(Will {
            qos: AtLeastOnce,
            ..will(&topic, b"gone")
        });
        let mut client = door.open();
        client.send(&Packet::Connect(connect));
        assert_eq!(client.expect_connack().reason, ReasonCode::QoSNotSupported);
        client.expect_closed();
    });
}

#[test]
fn a_receive_maximum_of_one_lets_one_publish_be_open() {
    let broker = TidingsOptions::new().set("mqtt.receive_maximum", 1).start();
    each_door_of(&broker, V5, |door| {
        let topic = door.topic("t");
        let mut client = door.clean("client");
        assert_eq!(client.connack().properties.receive_maximum, Some(1));
        for number in 0..5 {
            client.publish(&topic, format!("{number}"), AtLeastOnce);
            client.publish(
                &topic,
                format!("{number}"),
                tidings_core::message::QoS::ExactlyOnce,
            );
        }
    });
}

#[test]
fn subscriptions_above_the_quota_are_refused_with_their_code() {
    let broker = TidingsOptions::new()
        .set("mqtt.max_subscriptions_per_session", 2)
        .start();
    each_door_of(&broker, BOTH, |door| {
        let mut client = door.clean("client");
        let filters = ["a", "b", "c"].map(|rest| filter(&door.topic(rest), AtMostOnce));
        let refused = if door.is_v5() {
            ReasonCode::QuotaExceeded
        } else {
            ReasonCode::UnspecifiedError
        };
        let suback = client.subscribe_with(None, filters.to_vec());
        assert_eq!(
            suback.reasons,
            [ReasonCode::Success, ReasonCode::Success, refused]
        );
        // One that is there already can be replaced.
        assert_eq!(
            client.subscribe(&door.topic("b"), AtLeastOnce),
            ReasonCode::GrantedQoS1
        );
        client.unsubscribe(&door.topic("a"));
        assert_eq!(
            client.subscribe(&door.topic("c"), AtMostOnce),
            ReasonCode::Success
        );
    });
}

#[test]
fn topic_aliases_can_be_turned_off() {
    let broker = TidingsOptions::new()
        .set("mqtt.topic_alias_maximum", 0)
        .start();
    each_door_of(&broker, V5, |door| {
        let mut client = door.clean("client");
        assert_eq!(client.connack().properties.topic_alias_maximum, None);
        let mut aliased = crate::door::message("t", b"");
        aliased.properties.topic_alias = Some(1);
        client.send(&Packet::Publish(aliased));
        client.expect_refusal(ReasonCode::TopicAliasInvalid);
    });
}

#[test]
fn connections_above_the_limit_are_refused_with_their_code() {
    let broker = TidingsOptions::new()
        .set("limits.max_connections", 2)
        .start();
    let connect = |version, id: &str| {
        RawClient::try_connect(broker.tcp(), &clean(version, id), tidings_tests::DEADLINE)
            .expect("CONNACK")
    };
    let (_one, _) = connect(Version::V5, "one");
    let (two, _) = connect(Version::V311, "two");
    for (version, reason) in [
        (Version::V5, ReasonCode::QuotaExceeded),
        (Version::V311, ReasonCode::ServerUnavailable),
    ] {
        let (mut refused, connack) = connect(version, "three");
        assert_eq!(connack.reason, reason);
        refused.expect_closed();
    }
    two.disconnect();
    let until = std::time::Instant::now() + tidings_tests::DEADLINE;
    while connect(Version::V5, "three").1.reason != ReasonCode::Success {
        assert!(std::time::Instant::now() < until, "no place becomes free");
    }
}

#[test]
fn mqtt_4_13_2_1_a_broker_that_stops_says_so_and_closes() {
    let mut broker = TidingsProcess::start();
    let mut clients = Vec::new();
    for (number, version) in [Version::V31, Version::V311, Version::V5]
        .into_iter()
        .enumerate()
    {
        for endpoint in broker.endpoints() {
            let id = format!("client-{number}-{}", clients.len());
            clients.push(RawClient::connect(endpoint, &persistent(version, &id)));
        }
    }
    broker.signal("TERM");
    for client in &mut clients {
        client.expect_refusal(ReasonCode::ServerShuttingDown);
    }
    assert!(broker.wait_for_the_end().success());
}
