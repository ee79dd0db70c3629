//! Passwords: argon2id, on threads of their own, a few at a time.
//!
//! Invariants: never more than [`Options::at_once`] hashes are computed, which bounds the memory they
//! take; a password is checked against something even if there is no account, so that the answer
//! takes as long. Passwords are never logged, and never compared but by their hash.

use std::sync::Arc;

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{Algorithm, Argon2, Params, Version};
use tokio::sync::Semaphore;

/// Bytes of a password: beyond it lies no security, only work for the hash.
pub const MAX_BYTES: usize = 1024;

/// Bytes of the shortest password that is set: guessing seven characters is a matter of hours.
pub const MIN_BYTES: usize = 8;

/// What one hash costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Memory, KiB.
    pub memory_kib: u32,
    /// Passes over the memory.
    pub passes: u32,
    /// Hashes that are computed at the same time.
    pub at_once: usize,
}

impl Default for Options {
    /// The smaller of the costs that OWASP's password storage cheat sheet names.
    fn default() -> Self {
        Self {
            memory_kib: 19_456,
            passes: 2,
            at_once: 2,
        }
    }
}

/// Why a password cannot be used or checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PasswordError {
    /// Too short to be one.
    #[error("a password has at least {MIN_BYTES} bytes")]
    Short,
    /// Too long.
    #[error("a password has at most {MAX_BYTES} bytes")]
    Long,
    /// Typing or a file has put it there.
    #[error("a password has no U+0000 and no line breaks")]
    Control,
    /// The hash cannot be computed.
    #[error("the password cannot be hashed: {0}")]
    Hash(&'static str),
}

/// Makes and checks hashes of passwords.
pub struct Passwords {
    argon2: Argon2<'static>,
    places: Arc<Semaphore>,
    /// What is checked for users that do not exist.
    nobody: Arc<str>,
}

impl Passwords {
    /// With these costs for new hashes; each hash is checked with its own.
    ///
    /// # Errors
    /// If argon2 does not work with these costs.
    pub fn new(options: Options) -> Result<Self, PasswordError> {
        let params = Params::new(options.memory_kib, options.passes, 1, None)
            .map_err(|_| PasswordError::Hash("these costs are not possible"))?;
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        // The salt and the hash of no password at all: only the work to compare with them counts.
        let nobody = format!(
            "$argon2id$v=19$m={},t={},p=1${}${}",
            options.memory_kib,
            options.passes,
            "A".repeat(22),
            "A".repeat(43)
        );
        Ok(Self {
            argon2,
            places: Arc::new(Semaphore::new(options.at_once.max(1))),
            nobody: nobody.into(),
        })
    }

    /// The hash of a new password, as a PHC string.
    ///
    /// # Errors
    /// If it cannot be one.
    pub async fn hash(&self, password: String) -> Result<Arc<str>, PasswordError> {
        match password.len() {
            length if length < MIN_BYTES => return Err(PasswordError::Short),
            length if length > MAX_BYTES => return Err(PasswordError::Long),
            _ if password.contains(['\0', '\n', '\r']) => return Err(PasswordError::Control),
            _ => {}
        }
        let argon2 = self.argon2.clone();
        self.run(move || hash_with(&argon2, password.as_bytes()))
            .await
            .unwrap_or(Err(PasswordError::Hash("its thread ended")))
    }

    /// Whether the password is that of the hash; `None`: there is no such user, which takes as long
    /// to find out.
    pub async fn verify(&self, hash: Option<Arc<str>>, password: &[u8]) -> bool {
        let exists = hash.is_some();
        let hash = hash.unwrap_or_else(|| self.nobody.clone());
        let fits = password.len() <= MAX_BYTES;
        let password = if fits { password.to_vec() } else { Vec::new() };
        let argon2 = self.argon2.clone();
        let is_right = self.run(move || {
            PasswordHash::new(&hash)
                .is_ok_and(|hash| argon2.verify_password(&password, &hash).is_ok())
        });
        is_right.await.unwrap_or(false) && exists && fits
    }

    /// Runs on a thread for work, when there is a place.
    async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        let place = self.places.clone().acquire_owned().await.ok()?;
        let result = tokio::task::spawn_blocking(move || {
            let result = work();
            drop(place);
            result
        });
        result.await.ok()
    }
}

fn hash_with(argon2: &Argon2<'_>, password: &[u8]) -> Result<Arc<str>, PasswordError> {
    let hash: PasswordHash = argon2
        .hash_password(password)
        .map_err(|_| PasswordError::Hash("argon2 refused it"))?;
    Ok(hash.to_string().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cheap() -> Passwords {
        let options = Options {
            memory_kib: 64,
            passes: 1,
            at_once: 2,
        };
        Passwords::new(options).unwrap()
    }

    #[tokio::test]
    async fn a_password_is_checked_against_its_own_hash_only() {
        let passwords = cheap();
        let hash = passwords.hash("correct horse".to_owned()).await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=64,t=1,p=1$"), "{hash}");
        assert!(passwords.verify(Some(hash.clone()), b"correct horse").await);
        for wrong in [
            &b"correct horsf"[..],
            b"",
            b"correct horse\0",
            &[b'x'; 2000],
        ] {
            assert!(!passwords.verify(Some(hash.clone()), wrong).await);
        }
        assert!(!passwords.verify(Some("no hash".into()), b"").await);
        let other = passwords.hash("correct horse".to_owned()).await.unwrap();
        assert_ne!(hash, other, "each has a salt of its own");
    }

    #[tokio::test]
    async fn nobody_has_no_password() {
        let passwords = cheap();
        assert!(!passwords.verify(None, b"nobody's password").await);
        // It was compared: no other error stood before the work.
        let nobody = PasswordHash::new(&passwords.nobody).unwrap();
        let compared = passwords.argon2.verify_password(b"any", &nobody);
        assert_eq!(compared, Err(argon2::password_hash::Error::PasswordInvalid));
    }

    #[tokio::test]
    async fn passwords_that_cannot_be_typed_or_are_too_short_are_refused() {
        let passwords = cheap();
        for (password, error) in [
            ("short", PasswordError::Short),
            ("with\nline break", PasswordError::Control),
            ("with\0nul byte", PasswordError::Control),
            (&"x".repeat(1025), PasswordError::Long),
        ] {
            assert_eq!(passwords.hash(password.to_owned()).await, Err(error));
        }
    }

    #[test]
    fn impossible_costs_are_refused() {
        let options = Options {
            memory_kib: 1,
            ..Options::default()
        };
        assert!(Passwords::new(options).is_err());
    }
}
