//! Tokens of devices: 256 random bits, shown once, stored as their SHA-256. They need no slow hash,
//! because nobody can guess them.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// What a token begins with, so that one that is found in the wrong place is recognised.
const PREFIX: &str = "tdt_";

const RANDOM_BYTES: usize = 32;

/// A token in the clear.
#[derive(Clone, PartialEq, Eq)]
pub struct DeviceToken(String);

impl DeviceToken {
    /// A new one.
    ///
    /// # Errors
    /// If the system has no random numbers.
    pub fn generate() -> Result<Self, std::io::Error> {
        let mut bytes = [0; RANDOM_BYTES];
        getrandom::fill(&mut bytes).map_err(std::io::Error::other)?;
        Ok(Self(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes))))
    }

    /// The text, to be shown once.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// What is stored of it.
    pub fn hash(&self) -> [u8; 32] {
        hash(self.0.as_bytes())
    }
}

impl fmt::Debug for DeviceToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DeviceToken(***)")
    }
}

fn hash(token: &[u8]) -> [u8; 32] {
    Sha256::digest(token).into()
}

/// Whether `token` is the one whose hash was stored; takes the same time whether or not.
pub(super) fn is_token(stored: &[u8; 32], token: &[u8]) -> bool {
    hash(token).ct_eq(stored).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_recognised_by_its_hash_and_never_printed() {
        let token = DeviceToken::generate().unwrap();
        assert!(is_token(&token.hash(), token.expose().as_bytes()));
        assert!(!is_token(&token.hash(), b""));
        assert_ne!(token, DeviceToken::generate().unwrap());
        assert_eq!(token.expose().len(), 4 + 43);
        assert!(!format!("{token:?}").contains(token.expose()));
    }
}
