//! A publish: is it allowed, is it kept, and where does it go (§3.3).
//!
//! A message is kept if its rule has history, if it is retained, if a session with a record has a
//! filter of QoS 1 or 2 that matches, or if it is a QoS 2 message of a session with a record. Kept messages go to the journal and come back to every shard;
//! the others are delivered here and forwarded at once. A QoS 1 or 2 message behind one of the same
//! publisher that is still on its way to the journal goes there too: the order stays.

use std::sync::Arc;

use super::changes::{NoChange, room_of};
use super::commit::Pending;
use super::deliver::append_cost;
use super::timing::Way;
use super::upkeep::STORE_FAILED;
use super::{ConnId, Now, Shard};
use crate::codec::{Packet, Publish, ReasonCode, Version};
use crate::journal::Audience;
use crate::limits::{Limit, Room};
use crate::message::{Publisher, QoS};
use crate::messages::Kind;
use crate::rules::Identity;
use crate::session::content::{Content, Passing};
use crate::session::{Handling, Inbound, Route, Session};
use crate::state::WillRecord;

/// QoS 2 messages of one session that were not released: MQTT 3 cannot tell its clients the Receive
/// Maximum, and in MQTT 5 those of earlier connections do not count for it. Libraries that send without
/// looking have some thousands open; nobody needs all 65,535.
const MAX_UNRELEASED: usize = 16_384;

/// What became of a PUBLISH packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// It was handled.
    Done,
    /// It has to wait: offer it again after a resume.
    Wait,
}

/// Why a publish is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    NotAllowed,
    TooEarly {
        wait_s: u64,
    },
    /// The topic takes numbers, and this is none.
    NoNumber,
    /// There is no message of that number yet.
    BeyondHead {
        head: u64,
    },
    Change(NoChange),
    /// Another message has the `cid`, or it is too long.
    Name,
    /// The journal cannot be read.
    Unreadable,
    /// It is more than a limit allows.
    Over(Limit),
    /// It comes too soon after others.
    TooOften {
        limit: Limit,
        wait_ms: u64,
    },
}

impl Shard {
    /// A PUBLISH of a client whose connection is online.
    pub(super) fn handle_publish(
        &mut self,
        now: Now,
        conn: ConnId,
        publish: &Publish<'_>,
    ) -> Taken {
        let Some(session) = self.sessions.get_mut(conn) else {
            return Taken::Done;
        };
        if !publish.properties.subscription_ids.is_empty() {
            let text = "a client must not send Subscription Identifiers in PUBLISH";
            self.protocol_error(now, conn, ReasonCode::ProtocolError, text);
            return Taken::Done;
        }
        if publish.qos > self.options.maximum_qos {
            let text = "QoS above the Maximum QoS of CONNACK [MQTT-3.2.2-11]";
            self.protocol_error(now, conn, ReasonCode::QoSNotSupported, text);
            return Taken::Done;
        }
        if self.pending_bytes > self.options.append_queue_bytes && publish.qos != QoS::AtMostOnce {
            return Taken::Wait;
        }
        let topic = match session.resolve_alias(publish, self.options.topic_alias_maximum) {
            Ok(topic) => topic,
            Err(reason) => {
                self.protocol_error(
                    now,
                    conn,
                    reason,
                    "Topic Alias without a topic or too large",
                );
                return Taken::Done;
            }
        };
        let packet_id = publish.packet_id.unwrap_or(0);
        if let Err(reason) = self.admit(conn, publish.qos, packet_id) {
            if let Some(reason) = reason {
                self.protocol_error(
                    now,
                    conn,
                    reason,
                    "more publishes are open than the Receive Maximum",
                );
            }
            return Taken::Done;
        }
        let Some(session) = self.sessions.get_mut(conn) else {
            return Taken::Done;
        };
        let known = session.route.take();
        let Some(Session { client, .. }) = self.sessions.get(conn) else {
            return Taken::Done;
        };
        let mut route = self.find_route(known, &topic, &client.identity);
        let publisher = route.publisher.take().unwrap_or_else(|| Publisher {
            user: client.identity.user.clone(),
            client_id: client.id.clone(),
        });
        // Most have no User Property, and so no `cid`.
        if !publish.properties.user.is_empty()
            && let Some(taken) = self.sent_again(now, conn, publish, &route, packet_id)
        {
            route.publisher = Some(publisher);
            if let Some(session) = self.sessions.get_mut(conn) {
                session.route = Some(route);
            }
            self.stats.messages_received += u64::from(taken == Taken::Done);
            return taken;
        }
        let Some(Session { client, .. }) = self.sessions.get(conn) else {
            return Taken::Done;
        };
        let refusal = self
            .refusal(now, &route, &client.identity, publish.payload)
            .or_else(|| self.exceeds(now, conn, &route, publish));
        let taken = if refusal.is_none() {
            let passing = Passing {
                route: &route,
                publisher: &publisher,
                payload: publish.payload,
                qos: publish.qos,
                retain: publish.retain,
                properties: publish.properties.to_message_properties(),
                time: now.unix_ms,
                read_us: std::mem::take(&mut self.read_us),
            };
            self.take_message(now, conn, packet_id, &passing)
        } else {
            Taken::Done
        };
        if let Some(refusal) = refusal {
            self.refuse_publish(now, conn, publish.qos, packet_id, &route.topic, refusal);
        } else if taken == Taken::Done
            && let Some(room) = &route.paced_by
            && let Some(session) = self.sessions.get(conn)
        {
            let user = &session.client.identity.user;
            self.members.took_turn(user, room, now.unix_ms);
        }
        route.publisher = Some(publisher);
        if let Some(session) = self.sessions.get_mut(conn) {
            session.route = Some(route);
        }
        self.stats.messages_received += u64::from(taken == Taken::Done);
        taken
    }

    /// Receive Maximum, and QoS 2 messages that came before. `Err(None)`: nothing more to do.
    fn admit(&mut self, conn: ConnId, qos: QoS, packet_id: u16) -> Result<(), Option<ReasonCode>> {
        let maximum = usize::from(self.options.receive_maximum);
        let Some(session) = self.sessions.get_mut(conn) else {
            return Err(None);
        };
        if qos == QoS::AtMostOnce {
            return Ok(());
        }
        if qos == QoS::ExactlyOnce {
            match session.inbound.get(&packet_id) {
                Some(Inbound::Storing) => return Err(None),
                Some(_) => {
                    let received = session.ack(packet_id, ReasonCode::Success, Vec::new());
                    self.send(conn, &Packet::PubRec(received));
                    return Err(None);
                }
                None => {}
            }
        }
        let is_full = session.client.version == Version::V5 && session.open_publishes() >= maximum;
        let is_hoarded = qos == QoS::ExactlyOnce && session.inbound.len() >= MAX_UNRELEASED;
        if is_full || is_hoarded {
            return Err(Some(ReasonCode::ReceiveMaximumExceeded));
        }
        Ok(())
    }

    /// Why a publish is refused: no permission, too early in a room with a pace, or not what the
    /// topic takes.
    fn refusal(&self, now: Now, route: &Route, who: &Identity, payload: &[u8]) -> Option<Refusal> {
        if !route.allowed {
            return Some(route.over.map_or(Refusal::NotAllowed, Refusal::Over));
        }
        if let Some(Handling::Grows(stream)) = route.handling.as_deref() {
            return self.judge_number(stream, who, payload);
        }
        if route.kind != Kind::Message
            && let Some(refusal) = self.judge_change(route, who, payload)
        {
            return Some(Refusal::Change(refusal));
        }
        let room = route.paced_by.as_ref()?;
        let next = self.members.next_turn(&who.user, room, now.unix_ms)?;
        let wait_ms = next.saturating_sub(now.unix_ms);
        Some(Refusal::TooEarly {
            wait_s: wait_ms.div_ceil(1000),
        })
    }

    /// MQTT 5 says so in the acknowledgement. MQTT 3 cannot: there an acknowledgement would claim
    /// that the message is stored, so the connection is closed instead [MQTT-3.3.5-2].
    pub(super) fn refuse_publish(
        &mut self,
        now: Now,
        conn: ConnId,
        qos: QoS,
        packet_id: u16,
        topic: &str,
        refusal: Refusal,
    ) {
        match refusal {
            Refusal::Over(limit) | Refusal::TooOften { limit, .. } => self.hit(limit),
            _ => self.stats.refused_publishes += 1,
        }
        let Some(session) = self.sessions.get_mut(conn) else {
            return;
        };
        let (reason, text) = match refusal {
            Refusal::Over(limit) => over_limit(limit),
            Refusal::TooOften { wait_ms, .. } => (
                ReasonCode::QuotaExceeded,
                format!(
                    "too much at once: try again in {} s",
                    wait_ms.div_ceil(1000)
                ),
            ),
            Refusal::NotAllowed => (
                ReasonCode::NotAuthorized,
                format!("you may not publish on {topic}"),
            ),
            Refusal::TooEarly { wait_s } => (
                ReasonCode::QuotaExceeded,
                format!("slow mode: write again in {wait_s} s"),
            ),
            Refusal::NoNumber => (
                ReasonCode::PayloadFormatInvalid,
                format!("{topic} takes a decimal number"),
            ),
            Refusal::BeyondHead { head } => (
                ReasonCode::PayloadFormatInvalid,
                format!("the last message has the number {head}"),
            ),
            Refusal::Change(refusal) => refusal.answer(),
            Refusal::Name => (
                ReasonCode::ImplementationSpecificError,
                "the cid is that of another message, or too long".to_owned(),
            ),
            Refusal::Unreadable => NoChange::Unreadable.answer(),
        };
        if session.client.version != Version::V5 {
            self.refuse_publish_of_v3(now, conn, qos, topic, (reason, &text));
            return;
        }
        if qos == QoS::AtMostOnce {
            return;
        }
        let mut ack = session.ack(packet_id, reason, Vec::new());
        if session.client.problem_information {
            ack.reason_string = Some(text);
        }
        let packet = match qos {
            QoS::ExactlyOnce => Packet::PubRec(ack),
            _ => Packet::PubAck(ack),
        };
        self.send(conn, &packet);
    }

    fn take_message(
        &mut self,
        now: Now,
        conn: ConnId,
        packet_id: u16,
        message: &Passing<'_>,
    ) -> Taken {
        let (qos, route) = (message.qos, message.route);
        let Some(session) = self.sessions.get(conn) else {
            return Taken::Done;
        };
        let (persistent, behind_kept) = (session.persistent, session.uncommitted > 0);
        let mut growing = false;
        match route.handling.as_deref() {
            None => {}
            // The acknowledgements of one publisher stay in order [MQTT-4.6.0-2].
            Some(Handling::Relay(_)) if behind_kept && qos != QoS::AtMostOnce => {
                return Taken::Wait;
            }
            Some(Handling::Relay(relay)) => {
                self.take_relayed(now, conn, packet_id, message, *relay);
                return Taken::Done;
            }
            Some(Handling::Grows(_)) if !self.is_growth(&route.topic, message.payload) => {
                if behind_kept && qos != QoS::AtMostOnce {
                    return Taken::Wait;
                }
                self.acknowledge_unstored(conn, packet_id, qos, ReasonCode::Success);
                return Taken::Done;
            }
            Some(Handling::Grows(_)) => growing = true,
        }
        let last_forward = session.last_forward;
        let kept = route.history
            || message.retain
            || growing
            || (qos != QoS::AtMostOnce && (route.wanted || behind_kept))
            // The identifier of a persistent session is remembered with the message.
            || (qos == QoS::ExactlyOnce && persistent);
        if !kept {
            self.take_live(now, conn, packet_id, message);
            return Taken::Done;
        }
        if self.poisoned.is_some() {
            self.refuse_stored(now, conn, qos);
            return Taken::Done;
        }
        if self.storage != Room::Enough && !self.has_room_for(conn) {
            let refusal = Refusal::Over(Limit::Disk);
            self.refuse_publish(now, conn, qos, packet_id, &route.topic, refusal);
            return Taken::Done;
        }
        // The publisher waits for the journal; and receivers in other shards may yet put an earlier
        // message that is not kept into the journal: this one must not be there before it.
        let overtakes = last_forward > 0 && !self.peers.is_forwarded(last_forward);
        if self.pending_bytes > self.options.append_queue_bytes
            || (overtakes && qos != QoS::AtMostOnce)
        {
            return Taken::Wait;
        }
        // Nobody knew the name a moment ago; if somebody does now, it is asked about again.
        if !self.claims_name(conn, message) {
            return Taken::Wait;
        }
        let mut published = message.to_published();
        if growing {
            published.message.retain = true;
            published.audience = Audience::Growing;
        }
        if qos == QoS::ExactlyOnce && persistent {
            published.inbound_packet_id = Some(packet_id);
        }
        let bytes = append_cost(&published);
        let Some(session) = self.sessions.get_mut(conn) else {
            return Taken::Done;
        };
        let pending = if qos == QoS::AtMostOnce {
            Pending::Quiet { bytes }
        } else {
            session.uncommitted += 1;
            if qos == QoS::ExactlyOnce {
                session.inbound.insert(packet_id, Inbound::Storing);
            } else {
                session.unacknowledged += 1;
            }
            Pending::Publish {
                conn,
                packet_id,
                qos,
                bytes,
            }
        };
        self.append_message(Arc::new(published), pending);
        Taken::Done
    }

    /// The journal takes nothing: nothing is acknowledged that should be stored.
    fn refuse_stored(&mut self, now: Now, conn: ConnId, qos: QoS) {
        if qos != QoS::AtMostOnce {
            let reason = ReasonCode::ImplementationSpecificError;
            self.disconnect(now, conn, reason, STORE_FAILED);
        }
    }

    /// A message that is not kept: deliver, forward, acknowledge.
    fn take_live(&mut self, now: Now, conn: ConnId, packet_id: u16, message: &Passing<'_>) {
        let qos = message.qos;
        let (anyone, forwarded) = self.spread(now, Content::Passing(message), Some(conn));
        if qos == QoS::AtMostOnce {
            return;
        }
        let Some(session) = self.sessions.get_mut(conn) else {
            return;
        };
        if let Some(number) = forwarded {
            session.last_forward = number;
        }
        let reason = if anyone || forwarded.is_some() {
            ReasonCode::Success
        } else {
            ReasonCode::NoMatchingSubscribers
        };
        self.acknowledge_unstored(conn, packet_id, qos, reason);
        self.time(conn, Way::Acknowledged, message.read_us);
    }

    /// PUBACK or PUBREC of a message that is not on its way to the journal.
    pub(super) fn acknowledge_unstored(
        &mut self,
        conn: ConnId,
        packet_id: u16,
        qos: QoS,
        reason: ReasonCode,
    ) {
        let Some(session) = self.sessions.get_mut(conn) else {
            return;
        };
        let ack = session.ack(packet_id, reason, Vec::new());
        let packet = match qos {
            QoS::AtMostOnce => return,
            QoS::AtLeastOnce => Packet::PubAck(ack),
            QoS::ExactlyOnce => {
                session
                    .inbound
                    .insert(packet_id, Inbound::Received { durable: false });
                Packet::PubRec(ack)
            }
        };
        self.send(conn, &packet);
    }

    /// What `who` may do on a topic, its stream and history, and whether a session with a record
    /// wants it; from what is known of it, as far as that still holds.
    pub(super) fn find_route(
        &self,
        known: Option<Box<Route>>,
        topic: &Arc<str>,
        who: &Identity,
    ) -> Box<Route> {
        let known = known.filter(|r| r.access_as_of == self.access_changes && r.topic == *topic);
        let mut route = known.unwrap_or_else(|| {
            let decision = self.rules.decide(topic);
            let stream = if *decision.stream == **topic {
                topic.clone()
            } else {
                Arc::from(&*decision.stream)
            };
            let over = self.too_long(topic);
            let access = self.rules.may_publish(topic, who, &*self.members);
            let room = match self.options.bounds.metered.rooms {
                true => room_of(&decision),
                false => None,
            };
            let paced_by = decision
                .paced_by()
                .filter(|room| self.members.pace_s(&who.user, room) > 0)
                .map(Arc::from);
            let handling = match (decision.relay(), decision.grows()) {
                (Some(relay), _) => Some(Box::new(Handling::Relay(relay))),
                (None, Some(stream)) => Some(Box::new(Handling::Grows(stream.into()))),
                (None, None) => None,
            };
            let kind = Kind::of(topic, &stream);
            let moderates = matches!(kind, Kind::Recall(_))
                && room_of(&decision)
                    .is_some_and(|room| self.members.is_moderator(&who.user, &room));
            Box::new(Route {
                handling,
                kind,
                moderates,
                paced_by,
                room,
                topic: topic.clone(),
                stream,
                publisher: None,
                history: decision.keep.is_some(),
                allowed: over.is_none() && access.is_allowed(),
                over,
                access_as_of: self.access_changes,
                wanted: false,
                wanted_as_of: u64::MAX,
            })
        });
        if route.wanted_as_of != self.wanted_changes {
            route.wanted = false;
            self.wanted.for_each_match(topic, |_| route.wanted = true);
            route.wanted_as_of = self.wanted_changes;
        }
        route
    }

    /// Publishes a Will Message on behalf of a client that is gone, with its permissions.
    pub(super) fn publish_will(&mut self, now: Now, will: WillRecord, user: &str) {
        let identity = Identity::user(user);
        let mut message = will.message;
        let route = self.find_route(None, &message.topic, &identity);
        if (self.refusal(now, &route, &identity, &message.payload)).is_some() {
            self.stats.refused_publishes += 1;
            return;
        }
        let sets_retained = message.retain && !message.payload.is_empty();
        if let Some(limit) = self.too_many_retained(user, &message.topic, sets_retained) {
            self.hit(limit);
            return;
        }
        message.time = now.unix_ms;
        let growing = match route.handling.as_deref() {
            None => false,
            Some(Handling::Relay(relay)) => {
                self.relay_shared(now, route.published(message), *relay);
                return;
            }
            Some(Handling::Grows(_)) if !self.is_growth(&message.topic, &message.payload) => return,
            Some(Handling::Grows(_)) => true,
        };
        message.retain |= growing;
        let mut published = route.published(message);
        if growing {
            published.audience = Audience::Growing;
        }
        let published = Arc::new(published);
        let qos = published.message.qos;
        let kept = published.history
            || published.message.retain
            || (route.wanted && qos != QoS::AtMostOnce);
        if !kept {
            self.spread(now, Content::Shared(&published), None);
        } else if self.poisoned.is_none() {
            let bytes = append_cost(&published);
            self.append_message(published, Pending::Quiet { bytes });
        }
    }
}

/// What a publisher is told that is over a limit.
fn over_limit(limit: Limit) -> (ReasonCode, String) {
    let (reason, text) = match limit {
        Limit::TopicBytes => (ReasonCode::TopicNameInvalid, "the topic is too long"),
        Limit::TopicLevels => (
            ReasonCode::TopicNameInvalid,
            "the topic has too many levels",
        ),
        Limit::UserProperties | Limit::UserPropertyBytes => {
            (ReasonCode::QuotaExceeded, "too many User Properties")
        }
        Limit::Retained | Limit::RetainedBytes => {
            (ReasonCode::QuotaExceeded, "too many retained messages")
        }
        Limit::RetainedPerUser | Limit::RetainedBytesPerUser => (
            ReasonCode::QuotaExceeded,
            "you have too many retained messages",
        ),
        Limit::Disk => (
            ReasonCode::QuotaExceeded,
            "the disk is full: nothing more is kept for now",
        ),
        _ => (ReasonCode::QuotaExceeded, "a limit is reached"),
    };
    (reason, text.to_owned())
}
