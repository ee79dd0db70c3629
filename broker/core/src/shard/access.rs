//! Rights that change while clients are connected, and clients that are told what they may not.
//!
//! Who may receive is asked again for each delivery, and remembered per topic only until rights
//! change; what waits (a window, a lagging session, a message on its way through the journal) is
//! judged when it is sent. What is encoded already can only be written or not: who left a room and does
//! not read is cut off, and comes back to what may still be received. A new member gets what is
//! retained in the room without subscribing again.
//!
//! A refused publish of MQTT 3 has no acknowledgement that says so, and one that does not would
//! claim that the message is stored. So the user is told on `user/{user}/inbox`, and when that is
//! stored and delivered the connection is closed, at QoS 1 and 2.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt::Write as _;
use std::sync::Arc;

use bytes::Bytes;

use super::attach::Will;
use super::commit::Pending;
use super::deliver::append_cost;
use super::{ConnId, Now, Shard};
use crate::codec::ReasonCode;
use crate::message::{Message, Publisher, QoS};
use crate::rooms::AccessChange;
use crate::rules::{Identity, IdentityKind, Rules};
use crate::session::content::Content;
use crate::session::{CatchUp, Session, Stage};
use crate::topic;

/// Between two notices to one connection about refused QoS 0 messages, which end nothing.
const NOTICE_INTERVAL_MS: u64 = 1000;

/// How long the output of who left a room may take: shorter than the second in which rights must
/// bite, ticks included.
const LEAVE_MS: u64 = 500;

/// A connection whose output may hold what its user may not receive any more.
#[derive(Debug)]
struct Leaver {
    conn: ConnId,
    /// Bytes of the output from before.
    unwritten: usize,
    until_ms: u64,
}

/// Connections that hear, or heard, that they may not publish, and those that lost a room.
#[derive(Debug, Default)]
pub(super) struct Notices {
    /// They are closed when the journal has the notice; what they send is not looked at.
    closing: HashSet<ConnId>,
    /// When a connection was last told about QoS 0 messages, for as long as it is not told again.
    told_ms: HashMap<ConnId, u64>,
    leavers: Vec<Leaver>,
}

impl Notices {
    /// True if the connection is only waiting for its notice.
    pub fn is_closing(&self, conn: ConnId) -> bool {
        !self.closing.is_empty() && self.closing.contains(&conn)
    }

    /// Output was written.
    pub fn wrote(&mut self, conn: ConnId, bytes: usize) {
        if self.leavers.is_empty() {
            return;
        }
        for leaver in self.leavers.iter_mut().filter(|l| l.conn == conn) {
            leaver.unwritten = leaver.unwritten.saturating_sub(bytes);
        }
        self.leavers.retain(|leaver| leaver.unwritten > 0);
    }

    fn may_tell(&mut self, conn: ConnId, now: Now) -> bool {
        let now_ms = now.monotonic_ms;
        let is_recent = |told: u64| now_ms.saturating_sub(told) < NOTICE_INTERVAL_MS;
        if self.told_ms.get(&conn).is_some_and(|told| is_recent(*told)) {
            return false;
        }
        self.told_ms.retain(|_, told| is_recent(*told));
        self.told_ms.insert(conn, now_ms);
        true
    }
}

impl Shard {
    /// Rights changed: nothing that was remembered of them counts any more.
    pub(super) fn handle_access_changed(&mut self, now: Now, changes: &[AccessChange]) {
        // What is staged is judged by what was true before, and again when it is sent.
        self.stage_exchanges();
        self.forget_access();
        let mut joined: HashMap<&str, Vec<&str>> = HashMap::new();
        let mut left: HashSet<&str> = HashSet::new();
        for change in changes {
            match change {
                AccessChange::Joined { room, user } => joined.entry(user).or_default().push(room),
                AccessChange::Left { user, .. } => {
                    left.insert(user);
                }
                AccessChange::Other => {}
            }
        }
        if !left.is_empty() {
            self.note_leavers(now, |session| left.contains(&*session.client.identity.user));
        }
        if joined.is_empty() {
            return;
        }
        let members: Vec<(ConnId, &Vec<&str>)> = self
            .sessions
            .iter()
            .filter(|(_, s)| s.stage == Stage::Online && !s.subscriptions.is_empty())
            .filter_map(|(conn, s)| Some((conn, joined.get(&*s.client.identity.user)?)))
            .collect();
        for (conn, rooms) in members {
            for room in rooms {
                self.catch_up_with_room(conn, room);
            }
        }
    }

    /// Other rules count. Who may receive less by them is not known, so whoever does not read in
    /// time what was written before is cut off.
    pub(super) fn handle_rules_changed(&mut self, now: Now, rules: Arc<Rules>) {
        self.stage_exchanges();
        self.rules = rules;
        self.forget_access();
        self.note_leavers(now, |_| true);
    }

    /// Connections that may have lost a right, with output from before.
    fn note_leavers(&mut self, now: Now, has_lost: impl Fn(&Session) -> bool) {
        let leavers = self
            .sessions
            .iter()
            .filter(|(_, session)| has_lost(session))
            .map(|(conn, s)| Leaver {
                conn,
                unwritten: s.out.pending().len(),
                until_ms: now.monotonic_ms + LEAVE_MS,
            })
            .filter(|leaver| leaver.unwritten > 0);
        self.notices.leavers.extend(leavers);
    }

    /// Ends the connections that did not read what was written for them before they lost a room.
    pub(super) fn cut_off_slow_leavers(&mut self, now: Now) {
        if self.notices.leavers.is_empty() {
            return;
        }
        let is_due = |leaver: &mut Leaver| leaver.until_ms <= now.monotonic_ms;
        let due: Vec<Leaver> = self.notices.leavers.extract_if(.., is_due).collect();
        for Leaver { conn, .. } in due {
            let reason = ReasonCode::NotAuthorized;
            self.end_session(now, conn, reason, Will::Publish, false);
            if let Some(session) = self.sessions.get_mut(conn) {
                session.out.discard();
                self.close_silently(conn, reason);
            }
        }
    }

    pub(super) fn forget_access(&mut self) {
        self.memo.forget();
        self.access_changes += 1;
    }

    /// What is retained in a room that the client may see from now on.
    fn catch_up_with_room(&mut self, conn: ConnId, room: &str) {
        let before = self.position;
        let mut retained: Vec<Arc<str>> = Vec::new();
        for filter in self.rules.filters_about_room(room) {
            self.state.for_each_retained(&filter, before, &mut |found| {
                retained.push(found.published.message.topic.clone());
            });
        }
        let Some(session) = self.sessions.get_mut(conn) else {
            return;
        };
        for (key, subscription) in &session.subscriptions {
            let topics: VecDeque<_> = retained
                .iter()
                .filter(|name| !subscription.shared && topic::matches(&subscription.filter, name))
                .cloned()
                .collect();
            if !topics.is_empty() {
                session.catch_ups.push_back(CatchUp::Retained {
                    subscription: *key,
                    topics,
                    before,
                });
            }
        }
        self.wake_reader(conn);
    }

    /// Tells a client of MQTT 3 that a publish was refused, and ends its connection if it waits
    /// for an acknowledgement.
    pub(super) fn refuse_publish_of_v3(
        &mut self,
        now: Now,
        conn: ConnId,
        qos: QoS,
        topic: &str,
        (reason, text): (ReasonCode, &str),
    ) {
        let notice = self.notice(now, conn, qos, topic, reason, text);
        let Some(message) = notice else {
            if qos != QoS::AtMostOnce {
                self.disconnect(now, conn, reason, text);
            }
            return;
        };
        let route = self.find_route(None, &message.topic, &Identity::broker());
        let published = Arc::new(route.published(message));
        if !published.history && !route.wanted {
            self.spread(now, Content::Shared(&published), None);
            if qos != QoS::AtMostOnce {
                self.disconnect(now, conn, reason, text);
            }
            return;
        }
        let bytes = append_cost(&published);
        if qos == QoS::AtMostOnce {
            self.append_message(published, Pending::Quiet { bytes });
        } else {
            self.notices.closing.insert(conn);
            self.append_message(published, Pending::Refused { conn, bytes });
        }
    }

    /// The notice, unless there is nobody to tell, no place that only the user reads, or the
    /// connection was told just now.
    fn notice(
        &mut self,
        now: Now,
        conn: ConnId,
        qos: QoS,
        topic: &str,
        reason: ReasonCode,
        text: &str,
    ) -> Option<Message> {
        if self.poisoned.is_some() || self.pending_bytes > self.options.append_queue_bytes {
            return None;
        }
        let who = self.session(conn)?.client.identity.clone();
        if who.kind != IdentityKind::User {
            return None;
        }
        let inbox = self.private_inbox(&who)?;
        if qos == QoS::AtMostOnce && !self.notices.may_tell(conn, now) {
            return None;
        }
        let nobody: Arc<str> = Arc::from("");
        Some(Message {
            topic: inbox,
            payload: refusal_json(topic, reason, text),
            qos: QoS::AtLeastOnce,
            retain: false,
            properties: None,
            publisher: Publisher {
                user: nobody.clone(),
                client_id: nobody,
            },
            time: now.unix_ms,
        })
    }

    /// Where a user is told things, if only the user reads there.
    pub(super) fn private_inbox(&self, who: &Identity) -> Option<Arc<str>> {
        let inbox = format!("user/{}/inbox", who.user);
        let decision = self.rules.decide(&inbox);
        let reads = |who| decision.may_receive(who, &*self.members).is_allowed();
        (reads(who) && !reads(&Identity::anonymous())).then(|| inbox.into())
    }

    /// The journal has the notice, and whoever listens to it here has it in the output.
    pub(super) fn refusal_told(&mut self, now: Now, conn: ConnId) {
        self.notices.closing.remove(&conn);
        let text = "publish refused; see the inbox";
        self.disconnect(now, conn, ReasonCode::NotAuthorized, text);
    }
}

/// `{"event":"refused","topic":...,"reason":135,"text":...}`
fn refusal_json(topic: &str, reason: ReasonCode, text: &str) -> Bytes {
    let mut json = String::from("{\"event\":\"refused\",\"topic\":");
    push_json(&mut json, topic);
    // Writing to a String cannot fail.
    let _ = write!(json, ",\"reason\":{},\"text\":", reason as u8);
    push_json(&mut json, text);
    json.push('}');
    json.into()
}

pub(super) fn push_json(json: &mut String, text: &str) {
    json.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => json.extend(['\\', c]),
            c if c.is_control() => {
                let _ = write!(json, "\\u{:04x}", u32::from(c));
            }
            c => json.push(c),
        }
    }
    json.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_cannot_break_out_of_the_notice() {
        let json = refusal_json("a\"b\\c\n", ReasonCode::NotAuthorized, "no");
        let expected = "{\"event\":\"refused\",\"topic\":\"a\\\"b\\\\c\\u000a\",\"reason\":135,\"text\":\"no\"}";
        assert_eq!(json, expected);
    }
}
