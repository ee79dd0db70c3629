//! `[audit]` and `[otel]`: what is written down of administrators, and who else is told figures.

use serde::Deserialize;

use crate::reader::{Checks, Section};

/// `[audit]`: what administrators did.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Audit {
    /// MiB of a file; then another one is begun.
    pub max_file_mib: u64,
    /// Files that are kept beside the one that is written.
    pub max_old_files: u32,
}

impl Default for Audit {
    fn default() -> Self {
        Self {
            max_file_mib: 16,
            max_old_files: 8,
        }
    }
}

impl Section for Audit {
    fn check(&self, checks: &mut Checks<'_>) {
        checks.range(
            "max_file_mib",
            self.max_file_mib,
            1..=1024,
            "files are read whole",
        );
        checks.range(
            "max_old_files",
            u64::from(self.max_old_files),
            1..=1000,
            "the newest acts must stay readable",
        );
    }
}

/// `[otel]`: an OpenTelemetry collector.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Otel {
    /// Where OTLP over HTTP goes; empty: nowhere.
    pub endpoint: String,
    /// Seconds between two exports.
    pub interval_s: u64,
}

impl Default for Otel {
    fn default() -> Self {
        Self {
            endpoint: String::new(),
            interval_s: 15,
        }
    }
}

impl Section for Otel {
    fn check(&self, checks: &mut Checks<'_>) {
        checks.safe_url("endpoint", &self.endpoint);
        checks.range("interval_s", self.interval_s, 1..=3600, "figures get old");
    }
}
