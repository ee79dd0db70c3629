//! How the broker does: `/v1/admin/overview`, `/v1/admin/storage`.

use axum::extract::State;
use axum::response::Response;
use serde_json::{Map, Value, json};

use super::super::{Api, Endpoint, Problem, get, reply};
use super::Admin;
use crate::metrics::Gathered;

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        get("/v1/admin/overview", overview, "How the broker does").answers(
            200,
            "Figures now and since the start, by name; latencies since the start",
            "Any",
        ),
        get("/v1/admin/storage", storage, "Journal, state and disk").answers(
            200,
            "Offsets, bytes and files",
            "Any",
        ),
    ]
}

async fn gather(api: &Api) -> Result<Gathered, Problem> {
    let sources = api.sources.clone();
    let gathered = tokio::task::spawn_blocking(move || sources.gather()).await;
    gathered.map_err(|_| Problem::unavailable("the broker is stopping"))
}

/// One value, or an object of several.
fn by_label(label: &str, values: &[(&'static str, u64)]) -> Value {
    match values {
        [(_, value)] if label.is_empty() => (*value).into(),
        values => Value::Object(
            values
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).into()))
                .collect(),
        ),
    }
}

async fn overview(State(api): State<Api>, _: Admin) -> Result<Response, Problem> {
    let now = gather(&api).await?;
    let mut figures = Map::new();
    for figure in api.sources.figures(&now) {
        let value = by_label(figure.label, &figure.values);
        figures.insert(figure.name.to_owned(), value);
    }
    let mut distributions = Map::new();
    for distribution in api.sources.distributions(&now) {
        let told = distribution.of.iter().map(|(name, histogram)| {
            let at = |quantile| {
                let value = histogram.quantile(quantile);
                value.map(|value| value as f64 / distribution.divisor)
            };
            let told = json!({
                "count": histogram.count(),
                "p50": at(0.5),
                "p90": at(0.9),
                "p99": at(0.99),
                "p999": at(0.999),
            });
            ((*name).to_owned(), told)
        });
        let told: Map<String, Value> = told.collect();
        distributions.insert(distribution.name.to_owned(), Value::Object(told));
    }
    Ok(reply::ok(&json!({
        "version": env!("CARGO_PKG_VERSION"),
        "identity": format!("{:016x}", api.journal.epoch().0),
        "now": api.reception.clock.now().unix_ms,
        "readiness": api.readiness.get().to_string(),
        "shards": now.reports.len(),
        "managed_rooms": api.rooms.is_some(),
        "accounts": api.has_accounts,
        "figures": figures,
        "distributions": distributions,
    })))
}

async fn storage(State(api): State<Api>, _: Admin) -> Result<Response, Problem> {
    let now = gather(&api).await?;
    let (store, survey) = (&now.store, &now.survey);
    Ok(reply::ok(&json!({
        "journal": {
            "start": now.journal_start,
            "end": now.journal_end,
            "segments": store.segments,
            "stored_bytes": store.stored_bytes,
            "disk_bytes": store.disk_bytes,
            "queued_bytes": store.queued_bytes,
            "commits": store.commits.batch_entries.count(),
        },
        "state": {
            "applied": api.state.applied().0,
            "retained": api.state.retained_count(),
            "persistent_sessions": survey.persistent_sessions,
            "offline_sessions": survey.offline_sessions,
            "lowest_position": survey.lowest_position.map(|offset| offset.0),
            "backlog_entries": now.backlog_entries(),
        },
        "disk": { "free_bytes": survey.disk_free_bytes, "bytes": survey.disk_bytes },
    })))
}
