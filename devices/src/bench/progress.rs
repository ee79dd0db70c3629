//! What someone sees who waits for a comparison: a bar on a terminal, else a line per run.
//!
//! Everything goes to standard error; the report alone is on standard output.

use std::cell::RefCell;
use std::io::{IsTerminal, Write, stderr};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::compare::Event;
use super::measure::{Measure, Run};
use super::report::{count_in_words, figure_in_words};

/// Shows events as they come.
pub struct Watcher {
    bar: Option<ProgressBar>,
    began: Instant,
    /// The run that goes on: number, of how many, row and broker.
    now: RefCell<(usize, usize, String)>,
}

impl Watcher {
    /// A bar if standard error is a terminal.
    pub fn new() -> Self {
        let bar = stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{bar:24} {pos}/{len} {wide_msg}");
            ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        });
        Self {
            bar,
            began: Instant::now(),
            now: RefCell::default(),
        }
    }

    /// A sentence about what is done before the first run.
    pub fn say(&self, sentence: &str) {
        self.line(sentence);
    }

    /// Something happened.
    pub fn watch(&self, event: &Event<'_>) {
        match event {
            Event::Begins {
                number,
                of,
                row,
                broker,
            } => {
                let what = format!("{row} {broker}");
                if let Some(bar) = &self.bar {
                    bar.set_length(u64::try_from(*of).unwrap_or(u64::MAX));
                    bar.set_position(u64::try_from(*number).unwrap_or(u64::MAX));
                    bar.set_message(what.clone());
                }
                self.now.replace((*number, *of, what));
            }
            Event::GoesOn(progress) => {
                if let Some(bar) = &self.bar {
                    let (number, of, what) = &*self.now.borrow();
                    let left = time_left(self.began.elapsed(), *number, *of);
                    let share = progress
                        .share
                        .map_or(String::new(), |share| format!(" {:.0} %", share * 100.0));
                    bar.set_message(format!("{what}: {}{share}{left}", progress.doing));
                }
            }
            Event::Ended(run) => {
                let (number, of, what) = &*self.now.borrow();
                let left = time_left(self.began.elapsed(), number + 1, *of);
                self.line(&format!(
                    "{:>4}/{of} {what}: {}{left}",
                    number + 1,
                    in_words(run)
                ));
            }
        }
    }

    /// Takes the bar away: the report comes.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    fn line(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.println(text),
            // Nobody there to read it is no reason to stop.
            None => drop(writeln!(stderr(), "{text}")),
        }
    }
}

impl Default for Watcher {
    fn default() -> Self {
        Self::new()
    }
}

/// What one run came to, in a few words.
fn in_words(run: &Run) -> String {
    let outcome = match run {
        Ok(outcome) => outcome,
        Err(error) => return format!("failed: {}", error.lines().next().unwrap_or_default()),
    };
    let mut parts = Vec::new();
    for (measure, unit) in [(Measure::Throughput, "msgs/s"), (Measure::Cpu, "us CPU")] {
        if let Some(value) = measure.of(outcome) {
            parts.push(format!("{} {unit}", figure_in_words(value)));
        }
    }
    for (measure, word) in [(Measure::Lost, "lost"), (Measure::Doubled, "doubled")] {
        if let Some(count) = measure.of(outcome).filter(|count| *count > 0.0) {
            parts.push(format!("{} {word}", count_in_words(count)));
        }
    }
    for (name, value) in outcome.figures.iter().take(2) {
        parts.push(format!("{name} {}", figure_in_words(*value)));
    }
    parts.join(", ")
}

/// As if what is left took as long per run as what is done. Nothing is said before the first is done.
fn time_left(elapsed: Duration, done: usize, of: usize) -> String {
    let (Ok(done), Ok(left)) = (u32::try_from(done), u32::try_from(of.saturating_sub(done))) else {
        return String::new();
    };
    if done == 0 || left == 0 {
        return String::new();
    }
    let seconds = (elapsed / done * left).as_secs();
    format!(" ({}:{:02} left)", seconds / 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::outcome::Outcome;

    #[test]
    fn what_is_left_takes_as_long_as_what_is_done() {
        let elapsed = Duration::from_secs(100);
        assert_eq!(time_left(elapsed, 0, 4), "");
        assert_eq!(time_left(elapsed, 1, 4), " (5:00 left)");
        assert_eq!(time_left(elapsed, 4, 4), "");
    }

    #[test]
    fn a_run_is_told_in_a_line_with_what_it_lost() {
        let outcome = Outcome {
            sent: 10,
            delivered: 2_000,
            seconds: 1.0,
            lost: 3,
            ..Outcome::empty()
        };
        assert_eq!(in_words(&Ok(outcome)), "2,000 msgs/s, 3 lost");
        assert_eq!(in_words(&Err("a\nb".to_owned())), "failed: a");
    }
}
