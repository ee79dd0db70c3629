//! A publisher that remembers what it has sent, and after a reconnect sends it again exactly as the
//! specification asks (§4.4): PUBLISH with DUP and the same Packet Identifier, or PUBREL.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use tidings_core::codec::{Ack, Packet, Publish, PublishProperties, ReasonCode, Version};
use tidings_core::message::QoS;

use super::board::{Board, Life, Stage};
use super::message::{Line, TOPICS, unexpected};
use crate::seeded::Seeded;
use crate::{ClientError, Endpoint, RawClient, clean, persistent};

/// Unfinished exchanges at most; a broker may ask for fewer.
const WINDOW: usize = 20;
/// Nothing takes longer on a broker that lives.
const PATIENCE: Duration = Duration::from_secs(20);

/// What becomes of unfinished exchanges after a reconnect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resume {
    /// The session goes on.
    Persistent,
    /// A new session: what was not acknowledged is published anew.
    StartOver,
}

/// One unfinished exchange.
#[derive(Clone, Copy, Debug)]
struct InFlight {
    packet_id: u16,
    line: Line,
    seq: u64,
    /// PUBREC came: PUBREL is what is sent again.
    received: bool,
    /// It was sent again, so the broker may have ended the exchange before.
    resent: bool,
}

impl InFlight {
    /// Whether this Reason Code is as it should be. After a lost PUBCOMP the broker does not know
    /// the Packet Identifier of the PUBREL any more, and that is no error (§3.7.2.1).
    fn accepts(&self, packet: &Packet<'_>, reason: ReasonCode) -> bool {
        let ended = self.resent && matches!(packet, Packet::PubComp(_));
        !reason.is_failure() || (ended && reason == ReasonCode::PacketIdentifierNotFound)
    }
}

/// One publisher, over all lives of the broker.
pub struct Publisher {
    number: usize,
    name: String,
    version: Version,
    qos: QoS,
    resume: Resume,
    over_websocket: bool,
    random: Seeded,
    /// The last number that was sent, by topic.
    sent: [u64; TOPICS],
    in_flight: VecDeque<InFlight>,
    last_packet_id: u16,
    /// The broker has accepted this client once: from then on it has a session to keep.
    was_accepted: bool,
    /// The last message of each topic was sent; see [`Publisher::close`].
    is_closed: bool,
}

impl Publisher {
    pub fn new(
        number: usize,
        version: Version,
        qos: QoS,
        resume: Resume,
        over_websocket: bool,
        random: Seeded,
    ) -> Self {
        Self {
            number,
            name: format!("crash-publisher-{number}"),
            version,
            qos,
            resume,
            over_websocket,
            random,
            sent: [0; TOPICS],
            in_flight: VecDeque::new(),
            last_packet_id: 0,
            was_accepted: false,
            is_closed: false,
        }
    }

    /// How many messages there are, by topic.
    pub fn sent(&self) -> impl Iterator<Item = (Line, u64)> + '_ {
        self.sent
            .iter()
            .enumerate()
            .map(|(topic, &seq)| (self.line(topic), seq))
    }

    fn line(&self, topic: usize) -> Line {
        Line {
            publisher: self.number,
            topic,
        }
    }

    pub fn run(&mut self, board: &Board) {
        let mut life = None;
        while let Some(next) = board.wait_for_broker(life) {
            life = Some(next);
            match self.publish_while(next, board) {
                Ok(true) => break,
                Ok(false) | Err(ClientError::Closed) => {}
                Err(error) => {
                    board.violation(format!("{}: {error}", self.name));
                    break;
                }
            }
        }
        board.publisher_is_done(self.sent());
    }

    /// Publishes while the broker lives; true when there is nothing more to do.
    fn publish_while(&mut self, life: Life, board: &Board) -> Result<bool, ClientError> {
        let endpoint = life.endpoint(self.over_websocket);
        let (mut client, window) = self.connect(endpoint, board)?;
        self.send_again(&mut client, board)?;
        loop {
            match board.stage() {
                Stage::Work => {
                    self.send_more(&mut client, window, board)?;
                    board.stay_away(board.pace().publish);
                }
                Stage::Finish if !self.in_flight.is_empty() => {}
                Stage::Finish if !self.is_closed => self.close(&mut client, board)?,
                Stage::Finish => return Ok(true),
                Stage::GiveUp => return Ok(true),
            }
            self.take_answers(&mut client, board)?;
        }
    }

    fn connect(
        &mut self,
        endpoint: Endpoint,
        board: &Board,
    ) -> Result<(RawClient, usize), ClientError> {
        let connect = match self.resume {
            Resume::Persistent => persistent(self.version, &self.name),
            Resume::StartOver => clean(self.version, &self.name),
        };
        let (client, connack) = RawClient::try_connect(endpoint, &connect, PATIENCE)?;
        board.count(|counts| counts.connections += 1);
        if connack.reason != ReasonCode::Success {
            return Err(ClientError::Transport(format!("refused: {connack:?}")));
        }
        // A CONNACK that was lost is one that we know nothing of: then both are right.
        let expected = match self.resume {
            Resume::StartOver => Some(false),
            Resume::Persistent => self.was_accepted.then_some(true),
        };
        if expected.is_some_and(|expected| connack.session_present != expected) {
            return Err(ClientError::Transport(format!(
                "session present is {}",
                connack.session_present
            )));
        }
        self.was_accepted = true;
        let allowed = connack.properties.receive_maximum.unwrap_or(u16::MAX);
        Ok((client, WINDOW.min(usize::from(allowed))))
    }

    fn send_again(&mut self, client: &mut RawClient, board: &Board) -> Result<(), ClientError> {
        for at in 0..self.in_flight.len() {
            if self.resume == Resume::StartOver {
                self.in_flight[at].packet_id = self.new_packet_id();
            }
            self.in_flight[at].resent = true;
            let exchange = self.in_flight[at];
            if exchange.received {
                let ack = Ack::new(exchange.packet_id, ReasonCode::Success);
                client.try_send(&Packet::PubRel(ack))?;
            } else {
                self.send(client, exchange, self.resume == Resume::Persistent)?;
            }
        }
        board.count(|counts| counts.resent += self.in_flight.len() as u64);
        Ok(())
    }

    fn send_more(
        &mut self,
        client: &mut RawClient,
        window: usize,
        board: &Board,
    ) -> Result<(), ClientError> {
        let before = self.in_flight.len();
        let mut result = Ok(());
        while self.in_flight.len() < window && result.is_ok() {
            let topic = self.random.within(0..TOPICS as u64) as usize;
            result = self.send_next(client, topic);
        }
        let count = (self.in_flight.len() - before) as u64;
        if count > 0 {
            board.count(|counts| counts.published += count);
        }
        result
    }

    /// One more message on each topic, when all others were acknowledged: nothing before it can be
    /// on its way any more, so whoever has it has everything.
    fn close(&mut self, client: &mut RawClient, board: &Board) -> Result<(), ClientError> {
        self.is_closed = true;
        board.count(|counts| counts.published += TOPICS as u64);
        (0..TOPICS).try_for_each(|topic| self.send_next(client, topic))
    }

    fn send_next(&mut self, client: &mut RawClient, topic: usize) -> Result<(), ClientError> {
        self.sent[topic] += 1;
        let exchange = InFlight {
            packet_id: self.new_packet_id(),
            line: self.line(topic),
            seq: self.sent[topic],
            received: false,
            resent: false,
        };
        // Before it is sent: if that fails, the broker may have got it nevertheless.
        self.in_flight.push_back(exchange);
        self.send(client, exchange, false)
    }

    fn send(
        &self,
        client: &mut RawClient,
        exchange: InFlight,
        dup: bool,
    ) -> Result<(), ClientError> {
        client.try_send(&Packet::Publish(Publish {
            dup,
            qos: self.qos,
            retain: false,
            topic: &exchange.line.topic_name(),
            packet_id: Some(exchange.packet_id),
            properties: PublishProperties::default(),
            payload: &exchange.line.payload(exchange.seq),
        }))
    }

    fn new_packet_id(&mut self) -> u16 {
        loop {
            self.last_packet_id = self.last_packet_id.checked_add(1).unwrap_or(1);
            let id = self.last_packet_id;
            if self
                .in_flight
                .iter()
                .all(|exchange| exchange.packet_id != id)
            {
                return id;
            }
        }
    }

    /// Waits for one answer, and takes all that came with it.
    fn take_answers(&mut self, client: &mut RawClient, board: &Board) -> Result<(), ClientError> {
        if self.in_flight.is_empty() {
            return Ok(());
        }
        let mut acked = 0;
        let mut next = client.try_next_until(Instant::now() + PATIENCE).map(Some);
        let result = loop {
            let answered = match next {
                Ok(None) => break Ok(()),
                Ok(Some(frame)) => self.answer(client, &frame.packet(), &mut acked),
                Err(error) => Err(error),
            };
            if answered.is_err() {
                break answered;
            }
            next = client.try_received();
        };
        if acked > 0 {
            board.count(|counts| counts.acked += acked);
        }
        result
    }

    /// Counts a message that is acknowledged by it for the first time.
    fn answer(
        &mut self,
        client: &mut RawClient,
        packet: &Packet<'_>,
        acked: &mut u64,
    ) -> Result<(), ClientError> {
        let (Packet::PubAck(ack) | Packet::PubRec(ack) | Packet::PubComp(ack)) = packet else {
            return Err(unexpected(packet));
        };
        let wrong = |what: &str| ClientError::Transport(format!("{what}: {packet:?}"));
        let at = self
            .in_flight
            .iter()
            .position(|exchange| exchange.packet_id == ack.packet_id)
            .ok_or_else(|| wrong("unknown packet identifier"))?;
        let exchange = &mut self.in_flight[at];
        if !exchange.accepts(packet, ack.reason) {
            return Err(wrong("refused"));
        }
        match (packet, self.qos) {
            (Packet::PubAck(_), QoS::AtLeastOnce) => {
                *acked += 1;
                self.in_flight.remove(at);
                Ok(())
            }
            (Packet::PubRec(_), QoS::ExactlyOnce) => {
                *acked += u64::from(!exchange.received);
                exchange.received = true;
                let ack = Ack::new(exchange.packet_id, ReasonCode::Success);
                client.try_send(&Packet::PubRel(ack))
            }
            (Packet::PubComp(_), QoS::ExactlyOnce) if exchange.received => {
                self.in_flight.remove(at);
                Ok(())
            }
            _ => Err(wrong("out of order")),
        }
    }
}
