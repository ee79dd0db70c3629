//! Who reads streams and polls, over a connection of their own.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::Instant;

use serde_json::{Value, json};
use tidings_core::codec::{Connect, Version};
use tidings_core::message::QoS;
use tidings_tests::raw_client::publish_packet;
use tidings_tests::{DEADLINE, Endpoint, RawClient, clean};

/// Percent-encodes everything but what is certainly plain.
pub fn encoded(text: &str) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._".contains(byte);
    text.bytes()
        .map(|byte| match plain(&byte) {
            true => char::from(byte).to_string(),
            false => format!("%{byte:02X}"),
        })
        .collect()
}

/// A request over a connection of its own: status line and headers are read, the body is not.
pub struct Http {
    pub status: u16,
    pub body: BufReader<TcpStream>,
    /// Bytes of the chunk that is being read.
    left: usize,
    chunked: bool,
}

impl Http {
    #[track_caller]
    pub fn send(at: Endpoint, method: &str, path: &str, token: Option<&str>, body: &str) -> Self {
        let mut socket = TcpStream::connect(at.address()).expect("a connection");
        socket.set_read_timeout(Some(DEADLINE)).expect("a timeout");
        let token = token.map_or(String::new(), |token| {
            format!("Authorization: Bearer {token}\r\n")
        });
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{token}\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        socket.write_all(request.as_bytes()).expect("it reads");
        let mut body = BufReader::new(socket);
        let mut line = || {
            let mut line = String::new();
            body.read_line(&mut line).expect("an answer");
            line.trim_end().to_owned()
        };
        let status = line();
        let status = status.split(' ').nth(1).and_then(|code| code.parse().ok());
        let mut chunked = false;
        loop {
            let header = line().to_ascii_lowercase();
            chunked |= header == "transfer-encoding: chunked";
            if header.is_empty() {
                break;
            }
        }
        Self {
            status: status.expect("a status"),
            body,
            left: 0,
            chunked,
        }
    }

    /// The rest of the body, as JSON.
    #[track_caller]
    pub fn json(mut self) -> Value {
        let mut text = Vec::new();
        while let Some(byte) = self.byte() {
            text.push(byte);
        }
        serde_json::from_slice(&text).expect("JSON")
    }

    /// `None` at the end.
    pub fn byte(&mut self) -> Option<u8> {
        if self.chunked && self.left == 0 {
            let mut size = String::new();
            while size.trim().is_empty() {
                size.clear();
                if self.body.read_line(&mut size).ok()? == 0 {
                    return None;
                }
            }
            self.left = usize::from_str_radix(size.trim(), 16).expect("a chunk");
            if self.left == 0 {
                return None;
            }
        }
        let mut byte = [0];
        self.body.read_exact(&mut byte).ok()?;
        self.left = self.left.saturating_sub(1);
        Some(byte[0])
    }

    /// `None` at the end.
    pub fn line(&mut self) -> Option<String> {
        let mut line = Vec::new();
        loop {
            match self.byte()? {
                b'\n' => return Some(String::from_utf8(line).expect("UTF-8")),
                byte => line.push(byte),
            }
        }
    }
}

/// One event of a stream.
#[derive(Debug, Default)]
pub struct Event {
    pub name: String,
    pub data: String,
}

impl Event {
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.data).expect("JSON")
    }
}

/// A reader of `/v1/events`, as a browser is one.
pub struct Events {
    pub http: Http,
    pub last_id: String,
}

impl Events {
    #[track_caller]
    pub fn open(at: Endpoint, token: &str, query: &str) -> Self {
        let path = format!("/v1/events?{query}");
        let http = Http::send(at, "GET", &path, Some(token), "");
        let status = http.status;
        assert_eq!(status, 200, "{path}");
        Self {
            http,
            last_id: String::new(),
        }
    }

    /// The next event; `None` at the end. What only moves the position on is passed over.
    pub fn next(&mut self) -> Option<Event> {
        let until = Instant::now() + DEADLINE;
        loop {
            assert!(Instant::now() < until, "only heartbeats come");
            let event = self.block()?;
            if !event.name.is_empty() {
                return Some(event);
            }
        }
    }

    /// Up to the next empty line.
    pub fn block(&mut self) -> Option<Event> {
        let mut event = Event::default();
        loop {
            let line = self.http.line()?;
            match line.split_once(": ") {
                Some(("id", id)) => self.last_id = id.to_owned(),
                Some(("event", name)) => event.name = name.to_owned(),
                Some(("data", data)) => event.data = data.to_owned(),
                Some(("" | "retry", _)) => {}
                None if line.is_empty() => return Some(event),
                _ => panic!("no line of a stream: {line}"),
            }
        }
    }

    #[track_caller]
    pub fn message(&mut self) -> Value {
        let event = self.next().expect("an event");
        assert_eq!(event.name, "message", "{}", event.data);
        event.json()
    }
}

#[track_caller]
pub fn token(at: Endpoint, user: &str, password: &str) -> String {
    let body = json!({ "user": user, "password": password }).to_string();
    let answer = Http::send(at, "POST", "/v1/login", None, &body);
    assert_eq!(answer.status, 200);
    answer.json()["token"].as_str().expect("a token").to_owned()
}

#[track_caller]
pub fn poll(at: Endpoint, token: &str, query: &str) -> Value {
    let path = format!("/v1/poll?{query}");
    let answer = Http::send(at, "GET", &path, Some(token), "");
    let status = answer.status;
    let json = answer.json();
    assert_eq!(status, 200, "{json}");
    json
}

pub fn connect(endpoint: Endpoint, user: &str, client_id: &str) -> RawClient {
    let connect = Connect {
        username: Some(user),
        ..clean(Version::V5, client_id)
    };
    RawClient::connect(endpoint, &connect)
}

pub fn texts(messages: &Value) -> Vec<String> {
    let messages = messages["messages"].as_array().expect("a list").iter();
    messages
        .map(|message| message["payload"].as_str().expect("text").to_owned())
        .collect()
}

pub fn curl(at: Endpoint, path: &str, token: &str) -> Command {
    let mut command = Command::new("curl");
    let header = format!("Authorization: Bearer {token}");
    let url = format!("http://{}{path}", at.address());
    command.args(["-sSN", "--max-time", "60", "-H", &header, &url]);
    command
}
/// Asks for something about rooms, and waits for the answer.
#[track_caller]
pub fn ask(client: &mut RawClient, user: &str, method: &str, request: &Value) {
    let id = client.new_packet_id();
    let topic = format!("user/{user}/request/{method}");
    let request = request.to_string();
    client.send(&publish_packet(
        &topic,
        request.as_bytes(),
        QoS::AtLeastOnce,
        id,
    ));
    loop {
        let Some(delivery) = client.next().delivery() else {
            continue;
        };
        client.acknowledge(&delivery);
        if delivery.topic == format!("user/{user}/reply") {
            assert!(
                delivery.text().contains("\"ok\":true"),
                "{}",
                delivery.text()
            );
            return;
        }
    }
}
