//! A broker as the load generator sees it: where it listens, what its process used so far, and how
//! to kill it. Knows nothing of how brokers are found, configured and started.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

/// What carries the MQTT packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Carrier {
    /// MQTT straight on TCP.
    Tcp,
    /// MQTT in binary WebSocket frames (RFC 6455, subprotocol `mqtt`).
    WebSocket,
}

impl fmt::Display for Carrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::WebSocket => "ws",
        })
    }
}

/// What a broker's process used so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// User and system time of all its threads.
    pub cpu: Duration,
    /// Resident memory now, in bytes.
    pub resident_bytes: u64,
    /// The most resident memory it ever had, in bytes.
    pub peak_resident_bytes: u64,
}

/// A broker under load, as the load generator sees it.
pub trait Target {
    /// The name for messages and tables.
    fn name(&self) -> &str;

    /// Where it listens for this carrier; `None` if it does not.
    fn address(&self, carrier: Carrier) -> Option<SocketAddr>;

    /// The path of the WebSocket upgrade, usually `/mqtt`.
    fn websocket_path(&self) -> &str;

    /// What its process used so far; `None` if that is not known (a broker known by its address only).
    fn usage(&self) -> Option<Usage>;

    /// Kills it with SIGKILL and starts it again on the same data directory; its addresses may be
    /// others afterwards.
    ///
    /// # Errors
    /// If this broker cannot be restarted (known by its address only), or does not come back.
    fn kill_and_restart(&mut self) -> anyhow::Result<()>;
}
