//! The crash test, as short as it is worth anything.

use tidings_tests::crash::{Options, run};

#[test]
fn nothing_acknowledged_is_lost_in_thirty_kills_with_damaged_files() {
    // Always the same choices, so that a failure in one run can be compared with the next.
    let options = Options {
        rounds: 30,
        seed: 0x7D1E65,
        damage: true,
    };
    match run(options, |_| {}) {
        Ok(report) => eprintln!("{report}"),
        Err(what) => panic!("{what}"),
    }
}
