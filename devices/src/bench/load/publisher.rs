//! One publisher of the load: its messages, as far as it got.

use std::time::Duration;

use super::plan::{NUMBER_DIGITS, PublishPlan};
use super::sequence::Arrivals;
use super::window::Flow;
use super::wire::{PublishTemplate, identifier_of};

/// A publisher of whom nothing was completed for this long, while it waits, has lost what it waits for;
/// it goes on, so that one burst of drops is not the end of it. Slow brokers take a second at most.
pub const LOST_AFTER: Duration = Duration::from_secs(3);

/// What a client publishes, as far as it got.
#[derive(Debug)]
pub struct Publisher {
    /// Its number in this run.
    pub number: u32,
    template: PublishTemplate,
    numbered: Option<(u32, Random)>,
    limit: u64,
    /// Sequence number of the next message.
    pub next: u64,
    /// Which of them the broker acknowledged.
    pub acknowledged: Arrivals,
    /// How many were completed when that last changed, and when that was.
    moved: (u64, u64),
}

impl Publisher {
    /// A publisher that has sent nothing.
    #[must_use]
    pub fn new(plan: &PublishPlan, qos: u8, payload_bytes: usize) -> Self {
        let topic = match plan.numbered {
            Some(_) => format!("{}{:0NUMBER_DIGITS$}", plan.topic, 0),
            None => plan.topic.clone(),
        };
        Self {
            number: plan.publisher,
            template: PublishTemplate::new(&topic, qos, plan.publisher, payload_bytes),
            numbered: plan
                .numbered
                .map(|below| (below, Random::new(plan.publisher))),
            limit: plan.limit.unwrap_or(u64::MAX),
            next: 0,
            acknowledged: Arrivals::default(),
            moved: (0, 0),
        }
    }

    /// Appends the next message if its window allows one; `false` if not.
    #[inline]
    pub fn publish(&mut self, flow: &Flow, out: &mut Vec<u8>, now_nanos: u64) -> bool {
        if self.next >= self.limit || !flow.begin(self.next) {
            return false;
        }
        if let Some((below, random)) = &mut self.numbered {
            self.template
                .number_topic(random.below(*below), NUMBER_DIGITS);
        }
        self.template
            .put(out, identifier_of(self.next), self.next, now_nanos);
        self.next += 1;
        true
    }
    /// From now on it is expected to move.
    pub fn begin(&mut self, now_nanos: u64) {
        self.moved = (0, now_nanos);
    }

    /// If it has waited in vain for [`LOST_AFTER`], it waits no longer; says for how many.
    pub fn give_up_lost(&mut self, flow: &Flow, now_nanos: u64) -> u64 {
        let completed = flow.completed();
        if completed != self.moved.0 || completed == self.next {
            self.moved = (completed, now_nanos);
        } else if Duration::from_nanos(now_nanos.saturating_sub(self.moved.1)) > LOST_AFTER {
            return flow.give_up(self.next);
        }
        0
    }
}

/// A small generator of pseudo-random numbers (xorshift), the same for the same seed.
#[derive(Clone, Copy, Debug)]
struct Random(u64);

impl Random {
    fn new(seed: u32) -> Self {
        Self((u64::from(seed) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    fn below(&mut self, limit: u32) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (((self.0 >> 32) * u64::from(limit)) >> 32) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_publisher_whose_window_is_lost_goes_on_after_a_while() {
        let plan = PublishPlan {
            publisher: 0,
            topic: "t".to_owned(),
            numbered: None,
            limit: None,
            receivers: 1,
        };
        let mut publisher = Publisher::new(&plan, 0, 20);
        let flow = Flow::new(1, 2, 0);
        let second = 1_000_000_000;
        publisher.begin(10 * second);
        while publisher.publish(&flow, &mut Vec::new(), 0) {}
        assert_eq!(publisher.give_up_lost(&flow, 12 * second), 0);
        assert!(flow.confirm(1));
        assert_eq!(
            publisher.give_up_lost(&flow, 14 * second),
            0,
            "one has just come"
        );
        assert_eq!(publisher.give_up_lost(&flow, 18 * second), 1);
        assert!(publisher.publish(&flow, &mut Vec::new(), 0));
    }

    #[test]
    fn random_numbers_cover_their_range() {
        let mut random = Random::new(3);
        let mut seen = [0; 10];
        for _ in 0..10_000 {
            seen[random.below(10) as usize] += 1;
        }
        assert!(seen.iter().all(|&n| n > 800), "{seen:?}");
    }
}
