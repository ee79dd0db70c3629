//! The limits of a running broker: what is counted when one is reached, who is banned, what users and
//! rooms spend together, and whether memory and disk are scarce.
//!
//! ```text
//! accept -> Admission -> CONNECT -> Admission, Bans -> shard (Bounds, Meters)
//! each second: Pressure -> memory: no new connections -> disk: nothing more is kept
//! ```
//! Invariants: each limit is counted where it is enforced, under the name that
//! [`tidings_core::limits`] has for it; every table here is bounded; times are of the broker's clock.
//! This module does not know sockets, packets or sessions.

mod bans;
mod book;
mod meters;
mod networks;
mod pressure;

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use ipnet::IpNet;
use tidings_core::limits::{FlowRate, Hits, Limit};

use crate::clock::Clock;

pub use bans::{Ban, Banned};
pub(crate) use book::MAX_WORDS;
pub use book::{BanBook, BanError, Sentence};
pub(crate) use networks::network_of;
pub(crate) use pressure::{Pressure, watch};

/// Limits on clients, one by one and all together. 0 is no limit, unless said otherwise.
#[derive(Clone, Debug)]
pub struct Options {
    /// Connections at one time, at least 1.
    pub max_connections: usize,
    /// The same from one address (IPv6: one /64).
    pub max_connections_per_address: u32,
    /// The same of one user.
    pub max_connections_per_user: u32,
    /// CONNECTs in a second.
    pub connects_per_second: u32,
    /// The same from one address.
    pub connects_per_second_per_address: u32,
    /// Peers that nothing is known of, at least 1.
    pub max_handshakes: u32,
    /// The same from one address.
    pub max_handshakes_per_address: u32,
    /// Addresses that have no limits of their own and are not banned.
    pub unlimited: Vec<IpNet>,
    /// Shared subscriptions of everybody.
    pub max_share_groups: u32,
    /// The same of one user.
    pub max_share_groups_per_user: u32,
    /// What a user may publish.
    pub user_rate: FlowRate,
    /// What may be published to a room.
    pub room_rate: FlowRate,
    /// After how long a session that is behind is listed.
    pub slow_after: Duration,
    /// Bytes of memory above which nobody new is let in; 0: three quarters of what there is.
    pub memory_bytes: u64,
    /// Bytes of free disk below which nothing more is kept.
    pub disk_free_bytes: u64,
    /// Offences of one address within `ban_window` that ban it; 0: never.
    pub ban_after_offences: u32,
    /// Connects of one client within `ban_window` that ban it; 0: never.
    pub ban_after_connects: u32,
    /// Over which both are counted.
    pub ban_window: Duration,
    /// How long such a ban lasts.
    pub ban: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            max_connections: 10_000,
            max_connections_per_address: 0,
            max_connections_per_user: 0,
            connects_per_second: 0,
            connects_per_second_per_address: 0,
            max_handshakes: 4096,
            max_handshakes_per_address: 0,
            unlimited: Vec::new(),
            max_share_groups: 0,
            max_share_groups_per_user: 0,
            user_rate: FlowRate::default(),
            room_rate: FlowRate::default(),
            slow_after: Duration::from_secs(10),
            memory_bytes: 0,
            disk_free_bytes: 0,
            ban_after_offences: 0,
            ban_after_connects: 0,
            ban_window: Duration::from_secs(60),
            ban: Duration::from_secs(300),
        }
    }
}

/// What is counted and remembered of limits, for all threads.
pub(crate) struct Limits {
    pub options: Options,
    pub clock: Clock,
    pub bans: bans::Bans,
    pub meters: Arc<meters::SharedMeters>,
    pub pressure: Pressure,
    hits: [AtomicU64; Limit::ALL.len()],
}

impl Limits {
    /// `folder` has the bans that people made, and will.
    pub fn new(options: Options, clock: Clock, folder: PathBuf) -> Self {
        Self {
            bans: bans::Bans::load(&options, folder),
            meters: Arc::new(meters::SharedMeters::new(&options)),
            pressure: Pressure::default(),
            hits: std::array::from_fn(|_| AtomicU64::new(0)),
            options,
            clock,
        }
    }

    /// A limit was reached.
    pub fn hit(&self, limit: Limit) {
        if let Some(hits) = self.hits.get(limit as usize) {
            hits.fetch_add(1, Relaxed);
        }
    }

    /// How often limits were reached outside of shards.
    pub fn hits(&self) -> Hits {
        let mut hits = Hits::default();
        for (limit, count) in Limit::ALL.iter().zip(&self.hits) {
            hits.add(*limit, count.load(Relaxed));
        }
        hits
    }

    /// An address failed to sign in, broke the protocol or ran into a limit.
    pub fn offence(&self, address: Option<IpAddr>) {
        if let Some(address) = address.filter(|address| self.is_limited(address)) {
            self.bans.offence(address, self.clock.now());
        }
    }

    /// Whether an address has limits of its own.
    pub fn is_limited(&self, address: &IpAddr) -> bool {
        let address = address.to_canonical();
        let has = |network: &IpNet| network.contains(&address);
        !self.options.unlimited.iter().any(has)
    }

    /// Whether an address is banned; that it is, is counted.
    pub fn is_address_banned(&self, address: IpAddr) -> bool {
        let banned = self.bans.refuses_address(address, self.clock.now().unix_ms);
        if banned {
            self.hit(Limit::Banned);
        }
        banned
    }

    /// Whether a user or a client is banned; that it is, is counted.
    pub fn is_client_banned(&self, user: &str, client_id: &str) -> bool {
        let now = self.clock.now().unix_ms;
        let banned = self.bans.refuses_client(user, client_id, now);
        if banned {
            self.hit(Limit::Banned);
        }
        banned
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the shipped file says above a key of a section.
    fn comment_of(setting: &str) -> Option<String> {
        let shipped = include_str!("../../../config/tidings.toml");
        let (section, key) = setting.split_once('.')?;
        let (_, rest) = shipped
            .split_once(&format!("\n[{section}]\n"))
            .or_else(|| shipped.split_once(&format!("\n[[{section}]]\n")))?;
        let mut comment = String::new();
        for line in rest.lines().take_while(|line| !line.starts_with('[')) {
            if let Some(words) = line.strip_prefix('#') {
                comment.push_str(words);
            } else if line.starts_with(&format!("{key} = ")) {
                return Some(comment);
            } else {
                comment.clear();
            }
        }
        None
    }

    #[test]
    fn every_limit_is_documented_with_unit_range_behaviour_and_default() {
        let units = [
            "Connections",
            "CONNECT",
            "Peers",
            "Seconds",
            "Bytes",
            "Levels",
            "Properties",
            "Filters",
            "Subscriptions",
            "Shared",
            "Publishes",
            "Messages",
            "MiB",
            "Sessions",
            "Offences",
        ];
        for limit in Limit::ALL {
            let setting = limit.setting();
            let comment = comment_of(setting);
            let comment = comment.unwrap_or_else(|| panic!("{setting} is not in the shipped file"));
            let comment = comment.trim();
            assert!(
                units.iter().any(|unit| comment.starts_with(unit)),
                "{setting} begins with no unit: {comment}"
            );
            let range = comment.split(['.', ';']).next().unwrap_or_default();
            assert!(range.contains(" to "), "{setting} has no range: {comment}");
            assert!(
                comment.contains("At the limit: ") || comment.contains("limit: "),
                "{setting} does not say what happens: {comment}"
            );
            let (_, reason) = comment
                .split_once("Default")
                .unwrap_or_else(|| panic!("{setting} says no default: {comment}"));
            assert!(
                reason
                    .split_once(": ")
                    .is_some_and(|(_, why)| why.len() > 10),
                "{setting} gives no reason for its default: {comment}"
            );
        }
    }

    #[test]
    fn addresses_in_an_unlimited_network_commit_no_offences() {
        let options = Options {
            unlimited: vec!["127.0.0.0/8".parse().unwrap()],
            ban_after_offences: 1,
            ..Options::default()
        };
        let folder = tempfile::tempdir().unwrap();
        let limits = Limits::new(options, Clock::new(), folder.path().to_owned());
        let (here, there) = ("127.0.0.1".parse().unwrap(), "192.0.2.1".parse().unwrap());
        for _ in 0..3 {
            limits.offence(Some(here));
            limits.offence(Some(there));
        }
        assert!(!limits.is_limited(&"::ffff:127.0.0.2".parse().unwrap()));
        assert!(!limits.is_address_banned(here));
        assert!(limits.is_address_banned(there));
        assert_eq!(limits.hits().of(Limit::Banned), 1);
    }
}
