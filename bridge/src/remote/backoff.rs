//! How long to wait before the next attempt: doubling between two bounds, with jitter, so that
//! many links do not knock at a restarted peer in the same moment.
//!
//! It does not know the time, and takes its randomness as an argument.

use std::time::Duration;

/// Delays between attempts to connect.
#[derive(Debug)]
pub(super) struct Backoff {
    min: Duration,
    max: Duration,
    next: Duration,
}

impl Backoff {
    pub(super) fn new(min: Duration, max: Duration) -> Self {
        Self {
            min,
            max,
            next: min,
        }
    }

    /// The next delay: between half of the current step and the whole of it, never below the
    /// minimum. `random` is uniform over all of its values.
    pub(super) fn next_delay(&mut self, random: u32) -> Duration {
        let step = self.next;
        self.next = step.saturating_mul(2).min(self.max);
        let part = f64::from(random) / f64::from(u32::MAX);
        step.mul_f64(0.5 + part / 2.0).clamp(self.min, self.max)
    }

    /// Begins again with the minimum, after a connection that was of use.
    pub(super) fn reset(&mut self) {
        self.next = self.min;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIN: Duration = Duration::from_millis(100);
    const MAX: Duration = Duration::from_secs(2);

    #[test]
    fn delays_double_up_to_the_maximum_and_begin_again_after_reset() {
        let mut backoff = Backoff::new(MIN, MAX);
        let delays: Vec<u128> = (0..7)
            .map(|_| backoff.next_delay(u32::MAX).as_millis())
            .collect();
        assert_eq!(delays, [100, 200, 400, 800, 1600, 2000, 2000]);
        backoff.reset();
        assert_eq!(backoff.next_delay(u32::MAX), MIN);
    }

    #[test]
    fn jitter_takes_away_up_to_half_but_stays_within_the_bounds() {
        for random in [0, 1, u32::MAX / 3, u32::MAX] {
            let mut backoff = Backoff::new(MIN, MAX);
            let mut step = MIN;
            for _ in 0..10 {
                let delay = backoff.next_delay(random);
                assert!(
                    delay >= MIN.max(step / 2) && delay <= step,
                    "{delay:?} of {step:?}"
                );
                step = (step * 2).min(MAX);
            }
        }
    }

    #[test]
    fn a_huge_maximum_does_not_overflow() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::MAX / 4);
        for _ in 0..200 {
            let _ = backoff.next_delay(7);
        }
    }
}
