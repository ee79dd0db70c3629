//! `[auth_hook]`: a program that is asked who may come in.

use serde::Deserialize;

use crate::reader::{Checks, Section};

/// `[auth_hook]`: a program that is asked about names without an account.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuthHook {
    /// Where the question goes; empty: nobody is asked.
    pub url: String,
    /// Milliseconds an answer may take.
    pub timeout_ms: u64,
    /// Seconds a yes is remembered.
    pub remember_s: u64,
    /// Questions at the same time.
    pub at_once: u32,
}

impl Default for AuthHook {
    fn default() -> Self {
        Self {
            url: String::new(),
            timeout_ms: 2000,
            remember_s: 60,
            at_once: 8,
        }
    }
}

impl Section for AuthHook {
    fn check(&self, checks: &mut Checks<'_>) {
        checks.safe_url("url", &self.url);
        checks.range(
            "timeout_ms",
            self.timeout_ms,
            10..=60_000,
            "clients wait for it",
        );
        checks.range(
            "remember_s",
            self.remember_s,
            0..=86_400,
            "0 asks each time",
        );
        checks.range("at_once", self.at_once, 1..=1024, "each takes a thread");
    }
}
