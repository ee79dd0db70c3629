//! Listeners: sockets that accept peers and give each a task of its own, up to the point where a
//! byte stream goes to the [`Reception`].
//!
//! Invariants: an acceptor only accepts, so that no peer can hold it up; each peer in its handshake
//! takes one of a bounded number of places, and its time is bounded.
//! Listeners do not know MQTT packets, sessions or shards.

mod bearer;
pub(crate) mod detect;
pub(crate) mod frames;
mod http;
pub(crate) mod page;
pub(crate) mod websocket;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Socket, Type};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::{sleep, timeout_at};
use tracing::{debug, warn};

use crate::admission::Place;
use crate::handshake::{Origin, Reception};
use crate::http::Api;
use crate::transport::{Transport, Wire};
use detect::Speaks;

pub use page::is_built as page_is_built;

/// Connections that the kernel completes while nobody accepts: a burst of reconnecting clients.
const BACKLOG: i32 = 1024;

/// Before accepting again when there are no file descriptors or no memory.
const EXHAUSTED: Duration = Duration::from_millis(100);

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

/// One listener.
#[derive(Clone, Debug)]
pub struct Options {
    /// What is spoken there.
    pub kind: Kind,
    /// Address and port; port 0 takes a free one.
    pub address: SocketAddr,
    /// Path of the WebSocket endpoint.
    pub path: String,
}

/// A listener that is bound and does not accept yet.
pub(crate) struct Bound {
    options: Options,
    listener: std::net::TcpListener,
    /// Where it really listens.
    pub address: SocketAddr,
}

/// Binds the socket, without a runtime.
///
/// # Errors
/// What the system says: the address is in use, or not ours.
pub(crate) fn bind(options: Options) -> io::Result<Bound> {
    let socket = Socket::new(Domain::for_address(options.address), Type::STREAM, None)?;
    // A restart must not wait for connections of the last run to be forgotten.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    // Messages are small and people wait for them. Accepted sockets inherit it.
    socket.set_tcp_nodelay(true)?;
    socket.bind(&options.address.into())?;
    socket.listen(BACKLOG)?;
    let listener = std::net::TcpListener::from(socket);
    let address = listener.local_addr()?;
    Ok(Bound {
        options,
        listener,
        address,
    })
}

impl Bound {
    /// What is spoken there.
    pub fn kind(&self) -> Kind {
        self.options.kind
    }
}

/// Accepts until `stop` changes; peers in their handshake then lose their connection.
pub(crate) async fn accept_loop(
    bound: Bound,
    reception: Arc<Reception>,
    api: Api,
    mut stop: watch::Receiver<bool>,
) -> io::Result<()> {
    let listener = TcpListener::from_std(bound.listener)?;
    let kind = bound.options.kind;
    let pages = http::Pages::new(&bound.options.path, reception.clone(), api);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.wait_for(|stop| *stop) => return Ok(()),
        };
        let (socket, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) if is_of_one_peer(&error) => continue,
            Err(error) => {
                warn!(address = %bound.address, %error, "cannot accept");
                sleep(EXHAUSTED).await;
                continue;
            }
        };
        reception.counters.accepted.add(1);
        let Some(place) = reception.admission.handshake() else {
            reception.counters.turned_away.add(1);
            debug!(%peer, "turned away: too many handshakes");
            continue;
        };
        let (reception, pages) = (reception.clone(), pages.clone());
        tokio::spawn(async move {
            receive(kind, socket.into(), peer, place, &reception, pages).await;
        });
    }
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
    kind: Kind,
    mut wire: Wire,
    peer: SocketAddr,
    place: Place,
    reception: &Reception,
    pages: http::Pages,
) {
    let deadline = reception.deadline();
    let speaks = match kind {
        Kind::Tcp => Speaks::Mqtt,
        Kind::WebSocket => Speaks::Http,
        Kind::Auto => match timeout_at(deadline, wire.first_byte()).await {
            Ok(Ok(Some(first))) => detect::speaks(first),
            _ => Speaks::Unknown,
        },
    };
    match speaks {
        Speaks::Mqtt => {
            let origin = Origin::Network { peer };
            reception
                .receive(Transport::Wire(wire), origin, deadline, Some(place))
                .await;
        }
        Speaks::Http => http::serve(wire, peer, deadline, place, pages).await,
        Speaks::Unknown => {
            reception.counters.refused.add(1);
            debug!(%peer, "speaks neither MQTT nor HTTP, or nothing");
        }
    }
}
