//! Mode "accounts": people with passwords and devices with tokens, from the book of accounts, and whoever
//! brings a signed token or a certificate of somebody who is trusted, or is known to the owner's hook.
//!
//! Invariants: a wrong secret and a name that nobody has take the same time and get the same answer;
//! what failed too often is not judged at all; that an account is disabled is said only to who knows
//! its secret.

use std::sync::Arc;

use tidings_core::account::Secret;
use tidings_core::message::UnixMillis;
use tidings_core::rules::{Identity, IdentityKind};

use super::book::AccountBook;
use super::jwt::looks_like_token;
use super::logins::{Login, Logins, Verdict};
use super::{Admitted, Answer, Attempts, Authenticate, Credentials, Denied, Hook, Limit, Tokens};
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
    logins: Arc<Logins>,
    tokens: Option<Arc<Tokens>>,
    hook: Option<Hook>,
}

impl Accounts {
    /// Judges by what is in `book` and by logins; by signed tokens, and for names without an account by
    /// a hook, if they are to count.
    pub fn new(
        options: Options,
        book: Arc<AccountBook>,
        logins: Arc<Logins>,
        tokens: Option<Arc<Tokens>>,
        hook: Option<Hook>,
    ) -> Self {
        Self {
            attempts: Attempts::new(options.failures_of_address, options.failures_of_user),
            options,
            book,
            logins,
            tokens,
            hook,
        }
    }

    /// A certificate counts for the name in it, and what is shown beside it has to count as well.
    async fn judge(&self, credentials: Credentials<'_>) -> Result<Admitted, Denied> {
        let Some(certified) = credentials.certificate else {
            return self.judge_proof(credentials).await;
        };
        let user = certified.user(credentials.username)?;
        if credentials.password.is_none() && credentials.bearer.is_none() {
            // Who signed the certificate can take it back; changes of an account do not.
            let nothing_else = (Vec::new(), Vec::new());
            let admitted = self.judge_bearer(user, nothing_else, certified.ends, |_| false)?;
            return Ok(Admitted {
                thumbprint: Some(certified.thumbprint.clone()),
                ..admitted
            });
        }
        let admitted = self
            .judge_proof(Credentials {
                username: Some(user),
                ..credentials
            })
            .await?;
        let ends = admitted
            .valid_until
            .map_or(certified.ends, |ends| ends.min(certified.ends));
        Ok(Admitted {
            valid_until: Some(ends),
            ..admitted
        })
    }

    async fn judge_proof(&self, credentials: Credentials<'_>) -> Result<Admitted, Denied> {
        let (now_ms, _) = self.book.now_ms();
        let (user, address) = (credentials.username, credentials.address);
        if let Some(user) = user {
            check_user_name(user)?;
        }
        // Nobody guesses these, and who has one is not kept out by those who guess passwords.
        let certificate = credentials.certificate;
        match token_of(&credentials).map(|token| self.logins.verify(token, certificate)) {
            Some(Verdict::Counts(login)) => return self.judge_login(&login, user),
            Some(Verdict::Over) => return Err(Denied::Outdated),
            Some(Verdict::Foreign) | None => {}
        }
        if !self.attempts.may_try(now_ms, address, user) {
            return Err(Denied::TooManyAttempts);
        }
        let judged = match (token_of(&credentials), user) {
            (Some(token), _) if self.tokens.is_some() => self.judge_token(token, user),
            (_, Some(user)) => self.judge_secret(user, &credentials).await,
            (_, None) if self.options.guests => Ok(Admitted::as_one(Identity::anonymous())),
            (_, None) => Err(Denied::NotAuthorized),
        };
        if judged == Err(Denied::Credentials) {
            self.attempts.failed(now_ms, address, user);
        }
        judged
    }

    async fn judge_secret(
        &self,
        user: &str,
        credentials: &Credentials<'_>,
    ) -> Result<Admitted, Denied> {
        let secret = credentials.password.unwrap_or_default();
        if let Some(hook) = &self.hook
            && self.book.find(user).is_none()
            && !self.book.is_gone(user)
        {
            let (now_ms, _) = self.book.now_ms();
            let (client_id, address) = (credentials.client_id, credentials.address);
            let roles = hook.judge(now_ms, user, secret, client_id, address).await?;
            let identity = Identity::user(user).with_roles(roles);
            return Ok(Admitted::as_one(identity));
        }
        if !self.knows(user, secret).await {
            return Err(Denied::Credentials);
        }
        // Read after the secret was checked, which takes a while.
        let account = self.book.find(user).ok_or(Denied::Credentials)?;
        if !self.book.is_enabled(&account) {
            return Err(Denied::NotAuthorized);
        }
        Ok(Admitted {
            has_account: true,
            account_roles: account.roles.clone(),
            ..Admitted::as_one(Identity::user(user).with_roles(account.roles))
        })
    }

    /// A token counts for the user it names, who need not have an account; if there is one, it can
    /// be disabled, and what was issued before a certain time does not count.
    fn judge_token(&self, token: &[u8], user: Option<&str>) -> Result<Admitted, Denied> {
        let tokens = self.tokens.as_ref().ok_or(Denied::Credentials)?;
        let claims = tokens.verify(token).ok_or(Denied::Credentials)?;
        check_user_name(&claims.user).map_err(|_| Denied::Credentials)?;
        if user.is_some_and(|user| user != claims.user) {
            return Err(Denied::Credentials);
        }
        let ends = claims.ends_s.saturating_mul(1000);
        let is_older = |valid_from| claims.issued_s < valid_from / 1000;
        let lets = (claims.roles, claims.rooms);
        match self.judge_bearer(&claims.user, lets, ends, is_older) {
            Err(Denied::Outdated) => Err(Denied::Credentials),
            judged => judged,
        }
    }

    fn judge_login(&self, login: &Login, user: Option<&str>) -> Result<Admitted, Denied> {
        if user.is_some_and(|user| *user != *login.user) {
            return Err(Denied::Credentials);
        }
        // At another listener everyone is believed; here it proves nothing.
        if login.unproved {
            return Err(Denied::Outdated);
        }
        // A device that was revoked leaves nothing behind.
        if login.has_account && self.book.find(&login.user).is_none() {
            return Err(Denied::NotAuthorized);
        }
        let is_older = |valid_from| login.issued < valid_from;
        let lets = (login.roles.clone(), login.rooms.clone());
        let admitted = self.judge_bearer(&login.user, lets, login.ends, is_older)?;
        Ok(Admitted {
            login: Some(login.id.clone()),
            ..admitted
        })
    }

    fn judge_bearer(
        &self,
        user: &str,
        (mut roles, rooms): (Vec<Arc<str>>, Vec<Arc<str>>),
        ends: UnixMillis,
        is_older_than: impl Fn(UnixMillis) -> bool,
    ) -> Result<Admitted, Denied> {
        if self.book.is_gone(user) {
            return Err(Denied::NotAuthorized);
        }
        let account = self.book.find(user);
        if let Some(account) = &account {
            if is_older_than(account.valid_from) {
                return Err(Denied::Outdated);
            }
            if !self.book.is_enabled(account) {
                return Err(Denied::NotAuthorized);
            }
        }
        let has_account = account.is_some();
        let account_roles = account.map(|account| account.roles).unwrap_or_default();
        roles.extend(account_roles.iter().cloned());
        let identity = Identity::user(user).with_roles(roles).with_rooms(rooms);
        Ok(Admitted {
            valid_until: Some(ends),
            has_account,
            account_roles,
            ..Admitted::as_one(identity)
        })
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

    fn is_welcome(&self, admitted: &Admitted) -> bool {
        if admitted.identity.kind != IdentityKind::User {
            return true;
        }
        match self.book.find(&admitted.identity.user) {
            Some(account) => {
                self.book.is_enabled(&account) && account.roles == admitted.account_roles
            }
            None => !admitted.has_account && !self.book.is_gone(&admitted.identity.user),
        }
    }
}

/// The token that a client shows: as its password, or when it asked for its WebSocket.
fn token_of<'a>(credentials: &Credentials<'a>) -> Option<&'a [u8]> {
    match credentials.password {
        Some(password) => Some(password).filter(|password| looks_like_token(password)),
        None => credentials.bearer.map(str::as_bytes),
    }
}
