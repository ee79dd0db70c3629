//! `[[topics]]`: who may use which topics, which stream they belong to, and what is kept.
//!
//! Patterns and expressions are text here; the broker compiles them and reports what it refuses
//! with [`TopicRule::origin`].

use serde::Deserialize;

use crate::errors::Origin;
use crate::reader::{Checks, Section};

/// One topic rule; the first one whose pattern matches decides.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TopicRule {
    /// Topic with `{names}` for levels, and possibly `#` at the end.
    pub pattern: String,
    /// Who may publish: an expression of atoms with `&`, `|`, `!` and parentheses.
    pub publish: String,
    /// Who may receive: an expression as for `publish`.
    pub subscribe: String,
    /// Stream of the messages; none: each topic is its own.
    pub stream: Option<String>,
    /// What is kept for those who come later; none: nothing.
    pub keep: Option<Keep>,
    /// Line in the file, counted from 1; 0 if the rule is not from a file.
    #[serde(skip)]
    pub line: usize,
    /// Where the rule begins; displays as `tidings.toml:12`.
    #[serde(skip)]
    pub origin: Origin,
}

/// How much history a stream keeps; the first bound that is reached trims. None set: forever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Keep {
    /// Days.
    pub days: Option<u32>,
    /// Messages.
    pub count: Option<u64>,
    /// Mebibytes.
    pub mib: Option<u64>,
}

impl Section for TopicRule {
    const REQUIRED: &'static [&'static str] = &["pattern", "publish", "subscribe"];

    fn check(&self, checks: &mut Checks<'_>) {
        checks.not_empty("pattern", &self.pattern);
        checks.not_empty("publish", &self.publish);
        checks.not_empty("subscribe", &self.subscribe);
        checks.not_empty("stream", self.stream.as_deref().unwrap_or("unset"));
        let keep = self.keep.unwrap_or_default();
        if keep.days == Some(0) || keep.count == Some(0) || keep.mib == Some(0) {
            checks.refuse("keep", "0 keeps nothing; leave `keep` out if that is meant");
        }
    }

    fn placed_at(&mut self, origin: &Origin) {
        self.line = origin.line();
        self.origin = origin.clone();
    }
}
