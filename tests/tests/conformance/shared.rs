//! Shared subscriptions (§4.8.2), which clients of MQTT 3.1.1 may use too.

use std::collections::BTreeMap;

use tidings_core::codec::{Ack, Packet, ReasonCode, RetainHandling};
use tidings_core::message::QoS::{AtLeastOnce, AtMostOnce, ExactlyOnce};
use tidings_tests::RawClient;

use crate::door::{
    BOTH, V5, each_door, expect_nothing_but_a_new_message, expect_text, filter, retain,
};

/// Which of the clients got the only message that is on its way, and the message.
fn who_got_it(clients: &mut [RawClient]) -> (usize, tidings_tests::Delivery) {
    let until = std::time::Instant::now() + tidings_tests::DEADLINE;
    while std::time::Instant::now() < until {
        for (index, client) in clients.iter_mut().enumerate() {
            let soon = std::time::Instant::now() + std::time::Duration::from_millis(5);
            if let Ok(frame) = client.try_next_until(soon) {
                let delivery = frame.delivery().unwrap_or_else(|| panic!("{frame:?}"));
                return (index, delivery);
            }
        }
    }
    panic!("nobody got the message");
}

#[test]
fn each_message_goes_to_one_member_of_a_group() {
    each_door(BOTH, |door| {
        let topic = door.topic("t");
        let shared = format!("$share/group/{topic}");
        let mut members = ["a", "b", "c"].map(|who| door.clean(who));
        for member in &mut members {
            assert_eq!(
                member.subscribe(&shared, AtLeastOnce),
                ReasonCode::GrantedQoS1
            );
        }
        let mut sender = door.clean("sender");
        let mut counts = BTreeMap::new();
        for number in 0..12 {
            sender.publish(&topic, format!("{number}"), AtLeastOnce);
            let (member, delivery) = who_got_it(&mut members);
            assert_eq!(
                (delivery.text(), &delivery.topic),
                (number.to_string(), &topic)
            );
            members[member].acknowledge(&delivery);
            *counts.entry(member).or_insert(0) += 1;
        }
        for member in &mut members {
            member.expect_silence();
        }
        assert_eq!(counts.len(), 3, "everybody had something to do: {counts:?}");
    });
}

#[test]
fn groups_and_plain_subscriptions_get_a_message_each() {
    each_door(BOTH, |door| {
        let topic = door.topic("t");
        let mut clients = ["one", "other", "plain"].map(|who| door.clean(who));
        clients[0].subscribe(&format!("$share/one/{topic}"), AtLeastOnce);
        clients[1].subscribe(&format!("$share/other/{}", door.topic("#")), AtLeastOnce);
        clients[2].subscribe(&topic, AtLeastOnce);
        let mut sender = door.clean("sender");
        for _ in 0..3 {
            sender.publish(&topic, "for each", AtLeastOnce);
            for client in &mut clients {
                expect_text(client, "for each");
            }
        }
        // A plain subscription of a member is another one.
        clients[0].subscribe(&topic, AtLeastOnce);
        sender.publish(&topic, "twice", AtLeastOnce);
        expect_text(&mut clients[0], "twice");
        expect_text(&mut clients[0], "twice");
        clients[0].expect_silence();
    });
}

#[test]
fn mqtt_4_8_2_1_a_malformed_share_name_closes_the_connection() {
    each_door(BOTH, |door| {
        for filter in [
            &b"$share/"[..],
            b"$share//t",
            b"$share/g",
            b"$share/g/",
            b"$share/+/t",
            b"$share/g#/t",
            b"$share/g/t#",
        ] {
            let mut client = door.clean("client");
            client.send_bytes(&door.subscribe_bytes(0x82, filter, 0));
            client.expect_refusal(ReasonCode::TopicFilterInvalid);
        }
    });
}

#[test]
fn mqtt_4_8_2_3_each_member_gets_its_granted_qos() {
    each_door(BOTH, |door| {
        let topic = door.topic("t");
        let shared = format!("$share/group/{topic}");
        let granted = [AtMostOnce, AtLeastOnce, ExactlyOnce];
        let mut members = ["a", "b", "c"].map(|who| door.clean(who));
        for (member, qos) in members.iter_mut().zip(granted) {
            member.subscribe(&shared, qos);
        }
        let mut sender = door.clean("sender");
        for _ in 0..9 {
            sender.publish(&topic, "hello", ExactlyOnce);
            let (member, delivery) = who_got_it(&mut members);
            assert_eq!(delivery.qos, granted[member]);
            members[member].acknowledge(&delivery);
            members[member].settle();
        }
    });
}

#[test]
fn mqtt_4_8_2_4_a_qos_2_delivery_is_completed_with_the_member_that_has_begun() {
    each_door(BOTH, |door| {
        let topic = door.topic("t");
        let shared = format!("$share/group/{topic}");
        let mut chosen = door.persistent("chosen");
        chosen.subscribe(&shared, ExactlyOnce);
        door.clean("sender").publish(&topic, "begun", ExactlyOnce);
        let original = chosen.expect_publish();
        let mut other = door.clean("other");
        other.subscribe(&shared, ExactlyOnce);
        chosen.abandon();
        other.expect_silence();
        let mut chosen = door.persistent("chosen");
        let again = expect_text(&mut chosen, "begun");
        assert_eq!((again.packet_id, again.dup), (original.packet_id, true));
        chosen.settle();
        other.expect_silence();
    });
}

#[test]
fn mqtt_4_8_2_5_a_qos_2_delivery_ends_with_the_session_of_its_member() {
    each_door(BOTH, |door| {
        let (topic, direct) = (door.topic("t"), door.topic("direct"));
        let shared = format!("$share/group/{topic}");
        let mut sender = door.clean("sender");
        let mut chosen = door.clean("chosen");
        chosen.subscribe(&shared, ExactlyOnce);
        sender.publish(&topic, "begun", ExactlyOnce);
        chosen.expect_publish();
        let mut other = door.clean("other");
        other.subscribe(&shared, ExactlyOnce);
        other.subscribe(&direct, AtLeastOnce);
        chosen.abandon();
        expect_nothing_but_a_new_message(&mut other, &mut sender, &direct);
    });
}

#[test]
fn a_qos_1_message_that_a_member_did_not_acknowledge_goes_to_another() {
    each_door(BOTH, |door| {
        let topic = door.topic("t");
        let shared = format!("$share/group/{topic}");
        let mut leaves = door.clean("leaves");
        leaves.subscribe(&shared, AtLeastOnce);
        let mut sender = door.clean("sender");
        sender.publish(&topic, "1", AtLeastOnce);
        sender.publish(&topic, "2", AtLeastOnce);
        leaves.expect_publish();
        leaves.expect_publish();
        let mut stays = door.clean("stays");
        stays.subscribe(&shared, AtLeastOnce);
        leaves.abandon();
        expect_text(&mut stays, "1");
        expect_text(&mut stays, "2");
        stays.expect_silence();
    });
}

#[test]
fn mqtt_4_8_2_6_a_message_that_a_member_refused_goes_to_nobody_else() {
    each_door(V5, |door| {
        let topic = door.topic("t");
        let shared = format!("$share/group/{topic}");
        let mut members = ["a", "b"].map(|who| door.clean(who));
        for member in &mut members {
            member.subscribe(&shared, ExactlyOnce);
        }
        let mut sender = door.clean("sender");
        for qos in [AtLeastOnce, ExactlyOnce] {
            sender.publish(&topic, "unwanted", qos);
            let (member, delivery) = who_got_it(&mut members);
            let packet_id = delivery.packet_id.expect("QoS 1 or 2");
            let ack = Ack::new(packet_id, ReasonCode::UnspecifiedError);
            members[member].send(&if qos == AtLeastOnce {
                Packet::PubAck(ack)
            } else {
                Packet::PubRec(ack)
            });
            // The next message is the next that anybody gets.
            sender.publish(&topic, "wanted", qos);
            let (member, delivery) = who_got_it(&mut members);
            assert_eq!(delivery.text(), "wanted");
            members[member].acknowledge(&delivery);
            members.iter_mut().for_each(RawClient::settle);
        }
    });
}

#[test]
fn a_shared_subscription_gets_no_retained_messages() {
    each_door(BOTH, |door| {
        let topic = door.topic("t");
        let mut sender = door.clean("sender");
        retain(&mut sender, &topic, "stored", AtLeastOnce);
        let mut member = door.clean("member");
        let mut options = filter(&format!("$share/group/{topic}"), AtLeastOnce);
        options.retain_handling = RetainHandling::SendAtSubscribe;
        member.subscribe_with(None, vec![options]);
        expect_nothing_but_a_new_message(&mut member, &mut sender, &topic);
    });
}

#[test]
fn a_group_ends_with_its_last_unsubscribe() {
    each_door(BOTH, |door| {
        let (topic, direct) = (door.topic("t"), door.topic("direct"));
        let shared = format!("$share/group/{topic}");
        let mut sender = door.clean("sender");
        for mut member in [door.clean("clean"), door.persistent("persistent")] {
            member.subscribe(&shared, AtLeastOnce);
            member.subscribe(&direct, AtLeastOnce);
            sender.publish(&topic, "hello", AtLeastOnce);
            expect_text(&mut member, "hello");
            // The topic without the group is another filter.
            member.unsubscribe(&topic);
            sender.publish(&topic, "still there", AtLeastOnce);
            expect_text(&mut member, "still there");
            member.unsubscribe(&shared);
            sender.publish(&topic, "too late", AtLeastOnce);
            expect_nothing_but_a_new_message(&mut member, &mut sender, &direct);
        }
    });
}

#[test]
fn subscription_identifiers_and_qos_0_work_in_groups() {
    each_door(V5, |door| {
        let topic = door.topic("t");
        let mut sender = door.clean("sender");
        let mut member = door.clean("member");
        member.subscribe_with(
            Some(5),
            vec![filter(&format!("$share/group/{topic}"), AtLeastOnce)],
        );
        for qos in [AtMostOnce, AtLeastOnce, ExactlyOnce] {
            sender.publish(&topic, "hello", qos);
            let delivery = expect_text(&mut member, "hello");
            assert_eq!(
                (delivery.subscription_ids.as_slice(), delivery.qos),
                (&[5][..], qos.min(AtLeastOnce))
            );
        }
    });
}
