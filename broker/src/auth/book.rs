//! The book of accounts: who is in it, and every change of it. A change is an entry of the journal and
//! counts when that is on disk; whoever may not be here any more is then sent away.
//!
//! Invariants: one change at a time, so that each is decided on what the one before left; nothing in
//! here prints a secret. This module does not know who asks: its callers are those who may.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use tidings_core::account::{AccountChange, AccountRecord, Secret};
use tidings_core::codec::ReasonCode;
use tidings_core::journal::{Append, Batch, NO_SHARD, Record};
use tidings_core::message::UnixMillis;
use tidings_core::shard::{Input, Revocation};
use tidings_core::state::State;
use tokio::sync::oneshot;

use super::{Denied, DeviceToken, PasswordError, Passwords, check_user_name};
use crate::clock::Clock;
use crate::shard::{AppendSink, Mailboxes};

/// Roles of one account: what a person can keep in mind.
const MAX_ROLES: usize = 64;

/// What is told of an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountInfo {
    /// Its name.
    pub user: Arc<str>,
    /// Everything but the secret itself.
    pub record: AccountRecord,
}

/// Why a change was not made.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// The name cannot be one.
    #[error(transparent)]
    Name(#[from] Denied),
    /// The name is taken.
    #[error("there is already an account \"{0}\"")]
    Exists(Arc<str>),
    /// The name was somebody's who is gone.
    #[error(
        "\"{0}\" was deleted; the name is not given again, because what was sent under it stays"
    )]
    Deleted(Arc<str>),
    /// There is no such person.
    #[error("there is no user \"{0}\"")]
    NoUser(Arc<str>),
    /// There is no such device.
    #[error("there is no device \"{0}\"")]
    NoDevice(Arc<str>),
    /// The password cannot be one.
    #[error(transparent)]
    Password(#[from] PasswordError),
    /// A role that cannot be one.
    #[error("a role is a word of letters, digits, - and _, and an account has at most {MAX_ROLES}")]
    Role,
    /// The system has no random numbers.
    #[error("no token can be made: {0}")]
    Random(std::io::Error),
    /// The journal did not take it.
    #[error("the change could not be stored")]
    Store,
}

/// Changes on their way to the disk. Told of every batch, on the journal's thread.
#[derive(Default)]
pub(crate) struct Commits(Mutex<Option<VecDeque<Option<oneshot::Sender<()>>>>>);

impl Commits {
    pub fn new() -> Self {
        Self(Mutex::new(Some(VecDeque::new())))
    }

    /// Hands records over together; the receiver hears when they are stored, or never will be.
    fn append(&self, sink: &AppendSink, records: Vec<Record>) -> oneshot::Receiver<()> {
        let (stored, is_stored) = oneshot::channel();
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(waiting) = waiting.as_mut() {
            let others = records.len().saturating_sub(1);
            waiting.extend((0..others).map(|_| None));
            waiting.push_back(Some(stored));
            // Under the lock, so that both are in the same order.
            sink(
                records
                    .into_iter()
                    .map(|record| Append {
                        shard: NO_SHARD,
                        record,
                    })
                    .collect(),
            );
        }
        is_stored
    }

    /// A batch is stored, and the state knows it.
    pub fn committed(&self, batch: &Batch) {
        let ours = batch
            .entries
            .iter()
            .filter(|(shard, _)| *shard == NO_SHARD)
            .count();
        if ours == 0 {
            return;
        }
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(waiting) = waiting.as_mut() {
            let count = ours.min(waiting.len());
            for stored in waiting.drain(..count).flatten() {
                // Whoever waited may have given up.
                let _ = stored.send(());
            }
        }
    }

    /// Nothing is stored any more.
    pub fn failed(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// See the module.
pub struct AccountBook {
    state: Arc<dyn State>,
    append: AppendSink,
    commits: Arc<Commits>,
    mailboxes: Mailboxes,
    passwords: Passwords,
    clock: Clock,
    one_at_a_time: tokio::sync::Mutex<()>,
}

impl fmt::Debug for AccountBook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccountBook").finish_non_exhaustive()
    }
}

/// How sessions of an account end.
#[derive(Clone, Copy)]
struct Goodbye {
    reason: ReasonCode,
    text: &'static str,
    forget: bool,
}

impl AccountBook {
    pub(crate) fn new(
        state: Arc<dyn State>,
        append: AppendSink,
        commits: Arc<Commits>,
        mailboxes: Mailboxes,
        passwords: Passwords,
        clock: Clock,
    ) -> Self {
        Self {
            state,
            append,
            commits,
            mailboxes,
            passwords,
            clock,
            one_at_a_time: tokio::sync::Mutex::new(()),
        }
    }

    /// The account of a user or device.
    pub fn find(&self, user: &str) -> Option<AccountRecord> {
        self.state.account(user).filter(|account| !account.deleted)
    }

    /// Whether a device has the name: then it is its Client Identifier, too, and nobody else's.
    pub(crate) fn is_device(&self, name: &str) -> bool {
        self.find(name).is_some_and(|found| found.owner.is_some())
    }

    /// Whether the name was a person's who is gone: nobody has it any more.
    pub(super) fn is_gone(&self, user: &str) -> bool {
        self.state
            .account(user)
            .is_some_and(|account| account.deleted)
    }

    /// Whether the account may sign in now: it and, of a device, its owner are enabled.
    pub fn is_enabled(&self, account: &AccountRecord) -> bool {
        let owner_is = |owner: &Arc<str>| self.find(owner).is_none_or(|owner| owner.enabled);
        account.enabled && account.owner.as_ref().is_none_or(owner_is)
    }

    /// People, or devices, in the order of names.
    pub fn list(&self, devices: bool) -> Vec<AccountInfo> {
        let mut found = Vec::new();
        self.state.for_each_account(&mut |user, record| {
            if record.owner.is_some() == devices && !record.deleted {
                found.push(AccountInfo {
                    user: user.clone(),
                    record: record.clone(),
                });
            }
        });
        found
    }

    pub(super) fn passwords(&self) -> &Passwords {
        &self.passwords
    }

    pub(super) fn now_ms(&self) -> (u64, UnixMillis) {
        let now = self.clock.now();
        (now.monotonic_ms, now.unix_ms)
    }

    /// Adds a person; without a password they sign in by other means only.
    ///
    /// # Errors
    /// The name is taken or cannot be one; the password or a role cannot be one.
    pub async fn add_user(
        &self,
        user: &str,
        password: Option<String>,
        roles: &[String],
    ) -> Result<(), AccountError> {
        let user = user_name(user)?;
        let roles = checked_roles(roles)?;
        let secret = match password {
            Some(password) => Secret::PasswordHash(self.passwords.hash(password).await?),
            None => Secret::None,
        };
        self.create(user, None, secret, roles).await
    }

    /// Adds a device of an owner, who need not have an account, and gives its token.
    ///
    /// # Errors
    /// The name is taken or cannot be one.
    pub async fn add_device(&self, device: &str, owner: &str) -> Result<DeviceToken, AccountError> {
        let (device, owner) = (user_name(device)?, user_name(owner)?);
        let token = DeviceToken::generate().map_err(AccountError::Random)?;
        let secret = Secret::TokenHash(token.hash());
        self.create(device, Some(owner), secret, Vec::new()).await?;
        Ok(token)
    }

    /// Sets the password of a person, and ends their sessions: whoever knew the old one is out.
    ///
    /// # Errors
    /// There is no such person; the password cannot be one.
    pub async fn set_password(&self, user: &str, password: String) -> Result<(), AccountError> {
        let user: Arc<str> = user.into();
        self.person(&user)?;
        let hash = self.passwords.hash(password).await?;
        let _alone = self.one_at_a_time.lock().await;
        self.person(&user)?;
        let before = self.clock.now().unix_ms;
        let changes = [
            AccountChange::SecretSet(Secret::PasswordHash(hash)),
            AccountChange::TokensRevoked { before },
        ];
        self.store(changes.map(|change| (user.clone(), change)).into())
            .await?;
        let goodbye = Goodbye {
            reason: ReasonCode::AdministrativeAction,
            text: "the password was changed",
            forget: false,
        };
        self.send_away(vec![user], goodbye).await;
        Ok(())
    }

    /// Gives a person exactly these roles. Roles are rights, so what is connected ends, and comes again with
    /// the new ones; sessions wait meanwhile.
    ///
    /// # Errors
    /// There is no such person; a role cannot be one.
    pub async fn set_roles(&self, user: &str, roles: &[String]) -> Result<(), AccountError> {
        let user: Arc<str> = user.into();
        let roles = checked_roles(roles)?;
        let _alone = self.one_at_a_time.lock().await;
        if self.person(&user)?.roles == roles {
            return Ok(());
        }
        self.store(vec![(user.clone(), AccountChange::RolesSet(roles))])
            .await?;
        let goodbye = Goodbye {
            reason: ReasonCode::AdministrativeAction,
            text: "the roles were changed, connect again",
            forget: false,
        };
        self.send_away(vec![user], goodbye).await;
        Ok(())
    }

    /// Lets a person sign in again.
    ///
    /// # Errors
    /// There is no such person.
    pub async fn enable(&self, user: &str) -> Result<(), AccountError> {
        let user: Arc<str> = user.into();
        let _alone = self.one_at_a_time.lock().await;
        self.person(&user)?;
        self.store(vec![(user, AccountChange::Enabled)]).await
    }

    /// Locks a person out, and their devices; their sessions end, and wait until they are enabled.
    ///
    /// # Errors
    /// There is no such person.
    pub async fn disable(&self, user: &str) -> Result<(), AccountError> {
        let user: Arc<str> = user.into();
        let _alone = self.one_at_a_time.lock().await;
        self.person(&user)?;
        self.store(vec![(user.clone(), AccountChange::Disabled)])
            .await?;
        let mut users = self.devices_of(&user);
        users.push(user);
        let goodbye = Goodbye {
            reason: ReasonCode::NotAuthorized,
            text: "the account is disabled",
            forget: false,
        };
        self.send_away(users, goodbye).await;
        Ok(())
    }

    /// Removes a person and their devices, with all sessions and what waits for them. What they
    /// published stays, and so nobody gets the name again.
    ///
    /// # Errors
    /// There is no such person.
    pub async fn delete(&self, user: &str) -> Result<(), AccountError> {
        let user: Arc<str> = user.into();
        let _alone = self.one_at_a_time.lock().await;
        self.person(&user)?;
        let mut users = self.devices_of(&user);
        users.push(user);
        self.remove(users).await
    }

    /// Removes a device and its token, with its sessions.
    ///
    /// # Errors
    /// There is no such device.
    pub async fn revoke_device(&self, device: &str) -> Result<(), AccountError> {
        let device: Arc<str> = device.into();
        let _alone = self.one_at_a_time.lock().await;
        let is_device = |account: &AccountRecord| account.owner.is_some();
        if !self.find(&device).is_some_and(|found| is_device(&found)) {
            return Err(AccountError::NoDevice(device));
        }
        self.remove(vec![device]).await
    }

    /// Ends the connections of `user` in every shard; their sessions stay for when they may come again.
    pub(crate) fn disconnect(&self, user: &Arc<str>) {
        self.end_connections(user, false);
    }

    /// The same of a user who is not welcome any more; with an account its sessions go.
    pub(crate) fn send_unwelcome_away(&self, user: &Arc<str>) {
        self.end_connections(user, self.find(user).is_none());
    }

    fn end_connections(&self, user: &Arc<str>, forget: bool) {
        let goodbye = Goodbye {
            reason: ReasonCode::NotAuthorized,
            text: "not authorized any more",
            forget,
        };
        self.revoke(user, goodbye, Arc::from([]));
    }

    async fn create(
        &self,
        user: Arc<str>,
        owner: Option<Arc<str>>,
        secret: Secret,
        roles: Vec<Arc<str>>,
    ) -> Result<(), AccountError> {
        let _alone = self.one_at_a_time.lock().await;
        match self.state.account(&user) {
            Some(account) if account.deleted => return Err(AccountError::Deleted(user)),
            Some(_) => return Err(AccountError::Exists(user)),
            None => {}
        }
        let now = self.clock.now().unix_ms;
        let record = AccountRecord {
            owner,
            secret,
            enabled: true,
            roles,
            created: now,
            valid_from: now,
            deleted: false,
        };
        let change = AccountChange::Created(Box::new(record));
        self.store(vec![(user, change)]).await?;
        // A device has an owner from now on.
        let nothing_else = Arc::from([]);
        self.mailboxes
            .broadcast(|| Input::AccessChanged(Arc::clone(&nothing_else)));
        Ok(())
    }

    async fn remove(&self, users: Vec<Arc<str>>) -> Result<(), AccountError> {
        let gone = |user: &Arc<str>| (user.clone(), AccountChange::Deleted);
        self.store(users.iter().map(gone).collect()).await?;
        let goodbye = Goodbye {
            reason: ReasonCode::NotAuthorized,
            text: "the account is gone",
            forget: true,
        };
        self.send_away(users, goodbye).await;
        Ok(())
    }

    fn person(&self, user: &Arc<str>) -> Result<AccountRecord, AccountError> {
        self.find(user)
            .filter(|account| account.owner.is_none())
            .ok_or_else(|| AccountError::NoUser(user.clone()))
    }

    fn devices_of(&self, owner: &Arc<str>) -> Vec<Arc<str>> {
        let devices = self.list(true).into_iter();
        devices
            .filter(|device| device.record.owner.as_ref() == Some(owner))
            .map(|device| device.user)
            .collect()
    }

    async fn store(&self, changes: Vec<(Arc<str>, AccountChange)>) -> Result<(), AccountError> {
        let record = |(user, change)| Record::Account { user, change };
        let records = changes.into_iter().map(record).collect();
        let stored = self.commits.append(&self.append, records);
        stored.await.map_err(|_| AccountError::Store)
    }

    /// Ends what is connected at once, and then what is not: finding that takes a while.
    async fn send_away(&self, users: Vec<Arc<str>>, goodbye: Goodbye) {
        for user in &users {
            self.revoke(user, goodbye, Arc::from([]));
        }
        let state = self.state.clone();
        let search = tokio::task::spawn_blocking(move || {
            let mut found: Vec<(Arc<str>, Vec<Arc<str>>)> =
                users.into_iter().map(|user| (user, Vec::new())).collect();
            state.for_each_session(&mut |client_id, session| {
                if let Some((_, theirs)) = found.iter_mut().find(|(user, _)| *user == session.user)
                {
                    theirs.push(client_id.clone());
                }
            });
            found
        });
        // A search that panicked met a damaged state, which was said where it happened.
        for (user, sessions) in search.await.unwrap_or_default() {
            if !sessions.is_empty() {
                self.revoke(&user, goodbye, sessions.into());
            }
        }
    }

    fn revoke(&self, user: &Arc<str>, goodbye: Goodbye, offline: Arc<[Arc<str>]>) {
        self.mailboxes.broadcast(|| {
            Input::Revoked(Revocation {
                user: user.clone(),
                reason: goodbye.reason,
                text: goodbye.text,
                forget: goodbye.forget,
                offline: offline.clone(),
            })
        });
    }
}

fn user_name(name: &str) -> Result<Arc<str>, AccountError> {
    check_user_name(name)?;
    Ok(name.into())
}

fn checked_roles(roles: &[String]) -> Result<Vec<Arc<str>>, AccountError> {
    let is_word = |role: &String| {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        !role.is_empty() && role.len() <= 64 && role.chars().all(is_plain)
    };
    if roles.len() > MAX_ROLES || !roles.iter().all(is_word) {
        return Err(AccountError::Role);
    }
    let mut roles: Vec<Arc<str>> = roles.iter().map(|role| role.as_str().into()).collect();
    roles.sort_unstable();
    roles.dedup();
    Ok(roles)
}
