//! State: what the journal says, indexed. Retained messages, sessions that outlive their
//! connection, shared subscriptions, stream heads, accounts, changes of messages.
//!
//! This module owns the records and how a journal entry changes them, so that every
//! implementation (in memory, sled) and every recovery agrees. It does not know where the records
//! are kept.

use std::sync::Arc;

use crate::account::AccountRecord;
use crate::journal::{Batch, Published};
use crate::message::{Message, Offset, QoS, Seq, UnixMillis};
use crate::messages::ChangeRecord;
use crate::topic::ReplayFrom;

/// Session Expiry Interval that means "never" (§3.1.2.11.2).
pub const NEVER_EXPIRES: u32 = u32::MAX;

/// How far an outbound exchange has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// QoS 1: PUBLISH sent, PUBACK awaited.
    AwaitPubAck,
    /// QoS 2: PUBLISH sent, PUBREC awaited.
    AwaitPubRec,
    /// QoS 2: PUBREC received, PUBREL sent, PUBCOMP awaited.
    AwaitPubComp,
}

/// An outbound exchange that is not finished (§4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unfinished {
    /// Packet Identifier of the exchange.
    pub packet_id: u16,
    /// The journal entry that is being delivered.
    pub offset: Offset,
    /// How far it has come.
    pub phase: Phase,
    /// QoS of the delivery: at most that of the message.
    pub qos: QoS,
}

/// A subscription of a session that outlives its connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscriptionRecord {
    /// Topic Filter: plain, or `$share/{group}/{filter}`. Never `$replay/...`.
    pub filter: Arc<str>,
    /// Maximum QoS granted.
    pub qos: QoS,
    /// No Local (§3.8.3.1).
    pub no_local: bool,
    /// Retain As Published (§3.8.3.1).
    pub retain_as_published: bool,
    /// Subscription Identifier (§3.8.2.1.2).
    pub subscription_id: Option<u32>,
    /// Entries before it are not delivered: a new filter on an old session receives no history.
    pub since: Offset,
    /// Its messages are told with the position after them (`$replay/after/...`).
    pub cursor: bool,
}

/// A Will Message that waits for its connection to end (§3.1.2.5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WillRecord {
    /// What is to be published; `time` is that of the CONNECT.
    pub message: Message,
    /// Will Delay Interval, seconds (§3.1.3.2.2).
    pub delay_s: u32,
}

/// Session State of a session that outlives its connection (§4.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionRecord {
    /// The authenticated user that owns it; empty for an anonymous one.
    pub user: Arc<str>,
    /// Session Expiry Interval, seconds; [`NEVER_EXPIRES`].
    pub expiry_s: u32,
    /// When the connection ended; `None` while connected, or if the broker stopped first.
    pub closed_at: Option<UnixMillis>,
    /// Everything before it was handed to the client once; reading goes on here.
    pub cursor: Offset,
    /// Exchanges before `cursor` that are not finished, in the order they were sent: at most the
    /// Receive Maximum.
    pub unfinished: Vec<Unfinished>,
    /// Packet Identifiers of inbound QoS 2 messages that are stored and not yet released.
    pub inbound_qos2: Vec<u16>,
    /// What it is subscribed to.
    pub subscriptions: Vec<SubscriptionRecord>,
    /// Will of the connection that is or was there, until published or withdrawn.
    pub will: Option<WillRecord>,
}

impl Retained {
    /// Bytes of topic and payload: what it counts for.
    pub fn bytes(&self) -> u64 {
        let message = &self.published.message;
        (message.topic.len() + message.payload.len()) as u64
    }
}

impl SessionRecord {
    /// The first journal offset that the session still needs.
    pub fn position(&self) -> Offset {
        self.unfinished
            .iter()
            .map(|u| u.offset)
            .fold(self.cursor, Offset::min)
    }

    /// When the session expires; `None` while connected or if it never does.
    pub fn expires_at(&self) -> Option<UnixMillis> {
        if self.expiry_s == NEVER_EXPIRES {
            return None;
        }
        Some(
            self.closed_at?
                .saturating_add(u64::from(self.expiry_s) * 1000),
        )
    }
}

/// A change of one persistent session, as the journal keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionChange {
    /// A connection opened the session: an existing one goes on, with `clean` a new one replaces it.
    Opened {
        /// The authenticated user.
        user: Arc<str>,
        /// Session Expiry Interval, seconds.
        expiry_s: u32,
        /// True if Session State starts empty.
        clean: bool,
        /// Will of this connection.
        will: Option<Box<WillRecord>>,
    },
    /// A filter was added or replaced. `since` of the record in the journal is not used: a new
    /// filter starts after the entry itself; a replaced one keeps its `since`, unless it was of
    /// QoS 0: what it delivered so far came without regard to the cursor.
    Subscribed(SubscriptionRecord),
    /// A filter was removed.
    Unsubscribed {
        /// The Topic Filter.
        filter: Arc<str>,
    },
    /// Delivery moved on.
    Progress {
        /// As in [`SessionRecord::cursor`].
        cursor: Offset,
        /// As in [`SessionRecord::unfinished`], complete.
        unfinished: Vec<Unfinished>,
    },
    /// An inbound QoS 2 exchange was released by PUBREL.
    Released {
        /// Its Packet Identifier, free again.
        packet_id: u16,
    },
    /// The connection ended and the session stays.
    Closed {
        /// When.
        at: UnixMillis,
        /// Session Expiry Interval that now counts, seconds.
        expiry_s: u32,
        /// False if the Will Message was withdrawn by a normal DISCONNECT.
        keep_will: bool,
    },
    /// The Will Message was published.
    WillPublished,
    /// The session is gone: it expired, was replaced by a clean one, or was removed. `filters`
    /// are those it had, so that no one has to look them up.
    Ended {
        /// The Topic Filters it had.
        filters: Vec<(Arc<str>, QoS)>,
    },
}

/// Position of a shared subscription (§4.8.2) that has a persistent member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupRecord {
    /// Entries before it were handed to a member.
    pub cursor: Offset,
    /// Offsets before `cursor` that no member has acknowledged.
    pub unfinished: Vec<Offset>,
    /// Number of persistent sessions that are subscribed.
    pub members: u32,
}

impl GroupRecord {
    /// The first journal offset that the group still needs.
    pub fn position(&self) -> Offset {
        self.unfinished
            .iter()
            .copied()
            .fold(self.cursor, Offset::min)
    }
}

/// A change of a shared subscription, as the journal keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupChange {
    /// Delivery moved on.
    Progress {
        /// As in [`GroupRecord::cursor`].
        cursor: Offset,
        /// As in [`GroupRecord::unfinished`], complete.
        unfinished: Vec<Offset>,
    },
}

/// True if a filter that is subscribed again begins anew: see [`SessionChange::Subscribed`].
pub fn raises_from_qos0(old: QoS, new: QoS) -> bool {
    old == QoS::AtMostOnce && new != QoS::AtMostOnce
}

/// What [`apply_session_change`] leaves behind.
#[derive(Debug, PartialEq, Eq)]
pub enum Applied {
    /// The record was created or changed.
    Present,
    /// The record is gone.
    Gone,
}

/// Applies `change`, found at `offset`, to the record of a session. Changes other than `Opened` of
/// a session that is not there are ignored: they are older than its end.
pub fn apply_session_change(
    record: &mut Option<SessionRecord>,
    offset: Offset,
    change: &SessionChange,
) -> Applied {
    if let SessionChange::Opened {
        user,
        expiry_s,
        clean,
        will,
    } = change
    {
        let fresh = || SessionRecord {
            user: user.clone(),
            expiry_s: *expiry_s,
            closed_at: None,
            cursor: offset.next(),
            unfinished: Vec::new(),
            inbound_qos2: Vec::new(),
            subscriptions: Vec::new(),
            will: None,
        };
        let session = match record {
            Some(session) if !clean => session,
            _ => record.insert(fresh()),
        };
        session.user = user.clone();
        session.expiry_s = *expiry_s;
        session.closed_at = None;
        session.will = will.as_deref().cloned();
        return Applied::Present;
    }
    let Some(session) = record else {
        return Applied::Gone;
    };
    match change {
        SessionChange::Opened { .. } => {}
        SessionChange::Subscribed(new) => {
            let mut new = new.clone();
            match session
                .subscriptions
                .iter_mut()
                .find(|s| s.filter == new.filter)
            {
                Some(old) => {
                    new.since = if raises_from_qos0(old.qos, new.qos) {
                        offset.next()
                    } else {
                        old.since
                    };
                    *old = new;
                }
                None => {
                    new.since = offset.next();
                    session.subscriptions.push(new);
                }
            }
        }
        SessionChange::Unsubscribed { filter } => {
            session.subscriptions.retain(|s| s.filter != *filter);
        }
        SessionChange::Progress { cursor, unfinished } => {
            session.cursor = *cursor;
            session.unfinished.clone_from(unfinished);
        }
        SessionChange::Released { packet_id } => {
            session.inbound_qos2.retain(|id| id != packet_id);
        }
        SessionChange::Closed {
            at,
            expiry_s,
            keep_will,
        } => {
            session.closed_at = Some(*at);
            session.expiry_s = *expiry_s;
            if !keep_will {
                session.will = None;
            }
        }
        SessionChange::WillPublished => session.will = None,
        SessionChange::Ended { .. } => {
            *record = None;
            return Applied::Gone;
        }
    }
    Applied::Present
}

/// A retained message (§3.3.1.3) with the place of its publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retained {
    /// Offset of the publish that set it.
    pub offset: Offset,
    /// The message as it was published.
    pub published: Arc<Published>,
}

/// How many retained messages there are, and how large they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RetainedSum {
    /// Messages.
    pub count: u64,
    /// Bytes of their topics and payloads.
    pub bytes: u64,
}

impl RetainedSum {
    /// One more.
    pub fn add(&mut self, retained: &Retained) {
        self.count += 1;
        self.bytes += retained.bytes();
    }

    /// One less, of those that were added.
    pub fn take(&mut self, retained: &Retained) {
        self.count -= 1;
        self.bytes -= retained.bytes();
    }
}

/// The state of the broker at a journal offset. Calls may come from every shard's thread at once.
///
/// # Contract
/// * [`State::apply`] is called by one thread, with every batch in order, before any shard sees
///   that batch. Reading sees everything applied.
/// * A `Published` with the RETAIN flag sets the retained message of its topic, or removes it if
///   the payload is empty [MQTT-3.3.1-6]; one with `inbound_packet_id` adds that identifier to the
///   session of its publisher, if there is one; each moves the head of its stream.
/// * A `Published` that is an edit, a recall or a reaction (see [`crate::messages`]) sets the
///   [`ChangeRecord`] of the message that it is about in the place of an earlier one of its kind, and
///   for reactions of its user; a reaction without text removes it.
/// * One of [`Audience::Growing`](crate::journal::Audience::Growing) does so only if its number is
///   larger than the retained one.
/// * A `Subscribed`, `Unsubscribed` or `Ended` of a session, or an `Opened` with `clean`, on a
///   `$share/...` filter moves the group's member count; a group appears with its first member
///   (cursor after that entry) and goes with its last.
pub trait State: Send + Sync {
    /// The offset up to which the journal is applied.
    fn applied(&self) -> Offset;

    /// Applies one batch. Batches, or entries, before [`State::applied`] are skipped.
    fn apply(&self, batch: &Batch);

    /// The session of a client, if it outlives its connection.
    fn session(&self, client_id: &str) -> Option<SessionRecord>;

    /// Every session, in no particular order.
    fn for_each_session(&self, visit: &mut dyn FnMut(&Arc<str>, &SessionRecord));

    /// Sessions whose expiry, or whose Will Message delay, ended by `now`: at most `limit`.
    fn due_sessions(&self, now: UnixMillis, limit: usize) -> Vec<Arc<str>>;

    /// The shared subscription `$share/{group}/{filter}`, if it has a persistent member.
    fn group(&self, filter: &str) -> Option<GroupRecord>;

    /// The account of a user.
    fn account(&self, user: &str) -> Option<AccountRecord>;

    /// Every account, in the order of names.
    fn for_each_account(&self, visit: &mut dyn FnMut(&Arc<str>, &AccountRecord));

    /// Retained messages whose topic matches the plain filter and whose offset is before `before`.
    fn for_each_retained(&self, filter: &str, before: Offset, visit: &mut dyn FnMut(&Retained));

    /// Number of retained messages.
    fn retained_count(&self) -> u64;

    /// Bytes of their topics and payloads.
    fn retained_bytes(&self) -> u64;

    /// The same of those that a user published; nothing for those without a name.
    fn retained_of(&self, user: &str) -> RetainedSum;

    /// Number of sessions.
    fn session_count(&self) -> u64;

    /// The number of the last message of a stream; 0 if there is none.
    fn stream_head(&self, stream: &str) -> Seq;

    /// How a message of a stream was changed: at most `limit` records, the recall and the newest edit
    /// first, then reactions in the order of users.
    fn changes(&self, stream: &str, of: Seq, limit: usize) -> Vec<ChangeRecord>;

    /// Recalls of messages of a stream with a seq of at least `from` and at most `to`, in the order
    /// of those.
    fn for_each_recall(
        &self,
        stream: &str,
        from: Seq,
        to: Seq,
        visit: &mut dyn FnMut(&ChangeRecord),
    );

    /// Every stream whose name begins with `prefix`, and the number of its last message, in no
    /// particular order.
    fn for_each_stream(&self, prefix: &str, visit: &mut dyn FnMut(&Arc<str>, Seq));

    /// The first journal offset that a session or a group still needs; `None` if none does.
    fn lowest_position(&self) -> Option<Offset>;
}

/// The retained message of a topic.
pub fn retained_on(state: &dyn State, topic: &str) -> Option<Retained> {
    let mut found = None;
    state.for_each_retained(topic, Offset(u64::MAX), &mut |retained| {
        found = Some(retained.clone());
    });
    found
}

/// The number that a payload is: decimal digits and nothing else; `None`: it is none.
pub fn growing_number(payload: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(payload).ok()?;
    // What `parse` takes besides.
    if text.starts_with('+') {
        return None;
    }
    text.parse().ok()
}

/// When the Will Message of an offline session is due; `None` if it has none (§3.1.3.2.2: the
/// Will Delay, or the end of the session if that is earlier).
pub fn will_due_at(session: &SessionRecord) -> Option<UnixMillis> {
    let will = session.will.as_ref()?;
    let delay = session
        .closed_at?
        .saturating_add(u64::from(will.delay_s) * 1000);
    Some(session.expires_at().map_or(delay, |end| delay.min(end)))
}

/// Selects history for [`ReplayFrom`]: true if `published` is wanted.
pub fn replay_wants(from: ReplayFrom, published: &Published) -> bool {
    match from {
        ReplayFrom::Last(_) => true,
        ReplayFrom::Seq(seq) => published.seq >= Seq(seq),
        ReplayFrom::Ts(ms) => published.message.time >= ms,
    }
}
