//! Devices: `/v1/devices`. Everyone has their own; who has the role `admin` sees and revokes everyone's.
//!
//! Invariant: a name that a person gives begins with their own, so that nobody takes one that somebody
//! else may be given.

use axum::extract::{Extension, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Value, json};
use tidings_core::account::ADMIN;

use super::place::{At, Query};
use super::{Api, Caller, Endpoint, Json, Peer, Problem, admin, delete, get, post, reply};
use crate::auth::{AccountError, AccountInfo};

/// Devices that one user adds over HTTP: more are a fleet, and `tidings device add`.
const MAX_DEVICES: usize = 100;

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        get("/v1/devices", list, "Your devices")
            .query("all", "boolean", "Everyone's; needs the role admin")
            .answers(200, "Devices in the order of names", "Devices"),
        post("/v1/devices", add, "Add a device; its token is shown once")
            .takes("NewDevice")
            .answers(201, "The device and its token", "DeviceToken"),
        delete(
            "/v1/devices/{device}",
            revoke,
            "Revoke a device: its token counts no more",
        )
        .answers_nothing(),
    ]
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Listing {
    #[serde(default)]
    all: bool,
}

async fn list(
    State(api): State<Api>,
    caller: Caller,
    Query(asked): Query<Listing>,
) -> Result<Response, Problem> {
    has_accounts(&api)?;
    if asked.all && !caller.identity().has_role(ADMIN) {
        return Err(Problem::forbidden(
            "only who has the role admin sees devices of others",
        ));
    }
    let found = devices(&api, (!asked.all).then(|| caller.user().to_owned())).await?;
    let told: Vec<Value> = found
        .into_iter()
        .map(|AccountInfo { user, record }| {
            json!({
                "device": &*user,
                "owner": record.owner.as_deref(),
                "enabled": record.enabled,
                "created": record.created,
            })
        })
        .collect();
    Ok(reply::ok(&json!({ "devices": told })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewDevice {
    device: String,
}

async fn add(
    State(api): State<Api>,
    caller: Caller,
    peer: Option<Extension<Peer>>,
    Json(new): Json<NewDevice>,
) -> Result<Response, Problem> {
    has_accounts(&api)?;
    let owner = caller.user();
    let account = api.reception.book.find(owner);
    if account.is_some_and(|account| account.owner.is_some()) {
        return Err(Problem::forbidden("a device has no devices"));
    }
    let rest = new.device.strip_prefix(owner);
    let is_own = rest.is_some_and(|rest| rest.starts_with(['-', '.']) && rest.len() > 1);
    if !is_own && !caller.identity().has_role(ADMIN) {
        let text = format!("the name of your device begins with {owner}- or {owner}.");
        return Err(Problem::bad_request(text));
    }
    if devices(&api, Some(owner.to_owned())).await?.len() >= MAX_DEVICES {
        let text = format!("you have {MAX_DEVICES} devices already");
        return Err(Problem::new(StatusCode::CONFLICT, "limit_reached", text));
    }
    let added = api.reception.book.add_device(&new.device, owner).await;
    let actor = admin::actor(&caller, peer.as_deref());
    let result = added.as_ref().map(|_| ());
    let detail = format!("of {owner}");
    api.audit
        .record(&actor, "device_add", &new.device, &detail, result);
    let token = added?;
    let shown = json!({ "device": new.device, "owner": owner, "token": token.expose() });
    Ok(reply::json(StatusCode::CREATED, &shown))
}

async fn revoke(
    State(api): State<Api>,
    caller: Caller,
    peer: Option<Extension<Peer>>,
    At(device): At<String>,
) -> Result<Response, Problem> {
    has_accounts(&api)?;
    let owner = api
        .reception
        .book
        .find(&device)
        .and_then(|found| found.owner);
    let is_theirs = owner.is_some_and(|owner| *owner == *caller.user());
    if !is_theirs && !caller.identity().has_role(ADMIN) {
        return Err(AccountError::NoDevice(device.into()).into());
    }
    let revoked = api.reception.book.revoke_device(&device).await;
    let actor = admin::actor(&caller, peer.as_deref());
    let result = revoked.as_ref().map(|_| ());
    api.audit
        .record(&actor, "device_revoke", &device, "", result);
    revoked?;
    Ok(reply::done())
}

/// Devices of one owner, or all. The book may be long, and on disk.
async fn devices(api: &Api, owner: Option<String>) -> Result<Vec<AccountInfo>, Problem> {
    let book = api.reception.book.clone();
    let search = move || {
        let mut found = book.list(true);
        if let Some(owner) = owner {
            found.retain(|one| one.record.owner.as_deref() == Some(owner.as_str()));
        }
        found
    };
    tokio::task::spawn_blocking(search)
        .await
        .map_err(|_| Problem::unavailable("the accounts cannot be read"))
}

fn has_accounts(api: &Api) -> Result<(), Problem> {
    if api.has_accounts {
        return Ok(());
    }
    let text = "there are no accounts here (auth.mode): every name is believed";
    Err(Problem::new(StatusCode::CONFLICT, "not_managed", text))
}

impl From<AccountError> for Problem {
    fn from(error: AccountError) -> Self {
        let text = error.to_string();
        let (status, code) = match error {
            AccountError::Name(_) => (StatusCode::BAD_REQUEST, "bad_user"),
            AccountError::Exists(_) | AccountError::Deleted(_) => (StatusCode::CONFLICT, "exists"),
            AccountError::NoUser(_) | AccountError::NoDevice(_) => {
                (StatusCode::NOT_FOUND, "not_found")
            }
            AccountError::Password(_) | AccountError::Role => {
                (StatusCode::BAD_REQUEST, "bad_request")
            }
            AccountError::Random(_) | AccountError::Store => {
                (StatusCode::SERVICE_UNAVAILABLE, "unavailable")
            }
        };
        Self::new(status, code, text)
    }
}
