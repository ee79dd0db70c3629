//! What messages mean to each other, against the real program: history, changes of messages, and what is
//! sent twice.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tidings_core::codec::{
    Ack, Connect, Packet, Publish, PublishProperties, ReasonCode, RetainHandling, Subscribe,
    SubscribeFilter, Version,
};
use tidings_core::message::QoS;
use tidings_tests::raw_client::publish_packet;
use tidings_tests::{Endpoint, RawClient, TidingsOptions, TidingsProcess, clean, persistent};

fn connect(endpoint: Endpoint, version: Version, user: &str, client_id: &str) -> RawClient {
    let connect = Connect {
        username: Some(user),
        ..clean(version, client_id)
    };
    RawClient::connect(endpoint, &connect)
}

/// A user with one connection of MQTT 5 for everything.
struct Person {
    name: String,
    client: RawClient,
}

impl Person {
    #[track_caller]
    fn new(broker: &TidingsProcess, name: &str) -> Self {
        let mut client = connect(broker.tcp(), Version::V5, name, &format!("{name}-all"));
        let granted = client.subscribe(&format!("user/{name}/reply"), QoS::AtLeastOnce);
        assert_eq!(granted, ReasonCode::GrantedQoS1);
        Self {
            name: name.to_owned(),
            client,
        }
    }

    /// Publishes at QoS 1, and gives the acknowledgement.
    #[track_caller]
    fn publish(&mut self, topic: &str, payload: &str, user: &[(&str, &str)]) -> Ack {
        let packet_id = self.client.new_packet_id();
        self.client.send(&Packet::Publish(Publish {
            dup: false,
            qos: QoS::AtLeastOnce,
            retain: false,
            topic,
            packet_id: Some(packet_id),
            properties: PublishProperties {
                user: user.to_vec(),
                ..PublishProperties::default()
            },
            payload: payload.as_bytes(),
        }));
        self.client.expect_puback(packet_id)
    }

    /// Says something in a room; the number that it got.
    #[track_caller]
    fn say(&mut self, room: &str, payload: &str) -> u64 {
        let topic = format!("chat/{room}/{}", self.name);
        seq_of(&self.publish(&topic, payload, &[]))
    }

    /// Changes message `of` in a room: `edit`, `recall`, `react` or `reply`.
    #[track_caller]
    fn change(&mut self, room: &str, how: &str, of: u64, payload: &str) -> Ack {
        let topic = format!("chat/{room}/{}/{how}/{of}", self.name);
        self.publish(&topic, payload, &[])
    }

    #[track_caller]
    fn ask(&mut self, method: &str, request: &Value) -> Value {
        let topic = format!("user/{}/request/{method}", self.name);
        let ack = self.publish(&topic, &request.to_string(), &[]);
        assert!(!ack.reason.is_failure(), "{ack:?}");
        serde_json::from_slice(&self.client.receive().payload).expect("answers are JSON")
    }

    #[track_caller]
    fn history(&mut self, request: Value) -> Value {
        let answer = self.ask("history", &request);
        assert_eq!(answer["ok"], true, "{request}: {answer}");
        answer
    }
}

fn property<'a>(ack: &'a Ack, name: &str) -> Option<&'a str> {
    let found = ack.user.iter().find(|(key, _)| key == name);
    found.map(|(_, value)| value.as_str())
}

#[track_caller]
fn seq_of(ack: &Ack) -> u64 {
    assert!(!ack.reason.is_failure(), "{ack:?}");
    let seq = property(ack, "seq").expect("a number");
    seq.parse().expect("decimal")
}

fn seqs(page: &Value) -> Vec<u64> {
    let messages = page["messages"].as_array().expect("a list");
    let seq = |message: &Value| message["seq"].as_u64().expect("a number");
    messages.iter().map(seq).collect()
}

fn range(page: &Value) -> (u64, u64) {
    let number = |key: &str| page[key].as_u64().expect("a number");
    (number("from"), number("to"))
}

#[test]
fn a_page_is_before_after_or_around_a_number_or_from_a_time_on() {
    let broker = TidingsOptions::new().start();
    let mut ann = Person::new(&broker, "ann");
    for n in 1..=30 {
        assert_eq!(ann.say("lobby", &n.to_string()), n);
    }
    let page = ann.history(json!({ "room": "lobby", "limit": 3 }));
    assert_eq!(seqs(&page), [28, 29, 30]);
    assert_eq!((&page["head"], &page["first"]), (&json!(30), &json!(1)));
    assert_eq!(page["gap"], Value::Null);
    let at = page["messages"][1]["ts"].as_u64().expect("a time");
    let first = &page["messages"][0];
    assert_eq!(first["payload"], "28");
    assert_eq!(first["from"], "ann");
    assert_eq!(first["topic"], "chat/lobby/ann");
    assert_eq!(first["id"], "chat/lobby/28");
    assert_eq!(first["room"], "lobby");

    let mut pages = |request: &[(&str, u64)]| {
        let mut json = json!({ "room": "lobby" });
        for (key, value) in request {
            json[*key] = (*value).into();
        }
        let page = ann.history(json);
        (seqs(&page), range(&page))
    };
    assert_eq!(
        pages(&[("before", 28), ("limit", 2)]),
        (vec![26, 27], (26, 27))
    );
    assert_eq!(pages(&[("before", 3), ("limit", 9)]), (vec![1, 2], (1, 2)));
    assert_eq!(pages(&[("before", 1)]), (vec![], (1, 0)));
    assert_eq!(pages(&[("after", 0), ("limit", 2)]), (vec![1, 2], (1, 2)));
    assert_eq!(pages(&[("after", 29), ("limit", 9)]), (vec![30], (30, 30)));
    assert_eq!(pages(&[("after", 30)]), (vec![], (31, 30)));
    assert_eq!(pages(&[("around", 10), ("limit", 5)]).0, [8, 9, 10, 11, 12]);
    let (found, _) = pages(&[("at", at)]);
    assert!(
        found.contains(&29) && !found.contains(&1) || at == 0,
        "{found:?}"
    );
    assert_eq!(pages(&[("at", at + 3_600_000)]).0, [0_u64; 0]);
    assert_eq!(pages(&[("at", 0), ("limit", 1)]).0, [1]);
    // More than is given at once.
    assert_eq!(pages(&[("limit", 1_000_000)]).0.len(), 30);
}

#[test]
fn direct_messages_have_one_history_for_both_and_none_for_others() {
    let broker = TidingsOptions::new().start();
    let mut ann = Person::new(&broker, "ann");
    let mut bob = Person::new(&broker, "bob");
    let mut eve = Person::new(&broker, "eve");
    assert_eq!(seq_of(&ann.publish("dm/bob/ann", "psst", &[])), 1);
    assert_eq!(seq_of(&bob.publish("dm/ann/bob", "what?", &[])), 2);
    for (person, with) in [(&mut ann, "bob"), (&mut bob, "ann")] {
        assert_eq!(seqs(&person.history(json!({ "with": with }))), [1, 2]);
    }
    for with in ["ann", "bob"] {
        assert_eq!(seqs(&eve.history(json!({ "with": with }))), [0_u64; 0]);
    }
    let answer = eve.ask("history", &json!({ "topic": "dm/bob/ann" }));
    assert_eq!(answer["error"]["code"], "no_such_room", "{answer}");
}

#[test]
fn history_of_a_managed_room_is_for_its_members_now() {
    let broker = TidingsOptions::new()
        .set("rooms.mode", "\"managed\"")
        .start();
    let mut ann = Person::new(&broker, "ann");
    let mut bob = Person::new(&broker, "bob");
    let cellar = json!({ "room": "cellar" });
    let created = ann.ask("create", &json!({ "room": "cellar", "kind": "private" }));
    assert_eq!(created["ok"], true, "{created}");
    ann.say("cellar", "one");
    let refused = |answer: Value| answer["error"]["code"].clone();
    assert_eq!(refused(bob.ask("history", &cellar)), "no_such_room");
    let nowhere = json!({ "room": "nowhere" });
    assert_eq!(refused(bob.ask("history", &nowhere)), "no_such_room");
    let invited = ann.ask("invite", &json!({ "room": "cellar", "user": "bob" }));
    assert_eq!(invited["ok"], true, "{invited}");
    assert_eq!(bob.ask("join", &cellar)["ok"], true);
    assert_eq!(seqs(&bob.history(cellar.clone())), [1]);
    let kicked = ann.ask("kick", &json!({ "room": "cellar", "user": "bob" }));
    assert_eq!(kicked["ok"], true, "{kicked}");
    assert_eq!(refused(bob.ask("history", &cellar)), "no_such_room");
}

#[test]
fn changes_are_shown_on_the_message_wherever_they_lie() {
    let broker = TidingsOptions::new().start();
    let mut ann = Person::new(&broker, "ann");
    let mut bob = Person::new(&broker, "bob");
    assert_eq!(ann.say("lobby", "helo"), 1);
    assert_eq!(ann.say("lobby", "secret"), 2);
    seq_of(&bob.change("lobby", "reply", 1, "hi"));
    for n in 4..20 {
        assert_eq!(bob.say("lobby", "noise"), n);
    }
    seq_of(&ann.change("lobby", "edit", 1, "hello"));
    seq_of(&bob.change("lobby", "react", 1, "👍"));
    seq_of(&ann.change("lobby", "edit", 2, "secret too"));
    seq_of(&ann.change("lobby", "recall", 2, ""));
    let page = bob.history(json!({ "room": "lobby", "before": 4 }));
    let messages = &page["messages"];
    assert_eq!(seqs(&page), [1, 2, 3]);
    assert_eq!(messages[0]["payload"], "helo");
    assert_eq!(messages[0]["edited"]["payload"], "hello");
    assert_eq!(messages[0]["edited"]["seq"], 20);
    assert_eq!(messages[0]["reactions"], json!({ "👍": ["bob"] }));
    assert_eq!(messages[1]["payload"], "");
    assert_eq!(messages[1]["recalled"]["by"], "ann");
    assert_eq!(messages[1]["edited"], Value::Null);
    assert_eq!(messages[2]["kind"], "reply");
    assert_eq!(messages[2]["reply_to"], 1);
    let all = bob
        .history(json!({ "room": "lobby", "limit": 200 }))
        .to_string();
    assert!(!all.contains("secret"), "{all}");
}

#[test]
fn what_retention_took_is_a_gap() {
    let rules = tempfile::NamedTempFile::new().expect("a temporary file");
    let rule = r#"
        [[topics]]
        pattern = "chat/{room}/{user}"
        publish = "self(user)"
        subscribe = "member(room)"
        stream = "chat/{room}"
        keep = { count = 5 }
        [[topics]]
        pattern = "chat/{room}/{user}/react/{seq}"
        publish = "self(user)"
        subscribe = "member(room)"
        stream = "chat/{room}"
        keep = { count = 5 }
        [[topics]]
        pattern = "user/{user}/request/{method}"
        publish = "self(user)"
        subscribe = "broker"
        [[topics]]
        pattern = "user/{user}/reply"
        publish = "broker"
        subscribe = "self(user)"
        [journal]
        segment_bytes = 1048576
        batch_max_bytes = 262144
        [log]
        modules = { "tidings_broker::store::upkeep" = "debug" }
    "#;
    std::fs::write(rules.path(), rule).expect("a settings file");
    let mut broker = TidingsOptions::new()
        .config(rules.path())
        .set("state.snapshot_every_bytes", 1_048_576)
        .start();
    let mut ann = Person::new(&broker, "ann");
    assert_eq!(ann.say("lobby", "hello"), 1);
    seq_of(&ann.publish("chat/lobby/ann/react/1", "+1", &[]));
    // Segments that are over can be trimmed, as soon as two snapshots are past them.
    let long = "x".repeat(60_000);
    let deadline = Instant::now() + Duration::from_secs(60);
    let page = loop {
        let page = ann.history(json!({ "room": "lobby", "after": 0, "limit": 3 }));
        if page["first"] != 1 {
            break page;
        }
        assert!(Instant::now() < deadline, "nothing is trimmed");
        for _ in 0..10 {
            ann.say("lobby", &long);
        }
    };
    let first = page["first"].as_u64().expect("a number");
    assert_eq!(page["gap"], json!({ "from": 1, "to": 3.min(first - 1) }));
    let page = ann.history(json!({ "room": "lobby", "after": first - 2, "limit": 2 }));
    assert_eq!(page["gap"], json!({ "from": first - 1, "to": first - 1 }));
    assert_eq!(seqs(&page), [first]);
    let page = ann.history(json!({ "room": "lobby", "after": first - 1, "limit": 2 }));
    assert_eq!(page["gap"], Value::Null);

    // A subscription says so in its SUBACK.
    let gap_of = |filter: String| {
        let mut bob = Person::new(&broker, "bob");
        let packet_id = bob.client.new_packet_id();
        bob.client.send(&Packet::Subscribe(Subscribe {
            packet_id,
            subscription_id: None,
            user: Vec::new(),
            filters: vec![SubscribeFilter {
                filter,
                qos: QoS::AtMostOnce,
                no_local: true,
                retain_as_published: false,
                retain_handling: RetainHandling::DoNotSend,
            }],
        }));
        loop {
            let frame = bob.client.next();
            if let Packet::SubAck(ack) = frame.packet() {
                let gap = ack.user.iter().find(|(key, _)| key == "gap");
                return gap.map(|(_, gap)| gap.clone());
            }
        }
    };
    let deadline = Instant::now() + tidings_tests::DEADLINE;
    loop {
        let first = |ann: &mut Person| {
            let page = ann.history(json!({ "room": "lobby", "limit": 1 }));
            page["first"].as_u64().expect("a number")
        };
        let now = first(&mut ann);
        let gaps = [
            "$replay/seq/1/chat/lobby/+".to_owned(),
            "$replay/ts/0/chat/lobby/+".to_owned(),
            format!("$replay/seq/{now}/chat/lobby/+"),
            "$replay/last/5/chat/lobby/+".to_owned(),
        ]
        .map(gap_of);
        // More may have been trimmed meanwhile.
        if first(&mut ann) == now {
            let expected = Some(format!("chat/lobby 1-{}", now - 1));
            assert_eq!(gaps, [expected.clone(), expected, None, None]);
            break;
        }
        assert!(Instant::now() < deadline, "trimming does not end");
    }

    // What is known of reactions goes with the messages, and nothing is wrong with that.
    while !broker
        .log()
        .contains("changes of messages that were trimmed")
    {
        assert!(Instant::now() < deadline, "nothing is forgotten");
        std::thread::sleep(Duration::from_millis(50));
    }
    broker.kill();
    let found = broker.command("fsck");
    let said = String::from_utf8_lossy(&found.stdout);
    let wrong = String::from_utf8_lossy(&found.stderr);
    assert!(found.status.success(), "{said}{wrong}");
}

#[test]
fn what_is_sent_twice_is_stored_once_and_answered_alike() {
    let mut broker = TidingsOptions::new().start();
    let mut ann = Person::new(&broker, "ann");
    let say = |person: &mut Person, payload: &str, cid: &str| {
        person.publish("chat/lobby/ann", payload, &[("cid", cid)])
    };
    let first = say(&mut ann, "hello", "a1");
    assert_eq!(seq_of(&first), 1);
    let again = say(&mut ann, "hello", "a1");
    assert_eq!(again.user, first.user);
    let other = say(&mut ann, "other words", "a1");
    assert_eq!(other.reason, ReasonCode::ImplementationSpecificError);
    assert!(other.reason_string.is_some_and(|text| text.contains("cid")));
    assert_eq!(seq_of(&say(&mut ann, "hello", "a2")), 2);

    // Another connection, and another person with the same name for theirs.
    let mut phone = connect(broker.tcp(), Version::V5, "ann", "ann-phone");
    let packet_id = phone.new_packet_id();
    phone.send(&Packet::Publish(Publish {
        dup: true,
        qos: QoS::ExactlyOnce,
        retain: false,
        topic: "chat/lobby/ann",
        packet_id: Some(packet_id),
        properties: PublishProperties {
            user: vec![("cid", "a1")],
            ..PublishProperties::default()
        },
        payload: b"hello",
    }));
    assert_eq!(phone.expect_pubrec(packet_id).user, first.user);
    phone.send(&Packet::PubRel(Ack::new(packet_id, ReasonCode::Success)));
    phone.expect_pubcomp(packet_id);
    let mut bob = Person::new(&broker, "bob");
    assert_eq!(
        seq_of(&bob.publish("chat/lobby/bob", "hi", &[("cid", "a1")])),
        3
    );

    broker.kill();
    broker.restart();
    let mut ann = Person::new(&broker, "ann");
    assert_eq!(say(&mut ann, "hello", "a1").user, first.user);
    let other = say(&mut ann, "other words", "a1");
    assert_eq!(other.reason, ReasonCode::ImplementationSpecificError);
    let page = ann.history(json!({ "room": "lobby" }));
    assert_eq!(seqs(&page), [1, 2, 3]);
    assert_eq!(page["messages"][0]["cid"], "a1");
}

#[test]
fn sent_at_once_over_many_connections_it_is_stored_once() {
    let broker = TidingsOptions::new().set("server.shards", 2).start();
    let mut phones: Vec<RawClient> = (0..8)
        .map(|n| connect(broker.tcp(), Version::V5, "ann", &format!("phone-{n}")))
        .collect();
    for round in 1..=5_u16 {
        let cid = round.to_string();
        for phone in &mut phones {
            phone.send(&Packet::Publish(Publish {
                dup: false,
                qos: QoS::AtLeastOnce,
                retain: false,
                topic: "chat/lobby/ann",
                packet_id: Some(round),
                properties: PublishProperties {
                    user: vec![("cid", &cid)],
                    ..PublishProperties::default()
                },
                payload: cid.as_bytes(),
            }));
        }
        for phone in &mut phones {
            assert_eq!(seq_of(&phone.expect_puback(round)), u64::from(round));
        }
    }
}

#[test]
fn only_the_author_edits_and_only_the_author_or_a_moderator_recalls() {
    let broker = TidingsOptions::new()
        .set("rooms.mode", "\"managed\"")
        .start();
    let mut ann = Person::new(&broker, "ann");
    let mut bob = Person::new(&broker, "bob");
    assert_eq!(ann.ask("create", &json!({ "room": "hall" }))["ok"], true);
    assert_eq!(bob.ask("join", &json!({ "room": "hall" }))["ok"], true);
    let of_ann = ann.say("hall", "mine");
    let of_bob = bob.say("hall", "his");

    let refused = |ack: &Ack| (ack.reason, ack.reason_string.clone().unwrap_or_default());
    let not_yours = |seq: u64| {
        (
            ReasonCode::NotAuthorized,
            format!("message {seq} is not yours"),
        )
    };
    let nothing = |seq: u64| {
        (
            ReasonCode::TopicNameInvalid,
            format!("there is no message {seq} here"),
        )
    };
    let edit = bob.change("hall", "edit", of_ann, "stolen");
    assert_eq!(refused(&edit), not_yours(of_ann));
    // Not even the owner puts words into another's mouth.
    let edit = ann.change("hall", "edit", of_bob, "stolen");
    assert_eq!(refused(&edit), not_yours(of_bob));
    let recall = bob.change("hall", "recall", of_ann, "");
    assert_eq!(refused(&recall), not_yours(of_ann));
    for how in ["edit", "recall", "react", "reply"] {
        assert_eq!(
            refused(&bob.change("hall", how, 99, "x")),
            nothing(99),
            "{how}"
        );
    }
    let long = "x".repeat(65);
    let react = bob.change("hall", "react", of_ann, &long);
    assert_eq!(react.reason, ReasonCode::PayloadFormatInvalid);

    let reaction = seq_of(&bob.change("hall", "react", of_ann, "🎉"));
    let recall = bob.change("hall", "recall", reaction, "");
    assert_eq!(recall.reason, ReasonCode::TopicNameInvalid);
    seq_of(&bob.change("hall", "edit", of_bob, "his own"));
    // A moderator withdraws what others wrote; then it is over for it.
    seq_of(&ann.change("hall", "recall", of_bob, ""));
    for how in ["edit", "recall", "react"] {
        let ack = bob.change("hall", how, of_bob, "x");
        assert_eq!(ack.reason, ReasonCode::ImplementationSpecificError, "{how}");
    }
    let page = ann.history(json!({ "room": "hall" }));
    assert!(!page.to_string().contains("his own"), "{page}");
}

#[test]
fn a_refused_edit_of_a_3_1_1_client_is_told_on_the_inbox() {
    let broker = TidingsOptions::new().start();
    let mut ann = Person::new(&broker, "ann");
    ann.say("lobby", "mine");
    let mut listener = connect(broker.tcp(), Version::V311, "bob", "bob-listens");
    listener.subscribe("user/bob/inbox", QoS::AtLeastOnce);
    let mut old = connect(broker.tcp(), Version::V311, "bob", "bob-writes");
    old.send(&publish_packet(
        "chat/lobby/bob/edit/1",
        b"stolen",
        QoS::AtLeastOnce,
        1,
    ));
    let told: Value = serde_json::from_slice(&listener.receive().payload).expect("JSON");
    assert_eq!(told["event"], "refused");
    assert_eq!(told["topic"], "chat/lobby/bob/edit/1");
    assert_eq!(told["text"], "message 1 is not yours");
    old.expect_closed();
}

#[test]
fn a_recalled_message_is_not_given_out_again_through_any_door() {
    let mut broker = TidingsOptions::new().start();
    // Away when it was said and when it was withdrawn.
    let away = |broker: &TidingsProcess| {
        let connect = Connect {
            username: Some("bob"),
            ..persistent(Version::V5, "bob-away")
        };
        RawClient::connect(broker.tcp(), &connect)
    };
    let mut bob = away(&broker);
    bob.subscribe("chat/lobby/#", QoS::AtLeastOnce);
    bob.disconnect();
    let mut ann = Person::new(&broker, "ann");
    ann.say("lobby", "before");
    ann.say("lobby", "secret");
    seq_of(&ann.change("lobby", "edit", 2, "secret too"));
    seq_of(&ann.change("lobby", "recall", 2, ""));
    ann.say("lobby", "after");

    let expected = ["before", "", "", "", "after"];
    let check = |client: &mut RawClient, what: &str| {
        for (seq, payload) in (1..).zip(expected) {
            let delivery = client.receive();
            assert_eq!(delivery.text(), payload, "{what}");
            assert_eq!(delivery.user_property("seq"), Some(&*seq.to_string()));
            let recalled = delivery.user_property("recalled");
            assert_eq!(recalled, (seq == 2 || seq == 3).then_some("ann"), "{what}");
        }
    };
    let mut bob = away(&broker);
    check(&mut bob, "offline session");
    for (n, from) in ["last/50", "seq/1", "ts/0"].into_iter().enumerate() {
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
            let id = format!("replay-{n}-{qos:?}");
            let mut replay = connect(broker.tcp(), Version::V5, "eve", &id);
            replay.subscribe(&format!("$replay/{from}/chat/lobby/#"), qos);
            check(&mut replay, from);
        }
    }
    broker.kill();
    broker.restart();
    let mut replay = connect(broker.tcp(), Version::V5, "eve", "replay-later");
    replay.subscribe("$replay/last/50/chat/lobby/#", QoS::AtLeastOnce);
    check(&mut replay, "after a crash");
}

#[test]
fn who_is_mentioned_and_may_read_it_is_told() {
    let broker = TidingsOptions::new()
        .set("rooms.mode", "\"managed\"")
        .start();
    let mut ann = Person::new(&broker, "ann");
    let mut bob = Person::new(&broker, "bob");
    let mut eve = Person::new(&broker, "eve");
    assert_eq!(
        ann.ask("create", &json!({ "room": "den", "kind": "private" }))["ok"],
        true
    );
    assert_eq!(
        ann.ask("invite", &json!({ "room": "den", "user": "bob" }))["ok"],
        true
    );
    assert_eq!(bob.ask("join", &json!({ "room": "den" }))["ok"], true);
    let mut inboxes = Vec::new();
    for name in ["ann", "bob", "eve"] {
        let mut inbox = connect(broker.tcp(), Version::V5, name, &format!("{name}-inbox"));
        inbox.subscribe(&format!("user/{name}/inbox"), QoS::AtLeastOnce);
        inboxes.push(inbox);
    }
    let seq = ann.say("den", "hi @bob and @eve, says @ann");
    let event = |inbox: &mut RawClient| -> Value {
        serde_json::from_slice(&inbox.receive().payload).expect("JSON")
    };
    let expected = json!({ "event": "mentioned", "room": "den", "seq": seq, "from": "ann" });
    assert_eq!(event(&mut inboxes[1]), expected);
    let quiet = ann.publish(
        "chat/den/ann",
        "\u{1}\u{2}",
        &[("mention", "bob"), ("mention", "eve")],
    );
    assert_eq!(event(&mut inboxes[1])["seq"], seq_of(&quiet));
    let page = bob.history(json!({ "room": "den" }));
    assert_eq!(
        page["messages"][0]["mentions"],
        json!(["bob", "eve", "ann"])
    );
    // What eve hears of next is something else, and ann hears nothing of herself.
    assert_eq!(
        ann.ask("invite", &json!({ "room": "den", "user": "eve" }))["ok"],
        true
    );
    assert_eq!(event(&mut inboxes[2])["event"], "invited");
    inboxes[0].expect_silence();
    drop(eve.history(json!({ "with": "ann" })));
}
