//! Reading on: a session that lags takes its messages from the journal, a new subscription its
//! retained messages and its history, until there is no room or nothing left.
//!
//! Being slow, having been offline and coming back after a crash all end here; the loop is
//! `replay position..L -> live -> no room -> replay`.

use std::collections::VecDeque;
use std::sync::Arc;

use super::{ConnId, Event, Now, Shard};
use crate::codec::{Packet, ReasonCode};
use crate::journal::{Audience, Page, Published, ReadEntry, ReadError};
use crate::limits::Limit;
use crate::message::{Message, Offset, QoS};
use crate::session::content::Content;
use crate::session::window::Origin;
use crate::session::{CatchUp, CursorMark, Offer, Offered, Reading, Session, Stage, Subscription};
use crate::state::{Phase, replay_wants};
use crate::topic;

use super::peers::Body;

/// Bytes read from the journal for one session at a time: enough to fill a socket's buffer, little
/// enough that thousands of lagging sessions stay bounded.
pub(super) const PAGE_BYTES: usize = 64 * 1024;

/// How a session gets a journal entry: its matching subscriptions taken together (§3.3.4).
#[derive(Debug)]
pub(super) struct Wanted {
    pub qos: QoS,
    pub retain: bool,
    pub ids: Vec<u32>,
    /// One of them asked for cursors.
    pub cursor: bool,
}

impl Default for Wanted {
    fn default() -> Self {
        Self {
            qos: QoS::AtMostOnce,
            retain: false,
            ids: Vec::new(),
            cursor: false,
        }
    }
}

impl Wanted {
    pub fn merge(&mut self, subscription: &Subscription, message: &Message) {
        self.qos = self.qos.max(subscription.qos);
        self.retain |= subscription.retain_as_published && message.retain;
        self.ids.extend(subscription.subscription_id);
        self.cursor |= subscription.cursor;
    }
}

/// Whether a step of reading on can be followed by another.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    More,
    Stop,
}

impl Shard {
    /// A session may have something to read and room for it.
    pub(super) fn wake_reader(&mut self, conn: ConnId) {
        if let Some(session) = self.sessions.get_mut(conn)
            && session.stage == Stage::Online
            && !session.queued
            && session.has_reading_to_do()
        {
            session.queued = true;
            self.readers.push_back(conn);
        }
    }

    /// Lets every session that was woken read on, and handles what the shard told itself.
    pub(super) fn read_on(&mut self, now: Now) {
        loop {
            if self.handle_local(now) {
                continue;
            }
            if let Some(group) = self.next_awake_group() {
                self.group_reads_on(group);
                continue;
            }
            let Some(conn) = self.readers.pop_front() else {
                return;
            };
            if let Some(session) = self.sessions.get_mut(conn) {
                session.queued = false;
                while self.step(now, conn) == Step::More {}
                self.after_offer(conn);
            }
        }
    }

    fn step(&mut self, now: Now, conn: ConnId) -> Step {
        let output_bytes = self.options.output_bytes;
        let Some(session) = self.sessions.get_mut(conn) else {
            return Step::Stop;
        };
        if session.stage != Stage::Online || !session.has_room(output_bytes) {
            return Step::Stop;
        }
        if session.window.has_unsent() {
            return self.step_unfinished(now, conn);
        }
        if !session.refused_groups.is_empty() {
            self.tell_groups_ready(conn);
            return Step::More;
        }
        match (session.catch_ups.pop_front(), session.reading) {
            (
                Some(CatchUp::Retained {
                    subscription,
                    topics,
                    before,
                }),
                _,
            ) => self.step_retained(now, conn, subscription, topics, before),
            (Some(replay @ CatchUp::Replay { .. }), _) => self.step_replay(now, conn, replay),
            (Some(CatchUp::After(after)), _) => self.step_after(now, conn, after),
            (None, Reading::Lagging(cursor)) if session.histories_to_come == 0 => {
                self.step_lagging(now, conn, cursor)
            }
            (None, _) => Step::Stop,
        }
    }

    /// Sends again one message that an earlier connection left unfinished.
    fn step_unfinished(&mut self, now: Now, conn: ConnId) -> Step {
        let Some(session) = self.sessions.get_mut(conn) else {
            return Step::Stop;
        };
        let Some(exchange) = session.window.next_unsent() else {
            return Step::More;
        };
        if exchange.phase == Phase::AwaitPubComp {
            return Step::More;
        }
        let packet_id = exchange.packet_id;
        let found = match exchange.offset.map(|offset| self.journal.read_at(offset)) {
            Some(Ok(found)) => found,
            Some(Err(ReadError::Trimmed { .. })) | None => None,
            Some(Err(error)) => {
                session.window.still_unsent(packet_id);
                self.read_failed(&error);
                return Step::Stop;
            }
        };
        let allowed = found
            .filter(|p| self.may_receive(conn, &p.message.topic))
            .map(|published| self.redact(published));
        let Some(session) = self.sessions.get_mut(conn) else {
            return Step::Stop;
        };
        let sent = allowed.is_some_and(|published| {
            let (retain, ids) = session.delivery_flags(exchange.offset, &published);
            let qos = exchange.qos;
            session.write_publish(
                now.unix_ms,
                Content::Shared(&published),
                packet_id,
                qos,
                true,
                retain,
                &ids,
                CursorMark::Untold,
            ) == Offered::Sent
        });
        if sent {
            self.stats.messages_sent += 1;
        } else if exchange.qos == QoS::ExactlyOnce {
            // Retention took the message, or the permission. The client may have it, and must not
            // take the next one with this identifier for the same.
            if let Some(exchange) = session.window.find(packet_id) {
                exchange.phase = Phase::AwaitPubComp;
            }
            let release = session.ack(packet_id, ReasonCode::Success, Vec::new());
            session.write(&Packet::PubRel(release));
        } else {
            session.window.abandon(packet_id);
        }
        Step::More
    }

    /// One entry of the journal for a session that lags, or the next page of it, or back to live.
    fn step_lagging(&mut self, now: Now, conn: ConnId, cursor: Offset) -> Step {
        let Some(session) = self.sessions.get_mut(conn) else {
            return Step::Stop;
        };
        let Some(entry) = session.page.pop_front() else {
            if cursor >= self.position {
                if session.spills > 0 {
                    return Step::Stop;
                }
                session.reading = Reading::Live;
                return Step::More;
            }
            return self.next_page(conn, cursor);
        };
        let offered = match self.wanted_by(conn, &entry) {
            Some(Wanted {
                qos,
                retain,
                ids,
                cursor,
            }) => {
                let offer = Offer {
                    content: Content::Shared(&entry.published),
                    offset: Some(entry.offset),
                    qos,
                    retain,
                    subscription_ids: &ids,
                    origin: Origin::Own,
                    cursor: CursorMark::new(cursor, self.epoch, Some(entry.offset)),
                };
                let Some(session) = self.sessions.get_mut(conn) else {
                    return Step::Stop;
                };
                session.offer(now.unix_ms, self.options.output_bytes, offer, None)
            }
            None => Offered::Dropped,
        };
        let Some(session) = self.sessions.get_mut(conn) else {
            return Step::Stop;
        };
        if offered == Offered::Full {
            session.page.push_front(entry);
            return Step::Stop;
        }
        let next = if session.page.is_empty() {
            session.page_next
        } else {
            entry.offset.next()
        };
        session.reading = Reading::Lagging(next);
        session.progressed = true;
        self.count_offer(offered);
        Step::More
    }

    fn next_page(&mut self, conn: ConnId, cursor: Offset) -> Step {
        let Some(session) = self.sessions.get_mut(conn) else {
            return Step::Stop;
        };
        let filters = session.journal_filters();
        let read = if filters.is_empty() {
            Ok(Page {
                entries: Vec::new(),
                next: self.position,
            })
        } else {
            let read = self
                .journal
                .read(&filters, cursor, self.position, PAGE_BYTES);
            read.map(|page| self.without_recalled(page))
        };
        let Some(session) = self.sessions.get_mut(conn) else {
            return Step::Stop;
        };
        match read {
            Ok(page) => {
                session.page = page.entries.into();
                session.page_next = page.next.min(self.position);
                if session.page.is_empty() {
                    session.reading = Reading::Lagging(session.page_next.max(cursor));
                    session.progressed = true;
                    return if session.page_next > cursor {
                        Step::More
                    } else {
                        Step::Stop
                    };
                }
                Step::More
            }
            Err(ReadError::Trimmed { first }) => {
                self.stats.hits.add(Limit::Backlog, 1);
                session.reading = Reading::Lagging(first.max(cursor.next()));
                session.trimmed = Some(Box::new((cursor, first)));
                let client_id = session.client.id.clone();
                self.stats.trimmed += 1;
                self.outputs.push_back(super::Output::Event(Event::Trimmed {
                    client_id,
                    from: cursor,
                    to: first,
                }));
                Step::More
            }
            Err(error) => {
                // The next wake-up tries again; nothing is skipped.
                self.read_failed(&error);
                Step::Stop
            }
        }
    }

    pub(super) fn read_failed(&mut self, error: &ReadError) {
        let event = Event::ReadFailed {
            error: error.to_string(),
        };
        self.outputs.push_back(super::Output::Event(event));
    }

    /// What a lagging session gets of a journal entry. `None`: it is not for this session, or at QoS
    /// 0, which nobody waits for but who asked for cursors.
    fn wanted_by(&self, conn: ConnId, entry: &ReadEntry) -> Option<Wanted> {
        let session = self.session(conn)?;
        let message = &entry.published.message;
        if let Audience::Only(clients) = &entry.published.audience
            && !clients.contains(&session.client.id)
        {
            return None;
        }
        if !self.still_counts(entry.offset, &entry.published) {
            return None;
        }
        let own_echo = message.publisher.client_id == session.client.id;
        let mut found: Option<Wanted> = None;
        for s in session.subscriptions.values() {
            let from_history = s.replaying && entry.published.audience == Audience::Everyone;
            if s.shared
                || from_history
                || s.since > entry.offset
                || (s.no_local && own_echo)
                || !topic::matches(&s.filter, &message.topic)
            {
                continue;
            }
            found.get_or_insert_default().merge(s, message);
        }
        let mut found = found?;
        found.qos = found.qos.min(message.qos);
        let waits = found.qos != QoS::AtMostOnce || found.cursor;
        (waits && self.may_receive(conn, &message.topic)).then_some(found)
    }

    /// One retained message for a new subscription (§3.3.1.3).
    fn step_retained(
        &mut self,
        now: Now,
        conn: ConnId,
        subscription: u32,
        mut topics: VecDeque<Arc<str>>,
        before: Offset,
    ) -> Step {
        let Some(topic) = topics.pop_front() else {
            return Step::More;
        };
        let again = |shard: &mut Self, topics| {
            if let Some(session) = shard.sessions.get_mut(conn) {
                session.catch_ups.push_front(CatchUp::Retained {
                    subscription,
                    topics,
                    before,
                });
            }
        };
        let settings = self.session(conn).and_then(|session| {
            let subscription = session.subscriptions.get(&subscription)?;
            let own = subscription.no_local.then(|| session.client.id.clone());
            Some((subscription.qos, subscription.subscription_id, own))
        });
        let found = self
            .retained_on(&topic, before)
            .filter(|_| self.may_receive(conn, &topic))
            .map(|(offset, published)| (offset, self.redact(published)));
        let (Some((offset, published)), Some((qos, id, own))) = (found, settings) else {
            again(self, topics);
            return Step::More;
        };
        // [MQTT-3.8.3-3]
        if own.is_some_and(|own| own == published.message.publisher.client_id) {
            again(self, topics);
            return Step::More;
        }
        let ids: Vec<u32> = id.into_iter().collect();
        let offer = Offer {
            qos: qos.min(published.message.qos),
            content: Content::Shared(&published),
            offset,
            retain: true,
            subscription_ids: &ids,
            origin: Origin::Own,
            // It is out of the order that a cursor tells.
            cursor: CursorMark::Untold,
        };
        let Some(session) = self.sessions.get_mut(conn) else {
            return Step::Stop;
        };
        let offered = session.offer(now.unix_ms, self.options.output_bytes, offer, None);
        if offered == Offered::Full {
            topics.push_front(topic);
        }
        self.count_offer(offered);
        again(self, topics);
        if offered == Offered::Full {
            Step::Stop
        } else {
            Step::More
        }
    }

    fn retained_on(&self, topic: &str, before: Offset) -> Option<(Option<Offset>, Arc<Published>)> {
        if let Some(payload) = self.system.get(topic) {
            return Some((
                None,
                super::upkeep::system_message(topic.into(), payload.clone()),
            ));
        }
        let mut found = None;
        self.state
            .for_each_retained(topic, before, &mut |retained| {
                found = Some((Some(retained.offset), retained.published.clone()));
            });
        found
    }

    /// One message of history for a `$replay` subscription, or its next page, or live from here.
    fn step_replay(&mut self, now: Now, conn: ConnId, replay: CatchUp) -> Step {
        let CatchUp::Replay {
            subscription,
            from,
            mut next,
            end,
            mut page,
            mut page_next,
        } = replay
        else {
            return Step::Stop;
        };
        let settings = self
            .session(conn)
            .and_then(|s| s.subscriptions.get(&subscription))
            .cloned();
        let Some(settings) = settings else {
            return Step::More;
        };
        let end = if settings.replaying {
            self.position
        } else {
            end
        };
        let mut step = Step::More;
        if let Some(entry) = page.pop_front() {
            let offered = self.offer_history(now, conn, &settings, from, &entry);
            if offered == Offered::Full {
                page.push_front(entry);
                step = Step::Stop;
            } else {
                next = if page.is_empty() {
                    page_next
                } else {
                    entry.offset.next()
                };
                self.count_offer(offered);
            }
        } else if next >= end {
            if let Some(session) = self.sessions.get_mut(conn).filter(|_| settings.replaying) {
                session.replay_caught_up(subscription, end);
                self.memo.forget();
            }
            return Step::More;
        } else {
            let filters = [settings.filter.clone()];
            let read = self.journal.read_history(&filters, next, end, PAGE_BYTES);
            match read.map(|page| self.without_recalled(page)) {
                Ok(read) => {
                    page = read.entries.into();
                    page_next = read.next.min(end);
                    if page.is_empty() {
                        next = page_next.max(next.next());
                    }
                }
                Err(error) => {
                    self.read_failed(&error);
                    step = Step::Stop;
                }
            }
        }
        if let Some(session) = self.sessions.get_mut(conn) {
            session.catch_ups.push_front(CatchUp::Replay {
                subscription,
                from,
                next,
                end,
                page,
                page_next,
            });
        }
        step
    }

    fn offer_history(
        &mut self,
        now: Now,
        conn: ConnId,
        settings: &Subscription,
        from: topic::ReplayFrom,
        entry: &ReadEntry,
    ) -> Offered {
        let message = &entry.published.message;
        if entry.published.audience != Audience::Everyone
            || !replay_wants(from, &entry.published)
            || !self.may_receive(conn, &message.topic)
        {
            return Offered::Dropped;
        }
        let ids: Vec<u32> = settings.subscription_id.into_iter().collect();
        let offer = Offer {
            content: Content::Shared(&entry.published),
            offset: Some(entry.offset),
            qos: settings.qos.min(message.qos),
            retain: settings.retain_as_published && message.retain,
            subscription_ids: &ids,
            origin: Origin::Own,
            cursor: CursorMark::Untold,
        };
        match self.sessions.get_mut(conn) {
            Some(session) => session.offer(now.unix_ms, self.options.output_bytes, offer, None),
            None => Offered::Dropped,
        }
    }

    fn tell_groups_ready(&mut self, conn: ConnId) {
        let Some(session) = self.sessions.get_mut(conn) else {
            return;
        };
        while let Some(filter) = session.refused_groups.pop_front() {
            let home = super::group::home_of(&filter, self.options.shards);
            self.peers.send(home, Body::GroupReady { filter, conn });
        }
    }

    pub(super) fn lagging_count(&self) -> u64 {
        self.sessions
            .iter()
            .filter(|(_, s)| s.reading != Reading::Live)
            .count() as u64
    }

    pub(super) fn lowest_reading(&self) -> Option<Offset> {
        let lagging = self.sessions.iter().filter_map(|(_, s)| match s.reading {
            Reading::Lagging(cursor) if s.stage != Stage::Closing => Some(cursor),
            _ => None,
        });
        lagging.chain(self.groups.lowest_reading()).min()
    }
}

impl Session {
    fn has_reading_to_do(&self) -> bool {
        self.reading != Reading::Live
            || !self.catch_ups.is_empty()
            || !self.refused_groups.is_empty()
            || self.window.has_unsent()
    }
}
