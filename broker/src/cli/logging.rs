//! What is logged, and how it looks: to standard error, one line per event.

use std::io::IsTerminal as _;

use tidings_config::{Log, LogFormat};
use tracing_subscriber::EnvFilter;

/// Stronger than the settings, in the same syntax: `info,tidings_broker::listener=debug`.
const VARIABLE: &str = "TIDINGS_LOG";

/// Sets up logging for the whole process.
///
/// # Errors
/// If the environment asks for levels that do not exist.
pub(super) fn start(log: &Log) -> anyhow::Result<()> {
    let filter = match std::env::var(VARIABLE) {
        Ok(directives) => EnvFilter::try_new(&directives)
            .map_err(|error| anyhow::anyhow!("{VARIABLE}: {error}"))?,
        Err(_) => EnvFilter::try_new(log.directives())?,
    };
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    match log.format {
        LogFormat::Text => lines.init(),
        LogFormat::Json => lines.json().flatten_event(true).init(),
    }
    Ok(())
}
