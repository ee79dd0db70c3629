//! `run`: one scenario, once, against a broker that runs already.

use std::cell::Cell;
use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use tidings_devices::bench::brokers::by_address::{Known, Peer};
use tidings_devices::bench::load::{self, Progress, Settings};
use tidings_devices::bench::outcome::Outcome;
use tidings_devices::bench::scenario::{Scenario, Shape};
use tidings_devices::bench::target::Carrier;

#[derive(clap::Args)]
pub struct Run {
    /// Address of the broker's listener for the scenario's carrier
    #[arg(long)]
    address: SocketAddr,
    /// Process of the broker, for its CPU time and memory
    #[arg(long)]
    pid: Option<u32>,
    /// Name of a scenario (see `list`; every combination has a name)
    #[arg(long, conflicts_with = "shape")]
    scenario: Option<String>,
    /// Shape of a scenario of one's own, such as pairs, fan-out-1000, rooms-10x5
    #[arg(long)]
    shape: Option<String>,
    /// Number of clients of the shape, if its name has none
    #[arg(long)]
    count: Option<String>,
    /// QoS of publishes and subscriptions
    #[arg(long, default_value_t = 1)]
    qos: u8,
    /// Payload bytes
    #[arg(long, default_value_t = 64)]
    bytes: usize,
    /// Publishes under way per publisher
    #[arg(long, default_value_t = 20)]
    window: u32,
    /// Over WebSocket
    #[arg(long)]
    ws: bool,
    /// Measured seconds
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Seconds before anything is measured
    #[arg(long, default_value_t = 1.0)]
    warm_up: f64,
    /// Threads of the generator
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// CPUs that these are pinned to
    #[arg(long, value_delimiter = ',')]
    cores: Option<Vec<usize>>,
    /// Path of the WebSocket upgrade
    #[arg(long, default_value = "/mqtt")]
    websocket_path: String,
}

impl Run {
    /// Runs it and prints what came of it.
    pub fn run(self) -> anyhow::Result<()> {
        let scenario = self.scenario()?;
        let settings = Settings {
            warm_up: Duration::try_from_secs_f64(self.warm_up)?,
            measure: Duration::try_from_secs_f64(self.seconds)?,
            cores: self.cores,
            threads: self.threads,
        };
        let mut target = Known::new(Peer {
            name: "broker".to_owned(),
            tcp: self.address,
            ws: Some((self.address, self.websocket_path)),
            pid: self.pid,
        });
        let outcome = load::run(&scenario, &mut target, &settings, &watcher())?;
        print(&mut std::io::stdout().lock(), &scenario, &outcome)
    }

    fn scenario(&self) -> anyhow::Result<Scenario> {
        if let Some(name) = &self.scenario {
            return Scenario::by_name(name);
        }
        let shape = self
            .shape
            .as_ref()
            .context("--scenario or --shape says what to run")?;
        let name = self
            .count
            .as_ref()
            .map_or(shape.clone(), |count| format!("{shape}-{count}"));
        let carrier = if self.ws {
            Carrier::WebSocket
        } else {
            Carrier::Tcp
        };
        let scenario = Scenario::new(
            Shape::by_name(&name)?,
            self.qos,
            self.bytes,
            self.window,
            carrier,
        );
        // Read back, so that the limits of names hold for flags too.
        Scenario::by_name(&scenario.name)
    }
}

/// Says on a terminal what goes on, in one line.
fn watcher() -> impl Fn(Progress) {
    let last = Cell::new("");
    let terminal = std::io::stderr().is_terminal();
    move |progress| {
        if terminal {
            eprint!("\r\x1b[K{} {}\r", progress.doing, progress.delivered);
            last.set(progress.doing);
        }
    }
}

fn print(out: &mut impl Write, scenario: &Scenario, outcome: &Outcome) -> anyhow::Result<()> {
    let micros = |quantile| outcome.latency.value_at_quantile(quantile) / 1_000;
    writeln!(
        out,
        "{}: {:.0} delivered/s, {:.0} acknowledged/s, {} us broker CPU each, p50 {} p99 {} p99.9 {} us, peak {} MB, \
         lost {} doubled {} out of order {}, generator {:.0} %",
        scenario.name,
        outcome.delivered_per_second(),
        outcome.acknowledged as f64 / outcome.seconds.max(1e-9),
        outcome
            .cpu_micros_per_delivered()
            .map_or("?".to_owned(), |c| format!("{c:.3}")),
        micros(0.5),
        micros(0.99),
        micros(0.999),
        outcome
            .peak_resident_bytes
            .map_or("?".to_owned(), |b| format!("{:.1}", b as f64 / 1e6)),
        outcome.lost,
        outcome.doubled,
        outcome.out_of_order,
        outcome.generator_busy * 100.0,
    )?;
    for (name, value) in &outcome.figures {
        writeln!(out, "  {name}: {value:.3}")?;
    }
    for remark in &outcome.remarks {
        writeln!(out, "  ! {remark}")?;
    }
    Ok(())
}
