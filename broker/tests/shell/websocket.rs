//! MQTT over WebSocket, seen from a client library and from bare bytes.

use std::net::TcpStream;

use crate::peer::{DEADLINE, TestBroker, connect, connect_bytes, encode};
use tidings_broker::listener::Kind;
use tidings_core::codec::{self, Packet, ReasonCode, Version};
use tungstenite::client::IntoClientRequest as _;
use tungstenite::handshake::client::Response;
use tungstenite::http::HeaderValue;
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::{Error, Message, WebSocket};

fn open(
    broker: &TestBroker,
    kind: Kind,
    headers: &[(&'static str, &str)],
) -> Result<(WebSocket<TcpStream>, Response), Error> {
    let address = broker.address(kind);
    let mut request = format!("ws://{address}/mqtt").into_client_request()?;
    for (name, value) in headers {
        request
            .headers_mut()
            .insert(*name, HeaderValue::from_str(value)?);
    }
    let socket = TcpStream::connect(address)?;
    socket.set_read_timeout(Some(DEADLINE))?;
    tungstenite::client(request, socket).map_err(|error| match error {
        tungstenite::HandshakeError::Failure(error) => error,
        tungstenite::HandshakeError::Interrupted(_) => panic!("the socket blocks"),
    })
}

/// A WebSocket with MQTT inside.
struct Client {
    socket: WebSocket<TcpStream>,
    bytes: Vec<u8>,
}

fn mqtt(broker: &TestBroker, kind: Kind) -> Client {
    let socket = open(broker, kind, &[("Sec-WebSocket-Protocol", "mqtt")])
        .expect("a WebSocket")
        .0;
    Client {
        socket,
        bytes: Vec::new(),
    }
}

impl Client {
    fn send(&mut self, message: impl Into<Message>) {
        self.socket.send(message.into()).expect("the broker reads");
    }

    /// Reads binary frames until there is a packet.
    fn packet<T>(&mut self, see: impl FnOnce(&Packet<'_>) -> T) -> T {
        loop {
            let decoded = codec::decode(Some(Version::V5), &self.bytes, usize::MAX);
            if let Some((packet, len)) = decoded.unwrap() {
                let seen = see(&packet);
                self.bytes.drain(..len);
                return seen;
            }
            match self.socket.read().expect("a frame in time") {
                Message::Binary(data) => self.bytes.extend_from_slice(&data),
                other => panic!("not binary: {other:?}"),
            }
        }
    }
}

fn is_connack(packet: &Packet<'_>) -> bool {
    matches!(packet, Packet::ConnAck(connack) if connack.reason == ReasonCode::Success)
}

fn status_of(result: Result<(WebSocket<TcpStream>, Response), Error>) -> u16 {
    match result {
        Err(Error::Http(response)) => response.status().as_u16(),
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("it was upgraded"),
    }
}

#[test]
fn the_subprotocol_is_echoed_on_both_kinds_of_listener() {
    let broker = TestBroker::start(|_| {});
    for kind in [Kind::WebSocket, Kind::Auto] {
        for (offered, chosen) in [("mqtt", "mqtt"), ("chat, mqttv3.1", "mqttv3.1")] {
            let (_, response) =
                open(&broker, kind, &[("Sec-WebSocket-Protocol", offered)]).expect("a WebSocket");
            assert_eq!(response.headers()["Sec-WebSocket-Protocol"], chosen);
        }
        let mut socket = mqtt(&broker, kind);
        socket.send(connect_bytes(connect(Version::V5, "ws")));
        assert!(socket.packet(is_connack));
    }
}

#[test]
fn an_upgrade_without_the_subprotocol_or_from_another_page_is_refused() {
    let broker = TestBroker::start(|_| {});
    let kind = Kind::WebSocket;
    assert_eq!(status_of(open(&broker, kind, &[])), 400);
    assert_eq!(
        status_of(open(&broker, kind, &[("Sec-WebSocket-Protocol", "chat")])),
        400
    );
    let foreign = [
        ("Sec-WebSocket-Protocol", "mqtt"),
        ("Origin", "https://example.org"),
    ];
    assert_eq!(status_of(open(&broker, kind, &foreign)), 403);
    let own = [
        ("Sec-WebSocket-Protocol", "mqtt"),
        ("Origin", "http://127.0.0.1:5173"),
    ];
    assert!(open(&broker, kind, &own).is_ok());
}

#[test]
fn mqtt_6_0_0_1_a_text_frame_closes_the_connection() {
    let broker = TestBroker::start(|_| {});
    let mut before = mqtt(&broker, Kind::WebSocket);
    let mut after = mqtt(&broker, Kind::WebSocket);
    after.send(connect_bytes(connect(Version::V5, "texter")));
    assert!(after.packet(is_connack));
    for socket in [&mut before, &mut after] {
        socket.send("hello");
        let closed = loop {
            match socket.socket.read().expect("a close frame") {
                Message::Close(frame) => break frame.expect("a close code"),
                Message::Binary(_) => {}
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(closed.code, CloseCode::Unsupported);
    }
}

#[test]
fn mqtt_6_0_0_2_frames_are_not_packet_boundaries() {
    let broker = TestBroker::start(|_| {});
    let mut socket = mqtt(&broker, Kind::WebSocket);
    let mut bytes = connect_bytes(connect(Version::V5, "cut"));
    bytes.extend(encode(Version::V5, &Packet::PingReq));
    for byte in bytes {
        socket.send(vec![byte]);
    }
    assert!(socket.packet(is_connack));
    assert!(socket.packet(|packet| *packet == Packet::PingResp));
    let two = encode(Version::V5, &Packet::PingReq).repeat(2);
    socket.send(two);
    // One flush, one frame.
    match socket.socket.read().unwrap() {
        Message::Binary(data) => {
            assert_eq!(data, encode(Version::V5, &Packet::PingResp).repeat(2));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn pings_are_answered_and_a_close_is_too() {
    let broker = TestBroker::start(|_| {});
    let mut socket = mqtt(&broker, Kind::WebSocket);
    socket.send(Message::Ping("are you there".into()));
    assert_eq!(
        socket.socket.read().unwrap(),
        Message::Pong("are you there".into())
    );
    socket.socket.close(None).unwrap();
    assert!(matches!(socket.socket.read().unwrap(), Message::Close(_)));
    assert!(matches!(socket.socket.read(), Err(Error::ConnectionClosed)));
}

#[test]
fn a_large_message_passes_in_both_directions() {
    use tidings_core::codec::{RetainHandling, Subscribe, SubscribeFilter};
    use tidings_core::message::QoS;

    let broker = TestBroker::start(|_| {});
    let mut socket = mqtt(&broker, Kind::WebSocket);
    socket.send(connect_bytes(connect(Version::V5, "large")));
    assert!(socket.packet(is_connack));
    let subscribe = Packet::Subscribe(Subscribe {
        packet_id: 1,
        subscription_id: None,
        user: Vec::new(),
        filters: vec![SubscribeFilter {
            filter: "large".into(),
            qos: QoS::AtMostOnce,
            no_local: false,
            retain_as_published: false,
            retain_handling: RetainHandling::SendAtSubscribe,
        }],
    });
    socket.send(encode(Version::V5, &subscribe));
    assert!(socket.packet(|packet| matches!(packet, Packet::SubAck(_))));
    let payload: Vec<u8> = (0..900_000_u32).map(|n| (n % 251) as u8).collect();
    let publish = Packet::Publish(codec::Publish {
        dup: false,
        qos: QoS::AtMostOnce,
        retain: false,
        topic: "large",
        packet_id: None,
        properties: codec::PublishProperties::default(),
        payload: &payload,
    });
    socket.send(encode(Version::V5, &publish));
    let is_whole = |packet: &Packet<'_>| match packet {
        Packet::Publish(publish) => publish.payload == payload,
        other => panic!("no PUBLISH: {other:?}"),
    };
    assert!(socket.packet(is_whole));
}
