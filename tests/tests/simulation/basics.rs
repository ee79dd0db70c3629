//! Publish and subscribe in both versions, with any number of shards.

use tidings_core::codec::{Packet, ReasonCode, Version};
use tidings_core::message::QoS;
use tidings_tests::simulation::{Filter, House, Login, Post, Said, Setup};

#[test]
fn a_message_reaches_its_subscriber_at_every_qos_in_every_version() {
    for shards in [1, 4] {
        for version in [Version::V31, Version::V311, Version::V5] {
            let mut house = House::new(Setup::shards(shards));
            let login = |name: &str| Login {
                version,
                ..Login::v5(name)
            };
            let alice = house.connect(login("alice"));
            let bob = house.connect(login("bob"));
            house.subscribe(alice, &[Filter::qos2("a/+")]);
            house.publish(bob, Post::new("a/b", "zero"));
            house.publish(bob, Post::qos1("a/b", "one"));
            house.publish(bob, Post::qos2("a/b", "two"));
            house.publish(bob, Post::qos2("b/b", "other"));
            let arrivals = house.take_arrivals(alice);
            let found: Vec<_> = arrivals
                .iter()
                .map(|d| (d.payload.as_str(), d.qos))
                .collect();
            let expected = [
                ("zero", QoS::AtMostOnce),
                ("one", QoS::AtLeastOnce),
                ("two", QoS::ExactlyOnce),
            ];
            assert_eq!(found, expected);
            assert_eq!(house.client(bob).acknowledged, ["one", "two", "other"]);
            assert!(
                house.client(bob).sent.is_empty(),
                "every exchange is finished"
            );
        }
    }
}

#[test]
fn a_delivery_has_at_most_the_qos_of_its_subscription() {
    let mut house = House::new(Setup::shards(4));
    let bob = house.connect(Login::v5("bob"));
    let qos = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];
    let readers: Vec<_> = qos
        .iter()
        .map(|qos| {
            let reader = house.connect(Login::v5(&format!("reader-{qos:?}")).persistent());
            house.subscribe(reader, &[Filter::new("t", *qos)]);
            reader
        })
        .collect();
    house.publish(bob, Post::qos1("t", "m"));
    let arrived: Vec<QoS> = readers
        .iter()
        .flat_map(|r| house.take_arrivals(*r))
        .map(|d| d.qos)
        .collect();
    assert_eq!(
        arrived,
        [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::AtLeastOnce]
    );
}

#[test]
fn a_ping_is_answered() {
    let mut house = House::new(Setup::default());
    let alice = house.connect(Login::v5("alice"));
    house.take_said(alice);
    house.tell(alice, |c| c.send(&Packet::PingReq));
    assert_eq!(house.take_said(alice), [Said::PingResp]);
}

#[test]
fn suback_has_a_reason_for_each_filter() {
    let mut house = House::new(Setup::default());
    let alice = house.connect(Login::v5("alice"));
    let reasons = house.subscribe(
        alice,
        &[
            Filter::qos0("a"),
            Filter::qos1("b"),
            Filter::qos2("c"),
            Filter::qos0("secret/other"),
        ],
    );
    let expected = [
        ReasonCode::Success,
        ReasonCode::GrantedQoS1,
        ReasonCode::GrantedQoS2,
        ReasonCode::NotAuthorized,
    ];
    assert_eq!(reasons, expected);
}

#[test]
fn after_unsubscribe_nothing_more_arrives() {
    for login in [Login::v5("alice"), Login::v5("alice").persistent()] {
        for shards in [1, 4] {
            let mut house = House::new(Setup::shards(shards));
            let alice = house.connect(login.clone());
            let bob = house.connect(Login::v5("bob"));
            house.subscribe(alice, &[Filter::qos1("a"), Filter::qos1("b")]);
            house.tell(alice, |c| c.unsubscribe(&["a", "never"]));
            let unsuback = house.client(alice).said.last().cloned();
            let Some(Said::UnsubAck(ack)) = unsuback else {
                panic!("{unsuback:?}")
            };
            assert_eq!(
                ack.reasons,
                [ReasonCode::Success, ReasonCode::NoSubscriptionExisted]
            );
            house.publish(bob, Post::qos1("a", "1"));
            house.publish(bob, Post::qos1("b", "2"));
            assert_eq!(house.take_payloads(alice), ["2"]);
        }
    }
}

#[test]
fn overlapping_subscriptions_give_one_delivery_with_all_identifiers() {
    let mut house = House::new(Setup::shards(4));
    let alice = house.connect(Login::v5("alice"));
    let bob = house.connect(Login::v5("bob"));
    house.subscribe_with_id(alice, &[Filter::qos0("a/#")], Some(7));
    house.subscribe_with_id(alice, &[Filter::qos2("a/+")], Some(9));
    house.publish(bob, Post::qos2("a/b", "m"));
    let arrivals = house.take_arrivals(alice);
    let [delivery] = arrivals.as_slice() else {
        panic!("{arrivals:?}")
    };
    assert_eq!(delivery.qos, QoS::ExactlyOnce);
    let mut ids = delivery.subscription_ids.clone();
    ids.sort_unstable();
    assert_eq!(ids, [7, 9]);
}

#[test]
fn no_local_keeps_a_clients_own_messages_away() {
    for login in [Login::v5("alice"), Login::v5("alice").persistent()] {
        let mut house = House::new(Setup::default());
        let alice = house.connect(login);
        let bob = house.connect(Login::v5("bob"));
        house.subscribe(alice, &[Filter::qos1("a").no_local()]);
        house.subscribe(bob, &[Filter::qos1("a")]);
        house.publish(alice, Post::qos1("a", "mine"));
        house.publish(bob, Post::qos1("a", "his"));
        assert_eq!(house.take_payloads(alice), ["his"]);
        assert_eq!(house.take_payloads(bob), ["mine", "his"]);
    }
}

#[test]
fn retain_as_published_decides_whether_the_flag_travels() {
    let mut house = House::new(Setup::shards(4));
    let plain = house.connect(Login::v5("plain"));
    let as_published = house.connect(Login::v5("as published"));
    let bob = house.connect(Login::v5("bob"));
    house.subscribe(plain, &[Filter::qos1("a")]);
    house.subscribe(as_published, &[Filter::qos1("a").retain_as_published()]);
    house.publish(bob, Post::qos1("a", "m").retain());
    assert!(!house.take_arrivals(plain)[0].retain);
    assert!(house.take_arrivals(as_published)[0].retain);
}

#[test]
fn a_publish_that_nobody_gets_says_so() {
    for shards in [1, 4] {
        let mut house = House::new(Setup::shards(shards));
        let bob = house.connect(Login::v5("bob"));
        house.take_said(bob);
        house.publish(bob, Post::qos1("a", "m"));
        let said = house.take_said(bob);
        let [Said::PubAck(ack)] = said.as_slice() else {
            panic!("{said:?}")
        };
        assert_eq!(ack.reason, ReasonCode::NoMatchingSubscribers);
    }
}

#[test]
fn a_publish_that_is_not_allowed_is_refused_and_an_mqtt_3_client_is_closed() {
    let mut house = House::new(Setup::default());
    let alice = house.connect(Login::v5("alice"));
    let bob = house.connect(Login::v5("bob"));
    let old = house.connect(Login::v3("old"));
    house.subscribe(alice, &[Filter::qos2("closed/#")]);
    house.publish(bob, Post::new("closed/a", "0"));
    house.publish(bob, Post::qos1("closed/a", "1"));
    house.publish(bob, Post::qos2("closed/a", "2"));
    assert_eq!(house.client(bob).refused, ["1", "2"]);
    house.publish(old, Post::qos1("closed/a", "3"));
    assert_eq!(house.client(old).said.last(), Some(&Said::Closed));
    assert!(house.client(old).acknowledged.is_empty());
    assert!(house.take_payloads(alice).is_empty());
}

#[test]
fn kept_messages_carry_their_number_and_the_puback_too() {
    let mut house = House::new(Setup::shards(4));
    let alice = house.connect(Login::v5("alice"));
    let bob = house.connect(Login::v5("bob").user("bob"));
    house.subscribe(alice, &[Filter::qos1("room/+/+")]);
    house.take_said(bob);
    house.publish(bob, Post::qos1("room/lobby/bob", "first"));
    house.publish(bob, Post::qos1("room/lobby/bob", "second"));
    let arrivals = house.take_arrivals(alice);
    assert_eq!(arrivals[1].user("seq"), Some("2"));
    assert_eq!(arrivals[1].user("id"), Some("room/lobby/2"));
    assert_eq!(arrivals[1].user("from"), Some("bob"));
    let said = house.take_said(bob);
    let Some(Said::PubAck(ack)) = said.last() else {
        panic!("{said:?}")
    };
    assert_eq!(ack.user[0], ("seq".to_owned(), "2".to_owned()));
}

#[test]
fn an_inbound_alias_stands_for_its_topic() {
    let mut house = House::new(Setup::default());
    let alice = house.connect(Login::v5("alice"));
    let bob = house.connect(Login::v5("bob"));
    house.subscribe(alice, &[Filter::qos1("#")]);
    house.publish(bob, Post::qos1("long/topic", "1").alias(3));
    house.publish(bob, Post::qos1("", "2").alias(3));
    house.publish(bob, Post::qos1("other", "3").alias(3));
    house.publish(bob, Post::new("", "4").alias(3));
    let topics: Vec<String> = house
        .take_arrivals(alice)
        .into_iter()
        .map(|d| format!("{} {}", d.topic, d.payload))
        .collect();
    assert_eq!(
        topics,
        ["long/topic 1", "long/topic 2", "other 3", "other 4"]
    );
}

#[test]
fn an_inbound_alias_that_was_never_explained_or_is_too_large_ends_the_connection() {
    for (alias, reason) in [
        (5, ReasonCode::ProtocolError),
        (11, ReasonCode::TopicAliasInvalid),
    ] {
        let mut house = House::new(Setup::default());
        let bob = house.connect(Login::v5("bob"));
        house.take_said(bob);
        house.publish(bob, Post::new("", "m").alias(alias));
        let said = house.take_said(bob);
        assert_eq!(said[0].disconnect_reason(), Some(reason));
        assert_eq!(said[1], Said::Closed);
    }
}

#[test]
fn outbound_aliases_are_used_as_far_as_the_client_allows() {
    let mut house = House::new(Setup::default());
    let login = Login {
        topic_alias_maximum: Some(2),
        ..Login::v5("alice")
    };
    let alice = house.connect(login);
    let bob = house.connect(Login::v5("bob"));
    house.subscribe(alice, &[Filter::qos1("#")]);
    for topic in ["a", "b", "c", "a", "b", "c"] {
        house.publish(bob, Post::qos1(topic, topic));
    }
    let arrivals = house.take_arrivals(alice);
    let aliases: Vec<_> = arrivals.iter().map(|d| d.alias).collect();
    let expected = [
        Some((1, true)),
        Some((2, true)),
        None,
        Some((1, false)),
        Some((2, false)),
        None,
    ];
    assert_eq!(aliases, expected);
    assert!(arrivals.iter().all(|d| d.topic == d.payload));
}

#[test]
fn system_values_reach_present_and_later_subscribers_but_not_a_hash() {
    let mut house = House::new(Setup::shards(4));
    let everything = house.connect(Login::v5("everything"));
    let before = house.connect(Login::v5("before"));
    house.subscribe(everything, &[Filter::qos0("#")]);
    house.subscribe(before, &[Filter::qos0("$SYS/#")]);
    house.system("$SYS/broker/clients", "2");
    house.system("$SYS/broker/clients", "3");
    let later = house.connect(Login::v3("later"));
    house.subscribe(later, &[Filter::qos0("$SYS/broker/+")]);
    assert_eq!(house.take_payloads(before), ["2", "3"]);
    let arrivals = house.take_arrivals(later);
    assert_eq!(arrivals[0].payload, "3");
    assert!(arrivals[0].retain);
    assert!(house.take_payloads(everything).is_empty());
}

#[test]
fn a_second_connect_and_packets_of_a_server_are_protocol_errors() {
    let mut house = House::new(Setup::default());
    let second = Login::v5("bob").encode();
    let bob = house.connect(Login::v5("bob"));
    house.take_said(bob);
    let line = house.client(bob).line.expect("connected");
    house.lines[line].up.extend(second);
    house.settle();
    assert_eq!(
        house.take_said(bob)[0].disconnect_reason(),
        Some(ReasonCode::ProtocolError)
    );
    let carol = house.connect(Login::v5("carol"));
    house.take_said(carol);
    house.tell(carol, |c| c.send(&Packet::PingResp));
    assert_eq!(
        house.take_said(carol)[0].disconnect_reason(),
        Some(ReasonCode::ProtocolError)
    );
}

#[test]
fn nonsense_ends_the_connection_with_malformed_packet() {
    let mut house = House::new(Setup::default());
    let bob = house.connect(Login::v5("bob"));
    house.take_said(bob);
    let line = house.client(bob).line.expect("connected");
    house.lines[line].up.extend([0x00, 0x00]);
    house.settle();
    let said = house.take_said(bob);
    assert_eq!(
        said[0].disconnect_reason(),
        Some(ReasonCode::MalformedPacket)
    );
    assert_eq!(said[1], Said::Closed);
}
