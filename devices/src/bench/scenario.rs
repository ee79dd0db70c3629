//! What is measured: the scenarios, their names, and how names are read back.
//!
//! A name says everything that distinguishes a scenario (`pairs-qos1-64B-w20-tcp`), and stays the
//! same from version to version, so that tables of different days can be compared.

mod naming;

use anyhow::Context;

use super::target::Carrier;

/// Who publishes, who receives, and what is done to the broker meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Many publishers, one subscriber of them all.
    FanIn {
        /// Number of publishers.
        publishers: u32,
    },
    /// One publisher, many subscribers of the same topic.
    FanOut {
        /// Number of subscribers.
        subscribers: u32,
    },
    /// Each publisher has one subscriber of its own.
    Pairs {
        /// Number of pairs.
        pairs: u32,
    },
    /// Everyone in a room writes, everyone in it (the writer too) reads.
    Rooms {
        /// Number of rooms.
        rooms: u32,
        /// Members of each.
        members: u32,
    },
    /// Publishers whose messages go to one member each of a shared subscription.
    Shared {
        /// Number of publishers.
        publishers: u32,
        /// Members of the share group.
        members: u32,
    },
    /// Pairs at a fixed total rate: latency without queues.
    Paced {
        /// Messages per second of all pairs together.
        per_second: u32,
    },
    /// Connections that do nothing: connect rate and memory of each.
    Idle {
        /// Number of connections.
        connections: u32,
    },
    /// Many distinct filters: subscribe rate, memory of each, publish rate while they stand.
    Filters {
        /// Number of filters.
        filters: u32,
    },
    /// Messages for persistent sessions that are away and then all come back at once.
    OfflineBurst {
        /// Number of sessions.
        sessions: u32,
        /// Messages that each of them misses.
        messages: u32,
    },
    /// A subscriber that does not read while messages pass, and then reads on.
    SlowSubscriber {
        /// Messages that pass meanwhile.
        messages: u32,
    },
    /// Acknowledged messages for persistent sessions that are away, then SIGKILL, restart, and count.
    Restart {
        /// Number of sessions.
        sessions: u32,
        /// Acknowledged messages before the kill.
        messages: u32,
    },
    /// Publishers whose messages must be kept, because a persistent session subscribes to them.
    Durable {
        /// Number of publishers.
        publishers: u32,
        /// Where the persistent subscriber is meanwhile.
        subscriber: Subscriber,
    },
}

/// Where a persistent subscriber is while messages pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subscriber {
    /// Connected and reading.
    Online,
    /// Away; it comes back after the measured time.
    Offline,
}

/// How much is sent in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Messages {
    /// As much as goes, for the measured time after the warm-up.
    ByDuration,
    /// What the shape says.
    ByCount,
}

/// One thing to measure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scenario {
    /// Stable name, such as `pairs-qos1-64B-w20-tcp`.
    pub name: String,
    /// Who publishes and who receives.
    pub shape: Shape,
    /// QoS of publishes and subscriptions.
    pub qos: u8,
    /// Payload of each message in bytes, at least 20.
    pub payload_bytes: usize,
    /// Publishes per publisher that are not yet acknowledged and delivered.
    pub window: u32,
    /// What carries the packets.
    pub carrier: Carrier,
    /// How much is sent.
    pub messages: Messages,
}

impl Scenario {
    /// A scenario with its name.
    #[must_use]
    pub fn new(shape: Shape, qos: u8, payload_bytes: usize, window: u32, carrier: Carrier) -> Self {
        let name = match shape {
            Shape::Idle { .. } => format!("{shape}-{carrier}"),
            _ => format!("{shape}-qos{qos}-{payload_bytes}B-w{window}-{carrier}"),
        };
        let messages = match shape {
            Shape::OfflineBurst { .. }
            | Shape::SlowSubscriber { .. }
            | Shape::Restart { .. }
            | Shape::Idle { .. } => Messages::ByCount,
            _ => Messages::ByDuration,
        };
        Self {
            name,
            shape,
            qos,
            payload_bytes,
            window,
            carrier,
            messages,
        }
    }

    /// The scenario of this name, in the catalogue or not: every combination has a name.
    ///
    /// # Errors
    /// If the name is not one that [`Scenario::new`] makes.
    pub fn by_name(name: &str) -> anyhow::Result<Self> {
        naming::parse(name).with_context(|| {
            format!("no scenario {name:?}: expected one such as \"pairs-qos1-64B-w20-tcp\" or \"idle-10000-ws\"")
        })
    }
}

/// Publisher (4 bytes), sequence number (8) and time of sending (8) are in each payload.
pub const SMALLEST_PAYLOAD: usize = 20;

/// Half of the packet identifiers, so that an identifier always tells which message is meant.
pub const LARGEST_WINDOW: u32 = 32_767;

/// The usual pairs.
const PAIRS: Shape = Shape::Pairs { pairs: 100 };
/// The usual rooms.
const ROOMS: Shape = Shape::Rooms {
    rooms: 100,
    members: 20,
};
/// The usual fan-in.
const FAN_IN: Shape = Shape::FanIn { publishers: 50 };
/// The usual shared subscription.
const SHARED: Shape = Shape::Shared {
    publishers: 50,
    members: 10,
};

const fn fan_out(subscribers: u32) -> Shape {
    Shape::FanOut { subscribers }
}

const fn durable(subscriber: Subscriber) -> Shape {
    Shape::Durable {
        publishers: 50,
        subscriber,
    }
}

/// All scenarios worth a row in the table: each shape at QoS 0 and 1, the rest where it tells
/// something that its neighbours do not.
#[must_use]
pub fn catalogue() -> Vec<Scenario> {
    use Carrier::{Tcp, WebSocket};
    let mut all = Vec::new();
    for shape in [FAN_IN, fan_out(100), fan_out(1_000), PAIRS, ROOMS, SHARED] {
        for qos in [0, 1, 2] {
            // 2,000 writers with 20 outstanding to 20 members each would be 800,000 deliveries on
            // their way: rooms are measured with 1.
            let window = if shape == ROOMS { 1 } else { 20 };
            all.push(Scenario::new(shape, qos, 64, window, Tcp));
        }
    }
    for (shape, qos, bytes, window, carrier) in [
        (PAIRS, 1, 64, 1, Tcp),
        (FAN_IN, 1, 256, 20, Tcp),
        (PAIRS, 1, 256, 20, Tcp),
        (fan_out(1_000), 1, 256, 20, Tcp),
        (FAN_IN, 1, 4_096, 20, Tcp),
        (PAIRS, 1, 4_096, 20, Tcp),
        (fan_out(100), 0, 4_096, 20, Tcp),
        (ROOMS, 1, 4_096, 1, Tcp),
        (FAN_IN, 1, 64, 20, WebSocket),
        (fan_out(1_000), 0, 64, 20, WebSocket),
        (PAIRS, 0, 64, 20, WebSocket),
        (PAIRS, 1, 64, 20, WebSocket),
        (PAIRS, 1, 64, 1, WebSocket),
        (ROOMS, 1, 64, 1, WebSocket),
        (Shape::Paced { per_second: 2_000 }, 1, 64, 20, Tcp),
        (Shape::Paced { per_second: 2_000 }, 1, 64, 20, WebSocket),
        (durable(Subscriber::Offline), 1, 256, 20, Tcp),
        (durable(Subscriber::Online), 1, 256, 20, Tcp),
        (durable(Subscriber::Offline), 1, 256, 1, Tcp),
        (
            Shape::Idle {
                connections: 10_000,
            },
            0,
            SMALLEST_PAYLOAD,
            1,
            Tcp,
        ),
        (
            Shape::Idle {
                connections: 10_000,
            },
            0,
            SMALLEST_PAYLOAD,
            1,
            WebSocket,
        ),
        (Shape::Filters { filters: 200_000 }, 0, 64, 20, Tcp),
        (
            Shape::OfflineBurst {
                sessions: 100,
                messages: 5_000,
            },
            1,
            64,
            20,
            Tcp,
        ),
        (
            Shape::SlowSubscriber { messages: 200_000 },
            1,
            1_024,
            20,
            Tcp,
        ),
        (
            Shape::Restart {
                sessions: 100,
                messages: 1_000,
            },
            1,
            64,
            20,
            Tcp,
        ),
    ] {
        all.push(Scenario::new(shape, qos, bytes, window, carrier));
    }
    all
}

/// One small run of each shape, for a quick look and for continuous integration.
#[must_use]
pub fn short() -> Vec<Scenario> {
    use Carrier::{Tcp, WebSocket};
    let all = [
        (Shape::FanIn { publishers: 10 }, 0, 64, 20, Tcp),
        (Shape::FanIn { publishers: 10 }, 1, 64, 20, Tcp),
        (fan_out(50), 0, 64, 20, Tcp),
        (fan_out(50), 1, 256, 20, Tcp),
        (Shape::Pairs { pairs: 10 }, 0, 64, 20, Tcp),
        (Shape::Pairs { pairs: 10 }, 1, 64, 20, Tcp),
        (Shape::Pairs { pairs: 10 }, 2, 64, 20, Tcp),
        (Shape::Pairs { pairs: 10 }, 1, 4_096, 1, Tcp),
        (Shape::Pairs { pairs: 10 }, 1, 64, 20, WebSocket),
        (
            Shape::Rooms {
                rooms: 5,
                members: 10,
            },
            1,
            64,
            1,
            Tcp,
        ),
        (
            Shape::Shared {
                publishers: 10,
                members: 4,
            },
            1,
            64,
            20,
            Tcp,
        ),
        (Shape::Paced { per_second: 500 }, 1, 64, 20, Tcp),
        (
            Shape::Idle { connections: 200 },
            0,
            SMALLEST_PAYLOAD,
            1,
            Tcp,
        ),
        (
            Shape::Idle { connections: 200 },
            0,
            SMALLEST_PAYLOAD,
            1,
            WebSocket,
        ),
        (Shape::Filters { filters: 2_000 }, 0, 64, 20, Tcp),
        (
            Shape::OfflineBurst {
                sessions: 5,
                messages: 50,
            },
            1,
            64,
            20,
            Tcp,
        ),
        (Shape::SlowSubscriber { messages: 500 }, 1, 1_024, 20, Tcp),
        (
            Shape::Restart {
                sessions: 5,
                messages: 50,
            },
            1,
            64,
            20,
            Tcp,
        ),
        (
            Shape::Durable {
                publishers: 10,
                subscriber: Subscriber::Offline,
            },
            1,
            256,
            20,
            Tcp,
        ),
        (
            Shape::Durable {
                publishers: 10,
                subscriber: Subscriber::Online,
            },
            1,
            256,
            20,
            Tcp,
        ),
    ];
    all.into_iter()
        .map(|(shape, qos, bytes, window, carrier)| {
            Scenario::new(shape, qos, bytes, window, carrier)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_name_leads_back_to_its_scenario_and_none_is_there_twice() {
        for list in [catalogue(), short()] {
            let mut seen = BTreeSet::new();
            for scenario in list {
                let back = Scenario::by_name(&scenario.name).expect("a name of the list");
                assert_eq!(back, scenario);
                assert!(
                    seen.insert(scenario.name.clone()),
                    "{} twice",
                    scenario.name
                );
            }
        }
    }

    #[test]
    fn names_are_the_ones_that_tables_of_other_days_have() {
        let names: Vec<_> = catalogue().into_iter().map(|s| s.name).collect();
        for name in [
            "fan-in-qos0-64B-w20-tcp",
            "fan-out-1000-qos1-64B-w20-tcp",
            "pairs-qos1-64B-w1-tcp",
            "pairs-qos1-64B-w20-ws",
            "rooms-qos1-64B-w1-tcp",
            "paced-2000-qos1-64B-w20-tcp",
            "durable-offline-qos1-256B-w20-tcp",
            "idle-10000-ws",
            "filters-200000-qos0-64B-w20-tcp",
            "offline-burst-100x5000-qos1-64B-w20-tcp",
        ] {
            assert!(
                names.iter().any(|n| n == name),
                "{name} is missing in {names:?}"
            );
        }
    }

    #[test]
    fn a_name_that_means_nothing_is_refused() {
        for name in [
            "",
            "pairs",
            "pairs-qos3-64B-w20-tcp",
            "pairs-qos1-19B-w20-tcp",
            "pairs-qos1-64B-w0-tcp",
            "pairs-qos1-64B-w40000-tcp",
            "pairs-0-qos1-64B-w20-tcp",
            "fan-out-qos1-64B-w20-tcp",
            "rooms-5-qos1-64B-w20-tcp",
            "idle-tcp",
            "pairs-qos1-64B-w20-quic",
        ] {
            assert!(Scenario::by_name(name).is_err(), "{name:?} was understood");
        }
    }
}
