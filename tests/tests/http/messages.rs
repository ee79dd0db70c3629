//! Messages over HTTP are those over MQTT: sent, answered, changed, looked up.

use serde_json::json;
use tidings_core::codec::{Connect, ReasonCode, Version};
use tidings_core::message::QoS;
use tidings_tests::{RawClient, TidingsOptions, clean};

use crate::caller::Http;

#[test]
fn a_message_over_http_is_the_message_over_mqtt() {
    let broker = TidingsOptions::new().start();
    let alice = Http::new(&broker).sign_in("alice", "");
    let bob = Connect {
        username: Some("bob"),
        ..clean(Version::V5, "bob")
    };
    let mut bob = RawClient::connect(broker.tcp(), &bob);
    for filter in ["chat/lobby/#", "dm/bob/+"] {
        assert_eq!(
            bob.subscribe(filter, QoS::AtLeastOnce),
            ReasonCode::GrantedQoS1
        );
    }
    let said = alice.post(
        "/v1/rooms/lobby/messages",
        json!({ "text": "h\u{e9}llo", "cid": "a1" }),
    );
    assert_eq!(said.status, 201, "{}", said.text);
    let text = bob.receive();
    assert_eq!(
        (&*text.topic, &*text.text()),
        ("chat/lobby/alice", "h\u{e9}llo")
    );
    assert_eq!(text.user_property("cid"), Some("a1"));
    let headers = [("content-type", "text/x-note; charset=utf-8")];
    let raw = alice.send(
        "POST",
        "/v1/rooms/lobby/messages?reply_to=1",
        &headers,
        b"as it is",
    );
    assert_eq!(raw.status, 201, "{}", raw.text);
    let raw = bob.receive();
    assert_eq!(
        (&*raw.topic, &*raw.text()),
        ("chat/lobby/alice/reply/1", "as it is")
    );
    let direct = alice.post("/v1/dm/bob/messages", json!({ "text": "psst" }));
    assert_eq!(direct.status, 201, "{}", direct.text);
    assert_eq!(&*bob.receive().topic, "dm/bob/alice");
    for (answer, code) in [
        (
            alice.send("POST", "/v1/rooms/lobby/messages", &[], b""),
            "unsupported_media_type",
        ),
        (
            alice.post(
                "/v1/rooms/lobby/messages",
                json!({ "text": "x", "cid": "a\u{7}" }),
            ),
            "bad_request",
        ),
        (
            alice.post(
                "/v1/rooms/lobby/messages",
                json!({ "text": "x", "reply_to": 0 }),
            ),
            "bad_request",
        ),
        (
            alice.post("/v1/dm/bob/messages", json!({ "text": "x", "reply_to": 0 })),
            "bad_request",
        ),
        (
            alice.put(
                "/v1/rooms/lobby/messages/by-cid/a",
                json!({ "text": "x", "cid": "b" }),
            ),
            "bad_request",
        ),
    ] {
        assert_eq!(answer.code(), code, "{}", answer.text);
    }
    let big = vec![b'x'; 1024 * 1024 - 100];
    let large = alice.send(
        "POST",
        "/v1/rooms/lobby/messages",
        &[("content-type", "application/octet-stream")],
        &big,
    );
    assert_eq!((large.status, large.code()), (413, "too_large".to_owned()));
}

#[test]
fn history_has_messages_with_what_became_of_them_and_an_etag() {
    let broker = TidingsOptions::new().start();
    let http = Http::new(&broker);
    let [alice, bob] = ["alice", "bob"].map(|user| http.sign_in(user, ""));
    let messages = "/v1/rooms/lobby/messages";
    for n in 1..=5 {
        let said = alice.post(
            messages,
            json!({ "text": format!("m{n}"), "mentions": ["bob"] }),
        );
        assert_eq!(
            (said.status, &said.json()["seq"]),
            (201, &json!(n)),
            "{}",
            said.text
        );
        assert_eq!(said.json()["id"], format!("chat/lobby/{n}"));
    }
    let numbers = |query: &str| -> Vec<u64> {
        let page = bob.get(&format!("{messages}{query}"));
        assert_eq!(page.status, 200, "{query}: {}", page.text);
        let page = page.json();
        assert_eq!(page["head"], 5);
        let messages = page["messages"].as_array().unwrap();
        messages
            .iter()
            .map(|one| one["seq"].as_u64().unwrap())
            .collect()
    };
    assert_eq!(numbers(""), [1, 2, 3, 4, 5]);
    assert_eq!(numbers("?limit=2"), [4, 5]);
    assert_eq!(numbers("?before=4&limit=2"), [2, 3]);
    assert_eq!(numbers("?after=2&limit=2"), [3, 4]);
    assert_eq!(numbers("?around=3&limit=3"), [2, 3, 4]);
    assert_eq!(numbers("?at=0&limit=1"), [1]);
    for wrong in ["?before=1&after=1", "?before=x", "?befor=1", "?limit=-1"] {
        assert_eq!(
            bob.get(&format!("{messages}{wrong}")).code(),
            "bad_request",
            "{wrong}"
        );
    }
    // Asked again: nothing new, until something is.
    let page = bob.get(messages);
    let tag = page.header("etag").to_owned();
    assert!(page.header("cache-control").contains("private"));
    let again = |tag: &str| bob.send("GET", messages, &[("if-none-match", tag)], b"");
    let unchanged = again(&tag);
    assert_eq!((unchanged.status, &*unchanged.text), (304, ""));
    assert_eq!(unchanged.header("etag"), tag);
    assert_eq!(again("\"other\"").status, 200);
    assert_eq!(
        bob.put(&format!("{messages}/1/reactions/%F0%9F%91%8D"), json!({}))
            .status,
        200
    );
    assert_eq!(again(&tag).status, 200);
    let one = alice.get(&format!("{messages}/1")).json();
    assert_eq!(
        (&one["payload"], &one["from"]),
        (&json!("m1"), &json!("alice"))
    );
    assert_eq!(one["reactions"], json!({ "\u{1f44d}": ["bob"] }));
    assert_eq!(one["mentions"], json!(["bob"]));
    // One takes back one's own, and only that.
    assert_eq!(
        alice
            .delete(&format!("{messages}/1/reactions/%F0%9F%91%8D"))
            .code(),
        "not_found"
    );
    assert_eq!(
        bob.delete(&format!("{messages}/1/reactions/x")).code(),
        "not_found"
    );
    assert_eq!(
        bob.delete(&format!("{messages}/1/reactions/%F0%9F%91%8D"))
            .status,
        200
    );
    assert!(
        alice
            .get(&format!("{messages}/1"))
            .json()
            .get("reactions")
            .is_none()
    );
    // New words, and none.
    assert_eq!(
        alice
            .json(
                "PATCH",
                &format!("{messages}/2"),
                json!({ "text": "better" })
            )
            .status,
        200
    );
    let edited = bob.get(&format!("{messages}/2")).json();
    assert_eq!(edited["edited"]["payload"], "better");
    assert_eq!(alice.delete(&format!("{messages}/3")).status, 200);
    let recalled = bob.get(&format!("{messages}/3"));
    assert_eq!(recalled.json()["recalled"]["by"], "alice");
    assert!(!recalled.text.contains("m3"), "{}", recalled.text);
    assert_eq!(bob.get(&format!("{messages}/99")).code(), "not_found");
    // Only what is there, and one's own.
    let patch = |who: &Http, seq| {
        who.json(
            "PATCH",
            &format!("{messages}/{seq}"),
            json!({ "text": "x" }),
        )
    };
    assert_eq!(
        (patch(&bob, 2).status, patch(&bob, 2).code()),
        (403, "not_allowed".to_owned())
    );
    assert_eq!(bob.delete(&format!("{messages}/2")).code(), "not_allowed");
    assert_eq!(
        (patch(&alice, 99).status, patch(&alice, 99).code()),
        (404, "not_found".to_owned())
    );
    assert_eq!(
        (patch(&alice, 3).status, patch(&alice, 3).code()),
        (409, "conflict".to_owned())
    );
    let reply = alice.post(messages, json!({ "text": "x", "reply_to": 99 }));
    assert_eq!(reply.code(), "not_found");
    // Sent again, stored once.
    let by_cid =
        |text: &str| alice.put(&format!("{messages}/by-cid/7f3a"), json!({ "text": text }));
    let (first, again, other) = (by_cid("once"), by_cid("once"), by_cid("twice"));
    assert_eq!((first.status, first.json()), (200, again.json()));
    assert_eq!((other.status, other.code()), (409, "conflict".to_owned()));
    // Between two.
    assert_eq!(
        alice
            .post("/v1/dm/bob/messages", json!({ "text": "psst" }))
            .json()["seq"],
        1
    );
    for (who, other) in [(&alice, "bob"), (&bob, "alice")] {
        let page = who.get(&format!("/v1/dm/{other}/messages")).json();
        assert_eq!(page["messages"][0]["payload"], "psst");
    }
    let eve = http.sign_in("eve", "");
    for other in ["alice", "bob"] {
        assert_eq!(
            eve.get(&format!("/v1/dm/{other}/messages")).json()["messages"],
            json!([])
        );
    }
}

#[test]
fn direct_messages_are_answered_changed_and_read_as_those_of_rooms() {
    let broker = TidingsOptions::new().start();
    let http = Http::new(&broker);
    let [alice, bob, eve] = ["alice", "bob", "eve"].map(|user| http.sign_in(user, ""));
    let said = alice.post("/v1/dm/bob/messages", json!({ "text": "helo" }));
    assert_eq!(said.status, 201, "{}", said.text);
    let answer = json!({ "text": "you", "reply_to": 1 });
    let answered = bob.post("/v1/dm/alice/messages", answer);
    assert_eq!(answered.json()["seq"], 2, "{}", answered.text);
    let new = json!({ "text": "hello" });
    let edited = alice.json("PATCH", "/v1/dm/bob/messages/1", new.clone());
    assert_eq!((edited.status, &edited.json()["seq"]), (200, &json!(3)));
    let not_his = bob.json("PATCH", "/v1/dm/alice/messages/1", new);
    assert_eq!(not_his.code(), "not_allowed");
    let reaction = "/v1/dm/alice/messages/1/reactions/%F0%9F%91%8D";
    assert_eq!(bob.put(reaction, json!({})).status, 200);
    let one = alice.get("/v1/dm/bob/messages/1").json();
    assert_eq!(one["edited"]["payload"], "hello", "{one}");
    assert_eq!(one["reactions"], json!({ "\u{1f44d}": ["bob"] }));
    assert_eq!(bob.delete(reaction).status, 200);
    assert_eq!(bob.delete(reaction).code(), "not_found");
    assert_eq!(bob.delete("/v1/dm/alice/messages/2").status, 200);
    let page = alice.get("/v1/dm/bob/messages?after=0").json();
    let second = &page["messages"][1];
    assert_eq!(
        (&second["payload"], &second["reply_to"]),
        (&json!(""), &json!(1))
    );
    assert_eq!(second["recalled"]["by"], "bob", "{second}");
    // Of a third it is another conversation.
    assert_eq!(eve.get("/v1/dm/bob/messages/1").code(), "not_found");
    for (path, seq) in [("delivered", 6), ("read", 2)] {
        let marked = bob.put(&format!("/v1/dm/alice/{path}"), json!({ "seq": seq }));
        assert_eq!(marked.status, 204, "{}", marked.text);
    }
    let too_far = bob.put("/v1/dm/alice/read", json!({ "seq": 7 }));
    assert_eq!(too_far.status, 400, "{}", too_far.text);
    assert_eq!(
        alice.get("/v1/dm/bob/read").json(),
        json!({
            "user": "bob", "read": 0, "delivered": 0,
            "their_read": 2, "their_delivered": 6, "head": 6,
        })
    );
    assert_eq!(bob.get("/v1/dm/alice/read").json()["read"], 2);
    assert_eq!(eve.get("/v1/dm/bob/read").json()["their_read"], 0);
}
