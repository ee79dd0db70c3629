//! A fixed rate of messages, from publishers in turn.

/// When the next message is due, and whose turn it is.
#[derive(Debug)]
pub struct Pace {
    interval_nanos: u64,
    next_nanos: u64,
    turn: usize,
    publishers: usize,
}

impl Pace {
    /// One thread's part of a rate: `publishers` of all `everyone` are its own. `None` if it has none.
    #[must_use]
    pub fn new(per_second: u32, publishers: usize, everyone: usize) -> Option<Self> {
        let share = publishers as u64 * u64::from(per_second);
        let interval_nanos = (1_000_000_000 * everyone as u64).checked_div(share)?;
        Some(Self {
            interval_nanos,
            next_nanos: 0,
            turn: 0,
            publishers,
        })
    }

    /// The first message is due now.
    pub fn begin(&mut self, now_nanos: u64) {
        self.next_nanos = now_nanos;
    }

    /// Whose turn it is, if a message is due.
    pub fn due(&mut self, now_nanos: u64) -> Option<usize> {
        if self.next_nanos > now_nanos {
            return None;
        }
        // After a hold-up the rate goes on; no more than ten messages are caught up at once.
        let earliest = now_nanos.saturating_sub(self.interval_nanos * 10);
        self.next_nanos = (self.next_nanos + self.interval_nanos).max(earliest);
        self.turn = (self.turn + 1) % self.publishers;
        Some(self.turn)
    }

    /// How long until the next message is due.
    #[must_use]
    pub fn nanos_until(&self, now_nanos: u64) -> u64 {
        self.next_nanos.saturating_sub(now_nanos)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_kept_and_everyone_has_a_turn() {
        let mut pace = Pace::new(1_000, 2, 4).expect("two publishers");
        pace.begin(5_000_000);
        let mut turns = [0; 2];
        for now in (5_000_000..1_005_000_000).step_by(100_000) {
            if let Some(turn) = pace.due(now) {
                turns[turn] += 1;
            }
        }
        assert_eq!(turns, [250, 250], "half of 1,000 in a second");
        assert!(Pace::new(1_000, 0, 4).is_none());
    }

    #[test]
    fn after_a_long_hold_up_there_is_no_great_burst() {
        let mut pace = Pace::new(1_000, 1, 1).expect("a publisher");
        pace.begin(0);
        let burst = std::iter::from_fn(|| pace.due(60_000_000_000)).count();
        assert!((10..=12).contains(&burst), "{burst} at once");
    }
}
