//! The table for a terminal: a group of lines per scenario, a line per broker.

use std::fmt::Write;

use super::{
    Conditions, count_in_words, count_or_dash, mebibytes, number, number_or_dash, ratio_to,
};
use crate::bench::compare::{Comparison, RowResult};
use crate::bench::measure::{Measure, Runs};

/// Shown behind a rate that the generator, not the broker, set.
const BOTTLENECK: &str = "*";

/// The whole report as text.
pub fn table(comparison: &Comparison, conditions: &Conditions) -> String {
    let mut text = String::new();
    for line in head(comparison, conditions) {
        let _ = writeln!(text, "{line}");
    }
    let lines: Vec<Vec<String>> = std::iter::once(titles())
        .chain(
            comparison
                .rows
                .iter()
                .flat_map(|row| group(comparison, row)),
        )
        .collect();
    let _ = writeln!(text);
    text.push_str(&aligned(&lines));
    for line in foot(comparison) {
        let _ = writeln!(text, "{line}");
    }
    text
}

/// How the figures came about, a line each.
pub(super) fn head(comparison: &Comparison, conditions: &Conditions) -> Vec<String> {
    let mut lines = vec![
        format!("Machine: {}", conditions.machine.in_words()),
        format!("Cores: {}", conditions.cores),
        format!(
            "Runs: {} of each, {} s measured, began {} (UTC); {}",
            conditions.repetitions,
            number(conditions.measure_s),
            date(conditions.began),
            conditions.command
        ),
    ];
    lines.extend(
        comparison
            .brokers
            .iter()
            .map(|broker| format!("{} {}: {}", broker.name, broker.version, broker.settings)),
    );
    lines
}

fn titles() -> Vec<String> {
    [
        "scenario", "broker", "msgs/s", "CPU us", "p50 us", "p99 us", "p99.9 us", "MiB", "lost",
        "doubled", "msgs/s x", "CPU x", "p99 x",
    ]
    .map(str::to_owned)
    .to_vec()
}

/// The lines of a scenario.
fn group(comparison: &Comparison, row: &RowResult) -> Vec<Vec<String>> {
    let mut name = row.row.name();
    comparison
        .entries(row)
        .map(|(broker, runs)| {
            let ratio =
                |measure| number_or_dash(ratio_to(comparison, row, (&broker.name, runs), &measure));
            let figure = |measure| runs.figure(&measure);
            let mark = if runs.generator_was_the_bottleneck() {
                BOTTLENECK
            } else {
                ""
            };
            // Named once per group.
            vec![
                std::mem::take(&mut name),
                broker.name.clone(),
                rate(runs, figure(Measure::Throughput), mark),
                number_or_dash(figure(Measure::Cpu)),
                number_or_dash(figure(Measure::P50)),
                number_or_dash(figure(Measure::P99)),
                number_or_dash(figure(Measure::P999)),
                mebibytes(figure(Measure::PeakMemory)),
                count_or_dash(figure(Measure::Lost)),
                count_or_dash(figure(Measure::Doubled)),
                ratio(Measure::Throughput),
                ratio(Measure::Cpu),
                ratio(Measure::P99),
            ]
        })
        .collect()
}

fn rate(runs: &Runs, value: Option<f64>, mark: &str) -> String {
    if runs.outcomes().next().is_none() {
        return "failed".to_owned();
    }
    format!("{}{mark}", number_or_dash(value))
}

/// Figures of the scenarios' own, what went wrong, and what the columns mean.
fn foot(comparison: &Comparison) -> Vec<String> {
    let mut lines = vec![String::new()];
    for row in &comparison.rows {
        let notes: Vec<String> = comparison
            .entries(row)
            .flat_map(|(broker, runs)| notes(comparison, row, &broker.name, runs))
            .collect();
        if !notes.is_empty() {
            lines.push(row.row.name());
            lines.extend(notes.into_iter().map(|note| format!("  {note}")));
        }
    }
    lines.push(String::new());
    lines.extend(LEGEND.lines().map(str::to_owned));
    lines
}

/// What the columns mean.
pub(super) const LEGEND: &str = "\
msgs/s: delivered messages per second. CPU us: broker CPU microseconds per delivered message. MiB: \
peak resident memory.
x: ours by theirs, the median of the ratios of each repetition. Other figures: medians of the runs; \
lost and doubled: the worst run.
*: the generator was the bottleneck, the broker could do more. -: not known, or not measured here.";

/// A broker's further figures, and what went wrong.
fn notes(comparison: &Comparison, row: &RowResult, broker: &str, runs: &Runs) -> Vec<String> {
    let figures = figures(comparison, row, (broker, runs));
    let mut notes = Vec::new();
    if !figures.is_empty() {
        notes.push(format!("{broker}: {}", figures.join(", ")));
    }
    notes.extend(
        faults(runs)
            .into_iter()
            .map(|fault| format!("{broker}: {fault}")),
    );
    notes
}

/// The scenario's own figures, in words, with what ours is by theirs.
pub(super) fn figures(
    comparison: &Comparison,
    row: &RowResult,
    (broker, runs): (&str, &Runs),
) -> Vec<String> {
    let named = |name: &str| {
        let measure = Measure::Figure(name.to_owned().into());
        let value = number(runs.figure(&measure)?);
        // Of rates and of what each costs; a ratio of other figures says nothing.
        let ratio = (name.contains("/s") || name.contains(" per "))
            .then(|| ratio_to(comparison, row, (broker, runs), &measure))
            .flatten();
        let ratio = ratio.map_or(String::new(), |ratio| format!(" (x {})", number(ratio)));
        Some(format!("{name} {value}{ratio}"))
    };
    runs.figure_names().into_iter().filter_map(named).collect()
}

/// What went wrong, in words.
pub(super) fn faults(runs: &Runs) -> Vec<String> {
    let mut faults = Vec::new();
    let failed = runs.failures().count();
    if failed > 0 {
        faults.push(format!("{failed} of {} runs failed", runs.0.len()));
    }
    if let Some(count) = runs.figure(&Measure::OutOfOrder).filter(|n| *n > 0.0) {
        faults.push(format!("{} out of order", count_in_words(count)));
    }
    faults.extend(runs.remarks().into_iter().map(one_line));
    faults
}

/// Of several lines the beginning and the end, as with a log in an error.
fn one_line(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    match lines.as_slice() {
        [first, .., last] => format!("{first} ... {last}"),
        _ => text.to_owned(),
    }
}

/// Columns side by side: the first two to the left, numbers to the right.
fn aligned(lines: &[Vec<String>]) -> String {
    let columns = lines.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column| {
        let cells = lines.iter().filter_map(|line| line.get(column));
        cells
            .map(|cell: &String| cell.chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for line in lines {
        let mut row = String::new();
        for (column, (cell, width)) in line.iter().zip(&widths).enumerate() {
            let _ = match column {
                0 | 1 => write!(row, "{cell:<width$}  "),
                _ => write!(row, "{cell:>width$}  "),
            };
        }
        let _ = writeln!(text, "{}", row.trim_end());
    }
    text
}

/// Year, month, day, hour and minute, as in `2026-11-21 07:11`.
pub(super) fn date(time: std::time::SystemTime) -> String {
    let seconds = time
        .duration_since(std::time::SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    let (days, seconds) = (seconds / 86_400, seconds % 86_400);
    // The civil calendar, counted in eras of 400 years from the first of March of the year 0.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year + u64::from(month <= 2);
    let (hour, minute) = (seconds / 3_600, seconds % 3_600 / 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}")
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::super::tests::{conditions, made_up};
    use super::*;

    #[test]
    fn columns_stand_below_each_other() {
        let lines = [
            vec!["a".to_owned(), "bcd".to_owned(), "1".to_owned()],
            vec!["ab".to_owned(), "b".to_owned(), "123".to_owned()],
        ];
        assert_eq!(aligned(&lines), "a   bcd    1\nab  b    123\n");
    }

    #[test]
    fn each_broker_has_its_line_and_ours_is_compared_with_it() {
        let text = table(&made_up("pairs-qos1-64B-w20-tcp"), &conditions());
        let line = |broker: &str| -> Vec<String> {
            let line = text.lines().find(|line| {
                line.split_whitespace().take(2).any(|word| word == broker) && line.contains(".00")
            });
            let line = line.unwrap_or_else(|| panic!("no line of {broker} in:\n{text}"));
            line.split_whitespace().map(str::to_owned).collect()
        };
        assert_eq!(
            line("tidings"),
            [
                "pairs-qos1-64B-w20-tcp",
                "tidings",
                "1,000,000",
                "0.250",
                "44.0",
                "44.0",
                "44.0",
                "3.00",
                "0",
                "0",
                "-",
                "-",
                "-"
            ]
        );
        let theirs = line("rumqttd");
        assert_eq!(theirs[7..11], ["12", "0", "2.00", "0.250"]);
    }

    #[test]
    fn what_failed_is_said_and_figures_of_the_scenario_are_shown() {
        let text = table(&made_up("idle-200-tcp"), &conditions());
        for part in [
            "rumqttd: 1 of 2 runs failed",
            "rumqttd: it <ended>",
            "tidings: connects/s 20,000",
            "a sync takes 200 us",
        ] {
            assert!(text.contains(part), "{part:?} is missing in:\n{text}");
        }
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, text) in [
            (0, "1970-01-01 00:00"),
            (951_782_400, "2000-02-29 00:00"),
            (1_795_245_061, "2026-11-21 07:11"),
            (1_798_761_599, "2026-12-31 23:59"),
        ] {
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
            assert_eq!(date(time), text);
        }
    }
}
