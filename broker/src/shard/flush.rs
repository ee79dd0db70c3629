//! What a shard thread owns, and its one flush: after all readers that were ready have run, do
//! what the shard says, with one write for each connection that has output.
//!
//! A socket that does not take everything leaves the rest in the shard, and a task of its own
//! writes on when it can: nothing else buffers, and nobody waits for it.

use std::any::Any;
use std::cell::{Cell, Ref, RefCell};
use std::collections::HashMap;
use std::future::poll_fn;
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use tidings_core::codec::ReasonCode;
use tidings_core::journal::ShardId;
use tidings_core::shard::{ConnId, Event, Input, Output, Reproved, Secret, Shard, Way};
use tokio::sync::Notify;
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::{Instant, sleep_until};
use tracing::{debug, error, info};

use super::alarm::Alarm;
use super::connection::{Connection, Connections};
use super::mailbox::{Arrival, Visit};
use super::reading::{Gate, READ_BUFFER, read_loop};
use super::turns::{Side, Turns};
use super::{Report, Shared};
use crate::auth::{Credentials, DoorMode};
use crate::handshake::Origin;
use crate::limits::network_of;
use crate::metrics::{Stopwatch, Via};
use crate::transport::close_gently;

/// How long a connection that is being closed may take to accept its last bytes.
const LAST_BYTES: Duration = Duration::from_secs(2);

/// What a write left.
enum Written {
    /// Nothing, or nobody is there.
    All,
    /// What the socket did not take, or the session has read on meanwhile.
    Part,
}

/// The packet type of PUBLISH (§2.1.2).
const PUBLISH: u8 = 3;

/// What a panic carries.
pub(super) type Panic = Box<dyn Any + Send>;

/// What a shard thread owns; see the module.
pub(super) struct Local {
    id: ShardId,
    shard: RefCell<Shard>,
    shared: Shared,
    pub connections: RefCell<Connections>,
    /// Connections that showed a login, and which.
    logins: RefCell<HashMap<ConnId, Arc<str>>>,
    /// Connections that are over and that the shard still has to be told of.
    ended: RefCell<Vec<ConnId>>,
    flush_wanted: Cell<bool>,
    flusher: Cell<Option<Waker>>,
    /// Sockets that are being closed gently.
    farewells: Cell<usize>,
    /// Tells the inbox loop to look whether the thread is to end.
    attention: Notify,
    /// What a task panicked with.
    panicked: Cell<Option<Panic>>,
    pub read_buffer: RefCell<Box<[u8]>>,
    pub gate: Gate,
    pub turns: Turns,
    pub alarm: Alarm,
    bytes_received: Cell<u64>,
    bytes_sent: Cell<u64>,
    /// The millisecond in which a message was timed last: one in each is enough.
    last_timed_ms: Cell<u64>,
    has_taps: Cell<bool>,
    stopwatch: Stopwatch,
    /// Connections, in the order of [`Via::ALL`].
    at_doors: RefCell<[u64; Via::ALL.len()]>,
    report: Arc<Mutex<Report>>,
}

impl Local {
    pub fn new(id: ShardId, shard: Shard, shared: Shared, report: Arc<Mutex<Report>>) -> Self {
        Self {
            id,
            shard: RefCell::new(shard),
            shared,
            connections: RefCell::default(),
            logins: RefCell::default(),
            ended: RefCell::default(),
            flush_wanted: Cell::new(true),
            flusher: Cell::new(None),
            farewells: Cell::new(0),
            attention: Notify::new(),
            panicked: Cell::new(None),
            read_buffer: RefCell::new(vec![0; READ_BUFFER].into_boxed_slice()),
            gate: Gate::default(),
            turns: Turns::default(),
            alarm: Alarm::default(),
            bytes_received: Cell::new(0),
            bytes_sent: Cell::new(0),
            last_timed_ms: Cell::new(u64::MAX),
            has_taps: Cell::new(false),
            stopwatch: Stopwatch::default(),
            at_doors: RefCell::default(),
            report,
        }
    }

    /// Begins a connection.
    pub fn adopt(self: &Rc<Self>, arrival: Arrival) {
        let transport = match arrival.stream.attach() {
            Ok(transport) => transport,
            Err(error) => {
                debug!(peer = %arrival.origin, %error, "lost before its session");
                return;
            }
        };
        let now = self.shared.clock.now();
        let since = now.unix_ms;
        let id = self.shard.borrow_mut().open(now, arrival.request);
        if let Some(login) = arrival.login {
            self.logins.borrow_mut().insert(id, login);
        }
        let connection = Connection::new(
            id,
            arrival.origin,
            transport,
            arrival.rest,
            arrival.place,
            since,
        );
        let connection = Rc::new(connection);
        self.count_at_door(connection.via, |count| count + 1);
        self.connections.borrow_mut().insert(connection.clone());
        if self.shared.tracing.is_on() {
            self.tap_opened(&connection);
        }
        let reading = self.spawn(read_loop(self.clone(), connection.clone()));
        *connection.read_loop.borrow_mut() = Some(reading.abort_handle());
        self.want_flush();
    }

    /// Milliseconds of the clock that the shard goes by.
    pub fn now_ms(&self) -> u64 {
        self.shared.clock.now().monotonic_ms
    }

    /// Something happened.
    pub fn input(&self, input: Input) {
        self.shard
            .borrow_mut()
            .handle_input(self.shared.clock.now(), input);
        self.want_flush();
    }

    /// Somebody looks into the shard, or reaches into it.
    pub fn visit(&self, visit: Visit) {
        visit(self.shared.clock.now(), &mut self.shard.borrow_mut());
        self.want_flush();
    }

    /// A login was given back.
    pub fn end_login(&self, login: &Arc<str>) {
        let logins = self.logins.borrow();
        let showed = logins.iter().filter(|(_, shown)| *shown == login);
        let mut ended: Vec<ConnId> = showed.map(|(conn, _)| *conn).collect();
        // In an order that does not depend on how they were hashed.
        ended.sort_unstable();
        let now = self.shared.clock.now();
        for conn in ended {
            self.shard.borrow_mut().sign_out(now, conn, "signed out");
        }
        self.want_flush();
    }

    /// An address was banned.
    pub fn end_address(&self, address: IpAddr) {
        let network = network_of(address);
        let is_there = |origin: &Origin| origin.address().map(network_of) == Some(network);
        self.end_from(is_there, "banned");
    }

    /// Certificates of connections do not count any more.
    pub fn end_revoked(&self) {
        self.end_from(
            Origin::is_revoked,
            "the certificate does not count any more",
        );
    }

    fn end_from(&self, is_there: impl Fn(&Origin) -> bool, text: &str) {
        let ended = self.connections.borrow().from(is_there);
        let now = self.shared.clock.now();
        for conn in ended {
            self.shard.borrow_mut().sign_out(now, conn, text);
        }
        self.want_flush();
    }

    /// Bytes came in; what the shard does not use stays with the connection.
    pub fn receive(&self, connection: &Connection, bytes: &[u8]) {
        self.bytes_received
            .set(self.bytes_received.get() + bytes.len() as u64);
        let now = self.shared.clock.now();
        let is_traced = self.shared.tracing.is_on();
        let mut rest = connection.rest.borrow_mut();
        let first = rest.first().or(bytes.first());
        if now.monotonic_ms != self.last_timed_ms.get()
            && first.is_some_and(|first| first >> 4 == PUBLISH)
        {
            self.last_timed_ms.set(now.monotonic_ms);
            let now_us = self.shared.clock.now_us();
            self.shard.borrow_mut().time_next_publish(now_us);
        }
        let offer = |bytes: &[u8]| {
            let received = self.shard.borrow_mut().receive(now, connection.id, bytes);
            if is_traced {
                let used = bytes.get(..received.consumed).unwrap_or(bytes);
                self.tap_received(connection, used);
            }
            received
        };
        let received = if rest.is_empty() {
            let received = offer(bytes);
            rest.extend_from_slice(bytes.get(received.consumed..).unwrap_or_default());
            received
        } else {
            rest.extend_from_slice(bytes);
            let received = offer(&rest);
            let used = received.consumed.min(rest.len());
            rest.drain(..used);
            received
        };
        if rest.is_empty() {
            // Nothing is held while idle.
            *rest = Vec::new();
        }
        connection.paused.set(received.paused);
        connection.more.set(received.more);
        if received.more {
            connection.offer_rest.set(true);
            connection.ate(received.consumed);
        }
        self.want_flush();
    }

    /// The peer is gone, or has nothing more to say. Its answers still leave with the next flush.
    pub fn end(&self, connection: &Connection) {
        self.ended.borrow_mut().push(connection.id);
        self.want_flush();
    }

    fn want_flush(&self) {
        if !self.flush_wanted.replace(true)
            && let Some(flusher) = self.flusher.take()
        {
            flusher.wake();
        }
    }

    /// The flush task. It is woken by the first reader of a round, and so runs after the last.
    pub async fn flush_loop(self: Rc<Self>) {
        loop {
            poll_fn(|cx| {
                if self.flush_wanted.take() {
                    return Poll::Ready(());
                }
                self.flusher.set(Some(cx.waker().clone()));
                Poll::Pending
            })
            .await;
            self.flush();
            self.alarm.set(self.shard.borrow().due_ms());
            if self.is_quiet() {
                self.attention.notify_one();
            }
        }
    }

    fn flush(self: &Rc<Self>) {
        loop {
            while let Some(output) = self.poll_output() {
                self.perform(output);
            }
            let ended = self.ended.take();
            if ended.is_empty() {
                return;
            }
            for id in ended {
                self.finish(id);
            }
        }
    }

    fn poll_output(&self) -> Option<Output> {
        self.shard.borrow_mut().poll_output()
    }

    fn perform(self: &Rc<Self>, output: Output) {
        match output {
            Output::Append(appends) => (self.shared.append)(appends),
            Output::ToShard { shard, message } => {
                let message = Input::FromShard {
                    shard: self.id,
                    message,
                };
                self.shared.mailboxes.input(shard, message);
            }
            Output::Write { conn } => {
                if let Some(connection) = self.connection(conn) {
                    self.write(&connection);
                }
            }
            Output::Close { conn, reason } => {
                if let Some(connection) = self.connection(conn) {
                    debug!(peer = %connection.origin, ?reason, "closing");
                    connection.close_as(reason);
                    if is_offence(reason) {
                        self.shared.limits.offence(connection.origin.address());
                    }
                    self.close(&connection);
                }
            }
            Output::Resume { conn } => {
                if let Some(connection) = self.connection(conn) {
                    connection.resume();
                }
            }
            Output::Reauthenticate {
                conn,
                user,
                client_id,
                data,
            } => self.reauthenticate(conn, user, client_id, data),
            Output::Timed { conn, way, read_us } => self.timed(conn, way, read_us),
            Output::Event(event) => {
                self.say(&event);
                self.shared.people.happened(&event);
            }
        }
    }

    /// What ends a way was written before, or waits for its socket.
    fn timed(&self, conn: ConnId, way: Way, read_us: u64) {
        let Some(connection) = self.connection(conn) else {
            return;
        };
        if self.shard.borrow().outgoing(conn).is_empty() {
            let now_us = self.shared.clock.now_us();
            self.stopwatch.ended(connection.via, way, read_us, now_us);
        } else {
            self.stopwatch.wait(conn, connection.via, way, read_us);
        }
    }

    fn count_at_door(&self, via: Via, change: impl FnOnce(u64) -> u64) {
        if let Some(count) = self.at_doors.borrow_mut().get_mut(via as usize) {
            *count = change(*count);
        }
    }

    fn reauthenticate(
        self: &Rc<Self>,
        conn: ConnId,
        user: Arc<str>,
        client_id: Arc<str>,
        proof: Secret,
    ) {
        let origin = self
            .connection(conn)
            .map(|connection| connection.origin.clone());
        let local = self.clone();
        self.spawn(async move {
            let admitted = match local.shared.auth.get() {
                Some(auth) => {
                    let credentials = Credentials {
                        username: (!user.is_empty()).then_some(&*user),
                        password: Some(&proof.0),
                        client_id: &client_id,
                        address: origin.as_ref().and_then(Origin::address),
                        bearer: None,
                        certificate: origin.as_ref().and_then(Origin::certificate),
                        door: origin.as_ref().map_or(DoorMode::Inherit, Origin::door),
                    };
                    let judged = auth.authenticate(credentials).await;
                    judged.ok().filter(|admitted| auth.is_welcome(admitted))
                }
                None => None,
            };
            let reproved = admitted.map(|admitted| Reproved {
                identity: admitted.identity,
                valid_until: admitted.valid_until,
            });
            local.input(Input::Reauthenticated { conn, reproved });
        });
    }

    pub fn connection(&self, id: ConnId) -> Option<Rc<Connection>> {
        self.connections.borrow().get(id).cloned()
    }

    /// One write; what the socket does not take is left to a task.
    fn write(self: &Rc<Self>, connection: &Rc<Connection>) {
        if connection.draining.get() {
            return;
        }
        let mut nobody = Context::from_waker(Waker::noop());
        if self.poll_write(connection, &mut nobody).is_pending() {
            connection.draining.set(true);
            self.spawn(self.clone().drain(connection.clone()));
        }
    }

    /// Writes what the socket takes; ready when nothing is left, not in TLS either, or the
    /// connection is broken and ended. A session that reads on fills its output while it is written: the
    /// connection stands in line for each further write.
    fn poll_write(self: &Rc<Self>, connection: &Connection, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let is_turn = connection.has_more_to_write.get();
            if is_turn {
                let turn = (connection.id, Side::Write);
                ready!(self.turns.poll(self, turn, cx));
                connection.has_more_to_write.set(false);
            }
            let written = self.poll_write_once(connection, cx);
            if is_turn {
                self.turns.over();
            }
            match ready!(written) {
                Written::All => return Poll::Ready(()),
                Written::Part => connection.has_more_to_write.set(true),
            }
        }
    }

    /// One write, or none if there is nothing: then all is to leave TLS, too.
    fn poll_write_once(&self, connection: &Connection, cx: &mut Context<'_>) -> Poll<Written> {
        let is_traced = self.shared.tracing.is_on();
        let id = connection.id;
        loop {
            if is_traced {
                self.tap_writes(connection);
            }
            let written = {
                let shard = self.shard.borrow();
                let bytes = shard.outgoing(id);
                if bytes.is_empty() {
                    ready!(connection.poll_flush(cx)).map(|()| 0)
                } else {
                    ready!(connection.poll_write(cx, bytes))
                }
            };
            match written {
                Ok(0) => {
                    if self.stopwatch.has_waiting() {
                        let now_us = self.shared.clock.now_us();
                        self.stopwatch.drained(id, now_us);
                    }
                    return Poll::Ready(Written::All);
                }
                Ok(len) => {
                    self.bytes_sent.set(self.bytes_sent.get() + len as u64);
                    let now = self.shared.clock.now();
                    if is_traced {
                        self.tap_wrote(connection, len);
                    }
                    self.shard.borrow_mut().wrote(now, id, len);
                    self.want_flush();
                    if !self.shard.borrow().outgoing(id).is_empty() {
                        return Poll::Ready(Written::Part);
                    }
                }
                Err(error) => {
                    debug!(peer = %connection.origin, %error, "cannot write");
                    self.end(connection);
                    return Poll::Ready(Written::All);
                }
            }
        }
    }

    /// Writes whenever the socket takes something, until nothing is left; then closes, if that was
    /// asked for.
    async fn drain(self: Rc<Self>, connection: Rc<Connection>) {
        loop {
            let deadline = connection.closing.get();
            tokio::select! {
                biased;
                () = poll_fn(|cx| self.poll_write(&connection, cx)) => break,
                () = connection.changed().notified() => {}
                () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => break,
            }
        }
        connection.draining.set(false);
        if connection.closing.get().is_some() {
            self.part(&connection);
        }
    }

    /// The shard wants the connection closed, after its last bytes.
    fn close(self: &Rc<Self>, connection: &Rc<Connection>) {
        if connection.closing.get().is_some() {
            return;
        }
        connection.closing.set(Some(Instant::now() + LAST_BYTES));
        if let Some(read_loop) = connection.read_loop.take() {
            read_loop.abort();
        }
        self.write(connection);
        if connection.draining.get() {
            connection.changed().notify_one();
        } else {
            self.part(connection);
        }
    }

    /// Ends the connection in a way that lets the peer read its last bytes.
    pub fn part(self: &Rc<Self>, connection: &Connection) {
        if let Some(transport) = connection.take_transport() {
            self.farewells.set(self.farewells.get() + 1);
            let local = self.clone();
            self.spawn(async move {
                close_gently(transport).await;
                local.farewells.set(local.farewells.get() - 1);
                local.want_flush();
            });
        }
        self.end(connection);
    }

    /// The last of a connection: what was for it is written if it can be, and the shard is told.
    fn finish(self: &Rc<Self>, id: ConnId) {
        let Some(connection) = self.connections.borrow_mut().remove(id) else {
            return;
        };
        if connection.draining.get() {
            connection.changed().notify_one();
        } else {
            let mut nobody = Context::from_waker(Waker::noop());
            let _ = self.poll_write(&connection, &mut nobody);
        }
        if let Some(mut transport) = connection.take_transport() {
            transport.try_say_end();
        }
        self.count_at_door(connection.via, |count| count.saturating_sub(1));
        self.stopwatch.forget(id);
        if self.shared.tracing.is_on() {
            self.tap_closed(&connection);
        }
        self.logins.borrow_mut().remove(&id);
        let disconnected = Input::Disconnected { conn: id };
        self.shard
            .borrow_mut()
            .handle_input(self.shared.clock.now(), disconnected);
    }

    /// Whether, after a shutdown, nothing is left to do.
    pub fn is_quiet(&self) -> bool {
        self.farewells.get() == 0
            && self.ended.borrow().is_empty()
            && self.shard.borrow().is_quiet()
    }

    /// Waits until a flush left nothing to do, or a task panicked.
    pub async fn needs_attention(&self) {
        self.attention.notified().await;
    }

    /// What a task panicked with, if one did.
    pub fn take_panic(&self) -> Option<Panic> {
        self.panicked.take()
    }

    /// Starts a task of this thread. The runtime would swallow its panic; here the thread ends,
    /// because what the shard was doing is not known.
    pub fn spawn(self: &Rc<Self>, task: impl Future<Output = ()> + 'static) -> JoinHandle<()> {
        let local = self.clone();
        spawn_local(async move {
            let mut task = pin!(task);
            let poll = |cx: &mut Context<'_>| {
                catch_unwind(AssertUnwindSafe(|| task.as_mut().poll(cx))).unwrap_or_else(|panic| {
                    local.panicked.set(Some(panic));
                    local.attention.notify_one();
                    Poll::Ready(())
                })
            };
            poll_fn(poll).await;
        })
    }

    /// Whether some shard is behind, so that nobody should read more.
    pub fn is_crowded(&self) -> bool {
        self.shared.mailboxes.is_crowded()
    }

    /// What all shards share.
    pub fn shared(&self) -> &Shared {
        &self.shared
    }

    /// The shard, to be looked at.
    pub fn shard(&self) -> Ref<'_, Shard> {
        self.shard.borrow()
    }

    /// Says that there are taps on connections.
    pub fn has_taps(&self) -> &Cell<bool> {
        &self.has_taps
    }

    /// Takes the taps off, once nobody traces any more.
    fn forget_taps(&self) {
        if !self.shared.tracing.is_on() && self.has_taps.take() {
            for connection in self.connections.borrow().iter() {
                *connection.tap.borrow_mut() = None;
            }
        }
    }

    /// Tells the other threads how this one does.
    pub fn publish_report(&self) {
        self.forget_taps();
        let shard = self.shard.borrow();
        *self.report.lock().unwrap_or_else(PoisonError::into_inner) = Report {
            stats: shard.stats(),
            bytes_received: self.bytes_received.get(),
            bytes_sent: self.bytes_sent.get(),
            lowest_reader: shard.lowest_reader(),
            position: shard.position(),
            latencies: self.stopwatch.latencies(),
            connections: *self.at_doors.borrow(),
            at: Some(std::time::Instant::now()),
        };
    }

    /// One line for what the shard finds worth saying.
    fn say(&self, event: &Event) {
        match event {
            Event::Connected {
                client_id,
                user,
                version,
                session_present,
            } => {
                debug!(%client_id, %user, ?version, session_present, "connected");
            }
            Event::Disconnected {
                client_id, reason, ..
            } => debug!(%client_id, ?reason, "disconnected"),
            Event::Trimmed {
                client_id,
                from,
                to,
            } => {
                info!(%client_id, %from, %to, "messages were trimmed before this session had read them");
            }
            Event::NotTheirs {
                conn,
                client_id,
                user,
            } => {
                let connection = self.connection(*conn);
                let peer = connection.map(|connection| connection.origin.to_string());
                let peer = peer.unwrap_or_default();
                info!(
                    peer, %user, %client_id,
                    "refused: the client identifier has a session of another user"
                );
            }
            Event::ReadFailed { error } => error!(%error, "the journal cannot be read"),
        }
    }
}

/// Whether a connection ended for what no client that follows the specification does.
const fn is_offence(reason: ReasonCode) -> bool {
    matches!(
        reason,
        ReasonCode::MalformedPacket
            | ReasonCode::ProtocolError
            | ReasonCode::ReceiveMaximumExceeded
            | ReasonCode::TopicAliasInvalid
            | ReasonCode::PacketTooLarge
            | ReasonCode::QuotaExceeded
    )
}
