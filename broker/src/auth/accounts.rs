//! Mode "accounts": people with passwords and devices with tokens, from the book of accounts.
//!
//! Invariants: a wrong secret and a name that nobody has take the same time and get the same answer;
//! what failed too often is not judged at all; that an account is disabled is said only to who knows
//! its secret.

use std::sync::Arc;

use tidings_core::account::Secret;
use tidings_core::rules::{Identity, IdentityKind};

use super::book::AccountBook;
use super::{Admitted, Answer, Attempts, Authenticate, Credentials, Denied, Limit};
use super::{check_user_name, token};

/// How strict it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Clients without a user name come in as anonymous.
    pub guests: bool,
    /// Failures from one address.
    pub failures_of_address: Limit,
    /// Failures for one user name.
    pub failures_of_user: Limit,
}

impl Default for Options {
    fn default() -> Self {
        let limit = |burst, per_minute| Limit { burst, per_minute };
        Self {
            guests: false,
            failures_of_address: limit(20, 20),
            failures_of_user: limit(10, 10),
        }
    }
}

/// See the module.
#[derive(Debug)]
pub struct Accounts {
    options: Options,
    book: Arc<AccountBook>,
    attempts: Attempts,
}

impl Accounts {
    /// Judges by what is in `book`.
    pub fn new(options: Options, book: Arc<AccountBook>) -> Self {
        Self {
            attempts: Attempts::new(options.failures_of_address, options.failures_of_user),
            options,
            book,
        }
    }

    async fn judge(&self, credentials: Credentials<'_>) -> Result<Admitted, Denied> {
        let Some(user) = credentials.username else {
            return if self.options.guests {
                Ok(Admitted::as_one(Identity::anonymous()))
            } else {
                Err(Denied::NotAuthorized)
            };
        };
        check_user_name(user)?;
        let (now_ms, _) = self.book.now_ms();
        let address = credentials.address;
        if !self.attempts.may_try(now_ms, address, user) {
            return Err(Denied::TooManyAttempts);
        }
        let secret = credentials.password.unwrap_or_default();
        if !self.knows(user, secret).await {
            self.attempts.failed(now_ms, address, user);
            return Err(Denied::Credentials);
        }
        // Read after the secret was checked, which takes a while.
        let account = self.book.find(user).ok_or(Denied::Credentials)?;
        if !self.book.is_enabled(&account) {
            return Err(Denied::NotAuthorized);
        }
        Ok(Admitted::as_one(Identity::user(user)))
    }

    async fn knows(&self, user: &str, secret: &[u8]) -> bool {
        let passwords = self.book.passwords();
        match self.book.find(user).map(|account| account.secret) {
            Some(Secret::TokenHash(hash)) if token::is_token(&hash, secret) => true,
            Some(Secret::PasswordHash(hash)) => passwords.verify(Some(hash), secret).await,
            Some(Secret::TokenHash(_) | Secret::None) | None => {
                passwords.verify(None, secret).await
            }
        }
    }
}

impl Authenticate for Accounts {
    fn authenticate<'a>(&'a self, credentials: Credentials<'a>) -> Answer<'a> {
        Box::pin(self.judge(credentials))
    }

    fn is_welcome(&self, identity: &Identity) -> bool {
        identity.kind != IdentityKind::User
            || self
                .book
                .find(&identity.user)
                .is_some_and(|account| self.book.is_enabled(&account))
    }
}
