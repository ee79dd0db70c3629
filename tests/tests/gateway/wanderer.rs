//! One cursor: who changes the transport, or comes back after a restart, misses nothing.

use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;
use tidings_core::codec::{Packet, ReasonCode, RetainHandling, Subscribe, SubscribeFilter};
use tidings_core::message::QoS;
use tidings_tests::raw_client::publish_packet;
use tidings_tests::{DEADLINE, Endpoint, TidingsOptions, TidingsProcess};

use crate::reader::{Events, connect, encoded, poll, texts, token};

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
