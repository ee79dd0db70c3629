//! One connection in the thread of its shard: the stream, the bytes of a packet that is not whole
//! yet, and who waits for what. Output is not here: it is in the shard, until the socket takes it.

use std::cell::{Cell, OnceCell, RefCell};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use tidings_core::codec::ReasonCode;
use tidings_core::message::UnixMillis;
use tidings_core::shard::ConnId;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::reading::READ_BUFFER;
use crate::admission::Place;
use crate::handshake::Origin;
use crate::metrics::Via;
use crate::trace::packets::Tap;
use crate::transport::Transport;

/// Bytes that are read at once at least: a turn of the smallest packets.
const LEAST_READ: usize = 512;

/// What comes after as many writes is acknowledged at once, below MQTT: CONNACK, SUBACK and what was missed, which
/// scripts wait for and then go. After each write the system delays the next acknowledgement.
const FIRST_WRITES: u8 = 4;

/// A connection; see the module.
pub(super) struct Connection {
    pub id: ConnId,
    pub origin: Origin,
    /// How it came.
    pub via: Via,
    transport: RefCell<Option<Transport>>,
    /// Bytes that the shard did not use: part of a packet, or what came while it paused.
    pub rest: RefCell<Vec<u8>>,
    /// `rest` is to be offered before the socket is read again.
    pub offer_rest: Cell<bool>,
    /// What is in `rest` waits only for its turn.
    pub more: Cell<bool>,
    /// Bytes that are read at once.
    appetite: Cell<u32>,
    pub paused: Cell<bool>,
    /// The read loop, while it pauses.
    paused_reader: Cell<Option<Waker>>,
    pub read_loop: RefCell<Option<AbortHandle>>,
    /// Writes that are left of the first ones.
    first_writes: Cell<u8>,
    /// What is written next is written in its turn.
    pub has_more_to_write: Cell<bool>,
    /// A task waits for the socket to take more output.
    pub draining: Cell<bool>,
    /// The connection is to be closed once its output is written, or at this instant.
    pub closing: Cell<Option<Instant>>,
    /// Tells the draining task that `closing` was set, or that the stream is gone. Few connections
    /// are ever drained.
    changed: OnceCell<Box<Notify>>,
    /// What traces know of it; there only while somebody traces.
    pub tap: RefCell<Option<Box<Tap>>>,
    /// Since when it is a client, milliseconds since 1970.
    pub since: UnixMillis,
    _place: Option<Place>,
}

/// The connections of a shard, found by slot.
#[derive(Default)]
pub(super) struct Connections {
    slots: Vec<Option<Rc<Connection>>>,
}

impl Connections {
    pub fn insert(&mut self, connection: Rc<Connection>) {
        let slot = connection.id.slot();
        if self.slots.len() <= slot {
            self.slots.resize_with(slot + 1, || None);
        }
        if let Some(place) = self.slots.get_mut(slot) {
            *place = Some(connection);
        }
    }

    pub fn get(&self, id: ConnId) -> Option<&Rc<Connection>> {
        let connection = self.slots.get(id.slot())?.as_ref()?;
        (connection.id == id).then_some(connection)
    }

    /// Those in slots `first`, `first + step`, and so on.
    pub fn every(&self, first: usize, step: usize) -> Vec<Rc<Connection>> {
        let slots = self.slots.iter().skip(first).step_by(step.max(1));
        slots.flatten().cloned().collect()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Rc<Connection>> {
        self.slots.iter().flatten()
    }

    /// Those that come from somewhere, in an order that is always the same.
    pub fn from(&self, is_there: impl Fn(&Origin) -> bool) -> Vec<ConnId> {
        let connections = self.slots.iter().flatten();
        connections
            .filter(|connection| is_there(&connection.origin))
            .map(|connection| connection.id)
            .collect()
    }

    pub fn remove(&mut self, id: ConnId) -> Option<Rc<Connection>> {
        let place = self.slots.get_mut(id.slot())?;
        place.take_if(|connection| connection.id == id)
    }
}

impl Connection {
    pub fn new(
        id: ConnId,
        origin: Origin,
        transport: Transport,
        rest: Vec<u8>,
        place: Option<Place>,
        since: UnixMillis,
    ) -> Self {
        let via = match &origin {
            Origin::Network { .. } => Via::of_transport(transport.kind()),
            Origin::Broker { .. } => Via::Broker,
            Origin::Gateway { via, .. } => *via,
        };
        Self {
            id,
            origin,
            via,
            transport: RefCell::new(Some(transport)),
            offer_rest: Cell::new(!rest.is_empty()),
            rest: RefCell::new(rest),
            more: Cell::new(false),
            appetite: Cell::new(READ_BUFFER as u32),
            paused: Cell::new(false),
            paused_reader: Cell::new(None),
            read_loop: RefCell::new(None),
            first_writes: Cell::new(FIRST_WRITES),
            has_more_to_write: Cell::new(false),
            draining: Cell::new(false),
            closing: Cell::new(None),
            changed: OnceCell::new(),
            tap: RefCell::new(None),
            since,
            _place: place,
        }
    }

    /// How much is read at once: everything, but of who sends more than one turn takes about that.
    pub fn appetite(&self) -> usize {
        self.appetite.get() as usize
    }

    /// Of all that was read, so many bytes were one turn.
    pub fn ate(&self, bytes: usize) {
        let appetite = (2 * bytes).clamp(LEAST_READ, READ_BUFFER);
        self.appetite.set(appetite as u32);
    }

    /// What was read was no whole turn, and there is more.
    pub fn is_hungry(&self) {
        let appetite = (2 * self.appetite()).min(READ_BUFFER);
        self.appetite.set(appetite as u32);
    }

    /// Reads what is there; nothing read means the end.
    pub fn poll_read(&self, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.transport.borrow_mut().as_mut() {
            Some(transport) => Pin::new(transport).poll_read(cx, out),
            None => Poll::Ready(Ok(())),
        }
    }

    /// Writes what the socket takes at once. Only one waker waits for a socket: while a task
    /// drains, nobody else may write.
    pub fn poll_write(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut transport = self.transport.borrow_mut();
        let Some(transport) = transport.as_mut() else {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        };
        let written = Pin::new(&mut *transport).poll_write(cx, bytes);
        let left = self.first_writes.get();
        if left > 0 && written.is_ready() {
            self.first_writes.set(left - 1);
            transport.quick_ack();
        }
        written
    }

    /// Ready when all that was written is with the system.
    pub fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.transport.borrow_mut().as_mut() {
            Some(transport) => Pin::new(transport).poll_flush(cx),
            None => Poll::Ready(Ok(())),
        }
    }

    /// Asks the peer for a sign of life, where that is done below MQTT.
    pub fn ping(&self) {
        if let Some(transport) = self.transport.borrow_mut().as_mut() {
            transport.ping();
        }
    }

    /// Whether nothing came since it was asked. Whoever is not read from is not silent.
    pub fn is_silent(&self) -> bool {
        let transport = self.transport.borrow();
        !self.paused.get() && transport.as_ref().is_some_and(Transport::is_silent)
    }

    /// When it is closed, this is why.
    pub fn close_as(&self, reason: ReasonCode) {
        if let Some(transport) = self.transport.borrow_mut().as_mut() {
            transport.close_as(reason);
        }
    }

    /// Takes the stream out: the connection is over.
    pub fn take_transport(&self) -> Option<Transport> {
        if let Some(read_loop) = self.read_loop.take() {
            read_loop.abort();
        }
        self.transport.take()
    }

    /// See the field.
    pub fn changed(&self) -> &Notify {
        self.changed.get_or_init(Box::default)
    }

    /// Waits, in the read loop, until [`Connection::resume`].
    pub fn pause_reader(&self, cx: &Context<'_>) {
        self.paused_reader.set(Some(cx.waker().clone()));
    }

    /// The shard takes input again.
    pub fn resume(&self) {
        self.paused.set(false);
        self.offer_rest.set(true);
        if let Some(reader) = self.paused_reader.take() {
            reader.wake();
        }
    }
}
