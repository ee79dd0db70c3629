//! Sessions that take less than there is for them: found at each sweep, and listed for people who look
//! after the broker.
//!
//! Being slow harms nobody but the session itself, which reads on from the journal; but what waits for
//! it takes memory and disk, and its user gets messages late.

use std::sync::Arc;

use super::attach::Will;
use super::{ConnId, Now, Shard};
use crate::codec::ReasonCode;
use crate::session::{Reading, Session, Stage};

/// A session that lags, or whose socket does not take what was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slow {
    /// Client Identifier.
    pub client_id: Arc<str>,
    /// The user; empty for an anonymous client.
    pub user: Arc<str>,
    /// Milliseconds since it was found to be slow.
    pub for_ms: u64,
    /// Bytes that wait for its socket.
    pub output_bytes: usize,
    /// Entries of the journal between its position and the end; most may not be for it.
    pub behind_entries: u64,
    /// Messages that it has not acknowledged.
    pub open_publishes: usize,
}

/// Whether a session has to do with what is there for it.
fn is_behind(session: &Session) -> bool {
    session.stage == Stage::Online && (session.reading != Reading::Live || session.out.is_blocked())
}

impl Shard {
    /// Once a second: who is behind, and since when.
    pub(super) fn note_slow(&mut self, now: Now) {
        let now_ms = now.monotonic_ms.max(1);
        for session in self.sessions.iter_mut() {
            session.slow_since_ms = match (is_behind(session), session.slow_since_ms) {
                (false, _) => 0,
                (true, 0) => now_ms,
                (true, since_ms) => since_ms,
            };
        }
    }

    /// How many are behind for a whole sweep or longer.
    pub(super) fn slow_count(&self) -> u64 {
        let slow = self.sessions.iter();
        slow.filter(|(_, session)| session.slow_since_ms > 0)
            .count() as u64
    }

    /// The sessions that are behind for at least `least_ms`, the longest first, at most `limit`.
    pub fn slow(&self, now: Now, least_ms: u64, limit: usize) -> Vec<Slow> {
        let for_ms = |session: &Session| now.monotonic_ms.saturating_sub(session.slow_since_ms);
        let mut slow: Vec<&Session> = self
            .sessions
            .iter()
            .map(|(_, session)| session)
            .filter(|s| s.slow_since_ms > 0 && is_behind(s) && for_ms(s) >= least_ms)
            .collect();
        slow.sort_unstable_by(|a, b| {
            (a.slow_since_ms, &a.client.id).cmp(&(b.slow_since_ms, &b.client.id))
        });
        slow.truncate(limit);
        let described = slow.into_iter().map(|session| Slow {
            client_id: session.client.id.clone(),
            user: session.client.identity.user.clone(),
            for_ms: for_ms(session),
            output_bytes: session.out.pending().len(),
            behind_entries: match session.reading {
                Reading::Live => 0,
                Reading::Lagging(cursor) => self.position.0.saturating_sub(cursor.0),
            },
            open_publishes: session.open_publishes(),
        });
        described.collect()
    }

    /// Memory is scarce: ends the connections of those who have been slow for `least_ms` and whose
    /// socket takes nothing, and throws away what was written for them. Sessions that outlive their
    /// connection lose nothing. Gives how many there were.
    pub fn shed(&mut self, now: Now, least_ms: u64) -> usize {
        let half = self.options.output_bytes / 2;
        let is_stuck = |s: &Session| {
            is_behind(s)
                && s.slow_since_ms > 0
                && now.monotonic_ms.saturating_sub(s.slow_since_ms) >= least_ms
                && s.out.pending().len() > half
        };
        let stuck: Vec<ConnId> = self
            .sessions
            .iter()
            .filter(|(_, session)| is_stuck(session))
            .map(|(conn, _)| conn)
            .collect();
        for conn in &stuck {
            let reason = ReasonCode::QuotaExceeded;
            self.end_session(now, *conn, reason, Will::Publish, false);
            if let Some(session) = self.sessions.get_mut(*conn) {
                session.out.discard();
                self.close_silently(*conn, reason);
            }
        }
        stuck.len()
    }
}
