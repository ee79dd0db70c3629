//! The HTTP hook: a program of the owner's is asked who may come in, for names without an account here.
//!
//! ```text
//! POST url    {"user":..., "password":..., "client_id":..., "address":...}
//! 200         {"allow":true, "roles":[...]}     roles may be left out
//! 401, 403, or 200 {"allow":false}              no
//! ```
//! Invariants: anything else, and no answer in time, means that nobody comes in; only a yes is remembered,
//! for a while and for exactly this name and password; what is remembered of a password is a keyed hash,
//! whose key lives as long as the process. Passwords are never logged.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;
use tracing::warn;

use super::Denied;

/// Bytes of an answer: a word and some roles.
const MAX_ANSWER_BYTES: u64 = 64 * 1024;

/// Roles that are taken from one answer.
const MAX_ROLES: usize = 64;

/// Logins that are remembered: a megabyte or two.
const MAX_REMEMBERED: usize = 16_384;

/// Who is asked, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Where the question goes.
    pub url: String,
    /// How long an answer may take.
    pub timeout: Duration,
    /// How long a yes is remembered; zero: not at all.
    pub remember: Duration,
    /// Questions at the same time.
    pub at_once: usize,
}

#[derive(Serialize)]
struct Question<'a> {
    user: &'a str,
    password: &'a str,
    client_id: &'a str,
    address: Option<IpAddr>,
}

#[derive(Deserialize)]
struct Answer {
    allow: bool,
    #[serde(default)]
    roles: Vec<String>,
}

/// Asks; see the module.
pub struct Hook {
    options: Options,
    agent: ureq::Agent,
    places: Arc<Semaphore>,
    key: [u8; 32],
    remembered: Mutex<HashMap<[u8; 32], Yes>>,
}

#[derive(Clone)]
struct Yes {
    roles: Vec<Arc<str>>,
    until_ms: u64,
}

impl fmt::Debug for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hook").finish_non_exhaustive()
    }
}

impl Hook {
    /// Asks nobody yet.
    ///
    /// # Errors
    /// If the system has no random numbers.
    pub fn new(options: Options) -> std::io::Result<Self> {
        let mut key = [0; 32];
        getrandom::fill(&mut key).map_err(std::io::Error::other)?;
        let agent = ureq::Agent::config_builder()
            .timeout_global(Some(options.timeout))
            .http_status_as_error(false)
            .max_redirects(0)
            .build()
            .into();
        Ok(Self {
            agent,
            places: Arc::new(Semaphore::new(options.at_once.max(1))),
            key,
            remembered: Mutex::default(),
            options,
        })
    }

    /// The roles of a user who may come in; `now_ms` is of a clock that only goes forward.
    pub(super) async fn judge(
        &self,
        now_ms: u64,
        user: &str,
        password: &[u8],
        client_id: &str,
        address: Option<IpAddr>,
    ) -> Result<Vec<Arc<str>>, Denied> {
        let mark = self.mark(user, password);
        if let Some(yes) = self.remembered(now_ms, &mark) {
            return Ok(yes);
        }
        // It goes into JSON, and passwords that people type are text.
        let password = std::str::from_utf8(password).map_err(|_| Denied::Credentials)?;
        let question = Question {
            user,
            password,
            client_id,
            address,
        };
        let body = serde_json::to_vec(&question).map_err(|_| Denied::Unavailable)?;
        let places = self.places.clone();
        let place = places.acquire_owned().await;
        let place = place.map_err(|_| Denied::Unavailable)?;
        let (agent, url) = (self.agent.clone(), self.options.url.clone());
        let answer = tokio::task::spawn_blocking(move || {
            let answer = ask(&agent, &url, &body);
            drop(place);
            answer
        });
        let answer = answer.await.unwrap_or(Err("its thread ended".to_owned()));
        match answer {
            Ok(Some(answer)) if answer.allow => {
                let roles = answer.roles.iter().take(MAX_ROLES);
                let roles: Vec<Arc<str>> = roles.map(|role| role.as_str().into()).collect();
                self.remember(now_ms, mark, &roles);
                Ok(roles)
            }
            Ok(_) => Err(Denied::Credentials),
            Err(error) => {
                warn!(%error, "the authentication hook does not answer as it should");
                Err(Denied::Unavailable)
            }
        }
    }

    /// Name and password as one number that says nothing of them to who has not the key.
    fn mark(&self, user: &str, password: &[u8]) -> [u8; 32] {
        let inner = Sha256::new()
            .chain_update(self.key)
            .chain_update((user.len() as u64).to_le_bytes())
            .chain_update(user)
            .chain_update(password)
            .finalize();
        Sha256::new()
            .chain_update(self.key)
            .chain_update(inner)
            .finalize()
            .into()
    }

    fn remembered(&self, now_ms: u64, mark: &[u8; 32]) -> Option<Vec<Arc<str>>> {
        let remembered = self
            .remembered
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let yes = remembered.get(mark).filter(|yes| now_ms < yes.until_ms)?;
        Some(yes.roles.clone())
    }

    fn remember(&self, now_ms: u64, mark: [u8; 32], roles: &[Arc<str>]) {
        let remember_ms = u64::try_from(self.options.remember.as_millis()).unwrap_or(u64::MAX);
        if remember_ms == 0 {
            return;
        }
        let mut remembered = self
            .remembered
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if remembered.len() >= MAX_REMEMBERED {
            remembered.retain(|_, yes| now_ms < yes.until_ms);
        }
        if remembered.len() < MAX_REMEMBERED {
            let yes = Yes {
                roles: roles.to_vec(),
                until_ms: now_ms.saturating_add(remember_ms),
            };
            remembered.insert(mark, yes);
        }
    }
}

/// `None` is a clear no.
fn ask(agent: &ureq::Agent, url: &str, body: &[u8]) -> Result<Option<Answer>, String> {
    let mut response = agent
        .post(url)
        .content_type("application/json")
        .send(body)
        .map_err(|error| error.to_string())?;
    match response.status().as_u16() {
        200 => {
            let body = response.body_mut().with_config().limit(MAX_ANSWER_BYTES);
            let body = body.read_to_vec().map_err(|error| error.to_string())?;
            serde_json::from_slice(&body)
                .map(Some)
                .map_err(|_| "the answer is not {\"allow\":...}".to_owned())
        }
        401 | 403 => Ok(None),
        status => Err(format!("status {status}")),
    }
}
