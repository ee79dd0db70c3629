//! Secrets stay where they are: whatever is logged, at any level, and whatever is answered, has no
//! password and no token in it, also when the packet around it is refused.

use std::io::Write as _;
use std::process::{Command, Stdio};

use tidings_core::codec::{Auth, Connect, Packet, ReasonCode, Version};
use tidings_core::message::QoS;
use tidings_tests::{DEADLINE, RawClient, TidingsOptions, TidingsProcess, binary, clean};

/// What nobody may ever read.
pub const PASSWORD: &str = "hunter2-the-password";
const WRONG: &str = "wrong-but-secret-7";

#[track_caller]
pub fn tidings(broker: &TidingsProcess, words: &[&str]) -> String {
    let mut child = Command::new(binary::tidings())
        .args(words)
        .arg("--data-dir")
        .arg(broker.data_dir())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("tidings starts");
    let mut input = child.stdin.take().expect("it was piped");
    writeln!(input, "{PASSWORD}").expect("tidings reads");
    drop(input);
    let output = child.wait_with_output().expect("tidings ends");
    let all = [output.stdout, output.stderr].concat();
    let all = String::from_utf8_lossy(&all).into_owned();
    assert!(output.status.success(), "tidings {words:?}: {all}");
    all
}

fn accounts() -> TidingsOptions {
    TidingsOptions::new()
        .set("log.level", "\"trace\"")
        .set("auth.mode", "\"accounts\"")
        .set("auth.password_memory_kib", 1024)
        .set("auth.password_passes", 1)
}

fn connect<'a>(version: Version, id: &'a str, password: &'a str) -> Connect<'a> {
    Connect {
        username: Some("alice"),
        password: Some(password.as_bytes()),
        ..clean(version, id)
    }
}

#[test]
fn no_password_and_no_token_is_in_the_log_at_its_loudest() {
    let broker = accounts().start();
    let mut secrets = vec![PASSWORD.to_owned(), WRONG.to_owned()];
    let said = tidings(&broker, &["user", "add", "alice"]);
    assert!(!said.contains(PASSWORD), "{said}");
    let device = tidings(&broker, &["device", "add", "lamp", "--owner", "alice"]);
    let token = device.trim().lines().last().unwrap_or_default().to_owned();
    assert!(token.len() > 15, "a token: {device}");
    secrets.push(token.clone());

    for version in [Version::V311, Version::V5] {
        RawClient::connect(broker.tcp(), &connect(version, "good", PASSWORD)).disconnect();
        let wrong = connect(version, "bad", WRONG);
        let (_, connack) =
            RawClient::try_connect(broker.tcp(), &wrong, DEADLINE).expect("an answer");
        assert!(connack.reason.is_failure());
        // A secret where it does not belong: in the user name, in the client identifier's place.
        let misplaced = Connect {
            username: Some("al/ice"),
            ..connect(version, "bad", PASSWORD)
        };
        let (_, connack) =
            RawClient::try_connect(broker.tcp(), &misplaced, DEADLINE).expect("an answer");
        assert!(connack.reason.is_failure());
        let text = connack.properties.reason_string.unwrap_or_default();
        assert!(!text.contains(PASSWORD) && !text.contains(WRONG), "{text}");
        // A packet that breaks off in the middle of the secret, and one that is broken behind it.
        let mut bytes = Vec::new();
        let whole = Packet::Connect(connect(version, "broken", PASSWORD));
        tidings_core::codec::encode(version, &whole, &mut bytes);
        let mut peer = RawClient::open(broker.tcp());
        peer.speak(version);
        let last = bytes.len() - 1;
        bytes[last] = 0xFF;
        bytes.insert(last, 0);
        peer.send_bytes(&bytes);
        while peer.try_next().is_ok() {}
    }
    let device = Connect {
        username: Some("lamp"),
        password: Some(token.as_bytes()),
        ..clean(Version::V311, "lamp")
    };
    RawClient::connect(broker.tcp(), &device).disconnect();
    // A proof by AUTH, from a client that did not come with a method.
    let mut client = RawClient::connect(broker.tcp(), &connect(Version::V5, "auth", PASSWORD));
    client.send(&Packet::Auth(Auth {
        reason: ReasonCode::ReAuthenticate,
        method: Some("token".to_owned()),
        data: Some(PASSWORD.as_bytes().to_vec()),
        reason_string: None,
        user: Vec::new(),
    }));
    client.expect_refusal(ReasonCode::ProtocolError);
    // What is answered.
    let mut client = RawClient::connect(broker.tcp(), &connect(Version::V5, "asks", PASSWORD));
    client.subscribe("$SYS/#", QoS::AtMostOnce);
    client.disconnect();
    for path in [
        "/metrics",
        "/healthz",
        "/readyz",
        "/v1/sessions",
        "/v1/openapi.json",
    ] {
        let answer = broker.get(path);
        for secret in &secrets {
            assert!(!answer.contains(secret.as_str()), "{path}: {answer}");
        }
    }
    broker.get(&format!("/v1/events?token={token}x"));
    broker.get(&format!("/mqtt?token={WRONG}"));
    let log = broker.log();
    assert!(
        log.contains("TRACE") || log.contains("DEBUG"),
        "the log is loud: {log}"
    );
    for secret in &secrets {
        let line = log.lines().find(|line| line.contains(secret.as_str()));
        assert_eq!(line, None, "a secret is in the log");
        let debug = format!("{:?}", secret.as_bytes());
        let inner = debug.trim_matches(['[', ']']);
        assert!(!log.contains(inner), "a secret is in the log, as numbers");
    }
}

#[test]
fn accounts_on_disk_have_no_password_in_them() {
    let mut broker = accounts().start();
    tidings(&broker, &["user", "add", "alice"]);
    RawClient::connect(broker.tcp(), &connect(Version::V5, "good", PASSWORD)).disconnect();
    broker.terminate();
    let mut folders = vec![broker.data_dir().to_owned()];
    let mut files = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if let Ok(bytes) = std::fs::read(&path) {
                files += 1;
                let found = bytes
                    .windows(PASSWORD.len())
                    .any(|w| w == PASSWORD.as_bytes());
                assert!(!found, "{}", path.display());
            }
        }
    }
    assert!(files > 2);
    let dump = broker.command("dump");
    assert!(!String::from_utf8_lossy(&dump.stdout).contains(PASSWORD));
}
