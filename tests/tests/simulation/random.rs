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
fn whoever_comes_with_anothers_client_identifier_is_refused_and_changes_nothing() {
    let thief = Chances {
        thief: true,
        ..Chances::default()
    };
    let refused: usize = (0..SEEDS / 2)
        .map(|seed| {
            let outcome = one_schedule(seed, thief);
            assert!(
                outcome.faults.is_empty(),
                "seed {seed}: {:#?}",
                outcome.faults
            );
            outcome.refused
        })
        .sum();
    assert!(refused > 100, "only {refused} were refused");
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

/// Seeds that once found something. What it was stands beside it; where it could be told in a few
/// lines it has a test of its own as well. (A seed means another life when the schedules change.)
#[test]
fn seeds_that_once_failed() {
    const CALM: &[u64] = &[
        63,    // a retained message sent again without its flag
        91,    // UNSUBSCRIBE overtook a SUBSCRIBE that waited for the journal
        330,   // a filter of a connection that had let go joined a shared subscription
        973,   // a shared subscription opened again with an old position
        4_529, // an acknowledgement for an assignment of before
    ];
    const STORMY: &[u64] = &[
        116_031, // DISCONNECT twice
        118_522, // UNSUBACK before the end of the filter was durable
        216_419, // SUBACK before the filter was durable
        241_320, // a message for an earlier membership
        17_868,  // a QoS 0 filter taken for the reason of a retained QoS 2 message
    ];
    for seed in CALM {
        run(
            *seed..seed + 1,
            Chances {
                crashes: false,
                ..Chances::default()
            },
        );
    }
    for seed in STORMY {
        run(*seed..seed + 1, Chances::default());
    }
}
