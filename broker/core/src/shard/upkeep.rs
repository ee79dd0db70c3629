//! What time brings: keep alive, expiry of sessions, delayed Will Messages, positions saved lazily;
//! and the beginning and the end of a shard.

use std::sync::Arc;

use bytes::Bytes;

use super::attach::Will;
use super::commit::{Pending, plain_filter, wanted_key};
use super::{ConnId, Now, Shard, fnv1a, shard_of};
use crate::codec::ReasonCode;
use crate::journal::{Audience, Published, Record};
use crate::message::{Message, Offset, Publisher, QoS, Seq, UnixMillis};
use crate::session::content::Content;
use crate::session::{Reading, Stage};
use crate::state::{SessionChange, will_due_at};

/// How often keep alive and expiry are looked at: both are whole seconds.
const SWEEP_MS: u64 = 1000;

/// Offline sessions that one sweep ends at most; the next one goes on.
const SWEEP_SESSIONS: usize = 256;

/// Entries of the journal after which also sessions that got nothing are saved, ...
const IDLE_ENTRIES: u64 = 1000;

/// ... and so many more for each of them, in each shard, so that this stays a small part of what the
/// journal takes.
const IDLE_ENTRIES_PER_SESSION: u64 = 16;

/// What clients are told whose packets should be stored and cannot be.
pub(super) const STORE_FAILED: &str = "the message store failed: what was not acknowledged is not stored; send it \
     again when the broker was restarted";

impl Shard {
    /// The start: which filters must be kept for, and sessions whose connection a stop or crash
    /// ended without a word.
    pub(super) fn take_stock(&mut self, now: Now) {
        let mut open = Vec::new();
        let (id, shards) = (self.options.id, self.options.shards);
        let wanted = &mut self.wanted;
        self.state.for_each_session(&mut |client_id, record| {
            let key = fnv1a(client_id.as_bytes());
            for s in record
                .subscriptions
                .iter()
                .filter(|s| s.qos != QoS::AtMostOnce)
            {
                wanted.insert(plain_filter(&s.filter), wanted_key(key, &s.filter));
            }
            if record.closed_at.is_none() && shard_of(client_id, shards) == id {
                open.push((client_id.clone(), record.expiry_s));
            }
        });
        for (client_id, expiry_s) in open {
            let change = SessionChange::Closed {
                at: now.unix_ms,
                expiry_s,
                keep_will: true,
            };
            self.append(
                Record::Session { client_id, change },
                Pending::Quiet { bytes: 0 },
            );
        }
        self.tell_who_was_mentioned_before(now);
    }

    pub(super) fn handle_tick(&mut self, now: Now) {
        self.cut_off_slow_leavers(now);
        self.end_relayed(now);
        self.resume_held(now);
        if now.monotonic_ms.saturating_sub(self.last_sweep_ms) >= SWEEP_MS {
            self.last_sweep_ms = now.monotonic_ms;
            self.check_keep_alive(now);
            self.end_outdated(now);
            self.sessions.iter_mut().for_each(|s| s.out.rest());
            self.note_slow(now);
            self.forget_filters_spent(now);
            self.end_due_sessions(now);
        }
        let saved_ago = now.monotonic_ms.saturating_sub(self.last_save_ms);
        if saved_ago >= self.options.progress_interval_ms {
            self.last_save_ms = now.monotonic_ms;
            self.save_all_progress();
        }
    }

    /// One and a half times the Keep Alive without a packet [MQTT-3.1.2-22].
    fn check_keep_alive(&mut self, now: Now) {
        let silent = |s: &crate::session::Session| {
            let limit_ms = u64::from(s.keep_alive_s) * 1500;
            s.stage == Stage::Online
                && !s.paused
                && limit_ms > 0
                && now.monotonic_ms.saturating_sub(s.last_received_ms) > limit_ms
        };
        let late: Vec<ConnId> = self
            .sessions
            .iter()
            .filter(|(_, s)| silent(s))
            .map(|(conn, _)| conn)
            .collect();
        for conn in late {
            self.disconnect(
                now,
                conn,
                ReasonCode::KeepAliveTimeout,
                "nothing heard for 1.5 times the Keep Alive",
            );
        }
    }

    /// The wall clock for what cannot be taken back, milliseconds since the Unix epoch: a clock that is
    /// set forward while the broker runs does not count, for it may be set back.
    pub(super) fn careful_unix_ms(&self, now: Now) -> UnixMillis {
        let running_ms = now.monotonic_ms.saturating_sub(self.started.monotonic_ms);
        now.unix_ms
            .min(self.started.unix_ms.saturating_add(running_ms))
    }

    /// Offline sessions that expired, and Will Messages whose delay is over.
    fn end_due_sessions(&mut self, now: Now) {
        if self.poisoned.is_some() || self.shutting_down {
            return;
        }
        let careful = self.careful_unix_ms(now);
        let mut due = self.state.due_sessions(careful, SWEEP_SESSIONS);
        if careful < now.unix_ms {
            due.extend(self.state.due_sessions(now.unix_ms, SWEEP_SESSIONS));
        }
        for client_id in due {
            if shard_of(&client_id, self.options.shards) != self.options.id
                || self.by_client.contains_key(&client_id)
                || self.unsettled.contains_key(&client_id)
            {
                continue;
            }
            let Some(record) = self.state.session(&client_id) else {
                continue;
            };
            if record.expires_at().is_some_and(|end| end <= careful) {
                self.append_end_of_record(now, &client_id, &record, Pending::Quiet { bytes: 0 });
            } else if will_due_at(&record).is_some_and(|due| due <= now.unix_ms)
                && let Some(will) = record.will
            {
                self.publish_will(now, will, &record.user);
                let change = SessionChange::WillPublished;
                self.append(
                    Record::Session { client_id, change },
                    Pending::Quiet { bytes: 0 },
                );
            }
        }
    }

    fn save_all_progress(&mut self) {
        if self.poisoned.is_some() {
            return;
        }
        self.note_idle();
        let moved: Vec<ConnId> = self
            .sessions
            .iter()
            .filter(|(_, s)| s.persistent && s.progressed && s.stage == Stage::Online)
            .map(|(conn, _)| conn)
            .collect();
        let position = self.position;
        for conn in moved {
            self.save_progress(conn, position, Pending::Quiet { bytes: 0 });
        }
        self.save_groups();
    }

    /// Who is here and gets nothing moves on as well, or its record would hold the journal back, and seem
    /// to miss what was never for it.
    fn note_idle(&mut self) {
        let sessions = self.sessions.len() as u64 * u64::from(self.options.shards);
        let due = IDLE_ENTRIES + IDLE_ENTRIES_PER_SESSION * sessions;
        let since = self.position.0.saturating_sub(self.idle_saved.0);
        if since < due {
            return;
        }
        self.idle_saved = self.position;
        self.sessions.iter_mut().for_each(|s| s.progressed = true);
        self.note_idle_groups();
    }

    /// Appends where a session is: everything before its cursor was handed over, and these
    /// exchanges are unfinished.
    pub(super) fn save_progress(&mut self, conn: ConnId, position: Offset, pending: Pending) {
        let Some(session) = self.sessions.get_mut(conn) else {
            return;
        };
        session.progressed = false;
        let cursor = match session.reading {
            Reading::Live => position,
            Reading::Lagging(cursor) => cursor,
        };
        let unfinished = session.window.unfinished();
        let client_id = session.client.id.clone();
        let change = SessionChange::Progress { cursor, unfinished };
        self.append(Record::Session { client_id, change }, pending);
    }

    /// The journal takes nothing any more: what waited for it waits in vain.
    pub(super) fn handle_poisoned(&mut self, cause: Arc<str>) {
        self.batch.clear();
        for pending in self.pending.drain(..) {
            pending.waiting(&mut self.in_vain);
        }
        self.pending_bytes = 0;
        self.unsettled.clear();
        self.to_forget.clear();
        self.held_openings.clear();
        self.poisoned = Some(cause);
        let opening: Vec<ConnId> = self.openings.keys().copied().collect();
        for conn in opening {
            self.refuse(conn, ReasonCode::ServerUnavailable);
        }
        self.resume_paused();
    }

    /// Ends connections that would wait for ever. Their clients have not been told that anything is
    /// stored, so that they keep it and send it again when the broker is back: an acknowledgement that
    /// refuses it would make them drop it.
    pub(super) fn end_those_who_wait_in_vain(&mut self, now: Now) {
        let reason = ReasonCode::ImplementationSpecificError;
        for conn in std::mem::take(&mut self.in_vain) {
            // One that waits for several things is ended once.
            if self.session(conn).is_some_and(|s| s.stage == Stage::Online) {
                self.disconnect(now, conn, reason, STORE_FAILED);
            }
        }
    }

    /// A value of the `$SYS` tree.
    pub(super) fn handle_system(&mut self, now: Now, topic: Arc<str>, payload: Bytes) {
        self.system.insert(topic.clone(), payload.clone());
        let message = system_message(topic, payload);
        self.deliver_live(now, Content::Shared(&message));
    }

    /// The broker stops: sessions are saved as they are, and everybody is told.
    pub(super) fn handle_shutdown(&mut self, now: Now) {
        self.shutting_down = true;
        for conn in self.sessions.ids() {
            if self.session(conn).is_none_or(|s| s.stage == Stage::Closing) {
                continue;
            }
            self.end_session(
                now,
                conn,
                ReasonCode::ServerShuttingDown,
                Will::Publish,
                false,
            );
            self.close_connection(conn, ReasonCode::ServerShuttingDown, None);
        }
        self.save_groups();
    }

    pub(super) fn subscription_count(&self) -> u64 {
        self.sessions
            .iter()
            .map(|(_, s)| s.subscriptions.len() as u64)
            .sum()
    }
}

/// A value of the `$SYS` tree as a message of the broker.
pub(super) fn system_message(topic: Arc<str>, payload: Bytes) -> Arc<Published> {
    let nobody: Arc<str> = Arc::from("");
    Arc::new(Published {
        stream: topic.clone(),
        seq: Seq(0),
        message: Message {
            topic,
            payload,
            qos: QoS::AtMostOnce,
            retain: false,
            properties: None,
            publisher: Publisher {
                user: nobody.clone(),
                client_id: nobody,
            },
            time: 0,
        },
        history: false,
        audience: Audience::Everyone,
        inbound_packet_id: None,
        read_us: 0,
    })
}
