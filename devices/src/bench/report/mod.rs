//! What a comparison is shown as: a table, JSON, CSV, a page of HTML, and the check of targets.
//!
//! Invariants: all forms have the same figures, from [`super::measure`]; what is not known is shown
//! as such, never as zero; a broker that failed or lost messages is shown as that.

mod csv;
mod html;
mod json;
mod machine;
mod plot;
mod table;
pub mod targets;

use std::time::SystemTime;

pub use csv::csv;
pub use html::html;
pub use json::json;
pub use machine::Machine;
pub use table::table;

use super::brokers::OURS;
use super::compare::{Comparison, RowResult};
use super::measure::{Measure, Runs};
use figure_in_words as number;

/// How the figures came about, for whoever reads them.
#[derive(Clone, Debug)]
pub struct Conditions {
    /// Where it ran.
    pub machine: Machine,
    /// The command line.
    pub command: String,
    /// When it began.
    pub began: SystemTime,
    /// How often each row was run.
    pub repetitions: usize,
    /// Measured seconds of a run.
    pub measure_s: f64,
    /// Which cores broker and generator had, in words.
    pub cores: String,
}

/// A figure as people read it: three digits that count, thousands apart.
pub fn figure_in_words(value: f64) -> String {
    let size = value.abs();
    if value == 0.0 {
        "0".to_owned()
    } else if size >= 100.0 {
        thousands(value)
    } else if size >= 10.0 {
        format!("{value:.1}")
    } else if size >= 1.0 {
        format!("{value:.2}")
    } else {
        format!("{value:.3}")
    }
}

/// A count, or a dash where there is none.
pub(super) fn count_or_dash(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), count_in_words)
}

/// A count as people read it: all of its digits, thousands apart.
pub fn count_in_words(value: f64) -> String {
    thousands(value)
}

fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let (sign, digits) = match digits.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", digits.as_str()),
    };
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    format!("{sign}{text}")
}

/// A figure, or a dash where there is none.
pub(super) fn number_or_dash(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), number)
}

/// Bytes as MiB.
pub(super) fn mebibytes(bytes: Option<f64>) -> String {
    number_or_dash(bytes.map(|bytes| bytes / f64::from(1 << 20)))
}

/// Our figure by that of `theirs`; `None` for our own row.
pub(super) fn ratio_to(
    comparison: &Comparison,
    row: &RowResult,
    theirs: (&str, &Runs),
    measure: &Measure,
) -> Option<f64> {
    let (name, theirs) = theirs;
    if name == OURS {
        return None;
    }
    comparison.runs(row, OURS)?.ratio(theirs, measure)
}

#[cfg(test)]
pub(super) mod tests {
    use std::path::PathBuf;
    use std::time::Duration;

    use super::*;
    use crate::bench::brokers::{self, Search};
    use crate::bench::outcome::Outcome;
    use crate::bench::scenario::Scenario;
    use crate::bench::schedule::Row;

    /// A comparison of rumqttd, under our name and its own, with figures made up: ours at twice the
    /// rate and a quarter of the CPU time; the other lost something, and failed once.
    pub fn made_up(scenario: &str) -> Comparison {
        let search = Search {
            only: vec!["rumqttd".to_owned()],
            mosquitto: Some(PathBuf::from("/no/such/program")),
            ..Search::default()
        };
        let theirs = brokers::present(&search, &|_| ())
            .expect("rumqttd")
            .remove(0);
        let mut ours = theirs.clone();
        OURS.clone_into(&mut ours.name);
        let run = |delivered, cpu_ms, lost| {
            let mut outcome = Outcome {
                sent: delivered,
                acknowledged: delivered,
                delivered,
                seconds: 2.0,
                lost,
                broker_cpu: Some(Duration::from_millis(cpu_ms)),
                peak_resident_bytes: Some(3 << 20),
                ..Outcome::empty()
            };
            outcome.latency.record(44_000).expect("in range");
            outcome.figures.push(("connects/s".to_owned(), 20_000.0));
            Ok(outcome)
        };
        Comparison {
            brokers: vec![ours, theirs],
            rows: vec![RowResult {
                cores_apart: true,
                row: Row::new(Scenario::by_name(scenario).expect("a scenario")),
                runs: vec![
                    Some(Runs(vec![run(2_000_000, 500, 0), run(2_000_000, 500, 0)])),
                    Some(Runs(vec![
                        run(1_000_000, 1_000, 12),
                        Err("it <ended>".to_owned()),
                    ])),
                ],
            }],
        }
    }

    /// Conditions of no particular day.
    pub fn conditions() -> Conditions {
        Conditions {
            machine: Machine {
                processor: "Some & CPU".to_owned(),
                cores: 2,
                system: "Linux 6.1".to_owned(),
                memory_bytes: Some(8 << 30),
                load: Some(0.1),
                sync_micros: Some(200.0),
                filesystem: "ext4".to_owned(),
            },
            command: "tidings-bench compare".to_owned(),
            began: SystemTime::UNIX_EPOCH,
            repetitions: 2,
            measure_s: 2.0,
            cores: "broker on 0, generator on 1".to_owned(),
        }
    }

    #[test]
    fn figures_have_three_digits_that_count_and_thousands_apart() {
        for (value, text) in [
            (0.0, "0"),
            (0.0349, "0.035"),
            (1.234, "1.23"),
            (15.16, "15.2"),
            (999.6, "1,000"),
            (1_234_567.0, "1,234,567"),
            (-1_234.0, "-1,234"),
        ] {
            assert_eq!(number(value), text);
        }
        assert_eq!(number_or_dash(None), "-");
        assert_eq!(count_in_words(12.0), "12");
    }
}
