//! Clients that are held to a rate, and what is beyond the limits of a shard.
//!
//! Who publishes more than it may is read slower: its connection pauses until time has given back what
//! was spent, so that a client notices nothing but a full socket. What is spent is taken per read, and a
//! read stops where the allowance does, so that nobody waits much longer than one message costs. A user
//! on many connections may get ahead of that; then publishes are refused until the wait is short again.
//! A room cannot slow those who write in it, so its rate refuses at once.

use std::collections::HashMap;

use super::publish::Refusal;
use super::{ConnId, Now, Shard};
use crate::codec::{Packet, Publish, ReasonCode};
use crate::limits::{Limit, Room};
use crate::rules::IdentityKind;
use crate::session::{Handling, Route, Stage};
use crate::state::{Retained, WillRecord, retained_on};

/// Whoever would wait longer than this, for what the user sends on other connections, is refused instead.
const PATIENCE_MS: u64 = 5_000;

/// Who is refused for its user's rate is read again after this.
const REFUSED_PAUSE_MS: u64 = 1_000;

impl Shard {
    /// Whether anyone is held to a rate per read.
    pub(super) fn holds_publishers(&self) -> bool {
        let bounds = &self.options.bounds;
        !bounds.publish.is_off() || bounds.metered.users
    }

    /// How many publishes may be read from a connection now.
    ///
    /// # Errors
    /// The milliseconds until it is to be read again.
    pub(super) fn allowance(&mut self, now: Now, conn: ConnId) -> Result<u64, u64> {
        let now_ms = now.monotonic_ms;
        let rate = &self.options.bounds.publish;
        let Some(session) = self.sessions.get_mut(conn) else {
            return Ok(u64::MAX);
        };
        if session.stage != Stage::Online || session.client.identity.kind == IdentityKind::Broker {
            return Ok(u64::MAX);
        }
        let held = session.held.get_or_insert_default();
        held.refusing_ms = None;
        let own = held.flow.allowance(rate, now_ms)?;
        let user = &session.client.identity.user;
        if !self.options.bounds.metered.users || user.is_empty() {
            return Ok(own);
        }
        match self
            .meters
            .as_ref()
            .map(|m| m.allowance_of_user(user, now_ms))
        {
            None => Ok(own),
            Some(Ok(left)) => {
                held.waits_since_ms = None;
                Ok(own.min(left))
            }
            Some(Err(wait_ms)) => {
                let since_ms = *held.waits_since_ms.get_or_insert(now_ms);
                if now_ms - since_ms + wait_ms <= PATIENCE_MS {
                    return Err(wait_ms);
                }
                held.refusing_ms = Some(wait_ms);
                Ok(own)
            }
        }
    }

    /// What was read from a connection is taken from its rates; gives the milliseconds to wait.
    pub(super) fn charge(
        &mut self,
        now: Now,
        conn: ConnId,
        messages: u64,
        bytes: u64,
    ) -> Option<u64> {
        let now_ms = now.monotonic_ms;
        let session = self.sessions.get_mut(conn)?;
        if messages == 0 || session.stage != Stage::Online {
            return None;
        }
        let held = session.held.as_deref_mut()?;
        let publish = &self.options.bounds.publish;
        let own_ms = held.flow.spend(publish, messages, bytes, now_ms);
        if held.refusing_ms.is_some() {
            // What was refused did not count for the user.
            return Some(own_ms.max(REFUSED_PAUSE_MS));
        }
        let user = &session.client.identity.user;
        let mut user_ms = 0;
        if self.options.bounds.metered.users
            && !user.is_empty()
            && let Some(meters) = &self.meters
        {
            user_ms = meters.charge_user(user, messages, bytes, now_ms);
        }
        if own_ms > 0 {
            self.hit(Limit::PublishRate);
        }
        if user_ms > 0 {
            self.hit(Limit::PublishRatePerUser);
        }
        // Others wait for the same: who would wait long is told so by the next publish.
        let wait_ms = own_ms.max(user_ms.min(PATIENCE_MS));
        (wait_ms > 0).then_some(wait_ms)
    }

    /// A connection asked for so many filters, or gave them back; gives the milliseconds to wait.
    pub(super) fn charge_filters(&mut self, now: Now, conn: ConnId, filters: u64) -> Option<u64> {
        let rate = self.options.bounds.filters;
        let session = self.session(conn)?;
        let is_held = filters > 0
            && session.stage == Stage::Online
            && session.client.identity.kind != IdentityKind::Broker;
        if !is_held || rate.per_second == 0 {
            return None;
        }
        // One packet is not waited for longer than for as many as may come at once.
        let filters = filters.min(rate.burst);
        let spent = self.filters_spent.entry(conn).or_default();
        spent.spend(rate, filters, now.monotonic_ms);
        let wait_ms = spent.wait_ms(rate, now.monotonic_ms);
        if wait_ms == 0 {
            return None;
        }
        self.hit(Limit::FilterRate);
        Some(wait_ms)
    }

    /// Whoever has spent nothing that time has not given back is forgotten.
    pub(super) fn forget_filters_spent(&mut self, now: Now) {
        let rate = self.options.bounds.filters;
        self.filters_spent
            .retain(|_, spent| !spent.is_idle(rate, now.monotonic_ms));
        if self.filters_spent.is_empty() {
            self.filters_spent = HashMap::new();
        }
    }

    /// Does not read a connection for a while.
    pub(super) fn hold(&mut self, now: Now, conn: ConnId, wait_ms: u64) {
        if let Some(session) = self.sessions.get_mut(conn) {
            session.paused = true;
            self.held.insert((now.monotonic_ms + wait_ms, conn));
        }
    }

    /// Reads on from those who have waited long enough.
    pub(super) fn resume_held(&mut self, now: Now) {
        while let Some((until_ms, conn)) = self.held.first().copied()
            && until_ms <= now.monotonic_ms
        {
            self.held.pop_first();
            self.resume(conn);
        }
    }

    /// Why a publish that the rules allow is refused, if it is. A room that takes it is charged.
    pub(super) fn exceeds(
        &self,
        now: Now,
        conn: ConnId,
        route: &Route,
        publish: &Publish<'_>,
    ) -> Option<Refusal> {
        let bounds = &self.options.bounds;
        if let Some(limit) = self.too_many_pairs(publish.properties.user.iter().copied()) {
            return Some(Refusal::Over(limit));
        }
        let grows = matches!(route.handling.as_deref(), Some(Handling::Grows(_)));
        let is_retained = (publish.retain || grows) && !publish.payload.is_empty();
        if !is_retained && route.room.is_none() && !bounds.metered.users {
            return None;
        }
        let session = self.session(conn)?;
        if session.client.identity.kind == IdentityKind::Broker {
            return None;
        }
        if let Some(wait_ms) = session.held.as_ref().and_then(|held| held.refusing_ms) {
            let limit = Limit::PublishRatePerUser;
            return Some(Refusal::TooOften { limit, wait_ms });
        }
        if let Some(limit) =
            self.too_many_retained(&session.client.identity.user, &route.topic, is_retained)
        {
            return Some(Refusal::Over(limit));
        }
        let (room, meters) = (route.room.as_ref()?, self.meters.as_ref()?);
        let bytes = publish.payload.len() as u64;
        let charged = meters.charge_room(room, bytes, now.monotonic_ms);
        charged.err().map(|wait_ms| Refusal::TooOften {
            limit: Limit::PublishRatePerRoom,
            wait_ms,
        })
    }

    /// The limit that one more retained message of a user would break. One in the place of another is
    /// none more, and for its user neither if that was the user's own.
    pub(super) fn too_many_retained(&self, user: &str, topic: &str, is_set: bool) -> Option<Limit> {
        if !is_set {
            return None;
        }
        let bounds = &self.options.bounds;
        let is_full = |maximum: u64, there: u64| maximum > 0 && there >= maximum;
        if is_full(bounds.retained_bytes, self.state.retained_bytes()) {
            return Some(Limit::RetainedBytes);
        }
        let there = || retained_on(&*self.state, topic);
        if is_full(bounds.retained_messages, self.state.retained_count()) && there().is_none() {
            return Some(Limit::Retained);
        }
        let is_limited =
            bounds.retained_messages_per_user > 0 || bounds.retained_bytes_per_user > 0;
        if !is_limited || user.is_empty() {
            return None;
        }
        let own = self.state.retained_of(user);
        if is_full(bounds.retained_bytes_per_user, own.bytes) {
            return Some(Limit::RetainedBytesPerUser);
        }
        let is_full = is_full(bounds.retained_messages_per_user, own.count);
        let is_own = |retained: Retained| *retained.published.message.publisher.user == *user;
        (is_full && !there().is_some_and(is_own)).then_some(Limit::RetainedPerUser)
    }

    /// The limit that the text of a topic or filter is over.
    pub(super) fn too_long(&self, topic: &str) -> Option<Limit> {
        let bounds = &self.options.bounds;
        if bounds.topic_bytes > 0 && topic.len() > bounds.topic_bytes {
            return Some(Limit::TopicBytes);
        }
        let levels = || topic.bytes().filter(|byte| *byte == b'/').count() + 1;
        (bounds.topic_levels > 0 && levels() > bounds.topic_levels).then_some(Limit::TopicLevels)
    }

    /// The limit that the User Properties of a packet are over. Those of PUBLISH are looked at with it.
    pub(super) fn too_many_properties(&self, packet: &Packet<'_>) -> Option<Limit> {
        let user = match packet {
            Packet::PubAck(ack) | Packet::PubRec(ack) => &ack.user,
            Packet::PubRel(ack) | Packet::PubComp(ack) => &ack.user,
            Packet::Subscribe(subscribe) => &subscribe.user,
            Packet::Unsubscribe(unsubscribe) => &unsubscribe.user,
            Packet::Disconnect(disconnect) => &disconnect.user,
            Packet::Auth(auth) => &auth.user,
            _ => return None,
        };
        self.too_many_pairs(user.iter().map(|(name, value)| (&**name, &**value)))
    }

    fn too_many_pairs<'a>(
        &self,
        pairs: impl ExactSizeIterator<Item = (&'a str, &'a str)>,
    ) -> Option<Limit> {
        let bounds = &self.options.bounds;
        match pairs.len() {
            0 => None,
            count if bounds.user_properties > 0 && count > bounds.user_properties => {
                Some(Limit::UserProperties)
            }
            _ if bounds.user_property_bytes == 0 => None,
            _ => {
                let bytes: usize = pairs.map(|(name, value)| name.len() + value.len()).sum();
                (bytes > bounds.user_property_bytes).then_some(Limit::UserPropertyBytes)
            }
        }
    }

    /// The limit that a Will Message is over, and how its client is told.
    pub(super) fn will_is_over(&self, will: &WillRecord) -> Option<(Limit, ReasonCode)> {
        let message = &will.message;
        if let Some(limit) = self.too_long(&message.topic) {
            return Some((limit, ReasonCode::TopicNameInvalid));
        }
        let user = &message.properties.as_ref()?.user;
        let pairs = user.iter().map(|(name, value)| (&**name, &**value));
        let limit = self.too_many_pairs(pairs)?;
        Some((limit, ReasonCode::QuotaExceeded))
    }

    /// The limit that forbids to begin, or take up, a session that outlives its connection.
    pub(super) fn too_many_sessions(&self, conn: ConnId, is_there: bool) -> Option<Limit> {
        let client = &self.session(conn)?.client;
        let maximum = self.options.bounds.sessions;
        if client.identity.kind == IdentityKind::Broker {
            None
        } else if self.storage == Room::None {
            Some(Limit::Disk)
        } else {
            let is_full = !is_there && maximum > 0 && self.state.session_count() >= maximum;
            is_full.then_some(Limit::Sessions)
        }
    }

    /// Whether a connection may still have something kept. While there is little room, parts of the
    /// broker may.
    pub(super) fn has_room_for(&self, conn: ConnId) -> bool {
        let is_part = self
            .session(conn)
            .is_some_and(|session| session.client.identity.kind == IdentityKind::Broker);
        match self.storage {
            Room::Enough => true,
            Room::Little => is_part,
            Room::None => false,
        }
    }
}
