//! Who is at the other end of a connection, as far as the network tells, and by which listener they came.
//!
//! Invariants: an address in it was seen by the system, or said by a proxy that is trusted; an IPv4 address
//! is one however it was written. This module does not know what users are.

use std::fmt;
use std::future::pending;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use axum::http::HeaderMap;
use ipnet::IpNet;
use tokio::sync::Semaphore;

use super::{Kind, Options, Origins, forwarded};
use crate::auth::{Certified, DoorMode};
use crate::tls::Shown;

/// What those who came by one listener have in common.
#[derive(Debug)]
pub(crate) struct Door {
    /// The listener's name.
    pub name: Arc<str>,
    /// What is spoken there.
    pub kind: Kind,
    /// How they prove who they are.
    pub mode: DoorMode,
    /// Places for connections; `None`: only those of the whole broker count.
    pub places: Option<Arc<Semaphore>>,
    /// Pages of other hosts that may open a WebSocket, beside those that may everywhere.
    pub origins: Origins,
    /// Whose PROXY header is believed; `None`: none is looked for.
    proxies: Option<Vec<IpNet>>,
    /// Whose `X-Forwarded-For` is believed; `None`: it is not looked at.
    forwarders: Option<Vec<IpNet>>,
    /// When somebody who is not trusted was last complained about, milliseconds.
    complained_ms: AtomicU64,
}

/// Time between two complaints about who is not trusted, milliseconds: anyone can cause them.
const COMPLAIN_EVERY_MS: u64 = 60_000;

impl Door {
    pub fn new(options: &Options) -> Self {
        let places = options.max_connections;
        let places =
            places.map(|places| Arc::new(Semaphore::new(places.min(Semaphore::MAX_PERMITS))));
        Self {
            name: options.name.as_str().into(),
            kind: options.kind,
            mode: options.mode,
            places,
            origins: options.origins.clone(),
            proxies: options.proxies.clone(),
            forwarders: options.forwarders.clone(),
            complained_ms: AtomicU64::new(0),
        }
    }

    /// Whether a PROXY header is looked for.
    pub fn has_proxies(&self) -> bool {
        self.proxies.is_some()
    }

    /// Whether a PROXY header of theirs is believed. Who may connect to a Unix socket was chosen by its
    /// permissions.
    pub fn trusts(&self, source: Source) -> bool {
        self.proxies
            .as_ref()
            .is_some_and(|proxies| source.is_one_of(proxies))
    }

    /// Whether it is time to complain again.
    pub fn may_complain(&self, now_ms: u64) -> bool {
        // 0 is never.
        let now_ms = now_ms.max(1);
        let last = self.complained_ms.load(Relaxed);
        let is_time = last == 0 || now_ms.saturating_sub(last) >= COMPLAIN_EVERY_MS;
        let exchanged = || {
            self.complained_ms
                .compare_exchange(last, now_ms, Relaxed, Relaxed)
        };
        is_time && exchanged().is_ok()
    }
}

/// One end of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// An address.
    Network(SocketAddr),
    /// A process on this machine, by its user where the system tells.
    Unix { uid: Option<u32> },
}

impl Source {
    /// An address; IPv4 that came to an IPv6 socket is IPv4.
    pub fn network(address: SocketAddr) -> Self {
        Self::Network(SocketAddr::new(address.ip().to_canonical(), address.port()))
    }

    fn is_one_of(self, proxies: &[IpNet]) -> bool {
        match self {
            Self::Network(address) => proxies
                .iter()
                .any(|network| network.contains(&address.ip())),
            Self::Unix { .. } => true,
        }
    }

    /// The address; `None`: a process on this machine.
    pub fn ip(self) -> Option<IpAddr> {
        match self {
            Self::Network(address) => Some(address.ip()),
            Self::Unix { .. } => None,
        }
    }

    fn is_here(self) -> bool {
        match self {
            Self::Network(address) => address.ip().is_loopback(),
            Self::Unix { .. } => true,
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network(address) => address.fmt(f),
            Self::Unix { uid: Some(uid) } => write!(f, "unix:uid={uid}"),
            Self::Unix { uid: None } => f.write_str("unix"),
        }
    }
}

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    /// How they came in.
    pub door: Arc<Door>,
    /// Where they are.
    pub source: Source,
    /// The proxy that said so.
    pub proxy: Option<Source>,
    /// They speak TLS with us.
    pub is_tls: bool,
    /// The certificate that they showed.
    pub certificate: Option<Arc<Shown>>,
}

impl Peer {
    /// Who they are by the certificate that they showed, if it says so.
    pub fn certified(&self) -> Option<&Certified> {
        self.certificate.as_deref().and_then(Shown::certified)
    }

    /// Whether they showed a certificate that does not count any more.
    pub fn is_revoked(&self) -> bool {
        self.certificate.as_deref().is_some_and(Shown::is_revoked)
    }

    /// Waits until they showed a certificate that does not count any more; for ever, if they showed none.
    pub async fn revoked(&self) {
        match &self.certificate {
            Some(shown) => shown.revoked().await,
            None => pending().await,
        }
    }

    /// The address that limits and bans are about; `None`: a process on this machine.
    pub fn ip(&self) -> Option<IpAddr> {
        self.source.ip()
    }

    /// Whom a request with these headers is for: somebody else, if a trusted proxy says so.
    pub fn of_request(&self, headers: &HeaderMap) -> Self {
        let forwarders = self.door.forwarders.as_deref();
        let believed = forwarders.filter(|forwarders| self.source.is_one_of(forwarders));
        let client = believed.and_then(|forwarders| forwarded::client(headers, forwarders));
        match client {
            // Which port it was is not said.
            Some(address) => Self {
                source: Source::network((address, 0).into()),
                proxy: Some(self.source),
                ..self.clone()
            },
            None => self.clone(),
        }
    }

    /// Whether they are on this machine: a proxy elsewhere has a loopback of its own.
    pub fn is_here(&self) -> bool {
        self.source.is_here() && self.proxy.is_none_or(Source::is_here)
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.source.fmt(f)?;
        match self.proxy {
            Some(proxy) => write!(f, " by {proxy}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Address;
    use super::*;

    fn source(text: &str) -> Source {
        Source::network(text.parse().unwrap())
    }

    fn door(proxies: &[&str]) -> Door {
        let address = Address::Network("127.0.0.1:0".parse().unwrap());
        Door::new(&Options {
            proxies: Some(proxies.iter().map(|text| text.parse().unwrap()).collect()),
            ..Options::new(Kind::Tcp, address)
        })
    }

    #[test]
    fn only_proxies_in_the_networks_are_trusted_however_their_address_is_written() {
        let door = door(&["10.0.0.0/8", "fd00::/8"]);
        for (text, is_trusted) in [
            ("10.1.2.3:1", true),
            ("[::ffff:10.1.2.3]:1", true),
            ("[fd00::1]:1", true),
            ("11.0.0.1:1", false),
            ("127.0.0.1:1", false),
            ("[::1]:1", false),
        ] {
            assert_eq!(door.trusts(source(text)), is_trusted, "{text}");
        }
        assert!(door.trusts(Source::Unix { uid: None }));
    }

    #[test]
    fn a_door_without_proxies_trusts_nobody() {
        let address = Address::Network("127.0.0.1:0".parse().unwrap());
        let door = Door::new(&Options::new(Kind::Tcp, address));
        assert!(!door.trusts(source("127.0.0.1:1")));
        assert!(!door.trusts(Source::Unix { uid: None }));
    }

    #[test]
    fn loopback_of_a_proxy_elsewhere_is_not_here() {
        let door = Arc::new(door(&[]));
        let peer = |of: &str, proxy: Option<&str>| Peer {
            door: door.clone(),
            source: source(of),
            proxy: proxy.map(source),
            is_tls: false,
            certificate: None,
        };
        assert!(peer("127.0.0.1:1", None).is_here());
        assert!(peer("[::ffff:127.0.0.1]:1", None).is_here());
        assert!(peer("[::1]:1", Some("127.0.0.1:1")).is_here());
        assert!(!peer("127.0.0.1:1", Some("10.0.0.1:1")).is_here());
        assert!(!peer("192.0.2.1:1", Some("127.0.0.1:1")).is_here());
        let shown = peer("192.0.2.1:7", Some("10.0.0.1:9")).to_string();
        assert_eq!(shown, "192.0.2.1:7 by 10.0.0.1:9");
    }

    #[test]
    fn who_is_not_trusted_is_complained_about_now_and_then() {
        let door = door(&[]);
        assert!(door.may_complain(0));
        assert!(!door.may_complain(59_999));
        assert!(door.may_complain(60_001));
    }
}
