//! From a message to its receivers in this shard, and what happens when a receiver has no room.
//!
//! A kept message is offered to the sessions that are live; the others read it from the journal. A
//! message that is not kept, at QoS 1 or 2, for a session without room goes to the journal for that
//! session alone (it *spills*): so a slow client reads on from the journal too. QoS 0 is dropped.

use std::collections::VecDeque;
use std::sync::Arc;

use super::{ConnId, Now, Output, Shard};
use crate::codec::Packet;
use crate::journal::{Audience, Published};
use crate::limits::Limit;
use crate::message::{Offset, QoS};
use crate::session::content::Content;
use crate::session::frames::Frames;
use crate::session::window::Origin;
use crate::session::{CursorMark, Offer, Offered, Reading, Session, Stage, Staged, Subscription};
use crate::topic;

use super::commit::Pending;
use super::targets::{Target, Targets};

impl Shard {
    /// A message of the journal, when it is committed.
    pub(super) fn deliver_committed(
        &mut self,
        now: Now,
        offset: Offset,
        published: &Arc<Published>,
        publisher: Option<ConnId>,
    ) {
        match published.audience {
            Audience::Everyone => {}
            Audience::Growing if self.still_counts(offset, published) => {}
            Audience::Growing | Audience::Only(_) => return,
        }
        self.with_targets(publisher, &published.message.topic, |shard, targets| {
            let mut frames = shard.begin_frames(targets);
            for target in &targets.sessions {
                if target.from <= offset {
                    shard.offer_committed(now, target, offset, published, frames.as_mut());
                }
            }
            shard.end_frames(frames);
            shard.time_delivery(targets, published.read_us);
            for group in &targets.groups {
                shard.offer_to_group(*group, Some(offset), published);
            }
        });
    }

    fn offer_committed(
        &mut self,
        now: Now,
        target: &Target,
        offset: Offset,
        published: &Arc<Published>,
        frames: Option<&mut Frames>,
    ) {
        let Some(session) = self.sessions.get_mut(target.conn) else {
            return;
        };
        let qos = target.qos.min(published.message.qos);
        let waits = qos != QoS::AtMostOnce || target.cursor;
        if session.stage != Stage::Online && !waits {
            return;
        }
        if waits && session.reading != Reading::Live {
            return;
        }
        let content = Content::Shared(published);
        if session.stage != Stage::Online || is_echo(session, target, content) {
            if session.stage == Stage::Attaching {
                session.reading = Reading::Lagging(offset);
            }
            return;
        }
        let offer = Offer {
            content,
            offset: Some(offset),
            qos,
            retain: target.retain_as_published && published.message.retain,
            subscription_ids: &target.subscription_ids,
            origin: Origin::Own,
            cursor: CursorMark::new(target.cursor, self.epoch, Some(offset)),
        };
        let offered = session.offer(now.unix_ms, self.options.output_bytes, offer, frames);
        if offered == Offered::Full && waits {
            session.reading = Reading::Lagging(offset);
            self.stats.hits.add(full_by(session), 1);
        }
        announce(&mut self.outputs, &mut self.to_stage, target.conn, session);
        match offered {
            Offered::Full if !waits => self.stats.dropped_output_full += 1,
            Offered::Full => self.stats.lagged += 1,
            offered => self.count_offer(offered),
        }
    }

    /// A message that is not kept.
    pub(super) fn deliver_live(&mut self, now: Now, content: Content<'_>) {
        let mut full = Vec::new();
        self.with_targets(None, content.topic(), |shard, targets| {
            shard.offer_to_all(now, targets, content, &mut full);
        });
        if !full.is_empty() {
            self.spill(now, full, &content.to_shared());
        }
    }

    /// As [`Shard::deliver_live`], and to the shards that want it. Gives whether anyone here gets
    /// it, and the number of the batch that carries it elsewhere.
    pub(super) fn spread(
        &mut self,
        now: Now,
        content: Content<'_>,
        publisher: Option<ConnId>,
    ) -> (bool, Option<u64>) {
        let (mut anyone, mut number) = (false, None);
        let mut full = Vec::new();
        self.with_targets(publisher, content.topic(), |shard, targets| {
            anyone = !targets.sessions.is_empty() || !targets.groups.is_empty();
            shard.offer_to_all(now, targets, content, &mut full);
            if !targets.shards.is_empty() {
                let published = content.to_shared();
                for to in &targets.shards {
                    number = Some(shard.peers.forward(*to, published.clone()));
                }
            }
        });
        if !full.is_empty() {
            self.spill(now, full, &content.to_shared());
        }
        (anyone, number)
    }

    fn offer_to_all(
        &mut self,
        now: Now,
        targets: &Targets,
        content: Content<'_>,
        full: &mut Vec<ConnId>,
    ) {
        let mut frames = self.begin_frames(targets);
        for target in &targets.sessions {
            if self.offer_live(now, target, content, frames.as_mut()) == Offered::Full {
                full.push(target.conn);
            }
        }
        self.end_frames(frames);
        self.time_delivery(targets, content.read_us());
        if !targets.groups.is_empty() {
            let published = content.to_shared();
            for group in &targets.groups {
                self.offer_to_group(*group, None, &published);
            }
        }
    }

    /// Room for the packets of a message, unless it has one receiver only.
    fn begin_frames(&mut self, targets: &Targets) -> Option<Frames> {
        let shared = targets.sessions.len() > 1;
        let mut frames = shared.then(|| std::mem::take(&mut self.frames))?;
        frames.begin();
        Some(frames)
    }

    /// The memory is used again.
    fn end_frames(&mut self, frames: Option<Frames>) {
        if let Some(frames) = frames {
            self.frames = frames;
        }
    }

    fn offer_live(
        &mut self,
        now: Now,
        target: &Target,
        content: Content<'_>,
        frames: Option<&mut Frames>,
    ) -> Offered {
        let Some(session) = self.sessions.get_mut(target.conn) else {
            return Offered::Dropped;
        };
        if session.stage == Stage::Closing || is_echo(session, target, content) {
            return Offered::Dropped;
        }
        let qos = target.qos.min(content.qos());
        let waits = session.stage == Stage::Attaching || session.reading != Reading::Live;
        // A QoS 2 exchange of a session with a record must be in the journal.
        let must_keep = session.persistent && qos == QoS::ExactlyOnce;
        if (waits && qos != QoS::AtMostOnce) || must_keep {
            return Offered::Full;
        }
        if session.stage == Stage::Attaching {
            return Offered::Dropped;
        }
        let offer = Offer {
            content,
            offset: None,
            qos,
            retain: target.retain_as_published && content.retain(),
            subscription_ids: &target.subscription_ids,
            origin: Origin::Own,
            cursor: CursorMark::new(target.cursor, self.epoch, None),
        };
        let offered = session.offer(now.unix_ms, self.options.output_bytes, offer, frames);
        announce(&mut self.outputs, &mut self.to_stage, target.conn, session);
        if offered == Offered::Full && qos == QoS::AtMostOnce {
            self.stats.dropped_output_full += 1;
            return Offered::Dropped;
        }
        self.count_offer(offered);
        offered
    }

    /// Puts a message into the journal for sessions that have no room for it.
    fn spill(&mut self, now: Now, conns: Vec<ConnId>, published: &Arc<Published>) {
        if self.poisoned.is_some()
            || self.pending_bytes > SPILL_FACTOR * self.options.append_queue_bytes
        {
            // The journal cannot keep up with other shards' publishers: the slow receiver has to go.
            for conn in conns {
                self.disconnect(
                    now,
                    conn,
                    crate::codec::ReasonCode::QuotaExceeded,
                    "you read too slowly, and the journal is too busy to keep your messages",
                );
            }
            return;
        }
        let mut names = Vec::with_capacity(conns.len());
        for conn in &conns {
            if let Some(session) = self.sessions.get_mut(*conn) {
                session.spills += 1;
                if session.reading == Reading::Live {
                    session.reading = Reading::Lagging(self.position);
                    self.stats.lagged += 1;
                    self.stats.hits.add(full_by(session), 1);
                }
                names.push(session.client.id.clone());
            }
        }
        let bytes = append_cost(published);
        self.append_message(
            only_for(published, names),
            Pending::Spilled { conns, bytes },
        );
    }

    pub(super) fn count_offer(&mut self, offered: Offered) {
        match offered {
            Offered::Sent => self.stats.messages_sent += 1,
            Offered::Expired => self.stats.dropped_expired += 1,
            Offered::TooLarge => self.stats.dropped_too_large += 1,
            Offered::Dropped | Offered::Full => {}
        }
    }

    /// Output was perhaps written, or a QoS 2 exchange perhaps staged.
    pub(super) fn after_offer(&mut self, conn: ConnId) {
        if let Some(session) = self.sessions.get_mut(conn) {
            announce(&mut self.outputs, &mut self.to_stage, conn, session);
        }
    }

    /// Lets the journal know the QoS 2 exchanges that are about to begin or to move on: one record
    /// per session, however many there are.
    pub(super) fn stage_exchanges(&mut self) {
        for conn in std::mem::take(&mut self.to_stage) {
            let position = self.position;
            let Some(session) = self.sessions.get_mut(conn) else {
                continue;
            };
            if session.staged.is_empty() && session.staged_releases.is_empty()
                || session.stage != Stage::Online
            {
                continue;
            }
            let publishes = std::mem::take(&mut session.staged);
            let releases = std::mem::take(&mut session.staged_releases);
            let pending = Pending::Staged {
                conn,
                publishes,
                releases,
                access_as_of: self.access_changes,
            };
            self.save_progress(conn, position, pending);
        }
    }

    /// The staged messages that the receiver may still have; the others are over before they began.
    pub(super) fn still_allowed(
        &mut self,
        conn: ConnId,
        mut publishes: Vec<Staged>,
        access_as_of: u64,
    ) -> Vec<Staged> {
        if access_as_of == self.access_changes {
            return publishes;
        }
        let allowed = |staged: &Staged| self.may_receive(conn, &staged.published.message.topic);
        let (kept, denied): (Vec<_>, Vec<_>) = publishes.drain(..).partition(allowed);
        let Some(session) = self.sessions.get_mut(conn) else {
            return kept;
        };
        let mut returned = Vec::new();
        for staged in denied {
            session.staging = session.staging.saturating_sub(1);
            if let Some(exchange) = session.window.find(staged.packet_id)
                && let Origin::Group { filter, assignment } = exchange.origin.clone()
            {
                returned.push((filter, assignment));
            }
            session.window.abandon(staged.packet_id);
        }
        for (filter, assignment) in returned {
            self.hand_back_shared(filter, conn, assignment);
        }
        kept
    }

    /// The journal knows the exchanges: the packets that reveal them may leave.
    pub(super) fn send_staged(
        &mut self,
        now: Now,
        conn: ConnId,
        publishes: Vec<Staged>,
        releases: Vec<u16>,
    ) {
        let Some(session) = self.sessions.get_mut(conn) else {
            return;
        };
        if session.stage != Stage::Online {
            return;
        }
        for packet_id in releases {
            let release = session.ack(packet_id, crate::codec::ReasonCode::Success, Vec::new());
            session.write(&Packet::PubRel(release));
        }
        let mut taken_over = Vec::new();
        for staged in publishes {
            // From here on the session answers for it, also after a crash.
            session.staging -= 1;
            if staged.qos == QoS::ExactlyOnce
                && let Some(exchange) = session.window.find(staged.packet_id)
                && let Origin::Group { filter, assignment } =
                    std::mem::replace(&mut exchange.origin, Origin::Own)
            {
                taken_over.push((filter, assignment));
            }
            let sent = session.write_publish(
                now.unix_ms,
                Content::Shared(&staged.published),
                staged.packet_id,
                staged.qos,
                false,
                staged.retain,
                &staged.subscription_ids,
                staged.cursor,
            );
            match sent {
                Offered::Sent => self.stats.messages_sent += 1,
                _ => session.window.abandon(staged.packet_id),
            }
        }
        for (filter, assignment) in taken_over {
            self.acknowledge_shared(filter, assignment);
        }
        self.announce(conn);
    }
}

/// Says once that there is output, and notes QoS 2 exchanges that the journal has to know.
fn announce(
    outputs: &mut VecDeque<Output>,
    to_stage: &mut Vec<ConnId>,
    conn: ConnId,
    session: &mut Session,
) {
    if !session.staged.is_empty() {
        to_stage.push(conn);
    }
    if !session.out.announced && !session.out.pending().is_empty() {
        session.out.announced = true;
        outputs.push_back(Output::Write { conn });
    }
}

/// How much more than the publishers' limit may be on its way to the journal because of spills.
const SPILL_FACTOR: usize = 4;

/// What makes a session take no more.
fn full_by(session: &Session) -> Limit {
    match session.window.has_room() {
        true => Limit::Output,
        false => Limit::InflightOut,
    }
}

fn is_echo(session: &Session, target: &Target, content: Content<'_>) -> bool {
    target.no_local && *content.client_id() == *session.client.id
}

/// About the bytes that a message takes in the queue to the journal.
pub(super) fn append_cost(published: &Published) -> usize {
    const OVERHEAD: usize = 200;
    published.message.payload.len() + published.message.topic.len() + OVERHEAD
}

/// The same message, to be read by these clients only.
pub(super) fn only_for(published: &Published, names: Vec<Arc<str>>) -> Arc<Published> {
    Arc::new(Published {
        audience: Audience::Only(names),
        inbound_packet_id: None,
        // It waits for its receiver from now on.
        read_us: 0,
        history: false,
        ..published.clone()
    })
}

impl Session {
    /// RETAIN flag and Subscription Identifiers of a message that is sent again, from what matches
    /// its topic. A filter that counts only from later on got it because it was retained, and so
    /// did a session that has not read so far.
    pub(crate) fn delivery_flags(
        &self,
        offset: Option<Offset>,
        published: &Published,
    ) -> (bool, Box<[u32]>) {
        let topic = &published.message.topic;
        let matching = || {
            self.subscriptions
                .values()
                .filter(|s| topic::matches(super::commit::plain_filter(&s.filter), topic))
        };
        let ahead = |offset| matches!(self.reading, Reading::Lagging(cursor) if cursor <= offset);
        let is_live = |s: &Subscription, offset| {
            s.since <= offset && !ahead(offset) && s.qos != QoS::AtMostOnce
        };
        let live = || matching().filter(|s| offset.is_none_or(|offset| is_live(s, offset)));
        let flagged = live().next().is_none() || live().any(|s| s.retain_as_published);
        (
            published.message.retain && flagged,
            matching().filter_map(|s| s.subscription_id).collect(),
        )
    }
}
