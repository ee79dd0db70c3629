//! A broker of its own for each test, and peers that speak to it in bytes.
//!
//! All waits are bounded by [`DEADLINE`]; nothing sleeps.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tidings_broker::auth::{AccountOptions, PasswordOptions};
use tidings_broker::listener::Kind;
use tidings_broker::{Auth, Broker, BrokerOptions, OtherProofs, Running};
use tidings_core::codec::{
    self, ConnectProperties, Packet, Publish, PublishProperties, ReasonCode, RetainHandling,
    Subscribe, SubscribeFilter,
};
use tidings_core::message::QoS;
use tidings_core::rules::{Keep, RuleSource, Rules};

pub use tidings_core::codec::{Connect, Version};

/// Nothing here takes long; what takes longer has failed.
pub const DEADLINE: Duration = Duration::from_secs(20);

pub struct TestBroker {
    pub running: Running,
    pub folder: TempDir,
}

impl TestBroker {
    pub fn start(change: impl FnOnce(&mut BrokerOptions)) -> Self {
        Self::start_in(tempfile::tempdir().expect("a folder"), change)
    }

    /// A broker on a data directory that may have been used before.
    pub fn start_in(folder: TempDir, change: impl FnOnce(&mut BrokerOptions)) -> Self {
        let running = Broker::start(options(&folder, change)).expect("a broker");
        Self { running, folder }
    }

    /// Stops it in order, and gives its data directory.
    pub fn stop(self) -> TempDir {
        block_on(self.running.shutdown()).expect("an orderly stop");
        self.folder
    }

    pub fn address(&self, kind: Kind) -> SocketAddr {
        self.running.addresses(kind).next().expect("a listener")
    }

    /// The status of a GET.
    pub fn get_status(&self, path: &str) -> String {
        let mut peer = self.peer(Kind::WebSocket);
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        peer.send(request.as_bytes());
        let answer = String::from_utf8_lossy(&peer.until_end()).into_owned();
        answer.split(' ').nth(1).unwrap_or_default().to_owned()
    }

    pub fn peer(&self, kind: Kind) -> Peer {
        let socket = TcpStream::connect(self.address(kind)).expect("a connection");
        socket.set_read_timeout(Some(DEADLINE)).expect("a timeout");
        socket.set_write_timeout(Some(DEADLINE)).expect("a timeout");
        Peer {
            socket,
            version: Version::V5,
            bytes: Vec::new(),
        }
    }
}

/// Accounts, with hashes that cost next to nothing.
pub fn with_accounts(options: &mut BrokerOptions, accounts: AccountOptions) {
    with_others(options, accounts, OtherProofs::default());
}

/// The same, and what else counts.
pub fn with_others(options: &mut BrokerOptions, accounts: AccountOptions, others: OtherProofs) {
    options.auth = Auth::Accounts(accounts, Box::new(others));
    options.passwords = PasswordOptions {
        memory_kib: 64,
        passes: 1,
        at_once: 2,
    };
}

/// Waits for what is not a peer.
pub fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(async { tokio::time::timeout(DEADLINE, future).await })
        .expect("it takes no longer")
}

/// Two shards and a listener of each kind.
pub fn options(folder: &TempDir, change: impl FnOnce(&mut BrokerOptions)) -> BrokerOptions {
    let port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let mut options = BrokerOptions::new(folder.path());
    for kind in [Kind::Tcp, Kind::WebSocket, Kind::Auto] {
        options = options.listen(kind, port);
    }
    options.shards = 2;
    change(&mut options);
    options
}

/// Rules that keep every message as history.
pub fn keeping() -> Arc<Rules> {
    let rule = RuleSource {
        pattern: "#".to_owned(),
        publish: "any".to_owned(),
        subscribe: "any".to_owned(),
        keep: Some(Keep::default()),
        ..RuleSource::default()
    };
    Arc::new(Rules::compile(&[rule]).expect("a rule"))
}

pub fn connect<'a>(version: Version, client_id: &'a str) -> Connect<'a> {
    Connect {
        version,
        client_id,
        clean_start: true,
        keep_alive_s: 0,
        username: None,
        password: None,
        will: None,
        properties: ConnectProperties::default(),
    }
}

pub fn encode(version: Version, packet: &Packet<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    codec::encode(version, packet, &mut bytes);
    bytes
}

pub fn connect_bytes(connect: Connect<'_>) -> Vec<u8> {
    encode(connect.version, &Packet::Connect(connect))
}

pub fn publish_bytes(topic: &str, payload: &[u8], packet_id: Option<u16>) -> Vec<u8> {
    let publish = Packet::Publish(Publish {
        dup: false,
        qos: if packet_id.is_some() {
            QoS::AtLeastOnce
        } else {
            QoS::AtMostOnce
        },
        retain: false,
        topic,
        packet_id,
        properties: PublishProperties::default(),
        payload,
    });
    encode(Version::V5, &publish)
}

/// One socket.
pub struct Peer {
    pub socket: TcpStream,
    version: Version,
    bytes: Vec<u8>,
}

impl Peer {
    pub fn send(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).expect("the broker reads");
    }

    pub fn connect(&mut self, connect: Connect<'_>) {
        self.version = connect.version;
        self.send(&connect_bytes(connect));
    }

    /// The next packet; `None` at the end of the connection.
    pub fn packet<T>(&mut self, see: impl FnOnce(&Packet<'_>) -> T) -> Option<T> {
        loop {
            if let Some((packet, len)) =
                codec::decode(Some(self.version), &self.bytes, usize::MAX).expect("a packet")
            {
                let seen = see(&packet);
                self.bytes.drain(..len);
                return Some(seen);
            }
            let mut more = [0; 4096];
            match self.socket.read(&mut more).expect("an answer in time") {
                0 => return None,
                len => self.bytes.extend_from_slice(&more[..len]),
            }
        }
    }

    /// A client that is let in.
    pub fn join(mut self, connect: Connect<'_>) -> Self {
        self.connect(connect);
        assert_eq!(self.connack(), ReasonCode::Success);
        self
    }

    pub fn subscribe(&mut self, filter: &str, qos: QoS) {
        let subscribe = Packet::Subscribe(Subscribe {
            packet_id: 1,
            subscription_id: None,
            user: Vec::new(),
            filters: vec![SubscribeFilter {
                filter: filter.to_owned(),
                qos,
                no_local: false,
                retain_as_published: false,
                retain_handling: RetainHandling::SendAtSubscribe,
            }],
        });
        self.send(&encode(self.version, &subscribe));
        // A live message may come before SUBACK (§3.8.4).
        let is_granted = loop {
            let answer = self.packet(|packet| match packet {
                Packet::SubAck(suback) => Some(!suback.reasons[0].is_failure()),
                Packet::Publish(_) => None,
                other => panic!("no SUBACK: {other:?}"),
            });
            if let Some(is_granted) = answer.expect("the connection stays") {
                break Some(is_granted);
            }
        };
        assert_eq!(is_granted, Some(true));
    }

    /// Waits for so many PUBACKs.
    pub fn acknowledged(&mut self, count: u16) {
        for _ in 0..count {
            let is_ack = self.packet(|packet| matches!(packet, Packet::PubAck(_)));
            assert_eq!(is_ack, Some(true));
        }
    }

    pub fn ping(&mut self) {
        self.send(&encode(self.version, &Packet::PingReq));
        assert_eq!(
            self.packet(|packet| *packet == Packet::PingResp),
            Some(true)
        );
    }

    pub fn connack(&mut self) -> ReasonCode {
        let reason = self.packet(|packet| match packet {
            Packet::ConnAck(connack) => connack.reason,
            other => panic!("no CONNACK: {other:?}"),
        });
        reason.expect("a CONNACK before the end")
    }

    /// Whether the CONNACK that lets in found a session.
    pub fn session_present(&mut self) -> bool {
        let present = self.packet(|packet| match packet {
            Packet::ConnAck(connack) => {
                assert_eq!(connack.reason, ReasonCode::Success);
                connack.session_present
            }
            other => panic!("no CONNACK: {other:?}"),
        });
        present.expect("a CONNACK before the end")
    }

    /// The DISCONNECT that comes next.
    pub fn disconnect(&mut self) -> ReasonCode {
        let reason = self.packet(|packet| match packet {
            Packet::Disconnect(disconnect) => disconnect.reason,
            other => panic!("no DISCONNECT: {other:?}"),
        });
        reason.expect("a DISCONNECT before the end")
    }

    /// The last bytes: everything up to the end of the connection.
    pub fn until_end(&mut self) -> Vec<u8> {
        let mut rest = std::mem::take(&mut self.bytes);
        match self.socket.read_to_end(&mut rest) {
            Ok(_) => rest,
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => rest,
            Err(error) => panic!("the connection did not end: {error}"),
        }
    }
}
