//! The last hour, for plots: `/v1/admin/hour`.

use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;
use serde_json::json;

use super::super::place::Query;
use super::super::{Api, Endpoint, Problem, get, reply};
use super::Admin;

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        get(
            "/v1/admin/hour",
            hour,
            "Rates and quantiles of the last hour, a point every five seconds",
        )
        .query("after", "integer", "Only points after this time")
        .answers(200, "Points, oldest first", "Any"),
    ]
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    #[serde(default)]
    after: u64,
}

async fn hour(
    State(api): State<Api>,
    _: Admin,
    Query(asked): Query<Asked>,
) -> Result<Response, Problem> {
    Ok(reply::ok(&json!({ "points": api.hour.after(asked.after) })))
}
