//! The time of inputs to the core: the one place that reads clocks.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use tidings_core::shard::Now;

/// Gives the time of inputs; copies agree with each other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    start: Instant,
    started_unix_ms: u64,
}

impl Clock {
    pub fn new() -> Self {
        let clock = Self {
            start: Instant::now(),
            started_unix_ms: 0,
        };
        Self {
            started_unix_ms: clock.now().unix_ms,
            ..clock
        }
    }

    /// The wall clock for what cannot be taken back, such as what retention removes, in milliseconds:
    /// a clock that is set forward while the broker runs does not count, for it may be set back.
    pub fn careful_unix_ms(&self) -> u64 {
        careful(self.now(), self.started_unix_ms)
    }

    /// Both clocks, in milliseconds. A wall clock before 1970 counts as 1970.
    pub fn now(&self) -> Now {
        let millis =
            |duration: std::time::Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Now {
            monotonic_ms: millis(self.start.elapsed()),
            unix_ms: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, millis),
        }
    }

    /// Microseconds since shortly before the broker started; never 0.
    pub fn now_us(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_micros())
            .unwrap_or(u64::MAX)
            .max(1)
    }

    /// Seconds since the broker started.
    pub fn uptime_s(&self) -> u64 {
        self.start.elapsed().as_secs()
    }
}

fn careful(now: Now, started_unix_ms: u64) -> u64 {
    now.unix_ms
        .min(started_unix_ms.saturating_add(now.monotonic_ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_set_forward_makes_nothing_older_and_one_that_is_set_back_makes_it_younger() {
        let after_a_minute = |unix_ms| {
            let now = Now {
                monotonic_ms: 60_000,
                unix_ms,
            };
            careful(now, 1_000_000)
        };
        assert_eq!(after_a_minute(1_060_000), 1_060_000);
        assert_eq!(after_a_minute(900_000_000), 1_060_000);
        assert_eq!(after_a_minute(500), 500);
    }
}
