//! What was done and what was said: `/v1/admin/audit` and `/v1/admin/log`.

use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;
use serde_json::json;
use tracing::error;

use super::super::place::Query;
use super::super::{Api, Endpoint, Problem, get, reply};
use super::Admin;

const MAX_LISTED: usize = 1000;

const DEFAULT_LISTED: usize = 200;

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        get(
            "/v1/admin/audit",
            audit,
            "Administrative acts, the newest last",
        )
        .query("who", "string", "Only of this actor")
        .query(
            "whom",
            "string",
            "Only on this user, device, session or section",
        )
        .query("what", "string", "Only acts of this kind")
        .query("limit", "integer", "At most 1000; without it 200")
        .answers(200, "Acts", "Any"),
        get("/v1/admin/log", log, "The last lines of the log")
            .query(
                "after",
                "integer",
                "Only lines after the one with this number",
            )
            .query("limit", "integer", "At most 1000; without it 200")
            .answers(200, "Lines", "Any"),
    ]
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Acts {
    who: Option<String>,
    whom: Option<String>,
    what: Option<String>,
    limit: Option<usize>,
}

async fn audit(
    State(api): State<Api>,
    _: Admin,
    Query(asked): Query<Acts>,
) -> Result<Response, Problem> {
    let limit = asked.limit.unwrap_or(DEFAULT_LISTED).clamp(1, MAX_LISTED);
    let found = tokio::task::spawn_blocking(move || {
        // What was answered before is in it.
        api.audit.flush();
        let is = |wanted: &Option<String>, found: &str| {
            wanted.as_ref().is_none_or(|wanted| wanted == found)
        };
        api.audit.last(limit, |act| {
            is(&asked.who, &act.who) && is(&asked.whom, &act.whom) && is(&asked.what, &act.what)
        })
    });
    match found.await {
        Ok(Ok(acts)) => Ok(reply::ok(&json!({ "acts": acts }))),
        Ok(Err(problem)) => {
            error!(%problem, "the audit log cannot be read");
            Err(Problem::unavailable("the audit log cannot be read"))
        }
        Err(_) => Err(Problem::unavailable("the broker is stopping")),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Lines {
    #[serde(default)]
    after: u64,
    limit: Option<usize>,
}

async fn log(
    State(api): State<Api>,
    _: Admin,
    Query(asked): Query<Lines>,
) -> Result<Response, Problem> {
    let limit = asked.limit.unwrap_or(DEFAULT_LISTED).clamp(1, MAX_LISTED);
    let lines = match &api.log {
        Some(log) => log.after(asked.after, limit),
        None => Vec::new(),
    };
    let lines: Vec<_> = lines.iter().map(|line| &**line).collect();
    Ok(reply::ok(&json!({ "lines": lines })))
}
