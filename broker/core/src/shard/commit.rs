//! A batch came back from the journal: it is durable. Receivers get its messages, then the senders
//! their acknowledgements, entry by entry in offset order.

use std::sync::Arc;

use super::timing::Way;
use super::{ConnId, Now, Shard, fnv1a};
use crate::codec::{Packet, ReasonCode, Version};
use crate::journal::{Batch, Entry, Published, Record, ShardId};
use crate::message::QoS;
use crate::session::{Inbound, Staged, message_id};
use crate::state::SessionChange;

/// What goes on when an append comes back.
#[derive(Debug)]
pub(super) enum Pending {
    /// Nothing waits for it.
    Quiet { bytes: usize },
    /// A PUBLISH: PUBACK or PUBREC.
    Publish {
        conn: ConnId,
        packet_id: u16,
        qos: QoS,
        bytes: usize,
    },
    /// The opening of a session: CONNACK.
    Opened { conn: ConnId },
    /// The last filter of the oldest SUBSCRIBE that waits.
    Subscribed { conn: ConnId },
    /// The last filter of an UNSUBSCRIBE.
    Unsubscribed {
        conn: ConnId,
        packet_id: u16,
        reasons: Vec<ReasonCode>,
    },
    /// A PUBREL: PUBCOMP.
    Released { conn: ConnId, packet_id: u16 },
    /// QoS 2 exchanges of a receiver: the packets that reveal them.
    Staged {
        conn: ConnId,
        publishes: Vec<Staged>,
        releases: Vec<u16>,
        /// Changes of rights when the publishes were judged.
        access_as_of: u64,
    },
    /// The notice of a refused publish: the connection is closed.
    Refused { conn: ConnId, bytes: usize },
    /// A message for these sessions that were full.
    Spilled { conns: Vec<ConnId>, bytes: usize },
    /// A message for a shared subscription whose members were full.
    GroupSpilled { filter: Arc<str>, bytes: usize },
}

impl Pending {
    pub fn bytes(&self) -> usize {
        match self {
            Self::Quiet { bytes }
            | Self::Publish { bytes, .. }
            | Self::Refused { bytes, .. }
            | Self::Spilled { bytes, .. }
            | Self::GroupSpilled { bytes, .. } => *bytes,
            _ => 0,
        }
    }

    /// The connections that it keeps waiting; those that are opening are known elsewhere.
    pub fn waiting(&self, conns: &mut Vec<ConnId>) {
        match self {
            Self::Publish { conn, .. }
            | Self::Subscribed { conn }
            | Self::Unsubscribed { conn, .. }
            | Self::Released { conn, .. }
            | Self::Staged { conn, .. }
            | Self::Refused { conn, .. } => conns.push(*conn),
            Self::Spilled { conns: full, .. } => conns.extend(full),
            Self::Quiet { .. } | Self::Opened { .. } | Self::GroupSpilled { .. } => {}
        }
    }
}

impl Shard {
    pub(super) fn handle_committed(&mut self, now: Now, batch: &Batch) {
        for (shard, entry) in &batch.entries {
            if entry.offset < self.position {
                continue;
            }
            match &entry.record {
                Record::Published(published) => {
                    self.note_recall(published);
                    let publisher = self.publisher_of_next(*shard);
                    self.deliver_committed(now, entry.offset, published, publisher);
                }
                Record::Session { client_id, change } => self.note_wanted(client_id, change),
                Record::Group { .. } | Record::Account { .. } => {}
            }
            self.position = entry.offset.next();
            if *shard == self.options.id {
                self.settle(now, entry);
            }
        }
        self.release_held(now);
        self.resume_paused();
    }

    /// Keeps the tree of filters for which messages must be kept.
    fn note_wanted(&mut self, client_id: &str, change: &SessionChange) {
        let key = fnv1a(client_id.as_bytes());
        match change {
            SessionChange::Subscribed(s) if s.qos != QoS::AtMostOnce => {
                self.wanted
                    .insert(plain_filter(&s.filter), wanted_key(key, &s.filter));
            }
            SessionChange::Subscribed(s) => {
                self.wanted
                    .remove(plain_filter(&s.filter), &wanted_key(key, &s.filter));
            }
            SessionChange::Unsubscribed { filter } => {
                self.wanted
                    .remove(plain_filter(filter), &wanted_key(key, filter));
            }
            SessionChange::Ended { filters } => {
                for (filter, _) in filters {
                    self.wanted
                        .remove(plain_filter(filter), &wanted_key(key, filter));
                }
            }
            _ => return,
        }
        self.wanted_changes += 1;
    }

    /// The connection of this shard that published the entry, which is the next to come back.
    fn publisher_of_next(&self, shard: ShardId) -> Option<ConnId> {
        match self.pending.front() {
            Some(Pending::Publish { conn, .. }) if shard == self.options.id => Some(*conn),
            _ => None,
        }
    }

    /// An append of this shard came back.
    fn settle(&mut self, now: Now, entry: &Entry) {
        let Some(pending) = self.pending.pop_front() else {
            return;
        };
        self.pending_bytes = self.pending_bytes.saturating_sub(pending.bytes());
        match pending {
            Pending::Quiet { .. } => {
                if let Record::Published(published) = &entry.record {
                    self.tell_mentioned(now, published);
                }
            }
            Pending::Publish {
                conn,
                packet_id,
                qos,
                ..
            } => {
                if let Record::Published(published) = &entry.record {
                    self.acknowledge(conn, packet_id, qos, published);
                    self.tell_mentioned(now, published);
                }
            }
            Pending::Opened { conn } => self.finish_opening(now, conn),
            Pending::Subscribed { conn } => {
                self.uncommitted_less(conn);
                self.subscribe_settled(now, conn);
            }
            Pending::Unsubscribed {
                conn,
                packet_id,
                reasons,
            } => {
                self.uncommitted_less(conn);
                if let Some(session) = self.sessions.get_mut(conn) {
                    session.unsubscribing = false;
                }
                self.send_unsuback(conn, packet_id, reasons);
            }
            Pending::Released { conn, packet_id } => {
                if let Some(session) = self.sessions.get_mut(conn) {
                    session.inbound_finished(packet_id);
                    let complete = session.ack(packet_id, ReasonCode::Success, Vec::new());
                    self.send(conn, &Packet::PubComp(complete));
                }
            }
            Pending::Staged {
                conn,
                publishes,
                releases,
                access_as_of,
            } => {
                let publishes = self.still_allowed(conn, publishes, access_as_of);
                self.send_staged(now, conn, publishes, releases);
            }
            Pending::Refused { conn, .. } => self.refusal_told(now, conn),
            Pending::Spilled { conns, .. } => {
                for conn in conns {
                    if let Some(session) = self.sessions.get_mut(conn) {
                        session.spills -= 1;
                    }
                    self.wake_reader(conn);
                }
            }
            Pending::GroupSpilled { filter, .. } => self.group_spill_committed(&filter),
        }
        match &entry.record {
            Record::Session { client_id, .. } => self.settle_client(now, client_id),
            Record::Group { filter, .. } => self.groups.settled(filter),
            Record::Published(_) | Record::Account { .. } => {}
        }
    }

    /// One record less of a client is on its way: the next opening may begin.
    fn settle_client(&mut self, now: Now, client_id: &str) {
        if let Some(unsettled) = self.unsettled.get_mut(client_id) {
            if !unsettled.came_back() {
                return;
            }
            self.unsettled.remove(client_id);
            self.forget_as_promised(client_id);
        }
        while !self.unsettled.contains_key(client_id) {
            let Some(queue) = self.held_openings.get_mut(client_id) else {
                return;
            };
            let Some(conn) = queue.pop_front() else {
                self.held_openings.remove(client_id);
                return;
            };
            self.begin_opening(now, conn);
        }
    }

    fn uncommitted_less(&mut self, conn: ConnId) {
        if let Some(session) = self.sessions.get_mut(conn) {
            session.uncommitted = session.uncommitted.saturating_sub(1);
        }
    }

    /// The publisher's PUBACK or PUBREC: its message is stored.
    fn acknowledge(&mut self, conn: ConnId, packet_id: u16, qos: QoS, published: &Published) {
        self.uncommitted_less(conn);
        let Some(session) = self.sessions.get_mut(conn) else {
            return;
        };
        let user = if published.history && session.client.version == Version::V5 {
            vec![
                ("seq".to_owned(), published.seq.0.to_string()),
                ("id".to_owned(), message_id(published)),
                ("ts".to_owned(), published.message.time.to_string()),
            ]
        } else {
            Vec::new()
        };
        let ack = session.ack(packet_id, ReasonCode::Success, user);
        let packet = match qos {
            QoS::AtMostOnce => return,
            QoS::AtLeastOnce => {
                session.unacknowledged = session.unacknowledged.saturating_sub(1);
                Packet::PubAck(ack)
            }
            QoS::ExactlyOnce => {
                let durable = published.inbound_packet_id.is_some();
                session
                    .inbound
                    .insert(packet_id, Inbound::Received { durable });
                Packet::PubRec(ack)
            }
        };
        self.send(conn, &packet);
        self.time(conn, Way::Acknowledged, published.read_us);
    }
}

/// The filter that topics are matched with: that of `$share/{group}/{filter}` without its group.
pub(super) fn plain_filter(filter: &str) -> &str {
    match crate::topic::parse_filter(filter) {
        Ok(crate::topic::FilterKind::Shared { filter, .. }) => filter,
        _ => filter,
    }
}

/// One session may have a plain filter and shared ones that match the same topics.
pub(super) fn wanted_key(client: u64, filter: &str) -> u64 {
    client ^ fnv1a(filter.as_bytes()).rotate_left(32)
}
