//! What is aimed at, as data, and whether a comparison reached it.
//!
//! Invariant: a target whose scenario or peer was not run is neither met nor missed. All are ratios
//! between brokers of the same run where that is possible, so that they hold on other machines too.

use std::fmt::{self, Write};

use super::super::brokers::OURS;
use super::super::compare::{Comparison, FRACTION_OF_SYNC_LIMIT};
use super::super::measure::{Measure, Runs};
use super::number;

/// What a figure of ours is set against.
#[derive(Clone, Copy, Debug)]
enum Against {
    /// Nothing: the figure itself counts.
    Nothing,
    /// The same figure of this peer, in the same scenario: ours by theirs.
    Peer(&'static str),
    /// The same figure of each peer; the one that is hardest on us counts.
    EveryPeer,
    /// A figure of ours in another scenario.
    Ours(&'static str, Reader),
}

/// A measure, as a function since a [`Measure`] cannot stand in a constant that is copied.
type Reader = fn() -> Measure;

/// Where a target lies.
#[derive(Clone, Copy, Debug)]
enum Bound {
    AtMost(f64),
    AtLeast(f64),
    Below(f64),
    Above(f64),
}

/// Something that is aimed at.
#[derive(Clone, Copy, Debug)]
struct Target {
    scenario: &'static str,
    measure: Reader,
    against: Against,
    bound: Bound,
    /// Where the number comes from.
    source: &'static str,
}

fn throughput() -> Measure {
    Measure::Throughput
}
fn acknowledged() -> Measure {
    Measure::Acknowledged
}
fn cpu() -> Measure {
    Measure::Cpu
}
fn p50() -> Measure {
    Measure::P50
}
fn p99() -> Measure {
    Measure::P99
}
fn lost() -> Measure {
    Measure::Lost
}
fn out_of_order() -> Measure {
    Measure::OutOfOrder
}
fn connects() -> Measure {
    Measure::figure("connects/s")
}
fn bytes_per_connection() -> Measure {
    Measure::figure("bytes per connection")
}
fn subscribes() -> Measure {
    Measure::figure("subscribes/s")
}
fn bytes_per_filter() -> Measure {
    Measure::figure("bytes per filter")
}
fn rate_with_many() -> Measure {
    Measure::figure("rate as a fraction of that")
}
fn sync_fraction() -> Measure {
    Measure::figure(FRACTION_OF_SYNC_LIMIT)
}
fn drained() -> Measure {
    Measure::figure("drained/s")
}

use Against::{EveryPeer, Nothing, Ours, Peer};
use Bound::{Above, AtLeast, AtMost, Below};

const MOSQUITTO: Against = Peer("mosquitto");

const HALF_OF_FASTEST: &str = "half of what the fastest peer needs, FlashMQ 1.26";
const AHEAD: &str = "ahead of every peer";
const ONE_WAKE_UP: &str = "1.5 times a bare prototype: two system calls per message remain";
const MASKING: &str = "a mask and a header more per frame";
const FOREGROUND: &str = "people wait for it";
const IDLE: &str = "mosquitto has 1.8 KiB on TCP";
const TREE: &str = "a level of a filter is stored once";
const DISK: &str = "the disk is the limit, not the processor";
const KEPT: &str = "what is acknowledged is kept";
const SCALING: &str = "shards share nothing but routes";

macro_rules! target {
    ($scenario:literal, $measure:ident, $against:expr, $bound:expr, $source:expr) => {
        Target {
            scenario: $scenario,
            measure: $measure,
            against: $against,
            bound: $bound,
            source: $source,
        }
    };
}

/// All of them, a line each.
#[rustfmt::skip]
const TARGETS: &[Target] = &[
    target!("fan-in-qos0-64B-w20-tcp",        cpu, MOSQUITTO, AtMost(0.04),  HALF_OF_FASTEST),
    target!("fan-in-qos1-64B-w20-tcp",        cpu, MOSQUITTO, AtMost(0.02),  HALF_OF_FASTEST),
    target!("fan-out-1000-qos0-64B-w20-tcp",  cpu, MOSQUITTO, AtMost(0.035), HALF_OF_FASTEST),
    target!("fan-out-1000-qos1-64B-w20-tcp",  cpu, MOSQUITTO, AtMost(0.033), HALF_OF_FASTEST),
    target!("pairs-qos0-64B-w20-tcp",         cpu, MOSQUITTO, AtMost(0.04),  HALF_OF_FASTEST),
    target!("pairs-qos1-64B-w20-tcp",         cpu, MOSQUITTO, AtMost(0.045), HALF_OF_FASTEST),
    target!("rooms-qos1-64B-w1-tcp",          cpu, MOSQUITTO, AtMost(0.075), HALF_OF_FASTEST),
    target!("fan-in-qos0-64B-w20-tcp",        throughput, EveryPeer, Above(1.0), AHEAD),
    target!("fan-in-qos1-64B-w20-tcp",        throughput, EveryPeer, Above(1.0), AHEAD),
    target!("fan-out-100-qos0-64B-w20-tcp",   throughput, EveryPeer, Above(1.0), AHEAD),
    target!("fan-out-100-qos1-64B-w20-tcp",   throughput, EveryPeer, Above(1.0), AHEAD),
    target!("fan-out-1000-qos0-64B-w20-tcp",  throughput, EveryPeer, Above(1.0), AHEAD),
    target!("fan-out-1000-qos1-64B-w20-tcp",  throughput, EveryPeer, Above(1.0), AHEAD),
    target!("pairs-qos0-64B-w20-tcp",         throughput, EveryPeer, Above(1.0), AHEAD),
    target!("pairs-qos1-64B-w20-tcp",         throughput, EveryPeer, Above(1.0), AHEAD),
    target!("rooms-qos0-64B-w1-tcp",          throughput, EveryPeer, Above(1.0), AHEAD),
    target!("rooms-qos1-64B-w1-tcp",          throughput, EveryPeer, Above(1.0), AHEAD),
    target!("rooms-qos1-64B-w1-tcp",          p99, Nothing, Below(50_000.0), FOREGROUND),

    target!("pairs-qos1-64B-w1-tcp",          cpu, MOSQUITTO, AtMost(0.62), ONE_WAKE_UP),
    target!("pairs-qos1-64B-w1-tcp",          p99, MOSQUITTO, Below(1.0),   ONE_WAKE_UP),

    target!("fan-in-qos1-64B-w20-ws",         cpu, Ours("fan-in-qos1-64B-w20-tcp", cpu),       AtMost(1.5), MASKING),
    target!("fan-out-1000-qos0-64B-w20-ws",   cpu, Ours("fan-out-1000-qos0-64B-w20-tcp", cpu), AtMost(1.5), MASKING),
    target!("pairs-qos0-64B-w20-ws",          cpu, Ours("pairs-qos0-64B-w20-tcp", cpu),        AtMost(1.5), MASKING),
    target!("pairs-qos1-64B-w20-ws",          cpu, Ours("pairs-qos1-64B-w20-tcp", cpu),        AtMost(1.5), MASKING),
    target!("pairs-qos1-64B-w1-ws",           cpu, Ours("pairs-qos1-64B-w1-tcp", cpu),         AtMost(1.5), MASKING),
    target!("rooms-qos1-64B-w1-ws",           cpu, Ours("rooms-qos1-64B-w1-tcp", cpu),         AtMost(1.5), MASKING),

    target!("paced-2000-qos1-64B-w20-tcp",    p50, EveryPeer, Below(1.0), AHEAD),
    target!("paced-2000-qos1-64B-w20-tcp",    p99, EveryPeer, Below(1.0), AHEAD),

    target!("durable-offline-qos1-256B-w20-tcp", acknowledged, Nothing, AtLeast(500_000.0), DISK),
    target!("durable-offline-qos1-256B-w20-tcp", sync_fraction, Nothing, AtLeast(0.7), DISK),
    target!("durable-offline-qos1-256B-w20-tcp", cpu, Ours("fan-in-qos1-256B-w20-tcp", cpu), AtMost(2.0), DISK),

    target!("idle-10000-tcp",                 bytes_per_connection, Nothing, AtMost(1.8 * 1024.0), IDLE),
    target!("idle-10000-ws",                  bytes_per_connection, Nothing, AtMost(4.0 * 1024.0), IDLE),
    target!("idle-10000-tcp",                 connects, MOSQUITTO, Above(1.0), AHEAD),
    target!("idle-10000-ws",                  connects, MOSQUITTO, Above(1.0), AHEAD),

    target!("filters-200000-qos0-64B-w20-tcp", rate_with_many, Nothing, AtLeast(0.8), TREE),
    target!("filters-200000-qos0-64B-w20-tcp", cpu, MOSQUITTO, AtMost(0.3), TREE),
    target!("filters-200000-qos0-64B-w20-tcp", bytes_per_filter, Nothing, AtMost(600.0), TREE),
    target!("filters-200000-qos0-64B-w20-tcp", subscribes, MOSQUITTO, Above(1.0), AHEAD),

    target!("offline-burst-100x5000-qos1-64B-w20-tcp", drained, Ours("fan-out-100-qos1-64B-w20-tcp", throughput), AtLeast(0.5), KEPT),
    target!("offline-burst-100x5000-qos1-64B-w20-tcp", lost, Nothing, AtMost(0.0), KEPT),
    target!("offline-burst-100x5000-qos1-64B-w20-tcp", out_of_order, Nothing, AtMost(0.0), KEPT),
    target!("restart-100x1000-qos1-64B-w20-tcp", lost, Nothing, AtMost(0.0), KEPT),

    target!("pairs-qos1-64B-w20-tcp-2cores",  throughput, Ours("pairs-qos1-64B-w20-tcp", throughput), AtLeast(1.6), SCALING),
    target!("rooms-qos1-64B-w1-tcp-2cores",   throughput, Ours("rooms-qos1-64B-w1-tcp", throughput),  AtLeast(1.6), SCALING),
];

/// Whether a target was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It was.
    Met,
    /// It was not.
    Missed,
    /// What it needs was not run, or is not known here.
    Open,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Met => "met",
            Self::Missed => "MISSED",
            Self::Open => "open",
        })
    }
}

/// A target and what came of it.
#[derive(Clone, Debug)]
pub struct Check {
    /// The row's name.
    pub scenario: &'static str,
    /// What is measured, against what, and where the target lies.
    pub says: String,
    /// What was measured.
    pub value: Option<f64>,
    /// Whether that is enough.
    pub verdict: Verdict,
    /// Where the number comes from.
    pub source: &'static str,
}

/// All targets, checked.
pub fn check(comparison: &Comparison) -> Vec<Check> {
    let checked = TARGETS.iter().map(|target| {
        let value = target.value(comparison);
        Check {
            scenario: target.scenario,
            says: target.in_words(),
            value,
            verdict: match value {
                None => Verdict::Open,
                Some(value) if target.bound.holds(value) => Verdict::Met,
                Some(_) => Verdict::Missed,
            },
            source: target.source,
        }
    });
    checked.chain([nothing_is_lost(comparison)]).collect()
}

/// Over all scenarios, ours loses and doubles nothing: speed is not bought with messages.
fn nothing_is_lost(comparison: &Comparison) -> Check {
    let ours = comparison
        .rows
        .iter()
        .filter_map(|row| comparison.runs(row, OURS));
    let faults: Vec<f64> = ours
        .flat_map(|runs| [Measure::Lost, Measure::Doubled].map(|m| runs.figure(&m)))
        .flatten()
        .collect();
    let value = faults.iter().copied().reduce(f64::max);
    Check {
        scenario: "every scenario",
        says: "lost or doubled messages of ours at most 0".to_owned(),
        value,
        verdict: match value {
            None => Verdict::Open,
            Some(0.0) => Verdict::Met,
            Some(_) => Verdict::Missed,
        },
        source: KEPT,
    }
}

impl Target {
    fn value(&self, comparison: &Comparison) -> Option<f64> {
        let row = comparison.row(self.scenario)?;
        if row.row.broker_cores > 1 && !row.cores_apart {
            // The load took its share of the broker's cores: that says nothing about scaling.
            return None;
        }
        let ours = comparison.runs(row, OURS)?;
        let measure = (self.measure)();
        match self.against {
            Nothing => ours.figure(&measure),
            Peer(name) => ours.ratio(comparison.runs(row, name)?, &measure),
            EveryPeer => {
                let ratios = comparison
                    .entries(row)
                    .filter(|(broker, _)| broker.name != OURS)
                    .filter_map(|(_, theirs)| ours.ratio(theirs, &measure));
                match self.bound {
                    AtMost(_) | Below(_) => ratios.reduce(f64::max),
                    AtLeast(_) | Above(_) => ratios.reduce(f64::min),
                }
            }
            Ours(scenario, other) => {
                let other_row = comparison.row(scenario)?;
                let other_runs = comparison.runs(other_row, OURS)?;
                ratio_of_medians(ours, &measure, other_runs, &other())
            }
        }
    }

    fn in_words(&self) -> String {
        let measure = (self.measure)();
        let against = match self.against {
            Nothing => String::new(),
            Peer(name) => format!(", ours by {name}'s,"),
            EveryPeer => ", ours by every peer's,".to_owned(),
            Ours(scenario, _) => format!(" by that of {scenario}"),
        };
        format!("{}{against} {}", measure.in_words(), self.bound)
    }
}

/// Two scenarios were not neighbours in time: their medians are compared.
fn ratio_of_medians(ours: &Runs, measure: &Measure, other: &Runs, its: &Measure) -> Option<f64> {
    let other = other.figure(its)?;
    (other > 0.0).then_some(ours.figure(measure)? / other)
}

impl Bound {
    fn holds(self, value: f64) -> bool {
        match self {
            AtMost(limit) => value <= limit,
            AtLeast(limit) => value >= limit,
            Below(limit) => value < limit,
            Above(limit) => value > limit,
        }
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (word, limit) = match self {
            AtMost(limit) => ("at most", limit),
            AtLeast(limit) => ("at least", limit),
            Below(limit) => ("below", limit),
            Above(limit) => ("above", limit),
        };
        write!(f, "{word} {}", number(*limit))
    }
}

/// The checks as text, a line each; those that are open are only counted.
pub fn in_words(checks: &[Check]) -> String {
    let mut text = String::new();
    for check in checks.iter().filter(|c| c.verdict != Verdict::Open) {
        let value = check.value.map_or_else(|| "-".to_owned(), number);
        let _ = writeln!(
            text,
            "{:<7} {value:>10}  {}: {} ({})",
            check.verdict, check.scenario, check.says, check.source
        );
    }
    let count = |verdict| checks.iter().filter(|c| c.verdict == verdict).count();
    let _ = writeln!(
        text,
        "Targets: {} met, {} missed, {} open (what they need was not run)",
        count(Verdict::Met),
        count(Verdict::Missed),
        count(Verdict::Open)
    );
    text
}

#[cfg(test)]
mod tests {
    use super::super::tests::made_up;
    use super::*;
    use crate::bench::scenario;
    use crate::bench::schedule;

    #[test]
    fn each_target_is_about_a_row_that_can_be_run() {
        let rows = schedule::rows(scenario::catalogue());
        let names: Vec<_> = rows.iter().map(schedule::Row::name).collect();
        for target in TARGETS {
            let other = match target.against {
                Ours(scenario, _) => scenario,
                _ => target.scenario,
            };
            for wanted in [target.scenario, other] {
                assert!(names.iter().any(|name| name == wanted), "{wanted}");
            }
        }
    }

    #[test]
    fn a_target_is_met_missed_or_open() {
        // Ours has twice the rate and a quarter of the CPU time of the only peer.
        let comparison = made_up("pairs-qos1-64B-w20-tcp");
        let checks = check(&comparison);
        let verdict = |says: &str| {
            let of_pairs = |c: &&Check| c.scenario == "pairs-qos1-64B-w20-tcp";
            let mut of_pairs = checks.iter().filter(of_pairs);
            of_pairs
                .find(|c| c.says.starts_with(says))
                .map(|c| c.verdict)
        };
        assert_eq!(verdict("delivered messages/s"), Some(Verdict::Met));
        // mosquitto was not run.
        assert_eq!(verdict("CPU per message"), Some(Verdict::Open));
        let last = checks.last().expect("checks");
        assert_eq!((last.value, last.verdict), (Some(0.0), Verdict::Met));
    }

    #[test]
    fn scaling_is_open_where_broker_and_generator_shared_their_cores() {
        let mut comparison = made_up("rooms-qos1-64B-w1-tcp");
        let mut on_two = comparison.rows[0].clone();
        on_two.row.broker_cores = 2;
        comparison.rows.push(on_two);
        let verdict = |comparison: &Comparison| {
            let checks = check(comparison);
            let mut scaling = checks.iter().filter(|c| c.scenario.ends_with("-2cores"));
            scaling
                .find(|c| c.scenario.starts_with("rooms"))
                .map(|c| c.verdict)
        };
        assert_eq!(verdict(&comparison), Some(Verdict::Missed));
        comparison.rows[1].cores_apart = false;
        assert_eq!(verdict(&comparison), Some(Verdict::Open));
    }

    #[test]
    fn bounds_hold_up_to_their_limit_and_strict_ones_below_it() {
        assert!(AtMost(1.0).holds(1.0) && !AtMost(1.0).holds(1.1));
        assert!(AtLeast(1.0).holds(1.0) && !AtLeast(1.0).holds(0.9));
        assert!(!Below(1.0).holds(1.0) && !Above(1.0).holds(1.0));
    }
}
