//! SUBSCRIBE and UNSUBSCRIBE (§3.8, §3.10): filters of a session, in this shard and known to the
//! others.
//!
//! A session with a record subscribes through the journal: the filter counts from its own entry on,
//! so it receives no history. SUBACK leaves when the journal has it and every other shard knows.
//! Retained messages are those set before the filter counts: what was set later comes live.

use std::collections::VecDeque;
use std::sync::Arc;

use super::commit::Pending;
use super::cursor::Refused;
use super::group::{Member, home_of};
use super::peers::{Body, Then};
use super::targets::Subscriber;
use super::{ConnId, Now, Shard};
use crate::codec::{
    Packet, ReasonCode, RetainHandling, SubAck, Subscribe, SubscribeFilter, UnsubAck, Unsubscribe,
};
use crate::journal::Record;
use crate::limits::{Limit, Room};
use crate::message::{Offset, QoS, Seq};
use crate::rules::IdentityKind;
use crate::session::{
    Beginning, CatchUp, NewSubscription, Reading, Stage, Subscribing, Subscription,
};
use crate::state::{SessionChange, raises_from_qos0};
use crate::topic::{self, FilterKind, ReplayFrom, parse_filter};

impl Shard {
    pub(super) fn handle_subscribe(&mut self, now: Now, conn: ConnId, subscribe: Subscribe) {
        let mut work = Subscribing {
            packet_id: subscribe.packet_id,
            settled: false,
            reasons: Vec::new(),
            why: None,
            new: Vec::new(),
        };
        let maximum = self.options.bounds.filters_per_subscribe;
        if maximum > 0 && subscribe.filters.len() > maximum {
            self.hit(Limit::FiltersPerSubscribe);
            work.reasons = vec![ReasonCode::QuotaExceeded; subscribe.filters.len()];
            work.why = Some("too many filters in one SUBSCRIBE");
        }
        for filter in &subscribe.filters {
            if !work.reasons.is_empty() && work.reasons.len() >= subscribe.filters.len() {
                break;
            }
            match self.judge_filter(conn, filter, subscribe.subscription_id, &work) {
                Ok(new) => {
                    work.reasons.push(granted(new.subscription.qos));
                    work.new.push(new);
                }
                Err(refused) => {
                    if let Some(limit) = refused.limit {
                        self.hit(limit);
                    }
                    work.reasons.push(refused.reason);
                    work.why = work.why.or(refused.why);
                }
            }
        }
        let Some(session) = self.sessions.get_mut(conn) else {
            return;
        };
        let records: Vec<_> = work.new.iter().map(|n| n.subscription.record()).collect();
        let through_journal = session.persistent && !records.is_empty();
        let client_id = session.client.id.clone();
        work.settled = !through_journal;
        session.subscribing.push_back(work);
        if !through_journal {
            self.activate_settled(now, conn);
            return;
        }
        session.uncommitted += 1;
        let last = records.len() - 1;
        for (index, record) in records.into_iter().enumerate() {
            let pending = if index == last {
                Pending::Subscribed { conn }
            } else {
                Pending::Quiet { bytes: 0 }
            };
            let change = SessionChange::Subscribed(record);
            self.append(
                Record::Session {
                    client_id: client_id.clone(),
                    change,
                },
                pending,
            );
        }
    }

    /// Syntax, limits and permission of one filter.
    fn judge_filter(
        &self,
        conn: ConnId,
        filter: &SubscribeFilter,
        subscription_id: Option<u32>,
        work: &Subscribing,
    ) -> Result<NewSubscription, Refused> {
        let session = self.session(conn).ok_or(ReasonCode::UnspecifiedError)?;
        let kind = parse_filter(&filter.filter).map_err(|_| ReasonCode::TopicFilterInvalid)?;
        let plain = kind.filter();
        if let Some(limit) = self.too_long(plain) {
            return Err(Refused::over(ReasonCode::TopicFilterInvalid, limit));
        }
        let (kept_as, shared, beginning) = match kind {
            FilterKind::Plain(plain) => (plain, false, Beginning::Here),
            FilterKind::Shared { .. } => (filter.filter.as_str(), true, Beginning::Here),
            FilterKind::Replay { from, .. } => (plain, false, Beginning::History(from)),
            FilterKind::After { cursor, .. } => {
                let offset = cursor.map(|cursor| self.judge_cursor(cursor)).transpose()?;
                (plain, false, Beginning::Cursor(offset))
            }
        };
        let quota = ReasonCode::QuotaExceeded;
        let coming = || {
            session
                .subscribing
                .iter()
                .chain([work])
                .flat_map(|w| &w.new)
        };
        if session.subscriptions.len() + coming().count() >= self.options.max_subscriptions as usize
            && session.find_subscription(kept_as).is_none()
        {
            return Err(Refused::over(quota, Limit::Subscriptions));
        }
        if let Some(meters) = self.meters.as_ref().filter(|_| shared)
            && session.client.identity.kind != IdentityKind::Broker
        {
            let more = coming().filter(|new| new.subscription.shared).count();
            meters
                .may_share(&session.client.identity.user, kept_as, more)
                .map_err(|limit| Refused::over(quota, limit))?;
        }
        if session.persistent && self.storage == Room::None {
            return Err(Refused::over(quota, Limit::Disk));
        }
        let identity = &session.client.identity;
        if !self
            .rules
            .may_subscribe(plain, identity, &*self.members)
            .is_allowed()
        {
            return Err(ReasonCode::NotAuthorized.into());
        }
        Ok(NewSubscription {
            subscription: Subscription {
                filter: kept_as.into(),
                qos: filter.qos.min(self.options.maximum_qos),
                no_local: filter.no_local,
                retain_as_published: filter.retain_as_published,
                subscription_id,
                since: self.position,
                shared,
                membership: 0,
                cursor: matches!(beginning, Beginning::Cursor(_)),
                replaying: matches!(beginning, Beginning::History(_))
                    && filter.qos == QoS::AtMostOnce,
            },
            beginning,
            retain_handling: filter.retain_handling,
        })
    }

    /// The journal has the oldest SUBSCRIBE that waits for it.
    pub(super) fn subscribe_settled(&mut self, now: Now, conn: ConnId) {
        let Some(session) = self.sessions.get_mut(conn) else {
            return;
        };
        if let Some(work) = session.subscribing.iter_mut().find(|work| !work.settled) {
            work.settled = true;
        }
        self.activate_settled(now, conn);
    }

    /// One SUBSCRIBE does not overtake another.
    fn activate_settled(&mut self, now: Now, conn: ConnId) {
        // The session may have let go meanwhile: then its next connection finds the filters.
        while let Some(session) = self.sessions.get_mut(conn)
            && session.stage == Stage::Online
            && session.subscribing.front().is_some_and(|work| work.settled)
            && let Some(work) = session.subscribing.pop_front()
        {
            self.activate_subscribe(now, conn, work);
        }
    }

    /// The filters of a SUBSCRIBE count from here on.
    fn activate_subscribe(&mut self, now: Now, conn: ConnId, mut work: Subscribing) {
        let position = self.position;
        let Some(session) = self.sessions.get_mut(conn) else {
            return;
        };
        let mut keys = Vec::with_capacity(work.new.len());
        let mut adding = Vec::with_capacity(work.new.len());
        for new in &mut work.new {
            let existing = session.find_subscription(&new.subscription.filter);
            new.subscription.since = match existing {
                _ if new.subscription.cursor => new.beginning.cursor_or(position).max(position),
                Some((_, old))
                    if !old.replaying && !raises_from_qos0(old.qos, new.subscription.qos) =>
                {
                    old.since
                }
                _ => position,
            };
            adding.push((new.subscription.clone(), existing.is_none()));
        }
        if work.has_history() {
            session.histories_to_come += 1;
            if session.reading == Reading::Live {
                session.reading = Reading::Lagging(position);
            }
        }
        let ticket = self.peers.new_ticket(Then::ConnAck {
            conn,
            present: false,
        });
        for (subscription, is_new) in adding {
            if let Some(key) = self.add_subscription(conn, subscription, ticket) {
                keys.push((key, is_new));
            }
        }
        self.peers.set_then(
            ticket,
            Then::SubAck {
                conn,
                work,
                keys,
                position,
            },
        );
        self.close_ticket(now, ticket);
    }

    /// Adds a filter to a session and to everything that finds it there.
    pub(super) fn add_subscription(
        &mut self,
        conn: ConnId,
        mut subscription: Subscription,
        ticket: u64,
    ) -> Option<u32> {
        let session = self.sessions.get_mut(conn)?;
        let filter = subscription.filter.clone();
        subscription.membership = session
            .find_subscription(&filter)
            .map_or(ticket, |(_, old)| old.membership);
        let member = subscription.shared.then_some(Member {
            shard: self.options.id,
            conn,
            membership: subscription.membership,
            qos: subscription.qos,
            persistent: session.persistent,
            identity: session.client.identity.clone(),
        });
        let user = session.client.identity.user.clone();
        let is_shared = subscription.shared;
        let (key, replaced) = session.subscribe(subscription);
        if let Some(meters) = self
            .meters
            .as_ref()
            .filter(|_| is_shared && replaced.is_none())
        {
            meters.shares(&user, &filter, true);
        }
        self.memo.forget();
        if let Some(member) = member {
            let home = home_of(&filter, self.options.shards);
            self.peers.expect_answer(ticket);
            self.peers.send(
                home,
                Body::GroupJoin {
                    filter,
                    member,
                    ticket,
                },
            );
            return Some(key);
        }
        if replaced.is_none() {
            self.tree.insert(&filter, Subscriber::Session { conn, key });
            self.peers.add_interest(&filter, ticket);
        } else {
            self.peers.confirm_interest(&filter, ticket);
        }
        Some(key)
    }

    /// Takes a filter out of everything that finds it.
    pub(super) fn drop_subscription(
        &mut self,
        conn: ConnId,
        key: u32,
        subscription: &Subscription,
    ) {
        self.memo.forget();
        let filter = &subscription.filter;
        if subscription.shared {
            if let Some(meters) = &self.meters
                && let Some(session) = self.sessions.get(conn)
            {
                meters.shares(&session.client.identity.user, filter, false);
            }
            let home = home_of(filter, self.options.shards);
            // At QoS 2 what began here ends here [MQTT-4.8.2-4].
            let own = self
                .sessions
                .get_mut(conn)
                .map(|session| session.window.take_over(filter))
                .unwrap_or_default();
            for assignment in own {
                self.acknowledge_shared(filter.clone(), assignment);
            }
            self.peers.send(
                home,
                Body::GroupLeave {
                    filter: filter.clone(),
                    conn,
                },
            );
        } else {
            self.tree.remove(filter, &Subscriber::Session { conn, key });
            self.peers.remove_interest(filter);
        }
    }

    /// Everybody knows the filters: SUBACK, then what was retained or is history.
    pub(super) fn finish_subscribe(
        &mut self,
        _now: Now,
        conn: ConnId,
        work: Subscribing,
        keys: &[(u32, bool)],
        position: Offset,
    ) {
        let Some(session) = self.sessions.get_mut(conn) else {
            return;
        };
        if session.stage == Stage::Closing {
            return;
        }
        let mut catch_ups = VecDeque::new();
        let mut gaps = Vec::new();
        let after = self.begin_after(&work.new, keys, position);
        for (new, (key, is_new)) in work.new.iter().zip(keys) {
            let filter = &new.subscription.filter;
            let wants_retained = || wants_retained(new.retain_handling, *is_new);
            match new.beginning {
                Beginning::History(from) => {
                    gaps.extend(self.replay_gap(filter, from));
                    catch_ups.extend(self.start_replay(*key, filter, from, position));
                }
                // Who missed nothing has what was retained before its cursor.
                Beginning::Cursor(Some(_)) if !after.has_gap() => {}
                _ if new.subscription.shared => {}
                _ if wants_retained() => {
                    catch_ups.extend(self.find_retained(*key, filter, position));
                }
                _ => {}
            }
        }
        let has_history = work.has_history();
        let mut ack = SubAck {
            packet_id: work.packet_id,
            reasons: work.reasons,
            reason_string: None,
            user: Vec::new(),
        };
        if self.explains(conn) {
            ack.reason_string = work.why.map(str::to_owned);
            ack.user = gaps;
            self.explain_cursors(&mut ack, &after);
        }
        self.send(conn, &Packet::SubAck(ack));
        catch_ups.extend(self.finish_after(conn, after));
        if let Some(session) = self.sessions.get_mut(conn) {
            session.catch_ups.append(&mut catch_ups);
            session.histories_to_come -= usize::from(has_history);
        }
        self.wake_reader(conn);
    }

    /// What a replay asks for and retention took, for the SUBACK: `gap` is `chat/lobby 1-41`. Known for
    /// filters of one stream.
    fn replay_gap(&self, filter: &str, from: ReplayFrom) -> Option<(String, String)> {
        let streams = self.rules.streams_of_filter(filter);
        let mut plain = streams.iter().filter(|name| !name.contains(['+', '#']));
        let (Some(stream), None) = (plain.next(), plain.next()) else {
            return None;
        };
        let oldest = self.journal.history(stream, Seq(1), 1).ok()?;
        let oldest = oldest.first().map(|entry| &entry.published);
        let first = match oldest {
            Some(published) => published.seq.0,
            None => self.state.stream_head(stream).0 + 1,
        };
        let wanted = match from {
            ReplayFrom::Seq(seq) => seq.max(1),
            // What was there before the oldest may have been as young as what is asked for.
            ReplayFrom::Ts(ms) => oldest.filter(|p| p.message.time >= ms).map(|_| 1)?,
            ReplayFrom::Last(_) => return None,
        };
        let last = first.saturating_sub(1);
        (wanted <= last).then(|| ("gap".to_owned(), format!("{stream} {wanted}-{last}")))
    }

    fn start_replay(
        &mut self,
        key: u32,
        filter: &str,
        from: ReplayFrom,
        end: Offset,
    ) -> Option<CatchUp> {
        let next = match self.journal.locate(filter, from) {
            Ok(next) => next,
            Err(error) => {
                self.read_failed(&error);
                self.position
            }
        };
        Some(CatchUp::Replay {
            subscription: key,
            from,
            next,
            end,
            page: VecDeque::new(),
            page_next: next,
        })
    }

    fn find_retained(&self, key: u32, filter: &str, before: Offset) -> Option<CatchUp> {
        let mut topics = VecDeque::new();
        self.state
            .for_each_retained(filter, before, &mut |retained| {
                topics.push_back(retained.published.message.topic.clone());
            });
        topics.extend(
            self.system
                .keys()
                .filter(|t| topic::matches(filter, t))
                .cloned(),
        );
        (!topics.is_empty()).then_some(CatchUp::Retained {
            subscription: key,
            topics,
            before,
        })
    }

    pub(super) fn handle_unsubscribe(&mut self, conn: ConnId, unsubscribe: &Unsubscribe) {
        let packet_id = unsubscribe.packet_id;
        let mut reasons = Vec::with_capacity(unsubscribe.filters.len());
        let mut removed: Vec<Arc<str>> = Vec::new();
        for filter in &unsubscribe.filters {
            let filter = match parse_filter(filter) {
                Ok(FilterKind::Replay { filter, .. } | FilterKind::After { filter, .. }) => filter,
                _ => filter.as_str(),
            };
            let Some(session) = self.sessions.get_mut(conn) else {
                return;
            };
            match session.unsubscribe(filter) {
                Some((key, subscription)) => {
                    self.drop_subscription(conn, key, &subscription);
                    removed.push(subscription.filter);
                    reasons.push(ReasonCode::Success);
                }
                None => reasons.push(ReasonCode::NoSubscriptionExisted),
            }
        }
        let Some(session) = self.sessions.get_mut(conn) else {
            return;
        };
        let Some(last) = removed.len().checked_sub(1).filter(|_| session.persistent) else {
            self.send_unsuback(conn, packet_id, reasons);
            return;
        };
        session.uncommitted += 1;
        session.unsubscribing = true;
        let client_id = session.client.id.clone();
        for (index, filter) in removed.into_iter().enumerate() {
            let pending = if index == last {
                Pending::Unsubscribed {
                    conn,
                    packet_id,
                    reasons: std::mem::take(&mut reasons),
                }
            } else {
                Pending::Quiet { bytes: 0 }
            };
            let change = SessionChange::Unsubscribed { filter };
            self.append(
                Record::Session {
                    client_id: client_id.clone(),
                    change,
                },
                pending,
            );
        }
    }

    pub(super) fn send_unsuback(&mut self, conn: ConnId, packet_id: u16, reasons: Vec<ReasonCode>) {
        let ack = UnsubAck {
            packet_id,
            reasons,
            reason_string: None,
            user: Vec::new(),
        };
        self.send(conn, &Packet::UnsubAck(ack));
    }
}

const fn granted(qos: QoS) -> ReasonCode {
    match qos {
        QoS::AtMostOnce => ReasonCode::Success,
        QoS::AtLeastOnce => ReasonCode::GrantedQoS1,
        QoS::ExactlyOnce => ReasonCode::GrantedQoS2,
    }
}

const fn wants_retained(handling: RetainHandling, is_new: bool) -> bool {
    match handling {
        RetainHandling::SendAtSubscribe => true,
        RetainHandling::SendIfNew => is_new,
        RetainHandling::DoNotSend => false,
    }
}
