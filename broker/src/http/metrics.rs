//! Figures for Prometheus: `/metrics`. What shards, listeners and journal count anyway, and how requests over
//! HTTP end.
//!
//! They tell who runs the broker, not whom they ask: by default they are given to this machine (a request
//! from loopback that no proxy passed on) and to who has the role `admin`.

use std::fmt;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::Next;
use axum::response::Response;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use tidings_core::account::ADMIN;

use super::{Api, Caller, Endpoint, MetricsFor, Peer, Problem, get, reply};
use crate::metrics::{Distribution, Figure, Kind};
use crate::readiness::State as Ready;

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
    let sources = api.sources.clone();
    // It may look at the disk.
    let gathered = tokio::task::spawn_blocking(move || {
        let now = sources.gather();
        (sources.figures(&now), sources.distributions(&now))
    });
    let (figures, distributions) = gathered.await.map_err(|_| no_figures())?;
    let mut registry = Registry::with_prefix("tidings");
    registry.register(
        "http_requests",
        "Requests over HTTP that were answered",
        api.requests.0.clone(),
    );
    registry.register_collector(Box::new(Snapshot {
        figures,
        distributions,
        ready: matches!(api.readiness.get(), Ready::Ready),
    }));
    let mut text = String::new();
    encode(&mut text, &registry).map_err(|_| no_figures())?;
    Ok(reply::with(StatusCode::OK, CONTENT_TYPE, text))
}

fn no_figures() -> Problem {
    Problem::unavailable("no figures now")
}

/// The figures at one instant.
#[derive(Debug)]
struct Snapshot {
    figures: Vec<Figure>,
    distributions: Vec<Distribution>,
    ready: bool,
}

impl Collector for Snapshot {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        for figure in &self.figures {
            write_figure(&mut encoder, figure)?;
        }
        for distribution in &self.distributions {
            write_distribution(&mut encoder, distribution)?;
        }
        let help = "1: the broker can do its work, as /readyz says";
        let ready = Figure::gauge("ready", help, u64::from(self.ready));
        write_figure(&mut encoder, &ready)
    }
}

fn write_figure(encoder: &mut DescriptorEncoder<'_>, figure: &Figure) -> Result<(), fmt::Error> {
    let kind = match figure.kind {
        Kind::Counter => MetricType::Counter,
        Kind::Gauge => MetricType::Gauge,
    };
    let mut family = encoder.encode_descriptor(figure.name, figure.help, None, kind)?;
    for (value_of_label, value) in &figure.values {
        let labels = [(figure.label, *value_of_label)];
        of_label(&mut family, &labels, |one| match figure.kind {
            Kind::Counter => one.encode_counter::<NoLabelSet, u64, u64>(value, None),
            Kind::Gauge => one.encode_gauge(&i64::try_from(*value).unwrap_or(i64::MAX)),
        })?;
    }
    Ok(())
}

fn write_distribution(
    encoder: &mut DescriptorEncoder<'_>,
    distribution: &Distribution,
) -> Result<(), fmt::Error> {
    let (name, help) = (distribution.name, distribution.help);
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
    for (value_of_label, histogram) in &distribution.of {
        let labels = [(distribution.label, *value_of_label)];
        let scaled = |value: u64| value as f64 / distribution.divisor;
        // Prometheus wants each bound once.
        let mut buckets: Vec<(f64, u64)> = Vec::new();
        for (bound, count) in histogram.buckets() {
            let bound = if bound == u64::MAX {
                f64::INFINITY
            } else {
                scaled(bound)
            };
            match buckets.last_mut() {
                Some((last, sum)) if *last == bound => *sum += count,
                _ => buckets.push((bound, count)),
            }
        }
        let (sum, count) = (scaled(histogram.sum()), histogram.count());
        of_label(&mut family, &labels, |one| {
            one.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
        })?;
    }
    Ok(())
}

/// One of several things, or the only one, which has no label.
fn of_label(
    family: &mut MetricEncoder<'_>,
    labels: &[(&'static str, &'static str); 1],
    write: impl FnOnce(&mut MetricEncoder<'_>) -> Result<(), fmt::Error>,
) -> Result<(), fmt::Error> {
    match labels {
        [("", _)] => write(family),
        _ => write(&mut family.encode_family(labels)?),
    }
}
