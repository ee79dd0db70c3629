//! How often each user may ask: a bucket of requests that fills evenly.

use std::collections::HashMap;
use std::sync::Arc;

/// Users above which those who have not asked for a minute are forgotten.
const SWEEP_AT: usize = 4096;

const MINUTE_MS: u64 = 60_000;

/// Whether a request is to be carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Yes.
    Granted,
    /// No, and the user is to be told.
    Refused,
    /// No, and the user was told; who waits for an answer on a Response Topic is told each time.
    Ignored,
}

/// Requests of all users in the last minute.
#[derive(Debug)]
pub(crate) struct Pace {
    interval_ms: u64,
    users: HashMap<Arc<str>, Bucket>,
    sweep_at: usize,
}

#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    /// When it will be full again.
    full_at_ms: u64,
    told: bool,
}

impl Pace {
    pub fn new(per_minute: u32) -> Self {
        Self {
            interval_ms: MINUTE_MS / u64::from(per_minute.max(1)),
            users: HashMap::new(),
            sweep_at: SWEEP_AT,
        }
    }

    pub fn ask(&mut self, user: &str, now_ms: u64) -> Turn {
        if self.users.len() >= self.sweep_at {
            self.users.retain(|_, bucket| bucket.full_at_ms > now_ms);
            self.sweep_at = (2 * self.users.len()).max(SWEEP_AT);
        }
        let bucket = match self.users.get_mut(user) {
            Some(bucket) => bucket,
            None => self.users.entry(user.into()).or_default(),
        };
        let full_at_ms = bucket.full_at_ms.max(now_ms) + self.interval_ms;
        if full_at_ms > now_ms + MINUTE_MS {
            return match std::mem::replace(&mut bucket.told, true) {
                false => Turn::Refused,
                true => Turn::Ignored,
            };
        }
        *bucket = Bucket {
            full_at_ms,
            told: false,
        };
        Turn::Granted
    }
}

impl Pace {
    /// Takes back a turn that was granted and could not be used.
    pub fn give_back(&mut self, user: &str) {
        if let Some(bucket) = self.users.get_mut(user) {
            bucket.full_at_ms = bucket.full_at_ms.saturating_sub(self.interval_ms);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_who_asks_too_often_is_told_once_and_the_others_go_on() {
        let mut pace = Pace::new(6);
        for _ in 0..6 {
            assert_eq!(pace.ask("eve", 1000), Turn::Granted);
        }
        assert_eq!(pace.ask("eve", 1000), Turn::Refused);
        assert_eq!(pace.ask("eve", 1001), Turn::Ignored);
        assert_eq!(pace.ask("bob", 1001), Turn::Granted);
        assert_eq!(pace.ask("eve", 11_000), Turn::Granted);
        assert_eq!(pace.ask("eve", 11_001), Turn::Refused);
    }

    #[test]
    fn who_does_not_ask_takes_no_memory() {
        let mut pace = Pace::new(60);
        for n in 0..50_000_u64 {
            pace.ask(&n.to_string(), n * 1000);
        }
        assert!(pace.users.len() <= 2 * SWEEP_AT);
    }
}
