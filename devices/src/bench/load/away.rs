//! Persistent sessions that are away while messages pass, and come back: what a broker keeps for
//! them, what it costs, what is lost when it is killed meanwhile.

use std::time::{Duration, Instant};

use super::conduct::{Conductor, Ended, Snapshot, add_books, lost, remark};
use super::engine::{Engine, Stage};
use super::plan::{ClientPlan, Names, Plan};
use super::setup::{Endpoint, bring_up, forget_sessions, hang_up};
use super::wire::Session;
use super::worker::Harvest;
use super::{Progress, STALL, Settings};
use crate::bench::outcome::Outcome;
use crate::bench::scenario::Scenario;
use crate::bench::target::Target;

/// Publishers of the messages before a kill: several, so that it hits some in the middle.
const PUBLISHERS_BEFORE_KILL: u32 = 10;

/// How often it is looked whether enough messages have passed: a kill that comes late finds none on
/// their way.
const PASSED_LOOK: Duration = Duration::from_micros(200);

/// What all runs with absent sessions have in common.
pub struct Away<'a> {
    /// What is run.
    pub scenario: &'a Scenario,
    /// Names of the run.
    pub names: &'a Names,
    /// How it is run.
    pub settings: &'a Settings,
    /// Who is told how it goes.
    pub progress: &'a dyn Fn(Progress),
}

/// What was published while they were away.
struct Passed {
    harvests: Vec<Harvest>,
    acknowledged: u64,
}

impl Away<'_> {
    /// Publishers at work for the measured time while one session, that gets all of it, is away.
    ///
    /// # Errors
    /// If clients cannot be connected.
    pub fn durable(&self, publishers: u32, target: &dyn Target) -> anyhow::Result<Outcome> {
        let endpoint = Endpoint::of(target, self.scenario.carrier)?;
        let sessions = self.sessions(1, "in/+", 0..publishers);
        self.establish(&sessions, &endpoint)?;
        let mut outcome = Outcome::empty();
        let plan = Plan::with(self.publishers(publishers, "in", None), self.scenario);
        let engine = Engine::start(&plan, &endpoint, self.settings)?;
        let conductor = Conductor::new(&engine, self.progress);
        engine.stage(Stage::Run);
        let mut ended = conductor.run_for("warming up", self.settings.warm_up);
        if ended == Ended::Done {
            ended = conductor.measure(self.settings.measure, target, &mut outcome);
        }
        remark(&mut outcome, &engine, ended, "publishing");
        outcome.delivered = outcome.acknowledged;
        conductor.drain();
        let passed = Passed {
            acknowledged: engine.totals().acknowledged,
            harvests: engine.finish()?,
        };
        add_books(&mut outcome, &passed.harvests);
        self.come_back(&sessions, &endpoint, target, &passed, &mut outcome)?;
        forget_sessions(&sessions, &endpoint);
        Ok(outcome)
    }

    /// Messages for many sessions, that all come back at once. Measured is their coming back.
    ///
    /// # Errors
    /// If clients cannot be connected.
    pub fn burst(
        &self,
        sessions: u32,
        messages: u32,
        target: &dyn Target,
    ) -> anyhow::Result<Outcome> {
        let endpoint = Endpoint::of(target, self.scenario.carrier)?;
        let sessions = self.sessions(sessions, "burst/+", 0..1);
        self.establish(&sessions, &endpoint)?;
        let mut outcome = Outcome::empty();
        let before = target.usage();
        let began = Instant::now();
        let plan = Plan::with(
            self.publishers(1, "burst", Some(messages.into())),
            self.scenario,
        );
        let engine = Engine::start(&plan, &endpoint, self.settings)?;
        self.pass(&engine, messages.into(), &mut outcome);
        outcome.add_figure(
            "published/s",
            f64::from(messages) / began.elapsed().as_secs_f64(),
        );
        engine.stage(Stage::Drain);
        let passed = Passed {
            acknowledged: engine.totals().acknowledged,
            harvests: engine.finish()?,
        };
        if let Some((before, now)) = before.zip(target.usage()) {
            let grown = now.resident_bytes.saturating_sub(before.resident_bytes);
            outcome.add_figure("MB kept in memory", grown as f64 / 1e6);
        }
        let (drained, seconds, cpu) =
            self.come_back(&sessions, &endpoint, target, &passed, &mut outcome)?;
        (outcome.delivered, outcome.seconds, outcome.broker_cpu) = (drained, seconds, cpu);
        forget_sessions(&sessions, &endpoint);
        Ok(outcome)
    }

    /// Messages for many sessions, SIGKILL while the last of them pass, and a new start. Measured is
    /// the coming back after that.
    ///
    /// # Errors
    /// If clients cannot be connected, or the broker cannot be killed and started again.
    pub fn restart(
        &self,
        sessions: u32,
        messages: u32,
        target: &mut dyn Target,
    ) -> anyhow::Result<Outcome> {
        let endpoint = Endpoint::of(target, self.scenario.carrier)?;
        let publishers = PUBLISHERS_BEFORE_KILL.min(messages);
        let sessions = self.sessions(sessions, "kill/+", 0..publishers);
        self.establish(&sessions, &endpoint)?;
        let mut outcome = Outcome::empty();
        let each = u64::from(messages.div_ceil(publishers));
        let plan = Plan::with(
            self.publishers(publishers, "kill", Some(each)),
            self.scenario,
        );
        let engine = Engine::start(&plan, &endpoint, self.settings)?;
        // The kill comes before the last tenth, so that messages are under way.
        self.pass(&engine, u64::from(messages) * 9 / 10, &mut outcome);
        engine.expect_closing();
        (self.progress)(Progress {
            doing: "killing the broker",
            share: None,
            delivered: 0,
        });
        let began = Instant::now();
        target.kill_and_restart()?;
        outcome.add_figure("seconds to restart", began.elapsed().as_secs_f64());
        engine.stage(Stage::Drain);
        let harvests = engine.finish()?;
        let acknowledged = harvests.iter().map(|h| h.books.counts.acknowledged).sum();
        let passed = Passed {
            acknowledged,
            harvests,
        };
        let endpoint = Endpoint::of(target, self.scenario.carrier)?;
        let (drained, seconds, cpu) =
            self.come_back(&sessions, &endpoint, target, &passed, &mut outcome)?;
        (outcome.delivered, outcome.seconds, outcome.broker_cpu) = (drained, seconds, cpu);
        outcome.add_figure("acknowledged before the kill", acknowledged as f64);
        let wanted = acknowledged as f64 * sessions.len() as f64;
        outcome.add_figure(
            "% of their deliveries lost",
            100.0 * outcome.lost as f64 / wanted.max(1.0),
        );
        forget_sessions(&sessions, &endpoint);
        Ok(outcome)
    }

    fn sessions(
        &self,
        count: u32,
        filter: &str,
        publishers: std::ops::Range<u32>,
    ) -> Vec<ClientPlan> {
        (0..count)
            .map(|n| ClientPlan {
                session: Session::Persistent,
                ..self.names.subscriber(n, filter, publishers.clone())
            })
            .collect()
    }

    /// Publishers whose messages are complete when they are acknowledged.
    fn publishers(&self, count: u32, topic: &str, limit: Option<u64>) -> Vec<ClientPlan> {
        (0..count)
            .map(|n| {
                let mut client = self.names.publisher(n, &format!("{topic}/{n}"), 0);
                client.thread = n as usize % self.settings.threads.max(1);
                if let Some(publishes) = &mut client.publishes {
                    publishes.limit = limit;
                }
                client
            })
            .collect()
    }

    /// Subscribes the sessions and leaves.
    fn establish(&self, sessions: &[ClientPlan], endpoint: &Endpoint) -> anyhow::Result<()> {
        (self.progress)(Progress {
            doing: "connecting",
            share: None,
            delivered: 0,
        });
        let ups = bring_up(
            &sessions.iter().collect::<Vec<_>>(),
            self.scenario.qos,
            endpoint,
            1,
        )?;
        hang_up(ups);
        Ok(())
    }

    /// Publishes until so many are acknowledged.
    fn pass(&self, engine: &Engine, messages: u64, outcome: &mut Outcome) {
        engine.stage(Stage::Run);
        engine.stage(Stage::Measure);
        let conductor = Conductor {
            look: PASSED_LOOK,
            ..Conductor::new(engine, self.progress)
        };
        let share = |t: super::engine::Totals| Some(t.acknowledged as f64 / messages.max(1) as f64);
        let ended = conductor.wait("publishing", |t| t.acknowledged >= messages, share);
        let totals = engine.totals();
        (outcome.sent, outcome.acknowledged) = (totals.sent, totals.acknowledged);
        remark(outcome, engine, ended, "publishing");
    }

    /// The sessions connect again and get what they missed: how many, in how many seconds, for how much
    /// CPU time of the broker.
    fn come_back(
        &self,
        sessions: &[ClientPlan],
        endpoint: &Endpoint,
        target: &dyn Target,
        passed: &Passed,
        outcome: &mut Outcome,
    ) -> anyhow::Result<(u64, f64, Option<Duration>)> {
        let threads = self.settings.threads.max(1);
        let clients = sessions.iter().enumerate().map(|(n, client)| ClientPlan {
            filters: Vec::new(),
            thread: n % threads,
            ..client.clone()
        });
        let plan = Plan::with(clients.collect(), self.scenario);
        let usage = target.usage();
        let engine = Engine::start(&plan, endpoint, self.settings)?;
        let present = engine.sessions_present();
        if present < sessions.len() {
            outcome.remarks.push(format!(
                "{} of {} sessions are gone",
                sessions.len() - present,
                sessions.len()
            ));
        }
        let wanted = passed.acknowledged * present as u64;
        let conductor = Conductor::new(&engine, self.progress);
        engine.stage(Stage::Measure);
        let share = |t: super::engine::Totals| Some(t.delivered as f64 / wanted.max(1) as f64);
        let ended = conductor.wait("draining", |t| t.delivered >= wanted, share);
        if ended == Ended::Stalled && engine.closed().is_some() {
            remark(outcome, &engine, ended, "draining");
        } else if ended == Ended::Stalled {
            let came = engine.totals().delivered;
            outcome.remarks.push(format!(
                "{came} of {wanted} came, then nothing for {} s",
                STALL.as_secs()
            ));
        }
        engine.stage(Stage::Drain);
        // Time for what should not come: doubled messages.
        std::thread::sleep(Duration::from_millis(200));
        let now = target.usage();
        let harvests = engine.finish()?;
        let cpu = usage
            .zip(now)
            .map(|(before, now)| now.cpu.saturating_sub(before.cpu));
        let latest = harvests
            .iter()
            .map(|h| h.books.latest_nanos)
            .max()
            .unwrap_or(0);
        let seconds = Duration::from_nanos(latest).as_secs_f64();
        let drained = harvests
            .iter()
            .map(|h| h.books.counts.delivered)
            .sum::<u64>();
        if drained > 0 {
            outcome.add_figure("drained/s", drained as f64 / seconds.max(1e-9));
        }
        outcome.peak_resident_bytes = now.map(|u| u.peak_resident_bytes);
        // Latencies of messages that waited for their receiver say nothing.
        let latency = outcome.latency.clone();
        add_books(outcome, &harvests);
        outcome.latency = latency;
        outcome.lost = lost(self.scenario.qos, &passed.harvests, &harvests);
        Ok((drained, seconds, cpu))
    }
}

/// A reader that stops while messages pass, and then reads on. Measured is the passing.
///
/// # Errors
/// If clients cannot be connected.
pub fn slow_subscriber(
    away: &Away<'_>,
    messages: u32,
    target: &dyn Target,
) -> anyhow::Result<Outcome> {
    let endpoint = Endpoint::of(target, away.scenario.carrier)?;
    let mut clients = away.publishers(1, "slow", Some(messages.into()));
    clients.push(ClientPlan {
        slow: true,
        ..away.names.subscriber(0, "slow/+", 0..1)
    });
    let engine = Engine::start(
        &Plan::with(clients, away.scenario),
        &endpoint,
        away.settings,
    )?;
    // Some brokers throw a slow reader out.
    engine.expect_closing();
    let mut outcome = Outcome::empty();
    let before = Snapshot::take(&engine, target);
    away.pass(&engine, messages.into(), &mut outcome);
    before.until_now(&engine, target, &mut outcome);
    outcome.delivered = outcome.acknowledged;
    let began = Instant::now();
    engine.stage(Stage::Drain);
    let conductor = Conductor::new(&engine, away.progress);
    let wanted = |t: super::engine::Totals| t.acknowledged;
    let ended = conductor.wait(
        "draining",
        |t| t.delivered >= wanted(t) || engine.connections_lost() > 0,
        |t| Some(t.delivered as f64 / wanted(t).max(1) as f64),
    );
    let seconds = began.elapsed().saturating_sub(if ended == Ended::Stalled {
        STALL
    } else {
        Duration::ZERO
    });
    let totals = engine.totals();
    if engine.connections_lost() > 0 {
        outcome
            .remarks
            .push("the broker closed the connection of the slow reader".to_owned());
    } else {
        remark(&mut outcome, &engine, ended, "reading on");
    }
    outcome.add_figure(
        "drained/s",
        totals.delivered as f64 / seconds.as_secs_f64().max(1e-9),
    );
    outcome.add_figure(
        "% of the acknowledged delivered",
        100.0 * totals.delivered as f64 / totals.acknowledged.max(1) as f64,
    );
    outcome.peak_resident_bytes = target.usage().map(|u| u.peak_resident_bytes);
    let harvests = engine.finish()?;
    add_books(&mut outcome, &harvests);
    outcome.lost = lost(away.scenario.qos, &harvests, &harvests);
    Ok(outcome)
}
