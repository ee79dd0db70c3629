//! `[mqtt]`: what one client may ask for.

use serde::Deserialize;

use crate::reader::{Checks, Section};

/// `[mqtt]`: what a client may ask for.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Mqtt {
    /// Longest Keep Alive in seconds (Server Keep Alive, §3.2.2.3.14); 0: whatever clients ask for.
    pub keep_alive_max_s: u16,
    /// Seconds from accept to CONNECT.
    pub connect_timeout_s: u64,
    /// Bytes of the CONNECT packet; all that is read before a client is known.
    pub max_connect_bytes: u32,
    /// Maximum Packet Size accepted from clients, bytes (§3.2.2.3.6).
    pub max_packet_bytes: u32,
    /// Highest QoS granted (§3.2.2.3.4).
    pub max_qos: u8,
    /// Receive Maximum: unacknowledged QoS 1 and 2 publishes from a client (§3.2.2.3.3).
    pub receive_maximum: u16,
    /// Unacknowledged QoS 1 and 2 publishes to a client, if it allows as many.
    pub max_inflight_out: u16,
    /// Topic Alias Maximum, in each direction (§3.2.2.3.8).
    pub topic_alias_maximum: u16,
    /// Longest Session Expiry Interval, seconds (§3.2.2.3.2).
    pub session_expiry_max_s: u32,
    /// Bytes of a Client Identifier.
    pub max_client_id_bytes: u16,
    /// Subscriptions of one session.
    pub max_subscriptions_per_session: u32,
}

impl Default for Mqtt {
    fn default() -> Self {
        Self {
            keep_alive_max_s: 0,
            connect_timeout_s: 10,
            max_connect_bytes: 16_384,
            max_packet_bytes: 1_048_576,
            max_qos: 2,
            receive_maximum: 1024,
            max_inflight_out: 1024,
            topic_alias_maximum: 64,
            session_expiry_max_s: 2_592_000,
            max_client_id_bytes: 256,
            max_subscriptions_per_session: 1000,
        }
    }
}

impl Section for Mqtt {
    fn check(&self, checks: &mut Checks<'_>) {
        checks.range(
            "connect_timeout_s",
            self.connect_timeout_s,
            1..=300,
            "a silent peer holds a connection that long",
        );
        checks.range(
            "max_connect_bytes",
            self.max_connect_bytes,
            512..=1_048_576,
            "a CONNECT with names, password and Will",
        );
        checks.range(
            "max_packet_bytes",
            self.max_packet_bytes,
            1024..=268_435_460,
            "MQTT encodes no larger packet",
        );
        checks.range("max_qos", self.max_qos, 0..=2, "MQTT has no other");
        checks.range(
            "receive_maximum",
            self.receive_maximum,
            1..=65_535,
            "0 is a protocol error",
        );
        checks.range(
            "max_inflight_out",
            self.max_inflight_out,
            1..=65_535,
            "0 would deliver nothing",
        );
        checks.range(
            "max_client_id_bytes",
            self.max_client_id_bytes,
            23..=65_535,
            "every server must accept 23",
        );
        checks.range(
            "max_subscriptions_per_session",
            self.max_subscriptions_per_session,
            1..=10_000_000,
            "each takes memory",
        );
    }
}
