//! Everything, for programs: each run by itself, medians, and ratios.

use serde_json::{Map, Value, json as value};

use super::table::date;
use super::targets::Check;
use super::{Conditions, ratio_to};
use crate::bench::compare::{Comparison, RowResult};
use crate::bench::measure::{Measure, Run, Runs};

/// Quantiles that a latency plot is drawn from.
const QUANTILES: [f64; 9] = [0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 0.999, 1.0];

/// The whole comparison.
pub fn json(comparison: &Comparison, conditions: &Conditions, checks: &[Check]) -> Value {
    let machine = &conditions.machine;
    value!({
        "began": date(conditions.began),
        "command": conditions.command,
        "repetitions": conditions.repetitions,
        "measure_s": conditions.measure_s,
        "cores": conditions.cores,
        "machine": {
            "processor": machine.processor,
            "cores": machine.cores,
            "system": machine.system,
            "memory_bytes": machine.memory_bytes,
            "filesystem": machine.filesystem,
            "load": machine.load,
            "sync_us": machine.sync_micros,
        },
        "brokers": comparison.brokers.iter().map(|broker| value!({
            "name": broker.name,
            "version": broker.version,
            "settings": broker.settings,
        })).collect::<Vec<_>>(),
        "targets": checks.iter().map(|check| value!({
            "scenario": check.scenario,
            "target": check.says,
            "measured": check.value,
            "verdict": check.verdict.to_string(),
            "source": check.source,
        })).collect::<Vec<_>>(),
        "scenarios": comparison.rows.iter().map(|row| value!({
            "name": row.row.name(),
            "broker_cores": row.row.broker_cores,
            "qos": row.row.scenario.qos,
            "payload_bytes": row.row.scenario.payload_bytes,
            "window": row.row.scenario.window,
            "carrier": row.row.scenario.carrier.to_string(),
            "brokers": comparison.entries(row).map(|(broker, runs)| {
                of_broker(comparison, row, &broker.name, runs)
            }).collect::<Vec<_>>(),
        })).collect::<Vec<_>>(),
    })
}

fn of_broker(comparison: &Comparison, row: &RowResult, name: &str, runs: &Runs) -> Value {
    let object = |figure: &dyn Fn(&Measure) -> Option<f64>| -> Map<String, Value> {
        let figures = Measure::ALL
            .iter()
            .filter_map(|measure| Some((measure.key().into_owned(), value!(figure(measure)?))));
        figures.collect()
    };
    let mut medians = object(&|measure| runs.figure(measure));
    for figure in runs.figure_names() {
        let measure = Measure::Figure(figure.to_owned().into());
        medians.insert(figure.to_owned(), value!(runs.figure(&measure)));
    }
    value!({
        "broker": name,
        "median": medians,
        "ours_by_theirs": object(&|measure| ratio_to(comparison, row, (name, runs), measure)),
        "generator_was_the_bottleneck": runs.generator_was_the_bottleneck(),
        "runs": runs.0.iter().map(of_run).collect::<Vec<_>>(),
    })
}

fn of_run(run: &Run) -> Value {
    let outcome = match run {
        Ok(outcome) => outcome,
        Err(error) => return value!({ "failed": error }),
    };
    let mut object: Map<String, Value> = Measure::ALL
        .iter()
        .filter_map(|measure| Some((measure.key().into_owned(), value!(measure.of(outcome)?))))
        .collect();
    let figures: Map<String, Value> = outcome
        .figures
        .iter()
        .map(|(name, figure)| (name.clone(), value!(figure)))
        .collect();
    let quantiles: Vec<Value> = QUANTILES
        .iter()
        .filter(|_| !outcome.latency.is_empty())
        .map(|q| value!([q, outcome.latency.value_at_quantile(*q)]))
        .collect();
    object.extend([
        ("sent".to_owned(), value!(outcome.sent)),
        ("acknowledged".to_owned(), value!(outcome.acknowledged)),
        ("delivered".to_owned(), value!(outcome.delivered)),
        ("seconds".to_owned(), value!(outcome.seconds)),
        ("generator_busy".to_owned(), value!(outcome.generator_busy)),
        ("latency_quantiles_ns".to_owned(), value!(quantiles)),
        ("figures".to_owned(), Value::Object(figures)),
        ("remarks".to_owned(), value!(outcome.remarks)),
    ]);
    Value::Object(object)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{conditions, made_up};
    use super::*;

    #[test]
    fn medians_ratios_and_single_runs_are_there() {
        let all = json(&made_up("pairs-qos1-64B-w20-tcp"), &conditions(), &[]);
        let brokers = &all["scenarios"][0]["brokers"];
        assert_eq!(brokers[0]["median"]["delivered_per_s"], 1_000_000.0);
        assert_eq!(brokers[0]["ours_by_theirs"], value!({}));
        assert_eq!(
            brokers[1]["ours_by_theirs"]["broker_cpu_us_per_delivered"],
            0.25
        );
        assert_eq!(brokers[1]["runs"][0]["lost"], 12.0);
        assert_eq!(brokers[1]["runs"][1]["failed"], "it <ended>");
        assert_eq!(all["machine"]["sync_us"], 200.0);
    }
}
