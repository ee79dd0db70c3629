//! Signs of life that a server asks for below MQTT: Pings of WebSocket, which keep what is in between
//! from closing a quiet connection, and find out that a peer is gone whose Keep Alive is long, or none.
//!
//! Each second asks those whose turn it is, by slot, so that a connection costs one look in an interval,
//! and nothing is held for it.

use std::rc::Rc;
use std::time::Duration;

use tidings_core::codec::ReasonCode;
use tokio::time::{MissedTickBehavior, interval};
use tracing::debug;

use super::flush::Local;

/// When peers are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pings {
    /// Seconds between two Pings to one peer.
    interval_s: usize,
    /// Seconds in which one has to be answered.
    timeout_s: usize,
}

impl Pings {
    /// Whole seconds, the second fewer than the first.
    pub fn new(interval: Duration, timeout: Duration) -> Self {
        let seconds =
            |duration: Duration| usize::try_from(duration.as_secs()).unwrap_or(usize::MAX);
        let interval_s = seconds(interval).max(2);
        Self {
            interval_s,
            timeout_s: seconds(timeout).clamp(1, interval_s - 1),
        }
    }

    /// The first slot that is asked in a second, and the first that has to have answered.
    const fn slots(self, second: usize) -> (usize, usize) {
        let asked = second % self.interval_s;
        let answered = (second + self.interval_s - self.timeout_s) % self.interval_s;
        (asked, answered)
    }
}

/// Runs as long as its thread.
pub(super) async fn ping_loop(local: Rc<Local>, pings: Pings) {
    let mut seconds = interval(Duration::from_secs(1));
    seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for second in 0_usize.. {
        seconds.tick().await;
        let (asked, answered) = pings.slots(second);
        let those = |first| local.connections.borrow().every(first, pings.interval_s);
        // Nobody is read from while some shard is behind.
        let is_read = !local.is_crowded();
        for connection in those(answered) {
            if is_read && connection.is_silent() {
                debug!(peer = %connection.origin, "no answer to a ping");
                connection.close_as(ReasonCode::KeepAliveTimeout);
                local.part(&connection);
            }
        }
        for connection in those(asked) {
            connection.ping();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_slot_is_asked_once_in_an_interval_and_looked_at_after_the_timeout() {
        let pings = Pings::new(Duration::from_secs(10), Duration::from_secs(4));
        for second in 0..40 {
            let (asked, _) = pings.slots(second);
            let (_, answered) = pings.slots(second + 4);
            assert_eq!((asked, answered), (second % 10, second % 10));
        }
        let hasty = Pings::new(Duration::from_secs(1), Duration::from_secs(9));
        assert_eq!((hasty.interval_s, hasty.timeout_s), (2, 1));
    }
}
