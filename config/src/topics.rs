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
    /// Messages are of interest now or never; none: they are not.
    pub relay: Option<Relay>,
    /// Messages are numbers of this stream, of which the largest is retained; none: they are not.
    pub grows: Option<String>,
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

/// How messages are relayed that are of interest now or never.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Relay {
    /// Messages a second of one user on one topic.
    pub per_second: u32,
    /// Seconds that a message is true for.
    pub expires_s: u32,
}

impl Default for Relay {
    fn default() -> Self {
        Self {
            per_second: 1,
            expires_s: 5,
        }
    }
}

impl Section for TopicRule {
    const REQUIRED: &'static [&'static str] = &["pattern", "publish", "subscribe"];

    fn check(&self, checks: &mut Checks<'_>) {
        checks.not_empty("pattern", &self.pattern);
        checks.not_empty("publish", &self.publish);
        checks.not_empty("subscribe", &self.subscribe);
        checks.not_empty("stream", self.stream.as_deref().unwrap_or("unset"));
        checks.not_empty("grows", self.grows.as_deref().unwrap_or("unset"));
        let relay = self.relay.unwrap_or_default();
        if !(1..=1000).contains(&relay.per_second) {
            checks.refuse("relay", "per_second is 1 to 1000");
        }
        if !(1..=3600).contains(&relay.expires_s) {
            checks.refuse("relay", "expires_s is 1 to 3600 seconds");
        }
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
