//! What a device still owes the broker: messages taken but not yet acknowledged, in order.
//!
//! Each message is *waiting* (not given to the client library), *handed over* (given, not yet
//! written) or *in flight* (written under a Packet Identifier). The client library reports written
//! PUBLISH packets in the order they were handed over, which is all that is needed to learn each
//! message's identifier. When the broker has no session for us any more, everything handed over or
//! in flight waits again (§4.4). Knows no sockets and no clock.

use std::collections::VecDeque;
use std::time::Instant;

/// One message on its way to the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// Topic Name.
    pub topic: String,
    /// Payload as sent.
    pub payload: Vec<u8>,
    /// Quality of Service, 0 to 2.
    pub qos: u8,
    /// RETAIN flag.
    pub retain: bool,
    /// When the reading was taken; latency counts from here, so an outage shows in it.
    pub taken: Instant,
    /// True for readings, which are counted; false for notices such as the device's state.
    pub is_reading: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    Waiting,
    HandedOver,
    InFlight(u16),
}

#[derive(Debug)]
struct Entry {
    message: Outgoing,
    progress: Progress,
    counted_as_sent: bool,
}

/// What a written PUBLISH meant.
#[derive(Debug, PartialEq, Eq)]
pub enum Written {
    /// This message left for the first time.
    First {
        /// True if it was a reading.
        is_reading: bool,
    },
    /// It had left before: a retransmission.
    Again,
    /// No message of ours; the client library is ahead of us only if it has a defect.
    Unknown,
}

/// The messages of one device that are not settled yet, oldest first.
#[derive(Debug)]
pub struct Outbox {
    entries: VecDeque<Entry>,
    window: usize,
    capacity: usize,
}

impl Outbox {
    /// At most `window` messages are with the client library at once, at most `capacity` are held.
    pub fn new(window: usize, capacity: usize) -> Self {
        Self {
            entries: VecDeque::new(),
            window: window.max(1),
            capacity: capacity.max(1),
        }
    }

    /// True if everything taken has been settled.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Number of messages that are not settled.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Adds a message. When full, the oldest reading that was not handed over gives way and is
    /// returned; if there is none, the new message itself is.
    pub fn push(&mut self, message: Outgoing) -> Option<Outgoing> {
        let mut dropped = None;
        if self.entries.len() >= self.capacity {
            let oldest = self
                .entries
                .iter()
                .position(|e| e.progress == Progress::Waiting && e.message.is_reading);
            match oldest.and_then(|i| self.entries.remove(i)) {
                Some(entry) => dropped = Some(entry.message),
                None if message.is_reading => return Some(message),
                // A notice is worth one entry above the bound: there are only a few of them.
                None => {}
            }
        }
        self.entries.push_back(Entry {
            message,
            progress: Progress::Waiting,
            counted_as_sent: false,
        });
        dropped
    }

    /// The next message to give to the client library, if the window has room.
    pub fn hand_over(&mut self) -> Option<&Outgoing> {
        let out = self
            .entries
            .iter()
            .filter(|e| e.progress != Progress::Waiting)
            .count();
        if out >= self.window {
            return None;
        }
        let entry = self
            .entries
            .iter_mut()
            .find(|e| e.progress == Progress::Waiting)?;
        entry.progress = Progress::HandedOver;
        Some(&entry.message)
    }

    /// The client library did not take the message handed over last.
    pub fn take_back(&mut self) {
        let last = self
            .entries
            .iter_mut()
            .rfind(|e| e.progress == Progress::HandedOver);
        if let Some(entry) = last {
            entry.progress = Progress::Waiting;
        }
    }

    /// A PUBLISH was written under `packet_id`; 0 stands for QoS 0, which settles the message.
    pub fn written(&mut self, packet_id: u16) -> Written {
        if packet_id == 0 {
            let found = self
                .entries
                .iter()
                .position(|e| e.progress == Progress::HandedOver && e.message.qos == 0);
            return match found.and_then(|i| self.entries.remove(i)) {
                Some(entry) if entry.counted_as_sent => Written::Again,
                Some(entry) => Written::First {
                    is_reading: entry.message.is_reading,
                },
                None => Written::Unknown,
            };
        }
        if self.position(packet_id).is_some() {
            return Written::Again;
        }
        let Some(entry) = self
            .entries
            .iter_mut()
            .find(|e| e.progress == Progress::HandedOver && e.message.qos > 0)
        else {
            return Written::Unknown;
        };
        entry.progress = Progress::InFlight(packet_id);
        if std::mem::replace(&mut entry.counted_as_sent, true) {
            return Written::Again;
        }
        Written::First {
            is_reading: entry.message.is_reading,
        }
    }

    /// The broker settled `packet_id`, well or badly: the message leaves the outbox.
    pub fn settled(&mut self, packet_id: u16) -> Option<Outgoing> {
        let index = self.position(packet_id)?;
        Some(self.entries.remove(index)?.message)
    }

    /// The broker has no session for us: everything that was under way waits again, in order.
    pub fn session_lost(&mut self) {
        for entry in &mut self.entries {
            entry.progress = Progress::Waiting;
        }
    }

    fn position(&self, packet_id: u16) -> Option<usize> {
        // Acknowledgements come in order, so this ends at the first entries.
        self.entries
            .iter()
            .position(|e| e.progress == Progress::InFlight(packet_id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(name: &str, qos: u8) -> Outgoing {
        Outgoing {
            topic: name.to_owned(),
            payload: Vec::new(),
            qos,
            retain: false,
            taken: Instant::now(),
            is_reading: true,
        }
    }

    fn handed(outbox: &mut Outbox) -> Option<String> {
        outbox.hand_over().map(|m| m.topic.clone())
    }

    #[test]
    fn messages_are_handed_over_in_order_and_only_within_the_window() {
        let mut outbox = Outbox::new(2, 10);
        for name in ["a", "b", "c"] {
            assert_eq!(outbox.push(message(name, 1)), None);
        }
        assert_eq!(handed(&mut outbox).as_deref(), Some("a"));
        assert_eq!(handed(&mut outbox).as_deref(), Some("b"));
        assert_eq!(handed(&mut outbox), None);
        assert_eq!(outbox.written(5), Written::First { is_reading: true });
        assert_eq!(outbox.settled(5).map(|m| m.topic).as_deref(), Some("a"));
        assert_eq!(handed(&mut outbox).as_deref(), Some("c"));
    }

    #[test]
    fn a_retransmission_is_not_counted_as_sent_again() {
        let mut outbox = Outbox::new(2, 10);
        outbox.push(message("a", 1));
        outbox.hand_over();
        assert_eq!(outbox.written(1), Written::First { is_reading: true });
        assert_eq!(outbox.written(1), Written::Again);
        outbox.session_lost();
        assert_eq!(outbox.settled(1), None, "identifiers end with the session");
        outbox.hand_over();
        assert_eq!(outbox.written(9), Written::Again);
        assert!(outbox.settled(9).is_some());
        assert!(outbox.is_empty());
    }

    #[test]
    fn after_a_lost_session_the_original_order_is_kept() {
        let mut outbox = Outbox::new(3, 10);
        for name in ["a", "b", "c"] {
            outbox.push(message(name, 2));
            outbox.hand_over();
        }
        outbox.written(1);
        outbox.written(2);
        outbox.session_lost();
        let order: Vec<_> = std::iter::from_fn(|| handed(&mut outbox)).collect();
        assert_eq!(order, ["a", "b", "c"]);
    }

    #[test]
    fn qos0_is_settled_by_being_written_whatever_qos1_notice_stands_before_it() {
        let mut outbox = Outbox::new(4, 10);
        outbox.push(message("state", 1));
        outbox.push(message("reading", 0));
        outbox.hand_over();
        outbox.hand_over();
        assert_eq!(outbox.written(0), Written::First { is_reading: true });
        assert_eq!(outbox.len(), 1);
        assert_eq!(outbox.written(0), Written::Unknown);
    }

    #[test]
    fn a_full_outbox_drops_the_oldest_reading_that_has_not_left() {
        let mut outbox = Outbox::new(1, 2);
        outbox.push(message("a", 1));
        outbox.hand_over();
        outbox.push(message("b", 1));
        let dropped = outbox.push(message("c", 1));
        assert_eq!(dropped.map(|m| m.topic).as_deref(), Some("b"));
        assert_eq!(outbox.len(), 2);
    }

    #[test]
    fn a_message_taken_back_is_handed_over_again() {
        let mut outbox = Outbox::new(2, 10);
        outbox.push(message("a", 1));
        outbox.hand_over();
        outbox.take_back();
        assert_eq!(handed(&mut outbox).as_deref(), Some("a"));
    }
}
