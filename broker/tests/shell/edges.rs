//! Known classes of vulnerabilities at the edges of WebSocket and HTTP, each by name: what a stranger may
//! send, and what becomes of it.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::Duration;

use tidings_broker::auth::{AccountOptions, HookOptions};
use tidings_broker::listener::Kind;
use tidings_broker::{BrokerOptions, OtherProofs};
use tidings_core::codec::{Packet, ReasonCode, Version};

use crate::frames::{Framed, frame};
use crate::peer::{
    TestBroker, connect, connect_bytes, encode, publish_bytes, with_accounts, with_others,
};

/// A stranger who is judged soon.
fn hasty(options: &mut BrokerOptions) {
    options.handshake.connect_timeout = Duration::from_secs(1);
}

fn joined(broker: &TestBroker) -> Framed {
    let mut socket = Framed::open(broker, "");
    socket.send(0x82, &connect_bytes(connect(Version::V5, "edge")));
    socket.packet(|packet| assert!(matches!(packet, Packet::ConnAck(_))));
    socket
}

fn is_alive(socket: &mut Framed) -> bool {
    socket.send(0x82, &encode(Version::V5, &Packet::PingReq));
    socket.packet(|packet| *packet == Packet::PingResp) == Some(true)
}

/// Sends bytes to the HTTP port, and gives all that is answered until the connection ends.
fn answered(broker: &TestBroker, bytes: &[u8]) -> String {
    let mut peer = broker.peer(Kind::WebSocket);
    // It may be refused before all is sent.
    let _ = peer.socket.write_all(bytes);
    String::from_utf8_lossy(&peer.until_end()).into_owned()
}

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or_default()
}

#[test]
fn a_packet_longer_than_its_frame_waits_for_the_next_and_reads_nothing_beyond() {
    let broker = TestBroker::start(|_| {});
    let mut socket = joined(&broker);
    let packet = publish_bytes("t", &[b'x'; 5000], Some(1));
    // The header says 5,000 bytes, the frame has 100; a Ping comes in between.
    socket.send(0x82, &packet[..100]);
    socket.send(0x89, b"between");
    assert_eq!(socket.frame(), Some((0x8A, b"between".to_vec())));
    socket.send(0x82, &packet[100..]);
    let reason = socket.packet(|packet| match packet {
        Packet::PubAck(ack) => ack.reason,
        other => panic!("{other:?}"),
    });
    assert!(!reason.expect("it stays").is_failure());
    assert!(is_alive(&mut socket));
}

#[test]
fn a_packet_that_announces_256_mib_is_refused_at_its_header() {
    let broker = TestBroker::start(|_| {});
    let announced = [0x30, 0xFF, 0xFF, 0xFF, 0x7F];
    let mut client = joined(&broker);
    client.send(0x82, &announced);
    assert_eq!(client.end(), Some(1009));
    let mut stranger = Framed::open(&broker, "");
    stranger.send(0x82, &[0x10, 0xFF, 0xFF, 0xFF, 0x7F]);
    assert_eq!(stranger.end(), Some(1009));
}

#[test]
fn a_frame_of_2_to_the_63_bytes_is_refused_and_one_of_2_to_the_62_holds_nothing() {
    let broker = TestBroker::start(|_| {});
    let mut top_bit = joined(&broker);
    top_bit.send_raw(&[0x82, 0xFF, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(top_bit.end(), Some(1002));
    // A frame is part of a stream: its length is never asked for memory.
    let mut endless = Framed::open(&broker, "");
    endless.send_raw(&[0x82, 0xFF, 0x40, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    endless.send_raw(&connect_bytes(connect(Version::V5, "endless")));
    let reason = endless.packet(|packet| match packet {
        Packet::ConnAck(connack) => connack.reason,
        other => panic!("{other:?}"),
    });
    assert_eq!(reason, Some(ReasonCode::Success));
    // Texts have to be whole: there it is refused when it is announced.
    let alice = "Authorization: Basic YWxpY2U6\r\n";
    let mut chat = Framed::ask(&broker, "/chat", alice);
    chat.send_raw(&[0x81, 0xFF, 0x40, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(chat.end(), Some(1009));
}

#[test]
fn frames_without_a_mask_and_control_frames_in_parts_or_too_long_are_refused() {
    let broker = TestBroker::start(|_| {});
    let long = frame(0x89, &[0; 126]);
    for raw in [
        &[0x82, 1, 0][..],
        &[0x89, 0],
        &frame(0x09, b"half a ping"),
        &frame(0x08, &[3, 0xE8]),
        &frame(0x0A, b""),
        &long,
    ] {
        let mut socket = joined(&broker);
        socket.send_raw(raw);
        assert_eq!(socket.end(), Some(1002), "{:02x?}", &raw[..2]);
    }
}

#[test]
fn endless_fragments_and_pings_of_nothing_are_taken_and_held_nowhere() {
    let broker = TestBroker::start(|_| {});
    let mut socket = joined(&broker);
    let mut flood = frame(0x02, b"");
    for _ in 0..20_000 {
        flood.extend_from_slice(&frame(0x00, b""));
    }
    flood.extend_from_slice(&frame(0x8A, b"").repeat(20_000));
    flood.extend_from_slice(&frame(0x80, &encode(Version::V5, &Packet::PingReq)));
    socket.send_raw(&flood);
    assert_eq!(
        socket.packet(|packet| *packet == Packet::PingResp),
        Some(true)
    );
    // Pings whose Pongs nobody reads: the newest is answered, the others need not be (RFC 6455 §5.5.3).
    socket.send_raw(&frame(0x89, b"again").repeat(20_000));
    assert!(is_alive(&mut socket));
}

#[test]
fn fragments_of_a_text_count_together_towards_its_limit() {
    let broker = TestBroker::start(|options| options.http.max_body_bytes = 5000);
    let mut chat = Framed::ask(&broker, "/chat", "Authorization: Basic YWxpY2U6\r\n");
    chat.send(0x01, &[b' '; 1000]);
    for _ in 0..5 {
        if !chat.try_send_raw(&frame(0x00, &[b' '; 1000])) {
            break;
        }
    }
    assert_eq!(chat.end(), Some(1009));
}

#[test]
fn header_bombs_are_refused() {
    let broker = TestBroker::start(hasty);
    let many: String = (0..2000).map(|n| format!("X-{n}: y\r\n")).collect();
    let request = |headers: &str| {
        format!("GET / HTTP/1.1\r\nHost: localhost\r\n{headers}Connection: close\r\n\r\n")
    };
    assert_eq!(status(&answered(&broker, request(&many).as_bytes())), "431");
    let large = format!("X-Large: {}\r\n", "y".repeat(200_000));
    let answer = answered(&broker, request(&large).as_bytes());
    // The rest of what is sent may take the answer back.
    assert!(matches!(status(&answer), "431" | ""), "{answer}");
    let line = format!("GET /{} HTTP/1.1\r\n\r\n", "y".repeat(200_000));
    let answer = answered(&broker, line.as_bytes());
    assert!(matches!(status(&answer), "414" | "431" | ""), "{answer}");
}

#[test]
fn slowloris_is_cut_off_and_holds_up_nobody() {
    let broker = TestBroker::start(hasty);
    let slow: Vec<_> = (0..50)
        .map(|_| {
            let mut peer = broker.peer(Kind::WebSocket);
            peer.send(b"GET / HTTP/1.1\r\nHost: local");
            peer
        })
        .collect();
    let answer = answered(
        &broker,
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    );
    assert_eq!(status(&answer), "200");
    for mut peer in slow {
        // Nothing, or that it took too long.
        let answer = String::from_utf8_lossy(&peer.until_end()).into_owned();
        assert!(matches!(status(&answer), "408" | ""), "{answer}");
    }
}

#[test]
fn a_body_that_is_too_long_or_has_no_end_is_refused_before_it_is_held() {
    let broker = TestBroker::start(|options| options.http.max_body_bytes = 10_000);
    let head = "POST /v1/login HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";
    let announced = format!("{head}Content-Length: 99999999999\r\nConnection: close\r\n\r\n{{");
    assert_eq!(status(&answered(&broker, announced.as_bytes())), "413");
    let mut chunked =
        format!("{head}Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n").into_bytes();
    for _ in 0..20 {
        chunked.extend_from_slice(b"3e8\r\n");
        chunked.extend_from_slice(&[b' '; 1000]);
        chunked.extend_from_slice(b"\r\n");
    }
    let answer = answered(&broker, &chunked);
    assert!(matches!(status(&answer), "413" | ""), "{answer}");
    // A length of a chunk that does not fit into a number.
    let huge = format!("{head}Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n");
    assert!(matches!(
        status(&answered(&broker, huge.as_bytes())),
        "400" | ""
    ));
}

#[test]
fn requests_whose_end_could_be_read_in_two_ways_are_refused() {
    let broker = TestBroker::start(hasty);
    let smuggled = "0\r\n\r\nGET /v1/openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n";
    for (headers, body) in [
        ("Content-Length: 6\r\nContent-Length: 7\r\n", "{}    "),
        ("Content-Length: 6, 7\r\n", "{}    "),
        ("Content-Length: +6\r\n", "{}    "),
        ("Content-Length: 0x6\r\n", "{}    "),
        ("Content-Length: -1\r\n", ""),
        ("Content-Length : 6\r\n", "{}    "),
        ("Transfer-Encoding: xchunked\r\n", smuggled),
        ("Transfer-Encoding: chunked, identity\r\n", smuggled),
        (" Transfer-Encoding: chunked\r\n", smuggled),
        (
            "Transfer-Encoding: chunked\r\nContent-Length: 6\r\n",
            smuggled,
        ),
        (
            "Content-Length: 6\r\nTransfer-Encoding: chunked\r\n",
            smuggled,
        ),
    ] {
        let request = format!(
            "POST /v1/login HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{headers}\r\n{body}"
        );
        let answer = answered(&broker, request.as_bytes());
        assert!(matches!(status(&answer), "400" | ""), "{headers}: {answer}");
        assert!(
            !answer.contains("openapi"),
            "{headers}: what was smuggled is answered"
        );
    }
}

#[test]
fn paths_that_climb_find_nothing() {
    let broker = TestBroker::start(|_| {});
    for path in [
        "/../../../../etc/passwd",
        "/assets/../../../../etc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/..%2f..%2fetc/passwd",
        "/assets/%00",
        "//etc/passwd",
        "/\\..\\etc\\passwd",
    ] {
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        let answer = answered(&broker, request.as_bytes());
        assert!(matches!(status(&answer), "400" | "404"), "{path}: {answer}");
        assert!(!answer.contains("root:"), "{path}");
    }
}

#[test]
fn a_program_that_is_asked_cannot_send_the_broker_elsewhere() {
    let inside = TcpListener::bind("127.0.0.1:0").unwrap();
    inside.set_nonblocking(true).unwrap();
    let target = inside.local_addr().unwrap();
    let asked = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", asked.local_addr().unwrap());
    let program = std::thread::spawn(move || {
        let (mut socket, _) = asked.accept().unwrap();
        let mut request = [0; 4096];
        let _ = socket.read(&mut request).unwrap();
        let answer = format!(
            "HTTP/1.1 307 Elsewhere\r\nLocation: http://{target}/\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
        socket.write_all(answer.as_bytes()).unwrap();
    });
    let hook = HookOptions {
        url,
        timeout: Duration::from_secs(20),
        remember: Duration::ZERO,
        at_once: 1,
    };
    let others = OtherProofs {
        tokens: None,
        hook: Some(hook),
    };
    let broker =
        TestBroker::start(|options| with_others(options, AccountOptions::default(), others));
    let mut peer = broker.peer(Kind::Tcp);
    let mut stranger = connect(Version::V5, "a");
    stranger.username = Some("mallory");
    stranger.password = Some(b"guess");
    peer.connect(stranger);
    assert!(peer.connack().is_failure());
    program.join().unwrap();
    let reached = inside.accept();
    assert!(reached.is_err(), "the redirect was followed");
}

#[test]
fn pages_of_other_hosts_are_given_nothing_and_the_cookie_is_for_requests_alone() {
    let broker = TestBroker::start(|_| {});
    let origin = "Origin: https://evil.example\r\n";
    let body = "{\"user\":\"alice\"}";
    let length = body.len();
    for request in [
        format!(
            "GET /v1/openapi.json HTTP/1.1\r\nHost: localhost\r\n{origin}Connection: close\r\n\r\n"
        ),
        format!(
            "OPTIONS /v1/login HTTP/1.1\r\nHost: localhost\r\n{origin}Access-Control-Request-Method: POST\r\nConnection: close\r\n\r\n"
        ),
        format!(
            "POST /v1/login HTTP/1.1\r\nHost: localhost\r\n{origin}Content-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        ),
    ] {
        let answer = answered(&broker, request.as_bytes()).to_ascii_lowercase();
        assert!(answer.starts_with("http/1.1 "), "{answer}");
        assert!(!answer.contains("access-control-allow"), "{answer}");
        assert!(!answer.contains("set-cookie"), "{answer}");
    }
    let own = format!(
        "POST /v1/login HTTP/1.1\r\nHost: localhost\r\nOrigin: http://localhost\r\nX-Forwarded-Proto: https\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    );
    let answer = answered(&broker, own.as_bytes());
    let cookie = answer
        .lines()
        .find(|line| line.to_ascii_lowercase().starts_with("set-cookie: token="))
        .unwrap_or_else(|| panic!("{answer}"));
    for flag in ["HttpOnly", "SameSite=Strict", "Secure", "Path=/"] {
        assert!(cookie.contains(flag), "{cookie}");
    }
}

#[test]
fn half_open_upgrades_and_strangers_end_in_time() {
    let broker = TestBroker::start(|options| {
        hasty(options);
        with_accounts(options, AccountOptions::default());
    });
    // Upgraded, and not a word of MQTT: part of a frame, of a packet, and nothing.
    for bytes in [
        &[][..],
        &[0x82],
        &[0x82, 0xFE],
        &frame(0x82, &[0x10, 100, 0, 4]),
    ] {
        let mut socket = Framed::open(&broker, "");
        socket.send_raw(bytes);
        assert_eq!(socket.end(), Some(1008), "{bytes:02x?}");
    }
}
