//! The HTTP API of the real program, over TCP: who comes in, what each resource does, and that it is
//! what MQTT does.

use serde_json::{Value, json};
use tidings_core::codec::{Connect, ReasonCode, Version};
use tidings_core::message::QoS;
use tidings_tests::program::{mosquitto, run};
use tidings_tests::{RawClient, TidingsOptions, TidingsProcess, clean};
use ureq::http::{Method, Request, Response, header};
use ureq::{Agent, Body};

/// What was answered.
struct Answer {
    status: u16,
    headers: Response<()>,
    text: String,
}

impl Answer {
    #[track_caller]
    fn json(&self) -> Value {
        let value = serde_json::from_str(&self.text);
        value.unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    fn header(&self, name: &str) -> &str {
        let value = self.headers.headers().get(name);
        value.map_or("", |value| value.to_str().unwrap_or_default())
    }

    /// The word of a refusal; its status stands in it too.
    #[track_caller]
    fn code(&self) -> String {
        let json = self.json();
        assert_eq!(json["error"]["status"], self.status, "{json}");
        assert!(
            json["error"]["text"]
                .as_str()
                .is_some_and(|text| !text.is_empty())
        );
        json["error"]["code"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }
}

/// How a request says who it is from.
#[derive(Clone)]
enum As {
    Nobody,
    Bearer(String),
    Cookie(String),
    Basic(String, String),
}

/// A browser or script.
#[derive(Clone)]
struct Http {
    base: String,
    agent: Agent,
    who: As,
}

impl Http {
    fn new(broker: &TidingsProcess) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(tidings_tests::DEADLINE));
        Self {
            base: format!("http://{}", broker.ws().address()),
            agent: config.build().into(),
            who: As::Nobody,
        }
    }

    fn as_(&self, who: As) -> Self {
        Self {
            who,
            ..self.clone()
        }
    }

    /// Signed in by name and secret.
    #[track_caller]
    fn sign_in(&self, user: &str, password: &str) -> Self {
        let answer = self.post("/v1/login", json!({ "user": user, "password": password }));
        assert_eq!(answer.status, 200, "{}", answer.text);
        let token = answer.json()["token"].as_str().unwrap().to_owned();
        self.as_(As::Bearer(token))
    }

    #[track_caller]
    fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base));
        request = match &self.who {
            As::Nobody => request,
            As::Bearer(token) => request.header(header::AUTHORIZATION, format!("Bearer {token}")),
            As::Cookie(token) => request.header(header::COOKIE, format!("x=1; token={token}")),
            As::Basic(user, secret) => {
                let pair = base64(format!("{user}:{secret}").as_bytes());
                request.header(header::AUTHORIZATION, format!("Basic {pair}"))
            }
        };
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = if body.is_empty() && headers.is_empty() {
            self.agent.run(request.body(()).unwrap())
        } else {
            self.agent.run(request.body(body).unwrap())
        };
        let response: Response<Body> = response.unwrap_or_else(|error| panic!("{path}: {error}"));
        let (parts, mut body) = response.into_parts();
        Answer {
            status: parts.status.as_u16(),
            text: body.read_to_string().unwrap(),
            headers: Response::from_parts(parts, ()),
        }
    }

    #[track_caller]
    fn json(&self, method: &str, path: &str, body: Value) -> Answer {
        let headers = [("content-type", "application/json")];
        self.send(method, path, &headers, body.to_string().as_bytes())
    }

    #[track_caller]
    fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], b"")
    }

    #[track_caller]
    fn post(&self, path: &str, body: Value) -> Answer {
        self.json("POST", path, body)
    }

    #[track_caller]
    fn put(&self, path: &str, body: Value) -> Answer {
        self.json("PUT", path, body)
    }

    #[track_caller]
    fn delete(&self, path: &str) -> Answer {
        self.send("DELETE", path, &[], b"")
    }
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let all = chunk.iter().chain([&0; 2]).take(3);
        let number = all.fold(0, |number, byte| number << 8 | usize::from(*byte));
        for place in 0..4 {
            let is_there = place <= chunk.len();
            let letter = LETTERS[number >> (18 - 6 * place) & 63];
            text.push(if is_there { char::from(letter) } else { '=' });
        }
    }
    text
}

fn managed() -> TidingsOptions {
    TidingsOptions::new()
        .set("rooms.mode", "\"managed\"")
        .set("rooms.requests_per_minute", 60_000)
}

/// A broker where people have passwords; hashing one costs little.
fn with_accounts(users: &[(&str, &[&str])]) -> TidingsProcess {
    let options = managed()
        .set("auth.mode", "\"accounts\"")
        .set("auth.password_memory_kib", 1024)
        .set("auth.password_passes", 1)
        .set("auth.failures_per_address_per_minute", 0)
        .set("auth.failures_per_user", 3)
        .set("auth.failures_per_user_per_minute", 1);
    let broker = options.start();
    for (user, roles) in users {
        tidings_user(&broker, &["add", user], roles, Some("correct horse"));
    }
    broker
}

/// `tidings user ...` on the data directory of a broker that runs.
#[track_caller]
fn tidings_user(broker: &TidingsProcess, words: &[&str], roles: &[&str], input: Option<&str>) {
    use std::io::Write;
    use std::process::{Command, Stdio};
    let mut command = Command::new(tidings_tests::binary::tidings());
    command.arg("user").args(words);
    for role in roles {
        command.args(["--role", role]);
    }
    command
        .args(["--data-dir".as_ref(), broker.data_dir().as_os_str()])
        .args(["--set", "auth.password_memory_kib=1024"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    writeln!(stdin, "{}", input.unwrap_or_default()).unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    assert!(
        output.status.success(),
        "{words:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

// ---- Who comes in

#[test]
fn in_open_mode_any_name_signs_in_and_the_token_is_believed_by_mqtt_too() {
    let broker = managed().start();
    let http = Http::new(&broker);
    assert_eq!(http.get("/v1/me").code(), "unauthorized");
    let answer = http.post("/v1/login", json!({ "user": "alice" }));
    assert_eq!(answer.status, 200);
    let cookie = answer.header("set-cookie");
    for part in ["token=", "HttpOnly", "SameSite=Strict", "Path=/"] {
        assert!(cookie.contains(part), "{cookie}");
    }
    assert!(
        !cookie.contains("Secure"),
        "a browser would not take it over http"
    );
    let token = answer.json()["token"].as_str().unwrap().to_owned();
    for who in [
        As::Bearer(token.clone()),
        As::Cookie(token.clone()),
        As::Basic("alice".into(), String::new()),
    ] {
        let me = http.as_(who).get("/v1/me");
        assert_eq!((me.status, &me.json()["user"]), (200, &json!("alice")));
    }
    for name in ["", "a/b", "+", "$SYS", &"x".repeat(257)] {
        let refused = http.post("/v1/login", json!({ "user": name }));
        assert_eq!(
            (refused.status, refused.code()),
            (400, "bad_user".to_owned())
        );
    }
    let tls = http.send(
        "POST",
        "/v1/login",
        &[
            ("content-type", "application/json"),
            ("x-forwarded-proto", "https"),
        ],
        br#"{"user":"alice"}"#,
    );
    assert!(tls.header("set-cookie").contains("; Secure"));
}

#[test]
fn a_token_that_was_given_back_counts_no_more_also_after_a_restart() {
    let mut broker = managed().start();
    let http = Http::new(&broker);
    let (alice, other) = (http.sign_in("alice", ""), http.sign_in("alice", ""));
    let out = alice.post("/v1/logout", json!({}));
    assert_eq!(out.status, 204);
    assert!(out.header("set-cookie").contains("Max-Age=0"));
    assert_eq!(alice.get("/v1/me").code(), "token_over");
    assert_eq!(other.get("/v1/me").status, 200);
    broker.terminate();
    broker.restart();
    let base = Http::new(&broker).base;
    let again = |who: &Http| Http {
        base: base.clone(),
        ..who.clone()
    };
    assert_eq!(again(&alice).get("/v1/me").code(), "token_over");
    assert_eq!(again(&other).get("/v1/me").status, 200);
}

/// A login over HTTP opens a WebSocket too; signing out ends that, and nothing else of the user.
#[test]
fn signing_out_ends_what_the_login_opened() {
    let broker = with_accounts(&[("bob", &[])]);
    let http = Http::new(&broker);
    let (first, second) = (
        http.sign_in("bob", "correct horse"),
        http.sign_in("bob", "correct horse"),
    );
    let connect = |who: &Http, id: &'static str| {
        let As::Bearer(token) = &who.who else {
            panic!("not signed in");
        };
        let connect = Connect {
            username: Some("bob"),
            password: Some(token.as_bytes()),
            ..clean(Version::V5, id)
        };
        RawClient::connect(broker.ws(), &connect)
    };
    let (mut one, mut two) = (connect(&first, "one"), connect(&second, "two"));
    assert_eq!(first.post("/v1/logout", json!({})).status, 204);
    assert_eq!(one.expect_disconnect().reason, ReasonCode::NotAuthorized);
    two.settle();
    let As::Bearer(token) = &first.who else {
        panic!("not signed in");
    };
    let again = Connect {
        username: Some("bob"),
        password: Some(token.as_bytes()),
        ..clean(Version::V5, "again")
    };
    let refused = RawClient::try_connect(broker.ws(), &again, tidings_tests::DEADLINE);
    let (_, connack) = refused.expect("a CONNACK");
    assert_eq!(connack.reason, ReasonCode::BadUserNameOrPassword);
}

#[test]
fn accounts_decide_who_comes_in_and_who_is_locked_out_is_out_at_once() {
    let broker = with_accounts(&[("ann", &["admin"]), ("bob", &[])]);
    let http = Http::new(&broker);
    let wrong = http.post(
        "/v1/login",
        json!({ "user": "bob", "password": "wrong horse" }),
    );
    assert_eq!(
        (wrong.status, wrong.code()),
        (401, "unauthorized".to_owned())
    );
    let unknown = http.post(
        "/v1/login",
        json!({ "user": "eve", "password": "wrong horse" }),
    );
    assert_eq!(
        wrong.json(),
        unknown.json(),
        "an unknown name is told from a wrong password"
    );
    let bob = http.sign_in("bob", "correct horse");
    let basic = http.as_(As::Basic("bob".into(), "correct horse".into()));
    for who in [&bob, &basic] {
        assert_eq!(who.get("/v1/me").status, 200);
    }
    let ann = http.sign_in("ann", "correct horse");
    assert_eq!(ann.get("/v1/me").json()["roles"], json!(["admin"]));
    tidings_user(&broker, &["disable", "bob"], &[], None);
    for who in [&bob, &basic] {
        assert_eq!(who.get("/v1/me").code(), "not_authorized");
    }
    tidings_user(&broker, &["enable", "bob"], &[], None);
    assert_eq!(bob.get("/v1/me").status, 200);
    // A new password ends what the old one opened.
    tidings_user(&broker, &["passwd", "bob"], &[], Some("another horse"));
    assert_eq!(bob.get("/v1/me").code(), "token_over");
    assert_eq!(basic.get("/v1/me").code(), "unauthorized");
    tidings_user(&broker, &["delete", "bob"], &[], None);
    assert_eq!(bob.get("/v1/me").code(), "not_authorized");
    // Guessing is stopped, and a token that counts is not.
    for _ in 0..3 {
        let wrong = http.post("/v1/login", json!({ "user": "ann", "password": "a guess" }));
        assert_eq!(wrong.status, 401);
    }
    let stopped = http.post(
        "/v1/login",
        json!({ "user": "ann", "password": "correct horse" }),
    );
    assert_eq!(
        (stopped.status, stopped.code()),
        (429, "too_many_attempts".to_owned())
    );
    assert!(!stopped.header("retry-after").is_empty());
    assert_eq!(ann.get("/v1/me").status, 200);
}

#[test]
fn a_page_of_another_host_changes_nothing_with_a_cookie_that_the_browser_sends() {
    let broker = managed().start();
    let http = Http::new(&broker);
    let answer = http.post("/v1/login", json!({ "user": "alice" }));
    let token = answer.json()["token"].as_str().unwrap().to_owned();
    let alice = http.as_(As::Cookie(token));
    let own = alice.base.clone();
    let create = |headers: &[(&str, &str)]| {
        let headers = [headers, &[("content-type", "application/json")]].concat();
        alice.send("POST", "/v1/rooms", &headers, br#"{"room":"cellar"}"#)
    };
    for foreign in [
        "https://evil.example",
        "null",
        "http://127.0.0.1.evil.example",
    ] {
        assert_eq!(
            create(&[("origin", foreign)]).code(),
            "foreign_origin",
            "{foreign}"
        );
    }
    assert_eq!(create(&[]).code(), "foreign_origin");
    assert_eq!(create(&[("origin", &own)]).status, 201);
    assert_eq!(create(&[("x-tidings", "1")]).code(), "exists");
    let login = http.send(
        "POST",
        "/v1/login",
        &[
            ("content-type", "application/json"),
            ("origin", "https://evil.example"),
        ],
        br#"{"user":"mallory"}"#,
    );
    assert_eq!(login.code(), "foreign_origin");
}

// ---- What cannot be understood

#[test]
fn bad_requests_are_told_what_is_wrong_and_where() {
    let broker = managed().set("http.max_body_bytes", 2048).start();
    let alice = Http::new(&broker).sign_in("alice", "");
    let raw = |content_type: &str, body: &str| {
        alice.send(
            "POST",
            "/v1/rooms",
            &[("content-type", content_type)],
            body.as_bytes(),
        )
    };
    let bad = raw("application/json", "{\"room\":\n  oops}");
    assert_eq!((bad.status, bad.code()), (400, "bad_json".to_owned()));
    assert!(bad.text.contains("line 2 column"), "{}", bad.text);
    let unknown = raw("application/json; charset=utf-8", r#"{"rom":"cellar"}"#);
    assert_eq!(unknown.code(), "bad_json");
    assert!(
        unknown.text.contains("unknown field `rom`"),
        "{}",
        unknown.text
    );
    for content_type in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/jsonp",
    ] {
        let wrong = raw(content_type, "{}");
        assert_eq!(
            (wrong.status, wrong.code()),
            (415, "unsupported_media_type".to_owned())
        );
    }
    let long = format!(r#"{{"room":"cellar","title":"{}"}}"#, "x".repeat(4096));
    let large = raw("application/json", &long);
    assert_eq!((large.status, large.code()), (413, "too_large".to_owned()));
    assert_eq!(alice.get("/v1/rooms?limt=3").code(), "bad_request");
    assert_eq!(alice.get("/v1/rooms?limit=many").code(), "bad_request");
    for path in [
        "/v1",
        "/v1/",
        "/v1/nothing",
        "/v1/rooms/a/b/c",
        "/v1/../v1/nothing",
    ] {
        let nothing = alice.get(path);
        assert_eq!(
            (nothing.status, nothing.code()),
            (404, "not_found".to_owned()),
            "{path}"
        );
    }
    let wrong = alice.send("DELETE", "/v1/rooms", &[], b"");
    assert_eq!(
        (wrong.status, wrong.code()),
        (405, "method_not_allowed".to_owned())
    );
    assert!(
        wrong.header("allow").contains("POST"),
        "{}",
        wrong.header("allow")
    );
    // Names are levels of topics: none reaches another level.
    for name in [
        "..%2F..%2Fetc",
        "a%2Fmember%2Fbob",
        "%23",
        "%2B",
        "$SYS",
        "a%00b",
    ] {
        for path in ["", "/members", "/messages"] {
            let method = if path == "/messages" { "POST" } else { "GET" };
            let answer = alice.json(
                method,
                &format!("/v1/rooms/{name}{path}"),
                json!({ "text": "x" }),
            );
            assert_eq!(answer.code(), "bad_name", "{name}{path}");
        }
        let presence = alice.get(&format!("/v1/users/{name}/presence"));
        assert_eq!(presence.code(), "bad_user", "{name}");
    }
    assert_eq!(alice.get("/v1/rooms/%FF%FE").code(), "bad_request");
    for seq in ["0", "-1", "+1", "x", "18446744073709551616"] {
        let answer = alice.delete(&format!("/v1/rooms/a/messages/{seq}"));
        assert_eq!(answer.code(), "bad_request", "{seq}");
    }
}

// ---- Rooms

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
fn who_asks_too_often_is_told_each_time() {
    let broker = managed().set("rooms.requests_per_minute", 2).start();
    let alice = Http::new(&broker).sign_in("alice", "");
    let codes: Vec<String> = (0..5)
        .map(|_| alice.post("/v1/rooms/nowhere/join", json!({})).code())
        .collect();
    assert_eq!(codes[..2], ["no_such_room", "no_such_room"]);
    assert_eq!(codes[2..], ["too_many_requests"; 3]);
}

#[test]
fn requests_of_one_user_are_limited_and_those_of_others_go_on() {
    let broker = managed().set("http.requests_per_minute", 3).start();
    let http = Http::new(&broker);
    let (alice, bob) = (http.sign_in("alice", ""), http.sign_in("bob", ""));
    for _ in 0..3 {
        assert_eq!(alice.get("/v1/me").status, 200);
    }
    let refused = alice.get("/v1/me");
    assert_eq!(
        (refused.status, refused.code()),
        (429, "too_many_requests".to_owned())
    );
    assert_eq!(bob.get("/v1/me").status, 200);
}

// ---- Messages

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

// ---- Bans

#[test]
fn administrators_ban_and_unban_over_http_and_by_command_and_nobody_else_does() {
    let broker = with_accounts(&[("ann", &["admin"]), ("bob", &[]), ("eve", &[])]);
    let http = Http::new(&broker);
    let [ann, bob, eve] = ["ann", "bob", "eve"].map(|user| http.sign_in(user, "correct horse"));
    let device = |user, id| Connect {
        username: Some(user),
        password: Some(b"correct horse"),
        ..clean(Version::V5, id)
    };
    let mut phone = RawClient::connect(broker.tcp(), &device("eve", "phone"));
    let ban = json!({ "user": "eve", "seconds": 600, "why": "spam" });
    assert_eq!(
        bob.post("/v1/admin/bans", ban.clone()).code(),
        "not_allowed"
    );
    assert_eq!(bob.get("/v1/admin/bans").code(), "not_allowed");
    assert_eq!(bob.delete("/v1/admin/bans?user=eve").code(), "not_allowed");
    assert_eq!(bob.get("/v1/admin/slow").code(), "not_allowed");
    phone.expect_silence();

    assert_eq!(ann.post("/v1/admin/bans", ban).status, 204);
    while phone.try_next().is_ok() {}
    let refused = |user, id, reason| {
        let connect = device(user, id);
        let (_, ack) = RawClient::try_connect(broker.tcp(), &connect, tidings_tests::DEADLINE)
            .expect("an answer");
        assert_eq!(ack.reason, reason, "{user} {id}");
    };
    refused("eve", "tablet", ReasonCode::Banned);
    refused("bob", "tablet", ReasonCode::Success);
    assert_eq!(eve.get("/v1/me").code(), "banned");
    let bans = ann.get("/v1/admin/bans").json();
    let (found, refusals) = (&bans["bans"][0], &bans["bans"][0]["refused"]);
    assert_eq!(
        (&found["user"], &found["why"]),
        (&json!("eve"), &json!("spam"))
    );
    assert!(refusals.as_u64().is_some_and(|count| count >= 2), "{bans}");

    let command = |words: &[&str]| {
        let data_dir = broker.data_dir().to_str().expect("a path in text");
        let arguments = words.iter().copied().chain(["--data-dir", data_dir]);
        let output = tidings_tests::tidings_process::tidings(arguments);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.success(), text)
    };
    assert!(command(&["ban", "--client", "tablet", "--user", "bob"]).0);
    refused("bob", "tablet", ReasonCode::Banned);
    refused("bob", "laptop", ReasonCode::Success);
    let (_, listed) = command(&["bans"]);
    assert!(
        listed.contains("user eve") && listed.contains("client tablet of bob"),
        "{listed}"
    );
    assert!(command(&["unban", "--user", "eve"]).0);
    assert!(
        !command(&["unban", "--user", "eve"]).0,
        "there is none any more"
    );
    refused("eve", "slate", ReasonCode::Success);
    let gone = ann.delete("/v1/admin/bans?client_id=tablet&user=bob");
    assert_eq!(gone.status, 204);
    refused("bob", "tablet", ReasonCode::Success);
    assert_eq!(ann.get("/v1/admin/bans").json(), json!({ "bans": [] }));
    for wrong in [
        json!({}),
        json!({ "user": "a", "address": "::1" }),
        json!({ "user": "" }),
    ] {
        assert_eq!(ann.post("/v1/admin/bans", wrong).code(), "bad_request");
    }
    assert_eq!(ann.get("/v1/admin/slow").json(), json!({ "slow": [] }));
}

// ---- Sessions and devices

#[test]
fn sessions_are_listed_looked_at_and_ended_by_whose_they_are_and_by_administrators() {
    let broker = with_accounts(&[("ann", &["admin"]), ("bob", &[]), ("eve", &[])]);
    let http = Http::new(&broker);
    let [ann, bob, eve] = ["ann", "bob", "eve"].map(|user| http.sign_in(user, "correct horse"));
    let laptop = Connect {
        username: Some("bob"),
        password: Some(b"correct horse"),
        ..clean(Version::V5, "laptop")
    };
    let mut laptop = RawClient::connect(broker.tcp(), &laptop);
    assert_eq!(
        laptop.subscribe("chat/#", QoS::AtLeastOnce),
        ReasonCode::GrantedQoS1
    );
    let found = bob.get("/v1/sessions/laptop").json();
    let (user, protocol) = (&found["user"], &found["protocol"]);
    assert_eq!(
        (user, protocol, &found["connected"]),
        (&json!("bob"), &json!("5.0"), &json!(true))
    );
    assert_eq!(found["filters"], json!(["chat/#"]));
    let ids = |who: &Http, query: &str| -> Vec<String> {
        let json = who.get(&format!("/v1/sessions{query}")).json();
        let sessions = json["sessions"].as_array().unwrap();
        let ids = sessions
            .iter()
            .map(|one| one["client_id"].as_str().unwrap().to_owned());
        ids.filter(|id| !id.starts_with('$')).collect()
    };
    assert_eq!(ids(&bob, ""), ["laptop"]);
    assert_eq!(ids(&eve, ""), [""; 0]);
    assert_eq!(ids(&ann, "?user=bob"), ["laptop"]);
    assert_eq!(ids(&ann, "?all=true"), ["laptop"]);
    for query in ["?all=true", "?user=bob"] {
        assert_eq!(
            eve.get(&format!("/v1/sessions{query}")).code(),
            "not_allowed"
        );
    }
    assert_eq!(eve.get("/v1/sessions/laptop").code(), "not_found");
    assert_eq!(eve.delete("/v1/sessions/laptop").code(), "not_found");
    assert_eq!(bob.delete("/v1/sessions/laptop").status, 204);
    let goodbye = laptop.expect_disconnect();
    assert_eq!(goodbye.reason, ReasonCode::AdministrativeAction);
}

#[test]
fn a_device_is_added_used_and_revoked_by_its_owner() {
    let broker = with_accounts(&[("ann", &["admin"]), ("bob", &[]), ("eve", &[])]);
    let http = Http::new(&broker);
    let [ann, bob, eve] = ["ann", "bob", "eve"].map(|user| http.sign_in(user, "correct horse"));
    assert_eq!(
        bob.post("/v1/devices", json!({ "device": "phone" })).code(),
        "bad_request"
    );
    assert_eq!(
        bob.post("/v1/devices", json!({ "device": "eve-phone" }))
            .code(),
        "bad_request"
    );
    let made = bob.post("/v1/devices", json!({ "device": "bob-phone" }));
    assert_eq!(made.status, 201, "{}", made.text);
    let token = made.json()["token"].as_str().unwrap().to_owned();
    assert_eq!(
        bob.post("/v1/devices", json!({ "device": "bob-phone" }))
            .code(),
        "exists"
    );
    let listed = bob.get("/v1/devices");
    assert_eq!(listed.json()["devices"][0]["device"], "bob-phone");
    assert!(!listed.text.contains(&token));
    assert_eq!(eve.get("/v1/devices").json()["devices"], json!([]));
    assert_eq!(eve.get("/v1/devices?all=true").code(), "not_allowed");
    assert_eq!(
        ann.get("/v1/devices?all=true").json()["devices"][0]["owner"],
        "bob"
    );
    // It signs in with its token, and the login it gets ends with it.
    let basic = http.as_(As::Basic("bob-phone".into(), token.clone()));
    let phone = http.sign_in("bob-phone", &token);
    for device in [&basic, &phone] {
        assert_eq!(device.get("/v1/me").json()["user"], "bob-phone");
    }
    assert_eq!(
        phone
            .post("/v1/devices", json!({ "device": "bob-phone-2" }))
            .code(),
        "not_allowed"
    );
    assert_eq!(eve.delete("/v1/devices/bob-phone").code(), "not_found");
    assert_eq!(bob.delete("/v1/devices/bob-phone").status, 204);
    assert_eq!(basic.get("/v1/me").status, 401);
    assert_eq!(phone.get("/v1/me").code(), "not_authorized");
    assert_eq!(bob.delete("/v1/devices/bob-phone").code(), "not_found");
}

// ---- For who runs the broker

#[test]
fn metrics_are_for_this_machine_and_administrators() {
    let broker = managed().start();
    let http = Http::new(&broker);
    let alice = http.sign_in("alice", "");
    assert_eq!(alice.post("/v1/rooms", json!({ "room": "m" })).status, 201);
    let answer = http.get("/metrics");
    assert_eq!(answer.status, 200);
    assert!(
        answer
            .header("content-type")
            .starts_with("application/openmetrics-text")
    );
    for line in [
        "# TYPE tidings_connections gauge",
        "# TYPE tidings_messages_received counter",
        "tidings_ready 1",
        r#"tidings_http_requests_total{method="post",path="/v1/rooms",status="201"} 1"#,
    ] {
        assert!(
            answer.text.lines().any(|found| found == line),
            "{line} is not in\n{}",
            answer.text
        );
    }
    assert!(answer.text.ends_with("# EOF\n"));
    // A proxy on this machine passes on who is not of it.
    let passed_on = [("x-forwarded-for", "192.0.2.1")];
    assert_eq!(http.send("GET", "/metrics", &passed_on, b"").status, 401);
    assert_eq!(
        alice.send("GET", "/metrics", &passed_on, b"").code(),
        "not_allowed"
    );
    drop(broker);
    let broker = with_accounts(&[("ann", &["admin"])]);
    let ann = Http::new(&broker).sign_in("ann", "correct horse");
    assert_eq!(ann.send("GET", "/metrics", &passed_on, b"").status, 200);
}

/// Every path of the document is served, and nothing that is served is left out of it: the router and the
/// document are made of one table; here from outside.
#[test]
fn the_document_tells_what_is_served() {
    let broker = managed().start();
    let http = Http::new(&broker);
    let alice = http.sign_in("alice", "");
    let document = http.get("/v1/openapi.json").json();
    assert_eq!(document["openapi"], "3.1.0");
    let paths = document["paths"].as_object().unwrap();
    assert!(paths.len() > 15);
    for (path, methods) in paths {
        let real = path
            .replace("{room}", "nowhere")
            .replace("{user}", "nobody")
            .replace("{seq}", "1")
            .replace("{emoji}", "x")
            .replace("{cid}", "c")
            .replace("{device}", "none")
            .replace("{client_id}", "none");
        assert!(!real.contains('{'), "{real}");
        let methods = methods.as_object().unwrap();
        for (method, operation) in methods {
            let method = method.to_uppercase();
            let is_open = operation["security"] == json!([]);
            let anonymous = http.json(&method, &real, json!({}));
            // Not of a page: whoever asks for it is told so first.
            let is_for_others = is_open || path == "/metrics" || path == "/chat";
            assert_eq!(
                anonymous.status == 401,
                !is_for_others,
                "{method} {path}: {}",
                anonymous.text
            );
            if path == "/v1/logout"
                || path.starts_with("/v1/events")
                || path.starts_with("/v1/poll")
            {
                continue;
            }
            let answer = alice.json(&method, &real, json!({}));
            let is_nothing = answer.status == 404 && answer.text.contains("nothing at this path");
            assert!(
                !is_nothing && answer.status != 405 && answer.status < 500,
                "{method} {path}: {} {}",
                answer.status,
                answer.text
            );
        }
        if !methods.contains_key("patch") {
            assert_eq!(alice.json("PATCH", &real, json!({})).status, 405, "{path}");
        }
    }
    let page = http.get("/v1/docs");
    assert_eq!(page.status, 200);
    assert!(
        !page.text.contains("http://") && !page.text.contains("https://"),
        "it loads from elsewhere"
    );
    for part in ["/v1/docs/page.js", "/v1/docs/page.css"] {
        assert!(page.text.contains(part));
        assert_eq!(http.get(part).status, 200);
    }
}
