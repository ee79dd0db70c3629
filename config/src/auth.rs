//! `[auth]`: who comes in.

use serde::Deserialize;

use crate::reader::{Checks, Section};

/// `[auth]`: who may connect.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Auth {
    /// How a client proves who it is.
    pub mode: AuthMode,
    /// With accounts: clients without a user name come in as anonymous.
    pub guests: bool,
    /// Memory of one hash of a password, KiB.
    pub password_memory_kib: u32,
    /// Passes over that memory.
    pub password_passes: u32,
    /// Passwords that are hashed at the same time.
    pub password_hashes_at_once: u32,
    /// Failed logins from one address in a row.
    pub failures_per_address: u32,
    /// Failed logins that an address is given back each minute; 0: no limit.
    pub failures_per_address_per_minute: u32,
    /// Failed logins for one user in a row.
    pub failures_per_user: u32,
    /// Failed logins that a user is given back each minute; 0: no limit.
    pub failures_per_user_per_minute: u32,
}

impl Default for Auth {
    fn default() -> Self {
        Self {
            mode: AuthMode::Open,
            guests: false,
            password_memory_kib: 19_456,
            password_passes: 2,
            password_hashes_at_once: 2,
            failures_per_address: 20,
            failures_per_address_per_minute: 20,
            failures_per_user: 10,
            failures_per_user_per_minute: 10,
        }
    }
}

/// How a client proves who it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AuthMode {
    /// Not at all: any user name without a password, or none (anonymous).
    #[default]
    Open,
    /// By an account: a password, or the token of a device.
    Accounts,
}

impl Section for Auth {
    fn check(&self, checks: &mut Checks<'_>) {
        checks.range(
            "password_memory_kib",
            self.password_memory_kib,
            1024..=4_194_304,
            "1 MiB to 4 GiB",
        );
        checks.range(
            "password_passes",
            self.password_passes,
            1..=100,
            "each takes as long again",
        );
        checks.range(
            "password_hashes_at_once",
            self.password_hashes_at_once,
            1..=256,
            "each takes a core and password_memory_kib",
        );
        let limits = [
            ("failures_per_address", self.failures_per_address),
            ("failures_per_user", self.failures_per_user),
        ];
        for (key, failures) in limits {
            checks.range(key, failures, 1..=1_000_000, "people mistype");
        }
        let rates = [
            (
                "failures_per_address_per_minute",
                self.failures_per_address_per_minute,
            ),
            (
                "failures_per_user_per_minute",
                self.failures_per_user_per_minute,
            ),
        ];
        for (key, rate) in rates {
            checks.range(key, rate, 0..=1_000_000, "0 is no limit");
        }
    }
}
