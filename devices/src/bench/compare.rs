//! Runs scenarios against brokers in turn, and collects what came of it.
//!
//! Invariants: a broker that fails is a result, not an error: the comparison goes on; at most one
//! broker runs at a time; a run that hangs is ended by killing its broker.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;

use super::brokers::pinning::{self, Cores};
use super::brokers::{Broker, Place, child};
use super::load::{self, Progress, Settings};
use super::measure::{Measure, Run, Runs};
use super::outcome::Outcome;
use super::scenario::Shape;
use super::schedule::{self, Row, Step};
use super::sync_time;

/// How to compare.
#[derive(Clone, Debug)]
pub struct Options {
    /// How often each row is run against each broker.
    pub repetitions: usize,
    /// Load before anything is measured.
    pub warm_up: Duration,
    /// Measured time of scenarios that have no number of messages of their own.
    pub measure: Duration,
    /// How long a run may take beyond these two before its broker is killed.
    pub patience: Duration,
    /// Threads of the generator; none: one per core of its own.
    pub generator_threads: Option<usize>,
    /// Broker and generator have cores of their own, where there are enough.
    pub pin: bool,
    /// The program `tidings-bench`, of which hidden subcommands are needed.
    pub bench: PathBuf,
    /// Where brokers get their directories; on a real disk, if syncs are to be real.
    pub directory: PathBuf,
}

/// What came of a row: runs by broker, `None` where a broker does not take part.
#[derive(Clone, Debug)]
pub struct RowResult {
    /// What was run.
    pub row: Row,
    /// Broker and generator had cores of their own.
    pub cores_apart: bool,
    /// By broker, in the order of the comparison's brokers.
    pub runs: Vec<Option<Runs>>,
}

/// What came of it all.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// Who took part.
    pub brokers: Vec<Broker>,
    /// What was run, in order.
    pub rows: Vec<RowResult>,
}

/// What happens while it runs, for someone who watches.
#[derive(Debug)]
pub enum Event<'a> {
    /// A run begins: the `number`th of `of`, from 0.
    Begins {
        /// From 0.
        number: usize,
        /// All runs.
        of: usize,
        /// The row's name.
        row: &'a str,
        /// The broker's name.
        broker: &'a str,
    },
    /// The run goes on.
    GoesOn(&'a Progress),
    /// The run has ended.
    Ended(&'a Run),
}

/// Runs everything. Failures of brokers are part of the result.
pub fn run(
    brokers: Vec<Broker>,
    rows: Vec<Row>,
    options: &Options,
    watch: &dyn Fn(&Event<'_>),
) -> Comparison {
    let steps = schedule::steps(
        options.repetitions,
        rows.len(),
        brokers.len(),
        |row, broker| match (rows.get(row), brokers.get(broker)) {
            (Some(row), Some(broker)) => broker.takes_part_in(&row.scenario),
            _ => false,
        },
    );
    let mut comparison = Comparison {
        rows: rows
            .into_iter()
            .map(|row| RowResult {
                cores_apart: cores_for(&row, options).are_apart(),
                row,
                runs: vec![None; brokers.len()],
            })
            .collect(),
        brokers,
    };
    let of = steps.len();
    for (number, step) in steps.into_iter().enumerate() {
        let Some((broker, row)) = comparison.step(step) else {
            continue;
        };
        watch(&Event::Begins {
            number,
            of,
            row: &row.row.name(),
            broker: &broker.name,
        });
        let run = match given_up(row, step) {
            Some(reason) => Err(reason),
            None => one_run(broker, &row.row, options, watch),
        };
        watch(&Event::Ended(&run));
        comparison.keep(step, run);
    }
    comparison
}

impl Comparison {
    fn step(&self, step: Step) -> Option<(&Broker, &RowResult)> {
        Some((self.brokers.get(step.broker)?, self.rows.get(step.row)?))
    }

    fn keep(&mut self, step: Step, run: Run) {
        let row = self.rows.get_mut(step.row);
        if let Some(runs) = row.and_then(|row| row.runs.get_mut(step.broker)) {
            runs.get_or_insert_default().0.push(run);
        }
    }

    /// The row of this name.
    pub fn row(&self, name: &str) -> Option<&RowResult> {
        self.rows.iter().find(|result| result.row.name() == name)
    }

    /// What the broker of this name did in a row.
    pub fn runs<'a>(&self, row: &'a RowResult, broker: &str) -> Option<&'a Runs> {
        let broker = self.brokers.iter().position(|b| b.name == broker)?;
        row.runs.get(broker)?.as_ref()
    }

    /// Brokers with what they did in a row, in the order of the table.
    pub fn entries<'a>(
        &'a self,
        row: &'a RowResult,
    ) -> impl Iterator<Item = (&'a Broker, &'a Runs)> {
        let entries = self.brokers.iter().zip(&row.runs);
        entries.filter_map(|(broker, runs)| Some((broker, runs.as_ref()?)))
    }
}

/// What the error of a run says whose broker was killed for taking too long.
const TOO_LONG: &str = "took longer than";

/// A broker that was too slow to finish once is not waited for again.
fn given_up(row: &RowResult, step: Step) -> Option<String> {
    let runs = row.runs.get(step.broker)?.as_ref()?;
    let reason = runs.failures().find(|reason| reason.contains(TOO_LONG))?;
    Some(reason.to_owned())
}

fn one_run(broker: &Broker, row: &Row, options: &Options, watch: &dyn Fn(&Event<'_>)) -> Run {
    let directory = options.directory.join("run");
    let run = in_directory(broker, row, options, &directory, watch);
    let _ = fs::remove_dir_all(&directory);
    run.map_err(|error| format!("{error:#}"))
}

fn in_directory(
    broker: &Broker,
    row: &Row,
    options: &Options,
    directory: &Path,
    watch: &dyn Fn(&Event<'_>),
) -> anyhow::Result<Outcome> {
    fs::create_dir(directory).with_context(|| format!("{}", directory.display()))?;
    let cores = cores_for(row, options);
    let mut target = broker.start(&Place {
        directory: directory.to_owned(),
        bench: options.bench.clone(),
        cores: cores.broker.clone(),
        threads: row.broker_cores,
        persistent: matches!(
            row.scenario.shape,
            Shape::Restart { .. } | Shape::Durable { .. }
        ),
    })?;
    let settings = Settings {
        warm_up: options.warm_up,
        measure: options.measure,
        threads: options
            .generator_threads
            .unwrap_or_else(|| cores.generator.len().max(1)),
        cores: cores.are_apart().then_some(cores.generator),
    };
    // Measured where and when it counts: disks of machines that others use too change by the minute.
    let sync_micros = match row.scenario.shape {
        Shape::Durable { .. } => sync_time::in_micros(directory),
        _ => None,
    };
    let patience = options.warm_up + options.measure + options.patience;
    let watchdog = Watchdog::start(patience);
    let outcome = load::run(&row.scenario, target.as_mut(), &settings, &|progress| {
        watch(&Event::GoesOn(&progress));
    });
    if watchdog.stop() {
        return Err(match outcome {
            Ok(_) => anyhow::anyhow!("{TOO_LONG} {patience:?} and was killed"),
            Err(error) => error.context(format!("{TOO_LONG} {patience:?} and was killed")),
        });
    }
    let mut outcome = outcome?;
    if let Some(sync_micros) = sync_micros {
        add_sync_limit(&mut outcome, row, sync_micros);
    }
    if row.broker_cores > 1 && !cores_for(row, options).are_apart() {
        outcome.remarks.push(
            "too few cores: broker and generator shared them, so this is no measure of scaling"
                .to_owned(),
        );
    }
    Ok(outcome)
}

/// Name of the figure that says how near a broker came to what the disk allows.
pub const FRACTION_OF_SYNC_LIMIT: &str = "fraction of what syncs allow";

/// What the disk allows, if every publisher always waits for it: publishers x window messages in two
/// syncs, since a message waits for the one that runs, and then for its own.
fn add_sync_limit(outcome: &mut Outcome, row: &Row, sync_micros: f64) {
    let Shape::Durable { publishers, .. } = row.scenario.shape else {
        return;
    };
    outcome.add_figure("microseconds of a sync", sync_micros);
    let limit = f64::from(publishers) * f64::from(row.scenario.window) / (2.0 * sync_micros / 1e6);
    if let Some(rate) = Measure::Acknowledged.of(outcome).filter(|_| limit > 0.0) {
        outcome.add_figure(FRACTION_OF_SYNC_LIMIT, rate / limit);
    }
}

/// Who runs where in a row.
pub fn cores_for(row: &Row, options: &Options) -> Cores {
    if options.pin {
        Cores::share(&pinning::allowed(), row.broker_cores)
    } else {
        Cores::default()
    }
}

/// Kills the brokers that run when time is up; then every connection of a load that hangs breaks.
struct Watchdog {
    over: mpsc::Sender<()>,
    thread: thread::JoinHandle<bool>,
}

impl Watchdog {
    fn start(patience: Duration) -> Self {
        let (over, is_over) = mpsc::channel();
        let until = Instant::now() + patience;
        let thread = thread::spawn(move || {
            let left = until.saturating_duration_since(Instant::now());
            let timed_out = is_over.recv_timeout(left) == Err(RecvTimeoutError::Timeout);
            if timed_out {
                child::kill_all();
            }
            timed_out
        });
        Self { over, thread }
    }

    /// True if it had to act.
    fn stop(self) -> bool {
        drop(self.over);
        self.thread.join().unwrap_or(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::scenario::{self, Scenario};

    #[test]
    fn a_watchdog_that_is_stopped_in_time_does_nothing() {
        assert!(!Watchdog::start(Duration::from_secs(3600)).stop());
    }

    #[test]
    fn what_the_disk_allows_is_publishers_times_window_by_two_syncs() {
        let scenario = Scenario::by_name("durable-offline-qos1-256B-w20-tcp").expect("a name");
        let mut outcome = Outcome {
            acknowledged: 500_000,
            seconds: 1.0,
            ..Outcome::empty()
        };
        add_sync_limit(&mut outcome, &Row::new(scenario), 200.0);
        // 50 publishers x 20 by 400 microseconds are 2,500,000 a second.
        let fraction = Measure::figure(FRACTION_OF_SYNC_LIMIT).of(&outcome);
        assert_eq!(fraction, Some(0.2));
    }

    #[test]
    fn a_broker_that_was_too_slow_is_not_tried_again() {
        let scenario = scenario::short().remove(0);
        let too_long = Err(format!("{TOO_LONG} 3s and was killed"));
        let result = RowResult {
            row: Row::new(scenario),
            cores_apart: false,
            runs: vec![
                Some(Runs(vec![too_long])),
                Some(Runs(vec![Err("refused".to_owned())])),
            ],
        };
        let step = |broker| Step {
            repetition: 1,
            row: 0,
            broker,
        };
        assert!(given_up(&result, step(0)).is_some());
        assert!(given_up(&result, step(1)).is_none());
    }
}
