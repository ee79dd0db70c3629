//! Recognising what a 3.1.1 peer sends back to us because we subscribe to what we publish.
//!
//! MQTT 3.1.1 has no No Local, so each message we publish to a topic that we also subscribe comes
//! back once. We expect it, as topic and hash of the payload, with a count: of two equal messages,
//! one ours and one another client's, it does not matter which is taken for the echo, one remains.
//!
//! Where it can err, it errs to a duplicate and never to a loss: what is expected is forgotten
//! after [`EXPECTED_FOR`], and not even noted above [`MAX_EXPECTED`]. A duplicate that got in that
//! way is not sent out again, because it is marked with the peer it came from (`hops`).

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use tokio::time::Instant;

/// How long an echo is waited for. A peer that echoes does so right after the message, and behind
/// at most its own in-flight window; one that does not (no permission to read) would otherwise make
/// us swallow a later message with the same content.
pub(super) const EXPECTED_FOR: Duration = Duration::from_secs(30);

/// Most echoes expected at once: 24 bytes each and some for the map, so about 4 MB at most.
pub(super) const MAX_EXPECTED: usize = 65_536;

/// Echoes that are still to come.
#[derive(Debug, Default)]
pub(super) struct Echoes {
    hasher: RandomState,
    /// When each expectation ends, oldest first.
    expected: HashMap<u64, VecDeque<Instant>>,
    len: usize,
}

impl Echoes {
    /// Notes that this message is about to be published to the peer.
    pub(super) fn expect(&mut self, topic: &str, payload: &[u8], now: Instant) {
        if self.len == MAX_EXPECTED {
            self.expire(now);
        }
        if self.len < MAX_EXPECTED {
            let key = self.hasher.hash_one((topic, payload));
            self.expected
                .entry(key)
                .or_default()
                .push_back(now + EXPECTED_FOR);
            self.len += 1;
        }
    }

    /// True if this message from the peer is one that we published; it is not expected again then.
    pub(super) fn take(&mut self, topic: &str, payload: &[u8], now: Instant) -> bool {
        let key = self.hasher.hash_one((topic, payload));
        let Some(ends) = self.expected.get_mut(&key) else {
            return false;
        };
        let before = ends.len();
        while ends.front().is_some_and(|&end| end <= now) {
            ends.pop_front();
        }
        let found = ends.pop_front().is_some();
        self.len -= before - ends.len();
        if ends.is_empty() {
            self.expected.remove(&key);
        }
        found
    }

    /// Forgets what did not come in time.
    fn expire(&mut self, now: Instant) {
        self.expected.retain(|_, ends| {
            while ends.front().is_some_and(|&end| end <= now) {
                ends.pop_front();
                self.len -= 1;
            }
            !ends.is_empty()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_echo_is_taken_once_per_message_sent() {
        let now = Instant::now();
        let mut echoes = Echoes::default();
        echoes.expect("light", b"on", now);
        echoes.expect("light", b"on", now);
        echoes.expect("light", b"off", now);
        assert!(!echoes.take("other", b"on", now));
        assert!(echoes.take("light", b"on", now));
        assert!(echoes.take("light", b"on", now));
        assert!(
            !echoes.take("light", b"on", now),
            "this one is another client's"
        );
        assert!(echoes.take("light", b"off", now));
        assert_eq!(echoes.len, 0);
    }

    #[test]
    fn topic_and_payload_do_not_run_together() {
        let now = Instant::now();
        let mut echoes = Echoes::default();
        echoes.expect("ab", b"c", now);
        assert!(!echoes.take("a", b"bc", now));
    }

    #[test]
    fn an_echo_that_did_not_come_in_time_is_not_taken() {
        let now = Instant::now();
        let mut echoes = Echoes::default();
        echoes.expect("light", b"on", now);
        echoes.expect("light", b"on", now + EXPECTED_FOR / 2);
        let later = now + EXPECTED_FOR;
        assert!(
            echoes.take("light", b"on", later),
            "the second one is still in time"
        );
        assert!(!echoes.take("light", b"on", later));
        echoes.expect("light", b"on", now);
        echoes.expire(later);
        assert_eq!(echoes.len, 0);
        assert!(echoes.expected.is_empty());
    }

    #[test]
    fn expectations_are_bounded() {
        let now = Instant::now();
        let mut echoes = Echoes::default();
        for _ in 0..=MAX_EXPECTED {
            echoes.expect("t", b"", now);
        }
        assert_eq!(echoes.len, MAX_EXPECTED);
    }
}
