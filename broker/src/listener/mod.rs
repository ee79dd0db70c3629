//! Listeners: sockets that accept peers and give each a task of its own, up to the point where a
//! byte stream goes to the [`Reception`].
//!
//! Invariants: an acceptor only accepts, so that no peer can hold it up; each peer in its handshake
//! takes one of a bounded number of places, and its time is bounded.
//! Listeners do not know MQTT packets, sessions or shards.

mod bearer;
mod bind;
pub(crate) mod deflate;
pub(crate) mod detect;
pub(crate) mod forwarded;
pub(crate) mod frames;
mod goodbye;
mod http;
pub(crate) mod origins;
pub(crate) mod page;
mod peer;
pub(crate) mod proxy;
pub(crate) mod texts;
mod unread;
pub(crate) mod upgrade;
pub(crate) mod websocket;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use ipnet::IpNet;
use tidings_core::limits::Limit;
use tokio::io::AsyncWrite as _;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};
use tracing::{debug, warn};

use crate::admission::Place;
use crate::auth::DoorMode;
use crate::counters::Counters;
use crate::handshake::{Origin, Reception};
use crate::http::Api;
use crate::tls::Front;
use crate::transport::{Transport, Wire, close_gently};
use detect::Speaks;
use proxy::{ProxyError, Said};

pub(crate) use bearer::of as token_of;
pub(crate) use bind::{Bound, bind};
pub use origins::{NoOrigin, Origins};
pub use page::is_built as page_is_built;
pub(crate) use peer::{Door, Peer, Source};
pub use upgrade::WebSocketOptions;

/// When peers come faster than one in this time, the thread offers its core to others between two of them. A
/// shard on the same core would have to wait for some milliseconds, because it is fair.
const RUSH: Duration = Duration::from_millis(1);

/// Before accepting again when there are no file descriptors or no memory.
const EXHAUSTED: Duration = Duration::from_millis(100);

/// Times between two looks at a connection of which one byte is there and two are needed.
const LOOK_FIRST: Duration = Duration::from_millis(1);
const LOOK_LAST: Duration = Duration::from_millis(500);
/// Seconds after which a peer that found no place may try again: as long as a handshake takes at most.
const RETRY_AFTER_S: u32 = 10;

/// What a listener expects from its peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// MQTT directly.
    Tcp,
    /// MQTT over WebSocket, and plain HTTP.
    WebSocket,
    /// Either, recognised by the first byte.
    Auto,
}

impl Kind {
    /// The word for it in settings and logs.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::WebSocket => "ws",
            Self::Auto => "auto",
        }
    }
}

/// Where a listener listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// Address and port; port 0 takes a free one.
    Network(SocketAddr),
    /// The path of a Unix socket.
    Unix(PathBuf),
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self::Network(address)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// One listener.
#[derive(Clone, Debug)]
pub struct Options {
    /// What it is called in logs.
    pub name: String,
    /// What is spoken there.
    pub kind: Kind,
    /// Where.
    pub address: Address,
    /// True: an IPv6 address takes no IPv4 connections.
    pub ipv6_only: bool,
    /// Permissions of a Unix socket.
    pub socket_mode: u32,
    /// Path of the WebSocket endpoint.
    pub path: String,
    /// Pages of other hosts that may open a WebSocket here, beside those that may everywhere.
    pub origins: Origins,
    /// Nothing is spoken there but in TLS. Kind `auto` also takes TLS if this is false and there is
    /// a certificate.
    pub tls: bool,
    /// Connections at one time; `None`: as many as the broker takes.
    pub max_connections: Option<usize>,
    /// How clients prove who they are.
    pub mode: DoorMode,
    /// Networks of proxies, whose PROXY header is believed; `None`: no header is looked for. On a
    /// listener that recognises what is spoken the header may be missing, on others it must not.
    pub proxies: Option<Vec<IpNet>>,
    /// Networks of proxies, whose `X-Forwarded-For` is believed; `None`: it is not looked at.
    pub forwarders: Option<Vec<IpNet>>,
    /// A socket that somebody else has bound: it counts, and not `address`.
    pub handed_over: Option<Arc<OwnedFd>>,
}

impl Options {
    /// A listener like any other, called after its kind.
    pub fn new(kind: Kind, address: impl Into<Address>) -> Self {
        Self {
            name: kind.word().to_owned(),
            kind,
            address: address.into(),
            ipv6_only: false,
            socket_mode: 0o660,
            path: "/mqtt".to_owned(),
            origins: Origins::default(),
            tls: false,
            max_connections: None,
            mode: DoorMode::Inherit,
            proxies: None,
            forwarders: None,
            handed_over: None,
        }
    }
}

/// A listener that accepts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListeningAt {
    /// Its name.
    pub name: String,
    /// What is spoken there.
    pub kind: Kind,
    /// Nothing is spoken there but in TLS.
    pub tls: bool,
    /// Where it really listens.
    pub address: Address,
}

/// Accepts until `stop` changes; peers in their handshake then lose their connection.
pub(crate) async fn accept_loop(
    bound: Bound,
    reception: Arc<Reception>,
    api: Api,
    tls: Option<Arc<Front>>,
    mut stop: watch::Receiver<bool>,
) -> io::Result<()> {
    let door = Arc::new(Door::new(&bound.options));
    let offer = Offer {
        kind: bound.options.kind,
        is_tls_only: bound.options.tls,
        tls,
    };
    let pages = http::Pages::new(&bound.options.path, reception.clone(), api);
    let acceptor = bound.into_acceptor()?;
    let mut last = Instant::now();
    loop {
        let accepted = tokio::select! {
            accepted = acceptor.accept() => accepted,
            _ = stop.wait_for(|stop| *stop) => return Ok(()),
        };
        let (wire, source) = match accepted {
            Ok(accepted) => accepted,
            Err(error) if is_of_one_peer(&error) => continue,
            Err(error) => {
                warn!(listener = %door.name, %error, "cannot accept");
                sleep(EXHAUSTED).await;
                continue;
            }
        };
        reception.counters.accepted.add(1);
        // Who is there goes before who comes.
        if last.elapsed() < RUSH {
            std::thread::yield_now();
        }
        last = Instant::now();
        // Through a proxy come many; whoever it speaks for is counted when that is known.
        let address = source.ip().filter(|_| !door.trusts(source));
        let place = match reception.admission.handshake(address) {
            Ok(place) => place,
            Err(limit) => {
                reception.counters.turned_away.add(1);
                debug!(peer = %source, limit = limit.name(), "turned away");
                if offer.kind == Kind::WebSocket && !offer.is_tls_only {
                    turn_away(wire, limit);
                }
                continue;
            }
        };
        let (reception, pages, door) = (reception.clone(), pages.clone(), door.clone());
        let offer = offer.clone();
        tokio::spawn(async move {
            receive(offer, door, wire, source, place, &reception, pages).await;
        });
    }
}

/// Says in HTTP that there is no place, if the socket takes it at once: nobody waits for a peer that is
/// not let in.
fn turn_away(mut wire: Wire, limit: Limit) {
    let status = match limit {
        Limit::Banned => "403 Forbidden",
        Limit::Handshakes | Limit::Connections => "503 Service Unavailable",
        _ => "429 Too Many Requests",
    };
    let answer = format!(
        "HTTP/1.1 {status}\r\nRetry-After: {RETRY_AFTER_S}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    );
    // It is as well if nobody hears it.
    let mut nobody = Context::from_waker(Waker::noop());
    let _ = Pin::new(&mut wire).poll_write(&mut nobody, answer.as_bytes());
}

/// Errors of `accept` that are about the peer that was to be accepted.
fn is_of_one_peer(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
    )
}

async fn receive(
    offer: Offer,
    door: Arc<Door>,
    mut wire: Wire,
    source: Source,
    mut place: Place,
    reception: &Reception,
    pages: http::Pages,
) {
    let deadline = reception.deadline();
    let mut peer = match introduce(door, &mut wire, source, deadline).await {
        Ok(peer) => peer,
        Err(refusal) => {
            reception.counters.refused.add(1);
            refusal.say(reception.clock.now().monotonic_ms);
            return;
        }
    };
    if peer.proxy.is_some()
        && let Some(address) = peer.ip()
        && let Err(limit) = place.belongs_to(address)
    {
        reception.counters.turned_away.add(1);
        debug!(%peer, limit = limit.name(), "turned away");
        return;
    }
    let entering = offer.enter(wire, &mut peer, &reception.counters);
    let entered = match timeout_at(deadline, entering).await {
        Ok(entered) => entered,
        Err(_) => {
            reception.limits.hit(Limit::ConnectTime);
            reception.limits.offence(peer.ip());
            Err(Turned::away("not a byte, or no TLS, in time"))
        }
    };
    match entered {
        Ok((wire, Speaks::Mqtt)) => {
            let origin = Origin::Network { peer };
            reception
                .receive(Transport::Wire(wire), origin, deadline, Some(place))
                .await;
        }
        Ok((wire, _)) => http::serve(wire, peer, deadline, place, pages).await,
        Err(Turned { wire, why }) => {
            reception.counters.refused.add(1);
            debug!(%peer, why, "refused before its first packet");
            if let Some(wire) = wire {
                close_gently(Transport::Wire(wire)).await;
            }
        }
    }
}

/// What a listener has to offer.
#[derive(Clone)]
struct Offer {
    kind: Kind,
    is_tls_only: bool,
    tls: Option<Arc<Front>>,
}

/// A peer that may not speak.
struct Turned {
    /// What it is to be told by.
    wire: Option<Wire>,
    why: String,
}

impl Offer {
    /// From the first byte to where MQTT or HTTP begins, and which of them does.
    async fn enter(
        &self,
        mut wire: Wire,
        peer: &mut Peer,
        counters: &Counters,
    ) -> Result<(Wire, Speaks), Turned> {
        let tls = match (&self.tls, self.kind) {
            (Some(tls), _) if self.is_tls_only => Some(tls),
            (Some(tls), Kind::Auto) => {
                let speaks = first(&mut wire).await?;
                (speaks == Speaks::Tls).then_some(tls)
            }
            _ => None,
        };
        if let Some(tls) = tls {
            match tls.receive(wire).await {
                Ok((secure, Ok(certificate))) => {
                    counters.tls_agreed.add(1);
                    wire = secure;
                    peer.is_tls = true;
                    peer.certificate = certificate;
                }
                Ok((wire, Err(error))) => {
                    counters.tls_failed.add(1);
                    return Err(Turned {
                        why: format!("no TLS: {error}"),
                        // Why is in an alert, which a socket that is dropped might not deliver.
                        wire: Some(wire),
                    });
                }
                Err(error) => {
                    counters.tls_failed.add(1);
                    return Err(Turned::away(&format!("lost in TLS: {error}")));
                }
            }
        }
        let speaks = match self.kind {
            Kind::Tcp => Speaks::Mqtt,
            Kind::WebSocket => Speaks::Http,
            Kind::Auto => first(&mut wire).await?,
        };
        match speaks {
            Speaks::Mqtt | Speaks::Http => Ok((wire, speaks)),
            Speaks::Tls | Speaks::Unknown => Err(Turned::away("speaks neither MQTT nor HTTP")),
        }
    }
}

impl Turned {
    fn away(why: &str) -> Self {
        Self {
            wire: None,
            why: why.to_owned(),
        }
    }
}

async fn first(wire: &mut Wire) -> Result<Speaks, Turned> {
    match wire.first_byte().await {
        Ok(Some(first)) => Ok(detect::speaks(first)),
        Ok(None) => Err(Turned::away("the connection ended before its first byte")),
        Err(error) => Err(Turned::away(&error.to_string())),
    }
}

/// A connection that ends because of a PROXY header, or because there is none.
struct Unintroduced {
    door: Arc<Door>,
    source: Source,
    why: Unbelieved,
}

#[derive(Debug, thiserror::Error)]
enum Unbelieved {
    #[error("no PROXY header in time")]
    Deadline,
    #[error("not one of the listener's trusted_proxies: who it speaks for is not believed")]
    Stranger,
    #[error(transparent)]
    Header(#[from] ProxyError),
}

impl Unintroduced {
    /// Tells who runs the broker, but no more often than helps.
    fn say(&self, now_ms: u64) {
        let (listener, peer, why) = (&self.door.name, self.source, &self.why);
        if self.door.may_complain(now_ms) {
            warn!(%listener, %peer, %why, "refused; others are logged at debug for a minute");
        } else {
            debug!(%listener, %peer, %why, "refused");
        }
    }
}

/// Learns who a connection is for: as the system says, or as a trusted proxy does.
async fn introduce(
    door: Arc<Door>,
    wire: &mut Wire,
    source: Source,
    deadline: Instant,
) -> Result<Peer, Unintroduced> {
    match said(&door, wire, source, deadline).await {
        Ok(Some(Said::For(address))) => Ok(Peer {
            door,
            source: Source::network(address),
            proxy: Some(source),
            is_tls: false,
            certificate: None,
        }),
        Ok(Some(Said::Nothing) | None) => Ok(Peer {
            door,
            source,
            proxy: None,
            is_tls: false,
            certificate: None,
        }),
        Err(why) => Err(Unintroduced { door, source, why }),
    }
}

async fn said(
    door: &Door,
    wire: &mut Wire,
    source: Source,
    deadline: Instant,
) -> Result<Option<Said>, Unbelieved> {
    if !door.has_proxies() {
        return Ok(None);
    }
    let is_trusted = door.trusts(source);
    if door.kind == Kind::Auto {
        let begins = timeout_at(deadline, begins_with_header(wire)).await;
        match begins.map_err(|_| Unbelieved::Deadline)? {
            Ok(true) => {}
            // What else it is, or that it ended, is seen by who reads on.
            Ok(false) | Err(_) => return Ok(None),
        }
    }
    if !is_trusted {
        return Err(Unbelieved::Stranger);
    }
    let header = timeout_at(deadline, proxy::read(wire)).await;
    Ok(Some(header.map_err(|_| Unbelieved::Deadline)??))
}

/// Whether what comes is a PROXY header: no other byte is its first one but `P`, which is also that of
/// POST, PUT and PATCH.
async fn begins_with_header(wire: &mut Wire) -> io::Result<bool> {
    let mut pause = LOOK_FIRST;
    loop {
        match wire.first_bytes().await? {
            [Some(b'\r'), _] | [Some(b'P'), Some(b'R')] => return Ok(true),
            // The system wakes nobody for the second one.
            [Some(b'P'), None] => {}
            _ => return Ok(false),
        }
        sleep(pause).await;
        pause = (pause * 2).min(LOOK_LAST);
    }
}
