//! Figures for an OpenTelemetry collector: OTLP over HTTP, in JSON, posted now and then to
//! `{endpoint}/v1/metrics`.
//!
//! The few messages of OTLP that metrics need are written here: the SDK would bring a second way of counting,
//! protobuf, and an HTTP client, for numbers that are there already. Names are those of `/metrics` with a dot
//! instead of the first underscore: `tidings.messages_received`.
//!
//! Invariants: a thread of its own, which nobody waits for; a collector that does not answer costs nothing but
//! a line in the log when that begins and one when it ends; what it missed is not sent again, because counters
//! are sums since the start.

use std::io;
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tidings_core::message::Epoch;
use tracing::{info, warn};
use ureq::Agent;

use crate::metrics::{Distribution, Figure, Kind, Sources};

/// How long a collector may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Sums since a start, as `AGGREGATION_TEMPORALITY_CUMULATIVE`.
const CUMULATIVE: u8 = 2;

/// Where figures go.
#[derive(Clone, Debug)]
pub struct Options {
    /// The base of its paths, such as `http://127.0.0.1:4318`.
    pub endpoint: String,
    /// Between two exports.
    pub interval: Duration,
}

/// See the module.
pub(crate) struct Exporter {
    options: Options,
    /// Gone when the broker is.
    sources: Weak<Sources>,
    epoch: Epoch,
    started_ns: u128,
}

impl Exporter {
    pub fn new(options: Options, sources: Arc<Sources>, epoch: Epoch) -> Self {
        Self {
            options,
            sources: Arc::downgrade(&sources),
            epoch,
            started_ns: now_ns(),
        }
    }

    /// Exports until the broker is gone.
    ///
    /// # Errors
    /// If there is no thread to be had.
    pub fn start(self) -> io::Result<()> {
        let thread = thread::Builder::new().name("otel".to_owned());
        thread.spawn(move || self.run()).map(drop)
    }

    fn run(self) {
        let url = format!("{}/v1/metrics", self.options.endpoint.trim_end_matches('/'));
        let config = Agent::config_builder().timeout_global(Some(PATIENCE));
        let agent: Agent = config.build().into();
        let mut is_heard = true;
        loop {
            thread::sleep(self.options.interval);
            let Some(sources) = self.sources.upgrade() else {
                return;
            };
            let body = self.export(&sources).to_string();
            drop(sources);
            let request = agent.post(&url).header("content-type", "application/json");
            let sent = request.send(body);
            match &sent {
                Ok(_) if !is_heard => info!(url, "the collector takes figures again"),
                Err(error) if is_heard => warn!(url, %error, "the collector takes no figures"),
                _ => {}
            }
            is_heard = sent.is_ok();
        }
    }

    /// An `ExportMetricsServiceRequest`.
    fn export(&self, sources: &Sources) -> Value {
        let now = sources.gather();
        let times = Times {
            start: self.started_ns.to_string(),
            now: now_ns().to_string(),
        };
        let figures = sources.figures(&now);
        let figures = figures.iter().map(|figure| of_figure(figure, &times));
        let distributions = sources.distributions(&now);
        let distributions = distributions.iter().map(|one| of_distribution(one, &times));
        let metrics: Vec<Value> = figures.chain(distributions).collect();
        json!({
            "resourceMetrics": [{
                "resource": { "attributes": [
                    attribute("service.name", "tidings"),
                    attribute("service.version", env!("CARGO_PKG_VERSION")),
                    attribute("service.instance.id", &format!("{:016x}", self.epoch.0)),
                ] },
                "scopeMetrics": [{ "scope": { "name": "tidings" }, "metrics": metrics }],
            }],
        })
    }
}

struct Times {
    start: String,
    now: String,
}

fn now_ns() -> u128 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| now.as_nanos())
}

fn attribute(key: &str, value: &str) -> Value {
    json!({ "key": key, "value": { "stringValue": value } })
}

fn attributes(label: &str, value: &str) -> Vec<Value> {
    match label {
        "" => Vec::new(),
        label => vec![attribute(label, value)],
    }
}

fn of_figure(figure: &Figure, times: &Times) -> Value {
    let points: Vec<Value> = figure
        .values
        .iter()
        .map(|(name, value)| {
            json!({
                "attributes": attributes(figure.label, name),
                "startTimeUnixNano": times.start,
                "timeUnixNano": times.now,
                // 64 bits are text in the JSON of protobuf.
                "asInt": value.to_string(),
            })
        })
        .collect();
    let mut metric = json!({
        "name": format!("tidings.{}", figure.name),
        "description": figure.help,
    });
    match figure.kind {
        Kind::Gauge => metric["gauge"] = json!({ "dataPoints": points }),
        Kind::Counter => {
            metric["sum"] = json!({
                "dataPoints": points,
                "aggregationTemporality": CUMULATIVE,
                "isMonotonic": true,
            });
        }
    }
    metric
}

fn of_distribution(distribution: &Distribution, times: &Times) -> Value {
    let points: Vec<Value> = distribution
        .of
        .iter()
        .map(|(name, histogram)| {
            let (mut bounds, mut counts) = (Vec::new(), Vec::new());
            for (bound, count) in histogram.buckets() {
                counts.push(count.to_string());
                if bound != u64::MAX {
                    bounds.push(bound as f64 / distribution.divisor);
                }
            }
            json!({
                "attributes": attributes(distribution.label, name),
                "startTimeUnixNano": times.start,
                "timeUnixNano": times.now,
                "count": histogram.count().to_string(),
                "sum": histogram.sum() as f64 / distribution.divisor,
                "explicitBounds": bounds,
                "bucketCounts": counts,
            })
        })
        .collect();
    json!({
        "name": format!("tidings.{}", distribution.name),
        "description": distribution.help,
        "histogram": { "dataPoints": points, "aggregationTemporality": CUMULATIVE },
    })
}
