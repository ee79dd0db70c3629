//! The load generator: runs one scenario against one broker.

use std::time::Duration;

use super::outcome::Outcome;
use super::scenario::Scenario;
use super::target::Target;

/// How a scenario is run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Load before anything is measured.
    pub warm_up: Duration,
    /// Measured time, where the scenario has no number of messages of its own.
    pub measure: Duration,
    /// CPUs that the generator's threads are pinned to, in turn; `None`: not pinned.
    pub cores: Option<Vec<usize>>,
    /// Number of generator threads, at least 1.
    pub threads: usize,
}

/// What a run is doing, for someone who watches.
#[derive(Clone, Debug)]
pub struct Progress {
    /// What it does now: "connecting", "warming up", "measuring", "draining", ...
    pub doing: &'static str,
    /// How much of that is done, 0 to 1, where that is known.
    pub share: Option<f64>,
    /// Deliveries so far.
    pub delivered: u64,
}

/// Runs the scenario once, and verifies every delivery.
///
/// # Errors
/// If the broker cannot be reached, refuses a client, or breaks off; a broker that only stalls or
/// loses messages gives an outcome that says so.
pub fn run(
    scenario: &Scenario,
    target: &mut dyn Target,
    settings: &Settings,
    progress: &dyn Fn(Progress),
) -> anyhow::Result<Outcome> {
    let _ = (target, settings, progress);
    anyhow::bail!("{}: cannot be run yet", scenario.name)
}
