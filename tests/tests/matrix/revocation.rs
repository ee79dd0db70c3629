//! Who is sent away, locked out or silenced while a thousand messages a second flow: nothing that is
//! said a second later reaches them, or is heard of them, through any door; nor does what is stored.
//!
//! Messages carry their number. It is held against the number that was the last one a second after the
//! answer, not against the clock at which a thread of this test came to read it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tidings_core::codec::{Connect, Packet, ReasonCode, Version};
use tidings_core::message::QoS;
use tidings_tests::raw_client::publish_packet;
use tidings_tests::{
    ClientError, DEADLINE, Delivery, RawClient, TidingsOptions, TidingsProcess, clean, persistent,
};

use crate::house::{PASSWORD, tidings, with_secret};
use crate::http::Caller;

/// In which everything is said.
const ROOM: &str = "cellar";
const TOPIC: &str = "chat/cellar/olga";
/// What counts as nothing any more, after the answer.
const SECOND: Duration = Duration::from_secs(1);
/// What somebody hears before they are sent away.
const ENOUGH: u64 = 100;

/// What happens to somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Kicked,
    Banned,
    Disabled,
    /// The token of their login is taken back.
    SignedOut,
    /// A device whose token is taken back.
    Revoked,
}

impl Fate {
    fn name(self) -> &'static str {
        match self {
            Self::Kicked => "kim",
            Self::Banned => "ben",
            Self::Disabled => "dora",
            Self::SignedOut => "sue",
            Self::Revoked => "lamp",
        }
    }

    /// They may come in again, and are in the lobby.
    fn stays(self) -> bool {
        matches!(self, Self::Kicked | Self::Banned)
    }
}

/// A way to hear what is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Door {
    ByName,
    Everything,
    Shared,
    Replayed,
    Events,
    Poll,
    Request,
    Page,
}

const DOORS: [Door; 8] = [
    Door::ByName,
    Door::Everything,
    Door::Shared,
    Door::Replayed,
    Door::Events,
    Door::Poll,
    Door::Request,
    Door::Page,
];

impl fmt::Display for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ByName => "chat/cellar/+",
            Self::Everything => "#",
            Self::Shared => "$share/one/chat/#",
            Self::Replayed => "$replay/last/50/chat/cellar/+",
            Self::Events => "/v1/events",
            Self::Poll => "/v1/poll",
            Self::Request => "history",
            Self::Page => "/v1/rooms/cellar/messages",
        })
    }
}

/// Somebody whose fate comes.
#[derive(Clone)]
struct Victim {
    name: &'static str,
    /// What MQTT takes as a password.
    secret: String,
    http: Caller,
}

/// What somebody heard so far.
#[derive(Default)]
struct Heard {
    count: AtomicU64,
    latest: AtomicU64,
}

impl Heard {
    fn take(&self, text: &str) {
        if let Ok(number) = text.parse() {
            self.count.fetch_add(1, Relaxed);
            self.latest.fetch_max(number, Relaxed);
        }
    }
}

/// Somebody at a door, on a thread that ends when they are out, or hear the mark in the lobby.
struct Watcher {
    door: Door,
    heard: Arc<Heard>,
    thread: JoinHandle<()>,
}

/// Olga, who says numbers, a thousand a second.
struct Talk {
    said: Arc<AtomicU64>,
    over: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Talk {
    fn begin(mut client: RawClient) -> Self {
        let (said, over) = (
            Arc::new(AtomicU64::new(0)),
            Arc::new(AtomicBool::new(false)),
        );
        let (count, end) = (said.clone(), over.clone());
        let thread = thread::spawn(move || {
            let begun = Instant::now();
            let mut number = 0;
            while !end.load(Relaxed) {
                let due = begun.elapsed().as_millis() as u64;
                // Not more at once than the broker takes unacknowledged.
                let last = due.min(number + 100);
                while number < last {
                    number += 1;
                    count.store(number, Relaxed);
                    let id = client.new_packet_id();
                    let text = number.to_string();
                    let packet = publish_packet(TOPIC, text.as_bytes(), QoS::AtLeastOnce, id);
                    client.send(&packet);
                }
                let soon = Instant::now() + Duration::from_millis(1);
                while client.try_next_until(soon).is_ok() {}
            }
        });
        Self { said, over, thread }
    }

    /// The number of the last message that may have been sent.
    fn said(&self) -> u64 {
        self.said.load(Relaxed)
    }

    #[track_caller]
    fn wait_for(&self, number: u64) {
        wait_until("the talk goes on", || self.said() >= number);
    }

    fn end(self) {
        self.over.store(true, Relaxed);
        self.thread.join().expect("the talker does not panic");
    }
}

#[track_caller]
fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let until = Instant::now() + DEADLINE;
    while !is_so() {
        assert!(Instant::now() < until, "{what}: not in time");
        thread::sleep(Duration::from_millis(5));
    }
}

struct Scene {
    broker: TidingsProcess,
    olga: Victim,
    zoe: RawClient,
    marks: u32,
}

impl Scene {
    fn new() -> Self {
        let broker = TidingsOptions::new()
            .set("rooms.mode", "\"managed\"")
            .set("rooms.requests_per_minute", 60_000)
            .set("http.requests_per_minute", 60_000)
            .set("auth.mode", "\"accounts\"")
            .set("auth.password_memory_kib", 1024)
            .set("auth.password_passes", 1)
            .start();
        for user in ["olga", "zoe", "mute"] {
            tidings(&broker, &["user", "add", user]);
        }
        let olga = enter(&broker, "olga", PASSWORD);
        let zoe = enter(&broker, "zoe", PASSWORD);
        let private = json!({ "room": ROOM, "kind": "private" });
        olga.http.does("POST", "/v1/rooms", private);
        zoe.http
            .does("POST", "/v1/rooms", json!({ "room": "lobby" }));
        let zoe = connect(&broker, &zoe, Version::V5, "zoe");
        olga.http.does("POST", "/v1/rooms/lobby/join", json!({}));
        Self {
            broker,
            olga,
            zoe,
            marks: 0,
        }
    }

    /// Signs somebody in, and brings them into both rooms.
    fn invite(&self, fate: Fate) -> Victim {
        let name = fate.name();
        let secret = match fate {
            Fate::Revoked => tidings(&self.broker, &["device", "add", name, "--owner", "olga"]),
            _ => {
                tidings(&self.broker, &["user", "add", name]);
                PASSWORD.to_owned()
            }
        };
        let mut victim = enter(&self.broker, name, &secret);
        if fate == Fate::Revoked {
            victim.secret = secret;
        }
        self.bring_in(&victim);
        victim
    }

    fn bring_in(&self, victim: &Victim) {
        let place = format!("/v1/rooms/{ROOM}/invitations/{}", victim.name);
        self.olga.http.does("PUT", &place, json!({}));
        for room in [ROOM, "lobby"] {
            let join = format!("/v1/rooms/{room}/join");
            victim.http.does("POST", &join, json!({}));
        }
    }

    fn send_away(&self, fate: Fate, victim: &Victim) {
        let olga = &self.olga.http;
        let name = fate.name();
        match fate {
            Fate::Kicked => {
                olga.does(
                    "DELETE",
                    &format!("/v1/rooms/{ROOM}/members/{name}"),
                    json!({}),
                );
            }
            Fate::Banned => {
                olga.does("PUT", &format!("/v1/rooms/{ROOM}/bans/{name}"), json!({}));
            }
            Fate::Disabled => drop(tidings(&self.broker, &["user", "disable", name])),
            Fate::SignedOut => drop(victim.http.does("POST", "/v1/logout", json!({}))),
            Fate::Revoked => drop(tidings(&self.broker, &["device", "revoke", name])),
        }
    }

    /// Says something in the lobby, after everything that was said before.
    fn mark(&mut self) -> String {
        let text = self.next_mark();
        self.marks += 1;
        self.zoe.publish("chat/lobby/zoe", &text, QoS::AtLeastOnce);
        text
    }

    fn next_mark(&self) -> String {
        format!("mark {}", self.marks)
    }

    fn watch(&self, victim: &Victim, door: Door) -> Watcher {
        let heard = Arc::new(Heard::default());
        let (victim, mark, noted) = (victim.clone(), self.next_mark(), heard.clone());
        let thread = match door {
            Door::Events => {
                let path = "/v1/events?filter=chat/%23";
                let mut events = victim.http.stream(path).expect("a stream of events");
                thread::spawn(move || {
                    while let Some(message) = events.next() {
                        let text = message["payload"].as_str().unwrap_or_default();
                        if text == mark {
                            return;
                        }
                        noted.take(text);
                    }
                })
            }
            Door::Poll => thread::spawn(move || poll(&victim.http, "now", &mark, &noted)),
            Door::Page => thread::spawn(move || {
                let path = format!("/v1/rooms/{ROOM}/messages?limit=5");
                loop {
                    let answer = victim.http.get(&path);
                    match answer.status {
                        200 => take_page(&answer.json, &noted),
                        401 | 403 | 404 => return,
                        _ => panic!("{answer:?}"),
                    }
                }
            }),
            Door::Request => {
                let mut client = self.connect(&victim, Version::V5, "asks");
                let replies = format!("user/{}/reply", victim.name);
                client.subscribe(&replies, QoS::AtMostOnce);
                let topic = format!("user/{}/request/history", victim.name);
                let asked = json!({ "room": ROOM, "limit": 5 }).to_string();
                thread::spawn(move || {
                    loop {
                        let packet = publish_packet(&topic, asked.as_bytes(), QoS::AtMostOnce, 0);
                        match client.try_send(&packet).and_then(|()| answer(&mut client)) {
                            Ok(page) if page["ok"] == true => take_page(&page, &noted),
                            Ok(page) => {
                                assert_eq!(page["error"]["code"], "no_such_room");
                                return;
                            }
                            Err(error) => return assert_ended(&error),
                        }
                        // The service answers so many a minute.
                        thread::sleep(Duration::from_millis(20));
                    }
                })
            }
            _ => {
                let version = match door {
                    Door::Everything => Version::V311,
                    _ => Version::V5,
                };
                let mut client = self.connect(&victim, version, &door.to_string());
                for filter in ["chat/lobby/+", &door.to_string()] {
                    let granted = client.subscribe(filter, QoS::AtLeastOnce);
                    assert!(!granted.is_failure(), "{filter}: {granted:?}");
                }
                thread::spawn(move || {
                    loop {
                        match delivery(&mut client) {
                            Ok(delivery) if delivery.text() == mark => return,
                            Ok(delivery) => noted.take(&delivery.text()),
                            Err(error) => return assert_ended(&error),
                        }
                    }
                })
            }
        };
        Watcher {
            door,
            heard,
            thread,
        }
    }

    fn connect(&self, victim: &Victim, version: Version, door: &str) -> RawClient {
        let id: String = (door.chars())
            .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
            .collect();
        connect(
            &self.broker,
            victim,
            version,
            &format!("{}-{id}", victim.name),
        )
    }

    /// A session that is away, and has a backlog.
    fn away(&self, victim: &Victim) -> RawClient {
        let id = format!("{}-away", victim.name);
        let connect = persistent(Version::V5, &id);
        let connect = with_secret(connect, victim.name, victim.secret.as_bytes());
        RawClient::connect(self.broker.tcp(), &connect)
    }

    /// Somebody hears what is said, meets their fate, and hears nothing more.
    fn play(&mut self, fate: Fate, talk: &Talk) {
        let victim = self.invite(fate);
        let start = victim.http.get("/v1/poll?since=now").json["cursor"].clone();
        let start = start.as_str().expect("a cursor").to_owned();
        let mut away = self.away(&victim);
        away.subscribe("chat/#", QoS::AtLeastOnce);
        away.abandon();
        let watchers = DOORS.map(|door| self.watch(&victim, door));
        for watcher in &watchers {
            let what = format!("{fate:?}, {}", watcher.door);
            // A page is five messages.
            wait_until(&what, || watcher.heard.count.load(Relaxed) >= ENOUGH);
        }
        self.send_away(fate, &victim);
        let until = Instant::now() + SECOND;
        thread::sleep(until.saturating_duration_since(Instant::now()));
        let last = talk.said();
        talk.wait_for(last + 1000);
        let mark = self.mark();
        for watcher in watchers {
            let what = format!("{fate:?}, {}", watcher.door);
            let ended = watcher.thread.join();
            assert!(ended.is_ok(), "{what}: what came to an end is above");
            let heard = watcher.heard.latest.load(Relaxed);
            assert!(heard <= last, "{what}: {heard} was said after {last}");
        }
        match fate.stays() {
            true => self.hears_nothing_stored(&victim, &start, &mark),
            false => self.is_not_let_in(&victim),
        }
    }

    /// What is stored, from before and after, is not given out either.
    fn hears_nothing_stored(&self, victim: &Victim, start: &str, mark: &str) {
        let mut away = self.away(victim);
        assert!(away.session_present());
        let mut replay = self.connect(victim, Version::V5, "late");
        replay.subscribe("$replay/last/1000/chat/#", QoS::AtLeastOnce);
        for (what, client) in [("the session", &mut away), ("$replay", &mut replay)] {
            loop {
                let delivery = client.receive();
                assert_ne!(delivery.topic, TOPIC, "{what}: {}", delivery.text());
                if delivery.text() == mark {
                    break;
                }
            }
        }
        let by_name = format!("$replay/seq/1/chat/{ROOM}/#");
        let refused = replay.subscribe(&by_name, QoS::AtLeastOnce);
        assert_eq!(refused, ReasonCode::NotAuthorized);
        let heard = Heard::default();
        poll(&victim.http, start, mark, &heard);
        let path = format!("/v1/events?filter=chat/%23&since={start}");
        let mut events = victim.http.stream(&path).expect("a stream of events");
        loop {
            let message = events.next().expect("the mark is in the stream");
            let text = message["payload"].as_str().unwrap_or_default();
            if text == mark {
                break;
            }
            heard.take(text);
        }
        assert_eq!(heard.count.load(Relaxed), 0);
        let page = victim
            .http
            .get(&format!("/v1/rooms/{ROOM}/messages?after=0"));
        assert_eq!((page.status, page.code()), (404, "no_such_room"));
    }

    fn is_not_let_in(&self, victim: &Victim) {
        let connect = with_secret(
            clean(Version::V5, "again"),
            victim.name,
            victim.secret.as_bytes(),
        );
        let (_, connack) = RawClient::try_connect(self.broker.tcp(), &connect, DEADLINE)
            .expect("an answer to CONNECT");
        assert!(connack.reason.is_failure(), "{connack:?}");
        for path in ["/v1/events", "/v1/poll", "/v1/rooms/cellar/messages"] {
            let answer = victim.http.get(path);
            assert!(matches!(answer.status, 401 | 403), "{path}: {answer:?}");
        }
    }

    /// Somebody who talks as well is silenced.
    fn mute(&mut self, talk: &Talk) {
        let name = "mute";
        let victim = enter(&self.broker, name, PASSWORD);
        self.bring_in(&victim);
        let mut ears = self.connect(&self.olga, Version::V5, "hears");
        ears.subscribe("chat/#", QoS::AtLeastOnce);
        let (over, accepted) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
        );
        let topic = format!("chat/{ROOM}/{name}");
        // What is said carries the number of the talk at which it was said, over both doors.
        let by_mqtt = {
            let (said, over, accepted) = (talk.said.clone(), over.clone(), accepted.clone());
            let mut client = self.connect(&victim, Version::V5, "talks");
            let topic = topic.clone();
            thread::spawn(move || {
                while !over.load(Relaxed) {
                    let (id, number) = (client.new_packet_id(), said.load(Relaxed));
                    let text = number.to_string();
                    client.send(&publish_packet(
                        &topic,
                        text.as_bytes(),
                        QoS::AtLeastOnce,
                        id,
                    ));
                    match client.expect_puback(id).reason {
                        reason if !reason.is_failure() => accepted.fetch_add(1, Relaxed),
                        ReasonCode::NotAuthorized => continue,
                        reason => panic!("{reason:?}"),
                    };
                }
            })
        };
        let by_http = {
            let (said, over, http) = (talk.said.clone(), over.clone(), victim.http.clone());
            thread::spawn(move || {
                while !over.load(Relaxed) {
                    let text = json!({ "text": said.load(Relaxed).to_string() });
                    let path = format!("/v1/rooms/{ROOM}/messages");
                    let answer = http.send("POST", &path, Some(text));
                    assert!(matches!(answer.status, 201 | 403), "{answer:?}");
                }
            })
        };
        wait_until("the muted talks", || accepted.load(Relaxed) >= 20);
        let mutes = format!("/v1/rooms/{ROOM}/mutes/{name}");
        self.olga.http.does("PUT", &mutes, json!({}));
        thread::sleep(SECOND);
        let last = talk.said();
        talk.wait_for(last + 1000);
        over.store(true, Relaxed);
        by_mqtt.join().expect("the muted does not panic");
        by_http.join().expect("the muted does not panic");
        let mark = self.mark();
        let mut heard = 0;
        let until = Instant::now() + DEADLINE;
        loop {
            assert!(Instant::now() < until, "the mark does not come");
            let delivery = ears.receive();
            if delivery.text() == mark {
                break;
            }
            if delivery.topic == topic {
                heard += 1;
                let number: u64 = delivery.text().parse().expect("a number");
                assert!(number <= last, "{number} was said after {last}");
            }
        }
        assert!(heard >= 20, "{heard} were heard before");
    }
}

/// Signs in over HTTP; MQTT takes the same token.
fn enter(broker: &TidingsProcess, name: &'static str, password: &str) -> Victim {
    let http = Caller::nobody(broker.ws().address()).sign_in(name, password);
    Victim {
        name,
        secret: http.token.clone(),
        http,
    }
}

fn connect(broker: &TidingsProcess, victim: &Victim, version: Version, id: &str) -> RawClient {
    let connect: Connect<'_> =
        with_secret(clean(version, id), victim.name, victim.secret.as_bytes());
    RawClient::connect(broker.tcp(), &connect)
}

/// Polls from `since` on, until the mark or a refusal.
fn poll(http: &Caller, since: &str, mark: &str, heard: &Heard) {
    let mut since = since.to_owned();
    let until = Instant::now() + DEADLINE * 2;
    loop {
        assert!(Instant::now() < until, "the mark does not come over polls");
        let answer = http.get(&format!("/v1/poll?filter=chat/%23&since={since}&wait=5"));
        if matches!(answer.status, 401 | 403) {
            return;
        }
        assert_eq!(answer.status, 200, "{answer:?}");
        for message in answer.json["messages"].as_array().expect("a list") {
            let text = message["payload"].as_str().unwrap_or_default();
            if text == mark {
                return;
            }
            heard.take(text);
        }
        let cursor = answer.json["cursor"].as_str().expect("a cursor");
        cursor.clone_into(&mut since);
    }
}

fn take_page(page: &Value, heard: &Heard) {
    for message in page["messages"].as_array().expect("a list") {
        heard.take(message["payload"].as_str().unwrap_or_default());
    }
}

fn delivery(client: &mut RawClient) -> Result<Delivery, ClientError> {
    loop {
        let frame = client.try_next()?;
        if let Some(delivery) = frame.delivery() {
            if let Some(id) = delivery.packet_id {
                let ack = tidings_core::codec::Ack::new(id, ReasonCode::Success);
                client.try_send(&Packet::PubAck(ack))?;
            }
            return Ok(delivery);
        }
    }
}

fn answer(client: &mut RawClient) -> Result<Value, ClientError> {
    let delivery = delivery(client)?;
    Ok(serde_json::from_slice(&delivery.payload).expect("answers are JSON"))
}

fn assert_ended(error: &ClientError) {
    assert!(!matches!(error, ClientError::Deadline(_)), "{error}");
}

#[test]
fn whoever_is_sent_away_while_a_thousand_messages_a_second_flow_hears_none_a_second_later() {
    let mut scene = Scene::new();
    let talk = Talk::begin(connect(
        &scene.broker,
        &scene.olga,
        Version::V5,
        "olga-talks",
    ));
    for fate in [
        Fate::Kicked,
        Fate::Banned,
        Fate::Disabled,
        Fate::SignedOut,
        Fate::Revoked,
    ] {
        scene.play(fate, &talk);
    }
    scene.mute(&talk);
    talk.end();
}
