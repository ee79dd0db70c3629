//! Who comes in, how long that counts, and what a page of another host may not.

use serde_json::json;
use tidings_core::codec::{Connect, ReasonCode, Version};
use tidings_tests::{RawClient, clean};

use crate::caller::{As, Http, managed, tidings_user, with_accounts};

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
