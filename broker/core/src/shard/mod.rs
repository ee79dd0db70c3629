//! A shard: the sessions of one core, their filters, and what passes through them. Plain data, one
//! thread, no locks.
//!
//! The contract of the loop: give it what happened ([`Shard::open`], [`Shard::receive`],
//! [`Shard::wrote`], [`Shard::handle_input`]), then call [`Shard::poll_output`] until it gives
//! `None`, and do what it says. Time is an argument. Nothing here waits: what has to wait for the
//! journal or for another shard stands in a queue and goes on with an input.
//!
//! Invariants:
//! * `position` is the offset up to which every committed entry was offered to every live session.
//!   A session that is `Live` has been offered all of them; one that is `Lagging` reads on itself.
//! * `pending` has one element for each append that has not come back, in order.
//! * A connection that paused is in `paused`, and is resumed once.
//!
//! It does not know sockets, files or threads, and not how other shards are reached.

mod access;
mod attach;
mod changes;
mod commit;
mod cursor;
mod deliver;
mod group;
mod growing;
mod holding;
mod inbound;
mod inspect;
mod names;
mod owner;
mod peers;
mod publish;
mod read_on;
mod reauthenticate;
mod relay;
mod revoke;
mod sessions;
mod slow;
mod subscribe;
mod targets;
mod timing;
mod upkeep;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use crate::codec::{ConnAck, Disconnect, Packet, ReasonCode, Version};
use crate::journal::{Append, Batch, Journal, Published, Record, ShardId};
use crate::limits::{Bounds, Bucket, Hits, Limit, Meters, Room};
use crate::message::{Epoch, Offset, QoS, UnixMillis};
use crate::messages::Names;
use crate::rooms::AccessChange;
use crate::rules::{IdentityKind, Membership, Rules};
use crate::session::frames::Frames;
use crate::session::{Session, Stage};
use crate::state::State;
use crate::tree::SubscriptionTree;

pub use attach::ConnectRequest;
pub use inspect::Connected;
pub use owner::Takeover;
pub use peers::ShardMessage;
pub use reauthenticate::Reproved;
pub use revoke::Revocation;
pub use sessions::ConnId;
pub use slow::Slow;
pub use timing::Way;

use access::Notices;
use attach::Opening;
use commit::Pending;
use group::Groups;
use owner::Unsettled;
use peers::Peers;
use reauthenticate::Extended;
use relay::Relays;
use sessions::Sessions;
use targets::{Memo, Subscriber};

/// The time of an input: a clock that never jumps, and the one that people read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds of a clock that only goes forward: keep alive.
    pub monotonic_ms: u64,
    /// Milliseconds since the Unix epoch: expiry and the time of messages.
    pub unix_ms: UnixMillis,
}

/// Limits and choices of a shard.
#[derive(Clone, Debug)]
pub struct Options {
    /// Its number, below `shards`.
    pub id: ShardId,
    /// How many shards there are.
    pub shards: u16,
    /// Bytes of output above which a receiver lags and reads on from the journal.
    pub output_bytes: usize,
    /// Receive Maximum announced to clients: QoS 1 and 2 publishes they may have open.
    pub receive_maximum: u16,
    /// Most QoS 1 and 2 messages open towards one client, whatever its Receive Maximum.
    pub max_inflight: u16,
    /// Maximum QoS (§3.2.2.3.4): the highest that is granted to a filter and taken from a publisher.
    pub maximum_qos: QoS,
    /// Topic Alias Maximum announced to clients.
    pub topic_alias_maximum: u16,
    /// Maximum Packet Size announced to clients, bytes.
    pub maximum_packet_bytes: u32,
    /// Longest Session Expiry Interval granted, seconds.
    pub session_expiry_max_s: u32,
    /// Longest Keep Alive granted, seconds; 0: any, also none.
    pub keep_alive_max_s: u16,
    /// Most subscriptions of one session.
    pub max_subscriptions: u32,
    /// Bytes on their way to the journal above which publishers pause.
    pub append_queue_bytes: usize,
    /// Packets of one connection after which others have a turn, at least 1. A filter counts as some of
    /// them, and so does a retained message, or a large packet; acknowledgements do not count, nor do
    /// deliveries: what many get is cheap for each because much of it is written at once.
    pub turn: u64,
    /// How long a position may stay unsaved, milliseconds.
    pub progress_interval_ms: u64,
    /// Who may connect with a Client Identifier that has a session.
    pub takeover: Takeover,
    /// What clients are held to beside that.
    pub bounds: Bounds,
}

/// The shard that owns a client: the same one for each of its connections, so that a takeover
/// stays in one thread.
pub fn shard_of(client_id: &str, shards: u16) -> ShardId {
    (fnv1a(client_id.as_bytes()) % u64::from(shards.max(1))) as ShardId
}

/// FNV-1a, 64 bit: the same on every machine and in every version, unlike the standard hasher.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// What happened.
#[derive(Debug)]
pub enum Input {
    /// The journal has a batch: every batch, in order, to every shard.
    Committed(Arc<Batch>),
    /// The journal takes nothing any more; the text says why. Who waits for it is disconnected.
    JournalPoisoned(Arc<str>),
    /// Another shard says something; in order per sender.
    FromShard {
        /// The sender.
        shard: ShardId,
        /// What it says.
        message: ShardMessage,
    },
    /// The network connection is gone.
    Disconnected {
        /// Which.
        conn: ConnId,
    },
    /// A value of the `$SYS` tree; to every shard.
    System {
        /// A topic that begins with `$SYS/`.
        topic: Arc<str>,
        /// Its value.
        payload: Bytes,
    },
    /// Topic rules that count from now on.
    SetRules(Arc<Rules>),
    /// Rights of users changed, as [`Membership`] says from now on; to every shard.
    AccessChanged(Arc<[AccessChange]>),
    /// A user may not be here any more; to every shard.
    Revoked(Revocation),
    /// The answer to [`Output::Reauthenticate`].
    Reauthenticated {
        /// Which connection.
        conn: ConnId,
        /// What the client proved; `None` if it does not count.
        reproved: Option<Reproved>,
    },
    /// The disk has more, or less, room than before.
    Storage(Room),
    /// What [`Shard::due_ms`] named has come; a tick does as well, but later.
    Due,
    /// Time passed; about every 250 ms.
    Tick,
    /// The broker stops: say so to every client, save positions, close.
    Shutdown,
}

/// What is to be done.
#[derive(Debug)]
pub enum Output {
    /// Hand these to the journal, in order.
    Append(Vec<Append>),
    /// Give this to another shard, in order.
    ToShard {
        /// The receiver.
        shard: ShardId,
        /// What to tell it.
        message: ShardMessage,
    },
    /// [`Shard::outgoing`] has bytes. Said again only after [`Shard::wrote`] emptied it.
    Write {
        /// For which connection.
        conn: ConnId,
    },
    /// Write what is there, as far as the peer takes it soon, close, and answer with
    /// [`Input::Disconnected`].
    Close {
        /// Which connection.
        conn: ConnId,
        /// Why.
        reason: ReasonCode,
    },
    /// Offer the bytes that were not used again, and read on.
    Resume {
        /// Which connection.
        conn: ConnId,
    },
    /// A client shows newer proof of who it is (§4.12.1): judge it, and answer with
    /// [`Input::Reauthenticated`].
    Reauthenticate {
        /// Which connection.
        conn: ConnId,
        /// Who it was.
        user: Arc<str>,
        /// Client Identifier.
        client_id: Arc<str>,
        /// Authentication Data (§3.15.2.2.3): a secret.
        data: Secret,
    },
    /// The end of a timed message's way is in [`Shard::outgoing`], or was written: see
    /// [`Shard::time_next_publish`].
    Timed {
        /// Of which connection.
        conn: ConnId,
        /// Which way.
        way: Way,
        /// When its packet was read.
        read_us: u64,
    },
    /// Something that a log may want to say in one line.
    Event(Event),
}

/// Bytes that no log may show.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub Vec<u8>);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// What is worth a line in a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A client is online.
    Connected {
        /// Client Identifier.
        client_id: Arc<str>,
        /// User, empty for an anonymous one.
        user: Arc<str>,
        /// Protocol version.
        version: Version,
        /// True if Session State was there.
        session_present: bool,
    },
    /// A client is offline.
    Disconnected {
        /// Client Identifier.
        client_id: Arc<str>,
        /// User, empty for an anonymous one.
        user: Arc<str>,
        /// Why.
        reason: ReasonCode,
    },
    /// Somebody came with the Client Identifier of another user's session, and was refused.
    NotTheirs {
        /// Which connection.
        conn: ConnId,
        /// Client Identifier.
        client_id: Arc<str>,
        /// Who came, empty for an anonymous one.
        user: Arc<str>,
    },
    /// Entries that a session had not read were trimmed.
    Trimmed {
        /// Client Identifier.
        client_id: Arc<str>,
        /// First offset that is missing.
        from: Offset,
        /// First offset that is there again.
        to: Offset,
    },
    /// The journal could not be read.
    ReadFailed {
        /// What it said.
        error: String,
    },
}

/// Counters of a shard, since its start unless said otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Clients online now.
    pub connections: u64,
    /// Clients that came online.
    pub connections_total: u64,
    /// Subscriptions of clients online now.
    pub subscriptions: u64,
    /// PUBLISH packets received.
    pub messages_received: u64,
    /// PUBLISH packets written to receivers.
    pub messages_sent: u64,
    /// Messages appended to the journal.
    pub messages_kept: u64,
    /// QoS 0 messages dropped at a full output.
    pub dropped_output_full: u64,
    /// Messages not delivered because they had expired.
    pub dropped_expired: u64,
    /// Messages not delivered because they were above the client's Maximum Packet Size.
    pub dropped_too_large: u64,
    /// Messages not given to the chosen member of a shared subscription, who may not receive them (any more).
    pub dropped_denied: u64,
    /// How often entries were trimmed that a session had not read.
    pub trimmed: u64,
    /// Publishes refused by a topic rule.
    pub refused_publishes: u64,
    /// CONNECTs refused because the Client Identifier has a session of another user.
    pub refused_client_ids: u64,
    /// Connections closed for a protocol error.
    pub protocol_errors: u64,
    /// How often a session began to lag.
    pub lagged: u64,
    /// Sessions that lag now.
    pub lagging: u64,
    /// Sessions that are slow now: see [`Shard::slow`].
    pub slow: u64,
    /// How often limits were reached.
    pub hits: Hits,
}

/// What [`Shard::receive`] did with the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// Bytes used; the rest is to be offered again, with more behind it.
    pub consumed: usize,
    /// What was to be done was enough for one turn: the rest is to be offered again when others had theirs.
    pub more: bool,
    /// Do not read the socket, nor offer anything, before [`Output::Resume`].
    pub paused: bool,
}

/// See the module.
pub struct Shard {
    options: Options,
    journal: Arc<dyn Journal>,
    epoch: Epoch,
    state: Arc<dyn State>,
    rules: Arc<Rules>,
    members: Arc<dyn Membership>,
    names: Option<Arc<dyn Names>>,
    meters: Option<Arc<dyn Meters>>,
    storage: Room,

    started: Now,
    position: Offset,
    sessions: Sessions,
    by_client: HashMap<Arc<str>, ConnId>,
    /// Clients with records of their session that have not come back from the journal.
    unsettled: HashMap<Arc<str>, Unsettled>,
    /// Sessions that are to be forgotten when they are settled, and whose they were.
    to_forget: HashMap<Arc<str>, Arc<str>>,
    /// Openings that wait until everything about their client is settled.
    held_openings: HashMap<Arc<str>, VecDeque<ConnId>>,
    openings: BTreeMap<ConnId, Opening>,
    /// Connections that end by themselves, and when.
    valid_until: HashMap<ConnId, UnixMillis>,
    /// Connections that may show newer proof of who they are.
    extended: HashMap<ConnId, Extended>,

    tree: SubscriptionTree<Subscriber>,
    memo: Memo,
    /// Filters of QoS 1 and 2 of every session with a record.
    wanted: SubscriptionTree<u64>,
    wanted_changes: u64,
    /// How often rules or permissions changed.
    access_changes: u64,
    notices: Notices,
    relays: Relays,
    /// Packets of the message that is being delivered.
    frames: Frames,
    groups: Groups,
    peers: Peers,
    /// Values of the `$SYS` tree.
    system: BTreeMap<Arc<str>, Bytes>,

    batch: Vec<Append>,
    pending: VecDeque<Pending>,
    pending_bytes: usize,
    poisoned: Option<Arc<str>>,
    /// Connections that wait for what a poisoned journal does not take.
    in_vain: Vec<ConnId>,
    shutting_down: bool,

    /// Sessions that may have something to read and room for it.
    readers: VecDeque<ConnId>,
    /// Sessions with QoS 2 exchanges that the journal has to know.
    to_stage: Vec<ConnId>,
    paused: Vec<ConnId>,
    /// Connections that are held to a rate, and until when.
    held: BTreeSet<(u64, ConnId)>,
    /// Filters that connections asked for or gave back; only of those who did lately.
    filters_spent: HashMap<ConnId, Bucket>,
    outputs: VecDeque<Output>,
    last_sweep_ms: u64,
    last_save_ms: u64,
    /// Where the shard was when it last saved also who got nothing; see `upkeep`.
    idle_saved: Offset,
    /// When what is received now was read, if its next PUBLISH is to be timed; else 0.
    read_us: u64,
    stats: Stats,
}

impl Shard {
    /// A shard at the end of the journal, which `state` has been applied to.
    pub fn new(
        options: Options,
        now: Now,
        journal: Arc<dyn Journal>,
        state: Arc<dyn State>,
        rules: Arc<Rules>,
        members: Arc<dyn Membership>,
    ) -> Self {
        let position = journal.end();
        let peers = Peers::new(options.id, options.shards);
        let mut shard = Self {
            options,
            epoch: journal.epoch(),
            journal,
            state,
            rules,
            members,
            names: None,
            meters: None,
            storage: Room::Enough,
            started: now,
            position,
            sessions: Sessions::default(),
            by_client: HashMap::new(),
            unsettled: HashMap::new(),
            to_forget: HashMap::new(),
            held_openings: HashMap::new(),
            openings: BTreeMap::new(),
            valid_until: HashMap::new(),
            extended: HashMap::new(),
            tree: SubscriptionTree::new(),
            memo: Memo::default(),
            wanted: SubscriptionTree::new(),
            wanted_changes: 0,
            access_changes: 0,
            notices: Notices::default(),
            relays: Relays::default(),
            frames: Frames::default(),
            groups: Groups::default(),
            peers,
            system: BTreeMap::new(),
            batch: Vec::new(),
            pending: VecDeque::new(),
            pending_bytes: 0,
            poisoned: None,
            in_vain: Vec::new(),
            shutting_down: false,
            readers: VecDeque::new(),
            to_stage: Vec::new(),
            paused: Vec::new(),
            held: BTreeSet::new(),
            filters_spent: HashMap::new(),
            outputs: VecDeque::new(),
            last_sweep_ms: now.monotonic_ms,
            last_save_ms: now.monotonic_ms,
            idle_saved: position,
            read_us: 0,
            stats: Stats::default(),
        };
        shard.take_stock(now);
        shard
    }

    /// The same, recognising what is sent twice by its `cid`; the table is that of all shards.
    #[must_use]
    pub fn with_names(mut self, names: Arc<dyn Names>) -> Self {
        self.names = Some(names);
        self
    }

    /// The same, holding users and rooms to what these count for all shards.
    #[must_use]
    pub fn with_meters(mut self, meters: Arc<dyn Meters>) -> Self {
        self.meters = Some(meters);
        self
    }

    /// Says what happened. Cheap and never waits; ask [`Shard::poll_output`] afterwards.
    pub fn handle_input(&mut self, now: Now, input: Input) {
        match input {
            Input::Committed(batch) => self.handle_committed(now, &batch),
            Input::JournalPoisoned(cause) => self.handle_poisoned(cause),
            Input::FromShard { shard, message } => self.handle_peer(now, shard, message),
            Input::Disconnected { conn } => self.handle_disconnected(now, conn),
            Input::System { topic, payload } => self.handle_system(now, topic, payload),
            Input::SetRules(rules) => self.handle_rules_changed(now, rules),
            Input::AccessChanged(changes) => self.handle_access_changed(now, &changes),
            Input::Revoked(revocation) => self.handle_revoked(now, &revocation),
            Input::Reauthenticated { conn, reproved } => {
                self.handle_reauthenticated(now, conn, reproved);
            }
            Input::Storage(room) => self.storage = room,
            Input::Due => self.resume_held(now),
            Input::Tick => self.handle_tick(now),
            Input::Shutdown => self.handle_shutdown(now),
        }
        self.end_those_who_wait_in_vain(now);
        self.read_on(now);
    }

    /// What is to be done next; `None` when nothing is. Call it until then after a round of
    /// inputs; once per flush is enough, and calling it more often only makes smaller batches.
    pub fn poll_output(&mut self) -> Option<Output> {
        if let Some(output) = self.outputs.pop_front() {
            return Some(output);
        }
        self.stage_exchanges();
        if !self.batch.is_empty() {
            return Some(Output::Append(std::mem::take(&mut self.batch)));
        }
        let (shard, message) = self.peers.poll(self.position)?;
        Some(Output::ToShard { shard, message })
    }

    /// When the first connection that is held to a rate is to be read again, of the clock that never
    /// jumps; [`Input::Due`] is wanted then. Ask after [`Shard::poll_output`] gave `None`.
    pub fn due_ms(&self) -> Option<u64> {
        self.held.first().map(|(until_ms, _)| *until_ms)
    }

    /// Bytes for a connection, in order; empty if there are none or it is unknown.
    pub fn outgoing(&self, conn: ConnId) -> &[u8] {
        self.sessions.get(conn).map_or(&[], |s| s.out.pending())
    }

    /// The first `bytes` of [`Shard::outgoing`] were written.
    pub fn wrote(&mut self, now: Now, conn: ConnId, bytes: usize) {
        if let Some(session) = self.sessions.get_mut(conn) {
            session.out.wrote(bytes);
            self.notices.wrote(conn, bytes);
            self.wake_reader(conn);
            self.read_on(now);
        }
    }

    /// Clients that are connected, without parts of the broker itself.
    fn clients(&self) -> impl Iterator<Item = &Session> {
        let sessions = self
            .by_client
            .values()
            .filter_map(|conn| self.session(*conn));
        sessions.filter(|session| session.client.identity.kind != IdentityKind::Broker)
    }

    /// Counters.
    pub fn stats(&self) -> Stats {
        Stats {
            connections: self.clients().count() as u64,
            subscriptions: self.subscription_count(),
            lagging: self.lagging_count(),
            slow: self.slow_count(),
            ..self.stats.clone()
        }
    }

    /// The first offset that a connected session still reads; `None` if none lags.
    pub fn lowest_reader(&self) -> Option<Offset> {
        self.lowest_reading()
    }

    /// After [`Input::Shutdown`]: true when the journal has everything and no connection is left.
    pub fn is_quiet(&self) -> bool {
        self.sessions.len() == 0 && self.pending.is_empty() && self.batch.is_empty()
    }

    /// The offset up to which committed entries were handled.
    pub fn position(&self) -> Offset {
        self.position
    }

    fn hit(&mut self, limit: Limit) {
        self.stats.hits.add(limit, 1);
    }

    /// Hands a record to the journal; `pending` says what goes on when it comes back.
    fn append(&mut self, record: Record, pending: Pending) {
        if self.poisoned.is_some() {
            pending.waiting(&mut self.in_vain);
            return;
        }
        if let Record::Session { client_id, change } = &record {
            let unsettled = self.unsettled.entry(client_id.clone()).or_default();
            unsettled.note(change);
        }
        self.pending_bytes += pending.bytes();
        self.pending.push_back(pending);
        self.batch.push(Append {
            shard: self.options.id,
            record,
        });
    }

    /// Appends a message.
    fn append_message(&mut self, published: Arc<Published>, pending: Pending) {
        self.stats.messages_kept += 1;
        self.append(Record::Published(published), pending);
    }

    /// Bytes were put into a connection's output: say so once.
    fn announce(&mut self, conn: ConnId) {
        if let Some(session) = self.sessions.get_mut(conn)
            && !session.out.announced
            && !session.out.pending().is_empty()
        {
            session.out.announced = true;
            self.outputs.push_back(Output::Write { conn });
        }
    }

    /// Writes one packet to a client; nothing follows a DISCONNECT [MQTT-3.14.4-2].
    fn send(&mut self, conn: ConnId, packet: &Packet<'_>) {
        if let Some(session) = self.sessions.get_mut(conn)
            && session.stage != Stage::Closing
        {
            session.write(packet);
            self.announce(conn);
        }
    }

    /// Tells the shell to end a connection whose session has let go.
    fn close_connection(&mut self, conn: ConnId, reason: ReasonCode, text: Option<String>) {
        let Some(session) = self.sessions.get_mut(conn) else {
            return;
        };
        if self.openings.contains_key(&conn) {
            session.write(&Packet::ConnAck(ConnAck::refusal(
                ReasonCode::ServerUnavailable,
            )));
        } else if session.client.version == Version::V5 && reason != ReasonCode::Success {
            let mut disconnect = Disconnect::new(reason);
            disconnect.reason_string = text.filter(|_| session.client.problem_information);
            session.write(&Packet::Disconnect(disconnect));
        }
        self.announce(conn);
        self.outputs.push_back(Output::Close { conn, reason });
    }

    /// Tells the shell to end a connection that was told everything.
    fn close_silently(&mut self, conn: ConnId, reason: ReasonCode) {
        self.outputs.push_back(Output::Close { conn, reason });
    }

    fn session(&self, conn: ConnId) -> Option<&Session> {
        self.sessions.get(conn)
    }

    /// Lets a connection read on when what it waited for has come.
    fn resume(&mut self, conn: ConnId) {
        if let Some(session) = self.sessions.get_mut(conn)
            && std::mem::take(&mut session.paused)
        {
            self.outputs.push_back(Output::Resume { conn });
        }
    }
}
