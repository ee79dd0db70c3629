//! What stands in a broker without moving: idle connections and many filters. How fast it is set up,
//! how much memory it takes, and whether it slows down what moves.

use std::time::{Duration, Instant};

use super::conduct::add_books;
use super::engine::Engine;
use super::plan::{ClientPlan, NUMBER_DIGITS, Names, Plan, PublishPlan, Receives};
use super::setup::Endpoint;
use super::throughput::{run_engine, run_plan};
use super::{Progress, Settings};
use crate::bench::outcome::Outcome;
use crate::bench::scenario::Scenario;
use crate::bench::target::{Target, Usage};

/// For a broker to finish what the last connection caused before its memory is read.
const SETTLE: Duration = Duration::from_millis(500);
/// Clients that hold the filters: 800 each of 200,000, which is within the limits that brokers ship with.
const HOLDERS: u32 = 250;
/// Clients that publish to random ones.
const PUBLISHERS: u32 = 50;
/// The few filters that many are compared with.
const FEW: u32 = 1_000;

/// Connections that do nothing. Measured is the connecting.
///
/// # Errors
/// If not all can be connected.
pub fn idle(
    scenario: &Scenario,
    connections: u32,
    names: &Names,
    target: &dyn Target,
    settings: &Settings,
    progress: &dyn Fn(Progress),
) -> anyhow::Result<Outcome> {
    let endpoint = Endpoint::of(target, scenario.carrier)?;
    let threads = settings.threads.max(1);
    let clients = (0..connections)
        .map(|n| ClientPlan {
            thread: n as usize % threads,
            ..names.idle('i', n)
        })
        .collect();
    let plan = Plan::with(clients, scenario);
    progress(Progress {
        doing: "connecting",
        share: None,
        delivered: 0,
    });
    let before = target.usage();
    let began = Instant::now();
    let engine = Engine::start(&plan, &endpoint, settings)?;
    let mut outcome = Outcome::empty();
    outcome.seconds = began.elapsed().as_secs_f64();
    std::thread::sleep(SETTLE);
    let after = target.usage();
    let lost = engine.connections_lost();
    if lost > 0 {
        outcome
            .remarks
            .push(format!("the broker closed {lost} idle connections"));
    }
    add_books(&mut outcome, &engine.finish()?);
    outcome.add_figure(
        "connects/s",
        f64::from(connections) / outcome.seconds.max(1e-9),
    );
    growth(&mut outcome, before, after, connections, "connection");
    Ok(outcome)
}

/// Publishing to random ones of many filters. Measured is the publishing; the same with few filters is
/// among the figures.
///
/// # Errors
/// If clients cannot be connected or subscribed.
pub fn filters(
    scenario: &Scenario,
    filters: u32,
    names: [&Names; 2],
    target: &dyn Target,
    settings: &Settings,
    progress: &dyn Fn(Progress),
) -> anyhow::Result<Outcome> {
    let endpoint = Endpoint::of(target, scenario.carrier)?;
    let few = FEW.min(filters);
    let half = Settings {
        measure: settings.measure / 2,
        ..settings.clone()
    };
    let small = run_plan(
        &filter_plan(scenario, few, names[0], settings),
        &endpoint,
        target,
        &half,
        progress,
    )?;
    std::thread::sleep(SETTLE);

    let plan = filter_plan(scenario, filters, names[1], settings);
    progress(Progress {
        doing: "subscribing",
        share: None,
        delivered: 0,
    });
    let before = target.usage();
    let began = Instant::now();
    let engine = Engine::start(&plan, &endpoint, settings)?;
    let subscribing = began.elapsed().as_secs_f64();
    std::thread::sleep(SETTLE);
    let after = target.usage();

    let mut outcome = run_engine(engine, plan.qos, target, settings, progress)?;
    outcome.lost += small.lost;
    outcome.doubled += small.doubled;
    outcome.out_of_order += small.out_of_order;
    outcome.add_figure("subscribes/s", f64::from(filters) / subscribing.max(1e-9));
    growth(&mut outcome, before, after, filters, "filter");
    let (rate, rate_with_few) = (outcome.delivered_per_second(), small.delivered_per_second());
    outcome.add_figure(format!("delivered/s with {few} filters"), rate_with_few);
    if rate_with_few > 0.0 {
        outcome.add_figure("rate as a fraction of that", rate / rate_with_few);
    }
    if let Some(micros) = small.cpu_micros_per_delivered() {
        outcome.add_figure(
            format!("CPU us per delivered message with {few} filters"),
            micros,
        );
    }
    outcome.remarks.extend(
        small
            .remarks
            .into_iter()
            .map(|r| format!("with {few} filters: {r}")),
    );
    Ok(outcome)
}

/// Clients that hold numbered filters evenly, and publishers to random ones.
fn filter_plan(scenario: &Scenario, filters: u32, names: &Names, settings: &Settings) -> Plan {
    let stem = names.topic("f/");
    let holders = HOLDERS.min(filters);
    let mut clients: Vec<_> = (0..holders)
        .map(|holder| ClientPlan {
            filters: (holder..filters)
                .step_by(holders as usize)
                .map(|n| format!("{stem}{n:0NUMBER_DIGITS$}"))
                .collect(),
            receives: Some(Receives::Some(0..PUBLISHERS)),
            ..names.idle('s', holder)
        })
        .collect();
    clients.extend((0..PUBLISHERS).map(|n| ClientPlan {
        publishes: Some(PublishPlan {
            publisher: n,
            topic: stem.clone(),
            numbered: Some(filters),
            limit: None,
            receivers: 1,
        }),
        thread: n as usize % settings.threads.max(1),
        ..names.idle('p', n)
    }));
    Plan::with(clients, scenario)
}

/// Memory and CPU time that so many things took.
fn growth(
    outcome: &mut Outcome,
    before: Option<Usage>,
    after: Option<Usage>,
    count: u32,
    thing: &str,
) {
    let Some((before, after)) = before.zip(after) else {
        return;
    };
    let count = f64::from(count.max(1));
    let grown = after.resident_bytes.saturating_sub(before.resident_bytes) as f64;
    let cpu = after.cpu.saturating_sub(before.cpu);
    outcome.add_figure(format!("bytes per {thing}"), grown / count);
    outcome.add_figure(
        format!("CPU us per {thing}"),
        cpu.as_secs_f64() * 1e6 / count,
    );
    outcome.peak_resident_bytes = Some(after.peak_resident_bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::scenario::Shape;
    use crate::bench::target::Carrier;

    #[test]
    fn each_filter_is_held_by_one_client() {
        let scenario = Scenario::new(Shape::Filters { filters: 1_234 }, 0, 64, 20, Carrier::Tcp);
        let settings = Settings {
            warm_up: Duration::ZERO,
            measure: Duration::ZERO,
            cores: None,
            threads: 1,
        };
        let plan = filter_plan(&scenario, 1_234, &Names::new(1), &settings);
        let held: Vec<_> = plan.clients.iter().flat_map(|c| &c.filters).collect();
        let distinct: std::collections::BTreeSet<_> = held.iter().collect();
        assert_eq!((held.len(), distinct.len()), (1_234, 1_234));
    }
}
