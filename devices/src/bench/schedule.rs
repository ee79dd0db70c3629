//! In which order everything is run.
//!
//! Invariants: repetitions are outermost and brokers innermost, so that the runs that are compared
//! with each other are neighbours in time; who goes first changes from one group to the next, so
//! that nobody always meets the machine in the same state.

use super::scenario::{Scenario, Shape};
use super::target::Carrier;

/// A row of the table: a scenario, and how many cores the broker has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// What is run.
    pub scenario: Scenario,
    /// Cores, and threads, of the broker.
    pub broker_cores: usize,
}

impl Row {
    /// The usual row: one core for the broker.
    pub fn new(scenario: Scenario) -> Self {
        Self {
            scenario,
            broker_cores: 1,
        }
    }

    /// The row of this name, in the catalogue or not.
    ///
    /// # Errors
    /// If the name is not one that [`Row::name`] makes.
    pub fn by_name(name: &str) -> anyhow::Result<Self> {
        let cores = name.strip_suffix("cores").and_then(|rest| {
            let (scenario, cores) = rest.rsplit_once('-')?;
            Some((scenario, cores.parse().ok().filter(|cores| *cores > 0)?))
        });
        let (scenario, broker_cores) = cores.unwrap_or((name, 1));
        Ok(Self {
            scenario: Scenario::by_name(scenario)?,
            broker_cores,
        })
    }

    /// The scenario's name, and the number of cores if it is not one.
    pub fn name(&self) -> String {
        match self.broker_cores {
            1 => self.scenario.name.clone(),
            cores => format!("{}-{cores}cores", self.scenario.name),
        }
    }
}

/// The rows of a comparison of all: each scenario on one core, and those that show how a broker
/// makes use of more cores on two.
pub fn rows(scenarios: Vec<Scenario>) -> Vec<Row> {
    let scaling = scenarios.iter().filter(|s| shows_scaling(s)).cloned();
    let scaling: Vec<Row> = scaling
        .map(|scenario| Row {
            scenario,
            broker_cores: 2,
        })
        .collect();
    scenarios.into_iter().map(Row::new).chain(scaling).collect()
}

fn shows_scaling(scenario: &Scenario) -> bool {
    let full_size = matches!(
        scenario.shape,
        Shape::Pairs { pairs: 100.. } | Shape::Rooms { rooms: 100.., .. }
    );
    // Window 1 in pairs is a latency, in rooms it is the usual load.
    let under_load = scenario.window > 1 || matches!(scenario.shape, Shape::Rooms { .. });
    full_size
        && under_load
        && scenario.qos == 1
        && scenario.payload_bytes == 64
        && scenario.carrier == Carrier::Tcp
}

/// One run to do: indices of the row and the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// From 0.
    pub repetition: usize,
    /// Which row.
    pub row: usize,
    /// Which broker.
    pub broker: usize,
}

/// All runs in order. `takes_part(row, broker)` says which are wanted.
pub fn steps(
    repetitions: usize,
    rows: usize,
    brokers: usize,
    takes_part: impl Fn(usize, usize) -> bool,
) -> Vec<Step> {
    let mut steps = Vec::new();
    for repetition in 0..repetitions {
        for row in 0..rows {
            for place in 0..brokers {
                let broker = (place + row + repetition) % brokers;
                if takes_part(row, broker) {
                    steps.push(Step {
                        repetition,
                        row,
                        broker,
                    });
                }
            }
        }
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::scenario;

    #[test]
    fn repetitions_are_outermost_and_brokers_innermost() {
        let steps = steps(2, 2, 2, |_, _| true);
        let order: Vec<_> = steps.iter().map(|s| (s.repetition, s.row)).collect();
        let pairs = [(0, 0), (0, 1), (1, 0), (1, 1)];
        let expected: Vec<_> = pairs.iter().flat_map(|pair| [*pair, *pair]).collect();
        assert_eq!(order, expected);
    }

    #[test]
    fn each_broker_goes_first_once() {
        let steps = steps(3, 1, 3, |_, _| true);
        let first: Vec<_> = steps.chunks(3).map(|group| group[0].broker).collect();
        assert_eq!(first, [0, 1, 2]);
    }

    #[test]
    fn who_does_not_take_part_is_left_out() {
        let steps = steps(2, 3, 2, |row, broker| (row, broker) != (1, 1));
        assert_eq!(steps.len(), 10);
        assert!(!steps.iter().any(|s| (s.row, s.broker) == (1, 1)));
    }

    #[test]
    fn pairs_and_rooms_are_run_on_two_cores_too() {
        let rows = rows(scenario::catalogue());
        let names: Vec<_> = rows
            .iter()
            .filter(|row| row.broker_cores == 2)
            .map(Row::name)
            .collect();
        assert_eq!(
            names,
            [
                "pairs-qos1-64B-w20-tcp-2cores",
                "rooms-qos1-64B-w1-tcp-2cores"
            ]
        );
    }

    #[test]
    fn the_name_of_each_row_leads_back_to_it() {
        for row in rows(scenario::catalogue()) {
            assert_eq!(Row::by_name(&row.name()).expect("its own name"), row);
        }
        assert!(Row::by_name("pairs-qos1-64B-w20-tcp-0cores").is_err());
    }

    #[test]
    fn the_short_form_stays_on_one_core() {
        let rows = rows(scenario::short());
        assert!(rows.iter().all(|row| row.broker_cores == 1));
    }
}
