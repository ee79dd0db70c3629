//! `[log]` and `[sys]`: what the broker says about itself.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;

use crate::reader::{Checks, Section};

/// `[log]`: what is logged, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// Least level that is logged.
    pub level: Level,
    /// Levels of single modules, by path: `tidings_broker::listener`.
    pub modules: BTreeMap<String, Level>,
    /// How lines look.
    pub format: LogFormat,
}

impl Log {
    /// The filter in the syntax of `tracing`: `info,tidings_broker::listener=debug`.
    pub fn directives(&self) -> String {
        let modules = self
            .modules
            .iter()
            .map(|(module, level)| format!(",{module}={level}"));
        std::iter::once(self.level.to_string())
            .chain(modules)
            .collect()
    }
}

/// Importance of a log line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Nothing is logged.
    Off,
    /// A person must look.
    Error,
    /// Something is not as it should be, and was dealt with.
    Warn,
    /// One line per event that matters.
    #[default]
    Info,
    /// What single clients do.
    Debug,
    /// What single packets do.
    Trace,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Off => "off",
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        })
    }
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

impl Section for Log {
    fn check(&self, checks: &mut Checks<'_>) {
        let is_path = |name: &str| {
            let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
            !name.is_empty() && name.chars().all(is_word)
        };
        if let Some(module) = self.modules.keys().find(|name| !is_path(name)) {
            checks.refuse(
                "modules",
                format_args!("\"{module}\" is not the path of a module"),
            );
        }
    }
}

/// `[sys]`: the statistics topics.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sys {
    /// Seconds between updates of `$SYS`; 0: never.
    pub interval_s: u64,
}

impl Default for Sys {
    fn default() -> Self {
        Self { interval_s: 10 }
    }
}

impl Section for Sys {
    fn check(&self, checks: &mut Checks<'_>) {
        checks.range("interval_s", self.interval_s, 0..=86_400, "0 is never");
    }
}
