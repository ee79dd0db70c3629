//! What is logged, and how it looks: to standard error, one line per event.
//!
//! Where that is the journal of systemd, which has the time of each line, a line says how bad it is
//! (`sd-daemon(3)`), so that `journalctl -p warning` finds it.

use std::env;
use std::fmt;
use std::io::{self, IsTerminal as _};
use std::sync::Arc;

use rustix::fs::fstat;
use tidings_broker::log_tail::LogTail;
use tidings_config::{Log, LogFormat};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
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
    let filter = match env::var(VARIABLE) {
        Ok(directives) => EnvFilter::try_new(&directives)
            .map_err(|error| anyhow::anyhow!("{VARIABLE}: {error}"))?,
        Err(_) => EnvFilter::try_new(format!("{QUIET},{}", log.directives()))?,
    };
    let tail = Arc::<LogTail>::default();
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal());
    let registry = tracing_subscriber::registry()
        .with(filter)
        .with(tail.layer());
    match (log.format, is_journal()) {
        (LogFormat::Text, false) => registry.with(lines).init(),
        (LogFormat::Text, true) => registry
            .with(lines.without_time().map_event_format(Marked))
            .init(),
        (LogFormat::Json, false) => registry.with(lines.json().flatten_event(true)).init(),
        (LogFormat::Json, true) => registry
            .with(lines.json().flatten_event(true).map_event_format(Marked))
            .init(),
    }
    Ok(tail)
}

/// What a line on standard error begins with; nothing, unless that is the journal.
pub(super) fn mark(level: Level) -> String {
    match is_journal() {
        true => format!("<{}>", priority(level)),
        false => String::new(),
    }
}

/// Whether standard error is what systemd said it is: it may have been redirected since.
fn is_journal() -> bool {
    let is = fstat(io::stderr()).map(|is| format!("{}:{}", is.st_dev, is.st_ino));
    is.is_ok_and(|is| env::var("JOURNAL_STREAM").is_ok_and(|said| said == is))
}

/// As in `syslog(3)`.
fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        _ => 7,
    }
}

/// Lines that begin with their priority.
struct Marked<F>(F);

impl<S, N, F> FormatEvent<S, N> for Marked<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        write!(writer, "<{}>", priority(*event.metadata().level()))?;
        self.0.format_event(context, writer, event)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[test]
    fn a_line_for_the_journal_has_its_priority_and_no_time() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let lines = tracing_subscriber::fmt::layer()
            .with_writer(Mutex::new(file.reopen().unwrap()))
            .with_ansi(false)
            .without_time()
            .map_event_format(Marked);
        let subscriber = tracing_subscriber::registry().with(lines);
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(target: "here", "as it should be");
            tracing::error!(target: "here", disk = "full", "look");
        });
        let written = std::fs::read_to_string(file.path()).unwrap();
        assert_eq!(
            written,
            "<6> INFO here: as it should be\n<3>ERROR here: look disk=\"full\"\n"
        );
    }
}
