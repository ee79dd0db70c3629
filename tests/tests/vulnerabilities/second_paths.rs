//! A permission that is checked on one path and forgotten on another. The matrix of doors and people is
//! a test of its own; here are the ways around: an alias for a topic, a Will, a topic for the answer, a
//! prefix inside of a prefix, what is retained, and what was allowed when it began.

use tidings_core::codec::{Connect, Packet, Publish, PublishProperties, ReasonCode, Version, Will};
use tidings_core::message::QoS;
use tidings_tests::{DEADLINE, RawClient, TidingsOptions, TidingsProcess, clean, persistent};

fn publish<'a>(topic: &'a str, alias: Option<u16>, packet_id: u16) -> Packet<'a> {
    Packet::Publish(Publish {
        dup: false,
        qos: QoS::AtLeastOnce,
        retain: false,
        topic,
        packet_id: Some(packet_id),
        properties: PublishProperties {
            topic_alias: alias,
            ..PublishProperties::default()
        },
        payload: b"x",
    })
}

/// A mark that comes after everything that was said before it.
#[track_caller]
fn nothing_until_the_mark(broker: &TidingsProcess, receiver: &mut RawClient, topic: &str) {
    receiver.subscribe(topic, QoS::AtLeastOnce);
    let mut marker = RawClient::connect(broker.tcp(), &clean(Version::V5, "second-marker"));
    marker.publish(topic, "mark", QoS::AtLeastOnce);
    // That it is here is said of the receiver itself, when the broker finds the time.
    let own = |topic: &str| topic.ends_with("-victim/presence");
    let mut delivery = receiver.receive();
    while own(&delivery.topic) {
        delivery = receiver.receive();
    }
    assert_eq!(
        (delivery.topic.as_str(), delivery.text().as_str()),
        (topic, "mark")
    );
}

#[test]
fn an_alias_for_a_topic_is_judged_each_time() {
    let broker = TidingsProcess::shared();
    let mut client = RawClient::connect(broker.tcp(), &clean(Version::V5, "alias"));
    // The topic is refused, and the alias stands for it all the same: so it is refused again.
    for (number, topic) in [(1, "dm/alias/victim"), (2, ""), (3, "")] {
        client.send(&publish(topic, Some(1), number));
        assert_eq!(
            client.expect_puback(number).reason,
            ReasonCode::NotAuthorized
        );
    }
    // An alias that is used for something else is judged as that.
    client.send(&publish("free/alias", Some(1), 4));
    assert!(!client.expect_puback(4).reason.is_failure());
    client.send(&publish("$SYS/broker/uptime", Some(1), 5));
    assert_eq!(client.expect_puback(5).reason, ReasonCode::NotAuthorized);
    client.send(&publish("", Some(1), 6));
    assert_eq!(client.expect_puback(6).reason, ReasonCode::NotAuthorized);
}

#[test]
fn a_will_says_nothing_that_its_client_may_not_say() {
    let broker = TidingsProcess::shared();
    let mut victim = RawClient::connect(broker.tcp(), &clean(Version::V5, "will-victim"));
    victim.subscribe("dm/will-victim/+", QoS::AtLeastOnce);
    victim.subscribe("$SYS/will", QoS::AtLeastOnce);
    for topic in [
        "dm/will-victim/will-friend",
        "$SYS/will",
        "room/will",
        "user/will-victim/inbox",
    ] {
        for version in [Version::V311, Version::V5] {
            let will = Will {
                topic,
                payload: b"forged",
                qos: QoS::AtLeastOnce,
                retain: true,
                delay_s: 0,
                properties: Default::default(),
            };
            let connect = Connect {
                will: Some(will),
                ..clean(version, "will-mallory")
            };
            // Refused at once, or let in and never said.
            if let Ok((mut client, connack)) =
                RawClient::try_connect(broker.tcp(), &connect, DEADLINE)
                && !connack.reason.is_failure()
            {
                client.settle();
                client.abandon();
            }
        }
    }
    // Whoever takes over comes after the Will.
    RawClient::connect(broker.tcp(), &clean(Version::V5, "will-mallory")).disconnect();
    nothing_until_the_mark(broker, &mut victim, "free/will-mark");
    let mut late = RawClient::connect(broker.tcp(), &clean(Version::V5, "will-victim-2"));
    late.subscribe("$SYS/will", QoS::AtLeastOnce);
    nothing_until_the_mark(broker, &mut late, "free/will-mark-2");
}

#[test]
fn the_broker_lends_its_rights_to_no_response_topic() {
    let broker = TidingsOptions::new()
        .set("rooms.mode", "\"managed\"")
        .start();
    let mut victim = RawClient::connect(broker.tcp(), &clean(Version::V5, "answer-victim"));
    victim.subscribe("user/answer-victim/#", QoS::AtLeastOnce);
    let mut mallory = RawClient::connect(broker.tcp(), &clean(Version::V5, "answer-mallory"));
    for response in [
        "user/answer-victim/inbox",
        "user/answer-victim/reply/x",
        "room/answer",
        "$SYS/answer",
        "dm/answer-victim/answer-friend",
    ] {
        let packet_id = mallory.new_packet_id();
        mallory.send(&Packet::Publish(Publish {
            dup: false,
            qos: QoS::AtLeastOnce,
            retain: false,
            topic: "user/answer-mallory/request/list",
            packet_id: Some(packet_id),
            properties: PublishProperties {
                response_topic: Some(response),
                correlation_data: Some(b"forged"),
                ..PublishProperties::default()
            },
            payload: b"{}",
        }));
        mallory.expect_puback(packet_id);
    }
    mallory.subscribe("user/answer-mallory/reply", QoS::AtLeastOnce);
    // The services answer in the order of the requests: this one after all of those.
    // At QoS 0: answers to the earlier ones may come before an acknowledgement.
    let request = "user/answer-mallory/request/list";
    mallory.publish(request, r#"{"id":"last"}"#, QoS::AtMostOnce);
    while !mallory.receive().text().contains("last") {}
    nothing_until_the_mark(&broker, &mut victim, "free/answer-mark");
}

#[test]
fn prefixes_inside_of_prefixes_and_other_words_after_a_dollar_open_nothing() {
    let broker = TidingsProcess::shared();
    let mut client = RawClient::connect(broker.tcp(), &clean(Version::V5, "prefix"));
    for filter in [
        "$share/g/user/victim/inbox",
        "$share/g/$replay/last/5/user/victim/inbox",
        "$replay/last/5/user/victim/inbox",
        "$replay/after/now/user/victim/inbox",
        "$replay/seq/1/$share/g/user/victim/inbox",
        "$Share/g/user/victim/inbox",
        "$link/#",
        "$http/#",
    ] {
        let packet = tidings_core::codec::Subscribe {
            packet_id: 1,
            subscription_id: None,
            user: Vec::new(),
            filters: vec![tidings_core::codec::SubscribeFilter {
                filter: filter.to_owned(),
                qos: QoS::AtLeastOnce,
                no_local: false,
                retain_as_published: false,
                retain_handling: Default::default(),
            }],
        };
        client.send(&Packet::Subscribe(packet));
        match client.next().packet() {
            Packet::SubAck(ack) => assert!(ack.reasons.iter().all(|r| r.is_failure()), "{filter}"),
            Packet::Disconnect(_) => {
                client = RawClient::connect(broker.tcp(), &clean(Version::V5, "prefix"));
            }
            other => panic!("{filter}: {other:?}"),
        }
    }
}

#[test]
fn what_is_retained_and_what_waits_is_judged_when_it_is_handed_over() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("tidings.toml");
    let rules = |receive: &str| {
        format!(
            "[[topics]]\npattern = \"news/{{what}}\"\npublish = \"any\"\nsubscribe = \"{receive}\"\nkeep = {{}}\n\n\
             [[topics]]\npattern = \"#\"\npublish = \"any\"\nsubscribe = \"any\"\n"
        )
    };
    std::fs::write(&file, rules("any")).expect("written");
    let mut broker = TidingsOptions::new().config(&file).start();
    let away = persistent(Version::V5, "away");
    let mut reader = RawClient::connect(broker.tcp(), &away);
    reader.subscribe("news/#", QoS::ExactlyOnce);
    reader.subscribe("$share/g/news/#", QoS::AtLeastOnce);
    reader.subscribe("free", QoS::AtLeastOnce);
    reader.disconnect();
    let mut speaker = RawClient::connect(broker.tcp(), &clean(Version::V5, "speaker"));
    for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
        speaker.publish("news/x", "secret", qos);
    }
    let packet_id = speaker.new_packet_id();
    speaker.send(&Packet::Publish(Publish {
        dup: false,
        qos: QoS::AtLeastOnce,
        retain: true,
        topic: "news/retained",
        packet_id: Some(packet_id),
        properties: PublishProperties::default(),
        payload: b"secret",
    }));
    speaker.expect_puback(packet_id);
    // Now nobody may have it, whichever way it comes, over a restart and after one.
    std::fs::write(&file, rules("none")).expect("written");
    broker.terminate();
    broker.restart();
    let mut speaker = RawClient::connect(broker.tcp(), &clean(Version::V5, "speaker"));
    speaker.publish("news/x", "secret too", QoS::AtLeastOnce);
    let mut reader = RawClient::connect(broker.tcp(), &away);
    assert!(reader.session_present());
    for filter in [
        "news/#",
        "$share/g/news/#",
        "$replay/seq/1/news/#",
        "$replay/after/now/news/#",
    ] {
        assert!(
            reader.subscribe(filter, QoS::AtLeastOnce).is_failure(),
            "{filter}"
        );
    }
    reader.subscribe("#", QoS::AtLeastOnce);
    reader.subscribe("+/retained", QoS::AtLeastOnce);
    speaker.publish("free", "mark", QoS::AtLeastOnce);
    loop {
        let delivery = reader.receive();
        if delivery.topic == "free" {
            break;
        }
        assert!(!delivery.text().contains("secret"), "{delivery:?}");
    }
}
