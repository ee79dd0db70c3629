//! `compare`: flags become options, events become progress, the comparison becomes reports.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, bail};
use clap::Args;
use tempfile::TempDir;
use tidings_devices::bench::brokers::by_address::Peer;
use tidings_devices::bench::brokers::pinning::{self, Cores};
use tidings_devices::bench::brokers::{self, Search, child};
use tidings_devices::bench::compare::{self, Comparison, Options};
use tidings_devices::bench::progress::Watcher;
use tidings_devices::bench::report::targets::{self, Check};
use tidings_devices::bench::report::{self, Conditions, Machine};
use tidings_devices::bench::scenario;
use tidings_devices::bench::schedule::{self, Row};
use tidings_devices::time_span;

/// What may be said about a comparison.
#[derive(Args)]
pub struct Compare {
    /// Only scenarios whose name contains this, or one of this name; may be repeated
    #[arg(long)]
    scenario: Vec<String>,
    /// A small run of each shape, in a minute or two, instead of everything
    #[arg(long)]
    short: bool,
    /// Print what would be run, and run nothing
    #[arg(long)]
    list: bool,
    /// Only brokers whose name begins with this; may be repeated
    #[arg(long)]
    broker: Vec<String>,
    /// A broker that runs already: name=host:port[,ws=host:port/path][,pid=N]; may be repeated
    #[arg(long)]
    peer: Vec<Peer>,
    /// The program tidings, if not the one beside this program
    #[arg(long)]
    tidings: Option<PathBuf>,
    /// A setting of tidings, as key=value; may be repeated
    #[arg(long)]
    set: Vec<String>,
    /// The program mosquitto, if it is not where programs are
    #[arg(long)]
    mosquitto: Option<PathBuf>,
    /// How often each scenario is run against each broker [default: 3, or 1 with --short]
    #[arg(long)]
    runs: Option<usize>,
    /// Load before anything is measured [default: 1s, or 250ms with --short]
    #[arg(long, value_parser = time_span::parse)]
    warm_up: Option<Duration>,
    /// Measured time of scenarios without a number of messages [default: 5s, or 1s with --short]
    #[arg(long, value_parser = time_span::parse)]
    measure: Option<Duration>,
    /// A run may take this much longer before its broker is killed
    #[arg(long, value_parser = time_span::parse, default_value = "2m")]
    patience: Duration,
    /// Threads of the load generator [default: one per core of its own]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
    /// Leave it to the system who runs on which core
    #[arg(long)]
    no_pin: bool,
    /// Where brokers keep their data while they run; a directory on a real disk
    #[arg(long)]
    directory: Option<PathBuf>,
    /// Also check what is aimed at
    #[arg(long)]
    targets: bool,
    /// Write everything to this file, for programs
    #[arg(long)]
    json: Option<PathBuf>,
    /// Write a line per run to this file, for spreadsheets
    #[arg(long)]
    csv: Option<PathBuf>,
    /// Write a page with plots to this file
    #[arg(long)]
    html: Option<PathBuf>,
}

impl Compare {
    /// Compares, and prints the report.
    pub fn run(self) -> anyhow::Result<()> {
        let rows = self.rows()?;
        if self.list {
            let mut out = std::io::stdout().lock();
            for row in rows {
                writeln!(out, "{}", row.name())?;
            }
            return Ok(());
        }
        child::raise_open_files()?;
        let watcher = Watcher::new();
        let brokers = brokers::present(&self.search(), &|sentence| watcher.say(sentence))?;
        let home = self.home()?;
        clean_up_when_interrupted(home.path().to_owned())?;
        let options = self.options(home.path())?;
        let conditions = self.conditions(&options, home.path());

        let comparison = compare::run(brokers, rows, &options, &|event| watcher.watch(event));
        watcher.finish();
        self.report(&comparison, &conditions)
    }

    fn rows(&self) -> anyhow::Result<Vec<Row>> {
        let all = if self.short {
            scenario::short()
        } else {
            scenario::catalogue()
        };
        select(schedule::rows(all), &self.scenario)
    }

    fn search(&self) -> Search {
        Search {
            tidings: self.tidings.clone(),
            tidings_settings: self.set.clone(),
            mosquitto: self.mosquitto.clone(),
            peers: self.peer.clone(),
            only: self.broker.clone(),
        }
    }

    /// A directory of our own, that goes when this program does.
    fn home(&self) -> anyhow::Result<TempDir> {
        let within = self.directory.clone().unwrap_or_else(std::env::temp_dir);
        TempDir::with_prefix_in("tidings-bench-", &within)
            .with_context(|| format!("no directory in {}", within.display()))
    }

    fn options(&self, home: &Path) -> anyhow::Result<Options> {
        let (runs, warm_up, measure) = if self.short {
            (1, Duration::from_millis(250), Duration::from_secs(1))
        } else {
            (3, Duration::from_secs(1), Duration::from_secs(5))
        };
        Ok(Options {
            repetitions: self.runs.unwrap_or(runs),
            warm_up: self.warm_up.unwrap_or(warm_up),
            measure: self.measure.unwrap_or(measure),
            patience: self.patience,
            generator_threads: self.threads.map(usize::from),
            pin: !self.no_pin,
            bench: std::env::current_exe().context("where is this program?")?,
            directory: home.to_owned(),
        })
    }

    fn conditions(&self, options: &Options, home: &Path) -> Conditions {
        let cores = if options.pin {
            Cores::share(&pinning::allowed(), 1)
        } else {
            Cores::default()
        };
        let arguments: Vec<String> = std::env::args().skip(1).collect();
        Conditions {
            machine: Machine::examine(home),
            command: format!("tidings-bench {}", arguments.join(" ")),
            began: SystemTime::now(),
            repetitions: options.repetitions,
            measure_s: options.measure.as_secs_f64(),
            cores: cores.in_words(),
        }
    }

    fn report(&self, comparison: &Comparison, conditions: &Conditions) -> anyhow::Result<()> {
        let checks: Vec<Check> = if self.targets {
            targets::check(comparison)
        } else {
            Vec::new()
        };
        if let Some(path) = &self.json {
            let text =
                serde_json::to_string_pretty(&report::json(comparison, conditions, &checks))?;
            write(path, &text)?;
        }
        if let Some(path) = &self.csv {
            write(path, &report::csv(comparison))?;
        }
        if let Some(path) = &self.html {
            write(path, &report::html(comparison, conditions, &checks))?;
        }
        let mut out = std::io::stdout().lock();
        write!(out, "{}", report::table(comparison, conditions))?;
        if self.targets {
            write!(out, "\n{}", targets::in_words(&checks))?;
        }
        Ok(())
    }
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// Rows whose name contains one of `wanted`, all if there is none; or scenarios by their full names.
fn select(all: Vec<Row>, wanted: &[String]) -> anyhow::Result<Vec<Row>> {
    if wanted.is_empty() {
        return Ok(all);
    }
    let mut rows: Vec<Row> = all
        .into_iter()
        .filter(|row| wanted.iter().any(|word| row.name().contains(word.as_str())))
        .collect();
    for word in wanted {
        if !rows.iter().any(|row| row.name().contains(word.as_str())) {
            let Ok(row) = Row::by_name(word) else {
                bail!("no scenario has {word:?} in its name; see tidings-bench compare --list");
            };
            rows.push(row);
        }
    }
    Ok(rows)
}

/// On Ctrl-C or SIGTERM: brokers are killed, their directory is removed, and this program exits.
fn clean_up_when_interrupted(directory: PathBuf) -> anyhow::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    // From here on signals are caught, before the first broker starts.
    let (mut interrupt, mut terminate) = {
        let _context = runtime.enter();
        (
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
        )
    };
    std::thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        });
        child::close();
        remove(&directory);
        std::process::exit(130);
    });
    Ok(())
}

/// Removes a directory in which another thread may just have made something.
fn remove(directory: &Path) {
    const ATTEMPTS: usize = 100;
    for _ in 0..ATTEMPTS {
        if fs::remove_dir_all(directory).is_ok() || !directory.exists() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(wanted: &[&str]) -> anyhow::Result<Vec<String>> {
        let wanted: Vec<String> = wanted.iter().map(|w| (*w).to_owned()).collect();
        let rows = select(schedule::rows(scenario::catalogue()), &wanted)?;
        Ok(rows.iter().map(Row::name).collect())
    }

    #[test]
    fn a_part_of_a_name_selects_all_that_have_it() {
        let found = names(&["idle"]).expect("idle is in the catalogue");
        assert_eq!(found, ["idle-10000-tcp", "idle-10000-ws"]);
    }

    #[test]
    fn a_full_name_outside_the_catalogue_is_run_too() {
        let found = names(&["pairs-7-qos1-64B-w3-tcp", "idle-10000-ws"]).expect("both have names");
        assert_eq!(found, ["idle-10000-ws", "pairs-7-qos1-64B-w3-tcp"]);
        let found = names(&["pairs-7-qos1-64B-w3-tcp-2cores"]).expect("a name");
        assert_eq!(found, ["pairs-7-qos1-64B-w3-tcp-2cores"]);
    }

    #[test]
    fn a_word_that_no_scenario_has_is_refused() {
        assert!(names(&["fan-in", "nonsense"]).is_err());
    }
}
