//! What traces see of a connection: what it says, what is written to it, its beginning and its end.
//!
//! Nothing here is called while nobody traces.

use serde_json::json;

use super::connection::Connection;
use super::flush::Local;
use crate::trace::Subject;
use crate::trace::packets::{Judges, Tap};

impl Local {
    /// Does something with the tap of a connection, which is made if there is none yet.
    fn with_tap(&self, connection: &Connection, tell: impl FnOnce(&mut Tap)) {
        let tracing = &*self.shared().tracing;
        let mut place = connection.tap.borrow_mut();
        // One of an earlier time does not know what was written since.
        if place.as_ref().is_none_or(|tap| !tap.is_of(tracing)) {
            let client = self.shard().client(connection.id);
            let Some((client_id, identity, version)) = client else {
                return;
            };
            let subject = Subject {
                client_id,
                user: identity.user.clone(),
                address: connection.origin.address(),
                door: connection.via,
            };
            // Who drains may have written half a packet.
            let whole = !connection.draining.get();
            let tap = Tap::new(tracing, subject, version, identity, whole);
            *place = Some(Box::new(tap));
            self.has_taps().set(true);
        }
        if let Some(tap) = place.as_mut() {
            tell(tap);
        }
    }

    /// The shard used these bytes of a connection.
    pub(super) fn tap_received(&self, connection: &Connection, used: &[u8]) {
        let rules = self.shared().rules.current();
        let members = &self.shared().members;
        self.with_tap(connection, |tap| {
            let judges = Judges {
                rules: &rules,
                members: &**members,
            };
            tap.received(&self.shared().tracing, used, &judges);
        });
    }

    /// These bytes wait for the socket of a connection.
    pub(super) fn tap_writes(&self, connection: &Connection) {
        self.with_tap(connection, |tap| {
            tap.writes(&self.shared().tracing, self.shard().outgoing(connection.id));
        });
    }

    /// The socket took so many of them.
    pub(super) fn tap_wrote(&self, connection: &Connection, len: usize) {
        if let Some(tap) = connection.tap.borrow_mut().as_mut() {
            let pending = self.shard().outgoing(connection.id).len();
            tap.wrote(len, pending.saturating_sub(len));
        }
    }

    /// A client came.
    pub(super) fn tap_opened(&self, connection: &Connection) {
        self.with_tap(connection, |tap| {
            tap.aside(&self.shared().tracing, json!({ "event": "opened" }));
        });
    }

    /// A connection is over.
    pub(super) fn tap_closed(&self, connection: &Connection) {
        if let Some(tap) = connection.tap.borrow_mut().as_mut() {
            tap.aside(&self.shared().tracing, json!({ "event": "closed" }));
        }
    }
}
