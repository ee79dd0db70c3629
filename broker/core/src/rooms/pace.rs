//! Slow mode: who wrote when in rooms that have it. Forgotten at a restart, which costs nobody more
//! than one interval.

use std::collections::HashMap;
use std::sync::Arc;

use crate::message::UnixMillis;

/// Above as many entries, those whose interval is over are dropped.
const SWEEP_AT: usize = 1024;

/// When members of slow rooms may write again.
#[derive(Debug, Default)]
pub struct Turns {
    next: HashMap<(Arc<str>, Arc<str>), UnixMillis>,
    sweep_at: usize,
}

impl Turns {
    /// When the user may write again; `None`: now.
    pub fn next(&self, room: &str, user: &str, now: UnixMillis) -> Option<UnixMillis> {
        let key = (Arc::from(room), Arc::from(user));
        self.next.get(&key).copied().filter(|next| *next > now)
    }

    /// The user wrote. At most one entry per member and interval is held.
    pub fn take(&mut self, room: &str, user: &str, now: UnixMillis, slow_s: u32) {
        if self.next.len() >= self.sweep_at.max(SWEEP_AT) {
            self.next.retain(|_, next| *next > now);
            self.sweep_at = self.next.len() * 2;
        }
        let next = now.saturating_add(u64::from(slow_s) * 1000);
        self.next.insert((room.into(), user.into()), next);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_comes_again_after_the_interval() {
        let mut turns = Turns::default();
        assert_eq!(turns.next("r", "a", 0), None);
        turns.take("r", "a", 1000, 10);
        assert_eq!(turns.next("r", "a", 5000), Some(11_000));
        assert_eq!(turns.next("r", "b", 5000), None);
        assert_eq!(turns.next("r", "a", 11_000), None);
    }

    #[test]
    fn what_is_over_is_forgotten() {
        let mut turns = Turns::default();
        for n in 0..100_000_u64 {
            turns.take("r", &n.to_string(), n * 1000, 1);
        }
        assert!(turns.next.len() <= 2 * SWEEP_AT);
    }
}
