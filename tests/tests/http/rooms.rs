//! Rooms over HTTP: made, joined, managed, changed and left.

use serde_json::{Value, json};
use tidings_tests::TidingsOptions;
use tidings_tests::program::{mosquitto, run};

use crate::caller::{Http, managed};

#[test]
fn rooms_are_made_joined_managed_and_left_over_http_as_over_mqtt() {
    let broker = managed().start();
    let http = Http::new(&broker);
    let [ann, bob, eve] = ["ann", "bob", "eve"].map(|user| http.sign_in(user, ""));
    let made = ann.post(
        "/v1/rooms",
        json!({ "room": "cellar", "kind": "private", "title": "The Cellar" }),
    );
    assert_eq!(made.status, 201, "{}", made.text);
    assert_eq!(made.header("location"), "/v1/rooms/cellar");
    let room = made.json();
    assert_eq!(
        (&room["owner"], &room["role"], &room["members"]),
        (&json!("ann"), &json!("owner"), &json!(1))
    );
    // Who is not in it does not know of it.
    for path in [
        "/v1/rooms/cellar",
        "/v1/rooms/cellar/members",
        "/v1/rooms/cellar/bans",
    ] {
        assert_eq!(eve.get(path).code(), "no_such_room", "{path}");
        assert_eq!(
            eve.get(path).text,
            eve.get(&path.replace("cellar", "nowhere")).text
        );
    }
    assert_eq!(
        eve.post("/v1/rooms/cellar/join", json!({})).code(),
        "no_such_room"
    );
    // Made over HTTP, invited over MQTT, joined over HTTP.
    let mut invites = mosquitto("mosquitto_rr", broker.tcp().address());
    invites.args([
        "-V",
        "5",
        "-q",
        "1",
        "-u",
        "ann",
        "-t",
        "user/ann/request/invite",
    ]);
    invites.args([
        "-e",
        "user/ann/reply",
        "-m",
        r#"{"room":"cellar","user":"bob"}"#,
    ]);
    assert!(run(invites)[0].contains(r#""ok":true"#));
    let joined = bob.post("/v1/rooms/cellar/join", json!({}));
    assert_eq!(
        (joined.status, &joined.json()["role"]),
        (200, &json!("member"))
    );
    let rooms = bob.get("/v1/rooms").json();
    assert_eq!(rooms["rooms"][0]["room"], "cellar");
    assert_eq!(eve.get("/v1/rooms").json()["rooms"], json!([]));
    let members = bob.get("/v1/rooms/cellar/members").json();
    let names: Vec<_> = members["members"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["user"].as_str().unwrap())
        .collect();
    assert_eq!(
        (names, &members["more"]),
        (vec!["ann", "bob"], &json!(false))
    );
    let page = bob.get("/v1/rooms/cellar/members?limit=1").json();
    assert_eq!(
        (&page["members"][0]["user"], &page["more"]),
        (&json!("ann"), &json!(true))
    );
    let page = bob.get("/v1/rooms/cellar/members?limit=1&after=ann").json();
    assert_eq!(
        (&page["members"][0]["user"], &page["more"]),
        (&json!("bob"), &json!(false))
    );
    // Roles.
    assert_eq!(
        bob.send(
            "PATCH",
            "/v1/rooms/cellar",
            &[("content-type", "application/json")],
            br#"{"title":"Mine"}"#
        )
        .code(),
        "not_allowed"
    );
    assert_eq!(
        ann.put(
            "/v1/rooms/cellar/members/bob",
            json!({ "role": "moderator" })
        )
        .status,
        204
    );
    let changed = bob.json(
        "PATCH",
        "/v1/rooms/cellar",
        json!({ "title": "Below", "slow_s": 0 }),
    );
    assert_eq!(
        (changed.status, &changed.json()["title"]),
        (200, &json!("Below"))
    );
    assert_eq!(
        ann.put("/v1/rooms/cellar/members/bob", json!({ "role": "king" }))
            .code(),
        "bad_request"
    );
    // Invited, muted, banned, and let in again.
    assert_eq!(
        bob.put("/v1/rooms/cellar/invitations/eve", json!({}))
            .status,
        204
    );
    assert_eq!(
        bob.get("/v1/rooms/cellar/invitations").json()["users"][0]["user"],
        "eve"
    );
    assert_eq!(eve.post("/v1/rooms/cellar/join", json!({})).status, 200);
    assert_eq!(
        bob.put("/v1/rooms/cellar/mutes/eve", json!({ "seconds": 60 }))
            .status,
        204
    );
    assert_eq!(eve.get("/v1/rooms/cellar").json()["muted"], true);
    let muted = eve.post(
        "/v1/rooms/cellar/messages",
        json!({ "text": "let me speak" }),
    );
    assert_eq!(
        (muted.status, muted.code()),
        (403, "not_allowed".to_owned())
    );
    assert_eq!(bob.delete("/v1/rooms/cellar/mutes/eve").status, 204);
    assert_eq!(
        bob.delete("/v1/rooms/cellar/mutes/eve").code(),
        "no_such_mark"
    );
    assert_eq!(bob.put("/v1/rooms/cellar/bans/eve", json!({})).status, 204);
    assert_eq!(eve.get("/v1/rooms/cellar").code(), "no_such_room");
    assert_eq!(
        ann.get("/v1/rooms/cellar/bans").json()["users"][0]["by"],
        "bob"
    );
    assert_eq!(bob.delete("/v1/rooms/cellar/bans/eve").status, 204);
    // Handed over, left, archived, deleted.
    assert_eq!(
        ann.post("/v1/rooms/cellar/leave", json!({})).code(),
        "owner_stays"
    );
    assert_eq!(
        ann.post("/v1/rooms/cellar/transfer", json!({ "user": "bob" }))
            .status,
        204
    );
    assert_eq!(bob.delete("/v1/rooms/cellar/members/ann").status, 204);
    assert_eq!(bob.post("/v1/rooms/cellar/archive", json!({})).status, 204);
    assert_eq!(bob.get("/v1/rooms/cellar").json()["archived"], true);
    assert_eq!(bob.delete("/v1/rooms/cellar").status, 204);
    assert_eq!(bob.get("/v1/rooms/cellar").code(), "no_such_room");
    assert_eq!(
        ann.post("/v1/rooms", json!({ "room": "cellar" })).code(),
        "exists"
    );
}

#[test]
fn without_managed_rooms_requests_about_them_say_so() {
    let broker = TidingsOptions::new().start();
    let alice = Http::new(&broker).sign_in("alice", "");
    assert_eq!(alice.get("/v1/rooms").json()["rooms"], json!([]));
    assert_eq!(
        alice.post("/v1/rooms", json!({ "room": "cellar" })).code(),
        "not_managed"
    );
    assert_eq!(
        alice
            .post("/v1/devices", json!({ "device": "alice-phone" }))
            .code(),
        "not_managed"
    );
}

#[test]
fn a_room_is_changed_as_a_whole_or_not_at_all() {
    let broker = managed().start();
    let http = Http::new(&broker);
    let [ann, bob] = ["ann", "bob"].map(|user| http.sign_in(user, ""));
    assert_eq!(ann.post("/v1/rooms", json!({ "room": "yard" })).status, 201);
    assert_eq!(bob.post("/v1/rooms/yard/join", json!({})).status, 200);
    let moderator = json!({ "role": "moderator" });
    assert_eq!(ann.put("/v1/rooms/yard/members/bob", moderator).status, 204);
    let before = ann.get("/v1/rooms/yard").json();
    let change = |who: &Http, what: Value| who.json("PATCH", "/v1/rooms/yard", what);
    // A moderator does not archive, and nobody is slower than that.
    for (who, what, code) in [
        (
            &bob,
            json!({ "title": "Mine", "archived": true }),
            "not_allowed",
        ),
        (
            &ann,
            json!({ "title": "Slow", "slow_s": 100_000 }),
            "bad_request",
        ),
    ] {
        assert_eq!(change(who, what).code(), code);
        assert_eq!(ann.get("/v1/rooms/yard").json(), before);
    }
    let whole = json!({ "title": "The Yard", "slow_s": 5, "archived": true });
    let changed = change(&ann, whole).json();
    assert_eq!(changed["title"], "The Yard");
    assert_eq!(
        (&changed["slow_s"], &changed["archived"]),
        (&json!(5), &json!(true))
    );
}

#[test]
fn slow_mode_counts_over_http_too() {
    let broker = managed().start();
    let http = Http::new(&broker);
    let (ann, bob) = (http.sign_in("ann", ""), http.sign_in("bob", ""));
    assert_eq!(ann.post("/v1/rooms", json!({ "room": "slow" })).status, 201);
    assert_eq!(
        ann.json("PATCH", "/v1/rooms/slow", json!({ "slow_s": 3600 }))
            .json()["slow_s"],
        3600
    );
    assert_eq!(bob.post("/v1/rooms/slow/join", json!({})).status, 200);
    assert_eq!(
        bob.post("/v1/rooms/slow/messages", json!({ "text": "one" }))
            .status,
        201
    );
    let early = bob.post("/v1/rooms/slow/messages", json!({ "text": "two" }));
    assert_eq!(
        (early.status, early.code()),
        (429, "too_many_requests".to_owned())
    );
    assert!(early.text.contains("slow mode"), "{}", early.text);
}
