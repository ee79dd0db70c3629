//! Passwords: argon2id, on threads of their own, a few at a time.
//!
//! Invariants: never more than [`Options::at_once`] hashes are computed, which bounds the memory they
//! take; a password is checked against something even if there is no account, so that the answer
//! takes as long. Passwords are never logged, and never compared but by their hash. That a password fits
//! a hash is remembered, so that who shows it with each request costs one hash and not one each; what is
//! remembered is a keyed hash of both, whose key lives as long as the process. Another password has another
//! hash, so nothing has to be forgotten; whether somebody may come in is judged elsewhere, each time.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{Algorithm, Argon2, Params, Version};
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;

/// Bytes of a password: beyond it lies no security, only work for the hash.
pub const MAX_BYTES: usize = 1024;

/// Bytes of the shortest password that is set: guessing seven characters is a matter of hours.
pub const MIN_BYTES: usize = 8;

/// Passwords that are remembered to be right, some 2 MB; with more, those that were not shown for longest
/// are forgotten.
const MAX_REMEMBERED: usize = 16_384;

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
    right: Mutex<Right>,
}

/// Passwords that were found right, by keyed hash, in two generations: what is shown again moves to the
/// younger one, and when that is full, the older one goes.
struct Right {
    key: [u8; 32],
    young: HashSet<[u8; 32]>,
    old: HashSet<[u8; 32]>,
}

impl Right {
    fn name(&self, hash: &str, password: &[u8]) -> [u8; 32] {
        let mut digest = Sha256::new_with_prefix(self.key);
        digest.update((hash.len() as u64).to_be_bytes());
        digest.update(hash);
        digest.update(password);
        digest.finalize().into()
    }

    fn has(&mut self, hash: &str, password: &[u8]) -> bool {
        let name = self.name(hash, password);
        self.young.contains(&name) || self.old.remove(&name) && self.insert(name)
    }

    fn add(&mut self, hash: &str, password: &[u8]) {
        let name = self.name(hash, password);
        self.insert(name);
    }

    fn insert(&mut self, name: [u8; 32]) -> bool {
        if self.young.len() >= MAX_REMEMBERED / 2 {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(name)
    }
}

impl Passwords {
    /// With these costs for new hashes; each hash is checked with its own.
    ///
    /// # Errors
    /// If argon2 does not work with these costs, or the system has no random numbers.
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
        let mut key = [0; 32];
        getrandom::fill(&mut key).map_err(|_| PasswordError::Hash("no random numbers"))?;
        Ok(Self {
            argon2,
            places: Arc::new(Semaphore::new(options.at_once.max(1))),
            nobody: nobody.into(),
            right: Mutex::new(Right {
                key,
                young: HashSet::new(),
                old: HashSet::new(),
            }),
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
        if exists && fits && self.right().has(&hash, password) {
            return true;
        }
        let shown = if fits { password.to_vec() } else { Vec::new() };
        let argon2 = self.argon2.clone();
        let compared = hash.clone();
        let is_right = self.run(move || {
            PasswordHash::new(&compared)
                .is_ok_and(|hash| argon2.verify_password(&shown, &hash).is_ok())
        });
        let is_right = is_right.await.unwrap_or(false) && exists && fits;
        if is_right {
            self.right().add(&hash, password);
        }
        is_right
    }

    fn right(&self) -> std::sync::MutexGuard<'_, Right> {
        self.right.lock().unwrap_or_else(PoisonError::into_inner)
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
    async fn a_right_password_costs_one_hash_and_a_wrong_one_each_time() {
        let passwords = cheap();
        let hash = passwords.hash("correct horse".to_owned()).await.unwrap();
        assert!(passwords.verify(Some(hash.clone()), b"correct horse").await);
        let other = passwords.hash("correct horse".to_owned()).await.unwrap();
        // No hash can be computed any more.
        passwords.places.close();
        assert!(passwords.verify(Some(hash.clone()), b"correct horse").await);
        assert!(!passwords.verify(Some(hash), b"correct horsf").await);
        assert!(!passwords.verify(Some(other), b"correct horse").await);
        assert!(!passwords.verify(None, b"correct horse").await);
    }

    #[test]
    fn no_more_passwords_are_remembered_than_there_is_place_for() {
        let passwords = cheap();
        let mut right = passwords.right();
        for number in 0..2 * MAX_REMEMBERED {
            right.add("hash", number.to_string().as_bytes());
            // One that comes again and again stays.
            right.add("hash", b"daily");
            assert!(right.has("hash", b"daily"));
        }
        assert!(right.young.len() + right.old.len() <= MAX_REMEMBERED);
        assert!(!right.has("hash", b"0"));
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
