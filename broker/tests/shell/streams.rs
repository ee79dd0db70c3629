//! Streams over HTTP end with what their reader proved.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use jsonwebtoken::get_current_timestamp;
use serde_json::json;
use tidings_broker::listener::Kind;

use crate::denials::{sign, with_tokens};
use crate::peer::{DEADLINE, TestBroker};

/// What a GET of `path` is answered, up to the end of the connection.
fn get(broker: &TestBroker, path: &str) -> String {
    let mut socket = TcpStream::connect(broker.address(Kind::WebSocket)).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_stream_and_a_waiting_poll_end_when_the_token_does() {
    let broker = TestBroker::start(with_tokens);
    let now = get_current_timestamp();
    let token = sign(&json!({ "sub": "alice", "iat": now, "exp": now + 3 }));
    let begun = Instant::now();
    let answer = get(&broker, &format!("/v1/poll?filter=a/%23&token={token}"));
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let cursor = answer.split("\"cursor\":\"").nth(1).unwrap();
    let cursor = cursor.split('"').next().unwrap();
    let stream = format!("/v1/events?filter=a/%23&token={token}");
    let poll = format!("/v1/poll?filter=a/%23&token={token}&wait=50&since={cursor}");
    let answer = std::thread::scope(|scope| {
        let polled = scope.spawn(|| get(&broker, &poll));
        let answer = get(&broker, &stream);
        let polled = polled.join().unwrap();
        assert!(polled.starts_with("HTTP/1.1 401 "), "{polled}");
        answer
    });
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(answer.contains("event: end\n"), "{answer}");
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(20), "it took {took:?}");
    assert!(get(&broker, &stream).starts_with("HTTP/1.1 401 "));
}
