//! An MQTT client that keeps the protocol, remembers what it was told, and notices when the broker
//! does not keep it.
//!
//! Its part of the Session State outlives its connections. It does not know the network: bytes come
//! in and go out. With `auto_ack` it answers at once, otherwise when [`Client::reply`] is called.

use std::collections::{BTreeMap, HashMap, VecDeque};

use tidings_core::codec::{
    Ack, Disconnect, Packet, Publish, ReasonCode, Subscribe, Unsubscribe, Version, decode, encode,
};
use tidings_core::message::QoS;

use super::login::{Filter, Login, Post};
use super::said::{Delivery, Said};

/// An answer that the protocol asks the client for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::enum_variant_names, reason = "the names of the packets")]
pub enum Reply {
    /// PUBACK.
    PubAck(u16),
    /// PUBREC.
    PubRec(u16),
    /// PUBREL.
    PubRel(u16),
    /// PUBCOMP.
    PubComp(u16),
}

/// A message of the client that the broker has not finished with.
#[derive(Clone, Debug)]
pub struct Sent {
    /// Its Packet Identifier.
    pub packet_id: u16,
    /// What it is.
    pub post: Post,
    /// PUBREC was received.
    pub received: bool,
}

/// See the module.
#[derive(Debug)]
pub struct Client {
    /// The last CONNECT.
    pub login: Login,
    /// Its connection, by number in the house.
    pub line: Option<usize>,
    /// CONNACK was received on it.
    pub online: bool,
    /// DISCONNECT was received on it.
    dismissed: bool,
    /// Everything it was told, in order, on all its connections.
    pub said: Vec<Said>,
    /// Application messages: as `said`, without QoS 2 messages that came before.
    pub arrivals: Vec<Delivery>,
    /// Payloads of its messages for which PUBACK or PUBREC said success.
    pub acknowledged: Vec<String>,
    /// The same with the numbers that the acknowledgements said, if they did.
    pub numbers: Vec<(String, u64)>,
    /// Payloads of its QoS 1 messages that it sent more than once: they may be stored twice.
    pub repeated: Vec<String>,
    /// Payloads of its messages that were refused.
    pub refused: Vec<String>,
    /// What the broker did wrong.
    pub violations: Vec<String>,
    /// Answers at once.
    pub auto_ack: bool,
    /// Reads from the network.
    pub reading: bool,
    /// Answers that are due.
    pub replies: VecDeque<Reply>,
    /// Its messages that are not finished.
    pub sent: Vec<Sent>,
    /// Its messages that wait for the broker's Receive Maximum.
    pub waiting: VecDeque<Post>,

    inbox: Vec<u8>,
    outbox: Vec<u8>,
    next_packet_id: u16,
    broker_receive_maximum: u16,
    /// QoS 2 messages that came and were not released.
    held: HashMap<u16, String>,
    /// Packet Identifiers of SUBSCRIBEs and UNSUBSCRIBEs that were not answered.
    asked: Vec<u16>,
    /// Deliveries on this connection that are not acknowledged.
    open: BTreeMap<u16, String>,
    aliases: HashMap<u16, String>,
}

/// After about so many Packet Identifiers the first comes again.
const SOON: u16 = 12;

impl Client {
    /// A client that never was connected.
    pub fn new(login: Login) -> Self {
        Self {
            login,
            line: None,
            online: false,
            dismissed: false,
            said: Vec::new(),
            arrivals: Vec::new(),
            acknowledged: Vec::new(),
            numbers: Vec::new(),
            repeated: Vec::new(),
            refused: Vec::new(),
            violations: Vec::new(),
            auto_ack: true,
            reading: true,
            replies: VecDeque::new(),
            sent: Vec::new(),
            waiting: VecDeque::new(),
            inbox: Vec::new(),
            outbox: Vec::new(),
            next_packet_id: 0,
            broker_receive_maximum: u16::MAX,
            held: HashMap::new(),
            asked: Vec::new(),
            open: BTreeMap::new(),
            aliases: HashMap::new(),
        }
    }

    /// Bytes to be sent.
    pub fn take_output(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.outbox)
    }

    /// A new connection: CONNECT. Session State stays until CONNACK says otherwise, but with Clean
    /// Start the client forgets its own part at once.
    pub fn connect(&mut self, line: usize, login: Login) {
        self.lose_connection();
        if login.clean_start {
            self.forget();
        }
        self.login = login;
        self.line = Some(line);
        let connect = self.login.encode();
        self.outbox.extend(connect);
    }

    /// The client's part of the Session State is forgotten, and what it had in mind.
    pub fn forget(&mut self) {
        self.held.clear();
        self.sent.clear();
        self.waiting.clear();
    }

    /// The connection is gone.
    pub fn lose_connection(&mut self) {
        self.line = None;
        self.online = false;
        self.dismissed = false;
        self.inbox.clear();
        self.outbox.clear();
        self.replies.clear();
        self.asked.clear();
        self.open.clear();
        self.aliases.clear();
    }

    /// Sends any packet.
    pub fn send(&mut self, packet: &Packet<'_>) {
        encode(self.login.version, packet, &mut self.outbox);
    }

    /// Sends any bytes.
    pub fn send_bytes(&mut self, bytes: &[u8]) {
        self.outbox.extend_from_slice(bytes);
    }

    /// A Packet Identifier that is not in use. It comes round soon, so that what the broker
    /// remembers too long is found.
    pub fn packet_id(&mut self) -> u16 {
        let limit = SOON + (self.sent.len() + self.asked.len()) as u16;
        loop {
            self.next_packet_id = self.next_packet_id % limit + 1;
            let id = self.next_packet_id;
            if !self.asked.contains(&id) && self.sent.iter().all(|sent| sent.packet_id != id) {
                return id;
            }
        }
    }

    /// Publishes, as soon as the broker's Receive Maximum allows.
    pub fn publish(&mut self, post: Post) {
        if post.qos == QoS::AtMostOnce {
            self.send_publish(&post, None, false);
            return;
        }
        self.waiting.push_back(post);
        self.publish_waiting();
    }

    fn publish_waiting(&mut self) {
        while self.online
            && self.sent.len() < usize::from(self.broker_receive_maximum)
            && let Some(post) = self.waiting.pop_front()
        {
            let packet_id = self.packet_id();
            self.send_publish(&post, Some(packet_id), false);
            self.sent.push(Sent {
                packet_id,
                post,
                received: false,
            });
        }
    }

    /// Sends one PUBLISH and remembers nothing.
    pub fn send_publish(&mut self, post: &Post, packet_id: Option<u16>, dup: bool) {
        let publish = Publish {
            dup,
            qos: post.qos,
            retain: post.retain,
            topic: &post.topic,
            packet_id,
            properties: post.properties(),
            payload: post.payload.as_bytes(),
        };
        encode(
            self.login.version,
            &Packet::Publish(publish),
            &mut self.outbox,
        );
    }

    /// Sends SUBSCRIBE; gives its Packet Identifier.
    pub fn subscribe(&mut self, filters: &[Filter], subscription_id: Option<u32>) -> u16 {
        let packet_id = self.packet_id();
        self.asked.push(packet_id);
        self.send(&Packet::Subscribe(Subscribe {
            packet_id,
            subscription_id,
            user: Vec::new(),
            filters: filters.iter().map(|f| f.0.clone()).collect(),
        }));
        packet_id
    }

    /// Sends UNSUBSCRIBE; gives its Packet Identifier.
    pub fn unsubscribe(&mut self, filters: &[&str]) -> u16 {
        let packet_id = self.packet_id();
        self.asked.push(packet_id);
        self.send(&Packet::Unsubscribe(Unsubscribe {
            packet_id,
            filters: filters.iter().map(|f| (*f).to_owned()).collect(),
            user: Vec::new(),
        }));
        packet_id
    }

    /// Sends DISCONNECT.
    pub fn disconnect(&mut self, reason: ReasonCode) {
        self.send(&Packet::Disconnect(Disconnect::new(reason)));
    }

    /// Sends the `index`th answer that is due.
    pub fn reply(&mut self, index: usize) {
        let Some(reply) = self.replies.remove(index) else {
            return;
        };
        let ack = |packet_id| Ack::new(packet_id, ReasonCode::Success);
        match reply {
            Reply::PubAck(id) => {
                self.open.remove(&id);
                self.send(&Packet::PubAck(ack(id)));
            }
            Reply::PubRec(id) => self.send(&Packet::PubRec(ack(id))),
            Reply::PubRel(id) => self.send(&Packet::PubRel(ack(id))),
            Reply::PubComp(id) => {
                self.open.remove(&id);
                self.send(&Packet::PubComp(ack(id)));
            }
        }
    }

    /// Sends every answer that is due.
    pub fn reply_all(&mut self) {
        while !self.replies.is_empty() {
            self.reply(0);
        }
    }

    /// Bytes from the broker.
    pub fn receive(&mut self, bytes: &[u8]) {
        self.inbox.extend_from_slice(bytes);
        let inbox = std::mem::take(&mut self.inbox);
        let mut used = 0;
        loop {
            match decode(Some(self.login.version), &inbox[used..], usize::MAX) {
                Ok(Some((packet, count))) => {
                    if self
                        .login
                        .maximum_packet_size
                        .is_some_and(|max| count > max as usize)
                    {
                        self.violation(format!("a packet of {count} bytes"));
                    }
                    used += count;
                    self.handle(packet);
                }
                Ok(None) => break,
                Err(error) => {
                    self.violation(format!("the broker sent nonsense: {error}"));
                    break;
                }
            }
        }
        self.inbox = inbox[used..].to_vec();
        if self.auto_ack {
            self.reply_all();
        }
        self.publish_waiting();
    }

    /// The broker closed the connection.
    pub fn closed(&mut self) {
        self.said.push(Said::Closed);
        self.lose_connection();
    }

    fn violation(&mut self, text: String) {
        self.violations
            .push(format!("{}: {text}", self.login.client_id));
    }

    fn handle(&mut self, packet: Packet<'_>) {
        if !self.online && !matches!(packet, Packet::ConnAck(_)) {
            self.violation(format!("before CONNACK: {packet:?}"));
        }
        if self.dismissed {
            self.violation(format!("after DISCONNECT: {packet:?}"));
        }
        if let Packet::Publish(publish) = packet {
            self.handle_publish(&publish);
            return;
        }
        let Some(said) = Said::of(packet) else {
            self.violation("the broker sent what only a client sends".to_owned());
            return;
        };
        match &said {
            Said::ConnAck(ack) if ack.reason == ReasonCode::Success => {
                if self.online {
                    self.violation("a second CONNACK".to_owned());
                }
                self.online = true;
                self.broker_receive_maximum = ack.properties.receive_maximum.unwrap_or(u16::MAX);
                // MQTT 3.1 does not say; such a client has to believe that its session is there.
                let present = match self.login.version {
                    Version::V31 => !self.login.clean_start,
                    _ => ack.session_present,
                };
                self.resume_session(present);
            }
            Said::Disconnect(_) => self.dismissed = true,
            Said::SubAck(ack) => self.asked.retain(|id| *id != ack.packet_id),
            Said::UnsubAck(ack) => self.asked.retain(|id| *id != ack.packet_id),
            Said::PubAck(ack) => self.finish(ack, QoS::AtLeastOnce),
            Said::PubRec(ack) => self.handle_pubrec(ack),
            Said::PubComp(ack) => self.finish(ack, QoS::ExactlyOnce),
            Said::PubRel(ack) => {
                self.held.remove(&ack.packet_id);
                self.replies.push_back(Reply::PubComp(ack.packet_id));
            }
            _ => {}
        }
        self.said.push(said);
    }

    fn resume_session(&mut self, present: bool) {
        if self.login.clean_start && present {
            self.violation("Session Present after Clean Start".to_owned());
        }
        if !present {
            self.forget();
            return;
        }
        for sent in std::mem::take(&mut self.sent) {
            if sent.received {
                let ack = Ack::new(sent.packet_id, ReasonCode::Success);
                self.send(&Packet::PubRel(ack));
            } else {
                if sent.post.qos == QoS::AtLeastOnce {
                    self.repeated.push(sent.post.payload.clone());
                }
                self.send_publish(&sent.post, Some(sent.packet_id), true);
            }
            self.sent.push(sent);
        }
    }

    fn handle_publish(&mut self, publish: &Publish<'_>) {
        let topic = self.topic_of(publish);
        let delivery = Delivery::of(publish, topic);
        self.said.push(Said::Publish(delivery.clone()));
        let Some(packet_id) = delivery.packet_id else {
            self.arrivals.push(delivery);
            return;
        };
        let content = format!("{} {}", delivery.topic, delivery.payload);
        if self.open.insert(packet_id, content.clone()).is_some() {
            self.violation(format!(
                "Packet Identifier {packet_id} is in use: {delivery:?}"
            ));
        }
        let window = usize::from(self.login.receive_maximum.unwrap_or(u16::MAX));
        if self.login.version == Version::V5 && self.open.len() > window {
            self.violation(format!("above the Receive Maximum: {delivery:?}"));
        }
        if delivery.qos == QoS::AtLeastOnce {
            self.replies.push_back(Reply::PubAck(packet_id));
            self.arrivals.push(delivery);
            return;
        }
        self.replies.push_back(Reply::PubRec(packet_id));
        match self.held.insert(packet_id, content.clone()) {
            None => self.arrivals.push(delivery),
            Some(before) if before != content => {
                self.violation(format!(
                    "{packet_id} was not released: {before}, then {content}"
                ));
            }
            Some(_) if !delivery.dup => {
                self.violation(format!("sent again without DUP: {delivery:?}"));
            }
            Some(_) => {}
        }
    }

    fn topic_of(&mut self, publish: &Publish<'_>) -> String {
        let Some(alias) = publish.properties.topic_alias else {
            return publish.topic.to_owned();
        };
        if alias == 0 || alias > self.login.topic_alias_maximum.unwrap_or(0) {
            self.violation(format!("Topic Alias {alias}"));
        }
        if !publish.topic.is_empty() {
            self.aliases.insert(alias, publish.topic.to_owned());
        }
        self.aliases.get(&alias).cloned().unwrap_or_else(|| {
            self.violation(format!("Topic Alias {alias} was never explained"));
            String::new()
        })
    }

    fn handle_pubrec(&mut self, ack: &Ack) {
        let Some(index) = self
            .sent
            .iter()
            .position(|sent| sent.packet_id == ack.packet_id)
        else {
            self.replies.push_back(Reply::PubRel(ack.packet_id));
            return;
        };
        if ack.reason.is_failure() {
            let sent = self.sent.remove(index);
            self.refused.push(sent.post.payload);
            return;
        }
        let sent = &mut self.sent[index];
        if !std::mem::replace(&mut sent.received, true) {
            self.acknowledged.push(sent.post.payload.clone());
            let number = number_of(ack).map(|seq| (sent.post.payload.clone(), seq));
            self.numbers.extend(number);
        }
        self.replies.push_back(Reply::PubRel(ack.packet_id));
    }

    fn finish(&mut self, ack: &Ack, qos: QoS) {
        let matching = |sent: &Sent| {
            sent.packet_id == ack.packet_id
                && sent.post.qos == qos
                && (qos == QoS::AtLeastOnce || sent.received)
        };
        let Some(index) = self.sent.iter().position(matching) else {
            if qos == QoS::AtLeastOnce {
                self.violation(format!("an acknowledgement of nothing: {ack:?}"));
            }
            return;
        };
        let sent = self.sent.remove(index);
        if qos == QoS::AtLeastOnce {
            if ack.reason.is_failure() {
                self.refused.push(sent.post.payload);
            } else {
                let number = number_of(ack).map(|seq| (sent.post.payload.clone(), seq));
                self.numbers.extend(number);
                self.acknowledged.push(sent.post.payload);
            }
        }
    }
}

/// The user property `seq` of an acknowledgement.
fn number_of(ack: &Ack) -> Option<u64> {
    let (_, seq) = ack.user.iter().find(|(key, _)| key == "seq")?;
    seq.parse().ok()
}
