//! Signing in and out: `/v1/login`, `/v1/logout`, and who one is: `/v1/me`.

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, Method, header};
use axum::response::Response;
use serde::Deserialize;
use serde_json::json;

use super::caller::{COOKIE, Proof, admit, refuse_foreign_pages};
use super::{Api, Caller, Endpoint, Json, Peer, Problem, get, post, reply};
use crate::auth::{Credentials, DoorMode};

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        post("/v1/login", login, "Sign in")
            .open()
            .takes("Credentials")
            .answers(200, "A token, also as the cookie `token`", "Login"),
        post(
            "/v1/logout",
            logout,
            "Sign out: the token that is shown counts no more",
        )
        .answers_nothing(),
        get("/v1/me", me, "Who you are").answers(200, "You", "Me"),
    ]
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    user: String,
    /// Of a device, its token.
    #[serde(default)]
    password: String,
}

async fn login(
    State(api): State<Api>,
    peer: Option<axum::Extension<Peer>>,
    headers: HeaderMap,
    Json(asked): Json<Asked>,
) -> Result<Response, Problem> {
    // Nobody is signed in as somebody else by a page that they visit.
    refuse_foreign_pages(&Method::POST, &headers, &Proof::Nothing)?;
    let credentials = Credentials {
        username: Some(&asked.user),
        password: Some(asked.password.as_bytes()),
        client_id: "",
        address: peer.as_ref().and_then(|peer| peer.0.ip()),
        bearer: None,
        certificate: peer.as_ref().and_then(|peer| peer.0.certified()),
        door: peer
            .as_ref()
            .map_or(DoorMode::Inherit, |peer| peer.door.mode),
    };
    let admitted = admit(&api, credentials).await?;
    let (token, ends) = api
        .reception
        .logins
        .give(&admitted, api.options.login_hours)
        .map_err(|_| Problem::unavailable("no token can be made"))?;
    let now = api.reception.clock.now().unix_ms;
    let seconds = ends.saturating_sub(now) / 1000;
    let cookie = cookie(is_secure(peer, &headers), &token, seconds)?;
    let mut response = reply::ok(&json!({
        "token": token,
        "user": &*admitted.identity.user,
        "expires": ends,
    }));
    response.headers_mut().insert(header::SET_COOKIE, cookie);
    Ok(response)
}

async fn logout(
    State(api): State<Api>,
    peer: Option<axum::Extension<Peer>>,
    headers: HeaderMap,
    caller: Caller,
) -> Result<Response, Problem> {
    if let Some(token) = caller.token() {
        let logins = api.reception.logins.clone();
        let token = token.to_owned();
        // It is on disk when the answer leaves.
        let stored = tokio::task::spawn_blocking(move || logins.give_back(&token)).await;
        let Ok(Ok(login)) = stored else {
            return Err(Problem::unavailable("the token could not be taken back"));
        };
        if let Some(login) = login {
            api.reception.shards.end_login(&login);
        }
    }
    let mut response = reply::done();
    let gone = cookie(is_secure(peer, &headers), "", 0)?;
    response.headers_mut().insert(header::SET_COOKIE, gone);
    Ok(response)
}

async fn me(caller: Caller) -> Response {
    let identity = caller.identity();
    let roles: Vec<&str> = identity
        .roles
        .iter()
        .flat_map(|roles| roles.iter())
        .map(|role| &**role)
        .collect();
    reply::ok(&json!({
        "user": &*identity.user,
        "roles": roles,
        "expires": caller.admitted.valid_until,
    }))
}

/// Whether the browser speaks TLS, with us or, as that says, with a proxy in front.
fn is_secure(peer: Option<axum::Extension<Peer>>, headers: &HeaderMap) -> bool {
    let proto = headers.get("x-forwarded-proto");
    peer.is_some_and(|peer| peer.is_tls)
        || proto.is_some_and(|proto| proto.as_bytes().eq_ignore_ascii_case(b"https"))
}

/// `Secure` only where it is so: without TLS browsers would not take the cookie at all.
fn cookie(is_secure: bool, token: &str, seconds: u64) -> Result<HeaderValue, Problem> {
    let secure = if is_secure { "; Secure" } else { "" };
    let text =
        format!("{COOKIE}={token}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}");
    HeaderValue::from_str(&text).map_err(|_| Problem::unavailable("no token can be made"))
}
