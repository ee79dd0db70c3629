//! Many sensors at once: starts them spread over the ramp-up time, shows progress, reports.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tracing::error;

use crate::report::{Count, Report, Score};
use crate::scenario::Scenario;
use crate::sensor::{Sensor, stopped};

/// Progress of a run, handed out once a second.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// Time since the start.
    pub elapsed: Duration,
    /// Sensors connected now.
    pub online: u64,
    /// Sensors in total.
    pub sensors: u64,
    /// Readings sent.
    pub sent: u64,
    /// Readings acknowledged.
    pub acknowledged: u64,
    /// Reconnects.
    pub reconnects: u64,
}

/// Runs a scenario to its end, or until `stop` turns true and everything has drained.
///
/// `progress` is called once a second.
pub async fn run(
    scenario: &Scenario,
    stop: watch::Receiver<bool>,
    mut progress: impl FnMut(Progress),
) -> Report {
    let score = Arc::new(Score::default());
    let start = Instant::now();
    let sensors = u64::from(scenario.sensors);
    let mut running = JoinSet::new();
    for index in 0..scenario.sensors {
        let seed = scenario.behaviour.seed.wrapping_add(u64::from(index));
        let sensor = Sensor::new(
            scenario.behaviour.clone(),
            &scenario.device(index + 1),
            seed,
            Arc::clone(&score),
        );
        let delay = scenario
            .ramp_up
            .mul_f64(f64::from(index) / f64::from(scenario.sensors));
        let stop = stop.clone();
        let mut told_to_stop = stop.clone();
        running.spawn(async move {
            tokio::select! {
                () = sleep(delay) => sensor.run(stop).await,
                // Stopped before its turn came: it never existed.
                () = stopped(&mut told_to_stop) => {}
            }
        });
    }

    let mut tick = interval(Duration::from_secs(1));
    tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
    tick.tick().await;
    loop {
        tokio::select! {
            ended = running.join_next() => match ended {
                None => break,
                Some(Ok(())) => {}
                Some(Err(e)) => error!("a sensor ended abnormally: {e}"),
            },
            _ = tick.tick() => progress(Progress {
                elapsed: start.elapsed(),
                online: score.get(Count::Online),
                sensors,
                sent: score.get(Count::Sent),
                acknowledged: score.get(Count::Acknowledged),
                reconnects: score.get(Count::Reconnects),
            }),
        }
    }
    score.report(sensors, scenario.behaviour.qos, start.elapsed())
}
