//! Packets and journal entries in few words, for traces that people read.

use std::fmt::Write;

use tidings_core::codec::{Ack, Packet, Publish, ReasonCode};
use tidings_core::journal::{Audience, Batch, Record};
use tidings_core::message::QoS;

use super::said::Said;

/// A packet that a client sends.
pub fn packet(packet: &Packet<'_>) -> String {
    match packet {
        Packet::Connect(c) => {
            format!(
                "CONNECT {} clean={} will={}",
                c.client_id,
                c.clean_start,
                c.will.is_some()
            )
        }
        Packet::Publish(publish) => self::publish(publish),
        Packet::PubAck(a) => ack("PUBACK", a),
        Packet::PubRec(a) => ack("PUBREC", a),
        Packet::PubRel(a) => ack("PUBREL", a),
        Packet::PubComp(a) => ack("PUBCOMP", a),
        Packet::Subscribe(s) => {
            let filters: Vec<String> = s
                .filters
                .iter()
                .map(|f| format!("{}@{}", f.filter, f.qos as u8))
                .collect();
            format!("SUBSCRIBE {} {}", s.packet_id, filters.join(" "))
        }
        Packet::Unsubscribe(u) => format!("UNSUBSCRIBE {} {}", u.packet_id, u.filters.join(" ")),
        Packet::Disconnect(d) => format!("DISCONNECT {:?}", d.reason),
        other => format!("{other:?}"),
    }
}

/// What a client saw.
pub fn said(said: &Said) -> String {
    match said {
        Said::ConnAck(a) => format!("CONNACK present={} {:?}", a.session_present, a.reason),
        Said::Publish(d) => format!(
            "PUBLISH {}{}{} {} {}",
            flags(d.qos, d.dup, d.retain),
            d.packet_id.map(|id| format!(" {id}")).unwrap_or_default(),
            d.alias
                .map(|(alias, _)| format!(" alias {alias}"))
                .unwrap_or_default(),
            d.topic,
            d.payload
        ),
        Said::PubAck(a) => ack("PUBACK", a),
        Said::PubRec(a) => ack("PUBREC", a),
        Said::PubRel(a) => ack("PUBREL", a),
        Said::PubComp(a) => ack("PUBCOMP", a),
        Said::SubAck(a) => format!("SUBACK {} {:?}", a.packet_id, a.reasons),
        Said::UnsubAck(a) => format!("UNSUBACK {} {:?}", a.packet_id, a.reasons),
        Said::Disconnect(d) => format!("DISCONNECT {:?}", d.reason),
        other => format!("{other:?}"),
    }
}

fn publish(publish: &Publish<'_>) -> String {
    format!(
        "PUBLISH {}{} {} {}",
        flags(publish.qos, publish.dup, publish.retain),
        publish
            .packet_id
            .map(|id| format!(" {id}"))
            .unwrap_or_default(),
        publish.topic,
        String::from_utf8_lossy(publish.payload)
    )
}

fn flags(qos: QoS, dup: bool, retain: bool) -> String {
    let dup = if dup { " dup" } else { "" };
    let retain = if retain { " retain" } else { "" };
    format!("qos{}{dup}{retain}", qos as u8)
}

fn ack(name: &str, ack: &Ack) -> String {
    match ack.reason {
        ReasonCode::Success => format!("{name} {}", ack.packet_id),
        reason => format!("{name} {} {reason:?}", ack.packet_id),
    }
}

/// What a commit made durable, one entry a line.
pub fn batch(batch: &Batch) -> String {
    let mut text = String::new();
    for (shard, entry) in &batch.entries {
        let what = match &entry.record {
            Record::Published(p) => {
                let only = match &p.audience {
                    Audience::Everyone => String::new(),
                    Audience::Only(names) => format!(" only {names:?}"),
                    Audience::Growing => " growing".to_owned(),
                };
                let payload = String::from_utf8_lossy(&p.message.payload);
                format!(
                    "{} {payload} qos{}{only}",
                    p.message.topic, p.message.qos as u8
                )
            }
            Record::Session { client_id, change } => format!("{client_id} {change:?}"),
            Record::Group { filter, change } => format!("{filter} {change:?}"),
            Record::Account { user, change } => format!("{user} {change:?}"),
        };
        let _ = write!(text, "\n{:>14} shard {shard}: {what}", entry.offset.0);
    }
    text
}
