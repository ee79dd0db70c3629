//! Shared subscriptions (§4.8.2): a group is a reader like a session, whose output are its members.
//!
//! Each group is kept by one shard, its home. It reads as sessions do: live, or lagging from a
//! cursor. A message is assigned to one member, in turn; a member without room refuses, and the
//! message goes to the next, or the group lags. At QoS 1 a message of a member that leaves goes to
//! another; at QoS 2 it stays with the member that began to deliver it, which says so before it
//! leaves [MQTT-4.8.2-4].
//! A group with a persistent member has a record; what nobody acknowledged is assigned anew after
//! a crash.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use super::commit::{Pending, plain_filter};
use super::deliver::{append_cost, only_for};
use super::peers::Body;
use super::targets::Subscriber;
use super::{ConnId, Now, Shard, shard_of};
use crate::journal::{Audience, Published, ReadEntry, ReadError, Record, ShardId};
use crate::message::{Offset, QoS};
use crate::rules::{Identity, Membership, Rules};
use crate::session::content::Content;
use crate::session::window::Origin;
use crate::session::{CursorMark, Offer, Offered, Reading, Stage};
use crate::state::{GroupChange, GroupRecord};

/// Bytes read from the journal for one group at a time.
const PAGE_BYTES: usize = 64 * 1024;

/// A session that is subscribed to a shared subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Member {
    pub shard: ShardId,
    pub conn: ConnId,
    /// Number of this membership, given by its shard.
    pub membership: u64,
    pub qos: QoS,
    pub persistent: bool,
    pub identity: Identity,
}

#[derive(Debug)]
struct Seat {
    member: Member,
    /// It refused, and has not said that it has room again.
    blocked: bool,
    /// Whether it may receive this topic, as of this many changes of rights.
    judged: Option<(Arc<str>, u64, bool)>,
}

#[derive(Debug)]
struct Assignment {
    shard: ShardId,
    conn: ConnId,
    offset: Option<Offset>,
    published: Arc<Published>,
}

#[derive(Debug)]
struct Group {
    filter: Arc<str>,
    key: u32,
    seats: Vec<Seat>,
    next_seat: usize,
    assigned: BTreeMap<u64, Assignment>,
    /// Messages that came back from a member, before anything new.
    returned: VecDeque<(Option<Offset>, Arc<Published>)>,
    reading: Reading,
    page: VecDeque<ReadEntry>,
    page_next: Offset,
    spills: u32,
    has_record: bool,
    progressed: bool,
}

#[derive(Debug, Default)]
pub(super) struct Groups {
    by_key: BTreeMap<u32, Group>,
    keys: HashMap<Arc<str>, u32>,
    next_key: u32,
    /// Never used twice: an answer may come after its group closed and opened again.
    next_assignment: u64,
    /// Groups that may have something to read and a member with room.
    awake: VecDeque<u32>,
    /// Positions that are on their way to the journal, how many, and the newest: State does not
    /// know them, and a group that closed may open again before it does.
    unsettled: HashMap<Arc<str>, (usize, Position)>,
}

/// Cursor and unfinished offsets, as in [`GroupRecord`].
type Position = (Offset, Vec<Offset>);

impl Seat {
    fn may_receive(
        &mut self,
        topic: &Arc<str>,
        as_of: u64,
        rules: &Rules,
        members: &dyn Membership,
    ) -> bool {
        if let Some((known, when, allowed)) = &self.judged
            && *when == as_of
            && (Arc::ptr_eq(known, topic) || known == topic)
        {
            return *allowed;
        }
        let who = &self.member.identity;
        let allowed = rules.may_receive(topic, who, members).is_allowed();
        self.judged = Some((topic.clone(), as_of, allowed));
        allowed
    }
}

impl Groups {
    fn find(&mut self, filter: &str) -> Option<&mut Group> {
        let key = self.keys.get(filter)?;
        self.by_key.get_mut(key)
    }

    /// Where a group with this record is, perhaps further than State knows.
    fn newest_position(&self, filter: &str, record: GroupRecord) -> Position {
        match self.unsettled.get(filter) {
            Some((_, newest)) if newest.0 >= record.cursor => newest.clone(),
            _ => (record.cursor, record.unfinished),
        }
    }

    /// A position is in the journal, and State knows it.
    pub fn settled(&mut self, filter: &str) {
        if let Some((count, _)) = self.unsettled.get_mut(filter) {
            *count -= 1;
            if *count == 0 {
                self.unsettled.remove(filter);
            }
        }
    }

    pub fn lowest_reading(&self) -> Option<Offset> {
        let lowest = |group: &Group| {
            let open = group.assigned.values().filter_map(|a| a.offset);
            let returned = group.returned.iter().filter_map(|(offset, _)| *offset);
            let cursor = match group.reading {
                Reading::Live => None,
                Reading::Lagging(cursor) => Some(cursor),
            };
            open.chain(returned).chain(cursor).min()
        };
        self.by_key.values().filter_map(lowest).min()
    }
}

/// The shard that keeps a shared subscription.
pub(super) fn home_of(filter: &str, shards: u16) -> ShardId {
    shard_of(filter, shards)
}

impl Shard {
    /// A group reads on when the input was handled: only then `position` is behind its message.
    fn wake_group(&mut self, key: u32) {
        self.groups.awake.push_back(key);
    }

    pub(super) fn next_awake_group(&mut self) -> Option<u32> {
        self.groups.awake.pop_front()
    }

    pub(super) fn join_group(&mut self, filter: &Arc<str>, member: Member, ticket: u64) {
        if !self.groups.keys.contains_key(filter) {
            self.make_group(filter);
            let plain: Arc<str> = plain_filter(filter).into();
            self.peers.add_interest(&plain, ticket);
        } else {
            let plain: Arc<str> = plain_filter(filter).into();
            self.peers.confirm_interest(&plain, ticket);
        }
        let Some(group) = self.groups.find(filter) else {
            return;
        };
        group.has_record |= member.persistent && member.qos != QoS::AtMostOnce;
        group
            .seats
            .retain(|s| (s.member.shard, s.member.conn) != (member.shard, member.conn));
        group.seats.push(Seat {
            member,
            blocked: false,
            judged: None,
        });
        let key = group.key;
        self.wake_group(key);
    }

    fn make_group(&mut self, filter: &Arc<str>) {
        let key = self.groups.next_key;
        self.groups.next_key += 1;
        let mut group = Group {
            filter: filter.clone(),
            key,
            seats: Vec::new(),
            next_seat: 0,
            assigned: BTreeMap::new(),
            returned: VecDeque::new(),
            reading: Reading::Live,
            page: VecDeque::new(),
            page_next: self.position,
            spills: 0,
            has_record: false,
            progressed: false,
        };
        if let Some(record) = self.state.group(filter) {
            let (cursor, unfinished) = self.groups.newest_position(filter, record);
            group.reading = Reading::Lagging(cursor);
            group.has_record = true;
            for offset in unfinished {
                if let Ok(Some(published)) = self.journal.read_at(offset) {
                    group.returned.push_back((Some(offset), published));
                }
            }
        }
        self.groups.keys.insert(filter.clone(), key);
        self.groups.by_key.insert(key, group);
        let plain: Arc<str> = plain_filter(filter).into();
        self.tree.insert(&plain, Subscriber::Group(key));
        self.memo.forget();
    }

    pub(super) fn leave_group(&mut self, filter: &str, shard: ShardId, conn: ConnId) {
        let Some(group) = self.groups.find(filter) else {
            return;
        };
        group
            .seats
            .retain(|s| (s.member.shard, s.member.conn) != (shard, conn));
        let theirs: Vec<u64> = group
            .assigned
            .iter()
            .filter(|(_, a)| (a.shard, a.conn) == (shard, conn))
            .map(|(number, _)| *number)
            .collect();
        for number in theirs.into_iter().rev() {
            if let Some(assignment) = group.assigned.remove(&number) {
                group
                    .returned
                    .push_front((assignment.offset, assignment.published));
            }
        }
        group.progressed = true;
        let (key, empty) = (group.key, group.seats.is_empty());
        if empty {
            self.close_group(key);
        } else {
            self.wake_group(key);
        }
    }

    /// The last connected member left: what the record says is what stays.
    fn close_group(&mut self, key: u32) {
        self.save_group(key);
        let Some(group) = self.groups.by_key.remove(&key) else {
            return;
        };
        self.groups.keys.remove(&group.filter);
        let plain: Arc<str> = plain_filter(&group.filter).into();
        self.tree.remove(&plain, &Subscriber::Group(key));
        self.memo.forget();
        self.peers.remove_interest(&plain);
    }

    /// A message that matches the group's filter, in journal order or not kept.
    pub(super) fn offer_to_group(
        &mut self,
        key: u32,
        offset: Option<Offset>,
        published: &Arc<Published>,
    ) {
        let Some(group) = self.groups.by_key.get_mut(&key) else {
            return;
        };
        let waits = group.reading != Reading::Live || !group.returned.is_empty();
        if !waits && self.assign(key, offset, published) {
            return;
        }
        let Some(group) = self.groups.by_key.get_mut(&key) else {
            return;
        };
        match offset {
            Some(offset) if group.reading == Reading::Live => {
                group.reading = Reading::Lagging(offset);
            }
            Some(_) => {}
            None if published.message.qos == QoS::AtMostOnce => self.stats.dropped_output_full += 1,
            None => self.spill_for_group(key, published),
        }
        self.wake_group(key);
    }

    /// Puts a message into the journal for a group that has no member for it now.
    fn spill_for_group(&mut self, key: u32, published: &Arc<Published>) {
        let position = self.position;
        let Some(group) = self.groups.by_key.get_mut(&key) else {
            return;
        };
        if group.reading == Reading::Live {
            group.reading = Reading::Lagging(position);
        }
        group.spills += 1;
        let name = group.filter.clone();
        let bytes = append_cost(published);
        let pending = Pending::GroupSpilled {
            filter: name.clone(),
            bytes,
        };
        self.append_message(only_for(published, vec![name]), pending);
    }

    pub(super) fn group_spill_committed(&mut self, filter: &str) {
        let Some(group) = self.groups.find(filter) else {
            return;
        };
        group.spills = group.spills.saturating_sub(1);
        let key = group.key;
        self.wake_group(key);
    }

    /// Gives a message to the next member that has room and may receive it; false if none has.
    /// What no member may receive is nobody's.
    fn assign(&mut self, key: u32, offset: Option<Offset>, published: &Arc<Published>) -> bool {
        let Some(group) = self.groups.by_key.get_mut(&key) else {
            return true;
        };
        let count = group.seats.len();
        let topic = &published.message.topic;
        let (rules, members, as_of) = (&self.rules, &*self.members, self.access_changes);
        let mut may_anyone = count == 0;
        for turn in 0..count {
            let index = (group.next_seat + turn) % count;
            let Some(seat) = group.seats.get_mut(index) else {
                continue;
            };
            if !seat.may_receive(topic, as_of, rules, members) {
                continue;
            }
            may_anyone = true;
            if seat.blocked {
                continue;
            }
            let member = seat.member.clone();
            let qos = member.qos.min(published.message.qos);
            if member.persistent && qos == QoS::ExactlyOnce && offset.is_none() {
                // A QoS 2 exchange of a session with a record must be in the journal.
                continue;
            }
            group.next_seat = (index + 1) % count;
            let number = self.groups.next_assignment;
            self.groups.next_assignment += 1;
            if qos != QoS::AtMostOnce {
                let assignment = Assignment {
                    shard: member.shard,
                    conn: member.conn,
                    offset,
                    published: published.clone(),
                };
                group.assigned.insert(number, assignment);
                group.progressed |= offset.is_some();
            }
            let filter = group.filter.clone();
            self.peers.send(
                member.shard,
                Body::GroupDeliver {
                    filter,
                    conn: member.conn,
                    membership: member.membership,
                    assignment: number,
                    offset,
                    published: published.clone(),
                },
            );
            return true;
        }
        !may_anyone
    }

    pub(super) fn group_refused(
        &mut self,
        filter: &str,
        shard: ShardId,
        conn: ConnId,
        number: u64,
    ) {
        let Some(group) = self.groups.find(filter) else {
            return;
        };
        for seat in &mut group.seats {
            if (seat.member.shard, seat.member.conn) == (shard, conn) {
                seat.blocked = true;
            }
        }
        if let Some(assignment) = group.assigned.remove(&number) {
            let after = group
                .returned
                .iter()
                .position(|(offset, _)| *offset > assignment.offset)
                .unwrap_or(group.returned.len());
            group
                .returned
                .insert(after, (assignment.offset, assignment.published));
        }
        let key = group.key;
        self.retry_returned(key);
    }

    /// What came back goes to members that have room.
    fn retry_returned(&mut self, key: u32) {
        while let Some(group) = self.groups.by_key.get_mut(&key)
            && let Some((offset, published)) = group.returned.pop_front()
        {
            if self.assign(key, offset, &published) {
                continue;
            }
            if offset.is_none() {
                self.spill_for_group(key, &published);
                continue;
            }
            if let Some(group) = self.groups.by_key.get_mut(&key) {
                group.returned.push_front((offset, published));
            }
            return;
        }
    }

    pub(super) fn group_ready(&mut self, filter: &str, shard: ShardId, conn: ConnId) {
        let Some(group) = self.groups.find(filter) else {
            return;
        };
        for seat in &mut group.seats {
            if (seat.member.shard, seat.member.conn) == (shard, conn) {
                seat.blocked = false;
            }
        }
        let key = group.key;
        self.wake_group(key);
    }

    pub(super) fn group_acked(&mut self, filter: &str, number: u64) {
        let Some(group) = self.groups.find(filter) else {
            return;
        };
        if let Some(assignment) = group.assigned.remove(&number) {
            group.progressed |= assignment.offset.is_some();
        }
        let key = group.key;
        self.wake_group(key);
    }

    /// Assigns what came back, then what the journal has, until no member has room.
    pub(super) fn group_reads_on(&mut self, key: u32) {
        self.retry_returned(key);
        let position = self.position;
        while let Some(group) = self.groups.by_key.get_mut(&key) {
            let Reading::Lagging(cursor) = group.reading else {
                return;
            };
            if !group.returned.is_empty() || !group.seats.iter().any(|seat| !seat.blocked) {
                return;
            }
            let Some(entry) = group.page.pop_front() else {
                if cursor >= position {
                    if group.spills == 0 {
                        group.reading = Reading::Live;
                    }
                    return;
                }
                if !self.next_group_page(key, cursor) {
                    return;
                }
                continue;
            };
            let next = if group.page.is_empty() {
                group.page_next
            } else {
                entry.offset.next()
            };
            let is_told = entry.published.message.qos != QoS::AtMostOnce;
            let for_group = match &entry.published.audience {
                Audience::Everyone | Audience::Growing => is_told,
                Audience::Only(names) => names.contains(&group.filter),
            };
            let for_group = for_group && self.still_counts(entry.offset, &entry.published);
            if for_group && !self.assign(key, Some(entry.offset), &entry.published) {
                if let Some(group) = self.groups.by_key.get_mut(&key) {
                    group.page.push_front(entry);
                }
                return;
            }
            if let Some(group) = self.groups.by_key.get_mut(&key) {
                group.reading = Reading::Lagging(next);
                group.progressed = true;
            }
        }
    }

    fn next_group_page(&mut self, key: u32, cursor: Offset) -> bool {
        let Some(group) = self.groups.by_key.get_mut(&key) else {
            return false;
        };
        let filters: [Arc<str>; 1] = [plain_filter(&group.filter).into()];
        match self
            .journal
            .read(&filters, cursor, self.position, PAGE_BYTES)
        {
            Ok(page) => {
                group.page_next = page.next.min(self.position);
                group.page = page.entries.into();
                if group.page.is_empty() {
                    group.reading = Reading::Lagging(group.page_next.max(cursor));
                    group.progressed = true;
                    return group.page_next > cursor;
                }
                true
            }
            Err(ReadError::Trimmed { first }) => {
                group.reading = Reading::Lagging(first.max(cursor.next()));
                true
            }
            Err(error) => {
                self.read_failed(&error);
                false
            }
        }
    }

    /// A session of this shard was chosen.
    #[expect(
        clippy::too_many_arguments,
        reason = "the fields of one message between shards"
    )]
    pub(super) fn deliver_shared(
        &mut self,
        now: Now,
        home: ShardId,
        filter: Arc<str>,
        (conn, membership): (ConnId, u64),
        assignment: u64,
        offset: Option<Offset>,
        published: &Arc<Published>,
    ) {
        let published = &self.redact(published.clone());
        let allowed = self.may_receive(conn, &published.message.topic);
        let Some(session) = self.sessions.get_mut(conn) else {
            return;
        };
        let Some((_, subscription)) = session.find_subscription(&filter) else {
            return;
        };
        // The group hears, or has heard, that the member left, and gives the message to another.
        if session.stage == Stage::Closing || subscription.membership != membership {
            return;
        }
        let mut qos = subscription.qos.min(published.message.qos);
        if !allowed && qos != QoS::AtMostOnce {
            // It may not any more; the group knows by now, and finds another.
            self.hand_back_shared(filter, conn, assignment);
            return;
        }
        if session.persistent && offset.is_none() {
            // The group chose it at QoS 1; the filter was raised meanwhile.
            qos = qos.min(QoS::AtLeastOnce);
        }
        let retain = subscription.retain_as_published && published.message.retain;
        let ids: Vec<u32> = subscription.subscription_id.into_iter().collect();
        let offered = if !allowed {
            Offered::Dropped
        } else if session.stage == Stage::Attaching {
            Offered::Full
        } else {
            let origin = Origin::Group {
                filter: filter.clone(),
                assignment,
            };
            let offer = Offer {
                content: Content::Shared(published),
                offset,
                qos,
                retain,
                subscription_ids: &ids,
                origin,
                cursor: CursorMark::Untold,
            };
            session.offer(now.unix_ms, self.options.output_bytes, offer, None)
        };
        match offered {
            Offered::Full if qos == QoS::AtMostOnce => self.stats.dropped_output_full += 1,
            Offered::Full => {
                session.refused_groups.push_back(filter.clone());
                self.peers.send(
                    home,
                    Body::GroupRefuse {
                        filter,
                        conn,
                        assignment,
                    },
                );
                // Room may have come meanwhile: then the group hears so at once.
                self.wake_reader(conn);
                return;
            }
            Offered::Sent => {
                self.count_offer(offered);
                self.after_offer(conn);
                return;
            }
            Offered::Dropped => self.stats.dropped_denied += 1,
            Offered::Expired | Offered::TooLarge => self.count_offer(offered),
        }
        if qos != QoS::AtMostOnce {
            self.peers.send(home, Body::GroupAck { filter, assignment });
        }
    }

    /// The group gives a message to another member: this one may not receive it.
    pub(super) fn hand_back_shared(&mut self, filter: Arc<str>, conn: ConnId, assignment: u64) {
        let home = home_of(&filter, self.options.shards);
        let refuse = Body::GroupRefuse {
            filter: filter.clone(),
            conn,
            assignment,
        };
        self.peers.send(home, refuse);
        self.peers.send(home, Body::GroupReady { filter, conn });
    }

    /// A member's client acknowledged a shared message.
    pub(super) fn acknowledge_shared(&mut self, filter: Arc<str>, assignment: u64) {
        let home = home_of(&filter, self.options.shards);
        self.peers.send(home, Body::GroupAck { filter, assignment });
    }

    /// All are saved next time, also those that got nothing.
    pub(super) fn note_idle_groups(&mut self) {
        let groups = self.groups.by_key.values_mut();
        groups.for_each(|group| group.progressed = true);
    }

    pub(super) fn save_groups(&mut self) {
        let mut keys: Vec<u32> = self
            .groups
            .by_key
            .values()
            .filter(|g| g.progressed)
            .map(|g| g.key)
            .collect();
        // The same inputs give the same outputs.
        keys.sort_unstable();
        for key in keys {
            self.save_group(key);
        }
    }

    fn save_group(&mut self, key: u32) {
        let position = self.position;
        let Some(group) = self.groups.by_key.get_mut(&key) else {
            return;
        };
        if !group.has_record || !std::mem::take(&mut group.progressed) {
            return;
        }
        let cursor = match group.reading {
            Reading::Live => position,
            Reading::Lagging(cursor) => cursor,
        };
        let returned = group.returned.iter().filter_map(|(offset, _)| *offset);
        let mut unfinished: Vec<Offset> = group
            .assigned
            .values()
            .filter_map(|a| a.offset)
            .chain(returned)
            .collect();
        unfinished.sort_unstable();
        let filter = group.filter.clone();
        let unsettled = self.groups.unsettled.entry(filter.clone()).or_default();
        unsettled.0 += 1;
        unsettled.1 = (cursor, unfinished.clone());
        let change = GroupChange::Progress { cursor, unfinished };
        self.append(
            Record::Group { filter, change },
            Pending::Quiet { bytes: 0 },
        );
    }
}
