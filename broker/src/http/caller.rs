//! Who asks: a token in `Authorization: Bearer` or in the cookie `token`, or name and secret in
//! `Authorization: Basic`; judged by what judges MQTT clients, with the same limits on failures.
//!
//! Invariants: nobody without a name comes in, and nobody more often than `requests_per_minute` says; what changes something is not taken from pages of other
//! hosts, whatever a browser sends along with it ([`refuse_foreign_pages`]); no secret is logged.

use std::sync::PoisonError;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tidings_core::rooms::RoomError;
use tidings_core::rules::{Identity, IdentityKind};

use super::{Api, Peer, Problem};
use crate::auth::{Admitted, Credentials, Denied, DoorMode};
use crate::listener::origins::is_same_host;
use crate::service::pace::Turn;

/// Without `Origin`, a request with a cookie says by this header that a program made it: pages of other
/// hosts cannot set it.
pub(crate) const MARK: &str = "x-tidings";

/// The cookie that has the token.
pub(super) const COOKIE: &str = "token";

/// Someone who has proved who they are.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    /// As for a client of MQTT.
    pub admitted: Admitted,
    /// What they showed, if that was a token.
    token: Option<String>,
}

impl Caller {
    /// Somebody who was let in otherwise than by a token of theirs.
    pub(super) const fn of(admitted: Admitted) -> Self {
        Self {
            admitted,
            token: None,
        }
    }

    /// The user's name.
    pub fn user(&self) -> &str {
        &self.admitted.identity.user
    }

    /// Who they are for topic rules.
    pub fn identity(&self) -> &Identity {
        &self.admitted.identity
    }

    /// The token that they showed, to be taken back.
    pub(super) fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }
}

impl FromRequestParts<Api> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Problem> {
        let peer = parts.extensions.get::<Peer>();
        let certificate = peer.and_then(Peer::certified);
        let proof = match Proof::of(&parts.headers)? {
            Proof::Nothing if certificate.is_some() => Proof::Certificate,
            proof => proof,
        };
        refuse_foreign_pages(&parts.method, &parts.headers, &proof)?;
        let (username, password, bearer) = match &proof {
            Proof::Nothing => return Err(Problem::unauthorized("sign in first")),
            Proof::Certificate => (None, None, None),
            Proof::Bearer(token) | Proof::Cookie(token) => (None, None, Some(token.as_str())),
            Proof::Basic(user, secret) => (Some(user.as_str()), Some(secret.as_bytes()), None),
        };
        let credentials = Credentials {
            username,
            password,
            client_id: "",
            address: peer.and_then(Peer::ip),
            bearer,
            certificate,
            door: peer.map_or(DoorMode::Inherit, |peer| peer.door.mode),
        };
        let admitted = admit(api, credentials).await?;
        take_turn(api, &admitted.identity.user)?;
        let token = match proof {
            Proof::Bearer(token) | Proof::Cookie(token) => Some(token),
            Proof::Basic(..) | Proof::Certificate | Proof::Nothing => None,
        };
        Ok(Self { admitted, token })
    }
}

/// Counts a request of a user.
///
/// # Errors
/// If there were too many.
pub(super) fn take_turn(api: &Api, user: &str) -> Result<(), Problem> {
    let mut pace = api.pace.lock().unwrap_or_else(PoisonError::into_inner);
    match pace.ask(user, api.reception.clock.now().monotonic_ms) {
        Turn::Granted => Ok(()),
        // A turn comes back soon.
        Turn::Refused | Turn::Ignored => Err(Problem {
            retry_after_s: Some(1),
            ..Problem::from(RoomError::TooManyRequests)
        }),
    }
}

/// Judges credentials; whoever is admitted has a name, and is still welcome.
pub(super) async fn admit(api: &Api, credentials: Credentials<'_>) -> Result<Admitted, Problem> {
    let (auth, limits) = (&api.reception.auth, &api.reception.limits);
    let address = credentials.address;
    let banned = || {
        let text = "you are banned for a while";
        Problem::new(StatusCode::FORBIDDEN, "banned", text)
    };
    // A connection may be older than the ban.
    if address.is_some_and(|address| limits.is_address_banned(address)) {
        return Err(banned());
    }
    let judged = auth.authenticate(credentials).await;
    if let Err(Denied::Credentials | Denied::TooManyAttempts) = judged {
        limits.offence(address);
    }
    let admitted = judged?;
    if limits.is_client_banned(&admitted.identity.user, "") {
        return Err(banned());
    }
    if admitted.identity.kind != IdentityKind::User {
        return Err(Problem::unauthorized("the token does not count"));
    }
    if !auth.is_welcome(&admitted) {
        return Err(Denied::NotAuthorized.into());
    }
    Ok(admitted)
}

/// What a request shows.
pub(super) enum Proof {
    Nothing,
    Bearer(String),
    Cookie(String),
    Basic(String, String),
    /// Only the certificate of the connection.
    Certificate,
}

impl Proof {
    /// The header counts before the cookie, which browsers send of their own accord.
    fn of(headers: &HeaderMap) -> Result<Self, Problem> {
        let unreadable = || Problem::unauthorized("the header Authorization cannot be read");
        if let Some(value) = headers.get(header::AUTHORIZATION) {
            let text = value.to_str().map_err(|_| unreadable())?;
            let (scheme, rest) = text.split_once(' ').ok_or_else(unreadable)?;
            let rest = rest.trim();
            if scheme.eq_ignore_ascii_case("bearer") {
                return Ok(Self::Bearer(rest.to_owned()));
            }
            if !scheme.eq_ignore_ascii_case("basic") {
                return Err(unreadable());
            }
            let bytes = STANDARD.decode(rest).map_err(|_| unreadable())?;
            let text = String::from_utf8(bytes).map_err(|_| unreadable())?;
            let (user, secret) = text.split_once(':').ok_or_else(unreadable)?;
            return Ok(Self::Basic(user.to_owned(), secret.to_owned()));
        }
        let cookies = headers.get_all(header::COOKIE).into_iter();
        let found = cookies
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(';'))
            .filter_map(|pair| pair.trim().split_once('='))
            .find(|(name, value)| *name == COOKIE && !value.is_empty());
        Ok(found.map_or(Self::Nothing, |(_, token)| Self::Cookie(token.to_owned())))
    }
}

/// Browsers say which page a request comes from. With a cookie or a certificate, which they show whoever
/// asks, a request that changes something has to say so, or be marked as a program's.
pub(super) fn refuse_foreign_pages(
    method: &Method,
    headers: &HeaderMap,
    proof: &Proof,
) -> Result<(), Problem> {
    if matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS) {
        return Ok(());
    }
    let refuse =
        |text: &'static str| Err(Problem::new(StatusCode::FORBIDDEN, "foreign_origin", text));
    let says_origin = headers.contains_key(header::ORIGIN);
    if says_origin && !is_same_host(headers) {
        return refuse("pages of other hosts may not do this");
    }
    let is_by_itself = matches!(proof, Proof::Cookie(_) | Proof::Certificate);
    if is_by_itself && !says_origin && !headers.contains_key(MARK) {
        return refuse(
            "with a cookie or a certificate this needs the header Origin, or X-Tidings: 1",
        );
    }
    Ok(())
}
