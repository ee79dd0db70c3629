//! Bytes of a client to packets, and what each packet does.

use std::sync::Arc;

use super::attach::Will;
use super::commit::Pending;
use super::publish::Taken;
use super::{ConnId, Now, Received, Shard};
use crate::codec::{
    Disconnect, Most, Packet, Publish, ReasonCode, ShortAck, Version, decode_most, decode_publish,
    decode_short_ack, is_publish,
};
use crate::journal::Record;
use crate::limits::Limit;
use crate::session::window::{Exchange, Origin};
use crate::session::{Inbound, Session, Stage};
use crate::state::{Phase, SessionChange};

/// What [`decode_short_ack`] uses.
const SHORT_ACK_BYTES: usize = 4;

/// A filter takes as long as some small messages.
const FILTER_WEIGHT: u64 = 4;

/// So many bytes take as long to handle as a small packet.
const PACKET_BYTES: usize = 512;

/// A retained message takes as long as some that only pass.
const RETAINED_WEIGHT: u64 = 3;

impl Shard {
    /// Bytes that a client sent after its CONNECT. Whole packets are used, as many as are one turn; the
    /// rest is to be offered again with what follows. A connection that is unknown or closing uses
    /// everything.
    pub fn receive(&mut self, now: Now, conn: ConnId, bytes: &[u8]) -> Received {
        let mut consumed = 0;
        let mut paused = false;
        let mut more = false;
        let mut done: u64 = 0;
        // Publishes that may come now; what nobody is held to is not counted.
        let mut allowance = u64::MAX;
        let is_held = self.holds_publishers();
        if is_held {
            match self.allowance(now, conn) {
                Ok(left) => allowance = left,
                Err(wait_ms) => {
                    self.hold(now, conn, wait_ms);
                    return Received {
                        consumed: 0,
                        more: false,
                        paused: true,
                    };
                }
            }
        }
        let allowed = allowance;
        let most = self.most_of_a_packet();
        // Milliseconds that it waits, having asked for more filters than it may.
        let mut filters_wait_ms = None;
        // The topic of the last PUBLISH, which tends to come again.
        let mut known_topic = self.last_topic(conn);
        while let Some(session) = self.sessions.get_mut(conn) {
            let version = session.client.version;
            match session.stage {
                Stage::Closing => {
                    consumed = bytes.len();
                    break;
                }
                Stage::Attaching => {
                    paused = true;
                    break;
                }
                Stage::Online => {}
            }
            if self.notices.is_closing(conn) {
                consumed = bytes.len();
                break;
            }
            let rest = bytes.get(consumed..).unwrap_or_default();
            if done >= self.options.turn.max(1) {
                more = !rest.is_empty();
                break;
            }
            session.last_received_ms = now.monotonic_ms;
            if let Some((kind, packet_id)) = decode_short_ack(rest) {
                self.handle_ack(now, conn, kind, packet_id, ReasonCode::Success);
                consumed += SHORT_ACK_BYTES;
                continue;
            }
            done += 1;
            if is_publish(rest) {
                let known = known_topic.as_deref().unwrap_or_default();
                match decode_publish(version, rest, most, known) {
                    Ok(None) => break,
                    Ok(Some((publish, used))) => {
                        let is_new =
                            !publish.topic.is_empty() && !std::ptr::eq(publish.topic, known);
                        if self.handle_publish(now, conn, &publish) == Taken::Wait {
                            paused = true;
                            break;
                        }
                        consumed += used;
                        done += (used / PACKET_BYTES) as u64;
                        if publish.retain {
                            done += RETAINED_WEIGHT;
                        }
                        if is_new {
                            known_topic = self.last_topic(conn);
                        }
                        allowance -= 1;
                        if allowance == 0 {
                            break;
                        }
                    }
                    Err(error) => {
                        self.protocol_error(now, conn, error.reason(), &error.to_string());
                        consumed = bytes.len();
                    }
                }
                continue;
            }
            match decode_most(Some(version), rest, most) {
                Ok(None) => break,
                Ok(Some((packet, used))) => {
                    let filters = filters_of(&packet);
                    done += FILTER_WEIGHT * filters + (used / PACKET_BYTES) as u64;
                    if self.handle_packet(now, conn, packet) == Taken::Wait {
                        paused = true;
                        break;
                    }
                    consumed += used;
                    filters_wait_ms = self.charge_filters(now, conn, filters);
                    if filters_wait_ms.is_some() {
                        break;
                    }
                }
                Err(error) => {
                    self.protocol_error(now, conn, error.reason(), &error.to_string());
                    consumed = bytes.len();
                }
            }
        }
        if self.sessions.get(conn).is_none() {
            consumed = bytes.len();
        }
        let mut wait_ms = filters_wait_ms;
        if is_held {
            let charged = self.charge(now, conn, allowed - allowance, consumed as u64);
            // What was left unread has to be offered again, whatever others gave back meanwhile.
            wait_ms = wait_ms.max(charged).or((allowance == 0).then_some(1));
        }
        if let Some(wait_ms) = wait_ms {
            self.hold(now, conn, wait_ms);
            self.read_on(now);
            return Received {
                consumed,
                more: false,
                paused: true,
            };
        }
        if paused && let Some(session) = self.sessions.get_mut(conn) {
            session.paused = true;
            if session.stage == Stage::Online {
                self.paused.push(conn);
            }
        }
        // What was not timed now is not timed later.
        self.read_us = 0;
        self.read_on(now);
        Received {
            consumed,
            more: more && !paused,
            paused,
        }
    }

    /// What is too much in any case is not read.
    fn most_of_a_packet(&self) -> Most {
        Most {
            packet_bytes: self.options.maximum_packet_bytes as usize,
            user_properties: match self.options.bounds.user_properties {
                0 => usize::MAX,
                most => most,
            },
        }
    }

    /// What paused connections waited for may have come.
    pub(super) fn resume_paused(&mut self) {
        if self.pending_bytes > self.options.append_queue_bytes / 2 {
            return;
        }
        for conn in std::mem::take(&mut self.paused) {
            let waits = self
                .session(conn)
                .is_some_and(|s| s.last_forward > 0 && !self.peers.is_forwarded(s.last_forward));
            if waits {
                self.paused.push(conn);
            } else {
                self.resume(conn);
            }
        }
    }

    pub(super) fn protocol_error(
        &mut self,
        now: Now,
        conn: ConnId,
        reason: ReasonCode,
        text: &str,
    ) {
        self.stats.protocol_errors += 1;
        match reason {
            ReasonCode::PacketTooLarge => self.hit(Limit::PacketBytes),
            ReasonCode::ReceiveMaximumExceeded => self.hit(Limit::InflightIn),
            _ => {}
        }
        self.disconnect(now, conn, reason, text);
    }

    fn last_topic(&self, conn: ConnId) -> Option<Arc<str>> {
        let route = self.sessions.get(conn)?.route.as_ref()?;
        Some(route.topic.clone())
    }

    fn handle_ack(
        &mut self,
        now: Now,
        conn: ConnId,
        kind: ShortAck,
        packet_id: u16,
        reason: ReasonCode,
    ) {
        match kind {
            ShortAck::PubAck => self.finish_exchange(conn, packet_id, Phase::AwaitPubAck),
            ShortAck::PubRec => self.handle_pubrec(now, conn, packet_id, reason),
            ShortAck::PubRel => self.handle_pubrel(now, conn, packet_id),
            ShortAck::PubComp => self.finish_exchange(conn, packet_id, Phase::AwaitPubComp),
        }
    }

    fn handle_packet(&mut self, now: Now, conn: ConnId, packet: Packet<'_>) -> Taken {
        if let Some(limit) = self.too_many_properties(&packet) {
            self.hit(limit);
            let text = "too many User Properties";
            self.disconnect(now, conn, ReasonCode::QuotaExceeded, text);
            return Taken::Done;
        }
        match packet {
            Packet::Publish(publish) => return self.handle_publish(now, conn, &publish),
            Packet::PubAck(ack) => {
                self.handle_ack(now, conn, ShortAck::PubAck, ack.packet_id, ack.reason)
            }
            Packet::PubRec(ack) => {
                self.handle_ack(now, conn, ShortAck::PubRec, ack.packet_id, ack.reason)
            }
            Packet::PubRel(ack) => {
                self.handle_ack(now, conn, ShortAck::PubRel, ack.packet_id, ack.reason)
            }
            Packet::PubComp(ack) => {
                self.handle_ack(now, conn, ShortAck::PubComp, ack.packet_id, ack.reason)
            }
            Packet::Subscribe(subscribe) => {
                if !self.has_come_as_far(conn) {
                    return Taken::Wait;
                }
                self.handle_subscribe(now, conn, subscribe);
            }
            Packet::Unsubscribe(unsubscribe) => {
                // A filter on its way through the journal must not come back behind its end, and
                // one that is gone only here is not yet "no subscription existed".
                if self
                    .session(conn)
                    .is_some_and(|s| s.unsubscribing || !s.subscribing.is_empty())
                {
                    return Taken::Wait;
                }
                self.handle_unsubscribe(conn, &unsubscribe);
            }
            Packet::PingReq => self.send(conn, &Packet::PingResp),
            Packet::Disconnect(disconnect) => self.handle_disconnect(now, conn, &disconnect),
            Packet::Auth(auth) => self.handle_auth(now, conn, auth),
            Packet::Connect(_) => {
                let text = "a second CONNECT [MQTT-3.1.0-2]";
                self.protocol_error(now, conn, ReasonCode::ProtocolError, text);
            }
            Packet::ConnAck(_) | Packet::SubAck(_) | Packet::UnsubAck(_) | Packet::PingResp => {
                let text = "a packet that only a server sends";
                self.protocol_error(now, conn, ReasonCode::ProtocolError, text);
            }
        }
        Taken::Done
    }

    /// Whether this shard has handled everything that the journal had when a SUBSCRIBE came. What
    /// another shard acknowledged before is retained or history for the filter, not news.
    fn has_come_as_far(&mut self, conn: ConnId) -> bool {
        let end = self.journal.end();
        let Some(session) = self.sessions.get_mut(conn) else {
            return true;
        };
        if self.position < *session.subscribes_from.get_or_insert(end) {
            return false;
        }
        session.subscribes_from = None;
        true
    }

    fn finish_exchange(&mut self, conn: ConnId, packet_id: u16, phase: Phase) {
        let Some(session) = self.sessions.get_mut(conn) else {
            return;
        };
        if let Some(exchange) = session.window.finish(packet_id, phase) {
            self.exchange_finished(conn, exchange);
        }
    }

    fn exchange_finished(&mut self, conn: ConnId, exchange: Exchange) {
        if let Some(session) = self.sessions.get_mut(conn) {
            session.progressed |= exchange.offset.is_some();
        }
        if let Origin::Group { filter, assignment } = exchange.origin {
            self.acknowledge_shared(filter, assignment);
        }
        self.wake_reader(conn);
    }

    fn handle_pubrec(&mut self, now: Now, conn: ConnId, packet_id: u16, reason: ReasonCode) {
        let Some(session) = self.sessions.get_mut(conn) else {
            return;
        };
        if reason.is_failure() {
            // The receiver refuses: the exchange ends here (§4.3.3).
            if let Some(exchange) = session.window.finish(packet_id, Phase::AwaitPubRec) {
                self.exchange_finished(conn, exchange);
            }
            return;
        }
        let Some(exchange) = session.window.find(packet_id) else {
            let release = session.ack(packet_id, ReasonCode::PacketIdentifierNotFound, Vec::new());
            self.send(conn, &Packet::PubRel(release));
            return;
        };
        if exchange.phase == Phase::AwaitPubAck {
            let text = "PUBREC for a QoS 1 message";
            self.protocol_error(now, conn, ReasonCode::ProtocolError, text);
            return;
        }
        exchange.phase = Phase::AwaitPubComp;
        if session.persistent && exchange.offset.is_some() {
            session.staged_releases.push(packet_id);
            self.to_stage.push(conn);
        } else {
            let release = session.ack(packet_id, ReasonCode::Success, Vec::new());
            self.send(conn, &Packet::PubRel(release));
        }
    }

    fn handle_pubrel(&mut self, now: Now, conn: ConnId, packet_id: u16) {
        let Some(session) = self.sessions.get_mut(conn) else {
            return;
        };
        match session.inbound.get(&packet_id).copied() {
            Some(Inbound::Storing) => {
                let text = "PUBREL before PUBREC";
                self.protocol_error(now, conn, ReasonCode::ProtocolError, text);
            }
            Some(Inbound::Releasing) => {}
            Some(Inbound::Received { durable: true }) => {
                // A crash must not make the next message with this identifier a double.
                session.inbound.insert(packet_id, Inbound::Releasing);
                let client_id = session.client.id.clone();
                let change = SessionChange::Released { packet_id };
                let pending = Pending::Released { conn, packet_id };
                self.append(Record::Session { client_id, change }, pending);
            }
            found => {
                session.inbound_finished(packet_id);
                let reason = match found {
                    Some(_) => ReasonCode::Success,
                    None => ReasonCode::PacketIdentifierNotFound,
                };
                let complete = session.ack(packet_id, reason, Vec::new());
                self.send(conn, &Packet::PubComp(complete));
            }
        }
    }

    fn handle_disconnect(&mut self, now: Now, conn: ConnId, disconnect: &Disconnect) {
        let Some(session) = self.sessions.get_mut(conn) else {
            return;
        };
        if session.client.version == Version::V5
            && let Some(expiry_s) = disconnect.session_expiry_s
        {
            if session.expiry_s == 0 && expiry_s > 0 {
                let text = "a session that ends with its connection cannot be prolonged";
                self.protocol_error(now, conn, ReasonCode::ProtocolError, text);
                return;
            }
            session.expiry_s = expiry_s.min(self.options.session_expiry_max_s);
        }
        let will = match disconnect.reason {
            ReasonCode::Success => Will::Withdraw,
            _ => Will::Publish,
        };
        self.end_session(now, conn, ReasonCode::Success, will, false);
        self.close_connection(conn, ReasonCode::Success, None);
    }
}

/// What makes the work of a packet beside its being one.
fn filters_of(packet: &Packet<'_>) -> u64 {
    match packet {
        Packet::Subscribe(subscribe) => subscribe.filters.len() as u64,
        Packet::Unsubscribe(unsubscribe) => unsubscribe.filters.len() as u64,
        _ => 0,
    }
}

impl Session {
    /// The topic of a PUBLISH, with its alias looked up or learned (§3.3.2.3.4).
    pub(super) fn resolve_alias(
        &mut self,
        publish: &Publish<'_>,
        maximum: u16,
    ) -> Result<Arc<str>, ReasonCode> {
        let Some(alias) = publish.properties.topic_alias else {
            let known = self.route.as_ref().map(|route| &route.topic);
            return Ok(match known.filter(|topic| ***topic == *publish.topic) {
                Some(topic) => topic.clone(),
                None => publish.topic.into(),
            });
        };
        if alias > maximum {
            return Err(ReasonCode::TopicAliasInvalid);
        }
        if publish.topic.is_empty() {
            return self
                .aliases
                .as_ref()
                .and_then(|aliases| aliases.inbound.get(&alias).cloned())
                .ok_or(ReasonCode::ProtocolError);
        }
        let topic: Arc<str> = publish.topic.into();
        let aliases = self.aliases.get_or_insert_default();
        aliases.inbound.insert(alias, topic.clone());
        Ok(topic)
    }
}
