//! How a link is doing, for people: what `$SYS/broker/bridge/{name}/state` shows.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;
use tidings_core::message::UnixMillis;

/// Whether messages can pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LinkState {
    /// An attempt to connect is under way.
    Connecting,
    /// Connected on both sides.
    Up,
    /// Waiting for the next attempt, or ended.
    Down,
}

/// State and counters of a link, since this process began.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LinkStatus {
    /// Name of the link.
    pub name: String,
    /// Whether messages can pass.
    pub state: LinkState,
    /// Since when `state` is what it is, milliseconds since the Unix epoch.
    pub since: UnixMillis,
    /// Why the link was last down; stays after it is up again.
    pub last_error: Option<String>,
    /// Times that the link came up.
    pub connects: u64,
    /// Messages taken from the peer and, at QoS 1 and 2, acknowledged by our broker.
    pub messages_in: u64,
    /// Messages given to the peer and, at QoS 1 and 2, acknowledged by it.
    pub messages_out: u64,
    /// Messages read from our broker that the peer has not acknowledged yet.
    pub outstanding: usize,
    /// Messages that one side refused, or that are too large: dropped.
    pub refused: u64,
    /// Messages that were on their way back and went no further.
    pub loops: u64,
    /// Messages that no map carries, of subscriptions of an earlier configuration: ignored.
    pub unmapped: u64,
}

impl LinkStatus {
    pub(super) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            state: LinkState::Connecting,
            since: unix_millis(),
            last_error: None,
            connects: 0,
            messages_in: 0,
            messages_out: 0,
            outstanding: 0,
            refused: 0,
            loops: 0,
            unmapped: 0,
        }
    }

    pub(super) fn enter(&mut self, state: LinkState) {
        if self.state != state {
            self.state = state;
            self.since = unix_millis();
        }
    }

    /// One line of JSON.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

fn unix_millis() -> UnixMillis {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_is_one_line_of_json() {
        let json = LinkStatus {
            since: 7,
            ..LinkStatus::new("site")
        }
        .to_json();
        assert!(
            json.starts_with(r#"{"name":"site","state":"connecting","since":7,"#),
            "{json}"
        );
        assert!(!json.contains('\n'));
    }
}
