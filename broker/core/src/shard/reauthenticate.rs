//! Re-authentication (§4.12.1): a client that came with an Authentication Method shows newer proof of
//! who it is, and its connection goes on. The shell judges the proof; other packets pass meanwhile.

use std::sync::Arc;

use super::{ConnId, Now, Output, Secret, Shard};
use crate::codec::{Auth, Packet, ReasonCode};
use crate::message::UnixMillis;
use crate::rules::Identity;

/// A connection whose CONNECT named an Authentication Method.
#[derive(Debug)]
pub(super) struct Extended {
    method: Arc<str>,
    /// Proof is being judged.
    is_asked: bool,
}

impl Extended {
    pub fn new(method: Arc<str>) -> Self {
        Self {
            method,
            is_asked: false,
        }
    }

    pub fn method(&self) -> &str {
        &self.method
    }
}

/// What a client has proved anew.
#[derive(Clone, Debug)]
pub struct Reproved {
    /// Who it is: the same user, perhaps with other roles.
    pub identity: Identity,
    /// When the proof ends; `None`: never by itself.
    pub valid_until: Option<UnixMillis>,
}

impl Shard {
    pub(super) fn handle_auth(&mut self, now: Now, conn: ConnId, auth: Auth) {
        let Some(extended) = self.extended.get_mut(&conn) else {
            // Allowed only for a client that named an Authentication Method [MQTT-4.12.0-7].
            let text = "AUTH without an Authentication Method in CONNECT";
            self.protocol_error(now, conn, ReasonCode::ProtocolError, text);
            return;
        };
        let wrong = if auth.method.as_deref() != Some(extended.method()) {
            // [MQTT-4.12.1-1]
            Some("another Authentication Method than in CONNECT")
        } else if auth.reason != ReasonCode::ReAuthenticate {
            Some("AUTH that answers nothing")
        } else if extended.is_asked {
            Some("AUTH before the last one was answered")
        } else {
            None
        };
        if let Some(text) = wrong {
            self.protocol_error(now, conn, ReasonCode::ProtocolError, text);
            return;
        }
        extended.is_asked = true;
        let Some(session) = self.sessions.get(conn) else {
            return;
        };
        self.outputs.push_back(Output::Reauthenticate {
            conn,
            user: session.client.identity.user.clone(),
            client_id: session.client.id.clone(),
            data: Secret(auth.data.unwrap_or_default()),
        });
    }

    /// The shell has judged; `None`: the proof does not count.
    pub(super) fn handle_reauthenticated(
        &mut self,
        now: Now,
        conn: ConnId,
        reproved: Option<Reproved>,
    ) {
        let (Some(extended), Some(session)) =
            (self.extended.get_mut(&conn), self.sessions.get_mut(conn))
        else {
            return;
        };
        let user = &session.client.identity.user;
        let Some(reproved) = reproved.filter(|reproved| reproved.identity.user == *user) else {
            // [MQTT-4.12.1-2]
            let text = "what you showed does not count, sign in again";
            self.disconnect(now, conn, ReasonCode::NotAuthorized, text);
            return;
        };
        extended.is_asked = false;
        let success = Auth {
            reason: ReasonCode::Success,
            method: Some(extended.method.to_string()),
            data: None,
            reason_string: None,
            user: Vec::new(),
        };
        session.client.identity = reproved.identity;
        match reproved.valid_until {
            Some(end) => self.valid_until.insert(conn, end),
            None => self.valid_until.remove(&conn),
        };
        // Roles are rights.
        self.forget_access();
        self.send(conn, &Packet::Auth(success));
    }
}
