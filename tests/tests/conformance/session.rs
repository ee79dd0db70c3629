//! Session State (§3.1.2.4, §3.1.2.11.2, §4.1), and what a client finds when it comes back (§4.4).

use std::time::{Duration, Instant};

use tidings_core::codec::{Ack, Disconnect, Packet, ReasonCode};
use tidings_core::message::QoS::{AtLeastOnce, AtMostOnce, ExactlyOnce};
use tidings_tests::{RawClient, persistent};

use crate::door::{
    BOTH, Door, V5, each_door, expect_nothing_but_a_new_message, expect_text, filter, retain,
};

fn disconnect_with_expiry(mut client: RawClient, expiry_s: u32) {
    let mut disconnect = Disconnect::new(ReasonCode::Success);
    disconnect.session_expiry_s = Some(expiry_s);
    client.send(&Packet::Disconnect(disconnect));
    client.expect_closed();
}

/// Waits for the answer to nothing: the client stays connected and silent for this long.
fn wait(door: &Door, time: Duration) {
    let mut bystander = door.clean("bystander");
    assert!(bystander.try_next_until(Instant::now() + time).is_err());
}

#[test]
fn mqtt_3_1_2_4_a_clean_start_discards_the_session() {
    each_door(BOTH, |door| {
        let (topic, other) = (door.topic("t"), door.topic("other"));
        let mut sender = door.clean("sender");
        let mut client = door.persistent("client");
        client.subscribe(&topic, ExactlyOnce);
        sender.publish(&topic, "begun", ExactlyOnce);
        client.expect_publish();
        client.disconnect();
        sender.publish(&topic, "kept", ExactlyOnce);
        let mut client = door.clean("client");
        assert!(!client.session_present());
        client.subscribe(&other, AtLeastOnce);
        sender.publish(&topic, "not subscribed any more", ExactlyOnce);
        expect_nothing_but_a_new_message(&mut client, &mut sender, &other);
    });
}

#[test]
fn mqtt_3_1_2_5_a_session_is_resumed_with_its_subscriptions() {
    each_door(BOTH, |door| {
        let topic = door.topic("t");
        let mut client = door.persistent("client");
        client.subscribe(&topic, AtLeastOnce);
        client.disconnect();
        let mut client = door.persistent("client");
        assert!(client.session_present());
        let mut sender = door.clean("sender");
        for qos in [AtMostOnce, AtLeastOnce, ExactlyOnce] {
            sender.publish(&topic, "hello", qos);
            expect_text(&mut client, "hello");
        }
    });
}

#[test]
fn mqtt_3_1_2_5_a_session_is_resumed_over_the_other_transport() {
    each_door(BOTH, |door| {
        let (id, topic) = (door.name("client"), door.topic("t"));
        let mut client = door.persistent("client");
        client.subscribe(&topic, ExactlyOnce);
        client.abandon();
        let mut sender = door.clean("sender");
        sender.publish(&topic, "while away", ExactlyOnce);
        let connect = persistent(door.version, &id);
        let mut client = RawClient::connect(door.other_endpoint(), &connect);
        assert!(client.session_present());
        expect_text(&mut client, "while away");
        client.settle();
    });
}

#[test]
fn mqtt_3_1_2_6_without_a_session_a_new_one_is_made() {
    each_door(BOTH, |door| {
        let topic = door.topic("t");
        let mut client = door.persistent("client");
        assert!(!client.session_present());
        client.subscribe(&topic, AtLeastOnce);
        client.abandon();
        assert!(door.persistent("client").session_present());
    });
}

#[test]
fn mqtt_3_1_2_23_a_session_without_expiry_interval_ends_with_its_connection() {
    each_door(BOTH, |door| {
        let (topic, other) = (door.topic("t"), door.topic("other"));
        let mut sender = door.clean("sender");
        // Session State of a clean session is not used again, whatever comes next.
        let mut client = door.clean("client");
        client.subscribe(&topic, AtLeastOnce);
        client.disconnect();
        sender.publish(&topic, "for nobody", AtLeastOnce);
        let mut client = door.persistent("client");
        assert!(!client.session_present());
        client.subscribe(&other, AtLeastOnce);
        expect_nothing_but_a_new_message(&mut client, &mut sender, &other);
    });
}

#[test]
fn mqtt_4_1_0_2_a_session_is_gone_when_its_expiry_interval_has_passed() {
    each_door(V5, |door| {
        let (id, topic) = (door.name("client"), door.topic("t"));
        let mut client = door.persistent_with(&id, |connect| {
            connect.properties.session_expiry_s = Some(1);
        });
        client.subscribe(&topic, AtLeastOnce);
        client.disconnect();
        let client = door.persistent_with(&id, |connect| {
            connect.properties.session_expiry_s = Some(1);
        });
        assert!(client.session_present(), "it had time until now");
        client.disconnect();
        wait(door, Duration::from_millis(1050));
        assert!(!door.persistent("client").session_present());
    });
}

#[test]
fn mqtt_3_1_2_23_an_expiry_interval_of_zero_at_a_resumption_ends_the_session_later() {
    each_door(V5, |door| {
        let id = door.name("client");
        door.persistent("client").disconnect();
        let client = door.persistent_with(&id, |connect| {
            connect.properties.session_expiry_s = None;
        });
        assert!(client.session_present());
        client.disconnect();
        assert!(!door.persistent("client").session_present());
    });
}

#[test]
fn disconnect_can_end_the_session() {
    each_door(V5, |door| {
        disconnect_with_expiry(door.persistent("client"), 0);
        assert!(!door.persistent("client").session_present());
    });
}

#[test]
fn disconnect_can_change_the_expiry_interval() {
    each_door(V5, |door| {
        let id = door.name("client");
        let longer = door.name("longer");
        disconnect_with_expiry(door.persistent("client"), 1);
        let client = door.persistent_with(&longer, |connect| {
            connect.properties.session_expiry_s = Some(1);
        });
        disconnect_with_expiry(client, 100);
        wait(door, Duration::from_millis(1050));
        assert!(
            !RawClient::connect(door.endpoint, &persistent(door.version, &id)).session_present()
        );
        assert!(door.persistent("longer").session_present());
    });
}

#[test]
fn a_session_that_ends_with_its_connection_cannot_be_prolonged_at_disconnect() {
    each_door(V5, |door| {
        let mut client = door.clean("client");
        let mut disconnect = Disconnect::new(ReasonCode::Success);
        disconnect.session_expiry_s = Some(10);
        client.send(&Packet::Disconnect(disconnect));
        client.expect_refusal(ReasonCode::ProtocolError);
    });
}

#[test]
fn mqtt_4_5_0_1_messages_for_an_offline_session_are_kept_in_order() {
    each_door(BOTH, |door| {
        let topic = door.topic("t");
        let mut client = door.persistent("client");
        client.subscribe(&topic, ExactlyOnce);
        client.disconnect();
        let mut sender = door.clean("sender");
        for number in 0..50 {
            let qos = if number % 2 == 0 {
                AtLeastOnce
            } else {
                ExactlyOnce
            };
            sender.publish(&topic, format!("{number}"), qos);
        }
        let mut client = door.persistent("client");
        for number in 0..50 {
            let delivery = client.receive();
            assert_eq!(delivery.text(), number.to_string());
            assert!(!delivery.dup, "it is sent for the first time");
        }
        client.settle();
        client.disconnect();
        // Nothing of it is kept any longer.
        let mut client = door.persistent("client");
        expect_nothing_but_a_new_message(&mut client, &mut sender, &topic);
    });
}

#[test]
fn mqtt_4_5_0_1_a_new_subscription_of_an_old_session_gets_nothing_older() {
    each_door(BOTH, |door| {
        let (old, new) = (door.topic("old"), door.topic("new"));
        let mut keeper = door.persistent("keeper");
        keeper.subscribe(&new, AtLeastOnce);
        let mut client = door.persistent("client");
        client.subscribe(&old, AtLeastOnce);
        let mut sender = door.clean("sender");
        sender.publish(&new, "before", AtLeastOnce);
        client.subscribe(&new, AtLeastOnce);
        client.disconnect();
        let mut client = door.persistent("client");
        expect_nothing_but_a_new_message(&mut client, &mut sender, &new);
    });
}

#[test]
fn mqtt_3_3_1_1_qos_1_is_sent_again_with_dup_after_a_reconnect() {
    each_door(BOTH, |door| {
        let topic = door.topic("t");
        let mut sender = door.clean("sender");
        let mut client = door.persistent("client");
        client.subscribe(&topic, AtLeastOnce);
        sender.publish(&topic, "a", AtLeastOnce);
        sender.publish(&topic, "b", AtLeastOnce);
        let first = [client.expect_publish(), client.expect_publish()];
        assert!(first.iter().all(|delivery| !delivery.dup));
        client.abandon();
        // [MQTT-4.3.2-3], [MQTT-4.4.0-1], [MQTT-4.6.0-1]: the same identifiers, in order.
        let mut client = door.persistent("client");
        for original in &first {
            let again = client.receive();
            assert!(again.dup);
            assert_eq!(again.packet_id, original.packet_id);
            assert_eq!(again.text(), original.text());
        }
        client.disconnect();
        // Once acknowledged, never again.
        let mut client = door.persistent("client");
        expect_nothing_but_a_new_message(&mut client, &mut sender, &topic);
    });
}

#[test]
fn mqtt_4_4_0_1_only_what_was_not_acknowledged_is_sent_again() {
    each_door(BOTH, |door| {
        let topic = door.topic("t");
        let mut sender = door.clean("sender");
        let mut client = door.persistent("client");
        client.subscribe(&topic, AtLeastOnce);
        for text in ["a", "b", "c", "d"] {
            sender.publish(&topic, text, AtLeastOnce);
        }
        let deliveries = [(); 4].map(|()| client.expect_publish());
        // Out of order, and with a gap.
        client.acknowledge(&deliveries[3]);
        client.acknowledge(&deliveries[1]);
        client.expect_silence();
        client.abandon();
        sender.publish(&topic, "e", AtLeastOnce);
        let mut client = door.persistent("client");
        for original in [&deliveries[0], &deliveries[2]] {
            let again = client.receive();
            assert_eq!((again.packet_id, again.dup), (original.packet_id, true));
        }
        assert!(!expect_text(&mut client, "e").dup);
        expect_nothing_but_a_new_message(&mut client, &mut sender, &topic);
    });
}

#[test]
fn mqtt_4_3_3_3_a_qos_2_publish_without_pubrec_is_sent_again() {
    each_door(BOTH, |door| {
        let topic = door.topic("t");
        let mut sender = door.clean("sender");
        let mut client = door.persistent("client");
        client.subscribe(&topic, ExactlyOnce);
        sender.publish(&topic, "twice on the way", ExactlyOnce);
        let original = client.expect_publish();
        client.abandon();
        let mut client = door.persistent("client");
        let again = expect_text(&mut client, "twice on the way");
        assert_eq!((again.packet_id, again.dup), (original.packet_id, true));
        client.settle();
        client.disconnect();
        let mut client = door.persistent("client");
        expect_nothing_but_a_new_message(&mut client, &mut sender, &topic);
    });
}

#[test]
fn mqtt_4_3_3_6_after_pubrel_only_pubrel_is_sent_again() {
    each_door(BOTH, |door| {
        let topic = door.topic("t");
        let mut sender = door.clean("sender");
        let mut client = door.persistent("client");
        client.subscribe(&topic, ExactlyOnce);
        sender.publish(&topic, "received", ExactlyOnce);
        sender.publish(&topic, "not received", ExactlyOnce);
        let received = client.expect_publish();
        let other = client.expect_publish();
        client.acknowledge(&received);
        let packet_id = received.packet_id.expect("QoS 2");
        client.expect_pubrel(packet_id);
        client.abandon();
        // [MQTT-4.3.3-5], twice.
        for _ in 0..2 {
            let mut client = door.persistent("client");
            client.expect_pubrel(packet_id);
            let again = client.expect_publish();
            assert_eq!((again.packet_id, again.dup), (other.packet_id, true));
            client.expect_silence();
            client.abandon();
        }
        let mut client = door.persistent("client");
        client.expect_pubrel(packet_id);
        client.send(&Packet::PubComp(Ack::new(packet_id, ReasonCode::Success)));
        expect_text(&mut client, "not received");
        client.settle();
        client.disconnect();
        let mut client = door.persistent("client");
        expect_nothing_but_a_new_message(&mut client, &mut sender, &topic);
    });
}

#[test]
fn mqtt_4_3_3_6_a_pubrec_whose_pubrel_was_not_seen_is_not_answered_by_the_message() {
    each_door(BOTH, |door| {
        let topic = door.topic("t");
        let mut client = door.persistent("client");
        client.subscribe(&topic, ExactlyOnce);
        door.clean("sender")
            .publish(&topic, "received", ExactlyOnce);
        let received = client.expect_publish();
        client.acknowledge(&received);
        // The PUBREL is on its way; the connection ends before anyone reads it.
        client.abandon();
        let mut client = door.persistent("client");
        let packet_id = received.packet_id.expect("QoS 2");
        client.expect_pubrel(packet_id);
        client.send(&Packet::PubComp(Ack::new(packet_id, ReasonCode::Success)));
        client.expect_silence();
    });
}

#[test]
fn mqtt_4_4_0_2_what_was_refused_is_not_sent_again() {
    each_door(V5, |door| {
        let topic = door.topic("t");
        let mut sender = door.clean("sender");
        let mut client = door.persistent("client");
        client.subscribe(&topic, ExactlyOnce);
        sender.publish(&topic, "1", AtLeastOnce);
        sender.publish(&topic, "2", ExactlyOnce);
        let refuse = |delivery: &tidings_tests::Delivery| {
            Ack::new(
                delivery.packet_id.expect("QoS 1 or 2"),
                ReasonCode::QuotaExceeded,
            )
        };
        let one = client.expect_publish();
        client.send(&Packet::PubAck(refuse(&one)));
        let two = client.expect_publish();
        client.send(&Packet::PubRec(refuse(&two)));
        // No PUBREL follows.
        client.expect_silence();
        client.abandon();
        let mut client = door.persistent("client");
        expect_nothing_but_a_new_message(&mut client, &mut sender, &topic);
    });
}

#[test]
fn mqtt_311_3_1_2_7_retained_messages_do_not_end_with_a_session() {
    each_door(BOTH, |door| {
        let topic = door.topic("t");
        for mut client in [door.clean("clean"), door.persistent("persistent")] {
            retain(&mut client, &topic, "stays", AtLeastOnce);
            client.disconnect();
        }
        door.clean("persistent").disconnect();
        let mut reader = door.clean("reader");
        reader.subscribe(&topic, AtMostOnce);
        assert!(expect_text(&mut reader, "stays").retain);
    });
}

#[test]
fn mqtt_4_1_0_1_options_of_a_subscription_are_part_of_the_session() {
    each_door(V5, |door| {
        let topic = door.topic("t");
        let mut client = door.persistent("client");
        let mut options = filter(&topic, AtLeastOnce);
        (options.no_local, options.retain_as_published) = (true, true);
        client.subscribe_with(None, vec![options]);
        client.disconnect();
        let mut sender = door.clean("sender");
        retain(&mut sender, &topic, "while away", AtLeastOnce);
        let mut client = door.persistent("client");
        assert!(expect_text(&mut client, "while away").retain);
        client.publish(&topic, "own", AtLeastOnce);
        retain(&mut sender, &topic, "live", AtLeastOnce);
        assert!(expect_text(&mut client, "live").retain);
    });
}
