//! A session whose client is connected: what it is subscribed to, where it reads, which exchanges
//! are unfinished, and the bytes that wait for its socket.
//!
//! A session is filters plus a position. While `reading` is `Live` its position is the shard's and
//! messages come as they are published; while it is `Lagging` it reads on from the journal. A
//! session that outlives its connection is a [`SessionRecord`](crate::state::SessionRecord) when
//! nobody is connected, and is not here. There is one for each idle connection, so it is small:
//! maps that are empty take little, what few sessions have is boxed.
//!
//! This module does not know topics' rules, other sessions, or the journal.

pub(crate) mod content;
pub(crate) mod frames;
pub(crate) mod outbox;
mod queue;
pub(crate) mod window;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::codec::{
    Ack, Disconnect, Outgoing, Packet, ReasonCode, RetainHandling, SubAck, Version, encode,
    encode_publish, publish_len,
};
use crate::journal::{Published, ReadEntry};
use crate::limits::{Flow, Limit};
use crate::message::{Cursor, Epoch, Offset, Publisher, QoS, UnixMillis};
use crate::messages::Kind;
use crate::rules::{Identity, Relay};
use crate::state::{SubscriptionRecord, WillRecord};
use crate::topic::ReplayFrom;
use content::Content;
use frames::Frames;
use outbox::Outbox;
use queue::RareQueue;
use window::{Origin, Window};

/// Topic Aliases towards one client: more would only take memory, the savings are in the first.
const MAX_OUTBOUND_ALIASES: u16 = 64;

/// What is known of the topic that a client published on last: publishers tend to repeat it.
#[derive(Debug)]
pub(crate) struct Route {
    pub topic: Arc<str>,
    pub stream: Arc<str>,
    /// Who the client is to receivers.
    pub publisher: Option<Publisher>,
    pub history: bool,
    /// The room that it belongs to, where rooms are held to a rate.
    pub room: Option<Arc<str>>,
    /// The limit that the topic itself is over: then nobody may publish on it.
    pub over: Option<Limit>,
    /// The client may publish on it...
    pub allowed: bool,
    /// ...at the pace of this room, if there is one...
    pub paced_by: Option<Arc<str>>,
    /// ...and it has this stream, history and handling, as of this many changes of rules and
    /// permissions.
    pub access_as_of: u64,
    /// What its rule does with messages beside delivering them.
    pub handling: Option<Box<Handling>>,
    /// What is published on it: a message, or a change of one...
    pub kind: Kind,
    /// ...and the client may recall what others said there, as of as many changes.
    pub moderates: bool,
    /// A session with a record wants its messages at QoS 1 or 2...
    pub wanted: bool,
    /// ...as of this many changes of such filters.
    pub wanted_as_of: u64,
}

/// What few rules do with messages.
#[derive(Clone, Debug)]
pub(crate) enum Handling {
    /// They are of interest now or never.
    Relay(Relay),
    /// They are numbers of this stream, and the largest is retained.
    Grows(Arc<str>),
}

/// A publisher that is held to a rate.
#[derive(Debug, Default)]
pub(crate) struct Held {
    pub flow: Flow,
    /// Since when it waits for what its user sends on other connections.
    pub waits_since_ms: Option<u64>,
    /// Its user is so far over a rate that publishes are refused: milliseconds to wait.
    pub refusing_ms: Option<u64>,
}

/// Topic Aliases of one connection (§3.3.2.3.4).
#[derive(Debug, Default)]
pub(crate) struct Aliases {
    /// Those that the client uses.
    pub inbound: BTreeMap<u16, Arc<str>>,
    outbound: BTreeMap<Arc<str>, u16>,
}

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// CONNECT was accepted; its session is being opened, CONNACK not sent.
    Attaching,
    /// CONNACK was sent.
    Online,
    /// The session let go; only bytes remain to be written.
    Closing,
}

/// Where the session reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    /// At the shard's position.
    Live,
    /// Behind it: every entry before the offset was handed to the client.
    Lagging(Offset),
}

/// One subscription of a connected session.
#[derive(Clone, Debug)]
pub(crate) struct Subscription {
    /// As the client wrote it, without `$replay/...`.
    pub filter: Arc<str>,
    pub qos: QoS,
    pub no_local: bool,
    pub retain_as_published: bool,
    pub subscription_id: Option<u32>,
    pub since: Offset,
    pub shared: bool,
    /// Which membership of a shared subscription it is: a client may leave and join again.
    pub membership: u64,
    /// Its messages are told with the position after them, and kept ones come in their order at any
    /// QoS: from a full output on they are read from the journal.
    pub cursor: bool,
    /// History is being read at QoS 0, and new messages that are kept come from there until it has
    /// caught up. (At QoS 1 and 2 the session lags meanwhile.)
    pub replaying: bool,
}

impl Subscription {
    pub fn record(&self) -> SubscriptionRecord {
        SubscriptionRecord {
            filter: self.filter.clone(),
            qos: self.qos,
            no_local: self.no_local,
            retain_as_published: self.retain_as_published,
            subscription_id: self.subscription_id,
            since: self.since,
            cursor: self.cursor,
        }
    }
}

/// Something that a new subscription still has to get before it is only live.
#[derive(Debug)]
pub(crate) enum CatchUp {
    /// Retained messages set before `before`.
    Retained {
        subscription: u32,
        topics: VecDeque<Arc<str>>,
        before: Offset,
    },
    /// History of a `$replay` subscription before `end`.
    Replay {
        subscription: u32,
        from: ReplayFrom,
        next: Offset,
        end: Offset,
        page: VecDeque<ReadEntry>,
        page_next: Offset,
    },
    /// What the filters of a SUBSCRIBE missed since their cursor.
    After(After),
}

/// Kept messages between the cursors of a SUBSCRIBE and the place from which its filters are live,
/// those of all its filters together and in their order.
#[derive(Debug)]
pub(crate) struct After {
    /// Each subscription, and where it begins.
    pub subscriptions: Vec<(u32, Offset)>,
    pub next: Offset,
    pub end: Offset,
    pub page: VecDeque<ReadEntry>,
    pub page_next: Offset,
    /// The client knows that entries before this one may be missing.
    pub gap_told: Offset,
}

impl CatchUp {
    /// The subscription has ended; false if nothing is left to do.
    fn drop_subscription(&mut self, key: u32) -> bool {
        match self {
            Self::Retained { subscription, .. } | Self::Replay { subscription, .. } => {
                *subscription != key
            }
            Self::After(after) => {
                after.subscriptions.retain(|(of, _)| *of != key);
                !after.subscriptions.is_empty()
            }
        }
    }
}

/// Where a new subscription begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Beginning {
    /// Here, with what is retained.
    Here,
    /// At some of the history.
    History(ReplayFrom),
    /// After a position; `None`: here, and its messages are told with a cursor.
    Cursor(Option<Offset>),
}

impl Beginning {
    /// The position after which it begins, if it says one, or this one.
    pub fn cursor_or(self, here: Offset) -> Offset {
        match self {
            Self::Cursor(Some(from)) => from,
            _ => here,
        }
    }
}

/// What a receiver is told of the position after a message. It is always told when it asked, so that
/// a User Property of the publisher is never taken for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CursorMark {
    /// It did not ask.
    Untold,
    /// The message is not kept, and has none.
    NotKept,
    /// The position.
    At(Cursor),
}

impl CursorMark {
    /// The mark of a message for who asked, or not.
    pub fn new(asked: bool, epoch: Epoch, place: Option<Offset>) -> Self {
        match place {
            _ if !asked => Self::Untold,
            None => Self::NotKept,
            Some(place) => {
                let offset = place.next();
                Self::At(Cursor { epoch, offset })
            }
        }
    }
}

/// One filter of a SUBSCRIBE on its way to become a subscription.
#[derive(Debug)]
pub(crate) struct NewSubscription {
    pub subscription: Subscription,
    pub beginning: Beginning,
    pub retain_handling: RetainHandling,
}

/// A SUBSCRIBE that is not answered yet.
#[derive(Debug)]
pub(crate) struct Subscribing {
    pub packet_id: u16,
    /// The journal has it, or need not.
    pub settled: bool,
    pub reasons: Vec<ReasonCode>,
    /// Why a filter was refused, where the code does not say it.
    pub why: Option<&'static str>,
    pub new: Vec<NewSubscription>,
}

impl Subscribing {
    /// True if history comes first, of which nothing may be lost.
    pub fn has_history(&self) -> bool {
        self.new.iter().any(|new| match new.beginning {
            Beginning::Here | Beginning::Cursor(None) => false,
            Beginning::History(_) => new.subscription.qos != QoS::AtMostOnce,
            Beginning::Cursor(Some(_)) => true,
        })
    }
}

/// An inbound QoS 2 exchange (§4.3.3, receiver).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Inbound {
    /// Waits for the journal; PUBREC not sent.
    Storing,
    /// PUBREC sent; the identifier is in the journal if `durable`.
    Received { durable: bool },
    /// PUBREL came; its record waits for the journal, PUBCOMP not sent.
    Releasing,
}

/// A QoS 2 PUBLISH that waits until the journal knows its Packet Identifier, or a QoS 1 PUBLISH
/// behind one.
#[derive(Debug)]
pub(crate) struct Staged {
    pub packet_id: u16,
    pub qos: QoS,
    pub published: Arc<Published>,
    pub retain: bool,
    pub subscription_ids: Box<[u32]>,
    pub cursor: CursorMark,
}

/// A message for the client of a session.
#[derive(Debug)]
pub(crate) struct Offer<'a> {
    pub content: Content<'a>,
    pub offset: Option<Offset>,
    /// QoS of the delivery: the smaller of the message's and the subscription's.
    pub qos: QoS,
    pub retain: bool,
    pub subscription_ids: &'a [u32],
    pub origin: Origin,
    pub cursor: CursorMark,
}

/// What became of an [`Offer`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Offered {
    /// It is in the output, or will be as soon as the journal has the identifier.
    Sent,
    /// It is not for this client.
    Dropped,
    /// It is not for anyone any more (§3.3.2.3.3).
    Expired,
    /// It is larger than the client's Maximum Packet Size [MQTT-3.1.2-25].
    TooLarge,
    /// The window or the output has no room.
    Full,
}

/// What a client said about itself in CONNECT, as far as delivery needs it.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    pub id: Arc<str>,
    pub identity: Identity,
    pub version: Version,
    pub maximum_packet_size: usize,
    pub topic_alias_maximum: u16,
    pub problem_information: bool,
}

/// A session with a connected client.
#[derive(Debug)]
pub(crate) struct Session {
    pub client: Client,
    pub stage: Stage,
    /// The session has a record in the journal: it outlives this connection, or did.
    pub persistent: bool,
    pub expiry_s: u32,
    pub will: Option<Box<WillRecord>>,
    /// Seconds; 0: none.
    pub keep_alive_s: u16,
    pub last_received_ms: u64,

    pub subscriptions: BTreeMap<u32, Subscription>,
    by_filter: BTreeMap<Arc<str>, u32>,
    next_subscription: u32,
    /// Plain filters of QoS 1 and 2, as the journal is asked for them; made anew when they change.
    journal_filters: Option<Arc<[Arc<str>]>>,

    pub reading: Reading,
    pub page: RareQueue<ReadEntry>,
    pub page_next: Offset,
    /// Messages on their way to the journal because this session was full.
    pub spills: u32,
    pub catch_ups: RareQueue<CatchUp>,
    /// SUBSCRIBEs on their way whose history comes before anything new.
    pub histories_to_come: usize,
    /// First and one after the last offset that were trimmed before they were read.
    pub trimmed: Option<Box<(Offset, Offset)>>,
    /// Shared subscriptions that were told "no room" and wait to hear otherwise.
    pub refused_groups: RareQueue<Arc<str>>,

    pub window: Window,
    pub staged: Vec<Staged>,
    /// Staged, or on their way to the journal: later messages wait behind them.
    pub staging: usize,
    /// PUBRELs that wait until the journal knows the PUBREC.
    pub staged_releases: Vec<u16>,
    /// Delivery moved on since the last record of it.
    pub progressed: bool,

    pub subscribing: RareQueue<Subscribing>,
    /// A SUBSCRIBE waits until the shard has come so far.
    pub subscribes_from: Option<Offset>,
    /// An UNSUBSCRIBE waits for the journal.
    pub unsubscribing: bool,
    pub inbound: BTreeMap<u16, Inbound>,
    /// Those of `inbound` that an earlier connection began: each connection has a full quota (§4.9).
    pub inbound_before: Vec<u16>,
    /// QoS 1 publishes and other records that wait for the journal.
    pub uncommitted: u32,
    /// QoS 1 publishes without PUBACK.
    pub unacknowledged: u32,
    /// Number of the last batch forwarded to other shards with a message of this session.
    pub last_forward: u64,
    pub route: Option<Box<Route>>,
    pub aliases: Option<Box<Aliases>>,

    /// What it published, if publishers are held to a rate.
    pub held: Option<Box<Held>>,
    /// Since when it takes less than there is for it, on the clock of keep alive; 0: it does not.
    pub slow_since_ms: u64,
    pub out: Outbox,
    /// The shell holds bytes back until told to go on.
    pub paused: bool,
    /// Stands in the shard's queue of sessions that may have something to read.
    pub queued: bool,
}

impl Session {
    pub fn new(client: Client, window_limit: u16, now_ms: u64) -> Self {
        Self {
            client,
            stage: Stage::Attaching,
            persistent: false,
            expiry_s: 0,
            will: None,
            keep_alive_s: 0,
            last_received_ms: now_ms,
            subscriptions: BTreeMap::new(),
            by_filter: BTreeMap::new(),
            next_subscription: 0,
            journal_filters: None,
            reading: Reading::Live,
            page: RareQueue::new(),
            page_next: Offset(0),
            spills: 0,
            catch_ups: RareQueue::new(),
            histories_to_come: 0,
            trimmed: None,
            refused_groups: RareQueue::new(),
            window: Window::new(window_limit),
            staged: Vec::new(),
            staging: 0,
            staged_releases: Vec::new(),
            progressed: false,
            subscribing: RareQueue::new(),
            subscribes_from: None,
            unsubscribing: false,
            inbound: BTreeMap::new(),
            inbound_before: Vec::new(),
            uncommitted: 0,
            unacknowledged: 0,
            last_forward: 0,
            route: None,
            aliases: None,
            held: None,
            slow_since_ms: 0,
            out: Outbox::default(),
            paused: false,
            queued: false,
        }
    }

    /// Adds or replaces a subscription; gives its key and the one it replaced.
    pub fn subscribe(&mut self, new: Subscription) -> (u32, Option<Subscription>) {
        self.journal_filters = None;
        let key = match self.by_filter.entry(new.filter.clone()) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(place) => {
                let key = self.next_subscription;
                self.next_subscription = key.wrapping_add(1);
                *place.insert(key)
            }
        };
        (key, self.subscriptions.insert(key, new))
    }

    pub fn find_subscription(&self, filter: &str) -> Option<(u32, &Subscription)> {
        let key = *self.by_filter.get(filter)?;
        Some((key, self.subscriptions.get(&key)?))
    }

    pub fn unsubscribe(&mut self, filter: &str) -> Option<(u32, Subscription)> {
        let key = self.by_filter.remove(filter)?;
        self.journal_filters = None;
        self.forget_catch_ups(key);
        Some((key, self.subscriptions.remove(&key)?))
    }

    /// Nothing more is to be caught up with for a subscription.
    pub fn forget_catch_ups(&mut self, key: u32) {
        self.catch_ups.retain(|c| c.drop_subscription(key));
    }

    /// The history of a `$replay` subscription has been read up to `since`.
    pub fn replay_caught_up(&mut self, key: u32, since: Offset) {
        self.journal_filters = None;
        if let Some(subscription) = self.subscriptions.get_mut(&key) {
            subscription.replaying = false;
            subscription.since = since;
        }
    }

    /// The filters whose messages this session reads from the journal when it lags.
    pub fn journal_filters(&mut self) -> Arc<[Arc<str>]> {
        self.journal_filters
            .get_or_insert_with(|| {
                self.subscriptions
                    .values()
                    .filter(|s| !s.shared && (s.qos != QoS::AtMostOnce || s.cursor))
                    .map(|s| s.filter.clone())
                    .collect()
            })
            .clone()
    }

    /// True if the window and the output take at least one more message.
    pub fn has_room(&self, output_bytes: usize) -> bool {
        self.window.has_room() && self.out.has_room(output_bytes)
    }

    /// True if the exchange must be durable before its packet leaves, because the session may be
    /// taken up again after a crash; or if it has to wait behind such a one.
    fn must_stage(&self, offer: &Offer<'_>) -> bool {
        let durable = self.persistent && offer.qos == QoS::ExactlyOnce && offer.offset.is_some();
        durable || self.staging > 0
    }

    /// An inbound QoS 2 exchange is over.
    pub fn inbound_finished(&mut self, packet_id: u16) {
        self.inbound.remove(&packet_id);
        self.inbound_before.retain(|id| *id != packet_id);
    }

    /// QoS 1 and 2 publishes of this connection that are not finished.
    pub fn open_publishes(&self) -> usize {
        self.inbound.len() - self.inbound_before.len() + self.unacknowledged as usize
    }

    /// Hands a message to the client, if there is room. With `frames`, its packet is shared with
    /// other receivers of the same message.
    pub fn offer(
        &mut self,
        now: UnixMillis,
        output_bytes: usize,
        offer: Offer<'_>,
        frames: Option<&mut Frames>,
    ) -> Offered {
        let content = offer.content;
        if content.expires_at().is_some_and(|end| end <= now) {
            return Offered::Expired;
        }
        if !self.out.has_room(output_bytes) {
            return Offered::Full;
        }
        if offer.qos == QoS::AtMostOnce {
            return self.write_offer(now, &offer, 0, frames);
        }
        if !self.window.has_room() {
            return Offered::Full;
        }
        if self.client.maximum_packet_size < usize::MAX
            && self.publish_len(now, &offer) > self.client.maximum_packet_size
        {
            return Offered::TooLarge;
        }
        let staged = self.must_stage(&offer);
        let packet_id = self
            .window
            .start(offer.qos, offer.offset, offer.origin.clone());
        self.progressed |= offer.offset.is_some();
        if staged {
            self.staging += 1;
            self.staged.push(Staged {
                packet_id,
                qos: offer.qos,
                published: content.to_shared(),
                retain: offer.retain,
                subscription_ids: offer.subscription_ids.into(),
                cursor: offer.cursor,
            });
            return Offered::Sent;
        }
        self.write_offer(now, &offer, packet_id, frames)
    }

    fn write_offer(
        &mut self,
        now: UnixMillis,
        offer: &Offer<'_>,
        packet_id: u16,
        frames: Option<&mut Frames>,
    ) -> Offered {
        let (version, maximum) = (self.client.version, self.client.maximum_packet_size);
        let frames = frames.filter(|_| self.takes_shared_frames(offer));
        if let Some(frame) = frames
            .as_ref()
            .and_then(|frames| frames.find(version, offer.qos, offer.retain, offer.cursor))
            .filter(|frame| frame.len() <= maximum)
        {
            frame.append(packet_id, self.out.buffer());
            return Offered::Sent;
        }
        let start = self.out.buffer().len();
        let offered = self.write_publish(
            now,
            offer.content,
            packet_id,
            offer.qos,
            false,
            offer.retain,
            offer.subscription_ids,
            offer.cursor,
        );
        if offered == Offered::Sent
            && let Some(frames) = frames
            && let Some(frame) = self.out.buffer().get(start..)
        {
            frames.remember(version, offer.qos, offer.retain, offer.cursor, frame);
        }
        offered
    }

    /// True if nothing in the PUBLISH is for this client alone, but the Packet Identifier.
    fn takes_shared_frames(&self, offer: &Offer<'_>) -> bool {
        self.client.topic_alias_maximum == 0
            && self.trimmed.is_none()
            && offer.subscription_ids.is_empty()
    }

    fn publish_len(&self, now: UnixMillis, offer: &Offer<'_>) -> usize {
        let (content, qos, subscription_ids) = (offer.content, offer.qos, offer.subscription_ids);
        let metadata = Metadata::of(self, content, offer.cursor);
        let extra = metadata.as_pairs();
        publish_len(
            self.client.version,
            &Outgoing {
                topic: content.topic(),
                payload: content.payload(),
                qos,
                dup: false,
                retain: false,
                packet_id: u16::from(qos != QoS::AtMostOnce),
                properties: content.properties(),
                message_expiry_s: remaining_expiry_s(now, content),
                topic_alias: None,
                subscription_ids,
                extra_user: &extra,
            },
        )
    }

    /// Encodes a PUBLISH straight into the output.
    #[expect(
        clippy::too_many_arguments,
        reason = "the fields of one PUBLISH, named at each call"
    )]
    pub fn write_publish(
        &mut self,
        now: UnixMillis,
        content: Content<'_>,
        packet_id: u16,
        qos: QoS,
        dup: bool,
        retain: bool,
        subscription_ids: &[u32],
        cursor: CursorMark,
    ) -> Offered {
        let (topic, topic_alias) = self.outbound_alias(content.topic());
        let metadata = Metadata::of(self, content, cursor);
        let extra = metadata.as_pairs();
        let outgoing = Outgoing {
            topic: if topic { content.topic() } else { "" },
            payload: content.payload(),
            qos,
            dup,
            retain,
            packet_id,
            properties: content.properties(),
            message_expiry_s: remaining_expiry_s(now, content),
            topic_alias,
            subscription_ids,
            extra_user: &extra,
        };
        if self.client.maximum_packet_size < usize::MAX
            && publish_len(self.client.version, &outgoing) > self.client.maximum_packet_size
        {
            return Offered::TooLarge;
        }
        if let Some(alias) = topic_alias
            && topic
        {
            let aliases = self.aliases.get_or_insert_default();
            aliases.outbound.insert(content.topic().clone(), alias);
        }
        encode_publish(self.client.version, &outgoing, self.out.buffer());
        self.trimmed = None;
        Offered::Sent
    }

    /// Whether the topic itself is to be written, and the alias that stands for it (§3.3.2.3.4).
    fn outbound_alias(&self, topic: &str) -> (bool, Option<u16>) {
        let maximum = self.client.topic_alias_maximum.min(MAX_OUTBOUND_ALIASES);
        if maximum == 0 {
            return (true, None);
        }
        let known = self.aliases.as_ref().map(|aliases| &aliases.outbound);
        if let Some(&alias) = known.and_then(|known| known.get(topic)) {
            return (false, Some(alias));
        }
        let next = u16::try_from(known.map_or(0, BTreeMap::len))
            .unwrap_or(u16::MAX)
            .saturating_add(1);
        (true, (next <= maximum).then_some(next))
    }

    /// Encodes any packet but PUBLISH into the output. What would make it larger than the client
    /// takes is left out: Reason String and User Properties ([MQTT-3.4.2-2], [MQTT-3.14.2-3]).
    pub fn write(&mut self, packet: &Packet<'_>) {
        let (version, maximum) = (self.client.version, self.client.maximum_packet_size);
        let out = self.out.buffer();
        let start = out.len();
        encode(version, packet, out);
        if out.len() - start <= maximum {
            return;
        }
        out.truncate(start);
        if let Some(shorter) = without_explanation(packet) {
            encode(version, &shorter, out);
        }
        // Not even that: a client that takes no answer at all gets none [MQTT-3.1.2-24].
        if out.len() - start > maximum {
            out.truncate(start);
        }
    }

    /// An acknowledgement; User Properties go only to who asked for problem information
    /// [MQTT-3.1.2-29].
    pub fn ack(&self, packet_id: u16, reason: ReasonCode, user: Vec<(String, String)>) -> Ack {
        let mut ack = Ack::new(packet_id, reason);
        if self.client.problem_information {
            ack.user = user;
        }
        ack
    }
}

/// The packet without what only explains it, for a client that takes small packets.
fn without_explanation<'a>(packet: &Packet<'a>) -> Option<Packet<'a>> {
    let ack = |ack: &Ack| Ack::new(ack.packet_id, ack.reason);
    Some(match packet {
        Packet::PubAck(full) => Packet::PubAck(ack(full)),
        Packet::PubRec(full) => Packet::PubRec(ack(full)),
        Packet::PubRel(full) => Packet::PubRel(ack(full)),
        Packet::PubComp(full) => Packet::PubComp(ack(full)),
        Packet::Disconnect(full) => Packet::Disconnect(Disconnect::new(full.reason)),
        Packet::SubAck(full) => Packet::SubAck(SubAck {
            packet_id: full.packet_id,
            reasons: full.reasons.clone(),
            reason_string: None,
            user: Vec::new(),
        }),
        _ => return None,
    })
}

/// Remaining lifetime in seconds, rounded up, so that it is never 0 before it ends
/// (§3.3.2.3.3, [MQTT-3.3.2-6]); never more than the publisher gave it, whatever the clock does.
fn remaining_expiry_s(now: UnixMillis, content: Content<'_>) -> Option<u32> {
    let end = content.expires_at()?;
    let seconds = end.saturating_sub(now).div_ceil(1000).max(1);
    let seconds = u32::try_from(seconds).unwrap_or(u32::MAX);
    Some(
        content
            .expiry_s()
            .map_or(seconds, |given| seconds.min(given.max(1))),
    )
}

/// What MQTT 5 receivers are told beside the publisher's own User Properties: place and time of a
/// message in its stream, and a gap before it. Empty for others and for messages without history.
struct Metadata<'a> {
    /// `seq`, `id`, `ts` and `from`, for a message with history.
    place: Option<(String, String, String, &'a str)>,
    trimmed: Option<String>,
    cursor: Option<String>,
}

impl<'a> Metadata<'a> {
    fn of(session: &Session, content: Content<'a>, cursor: CursorMark) -> Self {
        if session.client.version != Version::V5 {
            return Self {
                place: None,
                trimmed: None,
                cursor: None,
            };
        }
        let place = content.with_history().map(|published| {
            (
                published.seq.0.to_string(),
                message_id(published),
                published.message.time.to_string(),
                &*published.message.publisher.user,
            )
        });
        Self {
            place,
            trimmed: session
                .trimmed
                .as_deref()
                .map(|(from, to)| format!("{from}-{to}")),
            cursor: match cursor {
                CursorMark::Untold => None,
                CursorMark::NotKept => Some(String::new()),
                CursorMark::At(cursor) => Some(cursor.to_string()),
            },
        }
    }

    #[inline]
    fn as_pairs(&self) -> Vec<(&str, &str)> {
        let mut pairs = Vec::new();
        if let Some((seq, id, ts, from)) = &self.place {
            pairs.extend([
                ("seq", &**seq),
                ("id", &**id),
                ("ts", &**ts),
                ("from", *from),
            ]);
        }
        if let Some(trimmed) = &self.trimmed {
            pairs.push(("trimmed", trimmed.as_str()));
        }
        if let Some(cursor) = &self.cursor {
            pairs.push(("cursor", cursor.as_str()));
        }
        pairs
    }
}

/// Identity of a message for people and programs: its stream and number.
pub(crate) fn message_id(published: &Published) -> String {
    format!("{}/{}", published.stream, published.seq.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Allocators round up, this one to 640 bytes beyond 512; there is one for each idle connection.
    #[test]
    fn a_session_takes_no_more_than_512_bytes() {
        let size = size_of::<Session>();
        assert!(size <= 512, "{size}");
    }
}
