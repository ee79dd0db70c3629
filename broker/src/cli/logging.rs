//! What is logged, and how it looks: to standard error, one line per event.

use std::io::IsTerminal as _;
use std::sync::Arc;

use tidings_broker::log_tail::LogTail;
use tidings_config::{Log, LogFormat};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// Stronger than the settings, in the same syntax: `info,tidings_broker::listener=debug`.
const VARIABLE: &str = "TIDINGS_LOG";

/// Weaker than the settings: what warns of a single peer's mistakes, which any stranger can make.
const QUIET: &str = "rustls=error";

/// Sets up logging for the whole process.
///
/// Gives the last lines, for administrators.
///
/// # Errors
/// If the environment asks for levels that do not exist.
pub(super) fn start(log: &Log) -> anyhow::Result<Arc<LogTail>> {
    let filter = match std::env::var(VARIABLE) {
        Ok(directives) => EnvFilter::try_new(&directives)
            .map_err(|error| anyhow::anyhow!("{VARIABLE}: {error}"))?,
        Err(_) => EnvFilter::try_new(format!("{QUIET},{}", log.directives()))?,
    };
    let tail = Arc::<LogTail>::default();
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    let registry = tracing_subscriber::registry()
        .with(filter)
        .with(tail.layer());
    match log.format {
        LogFormat::Text => registry.with(lines).init(),
        LogFormat::Json => registry.with(lines.json().flatten_event(true)).init(),
    }
    Ok(tail)
}
