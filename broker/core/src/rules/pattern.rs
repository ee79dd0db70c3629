//! Patterns of topic rules: `chat/{room}/{user}`, and what their captures hold.
//!
//! A level is a literal name, `{name}` (one level that is not empty, captured), `{_}` (any one
//! level, not captured), or, as the last level, `#` (all levels from here on, also none, as in a
//! Topic Filter). A pattern that begins with a wildcard matches neither `$` topics nor named
//! spaces: first levels that another rule spells out.

use thiserror::Error;

use crate::topic::{MAX_LEVELS, levels};

/// Most captures of one pattern: they are kept in place, without an allocation per topic.
pub const MAX_CAPTURES: usize = 8;

/// What the captures of a pattern hold; `None` where a filter leaves it open.
pub(super) type Captures<'t> = [Option<&'t str>; MAX_CAPTURES];

/// First levels that are spelled out by some rule, sorted.
pub(super) type NamedSpaces = [Box<str>];

/// The first level of a topic, looked at once for all patterns: most of them differ there.
#[derive(Clone, Copy, Debug)]
pub(super) struct FirstLevel<'t> {
    name: &'t str,
    /// Its place among the named spaces, if it is one.
    space: Option<usize>,
}

impl<'t> FirstLevel<'t> {
    pub(super) fn of(topic: &'t str, spaces: &NamedSpaces) -> Self {
        let name = levels(topic).next().unwrap_or(topic);
        let space = spaces.binary_search_by(|space| (**space).cmp(name)).ok();
        Self { name, space }
    }

    /// Its place among the named spaces, if it is one.
    pub(super) const fn space(self) -> Option<usize> {
        self.space
    }

    /// Neither a `$` topic nor in a named space, so that a wildcard in front may match it.
    pub(super) fn is_free(self) -> bool {
        self.space.is_none() && !self.name.starts_with('$')
    }

    /// A wildcard of a filter.
    pub(super) fn is_open(self) -> bool {
        matches!(self.name, "+" | "#")
    }
}

/// Why a pattern is refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PatternProblem {
    /// There is no text at all.
    #[error("it is empty")]
    Empty,
    /// More levels than a topic may have.
    #[error("it has more than {MAX_LEVELS} levels")]
    TooManyLevels,
    /// More than [`MAX_CAPTURES`] names.
    #[error("it captures more than {MAX_CAPTURES} names")]
    TooManyCaptures,
    /// `+`, U+0000, or a brace in the middle of a level.
    #[error(
        "level \"{0}\" must be a plain name, {{name}}, {{_}} for any one level, or # at the end"
    )]
    BadLevel(String),
    /// `#` before the end.
    #[error("# must be the last level")]
    MisplacedHash,
    /// The same name twice.
    #[error("{{{0}}} is captured twice")]
    CapturedTwice(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Level {
    Literal(Box<str>),
    /// `{name}`, the number of the capture.
    Capture(usize),
    /// `{_}`
    Any,
}

/// A compiled pattern.
#[derive(Clone, Debug)]
pub(super) struct Pattern {
    levels: Vec<Level>,
    ends_in_hash: bool,
    names: Vec<Box<str>>,
}

/// How the topics of a filter lie to those of a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Overlap {
    /// No topic is in both.
    None,
    /// Some topics of the filter are the pattern's.
    Some,
    /// All topics of the filter are the pattern's.
    Whole,
}

impl Pattern {
    pub(super) fn compile(text: &str) -> Result<Self, PatternProblem> {
        if text.is_empty() {
            return Err(PatternProblem::Empty);
        }
        let (path, ends_in_hash) = match text.strip_suffix('#') {
            Some("") => (None, true),
            Some(path) if path.ends_with('/') => (path.strip_suffix('/'), true),
            _ => (Some(text), false),
        };
        let mut pattern = Self {
            levels: Vec::new(),
            ends_in_hash,
            names: Vec::new(),
        };
        for level in path.into_iter().flat_map(|path| path.split('/')) {
            let level = pattern.compile_level(level)?;
            pattern.levels.push(level);
        }
        if pattern.levels.len() > MAX_LEVELS {
            return Err(PatternProblem::TooManyLevels);
        }
        Ok(pattern)
    }

    fn compile_level(&mut self, level: &str) -> Result<Level, PatternProblem> {
        if level == "#" {
            return Err(PatternProblem::MisplacedHash);
        }
        let bad = || PatternProblem::BadLevel(level.to_owned());
        match placeholder(level) {
            Some("_") => Ok(Level::Any),
            Some(name) if is_name(name) => {
                if self.capture(name).is_some() {
                    return Err(PatternProblem::CapturedTwice(name.to_owned()));
                }
                if self.names.len() == MAX_CAPTURES {
                    return Err(PatternProblem::TooManyCaptures);
                }
                self.names.push(name.into());
                Ok(Level::Capture(self.names.len() - 1))
            }
            None if !level.contains(['{', '}', '+', '#', '\0']) => Ok(Level::Literal(level.into())),
            _ => Err(bad()),
        }
    }

    /// The number of a capture.
    pub(super) fn capture(&self, name: &str) -> Option<usize> {
        self.names.iter().position(|known| **known == *name)
    }

    /// The filter for the topics of this pattern in which `capture` holds `value`.
    pub(super) fn filter_with(&self, capture: usize, value: &str) -> String {
        let level = |level: &Level| match level {
            Level::Literal(name) => name.to_string(),
            Level::Capture(number) if *number == capture => value.to_owned(),
            Level::Capture(_) | Level::Any => "+".to_owned(),
        };
        let hash = self.ends_in_hash.then(|| "#".to_owned());
        let levels: Vec<String> = self.levels.iter().map(level).chain(hash).collect();
        levels.join("/")
    }

    /// The names of the captures, in the order of their numbers.
    pub(super) fn names(&self) -> &[Box<str>] {
        &self.names
    }

    /// The first level, if it is spelled out.
    pub(super) fn named_space(&self) -> Option<&str> {
        match self.levels.first() {
            Some(Level::Literal(name)) => Some(name),
            _ => None,
        }
    }

    /// The captures if the pattern matches a Topic Name, whose first level is `first`.
    pub(super) fn matches<'t>(
        &self,
        topic: &'t str,
        first: FirstLevel<'t>,
    ) -> Option<Captures<'t>> {
        if !self.may_begin_with(first) {
            return None;
        }
        let mut captures = Captures::default();
        let mut rest = levels(topic);
        for level in &self.levels {
            let found = rest.next()?;
            match level {
                Level::Literal(name) if **name == *found => {}
                Level::Any => {}
                &Level::Capture(number) if !found.is_empty() => captures[number] = Some(found),
                Level::Literal(_) | Level::Capture(_) => return None,
            }
        }
        (self.ends_in_hash || rest.next().is_none()).then_some(captures)
    }

    fn may_begin_with(&self, first: FirstLevel<'_>) -> bool {
        self.named_space()
            .map_or(first.is_free(), |space| *space == *first.name)
    }

    /// How much of a Topic Filter, whose first level is `first`, is the pattern's, and the captures that the filter spells out.
    pub(super) fn overlap<'t>(
        &self,
        filter: &'t str,
        first: FirstLevel<'t>,
        spaces: &NamedSpaces,
    ) -> (Overlap, Captures<'t>) {
        let mut captures = Captures::default();
        let none = (Overlap::None, Captures::default());
        let open_first = first.is_open();
        if open_first
            && self
                .named_space()
                .is_some_and(|space| space.starts_with('$'))
            || !open_first && !self.may_begin_with(first)
        {
            return none;
        }
        // With both first levels open, `$` topics are in neither, but named spaces are in the
        // filter alone.
        let mut whole = !(open_first && self.named_space().is_none() && !spaces.is_empty());
        let mut rest = levels(filter);
        for level in &self.levels {
            match (level, rest.next()) {
                (_, None) => return none,
                (_, Some("#")) => return (Overlap::Some, captures),
                (Level::Any, Some(_)) => {}
                // An empty level is in `+`, but is no capture.
                (Level::Literal(_) | Level::Capture(_), Some("+")) => whole = false,
                (Level::Literal(name), Some(found)) if **name == *found => {}
                (&Level::Capture(number), Some(found)) if !found.is_empty() => {
                    captures[number] = Some(found);
                }
                (Level::Literal(_) | Level::Capture(_), Some(_)) => return none,
            }
        }
        match rest.next() {
            _ if self.ends_in_hash => {}
            None => {}
            Some("#") => whole = false,
            Some(_) => return none,
        }
        (if whole { Overlap::Whole } else { Overlap::Some }, captures)
    }

    /// True if every topic of `other` is also this pattern's.
    pub(super) fn covers(&self, other: &Self) -> bool {
        if self.named_space().is_none() && other.named_space().is_some() {
            return false;
        }
        let level_covers = |mine: &Level, theirs: &Level| match (mine, theirs) {
            (Level::Any, _) | (Level::Capture(_), Level::Capture(_)) => true,
            (Level::Capture(_), Level::Literal(name)) => !name.is_empty(),
            (Level::Literal(mine), Level::Literal(theirs)) => mine == theirs,
            (Level::Capture(_), Level::Any) | (Level::Literal(_), _) => false,
        };
        let long_enough = if self.ends_in_hash {
            other.levels.len() >= self.levels.len()
        } else {
            other.levels.len() == self.levels.len() && !other.ends_in_hash
        };
        long_enough
            && self
                .levels
                .iter()
                .zip(&other.levels)
                .all(|(mine, theirs)| level_covers(mine, theirs))
    }
}

/// The text between the braces of `{...}`.
pub(super) fn placeholder(level: &str) -> Option<&str> {
    level.strip_prefix('{')?.strip_suffix('}')
}

/// True for the names that captures may have: letters, digits and `_`, not beginning with a digit.
pub(super) fn is_name(text: &str) -> bool {
    text.bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && text
            .bytes()
            .next()
            .is_some_and(|byte| !byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> Pattern {
        Pattern::compile(text).expect(text)
    }

    fn overlap<'t>(
        pattern: &Pattern,
        filter: &'t str,
        spaces: &NamedSpaces,
    ) -> (Overlap, Captures<'t>) {
        pattern.overlap(filter, FirstLevel::of(filter, spaces), spaces)
    }

    fn captures<'t>(text: &str, topic: &'t str, spaces: &NamedSpaces) -> Option<Captures<'t>> {
        pattern(text).matches(topic, FirstLevel::of(topic, spaces))
    }

    #[test]
    fn captures_hold_whole_levels_that_are_not_empty() {
        let chat = "chat/{room}/{user}";
        let found = captures(chat, "chat/lobby/alice", &[]).expect("matches");
        assert_eq!(found[..2], [Some("lobby"), Some("alice")]);
        for topic in [
            "chat/lobby",
            "chat//alice",
            "chat/lobby/",
            "chat/a/b/c",
            "Chat/a/b",
        ] {
            assert_eq!(captures(chat, topic, &[]), None, "{topic}");
        }
    }

    #[test]
    fn any_level_may_be_empty_and_hash_may_be_no_level() {
        assert!(captures("a/{_}/{_}", "a//b", &[]).is_some());
        for topic in ["a", "a/", "a/b/c"] {
            assert!(captures("a/#", topic, &[]).is_some(), "{topic}");
        }
        assert!(captures("#", "/", &[]).is_some());
    }

    #[test]
    fn a_wildcard_in_front_matches_neither_dollar_topics_nor_named_spaces() {
        let spaces: [Box<str>; 2] = ["chat".into(), "dm".into()];
        for text in ["#", "{_}/{x}", "{app}/#"] {
            let open = pattern(text);
            assert!(captures(text, "free/x", &spaces).is_some(), "{text}");
            assert!(captures(text, "$SYS/x", &spaces).is_none(), "{text}");
            assert!(captures(text, "chat/x", &spaces).is_none(), "{text}");
            assert_eq!(overlap(&open, "chat/+", &spaces).0, Overlap::None, "{text}");
            assert_eq!(overlap(&open, "$SYS/#", &spaces).0, Overlap::None, "{text}");
            assert_eq!(overlap(&open, "+/x", &spaces).0, Overlap::Some, "{text}");
        }
        assert_eq!(overlap(&pattern("$SYS/#"), "#", &spaces).0, Overlap::None);
        assert_eq!(overlap(&pattern("$SYS/#"), "+/x", &spaces).0, Overlap::None);
    }

    #[test]
    fn overlap_tells_whole_from_some_from_none() {
        for (text, filter, expected) in [
            ("chat/{room}/{user}", "chat/lobby/alice", Overlap::Whole),
            ("chat/{room}/{user}", "chat/lobby/+", Overlap::Some),
            ("chat/{room}/{user}", "chat/#", Overlap::Some),
            ("chat/{room}/{user}", "chat/lobby/alice/#", Overlap::Some),
            ("chat/{room}/{user}", "chat/lobby", Overlap::None),
            ("chat/{room}/{user}", "chat/lobby/alice/x", Overlap::None),
            ("chat/{room}/{user}", "chat/lobby/alice/+", Overlap::None),
            ("chat/{room}/{user}", "chat//+", Overlap::None),
            ("a/{_}", "a/+", Overlap::Whole),
            ("a/#", "a/#", Overlap::Whole),
            ("a/#", "a", Overlap::Whole),
            ("a/#", "a/+/b", Overlap::Whole),
            ("a/#", "+/b", Overlap::Some),
            ("a/b", "a/#", Overlap::Some),
            ("a", "a/#", Overlap::Some),
            ("a/b/#", "a", Overlap::None),
            ("a/b/#", "a/#", Overlap::Some),
            ("#", "#", Overlap::Whole),
        ] {
            assert_eq!(
                overlap(&pattern(text), filter, &[]).0,
                expected,
                "{text} {filter}"
            );
        }
    }

    #[test]
    fn malformed_patterns_are_refused() {
        for text in [
            "", "a/+", "a/#/b", "##", "a#", "a/{", "a/{}", "a/x{y}", "{1}", "{a b}", "\0",
        ] {
            assert!(Pattern::compile(text).is_err(), "{text}");
        }
        assert_eq!(
            Pattern::compile("{a}/{a}").err(),
            Some(PatternProblem::CapturedTwice("a".to_owned()))
        );
        assert_eq!(
            Pattern::compile("{a}/{b}/{c}/{d}/{e}/{f}/{g}/{h}/{i}").err(),
            Some(PatternProblem::TooManyCaptures)
        );
        assert_eq!(
            Pattern::compile(&vec!["x"; MAX_LEVELS + 1].join("/")).err(),
            Some(PatternProblem::TooManyLevels)
        );
    }

    #[test]
    fn a_pattern_covers_what_it_leaves_nothing_of() {
        for (one, other) in [
            ("a/{x}", "a/{y}"),
            ("a/{x}", "a/b"),
            ("a/#", "a"),
            ("a/#", "a/{x}/#"),
            ("a/{_}", "a/{x}"),
            ("#", "{x}/b"),
        ] {
            assert!(pattern(one).covers(&pattern(other)), "{one} {other}");
        }
        for (one, other) in [
            ("a/b", "a/{x}"),
            ("a/{x}", "a/{_}"),
            ("a/{x}", "a/{x}/#"),
            ("#", "a"),
            ("a/b/#", "a"),
        ] {
            assert!(!pattern(one).covers(&pattern(other)), "{one} {other}");
        }
    }
}
