//! Rooms with doors, against the real program: who is in them, what outsiders see through every
//! door, and what becomes of those who are sent away.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tidings_core::codec::{Connect, Packet, Publish, PublishProperties, ReasonCode, Version, Will};
use tidings_core::message::QoS;
use tidings_tests::program::{mosquitto, run};
use tidings_tests::raw_client::publish_packet;
use tidings_tests::{
    ClientError, Delivery, Endpoint, Program, RawClient, TidingsOptions, TidingsProcess, clean,
    persistent,
};

fn managed() -> TidingsOptions {
    TidingsOptions::new()
        .set("rooms.mode", "\"managed\"")
        .set("rooms.requests_per_minute", 60_000)
}

fn connect(endpoint: Endpoint, version: Version, user: &str, client_id: &str) -> RawClient {
    let connect = Connect {
        username: Some(user),
        ..clean(version, client_id)
    };
    RawClient::connect(endpoint, &connect)
}

/// A user who asks for things, on a connection of their own.
struct Person {
    user: String,
    client: RawClient,
    asked: u64,
}

impl Person {
    #[track_caller]
    fn new(broker: &TidingsProcess, user: &str) -> Self {
        let id = format!("{user}-asks");
        let mut client = connect(broker.tcp(), Version::V5, user, &id);
        let granted = client.subscribe(&format!("user/{user}/reply"), QoS::AtLeastOnce);
        assert_eq!(granted, ReasonCode::GrantedQoS1);
        Self {
            user: user.to_owned(),
            client,
            asked: 0,
        }
    }

    /// Sends a request and does not wait.
    #[track_caller]
    fn send(&mut self, method: &str, mut request: Value) -> u64 {
        self.asked += 1;
        request["id"] = self.asked.into();
        let topic = format!("user/{}/request/{method}", self.user);
        let packet_id = self.client.new_packet_id();
        let payload = request.to_string();
        let packet = publish_packet(&topic, payload.as_bytes(), QoS::AtLeastOnce, packet_id);
        self.client.send(&packet);
        self.asked
    }

    /// The next answer.
    #[track_caller]
    fn answer(&mut self) -> Value {
        loop {
            let frame = self.client.next();
            if let Some(delivery) = frame.delivery() {
                self.client.acknowledge(&delivery);
                return serde_json::from_slice(&delivery.payload).expect("answers are JSON");
            }
        }
    }

    #[track_caller]
    fn ask(&mut self, method: &str, request: Value) -> Value {
        let id = self.send(method, request);
        let answer = self.answer();
        assert_eq!(answer["id"], id, "{answer}");
        answer
    }

    #[track_caller]
    fn does(&mut self, method: &str, request: Value) {
        let answer = self.ask(method, request.clone());
        assert_eq!(
            answer["ok"], true,
            "{} {method} {request}: {answer}",
            self.user
        );
    }

    #[track_caller]
    fn may_not(&mut self, method: &str, request: Value) -> String {
        let answer = self.ask(method, request);
        assert_eq!(answer["ok"], false, "{answer}");
        answer["error"]["code"].as_str().expect("a code").to_owned()
    }
}

/// Ann has the private room cellar with bob, and the open room lobby with bob and eve.
struct House {
    broker: TidingsProcess,
    ann: Person,
    bob: Person,
    eve: Person,
}

impl House {
    #[track_caller]
    fn new() -> Self {
        Self::with(managed())
    }

    #[track_caller]
    fn with(options: TidingsOptions) -> Self {
        let broker = options.start();
        let mut ann = Person::new(&broker, "ann");
        let mut bob = Person::new(&broker, "bob");
        let mut eve = Person::new(&broker, "eve");
        ann.does("create", json!({ "room": "cellar", "kind": "private" }));
        ann.does("create", json!({ "room": "lobby", "title": "The Lobby" }));
        ann.does("invite", json!({ "room": "cellar", "user": "bob" }));
        bob.does("join", json!({ "room": "cellar" }));
        bob.does("join", json!({ "room": "lobby" }));
        eve.does("join", json!({ "room": "lobby" }));
        Self {
            broker,
            ann,
            bob,
            eve,
        }
    }

    /// A client of a user that listens to a filter.
    #[track_caller]
    fn listener(&self, user: &str, id: &str, filter: &str) -> RawClient {
        let mut client = connect(self.broker.tcp(), Version::V5, user, id);
        let reason = client.subscribe(filter, QoS::AtLeastOnce);
        assert!(!reason.is_failure(), "{filter}: {reason:?}");
        client
    }
}

#[track_caller]
fn say(client: &mut RawClient, topic: &str, text: &str) {
    client.publish(topic, text, QoS::AtLeastOnce);
}

/// Everything that comes up to and with the message that `ends` it.
#[track_caller]
fn received_until(client: &mut RawClient, ends: impl Fn(&Delivery) -> bool) -> Vec<Delivery> {
    let mut received = Vec::new();
    loop {
        let delivery = client.receive();
        let last = ends(&delivery);
        received.push(delivery);
        if last {
            return received;
        }
    }
}

#[test]
fn a_private_room_is_not_seen_by_an_outsider_through_any_door() {
    let mut house = House::new();
    let tcp = house.broker.tcp();
    let mut ann = connect(tcp, Version::V5, "ann", "ann-talks");
    // History and retained messages that were there before.
    say(&mut ann, "chat/cellar/ann", "an old secret");
    let packet_id = ann.new_packet_id();
    ann.send(&Packet::Publish(Publish {
        retain: true,
        dup: false,
        qos: QoS::AtLeastOnce,
        topic: "read/cellar/ann",
        packet_id: Some(packet_id),
        properties: PublishProperties::default(),
        payload: b"1",
    }));
    assert_eq!(ann.expect_puback(packet_id).reason, ReasonCode::Success);

    // By name: refused.
    let mut eve = connect(tcp, Version::V5, "eve", "eve-tries");
    for filter in [
        "chat/cellar/+",
        "chat/cellar/#",
        "chat/cellar/ann",
        "room/cellar",
        "read/cellar/+",
        "$share/g/chat/cellar/+",
        "$replay/last/10/chat/cellar/+",
    ] {
        let reason = eve.subscribe(filter, QoS::AtLeastOnce);
        assert_eq!(reason, ReasonCode::NotAuthorized, "{filter}");
    }
    // By wildcards, shared, and from history: granted, and it has what is hers only.
    let filters = [
        "#",
        "+/+/+",
        "chat/#",
        "+/cellar/#",
        "room/cellar/member/+",
        "$share/g/chat/#",
        "$replay/last/100/chat/#",
        "$replay/seq/1/+/cellar/+",
    ];
    let mut listeners: Vec<(&str, RawClient)> = filters
        .into_iter()
        .map(|filter| {
            (
                filter,
                house.listener("eve", &format!("eve {filter}"), filter),
            )
        })
        .collect();
    let mut of_bob = house.listener("bob", "bob-listens", "chat/cellar/+");

    // A Will of an outsider is not heard; that of a member is, by members.
    for (user, text) in [("eve", "forged"), ("ann", "the last word")] {
        let topic = format!("chat/cellar/{user}");
        let dying = Connect {
            username: Some(user),
            will: Some(Will {
                topic: &topic,
                payload: text.as_bytes(),
                qos: QoS::AtLeastOnce,
                retain: false,
                delay_s: 0,
                properties: PublishProperties::default(),
            }),
            ..clean(Version::V5, "dying")
        };
        RawClient::connect(tcp, &dying).abandon();
    }
    say(&mut ann, "chat/cellar/ann", "a secret");
    assert_eq!(of_bob.receive().text(), "the last word");
    assert_eq!(of_bob.receive().text(), "a secret");

    // Publishing: MQTT 5 is told in the acknowledgement, MQTT 3.1.1 in the inbox.
    let packet_id = eve.new_packet_id();
    let forged = publish_packet("chat/cellar/eve", b"x", QoS::AtLeastOnce, packet_id);
    eve.send(&forged);
    assert_eq!(
        eve.expect_puback(packet_id).reason,
        ReasonCode::NotAuthorized
    );
    let mut old = connect(tcp, Version::V311, "eve", "eve-old");
    old.subscribe("user/eve/inbox", QoS::AtLeastOnce);
    old.send(&forged);
    let notice = old.expect_publish();
    let notice: Value = serde_json::from_slice(&notice.payload).expect("JSON");
    assert_eq!(notice["event"], "refused");
    assert_eq!(notice["topic"], "chat/cellar/eve");
    assert_eq!(notice["reason"], 0x87);
    old.expect_closed();

    // Requests.
    for method in ["join", "leave", "delete", "archive"] {
        let code = house.eve.may_not(method, json!({ "room": "cellar" }));
        assert_eq!(code, "no_such_room", "{method}");
    }
    for list in [json!({}), json!({ "public": true })] {
        let list = house.eve.ask("list", list);
        assert_eq!(list["rooms"].as_array().map(Vec::len), Some(1), "{list}");
    }
    // The answer goes where eve could speak herself, not where she would like it to.
    let packet_id = eve.new_packet_id();
    eve.send(&Packet::Publish(Publish {
        retain: false,
        dup: false,
        qos: QoS::AtLeastOnce,
        topic: "user/eve/request/list",
        packet_id: Some(packet_id),
        properties: PublishProperties {
            response_topic: Some("chat/lobby/ann"),
            correlation_data: Some(b"7"),
            ..PublishProperties::default()
        },
        payload: b"{}",
    }));
    let listed = house.eve.answer();
    assert_eq!(listed["method"], "list");

    // What all of her connections got: nothing of the cellar before a word in the lobby.
    say(&mut ann, "chat/lobby/ann", "hello all");
    for (filter, client) in &mut listeners {
        let is_about_lobby = filter.contains("chat") || filter.starts_with(['#', '+']);
        if !is_about_lobby || filter.contains("cellar") {
            client.expect_silence();
            continue;
        }
        for delivery in received_until(client, |d| d.text() == "hello all") {
            let seen = format!("{filter}: {} {}", delivery.topic, delivery.text());
            assert!(!delivery.topic.contains("cellar"), "{seen}");
            assert!(!delivery.text().contains("secret"), "{seen}");
            assert_ne!(delivery.topic, "user/eve/request/list", "{seen}");
        }
    }
    // And nobody was spoken for.
    let mut seen = house.listener("bob", "bob-replays", "$replay/last/100/chat/#");
    for delivery in received_until(&mut seen, |d| d.text() == "hello all") {
        assert_ne!(delivery.text(), "forged");
        assert!(!delivery.text().contains("method"), "{}", delivery.text());
    }
}

#[test]
fn a_new_member_gets_the_room_and_its_members_without_subscribing_again() {
    let mut house = House::new();
    let mut eve = house.listener("eve", "eve-sees", "room/#");
    let mut of_lobby = BTreeSet::new();
    while !of_lobby.contains("room/lobby/member/eve") || of_lobby.len() < 4 {
        of_lobby.insert(eve.receive().topic);
    }
    house
        .ann
        .does("invite", json!({ "room": "cellar", "user": "eve" }));
    let invitation = eve.receive();
    assert_eq!(invitation.topic, "room/cellar/invite/eve");
    house.eve.does("join", json!({ "room": "cellar" }));
    let mut of_cellar = BTreeSet::new();
    while of_cellar.len() < 5 {
        of_cellar.insert(eve.receive().topic);
    }
    let expected = [
        "room/cellar",
        "room/cellar/invite/eve",
        "room/cellar/member/ann",
        "room/cellar/member/bob",
        "room/cellar/member/eve",
    ];
    assert_eq!(of_cellar, expected.map(str::to_owned).into());
    // And learns when it is over.
    house
        .ann
        .does("kick", json!({ "room": "cellar", "user": "eve" }));
    let gone = eve.receive();
    assert_eq!(
        (gone.topic.as_str(), gone.payload.len()),
        ("room/cellar/member/eve", 0)
    );
}

/// A connection that notes when messages of the cellar come, until it is told to stop.
struct Watcher {
    door: &'static str,
    last: Arc<Mutex<Option<Instant>>>,
    count: Arc<AtomicU64>,
    thread: thread::JoinHandle<()>,
}

fn watch(mut client: RawClient, door: &'static str, stop: Arc<AtomicBool>) -> Watcher {
    let last = Arc::new(Mutex::new(None));
    let count = Arc::new(AtomicU64::new(0));
    let (seen, counted) = (last.clone(), count.clone());
    let thread = thread::spawn(move || {
        while !stop.load(Relaxed) {
            let soon = Instant::now() + Duration::from_millis(50);
            match client.try_next_until(soon) {
                Ok(frame) => {
                    if let Some(delivery) = frame.delivery() {
                        if delivery.topic.starts_with("chat/cellar/") {
                            *seen.lock().expect("no panic") = Some(Instant::now());
                            counted.fetch_add(1, Relaxed);
                        }
                        client.acknowledge(&delivery);
                    }
                }
                Err(ClientError::Deadline(_)) => {}
                Err(error) => panic!("{door}: {error}"),
            }
        }
    });
    Watcher {
        door,
        last,
        count,
        thread,
    }
}

#[test]
fn who_is_kicked_gets_nothing_a_second_later_through_any_door_nor_from_the_backlog() {
    let mut house = House::new();
    let tcp = house.broker.tcp();
    // A session of bob's that is away, and has a backlog when he is sent away.
    let away = Connect {
        username: Some("bob"),
        ..persistent(Version::V5, "bob-away")
    };
    let mut client = RawClient::connect(tcp, &away);
    client.subscribe("chat/#", QoS::AtLeastOnce);
    client.abandon();

    let stop = Arc::new(AtomicBool::new(false));
    let doors = [
        ("by name", "chat/cellar/+"),
        ("#", "#"),
        ("+/+/+", "+/+/+"),
        ("$share", "$share/bobs/chat/#"),
        ("$replay", "$replay/last/1000/chat/cellar/#"),
    ];
    let watchers: Vec<Watcher> = doors
        .into_iter()
        .map(|(door, filter)| {
            let client = house.listener("bob", &format!("bob {door}"), filter);
            watch(client, door, stop.clone())
        })
        .collect();

    // 1,000 messages a second, from before the kick until long after it.
    let mut talker = connect(tcp, Version::V5, "ann", "ann-talks");
    let talking = stop.clone();
    let sent = Arc::new(AtomicU64::new(0));
    let sent_so_far = sent.clone();
    let talks = thread::spawn(move || {
        let begin = Instant::now();
        let mut number = 0_u64;
        while !talking.load(Relaxed) {
            let due = begin.elapsed().as_millis() as u64;
            while number < due {
                number += 1;
                let text = format!("message {number}");
                let id = talker.new_packet_id();
                let packet =
                    publish_packet("chat/cellar/ann", text.as_bytes(), QoS::AtLeastOnce, id);
                talker.send(&packet);
            }
            sent_so_far.store(number, Relaxed);
            let soon = Instant::now() + Duration::from_millis(1);
            while talker.try_next_until(soon).is_ok() {}
        }
    });
    let enough = |watcher: &Watcher| watcher.count.load(Relaxed) >= 500;
    let until = Instant::now() + tidings_tests::DEADLINE;
    while !watchers.iter().all(enough) {
        assert!(Instant::now() < until, "nothing flows");
        thread::yield_now();
        thread::sleep(Duration::from_millis(5));
    }

    house
        .ann
        .does("kick", json!({ "room": "cellar", "user": "bob" }));
    let kicked = Instant::now();
    let sent_before = sent.load(Relaxed);
    while sent.load(Relaxed) < sent_before + 2500 {
        assert!(Instant::now() < until, "the talk ended");
        thread::sleep(Duration::from_millis(5));
    }
    stop.store(true, Relaxed);
    talks.join().expect("the talker does not panic");
    for watcher in watchers {
        watcher.thread.join().expect("no watcher panics");
        let last = watcher
            .last
            .lock()
            .expect("no panic")
            .expect("something came");
        let after = last.saturating_duration_since(kicked);
        eprintln!(
            "{}: {} messages, the last {after:?} after the answer to the kick",
            watcher.door,
            watcher.count.load(Relaxed)
        );
        assert!(
            after < Duration::from_secs(1),
            "{}: {after:?}",
            watcher.door
        );
    }

    // The backlog of the session that was away, and history, hold nothing of it any more.
    let mut ann = connect(tcp, Version::V5, "ann", "ann-again");
    say(&mut ann, "chat/lobby/ann", "still here");
    let mut bob = RawClient::connect(tcp, &away);
    assert!(bob.session_present());
    let backlog = received_until(&mut bob, |d| d.text() == "still here");
    assert_eq!(backlog.len(), 1, "{:?}", backlog.first());
    let mut history = house.listener("bob", "bob-late", "$replay/last/1000/chat/#");
    let history = received_until(&mut history, |d| d.text() == "still here");
    assert_eq!(history.len(), 1, "{:?}", history.first());
    let cellar = json!({ "room": "cellar" });
    assert_eq!(house.bob.may_not("history", cellar), "no_such_room");
}

#[test]
fn one_subscribe_is_enough_for_10_000_rooms() {
    const ROOMS: u64 = 10_000;
    let broker = managed()
        // Each room is a group commit of its own, and this is no test of the disk.
        .set("journal.durability", "\"interval\"")
        .set("rooms.max_owned_per_user", 2 * ROOMS)
        .set("rooms.max_rooms_per_user", 2 * ROOMS)
        .start();
    let mut ann = Person::new(&broker, "ann");
    let mut eve = Person::new(&broker, "eve");
    for number in 0..ROOMS {
        ann.send(
            "create",
            json!({ "room": format!("r{number}"), "kind": "private" }),
        );
    }
    for _ in 0..ROOMS {
        assert_eq!(ann.answer()["ok"], true);
    }
    eve.does("create", json!({ "room": "hers" }));
    let mut listens = connect(broker.tcp(), Version::V5, "ann", "ann-listens");
    listens.subscribe("chat/#", QoS::AtMostOnce);
    let mut outsider = connect(broker.tcp(), Version::V311, "eve", "eve-listens");
    outsider.subscribe("chat/#", QoS::AtMostOnce);

    let mut talks = connect(broker.tcp(), Version::V311, "ann", "ann-talks");
    let mut came = BTreeSet::new();
    for number in 0..ROOMS {
        let topic = format!("chat/r{number}/ann");
        talks.send(&publish_packet(&topic, b"x", QoS::AtMostOnce, 0));
        // One at a time, so that no output is ever full.
        came.insert(listens.expect_publish().topic);
    }
    assert_eq!(came.len() as u64, ROOMS);
    let mut speaks = connect(broker.tcp(), Version::V5, "eve", "eve-talks");
    say(&mut speaks, "chat/hers/eve", "only this");
    assert_eq!(outsider.expect_publish().text(), "only this");
}

#[test]
fn rooms_are_used_with_mosquitto_and_any_version_of_mqtt() {
    let house = House::new();
    let tcp = house.broker.tcp().address();
    let program = |name: &str, arguments: &[&str]| {
        let mut command = mosquitto(name, tcp);
        command.args(arguments);
        command
    };
    // 3.1.1: a request topic and a reply topic.
    let mut replies = Program::start(program(
        "mosquitto_sub",
        &[
            "-d",
            "-q",
            "1",
            "-u",
            "dan",
            "-t",
            "user/dan/reply",
            "-F",
            "%t %p",
        ],
    ));
    replies.expect_line("a SUBACK", |line| line.starts_with("Subscribed"));
    run(program(
        "mosquitto_pub",
        &[
            "-q",
            "1",
            "-u",
            "dan",
            "-t",
            "user/dan/request/join",
            "-m",
            "{\"id\":1,\"room\":\"lobby\"}",
        ],
    ));
    replies.expect_line("an answer", |line| {
        line == "user/dan/reply {\"id\":1,\"method\":\"join\",\"ok\":true,\"room\":\"lobby\"}"
    });
    // 5: request and response.
    let answer = run(program(
        "mosquitto_rr",
        &[
            "-V",
            "5",
            "-q",
            "1",
            "-u",
            "fay",
            "-t",
            "user/fay/request/join",
            "-e",
            "user/fay/reply/1",
            "-m",
            "{\"room\":\"cellar\"}",
        ],
    ));
    let answer: Value = serde_json::from_str(&answer.concat()).expect("JSON");
    assert_eq!(answer["error"]["code"], "no_such_room");
    // And a member talks.
    let mut bob = Program::start(program(
        "mosquitto_sub",
        &["-d", "-v", "-u", "bob", "-t", "chat/#"],
    ));
    bob.expect_line("a SUBACK", |line| line.starts_with("Subscribed"));
    run(program(
        "mosquitto_pub",
        &[
            "-q",
            "1",
            "-u",
            "dan",
            "-t",
            "chat/lobby/dan",
            "-m",
            "I am in",
        ],
    ));
    bob.expect_line("the message", |line| line == "chat/lobby/dan I am in");
}

/// How many group commits the journal has had.
fn commits(broker: &TidingsProcess) -> u64 {
    let mut socket = std::net::TcpStream::connect(broker.ws().address()).expect("a connection");
    socket
        .write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .expect("it reads");
    let mut text = String::new();
    socket.read_to_string(&mut text).expect("an answer");
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("tidings_journal_batch_entries_count "));
    let line = line.unwrap_or_else(|| panic!("no count of group commits: {text}"));
    line.trim().parse().expect("a number")
}

#[test]
fn commands_that_do_not_touch_each_other_share_group_commits_and_the_others_keep_their_order() {
    const GUESTS: u64 = 200;
    let mut house = House::new();
    let before = commits(&house.broker);
    let topic = "user/ann/request/invite";
    let requests: Vec<String> = (0..GUESTS)
        .map(|n| json!({ "room": "cellar", "user": format!("guest{n}"), "id": n }).to_string())
        .collect();
    // All in one write.
    let ids: Vec<u16> = (0..GUESTS)
        .map(|_| house.ann.client.new_packet_id())
        .collect();
    let packets = requests
        .iter()
        .zip(ids)
        .map(|(request, id)| publish_packet(topic, request.as_bytes(), QoS::AtLeastOnce, id));
    house.ann.client.try_send_all(packets).expect("it reads");
    for n in 0..GUESTS {
        let answer = house.ann.answer();
        assert_eq!(
            (&answer["id"], &answer["ok"]),
            (&json!(n), &json!(true)),
            "{answer}"
        );
    }
    // Each invitation is a record, and a notice to who is invited.
    let taken = commits(&house.broker) - before;
    assert!(
        taken < GUESTS / 2,
        "{taken} group commits for {GUESTS} commands"
    );
    // What is about the same is decided one after the other.
    let title = |text: &str| json!({ "room": "cellar", "title": text });
    for number in 0..20 {
        house.ann.send("rename", title(&format!("title {number}")));
        house
            .ann
            .send("kick", json!({ "room": "cellar", "user": "bob" }));
    }
    let mut kicked = 0;
    for _ in 0..40 {
        let answer = house.ann.answer();
        match answer["method"].as_str() {
            Some("kick") => kicked += u64::from(answer["ok"] == true),
            _ => assert_eq!(answer["ok"], true, "{answer}"),
        }
    }
    assert_eq!(kicked, 1);
    let listed = house.ann.ask("list", json!({}));
    let rooms = listed["rooms"].as_array().expect("a list");
    let cellar = rooms.iter().find(|room| room["room"] == "cellar");
    assert_eq!(cellar.expect("it is hers")["title"], "title 19");
}

#[test]
fn mutes_slow_mode_and_archives_are_kept_by_the_broker() {
    let mut house = House::new();
    let tcp = house.broker.tcp();
    let mut eve = connect(tcp, Version::V5, "eve", "eve-talks");
    let mut tries = |text: &str| {
        let id = eve.new_packet_id();
        let packet = publish_packet("chat/lobby/eve", text.as_bytes(), QoS::AtLeastOnce, id);
        eve.send(&packet);
        eve.expect_puback(id)
    };
    assert!(!tries("one").reason.is_failure());
    house
        .ann
        .does("slow", json!({ "room": "lobby", "seconds": 3600 }));
    assert!(!tries("two").reason.is_failure());
    let refused = tries("three");
    assert_eq!(refused.reason, ReasonCode::QuotaExceeded);
    let text = refused.reason_string.unwrap_or_default();
    assert!(text.starts_with("slow mode: write again in "), "{text}");
    house
        .ann
        .does("slow", json!({ "room": "lobby", "seconds": 0 }));
    assert!(!tries("four").reason.is_failure());
    house.ann.does(
        "mute",
        json!({ "room": "lobby", "user": "eve", "seconds": 2 }),
    );
    assert_eq!(tries("five").reason, ReasonCode::NotAuthorized);
    // It ends by itself.
    let until = Instant::now() + tidings_tests::DEADLINE;
    while tries("six").reason.is_failure() {
        assert!(Instant::now() < until, "the mute does not end");
        thread::sleep(Duration::from_millis(50));
    }
    house.ann.does("archive", json!({ "room": "lobby" }));
    assert_eq!(tries("seven").reason, ReasonCode::NotAuthorized);
    assert_eq!(
        house
            .bob
            .may_not("rename", json!({ "room": "lobby", "title": "x" })),
        "not_allowed"
    );
}

#[test]
fn rooms_are_the_same_after_the_broker_was_killed() {
    let mut house = House::new();
    house
        .ann
        .does("ban", json!({ "room": "lobby", "user": "eve" }));
    house
        .ann
        .does("transfer", json!({ "room": "cellar", "user": "bob" }));
    house
        .ann
        .does("create", json!({ "kind": "direct", "with": "dan" }));
    house.broker.kill();
    house.broker.restart();
    let mut ann = Person::new(&house.broker, "ann");
    let mut bob = Person::new(&house.broker, "bob");
    let mut eve = Person::new(&house.broker, "eve");
    assert_eq!(eve.may_not("join", json!({ "room": "lobby" })), "banned");
    assert_eq!(
        ann.may_not("delete", json!({ "room": "cellar" })),
        "not_allowed"
    );
    let rooms = ann.ask("list", json!({}));
    let names: Vec<_> = rooms["rooms"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|room| (room["room"].as_str(), room["role"].as_str()))
        .collect();
    let expected = [
        (Some("ann&dan"), Some("owner")),
        (Some("cellar"), Some("moderator")),
        (Some("lobby"), Some("owner")),
    ];
    assert_eq!(names, expected);
    bob.does("delete", json!({ "room": "cellar" }));
    assert_eq!(
        ann.may_not("join", json!({ "room": "cellar" })),
        "no_such_room"
    );
    assert_eq!(eve.may_not("create", json!({ "room": "cellar" })), "exists");
}

#[test]
fn who_does_not_read_is_cut_off_from_what_was_written_before_the_kick() {
    let mut house = House::new();
    let tcp = house.broker.tcp();
    let mut slow = house.listener("bob", "bob-slow", "chat/cellar/+");
    let mut talker = connect(tcp, Version::V5, "ann", "ann-talks");
    // More than the system takes for a client that does not read.
    let text = "x".repeat(200_000);
    for _ in 0..150 {
        say(&mut talker, "chat/cellar/ann", &text);
    }
    house
        .ann
        .does("kick", json!({ "room": "cellar", "user": "bob" }));
    // Not reading is what is tested here, and for how long.
    thread::sleep(Duration::from_secs(1));
    // What the system had already taken comes, and then the end, in the middle of something.
    loop {
        match slow.try_next() {
            Ok(_) => {}
            Err(ClientError::Closed) => break,
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn what_was_answered_is_there_after_a_crash_in_the_middle_of_requests() {
    const REQUESTS: u64 = 300;
    let mut broker = managed().start();
    let mut ann = Person::new(&broker, "ann");
    for number in 0..REQUESTS {
        let room = format!("r{number:03}");
        ann.send("create", json!({ "room": room, "kind": "private" }));
    }
    let mut answered = BTreeSet::new();
    while answered.len() < 100 {
        answered.insert(ann.answer()["room"].to_string());
    }
    broker.kill();
    // What had left the broker by then is an answer, too.
    while let Ok(frame) = ann.client.try_next() {
        if let Some(delivery) = frame.delivery() {
            let answer: Value = serde_json::from_slice(&delivery.payload).expect("JSON");
            answered.insert(answer["room"].to_string());
        }
    }
    broker.restart();
    let mut ann = Person::new(&broker, "ann");
    let mut found = BTreeSet::new();
    let mut after = String::new();
    loop {
        let page = ann.ask("list", json!({ "after": after, "limit": 70 }));
        for room in page["rooms"].as_array().expect("a list") {
            assert_eq!(room["role"], "owner", "{room}");
            assert_eq!(room["members"], 1, "{room}");
            found.insert(room["room"].to_string());
            after = room["room"].as_str().expect("a name").to_owned();
        }
        if page["more"] == false {
            break;
        }
    }
    let lost: Vec<_> = answered.difference(&found).collect();
    assert!(lost.is_empty(), "answered and lost: {lost:?}");
}
