//! For who looks after the broker: `/v1/admin/...`, for callers with the role `admin` and nobody else.
//!
//! What is told here is about the broker, its sessions, rooms and limits; messages of others are not, but for
//! payloads in a trace that asks for them, which the audit log has.

mod hour;
mod overview;
mod records;
mod rooms;
mod sessions;
mod trace;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use tidings_core::account::ADMIN;

use super::{Api, Caller, Endpoint, Peer, Problem};
use crate::audit::Actor;

pub(super) fn endpoints() -> Vec<Endpoint> {
    [
        overview::endpoints(),
        hour::endpoints(),
        sessions::endpoints(),
        rooms::endpoints(),
        records::endpoints(),
        trace::endpoints(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// A caller with the role `admin`.
pub(in crate::http) struct Admin {
    pub caller: Caller,
    /// As the audit log names them.
    pub actor: Actor,
}

impl FromRequestParts<Api> for Admin {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Problem> {
        let caller = Caller::from_request_parts(parts, api).await?;
        if !caller.identity().has_role(ADMIN) {
            return Err(Problem::forbidden("this is for the role admin"));
        }
        let actor = actor(&caller, parts.extensions.get::<Peer>());
        Ok(Self { caller, actor })
    }
}

/// A caller, as the audit log names them.
pub(in crate::http) fn actor(caller: &Caller, peer: Option<&Peer>) -> Actor {
    Actor {
        who: caller.user().to_owned(),
        from: peer.map_or_else(|| "http".to_owned(), ToString::to_string),
    }
}
