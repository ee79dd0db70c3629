//! Server-Sent Events and polling, against the real program: the same messages as over MQTT, on one
//! cursor, for who may have them, while they may.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tidings_core::codec::{
    Connect, Packet, ReasonCode, RetainHandling, Subscribe, SubscribeFilter, Version,
};
use tidings_core::message::QoS;
use tidings_tests::program::{find, mosquitto, node, run};
use tidings_tests::raw_client::publish_packet;
use tidings_tests::{
    DEADLINE, Endpoint, Program, RawClient, TidingsOptions, TidingsProcess, binary, clean,
};

/// Percent-encodes everything but what is certainly plain.
fn encoded(text: &str) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._".contains(byte);
    text.bytes()
        .map(|byte| match plain(&byte) {
            true => char::from(byte).to_string(),
            false => format!("%{byte:02X}"),
        })
        .collect()
}

/// A request over a connection of its own: status line and headers are read, the body is not.
struct Http {
    status: u16,
    body: BufReader<TcpStream>,
    /// Bytes of the chunk that is being read.
    left: usize,
    chunked: bool,
}

impl Http {
    #[track_caller]
    fn send(at: Endpoint, method: &str, path: &str, token: Option<&str>, body: &str) -> Self {
        let mut socket = TcpStream::connect(at.address()).expect("a connection");
        socket.set_read_timeout(Some(DEADLINE)).expect("a timeout");
        let token = token.map_or(String::new(), |token| {
            format!("Authorization: Bearer {token}\r\n")
        });
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{token}\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        socket.write_all(request.as_bytes()).expect("it reads");
        let mut body = BufReader::new(socket);
        let mut line = || {
            let mut line = String::new();
            body.read_line(&mut line).expect("an answer");
            line.trim_end().to_owned()
        };
        let status = line();
        let status = status.split(' ').nth(1).and_then(|code| code.parse().ok());
        let mut chunked = false;
        loop {
            let header = line().to_ascii_lowercase();
            chunked |= header == "transfer-encoding: chunked";
            if header.is_empty() {
                break;
            }
        }
        Self {
            status: status.expect("a status"),
            body,
            left: 0,
            chunked,
        }
    }

    /// The rest of the body, as JSON.
    #[track_caller]
    fn json(mut self) -> Value {
        let mut text = Vec::new();
        while let Some(byte) = self.byte() {
            text.push(byte);
        }
        serde_json::from_slice(&text).expect("JSON")
    }

    /// `None` at the end.
    fn byte(&mut self) -> Option<u8> {
        if self.chunked && self.left == 0 {
            let mut size = String::new();
            while size.trim().is_empty() {
                size.clear();
                if self.body.read_line(&mut size).ok()? == 0 {
                    return None;
                }
            }
            self.left = usize::from_str_radix(size.trim(), 16).expect("a chunk");
            if self.left == 0 {
                return None;
            }
        }
        let mut byte = [0];
        self.body.read_exact(&mut byte).ok()?;
        self.left = self.left.saturating_sub(1);
        Some(byte[0])
    }

    /// `None` at the end.
    fn line(&mut self) -> Option<String> {
        let mut line = Vec::new();
        loop {
            match self.byte()? {
                b'\n' => return Some(String::from_utf8(line).expect("UTF-8")),
                byte => line.push(byte),
            }
        }
    }
}

/// One event of a stream.
#[derive(Debug, Default)]
struct Event {
    name: String,
    data: String,
}

impl Event {
    #[track_caller]
    fn json(&self) -> Value {
        serde_json::from_str(&self.data).expect("JSON")
    }
}

/// A reader of `/v1/events`, as a browser is one.
struct Events {
    http: Http,
    last_id: String,
}

impl Events {
    #[track_caller]
    fn open(at: Endpoint, token: &str, query: &str) -> Self {
        let path = format!("/v1/events?{query}");
        let http = Http::send(at, "GET", &path, Some(token), "");
        let status = http.status;
        assert_eq!(status, 200, "{path}");
        Self {
            http,
            last_id: String::new(),
        }
    }

    /// The next event; `None` at the end. What only moves the position on is passed over.
    fn next(&mut self) -> Option<Event> {
        let until = Instant::now() + DEADLINE;
        loop {
            assert!(Instant::now() < until, "only heartbeats come");
            let event = self.block()?;
            if !event.name.is_empty() {
                return Some(event);
            }
        }
    }

    /// Up to the next empty line.
    fn block(&mut self) -> Option<Event> {
        let mut event = Event::default();
        loop {
            let line = self.http.line()?;
            match line.split_once(": ") {
                Some(("id", id)) => self.last_id = id.to_owned(),
                Some(("event", name)) => event.name = name.to_owned(),
                Some(("data", data)) => event.data = data.to_owned(),
                Some(("" | "retry", _)) => {}
                None if line.is_empty() => return Some(event),
                _ => panic!("no line of a stream: {line}"),
            }
        }
    }

    #[track_caller]
    fn message(&mut self) -> Value {
        let event = self.next().expect("an event");
        assert_eq!(event.name, "message", "{}", event.data);
        event.json()
    }
}

#[track_caller]
fn token(at: Endpoint, user: &str, password: &str) -> String {
    let body = json!({ "user": user, "password": password }).to_string();
    let answer = Http::send(at, "POST", "/v1/login", None, &body);
    assert_eq!(answer.status, 200);
    answer.json()["token"].as_str().expect("a token").to_owned()
}

#[track_caller]
fn poll(at: Endpoint, token: &str, query: &str) -> Value {
    let path = format!("/v1/poll?{query}");
    let answer = Http::send(at, "GET", &path, Some(token), "");
    let status = answer.status;
    let json = answer.json();
    assert_eq!(status, 200, "{json}");
    json
}

fn connect(endpoint: Endpoint, user: &str, client_id: &str) -> RawClient {
    let connect = Connect {
        username: Some(user),
        ..clean(Version::V5, client_id)
    };
    RawClient::connect(endpoint, &connect)
}

fn texts(messages: &Value) -> Vec<String> {
    let messages = messages["messages"].as_array().expect("a list").iter();
    messages
        .map(|message| message["payload"].as_str().expect("text").to_owned())
        .collect()
}

fn curl(at: Endpoint, path: &str, token: &str) -> Command {
    let mut command = Command::new("curl");
    let header = format!("Authorization: Bearer {token}");
    let url = format!("http://{}{path}", at.address());
    command.args(["-sSN", "--max-time", "60", "-H", &header, &url]);
    command
}

#[test]
fn what_mosquitto_pub_says_in_a_room_is_read_by_curl_over_events_and_polls_with_the_same_number() {
    let broker = TidingsProcess::start();
    let at = broker.ws();
    let alice = token(at, "alice", "");
    let start = poll(at, &alice, "since=now")["cursor"]
        .as_str()
        .expect("a cursor")
        .to_owned();
    let mut events = Program::start(curl(at, "/v1/events?filter=chat/%23", &alice));
    events.expect_line("the position", |line| line.starts_with("id: "));
    let wait = format!("/v1/poll?filter=chat/%23&since={start}&wait=30");
    let waiting = Program::start(curl(at, &wait, &alice));
    let mut watch = mosquitto("mosquitto_sub", broker.tcp().address());
    watch.args([
        "-u", "carol", "-V", "5", "-q", "1", "-d", "-t", "chat/#", "-F", "%P|%t|%p",
    ]);
    let mut watch = Program::start(watch);
    watch.expect_line("a SUBACK", |line| line.starts_with("Subscribed"));
    let text = "héllo \"wörld\" 你好";
    let mut publish = mosquitto("mosquitto_pub", broker.tcp().address());
    publish.args(["-u", "bob", "-q", "1", "-t", "chat/lobby/bob", "-m", text]);
    run(publish);
    let seen = watch.expect_line("the message", |line| line.contains("seq:"));
    assert!(seen.contains("seq:1 "), "{seen}");
    let line = events.expect_line("the message", |line| line.starts_with("data: "));
    let over_events: Value = serde_json::from_str(&line["data: ".len()..]).expect("JSON");
    let over_poll: Value = serde_json::from_str(&waiting.finish().concat()).expect("JSON");
    let expected = json!({
        "topic": "chat/lobby/bob",
        "room": "lobby",
        "from": "bob",
        "seq": 1,
        "id": "chat/lobby/1",
        "ts": over_events["ts"],
        "payload": text,
        "cursor": over_events["cursor"],
    });
    assert!(over_events["ts"].is_u64());
    assert_eq!(over_events, expected);
    assert_eq!(over_poll["messages"], json!([expected]));
    assert_eq!(over_poll["cursor"], expected["cursor"]);
    // Later, at once, and not twice.
    let again = poll(at, &alice, &format!("filter=chat/%23&since={start}"));
    assert_eq!(again["messages"], json!([expected]));
    let since = over_poll["cursor"].as_str().expect("a cursor");
    let nothing = poll(at, &alice, &format!("filter=chat/%23&since={since}"));
    assert_eq!(nothing["messages"], json!([]));
    // The other way round.
    let said = json!({ "text": "from a script" }).to_string();
    let said = Http::send(at, "POST", "/v1/rooms/lobby/messages", Some(&alice), &said);
    assert!(matches!(said.status, 200 | 201), "{}", said.status);
    let receipt = said.json();
    let seen = watch.expect_line("the message", |line| line.ends_with("|from a script"));
    assert!(
        seen.contains("seq:2 ") && seen.contains("|chat/lobby/alice|"),
        "{seen}"
    );
    assert_eq!(receipt["seq"], 2);
    let line = events.expect_line("the message", |line| line.starts_with("data: "));
    let over_events: Value = serde_json::from_str(&line["data: ".len()..]).expect("JSON");
    assert_eq!(over_events["payload"], "from a script");
    assert_eq!(over_events["id"], receipt["id"]);
    let since = over_events["cursor"].as_str().expect("a cursor");
    // Bytes that are no text are the same bytes.
    let mut bob = connect(broker.tcp(), "bob", "bob-bytes");
    bob.publish("chat/lobby/bob", [0xff, 0x00, 0x10], QoS::AtLeastOnce);
    let bytes = poll(at, &alice, &format!("filter=chat/%23&since={since}"));
    assert_eq!(bytes["messages"][0]["payload_base64"], "/wAQ");
}

/// A way to the broker that can be cut, and that notes what was asked over it.
struct Cable {
    address: SocketAddr,
    ends: Arc<Mutex<Vec<TcpStream>>>,
    asked: Arc<Mutex<Vec<u8>>>,
}

impl Cable {
    fn to(broker: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("it is bound");
        let (ends, asked) = (Arc::new(Mutex::new(Vec::new())), Arc::default());
        let cable = Self {
            address,
            ends: Arc::clone(&ends),
            asked: Arc::clone(&asked),
        };
        // It ends with the test.
        thread::spawn(move || {
            for browser in listener.incoming().map_while(Result::ok) {
                let broker = TcpStream::connect(broker).expect("the broker is there");
                let copy = |stream: &TcpStream| stream.try_clone().expect("one more handle");
                ends.lock()
                    .expect("no panic")
                    .extend([copy(&browser), copy(&broker)]);
                let (mut up, mut down) = (copy(&browser), copy(&broker));
                let (mut to_broker, asked) = (broker, Arc::clone(&asked));
                thread::spawn(move || {
                    let mut bytes = [0; 4096];
                    while let Ok(count @ 1..) = up.read(&mut bytes) {
                        let bytes = &bytes[..count];
                        asked.lock().expect("no panic").extend(bytes);
                        if to_broker.write_all(bytes).is_err() {
                            return;
                        }
                    }
                    let _ = to_broker.shutdown(Shutdown::Write);
                });
                let mut to_browser = browser;
                thread::spawn(move || {
                    let _ = std::io::copy(&mut down, &mut to_browser);
                    let _ = to_browser.shutdown(Shutdown::Both);
                });
            }
        });
        cable
    }

    /// Everything that goes over it ends; what is dialled next goes through.
    fn cut(&self) {
        for end in self.ends.lock().expect("no panic").drain(..) {
            let _ = end.shutdown(Shutdown::Both);
        }
    }

    fn asked(&self) -> String {
        String::from_utf8_lossy(&self.asked.lock().expect("no panic")).into_owned()
    }
}

#[test]
fn an_event_source_in_chromium_and_curl_read_what_mosquitto_pub_says_and_go_on_where_they_were() {
    let broker = TidingsProcess::start();
    let at = broker.ws();
    let alice = token(at, "alice", "");
    let polled = poll(at, &alice, "");
    let mut since = polled["cursor"].as_str().expect("a cursor").to_owned();
    let cable = Cable::to(at.address());
    let mut page = node("event_source.mjs");
    page.arg(format!("http://{}", cable.address))
        .env("CHROMIUM", find("chromium"));
    let mut page = Program::start(page);
    page.expect_line("an open stream", |line| line == "open");
    let mut watch = mosquitto("mosquitto_sub", broker.tcp().address());
    watch.args([
        "-u", "carol", "-V", "5", "-q", "1", "-d", "-t", "chat/#", "-F", "%P|%t|%p",
    ]);
    let mut watch = Program::start(watch);
    watch.expect_line("a SUBACK", |line| line.starts_with("Subscribed"));
    let say = |text: &str| {
        let mut publish = mosquitto("mosquitto_pub", broker.tcp().address());
        publish.args(["-u", "bob", "-q", "1", "-t", "chat/lobby/bob", "-m", text]);
        run(publish);
    };
    let mut long_poll = |page: &mut Program| -> Value {
        let path = format!("/v1/poll?filter=chat/%23&since={since}&wait=30");
        let waiting = Program::start(curl(at, &path, &alice));
        let line = page.expect_line("the message", |line| line.starts_with("message "));
        let (id, data) = line["message ".len()..]
            .split_once(' ')
            .expect("id and data");
        let message: Value = serde_json::from_str(data).expect("JSON");
        assert_eq!(message["cursor"], id);
        let polled = waiting.finish().concat();
        // To the last byte.
        assert!(polled.contains(data), "{polled}\nhas not\n{data}");
        id.clone_into(&mut since);
        message
    };
    let text = "h\u{e9}llo \"w\u{f6}rld\" \u{4f60}\u{597d}";
    say(text);
    let message = long_poll(&mut page);
    assert_eq!(
        (&message["seq"], &message["payload"]),
        (&json!(1), &json!(text))
    );
    let place = message["cursor"].as_str().expect("a cursor").to_owned();
    // The other way round: the page speaks, and it is read over MQTT and by both.
    page.say("h\u{e9}llo from a page");
    let seen = watch.expect_line("the message", |line| line.contains("seq:2 "));
    assert!(
        seen.ends_with("|chat/lobby/alice|h\u{e9}llo from a page"),
        "{seen}"
    );
    let message = long_poll(&mut page);
    assert_eq!(
        (&message["seq"], &message["payload"]),
        (&json!(2), &json!("h\u{e9}llo from a page"))
    );
    assert_ne!(message["cursor"], place);
    let last = message["cursor"].as_str().expect("a cursor").to_owned();
    // What is said while the connection is gone is read when the browser comes back by itself.
    cable.cut();
    page.expect_line("a broken stream", |line| line == "broken");
    say("while it was away");
    page.expect_line("an open stream", |line| line == "open");
    let message = long_poll(&mut page);
    assert_eq!(
        (&message["seq"], &message["payload"]),
        (&json!(3), &json!("while it was away"))
    );
    let header = format!("last-event-id: {last}");
    assert!(cable.asked().to_lowercase().contains(&header), "{header}");
    say("and on");
    assert_eq!(long_poll(&mut page)["seq"], 4);
    let lines = page.finish();
    let messages = lines.iter().filter(|line| line.starts_with("message "));
    assert_eq!(messages.count(), 4, "{lines:?}");
}

#[test]
fn what_is_typed_is_in_streams_and_waiting_polls_and_has_no_place() {
    let broker = TidingsProcess::start();
    let at = broker.ws();
    let alice = token(at, "alice", "");
    let mut events = Events::open(at, &alice, "filter=typing/%23");
    let first = events.block().expect("the position");
    assert!(first.name.is_empty() && !events.last_id.is_empty());
    let path = format!(
        "/v1/poll?filter=typing/%23&since={}&wait=30",
        events.last_id
    );
    let waiting = {
        let (path, alice) = (path.clone(), alice.clone());
        thread::spawn(move || Http::send(at, "GET", &path, Some(&alice), "").json())
    };
    let mut bob = connect(broker.tcp(), "bob", "bob-types");
    // A poll that is not there yet hears the next one.
    while !waiting.is_finished() {
        let packet = publish_packet("typing/lobby/bob", b"", QoS::AtMostOnce, 0);
        bob.send(&packet);
        thread::sleep(Duration::from_millis(20));
    }
    let message = json!({ "topic": "typing/lobby/bob", "room": "lobby", "payload": "" });
    assert_eq!(waiting.join().expect("an answer")["messages"][0], message);
    assert_eq!(events.message(), message);
}

#[test]
fn what_was_recalled_is_in_no_stream_and_no_poll_any_more() {
    let broker = TidingsProcess::start();
    let at = broker.ws();
    let alice = token(at, "alice", "");
    let polled = poll(at, &alice, "");
    let start = polled["cursor"].as_str().expect("a cursor");
    let mut bob = connect(broker.tcp(), "bob", "bob-regrets");
    bob.publish("chat/lobby/bob", "a secret", QoS::AtLeastOnce);
    bob.publish("chat/lobby/bob/recall/1", "", QoS::AtLeastOnce);
    let query = format!("filter=chat/%23&since={start}");
    assert_eq!(texts(&poll(at, &alice, &query)), ["", ""]);
    let mut events = Events::open(at, &alice, &query);
    for seq in 1..=2 {
        let message = events.message();
        assert_eq!(
            (&message["seq"], &message["payload"]),
            (&json!(seq), &json!(""))
        );
    }
    let mut by_websocket = connect(at, "alice", "alice-reads");
    let filter = format!("$replay/after/{start}/chat/#");
    by_websocket.subscribe(&filter, QoS::AtLeastOnce);
    assert_eq!(by_websocket.receive().text(), "");
}

/// Messages for who wanders between transports, how many a second, and how long one is used.
const COUNT: u64 = 2500;
const RATE: u64 = 200;
const HOP: Duration = Duration::from_secs(2);

/// A position that moves from transport to transport.
struct Wanderer {
    at: Endpoint,
    token: String,
    cursor: String,
    seen: Vec<u64>,
    used: BTreeSet<&'static str>,
}

impl Wanderer {
    const FILTERS: [&'static str; 2] = ["chat/#", "dm/alice/+"];

    fn has_everything(&self) -> bool {
        self.seen.len() as u64 >= COUNT
    }

    fn query(&self) -> String {
        let filters = Self::FILTERS.map(|filter| format!("filter={}&", encoded(filter)));
        format!("{}since={}", filters.concat(), self.cursor)
    }

    fn take(&mut self, how: &'static str, payload: &str, cursor: &str) {
        self.seen.push(payload.parse().expect("a number"));
        cursor.clone_into(&mut self.cursor);
        self.used.insert(how);
    }

    fn by_websocket(&mut self, until: Instant) {
        let mut client = connect(self.at, "alice", "alice-wanders");
        let filters = Self::FILTERS.map(|filter| format!("$replay/after/{}/{filter}", self.cursor));
        let packet_id = client.new_packet_id();
        client.send(&Packet::Subscribe(Subscribe {
            packet_id,
            subscription_id: None,
            user: Vec::new(),
            filters: filters
                .into_iter()
                .map(|filter| SubscribeFilter {
                    filter,
                    qos: QoS::AtLeastOnce,
                    no_local: false,
                    retain_as_published: false,
                    retain_handling: RetainHandling::SendAtSubscribe,
                })
                .collect(),
        }));
        let ack = client.expect_suback();
        assert_eq!(ack.reasons, [ReasonCode::GrantedQoS1; 2], "{ack:?}");
        while Instant::now() < until && !self.has_everything() {
            let delivery = client.receive();
            let cursor = delivery
                .user_property("cursor")
                .expect("a cursor")
                .to_owned();
            self.take("websocket", &delivery.text(), &cursor);
        }
        client.abandon();
    }

    fn by_events(&mut self, until: Instant) {
        let mut events = Events::open(self.at, &self.token, &self.query());
        while Instant::now() < until && !self.has_everything() {
            let message = events.message();
            let cursor = events.last_id.clone();
            self.take(
                "events",
                message["payload"].as_str().expect("text"),
                &cursor,
            );
        }
    }

    fn by_polls(&mut self, until: Instant) {
        let mut wait = 0;
        while Instant::now() < until && !self.has_everything() {
            let query = format!("{}&wait={wait}&limit=20", self.query());
            let polled = poll(self.at, &self.token, &query);
            assert!(polled.get("gap").is_none() && polled.get("reset").is_none());
            let cursor = polled["cursor"].as_str().expect("a cursor").to_owned();
            for text in texts(&polled) {
                self.take("polls", &text, &cursor);
            }
            self.cursor = cursor;
            wait = 5 - wait;
        }
    }
}

#[test]
fn who_changes_between_websocket_events_and_polls_loses_nothing_and_sees_nothing_twice() {
    let broker = TidingsProcess::start();
    let at = broker.ws();
    let token = token(at, "alice", "");
    let cursor = poll(at, &token, "")["cursor"]
        .as_str()
        .expect("a cursor")
        .to_owned();
    let mut alice = Wanderer {
        at,
        token,
        cursor,
        seen: Vec::new(),
        used: BTreeSet::new(),
    };
    let tcp = broker.tcp();
    let talker = thread::spawn(move || {
        let mut bob = connect(tcp, "bob", "bob-talks");
        let begun = Instant::now();
        for n in 0..COUNT {
            let topic = ["chat/lobby/bob", "chat/den/bob", "dm/alice/bob"][n as usize % 3];
            let qos = [QoS::AtMostOnce, QoS::AtLeastOnce][n as usize % 2];
            let packet_id = bob.new_packet_id();
            bob.send(&publish_packet(
                topic,
                n.to_string().as_bytes(),
                qos,
                packet_id,
            ));
            while let Ok(Some(_)) = bob.try_received() {}
            let due = begun + Duration::from_millis(n * 1000 / RATE);
            thread::sleep(due.saturating_duration_since(Instant::now()));
        }
        bob
    });
    let until = Instant::now() + DEADLINE + Duration::from_secs(10);
    let mut turn = 0;
    while !alice.has_everything() {
        assert!(Instant::now() < until, "only {} came", alice.seen.len());
        let hop = Instant::now() + HOP;
        match turn % 3 {
            0 => alice.by_websocket(hop),
            1 => alice.by_events(hop),
            _ => alice.by_polls(hop),
        }
        turn += 1;
    }
    talker.join().expect("the talker");
    assert_eq!(alice.used.len(), 3, "{:?}", alice.used);
    // In the order of the journal, which is that of their one publisher.
    assert_eq!(alice.seen, (0..COUNT).collect::<Vec<_>>());
}

/// Asks for something about rooms, and waits for the answer.
#[track_caller]
fn ask(client: &mut RawClient, user: &str, method: &str, request: &Value) {
    let id = client.new_packet_id();
    let topic = format!("user/{user}/request/{method}");
    let request = request.to_string();
    client.send(&publish_packet(
        &topic,
        request.as_bytes(),
        QoS::AtLeastOnce,
        id,
    ));
    loop {
        let Some(delivery) = client.next().delivery() else {
            continue;
        };
        client.acknowledge(&delivery);
        if delivery.topic == format!("user/{user}/reply") {
            assert!(
                delivery.text().contains("\"ok\":true"),
                "{}",
                delivery.text()
            );
            return;
        }
    }
}

/// Somebody talks in a room until told to stop; each text is the time since the beginning.
struct Talk {
    stop: Arc<AtomicBool>,
    said: Arc<AtomicU64>,
    thread: thread::JoinHandle<()>,
}

impl Talk {
    fn begin(mut client: RawClient, topic: &'static str, begun: Instant) -> Self {
        let (stop, said) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
        );
        let (stopped, count) = (stop.clone(), said.clone());
        let thread = thread::spawn(move || {
            while !stopped.load(Relaxed) {
                let text = begun.elapsed().as_millis().to_string();
                client.publish(topic, text, QoS::AtLeastOnce);
                count.fetch_add(1, Relaxed);
            }
        });
        Self { stop, said, thread }
    }

    fn wait_for(&self, count: u64) {
        let until = Instant::now() + DEADLINE;
        let target = self.said.load(Relaxed) + count;
        while self.said.load(Relaxed) < target {
            assert!(Instant::now() < until, "nobody talks");
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn end(self) {
        self.stop.store(true, Relaxed);
        self.thread.join().expect("the talker");
    }
}

#[test]
fn who_is_kicked_gets_nothing_of_the_room_through_streams_and_polls_nor_its_backlog() {
    let broker = TidingsOptions::new()
        .set("rooms.mode", "\"managed\"")
        .start();
    let at = broker.ws();
    let mut ann = connect(broker.tcp(), "ann", "ann-asks");
    ann.subscribe("user/ann/reply", QoS::AtLeastOnce);
    ask(
        &mut ann,
        "ann",
        "create",
        &json!({ "room": "cellar", "kind": "private" }),
    );
    ask(
        &mut ann,
        "ann",
        "invite",
        &json!({ "room": "cellar", "user": "bob" }),
    );
    let mut bob = connect(broker.tcp(), "bob", "bob-asks");
    bob.subscribe("user/bob/reply", QoS::AtLeastOnce);
    ask(&mut bob, "bob", "join", &json!({ "room": "cellar" }));
    let token = token(at, "bob", "");
    let start = poll(at, &token, "")["cursor"]
        .as_str()
        .expect("a cursor")
        .to_owned();
    let begun = Instant::now();
    let talk = Talk::begin(
        connect(broker.tcp(), "ann", "ann-talks"),
        "chat/cellar/ann",
        begun,
    );
    // What was said when, as bob hears it.
    let heard = Arc::new(AtomicU64::new(0));
    let latest = |heard: &AtomicU64, text: &str| {
        if let Ok(ms) = text.parse() {
            heard.fetch_max(ms, Relaxed);
        }
    };
    let over_events = {
        let (heard, mut events) = (heard.clone(), Events::open(at, &token, ""));
        thread::spawn(move || {
            loop {
                let message = events.message();
                match message["topic"].as_str() {
                    Some("chat/cellar/ann") => {
                        latest(&heard, message["payload"].as_str().expect("text"));
                    }
                    // The last thing that is said.
                    Some("dm/bob/ann") => return,
                    _ => {}
                }
            }
        })
    };
    let over_polls = {
        let (heard, token, mut since) = (heard.clone(), token.clone(), start.clone());
        thread::spawn(move || {
            loop {
                let polled = poll(at, &token, &format!("since={since}&wait=10"));
                polled["cursor"]
                    .as_str()
                    .expect("a cursor")
                    .clone_into(&mut since);
                for message in polled["messages"].as_array().expect("a list") {
                    match message["topic"].as_str() {
                        Some("chat/cellar/ann") => {
                            latest(&heard, message["payload"].as_str().expect("text"));
                        }
                        Some("dm/bob/ann") => return,
                        _ => {}
                    }
                }
            }
        })
    };
    talk.wait_for(200);
    ask(
        &mut ann,
        "ann",
        "kick",
        &json!({ "room": "cellar", "user": "bob" }),
    );
    let kicked = begun.elapsed().as_millis() as u64;
    while begun.elapsed().as_millis() as u64 <= kicked + 1500 {
        talk.wait_for(20);
    }
    talk.end();
    ann.publish("dm/bob/ann", "bye", QoS::AtLeastOnce);
    over_events
        .join()
        .expect("the stream goes on with what is bob's");
    over_polls
        .join()
        .expect("the polls go on with what is bob's");
    let heard = heard.load(Relaxed);
    assert!(heard > 0, "bob heard nothing before");
    assert!(
        heard <= kicked + 1000,
        "heard at {heard}, kicked at {kicked}"
    );
    // The backlog, from before and after, by each door.
    let polled = poll(at, &token, &format!("since={start}&limit=1000&filter=%23"));
    let topics = |polled: &Value| -> BTreeSet<String> {
        let messages = polled["messages"].as_array().expect("a list").iter();
        messages
            .map(|message| message["topic"].to_string())
            .collect()
    };
    assert!(!topics(&polled).is_empty());
    assert!(
        !topics(&polled)
            .iter()
            .any(|topic| topic.contains("chat/cellar"))
    );
    let mut events = Events::open(at, &token, &format!("since={start}"));
    loop {
        let message = events.message();
        let topic = message["topic"].as_str().expect("a topic");
        assert!(!topic.starts_with("chat/cellar"), "{message}");
        if topic == "dm/bob/ann" {
            break;
        }
    }
    // By name it is refused.
    for path in ["/v1/events", "/v1/poll"] {
        let path = format!("{path}?filter=chat/cellar/%23&since={start}");
        let answer = Http::send(at, "GET", &path, Some(&token), "");
        assert_eq!(answer.status, 403);
        assert_eq!(answer.json()["error"]["code"], "not_allowed");
    }
}

#[test]
fn a_disabled_account_ends_streams_and_polls_at_once_and_nothing_more_is_answered() {
    let home = tempfile::tempdir().expect("a directory");
    let data = home.path().join("data");
    let broker = TidingsOptions::new()
        .set("auth.mode", "\"accounts\"")
        .data_dir(&data)
        .start();
    let at = broker.ws();
    let user = |arguments: &[&str]| {
        let mut command = Command::new(binary::tidings());
        command
            .arg("user")
            .args(arguments)
            .arg("--data-dir")
            .arg(&data);
        let mut program = Program::start(command);
        program.say("a long password");
        program.finish();
    };
    user(&["add", "bob"]);
    let bob = token(at, "bob", "a long password");
    let mut events = Events::open(at, &bob, "filter=chat/%23");
    events.block();
    let path = format!("/v1/poll?filter=chat/%23&since={}&wait=50", events.last_id);
    let waiting = {
        let (path, bob) = (path.clone(), bob.clone());
        thread::spawn(move || Http::send(at, "GET", &path, Some(&bob), "").status)
    };
    user(&["disable", "bob"]);
    let disabled = Instant::now();
    let end = events.next().expect("a reason");
    assert_eq!(end.name, "end", "{end:?}");
    assert!(events.next().is_none());
    assert!(disabled.elapsed() < Duration::from_secs(1));
    // The poll may have come after it.
    let status = waiting.join().expect("an answer");
    assert!(matches!(status, 401 | 403), "{status}");
    assert!(disabled.elapsed() < Duration::from_secs(5));
    for path in ["/v1/events", &path] {
        let answer = Http::send(at, "GET", path, Some(&bob), "");
        assert!(
            matches!(answer.status, 401 | 403),
            "{path}: {}",
            answer.status
        );
    }
}

/// Resident memory of a process in KiB.
fn memory_kib(id: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).expect("its status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.expect("its memory")
}

#[test]
fn a_stream_that_is_not_read_takes_bounded_memory_and_reads_on_from_the_journal() {
    const COUNT: usize = 300;
    const READERS: usize = 4;
    let broker = TidingsProcess::start();
    let at = broker.ws();
    let mut bob = connect(broker.tcp(), "bob", "bob-talks");
    let mut streams: Vec<Events> = (0..READERS)
        .map(|n| {
            let token = token(at, &format!("reader{n}"), "");
            Events::open(at, &token, "filter=chat/%23")
        })
        .collect();
    // The first ones warm up what is there once.
    let text = "x".repeat(200_000);
    for _ in 0..20 {
        bob.publish("chat/lobby/bob", &text, QoS::AtLeastOnce);
    }
    let before = memory_kib(broker.id());
    for _ in 20..COUNT {
        bob.publish("chat/lobby/bob", &text, QoS::AtLeastOnce);
    }
    let grown = memory_kib(broker.id()).saturating_sub(before);
    // 56 MB were published for each of four readers.
    assert!(grown < 24 * 1024, "grew by {grown} KiB");
    for events in &mut streams {
        for seq in 1..=COUNT {
            let message = events.message();
            assert_eq!(message["seq"], seq);
            assert_eq!(message["payload"].as_str().map(str::len), Some(text.len()));
        }
    }
}

#[test]
fn a_cursor_survives_a_restart_and_one_of_another_journal_begins_anew() {
    let mut broker = TidingsOptions::new().set("http.heartbeat_s", 1).start();
    let alice = token(broker.ws(), "alice", "");
    let mut events = Events::open(broker.ws(), &alice, "filter=chat/%23");
    let mut bob = connect(broker.tcp(), "bob", "bob-talks");
    bob.publish("chat/lobby/bob", "one", QoS::AtLeastOnce);
    assert_eq!(events.message()["payload"], "one");
    let known = events.last_id.clone();
    // What is not for this reader moves its position on with the heartbeat.
    bob.publish("dm/carol/bob", "not for alice", QoS::AtLeastOnce);
    while events.last_id == known {
        assert!(events.block().expect("a heartbeat").name.is_empty());
    }
    bob.publish("chat/lobby/bob", "two", QoS::AtLeastOnce);
    bob.publish("read/lobby/bob", "1", QoS::AtLeastOnce);
    broker.kill();
    broker.restart();
    let at = broker.ws();
    // A login outlives the broker.
    let since = format!("filter=chat/%23&since={}", events.last_id);
    let mut again = Events::open(at, &alice, &since);
    let message = again.message();
    assert_eq!(
        (&message["payload"], &message["seq"]),
        (&json!("two"), &json!(2))
    );
    assert_eq!(texts(&poll(at, &alice, &since)), ["two"]);

    for foreign in ["00000000deadbeef-1", "yesterday"] {
        let mut events = Events::open(at, &alice, &format!("filter=chat/%23&since={foreign}"));
        let reset = events.next().expect("an event");
        assert_eq!(reset.name, "reset");
        assert_eq!(reset.json()["cursor"], events.last_id);
        let polled = poll(at, &alice, &format!("filter=chat/%23&since={foreign}"));
        assert_eq!(
            (&polled["reset"], &polled["messages"]),
            (&json!(true), &json!([]))
        );
        // What is retained comes along, once, for who begins anew.
        let filters = "filter=read/%23&filter=read/lobby/%2B";
        let polled_too = poll(at, &alice, &format!("{filters}&since={foreign}"));
        let retained = &polled_too["messages"];
        assert_eq!(retained.as_array().map(Vec::len), Some(1), "{retained}");
        assert_eq!(
            (
                &retained[0]["topic"],
                &retained[0]["payload"],
                &retained[0]["retained"]
            ),
            (&json!("read/lobby/bob"), &json!("1"), &json!(true))
        );
        let mut bob = connect(broker.tcp(), "bob", "bob-talks");
        bob.publish("chat/lobby/bob", "after", QoS::AtLeastOnce);
        assert_eq!(events.message()["payload"], "after");
        let since = polled["cursor"].as_str().expect("a cursor");
        let polled = poll(at, &alice, &format!("filter=chat/%23&since={since}"));
        assert_eq!(texts(&polled), ["after"]);
    }
}

#[test]
fn one_user_has_so_many_streams_and_the_others_theirs() {
    let broker = TidingsOptions::new()
        .set("http.max_streams_per_user", 2)
        .start();
    let at = broker.ws();
    let (alice, bob) = (token(at, "alice", ""), token(at, "bob", ""));
    let streams = [(); 2].map(|()| Events::open(at, &alice, "filter=chat/%23"));
    for path in ["/v1/events", "/v1/poll?wait=30"] {
        let sep = if path.contains('?') { '&' } else { '?' };
        let start = poll(at, &alice, "since=now")["cursor"].clone();
        let since = start.as_str().expect("a cursor");
        let path = format!("{path}{sep}filter=chat/%23&since={since}");
        let refused = Http::send(at, "GET", &path, Some(&alice), "");
        assert_eq!(refused.status, 429, "{path}");
        assert_eq!(refused.json()["error"]["code"], "too_many_streams");
    }
    let _other = Events::open(at, &bob, "filter=chat/%23");
    drop(streams);
    // The broker sees in its own time that they are gone.
    let until = Instant::now() + DEADLINE;
    let path = "/v1/events?filter=chat/%23";
    while Http::send(at, "GET", path, Some(&alice), "").status != 200 {
        assert!(Instant::now() < until, "no place is given back");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn who_has_not_signed_in_or_asks_for_nonsense_is_told() {
    let broker = TidingsProcess::start();
    let at = broker.ws();
    let alice = token(at, "alice", "");
    for path in ["/v1/events", "/v1/poll"] {
        let nobody = Http::send(at, "GET", path, None, "");
        assert_eq!(
            (nobody.status, nobody.json()["error"]["code"].clone()),
            (401, json!("unauthorized"))
        );
        for query in [
            "filter=%23/a",
            "filter=$share/g/a",
            "filter=$replay/last/1/a",
            "wait=x",
        ] {
            let bad = Http::send(at, "GET", &format!("{path}?{query}"), Some(&alice), "");
            assert_eq!(bad.status, 400, "{path} {query}");
        }
        let refused = Http::send(
            at,
            "GET",
            &format!("{path}?filter=user/bob/inbox"),
            Some(&alice),
            "",
        );
        assert_eq!(refused.status, 403, "{path}");
    }
    // A token in the query, as EventSource needs it.
    let by_query = Http::send(at, "GET", &format!("/v1/poll?token={alice}"), None, "");
    assert_eq!(by_query.status, 200);
}
