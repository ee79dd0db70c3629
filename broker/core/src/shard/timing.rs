//! The time that messages take through the broker, of some of them: the shell says which, and when their
//! packets were read; the shard says when their acknowledgement and their delivery are in an output.
//!
//! Nothing is decided by it, and a message that is not timed costs a comparison with 0.

use super::targets::Targets;
use super::{ConnId, Output, Shard};
use crate::session::{Reading, Stage};

/// What is timed, from the moment when the PUBLISH was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// To PUBACK or PUBREC.
    Acknowledged,
    /// To the last PUBLISH for a receiver that is not behind, in each shard that has one.
    Delivered,
}

impl Shard {
    /// The first PUBLISH that the next [`Shard::receive`] takes is timed; its bytes were read at `now_us`
    /// (not 0), microseconds of any clock.
    pub fn time_next_publish(&mut self, now_us: u64) {
        self.read_us = now_us;
    }

    /// Something that ends a way is in the output of `conn`, behind what was there.
    pub(super) fn time(&mut self, conn: ConnId, way: Way, read_us: u64) {
        if read_us != 0 {
            self.outputs.push_back(Output::Timed { conn, way, read_us });
        }
    }

    /// A message was offered to `targets`; the last one that has it in its output tells the time.
    pub(super) fn time_delivery(&mut self, targets: &Targets, read_us: u64) {
        if read_us == 0 {
            return;
        }
        let has_it = |conn: ConnId| {
            self.session(conn).is_some_and(|session| {
                session.stage == Stage::Online
                    && session.reading == Reading::Live
                    && !session.out.pending().is_empty()
            })
        };
        let receivers = targets.sessions.iter().rev().map(|target| target.conn);
        if let Some(conn) = { receivers }.find(|conn| has_it(*conn)) {
            self.time(conn, Way::Delivered, read_us);
        }
    }
}
