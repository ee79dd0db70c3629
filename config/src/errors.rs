//! What is wrong with the settings, and where: every problem names the file and line, the
//! environment variable or the flag it came from.
//!
//! Problems are gathered, not returned one at a time: who repairs a file wants the whole list.

use std::fmt;
use std::sync::Arc;

/// Where a value was written. The order is the order in which problems are listed.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// Nowhere: made by the program, as for a flag such as `--tcp`.
    #[default]
    Program,
    /// The defaults that ship with the program.
    Shipped {
        /// Line of the shipped `tidings.toml`, counted from 1.
        line: usize,
    },
    /// The user's file.
    File {
        /// Its path as it was given.
        name: Arc<str>,
        /// Line, counted from 1; 0 is the file as a whole.
        line: usize,
    },
    /// An environment variable.
    Environment(String),
    /// A `--set` flag, without its value.
    Flag(String),
}

impl Origin {
    /// The line, counted from 1; 0 where there are no lines.
    pub fn line(&self) -> usize {
        match self {
            Self::Shipped { line } | Self::File { line, .. } => *line,
            Self::Program | Self::Environment(_) | Self::Flag(_) => 0,
        }
    }

    /// True if the value came as text without a type, so that `"10"` may be a number.
    pub(crate) fn is_untyped(&self) -> bool {
        matches!(self, Self::Environment(_) | Self::Flag(_))
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Program => f.write_str("command line"),
            Self::Shipped { line } => write!(f, "tidings.toml (built in):{line}"),
            Self::File { name, line: 0 } => f.write_str(name),
            Self::File { name, line } => write!(f, "{name}:{line}"),
            Self::Environment(variable) => f.write_str(variable),
            Self::Flag(flag) => f.write_str(flag),
        }
    }
}

/// One problem: where, which key, what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) origin: Origin,
    /// `[limits] max_packet_bytes`, `[limits]`, or empty.
    pub(crate) key: String,
    pub(crate) what: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.key.is_empty() {
            write!(f, "{}: {}", self.origin, self.what)
        } else {
            write!(f, "{}: {}: {}", self.origin, self.key, self.what)
        }
    }
}

/// Everything found wrong with the settings; displays as one line per problem.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ConfigErrors {
    problems: Vec<Problem>,
}

impl ConfigErrors {
    /// Sorted by place, so that the list reads along the file. `None` if nothing is wrong.
    pub(crate) fn from_problems(mut problems: Vec<Problem>) -> Option<Self> {
        problems.sort_by(|a, b| a.origin.cmp(&b.origin));
        (!problems.is_empty()).then_some(Self { problems })
    }

    /// One line per problem, as [`Display`](fmt::Display) joins them.
    pub fn lines(&self) -> impl Iterator<Item = String> + '_ {
        self.problems.iter().map(Problem::to_string)
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}
