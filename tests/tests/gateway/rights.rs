//! Who may read, and while they may: kicks, accounts that are locked out, and strangers.

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tidings_core::message::QoS;
use tidings_tests::{DEADLINE, Program, RawClient, TidingsOptions, TidingsProcess, binary};

use crate::reader::{Events, Http, ask, connect, poll, token};

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
