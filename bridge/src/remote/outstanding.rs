//! What was handed to the client library and is not acknowledged by the peer, by Packet Identifier.
//!
//! The library gives identifiers in turn, 1 to a number we know, and does not look whether an
//! exchange at QoS 2 still uses the next one. So we count along, and hand nothing over while the
//! next identifier is in use: else an acknowledgement would be taken for another message's.

use std::collections::{HashMap, VecDeque};

use tidings_core::message::QoS;

/// Messages on their way to the peer, each with what is to be done when it has arrived.
#[derive(Debug)]
pub(super) struct Outstanding<T> {
    /// Identifiers are 1 to this number.
    ids: u16,
    last: u16,
    /// Handed over and not written yet, in order; identifier 0 at QoS 0.
    unsent: VecDeque<(u16, Option<T>)>,
    /// QoS 1 and 2, written or not.
    open: HashMap<u16, T>,
}

impl<T> Outstanding<T> {
    pub(super) fn new(ids: u16) -> Self {
        Self {
            ids,
            last: 0,
            unsent: VecDeque::new(),
            open: HashMap::new(),
        }
    }

    /// Messages that are not acknowledged or, at QoS 0, not written.
    pub(super) fn len(&self) -> usize {
        self.open.len() + self.unsent.iter().filter(|(id, _)| *id == 0).count()
    }

    /// True if another message may be handed over, whatever its QoS.
    pub(super) fn has_room(&self, window: usize) -> bool {
        self.len() < window && !self.open.contains_key(&self.next_id())
    }

    fn next_id(&self) -> u16 {
        if self.last >= self.ids {
            1
        } else {
            self.last + 1
        }
    }

    /// Notes a message that is handed over at this QoS.
    pub(super) fn handed_over(&mut self, qos: QoS, what: T) {
        if qos == QoS::AtMostOnce {
            self.unsent.push_back((0, Some(what)));
            return;
        }
        self.last = self.next_id();
        self.unsent.push_back((self.last, None));
        self.open.insert(self.last, what);
    }

    /// The oldest message that was not written is written. Gives back what needs no
    /// acknowledgement.
    ///
    /// # Errors
    /// If the library counts otherwise.
    pub(super) fn sent(&mut self, packet_id: u16) -> Result<Option<T>, String> {
        match self.unsent.pop_front() {
            Some((expected, what)) if expected == packet_id => Ok(what),
            other => {
                let expected = other.map_or(0, |(id, _)| id);
                Err(format!(
                    "sent with packet identifier {packet_id} instead of {expected}"
                ))
            }
        }
    }

    /// The peer has answered for this identifier.
    pub(super) fn acked(&mut self, packet_id: u16) -> Option<T> {
        self.open.remove(&packet_id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_are_counted_in_turn_and_none_is_used_while_it_is_open() {
        let mut outstanding = Outstanding::new(3);
        for what in ["a", "b", "c"] {
            assert!(outstanding.has_room(10));
            outstanding.handed_over(QoS::AtLeastOnce, what);
        }
        assert!(!outstanding.has_room(10), "1 is next and open");
        assert_eq!(outstanding.acked(2), Some("b"));
        assert!(!outstanding.has_room(10), "1 is still open");
        assert_eq!(outstanding.acked(1), Some("a"));
        assert!(outstanding.has_room(10));
        outstanding.handed_over(QoS::ExactlyOnce, "d");
        for packet_id in [1, 2, 3, 1] {
            assert_eq!(outstanding.sent(packet_id), Ok(None));
        }
        assert!(outstanding.sent(2).is_err());
        assert_eq!(outstanding.acked(1), Some("d"));
        assert_eq!(outstanding.acked(1), None);
    }

    #[test]
    fn qos_0_is_done_when_it_is_written() {
        let mut outstanding = Outstanding::new(3);
        outstanding.handed_over(QoS::AtMostOnce, "a");
        assert!(!outstanding.has_room(1));
        assert_eq!(outstanding.sent(0), Ok(Some("a")));
        assert_eq!(outstanding.len(), 0);
    }

    #[test]
    fn one_identifier_is_enough() {
        let mut outstanding = Outstanding::new(1);
        for _ in 0..3 {
            assert!(outstanding.has_room(10));
            outstanding.handed_over(QoS::AtLeastOnce, ());
            assert!(!outstanding.has_room(10));
            assert_eq!(outstanding.sent(1), Ok(None));
            assert_eq!(outstanding.acked(1), Some(()));
        }
    }
}
