//! `[websocket]`: how WebSockets are spoken.

use serde::Deserialize;

use crate::reader::{Checks, Section};

/// `[websocket]`: on all listeners where WebSocket is spoken.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WebSocket {
    /// Messages may be compressed, if the client wants it.
    pub compression: bool,
    /// Bytes below which a message goes as it is.
    pub compress_from_bytes: u32,
    /// Times the bytes of a compressed message that it may become.
    pub max_expansion: u32,
    /// Pages of other hosts that may connect.
    pub origins: Vec<String>,
    /// Seconds between two Pings; 0: none are sent.
    pub ping_interval_s: u32,
    /// Seconds in which a Ping has to be answered.
    pub ping_timeout_s: u32,
}

impl Default for WebSocket {
    fn default() -> Self {
        Self {
            compression: true,
            compress_from_bytes: 1024,
            max_expansion: 100,
            origins: Vec::new(),
            ping_interval_s: 50,
            ping_timeout_s: 25,
        }
    }
}

impl Section for WebSocket {
    fn check(&self, checks: &mut Checks<'_>) {
        checks.range(
            "compress_from_bytes",
            u64::from(self.compress_from_bytes),
            64..=1_048_576,
            "less does not become smaller",
        );
        checks.range(
            "max_expansion",
            u64::from(self.max_expansion),
            2..=1100,
            "no message can become more than 1032 times as large",
        );
        checks.range(
            "ping_interval_s",
            u64::from(self.ping_interval_s),
            0..=86_400,
            "0 is never",
        );
        checks.range(
            "ping_timeout_s",
            u64::from(self.ping_timeout_s),
            1..=3600,
            "an answer takes a while",
        );
        if self.ping_interval_s > 0 && self.ping_timeout_s >= self.ping_interval_s {
            checks.refuse("ping_timeout_s", "must be less than ping_interval_s");
        }
        check_origins(checks, &self.origins);
    }
}

/// Refuses what is no origin; the broker looks closer.
pub(crate) fn check_origins(checks: &mut Checks<'_>, origins: &[String]) {
    for origin in origins {
        if origin != "*" && (!origin.contains("://") || origin.ends_with('/')) {
            checks.refuse(
                    "origins",
                    format_args!(
                        "\"{origin}\" is no origin, such as https://chat.example.org, https://*.example.org or * for all"
                    ),
                );
        }
    }
}
