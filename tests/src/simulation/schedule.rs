//! A random life of a house from a seed: clients do what they like, the network, the disk and the
//! shards are as slow as they like, the broker stops when it likes; then everything comes to rest
//! and the [`Model`] judges.

use std::collections::BTreeMap;

use tidings_core::codec::{ReasonCode, Version};
use tidings_core::journal::{Audience, Record};
use tidings_core::limits::{Bounds, FlowRate, Rate};
use tidings_core::message::QoS;
use tidings_core::shard::{Input, Options};

use super::audit::audit;
use super::house::{ClientId, House, Setup, Work};
use super::login::{Filter, Login, Post};
use super::model::{Model, Person};
use super::said::Said;
use crate::seeded::Seeded;

/// What may happen in a schedule.
#[derive(Clone, Copy, Debug)]
pub struct Chances {
    /// The broker may stop without a word, or be shut down, and start again.
    pub crashes: bool,
    /// Prints everything that happens.
    pub trace: bool,
    /// Instead of what the seed says.
    pub shards: Option<u16>,
    /// Instead of what the seed says.
    pub output_bytes: Option<usize>,
    /// Somebody comes with the Client Identifiers of others.
    pub thief: bool,
}

impl Default for Chances {
    fn default() -> Self {
        Self {
            crashes: true,
            trace: false,
            shards: None,
            output_bytes: None,
            thief: false,
        }
    }
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// What went wrong.
    pub faults: Vec<String>,
    /// Messages that were acknowledged.
    pub acknowledged: usize,
    /// Deliveries.
    pub delivered: usize,
    /// How often the broker stopped.
    pub crashes: usize,
    /// How often somebody was refused who came with another's Client Identifier.
    pub refused: usize,
}

/// Topics of the schedules; each uses a few of them.
const TOPICS: &[&str] = &[
    "a/0",
    "a/1",
    "b",
    "b/0",
    "c",
    "c/0",
    "kept/0",
    "kept/1",
    "room/x/u0",
    "secret/c0",
    "secret/c1",
    "kept-secret/c2",
    "s/x",
    "s/y",
    "t/x",
    "s/x",
];

/// Filters of the schedules; each uses a few of them. Only `$share` reaches `s/...` and `t/...`.
const FILTERS: &[&str] = &[
    "a/+",
    "a/#",
    "a/0",
    "b",
    "b/#",
    "c",
    "+/0/#",
    "kept/#",
    "kept/0",
    "room/+/+",
    "secret/+",
    "secret/c1",
    "kept-secret/#",
    "$share/g/s/+",
    "$share/h/t/#",
    "$share/g/s/+",
    "$replay/last/5/kept/1",
    "$replay/seq/2/kept/1",
];

/// Runs one schedule.
pub fn one_schedule(seed: u64, chances: Chances) -> Outcome {
    Life::new(Seeded::new(seed), Pace::of(seed), chances).live()
}

/// Runs the schedule that `bytes` say, as long as there are any.
pub fn schedule_from(bytes: &[u8], chances: Chances) -> Outcome {
    Life::new(Seeded::given(bytes), Pace::of(bytes.len() as u64), chances).live()
}

/// What each client saw, and what was wrong with it.
pub type Sight = (Vec<BTreeMap<(usize, String), Vec<String>>>, Vec<String>);

/// Runs a schedule whose outcome must not depend on the number of shards nor on the room in the
/// output.
pub fn calm_schedule(seed: u64, shards: u16, output_bytes: usize, trace: bool) -> Sight {
    let chances = Chances {
        crashes: false,
        trace,
        shards: Some(shards),
        output_bytes: Some(output_bytes),
        thief: false,
    };
    let mut life = Life::new(Seeded::new(seed), Pace::of(seed), chances);
    // A slow receiver is never sent away.
    life.house.setup.options.append_queue_bytes = 1024 * 1024;
    life.live_calmly()
}

struct Persona {
    login: Login,
    /// Sends acknowledgements in any order.
    unordered: bool,
    /// The number of lines of `said` and `arrivals` that the model has seen.
    said: usize,
    arrivals: usize,
    acknowledged: usize,
    repeated: usize,
    /// CONNACK did not come since the last CONNECT.
    unconfirmed: bool,
}

struct Life {
    luck: Seeded,
    chances: Chances,
    house: House,
    model: Model,
    personas: Vec<Persona>,
    weights: [u64; 6],
    topics: Vec<&'static str>,
    filters: Vec<&'static str>,
    /// Of a hundred clients, those that keep their session.
    persistent: u64,
    step: u64,
    published: u64,
    crashes: usize,
    /// The client that comes with the Client Identifiers of others.
    thief: Option<ClientId>,
    refused: usize,
}

/// What one connection may have done at once, and in a second.
struct Pace {
    turn: u64,
    is_held: bool,
}

impl Pace {
    /// Decided by itself, so that seeds from before there was any of this mean what they meant.
    fn of(seed: u64) -> Self {
        let mut luck = Seeded::new(!seed);
        Self {
            turn: *luck.pick(&[1, 3, 256]),
            is_held: luck.chance(30),
        }
    }

    /// A few at once, and then one in some milliseconds.
    fn bounds(&self) -> Bounds {
        if !self.is_held {
            return Bounds::default();
        }
        let rate = |burst| Rate {
            per_second: 300,
            burst,
        };
        Bounds {
            filters: rate(2),
            publish: FlowRate {
                messages: rate(3),
                bytes: Rate::NONE,
            },
            ..Bounds::default()
        }
    }
}

impl Life {
    fn new(mut luck: Seeded, pace: Pace, chances: Chances) -> Self {
        let mut setup = Setup {
            trace: chances.trace,
            ..Setup::default()
        };
        // The seed decides first, so that what is given changes nothing else.
        let shards = *luck.pick(&[1, 2, 3, 4]);
        let output_bytes = *luck.pick(&[0, 1, 100, 1000, 65_536]);
        setup.shards = chances.shards.unwrap_or(shards);
        setup.options = Options {
            output_bytes: chances.output_bytes.unwrap_or(output_bytes),
            receive_maximum: *luck.pick(&[1, 2, 10, 100]),
            max_inflight: *luck.pick(&[1, 2, 10, 100]),
            topic_alias_maximum: *luck.pick(&[0, 2]),
            append_queue_bytes: *luck.pick(&[2_000, 1024 * 1024]),
            progress_interval_ms: *luck.pick(&[0, 500, 5_000]),
            turn: pace.turn,
            bounds: pace.bounds(),
            ..setup.options
        };
        let mut weight = || *luck.pick(&[1, 4, 20]);
        let weights = std::array::from_fn(|_| weight());
        let mut some = |all: &[&'static str]| {
            (0..luck.within(3..12))
                .map(|_| *luck.pick(all))
                .collect::<Vec<_>>()
        };
        let (topics, filters) = (some(TOPICS), some(FILTERS));
        let persistent = *luck.pick(&[10, 40, 65, 90]);
        setup.segments = luck.chance(25).then(|| luck.next());
        let mut life = Self {
            house: House::new(setup),
            luck,
            chances,
            model: Model::default(),
            personas: Vec::new(),
            weights,
            topics,
            filters,
            persistent,
            step: 1,
            published: 0,
            crashes: 0,
            thief: None,
            refused: 0,
        };
        life.house.waits = true;
        let people = life.luck.within(2..6) as usize;
        for number in 0..people {
            life.add_person(number);
        }
        if life.chances.thief {
            life.thief = Some(life.house.add_client(Login::v5("thief")));
        }
        life
    }

    fn add_person(&mut self, number: usize) {
        let luck = &mut self.luck;
        let name = format!("c{number}");
        let version = *luck.pick(&[Version::V31, Version::V311, Version::V5, Version::V5]);
        let persistent = luck.chance(self.persistent);
        let may_expire = persistent && version == Version::V5 && luck.chance(15);
        let mut login = Login {
            version,
            ..Login::v5(&name)
        }
        .user(&name);
        if persistent {
            login = login.persistent();
            login.session_expiry_s = login
                .session_expiry_s
                .map(|_| if may_expire { 3 } else { u32::MAX });
        }
        if version == Version::V5 {
            login.receive_maximum = *luck.pick(&[None, Some(1), Some(2), Some(5)]);
            login.topic_alias_maximum = *luck.pick(&[None, Some(1), Some(3)]);
        }
        let client = self.house.add_client(login.clone());
        self.house.clients[client.0].auto_ack = luck.chance(50);
        self.personas.push(Persona {
            login,
            unordered: luck.chance(20),
            said: 0,
            arrivals: 0,
            acknowledged: 0,
            repeated: 0,
            unconfirmed: false,
        });
        self.model
            .people
            .push(Person::new(name, persistent, may_expire));
    }

    fn live(mut self) -> Outcome {
        let steps = self.luck.magnitude(200..3_000);
        for _ in 0..steps {
            if self.luck.has_run_dry() {
                break;
            }
            self.step += 1;
            if self.luck.chance(75) {
                self.work();
            } else {
                self.act();
            }
            self.observe();
        }
        self.come_to_rest();
        Outcome {
            acknowledged: self.model.acknowledged_count(),
            delivered: self.model.delivered_count(),
            crashes: self.crashes,
            refused: self.refused,
            faults: std::mem::take(&mut self.model.faults),
        }
    }

    /// Connections and filters change only while everything is at rest; in between there are
    /// bursts of messages, with slow readers. What happens is said by the seed alone, in which
    /// order it is carried out is not.
    fn live_calmly(mut self) -> Sight {
        let mut script = self.luck.fork(2);
        for client in &mut self.house.clients {
            client.auto_ack = true;
        }
        for _ in 0..script.within(3..12) {
            for _ in 0..script.within(1..6) {
                std::mem::swap(&mut self.luck, &mut script);
                self.change_something();
                std::mem::swap(&mut self.luck, &mut script);
                self.rest();
            }
            for _ in 0..script.within(0..30) {
                std::mem::swap(&mut self.luck, &mut script);
                let client = self.luck.within(0..self.personas.len() as u64) as usize;
                match self.luck.within(0..10) {
                    0..=7 if self.house.clients[client].online => self.publish(client),
                    8 => self.slow_down(client),
                    _ => {}
                }
                std::mem::swap(&mut self.luck, &mut script);
                for _ in 0..self.luck.within(0..20) {
                    self.step += 1;
                    self.work();
                    self.observe();
                }
            }
            for client in &mut self.house.clients {
                client.reading = true;
            }
            self.rest();
        }
        self.chances.crashes = false;
        self.come_to_rest();
        (
            self.model.what_clients_saw(),
            std::mem::take(&mut self.model.faults),
        )
    }

    fn change_something(&mut self) {
        let client = self.luck.within(0..self.personas.len() as u64) as usize;
        let online = self.house.clients[client].online;
        match self.luck.within(0..10) {
            0..=3 if online => self.subscribe(client),
            4 if online => self.unsubscribe(client),
            5 if online => self.leave(client),
            6 => self.cut(client),
            7 if online => self.dial(client),
            _ if !online => self.dial(client),
            _ => {}
        }
    }

    /// One piece of work, some kinds more often than others.
    fn work(&mut self) {
        let work = self.house.work();
        let weight = |work: &Work| match work {
            Work::Flush(_) | Work::Close(_) | Work::Ended(_) => self.weights[0],
            Work::Batch(_) => self.weights[1],
            Work::Mail { .. } => self.weights[2],
            Work::Read(_) => self.weights[3],
            Work::Write(_) | Work::ClientRead(_) => self.weights[4],
            Work::Commit => self.weights[5],
        };
        let all: u64 = work.iter().map(weight).sum();
        if all == 0 {
            return;
        }
        let mut chosen = self.luck.within(0..all);
        let found = work.iter().find(|one| {
            let weight = weight(one);
            let found = chosen < weight;
            chosen = chosen.saturating_sub(weight);
            found
        });
        if let Some(one) = found.copied() {
            let mut luck = Some(self.luck.fork(1));
            self.house.perform(one, &mut luck);
        }
    }

    fn act(&mut self) {
        let client = self.luck.within(0..self.personas.len() as u64) as usize;
        let online = self.house.clients[client].online;
        match self.luck.within(0..100) {
            0..=44 if online => self.publish(client),
            45..=56 if online => self.subscribe(client),
            57..=59 if online => self.unsubscribe(client),
            60..=62 if online => self.leave(client),
            63..=65 => self.cut(client),
            66..=75 if self.house.clients[client].line.is_none() => self.dial(client),
            76 if self.luck.chance(30) => self.dial(client),
            77..=80 => self.slow_down(client),
            81..=92 => self.reply(client),
            93..=97 if self.luck.chance(15) => self.house.trim(),
            93..=97 => self.time_passes(),
            98 if self.chances.crashes && self.luck.chance(60) => self.crash(),
            99 => self.steal(client),
            _ => {}
        }
    }

    fn publish(&mut self, client: usize) {
        for _ in 0..self.luck.magnitude(1..8) {
            let topic = *self.luck.pick(&self.topics);
            self.published += 1;
            let payload = format!("p{client}-{}", self.published);
            let qos = *self
                .luck
                .pick(&[QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce]);
            let mut post = Post {
                qos,
                ..Post::new(topic, &payload)
            };
            if self.luck.chance(10) {
                post = post.retain();
            }
            self.model.publish(client, post.clone(), self.step);
            self.house.say(ClientId(client), |c| c.publish(post));
        }
    }

    fn subscribe(&mut self, client: usize) {
        let mut filters: Vec<(String, QoS)> = Vec::new();
        for _ in 0..self.luck.magnitude(1..4) {
            let mut qos = *self
                .luck
                .pick(&[QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce]);
            let filter = (*self.luck.pick(&self.filters)).to_owned();
            if filter.starts_with("$share") && qos == QoS::AtMostOnce {
                // Such a member may lose its share; then there would be nothing to check.
                qos = QoS::AtLeastOnce;
            }
            if !filters.iter().any(|(other, _)| *other == filter) {
                filters.push((filter, qos));
            }
        }
        let asked: Vec<Filter> = filters
            .iter()
            .map(|(f, qos)| Filter::new(f, *qos))
            .collect();
        let packet_id = self
            .house
            .say(ClientId(client), |c| c.subscribe(&asked, None));
        self.model
            .subscribing(client, packet_id, &filters, self.step);
    }

    fn unsubscribe(&mut self, client: usize) {
        let filter = *self.luck.pick(&self.filters);
        let packet_id = self
            .house
            .say(ClientId(client), |c| c.unsubscribe(&[filter]));
        self.model
            .unsubscribing(client, packet_id, filter, self.step);
    }

    fn leave(&mut self, client: usize) {
        self.house
            .say(ClientId(client), |c| c.disconnect(ReasonCode::Success));
        self.cut(client);
    }

    fn cut(&mut self, client: usize) {
        self.house.cut(ClientId(client));
        self.model.disconnected(client, self.step);
    }

    fn dial(&mut self, client: usize) {
        let mut login = self.personas[client].login.clone();
        let persistent = self.model.people[client].persistent;
        if persistent && login.version == Version::V5 && self.luck.chance(7) {
            login.clean_start = true;
        }
        if login.version == Version::V5 && self.luck.chance(20) {
            login.receive_maximum = *self.luck.pick(&[None, Some(1), Some(3)]);
        }
        if self.luck.chance(10) {
            self.published += 1;
            let topic = *self.luck.pick(&self.topics);
            let will = Post::qos1(topic, &format!("will{client}-{}", self.published));
            login = login.will(will, *self.luck.pick(&[0, 1, 10]));
        }
        self.model.disconnected(client, self.step);
        self.connect(client, login);
        let capacity = *self.luck.pick(&[usize::MAX, usize::MAX, 10, 100, 1000]);
        if let Some(line) = self.house.clients[client].line {
            self.house.lines[line].capacity = capacity;
        }
    }

    fn connect(&mut self, client: usize, mut login: Login) {
        // The session may have expired, or ended with a Clean Start: if that CONNACK was lost, who
        // knows whether the next one speaks of the old session or of a new one? A prudent client
        // begins anew.
        let unconfirmed = std::mem::replace(&mut self.personas[client].unconfirmed, true);
        let doubtful =
            self.model.people[client].may_expire || self.house.clients[client].login.clean_start;
        login.clean_start |= unconfirmed && doubtful;
        self.model.connecting(client, login.clean_start, self.step);
        self.house.dial(ClientId(client), login);
    }

    /// Somebody else comes with the Client Identifier of a client that has a session.
    fn steal(&mut self, client: usize) {
        let Some(thief) = self
            .thief
            .filter(|_| self.model.people[client].has_session())
        else {
            return;
        };
        let login = match self.luck.within(0..3) {
            0 => Login::v3(&format!("c{client}")).persistent(),
            1 => Login::v5(&format!("c{client}")).persistent(),
            _ => Login::v5(&format!("c{client}")),
        };
        self.house.dial(thief, login.user("thief"));
    }

    /// Whoever took another's Client Identifier was refused, and learned nothing.
    fn observe_thief(&mut self) {
        let Some(thief) = self.thief else {
            return;
        };
        for said in self.house.take_said(thief) {
            match said {
                Said::ConnAck(ack) if ack.reason == ReasonCode::ClientIdentifierNotValid => {
                    self.refused += 1;
                }
                Said::ConnAck(ack) if ack.reason == ReasonCode::ServerUnavailable => {}
                Said::Closed => {}
                said => self.model.faults.push(format!("a thief was told {said:?}")),
            }
        }
    }

    fn slow_down(&mut self, client: usize) {
        let it = &mut self.house.clients[client];
        it.reading = !it.reading;
    }

    fn reply(&mut self, client: usize) {
        let due = self.house.clients[client].replies.len() as u64;
        if due == 0 {
            return;
        }
        let unordered = self.personas[client].unordered;
        let index = if unordered {
            self.luck.within(0..due) as usize
        } else {
            0
        };
        self.house.say(ClientId(client), |c| c.reply(index));
    }

    fn time_passes(&mut self) {
        let ms = self.luck.magnitude(1..4_000);
        self.house.tick(ms);
        if self.luck.chance(10) {
            let jump = self.luck.within(0..600_000);
            let unix = &mut self.house.now.unix_ms;
            *unix = if self.luck.chance(50) {
                *unix + jump
            } else {
                *unix - jump
            };
        }
    }

    fn crash(&mut self) {
        match self.luck.within(0..4) {
            0 => self.house.input_to_all(|| Input::Shutdown),
            1 => self.house.poison("the disk of the schedule is full"),
            _ => {}
        }
        for _ in 0..self.luck.within(0..30) {
            self.step += 1;
            self.work();
            self.observe();
        }
        let waiting = self.house.disk.waiting() as u64;
        let choices = if self.house.disk.poisoned().is_some() {
            2
        } else {
            waiting + 1
        };
        let surviving = self.luck.within(0..choices);
        self.house.crash(surviving as usize);
        self.crashes += 1;
        self.model.crashed = true;
    }

    /// Tells the model what the clients saw.
    fn observe(&mut self) {
        self.observe_thief();
        for client in 0..self.personas.len() {
            let it = &self.house.clients[client];
            let persona = &mut self.personas[client];
            let (said, arrivals) = (persona.said, persona.arrivals);
            let acknowledged = persona.acknowledged;
            if said == it.said.len() && arrivals == it.arrivals.len() {
                continue;
            }
            persona.said = it.said.len();
            persona.arrivals = it.arrivals.len();
            persona.acknowledged = it.acknowledged.len();
            for payload in it.repeated.iter().skip(persona.repeated) {
                self.model.repeated(payload);
            }
            persona.repeated = it.repeated.len();
            for payload in &it.acknowledged[acknowledged..] {
                self.model.acknowledged(payload, self.step);
            }
            // Arrivals and other packets of one read are seen at the same step.
            for delivery in &it.arrivals[arrivals..] {
                self.model.arrived(client, delivery.clone(), self.step);
            }
            let clean_start = it.login.clean_start;
            for one in &it.said[said..] {
                match one {
                    Said::ConnAck(ack) if ack.reason == ReasonCode::Success => {
                        let present = match it.login.version {
                            Version::V31 => !clean_start,
                            _ => ack.session_present,
                        };
                        persona.unconfirmed = false;
                        self.model
                            .connected(client, clean_start, present, self.step);
                    }
                    Said::ConnAck(ack) if ack.reason != ReasonCode::ServerUnavailable => {
                        self.model
                            .faults
                            .push(format!("client {client} was refused: {ack:?}"));
                    }
                    Said::SubAck(ack) => {
                        let granted: Vec<bool> =
                            ack.reasons.iter().map(|r| !r.is_failure()).collect();
                        self.model
                            .subscribed(client, ack.packet_id, &granted, self.step);
                    }
                    Said::UnsubAck(ack) => {
                        self.model.unsubscribed(client, ack.packet_id, self.step);
                    }
                    Said::Disconnect(disconnect) if !is_usual(disconnect.reason) => {
                        let text = format!("client {client} was told {disconnect:?}");
                        self.model.faults.push(text);
                    }
                    Said::Closed => self.model.disconnected(client, self.step),
                    _ => {}
                }
            }
        }
    }

    /// Nothing new is asked for; everybody with a session comes back, reads and answers.
    fn come_to_rest(&mut self) {
        for client in &mut self.house.clients {
            client.reading = true;
            client.auto_ack = true;
        }
        for (number, line) in self.house.lines.iter_mut().enumerate() {
            line.capacity = usize::MAX;
            // Connections that their client has given up end at last.
            line.client_gone |= self.house.clients.iter().all(|c| c.line != Some(number));
        }
        if self.house.disk.poisoned().is_some() || self.chances.crashes && self.luck.chance(30) {
            self.house.crash(0);
            self.crashes += 1;
            self.model.crashed = true;
        }
        for _ in 0..3 {
            self.rest();
            for client in 0..self.personas.len() {
                let persistent = self.model.people[client].persistent;
                if persistent && self.house.clients[client].line.is_none() {
                    let login = self.personas[client].login.clone();
                    self.connect(client, login);
                }
                self.house.say(ClientId(client), |c| c.reply_all());
            }
            self.rest();
        }
        for client in 0..self.personas.len() {
            let it = &self.house.clients[client];
            if it.online && !(it.sent.is_empty() && it.waiting.is_empty()) {
                let text = format!("client {client} waits for {:?}, {:?}", it.sent, it.waiting);
                self.model.faults.push(text);
            }
            if self.model.people[client].persistent && !it.online {
                self.model
                    .faults
                    .push(format!("client {client} cannot connect"));
            }
        }
        for (number, shard) in self.house.shards.iter().enumerate() {
            let stats = shard.stats();
            if stats.lagging > 0 {
                self.model
                    .faults
                    .push(format!("shard {number} still lags: {stats:?}"));
            }
        }
        let kept = self.kept();
        self.model.check(&kept);
        let number = self.luck.within(0..100);
        let mut wrong = audit(&mut self.house, &self.model, number);
        self.model.faults.append(&mut wrong);
        for client in &mut self.house.clients {
            self.model.faults.append(&mut client.violations);
        }
    }

    fn rest(&mut self) {
        self.step += 1;
        self.house.settle();
        self.observe();
        self.step += 1;
        self.house.advance(1_000);
        self.observe();
    }

    /// Payloads of messages that everybody got through the journal.
    fn kept(&self) -> Vec<String> {
        let entries = self
            .house
            .disk
            .batches()
            .iter()
            .flat_map(|batch| &batch.entries);
        entries
            .filter_map(|(_, entry)| match &entry.record {
                Record::Published(p) if p.audience == Audience::Everyone => {
                    Some(String::from_utf8_lossy(&p.message.payload).into_owned())
                }
                _ => None,
            })
            .collect()
    }
}

fn is_usual(reason: ReasonCode) -> bool {
    matches!(
        reason,
        ReasonCode::SessionTakenOver
            | ReasonCode::ServerShuttingDown
            | ReasonCode::ImplementationSpecificError
            | ReasonCode::QuotaExceeded
    )
}
