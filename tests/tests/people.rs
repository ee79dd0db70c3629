//! People, against the real program: who is here, who is typing, and who has read how far.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tidings_core::codec::{Connect, Packet, Publish, ReasonCode, Version};
use tidings_core::message::QoS;
use tidings_core::shard::shard_of;
use tidings_tests::raw_client::publish_packet;
use tidings_tests::{
    Delivery, Endpoint, RawClient, TidingsOptions, TidingsProcess, clean, persistent,
};

const VERSIONS: [Version; 2] = [Version::V311, Version::V5];

/// Presence that is told at once, and lost after a second.
fn impatient() -> TidingsOptions {
    TidingsOptions::new()
        .set("people.grace_s", 1)
        .set("people.interval_s", 0)
}

fn connect(endpoint: Endpoint, version: Version, user: &str, client_id: &str) -> RawClient {
    let connect = Connect {
        username: Some(user),
        ..clean(version, client_id)
    };
    RawClient::connect(endpoint, &connect)
}

#[track_caller]
fn listener(broker: &TidingsProcess, version: Version, user: &str, filter: &str) -> RawClient {
    let id = format!("{user}-hears-{}", filter.replace(['/', '+', '#'], "-"));
    let mut client = connect(broker.tcp(), version, user, &id);
    let reason = client.subscribe(filter, QoS::AtLeastOnce);
    assert!(!reason.is_failure(), "{filter}: {reason:?}");
    client
}

fn json_of(delivery: &Delivery) -> Value {
    serde_json::from_slice(&delivery.payload).expect("JSON")
}

/// The next presence of a user.
#[track_caller]
fn presence_of(client: &mut RawClient, user: &str) -> Value {
    loop {
        let delivery = client.receive();
        if delivery.topic == format!("user/{user}/presence") {
            return json_of(&delivery);
        }
    }
}

/// Asks, over request and reply topic, and waits for the answer.
#[track_caller]
fn ask(client: &mut RawClient, user: &str, method: &str, request: Value) -> Value {
    let topic = format!("user/{user}/request/{method}");
    let packet_id = client.new_packet_id();
    let payload = request.to_string();
    client.send(&publish_packet(
        &topic,
        payload.as_bytes(),
        QoS::AtLeastOnce,
        packet_id,
    ));
    loop {
        if let Some(delivery) = client.next().delivery() {
            client.acknowledge(&delivery);
            if delivery.topic == format!("user/{user}/reply") {
                return json_of(&delivery);
            }
        }
    }
}

#[track_caller]
fn asks(broker: &TidingsProcess, version: Version, user: &str) -> RawClient {
    let mut client = connect(broker.tcp(), version, user, &format!("{user}-asks"));
    client.subscribe(&format!("user/{user}/reply"), QoS::AtLeastOnce);
    client
}

// ---- Presence

#[test]
fn presence_is_made_of_all_connections_of_a_user() {
    for version in VERSIONS {
        let broker = impatient().start();
        let mut bob = listener(&broker, version, "bob", "user/alice/presence");
        let phone = connect(broker.tcp(), version, "alice", "phone");
        let online = presence_of(&mut bob, "alice");
        assert_eq!(
            (&online["state"], &online["devices"]),
            (&json!("online"), &json!(1))
        );
        let laptop = connect(broker.tcp(), version, "alice", "laptop");
        let two = presence_of(&mut bob, "alice");
        assert_eq!(
            (&two["devices"], &two["since"]),
            (&json!(2), &online["since"])
        );
        phone.disconnect();
        assert_eq!(presence_of(&mut bob, "alice")["devices"], 1);
        laptop.abandon();
        let offline = presence_of(&mut bob, "alice");
        assert_eq!(
            (&offline["state"], &offline["devices"]),
            (&json!("offline"), &json!(0))
        );
        assert!(offline["last_seen"].as_u64() > online["since"].as_u64());

        let mut late = listener(&broker, version, "carol", "user/+/presence");
        assert_eq!(presence_of(&mut late, "alice"), offline, "it is retained");
    }
}

#[test]
fn clients_without_a_name_and_services_have_no_presence() {
    let broker = impatient().start();
    let mut bob = listener(&broker, Version::V5, "bob", "user/#");
    let nameless = Connect {
        username: None,
        ..clean(Version::V5, "nobody")
    };
    let anonymous = RawClient::connect(broker.tcp(), &nameless);
    let _alice = connect(broker.tcp(), Version::V5, "alice", "phone");
    let mut seen = Vec::new();
    while seen.len() < 2 {
        seen.push(bob.receive().topic);
    }
    seen.sort();
    assert_eq!(seen, ["user/alice/presence", "user/bob/presence"]);
    drop(anonymous);
}

#[test]
fn nobody_else_makes_presence_or_settings() {
    let broker = impatient().start();
    let mut alice = connect(broker.tcp(), Version::V5, "alice", "phone");
    for what in ["presence", "settings"] {
        let packet_id = alice.new_packet_id();
        let topic = format!("user/alice/{what}");
        alice.send(&publish_packet(&topic, b"{}", QoS::AtLeastOnce, packet_id));
        let ack = alice.expect_puback(packet_id);
        assert_eq!(ack.reason, ReasonCode::NotAuthorized, "{what}");
    }
}

#[test]
fn away_is_said_and_stays_on_other_devices_and_after_a_restart() {
    for version in VERSIONS {
        let mut broker = impatient().set("people.grace_s", 300).start();
        {
            let mut bob = listener(&broker, version, "bob", "user/alice/presence");
            let mut alice = asks(&broker, version, "alice");
            assert_eq!(presence_of(&mut bob, "alice")["state"], "online");
            let answer = ask(
                &mut alice,
                "alice",
                "presence",
                json!({"id": 1, "state": "away"}),
            );
            assert_eq!(
                (&answer["ok"], &answer["state"]),
                (&json!(true), &json!("away"))
            );
            assert_eq!(presence_of(&mut bob, "alice")["state"], "away");
            let refused = ask(&mut alice, "alice", "presence", json!({"state": "asleep"}));
            assert_eq!(refused["error"]["code"], "bad_request");
            let unknown = json!({"state": "away", "device": "watch"});
            let unknown = ask(&mut alice, "alice", "presence", unknown);
            assert_eq!(unknown["error"]["code"], "no_such_device");
        }
        broker.kill();
        broker.restart();
        let mut alice = asks(&broker, version, "alice");
        let mut bob = listener(&broker, version, "bob", "user/alice/presence");
        assert_eq!(presence_of(&mut bob, "alice")["state"], "away");
        ask(&mut alice, "alice", "presence", json!({"state": "online"}));
        loop {
            let presence = presence_of(&mut bob, "alice");
            if presence["state"] == "online" {
                break;
            }
            assert_eq!(presence["state"], "away", "nobody was gone");
        }
    }
}

#[test]
fn presence_is_shown_to_whom_its_user_allows() {
    let mut broker = impatient().start();
    let mut bob = listener(&broker, Version::V5, "bob", "user/alice/presence");
    let mut alice = asks(&broker, Version::V5, "alice");
    assert_eq!(presence_of(&mut bob, "alice")["state"], "online");
    let answer = ask(
        &mut alice,
        "alice",
        "presence",
        json!({"visible_to": "nobody"}),
    );
    assert_eq!(answer["visible_to"], "nobody");
    let last = presence_of(&mut bob, "alice");
    assert_eq!(last, json!({"state": "offline", "devices": 0}));
    // Retained, and live on her own devices; nothing of it to others.
    let mut own = listener(&broker, Version::V5, "alice", "user/alice/presence");
    loop {
        let presence = presence_of(&mut own, "alice");
        if presence["state"] == "online" {
            break;
        }
    }
    bob.expect_silence();
    let settings = listener(&broker, Version::V5, "alice", "user/alice/settings").receive();
    assert_eq!(json_of(&settings), json!({"visible_to": "nobody"}));

    broker.kill();
    broker.restart();
    let mut alice = asks(&broker, Version::V5, "alice");
    let mut bob = listener(&broker, Version::V5, "bob", "user/+/presence");
    assert_eq!(bob.receive().topic, "user/bob/presence");
    ask(
        &mut alice,
        "alice",
        "presence",
        json!({"visible_to": "everyone"}),
    );
    assert_eq!(presence_of(&mut bob, "alice")["state"], "online");
}

#[test]
fn presence_for_rooms_is_seen_by_fellow_members() {
    let broker = impatient()
        .set("rooms.mode", "\"managed\"")
        .set("people.visible_to", "\"rooms\"")
        .start();
    let mut ann = asks(&broker, Version::V5, "ann");
    let mut bob = asks(&broker, Version::V5, "bob");
    let mut eve = asks(&broker, Version::V5, "eve");
    let created = ask(&mut ann, "ann", "create", json!({"room": "cellar"}));
    assert_eq!(created["ok"], true, "{created}");
    let joined = ask(&mut bob, "bob", "join", json!({"room": "cellar"}));
    assert_eq!(joined["ok"], true, "{joined}");
    let created = ask(
        &mut ann,
        "ann",
        "create",
        json!({"room": "news", "kind": "channel"}),
    );
    assert_eq!(created["ok"], true, "{created}");
    let joined = ask(&mut eve, "eve", "join", json!({"room": "news"}));
    assert_eq!(joined["ok"], true, "{joined}");

    let mut of_bob = listener(&broker, Version::V5, "bob", "user/+/presence");
    presence_of(&mut of_bob, "ann");
    let mut of_eve = listener(&broker, Version::V5, "eve", "user/+/presence");
    // Readers of a channel do not see each other, nor who runs it.
    let _dan = connect(broker.tcp(), Version::V5, "dan", "dan-phone");
    let _more = connect(broker.tcp(), Version::V5, "eve", "eve-phone");
    loop {
        let delivery = of_eve.receive();
        assert_eq!(delivery.topic, "user/eve/presence");
        if json_of(&delivery)["devices"] == 3 {
            break;
        }
    }
    let left = ask(&mut bob, "bob", "leave", json!({"room": "cellar"}));
    assert_eq!(left["ok"], true, "{left}");
    let _more = connect(broker.tcp(), Version::V5, "ann", "ann-phone");
    let _last = connect(broker.tcp(), Version::V5, "bob", "bob-phone");
    loop {
        let delivery = of_bob.receive();
        if delivery.topic == "user/bob/presence" && json_of(&delivery)["devices"] == 3 {
            break;
        }
        let devices = json_of(&delivery)["devices"].clone();
        let is_late = delivery.topic == "user/ann/presence" && devices == 2;
        assert!(!is_late, "bob is not in a room with ann any more");
    }
}

const STORM: usize = 5_000;

fn crowd(endpoint: Endpoint) -> Vec<RawClient> {
    let part = STORM / 8;
    let parts: Vec<_> = (0..8)
        .map(|n| {
            thread::spawn(move || -> Vec<RawClient> {
                let users = n * part..(n + 1) * part;
                let connect = |user| {
                    let (user, id) = (format!("u{user}"), format!("phone-{user}"));
                    connect(endpoint, Version::V311, &user, &id)
                };
                users.map(connect).collect()
            })
        })
        .collect();
    let joined = parts
        .into_iter()
        .map(|part| part.join().expect("connected"));
    joined.flatten().collect()
}

/// What is told of each user of the crowd, until `last` is online.
#[track_caller]
fn told_until(watcher: &mut RawClient, last: &str, told: &mut BTreeMap<String, Vec<String>>) {
    while !tells(watcher, told).starts_with(&format!("{last} online")) {}
}

/// The next presence, taken note of if it is of the crowd.
#[track_caller]
fn tells(watcher: &mut RawClient, told: &mut BTreeMap<String, Vec<String>>) -> String {
    let delivery = watcher.receive();
    let user = delivery.topic.split('/').nth(1).expect("a user").to_owned();
    let state = json_of(&delivery)["state"]
        .as_str()
        .expect("a state")
        .to_owned();
    let line = format!("{user} {state}");
    if user.starts_with('u') {
        told.entry(user).or_default().push(state);
    }
    line
}

/// 5,000 clients come, come again and again, and once more after the broker was killed.
#[test]
fn a_storm_of_reconnects_is_at_most_one_transition_for_each_user() {
    let options = TidingsOptions::new()
        .set("people.grace_s", 300)
        .set("limits.max_connections", 15_000);
    let mut broker = options.start();
    let watch = |broker: &TidingsProcess, id: &str| {
        let mut watcher = connect(broker.tcp(), Version::V5, "watcher", id);
        watcher.set_deadline(Duration::from_secs(120));
        let reason = watcher.subscribe("user/+/presence", QoS::AtLeastOnce);
        assert!(!reason.is_failure());
        watcher
    };
    let mut watcher = watch(&broker, "watcher");
    let mut clients = crowd(broker.tcp());
    for _ in 0..2 {
        drop(clients);
        clients = crowd(broker.tcp());
    }
    // Told after all others.
    let _sentinel = connect(broker.tcp(), Version::V311, "zoe", "sentinel");
    let mut told = BTreeMap::new();
    told_until(&mut watcher, "zoe", &mut told);
    assert_eq!(told.len(), STORM);
    for (user, states) in &told {
        assert_eq!(states, &["online"], "{user}");
    }

    broker.kill();
    drop(clients);
    broker.restart();
    let _clients = crowd(broker.tcp());
    let mut watcher = watch(&broker, "watcher-2");
    let mut told = BTreeMap::new();
    while told.len() < STORM {
        // What is retained.
        tells(&mut watcher, &mut told);
    }
    let _sentinel = connect(broker.tcp(), Version::V311, "zora", "second");
    told_until(&mut watcher, "zora", &mut told);
    for (user, states) in &told {
        assert_eq!(states, &["online"], "{user}");
    }
}

#[test]
fn after_a_restart_who_does_not_come_back_is_offline() {
    let mut broker = impatient().start();
    let mut bob = listener(&broker, Version::V5, "bob", "user/alice/presence");
    let _alice = connect(broker.tcp(), Version::V5, "alice", "phone");
    assert_eq!(presence_of(&mut bob, "alice")["state"], "online");
    broker.kill();
    broker.restart();
    let mut bob = listener(&broker, Version::V5, "bob", "user/alice/presence");
    loop {
        let presence = presence_of(&mut bob, "alice");
        if presence["state"] == "offline" {
            assert!(presence["last_seen"].is_u64(), "{presence}");
            break;
        }
    }
}

// ---- Typing

#[test]
fn typing_reaches_who_is_there_and_ends_by_itself() {
    for version in VERSIONS {
        let broker = TidingsProcess::start();
        let mut bob = listener(&broker, version, "bob", "typing/lobby/+");
        let mut alice = connect(broker.tcp(), version, "alice", "phone");
        alice.publish("typing/lobby/alice", "1", QoS::AtLeastOnce);
        let typing = bob.receive();
        assert_eq!(
            (typing.text(), typing.qos),
            ("1".to_owned(), QoS::AtMostOnce)
        );
        if version == Version::V5 {
            let left_s = typing.properties.message_expiry_s;
            assert!(left_s.is_some_and(|s| (1..=5).contains(&s)), "{left_s:?}");
        }
        let said = Instant::now();
        let over = bob.receive();
        assert_eq!(
            (over.topic.as_str(), over.text()),
            ("typing/lobby/alice", String::new())
        );
        assert!(
            said.elapsed() > Duration::from_secs(4),
            "{:?}",
            said.elapsed()
        );
        // Who stops says so, once.
        alice.publish("typing/lobby/alice", "1", QoS::AtMostOnce);
        alice.publish("typing/lobby/alice", "", QoS::AtMostOnce);
        assert_eq!(
            (bob.receive().text(), bob.receive().text()),
            ("1".into(), String::new())
        );
    }
}

#[test]
fn typing_is_never_stored() {
    let mut broker = TidingsProcess::start();
    for (version, carol) in [(Version::V311, "carol-3"), (Version::V5, "carol-5")] {
        let connect_carol = |broker: &TidingsProcess| {
            let connect = Connect {
                username: Some("carol"),
                ..persistent(version, carol)
            };
            RawClient::connect(broker.tcp(), &connect)
        };
        let mut away = connect_carol(&broker);
        away.subscribe("typing/+/+", QoS::ExactlyOnce);
        away.subscribe("dm/carol/+", QoS::AtLeastOnce);
        away.disconnect();
        let mut alice = connect(broker.tcp(), version, "alice", "phone");
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
            let topic = format!("typing/{carol}-{}/alice", qos as u8);
            let packet_id = alice.new_packet_id();
            let Packet::Publish(publish) = publish_packet(&topic, b"1", qos, packet_id) else {
                unreachable!("a PUBLISH");
            };
            alice.send(&Packet::Publish(Publish {
                retain: true,
                ..publish
            }));
            match qos {
                QoS::AtMostOnce => {}
                QoS::AtLeastOnce => assert!(!alice.expect_puback(packet_id).reason.is_failure()),
                QoS::ExactlyOnce => assert!(!alice.expect_pubrec(packet_id).reason.is_failure()),
            }
            alice.publish(&topic, "", QoS::AtMostOnce);
        }
        alice.publish("dm/carol/alice", "look", QoS::AtLeastOnce);
        let mut back = connect_carol(&broker);
        assert!(back.session_present());
        assert_eq!(
            back.receive().topic,
            "dm/carol/alice",
            "and nothing before it"
        );
        for filter in ["$replay/last/10/typing/+/+", "typing/+/+"] {
            let mut late = listener(&broker, version, "dave", filter);
            late.expect_silence();
        }
    }
    broker.terminate();
    let dump = broker.command("dump");
    let dump = String::from_utf8_lossy(&dump.stdout).into_owned();
    assert!(dump.contains("dm/carol/alice"));
    assert!(!dump.contains("\"topic\":\"typing/"), "{dump}");
}

#[test]
fn typing_has_a_rate() {
    let broker = TidingsProcess::start();
    let mut bob = listener(&broker, Version::V5, "bob", "typing/+/+");
    let mut alice = connect(broker.tcp(), Version::V5, "alice", "phone");
    let begun = Instant::now();
    for n in 0..200 {
        alice.publish("typing/lobby/alice", n.to_string(), QoS::AtLeastOnce);
    }
    let most = 3 + begun.elapsed().as_secs() as usize + 1;
    alice.publish("typing/cellar/alice", "other", QoS::AtLeastOnce);
    let mut lobby = 0;
    loop {
        let typing = bob.receive();
        if typing.topic == "typing/cellar/alice" {
            break;
        }
        lobby += usize::from(!typing.payload.is_empty());
    }
    assert!((3..=most).contains(&lobby), "{lobby} of at most {most}");
}

// ---- Read markers

fn fill(broker: &TidingsProcess, topic: &str, user: &str, messages: usize) {
    let mut writer = connect(broker.tcp(), Version::V5, user, "writer");
    for n in 0..messages {
        writer.publish(topic, n.to_string(), QoS::AtLeastOnce);
    }
}

#[test]
fn read_markers_only_grow_and_survive_a_crash() {
    for version in VERSIONS {
        let mut broker = TidingsProcess::start();
        fill(&broker, "chat/lobby/bob", "bob", 12);
        let mut bob = listener(&broker, version, "bob", "read/lobby/+");
        let mut alice = connect(broker.tcp(), version, "alice", "phone");
        for (marker, qos) in [
            ("5", QoS::AtLeastOnce),
            ("3", QoS::AtLeastOnce),
            ("5", QoS::ExactlyOnce),
            ("0", QoS::AtMostOnce),
            ("7", QoS::ExactlyOnce),
            ("6", QoS::ExactlyOnce),
            ("12", QoS::AtMostOnce),
            ("1", QoS::AtLeastOnce),
        ] {
            alice.publish("read/lobby/alice", marker, qos);
        }
        let heard = [
            bob.receive().text(),
            bob.receive().text(),
            bob.receive().text(),
        ];
        assert_eq!(heard, ["5", "7", "12"]);
        broker.kill();
        broker.restart();
        let mut late = listener(&broker, version, "bob", "read/+/+");
        let retained = late.receive();
        assert!(retained.retain);
        assert_eq!(
            (retained.topic.as_str(), retained.text()),
            ("read/lobby/alice", "12".into())
        );
        let mut alice = connect(broker.tcp(), version, "alice", "phone");
        alice.publish("read/lobby/alice", "4", QoS::AtLeastOnce);
        late.expect_silence();
    }
}

#[test]
fn what_is_no_marker_is_refused() {
    let broker = TidingsProcess::start();
    fill(&broker, "chat/lobby/bob", "bob", 3);
    let mut alice = connect(broker.tcp(), Version::V5, "alice", "phone");
    for marker in [
        "",
        "x",
        "-1",
        "+1",
        "1.0",
        " 1",
        "4",
        "99999999999999999999999",
    ] {
        let packet_id = alice.new_packet_id();
        let topic = "read/lobby/alice";
        let packet = publish_packet(topic, marker.as_bytes(), QoS::AtLeastOnce, packet_id);
        alice.send(&packet);
        let ack = alice.expect_puback(packet_id);
        assert_eq!(ack.reason, ReasonCode::PayloadFormatInvalid, "{marker:?}");
        assert!(ack.reason_string.is_some());
    }
    let packet_id = alice.new_packet_id();
    alice.send(&publish_packet(
        "read/lobby/bob",
        b"1",
        QoS::AtLeastOnce,
        packet_id,
    ));
    assert_eq!(
        alice.expect_puback(packet_id).reason,
        ReasonCode::NotAuthorized
    );

    let mut inbox = listener(&broker, Version::V311, "carol", "user/carol/inbox");
    let mut carol = connect(broker.tcp(), Version::V311, "carol", "phone");
    let packet_id = carol.new_packet_id();
    carol.send(&publish_packet(
        "read/lobby/carol",
        b"4",
        QoS::AtLeastOnce,
        packet_id,
    ));
    let notice = json_of(&inbox.receive());
    assert_eq!(notice["reason"], ReasonCode::PayloadFormatInvalid as u8);
    carol.expect_closed();
}

/// Two devices, in two shards, say at once how far they have read.
#[test]
fn of_two_devices_the_one_that_has_read_further_counts() {
    const MESSAGES: u64 = 200;
    let mut broker = TidingsOptions::new().set("server.shards", 2).start();
    fill(&broker, "chat/lobby/bob", "bob", MESSAGES as usize);
    let mut watcher = listener(&broker, Version::V5, "bob", "read/lobby/alice");
    let devices: Vec<String> = (0..2)
        .map(|shard| {
            let mut names = (0..).map(|n| format!("device-{n}"));
            names
                .find(|name| shard_of(name, 2) == shard)
                .expect("a name")
        })
        .collect();
    let threads: Vec<_> = devices
        .into_iter()
        .zip([0, 1])
        .map(|(device, odd)| {
            let endpoint = broker.tcp();
            thread::spawn(move || {
                let mut alice = connect(endpoint, Version::V5, "alice", &device);
                for n in (1..=MESSAGES).filter(|n| n % 2 == odd) {
                    alice.publish("read/lobby/alice", n.to_string(), QoS::AtLeastOnce);
                }
            })
        })
        .collect();
    threads
        .into_iter()
        .for_each(|t| t.join().expect("published"));
    let mut last = 0;
    while last < MESSAGES {
        let marker: u64 = watcher.receive().text().parse().expect("a number");
        assert!(marker > last, "{marker} after {last}");
        last = marker;
    }
    broker.kill();
    broker.restart();
    let mut late = listener(&broker, Version::V5, "bob", "read/lobby/alice");
    assert_eq!(late.receive().text(), MESSAGES.to_string());
}

#[test]
fn of_direct_messages_the_sender_hears_what_arrived_and_what_was_read() {
    for version in VERSIONS {
        let broker = TidingsProcess::start();
        fill(&broker, "dm/bob/alice", "alice", 2);
        let mut alice = listener(&broker, version, "alice", "dm/alice/#");
        let mut bob = connect(broker.tcp(), version, "bob", "phone");
        bob.publish("dm/alice/bob/delivered", "2", QoS::AtLeastOnce);
        bob.publish("dm/alice/bob/read", "1", QoS::AtLeastOnce);
        let (delivered, read) = (alice.receive(), alice.receive());
        assert_eq!(
            (delivered.topic.as_str(), delivered.text()),
            ("dm/alice/bob/delivered", "2".into())
        );
        assert_eq!(
            (read.topic.as_str(), read.text()),
            ("dm/alice/bob/read", "1".into())
        );
        let mut eve = listener(&broker, version, "eve", "dm/#");
        eve.expect_silence();
    }
}
