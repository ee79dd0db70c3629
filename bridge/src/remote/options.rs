//! What a link is told: where the peer is, who we are there, and what is carried.
//!
//! Invariant: options that [`LinkOptions::validate`] accepts cannot make anything here panic.

use std::fmt;
use std::time::Duration;

use thiserror::Error;

use super::mapping::{MapError, Routes, TopicMap};
use super::tls::ClientTls;

/// Largest [`LinkOptions::window`]. Packet Identifiers at the peer are 1 to this number, so few
/// that all of them can be released in one go after a restart.
pub(super) const MAX_WINDOW: u16 = 256;

/// Bounds of [`LinkOptions::keep_alive`]: the protocol has 16 bits of seconds, and below five
/// seconds the client library refuses.
const KEEP_ALIVE_S: std::ops::RangeInclusive<u64> = 5..=65_535;

/// Longest name of a link in bytes; it is part of a client id and of a topic.
const MAX_NAME_BYTES: usize = 128;

/// Longest [`LinkOptions::origin`] in bytes: with commas, 16 of them are far below what a User
/// Property holds.
pub(super) const MAX_ORIGIN_BYTES: usize = 512;

/// The version of MQTT spoken with the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// MQTT 3.1.1.
    V4,
    /// MQTT 5.0.
    V5,
}

/// A link to one other broker.
#[derive(Clone)]
pub struct LinkOptions {
    /// Names the link in our broker: session `$link/{name}`, `$SYS/broker/bridge/{name}/state`.
    pub name: String,
    /// The peer: `tcp://HOST:PORT` or `ws://HOST:PORT/PATH`, or with TLS `mqtts://HOST:PORT` or
    /// `wss://HOST:PORT/PATH`.
    pub address: String,
    /// Whom we believe and what we show, where the address is one with TLS.
    pub tls: ClientTls,
    /// The version of MQTT spoken with the peer.
    pub protocol: Protocol,
    /// Our client id at the peer. It must stay the same: the peer keeps our session by it.
    pub client_id: String,
    /// User Name at the peer.
    pub username: Option<String>,
    /// Password at the peer; without a user name it is not sent.
    pub password: Option<String>,
    /// Keep Alive at the peer, 5 s to 65,535 s. A dead peer is noticed after about twice that.
    pub keep_alive: Duration,
    /// What is carried.
    pub topics: Vec<TopicMap>,
    /// First delay after a failure.
    pub reconnect_min: Duration,
    /// Longest delay between attempts.
    pub reconnect_max: Duration,
    /// Identity of this broker in the list of hops: the same for all of its links, different from
    /// every other broker's, without commas, at most 512 bytes.
    pub origin: String,
    /// Most messages outstanding at the peer, 1 to 256; more is faster over a slow line.
    pub window: u16,
    /// Largest packet carried, in bytes. Larger messages are dropped and counted: a message that
    /// makes the peer close the connection would otherwise come again and again.
    pub max_packet_bytes: u32,
}

/// The password is left out.
impl fmt::Debug for LinkOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LinkOptions")
            .field("name", &self.name)
            .field("address", &self.address)
            .field("protocol", &self.protocol)
            .field("client_id", &self.client_id)
            .field("topics", &self.topics)
            .finish_non_exhaustive()
    }
}

/// Why [`LinkOptions`] are refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum OptionsError {
    /// The name would not be one level of a topic.
    #[error("the name {0:?} must have 1 to {MAX_NAME_BYTES} bytes, without / + # or U+0000")]
    Name(String),
    /// Not an address we know how to connect to.
    #[error(
        "the address {0:?} must be tcp:// or mqtts://HOST:PORT, or ws:// or wss://HOST:PORT/PATH"
    )]
    Address(String),
    /// TLS cannot be had.
    #[error("TLS: {0}")]
    Tls(String),
    /// A session that is to be found again needs a name.
    #[error("the client id must not be empty: the peer keeps what it has for us by it")]
    ClientId,
    /// Out of bounds.
    #[error("keep alive must be 5 s to 65,535 s")]
    KeepAlive,
    /// Out of bounds.
    #[error("reconnect_min must be above 0 and not above reconnect_max")]
    Reconnect,
    /// Hops are separated by commas.
    #[error("the origin must have 1 to {MAX_ORIGIN_BYTES} bytes, without commas")]
    Origin,
    /// Out of bounds.
    #[error("the window must be 1 to {MAX_WINDOW} messages")]
    Window,
    /// Nothing fits.
    #[error("max_packet_bytes must be at least 128")]
    MaxPacket,
    /// Nothing to do.
    #[error("a link without topics carries nothing")]
    NoTopics,
    /// A map is wrong, or two of them together.
    #[error(transparent)]
    Map(#[from] MapError),
}

/// A parsed [`LinkOptions::address`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Address {
    Tcp {
        host: String,
        port: u16,
        tls: bool,
    },
    /// The whole URL, as the client library wants it.
    WebSocket {
        url: String,
        port: u16,
        tls: bool,
    },
}

impl Address {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://")?;
        let (authority, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        let (host, port) = authority.rsplit_once(':')?;
        let port: u16 = port.parse().ok().filter(|&port| port != 0)?;
        let is_v6 = host.starts_with('[') && host.ends_with(']');
        let strange = |c: char| c.is_whitespace() || c.is_control() || "@?#".contains(c);
        if host.is_empty() || text.contains(strange) || host.contains(':') && !is_v6 {
            return None;
        }
        match scheme {
            "tcp" | "mqtts" if path.is_empty() => Some(Self::Tcp {
                host: host.to_owned(),
                port,
                tls: scheme == "mqtts",
            }),
            "ws" | "wss" => Some(Self::WebSocket {
                url: text.to_owned(),
                port,
                tls: scheme == "wss",
            }),
            _ => None,
        }
    }

    const fn is_tls(&self) -> bool {
        let (Self::Tcp { tls, .. } | Self::WebSocket { tls, .. }) = self;
        *tls
    }
}

impl LinkOptions {
    /// Checks everything that can be judged before connecting.
    ///
    /// # Errors
    /// The first thing that is wrong, in words for the one who wrote the configuration.
    pub fn validate(&self) -> Result<(), OptionsError> {
        self.checked().map(|_| ())
    }

    pub(super) fn checked(&self) -> Result<(Address, Routes), OptionsError> {
        let name_fits = (1..=MAX_NAME_BYTES).contains(&self.name.len());
        if !name_fits || self.name.contains(['/', '+', '#', '\0']) {
            return Err(OptionsError::Name(self.name.clone()));
        }
        let address = Address::parse(&self.address)
            .ok_or_else(|| OptionsError::Address(self.address.clone()))?;
        if address.is_tls() {
            let configured = self.tls.configuration();
            configured.map_err(|error| OptionsError::Tls(error.to_string()))?;
        }
        if self.client_id.is_empty() || self.client_id.contains('\0') {
            return Err(OptionsError::ClientId);
        }
        if !KEEP_ALIVE_S.contains(&self.keep_alive.as_secs()) {
            return Err(OptionsError::KeepAlive);
        }
        if self.reconnect_min.is_zero() || self.reconnect_min > self.reconnect_max {
            return Err(OptionsError::Reconnect);
        }
        let origin_fits = (1..=MAX_ORIGIN_BYTES).contains(&self.origin.len());
        if !origin_fits || self.origin.contains([',', '\0']) {
            return Err(OptionsError::Origin);
        }
        if !(1..=MAX_WINDOW).contains(&self.window) {
            return Err(OptionsError::Window);
        }
        if self.max_packet_bytes < 128 {
            return Err(OptionsError::MaxPacket);
        }
        if self.topics.is_empty() {
            return Err(OptionsError::NoTopics);
        }
        Ok((address, Routes::new(&self.topics)?))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::options;
    use super::*;

    #[test]
    fn addresses_are_tcp_or_websocket_with_a_port() {
        assert_eq!(
            Address::parse("tcp://broker.example:1883"),
            Some(Address::Tcp {
                host: "broker.example".into(),
                port: 1883,
                tls: false
            })
        );
        assert_eq!(
            Address::parse("tcp://[::1]:1883"),
            Some(Address::Tcp {
                host: "[::1]".into(),
                port: 1883,
                tls: false
            })
        );
        let url = "ws://127.0.0.1:8083/mqtt";
        assert_eq!(
            Address::parse(url),
            Some(Address::WebSocket {
                url: url.into(),
                port: 8083,
                tls: false
            })
        );
        for secure in ["mqtts://h:8883", "wss://h:443/mqtt"] {
            assert!(Address::parse(secure).is_some_and(|address| address.is_tls()));
        }
        for wrong in [
            "",
            "broker",
            "broker:1883",
            "tcp://",
            "tcp://h",
            "tcp://h:0",
            "tcp://h:99999",
            "tcp://h:1/x",
            "tcp://::1:1883",
            "tls://h:1",
            "mqtts://h:1/x",
            "tcp://u:p@h:1",
            "ws://h/x",
            "tcp://a b:1",
        ] {
            assert_eq!(Address::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn options_out_of_bounds_are_refused() {
        type Change = fn(&mut LinkOptions);
        let wrong: [(Change, OptionsError); 11] = [
            (|o| o.name = "a/b".into(), OptionsError::Name("a/b".into())),
            (
                |o| o.address = "h".into(),
                OptionsError::Address("h".into()),
            ),
            (|o| o.client_id.clear(), OptionsError::ClientId),
            (
                |o| o.keep_alive = Duration::from_secs(4),
                OptionsError::KeepAlive,
            ),
            (|o| o.keep_alive = Duration::MAX, OptionsError::KeepAlive),
            (
                |o| o.reconnect_min = Duration::ZERO,
                OptionsError::Reconnect,
            ),
            (|o| o.reconnect_min = Duration::MAX, OptionsError::Reconnect),
            (|o| o.origin = "a,b".into(), OptionsError::Origin),
            (|o| o.origin = "x".repeat(513), OptionsError::Origin),
            (|o| o.window = MAX_WINDOW + 1, OptionsError::Window),
            (|o| o.topics.clear(), OptionsError::NoTopics),
        ];
        assert_eq!(options("tcp://h:1").validate(), Ok(()));
        for (change, error) in wrong {
            let mut options = options("tcp://h:1");
            change(&mut options);
            assert_eq!(options.validate(), Err(error));
        }
    }

    #[test]
    fn a_password_is_not_shown() {
        let mut options = options("tcp://h:1");
        options.password = Some("secret".into());
        assert!(!format!("{options:?}").contains("secret"));
    }
}
