//! Random schedules of the simulation by hand: any number of seeds, or one with a full trace.
//!
//! ```text
//! cargo run -p tidings-tests --bin simulate -- --count 100000
//! cargo run -p tidings-tests --bin simulate -- --seed 17 --trace
//! ```

use std::process::ExitCode;

use clap::Parser;
use tidings_tests::simulation::{Chances, Outcome, calm_schedule, one_schedule};

/// Whole lives of a broker in one thread, from seeds.
#[derive(Parser)]
struct Arguments {
    /// Only this seed.
    #[arg(long)]
    seed: Option<u64>,
    /// First seed.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Number of seeds.
    #[arg(long, default_value_t = 1_000)]
    count: u64,
    /// Print everything that happens, to standard error.
    #[arg(long)]
    trace: bool,
    /// The broker never stops.
    #[arg(long)]
    no_crashes: bool,
    /// Somebody comes with the Client Identifiers of others.
    #[arg(long)]
    thief: bool,
    /// Compares what clients see with 1 shard and much room to what they see with others.
    #[arg(long)]
    calm: bool,
    /// Number of shards, instead of what the seed says.
    #[arg(long)]
    shards: Option<u16>,
    /// Bytes of output above which a receiver lags, instead of what the seed says.
    #[arg(long)]
    output_bytes: Option<usize>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let chances = Chances {
        crashes: !arguments.no_crashes,
        trace: arguments.trace,
        shards: arguments.shards,
        output_bytes: arguments.output_bytes,
        thief: arguments.thief,
    };
    let seeds = match arguments.seed {
        Some(seed) => seed..seed + 1,
        None => arguments.from..arguments.from + arguments.count,
    };
    let (mut failed, mut acknowledged, mut delivered, mut crashes) = (0, 0, 0, 0);
    let count = seeds.end - seeds.start;
    for seed in seeds {
        let result = std::panic::catch_unwind(|| {
            if arguments.calm {
                compare_calm(seed)
            } else {
                one_schedule(seed, chances)
            }
        });
        let faults = match result {
            Ok(outcome) => {
                acknowledged += outcome.acknowledged;
                delivered += outcome.delivered;
                crashes += outcome.crashes;
                outcome.faults
            }
            Err(_) => vec!["it panicked, see above".to_owned()],
        };
        if !faults.is_empty() {
            failed += 1;
            eprintln!("seed {seed}:");
            for fault in faults {
                eprintln!("  {fault}");
            }
        }
    }
    eprintln!(
        "{count} seeds, {failed} failed: {acknowledged} messages acknowledged, {delivered} deliveries, {crashes} crashes"
    );
    ExitCode::from(u8::from(failed > 0))
}

/// The faults of a calm schedule, and the houses in which something else was seen.
fn compare_calm(seed: u64) -> Outcome {
    let (expected, mut faults) = calm_schedule(seed, 1, 65_536, false);
    let seen = expected.iter().flat_map(|client| client.values());
    let delivered = seen.map(Vec::len).sum();
    for (shards, output_bytes) in [
        (1, 0),
        (1, 1),
        (1, 1000),
        (2, 100),
        (4, 0),
        (4, 1),
        (4, 1000),
    ] {
        let (found, mut wrong) = calm_schedule(seed, shards, output_bytes, false);
        faults.append(&mut wrong);
        if found != expected {
            faults.push(format!(
                "{shards} shards, {output_bytes} bytes: {found:?} and not {expected:?}"
            ));
        }
    }
    Outcome {
        faults,
        delivered,
        ..Outcome::default()
    }
}
