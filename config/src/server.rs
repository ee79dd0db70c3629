//! `[server]`, `[[listeners]]`: the process and its doors.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _};

use crate::errors::Origin;
use crate::reader::{Checks, Section};

/// `[server]`: the process.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Server {
    /// Directory of journal and state, relative to the working directory.
    pub data_dir: PathBuf,
    /// True: open mode may listen on addresses that other machines reach.
    pub allow_public_open_mode: bool,
    /// Seconds a stop may take before connections are dropped.
    pub shutdown_deadline_s: u64,
    /// Shard threads; 0: one per core.
    pub shards: usize,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            data_dir: "data".into(),
            allow_public_open_mode: false,
            shutdown_deadline_s: 10,
            shards: 0,
        }
    }
}

impl Section for Server {
    fn check(&self, checks: &mut Checks<'_>) {
        checks.not_empty("data_dir", &self.data_dir.to_string_lossy());
        checks.range(
            "shutdown_deadline_s",
            self.shutdown_deadline_s,
            1..=3600,
            "a stop needs some time, and must end",
        );
        checks.range("shards", self.shards as u64, 0..=1024, "0 is one per core");
    }
}

/// `[[listeners]]`: one address that clients connect to.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Listener {
    /// What is spoken there.
    pub kind: ListenerKind,
    /// Address and port; port 0 takes a free one.
    #[serde(deserialize_with = "socket_address")]
    pub address: SocketAddr,
    /// Path of the WebSocket endpoint; unused by `tcp`.
    pub path: String,
    /// Where the entry begins.
    #[serde(skip)]
    pub origin: Origin,
}

/// What a listener expects from its clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ListenerKind {
    /// MQTT directly on TCP.
    Tcp,
    /// MQTT over WebSocket, and plain HTTP.
    Ws,
    /// Either, recognised by the first bytes.
    Auto,
}

impl Default for Listener {
    fn default() -> Self {
        Self {
            kind: ListenerKind::Tcp,
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 1883)),
            path: "/mqtt".to_owned(),
            origin: Origin::Program,
        }
    }
}

impl Section for Listener {
    const REQUIRED: &'static [&'static str] = &["kind", "address"];

    fn check(&self, checks: &mut Checks<'_>) {
        if !self.path.starts_with('/') {
            checks.refuse("path", "must begin with /");
        }
    }

    fn placed_at(&mut self, origin: &Origin) {
        self.origin = origin.clone();
    }
}

/// `IP:port`; of names only `localhost`, because what other names mean is decided elsewhere, and a
/// listener must not become public by it.
fn socket_address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
    let text = String::deserialize(deserializer)?;
    let numeric = match text.strip_prefix("localhost:") {
        Some(port) => format!("127.0.0.1:{port}"),
        None => text.clone(),
    };
    numeric.parse().map_err(|_| {
        D::Error::custom(format_args!(
            "\"{text}\" is not an address and port, such as 127.0.0.1:1883, [::1]:1883 or 0.0.0.0:1883"
        ))
    })
}
