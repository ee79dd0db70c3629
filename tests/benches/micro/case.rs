//! What is measured, and the meter that tells it from what is around it.
//!
//! Instructions are counted between the beginning and the end of two functions, which callgrind
//! knows by name (see `instructions`): [`collect_instructions`] switches counting on, and within it
//! [`leave_instructions_out`] switches it off.

use std::hint::black_box;
use std::time::{Duration, Instant};

/// One measurement.
pub struct Case {
    /// What part of the broker it is about.
    pub group: &'static str,
    /// What it does; the name in the table of instruction counts, so it stays the same.
    pub name: String,
    /// Operations in a round; a round is long enough for the clock.
    pub operations: u64,
    /// Builds what a round needs.
    pub prepare: Box<dyn Fn() -> Round>,
}

/// Does all operations of a round, those that count through the meter.
pub type Round = Box<dyn FnMut(&mut Meter)>;

/// How many of what a case has many of. A debug build only shows that cases work, in a second or
/// two, and has a tenth.
pub const fn many(count: usize) -> usize {
    if cfg!(debug_assertions) {
        count / 10
    } else {
        count
    }
}

impl Case {
    /// A case whose `prepare` builds rounds of `operations`.
    pub fn new(
        group: &'static str,
        name: impl Into<String>,
        operations: u64,
        prepare: impl Fn() -> Round + 'static,
    ) -> Self {
        Self {
            group,
            name: name.into(),
            operations,
            prepare: Box::new(prepare),
        }
    }

    /// Name with group.
    pub fn id(&self) -> String {
        format!("{}/{}", self.group, self.name)
    }
}

/// Measures what it is told to.
pub struct Meter {
    counts: bool,
    elapsed: Duration,
}

/// The way out of what is counted, for what a socket, a disk or a client would do.
#[derive(Clone, Copy)]
pub struct Aside {
    counts: bool,
}

impl Meter {
    /// Takes the time, and has instructions counted.
    pub fn counting() -> Self {
        Self {
            counts: true,
            elapsed: Duration::ZERO,
        }
    }

    /// For rounds that only warm up.
    pub fn resting() -> Self {
        Self {
            counts: false,
            ..Self::counting()
        }
    }

    /// Does something that counts.
    pub fn count<R>(&mut self, work: impl FnOnce(Aside) -> R) -> R {
        let aside = Aside {
            counts: self.counts,
        };
        if !self.counts {
            return work(aside);
        }
        let start = Instant::now();
        let result = through(collect_instructions, || work(aside));
        self.elapsed += start.elapsed();
        result
    }

    /// The time of all that counted.
    pub fn elapsed(&self) -> Duration {
        self.elapsed
    }
}

impl Aside {
    /// Does something whose instructions do not count. Its time does.
    pub fn run<R>(self, work: impl FnOnce() -> R) -> R {
        if self.counts {
            through(leave_instructions_out, work)
        } else {
            work()
        }
    }
}

/// Calls `work` from within `gate`.
fn through<R>(gate: fn(&mut dyn FnMut()), work: impl FnOnce() -> R) -> R {
    let mut work = Some(work);
    let mut result = None;
    gate(&mut || result = work.take().map(|work| work()));
    result.expect("a gate calls what it is given")
}

// Both are found by name: never inlined, and with something to do after the call, lest it become a
// jump that never comes back here.

#[inline(never)]
fn collect_instructions(work: &mut dyn FnMut()) {
    work();
    black_box(());
}

#[inline(never)]
fn leave_instructions_out(work: &mut dyn FnMut()) {
    work();
    black_box(0);
}
