//! The crash test, for as many rounds as one likes:
//! `cargo run --release -p tidings-tests --bin crash -- --rounds 1000 --damage`.

use std::io::Write;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Parser;
use tidings_tests::crash::{Options, run};

/// Kills a broker at work, again and again, and looks for what was acknowledged and is lost
#[derive(Debug, Parser)]
#[command(max_term_width = 100)]
struct Arguments {
    /// How many times the broker is killed
    #[arg(long, default_value_t = 30)]
    rounds: u32,
    /// What the random choices come from; the time, if not given
    #[arg(long)]
    seed: Option<u64>,
    /// Damage sled's files, and the journal behind its last whole frame, in a part of the rounds
    #[arg(long)]
    damage: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let options = Options {
        rounds: arguments.rounds,
        seed: arguments.seed.unwrap_or_else(seed_of_now),
        damage: arguments.damage,
    };
    let mut out = std::io::stdout();
    // A terminal that is gone is no reason to stop.
    let _ = writeln!(out, "seed {}", options.seed);
    let result = run(options, |report| {
        let _ = write!(
            out,
            "\rround {} of {}, {} acknowledged",
            report.rounds,
            options.rounds,
            report.acked()
        );
        let _ = out.flush();
    });
    let _ = writeln!(out);
    match result {
        Ok(report) => {
            let _ = writeln!(out, "{report}\nNothing acknowledged was lost.");
            ExitCode::SUCCESS
        }
        Err(what) => {
            let _ = writeln!(out, "FAILED\n{what}");
            ExitCode::FAILURE
        }
    }
}

fn seed_of_now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(1, |now| now.as_millis() as u64)
}
