//! Floods: what a stranger, or a client who means harm, sends as fast as it is taken or holds open as
//! long as it is let, over real sockets.
//!
//! * [`sockets`]: many connections of which nothing comes, or hardly anything.
//! * [`clients`]: clients that ask for more than anybody needs.
//!
//! Each goes on until it is told to stop, and counts what it did. Nothing here judges the broker: that is
//! what the tests in `tests/abuse.rs` do, and `cargo run --release --bin abuse` measures it.

pub mod clients;
pub mod sockets;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use clap::ValueEnum;

/// What is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Flood {
    /// TCP connections that say nothing.
    HalfOpenTcp,
    /// A ClientHello, and nothing after it: the expensive half of TLS was done for nothing.
    HalfOpenTls,
    /// Half of an HTTP request.
    HalfOpenWs,
    /// As many ClientHellos as the broker answers.
    TlsHellos,
    /// CONNECTs that come byte by byte.
    SlowSenders,
    /// Subscribers that never read what others publish.
    DeafReaders,
    /// Clients that come and go.
    Connects,
    /// Filters by the hundred, taken back and asked for again.
    Subscribes,
    /// The same with shared subscriptions.
    Shares,
    /// Retained messages on ever other topics.
    Retained,
    /// Small messages that nobody wants, without waiting.
    Publishes,
    /// Packets of 50,000 User Properties.
    UserProperties,
    /// Packets of 1 MiB that are announced, and come byte by byte.
    Announced,
    /// Clients that take the same session from each other.
    Takeovers,
    /// WebSocket messages that are a thousand times as large when they are inflated.
    Bombs,
}

/// Where a broker listens.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// MQTT.
    pub tcp: SocketAddr,
    /// WebSocket and HTTP.
    pub ws: SocketAddr,
    /// MQTT in TLS.
    pub tls: SocketAddr,
}

/// A flood that runs.
#[derive(Debug)]
pub struct Running {
    /// Against whom.
    pub target: Target,
    /// Connections of floods that hold some.
    pub size: usize,
    /// Connections were opened, packets sent: what the flood is made of.
    done: AtomicU64,
    /// Those that are to be there at first, are.
    stands: AtomicBool,
    over: AtomicBool,
}

impl Running {
    /// A flood that has not begun.
    pub fn new(target: Target, size: usize) -> Self {
        Self {
            target,
            size,
            done: AtomicU64::new(0),
            stands: AtomicBool::new(false),
            over: AtomicBool::new(false),
        }
    }

    /// Goes on until [`Running::stop`] was called; whatever the broker refuses or ends is begun again.
    pub fn run(&self, flood: Flood) {
        match flood {
            Flood::HalfOpenTcp => sockets::hold(self, self.target.tcp, b""),
            Flood::HalfOpenTls => sockets::hold(self, self.target.tls, &sockets::client_hello()),
            Flood::HalfOpenWs => sockets::hold(self, self.target.ws, sockets::HALF_A_REQUEST),
            Flood::TlsHellos => sockets::hellos(self),
            Flood::SlowSenders => sockets::drip(self, &[], &clients::connect_bytes("slow")),
            Flood::Announced => sockets::announce(self),
            Flood::DeafReaders => clients::deaf_readers(self),
            Flood::Connects => clients::connects(self),
            Flood::Subscribes => clients::subscribes(self, "flood/many"),
            Flood::Shares => clients::subscribes(self, "$share/flood/many"),
            Flood::Retained => clients::retained(self),
            Flood::Publishes => clients::publishes(self),
            Flood::UserProperties => clients::user_properties(self),
            Flood::Takeovers => clients::takeovers(self),
            Flood::Bombs => clients::bombs(self),
        }
    }

    /// Ends it soon.
    pub fn stop(&self) {
        self.over.store(true, Relaxed);
    }

    /// Whether it is to end.
    pub fn is_over(&self) -> bool {
        self.over.load(Relaxed)
    }

    /// Whether what it holds open is open.
    pub fn stands(&self) -> bool {
        self.stands.load(Relaxed)
    }

    /// How much it did up to now.
    pub fn done(&self) -> u64 {
        self.done.load(Relaxed)
    }

    fn did(&self, count: u64) {
        self.done.fetch_add(count, Relaxed);
    }

    fn is_up(&self) {
        self.stands.store(true, Relaxed);
    }
}
