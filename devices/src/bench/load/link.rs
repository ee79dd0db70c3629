//! One connection of the load: a non-blocking socket, what waits to be written, and what arrived of
//! an unfinished packet. It reads once when told that something is there and writes everything it
//! has in one call, because system calls are most of what a load costs.
//!
//! Knows the carrier, and nothing of who publishes or receives.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::ops::{ControlFlow, Range};

use socket2::{Domain, Protocol, Socket, Type};

use super::websocket::{self, Unframed, Unframer};
use super::wire::{Malformed, Packet, first_packet};
use crate::bench::target::Carrier;

/// Room for what one read brings; the packets of a load are far smaller.
pub const READ_BYTES: usize = 256 * 1024;

/// Why a connection is of no more use.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// The broker closed it.
    #[error("the broker closed the connection")]
    Closed,
    /// The system says so.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// The broker sent what is no MQTT or no WebSocket.
    #[error("{0}")]
    Malformed(#[from] Malformed),
    /// The broker refused the WebSocket upgrade.
    #[error("the WebSocket upgrade was answered with {0:?}")]
    NoUpgrade(String),
}

/// One connection.
#[derive(Debug)]
pub struct Link {
    socket: TcpStream,
    /// Bytes of packets not parsed yet: usually none, or the beginning of one.
    inbox: Vec<u8>,
    unframer: Option<Unframer>,
    /// Packets to be sent with the next flush.
    outbox: Vec<u8>,
    /// Bytes for the socket, of which `written` are out.
    wire: Vec<u8>,
    written: usize,
    /// The broker said that it closes, after what is in `inbox`.
    closing: bool,
}

impl Link {
    /// Begins to connect; the socket becomes writable when that is done.
    ///
    /// # Errors
    /// If the system has no socket or no port left.
    pub fn open(
        address: SocketAddr,
        source: Option<IpAddr>,
        carrier: Carrier,
    ) -> std::io::Result<Self> {
        let socket = Socket::new(
            Domain::for_address(address),
            Type::STREAM,
            Some(Protocol::TCP),
        )?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        if let Some(source) = source {
            socket.bind(&SocketAddr::new(source, 0).into())?;
        }
        match socket.connect(&address.into()) {
            Err(e)
                if e.raw_os_error() != Some(IN_PROGRESS) && e.kind() != ErrorKind::WouldBlock =>
            {
                return Err(e);
            }
            _ => {}
        }
        Ok(Self {
            socket: socket.into(),
            inbox: Vec::new(),
            unframer: (carrier == Carrier::WebSocket).then(Unframer::default),
            outbox: Vec::new(),
            wire: Vec::new(),
            written: 0,
            closing: false,
        })
    }

    /// The socket, to wait for.
    #[must_use]
    pub fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// Where packets for the next flush are put.
    pub fn outbox(&mut self) -> &mut Vec<u8> {
        &mut self.outbox
    }

    /// Writes the WebSocket upgrade request, which is not framed.
    pub fn request_upgrade(&mut self, host: &str, path: &str) {
        self.wire
            .extend_from_slice(&websocket::upgrade_request(host, path));
    }

    /// Reads on the answer to the upgrade request; `true` when the connection carries MQTT.
    ///
    /// # Errors
    /// If the broker refuses or closes.
    pub fn read_upgrade(&mut self, scratch: &mut [u8]) -> Result<bool, Broken> {
        let bytes = match self.socket.read(scratch) {
            Ok(0) => return Err(Broken::Closed),
            Ok(bytes) => bytes,
            Err(e) if is_nothing(&e) => return Ok(false),
            Err(e) => return Err(e.into()),
        };
        self.inbox
            .extend_from_slice(scratch.get(..bytes).unwrap_or_default());
        match websocket::upgrade_answer(&self.inbox) {
            // No broker sends a frame before it has a CONNECT, so nothing is behind the answer.
            Ok(Some(_)) => {
                self.inbox.clear();
                Ok(true)
            }
            Ok(None) => Ok(false),
            Err(line) => Err(Broken::NoUpgrade(line)),
        }
    }

    /// Reads once. The answer is where in `scratch` packets are to be parsed, perhaps nowhere.
    ///
    /// # Errors
    /// If the broker closed the connection and nothing is left to be parsed, or sends no WebSocket.
    #[inline]
    pub fn fill(&mut self, scratch: &mut [u8]) -> Result<Range<usize>, Broken> {
        let kept = self.inbox.len();
        let (front, rest) = scratch
            .split_at_mut_checked(kept)
            .ok_or(Malformed("a packet larger than the load ever sends"))?;
        front.copy_from_slice(&self.inbox);
        let partial = self.unframer.as_mut().map_or(0, |u| u.take_partial(rest));
        let bytes = if self.closing {
            0
        } else {
            match self
                .socket
                .read(rest.get_mut(partial..).unwrap_or_default())
            {
                Ok(0) => return Err(Broken::Closed),
                Ok(bytes) => bytes,
                Err(e) if is_nothing(&e) => 0,
                Err(e) => return Err(e.into()),
            }
        };
        self.inbox.clear();
        let mut fresh = partial + bytes;
        if let Some(unframer) = &mut self.unframer {
            let input = rest.get_mut(..fresh).unwrap_or_default();
            // Pongs go out on their own, already framed.
            match unframer.unframe(input, &mut self.wire)? {
                Unframed::Packets(length) => fresh = length,
                Unframed::Closed(0) => return Err(Broken::Closed),
                Unframed::Closed(length) => {
                    fresh = length;
                    self.closing = true;
                }
            }
        }
        Ok(0..kept + fresh)
    }

    /// Hands each whole packet to `handle`, which may put answers into the outbox, and keeps the rest;
    /// after a `Break` the rest is everything behind that packet.
    ///
    /// # Errors
    /// If the broker sends no MQTT.
    #[inline]
    pub fn parse(
        &mut self,
        scratch: &[u8],
        filled: Range<usize>,
        mut handle: impl FnMut(Packet, &mut Vec<u8>) -> ControlFlow<()>,
    ) -> Result<(), Broken> {
        let mut input = scratch.get(filled).unwrap_or_default();
        while let Some((packet, length)) = first_packet(input)? {
            input = input.get(length..).unwrap_or_default();
            if handle(packet, &mut self.outbox).is_break() {
                break;
            }
        }
        self.inbox.extend_from_slice(input);
        Ok(())
    }

    /// Whether bytes were read that are not parsed yet.
    #[must_use]
    pub fn has_unparsed(&self) -> bool {
        !self.inbox.is_empty()
    }

    /// Writes what is there in one call; `false` if the socket is full and the rest waits.
    ///
    /// # Errors
    /// If the connection is broken.
    #[inline]
    pub fn flush(&mut self) -> Result<bool, Broken> {
        if !self.outbox.is_empty() {
            if self.unframer.is_some() {
                websocket::put_frames(&mut self.wire, &self.outbox);
                self.outbox.clear();
            } else if self.wire.is_empty() {
                std::mem::swap(&mut self.wire, &mut self.outbox);
            } else {
                self.wire.append(&mut self.outbox);
            }
        }
        while let Some(rest) = self.wire.get(self.written..).filter(|r| !r.is_empty()) {
            match self.socket.write(rest) {
                Ok(0) => return Err(Broken::Closed),
                Ok(bytes) => self.written += bytes,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(e) => return Err(e.into()),
            }
        }
        self.wire.clear();
        self.written = 0;
        Ok(true)
    }
}

/// EINPROGRESS, which std has no stable name for.
const IN_PROGRESS: i32 = 115;

fn is_nothing(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}
