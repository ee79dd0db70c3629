//! The program `tidings-devices`: reads flags or a scenario file, runs the fleet, prints the report.
//!
//! Exit codes: 0 everything sent was acknowledged, 1 something was not, 2 the command line or the
//! scenario is wrong. The report goes to standard output, progress and logs to standard error.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use tidings_devices::broker_address::BrokerAddress;
use tidings_devices::fleet::{self, Progress};
use tidings_devices::report::Report;
use tidings_devices::scenario::{
    Behaviour, End, Protocol, Scenario, check_device_name, check_topic,
};
use tidings_devices::time_span;
use tokio::sync::watch;
use tracing_subscriber::EnvFilter;

/// Simulated MQTT devices.
#[derive(Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// One temperature sensor, until Ctrl-C, --count or --duration
    Sensor(SensorArgs),
    /// Many sensors, as a scenario file says
    Fleet(FleetArgs),
}

#[derive(Args)]
struct SensorArgs {
    /// Where the broker is: host:port, or ws://host:port/path
    #[arg(long, default_value = "127.0.0.1:1883")]
    broker: BrokerAddress,
    /// Name of the device: its user name, client identifier and topic level
    #[arg(long, default_value = "d1", value_parser = device_name)]
    device: String,
    /// MQTT version, 3.1.1 or 5
    #[arg(long, default_value = "5")]
    protocol: Protocol,
    /// Topic of the readings; {device} stands for the device's name
    #[arg(long, default_value = Behaviour::DEFAULT_TOPIC, value_parser = topic)]
    topic: String,
    /// Quality of Service of the readings
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(0..=2))]
    qos: u8,
    /// Time between readings
    #[arg(long, default_value = "1s", value_parser = interval)]
    interval: Duration,
    /// Each reading is earlier or later by up to this
    #[arg(long, default_value = "0s", value_parser = time_span::parse)]
    jitter: Duration,
    /// Smallest payload in bytes; shorter readings are padded
    #[arg(long, default_value_t = 0, value_parser = payload_bytes)]
    payload_bytes: usize,
    /// Stop after this many readings
    #[arg(long, conflicts_with = "duration", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Stop after this time
    #[arg(long, value_parser = time_span::parse)]
    duration: Option<Duration>,
    /// How long the broker keeps the session while the device is away; 0s: a clean session
    #[arg(long, default_value = "1h", value_parser = time_span::parse)]
    session_expiry: Duration,
    /// How long to wait at the end for missing acknowledgements
    #[arg(long, default_value = "15s", value_parser = time_span::parse)]
    drain: Duration,
    /// Seed of readings and jitter
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct FleetArgs {
    /// The scenario file (TOML)
    #[arg(long, value_name = "FILE")]
    scenario: PathBuf,
    /// Use this broker instead of the scenario's
    #[arg(long)]
    broker: Option<BrokerAddress>,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

fn device_name(text: &str) -> Result<String, String> {
    check_device_name(text).map(|()| text.to_owned())
}

fn topic(text: &str) -> Result<String, String> {
    check_topic(text).map(|()| text.to_owned())
}

fn interval(text: &str) -> Result<Duration, String> {
    let interval = time_span::parse(text)?;
    if interval < Behaviour::MIN_INTERVAL {
        return Err("the shortest interval is 1ms".to_owned());
    }
    Ok(interval)
}

fn payload_bytes(text: &str) -> Result<usize, String> {
    let bytes: usize = text.parse().map_err(|e| format!("{e}"))?;
    if bytes > Behaviour::MAX_PAYLOAD_BYTES {
        return Err(format!("at most {}", Behaviour::MAX_PAYLOAD_BYTES));
    }
    Ok(bytes)
}

impl SensorArgs {
    fn into_scenario(self) -> Scenario {
        let end = match (self.count, self.duration) {
            (Some(count), _) => End::Count(count),
            (None, Some(duration)) => End::After(duration),
            (None, None) => End::Never,
        };
        Scenario {
            sensors: 1,
            name: self.device,
            ramp_up: Duration::ZERO,
            behaviour: Behaviour {
                protocol: self.protocol,
                topic: self.topic,
                qos: self.qos,
                interval: self.interval,
                jitter: self.jitter,
                payload_bytes: self.payload_bytes,
                end,
                session_expiry: self.session_expiry,
                drain: self.drain,
                seed: self.seed,
                ..Behaviour::new(self.broker)
            },
        }
    }
}

fn main() -> anyhow::Result<ExitCode> {
    let cli = Cli::parse();
    let filter =
        EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,rumqttc=error"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();

    let (scenario, json) = match cli.command {
        Command::Sensor(args) => {
            let json = args.json;
            (args.into_scenario(), json)
        }
        Command::Fleet(args) => {
            let mut scenario = match Scenario::load(&args.scenario) {
                Ok(scenario) => scenario,
                Err(e) => {
                    eprintln!("error: {e}");
                    return Ok(ExitCode::from(2));
                }
            };
            if let Some(broker) = args.broker {
                scenario.behaviour.broker = broker;
            }
            (scenario, args.json)
        }
    };

    let report = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(run(&scenario));
    print(&report, json)?;
    Ok(if report.is_complete() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

async fn run(scenario: &Scenario) -> Report {
    let (stop, stopped) = watch::channel(false);
    let signals = async {
        asked_to_stop().await;
        eprintln!("\nstopping: waiting for acknowledgements (once more: leave now)");
        stop.send_replace(true);
        asked_to_stop().await;
        std::process::exit(130);
    };
    let mut shown = ProgressLine::new();
    tokio::select! {
        report = fleet::run(scenario, stopped, |p| shown.show(p)) => {
            shown.end();
            report
        }
        never = signals => never,
    }
}

/// Ends at Ctrl-C or SIGTERM.
async fn asked_to_stop() {
    use tokio::signal::unix::{SignalKind, signal};
    // Without a handler the signal ends the program at once, which is a fine fallback.
    let terminate = async {
        match signal(SignalKind::terminate()) {
            Ok(mut terminate) => terminate.recv().await,
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        Ok(()) = tokio::signal::ctrl_c() => {}
        _ = terminate => {}
    }
}

fn print(report: &Report, json: bool) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    if json {
        serde_json::to_writer_pretty(&mut out, report)?;
        writeln!(out)?;
    } else {
        write!(out, "{report}")?;
    }
    Ok(())
}

/// One line that is rewritten on a terminal, and a line now and then in a log file.
struct ProgressLine {
    terminal: bool,
    seconds: u64,
}

impl ProgressLine {
    /// Seconds between lines when standard error is not a terminal.
    const LOG_EVERY: u64 = 10;

    fn new() -> Self {
        Self {
            terminal: std::io::stderr().is_terminal(),
            seconds: 0,
        }
    }

    fn show(&mut self, p: Progress) {
        self.seconds += 1;
        let line = format!(
            "{:>5.0} s  {}/{} online  {} sent  {} acknowledged  {} reconnects",
            p.elapsed.as_secs_f64(),
            p.online,
            p.sensors,
            p.sent,
            p.acknowledged,
            p.reconnects
        );
        if self.terminal {
            eprint!("\r{line}\x1b[K");
        } else if self.seconds.is_multiple_of(Self::LOG_EVERY) {
            eprintln!("{line}");
        }
    }

    fn end(&self) {
        if self.terminal && self.seconds > 0 {
            eprintln!();
        }
    }
}
