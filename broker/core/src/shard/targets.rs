//! Who in this shard gets what is published on a topic, and remembering it: publishers tend to
//! repeat their topics.
//!
//! What is remembered counts until filters, rights or rules change. Each publisher has the receivers of
//! its last topic if they are few, so that publishers in turn do not look for theirs again; the
//! shard has those of one topic with many.

use std::sync::Arc;

use super::{ConnId, Shard};
use crate::journal::ShardId;
use crate::message::{Offset, QoS};
use crate::rules::Access;
use crate::session::Subscription;

/// Receivers that are remembered for one publisher: a room of people. More would take memory with
/// each publisher, and finding them is little work beside writing to them.
const MAX_OF_PUBLISHER: usize = 32;

/// Who has a filter in the shard's tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Subscriber {
    /// A subscription of a connected session, by its key there.
    Session { conn: ConnId, key: u32 },
    /// A shared subscription that this shard keeps.
    Group(u32),
}

/// A receiver of a topic: the subscriptions of one session that match, taken together (§3.3.4).
#[derive(Debug)]
pub(super) struct Target {
    pub conn: ConnId,
    pub qos: QoS,
    /// Every matching subscription says No Local.
    pub no_local: bool,
    pub retain_as_published: bool,
    /// A matching subscription wants cursors, and what is kept in its order.
    pub cursor: bool,
    /// What is kept at earlier offsets is not for it, or is found in the history that it still reads.
    pub from: Offset,
    pub subscription_ids: Box<[u32]>,
}

#[derive(Debug, Default)]
pub(super) struct Targets {
    pub sessions: Vec<Target>,
    pub groups: Vec<u32>,
    /// Shards that want what is not kept.
    pub shards: Vec<ShardId>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Memo {
    /// How often filters, rights or rules changed.
    version: u64,
    /// By the slot of the publisher's connection.
    of_publishers: Vec<Option<Box<Remembered>>>,
    last: Option<Remembered>,
}

#[derive(Debug)]
struct Remembered {
    topic: Arc<str>,
    version: u64,
    targets: Targets,
}

impl Remembered {
    fn is_about(&self, topic: &Arc<str>, version: u64) -> bool {
        self.version == version && (Arc::ptr_eq(&self.topic, topic) || self.topic == *topic)
    }
}

impl Memo {
    /// Filters, rights or rules changed.
    pub fn forget(&mut self) {
        self.version += 1;
        self.last = None;
    }

    /// The publisher is gone.
    pub fn release(&mut self, publisher: ConnId) {
        if let Some(place) = self.of_publishers.get_mut(publisher.slot()) {
            *place = None;
        }
    }

    fn of_publisher(&mut self, publisher: Option<ConnId>) -> Option<&mut Option<Box<Remembered>>> {
        self.of_publishers.get_mut(publisher?.slot())
    }

    /// Takes out what is remembered; [`Memo::put_back`] follows.
    fn take(&mut self, publisher: Option<ConnId>, topic: &Arc<str>) -> Option<Targets> {
        let version = self.version;
        if let Some(Some(known)) = self.of_publisher(publisher)
            && known.is_about(topic, version)
        {
            return Some(std::mem::take(&mut known.targets));
        }
        let known = self.last.take_if(|known| known.is_about(topic, version));
        known.map(|known| known.targets)
    }

    fn put_back(
        &mut self,
        publisher: Option<ConnId>,
        topic: &Arc<str>,
        version: u64,
        targets: Targets,
    ) {
        if self.version != version {
            return;
        }
        let remembered = |targets| Remembered {
            topic: topic.clone(),
            version,
            targets,
        };
        let Some(publisher) = publisher.filter(|_| targets.sessions.len() <= MAX_OF_PUBLISHER)
        else {
            self.last = Some(remembered(targets));
            return;
        };
        let slot = publisher.slot();
        if self.of_publishers.len() <= slot {
            self.of_publishers.resize_with(slot + 1, || None);
        }
        match self.of_publishers.get_mut(slot) {
            Some(Some(known)) if known.is_about(topic, version) => known.targets = targets,
            Some(Some(known)) => **known = remembered(targets),
            Some(place) => *place = Some(Box::new(remembered(targets))),
            None => {}
        }
    }
}

impl Shard {
    pub(super) fn may_receive(&self, conn: ConnId, topic: &str) -> bool {
        self.session(conn).is_some_and(|session| {
            self.rules
                .may_receive(topic, &session.client.identity, &*self.members)
                == Access::Allowed
        })
    }

    /// Does something with the receivers of a topic that a connection of this shard, if it is one,
    /// has published on.
    pub(super) fn with_targets(
        &mut self,
        publisher: Option<ConnId>,
        topic: &Arc<str>,
        each: impl FnOnce(&mut Self, &Targets),
    ) {
        let known = self.memo.take(publisher, topic);
        let targets = known.unwrap_or_else(|| self.find_targets(topic));
        let version = self.memo.version;
        each(self, &targets);
        self.memo.put_back(publisher, topic, version, targets);
    }

    fn find_targets(&self, topic: &str) -> Targets {
        let mut found = Vec::new();
        self.tree
            .for_each_match(topic, |subscriber| found.push(*subscriber));
        found.sort_unstable();
        let mut targets = Targets::default();
        self.peers
            .interest
            .for_each_match(topic, |shard| targets.shards.push(*shard));
        targets.shards.sort_unstable();
        targets.shards.dedup();
        let right = self.rules.right_to_receive(topic);
        let mut allowed_for: Option<(ConnId, bool)> = None;
        for subscriber in found {
            let (conn, key) = match subscriber {
                Subscriber::Group(group) => {
                    targets.groups.push(group);
                    continue;
                }
                Subscriber::Session { conn, key } => (conn, key),
            };
            let Some(session) = self.session(conn) else {
                continue;
            };
            let allowed = match allowed_for {
                Some((known, allowed)) if known == conn => allowed,
                _ => right
                    .is_held_by(&session.client.identity, &*self.members)
                    .is_allowed(),
            };
            allowed_for = Some((conn, allowed));
            if !allowed {
                continue;
            }
            let Some(subscription) = session.subscriptions.get(&key) else {
                continue;
            };
            let ids = subscription.subscription_id;
            match targets
                .sessions
                .last_mut()
                .filter(|target| target.conn == conn)
            {
                Some(target) => {
                    target.qos = target.qos.max(subscription.qos);
                    target.no_local &= subscription.no_local;
                    target.retain_as_published |= subscription.retain_as_published;
                    target.cursor |= subscription.cursor;
                    target.from = target.from.min(live_from(subscription));
                    target.subscription_ids =
                        target.subscription_ids.iter().copied().chain(ids).collect();
                }
                None => targets.sessions.push(Target {
                    conn,
                    qos: subscription.qos,
                    no_local: subscription.no_local,
                    retain_as_published: subscription.retain_as_published,
                    cursor: subscription.cursor,
                    from: live_from(subscription),
                    subscription_ids: ids.into_iter().collect(),
                }),
            }
        }
        targets
    }
}

/// The offset from which a live session gets what is kept through a subscription.
fn live_from(subscription: &Subscription) -> Offset {
    match subscription {
        Subscription {
            replaying: true, ..
        } => Offset(u64::MAX),
        Subscription { cursor: true, .. } => subscription.since,
        _ => Offset(0),
    }
}
