//! What administrators see and do, over HTTP and with the program: figures, sessions, rooms, traces, the audit
//! log, the log; and that nobody else does.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;

use serde_json::{Value, json};
use tidings_core::codec::{ReasonCode, Version};
use tidings_core::message::QoS;
use tidings_tests::raw_client::publish_packet;
use tidings_tests::{
    Api, DEADLINE, Program, RawClient, TidingsOptions, TidingsProcess, binary, clean, persistent,
};

const PASSWORD: &str = "correct horse";

fn program(broker: &TidingsProcess, arguments: &[&str]) -> Command {
    let mut command = Command::new(binary::tidings());
    command
        .args(arguments)
        .arg("--data-dir")
        .arg(broker.data_dir());
    command.args(["--set", "auth.password_memory_kib=1024"]);
    command
}

/// With `ann`, who has the role admin, and `ben`, who has not.
fn broker(options: TidingsOptions) -> TidingsProcess {
    let broker = options
        .set("auth.mode", "\"accounts\"")
        .set("auth.password_memory_kib", 1024)
        .set("auth.password_passes", 1)
        .start();
    for arguments in [
        &["user", "add", "ann", "--role", "admin"][..],
        &["user", "add", "ben"],
    ] {
        let mut add = Program::start(program(&broker, arguments));
        add.say(PASSWORD);
        add.finish();
    }
    broker
}

fn client(broker: &TidingsProcess, client_id: &str, user: &str) -> RawClient {
    let mut connect = clean(Version::V5, client_id);
    connect.username = Some(user);
    connect.password = Some(PASSWORD.as_bytes());
    RawClient::connect(broker.tcp(), &connect)
}

#[test]
fn administration_is_for_the_role_admin_and_nobody_else() {
    let broker = broker(TidingsOptions::new());
    let nobody = Api::new(&broker);
    let ben = nobody.sign_in("ben", PASSWORD);
    let document = nobody.get("/v1/openapi.json");
    let paths = document["paths"].as_object().expect("paths");
    let mut asked = 0;
    for (path, methods) in paths
        .iter()
        .filter(|(path, _)| path.starts_with("/v1/admin/"))
    {
        for method in methods.as_object().expect("methods").keys() {
            let path = path.replace("{client_id}", "x");
            let method = method.to_uppercase();
            let empty = json!({});
            let body = (method == "POST").then_some(&empty);
            assert_eq!(nobody.call(&method, &path, body).0, 401, "{method} {path}");
            assert_eq!(ben.call(&method, &path, body).0, 403, "{method} {path}");
            asked += 1;
        }
    }
    assert!(asked >= 9, "{asked} endpoints");
}

#[test]
fn sessions_are_found_and_ended_and_the_audit_log_says_by_whom() {
    let broker = broker(TidingsOptions::new());
    let ann = Api::new(&broker).sign_in("ann", PASSWORD);
    let mut phone = client(&broker, "bens-phone", "ben");
    let mut away = persistent(Version::V5, "bens-laptop");
    away.username = Some("ben");
    away.password = Some(PASSWORD.as_bytes());
    RawClient::connect(broker.ws(), &away).disconnect();
    let ids = |query: &str| -> Vec<String> {
        let found = ann.get(&format!("/v1/admin/sessions?{query}"));
        let sessions = found["sessions"].as_array().expect("sessions").clone();
        let id = |one: &Value| one["client_id"].as_str().unwrap_or_default().to_owned();
        sessions.iter().map(id).collect()
    };
    ann.get_until("/v1/admin/sessions?state=offline&search=laptop", |text| {
        text.contains("bens-laptop")
    });
    assert_eq!(ids("search=bens"), ["bens-laptop", "bens-phone"]);
    assert_eq!(ids("search=127.0.0.1&door=tcp"), ["bens-phone"]);
    assert_eq!(ids("search=ben&door=ws"), [""; 0]);
    assert_eq!(ids("state=lagging"), [""; 0]);
    let told = ann.get("/v1/admin/sessions?search=phone")["sessions"][0].clone();
    assert_eq!(told["door"], "tcp");
    assert_eq!(told["address"], "127.0.0.1");
    assert!(told["since"].as_u64() > Some(0));

    assert_eq!(
        ann.call("DELETE", "/v1/admin/sessions/bens-phone", None).0,
        204
    );
    assert_eq!(
        phone.expect_disconnect().reason,
        ReasonCode::AdministrativeAction
    );
    assert_eq!(ann.call("DELETE", "/v1/admin/sessions/nobody", None).0, 404);

    let acts = ann.get("/v1/admin/audit?what=disconnect");
    let acts = acts["acts"].as_array().expect("acts");
    assert_eq!(acts.len(), 2);
    assert_eq!(
        (&acts[0]["who"], &acts[0]["whom"]),
        (&json!("ann"), &json!("bens-phone"))
    );
    assert!(
        acts[0]["from"]
            .as_str()
            .is_some_and(|from| from.starts_with("127.0.0.1"))
    );
    assert_eq!(
        (&acts[0]["result"], &acts[1]["result"]),
        (&json!("done"), &json!("there is no such session"))
    );
    // The program says the same, and who made the accounts; no word of passwords.
    let lines = Program::start(program(&broker, &["audit"])).finish();
    let text = lines.join("\n");
    assert!(text.contains("user_add ann admin: done"), "{text}");
    assert!(text.contains("ann (127.0.0.1"), "{text}");
    assert!(!text.contains(PASSWORD), "{text}");
}

#[test]
fn a_ban_ends_connections_and_not_sessions_and_is_written_down_whichever_door_it_came_by() {
    let broker = broker(TidingsOptions::new());
    let ann = Api::new(&broker).sign_in("ann", PASSWORD);
    let mut phone = persistent(Version::V5, "bens-phone");
    phone.username = Some("ben");
    phone.password = Some(PASSWORD.as_bytes());
    let mut client = RawClient::connect(broker.tcp(), &phone);
    client.subscribe("dm/ben/+", QoS::AtLeastOnce);
    let ban = json!({ "user": "ben", "seconds": 600 });
    assert_eq!(ann.call("POST", "/v1/admin/bans", Some(&ban)).0, 204);
    assert_eq!(client.expect_disconnect().reason, ReasonCode::NotAuthorized);
    Program::start(program(&broker, &["ban", "--user", "ben", "--why", "spam"])).finish();
    Program::start(program(&broker, &["unban", "--user", "ben"])).finish();
    assert_eq!(ann.call("DELETE", "/v1/admin/bans?user=ben", None).0, 404);
    let client = RawClient::connect(broker.tcp(), &phone);
    assert!(client.session_present());

    // Nor of users who have no account.
    let open = TidingsProcess::start();
    let dave = persistent(Version::V5, "dave");
    let mut client = RawClient::connect(open.tcp(), &dave);
    Program::start(program(&open, &["ban", "--user", "dave"])).finish();
    assert_eq!(client.expect_disconnect().reason, ReasonCode::NotAuthorized);
    Program::start(program(&open, &["unban", "--user", "dave"])).finish();
    assert!(RawClient::connect(open.tcp(), &dave).session_present());

    let long = json!({ "user": "ben", "why": "x".repeat(1025) });
    assert_eq!(ann.call("POST", "/v1/admin/bans", Some(&long)).0, 400);
    let acts = ann.get("/v1/admin/audit");
    let told: Vec<String> = acts["acts"]
        .as_array()
        .expect("acts")
        .iter()
        .filter(|act| {
            act["what"]
                .as_str()
                .is_some_and(|what| what.ends_with("ban"))
        })
        .map(|act| {
            let word = |key: &str| act[key].as_str().unwrap_or_default().to_owned();
            let who = word("who").split(':').next().unwrap_or_default().to_owned();
            let words = ["what", "whom", "detail", "result"].map(word);
            format!("{who}: {}", words.join("; "))
        })
        .collect();
    assert_eq!(
        told,
        [
            "ann: ban; user ben; for 600 s; done",
            "uid: ban; user ben; for good: spam; done",
            "uid: unban; user ben; ; done",
            "ann: unban; user ben; ; there is no such ban",
        ]
    );
}

#[test]
fn the_overview_tells_figures_and_plots_and_the_log() {
    let broker = broker(TidingsOptions::new());
    let ann = Api::new(&broker).sign_in("ann", PASSWORD);
    let mut ben = client(&broker, "bens-phone", "ben");
    ben.publish("chat/lobby/ben", "hello", QoS::AtLeastOnce);
    ann.get_until("/v1/admin/overview", |text| {
        let told: Value = serde_json::from_str(text).unwrap_or_default();
        told["figures"]["messages_kept"].as_u64() >= Some(1)
            && told["figures"]["connections_by_door"]["tcp"] == 1
            && told["distributions"]["journal_sync_seconds"][""]["p50"].as_f64() > Some(0.0)
    });
    assert_eq!(ann.get("/v1/admin/overview")["readiness"], "ready");
    let rooms = ann.get("/v1/admin/rooms?search=lob");
    assert_eq!(rooms["rooms"], json!([{ "room": "lobby", "messages": 1 }]));
    let storage = ann.get("/v1/admin/storage");
    assert!(storage["journal"]["end"].as_u64() > Some(0), "{storage}");
    assert!(
        storage["disk"]["free_bytes"].as_u64() > Some(0),
        "{storage}"
    );
    let log = ann.get("/v1/admin/log?limit=1000");
    let lines = log["lines"].as_array().expect("lines");
    let said = |word: &str| {
        lines.iter().any(|line| {
            line["text"]
                .as_str()
                .is_some_and(|text| text.contains(word))
        })
    };
    assert!(said("listening") && said("recovered"), "{log}");
    let last = lines.last().expect("a line")["number"]
        .as_u64()
        .expect("a number");
    assert_eq!(
        ann.get(&format!("/v1/admin/log?after={last}"))["lines"],
        json!([])
    );
    ann.get_until("/v1/admin/hour", |text| {
        let told: Value = serde_json::from_str(text).unwrap_or_default();
        told["points"][0]["connections"].is_u64()
    });
}

#[test]
fn a_trace_shows_packets_both_ways_and_the_rule_that_refused() {
    let broker = broker(TidingsOptions::new());
    let mut trace = Program::start(program(&broker, &["trace", "--user", "ben", "--json"]));
    let ann = Api::new(&broker).sign_in("ann", PASSWORD);
    // It runs when the audit log has it.
    ann.get_until("/v1/admin/audit?what=trace", |text| {
        text.contains("\"done\"")
    });
    let mut ben = client(&broker, "bens-phone", "ben");
    let mut other = client(&broker, "anns-phone", "ann");
    other.publish("chat/lobby/ann", "not for the trace", QoS::AtLeastOnce);
    ben.subscribe("chat/lobby/+", QoS::AtLeastOnce);
    let say =
        |topic, payload, packet_id| publish_packet(topic, payload, QoS::AtLeastOnce, packet_id);
    let packet_id = ben.new_packet_id();
    ben.send(&say("chat/lobby/ben", b"a secret", packet_id));
    // Whoever listens to what they say gets it before the acknowledgement.
    ben.receive();
    ben.expect_puback(packet_id);
    let packet_id = ben.new_packet_id();
    ben.send(&say("chat/lobby/ann", b"forged", packet_id));
    assert_eq!(
        ben.expect_puback(packet_id).reason,
        ReasonCode::NotAuthorized
    );

    let mut expect = |what: &[(&str, Value)]| -> Value {
        let fits = |line: &str| {
            let line: Value = serde_json::from_str(line).unwrap_or_default();
            what.iter().all(|(key, value)| line[key] == *value)
        };
        let line = trace.expect_line(&format!("{what:?}"), fits);
        assert!(
            !line.contains("secret") && !line.contains("anns-phone"),
            "{line}"
        );
        serde_json::from_str(&line).expect("JSON")
    };
    let opened = expect(&[("event", "opened".into())]);
    assert_eq!(
        (&opened["client_id"], &opened["address"]),
        (&json!("bens-phone"), &json!("127.0.0.1"))
    );
    expect(&[("direction", "out".into()), ("packet", "CONNACK".into())]);
    let subscribe = expect(&[("direction", "in".into()), ("packet", "SUBSCRIBE".into())]);
    assert_eq!(
        subscribe["filters"],
        json!([{ "filter": "chat/lobby/+", "qos": 1 }])
    );
    expect(&[("packet", "SUBACK".into()), ("reasons", json!([1]))]);
    let publish = expect(&[("direction", "in".into()), ("packet", "PUBLISH".into())]);
    assert_eq!(
        (&publish["topic"], &publish["payload_bytes"]),
        (&json!("chat/lobby/ben"), &json!(8))
    );
    expect(&[("direction", "out".into()), ("packet", "PUBLISH".into())]);
    let forged = expect(&[
        ("direction", "in".into()),
        ("topic", "chat/lobby/ann".into()),
    ]);
    assert_eq!(forged["refused_by"][0]["pattern"], "chat/{room}/{user}");
    assert_eq!(
        forged["refused_by"][0]["publish"],
        "self(user) & writer(room) & paced(room)"
    );
    let refused = expect(&[
        ("direction", "out".into()),
        ("reason", (ReasonCode::NotAuthorized as u8).into()),
    ]);
    assert_eq!(refused["reason_name"], "NotAuthorized");
    ben.disconnect();
    expect(&[("event", "closed".into())]);

    // Who is not let in is seen, too.
    let mut wrong = clean(Version::V5, "bens-phone");
    wrong.username = Some("ben");
    wrong.password = Some(b"guess");
    let refused = RawClient::try_connect(broker.tcp(), &wrong, DEADLINE);
    let reason = refused.map(|(_, connack)| connack.reason);
    assert_eq!(reason.ok(), Some(ReasonCode::BadUserNameOrPassword));
    let refused = expect(&[("event", "refused".into())]);
    assert_eq!(refused["reason_name"], "BadUserNameOrPassword");
}

#[test]
fn a_trace_over_http_is_a_stream_of_events_with_payloads_if_asked_for() {
    let broker = broker(TidingsOptions::new());
    let ann = Api::new(&broker).sign_in("ann", PASSWORD);
    let mut stream = TcpStream::connect(broker.ws().address()).expect("a connection");
    stream.set_read_timeout(Some(DEADLINE)).expect("a deadline");
    write!(
        stream,
        "GET /v1/admin/trace?topic=chat/%23&payloads=true HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\r\n",
        ann.token()
    )
    .expect("sent");
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    assert!(lines.by_ref().any(|line| line == ": here"));
    let mut ben = client(&broker, "bens-phone", "ben");
    ben.publish("chat/lobby/ben", "hello", QoS::AtLeastOnce);
    let told = lines.find_map(|line| line.strip_prefix("data: ").map(str::to_owned));
    let told: Value = serde_json::from_str(&told.expect("an event")).expect("JSON");
    assert_eq!(
        (&told["packet"], &told["payload"]),
        (&json!("PUBLISH"), &json!("hello"))
    );
}

#[test]
fn a_collector_of_opentelemetry_gets_all_figures() {
    let collector = TcpListener::bind("127.0.0.1:0").expect("a port");
    let endpoint = format!("\"http://{}\"", collector.local_addr().expect("an address"));
    let broker = TidingsOptions::new()
        .set("otel.endpoint", endpoint)
        .set("otel.interval_s", 1)
        .start();
    let mut writer = RawClient::connect(broker.tcp(), &clean(Version::V5, "writer"));
    writer.publish("free/one", "live", QoS::AtLeastOnce);
    let (stream, _) = collector.accept().expect("the broker calls");
    stream.set_read_timeout(Some(DEADLINE)).expect("a deadline");
    let mut reader = BufReader::new(&stream);
    let mut head = Vec::new();
    let mut len = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).expect("a line");
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            len = value.trim().parse().expect("a number");
        }
        if line.trim().is_empty() {
            break;
        }
        head.push(line);
    }
    assert!(head[0].starts_with("POST /v1/metrics HTTP/1.1"), "{head:?}");
    let mut body = vec![0; len];
    reader.read_exact(&mut body).expect("the body");
    (&stream)
        .write_all(
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Type: application/json\r\n\r\n{}",
        )
        .expect("answered");
    let told: Value = serde_json::from_slice(&body).expect("JSON");
    let resource = &told["resourceMetrics"][0];
    assert_eq!(
        resource["resource"]["attributes"][0]["value"]["stringValue"],
        "tidings"
    );
    let metrics = resource["scopeMetrics"][0]["metrics"]
        .as_array()
        .expect("metrics");
    let metric = |name: &str| {
        let found = metrics.iter().find(|metric| metric["name"] == name);
        found.unwrap_or_else(|| panic!("{name} is not there"))
    };
    let received = &metric("tidings.messages_received")["sum"];
    assert_eq!(
        (
            &received["isMonotonic"],
            &received["aggregationTemporality"]
        ),
        (&json!(true), &json!(2))
    );
    let doors = &metric("tidings.connections_by_door")["gauge"]["dataPoints"];
    assert!(doors.as_array().is_some_and(|doors| {
        doors
            .iter()
            .any(|door| door["attributes"][0]["value"]["stringValue"] == "tcp")
    }));
    let sync = &metric("tidings.journal_sync_seconds")["histogram"]["dataPoints"][0];
    let counts = sync["bucketCounts"].as_array().expect("counts").len();
    assert_eq!(
        sync["explicitBounds"].as_array().map(Vec::len),
        Some(counts - 1)
    );
}
