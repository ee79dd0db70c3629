//! What a message costs in a shard, from the publisher's bytes to the receivers' and back with the
//! acknowledgements: the scenarios of `tidings-bench`, without sockets and disk. An operation is one
//! message delivered to one receiver.

use tidings_core::codec::Version;
use tidings_core::message::QoS;

use crate::case::{Case, many};
use crate::traffic::{Burst, Login, Traffic, burst};

/// Bytes of a payload.
const PAYLOAD: usize = 64;
/// Publishes in a row from one client.
const WINDOW: u16 = 20;

/// Who sends what to whom.
struct Scenario {
    logins: Vec<Login>,
    bursts: Vec<Burst>,
    deliveries: u64,
}

/// How a scenario is run.
#[derive(Clone, Copy)]
struct Terms {
    version: Version,
    qos: QoS,
    /// Receivers have sessions that outlive their connections.
    kept: bool,
    window: u16,
}

pub fn cases() -> Vec<Case> {
    let [qos0, qos1, qos2] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce].map(Terms::new);
    let kept = Terms { kept: true, ..qos1 };
    let one = Terms { window: 1, ..qos1 };
    let v5 = Terms {
        version: Version::V5,
        ..qos1
    };
    vec![
        case("fan-in from 50, QoS 0", qos0, |t| fan_in(t, 50)),
        case("fan-in from 50, QoS 1", qos1, |t| fan_in(t, 50)),
        case("fan-in from 50, QoS 1, kept", kept, |t| fan_in(t, 50)),
        case("fan-out to 1,000, QoS 0", qos0, |t| fan_out(t, many(1000))),
        case("fan-out to 1,000, QoS 1", qos1, |t| fan_out(t, many(1000))),
        case("fan-out to 1,000, QoS 1, kept", kept, |t| {
            fan_out(t, many(1000))
        }),
        case("100 pairs, QoS 0", qos0, |t| pairs(t, 100)),
        case("100 pairs, QoS 1", qos1, |t| pairs(t, 100)),
        case("100 pairs, QoS 1, MQTT 5.0", v5, |t| pairs(t, 100)),
        case("100 pairs, QoS 1, window 1", one, |t| pairs(t, 100)),
        case("100 pairs, QoS 1, kept", kept, |t| pairs(t, 100)),
        case("100 pairs, QoS 2", qos2, |t| pairs(t, 100)),
        case(
            "100 rooms of 20, QoS 0, window 1",
            Terms { window: 1, ..qos0 },
            |t| rooms(t, many(100), 20),
        ),
        case("100 rooms of 20, QoS 1, window 1", one, |t| {
            rooms(t, many(100), 20)
        }),
        case(
            "100 rooms of 20, QoS 1, window 1, kept",
            Terms { window: 1, ..kept },
            |t| rooms(t, many(100), 20),
        ),
        case("shared by 10 from 50, QoS 1", qos1, |t| shared(t, 50, 10)),
    ]
}

fn case(name: &str, terms: Terms, scenario: fn(Terms) -> Scenario) -> Case {
    let operations = scenario(terms).deliveries;
    Case::new("session", name, operations, move || {
        let Scenario { logins, bursts, .. } = scenario(terms);
        let mut traffic = Traffic::new(&logins);
        let published = bursts.len() as u64 * u64::from(terms.window);
        let to_be_kept = if terms.kept { published } else { 0 };
        Box::new(move |meter| {
            let before = traffic.kept();
            let delivered = traffic.round(meter, &bursts);
            assert_eq!(delivered, operations, "every message arrives once");
            assert_eq!(traffic.kept() - before, to_be_kept, "kept as the name says");
        })
    })
}

impl Terms {
    fn new(qos: QoS) -> Self {
        Self {
            version: Version::V311,
            qos,
            kept: false,
            window: WINDOW,
        }
    }

    fn subscriber(self, filter: String) -> Login {
        Login {
            version: self.version,
            persistent: self.kept,
            filters: vec![filter],
            qos: self.qos,
        }
    }

    fn publisher(self) -> Login {
        Login {
            version: self.version,
            persistent: false,
            filters: Vec::new(),
            qos: self.qos,
        }
    }

    fn burst(self, client: usize, topic: &str) -> Burst {
        let bytes = burst(self.version, topic, self.qos, self.window, PAYLOAD);
        (client, bytes)
    }
}

fn fan_in(terms: Terms, publishers: usize) -> Scenario {
    let mut logins = vec![terms.publisher(); publishers];
    logins.push(terms.subscriber("bench/run/in/+".to_owned()));
    let bursts = (0..publishers).map(|n| terms.burst(n, &format!("bench/run/in/{n}")));
    Scenario {
        logins,
        bursts: bursts.collect(),
        deliveries: publishers as u64 * u64::from(terms.window),
    }
}

fn fan_out(terms: Terms, subscribers: usize) -> Scenario {
    let topic = "bench/run/out";
    let mut logins = vec![terms.subscriber(topic.to_owned()); subscribers];
    logins.push(terms.publisher());
    Scenario {
        logins,
        bursts: vec![terms.burst(subscribers, topic)],
        deliveries: subscribers as u64 * u64::from(terms.window),
    }
}

fn pairs(terms: Terms, pairs: usize) -> Scenario {
    let topic = |n| format!("bench/run/pair/{n}");
    let mut logins = vec![terms.publisher(); pairs];
    logins.extend((0..pairs).map(|n| terms.subscriber(topic(n))));
    Scenario {
        logins,
        bursts: (0..pairs).map(|n| terms.burst(n, &topic(n))).collect(),
        deliveries: pairs as u64 * u64::from(terms.window),
    }
}

/// Every member writes, and reads everyone, itself included.
fn rooms(terms: Terms, rooms: usize, members: usize) -> Scenario {
    let all = rooms * members;
    let room = |n| n / members;
    let logins = (0..all).map(|n| terms.subscriber(format!("bench/run/room/{}/+", room(n))));
    let bursts = (0..all).map(|n| terms.burst(n, &format!("bench/run/room/{}/{n}", room(n))));
    Scenario {
        logins: logins.collect(),
        bursts: bursts.collect(),
        deliveries: (all * members) as u64 * u64::from(terms.window),
    }
}

/// Each message goes to one of the members.
fn shared(terms: Terms, publishers: usize, members: usize) -> Scenario {
    let filter = "$share/workers/bench/run/work/+";
    let mut logins = vec![terms.publisher(); publishers];
    logins.extend(vec![terms.subscriber(filter.to_owned()); members]);
    let bursts = (0..publishers).map(|n| terms.burst(n, &format!("bench/run/work/{n}")));
    Scenario {
        logins,
        bursts: bursts.collect(),
        deliveries: publishers as u64 * u64::from(terms.window),
    }
}
