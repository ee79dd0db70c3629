//! What shards say to each other: which filters they have, messages that are not kept, and shared
//! subscriptions.
//!
//! Every message carries the sender's position, and is handled only when the receiver has come as
//! far: so a message that is not kept never overtakes the kept ones that were committed before it
//! was sent. Per sender, messages are handled in order. What there is to say between two flushes is said
//! together, in messages that are short enough for others to have a turn after each.
//!
//! A *ticket* counts answers: a SUBACK or CONNACK leaves when every other shard knows the filters.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::group::Member;
use super::{ConnId, Now, Shard};
use crate::journal::{Published, ShardId};
use crate::message::Offset;
use crate::session::Subscribing;
use crate::session::content::Content;
use crate::tree::SubscriptionTree;

/// What one shard tells another.
#[derive(Debug)]
pub struct ShardMessage {
    /// The sender's position.
    after: Offset,
    /// In order.
    bodies: Vec<Body>,
}

impl ShardMessage {
    /// How many things it says: what it is to handle it, at least 1.
    pub fn weight(&self) -> usize {
        self.bodies.len()
    }
}

/// Bodies of one message: some tens of microseconds of work for who hears it.
const TOGETHER: usize = 64;

#[derive(Debug)]
pub(super) enum Body {
    /// The sender has, or no longer has, sessions with this plain filter.
    Interest {
        filter: Arc<str>,
        add: bool,
        ticket: u64,
    },
    /// A ticket of the receiver: the request was carried out.
    Done { ticket: u64 },
    /// Messages that are not kept, and match a filter of the receiver.
    Forward {
        number: u64,
        messages: Vec<Arc<Published>>,
    },
    /// A batch of the receiver was delivered or is on its way to the journal.
    Forwarded { number: u64 },
    /// A session joins the shared subscription that the receiver keeps.
    GroupJoin {
        filter: Arc<str>,
        member: Member,
        ticket: u64,
    },
    /// It left, with what it had not acknowledged.
    GroupLeave { filter: Arc<str>, conn: ConnId },
    /// A session of the receiver was chosen for a message.
    GroupDeliver {
        filter: Arc<str>,
        conn: ConnId,
        membership: u64,
        assignment: u64,
        offset: Option<Offset>,
        published: Arc<Published>,
    },
    /// The chosen session has no room.
    GroupRefuse {
        filter: Arc<str>,
        conn: ConnId,
        assignment: u64,
    },
    /// A session that had no room has it again.
    GroupReady { filter: Arc<str>, conn: ConnId },
    /// The message arrived, or is now the concern of the session that has it.
    GroupAck { filter: Arc<str>, assignment: u64 },
}

/// What goes on when a ticket is complete.
#[derive(Debug)]
pub(super) enum Then {
    ConnAck {
        conn: ConnId,
        present: bool,
    },
    /// Every shard knows the filter of a group: the joining shard may say so.
    GroupJoined {
        shard: ShardId,
        ticket: u64,
    },
    SubAck {
        conn: ConnId,
        work: Subscribing,
        keys: Vec<(u32, bool)>,
        position: Offset,
    },
}

#[derive(Debug)]
pub(super) struct Peers {
    id: ShardId,
    shards: u16,
    /// Filters of the sessions of the other shards.
    pub interest: SubscriptionTree<ShardId>,
    /// How many sessions and groups here have a filter.
    own: HashMap<Arc<str>, u32>,
    outgoing: Vec<VecDeque<Body>>,
    held: Vec<VecDeque<ShardMessage>>,
    /// What this shard tells itself: the same code path, one step later.
    local: VecDeque<Body>,
    tickets: HashMap<u64, (usize, Then)>,
    next_ticket: u64,
    forward: Vec<Vec<Arc<Published>>>,
    /// The batch that is being filled.
    current_forward: u64,
    /// Batches that were sent, with the answers that are missing.
    unanswered: VecDeque<(u64, usize)>,
}

impl Peers {
    pub fn new(id: ShardId, shards: u16) -> Self {
        let count = usize::from(shards.max(1));
        Self {
            id,
            shards: shards.max(1),
            interest: SubscriptionTree::new(),
            own: HashMap::new(),
            outgoing: (0..count).map(|_| VecDeque::new()).collect(),
            held: (0..count).map(|_| VecDeque::new()).collect(),
            local: VecDeque::new(),
            tickets: HashMap::new(),
            next_ticket: 1,
            forward: (0..count).map(|_| Vec::new()).collect(),
            current_forward: 1,
            unanswered: VecDeque::new(),
        }
    }

    pub fn send(&mut self, to: ShardId, body: Body) {
        if to == self.id {
            self.local.push_back(body);
        } else if let Some(queue) = self.outgoing.get_mut(usize::from(to)) {
            queue.push_back(body);
        }
    }

    pub fn next_local(&mut self) -> Option<Body> {
        self.local.pop_front()
    }

    /// The next message for another shard.
    pub fn poll(&mut self, position: Offset) -> Option<(ShardId, ShardMessage)> {
        self.close_forward();
        for (shard, queue) in self.outgoing.iter_mut().enumerate() {
            if !queue.is_empty() {
                let shard = ShardId::try_from(shard).ok()?;
                let bodies = queue.drain(..queue.len().min(TOGETHER)).collect();
                let after = position;
                return Some((shard, ShardMessage { after, bodies }));
            }
        }
        None
    }

    fn close_forward(&mut self) {
        let receivers = self.forward.iter().filter(|f| !f.is_empty()).count();
        if receivers == 0 {
            return;
        }
        let number = self.current_forward;
        self.current_forward += 1;
        self.unanswered.push_back((number, receivers));
        for (messages, queue) in self.forward.iter_mut().zip(&mut self.outgoing) {
            if !messages.is_empty() {
                let messages = std::mem::take(messages);
                queue.push_back(Body::Forward { number, messages });
            }
        }
    }

    /// Puts a message that is not kept into the batch for `to`; gives the batch's number.
    pub fn forward(&mut self, to: ShardId, published: Arc<Published>) -> u64 {
        if let Some(batch) = self.forward.get_mut(usize::from(to)) {
            batch.push(published);
        }
        self.current_forward
    }

    /// True if every batch up to `number` was answered by all its receivers.
    pub fn is_forwarded(&self, number: u64) -> bool {
        number < self.current_forward && self.unanswered.front().is_none_or(|(n, _)| *n > number)
    }

    fn answered(&mut self, number: u64) {
        if let Some(batch) = self.unanswered.iter_mut().find(|(n, _)| *n == number) {
            batch.1 = batch.1.saturating_sub(1);
        }
        while self
            .unanswered
            .front()
            .is_some_and(|(_, missing)| *missing == 0)
        {
            self.unanswered.pop_front();
        }
    }

    /// A ticket that is not complete before [`Shard::close_ticket`].
    pub fn new_ticket(&mut self, then: Then) -> u64 {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.tickets.insert(ticket, (1, then));
        ticket
    }

    /// Decides what goes on when the ticket is complete, once that is known.
    pub fn set_then(&mut self, ticket: u64, then: Then) {
        if let Some(entry) = self.tickets.get_mut(&ticket) {
            entry.1 = then;
        }
    }

    pub fn expect_answer(&mut self, ticket: u64) {
        if let Some((missing, _)) = self.tickets.get_mut(&ticket) {
            *missing += 1;
        }
    }

    fn answer_ticket(&mut self, ticket: u64) -> Option<Then> {
        let (missing, _) = self.tickets.get_mut(&ticket)?;
        *missing -= 1;
        if *missing > 0 {
            return None;
        }
        self.tickets.remove(&ticket).map(|(_, then)| then)
    }

    /// A filter that this shard had already changed, or one that another shard keeps: the answers
    /// tell that the others have come as far as this shard.
    pub fn confirm_interest(&mut self, filter: &Arc<str>, ticket: u64) {
        if self.own.contains_key(filter) {
            self.tell_others(filter, true, ticket);
        }
    }

    /// A session or group here has `filter`: the other shards are to forward what matches.
    pub fn add_interest(&mut self, filter: &Arc<str>, ticket: u64) {
        if self.shards == 1 {
            return;
        }
        *self.own.entry(filter.clone()).or_default() += 1;
        // Said again for each: the answer also tells that earlier ones were heard.
        self.tell_others(filter, true, ticket);
    }

    /// One session or group less has `filter`.
    pub fn remove_interest(&mut self, filter: &Arc<str>) {
        if self.shards == 1 {
            return;
        }
        let Some(count) = self.own.get_mut(filter) else {
            return;
        };
        *count -= 1;
        if *count == 0 {
            self.own.remove(filter);
            self.tell_others(filter, false, 0);
        }
    }

    fn tell_others(&mut self, filter: &Arc<str>, add: bool, ticket: u64) {
        let own = self.id;
        for shard in (0..self.shards).filter(|s| *s != own) {
            if ticket != 0 {
                self.expect_answer(ticket);
            }
            self.send(
                shard,
                Body::Interest {
                    filter: filter.clone(),
                    add,
                    ticket,
                },
            );
        }
    }
}

impl Shard {
    /// A message of another shard: at once, or when this shard has come as far as its sender.
    pub(super) fn handle_peer(&mut self, now: Now, shard: ShardId, message: ShardMessage) {
        let Some(held) = self.peers.held.get_mut(usize::from(shard)) else {
            return;
        };
        if held.is_empty() && message.after <= self.position {
            self.handle_bodies(now, shard, message.bodies);
        } else {
            held.push_back(message);
        }
    }

    /// The position moved: messages that waited for it.
    pub(super) fn release_held(&mut self, now: Now) {
        for sender in 0..self.options.shards {
            while let Some(held) = self.peers.held.get_mut(usize::from(sender))
                && held.front().is_some_and(|m| m.after <= self.position)
                && let Some(message) = held.pop_front()
            {
                self.handle_bodies(now, sender, message.bodies);
            }
        }
    }

    fn handle_bodies(&mut self, now: Now, from: ShardId, bodies: Vec<Body>) {
        for body in bodies {
            self.handle_body(now, from, body);
        }
    }

    pub(super) fn handle_local(&mut self, now: Now) -> bool {
        let Some(body) = self.peers.next_local() else {
            return false;
        };
        self.handle_body(now, self.options.id, body);
        true
    }

    fn handle_body(&mut self, now: Now, from: ShardId, body: Body) {
        match body {
            Body::Interest {
                filter,
                add,
                ticket,
            } => {
                if add {
                    self.peers.interest.insert(&filter, from);
                } else {
                    self.peers.interest.remove(&filter, &from);
                }
                self.memo.forget();
                if ticket != 0 {
                    self.peers.send(from, Body::Done { ticket });
                }
            }
            Body::Done { ticket } => self.close_ticket(now, ticket),
            Body::Forward { number, messages } => {
                for published in messages {
                    self.deliver_live(now, Content::Shared(&published));
                }
                self.peers.send(from, Body::Forwarded { number });
            }
            Body::Forwarded { number } => {
                self.peers.answered(number);
                self.resume_paused();
            }
            Body::GroupJoin {
                filter,
                member,
                ticket,
            } => {
                let joined = self.peers.new_ticket(Then::GroupJoined {
                    shard: from,
                    ticket,
                });
                self.join_group(&filter, member, joined);
                self.close_ticket(now, joined);
            }
            Body::GroupLeave { filter, conn } => self.leave_group(&filter, from, conn),
            Body::GroupDeliver {
                filter,
                conn,
                membership,
                assignment,
                offset,
                published,
            } => {
                let member = (conn, membership);
                self.deliver_shared(now, from, filter, member, assignment, offset, &published);
            }
            Body::GroupRefuse {
                filter,
                conn,
                assignment,
            } => {
                self.group_refused(&filter, from, conn, assignment);
            }
            Body::GroupReady { filter, conn } => self.group_ready(&filter, from, conn),
            Body::GroupAck { filter, assignment } => self.group_acked(&filter, assignment),
        }
    }

    /// One thing less that a ticket waits for; at 0 what waited goes on.
    pub(super) fn close_ticket(&mut self, now: Now, ticket: u64) {
        match self.peers.answer_ticket(ticket) {
            Some(Then::ConnAck { conn, present }) => self.go_online(now, conn, present),
            Some(Then::GroupJoined { shard, ticket }) => {
                self.peers.send(shard, Body::Done { ticket });
            }
            Some(Then::SubAck {
                conn,
                work,
                keys,
                position,
            }) => {
                self.finish_subscribe(now, conn, work, &keys, position);
            }
            None => {}
        }
    }
}
