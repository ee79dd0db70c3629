//! Figures for Prometheus: `/metrics`. What shards, listeners and journal count anyway, and how requests over
//! HTTP end.
//!
//! They tell who runs the broker, not whom they ask: by default they are given to this machine (a request
//! from loopback that no proxy passed on) and to who has the role `admin`.

use std::fmt;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::Next;
use axum::response::Response;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric as _};
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use tidings_core::account::ADMIN;

use super::{Api, Caller, Endpoint, MetricsFor, Peer, Problem, get, reply};
use crate::readiness::State as Ready;
use crate::system::{Figure, Sources};

const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        get("/metrics", metrics, "Figures for Prometheus").answers_with(
            200,
            "OpenMetrics text",
            "Any",
            CONTENT_TYPE,
        ),
    ]
}

/// How requests ended, by endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ended {
    method: &'static str,
    path: &'static str,
    status: u16,
}

/// Requests over HTTP, counted by endpoint and status: both are few.
#[derive(Clone, Debug, Default)]
pub(crate) struct Requests(Family<Ended, Counter>);

/// Counts what becomes of requests to one endpoint.
pub(super) async fn count(
    State((requests, method, path)): State<(Requests, &'static str, &'static str)>,
    request: Request,
    next: Next,
) -> Response {
    let response = next.run(request).await;
    let status = response.status().as_u16();
    let ended = Ended {
        method,
        path,
        status,
    };
    requests.0.get_or_create(&ended).inc();
    response
}

async fn metrics(
    State(api): State<Api>,
    headers: HeaderMap,
    peer: Option<axum::Extension<Peer>>,
    caller: Result<Caller, Problem>,
) -> Result<Response, Problem> {
    let is_admin = matches!(&caller, Ok(caller) if caller.identity().has_role(ADMIN));
    // A proxy on this machine brings everyone from loopback, and says so.
    let is_passed_on = headers.contains_key("x-forwarded-for") || headers.contains_key("forwarded");
    let is_local = peer.is_some_and(|peer| peer.0.is_here());
    let may = match api.options.metrics {
        MetricsFor::Anyone => true,
        MetricsFor::Local => is_admin || (is_local && !is_passed_on),
        MetricsFor::Admin => is_admin,
    };
    if !may {
        // Who did not sign in is told to; who did, that it does not help.
        caller?;
        return Err(Problem::forbidden(
            "metrics are for administrators (http.metrics)",
        ));
    }
    let mut registry = Registry::with_prefix("tidings");
    registry.register(
        "http_requests",
        "Requests over HTTP that were answered",
        api.requests.0.clone(),
    );
    registry.register_collector(Box::new(Snapshot {
        figures: api.sources.figures(),
        ready: matches!(api.readiness.get(), Ready::Ready),
        sources: api.sources.clone(),
    }));
    let mut text = String::new();
    encode(&mut text, &registry).map_err(|_| Problem::unavailable("no figures now"))?;
    Ok(reply::with(StatusCode::OK, CONTENT_TYPE, text))
}

/// The figures at one instant.
struct Snapshot {
    figures: Vec<Figure>,
    ready: bool,
    sources: Arc<Sources>,
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot").finish_non_exhaustive()
    }
}

impl Collector for Snapshot {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        for figure in &self.figures {
            if figure.only_grows {
                let counter = ConstCounter::new(figure.value);
                let kind = counter.metric_type();
                let one = encoder.encode_descriptor(figure.name, figure.help, None, kind)?;
                counter.encode(one)?;
            } else {
                let value = i64::try_from(figure.value).unwrap_or(i64::MAX);
                gauge(&mut encoder, figure.name, figure.help, value)?;
            }
        }
        let uptime = i64::try_from(self.sources.clock.uptime_s()).unwrap_or(i64::MAX);
        gauge(&mut encoder, "uptime_seconds", "Since the start", uptime)?;
        let help = "1: the broker can do its work, as /readyz says";
        gauge(&mut encoder, "ready", help, i64::from(self.ready))
    }
}

fn gauge(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    value: i64,
) -> Result<(), fmt::Error> {
    let gauge = ConstGauge::new(value);
    let one = encoder.encode_descriptor(name, help, None, gauge.metric_type())?;
    gauge.encode(one)
}
