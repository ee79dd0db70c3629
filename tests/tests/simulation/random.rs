//! Random lives of a house. A failing seed is run alone, with a trace, by
//! `cargo run -p tidings-tests --bin simulate -- --seed N --trace`.

use tidings_tests::simulation::{Chances, calm_schedule, one_schedule};

/// Schedules of each kind in one run of the tests; by hand there can be any number.
const SEEDS: u64 = 400;

fn run(seeds: std::ops::Range<u64>, chances: Chances) {
    let mut acknowledged = 0;
    for seed in seeds {
        let outcome = one_schedule(seed, chances);
        assert!(
            outcome.faults.is_empty(),
            "seed {seed} (crashes: {}): {:#?}",
            chances.crashes,
            outcome.faults
        );
        acknowledged += outcome.acknowledged;
    }
    assert!(acknowledged > 0, "the schedules did nothing");
}

#[test]
fn random_schedules_with_crashes_keep_every_promise() {
    run(0..SEEDS, Chances::default());
}

#[test]
fn random_schedules_without_crashes_keep_every_promise() {
    run(
        0..SEEDS,
        Chances {
            crashes: false,
            ..Chances::default()
        },
    );
}

#[test]
fn clients_cannot_tell_how_many_shards_there_are_nor_how_much_room() {
    for seed in 0..SEEDS / 2 {
        let expected = calm_schedule(seed, 1, 65_536, false);
        assert!(expected.1.is_empty(), "seed {seed}: {:#?}", expected.1);
        for (shards, output_bytes) in [(1, 0), (1, 1), (1, 1000), (4, 0), (4, 1), (4, 1000)] {
            let found = calm_schedule(seed, shards, output_bytes, false);
            assert_eq!(
                found, expected,
                "seed {seed}, {shards} shards, {output_bytes} bytes"
            );
        }
    }
}
