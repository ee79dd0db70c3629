//! A naive broker, told only what clients said and saw: who must get which message, who may, and
//! in which order.
//!
//! It never predicts: a message that was acknowledged to its publisher must have arrived, at the
//! end, at everybody who was surely subscribed before it was sent and still is; what arrived must
//! be explained by something that the receiver asked for. What happened while an answer was on its
//! way is left open.

use std::collections::{BTreeMap, HashMap};

use tidings_core::message::QoS;
use tidings_core::topic::{self, FilterKind, parse_filter};

use super::login::Post;
use super::said::Delivery;

/// Steps of the schedule: the model's time.
pub type Step = u64;

/// A message that a client wanted to publish.
#[derive(Clone, Debug)]
pub struct Message {
    /// What it is; the payload is its name.
    pub post: Post,
    /// Who wanted it.
    pub publisher: usize,
    /// Its place among those of its publisher.
    pub number: u64,
    /// When.
    pub sent_at: Step,
    /// When PUBACK or PUBREC arrived.
    pub acked_at: Option<Step>,
    /// Which connection it belongs to; 0 if its publisher's session goes on over connections.
    pub connection: u32,
    /// Its publisher sent it again at QoS 1: it may be stored twice.
    pub repeated: bool,
}

/// What kind of filter a subscription has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Plain,
    Shared,
    Replay,
}

/// A SUBSCRIBE of one filter, and what is known of it.
#[derive(Clone, Debug)]
struct Subscription {
    filter: String,
    plain: String,
    kind: Kind,
    qos: QoS,
    packet_id: u16,
    /// Packet Identifier of the UNSUBSCRIBE.
    removal: Option<u16>,
    asked_at: Step,
    /// SUBACK arrived.
    sure_from: Option<Step>,
    /// Something was said that may end it.
    sure_until: Option<Step>,
    /// It has ended for sure.
    gone_at: Option<Step>,
}

#[derive(Clone, Debug)]
struct Arrival {
    delivery: Delivery,
    at: Step,
    life: u32,
}

/// What the model knows of one client.
#[derive(Debug, Default)]
pub struct Person {
    /// User name.
    pub user: String,
    /// It keeps its session.
    pub persistent: bool,
    /// Its session may expire while it is away.
    pub may_expire: bool,
    /// Number of its session: more after each one that ended.
    life: u32,
    /// The broker has confirmed this session.
    confirmed: bool,
    /// A session with subscriptions ended.
    lost_something: bool,
    connections: u32,
    subscriptions: Vec<Subscription>,
    arrivals: Vec<Arrival>,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Model {
    /// By the number of the client.
    pub people: Vec<Person>,
    messages: BTreeMap<String, Message>,
    /// What is wrong.
    pub faults: Vec<String>,
    /// The broker stopped without a word at least once.
    pub crashed: bool,
}

impl Model {
    /// A client wants to publish.
    pub fn publish(&mut self, publisher: usize, post: Post, at: Step) {
        let number = self.messages.len() as u64;
        let person = &self.people[publisher];
        let message = Message {
            post,
            publisher,
            number,
            sent_at: at,
            acked_at: None,
            connection: if person.persistent {
                0
            } else {
                person.connections
            },
            repeated: false,
        };
        self.messages.insert(message.post.payload.clone(), message);
    }

    /// PUBACK or PUBREC arrived.
    pub fn acknowledged(&mut self, payload: &str, at: Step) {
        if let Some(message) = self.messages.get_mut(payload) {
            message.acked_at.get_or_insert(at);
        }
    }

    /// A QoS 1 message was sent again.
    pub fn repeated(&mut self, payload: &str) {
        if let Some(message) = self.messages.get_mut(payload) {
            message.repeated = true;
        }
    }

    /// Everything that somebody wanted to publish, wills apart.
    pub fn messages(&self) -> impl Iterator<Item = &Message> {
        self.messages.values()
    }

    /// Number of messages that were acknowledged.
    pub fn acknowledged_count(&self) -> usize {
        self.messages
            .values()
            .filter(|m| m.acked_at.is_some())
            .count()
    }

    /// Number of deliveries.
    pub fn delivered_count(&self) -> usize {
        self.people.iter().map(|p| p.arrivals.len()).sum()
    }

    /// A client sends CONNECT.
    pub fn connecting(&mut self, client: usize, clean_start: bool, at: Step) {
        let person = &mut self.people[client];
        person.connections += 1;
        if clean_start {
            person.begin_life(at);
        }
        if !person.persistent {
            person.end_all(at);
        }
    }

    /// CONNACK arrived.
    pub fn connected(&mut self, client: usize, clean_start: bool, present: bool, at: Step) {
        let person = &mut self.people[client];
        if !present {
            if person.confirmed && person.persistent && !person.may_expire && !clean_start {
                self.faults
                    .push(format!("the session of client {client} is gone"));
            }
            if !clean_start {
                person.begin_life(at);
            }
            person.end_older(at);
        }
        person.confirmed = true;
    }

    /// The connection of a client ended, for all it knows.
    pub fn disconnected(&mut self, client: usize, at: Step) {
        let person = &mut self.people[client];
        if !person.persistent {
            person.end_all(at);
        }
    }

    /// A client sends SUBSCRIBE.
    pub fn subscribing(
        &mut self,
        client: usize,
        packet_id: u16,
        filters: &[(String, QoS)],
        at: Step,
    ) {
        let person = &mut self.people[client];
        for (filter, qos) in filters {
            let (kind, plain) = match parse_filter(filter) {
                Ok(FilterKind::Plain(plain)) => (Kind::Plain, plain),
                Ok(FilterKind::Shared { filter, .. }) => (Kind::Shared, filter),
                Ok(FilterKind::Replay { filter, .. } | FilterKind::After { filter, .. }) => {
                    (Kind::Replay, filter)
                }
                Err(error) => panic!("the schedule made a bad filter {filter}: {error}"),
            };
            let same = |old: &&mut Subscription| {
                old.qos != *qos
                    && old.plain == plain
                    && (old.kind == Kind::Shared) == (kind == Kind::Shared)
            };
            for old in person.subscriptions.iter_mut().filter(same) {
                old.sure_until.get_or_insert(at);
            }
            person.subscriptions.push(Subscription {
                filter: filter.clone(),
                plain: plain.to_owned(),
                kind,
                qos: *qos,
                packet_id,
                removal: None,
                asked_at: at,
                sure_from: None,
                sure_until: None,
                gone_at: None,
            });
        }
    }

    /// SUBACK arrived; `granted` says for which filters.
    pub fn subscribed(&mut self, client: usize, packet_id: u16, granted: &[bool], at: Step) {
        let subscriptions = &mut self.people[client].subscriptions;
        let asked = |s: &&Subscription| s.packet_id == packet_id && s.sure_from.is_none();
        let Some(asked_at) = subscriptions.iter().filter(asked).map(|s| s.asked_at).max() else {
            return;
        };
        let waiting = subscriptions
            .iter_mut()
            .filter(|s| s.packet_id == packet_id && s.asked_at == asked_at);
        for (subscription, granted) in waiting.zip(granted) {
            if *granted {
                subscription.sure_from = Some(at);
            } else {
                subscription.sure_until.get_or_insert(at);
                subscription.gone_at = Some(at);
            }
        }
    }

    /// A client sends UNSUBSCRIBE for a filter.
    pub fn unsubscribing(&mut self, client: usize, packet_id: u16, filter: &str, at: Step) {
        // An earlier request with this identifier was never answered.
        for subscription in &mut self.people[client].subscriptions {
            subscription.removal = subscription.removal.filter(|id| *id != packet_id);
        }
        for subscription in self.people[client].on_filter(filter) {
            subscription.sure_until.get_or_insert(at);
            subscription.removal = Some(packet_id);
        }
    }

    /// UNSUBACK arrived.
    pub fn unsubscribed(&mut self, client: usize, packet_id: u16, at: Step) {
        for subscription in &mut self.people[client].subscriptions {
            if subscription.removal == Some(packet_id) {
                subscription.gone_at.get_or_insert(at);
            }
        }
    }

    /// A message arrived.
    pub fn arrived(&mut self, client: usize, delivery: Delivery, at: Step) {
        let life = self.people[client].life;
        if let Err(why) = self.may_arrive(client, &delivery) {
            self.faults
                .push(format!("client {client} got {delivery:?}: {why}"));
        }
        self.people[client]
            .arrivals
            .push(Arrival { delivery, at, life });
    }

    fn may_arrive(&self, client: usize, delivery: &Delivery) -> Result<(), String> {
        let person = &self.people[client];
        if !person.may_receive(&delivery.topic) {
            return Err("it is secret".to_owned());
        }
        let Some(message) = self.messages.get(&delivery.payload) else {
            return match delivery.payload.as_str() {
                text if text.starts_with("will") => Ok(()),
                text => Err(format!("nobody published {text}")),
            };
        };
        if message.post.topic != delivery.topic {
            return Err(format!("it was published on {}", message.post.topic));
        }
        let explains = |s: &&Subscription| {
            topic::matches(&s.plain, &delivery.topic)
                && delivery.qos <= s.qos.min(message.post.qos)
                && s.gone_at.is_none_or(|gone| message.sent_at <= gone)
        };
        let mut explanations = person.subscriptions.iter().filter(explains).peekable();
        if explanations.peek().is_none() {
            return Err(format!("no filter explains it: {:?}", person.subscriptions));
        }
        Ok(())
    }

    /// Everything has come to rest: is anything missing, double, or out of order?
    /// `kept`: payloads of messages that went through the journal.
    pub fn check(&mut self, kept: &[String]) {
        for client in 0..self.people.len() {
            self.check_missing(client);
            self.check_history(client, kept);
            self.check_order(client);
            self.check_doubles(client);
        }
        self.check_groups();
    }

    fn check_missing(&mut self, client: usize) {
        let person = &self.people[client];
        let mut missing = Vec::new();
        let arrived: HashMap<&str, ()> = person.arrived_in_this_life();
        for message in self.messages.values() {
            let must = message.acked_at.is_some()
                && message.post.qos != QoS::AtMostOnce
                && person.surely_wants(message);
            if must && !arrived.contains_key(message.post.payload.as_str()) {
                missing.push(format!(
                    "client {client} misses {message:?}, subscribed {:?}",
                    person.subscriptions
                ));
            }
        }
        self.faults.extend(missing);
    }

    /// A new filter receives no history. (Of a clean session it counts from where its shard is,
    /// which may be a little behind; a session that is kept subscribes through the journal.)
    fn check_history(&mut self, client: usize, kept: &[String]) {
        let person = &self.people[client];
        if !person.persistent {
            return;
        }
        let mut faults = Vec::new();
        for arrival in &person.arrivals {
            let Some(message) = self.messages.get(&arrival.delivery.payload) else {
                continue;
            };
            let Some(acked_at) = message.acked_at.filter(|_| !arrival.delivery.retain) else {
                continue;
            };
            if message.repeated || (arrival.delivery.dup && message.post.retain) {
                continue;
            }
            if !kept.contains(&message.post.payload) {
                continue;
            }
            let explained = person.subscriptions.iter().any(|s| {
                topic::matches(&s.plain, &message.post.topic)
                    && (s.kind != Kind::Plain || s.asked_at <= acked_at)
            });
            if !explained {
                faults.push(format!("client {client} got history: {arrival:?}"));
            }
        }
        self.faults.extend(faults);
    }

    fn check_order(&mut self, client: usize) {
        let person = &self.people[client];
        let mut faults = Vec::new();
        let mut last: HashMap<(u32, usize, u32, &str), u64> = HashMap::new();
        let mut seen: HashMap<(u32, &str), ()> = HashMap::new();
        for arrival in &person.arrivals {
            let delivery = &arrival.delivery;
            let Some(message) = self.messages.get(&delivery.payload) else {
                continue;
            };
            let once = person.only_plain(&delivery.topic);
            // A retained message that is sent again does not always say what it is.
            let retained = delivery.retain || (delivery.dup && message.post.retain);
            if delivery.qos == QoS::AtMostOnce || retained || !once || message.repeated {
                continue;
            }
            if seen.insert((arrival.life, &delivery.payload), ()).is_some() {
                continue;
            }
            let topic = message.post.topic.as_str();
            let key = (arrival.life, message.publisher, message.connection, topic);
            let before = last.insert(key, message.number);
            if before.is_some_and(|before| before > message.number) {
                faults.push(format!(
                    "client {client} got {} of {} out of order at {}",
                    delivery.payload, delivery.topic, arrival.at
                ));
            }
        }
        self.faults.extend(faults);
    }

    /// Exactly once.
    fn check_doubles(&mut self, client: usize) {
        let person = &self.people[client];
        let mut faults = Vec::new();
        let mut seen: HashMap<(u32, &str), usize> = HashMap::new();
        for arrival in &person.arrivals {
            let delivery = &arrival.delivery;
            let alone = person.only_plain(&delivery.topic);
            // What was retained comes once more for each new filter, and when it is sent again the
            // flag does not always tell.
            let retained = self
                .messages
                .get(&delivery.payload)
                .is_none_or(|m| m.post.retain);
            if delivery.qos != QoS::ExactlyOnce || retained || !alone {
                continue;
            }
            let count = seen.entry((arrival.life, &delivery.payload)).or_default();
            *count += 1;
            if *count == 2 {
                faults.push(format!(
                    "client {client} got {} twice at QoS 2",
                    delivery.payload
                ));
            }
        }
        self.faults.extend(faults);
    }

    /// Each message goes to a member of the group; at QoS 2 to one only, if nothing crashed.
    fn check_groups(&mut self) {
        let mut groups: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (client, person) in self.people.iter().enumerate() {
            for s in person
                .subscriptions
                .iter()
                .filter(|s| s.kind == Kind::Shared)
            {
                let members = groups.entry(s.filter.clone()).or_default();
                if !members.contains(&client) {
                    members.push(client);
                }
            }
        }
        let mut faults = Vec::new();
        for (filter, members) in &groups {
            let plain = parse_filter(filter).map_or("", |kind| kind.filter());
            let of_group = |message: &&Message| topic::matches(plain, &message.post.topic);
            for message in self.messages.values().filter(of_group) {
                let wanted = members
                    .iter()
                    .any(|m| self.people[*m].surely_shares(filter, message));
                let counted = |qos2: bool| {
                    let arrivals = members.iter().flat_map(|m| &self.people[*m].arrivals);
                    arrivals
                        .filter(|a| a.delivery.payload == message.post.payload)
                        .filter(|a| !qos2 || a.delivery.qos == QoS::ExactlyOnce)
                        .count()
                };
                // A QoS 2 message goes with the session that has begun to deliver it [MQTT-4.8.2-5].
                let may_go = message.post.qos == QoS::ExactlyOnce
                    && members.iter().any(|m| {
                        let person = &self.people[*m];
                        !(person.persistent && person.is_steady())
                    });
                let acked =
                    message.acked_at.is_some() && message.post.qos != QoS::AtMostOnce && !may_go;
                if wanted && acked && counted(false) == 0 {
                    faults.push(format!("group {filter} misses {message:?}"));
                }
                // Who may have lost its session forgets what it had begun.
                let steady = members.iter().all(|m| self.people[*m].is_steady());
                if steady && !self.crashed && counted(true) > 1 {
                    faults.push(format!("group {filter} got {message:?} twice"));
                }
            }
        }
        self.faults.extend(faults);
    }

    /// For each client the QoS 1 and 2 messages that arrived, by publisher and topic, in order of
    /// first arrival: what must not depend on how the broker is built. Without what was retained:
    /// whose message that was, depends on which of two publishers was faster.
    pub fn what_clients_saw(&self) -> Vec<BTreeMap<(usize, String), Vec<String>>> {
        let saw = |person: &Person| {
            let mut saw: BTreeMap<(usize, String), Vec<String>> = BTreeMap::new();
            for arrival in &person.arrivals {
                let delivery = &arrival.delivery;
                let Some(message) = self.messages.get(&delivery.payload) else {
                    continue;
                };
                let plain = person.only_plain(&delivery.topic);
                if delivery.qos == QoS::AtMostOnce || delivery.retain || !plain {
                    continue;
                }
                let list = saw
                    .entry((message.publisher, delivery.topic.clone()))
                    .or_default();
                if !list.contains(&delivery.payload) {
                    list.push(delivery.payload.clone());
                }
            }
            saw
        };
        self.people.iter().map(saw).collect()
    }
}

impl Person {
    /// Somebody who never was connected.
    pub fn new(user: String, persistent: bool, may_expire: bool) -> Self {
        Self {
            user,
            persistent,
            may_expire,
            ..Self::default()
        }
    }

    /// It has a session for sure, and always will.
    pub fn has_session(&self) -> bool {
        self.persistent && !self.may_expire && self.confirmed
    }

    /// Its session was never at risk.
    fn is_steady(&self) -> bool {
        !self.may_expire && !self.lost_something
    }

    fn begin_life(&mut self, at: Step) {
        self.life += 1;
        self.lost_something |= !self.subscriptions.is_empty();
        self.confirmed = false;
        for subscription in &mut self.subscriptions {
            subscription.sure_until.get_or_insert(at);
        }
    }

    /// No session of before is left.
    fn end_older(&mut self, at: Step) {
        for subscription in &mut self.subscriptions {
            if subscription.sure_until.is_some() {
                subscription.gone_at.get_or_insert(at);
            }
        }
    }

    fn end_all(&mut self, at: Step) {
        for subscription in &mut self.subscriptions {
            subscription.sure_until.get_or_insert(at);
            subscription.gone_at.get_or_insert(at);
        }
    }

    fn on_filter(&mut self, filter: &str) -> impl Iterator<Item = &mut Subscription> {
        let plain = match parse_filter(filter) {
            Ok(FilterKind::Shared { .. }) | Err(_) => None,
            Ok(kind) => Some(kind.filter().to_owned()),
        };
        let filter = filter.to_owned();
        self.subscriptions.iter_mut().filter(move |s| match &plain {
            Some(plain) => s.plain == *plain && s.kind != Kind::Shared,
            None => s.filter == filter,
        })
    }

    /// True unless the topic is somebody else's secret.
    fn may_receive(&self, topic: &str) -> bool {
        let secret = topic
            .strip_prefix("secret/")
            .or(topic.strip_prefix("kept-secret/"));
        secret.is_none_or(|user| user == self.user)
    }

    fn surely_wants(&self, message: &Message) -> bool {
        let wants = |s: &Subscription| {
            s.kind != Kind::Shared
                && s.sure_from.is_some_and(|from| from < message.sent_at)
                && s.sure_until.is_none()
                && s.qos != QoS::AtMostOnce
                && topic::matches(&s.plain, &message.post.topic)
        };
        self.may_receive(&message.post.topic) && self.subscriptions.iter().any(wants)
    }

    fn surely_shares(&self, filter: &str, message: &Message) -> bool {
        self.persistent
            && self.subscriptions.iter().any(|s| {
                s.filter == filter
                    && s.sure_from.is_some_and(|from| from < message.sent_at)
                    && s.sure_until.is_none()
                    && s.qos != QoS::AtMostOnce
                    && topic::matches(&s.plain, &message.post.topic)
            })
    }

    /// True if nothing but plain filters ever matched the topic.
    fn only_plain(&self, topic: &str) -> bool {
        !self
            .subscriptions
            .iter()
            .any(|s| s.kind != Kind::Plain && topic::matches(&s.plain, topic))
    }

    fn arrived_in_this_life(&self) -> HashMap<&str, ()> {
        self.arrivals
            .iter()
            .filter(|a| a.life == self.life)
            .map(|a| (a.delivery.payload.as_str(), ()))
            .collect()
    }
}
