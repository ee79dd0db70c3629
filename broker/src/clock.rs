//! The time of inputs to the core: the one place that reads clocks.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use tidings_core::shard::Now;

/// Gives the time of inputs; copies agree with each other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    start: Instant,
}

impl Clock {
    pub fn new() -> Self {
        Self {
            start: Instant::now(),
        }
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
