//! The messages of the crash test: each follows from its number, so that whoever receives one can
//! tell every wrong byte.

use std::collections::BTreeMap;

use tidings_core::codec::{Packet, ReasonCode};
use tidings_core::message::QoS;

use crate::seeded::Seeded;
use crate::{ClientError, Delivery};

/// Topics of one publisher: order holds in each, and a batch of the journal mixes them.
pub const TOPICS: usize = 3;
/// What all subscribers subscribe to.
pub const FILTER: &str = "crash/#";
/// Longest filling of a message, bytes: some messages take several pages of the disk.
const FILLING_BYTES: u64 = 6000;

/// What orders messages: the publisher and its topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Line {
    pub publisher: usize,
    pub topic: usize,
}

impl Line {
    pub fn topic_name(self) -> String {
        format!("crash/{}/{}", self.publisher, self.topic)
    }

    fn parse(topic: &str) -> Option<Self> {
        let (publisher, topic) = topic.strip_prefix("crash/")?.split_once('/')?;
        Some(Self {
            publisher: publisher.parse().ok()?,
            topic: topic.parse().ok()?,
        })
    }

    /// The message number `seq`, from 1 on.
    pub fn payload(self, seq: u64) -> Vec<u8> {
        let seed = (self.publisher as u64) << 56 | (self.topic as u64) << 48 | seq;
        let mut random = Seeded::new(seed);
        let len = random.magnitude(1..FILLING_BYTES);
        let mut payload = format!("{seq} ").into_bytes();
        payload.extend((0..len).map(|_| random.next() as u8));
        payload
    }
}

/// What one arrival was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// The next message of its line.
    First,
    /// A message that was here before.
    Again,
}

/// What a subscriber got.
#[derive(Clone, Debug, Default)]
pub struct Arrivals(BTreeMap<Line, u64>);

impl Arrivals {
    /// Takes note of a message.
    ///
    /// # Errors
    /// If it must not have come, or not now.
    pub fn take(&mut self, delivery: &Delivery, only_once: bool) -> Result<Arrival, String> {
        let line = Line::parse(&delivery.topic)
            .ok_or_else(|| format!("a message on topic {:?}", delivery.topic))?;
        let seq = parse_seq(&delivery.payload)
            .filter(|&seq| delivery.payload == line.payload(seq))
            .ok_or_else(|| {
                let len = delivery.payload.len();
                format!(
                    "{}: a payload of {len} bytes that nobody sent",
                    delivery.topic
                )
            })?;
        let last = self.0.entry(line).or_default();
        if seq <= *last {
            return if only_once {
                Err(format!(
                    "{}: message {seq} came twice at QoS 2",
                    delivery.topic
                ))
            } else {
                Ok(Arrival::Again)
            };
        }
        if seq != *last + 1 {
            return Err(format!(
                "{}: message {seq} came after {last} (DUP {}, QoS {})",
                delivery.topic, delivery.dup, delivery.qos as u8
            ));
        }
        *last = seq;
        Ok(Arrival::First)
    }

    /// The number of the last message of a line; 0 if none came.
    pub fn last(&self, line: Line) -> u64 {
        self.0.get(&line).copied().unwrap_or(0)
    }
}

/// QoS 2 all the way.
pub fn is_exactly_once(delivery: &Delivery) -> bool {
    delivery.qos == QoS::ExactlyOnce
}

fn parse_seq(payload: &[u8]) -> Option<u64> {
    let end = payload.iter().position(|&byte| byte == b' ')?;
    std::str::from_utf8(payload.get(..end)?).ok()?.parse().ok()
}

/// What nobody waited for; a broker that stops says so, which is an end like others.
pub fn unexpected(packet: &Packet<'_>) -> ClientError {
    match packet {
        Packet::Disconnect(end) if end.reason == ReasonCode::ServerShuttingDown => {
            ClientError::Closed
        }
        other => ClientError::Transport(format!("unexpected {other:?}")),
    }
}
