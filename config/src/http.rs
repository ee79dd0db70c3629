//! `[http]`: the HTTP API.

use serde::Deserialize;

use crate::reader::{Checks, Section};

/// `[http]`: the HTTP API on the WebSocket listeners.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Http {
    /// Hours that a login counts.
    pub login_hours: u32,
    /// Bytes of a request's body.
    pub max_body_bytes: usize,
    /// Who is given `/metrics`.
    pub metrics: MetricsAccess,
    /// Requests of one user in a minute.
    pub requests_per_minute: u32,
    /// Seconds between two signs of life of a stream.
    pub heartbeat_s: u32,
    /// Seconds that a poll may wait.
    pub max_poll_s: u32,
    /// Streams and waiting polls of one user.
    pub max_streams_per_user: u32,
}

/// Who is given `/metrics`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MetricsAccess {
    /// Requests from this machine that no proxy passed on, and administrators.
    #[default]
    Local,
    /// Administrators.
    Admin,
    /// Whoever asks.
    Anyone,
}

impl Default for Http {
    fn default() -> Self {
        Self {
            login_hours: 168,
            max_body_bytes: 1_048_576,
            metrics: MetricsAccess::Local,
            requests_per_minute: 6000,
            heartbeat_s: 15,
            max_poll_s: 60,
            max_streams_per_user: 50,
        }
    }
}

impl Section for Http {
    fn check(&self, checks: &mut Checks<'_>) {
        checks.range(
            "login_hours",
            u64::from(self.login_hours),
            1..=87_600,
            "a login lasts a while, and ends some day",
        );
        checks.range(
            "max_body_bytes",
            self.max_body_bytes as u64,
            1024..=268_435_456,
            "it is held in memory",
        );
        checks.range(
            "requests_per_minute",
            u64::from(self.requests_per_minute),
            1..=60_000,
            "0 would let nobody in",
        );
        checks.range(
            "heartbeat_s",
            u64::from(self.heartbeat_s),
            1..=300,
            "whoever is in between takes longer silence for the end",
        );
        checks.range(
            "max_poll_s",
            u64::from(self.max_poll_s),
            1..=300,
            "whoever is in between takes longer silence for the end",
        );
        checks.range(
            "max_streams_per_user",
            u64::from(self.max_streams_per_user),
            1..=100_000,
            "0 would let nobody read",
        );
    }
}
