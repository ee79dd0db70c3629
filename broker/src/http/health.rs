//! Whether the broker is alive, and whether it can do its work: `/healthz` and `/readyz`, in plain text, for
//! whoever watches it.

use axum::body::Body;
use axum::extract::State;
use axum::http::{Response, StatusCode};

use super::{Api, Endpoint, get};
use crate::listener::page;
use crate::readiness;

const TEXT: &str = "text/plain; charset=utf-8";

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        get("/healthz", health, "Whether the program runs")
            .open()
            .answers_with(200, "It does", "Any", TEXT),
        get("/readyz", ready, "Whether the broker can do its work")
            .open()
            .answers_with(200, "It can", "Any", TEXT)
            .answers_with(503, "It cannot, and why", "Any", TEXT),
    ]
}

async fn health() -> Response<Body> {
    page::text(StatusCode::OK, "ok\n")
}

async fn ready(State(api): State<Api>) -> Response<Body> {
    let state = api.readiness.get();
    let status = match state {
        readiness::State::Ready => StatusCode::OK,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    };
    page::text(status, format!("{state}\n"))
}
