//! Numbered messages for tests that are driven from a shell, such as `tests/power-cut.sh`: make a
//! session, publish and write down what was acknowledged, and see later that it is all there.

use std::fs::File;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tidings_core::codec::Version;
use tidings_core::message::QoS;
use tidings_tests::numbered::{receive, try_publish};
use tidings_tests::{Endpoint, RawClient, clean, persistent};

const TOPIC: &str = "numbered/messages";
const SESSION: &str = "numbered-session";

/// Numbered messages of QoS 1, and a persistent session that wants them all
#[derive(Debug, Parser)]
#[command(max_term_width = 100)]
struct Arguments {
    /// TCP listener of the broker
    address: SocketAddr,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make the session and leave
    Subscribe,
    /// Publish without end; each line of FILE is the last number that was acknowledged
    Publish {
        /// Bytes of a message
        #[arg(long, default_value_t = 700)]
        size: usize,
        /// Written as it goes; a line that is there was acknowledged before
        file: PathBuf,
    },
    /// Take up the session: all messages from 1 to LAST must come, in order
    Check {
        /// Bytes of a message
        #[arg(long, default_value_t = 700)]
        size: usize,
        /// The last number that was acknowledged
        last: u64,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let endpoint = Endpoint::Tcp(arguments.address);
    match arguments.command {
        Command::Subscribe => {
            let mut client = RawClient::connect(endpoint, &persistent(Version::V5, SESSION));
            client.subscribe(TOPIC, QoS::AtLeastOnce);
            client.disconnect();
        }
        Command::Publish { size, file } => {
            if let Err(error) = publish(endpoint, size, &file) {
                eprintln!("{}: {error}", file.display());
                return ExitCode::FAILURE;
            }
        }
        Command::Check { size, last } => {
            let mut client = RawClient::connect(endpoint, &persistent(Version::V5, SESSION));
            assert!(client.session_present(), "the session is lost");
            receive(&mut client, TOPIC, 1..=last, size);
        }
    }
    ExitCode::SUCCESS
}

fn publish(endpoint: Endpoint, size: usize, file: &PathBuf) -> io::Result<()> {
    let mut file = File::create(file)?;
    let mut written = Ok(());
    let mut client = RawClient::connect(endpoint, &clean(Version::V5, "numbered-publisher"));
    let ended = try_publish(&mut client, TOPIC, 1..=u64::MAX, size, |number| {
        // One write each: a reader never sees half a line that looks like a smaller number.
        let result = file.write_all(format!("{number}\n").as_bytes());
        if let Err(error) = result {
            written = Err(error);
        }
    });
    eprintln!("the publisher ended: {ended:?}");
    written
}
