//! Verification: which messages of a publisher arrived, which twice, which after later ones.
//!
//! The sequence numbers of a publisher are 0, 1, 2, ...; everything below `next` arrived, except what
//! is in `missing`. So the usual case (the next one) costs a comparison, whatever the length of a run.

use std::collections::BTreeSet;
use std::ops::Range;

/// More gaps than this are only counted: a broker that drops nearly everything must not make the
/// generator slow or large.
const LARGEST_MISSING: usize = 1_000_000;

/// What arrived of one publisher at one receiver.
#[derive(Clone, Debug, Default)]
pub struct Arrivals {
    next: u64,
    missing: BTreeSet<u64>,
    /// Given up on because `missing` was full.
    forgotten: u64,
}

/// What an arrival was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// The next one.
    InOrder,
    /// A later one than expected: these did not come before it.
    After(Range<u64>),
    /// One that was missing: it was overtaken.
    Late,
    /// One that had come already.
    Again,
}

impl Arrivals {
    /// Notes that this one arrived.
    #[inline]
    pub fn note(&mut self, sequence: u64) -> Arrival {
        if sequence == self.next {
            self.next += 1;
            return Arrival::InOrder;
        }
        self.note_unexpected(sequence)
    }

    #[cold]
    fn note_unexpected(&mut self, sequence: u64) -> Arrival {
        if sequence < self.next {
            return if self.missing.remove(&sequence) {
                Arrival::Late
            } else {
                Arrival::Again
            };
        }
        let gap = self.next..sequence;
        for number in gap.clone() {
            if self.missing.len() < LARGEST_MISSING {
                self.missing.insert(number);
            } else {
                self.forgotten += 1;
            }
        }
        self.next = sequence + 1;
        Arrival::After(gap)
    }

    /// Those of this range that did not arrive.
    pub fn missing_in(&self, range: Range<u64>) -> impl Iterator<Item = u64> {
        // BTreeSet panics at a range that ends before it starts.
        let range = range.start.min(range.end)..range.end;
        self.missing.range(range).copied()
    }

    /// Whether this one arrived.
    #[must_use]
    pub fn has(&self, sequence: u64) -> bool {
        sequence < self.next && !self.missing.contains(&sequence)
    }

    /// How many arrived.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.next - self.missing.len() as u64 - self.forgotten
    }

    /// How many of the first `sent` did not arrive.
    #[must_use]
    pub fn lost_of_first(&self, sent: u64) -> u64 {
        let within = self.missing.range(..sent).count() as u64;
        sent.saturating_sub(self.next) + within + self.forgotten
    }

    /// How many of those that arrived at the other (acknowledgements, at the publisher) are not here.
    #[must_use]
    pub fn lost_of(&self, other: &Self) -> u64 {
        let gaps = self.missing.iter().filter(|&&s| other.has(s)).count() as u64;
        let tail = (self.next..other.next).filter(|&s| other.has(s)).count() as u64;
        gaps + tail + self.forgotten.saturating_sub(other.forgotten)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_in_order_is_neither_lost_nor_doubled() {
        let mut arrivals = Arrivals::default();
        for sequence in 0..100 {
            assert_eq!(arrivals.note(sequence), Arrival::InOrder);
        }
        assert_eq!((arrivals.count(), arrivals.lost_of_first(100)), (100, 0));
    }

    #[test]
    fn a_gap_is_lost_until_it_comes_late() {
        let mut arrivals = Arrivals::default();
        arrivals.note(0);
        assert_eq!(arrivals.note(3), Arrival::After(1..3));
        assert_eq!(arrivals.lost_of_first(4), 2);
        assert_eq!(arrivals.note(1), Arrival::Late);
        assert_eq!(arrivals.note(1), Arrival::Again);
        assert_eq!(arrivals.lost_of_first(4), 1);
        assert!(arrivals.has(1) && !arrivals.has(2) && !arrivals.has(4));
    }

    #[test]
    fn what_was_sent_after_the_last_arrival_is_lost() {
        let mut arrivals = Arrivals::default();
        arrivals.note(0);
        assert_eq!(arrivals.lost_of_first(10), 9);
        assert_eq!(arrivals.lost_of_first(1), 0);
    }

    #[test]
    fn only_what_was_acknowledged_counts_as_lost() {
        let (mut acknowledged, mut arrived) = (Arrivals::default(), Arrivals::default());
        for sequence in [0, 1, 2, 3, 5] {
            acknowledged.note(sequence);
        }
        for sequence in [0, 2, 4] {
            arrived.note(sequence);
        }
        assert_eq!(arrived.lost_of(&acknowledged), 3, "1, 3 and 5");
    }
}
