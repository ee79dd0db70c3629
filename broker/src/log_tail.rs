//! The last lines of the log, in memory, for who looks after the broker from afar.
//!
//! Invariants: never more than [`LINES`] lines, each cut at [`LINE_BYTES`]; what the log's filter holds
//! back is not here either. Lines have numbers, so that who asks again gets what is new.

use std::collections::VecDeque;
use std::fmt::{self, Write as _};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// Lines that are remembered: some minutes of a busy broker, or days of a quiet one.
pub const LINES: usize = 1000;

/// Bytes of a line: a log line is a sentence, not a dump.
pub const LINE_BYTES: usize = 2048;

/// One line.
#[derive(Clone, Debug, Serialize)]
pub struct Line {
    /// Its number, from 1.
    pub number: u64,
    /// Milliseconds since 1970.
    pub ts: u64,
    /// `ERROR`, `WARN`, `INFO`, `DEBUG` or `TRACE`.
    pub level: &'static str,
    /// The module that says it.
    pub target: String,
    /// What it says, with its fields.
    pub text: String,
}

/// See the module.
#[derive(Debug, Default)]
pub struct LogTail(Mutex<Ring>);

#[derive(Debug, Default)]
struct Ring {
    last: u64,
    lines: VecDeque<Arc<Line>>,
}

impl LogTail {
    /// Lines after a number, the newest `limit` of them, in order.
    pub fn after(&self, number: u64, limit: usize) -> Vec<Arc<Line>> {
        let ring = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let new = ring
            .lines
            .iter()
            .rev()
            .take_while(|line| line.number > number);
        let mut lines: Vec<_> = new.take(limit).cloned().collect();
        lines.reverse();
        lines
    }

    /// What fills it, to stand beside what writes the log.
    pub fn layer<S: Subscriber>(self: &Arc<Self>) -> impl Layer<S> + use<S> {
        TailLayer(self.clone())
    }

    fn push(&self, level: &'static str, target: &str, text: String) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let ts = now.map_or(0, |now| u64::try_from(now.as_millis()).unwrap_or(u64::MAX));
        let mut ring = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ring.last += 1;
        if ring.lines.len() >= LINES {
            ring.lines.pop_front();
        }
        let line = Line {
            number: ring.last,
            ts,
            level,
            target: target.to_owned(),
            text,
        };
        ring.lines.push_back(Arc::new(line));
    }
}

struct TailLayer(Arc<LogTail>);

impl<S: Subscriber> Layer<S> for TailLayer {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut text = Text(String::new());
        event.record(&mut text);
        let metadata = event.metadata();
        let level = metadata.level().as_str();
        self.0.push(level, metadata.target(), text.0);
    }
}

/// The message, and then the fields, as in the log.
struct Text(String);

impl Text {
    fn add(&mut self, field: &Field, value: fmt::Arguments<'_>) {
        let is_message = field.name() == "message";
        let mut one = String::new();
        // Writing to a String cannot fail.
        let _ = if is_message {
            write!(one, "{value}")
        } else {
            write!(one, "{}={value}", field.name())
        };
        if is_message && !self.0.is_empty() {
            one.push(' ');
            self.0.insert_str(0, &one);
        } else {
            if !self.0.is_empty() {
                self.0.push(' ');
            }
            self.0.push_str(&one);
        }
        if self.0.len() > LINE_BYTES {
            let end = (0..=LINE_BYTES)
                .rev()
                .find(|at| self.0.is_char_boundary(*at));
            self.0.truncate(end.unwrap_or(0));
        }
    }
}

impl Visit for Text {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.add(field, format_args!("{value}"));
        } else {
            self.add(field, format_args!("{value:?}"));
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, format_args!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing_subscriber::layer::SubscriberExt as _;

    #[test]
    fn the_newest_lines_are_there_with_their_fields_and_no_more_than_fit() {
        let tail = Arc::<LogTail>::default();
        let subscriber = tracing_subscriber::registry().with(tail.layer());
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(user = "ann", count = 3, "came in");
            for number in 0..LINES {
                tracing::debug!(number);
            }
            tracing::warn!("{}", "ü".repeat(LINE_BYTES));
        });
        let lines = tail.after(0, usize::MAX);
        assert_eq!(lines.len(), LINES);
        let last = &lines[LINES - 1];
        assert_eq!((last.level, last.text.len()), ("WARN", LINE_BYTES));
        assert_eq!(tail.after(last.number, 10).len(), 0);
        let two: Vec<_> = tail.after(0, 2).iter().map(|line| line.number).collect();
        assert_eq!(two, [last.number - 1, last.number]);
    }

    #[test]
    fn a_line_reads_as_in_the_log() {
        let tail = Arc::<LogTail>::default();
        let subscriber = tracing_subscriber::registry().with(tail.layer());
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(user = "ann", count = 3, "came in");
        });
        assert_eq!(tail.after(0, 1)[0].text, "came in user=\"ann\" count=3");
    }
}
