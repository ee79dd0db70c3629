//! The program `tidings-bench`: loads MQTT brokers, verifies every delivery, and compares them.
//!
//! Exit codes: 0 the benchmark ran, whatever came of it; 1 it could not run; 2 the command line is
//! wrong; 130 it was interrupted. The report goes to standard output, progress to standard error.

use std::ffi::OsString;
use std::io::Write;
use std::net::SocketAddr;

use clap::{Parser, Subcommand};
use tidings_devices::bench::brokers::{child, serve_rumqttd};
use tidings_devices::bench::scenario::catalogue;

mod compare;
mod run;

/// Loads MQTT brokers, verifies every delivery, and compares them.
#[derive(Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start each broker that is present, and run scenarios against them in turn
    Compare(Box<compare::Compare>),
    /// Run one scenario against a broker that is running already
    Run(run::Run),
    /// Print the names of all scenarios
    List,
    /// Be a broker's process: pinned, and ended with the one that started it
    #[command(name = child::SUBCOMMAND, hide = true)]
    Become {
        /// The process that started this one
        #[arg(long)]
        parent: u32,
        /// Cores to run on
        #[arg(long, value_delimiter = ',')]
        cores: Vec<usize>,
        /// Program and arguments
        #[arg(last = true, required = true)]
        command: Vec<OsString>,
    },
    /// Be the broker rumqttd
    #[command(name = tidings_devices::bench::brokers::RUMQTTD_SUBCOMMAND, hide = true)]
    PeerRumqttd {
        /// Where to listen for MQTT
        #[arg(long)]
        tcp: SocketAddr,
        /// Where to listen for MQTT over WebSocket
        #[arg(long)]
        ws: SocketAddr,
    },
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Compare(compare) => compare.run(),
        Command::Run(run) => {
            child::raise_open_files()?;
            run.run()
        }
        Command::List => {
            let mut out = std::io::stdout().lock();
            for scenario in catalogue() {
                writeln!(out, "{}", scenario.name)?;
            }
            Ok(())
        }
        Command::Become {
            parent,
            cores,
            command,
        } => match child::become_program(parent, &cores, &command)? {},
        Command::PeerRumqttd { tcp, ws } => serve_rumqttd(tcp, ws),
    }
}
