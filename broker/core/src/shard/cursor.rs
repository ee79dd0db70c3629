//! Subscriptions after a cursor: `$replay/after/{cursor}/{filter}`, with which a client of any
//! transport goes on where it, or another one, was.
//!
//! What the filters of one SUBSCRIBE missed is read together and in the order of the journal, and
//! what is live follows: so each kept message tells a position before which nothing is missing,
//! whichever filter it came through. While that is read, and whenever the output is full, the
//! session lags: kept messages come in their order at every QoS.
//!
//! A cursor of another journal, or from its future, is refused: the client begins anew. Where
//! entries were trimmed, the SUBACK says so (`gap`), or the next message does (`trimmed`); what
//! rules keep as history is still given, and what is retained is given as to a new subscription.

use std::collections::VecDeque;

use super::read_on::{PAGE_BYTES, Step, Wanted};
use super::{ConnId, Now, Shard};
use crate::codec::{ReasonCode, SubAck, Version};
use crate::journal::{Audience, ReadEntry};
use crate::limits::Limit;
use crate::message::{Cursor, Offset};
use crate::session::content::Content;
use crate::session::window::Origin;
use crate::session::{After, Beginning, CatchUp, CursorMark, NewSubscription, Offer, Offered};
use crate::topic;

/// What the Reason String of a refused cursor begins with.
const OTHER_JOURNAL: &str =
    "reset: the cursor is of another journal; begin anew with $replay/after/now";
const FROM_THE_FUTURE: &str =
    "reset: the journal has not come to this cursor; begin anew with $replay/after/now";

/// Why a filter is not subscribed to.
#[derive(Debug)]
pub(super) struct Refused {
    pub reason: ReasonCode,
    /// In words, if the code does not say enough.
    pub why: Option<&'static str>,
    /// The limit that it is over.
    pub limit: Option<Limit>,
}

impl Refused {
    pub fn over(reason: ReasonCode, limit: Limit) -> Self {
        Self {
            limit: Some(limit),
            ..Self::from(reason)
        }
    }
}

impl From<ReasonCode> for Refused {
    fn from(reason: ReasonCode) -> Self {
        Self {
            reason,
            why: None,
            limit: None,
        }
    }
}

/// The cursors of one SUBSCRIBE.
#[derive(Debug, Default)]
pub(super) struct Cursors {
    /// Subscriptions, and where each begins.
    subscriptions: Vec<(u32, Offset)>,
    /// The lowest of the beginnings.
    first: Option<Offset>,
    /// From where their filters are live.
    end: Offset,
    /// Up to where entries may be missing.
    gap: Option<Offset>,
}

impl Cursors {
    /// True if entries after a cursor were trimmed.
    pub const fn has_gap(&self) -> bool {
        self.gap.is_some()
    }
}

impl Shard {
    /// Whether a cursor can be gone on from.
    pub(super) fn judge_cursor(&self, cursor: Cursor) -> Result<Offset, Refused> {
        let refuse = |why| Refused {
            limit: None,
            reason: ReasonCode::ImplementationSpecificError,
            why: Some(why),
        };
        if cursor.epoch != self.epoch {
            Err(refuse(OTHER_JOURNAL))
        } else if cursor.offset > self.journal.end() {
            Err(refuse(FROM_THE_FUTURE))
        } else {
            Ok(cursor.offset)
        }
    }

    /// The cursors among new subscriptions that are live from `end` on.
    pub(super) fn begin_after(
        &self,
        new: &[NewSubscription],
        keys: &[(u32, bool)],
        end: Offset,
    ) -> Cursors {
        let mut cursors = Cursors {
            end,
            ..Cursors::default()
        };
        for (new, (key, _)) in new.iter().zip(keys) {
            if matches!(new.beginning, Beginning::Cursor(_)) {
                let from = new.beginning.cursor_or(end);
                cursors.subscriptions.push((*key, from));
                cursors.first = Some(cursors.first.map_or(from, |first| first.min(from)));
            }
        }
        if let Some(first) = cursors.first {
            let start = self.journal.start();
            cursors.gap = (first < start).then_some(start);
        }
        cursors
    }

    /// Whether answers to a client may say more than their codes [MQTT-3.1.2-29].
    pub(super) fn explains(&self, conn: ConnId) -> bool {
        self.session(conn).is_some_and(|session| {
            session.client.version == Version::V5 && session.client.problem_information
        })
    }

    /// What a SUBACK says beside its codes: the position from which the filters go on, and whether
    /// anything is missing after it.
    pub(super) fn explain_cursors(&self, ack: &mut SubAck, cursors: &Cursors) {
        let text = |offset| {
            let epoch = self.epoch;
            Cursor { epoch, offset }.to_string()
        };
        if let Some(first) = cursors.first {
            ack.user.push(("cursor".to_owned(), text(first)));
        }
        if let Some(gap) = cursors.gap {
            ack.user.push(("gap".to_owned(), text(gap)));
        }
    }

    /// What the cursors' filters missed, if anything.
    pub(super) fn finish_after(&mut self, conn: ConnId, cursors: Cursors) -> Option<CatchUp> {
        let session = self.sessions.get_mut(conn)?;
        for (key, _) in &cursors.subscriptions {
            // An earlier cursor of the same filter counts no more.
            session.forget_catch_ups(*key);
        }
        let next = cursors.first?;
        (next < cursors.end).then(|| {
            CatchUp::After(After {
                subscriptions: cursors.subscriptions,
                next,
                end: cursors.end,
                page: VecDeque::new(),
                page_next: next,
                gap_told: cursors.gap.unwrap_or(next),
            })
        })
    }

    /// One message that was missed, or the next page of them.
    pub(super) fn step_after(&mut self, now: Now, conn: ConnId, mut after: After) -> Step {
        let mut step = Step::More;
        if let Some(entry) = after.page.pop_front() {
            let offered = self.offer_missed(now, conn, &after, &entry);
            if offered == Offered::Full {
                after.page.push_front(entry);
                step = Step::Stop;
            } else {
                after.next = match after.page.is_empty() {
                    true => after.page_next,
                    false => entry.offset.next(),
                };
                self.count_offer(offered);
            }
        } else if after.next >= after.end || after.subscriptions.is_empty() {
            return Step::More;
        } else {
            step = self.next_missed(conn, &mut after);
        }
        if let Some(session) = self.sessions.get_mut(conn) {
            session.catch_ups.push_front(CatchUp::After(after));
        }
        step
    }

    fn next_missed(&mut self, conn: ConnId, after: &mut After) -> Step {
        let start = self.journal.start();
        let Some(session) = self.sessions.get_mut(conn) else {
            return Step::Stop;
        };
        if start > after.next.max(after.gap_told) {
            session.trimmed = Some(Box::new((after.next, start)));
            after.gap_told = start;
        }
        let found = after.subscriptions.iter();
        let filters: Vec<_> = found
            .filter_map(|(key, _)| Some(session.subscriptions.get(key)?.filter.clone()))
            .collect();
        let (next, end) = (after.next, after.end);
        let read = self.journal.read_history(&filters, next, end, PAGE_BYTES);
        match read.map(|page| self.without_recalled(page)) {
            Ok(read) => {
                after.page = read.entries.into();
                after.page_next = read.next.min(end);
                if after.page.is_empty() {
                    after.next = after.page_next.max(next.next());
                }
                Step::More
            }
            Err(error) => {
                // The next wake-up tries again; nothing is skipped.
                self.read_failed(&error);
                Step::Stop
            }
        }
    }

    fn offer_missed(
        &mut self,
        now: Now,
        conn: ConnId,
        after: &After,
        entry: &ReadEntry,
    ) -> Offered {
        let message = &entry.published.message;
        if entry.published.audience != Audience::Everyone || !self.may_receive(conn, &message.topic)
        {
            return Offered::Dropped;
        }
        let Some(session) = self.sessions.get_mut(conn) else {
            return Offered::Dropped;
        };
        let own_echo = message.publisher.client_id == session.client.id;
        let mut found: Option<Wanted> = None;
        for (key, from) in &after.subscriptions {
            if let Some(subscription) = session.subscriptions.get(key)
                && *from <= entry.offset
                && !(subscription.no_local && own_echo)
                && topic::matches(&subscription.filter, &message.topic)
            {
                found.get_or_insert_default().merge(subscription, message);
            }
        }
        let Some(wanted) = found else {
            return Offered::Dropped;
        };
        let offer = Offer {
            content: Content::Shared(&entry.published),
            offset: Some(entry.offset),
            qos: wanted.qos.min(message.qos),
            retain: wanted.retain,
            subscription_ids: &wanted.ids,
            origin: Origin::Own,
            cursor: CursorMark::new(wanted.cursor, self.epoch, Some(entry.offset)),
        };
        session.offer(now.unix_ms, self.options.output_bytes, offer, None)
    }
}
