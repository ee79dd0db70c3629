//! Whose a session is: from its first CONNECT until nothing of it is left.
//!
//! Invariants, with [`Takeover::ByItsUser`]: while a session is connected, on its way through the journal, or
//! stored, nobody but its user connects with its Client Identifier, and whoever tries changes nothing of it.
//! This is decided in the step that takes the CONNECT, by the one thread that has the Client Identifier: of
//! two that come at once one is first. A session that is to be forgotten is its user's until that is on its
//! way.

use std::sync::Arc;

use super::commit::Pending;
use super::{ConnId, Event, Output, Shard};
use crate::codec::ReasonCode;
use crate::journal::Record;
use crate::session::Stage;
use crate::state::SessionChange;

/// Who may connect with a Client Identifier that has a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Takeover {
    /// Its user, who gets it; others are refused with Reason Code 0x85 (§3.1.3.1 leaves that to the server).
    #[default]
    ByItsUser,
    /// Anyone, where users prove nothing: others than its user end it, and begin anew [MQTT-3.1.4-3].
    ByAnyone,
}

/// Whose a session is when its records have come back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Owner {
    /// As State says: none of them changes that.
    #[default]
    AsStored,
    User(Arc<str>),
    Nobody,
}

/// Records of a session that have not come back from the journal.
#[derive(Debug, Default)]
pub(super) struct Unsettled {
    count: u32,
    owner: Owner,
}

impl Unsettled {
    /// One more is on its way.
    pub fn note(&mut self, change: &SessionChange) {
        self.count += 1;
        match change {
            SessionChange::Opened { user, .. } => self.owner = Owner::User(user.clone()),
            SessionChange::Ended { .. } => self.owner = Owner::Nobody,
            _ => {}
        }
    }

    /// One came back; true if it was the last.
    pub fn came_back(&mut self) -> bool {
        self.count -= 1;
        self.count == 0
    }
}

impl Shard {
    /// Whether another user has the Client Identifier: is connected with it, or has a session that is not
    /// settled. What is settled and stored is looked at when the session is opened.
    pub(super) fn is_anothers(&self, client_id: &str, user: &str) -> bool {
        if self.options.takeover == Takeover::ByAnyone {
            return false;
        }
        let connected = self.by_client.get(client_id);
        let connected = connected.and_then(|conn| self.session(*conn));
        if let Some(session) = connected.filter(|session| session.stage != Stage::Closing) {
            return *session.client.identity.user != *user;
        }
        self.unsettled.contains_key(client_id)
            && self.owner(client_id).is_some_and(|owner| *owner != *user)
    }

    /// Whose session of this Client Identifier there is, or will be when it is settled.
    pub(super) fn owner(&self, client_id: &str) -> Option<Arc<str>> {
        match self.unsettled.get(client_id).map(|of| &of.owner) {
            Some(Owner::User(owner)) => Some(owner.clone()),
            Some(Owner::Nobody) => None,
            Some(Owner::AsStored) | None => {
                let record = self.state.session(client_id);
                record.map(|record| record.user)
            }
        }
    }

    /// Refuses who came with the Client Identifier of another user's session. Whose it is is not said.
    pub(super) fn refuse_as_anothers(&mut self, conn: ConnId) {
        let Some(session) = self.sessions.get(conn) else {
            return;
        };
        let event = Event::NotTheirs {
            conn,
            client_id: session.client.id.clone(),
            user: session.client.identity.user.clone(),
        };
        self.outputs.push_back(Output::Event(event));
        self.stats.refused_client_ids += 1;
        self.refuse(conn, ReasonCode::ClientIdentifierNotValid);
    }

    /// Forgets a session of a user, connected with or not, once nothing of it is on its way.
    pub(super) fn forget_session(&mut self, client_id: &Arc<str>, user: &Arc<str>) {
        if self.unsettled.contains_key(client_id) {
            self.to_forget.insert(client_id.clone(), user.clone());
        } else {
            self.append_forgotten(client_id, user);
        }
    }

    /// The last record of a session came back that was to be forgotten then.
    pub(super) fn forget_as_promised(&mut self, client_id: &str) {
        if let Some((client_id, user)) = self.to_forget.remove_entry(client_id) {
            self.append_forgotten(&client_id, &user);
        }
    }

    fn append_forgotten(&mut self, client_id: &Arc<str>, user: &str) {
        let record = self.state.session(client_id);
        let Some(record) = record.filter(|record| *record.user == *user) else {
            return;
        };
        let filters = record.subscriptions.into_iter();
        let change = SessionChange::Ended {
            filters: filters.map(|s| (s.filter, s.qos)).collect(),
        };
        let client_id = client_id.clone();
        self.append(
            Record::Session { client_id, change },
            Pending::Quiet { bytes: 0 },
        );
    }
}
