//! `[[bridges]]`: links to other brokers.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::Deserialize;
use serde::de::{Deserializer, Error, Visitor};

use crate::errors::Origin;
use crate::reader::{Checks, Section};

/// One link to another broker, which we are a client of.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Bridge {
    /// Name of the link, unique here: names its session and its `$SYS` topics.
    pub name: String,
    /// The other broker.
    pub address: BridgeAddress,
    /// File with the CAs that are believed, where the address is one with TLS; none: those of the system.
    pub ca_file: Option<PathBuf>,
    /// File with the certificate that is shown there.
    pub cert_file: Option<PathBuf>,
    /// File with its key.
    pub key_file: Option<PathBuf>,
    /// MQTT protocol version: 4 (3.1.1) or 5.
    pub protocol: u8,
    /// Client Identifier there; none: `tidings-` and the name.
    pub client_id: Option<String>,
    /// User name there.
    pub username: Option<String>,
    /// Password there.
    pub password: Option<Secret>,
    /// Keep Alive in seconds.
    pub keep_alive_s: u16,
    /// What is carried.
    pub topics: Vec<BridgeTopic>,
    /// Milliseconds before the first attempt to reconnect; doubled after each failure.
    pub reconnect_min_ms: u64,
    /// Milliseconds between attempts at most.
    pub reconnect_max_ms: u64,
    /// Where the entry begins.
    #[serde(skip)]
    pub origin: Origin,
}

impl Default for Bridge {
    fn default() -> Self {
        Self {
            name: String::new(),
            address: BridgeAddress::default(),
            ca_file: None,
            cert_file: None,
            key_file: None,
            protocol: 4,
            client_id: None,
            username: None,
            password: None,
            keep_alive_s: 30,
            topics: Vec::new(),
            reconnect_min_ms: 500,
            reconnect_max_ms: 60_000,
            origin: Origin::Program,
        }
    }
}

impl Section for Bridge {
    const REQUIRED: &'static [&'static str] = &["name", "address", "topics"];

    fn check(&self, checks: &mut Checks<'_>) {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_' || c == '.';
        if !self.name.chars().all(is_plain) {
            checks.refuse(
                "name",
                "may have letters, digits, - _ . only, because topics are named after it",
            );
        }
        checks.not_empty("name", &self.name);
        if !matches!(self.protocol, 4 | 5) {
            checks.refuse(
                "protocol",
                format_args!("{} is neither 4 (MQTT 3.1.1) nor 5", self.protocol),
            );
        }
        if self.password.is_some() && self.username.is_none() {
            checks.refuse(
                "password",
                "needs a username (MQTT 3.1.1 knows no password alone)",
            );
        }
        if self.cert_file.is_some() != self.key_file.is_some() {
            checks.refuse("cert_file", "and key_file belong together");
        }
        for (key, file) in [("ca_file", &self.ca_file), ("cert_file", &self.cert_file)] {
            if file.is_some() && !self.address.transport.is_tls() {
                checks.refuse(key, "needs an address with mqtts:// or wss://");
            }
        }
        checks.range(
            "keep_alive_s",
            self.keep_alive_s,
            5..=65_535,
            "a dead link is noticed by it",
        );
        checks.range(
            "reconnect_min_ms",
            self.reconnect_min_ms,
            10..=3_600_000,
            "10 ms to an hour",
        );
        checks.range(
            "reconnect_max_ms",
            self.reconnect_max_ms,
            10..=86_400_000,
            "10 ms to a day",
        );
        if self.reconnect_max_ms < self.reconnect_min_ms {
            checks.refuse("reconnect_max_ms", "is below reconnect_min_ms");
        }
        for topic in &self.topics {
            if topic.pattern.is_empty() {
                checks.refuse("topics", "an entry has no pattern");
            }
            if topic.qos > 2 {
                checks.refuse(
                    "topics",
                    format_args!("\"{}\": qos {} is not 0, 1 or 2", topic.pattern, topic.qos),
                );
            }
            if [&topic.local_prefix, &topic.remote_prefix]
                .iter()
                .any(|prefix| prefix.contains(['+', '#']))
            {
                checks.refuse(
                    "topics",
                    format_args!("\"{}\": a prefix has no wildcards", topic.pattern),
                );
            }
        }
    }

    fn placed_at(&mut self, origin: &Origin) {
        self.origin = origin.clone();
    }
}

/// Topics that a link carries.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BridgeTopic {
    /// Topic filter, without the prefixes.
    pub pattern: String,
    /// Which way.
    pub direction: Direction,
    /// QoS at most.
    pub qos: u8,
    /// What the topics begin with here, in addition to the pattern.
    pub local_prefix: String,
    /// What the topics begin with there, in addition to the pattern.
    pub remote_prefix: String,
}

impl Default for BridgeTopic {
    fn default() -> Self {
        Self {
            pattern: String::new(),
            direction: Direction::In,
            qos: 1,
            local_prefix: String::new(),
            remote_prefix: String::new(),
        }
    }
}

/// Which way messages are carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// From there to here.
    In,
    /// From here to there.
    Out,
    /// Both ways.
    Both,
}

/// `tcp://host:port` or `ws://host:port/path`; in TLS `mqtts://host:port` or `wss://host:port/path`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BridgeAddress {
    /// What carries MQTT.
    pub transport: Transport,
    /// Name or IP address, IPv6 without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Path of the WebSocket endpoint, `/mqtt` if none was given; empty for TCP.
    pub path: String,
}

/// What carries MQTT to another broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// WebSocket.
    Ws,
    /// TCP in TLS.
    Mqtts,
    /// WebSocket in TLS.
    Wss,
}

impl Transport {
    const fn scheme(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Ws => "ws",
            Self::Mqtts => "mqtts",
            Self::Wss => "wss",
        }
    }

    /// Whether that is in TLS.
    pub const fn is_tls(self) -> bool {
        matches!(self, Self::Mqtts | Self::Wss)
    }
}

impl Default for BridgeAddress {
    fn default() -> Self {
        Self {
            transport: Transport::Tcp,
            host: "127.0.0.1".to_owned(),
            port: 1883,
            path: String::new(),
        }
    }
}

impl fmt::Display for BridgeAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = self.transport.scheme();
        if self.host.contains(':') {
            write!(f, "{scheme}://[{}]:{}{}", self.host, self.port, self.path)
        } else {
            write!(f, "{scheme}://{}:{}{}", self.host, self.port, self.path)
        }
    }
}

/// Why text is not the address of a broker. The text is not repeated: it may hold a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Neither scheme.
    #[error("expected tcp:// or mqtts://host:port, or ws:// or wss://host:port/path")]
    Scheme,
    /// User and password belong to their own keys.
    #[error("user name and password are keys of their own, not part of the address")]
    UserInfo,
    /// No host.
    #[error("has no host")]
    Host,
    /// No port, or not a number from 1 to 65535.
    #[error("has no port from 1 to 65535")]
    Port,
    /// A path where there is none.
    #[error("tcp:// and mqtts:// have no path")]
    Path,
}

impl FromStr for BridgeAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let (transport, rest) = match text.split_once("://") {
            Some(("tcp" | "mqtt", rest)) => (Transport::Tcp, rest),
            Some(("mqtts", rest)) => (Transport::Mqtts, rest),
            Some(("ws", rest)) => (Transport::Ws, rest),
            Some(("wss", rest)) => (Transport::Wss, rest),
            _ => return Err(AddressError::Scheme),
        };
        let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
        if authority.contains('@') {
            return Err(AddressError::UserInfo);
        }
        let (host, port) = authority.rsplit_once(':').ok_or(AddressError::Port)?;
        let port = port
            .parse()
            .ok()
            .filter(|&port| port != 0)
            .ok_or(AddressError::Port)?;
        let host = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .unwrap_or(host);
        if host.is_empty() {
            return Err(AddressError::Host);
        }
        let path = match (transport, path) {
            (Transport::Tcp | Transport::Mqtts, "" | "/") => "",
            (Transport::Tcp | Transport::Mqtts, _) => return Err(AddressError::Path),
            (Transport::Ws | Transport::Wss, "") => "/mqtt",
            (Transport::Ws | Transport::Wss, path) => path,
        };
        Ok(Self {
            transport,
            host: host.to_owned(),
            port,
            path: path.to_owned(),
        })
    }
}

impl<'de> Deserialize<'de> for BridgeAddress {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(D::Error::custom)
    }
}

/// Text that is never printed: `Debug` shows stars, and no error message repeats it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The text itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        // The default of the number visitors would print what it found.
        fn not_text<E: Error>() -> Result<Secret, E> {
            Err(E::custom("expected text in quotes"))
        }

        impl Visitor<'_> for Text {
            type Value = Secret;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("text in quotes")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Secret, E> {
                Ok(Secret(text.to_owned()))
            }

            fn visit_i64<E: Error>(self, _: i64) -> Result<Secret, E> {
                not_text()
            }

            fn visit_f64<E: Error>(self, _: f64) -> Result<Secret, E> {
                not_text()
            }

            fn visit_bool<E: Error>(self, _: bool) -> Result<Secret, E> {
                not_text()
            }
        }

        deserializer.deserialize_string(Text)
    }
}
