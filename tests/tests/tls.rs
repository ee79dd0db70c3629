//! TLS as others see it: OpenSSL looks at versions, ciphers and certificates, mosquitto's clients and a
//! browser speak through it, and files change under a broker that runs.

use std::fs;
use std::net::SocketAddr;
use std::process::{Command, Output};

use rcgen::SanType;
use tidings_tests::pki::Seen;
use tidings_tests::program::{artifact, find, mosquitto, node, run};
use tidings_tests::{Pki, Program, TidingsOptions, TidingsProcess};

const READ_AGAIN: &str = "certificates and lists were read again";

/// A broker with listeners that speak nothing but TLS, and the certificates of these servers.
fn with_tls(pki: &Pki, servers: &[&str]) -> TidingsOptions {
    TidingsOptions::new()
        .argument("--mqtts")
        .argument("127.0.0.1:0")
        .argument("--wss")
        .argument("127.0.0.1:0")
        .set("tls.certificates", pki.certificates(servers))
}

/// One message, at QoS 1 and in MQTT 5: the end says whether the broker took it.
fn publish(pki: &Pki, address: SocketAddr, client: Option<&str>, more: &[&str]) -> Output {
    let mut command = mosquitto("mosquitto_pub", address);
    command.args(["-V", "5", "-q", "1", "--cafile"]);
    command.arg(pki.path("ca.crt"));
    if let Some(client) = client {
        command
            .arg("--cert")
            .arg(pki.path(&format!("{client}.crt")));
        command.arg("--key").arg(pki.path(&format!("{client}.key")));
    }
    for (flag, usual) in [("-t", "free"), ("-m", "hello")] {
        if !more.contains(&flag) {
            command.args([flag, usual]);
        }
    }
    command.args(more).output().expect("it can be started")
}

#[track_caller]
fn assert_taken(output: &Output) {
    assert!(output.status.success(), "{output:?}");
}

#[track_caller]
fn assert_refused(output: &Output) {
    assert!(!output.status.success(), "{output:?}");
}

/// Waits for a message on a topic, once the subscription is there.
fn listen(address: SocketAddr, topic: &str, more: &[&str]) -> Program {
    let mut command = mosquitto("mosquitto_sub", address);
    command.args(["-t", topic, "-d"]).args(more);
    let mut listener = Program::start(command);
    listener.expect_line("a SUBACK", |line| line.contains("received SUBACK"));
    listener
}

#[test]
fn versions_and_ciphers_that_are_weak_are_refused() {
    let pki = Pki::new();
    pki.server("server", 2, &[]);
    let broker = with_tls(&pki, &["server"]).start();
    for address in [broker.mqtts(), broker.wss(), broker.auto_tcp().address()] {
        for version in ["-tls1_2", "-tls1_3"] {
            let seen = pki.see(address, &[version]);
            assert!(seen.is_agreed, "{version}: {}", seen.text);
        }
    }
    let address = broker.mqtts();
    // OpenSSL itself speaks them only at its lowest level of security.
    for weak in [
        &["-tls1", "-cipher", "ALL:@SECLEVEL=0"][..],
        &["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"],
        &["-tls1_2", "-cipher", "AES128-SHA:@SECLEVEL=0"],
        &["-tls1_2", "-cipher", "AES256-GCM-SHA384"],
        &["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA:@SECLEVEL=0"],
        &["-tls1_2", "-cipher", "aNULL:eNULL:@SECLEVEL=0"],
    ] {
        let seen = pki.see(address, weak);
        assert!(!seen.is_agreed, "{weak:?}: {}", seen.text);
        assert!(seen.text.contains("alert"), "{weak:?}: {}", seen.text);
    }
    // Someone who does not speak TLS is told so, and one who believes another CA goes.
    let plain = mosquitto("mosquitto_pub", address)
        .args(["-t", "free", "-m", "x"])
        .output();
    assert_refused(&plain.expect("it can be started"));
    let other = Pki::new();
    assert_refused(&publish(&other, address, None, &[]));

    let strict = with_tls(&pki, &["server"])
        .set("tls.min_version", "\"1.3\"")
        .start();
    assert!(pki.see(strict.mqtts(), &["-tls1_3"]).is_agreed);
    assert!(!pki.see(strict.mqtts(), &["-tls1_2"]).is_agreed);
}

#[test]
fn clients_of_others_speak_tls_and_one_port_serves_all() {
    let pki = Pki::new();
    pki.server("server", 2, &[]);
    let broker = with_tls(&pki, &["server"]).start();
    let ca = pki.path("ca.crt");
    let ca = ca.to_str().expect("UTF-8");
    let auto = broker.auto_tcp().address();
    let mut over_tls = listen(broker.mqtts(), "free/#", &["--cafile", ca]);
    let mut over_auto = listen(auto, "free/#", &["--cafile", ca]);
    let mut plain = listen(auto, "free/#", &[]);
    assert_taken(&publish(&pki, auto, None, &["-t", "free/auto"]));
    assert_taken(&publish(&pki, broker.mqtts(), None, &["-t", "free/tls"]));
    // Far more than one record, and than a socket takes at once.
    let large = pki.path("large");
    fs::write(&large, "0123456789".repeat(90_000)).expect("a file");
    let mut command = mosquitto("mosquitto_pub", auto);
    command.args(["-t", "free/large", "-q", "1", "--cafile", ca, "-f"]);
    run({
        command.arg(&large);
        command
    });
    for listener in [&mut over_tls, &mut over_auto, &mut plain] {
        listener.expect_line("both messages", |line| line == "hello");
        listener.expect_line("both messages", |line| line == "hello");
        listener.expect_line("a large one", |line| line.len() == 900_000);
    }
    let request = "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    for address in [broker.wss(), auto] {
        let seen = pki.say(address, &["-alpn", "http/1.1", "-tls1_3"], request);
        assert!(seen.text.contains("HTTP/1.1 200 OK"), "{}", seen.text);
    }
    // What is closed inside of TLS is said to be closed there.
    let seen = pki.say(broker.mqtts(), &[], "no MQTT\n");
    assert!(seen.is_agreed, "{}", seen.text);
    assert!(!seen.text.contains("unexpected eof"), "{}", seen.text);
}

#[test]
fn the_certificate_is_the_one_for_the_name_that_is_asked_for() {
    let pki = Pki::new();
    pki.server("first", 2, &["a.example"]);
    pki.server("second", 3, &["b.example", "*.c.example"]);
    let broker = with_tls(&pki, &["first", "second"]).start();
    for (asked, shown) in [
        ("a.example", "first"),
        ("b.example", "second"),
        ("B.Example", "second"),
        ("x.c.example", "second"),
        ("x.y.c.example", "first"),
        ("other.example", "first"),
    ] {
        let seen = pki.see(broker.mqtts(), &["-servername", asked]);
        assert_eq!(seen.server(), Some(shown), "{asked}: {}", seen.text);
    }
    let seen = pki.see(broker.mqtts(), &["-noservername"]);
    assert_eq!(seen.server(), Some("first"), "{}", seen.text);
}

/// What comes back for a text of a client with this certificate.
fn say_as(pki: &Pki, client: &str, address: SocketAddr, text: &str) -> Seen {
    let [cert, key] = ["crt", "key"].map(|kind| pki.path(&format!("{client}.{kind}")));
    let shown = [
        "-cert",
        cert.to_str().expect("UTF-8"),
        "-key",
        key.to_str().expect("UTF-8"),
    ];
    pki.say(address, &shown, text)
}

#[test]
fn a_certificate_says_who_a_client_is_until_it_is_revoked() {
    let mut pki = Pki::new();
    pki.server("server", 2, &[]);
    pki.client("alice", "alice", 10, Vec::new());
    pki.client("bob", "bob", 11, Vec::new());
    pki.expired_client("late", "alice", 12);
    pki.revoke(&[11]);
    let stranger = Pki::new();
    stranger.client("alice", "alice", 10, Vec::new());
    for kind in ["crt", "key"] {
        let from = stranger.path(&format!("alice.{kind}"));
        fs::copy(from, pki.path(&format!("stranger.{kind}"))).expect("a file");
    }
    let broker = with_tls(&pki, &["server"])
        .set("auth.mode", "\"accounts\"")
        .set("tls.client_auth", "\"required\"")
        .set("tls.client_ca", pki.file("ca.crt"))
        .set("tls.crl_files", pki.file("ca.crl"))
        .set("tls.reload_s", 1)
        .start();
    let address = broker.mqtts();
    assert_taken(&publish(&pki, address, Some("alice"), &[]));
    assert_taken(&publish(&pki, address, Some("alice"), &["-u", "alice"]));
    // Another name, a password that does not count, nothing to show, a CA that is not ours, a certificate
    // that is revoked, one that has expired.
    assert_refused(&publish(&pki, address, Some("alice"), &["-u", "bob"]));
    assert_refused(&publish(
        &pki,
        address,
        Some("alice"),
        &["-u", "alice", "-P", "guess"],
    ));
    assert_refused(&publish(&pki, address, None, &[]));
    assert_refused(&publish(&pki, address, Some("stranger"), &[]));
    assert_refused(&publish(&pki, address, Some("bob"), &[]));
    assert_refused(&publish(&pki, address, Some("late"), &[]));
    // What she may is hers: her own topics, and nobody else's.
    let inbox = ["-t", "user/alice/request/unread"];
    assert_taken(&publish(&pki, address, Some("alice"), &inbox));
    let others = ["-t", "user/bob/request/unread"];
    let refused = publish(&pki, address, Some("alice"), &others);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("Not authorized"), "{refused:?}");
    // The API believes it, too.
    let ask = "GET /v1/me HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let seen = say_as(&pki, "alice", broker.wss(), ask);
    assert!(seen.text.contains("\"user\":\"alice\""), "{}", seen.text);
    // On a port without TLS a certificate is worth nothing.
    let plain = broker.get("/v1/me");
    assert!(plain.starts_with("HTTP/1.1 401"), "{plain}");
}

/// Without a password nothing else proved who it is: what would outlive the certificate, if it were revoked,
/// would be worth more than it.
#[test]
fn a_login_that_a_certificate_alone_got_counts_beside_it() {
    let pki = Pki::new();
    pki.server("server", 2, &[]);
    pki.client("alice", "alice", 10, Vec::new());
    let broker = with_tls(&pki, &["server"])
        .set("tls.client_auth", "\"optional\"")
        .set("tls.client_ca", pki.file("ca.crt"))
        .start();
    let body = r#"{"user":"alice"}"#;
    let head = "HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n";
    let ask = format!(
        "POST /v1/login {head}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let seen = say_as(&pki, "alice", broker.wss(), &ask).text;
    let token = seen.split("\"token\":\"").nth(1).expect("a token");
    let token = token.split('"').next().expect("its end");
    let me = format!("GET /v1/me {head}Authorization: Bearer {token}\r\n\r\n");
    let seen = say_as(&pki, "alice", broker.wss(), &me).text;
    assert!(seen.contains("\"user\":\"alice\""), "{seen}");
    let seen = pki.say(broker.wss(), &[], &me).text;
    assert!(seen.contains("HTTP/1.1 401"), "{seen}");
}

/// What mosquitto_sub says of DISCONNECT with Reason Code 0x87.
fn is_end(line: &str) -> bool {
    line.contains("eceived DISCONNECT (135)")
}

/// Somebody who listens, and shows a certificate.
fn listen_with(pki: &Pki, address: SocketAddr, client: &str, more: &[&str]) -> Program {
    let path = |kind: &str| {
        let path = pki.path(&format!("{client}.{kind}"));
        path.to_str().expect("UTF-8").to_owned()
    };
    let ca = pki.path("ca.crt");
    let (ca, cert, key) = (ca.to_str().expect("UTF-8"), path("crt"), path("key"));
    let shown = ["--cafile", ca, "--cert", &cert, "--key", &key];
    listen(address, "free/#", &[&shown, more].concat())
}

#[test]
fn open_connections_end_when_their_certificate_is_revoked_and_others_stay() {
    let mut pki = Pki::new();
    pki.server("server", 2, &[]);
    for (serial, name) in [(10, "alice"), (11, "bob"), (12, "carol")] {
        pki.client(name, name, serial, Vec::new());
    }
    pki.revoke(&[]);
    let broker = with_tls(&pki, &["server"])
        .set("auth.mode", "\"accounts\"")
        .set("tls.client_auth", "\"required\"")
        .set("tls.client_ca", pki.file("ca.crt"))
        .set("tls.crl_files", pki.file("ca.crl"))
        .set("tls.reload_s", 1)
        .start();
    let address = broker.mqtts();
    let will = [
        "-V",
        "5",
        "--will-topic",
        "free/will",
        "--will-payload",
        "a last word",
    ];
    let mut alice = listen_with(&pki, address, "alice", &will);
    let mut bob = listen_with(&pki, address, "bob", &[]);
    // Over HTTP there is a stream, which does not end by itself.
    let mut command = Command::new(find("openssl"));
    command
        .args([
            "s_client",
            "-quiet",
            "-crlf",
            "-connect",
            &broker.wss().to_string(),
        ])
        .arg("-CAfile")
        .arg(pki.path("ca.crt"))
        .arg("-cert")
        .arg(pki.path("alice.crt"))
        .arg("-key")
        .arg(pki.path("alice.key"));
    let mut stream = Program::start(command);
    stream.say("GET /v1/events?filter=free/%23 HTTP/1.1\nHost: localhost\n");
    stream.expect_line("a stream", |line| line.starts_with("HTTP/1.1 200"));

    let before = broker.log().len();
    pki.revoke(&[10]);
    broker.wait_for_log(before, "do not count any more: these end");
    alice.expect_line("the end", is_end);
    stream.expect_end();
    assert_refused(&publish(&pki, address, Some("alice"), &[]));
    // Nothing changes for the others, nor do they hear what her Will was to say.
    let hears = |listener: &mut Program| {
        assert_taken(&publish(&pki, address, Some("carol"), &[]));
        let first =
            listener.expect_line("a message", |line| matches!(line, "hello" | "a last word"));
        assert_eq!(first, "hello");
    };
    hears(&mut bob);
}

#[test]
fn open_connections_end_when_their_ca_is_not_believed_any_more_and_others_stay() {
    let pki = Pki::new();
    pki.server("server", 2, &[]);
    pki.client("carol", "carol", 12, Vec::new());
    let other = Pki::new();
    other.client("dave", "dave", 13, Vec::new());
    for kind in ["crt", "key"] {
        let file = format!("dave.{kind}");
        fs::copy(other.path(&file), pki.path(&file)).expect("a file");
    }
    let folder = pki.path("");
    let bundle = |cas: &[&Pki]| {
        let text = |ca: &&Pki| fs::read_to_string(ca.path("ca.crt")).expect("a file");
        let all: String = cas.iter().map(text).collect();
        let unfinished = folder.join("bundle.unfinished");
        fs::write(&unfinished, all).expect("a file");
        fs::rename(&unfinished, folder.join("bundle.crt")).expect("a file");
    };
    bundle(&[&pki, &other]);
    let broker = with_tls(&pki, &["server"])
        .set("auth.mode", "\"accounts\"")
        .set("tls.client_auth", "\"required\"")
        .set("tls.client_ca", pki.file("bundle.crt"))
        .set("tls.reload_s", 1)
        .start();
    let address = broker.mqtts();
    let mut carol = listen_with(&pki, address, "carol", &[]);
    let mut dave = listen_with(&pki, address, "dave", &["-V", "5"]);
    let before = broker.log().len();
    bundle(&[&pki]);
    broker.wait_for_log(before, "do not count any more: these end");
    dave.expect_line("the end", is_end);
    assert_refused(&publish(&pki, address, Some("dave"), &[]));
    assert_taken(&publish(&pki, address, Some("carol"), &[]));
    carol.expect_line("her message", |line| line == "hello");
}

#[test]
fn a_name_in_a_certificate_that_could_be_something_else_lets_nobody_in() {
    let pki = Pki::new();
    pki.server("server", 2, &[]);
    let uri = |text: &str| SanType::URI(text.try_into().expect("ASCII"));
    let mail = |text: &str| SanType::Rfc822Name(text.try_into().expect("ASCII"));
    let dns = |text: &str| SanType::DnsName(text.try_into().expect("ASCII"));
    let start = |client_name: &str| {
        with_tls(&pki, &["server"])
            .set("tls.client_auth", "\"optional\"")
            .set("tls.client_ca", pki.file("ca.crt"))
            .set("tls.client_name", format!("\"{client_name}\""))
            .start()
    };
    let by_name = start("subject_cn");
    for (serial, name) in [
        "",
        "+",
        "#",
        "a/b",
        "a+",
        "$SYS",
        "al\0ice",
        "al\nice",
        "al\u{7f}ice",
        "\u{85}",
        " alice",
        "alice ",
        &"x".repeat(257),
    ]
    .into_iter()
    .enumerate()
    {
        pki.client("bad", name, 100 + serial as u64, Vec::new());
        let output = publish(&pki, by_name.mqtts(), Some("bad"), &[]);
        assert!(!output.status.success(), "{name:?}: {output:?}");
        // Nor under a name that it says itself.
        assert_refused(&publish(
            &pki,
            by_name.mqtts(),
            Some("bad"),
            &["-u", "alice"],
        ));
    }
    let names = vec![
        uri("urn:tidings:alice"),
        mail("alice@a.example"),
        dns("alice.example"),
    ];
    pki.client("alice", "Alice", 50, names);
    pki.client("two", "Alice", 51, vec![dns("a.example"), dns("b.example")]);
    for (client_name, name) in [
        ("san_uri", "urn:tidings:alice"),
        ("san_email", "alice@a.example"),
        ("san_dns", "alice.example"),
    ] {
        let broker = start(client_name);
        let address = broker.mqtts();
        assert_taken(&publish(&pki, address, Some("alice"), &["-u", name]));
        assert_refused(&publish(&pki, address, Some("alice"), &["-u", "Alice"]));
        assert_refused(&publish(&pki, address, Some("two"), &[]));
        // Who shows none is anyone, in this mode.
        assert_taken(&publish(&pki, address, None, &["-u", "anyone"]));
    }
}

#[test]
fn files_are_read_again_and_a_broken_one_changes_nothing() {
    let pki = Pki::new();
    pki.server("server", 2, &[]);
    let start = |reload_s: u64| {
        with_tls(&pki, &["server"])
            .set("tls.reload_s", reload_s)
            .start()
    };
    let by_signal = start(86_400);
    let by_itself = start(1);
    let ca = pki.path("ca.crt");
    let ca = ca.to_str().expect("UTF-8");
    let mut stays = listen(by_signal.mqtts(), "free", &["--cafile", ca]);
    // Another certificate, under another name, in the same files.
    pki.server("newer", 3, &[]);
    let before = (by_signal.log().len(), by_itself.log().len());
    for kind in ["key", "crt"] {
        let from = pki.path(&format!("newer.{kind}"));
        fs::rename(from, pki.path(&format!("server.{kind}"))).expect("a file");
    }
    by_itself.wait_for_log(before.1, READ_AGAIN);
    assert_eq!(pki.see(by_itself.mqtts(), &[]).server(), Some("newer"));
    assert_eq!(pki.see(by_signal.mqtts(), &[]).server(), Some("server"));
    by_signal.signal("HUP");
    by_signal.wait_for_log(before.0, "settings were read again");
    assert_eq!(pki.see(by_signal.mqtts(), &[]).server(), Some("newer"));

    let key = pki.path("server.key");
    let before = (by_signal.log().len(), by_itself.log().len());
    fs::write(&key, "no key").expect("a file");
    by_itself.wait_for_log(before.1, "server.key: no private key");
    by_signal.signal("HUP");
    by_signal.wait_for_log(before.0, "server.key: no private key");
    pki.server("other", 4, &[]);
    let before = by_itself.log().len();
    fs::rename(pki.path("other.key"), &key).expect("a file");
    by_itself.wait_for_log(before, "does not belong to the certificate");
    let before = by_itself.log().len();
    fs::remove_file(&key).expect("a file");
    by_itself.wait_for_log(before, "server.key: No such file");
    for broker in [&by_signal, &by_itself] {
        assert_eq!(pki.see(broker.mqtts(), &[]).server(), Some("newer"));
    }
    assert_taken(&publish(&pki, by_signal.mqtts(), None, &[]));
    stays.expect_line("the message", |line| line == "hello");
    // What is broken from the beginning is no broker, and says why.
    let refused = with_tls(&pki, &["server"]).run_to_the_end();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success());
    assert!(said.contains("server.key: No such file"), "{said}");
}

/// `tidings init --tls` in a folder, and a broker with the settings it wrote, on ports of its own.
fn initialised(folder: &tempfile::TempDir) -> (TidingsProcess, std::path::PathBuf) {
    let (config, data) = (
        folder.path().join("tidings.toml"),
        folder.path().join("data"),
    );
    let mut command = Command::new(tidings_tests::binary::tidings());
    command.args(["init", "--tls", "--tls-name", "broker.example", "--config"]);
    command.arg(&config).arg("--data-dir").arg(&data);
    let mut program = Program::start(command);
    program.say("a long password");
    program.finish();
    let broker = TidingsOptions::new()
        .config(&config)
        .data_dir(&data)
        .argument("--mqtts")
        .argument("127.0.0.1:0")
        .argument("--wss")
        .argument("127.0.0.1:0")
        .start();
    (broker, data.join("tls/ca.crt"))
}

#[test]
fn what_init_makes_serves_tidings_own_clients_and_links() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let (broker, ca) = initialised(&folder);
    let ca = ca.to_str().expect("UTF-8");
    let client = |command: &str, url: &str, more: &[&str]| {
        let mut program = Command::new(tidings_tests::binary::tidings());
        program.args([command, "-L", url, "--cafile", ca, "-u", "admin"]);
        program.args(["-P", "a long password"]).args(more);
        program
    };
    let mqtts = format!("mqtts://localhost:{}", broker.mqtts().port());
    let wss = format!("wss://127.0.0.1:{}", broker.wss().port());
    for url in [&mqtts, &wss] {
        run(client(
            "pub",
            url,
            &["-t", "free", "-m", "x", "-q", "1", "-r"],
        ));
        let heard = run(client("sub", url, &["-t", "free", "-C", "1"]));
        assert_eq!(heard.last().map(String::as_str), Some("x"), "{heard:?}");
    }
    // Another CA is not believed.
    let stranger = Pki::new();
    let other = stranger.path("ca.crt");
    let mut command = Command::new(tidings_tests::binary::tidings());
    command.args(["pub", "-L", &mqtts, "-t", "free", "-m", "x", "--cafile"]);
    let refused = command.arg(&other).output().expect("it can be started");
    assert_refused(&refused);
    assert!(
        String::from_utf8_lossy(&refused.stderr).contains("UnknownIssuer"),
        "{refused:?}"
    );

    // A broker elsewhere carries what is said there over TLS to this one.
    let link = format!(
        "[{{ name = \"up\", address = \"{mqtts}\", ca_file = {ca:?}, username = \"admin\", \
         password = \"a long password\", topics = [{{ pattern = \"up/#\", direction = \"out\" }}] }}]"
    );
    let elsewhere = TidingsOptions::new().set("bridges", link).start();
    let signed_in = ["--cafile", ca, "-u", "admin", "-P", "a long password"];
    let mut hears = listen(broker.mqtts(), "up/#", &signed_in);
    let mut say = mosquitto("mosquitto_pub", elsewhere.tcp().address());
    say.args(["-t", "up/x", "-m", "from elsewhere", "-q", "1"]);
    run(say);
    hears.expect_line("what was said there", |line| line == "from elsewhere");
}

#[test]
fn a_browser_speaks_wss_with_a_certificate_that_it_was_told_to_believe() {
    let pki = Pki::new();
    pki.server("server", 2, &[]);
    let broker = with_tls(&pki, &["server"]).start();
    assert!(
        broker.get("/").contains("<script"),
        "the web chat is not in the program; `make web` builds it, and then the program is to be built again"
    );
    let digest = Command::new("sh")
        .args([
            "-c",
            "openssl x509 -in \"$0\" -pubkey -noout | openssl pkey -pubin -outform der \
             | openssl dgst -sha256 -binary | base64",
        ])
        .arg(pki.path("server.crt"))
        .output()
        .expect("sh can be started");
    let digest = String::from_utf8(digest.stdout).expect("Base64");
    let ca = pki.path("ca.crt");
    let ca = ca.to_str().expect("UTF-8");
    let mut shell = listen(
        broker.mqtts(),
        "chat/lobby/+",
        &["--cafile", ca, "-u", "bob"],
    );
    let mut command = node("web_tls.mjs");
    command
        .arg(format!("https://localhost:{}/", broker.wss().port()))
        .args(["hello over WSS", "hello from the shell"])
        .env("CHROMIUM", find("chromium"))
        .env("FAILED", artifact("failed-tls"))
        .env(
            "CHROMIUM_ARGS",
            format!("--ignore-certificate-errors-spki-list={}", digest.trim()),
        );
    let mut browser = Program::start(command);
    browser.expect_line("the page", |line| {
        line.starts_with("the page came over HTTPS")
    });
    browser.expect_line("her words", |line| line == "she speaks");
    shell.expect_line("her words", |line| line.contains("hello over WSS"));
    let said = [
        "-t",
        "chat/lobby/dave",
        "-u",
        "dave",
        "-m",
        "hello from the shell",
    ];
    assert_taken(&publish(&pki, broker.mqtts(), None, &said));
    browser.expect_line("his words", |line| line == "she hears");
    browser.finish();
}
