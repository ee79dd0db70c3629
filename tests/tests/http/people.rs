//! What people have read, whether they are here, and that they type.

use serde_json::json;
use tidings_core::codec::{Connect, Version};
use tidings_core::message::QoS;
use tidings_tests::{RawClient, TidingsOptions, clean};

use crate::caller::{Http, managed};

#[test]
fn read_markers_grow_and_what_is_unread_is_counted() {
    let broker = managed().start();
    let http = Http::new(&broker);
    let [ann, bob, eve] = ["ann", "bob", "eve"].map(|user| http.sign_in(user, ""));
    assert_eq!(ann.post("/v1/rooms", json!({ "room": "pub" })).status, 201);
    assert_eq!(bob.post("/v1/rooms/pub/join", json!({})).status, 200);
    for n in 1..=3 {
        assert_eq!(
            ann.post("/v1/rooms/pub/messages", json!({ "text": n.to_string() }))
                .status,
            201
        );
    }
    let unread = |query: &str| bob.get(&format!("/v1/unread{query}")).json()["rooms"][0].clone();
    assert_eq!(
        (&unread("")["unread"], &unread("?room=pub")["head"]),
        (&json!(3), &json!(3))
    );
    assert_eq!(
        bob.put("/v1/rooms/pub/read", json!({ "seq": 2 })).status,
        204
    );
    assert_eq!(
        bob.put("/v1/rooms/pub/read", json!({ "seq": 1 })).status,
        204,
        "a smaller one changes nothing"
    );
    assert_eq!(
        bob.get("/v1/rooms/pub/read").json(),
        json!({ "room": "pub", "seq": 2, "head": 3 })
    );
    assert_eq!(unread("")["unread"], 1);
    assert_eq!(
        bob.put("/v1/rooms/pub/read", json!({ "seq": 4 })).code(),
        "bad_request"
    );
    assert_eq!(eve.get("/v1/rooms/pub/read").code(), "no_such_room");
    assert_eq!(
        eve.put("/v1/rooms/pub/read", json!({ "seq": 1 })).code(),
        "not_allowed"
    );
    assert_eq!(eve.get("/v1/unread").json()["rooms"], json!([]));
}

#[test]
fn presence_is_told_to_whom_it_is_shown_and_changed_by_oneself() {
    let broker = managed().set("people.interval_s", 0).start();
    let http = Http::new(&broker);
    let [ann, bob] = ["ann", "bob"].map(|user| http.sign_in(user, ""));
    let _phone = RawClient::connect(
        broker.tcp(),
        &Connect {
            username: Some("ann"),
            ..clean(Version::V5, "phone")
        },
    );
    let of_ann = |who: &Http| who.get("/v1/users/ann/presence").json()["state"].clone();
    let until = std::time::Instant::now() + tidings_tests::DEADLINE;
    while of_ann(&bob) != "online" {
        assert!(std::time::Instant::now() < until, "{}", of_ann(&bob));
    }
    assert_eq!(
        bob.get("/v1/users/nobody/presence").json(),
        json!({ "user": "nobody", "state": "offline" })
    );
    let chosen = ann.put("/v1/users/ann/presence", json!({ "state": "away" }));
    assert_eq!(
        (chosen.status, &chosen.json()["state"]),
        (200, &json!("away")),
        "{}",
        chosen.text
    );
    let until = std::time::Instant::now() + tidings_tests::DEADLINE;
    while of_ann(&bob) != "away" {
        assert!(std::time::Instant::now() < until, "{}", of_ann(&bob));
    }
    assert_eq!(
        bob.put("/v1/users/ann/presence", json!({ "state": "away" }))
            .code(),
        "not_allowed"
    );
    let hidden = ann.put("/v1/users/ann/presence", json!({ "visible_to": "nobody" }));
    assert_eq!(hidden.json()["visible_to"], "nobody");
    while of_ann(&bob) != "offline" {
        assert!(std::time::Instant::now() < until, "{}", of_ann(&bob));
    }
    // The others were told that she went; she herself sees how it is.
    while of_ann(&ann) != "away" {
        assert!(std::time::Instant::now() < until, "{}", of_ann(&ann));
    }
    assert_eq!(of_ann(&bob), "offline");
}

#[test]
fn who_types_over_http_is_seen_typing_and_is_not_thought_to_be_there() {
    let broker = TidingsOptions::new().set("people.interval_s", 0).start();
    let http = Http::new(&broker);
    let alice = http.sign_in("alice", "");
    let bob = Connect {
        username: Some("bob"),
        ..clean(Version::V5, "bob")
    };
    let mut bob = RawClient::connect(broker.tcp(), &bob);
    for filter in ["typing/#", "user/+/presence"] {
        bob.subscribe(filter, QoS::AtLeastOnce);
    }
    let mut heard = || {
        let delivery = bob.receive();
        let text = delivery.text();
        (delivery.topic, text)
    };
    let typing = "/v1/rooms/lobby/typing";
    assert_eq!(alice.post(typing, json!({})).status, 204);
    let over = alice.post(typing, json!({ "typing": false }));
    assert_eq!(over.status, 204);
    let mut typed = Vec::new();
    while typed.len() < 2 {
        let (topic, text) = heard();
        assert_ne!(topic, "user/alice/presence", "{text}");
        if topic == "typing/lobby/alice" {
            typed.push(text);
        }
    }
    assert_eq!(typed, ["1", ""]);
    assert_eq!(alice.post(typing, json!({ "typing": 1 })).status, 400);
    // Who reads is there.
    let since = alice.get("/v1/poll?since=now").json()["cursor"].clone();
    let since = since.as_str().unwrap().to_owned();
    let waits = std::thread::spawn(move || alice.get(&format!("/v1/poll?since={since}&wait=30")));
    loop {
        let (topic, text) = heard();
        if topic == "user/alice/presence" && text.contains("online") {
            break;
        }
    }
    // Her own presence ends the wait.
    waits.join().unwrap();
}
