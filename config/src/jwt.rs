//! `[jwt]`: signed tokens of somebody else.

use std::path::PathBuf;

use serde::Deserialize;

use crate::reader::{Checks, Section};

/// `[jwt]`: signed tokens of somebody else; without a key or address there are none.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Jwt {
    /// Files with a public key, a key set, or a shared secret.
    pub key_files: Vec<PathBuf>,
    /// Where a key set is fetched from; empty: nowhere.
    pub jwks_url: String,
    /// Seconds between two looks at files and address.
    pub reload_s: u64,
    /// Seconds the address may take to answer.
    pub timeout_s: u64,
    /// What claim `iss` must be; empty: anything.
    pub issuer: String,
    /// What claim `aud` must have; empty: tokens for somebody are refused.
    pub audience: String,
    /// The claim that is the user name.
    pub user_claim: String,
    /// The claim that has roles.
    pub roles_claim: String,
    /// The claim that has rooms, which a token lets its user into; empty: none is looked at.
    pub rooms_claim: String,
    /// Seconds by which the clocks may differ.
    pub leeway_s: u64,
}

impl Default for Jwt {
    fn default() -> Self {
        Self {
            key_files: Vec::new(),
            jwks_url: String::new(),
            reload_s: 300,
            timeout_s: 5,
            issuer: String::new(),
            audience: String::new(),
            user_claim: "sub".to_owned(),
            roles_claim: "roles".to_owned(),
            rooms_claim: String::new(),
            leeway_s: 30,
        }
    }
}

impl Jwt {
    /// Whether there are tokens that count.
    pub fn is_used(&self) -> bool {
        !self.key_files.is_empty() || !self.jwks_url.is_empty()
    }
}

impl Section for Jwt {
    fn check(&self, checks: &mut Checks<'_>) {
        checks.safe_url("jwks_url", &self.jwks_url);
        checks.range("reload_s", self.reload_s, 5..=86_400, "5 s to a day");
        checks.range(
            "timeout_s",
            self.timeout_s,
            1..=60,
            "a stop may wait for it",
        );
        checks.range(
            "leeway_s",
            self.leeway_s,
            0..=3600,
            "tokens live that much longer",
        );
        checks.not_empty("user_claim", &self.user_claim);
        checks.not_empty("roles_claim", &self.roles_claim);
    }
}
