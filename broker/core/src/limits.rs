//! Every limit there is, by name: what is counted when one is reached, which setting sets it, and the
//! rates that publishers are held to.
//!
//! Invariants: the names are those of `/metrics`, of `$SYS/broker/limits/` and of the documentation; the
//! table has each of them once. Time is an argument; a [`Bucket`] knows nothing but what was spent and
//! when. This module does not know who enforces a limit.

macro_rules! limits {
    ($($(#[doc = $doc:literal])* $name:ident $word:literal $key:literal;)*) => {
        /// A limit, by what it bounds.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Limit {
            $($(#[doc = $doc])* $name,)*
        }

        impl Limit {
            /// All of them, in the order of the table.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The word in metrics, in `$SYS` and in logs.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $word,)*
                }
            }

            /// The setting, with its section; the first one if several set it.
            pub const fn setting(self) -> &'static str {
                match self {
                    $(Self::$name => $key,)*
                }
            }
        }
    };
}

limits! {
    /// Connections of all clients.
    Connections "connections" "limits.max_connections";
    /// Connections by one listener.
    ConnectionsOfListener "connections_of_listener" "listeners.max_connections";
    /// Connections from one address.
    ConnectionsPerAddress "connections_per_address" "limits.max_connections_per_address";
    /// Connections of one user.
    ConnectionsPerUser "connections_per_user" "limits.max_connections_per_user";
    /// CONNECTs in a second.
    ConnectRate "connect_rate" "limits.connects_per_second";
    /// CONNECTs in a second from one address.
    ConnectRatePerAddress "connect_rate_per_address" "limits.connects_per_second_per_address";
    /// Peers that nothing is known of yet.
    Handshakes "handshakes" "limits.max_handshakes";
    /// Such peers from one address.
    HandshakesPerAddress "handshakes_per_address" "limits.max_handshakes_per_address";
    /// From the connection to its CONNECT.
    ConnectTime "connect_time" "mqtt.connect_timeout_s";
    /// Bytes before and of the CONNECT.
    ConnectBytes "connect_bytes" "mqtt.max_connect_bytes";
    /// Bytes of a Client Identifier.
    ClientIdBytes "client_id_bytes" "mqtt.max_client_id_bytes";
    /// Somebody is banned.
    Banned "banned" "limits.ban_after_offences";
    /// Memory of the process.
    Memory "memory" "limits.memory_mib";
    /// Free space on the disk.
    Disk "disk" "limits.disk_free_mib";
    /// Bytes of a packet.
    PacketBytes "packet_bytes" "mqtt.max_packet_bytes";
    /// Bytes of a topic or a filter.
    TopicBytes "topic_bytes" "limits.max_topic_bytes";
    /// Levels of a topic or a filter.
    TopicLevels "topic_levels" "limits.max_topic_levels";
    /// User Properties of one packet.
    UserProperties "user_properties" "limits.max_user_properties";
    /// Bytes of the User Properties of one packet.
    UserPropertyBytes "user_property_bytes" "limits.max_user_property_bytes";
    /// Filters of one SUBSCRIBE.
    FiltersPerSubscribe "filters_per_subscribe" "limits.max_filters_per_subscribe";
    /// Filters of one client in a second.
    FilterRate "filter_rate" "limits.filters_per_second_per_client";
    /// Subscriptions of one session.
    Subscriptions "subscriptions" "mqtt.max_subscriptions_per_session";
    /// Shared subscriptions of everybody.
    ShareGroups "share_groups" "limits.max_share_groups";
    /// Shared subscriptions of one user.
    ShareGroupsPerUser "share_groups_per_user" "limits.max_share_groups_per_user";
    /// Publishes of one client that wait for the disk.
    InflightIn "inflight_in" "mqtt.receive_maximum";
    /// Publishes to one client that it has not acknowledged.
    InflightOut "inflight_out" "mqtt.max_inflight_out";
    /// Bytes that wait for one socket.
    Output "output" "limits.output_bytes_per_connection";
    /// Publishes, or their bytes, of one client in a second.
    PublishRate "publish_rate" "limits.publishes_per_second_per_client";
    /// Publishes, or their bytes, of one user in a second.
    PublishRatePerUser "publish_rate_per_user" "limits.publishes_per_second_per_user";
    /// Publishes, or their bytes, to one room in a second.
    PublishRatePerRoom "publish_rate_per_room" "limits.publishes_per_second_per_room";
    /// Retained messages.
    Retained "retained" "limits.max_retained_messages";
    /// Bytes of all retained messages.
    RetainedBytes "retained_bytes" "limits.max_retained_mib";
    /// Retained messages of one user.
    RetainedPerUser "retained_per_user" "limits.max_retained_messages_per_user";
    /// Bytes of the retained messages of one user.
    RetainedBytesPerUser "retained_bytes_per_user" "limits.max_retained_mib_per_user";
    /// Sessions that outlive their connections.
    Sessions "sessions" "limits.max_sessions";
    /// What waits on disk for a session.
    Backlog "backlog" "journal.backlog_max_bytes";
}

/// How often each limit was reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hits([u64; Limit::ALL.len()]);

impl Default for Hits {
    fn default() -> Self {
        Self([0; Limit::ALL.len()])
    }
}

impl Hits {
    /// A limit was reached.
    pub fn add(&mut self, limit: Limit, count: u64) {
        if let Some(hits) = self.0.get_mut(limit as usize) {
            *hits += count;
        }
    }

    /// How often it was.
    pub fn of(&self, limit: Limit) -> u64 {
        self.0.get(limit as usize).copied().unwrap_or(0)
    }

    /// What others counted, on top.
    pub fn absorb(&mut self, others: &Self) {
        for (own, other) in self.0.iter_mut().zip(others.0) {
            *own += other;
        }
    }
}

/// A rate: so many in a second, and so many at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rate {
    /// In a second; 0: as many as one likes.
    pub per_second: u64,
    /// At once, after a pause.
    pub burst: u64,
}

impl Rate {
    /// There is no such limit.
    pub const NONE: Self = Self {
        per_second: 0,
        burst: 0,
    };

    /// So many in a second, and at once what `seconds` of it give.
    pub fn new(per_second: u64, seconds: u64) -> Self {
        Self {
            per_second,
            burst: per_second.saturating_mul(seconds).max(1),
        }
    }
}

/// What was spent of a rate, in thousandths; time gives it back. It may be overdrawn: then the average
/// holds because who overdrew it has to wait longer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bucket {
    spent_millis: u64,
    at_ms: u64,
}

impl Bucket {
    fn spent_now(self, rate: Rate, now_ms: u64) -> u64 {
        let passed_ms = now_ms.saturating_sub(self.at_ms);
        // One in a second is one thousandth in a millisecond.
        self.spent_millis
            .saturating_sub(passed_ms.saturating_mul(rate.per_second))
    }

    /// Takes `amount`, whether it is there or not.
    pub fn spend(&mut self, rate: Rate, amount: u64, now_ms: u64) {
        if rate.per_second == 0 {
            return;
        }
        *self = Self {
            spent_millis: self
                .spent_now(rate, now_ms)
                .saturating_add(amount.saturating_mul(1000)),
            at_ms: self.at_ms.max(now_ms),
        };
    }

    /// Milliseconds until it is not overdrawn; 0: it is not.
    pub fn wait_ms(&self, rate: Rate, now_ms: u64) -> u64 {
        if rate.per_second == 0 {
            return 0;
        }
        let full = rate.burst.saturating_mul(1000);
        let over = self.spent_now(rate, now_ms).saturating_sub(full);
        over.div_ceil(rate.per_second)
    }

    /// How many may be taken until it is overdrawn, the last one included.
    pub fn left(&self, rate: Rate, now_ms: u64) -> u64 {
        if rate.per_second == 0 {
            return u64::MAX;
        }
        let full = rate.burst.saturating_mul(1000);
        full.saturating_sub(self.spent_now(rate, now_ms)) / 1000 + 1
    }

    /// Takes one, if it is there.
    pub fn take(&mut self, rate: Rate, now_ms: u64) -> bool {
        let full = rate.burst.max(1).saturating_mul(1000);
        if rate.per_second > 0 && self.spent_now(rate, now_ms).saturating_add(1000) > full {
            return false;
        }
        self.spend(rate, 1, now_ms);
        true
    }

    /// Nothing is spent any more: it need not be remembered.
    pub fn is_idle(&self, rate: Rate, now_ms: u64) -> bool {
        self.spent_now(rate, now_ms) == 0
    }
}

/// Publishes and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowRate {
    /// PUBLISH packets.
    pub messages: Rate,
    /// Bytes of what is sent.
    pub bytes: Rate,
}

impl FlowRate {
    /// Nobody is held to anything.
    pub fn is_off(&self) -> bool {
        self.messages.per_second == 0 && self.bytes.per_second == 0
    }
}

/// What was spent of a [`FlowRate`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flow {
    messages: Bucket,
    bytes: Bucket,
}

impl Flow {
    /// Takes what was sent, and gives the milliseconds until more may come.
    pub fn spend(&mut self, rate: &FlowRate, messages: u64, bytes: u64, now_ms: u64) -> u64 {
        self.messages.spend(rate.messages, messages, now_ms);
        self.bytes.spend(rate.bytes, bytes, now_ms);
        self.wait_ms(rate, now_ms)
    }

    /// Milliseconds until more may come.
    pub fn wait_ms(&self, rate: &FlowRate, now_ms: u64) -> u64 {
        let messages = self.messages.wait_ms(rate.messages, now_ms);
        messages.max(self.bytes.wait_ms(rate.bytes, now_ms))
    }

    /// How many messages may come now, at least one.
    ///
    /// # Errors
    /// The milliseconds until there may be one.
    pub fn allowance(&self, rate: &FlowRate, now_ms: u64) -> Result<u64, u64> {
        match self.wait_ms(rate, now_ms) {
            0 => Ok(self.messages.left(rate.messages, now_ms)),
            wait_ms => Err(wait_ms),
        }
    }

    /// Nothing is spent any more.
    pub fn is_idle(&self, rate: &FlowRate, now_ms: u64) -> bool {
        self.messages.is_idle(rate.messages, now_ms) && self.bytes.is_idle(rate.bytes, now_ms)
    }
}

/// What a shard holds its clients to, beside what MQTT negotiates. 0 is no limit; the default has none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes of a topic or a filter.
    pub topic_bytes: usize,
    /// Levels of a topic or a filter.
    pub topic_levels: usize,
    /// User Properties of one packet.
    pub user_properties: usize,
    /// Bytes of the User Properties of one packet.
    pub user_property_bytes: usize,
    /// Filters of one SUBSCRIBE.
    pub filters_per_subscribe: usize,
    /// Filters that one client asks for or gives back.
    pub filters: Rate,
    /// Retained messages of all topics.
    pub retained_messages: u64,
    /// Bytes of all retained messages, topics included.
    pub retained_bytes: u64,
    /// Retained messages of one user.
    pub retained_messages_per_user: u64,
    /// Bytes of the retained messages of one user, topics included.
    pub retained_bytes_per_user: u64,
    /// Sessions that outlive their connections.
    pub sessions: u64,
    /// What one client may publish.
    pub publish: FlowRate,
    /// Users are held to a rate, and rooms: then [`Meters`] are asked.
    pub metered: Metered,
}

/// For which rates [`Meters`] have to be asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Metered {
    /// That of users.
    pub users: bool,
    /// That of rooms.
    pub rooms: bool,
}

/// What all shards count together: rates of users and rooms, and shared subscriptions. Calls may come
/// from every shard's thread at once.
pub trait Meters: Send + Sync {
    /// How many messages a user may publish now, at least one.
    ///
    /// # Errors
    /// The milliseconds until there may be one.
    fn allowance_of_user(&self, user: &str, now_ms: u64) -> Result<u64, u64>;

    /// A user published: the milliseconds until there may be more.
    fn charge_user(&self, user: &str, messages: u64, bytes: u64, now_ms: u64) -> u64;

    /// A message for a room.
    ///
    /// # Errors
    /// The milliseconds until the room takes one: nothing was charged.
    fn charge_room(&self, room: &str, bytes: u64, now_ms: u64) -> Result<(), u64>;

    /// Whether a user who has asked for `more` shared subscriptions just now may have this one.
    ///
    /// # Errors
    /// The limit that is reached.
    fn may_share(&self, user: &str, filter: &str, more: usize) -> Result<(), Limit>;

    /// A session of the user is in the shared subscription from now on, or is not any more.
    fn shares(&self, user: &str, filter: &str, is_member: bool);
}

/// How much room the disk has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Room {
    /// Enough.
    #[default]
    Enough,
    /// Little: what clients want kept is refused, and everything else goes on.
    Little,
    /// Nearly none: only what sessions and the broker itself need is written.
    None,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_limit_has_a_name_of_its_own() {
        let names: std::collections::BTreeSet<_> = Limit::ALL.iter().map(|l| l.name()).collect();
        assert_eq!(names.len(), Limit::ALL.len());
        for name in names {
            assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'));
        }
    }

    #[test]
    fn hits_are_counted_by_limit_and_added_up() {
        let mut hits = Hits::default();
        hits.add(Limit::Backlog, 2);
        let mut all = hits.clone();
        all.absorb(&hits);
        assert_eq!(all.of(Limit::Backlog), 4);
        assert_eq!(all.of(Limit::Connections), 0);
    }

    #[test]
    fn a_bucket_that_is_overdrawn_holds_the_average() {
        let rate = Rate::new(100, 1);
        let mut bucket = Bucket::default();
        bucket.spend(rate, 100, 0);
        assert_eq!(bucket.wait_ms(rate, 0), 0, "as many as a second gives");
        let (mut now_ms, mut sent) = (0, 100);
        while now_ms < 100_000 {
            bucket.spend(rate, 70, now_ms);
            sent += 70;
            now_ms += bucket.wait_ms(rate, now_ms);
        }
        assert!((10_000..10_300).contains(&sent), "{sent} in 100 seconds");
    }

    #[test]
    fn a_bucket_gives_one_at_a_time_and_what_is_not_limited_always() {
        let rate = Rate::new(2, 1);
        let mut bucket = Bucket::default();
        let taken = (0..100).filter(|n| bucket.take(rate, n * 100)).count();
        assert_eq!(taken, 21, "2 at once, and 2 a second for 9.9 seconds");
        let mut free = Bucket::default();
        assert!((0..1000).all(|_| free.take(Rate::NONE, 0)));
        assert_eq!(free.wait_ms(Rate::NONE, 0), 0);
    }

    #[test]
    fn a_flow_waits_for_whatever_is_spent_most() {
        let rate = FlowRate {
            messages: Rate::new(10, 1),
            bytes: Rate::new(1000, 1),
        };
        let mut flow = Flow::default();
        assert_eq!(flow.spend(&rate, 1, 1500, 0), 500);
        assert_eq!(flow.spend(&rate, 29, 0, 0), 2000);
        assert!(!flow.is_idle(&rate, 2999));
        assert!(flow.is_idle(&rate, 3000));
    }
}
