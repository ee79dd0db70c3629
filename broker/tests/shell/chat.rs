//! `/chat`: JSON over WebSocket, from a client library and from bare frames.

use std::net::TcpStream;

use serde_json::{Value, json};
use tidings_broker::auth::AccountOptions;
use tidings_broker::listener::Kind;
use tidings_core::message::QoS;
use tidings_core::rules::{Keep, RuleSource, Rules};
use tungstenite::client::IntoClientRequest as _;
use tungstenite::http::HeaderValue;
use tungstenite::{Message, WebSocket};

use crate::frames::{DEFLATE, Framed, deflated};
use crate::peer::{
    DEADLINE, TestBroker, Version, block_on, connect, keeping, publish_bytes, with_accounts,
};

/// `user:` and `user:correct horse`, in Base64.
const ALICE: &str = "Basic YWxpY2U6";
const ALICE_WITH_PASSWORD: &str = "Basic YWxpY2U6Y29ycmVjdCBob3JzZQ==";

struct Chat(WebSocket<TcpStream>);

impl Chat {
    #[track_caller]
    fn open(broker: &TestBroker, query: &str, authorization: &'static str) -> Self {
        let address = broker.address(Kind::WebSocket);
        let request = format!("ws://{address}/chat{query}").into_client_request();
        let mut request = request.unwrap();
        request
            .headers_mut()
            .insert("Authorization", HeaderValue::from_static(authorization));
        let socket = TcpStream::connect(address).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        Self(tungstenite::client(request, socket).expect("a WebSocket").0)
    }

    fn say(&mut self, value: &Value) {
        self.0.send(Message::text(value.to_string())).unwrap();
    }

    /// The next text that is not about how far one has come.
    #[track_caller]
    fn next(&mut self) -> Value {
        loop {
            match self.0.read().expect("a text in time") {
                Message::Text(text) if &*text == "pong" => return json!("pong"),
                Message::Text(text) => {
                    let value: Value = serde_json::from_str(&text).expect("JSON");
                    if value.get("cursor").is_none() || value.get("subscribed").is_some() {
                        return value;
                    }
                }
                Message::Ping(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    #[track_caller]
    fn subscribe(&mut self, filter: &str) -> String {
        self.say(&json!({ "subscribe": [filter] }));
        let granted = self.next();
        assert_eq!(granted["subscribed"], json!([filter]), "{granted}");
        granted["cursor"].as_str().expect("a cursor").to_owned()
    }

    #[track_caller]
    fn message(&mut self) -> Value {
        let value = self.next();
        assert!(value["message"].is_object(), "{value}");
        value["message"].clone()
    }

    fn close_code(&mut self) -> u16 {
        loop {
            match self.0.read().expect("a close frame in time") {
                Message::Close(frame) => return frame.expect("a code").code.into(),
                _ => continue,
            }
        }
    }
}

#[test]
fn what_is_said_over_chat_and_mqtt_is_heard_over_the_other() {
    let broker = TestBroker::start(|options| options.rules = keeping());
    let mut alice = Chat::open(&broker, "", ALICE);
    alice.subscribe("chat/#");
    let mut bob = broker.peer(Kind::Tcp).join(connect(Version::V5, "bob"));
    bob.subscribe("chat/#", QoS::AtMostOnce);
    bob.send(&publish_bytes("chat/lobby/bob", "你好".as_bytes(), Some(9)));
    let message = alice.message();
    assert_eq!(message["topic"], "chat/lobby/bob");
    assert_eq!(message["payload"], "你好");
    assert!(message["cursor"].is_string(), "{message}");
    let said = json!({ "room": "lobby", "payload": "hello", "cid": "c1" });
    alice.say(&json!({ "publish": said, "ref": { "n": 7 } }));
    let (first, second) = (alice.next(), alice.next());
    // The acknowledgement and one's own message may come in any order.
    let (published, message) = match first.get("published") {
        Some(_) => (first, second),
        None => (second, first),
    };
    assert_eq!(published["ref"], json!({ "n": 7 }));
    assert_eq!(published["published"]["seq"], 1);
    assert_eq!(message["message"]["cid"], "c1");
    let heard = loop {
        let heard = bob.packet(|packet| match packet {
            tidings_core::codec::Packet::Publish(publish) => {
                Some((publish.topic.to_owned(), publish.payload.to_vec()))
            }
            _ => None,
        });
        match heard.expect("it stays") {
            Some((topic, payload)) if topic == "chat/lobby/alice" => break payload,
            _ => {}
        }
    };
    assert_eq!(heard, b"hello");
    // Sent again it is the same message, and other words under its name are refused.
    alice.say(&json!({ "publish": said }));
    assert_eq!(alice.next()["published"], published["published"]);
    let other = json!({ "room": "lobby", "payload": "other", "cid": "c1" });
    alice.say(&json!({ "publish": other, "ref": 1 }));
    let refused = alice.next();
    assert_eq!(refused["error"]["code"], "conflict", "{refused}");
    assert_eq!(refused["ref"], 1);
}

#[test]
fn signs_of_life_are_taken_and_nonsense_is_answered_without_an_end() {
    let broker = TestBroker::start(|_| {});
    let mut chat = Chat::open(&broker, "", ALICE);
    for text in ["", "{\"heartbeat\":1}", "ping"] {
        chat.0.send(Message::text(text)).unwrap();
    }
    assert_eq!(chat.next(), json!("pong"));
    for text in [
        "hello",
        "{\"publish\":{\"room\":\"a/b\",\"payload\":\"\"}}",
        "[]",
    ] {
        chat.0.send(Message::text(text)).unwrap();
        let answer = chat.next();
        assert!(
            answer["error"]["status"].as_u64().unwrap() >= 400,
            "{answer}"
        );
    }
    chat.0.send(Message::Ping("there?".into())).unwrap();
    let answer = loop {
        match chat.0.read().unwrap() {
            Message::Pong(payload) => break payload,
            _ => continue,
        }
    };
    assert_eq!(answer, "there?");
    chat.0.close(None).unwrap();
    assert_eq!(chat.close_code(), 1000);
}

#[test]
fn who_comes_back_with_a_cursor_misses_nothing_and_sees_nothing_twice() {
    let broker = TestBroker::start(|options| options.rules = keeping());
    let mut chat = Chat::open(&broker, "", ALICE);
    chat.subscribe("chat/#");
    let mut bob = broker.peer(Kind::Tcp).join(connect(Version::V5, "bob"));
    let mut seen = Vec::new();
    for n in 1..=30_u16 {
        bob.send(&publish_bytes(
            "chat/lobby/bob",
            n.to_string().as_bytes(),
            Some(n),
        ));
        if n % 10 == 0 {
            while seen.len() < usize::from(n) {
                let message = chat.message();
                seen.push(message["payload"].as_str().unwrap().parse::<u16>().unwrap());
                if seen.len() % 4 == 0 {
                    let cursor = message["cursor"].as_str().unwrap();
                    let query = format!("?filter=chat/%23&since={cursor}");
                    chat = Chat::open(&broker, &query, ALICE);
                }
            }
        }
    }
    assert_eq!(seen, (1..=30).collect::<Vec<_>>());
    chat.say(&json!({ "subscribe": ["chat/#"], "since": "00000000deadbeef-7" }));
    assert!(chat.next()["subscribed"].is_array());
    assert!(chat.next()["reset"]["cursor"].is_string());
}

#[test]
fn what_the_rules_refuse_is_refused_and_never_delivered() {
    let rule = |pattern: &str, publish: &str, subscribe: &str| RuleSource {
        pattern: pattern.to_owned(),
        publish: publish.to_owned(),
        subscribe: subscribe.to_owned(),
        keep: Some(Keep::default()),
        ..RuleSource::default()
    };
    let rules = [
        rule("chat/{room}/{user}", "self(user)", "any"),
        rule("secret/#", "any", "none"),
        rule("#", "any", "any"),
    ];
    let broker =
        TestBroker::start(|options| options.rules = Rules::compile(&rules).unwrap().into());
    let mut chat = Chat::open(&broker, "", ALICE);
    for said in [
        json!({ "publish": { "topic": "chat/lobby/bob", "payload": "as bob" } }),
        json!({ "subscribe": ["secret/#"] }),
        json!({ "subscribe": ["$share/group/chat/#"] }),
        json!({ "subscribe": ["chat/#/more"] }),
    ] {
        chat.say(&said);
        let answer = chat.next();
        assert!(answer["error"]["code"].is_string(), "{said}: {answer}");
    }
    chat.subscribe("+/word");
    let mut bob = broker.peer(Kind::Tcp).join(connect(Version::V5, "bob"));
    bob.send(&publish_bytes("secret/word", b"hidden", Some(1)));
    bob.send(&publish_bytes("open/word", b"shown", Some(2)));
    assert_eq!(chat.message()["topic"], "open/word");
}

#[test]
fn who_is_disabled_is_out_and_a_stop_says_1001() {
    let broker = TestBroker::start(|options| with_accounts(options, AccountOptions::default()));
    let book = broker.running.accounts();
    let password = Some("correct horse".to_owned());
    block_on(book.add_user("alice", password, &[])).expect("an account");
    let mut chat = Chat::open(&broker, "", ALICE_WITH_PASSWORD);
    block_on(book.disable("alice")).expect("disabled");
    assert_eq!(chat.close_code(), 1008);
    block_on(book.enable("alice")).expect("enabled");
    let mut chat = Chat::open(&broker, "?filter=chat/%23", ALICE_WITH_PASSWORD);
    broker.stop();
    assert_eq!(chat.close_code(), 1001);
}

#[test]
fn nobody_comes_in_unknown_from_another_page_or_by_a_cookie_that_any_page_brings() {
    let broker = TestBroker::start(|options| with_accounts(options, AccountOptions::default()));
    let status = |headers: &str| {
        let head = Framed::ask(&broker, "/chat", headers).head;
        head.split(' ').nth(1).unwrap_or_default().to_owned()
    };
    assert_eq!(status(""), "401");
    assert_eq!(status("Authorization: Basic YWxpY2U6Z3Vlc3M=\r\n"), "401");
    assert_eq!(status("Origin: https://evil.example\r\n"), "403");
    assert_eq!(status("Cookie: token=a.b.c\r\n"), "401");
    let get = broker.get_status("/chat");
    assert_eq!(get, "426");
}

#[test]
fn a_reader_that_does_not_read_lags_and_gets_everything_later() {
    let broker = TestBroker::start(|options| options.rules = keeping());
    let mut chat = Chat::open(&broker, "", ALICE);
    chat.subscribe("chat/#");
    let mut bob = broker.peer(Kind::Tcp).join(connect(Version::V5, "bob"));
    let count = 200_u16;
    let long = "x".repeat(40_000);
    for n in 1..=count {
        let text = format!("{n} {long}");
        bob.send(&publish_bytes("chat/lobby/bob", text.as_bytes(), Some(n)));
    }
    bob.acknowledged(count);
    for n in 1..=count {
        let message = chat.message();
        let text = message["payload"].as_str().unwrap();
        assert!(text.starts_with(&format!("{n} x")), "message {n}");
    }
}

#[test]
fn texts_alone_are_taken_whole_valid_and_not_too_large() {
    let broker = TestBroker::start(|options| options.http.max_body_bytes = 10_000);
    let code = |headers: &str, first: u8, payload: &[u8]| {
        let headers = format!("Authorization: {ALICE}\r\n{headers}");
        let mut socket = Framed::ask(&broker, "/chat", &headers);
        assert!(socket.head.starts_with("HTTP/1.1 101 "), "{}", socket.head);
        socket.send(first, payload);
        socket.end()
    };
    assert_eq!(code("", 0x82, b"hello"), Some(1003));
    assert_eq!(code("", 0x81, &[0xFF, 0xFE]), Some(1007));
    assert_eq!(code("", 0x81, &[b' '; 10_001]), Some(1009));
    assert_eq!(code("", 0xC1, b"x"), Some(1002));
    assert_eq!(code(DEFLATE, 0xC1, &[0xFF; 9]), Some(1007));
    assert_eq!(code(DEFLATE, 0xC1, &deflated(&[b' '; 100_000])), Some(1009));
    // Compressed and in fragments, it is understood, and answered compressed if it is long.
    let headers = format!("Authorization: {ALICE}\r\n{DEFLATE}");
    let mut socket = Framed::ask(&broker, "/chat", &headers);
    let packed = deflated(b"ping");
    let (first, second) = packed.split_at(2);
    socket.send(0x41, first);
    socket.send(0x80, second);
    assert_eq!(socket.frame(), Some((0x81, b"pong".to_vec())));
}
