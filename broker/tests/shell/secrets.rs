//! What is secret is in no log, whatever its level, and in no answer: tokens in the query, in headers and
//! in cookies, passwords in bodies and in MQTT, over every door of HTTP and WebSocket.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

use crate::peer::{DEADLINE, Version, connect, connect_bytes};

const PROGRAM: &str = env!("CARGO_BIN_EXE_tidings");

/// The real program, which says everything that it has to say.
struct Talkative {
    child: Child,
    lines: Receiver<String>,
    log: Vec<String>,
    web: SocketAddr,
}

impl Talkative {
    fn start(folder: &Path) -> Self {
        let mut child = Command::new(PROGRAM)
            .args(["serve", "--tcp", "127.0.0.1:0", "--ws", "127.0.0.1:0"])
            .arg("--data-dir")
            .arg(folder.join("data"))
            .args(["--set", "log.level=trace", "--set", "log.format=text"])
            .args(["--set", "auth.mode=accounts"])
            .args(["--set", "auth.password_memory_kib=1024"])
            .args(["--set", "auth.password_passes=1"])
            .env("RUST_LOG", "trace")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program");
        let stderr = child.stderr.take().expect("a pipe");
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let mut talkative = Self {
            child,
            lines,
            log: Vec::new(),
            web: SocketAddr::from(([127, 0, 0, 1], 0)),
        };
        let line = loop {
            let line = talkative.lines.recv_timeout(DEADLINE).expect("it listens");
            talkative.log.push(line.clone());
            if line.contains("listening") && line.contains("ws") {
                break line;
            }
        };
        let address = line.split("address=").nth(1).expect("an address");
        let address = address.split_whitespace().next().expect("an address");
        talkative.web = address.parse().expect("an address");
        talkative
    }

    /// Sends bytes, and gives what is answered: until the end, or until `enough`.
    fn ask(&self, bytes: &[u8], enough: &str) -> String {
        let mut socket = TcpStream::connect(self.web).expect("a connection");
        socket.set_read_timeout(Some(DEADLINE)).expect("a timeout");
        socket.write_all(bytes).expect("it reads");
        let mut answer = Vec::new();
        let mut some = [0; 4096];
        while let Ok(len @ 1..) = socket.read(&mut some) {
            answer.extend_from_slice(&some[..len]);
            if !enough.is_empty() && String::from_utf8_lossy(&answer).contains(enough) {
                break;
            }
        }
        String::from_utf8_lossy(&answer).into_owned()
    }

    fn request(&self, method: &str, path: &str, headers: &str, body: &str) -> String {
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\
             Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        self.ask(request.as_bytes(), "")
    }

    fn upgrade(&self, path: &str, headers: &str, first: &[u8]) -> String {
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             Sec-WebSocket-Protocol: mqtt\r\n{headers}\r\n"
        );
        let bytes = [request.as_bytes(), &crate::frames::frame(0x82, first)].concat();
        self.ask(&bytes, "\r\n\r\n")
    }

    fn stop(mut self) -> Vec<String> {
        let id = self.child.id().to_string();
        let status = Command::new("kill").args(["-TERM", &id]).status();
        assert!(status.is_ok_and(|status| status.success()));
        assert!(self.child.wait().expect("its end").success());
        self.log.extend(self.lines.iter());
        std::mem::take(&mut self.log)
    }
}

impl Drop for Talkative {
    fn drop(&mut self) {
        // It has ended already, unless the test failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn tokens_and_passwords_are_in_no_log_and_no_answer() {
    const PASSWORD: &str = "correct-horse-battery";
    const GUESS: &str = "a-wrong-guess-of-hers";
    const QUERY: &str = "eyJ0b2tlbiI6InF1ZXJ5In0.secret-in-query.sig";
    let folder = tempfile::tempdir().expect("a folder");
    let broker = Talkative::start(folder.path());
    let mut add = Command::new(PROGRAM)
        .args(["user", "add", "alice", "--role", "admin", "--data-dir"])
        .arg(folder.path().join("data"))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program");
    let mut input = add.stdin.take().expect("a pipe");
    writeln!(input, "{PASSWORD}").expect("it reads");
    drop(input);
    assert!(add.wait().expect("its end").success());
    let body = |password: &str| format!("{{\"user\":\"alice\",\"password\":\"{password}\"}}");
    let answer = broker.request("POST", "/v1/login", "", &body(PASSWORD));
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let token = answer
        .split("\"token\":\"")
        .nth(1)
        .and_then(|rest| rest.split('"').next());
    let token = token.expect("a token").to_owned();
    let bearer = format!("Authorization: Bearer {token}\r\n");
    let cookie = format!("Cookie: token={token}\r\nX-Tidings: 1\r\n");
    let basic = "Authorization: Basic YWxpY2U6Y29ycmVjdC1ob3JzZS1iYXR0ZXJ5\r\n";
    let mut answers = vec![
        broker.request("POST", "/v1/login", "", &body(GUESS)),
        broker.request(
            "POST",
            "/v1/login",
            "",
            &format!("{{\"user\":1,\"password\":\"{GUESS}\"}}"),
        ),
    ];
    for path in [
        "/v1/me",
        "/v1/sessions",
        "/v1/devices",
        "/v1/unread",
        "/v1/rooms",
        "/v1/openapi.json",
        "/metrics",
        "/v1/poll?since=now",
    ] {
        for headers in [bearer.as_str(), cookie.as_str(), basic] {
            answers.push(broker.request("GET", path, headers, ""));
        }
    }
    for path in [
        "/v1/poll",
        "/v1/events",
        "/chat",
        "/mqtt",
        "/",
        "/nowhere",
        "/healthz",
    ] {
        for token in [QUERY, &token] {
            let path = format!("{path}?x=1&token={token}");
            answers.push(match path.starts_with("/v1/events") {
                // A stream does not end.
                true => broker.ask(
                    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes(),
                    "\r\n\r\n",
                ),
                false => broker.request("GET", &path, "", ""),
            });
        }
    }
    let mut hello = connect(Version::V5, "phone");
    hello.username = Some("alice");
    hello.password = Some(PASSWORD.as_bytes());
    let hello = connect_bytes(hello);
    for headers in ["", bearer.as_str(), cookie.as_str()] {
        answers.push(broker.upgrade("/mqtt", headers, &hello));
        answers.push(broker.upgrade(&format!("/mqtt?token={token}"), headers, &hello));
        answers.push(broker.upgrade(&format!("/mqtt?token={QUERY}"), headers, &hello));
        answers.push(broker.upgrade(&format!("/chat?token={token}"), headers, b"x"));
    }
    let log = broker.stop();
    assert!(log.len() > 30, "{log:#?}");
    let basic = "YWxpY2U6Y29ycmVjdC1ob3JzZS1iYXR0ZXJ5";
    // The signature is the part that nobody else can make.
    let signature = token.rsplit('.').next().expect("a signature");
    let secrets = [
        PASSWORD,
        GUESS,
        "secret-in-query",
        signature,
        basic,
        "argon2id",
    ];
    for text in log.iter().chain(&answers) {
        for secret in secrets {
            assert!(!text.contains(secret), "{secret} is in {text}");
        }
    }
}
