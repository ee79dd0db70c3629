//! Outbound exchanges that are not finished: which Packet Identifier carries which journal entry,
//! and how far it has come (§4.3, §4.4).
//!
//! Invariants: identifiers in use are distinct and not 0; there are at most `limit` exchanges (the
//! client's Receive Maximum, §4.9); they stand in the order in which they were first sent. So their
//! identifiers ascend, around the end of the numbers, and are found by halving, until one exchange
//! stays open while the numbers go once around; then they are looked through until all are
//! finished. The window does not know what the messages say.

use std::collections::VecDeque;
use std::sync::Arc;

use super::queue::RareQueue;
use crate::message::{Offset, QoS};
use crate::state::{Phase, Unfinished};

/// Who else has to know when an exchange is finished.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The session read the entry itself.
    Own,
    /// A shared subscription chose this session for the message.
    Group {
        /// `$share/{group}/{filter}`.
        filter: Arc<str>,
        /// Number of the assignment within the group.
        assignment: u64,
    },
}

/// One unfinished exchange.
#[derive(Clone, Debug)]
pub(crate) struct Exchange {
    pub packet_id: u16,
    /// Place in the journal; `None` for a message that is not kept.
    pub offset: Option<Offset>,
    pub qos: QoS,
    pub phase: Phase,
    pub origin: Origin,
}

/// The unfinished exchanges of one session.
#[derive(Debug)]
pub(crate) struct Window {
    exchanges: VecDeque<Exchange>,
    /// Identifiers ascend from the first exchange on.
    ascending: bool,
    /// Exchanges of an earlier connection whose PUBLISH was not sent on this one, in order.
    unsent: RareQueue<u16>,
    last_packet_id: u16,
    limit: usize,
}

impl Window {
    pub fn new(limit: u16) -> Self {
        Self {
            exchanges: VecDeque::new(),
            ascending: true,
            unsent: RareQueue::new(),
            last_packet_id: 0,
            limit: usize::from(limit.max(1)),
        }
    }

    pub fn has_room(&self) -> bool {
        self.exchanges.len() - self.unsent.len() < self.limit
    }

    /// True if exchanges of an earlier connection wait to be sent again.
    pub fn has_unsent(&self) -> bool {
        !self.unsent.is_empty()
    }

    /// The oldest exchange that waits to be sent again. The caller has asked [`Window::has_room`].
    pub fn next_unsent(&mut self) -> Option<Exchange> {
        let packet_id = self.unsent.pop_front()?;
        self.find(packet_id).map(|exchange| exchange.clone())
    }

    /// It could not be sent yet after all.
    pub fn still_unsent(&mut self, packet_id: u16) {
        self.unsent.push_front(packet_id);
    }

    pub fn iter(&self) -> impl Iterator<Item = &Exchange> {
        self.exchanges.iter()
    }

    /// Takes up an exchange of an earlier connection, with its original identifier.
    pub fn resume(&mut self, unfinished: &Unfinished) {
        if unfinished.phase != Phase::AwaitPubComp {
            self.unsent.push_back(unfinished.packet_id);
        }
        self.push(Exchange {
            packet_id: unfinished.packet_id,
            offset: Some(unfinished.offset),
            qos: unfinished.qos,
            phase: unfinished.phase,
            origin: Origin::Own,
        });
    }

    fn push(&mut self, exchange: Exchange) {
        let packet_id = exchange.packet_id;
        self.ascending = self.is_beyond(packet_id);
        self.last_packet_id = packet_id;
        self.exchanges.push_back(exchange);
    }

    /// Starts an exchange and gives its identifier. The caller has asked [`Window::has_room`].
    pub fn start(&mut self, qos: QoS, offset: Option<Offset>, origin: Origin) -> u16 {
        let packet_id = self.free_packet_id();
        let phase = match qos {
            QoS::ExactlyOnce => Phase::AwaitPubRec,
            _ => Phase::AwaitPubAck,
        };
        self.push(Exchange {
            packet_id,
            offset,
            qos,
            phase,
            origin,
        });
        packet_id
    }

    fn free_packet_id(&self) -> u16 {
        let mut packet_id = self.last_packet_id;
        loop {
            packet_id = packet_id.checked_add(1).unwrap_or(1);
            if self.is_beyond(packet_id) || self.position(packet_id).is_none() {
                return packet_id;
            }
        }
    }

    /// True if identifiers ascend and this one comes after all of them.
    fn is_beyond(&self, packet_id: u16) -> bool {
        match (self.exchanges.front(), self.exchanges.back()) {
            (Some(first), Some(last)) => {
                let from_first = |id: u16| id.wrapping_sub(first.packet_id);
                self.ascending && from_first(packet_id) > from_first(last.packet_id)
            }
            _ => true,
        }
    }

    fn position(&self, packet_id: u16) -> Option<usize> {
        let first = self.exchanges.front()?.packet_id;
        if first == packet_id {
            return Some(0);
        }
        if self.ascending {
            let from_first = |id: u16| id.wrapping_sub(first);
            let wanted = from_first(packet_id);
            self.exchanges
                .binary_search_by_key(&wanted, |e| from_first(e.packet_id))
                .ok()
        } else {
            self.exchanges.iter().position(|e| e.packet_id == packet_id)
        }
    }

    pub fn find(&mut self, packet_id: u16) -> Option<&mut Exchange> {
        let index = self.position(packet_id)?;
        self.exchanges.get_mut(index)
    }

    /// Ends the exchange if it waits in `phase`.
    pub fn finish(&mut self, packet_id: u16, phase: Phase) -> Option<Exchange> {
        let index = self.position(packet_id)?;
        if self.exchanges.get(index)?.phase != phase {
            return None;
        }
        self.unsent.retain(|unsent| *unsent != packet_id);
        self.exchanges.remove(index)
    }

    /// Ends an exchange in any phase: its message is not to be had any more.
    pub fn abandon(&mut self, packet_id: u16) {
        if let Some(index) = self.position(packet_id) {
            self.unsent.retain(|unsent| *unsent != packet_id);
            self.exchanges.remove(index);
        }
    }

    /// Exchanges at QoS 2 that the shared subscription `group` began become the session's own; gives
    /// the assignments.
    pub fn take_over(&mut self, group: &str) -> Vec<u64> {
        let mut taken = Vec::new();
        for exchange in &mut self.exchanges {
            if let Origin::Group { filter, assignment } = &exchange.origin
                && **filter == *group
                && exchange.qos == QoS::ExactlyOnce
            {
                taken.push(*assignment);
                exchange.origin = Origin::Own;
            }
        }
        taken
    }

    /// What the journal has to know: exchanges with an entry of their own. A QoS 1 message of a
    /// shared subscription stays with its group, which hands it to another member.
    pub fn unfinished(&self) -> Vec<Unfinished> {
        self.exchanges
            .iter()
            .filter(|e| e.origin == Origin::Own || e.qos == QoS::ExactlyOnce)
            .filter_map(|e| {
                Some(Unfinished {
                    packet_id: e.packet_id,
                    offset: e.offset?,
                    phase: e.phase,
                    qos: e.qos,
                })
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_wrap_around_and_skip_those_in_use() {
        let mut window = Window::new(10);
        let first = window.start(QoS::AtLeastOnce, None, Origin::Own);
        window.last_packet_id = u16::MAX;
        let second = window.start(QoS::AtLeastOnce, None, Origin::Own);
        assert_eq!((first, second), (1, 2));
    }

    #[test]
    fn an_exchange_that_stays_open_is_found_after_the_identifiers_went_around() {
        let mut window = Window::new(10);
        let open = window.start(QoS::AtLeastOnce, None, Origin::Own);
        let mut before = None;
        for _ in 0..3 * usize::from(u16::MAX) {
            let id = window.start(QoS::AtLeastOnce, None, Origin::Own);
            assert_ne!(id, open);
            if let Some(before) = before.replace(id) {
                assert!(window.finish(before, Phase::AwaitPubAck).is_some());
            }
        }
        assert!(window.finish(open, Phase::AwaitPubAck).is_some());
        assert_eq!(window.iter().count(), 1);
    }

    #[test]
    fn exchanges_that_are_taken_up_again_are_found_and_not_used_twice() {
        let mut window = Window::new(10);
        let ids = [65_534, u16::MAX, 1, 2];
        for packet_id in ids {
            window.resume(&Unfinished {
                packet_id,
                offset: Offset(0),
                qos: QoS::AtLeastOnce,
                phase: Phase::AwaitPubAck,
            });
        }
        assert_eq!(window.start(QoS::AtLeastOnce, None, Origin::Own), 3);
        for packet_id in ids.into_iter().rev() {
            assert!(window.finish(packet_id, Phase::AwaitPubAck).is_some());
        }
    }

    #[test]
    fn an_ack_of_the_wrong_phase_finishes_nothing() {
        let mut window = Window::new(10);
        let id = window.start(QoS::ExactlyOnce, Some(Offset(7)), Origin::Own);
        assert!(window.finish(id, Phase::AwaitPubAck).is_none());
        assert!(window.finish(id, Phase::AwaitPubRec).is_some());
    }

    #[test]
    fn the_receive_maximum_bounds_the_window() {
        let mut window = Window::new(2);
        window.start(QoS::AtLeastOnce, None, Origin::Own);
        assert!(window.has_room());
        window.start(QoS::AtLeastOnce, None, Origin::Own);
        assert!(!window.has_room());
    }
}
