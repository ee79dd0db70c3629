//! What every shape does with the engine: wait while it runs, notice that a broker stalls, measure a
//! stretch of time, wait until everything has arrived, and verify.

use std::time::{Duration, Instant};

use super::engine::{Engine, Stage, Totals};
use super::worker::Harvest;
use super::{Progress, STALL};
use crate::bench::outcome::Outcome;
use crate::bench::target::{Target, Usage};

/// How often the conductor looks.
const LOOK: Duration = Duration::from_millis(5);
/// How often someone who watches is told.
const TELL: Duration = Duration::from_millis(100);
/// After everything has arrived: time for what should not arrive, doubled messages.
const AFTERMATH: Duration = Duration::from_millis(200);

/// Why waiting ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// What was waited for has happened.
    Done,
    /// Nothing moved for [`STALL`], or connections were lost.
    Stalled,
}

/// Someone who waits for an engine.
pub struct Conductor<'a> {
    /// The engine.
    pub engine: &'a Engine,
    /// Who is told how it goes.
    pub progress: &'a dyn Fn(Progress),
    /// How often it looks.
    pub look: Duration,
}

impl<'a> Conductor<'a> {
    /// Who looks as often as most shapes need.
    #[must_use]
    pub fn new(engine: &'a Engine, progress: &'a dyn Fn(Progress)) -> Self {
        Self {
            engine,
            progress,
            look: LOOK,
        }
    }

    /// Waits until `done` (given the totals) or a stall; a lost connection ends it too.
    pub fn wait(
        &self,
        doing: &'static str,
        mut done: impl FnMut(Totals) -> bool,
        share: impl Fn(Totals) -> Option<f64>,
    ) -> Ended {
        let (mut last, mut last_moved) = (self.engine.totals(), Instant::now());
        let mut told = Instant::now();
        loop {
            let totals = self.engine.totals();
            if done(totals) {
                return Ended::Done;
            }
            // Sending alone is no movement: publishers may be giving up what is lost.
            if (totals.acknowledged, totals.delivered) != (last.acknowledged, last.delivered) {
                (last, last_moved) = (totals, Instant::now());
            }
            if last_moved.elapsed() > STALL
                || self.engine.has_failed()
                || self.engine.closed().is_some()
            {
                return Ended::Stalled;
            }
            if told.elapsed() > TELL {
                told = Instant::now();
                (self.progress)(Progress {
                    doing,
                    share: share(totals),
                    delivered: totals.delivered,
                });
            }
            std::thread::sleep(self.look);
        }
    }

    /// Waits for so long, or until a stall.
    pub fn run_for(&self, doing: &'static str, time: Duration) -> Ended {
        let began = Instant::now();
        let share = |_| Some(began.elapsed().as_secs_f64() / time.as_secs_f64().max(1e-9));
        // The last step of waiting is as long as it has to be, so that measured times are exact.
        let ended = self.wait(doing, |_| began.elapsed() + self.look >= time, share);
        if ended == Ended::Done {
            std::thread::sleep(time.saturating_sub(began.elapsed()));
        }
        ended
    }

    /// Measures for so long: counts, time and broker CPU.
    pub fn measure(&self, time: Duration, target: &dyn Target, outcome: &mut Outcome) -> Ended {
        self.engine.stage(Stage::Measure);
        let before = Snapshot::take(self.engine, target);
        let ended = self.run_for("measuring", time);
        before.until_now(self.engine, target, outcome);
        ended
    }

    /// Stops publishing and waits until everything that is under way has arrived.
    pub fn drain(&self) -> Ended {
        self.engine.stage(Stage::Drain);
        let ended = self.wait("draining", |_| self.engine.is_settled(), |_| None);
        if ended == Ended::Done {
            std::thread::sleep(AFTERMATH);
        }
        ended
    }
}

/// The beginning of a measured time.
#[derive(Debug)]
pub struct Snapshot {
    at: Instant,
    totals: Totals,
    usage: Option<Usage>,
}

impl Snapshot {
    /// Now.
    #[must_use]
    pub fn take(engine: &Engine, target: &dyn Target) -> Self {
        Self {
            usage: target.usage(),
            at: Instant::now(),
            totals: engine.totals(),
        }
    }

    /// Writes what happened since into the outcome.
    pub fn until_now(&self, engine: &Engine, target: &dyn Target, outcome: &mut Outcome) {
        let now = engine.totals();
        outcome.seconds = self.at.elapsed().as_secs_f64();
        let usage = target.usage();
        outcome.sent = now.sent - self.totals.sent;
        outcome.acknowledged = now.acknowledged - self.totals.acknowledged;
        outcome.delivered = now.delivered - self.totals.delivered;
        outcome.broker_cpu = usage
            .zip(self.usage)
            .map(|(now, before)| now.cpu.saturating_sub(before.cpu));
        outcome.peak_resident_bytes = usage.map(|u| u.peak_resident_bytes);
    }
}

/// Notes what ended a stage before its time.
pub fn remark(outcome: &mut Outcome, engine: &Engine, ended: Ended, doing: &str) {
    if ended == Ended::Stalled {
        let why = engine
            .closed()
            .unwrap_or_else(|| format!("nothing moved for {} s", STALL.as_secs()));
        outcome.remarks.push(format!("{doing}: {why}"));
    }
}

/// Adds what the threads have seen: latencies, doubled and overtaking deliveries, how busy they were.
pub fn add_books(outcome: &mut Outcome, harvests: &[Harvest]) {
    for harvest in harvests {
        let books = &harvest.books;
        outcome.doubled += books.counts.doubled;
        outcome.out_of_order += books.counts.out_of_order;
        outcome.generator_busy = outcome.generator_busy.max(harvest.busy);
        // Both have the same precision and grow as needed.
        let _same_kind = outcome.latency.add(&books.latency);
        if books.counts.given_up > 0 {
            outcome.remarks.push(format!(
                "publishers gave {} messages up after 3 s without any",
                books.counts.given_up
            ));
        }
        if books.counts.foreign > 0 {
            outcome.remarks.push(format!(
                "{} messages that are not from this run",
                books.counts.foreign
            ));
        }
    }
}

/// Deliveries that never came: of what `publishers` sent (QoS 0) or had acknowledged, to `receivers`.
#[must_use]
pub fn lost(qos: u8, publishers: &[Harvest], receivers: &[Harvest]) -> u64 {
    let mut by_number: Vec<_> = publishers.iter().flat_map(|h| &h.publishers).collect();
    by_number.sort_by_key(|p| p.number);
    let lost_of = |number: u32, arrivals: &super::sequence::Arrivals| {
        by_number.get(number as usize).map_or(0, |p| {
            if qos == 0 {
                arrivals.lost_of_first(p.next)
            } else {
                arrivals.lost_of(&p.acknowledged)
            }
        })
    };
    let mut lost = 0;
    for harvest in receivers {
        for receiver in &harvest.receivers {
            lost += receiver
                .arrivals()
                .map(|(number, a)| lost_of(number, a))
                .sum::<u64>();
        }
        lost += (0..)
            .zip(&harvest.books.shared)
            .map(|(number, a)| lost_of(number, a))
            .sum::<u64>();
    }
    lost
}
