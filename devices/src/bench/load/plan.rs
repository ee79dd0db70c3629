//! Who connects, subscribes and publishes for a shape, and which thread of the generator does it.
//!
//! Topics are `bench/<run>/...`, which no broker treats as anything special.

use std::ops::Range;

use super::wire::Session;
use crate::bench::scenario::{Scenario, Shape};

/// One client of the load.
#[derive(Clone, Debug)]
pub struct ClientPlan {
    /// Client Identifier, at most 23 characters (§3.1.3.1).
    pub id: String,
    /// Whether the broker keeps its session.
    pub session: Session,
    /// What it subscribes to.
    pub filters: Vec<String>,
    /// What it publishes.
    pub publishes: Option<PublishPlan>,
    /// What it checks of what arrives.
    pub receives: Option<Receives>,
    /// Which generator thread runs it.
    pub thread: usize,
    /// It reads nothing before the load stops.
    pub slow: bool,
}

/// What a client publishes.
#[derive(Clone, Debug)]
pub struct PublishPlan {
    /// Number of the publisher in this run.
    pub publisher: u32,
    /// The topic, or with `numbered` its part before the number.
    pub topic: String,
    /// Each message goes to a random one of this many topics.
    pub numbered: Option<u32>,
    /// It stops after this many.
    pub limit: Option<u64>,
    /// Deliveries that complete a message.
    pub receivers: u32,
}

/// What a client expects.
#[derive(Clone, Debug)]
pub enum Receives {
    /// Everything of these publishers.
    All(Range<u32>),
    /// A share of what these publish: each message at one of the clients, later ones after earlier.
    Share(Range<u32>),
    /// Some of what these publish, on several topics: each message at one of the clients.
    Some(Range<u32>),
}

/// All clients of a run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The clients.
    pub clients: Vec<ClientPlan>,
    /// QoS of publishes and subscriptions.
    pub qos: u8,
    /// Payload of each message in bytes.
    pub payload_bytes: usize,
    /// Publishes under way per publisher.
    pub window: u32,
    /// Messages per second of all clients together; `None`: as many as go.
    pub per_second: Option<u32>,
}

/// Digits of the number at the end of a numbered topic.
pub const NUMBER_DIGITS: usize = 7;

/// Names of one run, that no other run uses.
#[derive(Clone, Debug)]
pub struct Names {
    run: String,
}

impl Names {
    /// Names made from a number that differs from run to run.
    #[must_use]
    pub fn new(run: u32) -> Self {
        Self {
            run: format!("{run:08x}"),
        }
    }

    /// A Client Identifier.
    #[must_use]
    pub fn client(&self, role: char, number: u32) -> String {
        format!("b{}{role}{number}", self.run)
    }

    /// A topic.
    #[must_use]
    pub fn topic(&self, rest: &str) -> String {
        format!("bench/{}/{rest}", self.run)
    }

    /// A client that does nothing yet.
    #[must_use]
    pub fn idle(&self, role: char, number: u32) -> ClientPlan {
        ClientPlan {
            id: self.client(role, number),
            session: Session::Clean,
            filters: Vec::new(),
            publishes: None,
            receives: None,
            thread: 0,
            slow: false,
        }
    }

    /// A client that publishes to one topic.
    #[must_use]
    pub fn publisher(&self, publisher: u32, topic: &str, receivers: u32) -> ClientPlan {
        let topic = self.topic(topic);
        ClientPlan {
            publishes: Some(PublishPlan {
                publisher,
                topic,
                numbered: None,
                limit: None,
                receivers,
            }),
            ..self.idle('p', publisher)
        }
    }

    /// A client that receives everything of these publishers.
    #[must_use]
    pub fn subscriber(&self, number: u32, filter: &str, publishers: Range<u32>) -> ClientPlan {
        ClientPlan {
            filters: vec![self.topic(filter)],
            receives: Some(Receives::All(publishers)),
            ..self.idle('s', number)
        }
    }
}

impl Plan {
    /// The clients of a shape that is nothing but publishers and receivers, for so many threads.
    #[must_use]
    pub fn of(scenario: &Scenario, names: &Names, threads: usize) -> Self {
        let clients = match scenario.shape {
            Shape::FanIn { publishers } | Shape::Durable { publishers, .. } => {
                fan_in(names, publishers)
            }
            Shape::FanOut { subscribers } => fan_out(names, subscribers),
            Shape::Pairs { pairs } => pairs_of(names, pairs),
            // Enough pairs that none of them is ever busy.
            Shape::Paced { .. } => pairs_of(names, 100),
            Shape::Rooms { rooms, members } => rooms_of(names, rooms, members),
            Shape::Shared {
                publishers,
                members,
            } => shared(names, publishers, members),
            _ => Vec::new(),
        };
        let mut plan = Self::with(clients, scenario);
        if let Shape::Paced { per_second } = scenario.shape {
            plan.per_second = Some(per_second);
        }
        plan.spread(threads);
        plan
    }

    /// A plan of these clients, all on the first thread.
    #[must_use]
    pub fn with(clients: Vec<ClientPlan>, scenario: &Scenario) -> Self {
        Self {
            clients,
            qos: scenario.qos,
            payload_bytes: scenario.payload_bytes,
            window: scenario.window,
            per_second: None,
        }
    }

    /// Gives each thread clients. Those that talk with each other only (a pair, a room) stay together;
    /// so do the members of a share group, because they are checked together.
    fn spread(&mut self, threads: usize) {
        let threads = threads.max(1);
        for (number, client) in self.clients.iter_mut().enumerate() {
            client.thread = match (&client.receives, &client.publishes) {
                (Some(Receives::Share(_) | Receives::Some(_)), _) => 0,
                (Some(Receives::All(of)), Some(_)) => of.start as usize / of.len().max(1) % threads,
                (Some(Receives::All(of)), None) if of.len() == 1 && number > 1 => {
                    number / 2 % threads
                }
                (None, Some(publish)) => publish.publisher as usize % threads,
                _ => 0,
            };
        }
    }
}

fn fan_in(names: &Names, publishers: u32) -> Vec<ClientPlan> {
    let mut clients = vec![names.subscriber(0, "in/+", 0..publishers)];
    clients.extend((0..publishers).map(|n| names.publisher(n, &format!("in/{n}"), 1)));
    clients
}

fn fan_out(names: &Names, subscribers: u32) -> Vec<ClientPlan> {
    let mut clients = vec![names.publisher(0, "out", subscribers)];
    clients.extend((0..subscribers).map(|n| names.subscriber(n, "out", 0..1)));
    clients
}

fn pairs_of(names: &Names, pairs: u32) -> Vec<ClientPlan> {
    (0..pairs)
        .flat_map(|n| {
            let topic = format!("pair/{n}");
            [
                names.subscriber(n, &topic, n..n + 1),
                names.publisher(n, &topic, 1),
            ]
        })
        .collect()
}

/// The writer is a topic level and readers take all of a room, as in a chat.
fn rooms_of(names: &Names, rooms: u32, members: u32) -> Vec<ClientPlan> {
    (0..rooms)
        .flat_map(|room| {
            let first = room * members;
            (first..first + members).map(move |n| (room, first, n))
        })
        .map(|(room, first, n)| ClientPlan {
            publishes: names
                .publisher(n, &format!("room/{room}/{n}"), members)
                .publishes,
            ..names.subscriber(n, &format!("room/{room}/+"), first..first + members)
        })
        .collect()
}

fn shared(names: &Names, publishers: u32, members: u32) -> Vec<ClientPlan> {
    let mut clients: Vec<_> = (0..members)
        .map(|n| ClientPlan {
            filters: vec![format!("$share/workers/{}", names.topic("work/+"))],
            receives: Some(Receives::Share(0..publishers)),
            ..names.idle('s', n)
        })
        .collect();
    clients.extend((0..publishers).map(|n| names.publisher(n, &format!("work/{n}"), 1)));
    clients
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::target::Carrier;

    fn plan(shape: Shape, threads: usize) -> Plan {
        let scenario = Scenario::new(shape, 1, 64, 20, Carrier::Tcp);
        Plan::of(&scenario, &Names::new(0xabcd), threads)
    }

    #[test]
    fn identifiers_are_distinct_and_short_enough_for_every_broker() {
        for shape in [
            Shape::FanIn { publishers: 50 },
            Shape::FanOut { subscribers: 1_000 },
            Shape::Pairs { pairs: 100 },
            Shape::Rooms {
                rooms: 100,
                members: 20,
            },
            Shape::Shared {
                publishers: 50,
                members: 10,
            },
        ] {
            let ids: Vec<_> = plan(shape, 1).clients.into_iter().map(|c| c.id).collect();
            let distinct: std::collections::BTreeSet<_> = ids.iter().collect();
            assert_eq!(distinct.len(), ids.len(), "{shape}");
            assert!(ids.iter().all(|id| id.len() <= 23), "{shape}");
        }
    }

    #[test]
    fn a_pair_and_a_room_stay_on_one_thread_and_each_thread_has_its_part() {
        let pairs = plan(Shape::Pairs { pairs: 100 }, 2);
        for pair in pairs.clients.chunks(2) {
            assert_eq!(pair[0].thread, pair[1].thread);
        }
        let rooms = plan(
            Shape::Rooms {
                rooms: 10,
                members: 20,
            },
            2,
        );
        for room in rooms.clients.chunks(20) {
            assert!(room.iter().all(|m| m.thread == room[0].thread));
        }
        for plan in [pairs, rooms] {
            let first = plan.clients.iter().filter(|c| c.thread == 0).count();
            assert_eq!(first * 2, plan.clients.len());
        }
    }
}
