//! What happened in a crash test, in numbers.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::board::{Board, Counts};
use super::damage::Damage;

/// The numbers, so far or in the end.
#[derive(Clone, Debug)]
pub struct Report {
    /// What the random choices came from.
    pub seed: u64,
    /// Kills of a working broker.
    pub rounds: u32,
    /// Further kills, while it started.
    pub killed_while_starting: u32,
    /// Checks of all files after a kill.
    pub fscks: u32,
    /// From the start of the process until it listened.
    pub recoveries: Vec<Duration>,
    /// All of it.
    pub took: Duration,
    damages: BTreeMap<Damage, u32>,
    counts: Counts,
}

impl Report {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            seed,
            rounds: 0,
            killed_while_starting: 0,
            fscks: 0,
            recoveries: Vec::new(),
            took: Duration::ZERO,
            damages: BTreeMap::new(),
            counts: Counts::default(),
        }
    }

    pub(super) fn damaged(&mut self, damage: Damage) {
        *self.damages.entry(damage).or_default() += 1;
    }

    pub(super) fn count(&mut self, board: &Board) {
        self.counts = board.counts();
    }

    /// Messages that were acknowledged to a publisher.
    pub fn acked(&self) -> u64 {
        self.counts.acked
    }

    fn recovery(&self, share: f64) -> Duration {
        let mut sorted = self.recoveries.clone();
        sorted.sort_unstable();
        let last = sorted.len().saturating_sub(1);
        sorted
            .get((last as f64 * share).round() as usize)
            .copied()
            .unwrap_or_default()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = self.counts;
        writeln!(f, "seed                   {}", self.seed)?;
        writeln!(
            f,
            "rounds                 {}, and {} kills while starting, in {:.1} s",
            self.rounds,
            self.killed_while_starting,
            self.took.as_secs_f64()
        )?;
        let damages = self
            .damages
            .iter()
            .map(|(damage, count)| format!("{damage} {count}"))
            .collect::<Vec<_>>();
        writeln!(f, "damage                 {}", damages.join(", "))?;
        writeln!(f, "fsck after a kill      {}", self.fscks)?;
        writeln!(f, "connections            {}", counts.connections)?;
        writeln!(f, "messages published     {}", counts.published)?;
        writeln!(f, "packets sent again     {}", counts.resent)?;
        writeln!(f, "messages acknowledged  {}", counts.acked)?;
        writeln!(f, "deliveries             {}", counts.delivered)?;
        writeln!(
            f,
            "duplicates at QoS 1, DUP at QoS 2  {}",
            counts.duplicates
        )?;
        write!(
            f,
            "recovery               median {:.0} ms, 90 % within {:.0} ms, worst {:.0} ms",
            self.recovery(0.5).as_secs_f64() * 1e3,
            self.recovery(0.9).as_secs_f64() * 1e3,
            self.recovery(1.0).as_secs_f64() * 1e3
        )
    }
}
