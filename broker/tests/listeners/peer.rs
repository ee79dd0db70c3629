//! A broker of its own for each test, and peers that speak to it in bytes.
//!
//! All waits are bounded by [`DEADLINE`]; nothing sleeps.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use tempfile::TempDir;
use tidings_broker::listener::Kind;
use tidings_broker::{Broker, BrokerOptions, Running};
use tidings_core::codec::{self, ConnectProperties, Packet, ReasonCode};

pub use tidings_core::codec::{Connect, Version};

/// Nothing here takes long; what takes longer has failed.
pub const DEADLINE: Duration = Duration::from_secs(20);

pub struct TestBroker {
    pub running: Running,
    _folder: TempDir,
}

impl TestBroker {
    pub fn start(change: impl FnOnce(&mut BrokerOptions)) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let mut options = BrokerOptions::new(folder.path());
        for kind in [Kind::Tcp, Kind::WebSocket, Kind::Auto] {
            options = options.listen(kind, port);
        }
        options.shards = 2;
        change(&mut options);
        let running = Broker::start(options).expect("a broker");
        Self {
            running,
            _folder: folder,
        }
    }

    pub fn address(&self, kind: Kind) -> SocketAddr {
        self.running.addresses(kind).next().expect("a listener")
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

    pub fn connack(&mut self) -> ReasonCode {
        let reason = self.packet(|packet| match packet {
            Packet::ConnAck(connack) => connack.reason,
            other => panic!("no CONNACK: {other:?}"),
        });
        reason.expect("a CONNACK before the end")
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
