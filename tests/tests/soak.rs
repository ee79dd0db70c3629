//! The soak, as short as it is worth anything: one end of each kind, and some reloads.

use std::time::Duration;

use tidings_tests::soak::{Options, run};

#[test]
fn a_mixed_load_goes_on_over_kills_and_reloads() {
    let options = Options {
        time: Duration::from_secs(16),
        sample_every: Duration::from_secs(2),
        reload_every: Duration::from_secs(3),
        kill_every: Duration::from_secs(5),
        seed: 0x50AC,
    };
    match run(options, |_| {}) {
        Ok(report) => eprintln!("{report}"),
        Err(what) => panic!("{what}"),
    }
}
