//! How long messages take through one shard thread, by door: plain numbers, filled by the thread alone and
//! copied for others at each tick.

use std::cell::RefCell;

use tidings_core::histogram::Histogram;
use tidings_core::shard::{ConnId, Way};

use super::Via;

const DOORS: usize = Via::ALL.len();

/// Timed messages that wait for their socket; more are not timed.
const MAX_WAITING: usize = 64;

/// Microseconds from the moment a PUBLISH was read, by door.
#[derive(Clone, Debug, Default)]
pub(crate) struct Latencies {
    /// To the write of its PUBACK or PUBREC; by the door of the publisher.
    pub acknowledged: [Histogram; DOORS],
    /// To the write of the last delivery in a shard; by the door of that receiver.
    pub delivered: [Histogram; DOORS],
}

impl Latencies {
    fn record(&mut self, via: Via, way: Way, took_us: u64) {
        let of_way = match way {
            Way::Acknowledged => &mut self.acknowledged,
            Way::Delivered => &mut self.delivered,
        };
        if let Some(histogram) = of_way.get_mut(via as usize) {
            histogram.record(took_us);
        }
    }

    /// Adds those of another thread.
    pub fn add(&mut self, other: &Self) {
        let sum = |all: &mut [Histogram], more: &[Histogram]| {
            all.iter_mut()
                .zip(more)
                .for_each(|(all, more)| all.add(more));
        };
        sum(&mut self.acknowledged, &other.acknowledged);
        sum(&mut self.delivered, &other.delivered);
    }
}

/// A way whose end waits for its socket.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    conn: ConnId,
    via: Via,
    way: Way,
    read_us: u64,
}

/// The stopwatch of one thread.
#[derive(Debug, Default)]
pub(crate) struct Stopwatch {
    latencies: RefCell<Box<Latencies>>,
    waiting: RefCell<Vec<Waiting>>,
}

impl Stopwatch {
    /// A way has ended.
    pub fn ended(&self, via: Via, way: Way, read_us: u64, now_us: u64) {
        let took_us = now_us.saturating_sub(read_us);
        self.latencies.borrow_mut().record(via, way, took_us);
    }

    /// A way will have ended when the socket took everything.
    pub fn wait(&self, conn: ConnId, via: Via, way: Way, read_us: u64) {
        let mut waiting = self.waiting.borrow_mut();
        if waiting.len() < MAX_WAITING {
            waiting.push(Waiting {
                conn,
                via,
                way,
                read_us,
            });
        }
    }

    /// Whether some way waits for a socket.
    pub fn has_waiting(&self) -> bool {
        !self.waiting.borrow().is_empty()
    }

    /// A socket took everything.
    pub fn drained(&self, conn: ConnId, now_us: u64) {
        let mut latencies = self.latencies.borrow_mut();
        self.waiting.borrow_mut().retain(|one| {
            if one.conn == conn {
                latencies.record(one.via, one.way, now_us.saturating_sub(one.read_us));
            }
            one.conn != conn
        });
    }

    /// A connection is over.
    pub fn forget(&self, conn: ConnId) {
        self.waiting.borrow_mut().retain(|one| one.conn != conn);
    }

    /// What was measured so far.
    pub fn latencies(&self) -> Box<Latencies> {
        self.latencies.borrow().clone()
    }
}
