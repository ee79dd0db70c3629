//! Which stream a topic belongs to: templates such as `chat/{room}` and `dm/{pair(to,from)}`.
//!
//! A level is a literal name, `{name}` (the capture) or `{pair(a,b)}` (both captures as two
//! levels, in alphabetical order, so that both directions of a conversation share one stream).
//! Every stream name is itself a valid Topic Name.

use thiserror::Error;

use super::pattern::{Captures, Pattern, is_name, placeholder};
use crate::topic::MAX_LEVELS;

/// Why a stream template is refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum StreamProblem {
    /// There is no text at all.
    #[error("it is empty; leave it out for a stream for each topic")]
    Empty,
    /// More levels than a topic may have.
    #[error("it has more than {MAX_LEVELS} levels")]
    TooManyLevels,
    /// Nothing, a wildcard, U+0000, or a brace in the middle of a level.
    #[error("level \"{0}\" must be a plain name, {{name}}, or {{pair(name,name)}}")]
    BadLevel(String),
    /// The pattern does not capture the name.
    #[error("the pattern does not capture {{{0}}}")]
    NotCaptured(String),
}

#[derive(Clone, Debug)]
enum Level {
    Literal(Box<str>),
    Capture(usize),
    Pair(usize, usize),
}

/// A compiled stream template.
#[derive(Clone, Debug)]
pub(super) struct StreamTemplate {
    levels: Vec<Level>,
}

impl StreamTemplate {
    pub(super) fn compile(text: &str, pattern: &Pattern) -> Result<Self, StreamProblem> {
        if text.is_empty() {
            return Err(StreamProblem::Empty);
        }
        let levels: Vec<Level> = text
            .split('/')
            .map(|level| compile_level(level, pattern))
            .collect::<Result<_, _>>()?;
        // A pair writes two levels.
        let pairs = levels
            .iter()
            .filter(|level| matches!(level, Level::Pair(..)))
            .count();
        if levels.len() + pairs > MAX_LEVELS {
            return Err(StreamProblem::TooManyLevels);
        }
        Ok(Self { levels })
    }

    /// The stream of a topic, from what its captures hold; with open captures, a filter for the
    /// streams of all topics that they may be.
    pub(super) fn fill(&self, captures: &Captures<'_>) -> String {
        let mut filter = String::new();
        let open = |capture: usize| captures.get(capture).copied().flatten();
        for level in &self.levels {
            match *level {
                Level::Literal(ref name) => push_level(&mut filter, name),
                Level::Capture(capture) => push_level(&mut filter, open(capture).unwrap_or("+")),
                Level::Pair(one, other) => match (open(one), open(other)) {
                    (Some(one), Some(other)) => push_pair(&mut filter, one, other),
                    _ => push_pair(&mut filter, "+", "+"),
                },
            }
        }
        filter
    }

    /// True if a stream of this name can come from this template.
    pub(super) fn names(&self, stream: &str) -> bool {
        let mut rest = stream.split('/');
        for level in &self.levels {
            let fits = match (level, rest.next()) {
                (_, None) => false,
                (Level::Literal(name), Some(found)) => **name == *found,
                (Level::Capture(_), Some(found)) => !found.is_empty(),
                (Level::Pair(..), Some(smaller)) => rest
                    .next()
                    .is_some_and(|greater| !smaller.is_empty() && smaller <= greater),
            };
            if !fits {
                return false;
            }
        }
        rest.next().is_none()
    }

    /// True if both templates make the same streams, whatever their captures are called.
    pub(super) fn same_shape(&self, other: &Self) -> bool {
        self.levels.len() == other.levels.len()
            && self
                .levels
                .iter()
                .zip(&other.levels)
                .all(|levels| match levels {
                    (Level::Literal(mine), Level::Literal(theirs)) => mine == theirs,
                    (Level::Capture(_), Level::Capture(_)) | (Level::Pair(..), Level::Pair(..)) => {
                        true
                    }
                    _ => false,
                })
    }
}

fn compile_level(level: &str, pattern: &Pattern) -> Result<Level, StreamProblem> {
    let bad = || StreamProblem::BadLevel(level.to_owned());
    let capture = |name: &str| {
        let name = name.trim();
        if !is_name(name) {
            return Err(bad());
        }
        pattern
            .capture(name)
            .ok_or_else(|| StreamProblem::NotCaptured(name.to_owned()))
    };
    let Some(inside) = placeholder(level) else {
        if level.is_empty() || level.contains(['{', '}', '+', '#', '\0']) {
            return Err(bad());
        }
        return Ok(Level::Literal(level.into()));
    };
    let Some(pair) = inside
        .strip_prefix("pair(")
        .and_then(|rest| rest.strip_suffix(')'))
    else {
        return Ok(Level::Capture(capture(inside)?));
    };
    let (one, other) = pair.split_once(',').ok_or_else(bad)?;
    Ok(Level::Pair(capture(one)?, capture(other)?))
}

fn push_level(text: &mut String, level: &str) {
    if !text.is_empty() {
        text.push('/');
    }
    text.push_str(level);
}

fn push_pair(text: &mut String, one: &str, other: &str) {
    push_level(text, one.min(other));
    push_level(text, one.max(other));
}
