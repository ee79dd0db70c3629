//! The load generator: runs one scenario against one broker, and verifies every delivery by sequence
//! number.
//!
//! It is made so that it is not the bottleneck: a few threads, each with its own connections; packets
//! encoded once and patched; one read and one write per connection and round; acknowledgements and new
//! publishes leave together. It speaks MQTT 3.1.1 to any broker and knows nothing of the inside of one.
//!
//! From the outside in: `conduct` (what is waited for and measured), `engine` (threads and stages),
//! `worker` (a thread), `publisher` and `books` (what it sends and notes), `window` and `sequence`
//! (its counting), `setup` and `link` (connections), `websocket` and `wire` (bytes); `plan` says who
//! publishes and receives. `throughput`, `away` and `standing` are the shapes.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

mod away;
pub mod books;
pub mod conduct;
pub mod engine;
pub mod link;
pub mod pace;
pub mod plan;
pub mod publisher;
pub mod sequence;
pub mod setup;
mod standing;
mod throughput;
pub mod websocket;
pub mod window;
pub mod wire;
pub mod worker;

use self::plan::Names;
use super::outcome::Outcome;
use super::scenario::{Scenario, Shape, Subscriber};
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

impl Settings {
    /// The CPU of a thread, if threads are pinned.
    fn core(&self, thread: usize) -> Option<usize> {
        let cores = self.cores.as_ref()?;
        cores.get(thread.checked_rem(cores.len())?).copied()
    }
}

/// A broker that moves nothing for this long has stalled; slow brokers take a second at most.
pub const STALL: Duration = Duration::from_secs(10);

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
    let names = Names::new(run_number());
    let away = away::Away {
        scenario,
        names: &names,
        settings,
        progress,
    };
    match scenario.shape {
        Shape::FanIn { .. }
        | Shape::FanOut { .. }
        | Shape::Pairs { .. }
        | Shape::Rooms { .. }
        | Shape::Shared { .. }
        | Shape::Paced { .. }
        | Shape::Durable {
            subscriber: Subscriber::Online,
            ..
        } => throughput::run(scenario, &names, target, settings, progress),
        Shape::Durable {
            publishers,
            subscriber: Subscriber::Offline,
        } => away.durable(publishers, target),
        Shape::OfflineBurst { sessions, messages } => away.burst(sessions, messages, target),
        Shape::Restart { sessions, messages } => away.restart(sessions, messages, target),
        Shape::SlowSubscriber { messages } => away::slow_subscriber(&away, messages, target),
        Shape::Idle { connections } => {
            standing::idle(scenario, connections, &names, target, settings, progress)
        }
        Shape::Filters { filters } => {
            let names = [&names, &Names::new(run_number())];
            standing::filters(scenario, filters, names, target, settings, progress)
        }
    }
}

/// A number that no other run of these days has, so that clients and topics of two never meet.
#[expect(
    clippy::cast_possible_truncation,
    reason = "the low bits are the ones that differ"
)]
fn run_number() -> u32 {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    (now.as_micros() as u32) ^ std::process::id().rotate_left(16)
}
