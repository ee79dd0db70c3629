//! The command line: what each command takes. The commands themselves have a file each.

mod accounts;
mod ask;
mod audit;
mod bans;
mod check_config;
mod completions;
mod compose;
mod dump;
mod fsck;
mod init;
mod links;
mod logging;
mod man;
mod mqtt_client;
mod owner;
mod ports_file;
mod publish;
mod reload;
mod secret;
mod serve;
mod subscribe;
mod systemd;
mod trace;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use tidings_config::{Settings, Sources};
use tracing::Level;

/// Exit code of a command that did its work and found something wrong.
const FOUND_PROBLEMS: u8 = 1;

/// An instant-messaging broker on MQTT: what was acknowledged is on disk, and everyone gets it.
///
/// Without a command it serves, with the settings it ships with: MQTT on 127.0.0.1:1883, and on
/// 127.0.0.1:8083 MQTT over WebSocket and a web chat. Data goes to ./data.
#[derive(Debug, Parser)]
#[command(
    name = "tidings",
    version,
    max_term_width = 100,
    args_conflicts_with_subcommands = true
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: serve::Serve,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start the broker (this is also what happens without a command)
    Serve(serve::Serve),
    /// Say what is wrong with the settings, with file and line, without starting anything
    CheckConfig(check_config::CheckConfig),
    /// Make a first configuration, an administrator, and a key to sign tokens with
    Init(init::Init),
    /// People who may sign in: add, passwd, disable, ...
    User(accounts::User),
    /// Devices that may sign in: add, revoke, list
    Device(accounts::Device),
    /// Keep an address, a user or a client out
    Ban(bans::Ban),
    /// End a ban
    Unban(bans::Unban),
    /// Say who is banned
    Bans(bans::Bans),
    /// Sign a token that somebody, or a program, signs in with instead of a password
    Token(init::Token),
    /// Publish messages
    Pub(publish::Publish),
    /// Subscribe, and print messages as they come
    Sub(subscribe::Subscribe),
    /// Show live what a client, a user, a topic or an address does, packet by packet
    Trace(trace::Trace),
    /// Show what administrators did: who, what, on whom, when, from where, and how it ended
    Audit(audit::Audit),
    /// Check every checksum and invariant of a data directory, while no broker uses it
    Fsck(fsck::Fsck),
    /// Print what is in the journal, one JSON object per line
    Dump(dump::Dump),
    /// Print what completes this program's commands in a shell
    Completions(completions::Completions),
    /// Print the manual page, or write those of all commands
    Man(man::Man),
}

/// Where settings come from.
#[derive(Clone, Debug, Default, Args)]
struct SettingsArgs {
    /// Settings file (TOML); without it the settings that ship with the program
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// Change one setting, stronger than the file and TIDINGS_SECTION__KEY in the environment;
    /// may be given again
    #[arg(long, value_name = "SECTION.KEY=VALUE", global = true)]
    set: Vec<String>,
}

impl SettingsArgs {
    fn load(&self) -> Result<Settings, tidings_config::ConfigErrors> {
        Settings::load(&Sources {
            file: self.config.clone(),
            env: Sources::process_environment(),
            set: self.set.clone(),
        })
    }

    /// The data directory: of the flag, or of the settings.
    fn data_dir(&self, flag: Option<&PathBuf>) -> Result<PathBuf, tidings_config::ConfigErrors> {
        match flag {
            Some(data_dir) => Ok(data_dir.clone()),
            None => Ok(self.load()?.server.data_dir),
        }
    }
}

/// Runs the command that was asked for.
pub(crate) fn run() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        None => serve::run(&cli.serve),
        Some(Command::Serve(args)) => serve::run(&args),
        Some(Command::CheckConfig(args)) => check_config::run(&args),
        Some(Command::Init(args)) => init::run(&args),
        Some(Command::Token(args)) => init::run_token(&args),
        Some(Command::User(args)) => accounts::run_user(&args),
        Some(Command::Device(args)) => accounts::run_device(&args),
        Some(Command::Ban(args)) => bans::run_ban(&args),
        Some(Command::Unban(args)) => bans::run_unban(&args),
        Some(Command::Bans(args)) => bans::run_bans(&args),
        Some(Command::Pub(args)) => publish::run(&args),
        Some(Command::Sub(args)) => subscribe::run(&args),
        Some(Command::Trace(args)) => trace::run(&args),
        Some(Command::Audit(args)) => audit::run(&args),
        Some(Command::Fsck(args)) => fsck::run(&args),
        Some(Command::Dump(args)) => dump::run(&args),
        Some(Command::Completions(args)) => completions::run(&args),
        Some(Command::Man(args)) => man::run(&args),
    };
    result.unwrap_or_else(|error| {
        let mark = logging::mark(Level::ERROR);
        eprintln!("{mark}tidings: {}", with_causes(&error));
        ExitCode::FAILURE
    })
}

/// An error and what caused it, in one line. Some errors tell their cause themselves: it is not told again.
fn with_causes(error: &anyhow::Error) -> String {
    let mut all = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if all.is_empty() {
            all = cause;
        } else if !all.ends_with(&cause) {
            all.push_str(": ");
            all.push_str(&cause);
        }
    }
    all
}

/// Text that others chose, for a terminal: control characters in it are shown, and do nothing.
fn shown(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c.is_control() {
            true => shown.extend(c.escape_unicode()),
            false => shown.push(c),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use std::io::{Error, ErrorKind};

    use anyhow::Context;
    use tidings_broker::StartError;

    use super::with_causes;

    #[test]
    fn a_cause_is_told_once() {
        let denied = || Error::new(ErrorKind::PermissionDenied, "denied");
        let told = anyhow::Error::new(StartError::System(denied())).context("serving");
        assert_eq!(with_causes(&told), "serving: cannot start: denied");
        let untold = Err::<(), _>(denied()).context("opening").unwrap_err();
        assert_eq!(with_causes(&untold), "opening: denied");
    }
}
