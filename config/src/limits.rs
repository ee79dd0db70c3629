//! `[limits]`: what clients may use, one by one and all together.

use serde::Deserialize;

use crate::listen::Networks;
use crate::reader::{Checks, Section};

/// `[limits]`: bounds on clients and on the whole server.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Connections at one time; more are refused.
    pub max_connections: usize,
    /// The same from one address (IPv6: one /64); 0: no limit.
    pub max_connections_per_address: u32,
    /// The same of one user; 0: no limit.
    pub max_connections_per_user: u32,
    /// CONNECTs in a second, of everybody; 0: no limit.
    pub connects_per_second: u32,
    /// The same from one address; 0: no limit.
    pub connects_per_second_per_address: u32,
    /// Peers that have not said who they are.
    pub max_handshakes: u32,
    /// The same from one address; 0: no limit.
    pub max_handshakes_per_address: u32,
    /// Bytes of a topic or filter.
    pub max_topic_bytes: u32,
    /// Levels of a topic or filter.
    pub max_topic_levels: u32,
    /// User Properties of one packet; 0: no limit.
    pub max_user_properties: u32,
    /// Bytes of the User Properties of one packet; 0: no limit.
    pub max_user_property_bytes: u32,
    /// Filters of one SUBSCRIBE; 0: no limit.
    pub max_filters_per_subscribe: u32,
    /// Filters that one connection asks for or gives back in a second; 0: no limit.
    pub filters_per_second_per_client: u32,
    /// Shared subscriptions of everybody; 0: no limit.
    pub max_share_groups: u32,
    /// The same of one user; 0: no limit.
    pub max_share_groups_per_user: u32,
    /// PUBLISH packets of one connection in a second; 0: no limit.
    pub publishes_per_second_per_client: u32,
    /// Bytes of what one connection publishes in a second; 0: no limit.
    pub publish_bytes_per_second_per_client: u64,
    /// PUBLISH packets of one user in a second; 0: no limit.
    pub publishes_per_second_per_user: u32,
    /// Bytes of what one user publishes in a second; 0: no limit.
    pub publish_bytes_per_second_per_user: u64,
    /// Messages to one room in a second; 0: no limit.
    pub publishes_per_second_per_room: u32,
    /// Bytes of the messages to one room in a second; 0: no limit.
    pub publish_bytes_per_second_per_room: u64,
    /// Seconds of a publish rate that may come at once.
    pub publish_burst_s: u32,
    /// Retained messages; 0: no limit.
    pub max_retained_messages: u64,
    /// MiB of all retained messages; 0: no limit.
    pub max_retained_mib: u64,
    /// The same count of one user.
    pub max_retained_messages_per_user: u64,
    /// The same memory of one user.
    pub max_retained_mib_per_user: u64,
    /// Sessions that outlive their connections; 0: no limit.
    pub max_sessions: u64,
    /// Bytes waiting to be written to one connection; over it the receiver lags and reads on from
    /// the journal.
    pub output_bytes_per_connection: usize,
    /// Seconds that a session is behind before it is listed as slow.
    pub slow_after_s: u32,
    /// MiB of memory above which nobody new is let in; 0: three quarters of the machine's.
    pub memory_mib: u64,
    /// MiB of free disk below which nothing more is kept; 0: no limit.
    pub disk_free_mib: u64,
    /// Offences within ban_window_s that ban an address; 0: never.
    pub ban_after_offences: u32,
    /// Connects of one client within ban_window_s that ban it; 0: never.
    pub ban_after_connects: u32,
    /// Seconds after which what was counted is forgotten.
    pub ban_window_s: u32,
    /// Seconds that a ban lasts.
    pub ban_s: u32,
    /// Networks whose addresses are not limited nor banned, such as 10.0.0.0/8.
    pub unlimited_addresses: Networks,
}

impl Default for Limits {
    fn default() -> Self {
        let here = ["127.0.0.0/8", "::1/128"]
            .into_iter()
            .filter_map(|text| text.parse().ok());
        Self {
            max_connections: 10_000,
            max_connections_per_address: 1000,
            max_connections_per_user: 1000,
            connects_per_second: 0,
            connects_per_second_per_address: 100,
            max_handshakes: 4096,
            max_handshakes_per_address: 512,
            max_topic_bytes: 65_535,
            max_topic_levels: 128,
            max_user_properties: 128,
            max_user_property_bytes: 16_384,
            max_filters_per_subscribe: 1000,
            filters_per_second_per_client: 100,
            max_share_groups: 100_000,
            max_share_groups_per_user: 1000,
            publishes_per_second_per_client: 0,
            publish_bytes_per_second_per_client: 0,
            publishes_per_second_per_user: 0,
            publish_bytes_per_second_per_user: 0,
            publishes_per_second_per_room: 0,
            publish_bytes_per_second_per_room: 0,
            publish_burst_s: 5,
            max_retained_messages: 1_000_000,
            max_retained_mib: 1024,
            max_retained_messages_per_user: 100_000,
            max_retained_mib_per_user: 256,
            max_sessions: 1_000_000,
            output_bytes_per_connection: 65_536,
            slow_after_s: 10,
            memory_mib: 0,
            disk_free_mib: 256,
            ban_after_offences: 100,
            ban_after_connects: 120,
            ban_window_s: 60,
            ban_s: 300,
            unlimited_addresses: Networks(here.collect()),
        }
    }
}

impl Section for Limits {
    fn check(&self, checks: &mut Checks<'_>) {
        let ranges = [
            (
                "max_connections",
                self.max_connections as u64,
                1..=10_000_000,
                "each takes a file descriptor",
            ),
            (
                "max_connections_per_address",
                u64::from(self.max_connections_per_address),
                0..=10_000_000,
                "0 is no limit",
            ),
            (
                "max_connections_per_user",
                u64::from(self.max_connections_per_user),
                0..=10_000_000,
                "0 is no limit",
            ),
            (
                "connects_per_second",
                u64::from(self.connects_per_second),
                0..=1_000_000,
                "0 is no limit",
            ),
            (
                "connects_per_second_per_address",
                u64::from(self.connects_per_second_per_address),
                0..=1_000_000,
                "0 is no limit",
            ),
            (
                "max_handshakes",
                u64::from(self.max_handshakes),
                1..=1_000_000,
                "each may hold max_connect_bytes",
            ),
            (
                "max_handshakes_per_address",
                u64::from(self.max_handshakes_per_address),
                0..=1_000_000,
                "0 is no limit",
            ),
            (
                "max_topic_bytes",
                u64::from(self.max_topic_bytes),
                16..=65_535,
                "MQTT has no longer ones",
            ),
            (
                "max_topic_levels",
                u64::from(self.max_topic_levels),
                1..=128,
                "the broker matches no deeper ones",
            ),
            (
                "max_user_properties",
                u64::from(self.max_user_properties),
                0..=1_000_000,
                "0 is no limit",
            ),
            (
                "max_user_property_bytes",
                u64::from(self.max_user_property_bytes),
                0..=268_435_455,
                "0 is no limit",
            ),
            (
                "max_filters_per_subscribe",
                u64::from(self.max_filters_per_subscribe),
                0..=1_000_000,
                "0 is no limit",
            ),
            (
                "filters_per_second_per_client",
                u64::from(self.filters_per_second_per_client),
                0..=1_000_000,
                "0 is no limit",
            ),
            (
                "max_share_groups",
                u64::from(self.max_share_groups),
                0..=10_000_000,
                "0 is no limit",
            ),
            (
                "max_share_groups_per_user",
                u64::from(self.max_share_groups_per_user),
                0..=10_000_000,
                "0 is no limit",
            ),
            (
                "publishes_per_second_per_client",
                u64::from(self.publishes_per_second_per_client),
                0..=1_000_000_000,
                "0 is no limit",
            ),
            (
                "publish_bytes_per_second_per_client",
                self.publish_bytes_per_second_per_client,
                0..=1_000_000_000_000,
                "0 is no limit",
            ),
            (
                "publishes_per_second_per_user",
                u64::from(self.publishes_per_second_per_user),
                0..=1_000_000_000,
                "0 is no limit",
            ),
            (
                "publish_bytes_per_second_per_user",
                self.publish_bytes_per_second_per_user,
                0..=1_000_000_000_000,
                "0 is no limit",
            ),
            (
                "publishes_per_second_per_room",
                u64::from(self.publishes_per_second_per_room),
                0..=1_000_000_000,
                "0 is no limit",
            ),
            (
                "publish_bytes_per_second_per_room",
                self.publish_bytes_per_second_per_room,
                0..=1_000_000_000_000,
                "0 is no limit",
            ),
            (
                "publish_burst_s",
                u64::from(self.publish_burst_s),
                1..=3_600,
                "less than a second is no rate",
            ),
            (
                "max_retained_messages",
                self.max_retained_messages,
                0..=1_000_000_000,
                "0 is no limit",
            ),
            (
                "max_retained_mib",
                self.max_retained_mib,
                0..=1_073_741_824,
                "0 is no limit",
            ),
            (
                "max_retained_messages_per_user",
                self.max_retained_messages_per_user,
                0..=1_000_000_000,
                "0 is no limit",
            ),
            (
                "max_retained_mib_per_user",
                self.max_retained_mib_per_user,
                0..=1_073_741_824,
                "0 is no limit",
            ),
            (
                "max_sessions",
                self.max_sessions,
                0..=1_000_000_000,
                "0 is no limit",
            ),
            (
                "output_bytes_per_connection",
                self.output_bytes_per_connection as u64,
                4096..=1_073_741_824,
                "memory is this times the slow receivers",
            ),
            (
                "slow_after_s",
                u64::from(self.slow_after_s),
                1..=86_400,
                "the list is looked at by people",
            ),
            (
                "memory_mib",
                self.memory_mib,
                0..=1_073_741_824,
                "0 is three quarters of the machine's",
            ),
            (
                "disk_free_mib",
                self.disk_free_mib,
                0..=1_073_741_824,
                "0 is no limit",
            ),
            (
                "ban_after_offences",
                u64::from(self.ban_after_offences),
                0..=1_000_000,
                "0 is never",
            ),
            (
                "ban_after_connects",
                u64::from(self.ban_after_connects),
                0..=1_000_000,
                "0 is never",
            ),
            (
                "ban_window_s",
                u64::from(self.ban_window_s),
                1..=86_400,
                "0 would count nothing",
            ),
            (
                "ban_s",
                u64::from(self.ban_s),
                1..=31_536_000,
                "0 would be none",
            ),
        ];
        for (key, value, range, why) in ranges {
            checks.range(key, value, range, why);
        }
    }
}
