//! A link between two scripted sides: our own broker, behind in-memory connections, and a peer on
//! a socket, both spoken for by the test, packet by packet.

mod inward;
mod outward;
mod wire;

use std::time::Duration;

use tidings_core::message::QoS;

use super::{ClientTls, Direction, LinkOptions, Protocol, TopicMap};

/// A link that carries `a/#` both ways.
pub(super) fn options(address: &str) -> LinkOptions {
    LinkOptions {
        name: "site".into(),
        address: address.into(),
        tls: ClientTls::default(),
        protocol: Protocol::V4,
        client_id: "tidings-site".into(),
        username: None,
        password: None,
        keep_alive: Duration::from_secs(30),
        topics: vec![TopicMap {
            pattern: "a/#".into(),
            direction: Direction::Both,
            qos: QoS::AtLeastOnce,
            local_prefix: String::new(),
            remote_prefix: String::new(),
        }],
        reconnect_min: Duration::from_millis(100),
        reconnect_max: Duration::from_secs(5),
        origin: "here".into(),
        window: 100,
        max_packet_bytes: 1024 * 1024,
    }
}
