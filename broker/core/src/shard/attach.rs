//! Connections come and go: CONNECT to CONNACK, takeover, and what stays of a session when its
//! connection ends (§3.1, §4.1, §3.1.2.5).
//!
//! Opening a session that has a record, or shall have one, is an entry of the journal; CONNACK
//! follows when that entry has come back, with the record as State then has it. So an opening after
//! a crash, after a takeover and after a quiet night are the same.

use std::sync::Arc;

use super::commit::Pending;
use super::owner::Takeover;
use super::peers::Then;
use super::reauthenticate::Extended;
use super::{ConnId, Event, Now, Output, Shard};
use crate::codec::{
    ConnAck, ConnAckProperties, Connect, Packet, PublishProperties, ReasonCode, Version,
};
use crate::journal::Record;
use crate::message::{Message, Publisher, QoS, UnixMillis};
use crate::rules::Identity;
use crate::session::{Client, Inbound, Reading, Session, Stage, Subscription};
use crate::state::{NEVER_EXPIRES, Phase, SessionChange, SessionRecord, WillRecord};
use crate::topic::{FilterKind, parse_filter};

/// Bytes of the longest CONNACK that accepts a connection, beside an assigned Client Identifier: a
/// client that takes less could not be told what it may do.
const CONNACK_BYTES: usize = 24;

/// A CONNECT whose user is authenticated, with nothing borrowed.
#[derive(Clone, Debug)]
pub struct ConnectRequest {
    /// Protocol version.
    pub version: Version,
    /// Client Identifier; never empty.
    pub client_id: Arc<str>,
    /// True if the broker invented the Client Identifier [MQTT-3.1.3-6].
    pub assigned: bool,
    /// Clean Start (§3.1.2.4).
    pub clean_start: bool,
    /// Keep Alive, seconds (§3.1.2.10).
    pub keep_alive_s: u16,
    /// Will Message (§3.1.2.5).
    pub will: Option<WillRecord>,
    /// Session Expiry Interval, seconds (§3.1.2.11.2).
    pub session_expiry_s: u32,
    /// Receive Maximum of the client (§3.1.2.11.3).
    pub receive_maximum: u16,
    /// Maximum Packet Size of the client, bytes (§3.1.2.11.4).
    pub maximum_packet_size: Option<u32>,
    /// Topic Alias Maximum of the client (§3.1.2.11.5).
    pub topic_alias_maximum: u16,
    /// Request Problem Information (§3.1.2.11.7).
    pub request_problem_information: bool,
    /// Request Response Information (§3.1.2.11.6).
    pub request_response_information: bool,
    /// Who it is.
    pub identity: Identity,
    /// When what it proved ends, and the connection with it.
    pub valid_until: Option<UnixMillis>,
    /// Authentication Method (§3.1.2.11.9): the client may show newer proof.
    pub authentication_method: Option<Arc<str>>,
}

impl ConnectRequest {
    /// Takes what the session needs out of a CONNECT. In MQTT 3 a session that is not clean never
    /// expires and a clean one ends with its connection.
    pub fn from_packet(
        connect: &Connect<'_>,
        client_id: Arc<str>,
        assigned: bool,
        identity: Identity,
        now: Now,
    ) -> Self {
        let properties = &connect.properties;
        let session_expiry_s = match connect.version {
            Version::V5 => properties.session_expiry_s.unwrap_or(0),
            Version::V31 | Version::V311 if connect.clean_start => 0,
            Version::V31 | Version::V311 => NEVER_EXPIRES,
        };
        let will = connect.will.as_ref().map(|will| WillRecord {
            message: Message {
                topic: will.topic.into(),
                payload: bytes::Bytes::copy_from_slice(will.payload),
                qos: will.qos,
                retain: will.retain,
                properties: PublishProperties::to_message_properties(&will.properties),
                publisher: Publisher {
                    user: identity.user.clone(),
                    client_id: client_id.clone(),
                },
                time: now.unix_ms,
            },
            delay_s: will.delay_s,
        });
        Self {
            version: connect.version,
            client_id,
            assigned,
            clean_start: connect.clean_start,
            keep_alive_s: connect.keep_alive_s,
            will,
            session_expiry_s,
            receive_maximum: properties.receive_maximum.unwrap_or(u16::MAX),
            maximum_packet_size: properties.maximum_packet_size,
            topic_alias_maximum: properties.topic_alias_maximum.unwrap_or(0),
            request_problem_information: properties.request_problem_information.unwrap_or(true),
            request_response_information: properties.request_response_information.unwrap_or(false),
            identity,
            valid_until: None,
            authentication_method: properties.authentication_method.map(Arc::from),
        }
    }
}

/// What an opening waits for, kept until CONNACK.
#[derive(Debug)]
pub(super) struct Opening {
    request: ConnectRequest,
    /// Session State was there and goes on.
    present: bool,
}

/// Whether the Will Message is published when a connection ends (§3.1.2.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Will {
    Publish,
    Withdraw,
}

impl Shard {
    /// Opens a connection whose CONNECT was accepted. CONNACK comes in its output, at once or after
    /// the journal has the opening; bytes may be given to [`Shard::receive`] meanwhile.
    pub fn open(&mut self, now: Now, request: ConnectRequest) -> ConnId {
        let client = Client {
            id: request.client_id.clone(),
            identity: request.identity.clone(),
            version: request.version,
            maximum_packet_size: request
                .maximum_packet_size
                .map_or(usize::MAX, |m| m as usize),
            topic_alias_maximum: request.topic_alias_maximum,
            problem_information: request.request_problem_information,
        };
        let window = request.receive_maximum.min(self.options.max_inflight);
        let mut session = Session::new(client, window, now.monotonic_ms);
        session.will = request.will.clone().map(Box::new);
        session.expiry_s = request
            .session_expiry_s
            .min(self.options.session_expiry_max_s);
        session.keep_alive_s = self.granted_keep_alive_s(request.keep_alive_s);
        let client_id = request.client_id.clone();
        let conn = self.sessions.insert(session);
        if let Some(end) = request.valid_until {
            self.valid_until.insert(conn, end);
        }
        if let Some(method) = &request.authentication_method {
            self.extended.insert(conn, Extended::new(method.clone()));
        }
        if self.poisoned.is_some() || self.shutting_down {
            self.refuse(conn, ReasonCode::ServerUnavailable);
            return conn;
        }
        let will_qos = request.will.as_ref().map(|will| will.message.qos);
        if will_qos.is_some_and(|qos| qos > self.options.maximum_qos) {
            self.refuse(conn, ReasonCode::QoSNotSupported);
            return conn;
        }
        if let Some((limit, reason)) = request.will.as_ref().and_then(|w| self.will_is_over(w)) {
            self.hit(limit);
            self.refuse(conn, reason);
            return conn;
        }
        let assigned = if request.assigned {
            client_id.len() + 3
        } else {
            0
        };
        if request
            .maximum_packet_size
            .is_some_and(|max| (max as usize) < CONNACK_BYTES + assigned)
        {
            self.refuse(conn, ReasonCode::PacketTooLarge);
            return conn;
        }
        if self.is_anothers(&client_id, &request.identity.user) {
            self.refuse_as_anothers(conn);
            return conn;
        }
        if let Some(old) = self.by_client.insert(client_id.clone(), conn) {
            let ends = request.clean_start;
            self.end_session(now, old, ReasonCode::SessionTakenOver, Will::Publish, ends);
            self.close_connection(old, ReasonCode::SessionTakenOver, None);
        }
        self.openings.insert(
            conn,
            Opening {
                request,
                present: false,
            },
        );
        if self.unsettled.contains_key(&client_id) {
            self.held_openings
                .entry(client_id)
                .or_default()
                .push_back(conn);
        } else {
            self.begin_opening(now, conn);
        }
        self.read_on(now);
        conn
    }

    fn granted_keep_alive_s(&self, asked: u16) -> u16 {
        match self.options.keep_alive_max_s {
            0 => asked,
            maximum if asked == 0 => maximum,
            maximum => asked.min(maximum),
        }
    }

    /// CONNACK with a refusal, and close.
    pub(super) fn refuse(&mut self, conn: ConnId, reason: ReasonCode) {
        let ack = ConnAck::refusal(reason);
        self.send(conn, &Packet::ConnAck(ack));
        if let Some(session) = self.sessions.get_mut(conn) {
            session.stage = Stage::Closing;
        }
        self.outputs.push_back(Output::Close { conn, reason });
    }

    /// Everything about the client is settled: State is right about it.
    pub(super) fn begin_opening(&mut self, now: Now, conn: ConnId) {
        let Some(Opening { request, .. }) = self.openings.get(&conn) else {
            return;
        };
        let (clean_start, client_id) = (request.clean_start, request.client_id.clone());
        let user = request.identity.user.clone();
        let record = self.state.session(&client_id);
        let careful = self.careful_unix_ms(now);
        let Some(session) = self.sessions.get_mut(conn) else {
            return;
        };
        if session.stage != Stage::Attaching {
            return;
        }
        let expiry_s = session.expiry_s;
        if record.is_none() && expiry_s == 0 {
            self.finish_opening(now, conn);
            return;
        }
        // It may have expired while nobody looked.
        let expired = |r: &SessionRecord| r.expires_at().is_some_and(|end| end <= careful);
        let is_anothers = |r: &SessionRecord| r.user != user && !expired(r);
        if self.options.takeover == Takeover::ByItsUser && record.as_ref().is_some_and(is_anothers)
        {
            self.by_client.remove(&client_id);
            self.openings.remove(&conn);
            self.refuse_as_anothers(conn);
            return;
        }
        // Somebody else who takes it all the same starts anew.
        let ends = record
            .as_ref()
            .filter(|r| clean_start || r.user != user || expired(r));
        let present = record.is_some() && ends.is_none();
        let opens = expiry_s > 0 || present;
        if opens && let Some(limit) = self.too_many_sessions(conn, record.is_some()) {
            self.hit(limit);
            self.by_client.remove(&client_id);
            self.openings.remove(&conn);
            self.refuse(conn, ReasonCode::QuotaExceeded);
            return;
        }
        let Some(session) = self.sessions.get_mut(conn) else {
            return;
        };
        let will = session.will.clone();
        session.persistent = opens;
        if let Some(record) = ends {
            let last = if opens {
                Pending::Quiet { bytes: 0 }
            } else {
                Pending::Opened { conn }
            };
            self.append_end_of_record(now, &client_id, record, last);
        }
        if opens {
            let change = SessionChange::Opened {
                user,
                expiry_s,
                clean: !present,
                will,
            };
            self.append(
                Record::Session { client_id, change },
                Pending::Opened { conn },
            );
        }
        if let Some(opening) = self.openings.get_mut(&conn) {
            opening.present = present;
        }
    }

    /// The record of an offline session is to go: its Will Message is due with it (§3.1.3.2.2).
    pub(super) fn append_end_of_record(
        &mut self,
        now: Now,
        client_id: &Arc<str>,
        record: &SessionRecord,
        pending: Pending,
    ) {
        if let Some(will) = &record.will {
            self.publish_will(now, will.clone(), &record.user);
        }
        let filters = record
            .subscriptions
            .iter()
            .map(|s| (s.filter.clone(), s.qos))
            .collect();
        let change = SessionChange::Ended { filters };
        self.append(
            Record::Session {
                client_id: client_id.clone(),
                change,
            },
            pending,
        );
    }

    /// The journal has the opening, or none was needed: take the session up.
    pub(super) fn finish_opening(&mut self, now: Now, conn: ConnId) {
        let Some(present) = self.openings.get(&conn).map(|o| o.present) else {
            return;
        };
        let Some(session) = self.sessions.get_mut(conn) else {
            return;
        };
        if session.stage != Stage::Attaching {
            return;
        }
        let client_id = session.client.id.clone();
        let mut filters = Vec::new();
        if session.persistent
            && let Some(record) = self.state.session(&client_id)
        {
            session.reading = Reading::Lagging(record.cursor);
            for unfinished in &record.unfinished {
                session.window.resume(unfinished);
            }
            for id in &record.inbound_qos2 {
                session
                    .inbound
                    .insert(*id, Inbound::Received { durable: true });
            }
            session.inbound_before.clone_from(&record.inbound_qos2);
            filters = record.subscriptions;
        } else {
            session.reading = Reading::Live;
        }
        let mut subscriptions = Vec::with_capacity(filters.len());
        for record in filters {
            let shared = matches!(parse_filter(&record.filter), Ok(FilterKind::Shared { .. }));
            subscriptions.push(Subscription {
                filter: record.filter,
                qos: record.qos,
                no_local: record.no_local,
                retain_as_published: record.retain_as_published,
                subscription_id: record.subscription_id,
                since: record.since,
                shared,
                membership: 0,
                cursor: record.cursor,
                replaying: false,
            });
        }
        let ticket = self.peers.new_ticket(Then::ConnAck { conn, present });
        for subscription in subscriptions {
            self.add_subscription(conn, subscription, ticket);
        }
        self.close_ticket(now, ticket);
    }

    /// Every shard knows the session's filters: it is online.
    pub(super) fn go_online(&mut self, now: Now, conn: ConnId, present: bool) {
        let Some(Opening { request, .. }) = self.openings.remove(&conn) else {
            return;
        };
        let Some(session) = self.sessions.get_mut(conn) else {
            return;
        };
        if session.stage != Stage::Attaching {
            return;
        }
        session.stage = Stage::Online;
        session.last_received_ms = now.monotonic_ms;
        let properties = ConnAckProperties {
            session_expiry_s: (session.expiry_s != request.session_expiry_s)
                .then_some(session.expiry_s),
            receive_maximum: (self.options.receive_maximum < u16::MAX)
                .then_some(self.options.receive_maximum),
            maximum_packet_size: Some(self.options.maximum_packet_bytes),
            assigned_client_id: request.assigned.then(|| request.client_id.to_string()),
            maximum_qos: (self.options.maximum_qos < QoS::ExactlyOnce)
                .then_some(self.options.maximum_qos),
            topic_alias_maximum: (self.options.topic_alias_maximum > 0)
                .then_some(self.options.topic_alias_maximum),
            server_keep_alive_s: (session.keep_alive_s != request.keep_alive_s)
                .then_some(session.keep_alive_s),
            authentication_method: request.authentication_method.as_deref().map(str::to_owned),
            ..ConnAckProperties::default()
        };
        let event = Event::Connected {
            client_id: request.client_id,
            user: request.identity.user,
            version: request.version,
            session_present: present,
        };
        let ack = ConnAck {
            session_present: present,
            reason: ReasonCode::Success,
            properties,
        };
        self.send(conn, &Packet::ConnAck(ack));
        self.stats.connections_total += 1;
        self.outputs.push_back(Output::Event(event));
        self.resend_unfinished(conn);
        self.resume(conn);
        self.wake_reader(conn);
    }

    /// What an earlier connection left unfinished is sent again: PUBREL first, then, as the client
    /// has room, PUBLISH with DUP, in the original order and with the original identifiers
    /// [MQTT-4.4.0-1].
    fn resend_unfinished(&mut self, conn: ConnId) {
        let Some(session) = self.sessions.get_mut(conn) else {
            return;
        };
        let released: Vec<u16> = session
            .window
            .iter()
            .filter(|e| e.phase == Phase::AwaitPubComp)
            .map(|e| e.packet_id)
            .collect();
        for packet_id in released {
            let release = session.ack(packet_id, ReasonCode::Success, Vec::new());
            session.write(&Packet::PubRel(release));
        }
        self.announce(conn);
    }

    /// The network connection is gone.
    pub(super) fn handle_disconnected(&mut self, now: Now, conn: ConnId) {
        self.end_session(
            now,
            conn,
            ReasonCode::UnspecifiedError,
            Will::Publish,
            false,
        );
        self.openings.remove(&conn);
        self.extended.remove(&conn);
        self.memo.release(conn);
        self.sessions.remove(conn);
    }

    /// Ends a connection because of what the client did; says why where the protocol can.
    pub(super) fn disconnect(&mut self, now: Now, conn: ConnId, reason: ReasonCode, text: &str) {
        self.end_session(now, conn, reason, Will::Publish, false);
        self.close_connection(conn, reason, Some(text.to_owned()));
    }

    /// The session lets go of its connection: what outlives it goes to the journal, the rest is
    /// forgotten. `ends`: the session is over, whatever its Session Expiry Interval.
    pub(super) fn end_session(
        &mut self,
        now: Now,
        conn: ConnId,
        reason: ReasonCode,
        will: Will,
        ends: bool,
    ) {
        let Some(session) = self.sessions.get_mut(conn) else {
            return;
        };
        let stage = std::mem::replace(&mut session.stage, Stage::Closing);
        if stage == Stage::Closing {
            return;
        }
        let client_id = session.client.id.clone();
        let user = session.client.identity.user.clone();
        let (persistent, expiry_s) = (session.persistent, session.expiry_s);
        let will_record = session.will.take();
        let saved = (stage == Stage::Online).then(|| match session.reading {
            Reading::Live => (self.position, session.window.unfinished()),
            Reading::Lagging(cursor) => (cursor, session.window.unfinished()),
        });
        let subscriptions = std::mem::take(&mut session.subscriptions);
        session.staged.clear();
        session.staged_releases.clear();
        session.page.clear();
        session.catch_ups.clear();
        for (key, subscription) in &subscriptions {
            self.drop_subscription(conn, *key, subscription);
        }
        if self.by_client.get(&client_id) == Some(&conn) {
            self.by_client.remove(&client_id);
        }
        let over = ends || expiry_s == 0;
        let publish_now = will == Will::Publish
            && stage == Stage::Online
            && will_record.as_ref().is_some_and(|w| over || w.delay_s == 0);
        if publish_now && let Some(will) = will_record {
            self.publish_will(now, *will, &user);
        }
        if persistent {
            if let Some((cursor, unfinished)) = saved.filter(|_| !over) {
                let change = SessionChange::Progress { cursor, unfinished };
                self.append_session(&client_id, change);
            }
            let change = if over && stage == Stage::Online {
                let filters = subscriptions
                    .into_values()
                    .map(|s| (s.filter, s.qos))
                    .collect();
                SessionChange::Ended { filters }
            } else {
                let keep_will = will == Will::Publish && !publish_now;
                SessionChange::Closed {
                    at: now.unix_ms,
                    expiry_s,
                    keep_will,
                }
            };
            self.append_session(&client_id, change);
        }
        if stage == Stage::Online {
            self.outputs.push_back(Output::Event(Event::Disconnected {
                client_id,
                user,
                reason,
            }));
        }
    }

    fn append_session(&mut self, client_id: &Arc<str>, change: SessionChange) {
        let client_id = client_id.clone();
        self.append(
            Record::Session { client_id, change },
            Pending::Quiet { bytes: 0 },
        );
    }
}
