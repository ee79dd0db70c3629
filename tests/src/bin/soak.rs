//! The soak, for as many minutes as one likes:
//! `cargo run --release -p tidings-tests --bin soak -- --minutes 60`.

use std::io::Write as _;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Parser;
use tidings_tests::soak::{Options, Sample, run};

/// Keeps a broker under a mixed load, kills and reloads it, and looks at its memory and its log
#[derive(Debug, Parser)]
#[command(max_term_width = 100)]
struct Arguments {
    /// How long
    #[arg(long, default_value_t = 60)]
    minutes: u64,
    /// Seconds between two lines of figures
    #[arg(long, default_value_t = 60)]
    sample: u64,
    /// Seconds between two changes of certificate and settings
    #[arg(long, default_value_t = 60)]
    reload: u64,
    /// Seconds between two ends of the broker: by SIGKILL, and every third time by SIGTERM
    #[arg(long, default_value_t = 900)]
    kill: u64,
    /// What the random choices come from; the time, if not given
    #[arg(long)]
    seed: Option<u64>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let options = Options {
        time: Duration::from_secs(arguments.minutes * 60),
        sample_every: Duration::from_secs(arguments.sample.max(1)),
        reload_every: Duration::from_secs(arguments.reload.max(1)),
        kill_every: Duration::from_secs(arguments.kill.max(1)),
        seed: arguments.seed.unwrap_or_else(seed_of_now),
    };
    let mut out = std::io::stdout();
    // A terminal that is gone is no reason to stop.
    let _ = writeln!(out, "seed {}\n{}", options.seed, Sample::HEADER);
    let result = run(options, |sample| {
        let _ = writeln!(out, "{sample}");
        let _ = out.flush();
    });
    match result {
        Ok(report) => {
            let _ = writeln!(out, "\n{report}\nNothing acknowledged was lost.");
            ExitCode::SUCCESS
        }
        Err(what) => {
            let _ = writeln!(out, "\nFAILED\n{what}");
            ExitCode::FAILURE
        }
    }
}

fn seed_of_now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(1, |now| now.as_millis() as u64)
}
