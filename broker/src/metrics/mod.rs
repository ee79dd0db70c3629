//! What the broker tells about itself in numbers: names, units, and how they are gathered from shards,
//! journal, state and listeners. `/metrics`, `$SYS`, the admin page and other exporters read them here.
//!
//! Invariants: what happens per message is counted by the thread that does it, in plain numbers, and copied
//! at its tick; nothing here is asked by the hot path, and nothing is decided by a figure.
//! It does not know HTTP, nor how figures are written down.

mod history;
mod latency;
mod sources;
mod survey;
mod via;

pub(crate) use history::History as Hour;
pub(crate) use latency::{Latencies, Stopwatch};
pub(crate) use sources::{Gathered, Sources};
pub(crate) use survey::{Survey, Surveyor};
pub(crate) use via::Via;

use tidings_core::histogram::Histogram;

/// What a number means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It counts from the start of the broker, and never falls.
    Counter,
    /// It is so now.
    Gauge,
}

/// One number, or the same of several things.
#[derive(Clone, Debug)]
pub(crate) struct Figure {
    /// Without `tidings_`; a counter's has `_total` added where it is told to Prometheus.
    pub name: &'static str,
    pub help: &'static str,
    pub kind: Kind,
    /// The name of the label, if there are several; `""` if not.
    pub label: &'static str,
    /// Values of the label, and of the figure.
    pub values: Vec<(&'static str, u64)>,
}

impl Figure {
    /// A number that only grows.
    pub fn counter(name: &'static str, help: &'static str, value: u64) -> Self {
        Self::by(Kind::Counter, name, help, "", vec![("", value)])
    }

    /// A number that is so now.
    pub fn gauge(name: &'static str, help: &'static str, value: u64) -> Self {
        Self::by(Kind::Gauge, name, help, "", vec![("", value)])
    }

    /// The same of several things.
    pub fn by(
        kind: Kind,
        name: &'static str,
        help: &'static str,
        label: &'static str,
        values: Vec<(&'static str, u64)>,
    ) -> Self {
        Self {
            name,
            help,
            kind,
            label,
            values,
        }
    }
}

/// How values are distributed, of several things.
#[derive(Clone, Debug)]
pub(crate) struct Distribution {
    /// Without `tidings_`, and without a unit that is added where it is told to Prometheus.
    pub name: &'static str,
    pub help: &'static str,
    /// What values are divided by: those of times are microseconds, and told in seconds.
    pub divisor: f64,
    /// The name of the label; `""` if there is one thing only.
    pub label: &'static str,
    /// Values of the label, and what was measured.
    pub of: Vec<(&'static str, Histogram)>,
}

impl Distribution {
    /// Of durations, measured in microseconds.
    pub fn of_time(
        name: &'static str,
        help: &'static str,
        label: &'static str,
        of: Vec<(&'static str, Histogram)>,
    ) -> Self {
        Self {
            name,
            help,
            divisor: 1e6,
            label,
            of,
        }
    }

    /// Of sizes and numbers.
    pub fn of_size(name: &'static str, help: &'static str, histogram: Histogram) -> Self {
        Self {
            name,
            help,
            divisor: 1.0,
            label: "",
            of: vec![("", histogram)],
        }
    }
}

/// Those of doors through which something came.
pub(crate) fn by_door(histograms: &[Histogram]) -> Vec<(&'static str, Histogram)> {
    let doors = Via::ALL.iter().map(|door| door.name());
    let of_doors = doors.zip(histograms.iter().cloned());
    of_doors.filter(|(_, one)| one.count() > 0).collect()
}
