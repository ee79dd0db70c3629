//! Whether the threads of a broker still turn, told at intervals to whoever started it, so that it can be
//! started anew when they do not.
//!
//! Invariant: it is only told to be well after every shard and the listeners have shown a sign of life since
//! shortly. This module does not know who listens.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crate::readiness::{Readiness, State};
use crate::shard::ShardThread;

/// A thread that has not shown itself for so long hangs: shards do it four times a second, and a machine
/// that is overloaded for a moment is no reason to start anew.
const LEAST_PATIENCE: Duration = Duration::from_secs(2);

/// How a broker does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Vitals {
    /// Its threads turn.
    Well {
        /// Clients that are connected.
        clients: u64,
    },
    /// Nothing is acknowledged any more, for this reason; a restart recovers.
    StoreFailed(Arc<str>),
    /// These threads have not shown themselves for a while.
    Stuck(String),
}

/// Who is told, and how often.
#[derive(Clone)]
pub struct Options {
    /// Time between two tellings.
    pub every: Duration,
    /// Told from the thread that owns all others: it must not wait for anything.
    pub tell: Arc<dyn Fn(Vitals) + Send + Sync>,
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("every", &self.every)
            .finish_non_exhaustive()
    }
}

/// Shown by a thread that turns.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pulse {
    begin: Arc<OnceLock<Instant>>,
    last_ms: Arc<AtomicU64>,
}

impl Pulse {
    pub fn beat(&self) {
        let age = self.begin.get_or_init(Instant::now).elapsed();
        self.last_ms
            .store(u64::try_from(age.as_millis()).unwrap_or(u64::MAX), Relaxed);
    }

    /// Time since the last beat; none before the first.
    fn age(&self) -> Option<Duration> {
        let last = Duration::from_millis(self.last_ms.load(Relaxed));
        Some(self.begin.get()?.elapsed().saturating_sub(last))
    }
}

/// What the supervisor looks at.
#[derive(Debug)]
pub(crate) struct Heartbeat {
    pub options: Options,
    /// Of the listeners' thread.
    pub listening: Pulse,
}

impl Heartbeat {
    /// Tells how the broker does.
    pub fn tell(&self, readiness: &Readiness, shards: &[Arc<ShardThread>]) {
        (self.options.tell)(self.vitals(&readiness.get(), shards));
    }

    fn vitals(&self, state: &State, shards: &[Arc<ShardThread>]) -> Vitals {
        if let State::StoreFailed(cause) = state {
            return Vitals::StoreFailed(cause.clone());
        }
        let patience = self.options.every.max(LEAST_PATIENCE);
        let hangs = |age: Option<Duration>| age.is_none_or(|age| age > patience);
        let mut stuck = Vec::new();
        let mut clients = 0;
        for (number, shard) in shards.iter().enumerate() {
            let report = shard.report();
            clients += report.stats.connections;
            if hangs(report.at.map(|at| at.elapsed())) {
                stuck.push(format!("shard {number}"));
            }
        }
        if hangs(self.listening.age()) {
            stuck.push("listeners".to_owned());
        }
        if stuck.is_empty() {
            Vitals::Well { clients }
        } else {
            Vitals::Stuck(stuck.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_is_well_while_its_threads_show_themselves_and_its_store_works() {
        let heartbeat = Heartbeat {
            options: Options {
                every: Duration::from_secs(3600),
                tell: Arc::new(|_| {}),
            },
            listening: Pulse::default(),
        };
        let stuck = Vitals::Stuck("listeners".to_owned());
        assert_eq!(heartbeat.vitals(&State::Ready, &[]), stuck);
        heartbeat.listening.beat();
        let well = Vitals::Well { clients: 0 };
        assert_eq!(heartbeat.vitals(&State::Ready, &[]), well);
        let failed = heartbeat.vitals(&State::StoreFailed("no disk".into()), &[]);
        assert_eq!(failed, Vitals::StoreFailed("no disk".into()));
    }
}
