//! A shard in memory with clients around it: what they send goes in, what comes out is read and
//! answered, as sockets and an instant disk would do it, and only the shard's own work counts.
//!
//! One turn is as in a shard thread: all clients that have sent something are read, then one flush
//! takes everything that is to be written.

use std::sync::Arc;

use tidings_bridge::journal::memory::MemoryWriter;
use tidings_bridge::journal::retention::Retention;
use tidings_bridge::state::MemoryState;
use tidings_config::Settings;
use tidings_core::codec::{
    Ack, Connect, ConnectProperties, Packet, Publish, PublishProperties, ReasonCode,
    RetainHandling, Subscribe, SubscribeFilter, Version, decode, encode,
};
use tidings_core::journal::{Append, Journal};
use tidings_core::message::{Epoch, QoS};
use tidings_core::rules::{Identity, OpenRooms};
use tidings_core::shard::{ConnId, ConnectRequest, Input, Now, Options, Output, Shard, Takeover};
use tidings_core::state::State;

use crate::case::{Aside, Meter};
use crate::topic_rules;

/// Bytes on their way to the journal: more than any round has, so that no publisher pauses.
const APPEND_QUEUE_BYTES: usize = 1 << 30;

/// What a client is, and what it subscribes.
#[derive(Clone)]
pub struct Login {
    /// Protocol version.
    pub version: Version,
    /// Its session outlives the connection, so that what it is to get is kept.
    pub persistent: bool,
    /// Filters.
    pub filters: Vec<String>,
    /// QoS asked for.
    pub qos: QoS,
}

/// See the module.
pub struct Traffic {
    shard: Shard,
    now: Now,
    journal: MemoryWriter,
    state: Arc<MemoryState>,
    clients: Vec<Client>,
    /// By slot of the connection: place in `clients`.
    by_slot: Vec<usize>,
    appends: Vec<Append>,
}

struct Client {
    conn: ConnId,
    version: Version,
    inbox: Vec<u8>,
    delivered: u64,
}

/// Bytes that a client sends.
pub type Burst = (usize, Vec<u8>);

impl Traffic {
    /// A shard as it is configured without a configuration, with these clients online.
    pub fn new(logins: &[Login]) -> Self {
        let settings = Settings::default();
        let now = Now {
            monotonic_ms: 1_000,
            unix_ms: 1_700_000_000_000,
        };
        let options = Options {
            id: 0,
            shards: 1,
            output_bytes: settings.limits.output_bytes_per_connection,
            receive_maximum: settings.mqtt.receive_maximum,
            max_inflight: settings.mqtt.max_inflight_out,
            maximum_qos: QoS::ExactlyOnce,
            topic_alias_maximum: 10,
            maximum_packet_bytes: settings.mqtt.max_packet_bytes,
            session_expiry_max_s: u32::MAX,
            keep_alive_max_s: 0,
            max_subscriptions: 1000,
            append_queue_bytes: APPEND_QUEUE_BYTES,
            turn: 256,
            progress_interval_ms: 1000,
            takeover: Takeover::ByItsUser,
            bounds: tidings_core::limits::Bounds::default(),
        };
        let journal = MemoryWriter::new(Epoch(1));
        let state = Arc::new(MemoryState::new());
        let shard = Shard::new(
            options,
            now,
            journal.journal().clone(),
            state.clone(),
            topic_rules::shipped(),
            Arc::new(OpenRooms),
        );
        let mut traffic = Self {
            shard,
            now,
            journal,
            state,
            clients: Vec::with_capacity(logins.len()),
            by_slot: Vec::new(),
            appends: Vec::new(),
        };
        for (number, login) in logins.iter().enumerate() {
            traffic.connect(number, login);
        }
        traffic
    }

    fn connect(&mut self, number: usize, login: &Login) {
        let client_id: Arc<str> = format!("client-{number}").into();
        let connect = Connect {
            version: login.version,
            client_id: &client_id,
            clean_start: !login.persistent,
            keep_alive_s: 0,
            username: None,
            password: None,
            will: None,
            properties: ConnectProperties {
                session_expiry_s: login.persistent.then_some(3600),
                ..ConnectProperties::default()
            },
        };
        let identity = Identity::anonymous();
        let id = client_id.clone();
        let request = ConnectRequest::from_packet(&connect, id, false, identity, self.now);
        let conn = self.shard.open(self.now, request);
        if self.by_slot.len() <= conn.slot() {
            self.by_slot.resize(conn.slot() + 1, usize::MAX);
        }
        self.by_slot[conn.slot()] = number;
        self.clients.push(Client {
            conn,
            version: login.version,
            inbox: Vec::new(),
            delivered: 0,
        });
        let mut meter = Meter::resting();
        self.turn(&mut meter, &[]);
        self.settle(&mut meter);
        if login.filters.is_empty() {
            return;
        }
        let filter = |filter: &String| SubscribeFilter {
            filter: filter.clone(),
            qos: login.qos,
            no_local: false,
            retain_as_published: false,
            retain_handling: RetainHandling::SendAtSubscribe,
        };
        let subscribe = Packet::Subscribe(Subscribe {
            packet_id: 1,
            subscription_id: None,
            user: Vec::new(),
            filters: login.filters.iter().map(filter).collect(),
        });
        let mut bytes = Vec::new();
        encode(login.version, &subscribe, &mut bytes);
        self.turn(&mut meter, &[(number, bytes)]);
        self.settle(&mut meter);
    }

    /// Clients send this; everything that follows is done. Gives the messages that arrived.
    pub fn round(&mut self, meter: &mut Meter, bursts: &[Burst]) -> u64 {
        self.turn(meter, bursts);
        self.settle(meter);
        self.forget_journal();
        let delivered = |client: &mut Client| std::mem::take(&mut client.delivered);
        self.clients.iter_mut().map(delivered).sum()
    }

    /// Messages that went to the journal so far.
    pub fn kept(&self) -> u64 {
        self.shard.stats().messages_kept
    }

    /// Reads from clients, then flushes.
    fn turn(&mut self, meter: &mut Meter, bursts: &[Burst]) {
        meter.count(|aside| {
            for (client, bytes) in bursts {
                let conn = self.clients[*client].conn;
                let mut bytes = &bytes[..];
                loop {
                    let received = self.shard.receive(self.now, conn, bytes);
                    bytes = &bytes[received.consumed..];
                    if !received.more {
                        assert!(
                            bytes.is_empty() && !received.paused,
                            "a shard that has no reason to wait uses everything"
                        );
                        break;
                    }
                }
            }
            self.flush(aside);
        });
    }

    /// Commits and answers until nothing is left.
    fn settle(&mut self, meter: &mut Meter) {
        loop {
            if !self.appends.is_empty() {
                let batch = self.journal.commit(std::mem::take(&mut self.appends));
                self.state.apply(&batch);
                meter.count(|aside| {
                    self.shard.handle_input(self.now, Input::Committed(batch));
                    self.flush(aside);
                });
            }
            let answers: Vec<Burst> = self
                .clients
                .iter_mut()
                .enumerate()
                .filter(|(_, client)| !client.inbox.is_empty())
                .map(|(number, client)| (number, client.answer()))
                .filter(|(_, bytes)| !bytes.is_empty())
                .collect();
            if !answers.is_empty() {
                self.turn(meter, &answers);
            } else if self.appends.is_empty() {
                return;
            }
        }
    }

    fn flush(&mut self, aside: Aside) {
        while let Some(output) = self.shard.poll_output() {
            match output {
                Output::Write { conn } => self.write(aside, conn),
                Output::Append(appends) => aside.run(|| self.appends.extend(appends)),
                Output::Event(event) => aside.run(|| drop(event)),
                Output::Timed { .. } => panic!("nothing is timed"),
                Output::Resume { .. } => {}
                Output::Close { reason, .. } => panic!("a client was sent away: {reason:?}"),
                Output::Reauthenticate { .. } => panic!("nobody came with a method"),
                Output::ToShard { .. } => panic!("there is one shard"),
            }
        }
    }

    /// A socket that takes everything.
    fn write(&mut self, aside: Aside, conn: ConnId) {
        loop {
            let bytes = self.shard.outgoing(conn);
            let len = bytes.len();
            if len == 0 {
                return;
            }
            aside.run(|| {
                let client = self.by_slot[conn.slot()];
                self.clients[client].inbox.extend_from_slice(bytes);
            });
            self.shard.wrote(self.now, conn, len);
        }
    }

    /// What everybody has read takes no memory.
    fn forget_journal(&self) {
        let journal = self.journal.journal();
        let end = journal.end();
        if journal.start() < end {
            journal.trim(&Retention {
                keep_from: end,
                snapshot: end,
                now: self.now.unix_ms,
                history: Arc::new(|_| None),
                max_backlog_bytes: None,
            });
        }
    }
}

impl Client {
    /// Reads what came and acknowledges it.
    fn answer(&mut self) -> Vec<u8> {
        let mut answer = Vec::new();
        let mut rest = self.inbox.as_slice();
        while let Some((packet, used)) =
            decode(Some(self.version), rest, usize::MAX).expect("the shard speaks MQTT")
        {
            let ack = |id| Ack::new(id, ReasonCode::Success);
            let reply = match packet {
                Packet::Publish(publish) => {
                    self.delivered += 1;
                    match (publish.qos, publish.packet_id) {
                        (QoS::AtLeastOnce, Some(id)) => Some(Packet::PubAck(ack(id))),
                        (QoS::ExactlyOnce, Some(id)) => Some(Packet::PubRec(ack(id))),
                        _ => None,
                    }
                }
                Packet::PubRec(received) => Some(Packet::PubRel(ack(received.packet_id))),
                Packet::PubRel(released) => Some(Packet::PubComp(ack(released.packet_id))),
                _ => None,
            };
            if let Some(reply) = reply {
                encode(self.version, &reply, &mut answer);
            }
            rest = rest.get(used..).unwrap_or_default();
        }
        assert!(rest.is_empty(), "whole packets only");
        self.inbox.clear();
        answer
    }
}

/// PUBLISH packets of one client to one topic: as many as its window lets it send in a row.
pub fn burst(
    version: Version,
    topic: &str,
    qos: QoS,
    window: u16,
    payload_bytes: usize,
) -> Vec<u8> {
    let payload = vec![b'x'; payload_bytes];
    let mut bytes = Vec::new();
    for packet_id in 1..=window {
        let publish = Packet::Publish(Publish {
            dup: false,
            qos,
            retain: false,
            topic,
            packet_id: (qos > QoS::AtMostOnce).then_some(packet_id),
            properties: PublishProperties::default(),
            payload: &payload,
        });
        encode(version, &publish, &mut bytes);
    }
    bytes
}
