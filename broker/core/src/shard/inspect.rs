//! Who is connected, for people who look after the broker or their own sessions; and the end of one
//! connection at their wish.
//!
//! It decides nothing about who may know or do this.

use std::sync::Arc;

use super::{ConnId, Now, Shard};
use crate::codec::{ReasonCode, Version};
use crate::rules::{Identity, IdentityKind};
use crate::session::{Reading, Session, Stage};

/// Filters of one session that are told; a description is no dump.
const MAX_FILTERS: usize = 100;

/// A session whose client is connected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connected {
    /// Its connection.
    pub conn: ConnId,
    /// Client Identifier.
    pub client_id: Arc<str>,
    /// The user; empty for an anonymous client and for parts of the broker.
    pub user: Arc<str>,
    /// Protocol version.
    pub version: Version,
    /// It outlives its connection.
    pub persistent: bool,
    /// Session Expiry Interval, seconds.
    pub expiry_s: u32,
    /// Keep Alive, seconds; 0: none.
    pub keep_alive_s: u16,
    /// Milliseconds since the client said something.
    pub idle_ms: u64,
    /// Topic Filters, at most a hundred of them.
    pub filters: Vec<Arc<str>>,
    /// How many there are.
    pub subscriptions: usize,
    /// It reads on from the journal, because it was away or is slow.
    pub lagging: bool,
    /// Entries of the journal that it has not read and this shard has handled; 0 unless it lags.
    pub behind: u64,
    /// Publishes of QoS 1 and 2 that it has open.
    pub open_publishes: usize,
    /// Bytes that wait for its socket.
    pub output_bytes: usize,
}

impl Shard {
    /// Up to `limit` sessions that are online, of one user or of everyone, whose Client Identifier comes
    /// after `after`, in that order.
    pub fn connected(
        &self,
        now: Now,
        user: Option<&str>,
        after: &str,
        limit: usize,
    ) -> Vec<Connected> {
        self.connected_if(now, after, limit, &mut |_, session| is_of(session, user))
    }

    /// The same, of clients that are looked for: by connection, Client Identifier and user.
    pub fn search(
        &self,
        now: Now,
        after: &str,
        limit: usize,
        wanted: &mut dyn FnMut(ConnId, &str, &str) -> bool,
    ) -> Vec<Connected> {
        self.connected_if(now, after, limit, &mut |conn, session| {
            let client = &session.client;
            session.stage == Stage::Online
                && client.identity.kind != IdentityKind::Broker
                && wanted(conn, &client.id, &client.identity.user)
        })
    }

    fn connected_if(
        &self,
        now: Now,
        after: &str,
        limit: usize,
        wanted: &mut dyn FnMut(ConnId, &Session) -> bool,
    ) -> Vec<Connected> {
        let mut found: Vec<_> = self
            .sessions
            .iter()
            .filter(|(conn, session)| *session.client.id > *after && wanted(*conn, session))
            .collect();
        found.sort_unstable_by(|(_, a), (_, b)| a.client.id.cmp(&b.client.id));
        found.truncate(limit);
        let described = found.into_iter();
        described
            .map(|(conn, session)| self.describe(now, conn, session))
            .collect()
    }

    /// Who a connection is, and in which version it speaks.
    pub fn client(&self, conn: ConnId) -> Option<(Arc<str>, Identity, Version)> {
        let client = &self.session(conn)?.client;
        Some((client.id.clone(), client.identity.clone(), client.version))
    }

    /// The session of a client that is online, if it is this user's, or anyone's.
    pub fn connected_client(
        &self,
        now: Now,
        client_id: &str,
        user: Option<&str>,
    ) -> Option<Connected> {
        let conn = *self.by_client.get(client_id)?;
        let session = self.sessions.get(conn)?;
        is_of(session, user).then(|| self.describe(now, conn, session))
    }

    fn describe(&self, now: Now, conn: ConnId, session: &Session) -> Connected {
        let filters = session.subscriptions.values();
        Connected {
            conn,
            client_id: session.client.id.clone(),
            user: session.client.identity.user.clone(),
            version: session.client.version,
            persistent: session.persistent,
            expiry_s: session.expiry_s,
            keep_alive_s: session.keep_alive_s,
            idle_ms: now.monotonic_ms.saturating_sub(session.last_received_ms),
            filters: filters
                .take(MAX_FILTERS)
                .map(|subscription| subscription.filter.clone())
                .collect(),
            subscriptions: session.subscriptions.len(),
            lagging: session.reading != Reading::Live,
            behind: match session.reading {
                Reading::Live => 0,
                Reading::Lagging(from) => self.position.0.saturating_sub(from.0),
            },
            open_publishes: session.open_publishes(),
            output_bytes: session.out.pending().len(),
        }
    }

    /// Ends the connection of a client, of this user if one is given, as an administrative action; its
    /// Session State stays as long as it would. False if there is none; parts of the broker are none.
    pub fn disconnect_client(&mut self, now: Now, client_id: &str, user: Option<&str>) -> bool {
        let Some(&conn) = self.by_client.get(client_id) else {
            return false;
        };
        let session = self.sessions.get(conn);
        let is_meant = session.is_some_and(|session| {
            is_of(session, user) && session.client.identity.kind != IdentityKind::Broker
        });
        if is_meant {
            let reason = ReasonCode::AdministrativeAction;
            self.disconnect(now, conn, reason, "the session was ended by hand");
        }
        is_meant
    }
}

fn is_of(session: &Session, user: Option<&str>) -> bool {
    let identity = &session.client.identity;
    let is_theirs = |user: &str| identity.kind == IdentityKind::User && *identity.user == *user;
    session.stage == Stage::Online && user.is_none_or(is_theirs)
}
