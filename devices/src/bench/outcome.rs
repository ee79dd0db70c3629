//! What came of one run of a scenario: plain figures, no opinion about them.

use std::time::Duration;

use hdrhistogram::Histogram;

/// The figures of one run. Counts are of the measured time, except what sequence numbers tell
/// (`lost`, `doubled`, `out_of_order`), which is of the whole run with warm-up and drain.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Messages published in the measured time.
    pub sent: u64,
    /// Messages whose QoS 1 or 2 handshake the broker completed in the measured time; 0 at QoS 0.
    pub acknowledged: u64,
    /// Messages that reached a receiver in the measured time. For scenarios whose receivers are away
    /// while it is measured: the acknowledged ones.
    pub delivered: u64,
    /// Length of the measured time in seconds.
    pub seconds: f64,
    /// Deliveries that never came, of messages that were sent (QoS 0) or acknowledged (QoS 1 and 2).
    pub lost: u64,
    /// Deliveries that came again to the same receiver.
    pub doubled: u64,
    /// Deliveries that came after a later one of the same publisher.
    pub out_of_order: u64,
    /// CPU time of the broker's process in the measured time.
    pub broker_cpu: Option<Duration>,
    /// Nanoseconds from sending to receiving, of deliveries in the measured time.
    pub latency: Histogram<u64>,
    /// The most resident memory of the broker's process, in bytes.
    pub peak_resident_bytes: Option<u64>,
    /// CPU share of the busiest generator thread in the measured time, 0 to 1: above 0.95 the
    /// generator was the bottleneck, not the broker.
    pub generator_busy: f64,
    /// Further figures of this shape: name with unit, value.
    pub figures: Vec<(String, f64)>,
    /// What went wrong without spoiling the run: stalls, connections that the broker closed.
    pub remarks: Vec<String>,
}

impl Outcome {
    /// An outcome in which nothing has happened yet.
    #[must_use]
    pub fn empty() -> Self {
        Self {
            sent: 0,
            acknowledged: 0,
            delivered: 0,
            seconds: 0.0,
            lost: 0,
            doubled: 0,
            out_of_order: 0,
            broker_cpu: None,
            latency: latency_histogram(),
            peak_resident_bytes: None,
            generator_busy: 0.0,
            figures: Vec::new(),
            remarks: Vec::new(),
        }
    }

    /// Adds a figure of this shape; the name has the unit.
    pub fn add_figure(&mut self, name: impl Into<String>, value: f64) {
        self.figures.push((name.into(), value));
    }

    /// Delivered messages per second of the measured time.
    #[must_use]
    #[expect(
        clippy::cast_precision_loss,
        reason = "rates need no more than 53 bits"
    )]
    pub fn delivered_per_second(&self) -> f64 {
        if self.seconds > 0.0 {
            self.delivered as f64 / self.seconds
        } else {
            0.0
        }
    }

    /// Broker CPU microseconds per delivered message; `None` if the CPU time is not known or
    /// nothing was delivered.
    #[must_use]
    #[expect(
        clippy::cast_precision_loss,
        reason = "rates need no more than 53 bits"
    )]
    pub fn cpu_micros_per_delivered(&self) -> Option<f64> {
        let cpu = self.broker_cpu?;
        (self.delivered > 0).then(|| cpu.as_secs_f64() * 1e6 / self.delivered as f64)
    }
}

/// Nanoseconds up to 100 seconds with 2 significant digits: a small table stays in the cache while
/// every delivery is recorded.
#[must_use]
pub fn latency_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 100_000_000_000, 2).expect("the bounds are in order")
}
