//! What is read from outcomes, and how several runs become one number.
//!
//! Invariants: a figure that some run does not have is left out, never counted as zero; ratios are
//! taken within a repetition, where both brokers met the same machine, and then the median is taken.

use std::borrow::Cow;

use super::outcome::Outcome;

/// Above this share of a core the generator, not the broker, set the pace.
pub const GENERATOR_IS_THE_BOTTLENECK: f64 = 0.95;

/// Something that is measured in a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Measure {
    /// Delivered messages per second.
    Throughput,
    /// Acknowledged messages per second.
    Acknowledged,
    /// Microseconds of broker CPU per delivered message.
    Cpu,
    /// Latency in microseconds that this many of a thousand deliveries stay below.
    Latency {
        /// 500 for p50, 990 for p99, 999 for p99.9.
        per_mille: u16,
    },
    /// The broker's peak resident memory in bytes.
    PeakMemory,
    /// Deliveries that never came.
    Lost,
    /// Deliveries that came again.
    Doubled,
    /// Deliveries that came after a later one.
    OutOfOrder,
    /// A figure of the scenario's own, whose name begins so.
    Figure(Cow<'static, str>),
}

impl Measure {
    /// p50.
    pub const P50: Self = Self::Latency { per_mille: 500 };
    /// p99.
    pub const P99: Self = Self::Latency { per_mille: 990 };
    /// p99.9.
    pub const P999: Self = Self::Latency { per_mille: 999 };

    /// Those that every scenario has, in the order of tables.
    pub const ALL: [Self; 10] = [
        Self::Throughput,
        Self::Acknowledged,
        Self::Cpu,
        Self::P50,
        Self::P99,
        Self::P999,
        Self::PeakMemory,
        Self::Lost,
        Self::Doubled,
        Self::OutOfOrder,
    ];

    /// A figure of the scenario's own, whose name begins so.
    pub const fn figure(name: &'static str) -> Self {
        Self::Figure(Cow::Borrowed(name))
    }

    /// Name for machines, with the unit.
    pub fn key(&self) -> Cow<'_, str> {
        Cow::Borrowed(match self {
            Self::Throughput => "delivered_per_s",
            Self::Acknowledged => "acknowledged_per_s",
            Self::Cpu => "broker_cpu_us_per_delivered",
            Self::Latency { per_mille: 500 } => "p50_us",
            Self::Latency { per_mille: 990 } => "p99_us",
            Self::Latency { per_mille: 999 } => "p99_9_us",
            Self::Latency { per_mille } => return Cow::Owned(format!("p{per_mille}_per_mille_us")),
            Self::PeakMemory => "peak_resident_bytes",
            Self::Lost => "lost",
            Self::Doubled => "doubled",
            Self::OutOfOrder => "out_of_order",
            Self::Figure(name) => name,
        })
    }

    /// Name for people, with the unit where that is not plain.
    pub fn in_words(&self) -> Cow<'_, str> {
        Cow::Borrowed(match self {
            Self::Throughput => "delivered messages/s",
            Self::Acknowledged => "acknowledged messages/s",
            Self::Cpu => "CPU per message",
            Self::Latency { per_mille } => {
                return Cow::Owned(format!("p{} (us)", f64::from(*per_mille) / 10.0));
            }
            Self::PeakMemory => "peak memory (bytes)",
            Self::Lost => "lost messages",
            Self::Doubled => "doubled messages",
            Self::OutOfOrder => "messages out of order",
            Self::Figure(name) => name,
        })
    }

    /// Its value in one run; `None` if the run does not have it.
    #[expect(
        clippy::cast_precision_loss,
        reason = "counts of a benchmark are far below 2^53"
    )]
    pub fn of(&self, outcome: &Outcome) -> Option<f64> {
        match self {
            // A scenario without deliveries (idle connections) has no rate of them, rather than 0.
            Self::Throughput if outcome.sent == 0 && outcome.delivered == 0 => None,
            Self::Throughput => Some(outcome.delivered_per_second()),
            Self::Acknowledged => (outcome.acknowledged > 0 && outcome.seconds > 0.0)
                .then(|| outcome.acknowledged as f64 / outcome.seconds),
            Self::Cpu => outcome.cpu_micros_per_delivered(),
            Self::Latency { per_mille } => (!outcome.latency.is_empty()).then(|| {
                let nanos = outcome
                    .latency
                    .value_at_quantile(f64::from(*per_mille) / 1e3);
                nanos as f64 / 1e3
            }),
            Self::PeakMemory => Some(outcome.peak_resident_bytes? as f64),
            Self::Lost => Some(outcome.lost as f64),
            Self::Doubled => Some(outcome.doubled as f64),
            Self::OutOfOrder => Some(outcome.out_of_order as f64),
            Self::Figure(name) => outcome
                .figures
                .iter()
                .find(|(figure, _)| figure.starts_with(name.as_ref()))
                .map(|(_, value)| *value),
        }
    }

    /// True for counts of what must not happen: of several runs the worst is told.
    fn is_a_fault(&self) -> bool {
        matches!(self, Self::Lost | Self::Doubled | Self::OutOfOrder)
    }
}

/// A run's outcome, or why there is none.
pub type Run = Result<Outcome, String>;

/// Runs of one scenario against one broker, by repetition.
#[derive(Clone, Debug, Default)]
pub struct Runs(pub Vec<Run>);

impl Runs {
    /// The outcomes there are.
    pub fn outcomes(&self) -> impl Iterator<Item = &Outcome> {
        self.0.iter().flatten()
    }

    /// Why runs failed.
    pub fn failures(&self) -> impl Iterator<Item = &str> {
        self.0
            .iter()
            .filter_map(|run| run.as_ref().err().map(String::as_str))
    }

    /// The median, or the worst for what must not happen.
    pub fn figure(&self, measure: &Measure) -> Option<f64> {
        let values: Vec<f64> = self.outcomes().filter_map(|o| measure.of(o)).collect();
        if measure.is_a_fault() {
            values.into_iter().reduce(f64::max)
        } else {
            median(values)
        }
    }

    /// The median of the ratios of each repetition to that of `other`.
    pub fn ratio(&self, other: &Self, measure: &Measure) -> Option<f64> {
        let of = |run: &Run| measure.of(run.as_ref().ok()?);
        let ratios = self.0.iter().zip(&other.0).filter_map(|(ours, theirs)| {
            let (ours, theirs) = (of(ours)?, of(theirs)?);
            (theirs > 0.0).then_some(ours / theirs)
        });
        median(ratios.collect())
    }

    /// True if in most runs the generator set the pace.
    pub fn generator_was_the_bottleneck(&self) -> bool {
        median(self.outcomes().map(|o| o.generator_busy).collect())
            .is_some_and(|busy| busy > GENERATOR_IS_THE_BOTTLENECK)
    }

    /// Names of the scenario's own figures.
    pub fn figure_names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for (name, _) in self.outcomes().flat_map(|outcome| &outcome.figures) {
            if !names.contains(&name.as_str()) {
                names.push(name);
            }
        }
        names
    }

    /// What went wrong, each sentence once.
    pub fn remarks(&self) -> Vec<&str> {
        let mut remarks: Vec<&str> = Vec::new();
        let said = self.outcomes().flat_map(|outcome| &outcome.remarks);
        for remark in said.map(String::as_str).chain(self.failures()) {
            if !remarks.contains(&remark) {
                remarks.push(remark);
            }
        }
        remarks
    }
}

/// The middle one, or the mean of the two in the middle; `None` of nothing.
pub fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = *values.get(middle)?;
    if values.len() % 2 == 1 {
        return Some(upper);
    }
    Some(f64::midpoint(*values.get(middle - 1)?, upper))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn run(delivered: u64, cpu_ms: u64) -> Run {
        Ok(Outcome {
            sent: delivered,
            delivered,
            seconds: 1.0,
            broker_cpu: Some(Duration::from_millis(cpu_ms)),
            ..Outcome::empty()
        })
    }

    #[test]
    fn the_median_is_the_middle_one_or_between_the_two() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(vec![7.0]), Some(7.0));
        assert_eq!(median(Vec::new()), None);
    }

    #[test]
    fn a_ratio_is_taken_within_each_repetition() {
        // The machine was three times as fast in the second repetition: the ratio does not care.
        let ours = Runs(vec![run(200, 10), run(600, 10), run(200, 10)]);
        let theirs = Runs(vec![run(100, 20), run(300, 20), run(100, 40)]);
        assert_eq!(ours.ratio(&theirs, &Measure::Throughput), Some(2.0));
        assert_eq!(ours.ratio(&theirs, &Measure::Cpu), Some(0.25));
    }

    #[test]
    fn runs_that_failed_are_left_out_of_both_sides() {
        let ours = Runs(vec![run(100, 10), run(900, 10)]);
        let theirs = Runs(vec![run(50, 10), Err("it ended".to_owned())]);
        assert_eq!(ours.ratio(&theirs, &Measure::Throughput), Some(2.0));
        assert_eq!(theirs.figure(&Measure::Throughput), Some(50.0));
        assert_eq!(theirs.failures().collect::<Vec<_>>(), ["it ended"]);
    }

    #[test]
    fn of_what_must_not_happen_the_worst_run_is_told() {
        let lossy = |lost| {
            Ok(Outcome {
                lost,
                ..Outcome::empty()
            })
        };
        let runs = Runs(vec![lossy(0), lossy(7), lossy(0)]);
        assert_eq!(runs.figure(&Measure::Lost), Some(7.0));
    }

    #[test]
    fn what_a_run_does_not_have_is_not_zero() {
        let runs = Runs(vec![Ok(Outcome::empty())]);
        for measure in [
            Measure::Throughput,
            Measure::Cpu,
            Measure::P99,
            Measure::PeakMemory,
            Measure::figure("connects/s"),
        ] {
            assert_eq!(runs.figure(&measure), None, "{measure:?}");
        }
    }

    #[test]
    fn percentiles_are_named_as_people_name_them() {
        assert_eq!(Measure::P50.in_words(), "p50 (us)");
        assert_eq!(Measure::P999.in_words(), "p99.9 (us)");
    }

    #[test]
    fn a_figure_of_the_scenario_is_found_by_the_beginning_of_its_name() {
        let mut outcome = Outcome::empty();
        outcome
            .figures
            .push(("bytes per connection".to_owned(), 1_300.0));
        let runs = Runs(vec![Ok(outcome)]);
        assert_eq!(runs.figure(&Measure::figure("bytes")), Some(1_300.0));
        assert_eq!(runs.figure_names(), ["bytes per connection"]);
    }
}
