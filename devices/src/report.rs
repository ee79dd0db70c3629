//! What a run came to: counters that all sensors share, and the report made of them at the end.
//!
//! A reading is counted once, however often it had to be transmitted. A run is complete when every
//! reading taken was sent and, at QoS 1 and 2, acknowledged.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

/// Latencies above this are recorded as this: ten minutes is longer than any run waits.
const MAX_LATENCY_US: u64 = 600_000_000;
/// Three significant digits: an error of at most 0.1 %.
const SIGNIFICANT_DIGITS: u8 = 3;

/// Counters of a run, shared by all its sensors.
#[derive(Debug)]
pub struct Score {
    counters: [AtomicU64; Count::ALL],
    latency_us: Mutex<Histogram<u64>>,
}

/// What is counted.
#[derive(Clone, Copy, Debug)]
#[repr(usize)]
pub enum Count {
    /// Readings taken from a sensor.
    Taken,
    /// Readings written to a connection at least once.
    Sent,
    /// Readings whose PUBACK (QoS 1) or PUBCOMP (QoS 2) arrived with a success code.
    Acknowledged,
    /// Readings the broker refused with a Reason Code (MQTT 5).
    Refused,
    /// Readings dropped because the device's outbox was full.
    Dropped,
    /// Connections made, the first of each sensor included.
    Connects,
    /// Connections made after the first of each sensor.
    Reconnects,
    /// Attempts to connect that failed.
    FailedConnects,
    /// Commands received.
    Commands,
    /// PUBLISH packets that left though no message was waiting to: a defect if it is not 0.
    Unexpected,
    /// Sensors connected at the moment (goes up and down).
    Online,
}

impl Count {
    const ALL: usize = Self::Online as usize + 1;
}

impl Default for Score {
    fn default() -> Self {
        let latency_us = Histogram::new_with_bounds(1, MAX_LATENCY_US, SIGNIFICANT_DIGITS)
            .expect("the bounds are constants that hdrhistogram accepts");
        Self {
            counters: Default::default(),
            latency_us: Mutex::new(latency_us),
        }
    }
}

impl Score {
    /// Adds one.
    pub fn add(&self, what: Count) {
        self.counters[what as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Takes one away again.
    pub fn subtract(&self, what: Count) {
        self.counters[what as usize].fetch_sub(1, Ordering::Relaxed);
    }

    /// The current value.
    pub fn get(&self, what: Count) -> u64 {
        self.counters[what as usize].load(Ordering::Relaxed)
    }

    /// Notes the time from taking a reading to its acknowledgement.
    pub fn acknowledged_after(&self, latency: Duration) {
        self.add(Count::Acknowledged);
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        let mut histogram = self
            .latency_us
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        histogram.saturating_record(micros.max(1));
    }

    /// The report as of now.
    pub fn report(&self, sensors: u64, qos: u8, elapsed: Duration) -> Report {
        let histogram = self
            .latency_us
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let latency = (!histogram.is_empty()).then(|| Latency {
            p50_us: histogram.value_at_quantile(0.5),
            p99_us: histogram.value_at_quantile(0.99),
            p999_us: histogram.value_at_quantile(0.999),
            max_us: histogram.max(),
        });
        let taken = self.get(Count::Taken);
        let sent = self.get(Count::Sent);
        let acknowledged = self.get(Count::Acknowledged);
        let refused = self.get(Count::Refused);
        let dropped = self.get(Count::Dropped);
        let unsent = taken.saturating_sub(sent + dropped);
        Report {
            sensors,
            qos,
            elapsed_ms: u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
            readings: taken,
            sent,
            acknowledged,
            unacknowledged: if qos == 0 {
                0
            } else {
                sent.saturating_sub(acknowledged + refused)
            },
            failed: refused + dropped + unsent,
            refused,
            dropped,
            unsent,
            connects: self.get(Count::Connects),
            reconnects: self.get(Count::Reconnects),
            failed_connects: self.get(Count::FailedConnects),
            commands: self.get(Count::Commands),
            unexpected: self.get(Count::Unexpected),
            latency,
        }
    }
}

/// Time from taking a reading to its PUBACK or PUBCOMP, in microseconds, outages included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Latency {
    /// Half of the readings were acknowledged within this time.
    pub p50_us: u64,
    /// 99 of 100.
    pub p99_us: u64,
    /// 999 of 1,000.
    pub p999_us: u64,
    /// The slowest one.
    pub max_us: u64,
}

/// The outcome of a run. As JSON, field names are stable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Number of simulated sensors.
    pub sensors: u64,
    /// QoS of the readings.
    pub qos: u8,
    /// Length of the run in milliseconds, ramp-up and the last acknowledgements included.
    pub elapsed_ms: u64,
    /// Readings taken.
    pub readings: u64,
    /// Readings that left at least once.
    pub sent: u64,
    /// Readings acknowledged with success; always 0 at QoS 0.
    pub acknowledged: u64,
    /// Readings sent and still without an answer when the run ended.
    pub unacknowledged: u64,
    /// Readings that did not make it: `refused + dropped + unsent`.
    pub failed: u64,
    /// Refused by the broker with a Reason Code.
    pub refused: u64,
    /// Dropped because a device's outbox was full.
    pub dropped: u64,
    /// Never left the device.
    pub unsent: u64,
    /// Connections made.
    pub connects: u64,
    /// Connections made after the first of each sensor.
    pub reconnects: u64,
    /// Attempts to connect that failed.
    pub failed_connects: u64,
    /// Commands received.
    pub commands: u64,
    /// PUBLISH packets that left without being asked for: sent twice by a defect in the client.
    pub unexpected: u64,
    /// Acknowledgement latency; absent if nothing was acknowledged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency: Option<Latency>,
}

impl Report {
    /// True if every reading arrived as far as its QoS lets the sender know.
    pub const fn is_complete(&self) -> bool {
        self.failed == 0 && self.unacknowledged == 0
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.elapsed_ms as f64 / 1000.0;
        writeln!(
            f,
            "{} sensors, QoS {}, {seconds:.1} s",
            self.sensors, self.qos
        )?;
        writeln!(f, "  readings       {:>10}", self.readings)?;
        writeln!(f, "  sent           {:>10}", self.sent)?;
        if self.qos > 0 {
            let rate = if seconds > 0.0 {
                self.acknowledged as f64 / seconds
            } else {
                0.0
            };
            writeln!(
                f,
                "  acknowledged   {:>10}   {rate:.1}/s",
                self.acknowledged
            )?;
            writeln!(f, "  unacknowledged {:>10}", self.unacknowledged)?;
        }
        write!(f, "  failed         {:>10}", self.failed)?;
        if self.failed > 0 {
            write!(
                f,
                "   {} refused, {} dropped, {} unsent",
                self.refused, self.dropped, self.unsent
            )?;
        }
        writeln!(f)?;
        writeln!(
            f,
            "  reconnects     {:>10}   {} connects, {} failed attempts",
            self.reconnects, self.connects, self.failed_connects
        )?;
        writeln!(f, "  commands       {:>10}", self.commands)?;
        if self.unexpected > 0 {
            writeln!(
                f,
                "  unexpected     {:>10}   sent twice by a defect",
                self.unexpected
            )?;
        }
        if let Some(l) = self.latency {
            writeln!(
                f,
                "  latency        p50 {}  p99 {}  p99.9 {}  max {}",
                Millis(l.p50_us),
                Millis(l.p99_us),
                Millis(l.p999_us),
                Millis(l.max_us)
            )?;
        }
        let verdict = if !self.is_complete() {
            "INCOMPLETE"
        } else if self.qos == 0 {
            "complete: everything was sent (QoS 0 has no acknowledgement)"
        } else {
            "complete: everything sent was acknowledged"
        };
        writeln!(f, "{verdict}")
    }
}

struct Millis(u64);

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2} ms", self.0 as f64 / 1000.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn score(taken: u64, sent: u64, acknowledged: u64) -> Score {
        let score = Score::default();
        (0..taken).for_each(|_| score.add(Count::Taken));
        (0..sent).for_each(|_| score.add(Count::Sent));
        (1..=acknowledged).for_each(|i| score.acknowledged_after(Duration::from_micros(i * 1_000)));
        score
    }

    #[test]
    fn a_run_is_complete_when_everything_taken_was_sent_and_acknowledged() {
        let report = score(1000, 1000, 1000).report(4, 1, Duration::from_secs(10));
        assert!(report.is_complete(), "{report}");
        let latency = report.latency.expect("something was acknowledged");
        let near = |value: u64, expected: u64| value.abs_diff(expected) <= expected / 500;
        assert!(near(latency.p50_us, 500_000), "{latency:?}");
        assert!(near(latency.p99_us, 990_000), "{latency:?}");
        assert!(near(latency.p999_us, 999_000), "{latency:?}");
        assert!(near(latency.max_us, 1_000_000), "{latency:?}");
    }

    #[test]
    fn a_missing_acknowledgement_makes_a_run_incomplete() {
        let report = score(10, 10, 9).report(1, 1, Duration::from_secs(1));
        assert_eq!(report.unacknowledged, 1);
        assert!(!report.is_complete());
        assert!(report.to_string().contains("INCOMPLETE"));
    }

    #[test]
    fn a_refused_dropped_or_unsent_reading_is_a_failure_but_not_unacknowledged() {
        let score = score(10, 8, 7);
        score.add(Count::Refused);
        score.add(Count::Dropped);
        let report = score.report(1, 1, Duration::from_secs(1));
        assert_eq!((report.unacknowledged, report.failed), (0, 3));
        assert_eq!((report.refused, report.dropped, report.unsent), (1, 1, 1));
        assert!(!report.is_complete());
    }

    #[test]
    fn at_qos0_being_sent_is_enough_and_latency_is_absent() {
        let report = score(5, 5, 0).report(1, 0, Duration::from_secs(1));
        assert!(report.is_complete());
        let json = serde_json::to_value(&report).expect("plain data");
        assert_eq!(json["sent"], 5);
        assert!(json.get("latency").is_none());
    }

    #[test]
    fn a_latency_beyond_the_range_is_kept_as_the_largest_value() {
        let score = Score::default();
        score.acknowledged_after(Duration::from_secs(100_000));
        let latency = score.report(1, 1, Duration::ZERO).latency;
        assert!(latency.is_some_and(|l| l.max_us >= MAX_LATENCY_US));
    }
}
