//! How many publishes of a publisher are under way: sent, and not yet acknowledged by the broker and
//! delivered to every receiver.
//!
//! Acknowledgement and deliveries may be seen by different threads, so each message has a counter of
//! the confirmations that it still waits for, in a ring; the thread that takes the last one counts the
//! message as completed.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// The messages of one publisher that are under way.
#[derive(Debug)]
pub struct Flow {
    /// Confirmations that the message of each place still waits for; 0: the place is free.
    waiting: Box<[AtomicU32]>,
    completed: AtomicU64,
    /// Confirmations of each message: its receivers, and 1 for the acknowledgement at QoS 1 and 2.
    needs: u32,
    window: u64,
    /// The thread that publishes.
    owner: usize,
}

impl Flow {
    /// Messages that need so many confirmations each, `window` at a time, sent by thread `owner`.
    #[must_use]
    pub fn new(needs: u32, window: u32, owner: usize) -> Self {
        // Messages may be completed out of order; with some spare places the oldest rarely blocks.
        let places = (window as usize * 4).next_power_of_two();
        Self {
            waiting: (0..places).map(|_| AtomicU32::new(0)).collect(),
            completed: AtomicU64::new(0),
            needs,
            window: u64::from(window),
            owner,
        }
    }

    /// The thread that publishes.
    #[must_use]
    pub fn owner(&self) -> usize {
        self.owner
    }

    /// Messages with all their confirmations.
    #[must_use]
    pub fn completed(&self) -> u64 {
        self.completed.load(Ordering::Acquire)
    }

    /// Takes a place for the message with this sequence number, if the window has one.
    #[inline]
    pub fn begin(&self, sequence: u64) -> bool {
        if sequence - self.completed() >= self.window {
            return false;
        }
        let Some(place) = self.place(sequence) else {
            return false;
        };
        if place.load(Ordering::Acquire) != 0 {
            return false;
        }
        place.store(self.needs, Ordering::Release);
        true
    }

    /// One acknowledgement or delivery of this message; `true` if that completed it.
    #[inline]
    pub fn confirm(&self, sequence: u64) -> bool {
        let Some(place) = self.place(sequence) else {
            return false;
        };
        // A free place means a message that nobody waits for: it was given up before.
        if place.load(Ordering::Acquire) == 0 || place.fetch_sub(1, Ordering::AcqRel) != 1 {
            return false;
        }
        self.completed.fetch_add(1, Ordering::AcqRel);
        true
    }

    /// Waits no longer for any message before `next`; says how many were given up. Confirmations of them
    /// that come after all may count for a later message in the same place, which makes the window
    /// larger by one for a moment.
    pub fn give_up(&self, next: u64) -> u64 {
        let places = self.waiting.len() as u64;
        let mut given_up = 0;
        for sequence in next.saturating_sub(places)..next {
            if self
                .place(sequence)
                .is_some_and(|p| p.swap(0, Ordering::AcqRel) != 0)
            {
                given_up += 1;
            }
        }
        self.completed.fetch_add(given_up, Ordering::AcqRel);
        given_up
    }

    /// How far behind the newest arrival a message is surely lost: twice what can be under way.
    #[must_use]
    pub fn surely_lost_behind(&self) -> u64 {
        self.window * 2
    }

    #[expect(clippy::cast_possible_truncation, reason = "the mask leaves few bits")]
    fn place(&self, sequence: u64) -> Option<&AtomicU32> {
        self.waiting
            .get(sequence as usize & (self.waiting.len() - 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_completed_by_its_last_confirmation() {
        let flow = Flow::new(3, 1, 0);
        assert!(flow.begin(0));
        assert!(!flow.begin(1), "the window is 1");
        assert!(!flow.confirm(0));
        assert!(!flow.confirm(0));
        assert!(flow.confirm(0));
        assert_eq!(flow.completed(), 1);
        assert!(flow.begin(1));
    }

    #[test]
    fn completing_out_of_order_frees_the_window_while_the_ring_has_places() {
        let flow = Flow::new(1, 2, 0);
        assert!(flow.begin(0) && flow.begin(1) && !flow.begin(2));
        for sequence in 1..8 {
            assert!(flow.confirm(sequence));
            assert_eq!(
                flow.begin(sequence + 1),
                sequence < 7,
                "place of 0 is taken at 8"
            );
        }
        assert!(flow.confirm(0));
        assert!(flow.begin(8));
    }

    #[test]
    fn what_is_given_up_frees_the_window() {
        let flow = Flow::new(1, 2, 0);
        assert!(flow.begin(0) && flow.confirm(0) && flow.begin(1) && flow.begin(2));
        assert_eq!(flow.give_up(3), 2);
        assert_eq!(flow.completed(), 3);
        assert!(flow.begin(3));
    }

    #[test]
    fn a_confirmation_that_nobody_waits_for_changes_nothing() {
        let flow = Flow::new(1, 4, 0);
        assert!(!flow.confirm(3));
        assert_eq!(flow.completed(), 0);
    }
}
