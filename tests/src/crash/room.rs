//! People in a room over all lives of the broker: talkers who say, edit, recall, react and note how far
//! they have read, and a guest who joins and is sent away.
//!
//! A talker sends one thing at a time, each with a `cid`, and after a reconnect sends what was not
//! acknowledged again: so whatever is stored, is stored once. In the end the history of the room has what
//! was acknowledged, under its numbers, with what became of it, and without holes or repeats; read
//! markers and membership are what was acknowledged last.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tidings_core::codec::{
    Ack, Connect, Packet, Publish, PublishProperties, ReasonCode, RetainHandling, Subscribe,
    SubscribeFilter, Version,
};
use tidings_core::message::QoS;

use super::board::{Board, Stage};
use crate::seeded::Seeded;
use crate::{ClientError, Delivery, Endpoint, RawClient, TidingsProcess, clean};

/// Where they meet.
const ROOM: &str = "yard";
/// Nothing takes longer on a broker that lives.
const PATIENCE: Duration = Duration::from_secs(20);
/// Between two questions to a service that does not listen yet.
const AGAIN: Duration = Duration::from_millis(20);
/// Messages that later ones change: those of a moment ago.
const RECENT: usize = 8;

/// A connection of a user, with a place for answers.
struct Phone {
    user: String,
    client: RawClient,
}

impl Phone {
    fn connect(endpoint: Endpoint, user: &str) -> Result<Self, ClientError> {
        let id = format!("crash-room-{user}");
        let connect = Connect {
            username: Some(user),
            ..clean(Version::V5, &id)
        };
        let (client, connack) = RawClient::try_connect(endpoint, &connect, PATIENCE)?;
        if connack.reason != ReasonCode::Success {
            return Err(ClientError::Transport(format!("refused: {connack:?}")));
        }
        let mut phone = Self {
            user: user.to_owned(),
            client,
        };
        phone.subscribe(&format!("user/{user}/reply"))?;
        Ok(phone)
    }

    fn subscribe(&mut self, filter: &str) -> Result<(), ClientError> {
        let packet_id = self.client.new_packet_id();
        self.client.try_send(&Packet::Subscribe(Subscribe {
            packet_id,
            subscription_id: None,
            user: Vec::new(),
            filters: vec![SubscribeFilter {
                filter: filter.to_owned(),
                qos: QoS::AtMostOnce,
                no_local: false,
                retain_as_published: false,
                retain_handling: RetainHandling::SendAtSubscribe,
            }],
        }))?;
        self.wait(|packet| match packet {
            Packet::SubAck(ack) => (!ack.reasons.iter().any(|r| r.is_failure())).then_some(()),
            _ => None,
        })
    }

    fn wait<T>(&mut self, take: impl Fn(&Packet<'_>) -> Option<T>) -> Result<T, ClientError> {
        let until = Instant::now() + PATIENCE;
        loop {
            let frame = self.client.try_next_until(until)?;
            if let Some(taken) = take(&frame.packet()) {
                return Ok(taken);
            }
        }
    }

    /// Publishes at QoS 1 and waits for the acknowledgement.
    fn publish(
        &mut self,
        topic: &str,
        payload: &[u8],
        cid: Option<&str>,
    ) -> Result<Ack, ClientError> {
        let packet_id = self.client.new_packet_id();
        self.client.try_send(&Packet::Publish(Publish {
            dup: false,
            qos: QoS::AtLeastOnce,
            retain: false,
            topic,
            packet_id: Some(packet_id),
            properties: PublishProperties {
                user: cid.iter().map(|cid| ("cid", *cid)).collect(),
                ..PublishProperties::default()
            },
            payload,
        }))?;
        self.wait(|packet| match packet {
            Packet::PubAck(ack) if ack.packet_id == packet_id => Some(ack.clone()),
            _ => None,
        })
    }

    /// Asks a service, which may not listen yet.
    fn ask(&mut self, method: &str, request: &Value) -> Result<Value, ClientError> {
        let topic = format!("user/{}/request/{method}", self.user);
        let until = Instant::now() + PATIENCE;
        loop {
            let ack = self.publish(&topic, request.to_string().as_bytes(), None)?;
            if ack.reason != ReasonCode::NoMatchingSubscribers {
                break;
            }
            if Instant::now() > until {
                return Err(ClientError::Transport(format!("nobody hears {topic}")));
            }
            std::thread::sleep(AGAIN);
        }
        let payload = self.wait(|packet| match packet {
            Packet::Publish(publish) => Some(Delivery::new(publish).payload),
            _ => None,
        })?;
        serde_json::from_slice(&payload)
            .map_err(|error| ClientError::Transport(format!("an answer is no JSON: {error}")))
    }
}

/// What a talker does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    Say,
    Edit(usize),
    Recall(usize),
    React(usize),
}

#[derive(Clone, Debug)]
struct Saying {
    act: Act,
    /// What it says; unique but for recalls.
    text: String,
    /// Its number, when it was acknowledged.
    seq: Option<u64>,
}

/// Somebody who talks.
pub struct Talker {
    user: String,
    random: Seeded,
    sayings: Vec<Saying>,
    /// Messages that were recalled, by their place in `sayings`.
    recalled: Vec<usize>,
    /// The last read marker that was acknowledged.
    read: u64,
}

/// Makes the room, and its members.
///
/// # Panics
/// If the broker does not do it.
pub fn prepare(broker: &TidingsProcess, talkers: &[Talker]) {
    let ask = |user: &str, method: &str, request: Value| {
        let mut phone = Phone::connect(broker.tcp(), user).expect("a connection");
        let answer = phone.ask(method, &request).expect("an answer");
        assert_eq!(answer["ok"], true, "{user} {method}: {answer}");
    };
    ask("olga", "create", json!({ "room": ROOM }));
    for talker in talkers {
        ask(&talker.user, "join", json!({ "room": ROOM }));
    }
}

impl Talker {
    pub fn new(user: &str, random: Seeded) -> Self {
        Self {
            user: user.to_owned(),
            random,
            sayings: Vec::new(),
            recalled: Vec::new(),
            read: 0,
        }
    }

    pub fn run(&mut self, board: &Board) {
        let mut life = None;
        while let Some(next) = board.wait_for_broker(life) {
            life = Some(next);
            match self.talk_while(next.endpoint(false), board) {
                Ok(()) => break,
                Err(ClientError::Closed) => {}
                Err(error) => {
                    board.violation(format!("{}: {error}", self.user));
                    break;
                }
            }
        }
        board.publisher_is_done(std::iter::empty());
    }

    fn talk_while(&mut self, endpoint: Endpoint, board: &Board) -> Result<(), ClientError> {
        let mut phone = Phone::connect(endpoint, &self.user)?;
        loop {
            if self.sayings.last().is_some_and(|last| last.seq.is_none()) {
                self.say_last(&mut phone)?;
            }
            if board.stage() != Stage::Work {
                return Ok(());
            }
            if self.random.chance(10)
                && let Some(seq) = self.sayings.last().and_then(|s| s.seq)
            {
                let topic = format!("read/{ROOM}/{}", self.user);
                let ack = phone.publish(&topic, seq.to_string().as_bytes(), None)?;
                if ack.reason.is_failure() {
                    return Err(ClientError::Transport(format!("{topic} {seq}: {ack:?}")));
                }
                self.read = seq;
            }
            board.stay_away(board.pace().talk);
            self.think_of_something();
        }
    }

    fn think_of_something(&mut self) {
        let number = self.sayings.len();
        let is_open = |at: &usize| self.sayings[*at].act == Act::Say && !self.recalled.contains(at);
        let recent: Vec<usize> = (0..number).rev().filter(is_open).take(RECENT).collect();
        let act = match self.random.within(0..10) {
            0..=5 => Act::Say,
            _ if recent.is_empty() => Act::Say,
            6 | 7 => Act::Edit(*self.random.pick(&recent)),
            8 => Act::React(*self.random.pick(&recent)),
            _ => {
                let at = *self.random.pick(&recent);
                self.recalled.push(at);
                Act::Recall(at)
            }
        };
        self.sayings.push(Saying {
            act,
            text: format!("{} {number}", self.user),
            seq: None,
        });
    }

    /// Sends the last saying, for the first time or again.
    fn say_last(&mut self, phone: &mut Phone) -> Result<(), ClientError> {
        let number = self.sayings.len().saturating_sub(1);
        let Some(saying) = self.sayings.get(number) else {
            return Ok(());
        };
        let place = format!("chat/{ROOM}/{}", self.user);
        let of = |at: usize| self.sayings[at].seq.unwrap_or(0);
        let topic = match saying.act {
            Act::Say => place,
            Act::Edit(at) => format!("{place}/edit/{}", of(at)),
            Act::Recall(at) => format!("{place}/recall/{}", of(at)),
            Act::React(at) => format!("{place}/react/{}", of(at)),
        };
        let cid = number.to_string();
        let ack = phone.publish(&topic, saying.text.as_bytes(), Some(&cid))?;
        let seq = ack.user.iter().find(|(key, _)| key == "seq");
        let seq = seq.and_then(|(_, seq)| seq.parse().ok());
        if ack.reason.is_failure() || seq.is_none() {
            return Err(ClientError::Transport(format!("{topic}: {ack:?}")));
        }
        self.sayings[number].seq = seq;
        Ok(())
    }

    /// What was said last of this kind.
    fn newest(&self, act: Act) -> Option<&str> {
        let found = self.sayings.iter().rev().find(|s| s.act == act);
        found.map(|saying| saying.text.as_str())
    }
}

/// Somebody who comes and is sent away.
pub struct Guest {
    is_member: Option<bool>,
}

impl Guest {
    pub const fn new() -> Self {
        Self { is_member: None }
    }

    pub fn run(&mut self, board: &Board) {
        let mut life = None;
        while let Some(next) = board.wait_for_broker(life) {
            life = Some(next);
            match self.come_and_go(next.endpoint(false), board) {
                Ok(()) => break,
                Err(ClientError::Closed) => {}
                Err(error) => {
                    board.violation(format!("guest: {error}"));
                    break;
                }
            }
        }
        board.publisher_is_done(std::iter::empty());
    }

    fn come_and_go(&mut self, endpoint: Endpoint, board: &Board) -> Result<(), ClientError> {
        let mut guest = Phone::connect(endpoint, "gus")?;
        let mut owner = Phone::connect(endpoint, "olga")?;
        loop {
            if board.stage() != Stage::Work && self.is_member.is_some() {
                return Ok(());
            }
            let comes = self.is_member != Some(true);
            // What was asked for and not answered may have been done.
            self.is_member = None;
            let (answer, done_before) = if comes {
                (
                    guest.ask("join", &json!({ "room": ROOM }))?,
                    "already_member",
                )
            } else {
                let request = json!({ "room": ROOM, "user": "gus" });
                (owner.ask("kick", &request)?, "not_there")
            };
            let is_done = answer["ok"] == true || answer["error"]["code"] == done_before;
            // Too many requests, or the journal was busy: the next one will tell.
            if is_done {
                self.is_member = Some(comes);
            } else if !matches!(
                answer["error"]["code"].as_str(),
                Some("too_many_requests" | "unavailable")
            ) {
                return Err(ClientError::Transport(format!("join or kick: {answer}")));
            }
            board.stay_away(board.pace().come_and_go);
        }
    }
}

/// What is not as it was acknowledged.
pub fn check(broker: &TidingsProcess, talkers: &[Talker], guest: &Guest) -> Vec<String> {
    check_all(broker, talkers, guest).unwrap_or_else(|error| vec![format!("the room: {error}")])
}

fn check_all(
    broker: &TidingsProcess,
    talkers: &[Talker],
    guest: &Guest,
) -> Result<Vec<String>, ClientError> {
    let mut faults = Vec::new();
    let mut phone = Phone::connect(broker.tcp(), "olga")?;
    let mut messages: Vec<Value> = Vec::new();
    loop {
        let request = json!({ "room": ROOM, "after": messages.len(), "limit": 200 });
        let page = phone.ask("history", &request)?;
        let Some(found) = page["messages"]
            .as_array()
            .filter(|found| !found.is_empty())
        else {
            if page["head"] != messages.len() {
                faults.push(format!("after {} messages: {page}", messages.len()));
            }
            break;
        };
        messages.extend(found.iter().cloned());
    }
    for (at, message) in messages.iter().enumerate() {
        if message["seq"] != at + 1 {
            faults.push(format!("instead of {}: {message}", at + 1));
            return Ok(faults);
        }
    }
    let total: usize = talkers.iter().map(|t| t.sayings.len()).sum();
    if messages.len() != total {
        let fault = format!("{} messages in the room, {total} were said", messages.len());
        faults.push(fault);
    }
    for talker in talkers {
        check_talker(talker, &messages, &mut faults);
        if talker.read > 0 {
            let marker = read_marker(&mut phone, &talker.user)?;
            if marker < talker.read {
                let (user, read) = (&talker.user, talker.read);
                faults.push(format!("{user} had read {read}, and now {marker}"));
            }
        }
    }
    let mut gus = Phone::connect(broker.tcp(), "gus")?;
    let sees = gus.ask("history", &json!({ "room": ROOM, "limit": 1 }))?;
    if guest.is_member.is_some_and(|is| sees["ok"] != is) {
        faults.push(format!("gus: {:?}, and sees {sees}", guest.is_member));
    }
    Ok(faults)
}

fn check_talker(talker: &Talker, messages: &[Value], faults: &mut Vec<String>) {
    for (at, saying) in talker.sayings.iter().enumerate() {
        let Some(seq) = saying.seq else {
            faults.push(format!("{} never heard of {saying:?}", talker.user));
            continue;
        };
        let Some(message) = messages.get((seq - 1) as usize) else {
            faults.push(format!("{saying:?} is not there"));
            continue;
        };
        let was_recalled = |of: usize| talker.recalled.contains(&of);
        let is_gone = match saying.act {
            Act::Say => was_recalled(at),
            Act::Edit(of) => was_recalled(of),
            Act::Recall(_) | Act::React(_) => false,
        };
        let expected = if is_gone { "" } else { &*saying.text };
        let mut fits = message["payload"] == expected && message["from"] == talker.user.as_str();
        if saying.act == Act::Say && !is_gone {
            let edited = talker.newest(Act::Edit(at));
            let reacted = talker.newest(Act::React(at));
            fits &= message["edited"]["payload"].as_str() == edited;
            let reactions = reacted.map_or(Value::Null, |text| json!({ text: [talker.user] }));
            fits &= message["reactions"] == reactions;
        }
        fits &= (message["recalled"] != Value::Null) == (saying.act == Act::Say && is_gone);
        if !fits {
            faults.push(format!("{saying:?} is {message}"));
        }
    }
}

/// The number in the retained read marker of a user, who has one.
fn read_marker(phone: &mut Phone, user: &str) -> Result<u64, ClientError> {
    phone.subscribe(&format!("read/{ROOM}/{user}"))?;
    let payload = phone.wait(|packet| match packet {
        Packet::Publish(publish) => Some(publish.payload.to_vec()),
        _ => None,
    })?;
    let text = String::from_utf8_lossy(&payload);
    text.parse()
        .map_err(|_| ClientError::Transport(format!("{user} has read {text:?}")))
}
