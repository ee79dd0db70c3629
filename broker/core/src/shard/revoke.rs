//! A user who may not be here any more: sessions end at once, and what they left for later is not
//! said in their name.

use std::sync::Arc;

use super::attach::Will;
use super::commit::Pending;
use super::{ConnId, Now, Shard, shard_of};
use crate::codec::{ConnAck, Packet, ReasonCode};
use crate::journal::Record;
use crate::rules::IdentityKind;
use crate::session::Stage;
use crate::state::{SessionChange, SessionRecord};

/// Whose sessions end, and how.
#[derive(Clone, Debug)]
pub struct Revocation {
    /// The user.
    pub user: Arc<str>,
    /// What connected clients are told.
    pub reason: ReasonCode,
    /// The same in words.
    pub text: &'static str,
    /// Sessions are forgotten, with everything that waits for them; otherwise they are there when the
    /// user may come again.
    pub forget: bool,
    /// Client Identifiers of the user's sessions that may be without a connection.
    pub offline: Arc<[Arc<str>]>,
}

impl Shard {
    pub(super) fn handle_revoked(&mut self, now: Now, revocation: &Revocation) {
        let Revocation {
            user,
            reason,
            text,
            forget,
            offline,
        } = revocation;
        // An owner may have gone with its device, or a device with its owner.
        self.forget_access();
        let connected: Vec<ConnId> = self
            .sessions
            .iter()
            .filter(|(_, s)| {
                let identity = &s.client.identity;
                identity.kind == IdentityKind::User
                    && identity.user == *user
                    && s.stage != Stage::Closing
            })
            .map(|(conn, _)| conn)
            .collect();
        for conn in connected {
            self.send_away(now, conn, *reason, text, *forget);
        }
        for client_id in &**offline {
            self.revoke_offline(client_id, user, *forget);
        }
    }

    /// Ends a connection whose user may not be there by it any more, because of `text`; what else they are
    /// connected with stays.
    pub fn sign_out(&mut self, now: Now, conn: ConnId, text: &str) {
        let session = self.sessions.get(conn);
        if session.is_some_and(|session| session.stage != Stage::Closing) {
            self.send_away(now, conn, ReasonCode::NotAuthorized, text, false);
        }
    }

    /// Ends a session whoever has it, connected or not, with everything that waits for it, as an
    /// administrative action: its Client Identifier is free. False if there is none; what parts of the
    /// broker have begins with `$`, and is none.
    pub fn end_client(&mut self, now: Now, client_id: &str) -> bool {
        if client_id.starts_with('$') {
            return false;
        }
        let reason = ReasonCode::AdministrativeAction;
        if let Some(conn) = self.by_client.get(client_id).copied() {
            if self
                .session(conn)
                .is_some_and(|session| session.stage == Stage::Online)
            {
                self.end_session(now, conn, reason, Will::Publish, true);
                let text = "the session was ended by hand".to_owned();
                self.close_connection(conn, reason, Some(text));
            } else {
                self.send_away(now, conn, reason, "", true);
            }
            return true;
        }
        let Some(user) = self.owner(client_id) else {
            return false;
        };
        let client_id: Arc<str> = client_id.into();
        match self.state.session(&client_id) {
            Some(record) if !self.unsettled.contains_key(&client_id) => {
                self.append_end_of_record(now, &client_id, &record, Pending::Quiet { bytes: 0 });
            }
            _ => self.forget_session(&client_id, &user),
        }
        true
    }

    fn send_away(&mut self, now: Now, conn: ConnId, reason: ReasonCode, text: &str, forget: bool) {
        let Some(session) = self.sessions.get(conn) else {
            return;
        };
        let is_opening = session.stage == Stage::Attaching;
        let (client_id, user) = (
            session.client.id.clone(),
            session.client.identity.user.clone(),
        );
        if is_opening {
            let refusal = ConnAck::refusal(ReasonCode::NotAuthorized);
            self.send(conn, &Packet::ConnAck(refusal));
        }
        // A Will is published later than now, when its user may not speak any more.
        self.end_session(now, conn, reason, Will::Withdraw, forget);
        if is_opening {
            self.close_silently(conn, reason);
            if forget {
                // What of it is on its way comes first.
                self.forget_session(&client_id, &user);
            }
        } else {
            self.close_connection(conn, reason, Some(text.to_owned()));
        }
    }

    /// Connections whose proof of who they are has come to its end.
    pub(super) fn end_outdated(&mut self, now: Now) {
        if self.valid_until.is_empty() {
            return;
        }
        let sessions = &self.sessions;
        let is_there = |conn| {
            sessions
                .get(conn)
                .is_some_and(|session| session.stage != Stage::Closing)
        };
        self.valid_until.retain(|conn, _| is_there(*conn));
        let is_online = |conn| {
            sessions
                .get(conn)
                .is_some_and(|session| session.stage == Stage::Online)
        };
        let mut outdated: Vec<ConnId> = self
            .valid_until
            .iter()
            .filter(|(conn, end)| **end <= now.unix_ms && is_online(**conn))
            .map(|(conn, _)| *conn)
            .collect();
        // In an order that does not depend on how they were hashed.
        outdated.sort_unstable();
        for conn in outdated {
            self.valid_until.remove(&conn);
            let reason = ReasonCode::MaximumConnectTime;
            self.disconnect(now, conn, reason, "the token has come to its end");
        }
    }

    fn revoke_offline(&mut self, client_id: &Arc<str>, user: &Arc<str>, forget: bool) {
        if shard_of(client_id, self.options.shards) != self.options.id
            || self.by_client.contains_key(client_id)
        {
            return;
        }
        if forget {
            self.forget_session(client_id, user);
            return;
        }
        let record = self.state.session(client_id);
        let is_left = |record: &SessionRecord| *record.user == **user && record.will.is_some();
        if record.as_ref().is_some_and(is_left) {
            // Not published, but gone all the same.
            self.append(
                Record::Session {
                    client_id: client_id.clone(),
                    change: SessionChange::WillPublished,
                },
                Pending::Quiet { bytes: 0 },
            );
        }
    }
}
