//! A subscriber with a persistent session that comes, acknowledges some of what it gets, and goes:
//! by a DISCONNECT, by closing the connection, or because the broker was killed.
//!
//! It remembers what a client must remember (§4.1): Packet Identifiers of QoS 2 that are received and
//! not released.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use tidings_core::codec::{Ack, Connect, Disconnect, Packet, ReasonCode, Version};
use tidings_core::message::QoS;

use super::board::{Board, Life, Stage};
use super::message::{Arrival, Arrivals, FILTER, is_exactly_once, unexpected};
use super::publisher::Publisher;
use crate::seeded::Seeded;
use crate::{ClientError, Delivery, RawClient, TidingsProcess, persistent};

/// A visit ends after so many packets, ...
const VISIT_PACKETS: u64 = 3000;
/// ... or when for so long nothing came.
const IDLE: Duration = Duration::from_millis(100);
/// Between two visits, milliseconds.
const AWAY_MS: u64 = 300;
/// Acknowledgements that wait for each other, at most.
const HELD_ACKS: u64 = 16;
/// Nothing takes longer on a broker that lives.
const PATIENCE: Duration = Duration::from_secs(20);

/// One subscriber, over all lives of the broker.
pub struct Subscriber {
    name: String,
    version: Version,
    qos: QoS,
    receive_maximum: Option<u16>,
    over_websocket: bool,
    random: Seeded,
    arrivals: Arrivals,
    /// QoS 2: received, not released.
    received: HashSet<u16>,
}

/// Why a visit ended.
enum Visit {
    /// Everything is here.
    Done,
    /// It left.
    Left,
}

impl Subscriber {
    pub fn new(
        number: usize,
        version: Version,
        qos: QoS,
        receive_maximum: Option<u16>,
        over_websocket: bool,
        random: Seeded,
    ) -> Self {
        Self {
            name: format!("crash-subscriber-{number}"),
            version,
            qos,
            receive_maximum,
            over_websocket,
            random,
            arrivals: Arrivals::default(),
            received: HashSet::new(),
        }
    }

    fn connect(&self) -> Connect<'_> {
        let mut connect = persistent(self.version, &self.name);
        connect.properties.receive_maximum = self.receive_maximum;
        connect
    }

    /// Makes the session, before anything is published.
    pub fn subscribe(&mut self, broker: &TidingsProcess) {
        let endpoint = if self.over_websocket {
            broker.ws()
        } else {
            broker.tcp()
        };
        let mut client = RawClient::connect(endpoint, &self.connect());
        let granted = client.subscribe(FILTER, self.qos);
        assert!(
            !granted.is_failure(),
            "{} may not subscribe: {granted:?}",
            self.name
        );
    }

    pub fn run(&mut self, board: &Board) {
        let mut dead = None;
        while let Some(life) = board.wait_for_broker(dead) {
            match self.visit(life, board) {
                Ok(Visit::Done) => break,
                Ok(Visit::Left) => {
                    board.stay_away(Duration::from_millis(self.random.within(0..AWAY_MS)));
                }
                Err(ClientError::Closed) => dead = Some(life),
                Err(error) => {
                    board.violation(format!("{}: {error}", self.name));
                    break;
                }
            }
        }
        board.subscriber_is_done();
    }

    fn visit(&mut self, life: Life, board: &Board) -> Result<Visit, ClientError> {
        let endpoint = life.endpoint(self.over_websocket);
        let (mut client, connack) = RawClient::try_connect(endpoint, &self.connect(), PATIENCE)?;
        board.count(|counts| counts.connections += 1);
        if connack.reason != ReasonCode::Success || !connack.session_present {
            return Err(ClientError::Transport(format!(
                "the session is lost: {connack:?}"
            )));
        }
        let packets = self.random.magnitude(1..VISIT_PACKETS);
        // With its whole window held back it would wait for messages, and they for it.
        let window = self.receive_maximum.map_or(HELD_ACKS, u64::from);
        let hold = self.random.within(0..HELD_ACKS.min(window)) as usize;
        let mut held = Vec::new();
        let mut taken = 0;
        loop {
            let stage = board.stage();
            match client.try_next_until(Instant::now() + IDLE) {
                Ok(frame) => {
                    taken += 1;
                    self.take(&frame.packet(), &mut held, board)?;
                    if held.len() > hold {
                        client.try_send_all(held.drain(..))?;
                    }
                    if stage != Stage::Work || taken < packets {
                        continue;
                    }
                }
                Err(ClientError::Deadline(_)) => {
                    client.try_send_all(held.drain(..))?;
                    if self.received.is_empty() && board.is_complete(&self.arrivals) {
                        return self.say_goodbye(client);
                    }
                    if stage == Stage::Finish || (stage == Stage::Work && self.random.chance(50)) {
                        continue;
                    }
                }
                Err(error) => return Err(error),
            }
            if stage == Stage::GiveUp {
                return Ok(Visit::Done);
            }
            if self.random.chance(50) {
                client.try_send_all(held.drain(..))?;
                client.try_send(&Packet::Disconnect(Disconnect::new(ReasonCode::Success)))?;
            }
            return Ok(Visit::Left);
        }
    }

    /// Everything is here and acknowledged: only the end may come.
    fn say_goodbye(&self, mut client: RawClient) -> Result<Visit, ClientError> {
        client.try_send(&Packet::Disconnect(Disconnect::new(ReasonCode::Success)))?;
        match client.try_next_until(Instant::now() + PATIENCE) {
            Ok(frame) => Err(ClientError::Transport(format!(
                "after the end came {frame:?}"
            ))),
            Err(ClientError::Closed) => Ok(Visit::Done),
            Err(error) => Err(error),
        }
    }

    fn take(
        &mut self,
        packet: &Packet<'_>,
        held: &mut Vec<Packet<'static>>,
        board: &Board,
    ) -> Result<(), ClientError> {
        match packet {
            Packet::Publish(publish) => {
                let delivery = Delivery::new(publish);
                let packet_id = delivery
                    .packet_id
                    .ok_or_else(|| ClientError::Transport("a message at QoS 0".into()))?;
                let ack = Ack::new(packet_id, ReasonCode::Success);
                if delivery.qos == QoS::ExactlyOnce {
                    held.push(Packet::PubRec(ack));
                    if !self.received.insert(packet_id) {
                        return self.sent_again(&delivery, board);
                    }
                } else {
                    held.push(Packet::PubAck(ack));
                }
                self.arrived(&delivery, board)
            }
            Packet::PubRel(ack) => {
                self.received.remove(&ack.packet_id);
                held.push(Packet::PubComp(Ack::new(
                    ack.packet_id,
                    ReasonCode::Success,
                )));
                Ok(())
            }
            other => Err(unexpected(other)),
        }
    }

    /// The same exchange of QoS 2 as before: no new message, and the broker must say so.
    fn sent_again(&mut self, delivery: &Delivery, board: &Board) -> Result<(), ClientError> {
        board.count(|counts| counts.duplicates += 1);
        if delivery.dup {
            Ok(())
        } else {
            Err(ClientError::Transport(format!(
                "packet identifier {:?} is in use, and came again without DUP on {}",
                delivery.packet_id, delivery.topic
            )))
        }
    }

    fn arrived(&mut self, delivery: &Delivery, board: &Board) -> Result<(), ClientError> {
        match self.arrivals.take(delivery, is_exactly_once(delivery)) {
            Ok(Arrival::First) => board.count(|counts| counts.delivered += 1),
            Ok(Arrival::Again) => board.count(|counts| counts.duplicates += 1),
            Err(what) => return Err(ClientError::Transport(what)),
        }
        Ok(())
    }

    /// What the publishers sent and this did not get, a sentence each.
    pub fn missing(&self, publishers: &[Publisher]) -> Vec<String> {
        publishers
            .iter()
            .flat_map(Publisher::sent)
            .filter(|&(line, sent)| self.arrivals.last(line) != sent)
            .map(|(line, sent)| {
                format!(
                    "{}: {} of {sent} messages arrived on {}",
                    self.name,
                    self.arrivals.last(line),
                    line.topic_name()
                )
            })
            .collect()
    }

    /// When everything arrived and was acknowledged, the session is there and empty.
    pub fn check_that_nothing_is_left(&mut self, broker: &TidingsProcess, board: &Board) {
        let mut client = RawClient::connect(broker.tcp(), &self.connect());
        if !client.session_present() {
            board.violation(format!("{}: the session is lost in the end", self.name));
        }
        client.send(&Packet::PingReq);
        match client.try_next() {
            Ok(frame) if matches!(frame.packet(), Packet::PingResp) => {}
            other => board.violation(format!("{}: in the end came {other:?}", self.name)),
        }
    }
}
