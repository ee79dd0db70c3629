//! Shapes that are publishers and receivers at work: warm up, measure, drain, verify.

use super::conduct::{Conductor, Ended, add_books, lost, remark};
use super::engine::{Engine, Stage};
use super::plan::{Names, Plan};
use super::setup::{Endpoint, forget_sessions};
use super::wire::Session;
use super::{Progress, Settings};
use crate::bench::outcome::Outcome;
use crate::bench::scenario::{Scenario, Shape};
use crate::bench::target::Target;

/// Runs fan-in, fan-out, pairs, rooms, shared subscriptions, paced pairs, and publishers with a persistent
/// subscriber that is online.
///
/// # Errors
/// If the clients cannot be connected.
pub fn run(
    scenario: &Scenario,
    names: &Names,
    target: &dyn Target,
    settings: &Settings,
    progress: &dyn Fn(Progress),
) -> anyhow::Result<Outcome> {
    let endpoint = Endpoint::of(target, scenario.carrier)?;
    let mut plan = Plan::of(scenario, names, settings.threads);
    let persistent = matches!(scenario.shape, Shape::Durable { .. });
    for client in plan
        .clients
        .iter_mut()
        .filter(|c| persistent && c.receives.is_some())
    {
        client.session = Session::Persistent;
    }
    let outcome = run_plan(&plan, &endpoint, target, settings, progress)?;
    if persistent {
        plan.clients.retain(|c| c.receives.is_some());
        forget_sessions(&plan.clients, &endpoint);
    }
    Ok(outcome)
}

/// The same with clients of one's own choice.
///
/// # Errors
/// If the clients cannot be connected.
pub fn run_plan(
    plan: &Plan,
    endpoint: &Endpoint,
    target: &dyn Target,
    settings: &Settings,
    progress: &dyn Fn(Progress),
) -> anyhow::Result<Outcome> {
    progress(Progress {
        doing: "connecting",
        share: None,
        delivered: 0,
    });
    let engine = Engine::start(plan, endpoint, settings)?;
    run_engine(engine, plan.qos, target, settings, progress)
}

/// The same with clients that are connected already.
///
/// # Errors
/// If a thread of the generator fails.
pub fn run_engine(
    engine: Engine,
    qos: u8,
    target: &dyn Target,
    settings: &Settings,
    progress: &dyn Fn(Progress),
) -> anyhow::Result<Outcome> {
    let conductor = Conductor::new(&engine, progress);
    let mut outcome = Outcome::empty();
    engine.stage(Stage::Run);
    let mut ended = conductor.run_for("warming up", settings.warm_up);
    remark(&mut outcome, &engine, ended, "warming up");
    if ended == Ended::Done {
        ended = conductor.measure(settings.measure, target, &mut outcome);
        remark(&mut outcome, &engine, ended, "measuring");
    }
    if ended == Ended::Done {
        ended = conductor.drain();
        remark(&mut outcome, &engine, ended, "draining");
    }
    let harvests = engine.finish()?;
    add_books(&mut outcome, &harvests);
    outcome.lost = lost(qos, &harvests, &harvests);
    Ok(outcome)
}
