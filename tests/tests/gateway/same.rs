//! The same messages as over MQTT, with the same numbers, for curl and for an EventSource.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use tidings_core::message::QoS;
use tidings_tests::program::{find, mosquitto, node, run};
use tidings_tests::raw_client::publish_packet;
use tidings_tests::{Program, TidingsProcess};

use crate::reader::{Events, Http, connect, curl, poll, texts, token};

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
