//! Logins: tokens that this broker gives to who has proved who they are, so that a browser need not
//! keep a password. They are signed with the key of `tidings init`, or else with one that is made at
//! the first start and kept in the data directory, so that people stay signed in over a restart.
//!
//! Invariants: a token that counts was given by this key, has not come to its end, and was not given
//! back; what was given back stays so over a restart, until it would have ended anyway. Tokens are
//! never logged. This module does not know accounts: whoever asks looks whether one may still come in.

use std::collections::HashMap;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{
    Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode, get_current_timestamp,
};
use serde::{Deserialize, Serialize};
use tidings_core::message::UnixMillis;

use super::jwt::looks_like_token;
use super::{Admitted, Answer, Authenticate, Certified, Credentials, Denied, Identity, signing};

/// Claim `iss`: a token that the same key signed for something else is no login.
const ISSUER: &str = "tidings-login";

/// The key's file, beside that of `tidings init`.
const KEY: &str = "login.key";

/// Tokens that were given back, and when they would have ended.
const GIVEN_BACK: &str = "logged-out";

const KEY_BYTES: usize = 32;

/// Bytes of a token: a name, and the roles and rooms that another token had.
const MAX_TOKEN_BYTES: usize = 16 * 1024;

/// Tokens given back that are remembered: some megabytes. With more, whoever's would end first has to
/// wait for that.
const MAX_GIVEN_BACK: usize = 65_536;

#[derive(Serialize, Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    exp: u64,
    iat: u64,
    /// `iat` in milliseconds, to be compared with when an account was changed.
    at: UnixMillis,
    jti: String,
    /// There was an account: without it the token does not count.
    account: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    roles: Vec<String>,
    /// It was given to somebody who proved nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    unproved: bool,
    /// It was given for a certificate, and counts beside that one (RFC 8705 §3.1).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cnf: Option<Confirmation>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    rooms: Vec<String>,
}

/// Claim `cnf` (RFC 7800).
#[derive(Serialize, Deserialize)]
struct Confirmation {
    #[serde(rename = "x5t#S256")]
    thumbprint: String,
}

/// What a token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// What it is called: no two tokens have the same.
    pub id: Arc<str>,
    /// Whose it is.
    pub user: Arc<str>,
    /// There was an account of that name when it was given.
    pub has_account: bool,
    /// Roles of who has no account.
    pub roles: Vec<Arc<str>>,
    /// It was given to somebody who proved nothing.
    pub unproved: bool,
    /// Rooms that it lets its user into.
    pub rooms: Vec<Arc<str>>,
    /// When it was given.
    pub issued: UnixMillis,
    /// When it ends.
    pub ends: UnixMillis,
}

/// What becomes of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It was not given here.
    Foreign,
    /// It was given here and does not count any more.
    Over,
    /// It counts.
    Counts(Login),
}

/// See the module.
pub struct Logins {
    algorithm: Algorithm,
    sign: EncodingKey,
    check: DecodingKey,
    given_back: Mutex<GivenBack>,
}

/// Identifiers of tokens with their ends, seconds since 1970, as in the file.
struct GivenBack {
    path: PathBuf,
    ends: HashMap<String, u64>,
}

impl fmt::Debug for Logins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Logins").finish_non_exhaustive()
    }
}

impl Logins {
    /// The key of a data directory that this process holds; made if there is none.
    ///
    /// # Errors
    /// If files cannot be read or written, or a key is none.
    pub fn open(data_dir: &Path) -> io::Result<Self> {
        let folder = signing::folder(data_dir);
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder)?;
        let (algorithm, sign, check) = match fs::read(signing::private_key_file(data_dir)) {
            Ok(pem) => {
                let sign = EncodingKey::from_ed_pem(&pem).map_err(io::Error::other)?;
                let public = Jwk::from_encoding_key(&sign, Algorithm::EdDSA);
                let public = public.map_err(io::Error::other)?;
                let check = DecodingKey::from_jwk(&public).map_err(io::Error::other)?;
                (Algorithm::EdDSA, sign, check)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let key = own_key(&folder.join(KEY))?;
                let sign = EncodingKey::from_secret(&key);
                (Algorithm::HS256, sign, DecodingKey::from_secret(&key))
            }
            Err(error) => return Err(error),
        };
        Ok(Self {
            algorithm,
            sign,
            check,
            given_back: Mutex::new(GivenBack::open(folder.join(GIVEN_BACK))?),
        })
    }

    /// A token of `admitted` that counts for `hours`, and not longer than what it proved; and when it
    /// ends. Roles of an account are not in it: they are asked for each time.
    ///
    /// # Errors
    /// If the system has no random numbers.
    pub fn give(&self, admitted: &Admitted, hours: u32) -> io::Result<(String, UnixMillis)> {
        let mut id = [0; 16];
        getrandom::fill(&mut id).map_err(io::Error::other)?;
        let now = get_current_timestamp();
        let proved = admitted.valid_until.map_or(u64::MAX, |end| end / 1000);
        let exp = now.saturating_add(u64::from(hours) * 3600).min(proved);
        let roles = admitted.identity.roles.iter().flat_map(|roles| &***roles);
        let rooms = admitted.identity.rooms.iter().flat_map(|rooms| &***rooms);
        let claims = Claims {
            iss: ISSUER.to_owned(),
            sub: admitted.identity.user.to_string(),
            exp,
            iat: now,
            at: now_ms(),
            jti: URL_SAFE_NO_PAD.encode(id),
            account: admitted.has_account,
            unproved: admitted.unproved,
            cnf: (admitted.thumbprint.clone()).map(|thumbprint| Confirmation {
                thumbprint: thumbprint.to_string(),
            }),
            roles: match admitted.has_account {
                true => Vec::new(),
                false => roles.map(ToString::to_string).collect(),
            },
            rooms: rooms.map(ToString::to_string).collect(),
        };
        let token = encode(&Header::new(self.algorithm), &claims, &self.sign);
        Ok((token.map_err(io::Error::other)?, exp.saturating_mul(1000)))
    }

    /// Whether a token counts beside the certificate that TLS showed, if any: one that was given for a certificate
    /// counts beside that alone, and so ends when that is revoked.
    pub(super) fn verify(&self, token: &[u8], certificate: Option<&Certified>) -> Verdict {
        let claims = match self.claims(token) {
            Ok(claims) => claims,
            Err(verdict) => return verdict,
        };
        let shown = certificate.map(|certified| &*certified.thumbprint);
        let is_elsewhere = claims
            .cnf
            .is_some_and(|cnf| shown != Some(&*cnf.thumbprint));
        if is_elsewhere || self.is_given_back(&claims.jti) {
            return Verdict::Over;
        }
        Verdict::Counts(Login {
            id: claims.jti.into(),
            user: claims.sub.into(),
            has_account: claims.account,
            roles: claims.roles.into_iter().map(Arc::from).collect(),
            unproved: claims.unproved,
            rooms: claims.rooms.into_iter().map(Arc::from).collect(),
            issued: claims.at,
            ends: claims.exp.saturating_mul(1000),
        })
    }

    /// Takes a token back, and gives its name; one that does not count anyway is left as it is.
    ///
    /// # Errors
    /// If that cannot be stored, or too many were given back.
    pub fn give_back(&self, token: &str) -> io::Result<Option<Arc<str>>> {
        let Ok(claims) = self.claims(token.as_bytes()) else {
            return Ok(None);
        };
        let id = Arc::from(&*claims.jti);
        self.given_back().add(claims.jti, claims.exp)?;
        Ok(Some(id))
    }

    /// Whether a token of this name was given back.
    pub fn is_given_back(&self, id: &str) -> bool {
        self.given_back().ends.contains_key(id)
    }

    fn claims(&self, token: &[u8]) -> Result<Claims, Verdict> {
        if token.len() > MAX_TOKEN_BYTES || !looks_like_token(token) {
            return Err(Verdict::Foreign);
        }
        let mut validation = Validation::new(self.algorithm);
        validation.leeway = 0;
        // RFC 7519, 4.1.4: it counts before `exp`, no longer at it; sessions end then, too.
        validation.reject_tokens_expiring_in_less_than = 1;
        validation.set_issuer(&[ISSUER]);
        validation.set_required_spec_claims(&["exp", "iss", "sub"]);
        match decode::<Claims>(token, &self.check, &validation) {
            Ok(data) => Ok(data.claims),
            Err(error) if *error.kind() == ErrorKind::ExpiredSignature => Err(Verdict::Over),
            Err(_) => Err(Verdict::Foreign),
        }
    }

    fn given_back(&self) -> std::sync::MutexGuard<'_, GivenBack> {
        self.given_back
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

fn now_ms() -> UnixMillis {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |now| u64::try_from(now.as_millis()).unwrap_or(u64::MAX))
}

fn own_key(path: &Path) -> io::Result<[u8; KEY_BYTES]> {
    match fs::read(path) {
        Ok(bytes) => bytes.try_into().map_err(|_| {
            let text = format!("{} is no key of this program", path.display());
            io::Error::other(text)
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let mut key = [0; KEY_BYTES];
            getrandom::fill(&mut key).map_err(io::Error::other)?;
            // Whole or not at all: half a key would not be one at the next start.
            let partial = path.with_extension("partial");
            let _ = fs::remove_file(&partial);
            let mut file = private_file(OpenOptions::new().create_new(true), &partial)?;
            file.write_all(&key)?;
            file.sync_all()?;
            fs::rename(&partial, path)?;
            Ok(key)
        }
        Err(error) => Err(error),
    }
}

fn private_file(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    options.write(true).mode(0o600).open(path)
}

impl GivenBack {
    fn open(path: PathBuf) -> io::Result<Self> {
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error),
        };
        // A line that was cut off by a crash is one that was not yet promised.
        let ends = text.lines().filter_map(|line| {
            let (id, end) = line.split_once(' ')?;
            Some((id.to_owned(), end.parse().ok()?))
        });
        let ends = ends.collect();
        Ok(Self { path, ends })
    }

    fn add(&mut self, id: String, end: u64) -> io::Result<()> {
        if self.ends.contains_key(&id) {
            return Ok(());
        }
        if self.ends.len() >= MAX_GIVEN_BACK {
            self.forget()?;
        }
        let mut file = private_file(OpenOptions::new().create(true).append(true), &self.path)?;
        // The end of a line that was cut off ends here.
        file.write_all(format!("\n{id} {end}\n").as_bytes())?;
        file.sync_all()?;
        self.ends.insert(id, end);
        Ok(())
    }

    /// Writes the file anew without what has ended by itself.
    fn forget(&mut self) -> io::Result<()> {
        let now = get_current_timestamp();
        self.ends.retain(|_, end| *end >= now);
        if self.ends.len() >= MAX_GIVEN_BACK {
            return Err(io::Error::other("too many tokens were given back"));
        }
        let text: String = self
            .ends
            .iter()
            .map(|(id, end)| format!("{id} {end}\n"))
            .collect();
        let partial = self.path.with_extension("partial");
        let mut file = private_file(OpenOptions::new().create(true).truncate(true), &partial)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&partial, &self.path)
    }
}

/// An [`Authenticate`] that believes logins, and asks another about everything else.
pub(crate) struct WithLogins {
    pub logins: Arc<Logins>,
    pub other: Arc<dyn Authenticate>,
}

impl Authenticate for WithLogins {
    fn authenticate<'a>(&'a self, credentials: Credentials<'a>) -> Answer<'a> {
        let judged = match (credentials.username, credentials.bearer) {
            (None, Some(token)) => match self
                .logins
                .verify(token.as_bytes(), credentials.certificate)
            {
                Verdict::Foreign => None,
                Verdict::Over => Some(Err(Denied::Outdated)),
                Verdict::Counts(login) => Some(admitted(login, credentials.certificate)),
            },
            _ => None,
        };
        match judged {
            Some(judged) => Box::pin(std::future::ready(judged)),
            None => self.other.authenticate(credentials),
        }
    }

    fn is_welcome(&self, admitted: &Admitted) -> bool {
        self.other.is_welcome(admitted)
    }

    fn tells_apart(&self) -> bool {
        self.other.tells_apart()
    }
}

/// Whoever shows a login; beside a certificate it has to be for the name in that.
fn admitted(login: Login, certificate: Option<&Certified>) -> Result<Admitted, Denied> {
    if let Some(certified) = certificate {
        certified.user(Some(&login.user))?;
    }
    let certified = certificate.map_or(UnixMillis::MAX, |certified| certified.ends);
    Ok(Admitted {
        valid_until: Some(login.ends.min(certified)),
        login: Some(login.id),
        unproved: login.unproved,
        ..Admitted::as_one(Identity::user(&login.user).with_roles(login.roles))
    })
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    fn admitted(user: &str) -> Admitted {
        Admitted::as_one(Identity::user(user).with_roles(vec!["press".into()]))
    }

    fn counts(logins: &Logins, token: &str) -> bool {
        matches!(logins.verify(token.as_bytes(), None), Verdict::Counts(_))
    }

    #[test]
    fn a_login_counts_over_a_restart_and_one_that_was_given_back_does_not() {
        let folder = TempDir::new().unwrap();
        let logins = Logins::open(folder.path()).unwrap();
        let (kept, _) = logins.give(&admitted("alice"), 1).unwrap();
        let (back, _) = logins.give(&admitted("alice"), 1).unwrap();
        logins.give_back(&back).unwrap();
        logins.give_back("nonsense").unwrap();
        for logins in [logins, Logins::open(folder.path()).unwrap()] {
            let Verdict::Counts(login) = logins.verify(kept.as_bytes(), None) else {
                panic!("it does not count");
            };
            assert_eq!((&*login.user, login.roles.len()), ("alice", 1));
            assert_eq!(logins.verify(back.as_bytes(), None), Verdict::Over);
        }
        let other = TempDir::new().unwrap();
        let other = Logins::open(other.path()).unwrap();
        assert_eq!(other.verify(kept.as_bytes(), None), Verdict::Foreign);
    }

    #[test]
    fn the_key_of_init_signs_if_it_is_there_and_its_other_tokens_are_no_logins() {
        let folder = TempDir::new().unwrap();
        signing::create_key(folder.path()).unwrap();
        let logins = Logins::open(folder.path()).unwrap();
        let (token, _) = logins.give(&admitted("alice"), 1).unwrap();
        assert!(counts(&logins, &token));
        assert!(!folder.path().join("keys").join(KEY).exists());
        let hour = std::time::Duration::from_secs(3600);
        let other = signing::sign_token(folder.path(), "alice", &[], &[], hour).unwrap();
        assert_eq!(logins.verify(other.as_bytes(), None), Verdict::Foreign);
    }

    #[test]
    fn a_login_ends_with_what_was_proved_and_has_no_roles_of_an_account() {
        let folder = TempDir::new().unwrap();
        let logins = Logins::open(folder.path()).unwrap();
        let past = Admitted {
            valid_until: Some(1_000_000),
            ..admitted("alice")
        };
        let (token, ends) = logins.give(&past, 24).unwrap();
        assert_eq!(ends, 1_000_000);
        assert_eq!(logins.verify(token.as_bytes(), None), Verdict::Over);
        let known = Admitted {
            has_account: true,
            ..admitted("alice")
        };
        let (token, _) = logins.give(&known, 24).unwrap();
        let Verdict::Counts(login) = logins.verify(token.as_bytes(), None) else {
            panic!("it does not count");
        };
        assert_eq!(login.roles, Vec::<Arc<str>>::new());
    }

    #[tokio::test]
    async fn beside_a_certificate_a_login_counts_for_the_name_in_it_alone() {
        let folder = TempDir::new().unwrap();
        let logins = Arc::new(Logins::open(folder.path()).unwrap());
        let (token, ends) = logins.give(&admitted("alice"), 1).unwrap();
        let by_certificate = Admitted {
            thumbprint: Some("a".into()),
            ..admitted("alice")
        };
        let (bound, bound_ends) = logins.give(&by_certificate, 1).unwrap();
        let with_logins = WithLogins {
            logins,
            other: Arc::new(super::super::OpenMode),
        };
        let certified = |name: &str, ends, thumbprint: &str| Certified {
            name: Ok(name.into()),
            ends,
            thumbprint: thumbprint.into(),
        };
        let max = UnixMillis::MAX;
        for (token, certificate, expected) in [
            (&token, Some(certified("alice", max, "a")), Ok(Some(ends))),
            (&token, Some(certified("alice", 5, "a")), Ok(Some(5))),
            (
                &token,
                Some(certified("bob", max, "a")),
                Err(Denied::Credentials),
            ),
            (&token, None, Ok(Some(ends))),
            // One that a certificate was enough for counts beside it alone.
            (
                &bound,
                Some(certified("alice", max, "a")),
                Ok(Some(bound_ends)),
            ),
            (
                &bound,
                Some(certified("alice", max, "b")),
                Err(Denied::Outdated),
            ),
            (&bound, None, Err(Denied::Outdated)),
        ] {
            let judged = with_logins
                .authenticate(Credentials {
                    username: None,
                    password: None,
                    client_id: "",
                    address: None,
                    bearer: Some(token),
                    certificate: certificate.as_ref(),
                    door: crate::auth::DoorMode::Inherit,
                })
                .await;
            assert_eq!(
                judged.map(|admitted| admitted.valid_until),
                expected,
                "{certificate:?}"
            );
        }
    }

    #[test]
    fn a_changed_token_and_a_file_that_was_cut_off_are_no_harm() {
        let folder = TempDir::new().unwrap();
        let logins = Logins::open(folder.path()).unwrap();
        let (token, _) = logins.give(&admitted("alice"), 1).unwrap();
        for at in 0..token.len() - 1 {
            let mut bytes = token.clone().into_bytes();
            bytes[at] ^= 1;
            assert_eq!(logins.verify(&bytes, None), Verdict::Foreign, "byte {at}");
        }
        let file = folder.path().join("keys").join(GIVEN_BACK);
        fs::write(&file, "abc 99999999999\nde").unwrap();
        let logins = Logins::open(folder.path()).unwrap();
        logins.give_back(&token).unwrap();
        let logins = Logins::open(folder.path()).unwrap();
        assert_eq!(logins.verify(token.as_bytes(), None), Verdict::Over);
        assert!(logins.given_back().ends.contains_key("abc"));
    }
}
