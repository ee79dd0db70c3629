//! Looking for clients that are connected, by what the shard and the socket know of them together.

use std::net::IpAddr;

use tidings_core::shard::Connected;
use tokio::sync::oneshot;

use super::flush::Local;
use crate::metrics::Via;

/// What is looked for; all that is given must fit.
#[derive(Debug)]
pub(crate) struct Search {
    /// Part of a Client Identifier, a user name or an address.
    pub text: String,
    pub via: Option<Via>,
    /// Only those that lag.
    pub lagging: bool,
    /// Only Client Identifiers after this one.
    pub after: String,
    pub limit: usize,
    /// Where the answer goes.
    pub found: oneshot::Sender<Vec<Online>>,
}

/// A client that is connected.
#[derive(Debug)]
pub(crate) struct Online {
    pub session: Connected,
    pub via: Via,
    pub address: Option<IpAddr>,
    /// Since when, milliseconds since 1970.
    pub since: u64,
}

impl Local {
    /// Answers with those who fit.
    pub fn search(&self, search: Search) {
        let Search {
            text,
            via,
            lagging,
            after,
            limit,
            found,
        } = search;
        let now = self.shared().clock.now();
        let shard = self.shard();
        let mut online = Vec::new();
        // Whether one lags is known after it was described.
        let wanted = if lagging { usize::MAX } else { limit };
        let described = shard.search(now, &after, wanted, &mut |conn, client_id, user| {
            let Some(connection) = self.connection(conn) else {
                return false;
            };
            let has_address = || {
                let address = connection.origin.address();
                address.is_some_and(|address| address.to_string().contains(&text))
            };
            via.is_none_or(|via| via == connection.via)
                && (client_id.contains(&text) || user.contains(&text) || has_address())
        });
        let fitting = described.into_iter().filter(|one| !lagging || one.lagging);
        for session in fitting.take(limit) {
            if let Some(connection) = self.connection(session.conn) {
                online.push(Online {
                    session,
                    via: connection.via,
                    address: connection.origin.address(),
                    since: connection.since,
                });
            }
        }
        // Who asked may have given up.
        let _ = found.send(online);
    }
}
