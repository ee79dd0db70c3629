//! What the broker did in the last hour, a point every few seconds: rates and quantiles of each interval, so
//! that a page that is opened has something to draw.
//!
//! Invariant: never more than [`POINTS`] points, oldest first.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tidings_core::histogram::Histogram;
use tokio::time::{MissedTickBehavior, interval};

use super::{Latencies, Sources};

/// Between two points.
pub(crate) const EVERY: Duration = Duration::from_secs(5);

/// An hour.
const POINTS: usize = 720;

/// One interval. Rates are per second, times in microseconds; `None`: nothing was measured.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Point {
    /// Its end, milliseconds since 1970.
    pub ts: u64,
    pub connections: u64,
    pub received: f64,
    pub sent: f64,
    pub kept: f64,
    pub dropped: f64,
    pub refused: f64,
    pub bytes_in: f64,
    pub bytes_out: f64,
    pub lagging: u64,
    pub behind: u64,
    pub queued_bytes: u64,
    pub commits: f64,
    pub batch: Option<f64>,
    pub ack_p50: Option<u64>,
    pub ack_p99: Option<u64>,
    pub delivery_p50: Option<u64>,
    pub delivery_p99: Option<u64>,
    pub sync_p50: Option<u64>,
    pub sync_p99: Option<u64>,
}

/// What is counted, at one instant.
#[derive(Default)]
struct Counts {
    at_ms: u64,
    received: u64,
    sent: u64,
    kept: u64,
    dropped: u64,
    refused: u64,
    bytes_in: u64,
    bytes_out: u64,
    acknowledged: Histogram,
    delivered: Histogram,
    sync_us: Histogram,
    batch_entries: Histogram,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct History(Mutex<VecDeque<Point>>);

impl History {
    /// Points that end after `ts`.
    pub fn after(&self, ts: u64) -> Vec<Point> {
        let points = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        points
            .iter()
            .filter(|point| point.ts > ts)
            .copied()
            .collect()
    }

    /// Adds points for ever.
    pub async fn keep(self: Arc<Self>, sources: Arc<Sources>) {
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut before = None;
        loop {
            ticks.tick().await;
            let (point, counts) = sources.point(before.as_ref());
            if before.replace(counts).is_some() {
                let mut points = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                if points.len() >= POINTS {
                    points.pop_front();
                }
                points.push_back(point);
            }
        }
    }
}

fn all(histograms: &[Histogram]) -> Histogram {
    let mut all = Histogram::default();
    histograms.iter().for_each(|one| all.add(one));
    all
}

impl Sources {
    fn point(&self, before: Option<&Counts>) -> (Point, Counts) {
        let reports: Vec<_> = self.threads.iter().map(|thread| thread.report()).collect();
        let mut latencies = Latencies::default();
        reports
            .iter()
            .for_each(|report| latencies.add(&report.latencies));
        let store = (self.store)();
        let now = self.clock.now();
        let mut counts = Counts {
            at_ms: now.monotonic_ms,
            acknowledged: all(&latencies.acknowledged),
            delivered: all(&latencies.delivered),
            sync_us: store.commits.sync_us,
            batch_entries: store.commits.batch_entries,
            ..Counts::default()
        };
        let mut point = Point {
            ts: now.unix_ms,
            queued_bytes: store.queued_bytes,
            ..Point::default()
        };
        let end = self.journal.end().0;
        for report in &reports {
            let stats = &report.stats;
            counts.received += stats.messages_received;
            counts.sent += stats.messages_sent;
            counts.kept += stats.messages_kept;
            counts.dropped += Self::dropped(report)
                .iter()
                .map(|(_, count)| count)
                .sum::<u64>();
            counts.refused += stats.refused_publishes;
            counts.bytes_in += report.bytes_received;
            counts.bytes_out += report.bytes_sent;
            point.connections += stats.connections;
            point.lagging += stats.lagging;
            point.behind = point.behind.max(end.saturating_sub(report.position.0));
        }
        if let Some(before) = before {
            let seconds = counts.at_ms.saturating_sub(before.at_ms).max(1) as f64 / 1000.0;
            let rate =
                |of: fn(&Counts) -> u64| of(&counts).saturating_sub(of(before)) as f64 / seconds;
            point.received = rate(|c| c.received);
            point.sent = rate(|c| c.sent);
            point.kept = rate(|c| c.kept);
            point.dropped = rate(|c| c.dropped);
            point.refused = rate(|c| c.refused);
            point.bytes_in = rate(|c| c.bytes_in);
            point.bytes_out = rate(|c| c.bytes_out);
            let acknowledged = counts.acknowledged.since(&before.acknowledged);
            let delivered = counts.delivered.since(&before.delivered);
            let synced = counts.sync_us.since(&before.sync_us);
            let batches = counts.batch_entries.since(&before.batch_entries);
            (point.ack_p50, point.ack_p99) = middle_and_end(&acknowledged);
            (point.delivery_p50, point.delivery_p99) = middle_and_end(&delivered);
            (point.sync_p50, point.sync_p99) = middle_and_end(&synced);
            point.commits = batches.count() as f64 / seconds;
            point.batch =
                (batches.count() > 0).then(|| batches.sum() as f64 / batches.count() as f64);
        }
        (point, counts)
    }
}

fn middle_and_end(histogram: &Histogram) -> (Option<u64>, Option<u64>) {
    (histogram.quantile(0.5), histogram.quantile(0.99))
}
