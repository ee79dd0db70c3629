//! Bans and figures: what is for who runs the broker.

use serde_json::json;
use tidings_core::codec::{Connect, ReasonCode, Version};
use tidings_tests::{RawClient, clean};

use crate::caller::{Http, managed, with_accounts};

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
