//! What passes through one connection, for traces: bytes to packets, packets to lines, and which rule refused
//! what was refused.
//!
//! Bytes are looked at beside the shard, which does not know of it. What is written is looked at when it is
//! first offered to the socket; if a trace begins in the middle of a packet, it waits until everything
//! before was written.

use std::collections::HashMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use tidings_core::codec::{Ack, Packet, Publish, ReasonCode, Version, decode};
use tidings_core::rules::{Identity, Membership, Rules};
use tidings_core::topic::parse_filter;

use super::{Direction, Subject, Told, Tracing};

/// Bytes of a payload that are told.
const PAYLOAD: usize = 4096;

/// Filters or reasons of one packet that are told.
const LISTED: usize = 100;

/// Topic Aliases of one connection that are remembered.
const ALIASES: usize = 1024;

/// What is known of a connection while somebody traces.
pub(crate) struct Tap {
    subject: Subject,
    version: Version,
    identity: Identity,
    /// Traces began so many times until it was made.
    time: u64,
    /// As of so many changes of traces...
    as_of: u64,
    /// ...some trace may want this connection.
    is_wanted: bool,
    /// Bytes of the output that were told and not written yet; `None`: it begins in the middle of a packet.
    told: Option<usize>,
    inbound: HashMap<u16, Arc<str>>,
    outbound: HashMap<u16, Arc<str>>,
}

/// Who decides, for the reasons of a refusal.
pub(crate) struct Judges<'a> {
    pub rules: &'a Rules,
    pub members: &'a dyn Membership,
}

impl Tap {
    /// `whole`: the output begins with a packet.
    pub fn new(
        tracing: &Tracing,
        subject: Subject,
        version: Version,
        identity: Identity,
        whole: bool,
    ) -> Self {
        Self {
            is_wanted: tracing.concerns(&subject),
            as_of: tracing.changes(),
            time: tracing.times(),
            subject,
            version,
            identity,
            told: whole.then_some(0),
            inbound: HashMap::new(),
            outbound: HashMap::new(),
        }
    }

    /// Whether it saw everything that passed since traces began.
    pub fn is_of(&self, tracing: &Tracing) -> bool {
        self.time == tracing.times()
    }

    fn look(&mut self, tracing: &Tracing) -> bool {
        let changes = tracing.changes();
        if self.as_of != changes {
            self.as_of = changes;
            self.is_wanted = tracing.concerns(&self.subject);
        }
        self.is_wanted
    }

    /// Something happens that is no packet.
    pub fn aside(&mut self, tracing: &Tracing, fields: Value) {
        if self.look(tracing) {
            let told = Told {
                direction: Direction::Aside,
                topics: &[],
                fields,
                payload: None,
            };
            tracing.tell(&self.subject, &told);
        }
    }

    /// The shard used these bytes: whole packets.
    pub fn received(&mut self, tracing: &Tracing, mut bytes: &[u8], judges: &Judges<'_>) {
        if !self.look(tracing) {
            return;
        }
        while let Ok(Some((packet, used))) = decode(Some(self.version), bytes, usize::MAX) {
            self.tell(tracing, Direction::In, &packet, used, Some(judges));
            bytes = bytes.get(used..).unwrap_or_default();
        }
    }

    /// These bytes wait to be written.
    pub fn writes(&mut self, tracing: &Tracing, pending: &[u8]) {
        let is_wanted = self.look(tracing);
        let Some(told) = self.told else {
            return;
        };
        if is_wanted {
            let mut bytes = pending.get(told..).unwrap_or_default();
            while !bytes.is_empty() {
                let Ok(Some((packet, used))) = decode(Some(self.version), bytes, usize::MAX) else {
                    // It was no beginning of a packet.
                    self.told = None;
                    return;
                };
                self.tell(tracing, Direction::Out, &packet, used, None);
                bytes = bytes.get(used..).unwrap_or_default();
            }
        }
        self.told = Some(pending.len());
    }

    /// The socket took so many bytes, and left so many.
    pub fn wrote(&mut self, len: usize, left: usize) {
        self.told = match self.told {
            _ if left == 0 => Some(0),
            told => told.map(|told| told.saturating_sub(len)),
        };
    }

    fn tell(
        &mut self,
        tracing: &Tracing,
        direction: Direction,
        packet: &Packet<'_>,
        bytes: usize,
        judges: Option<&Judges<'_>>,
    ) {
        let aliases = match direction {
            Direction::Out => &mut self.outbound,
            Direction::In | Direction::Aside => &mut self.inbound,
        };
        let mut fields = Map::new();
        fields.insert("bytes".to_owned(), bytes.into());
        let (name, mut more, topics, payload) = match packet {
            Packet::Publish(publish) => {
                let topic = full_topic(aliases, publish);
                let fields = publish_fields(publish, topic.as_deref());
                (
                    "PUBLISH",
                    fields,
                    topic.into_iter().collect(),
                    Some(publish.payload),
                )
            }
            packet => {
                let (name, fields, topics) = describe(packet);
                (name, fields, topics, None)
            }
        };
        let topics: Vec<&str> = topics.iter().map(|topic: &Arc<str>| &**topic).collect();
        if let Some(judges) = judges
            && let Some(refusals) = refusals(packet, &topics, &self.identity, judges)
        {
            more["refused_by"] = refusals;
        }
        fields.insert("packet".to_owned(), name.into());
        if let Value::Object(more) = more {
            fields.extend(more);
        }
        let told = Told {
            direction,
            topics: &topics,
            fields: Value::Object(fields),
            payload,
        };
        tracing.tell(&self.subject, &told);
    }
}

/// The topic of a PUBLISH; `None`: its alias was given before the trace began.
fn full_topic(aliases: &mut HashMap<u16, Arc<str>>, publish: &Publish<'_>) -> Option<Arc<str>> {
    let alias = publish.properties.topic_alias;
    if publish.topic.is_empty() {
        return aliases.get(&alias?).cloned();
    }
    let topic: Arc<str> = publish.topic.into();
    if let Some(alias) = alias
        && aliases.len() < ALIASES
    {
        aliases.insert(alias, topic.clone());
    }
    Some(topic)
}

fn publish_fields(publish: &Publish<'_>, topic: Option<&str>) -> Value {
    let mut fields = json!({
        "topic": topic,
        "qos": publish.qos as u8,
        "payload_bytes": publish.payload.len(),
    });
    if let Some(packet_id) = publish.packet_id {
        fields["packet_id"] = packet_id.into();
    }
    for (name, is_so) in [("retain", publish.retain), ("dup", publish.dup)] {
        if is_so {
            fields[name] = true.into();
        }
    }
    if let Some(alias) = publish.properties.topic_alias {
        fields["alias"] = alias.into();
    }
    fields
}

fn describe(packet: &Packet<'_>) -> (&'static str, Value, Vec<Arc<str>>) {
    let ack = |ack: &Ack| {
        let mut fields = json!({ "packet_id": ack.packet_id });
        add_reason(&mut fields, ack.reason, ack.reason_string.as_deref());
        fields
    };
    let reasons = |codes: &[ReasonCode]| -> Vec<u8> {
        codes.iter().take(LISTED).map(|code| *code as u8).collect()
    };
    let none = Vec::new;
    match packet {
        Packet::Connect(_) => ("CONNECT", json!({}), none()),
        Packet::ConnAck(it) => {
            let mut fields = json!({ "session_present": it.session_present });
            let text = it.properties.reason_string.as_deref();
            add_reason(&mut fields, it.reason, text);
            ("CONNACK", fields, none())
        }
        Packet::Publish(_) => ("PUBLISH", json!({}), none()),
        Packet::PubAck(it) => ("PUBACK", ack(it), none()),
        Packet::PubRec(it) => ("PUBREC", ack(it), none()),
        Packet::PubRel(it) => ("PUBREL", ack(it), none()),
        Packet::PubComp(it) => ("PUBCOMP", ack(it), none()),
        Packet::Subscribe(it) => {
            let asked: Vec<_> = it.filters.iter().take(LISTED).collect();
            let filters: Vec<Value> = asked
                .iter()
                .map(|one| json!({ "filter": one.filter, "qos": one.qos as u8 }))
                .collect();
            let topics = asked.iter().map(|one| one.filter.as_str().into()).collect();
            let fields = json!({ "packet_id": it.packet_id, "filters": filters });
            ("SUBSCRIBE", fields, topics)
        }
        Packet::SubAck(it) => {
            let mut fields = json!({ "packet_id": it.packet_id, "reasons": reasons(&it.reasons) });
            if let Some(text) = &it.reason_string {
                fields["text"] = text.as_str().into();
            }
            ("SUBACK", fields, none())
        }
        Packet::Unsubscribe(it) => {
            let filters: Vec<_> = it.filters.iter().take(LISTED).collect();
            let topics = filters
                .iter()
                .map(|filter| filter.as_str().into())
                .collect();
            let fields = json!({ "packet_id": it.packet_id, "filters": filters });
            ("UNSUBSCRIBE", fields, topics)
        }
        Packet::UnsubAck(it) => {
            let fields = json!({ "packet_id": it.packet_id, "reasons": reasons(&it.reasons) });
            ("UNSUBACK", fields, none())
        }
        Packet::PingReq => ("PINGREQ", json!({}), none()),
        Packet::PingResp => ("PINGRESP", json!({}), none()),
        Packet::Disconnect(it) => {
            let mut fields = json!({});
            add_reason(&mut fields, it.reason, it.reason_string.as_deref());
            ("DISCONNECT", fields, none())
        }
        // What is proved stays between the client and the broker.
        Packet::Auth(it) => {
            let mut fields = json!({});
            add_reason(&mut fields, it.reason, it.reason_string.as_deref());
            ("AUTH", fields, none())
        }
    }
}

fn add_reason(fields: &mut Value, reason: ReasonCode, text: Option<&str>) {
    fields["reason"] = (reason as u8).into();
    if reason != ReasonCode::Success {
        fields["reason_name"] = format!("{reason:?}").into();
    }
    if let Some(text) = text {
        fields["text"] = text.into();
    }
}

/// What the topic rules refuse of a client's packet, and the rules that do.
fn refusals(
    packet: &Packet<'_>,
    topics: &[&str],
    who: &Identity,
    judges: &Judges<'_>,
) -> Option<Value> {
    let mut refused = Vec::new();
    for topic in topics {
        let rule = match packet {
            Packet::Publish(_) => {
                let access = judges.rules.may_publish(topic, who, judges.members);
                (!access.is_allowed()).then(|| match judges.rules.text_for(topic) {
                    Some((pattern, publish, _)) => {
                        json!({ "topic": topic, "pattern": pattern, "publish": publish })
                    }
                    None => json!({ "topic": topic, "pattern": null }),
                })
            }
            Packet::Subscribe(_) => {
                let Ok(kind) = parse_filter(topic) else {
                    continue;
                };
                let plain = kind.filter();
                let access = judges.rules.may_subscribe(plain, who, judges.members);
                (!access.is_allowed()).then(|| match judges.rules.text_for(plain) {
                    Some((pattern, _, subscribe)) => {
                        json!({ "filter": topic, "pattern": pattern, "subscribe": subscribe })
                    }
                    None => json!({ "filter": topic, "pattern": null }),
                })
            }
            _ => None,
        };
        refused.extend(rule);
    }
    (!refused.is_empty()).then_some(Value::Array(refused))
}

/// A payload as JSON has it: text under `payload`, other bytes under `payload_base64`; cut if it is long.
pub(super) fn payload_text(payload: &[u8]) -> (&'static str, String) {
    let shown = payload.get(..PAYLOAD).unwrap_or(payload);
    match std::str::from_utf8(shown) {
        Ok(text) => ("payload", text.to_owned()),
        // Cut in the middle of a character.
        Err(error) if error.error_len().is_none() && shown.len() < payload.len() => {
            let whole = shown.get(..error.valid_up_to()).unwrap_or_default();
            ("payload", String::from_utf8_lossy(whole).into_owned())
        }
        Err(_) => ("payload_base64", STANDARD.encode(shown)),
    }
}
