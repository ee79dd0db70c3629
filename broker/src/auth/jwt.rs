//! Signed tokens (RFC 7519) of somebody else: who signs in elsewhere comes here with a token instead of
//! a password.
//!
//! Invariants: a key is for one algorithm, so that no token chooses how it is checked; only HS256, RS256,
//! ES256 and EdDSA count, never "none"; a token without an end is none; keys that cannot be read
//! again stay as they were. Tokens are never logged. This module does not know accounts.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, KeyAlgorithm};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde_json::{Map, Value};
use tokio::sync::Notify;
use tokio::time::{MissedTickBehavior, interval, sleep};
use tracing::{debug, warn};
use ureq::http::StatusCode;

/// Bytes of a token: some dozen claims, and a signature.
const MAX_TOKEN_BYTES: usize = 8 * 1024;

/// Between two looks at files and address, however many tokens name keys that are not known: anyone can
/// make such a token.
const NOT_SOONER: Duration = Duration::from_secs(5);

/// Keys that are tried for a token without a key id.
const MAX_KEYS: usize = 64;

/// Bytes of a key set or key file.
const MAX_KEYS_BYTES: u64 = 1024 * 1024;

/// Bytes of a shared secret: as many as the hash has (RFC 7518 §3.2).
const MIN_SECRET_BYTES: usize = 32;

/// Roles that are taken from one token.
const MAX_ROLES: usize = 64;

/// Rooms that are taken from one token.
const MAX_ROOMS: usize = 256;

/// Whose tokens count, and what is read from them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Files with a public key (PEM), a key set (JWKS), or a shared secret.
    pub key_files: Vec<PathBuf>,
    /// Where a key set is fetched from.
    pub jwks_url: Option<String>,
    /// Time between two looks at files and address.
    pub reload: Duration,
    /// How long the address may take to answer.
    pub timeout: Duration,
    /// What claim `iss` must be.
    pub issuer: Option<String>,
    /// What claim `aud` must be, or have; without it, tokens for somebody are refused.
    pub audience: Option<String>,
    /// The claim that is the user name.
    pub user_claim: String,
    /// The claim that has roles.
    pub roles_claim: String,
    /// The claim that has rooms, which the token lets its user into; empty: none is looked at.
    pub rooms_claim: String,
    /// How far the clocks may differ.
    pub leeway: Duration,
}

/// Why there are no keys.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// A file cannot be read.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A file has no key that can be used.
    #[error("{path}: {why}")]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: &'static str,
    },
    /// The address does not answer with a key set.
    #[error("{url}: {why}")]
    Fetch {
        /// The address.
        url: String,
        /// What is wrong.
        why: String,
    },
}

/// What a token says, as far as it counts here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Claims {
    pub user: String,
    pub roles: Vec<Arc<str>>,
    pub rooms: Vec<Arc<str>>,
    /// `exp` with the leeway, seconds since 1970.
    pub ends_s: u64,
    /// `iat`, seconds since 1970; 0 if it does not say.
    pub issued_s: u64,
}

#[derive(Clone)]
struct Key {
    id: Option<String>,
    algorithm: Algorithm,
    key: DecodingKey,
}

/// Checks tokens; see the module.
pub struct Tokens {
    options: Options,
    from_files: RwLock<Arc<Vec<Key>>>,
    from_url: RwLock<Arc<Vec<Key>>>,
    /// A token named a key that is not known.
    unknown_key: Notify,
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens").finish_non_exhaustive()
    }
}

impl Tokens {
    /// Reads the key files. The address is asked by [`Tokens::keep_fresh`].
    ///
    /// # Errors
    /// If a file cannot be read, or has no key.
    pub fn new(options: Options) -> Result<Self, KeyError> {
        let keys = read_files(&options.key_files)?;
        Ok(Self {
            options,
            from_files: RwLock::new(Arc::new(keys)),
            from_url: RwLock::default(),
            unknown_key: Notify::new(),
        })
    }

    /// With the keys in the text of a file, and no others.
    ///
    /// # Errors
    /// Why it has no key.
    pub(crate) fn of_key_text(options: Options, text: &[u8]) -> Result<Self, &'static str> {
        Ok(Self {
            options,
            from_files: RwLock::new(Arc::new(keys_of_file(text)?)),
            from_url: RwLock::default(),
            unknown_key: Notify::new(),
        })
    }

    /// Looks at files and address again and again; ends never by itself.
    pub(crate) async fn keep_fresh(self: Arc<Self>) {
        let mut ticks = interval(self.options.reload.max(Duration::from_secs(1)));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = self.unknown_key.notified() => {}
            }
            let tokens = self.clone();
            // A panic in there leaves the keys as they were.
            let _ = tokio::task::spawn_blocking(move || tokens.refresh()).await;
            sleep(NOT_SOONER).await;
        }
    }

    fn refresh(&self) {
        match read_files(&self.options.key_files) {
            Ok(keys) => replace(&self.from_files, keys),
            Err(error) => warn!(%error, "keys of tokens stay as they were"),
        }
        if let Some(url) = &self.options.jwks_url {
            match fetch(url, self.options.timeout) {
                Ok(keys) => replace(&self.from_url, keys),
                Err(error) => warn!(%error, "keys of tokens stay as they were"),
            }
        }
    }

    /// What the token says, if it counts.
    pub(crate) fn verify(&self, token: &[u8]) -> Option<Claims> {
        if token.len() > MAX_TOKEN_BYTES {
            return None;
        }
        let header = decode_header(token).ok()?;
        // Extensions that must be understood, and are not (RFC 7515 §4.1.11).
        if header.crit.is_some() {
            return None;
        }
        let (files, url) = (current(&self.from_files), current(&self.from_url));
        let fits = |key: &&Key| {
            key.algorithm == header.alg
                && (key.id.is_none() || header.kid.is_none() || key.id == header.kid)
        };
        let keys = files.iter().chain(url.iter()).filter(fits);
        if header.kid.is_some() && keys.clone().all(|key| key.id != header.kid) {
            // Perhaps it was made since the last look; whoever brings it has to come again.
            self.unknown_key.notify_one();
        }
        for key in keys.take(MAX_KEYS) {
            match decode::<Map<String, Value>>(token, &key.key, &self.validation(key.algorithm)) {
                Ok(data) => return self.claims(&data.claims),
                Err(error) => debug!(reason = ?error.kind(), "a token does not count"),
            }
        }
        None
    }

    fn validation(&self, algorithm: Algorithm) -> Validation {
        let options = &self.options;
        let mut validation = Validation::new(algorithm);
        validation.leeway = options.leeway.as_secs();
        // RFC 7519, 4.1.4: it counts before `exp`, no longer at it; sessions end then, too.
        validation.reject_tokens_expiring_in_less_than = 1;
        validation.validate_nbf = true;
        let mut required = vec!["exp"];
        if let Some(issuer) = &options.issuer {
            validation.set_issuer(&[issuer]);
            required.push("iss");
        }
        if let Some(audience) = &options.audience {
            validation.set_audience(&[audience]);
            required.push("aud");
        }
        validation.set_required_spec_claims(&required);
        validation
    }

    fn claims(&self, claims: &Map<String, Value>) -> Option<Claims> {
        let options = &self.options;
        let said = |name| claims.get(name).filter(|value| !value.is_null());
        // The library passes over what it cannot read: an audience that is neither a text nor a list of texts is
        // still somebody else, and who says when a token begins says it in seconds (RFC 7519, 4.1.3 and 4.1.5).
        let is_for_others = options.audience.is_none() && said("aud").is_some();
        if is_for_others || said("nbf").is_some_and(|begin| !begin.is_number()) {
            return None;
        }
        let seconds = |name| claims.get(name).and_then(Value::as_f64).map(|s| s as u64);
        Some(Claims {
            user: claims.get(&options.user_claim)?.as_str()?.to_owned(),
            roles: words(claims.get(&options.roles_claim), MAX_ROLES),
            rooms: words(claims.get(&options.rooms_claim), MAX_ROOMS),
            ends_s: seconds("exp")?.saturating_add(options.leeway.as_secs()),
            issued_s: seconds("iat").unwrap_or(0),
        })
    }
}

/// Whether it has the form of a token: `base64.base64.base64`, the first of a JSON object.
pub(super) fn looks_like_token(text: &[u8]) -> bool {
    text.starts_with(b"eyJ") && text.iter().filter(|byte| **byte == b'.').count() == 2
}

/// A list of words, or one text with words in it.
fn words(claim: Option<&Value>, maximum: usize) -> Vec<Arc<str>> {
    let words: Vec<&str> = match claim {
        Some(Value::Array(words)) => words.iter().filter_map(Value::as_str).collect(),
        Some(Value::String(text)) => text.split_whitespace().collect(),
        _ => Vec::new(),
    };
    words.into_iter().take(maximum).map(Arc::from).collect()
}

fn current(keys: &RwLock<Arc<Vec<Key>>>) -> Arc<Vec<Key>> {
    keys.read().unwrap_or_else(PoisonError::into_inner).clone()
}

fn replace(place: &RwLock<Arc<Vec<Key>>>, keys: Vec<Key>) {
    *place.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
}

fn read_files(paths: &[PathBuf]) -> Result<Vec<Key>, KeyError> {
    let mut keys = Vec::new();
    for path in paths {
        let bytes = std::fs::read(path).map_err(|source| KeyError::File {
            path: path.clone(),
            source,
        })?;
        let found = keys_of_file(&bytes).map_err(|why| KeyError::Key {
            path: path.clone(),
            why,
        })?;
        keys.extend(found);
    }
    Ok(keys)
}

fn keys_of_file(bytes: &[u8]) -> Result<Vec<Key>, &'static str> {
    let bytes = bytes.trim_ascii();
    let one = |algorithm, key| {
        Ok(vec![Key {
            id: None,
            algorithm,
            key,
        }])
    };
    if bytes.starts_with(b"{") {
        let set: JwkSet = serde_json::from_slice(bytes).map_err(|_| "is no key set")?;
        let keys: Vec<_> = set.keys.iter().filter_map(key_of_jwk).collect();
        return if keys.is_empty() {
            Err("has no key for HS256, RS256, ES256 or EdDSA")
        } else {
            Ok(keys)
        };
    }
    if bytes.starts_with(b"-----BEGIN") {
        let is_public = bytes.windows(14).any(|part| part == b"PUBLIC KEY----");
        if !is_public {
            return Err("is not a public key");
        }
        return if let Ok(key) = DecodingKey::from_rsa_pem(bytes) {
            one(Algorithm::RS256, key)
        } else if let Ok(key) = DecodingKey::from_ec_pem(bytes) {
            one(Algorithm::ES256, key)
        } else if let Ok(key) = DecodingKey::from_ed_pem(bytes) {
            one(Algorithm::EdDSA, key)
        } else {
            Err("is a public key neither of RSA, P-256 nor Ed25519")
        };
    }
    if bytes.len() < MIN_SECRET_BYTES {
        return Err("a shared secret has at least 32 bytes");
    }
    one(Algorithm::HS256, DecodingKey::from_secret(bytes))
}

/// `None` for keys that are for something else, which a set may have.
fn key_of_jwk(jwk: &Jwk) -> Option<Key> {
    use jsonwebtoken::jwk::PublicKeyUse;
    if matches!(&jwk.common.public_key_use, Some(other) if *other != PublicKeyUse::Signature) {
        return None;
    }
    let (algorithm, name) = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => (Algorithm::RS256, KeyAlgorithm::RS256),
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => {
            (Algorithm::ES256, KeyAlgorithm::ES256)
        }
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {
            (Algorithm::EdDSA, KeyAlgorithm::EdDSA)
        }
        AlgorithmParameters::OctetKey(_) => (Algorithm::HS256, KeyAlgorithm::HS256),
        _ => return None,
    };
    if jwk.common.key_algorithm.is_some_and(|named| named != name) {
        return None;
    }
    let key = DecodingKey::from_jwk(jwk).ok()?;
    let is_guessable = || {
        let secret = key.try_get_as_bytes();
        secret.is_ok_and(|secret| secret.len() < MIN_SECRET_BYTES)
    };
    if algorithm == Algorithm::HS256 && is_guessable() {
        return None;
    }
    Some(Key {
        id: jwk.common.key_id.clone(),
        algorithm,
        key,
    })
}

/// Fetches a key set. Shared secrets are not taken from there.
fn fetch(url: &str, timeout: Duration) -> Result<Vec<Key>, KeyError> {
    let failed = |why: String| KeyError::Fetch {
        url: url.to_owned(),
        why,
    };
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_global(Some(timeout))
        .max_redirects(0)
        .build()
        .into();
    let mut response = agent
        .get(url)
        .call()
        .map_err(|error| failed(error.to_string()))?;
    // Nothing but an answer: where else keys may be is not for who is asked to say.
    if response.status() != StatusCode::OK {
        return Err(failed(format!("status {}", response.status())));
    }
    let body = response
        .body_mut()
        .with_config()
        .limit(MAX_KEYS_BYTES)
        .read_to_vec()
        .map_err(|error| failed(error.to_string()))?;
    let keys = keys_of_file(&body).map_err(|why| failed(why.to_owned()))?;
    let keys: Vec<_> = keys
        .into_iter()
        .filter(|key| key.algorithm != Algorithm::HS256)
        .collect();
    if keys.is_empty() {
        return Err(failed("no public key that can be used".to_owned()));
    }
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::{EncodingKey, Header, encode, get_current_timestamp};
    use serde_json::json;
    use tempfile::TempDir;

    use super::*;

    const SECRET: &str = "a shared secret that has 32 bytes and more";

    /// Made for this test with `openssl`; nothing else knows them.
    const ES_PRIVATE: &str = include_str!("test_keys/es256.pem");
    const ES_PUBLIC: &str = include_str!("test_keys/es256.pub.pem");
    const ED_PRIVATE: &str = include_str!("test_keys/ed25519.pem");
    const ED_PUBLIC: &str = include_str!("test_keys/ed25519.pub.pem");
    const RS_PRIVATE: &str = include_str!("test_keys/rs256.pem");
    const RS_PUBLIC: &str = include_str!("test_keys/rs256.pub.pem");

    fn options() -> Options {
        Options {
            key_files: Vec::new(),
            jwks_url: None,
            reload: Duration::from_secs(300),
            timeout: Duration::from_secs(1),
            issuer: None,
            audience: None,
            user_claim: "sub".to_owned(),
            roles_claim: "roles".to_owned(),
            rooms_claim: "rooms".to_owned(),
            leeway: Duration::ZERO,
        }
    }

    fn with_keys(keys: &[&str], change: impl FnOnce(&mut Options)) -> Result<Tokens, KeyError> {
        let folder = TempDir::new().unwrap();
        let mut options = options();
        for (n, key) in keys.iter().enumerate() {
            let path = folder.path().join(n.to_string());
            std::fs::write(&path, key).unwrap();
            options.key_files.push(path);
        }
        change(&mut options);
        Tokens::new(options)
    }

    fn sign(algorithm: Algorithm, key: &EncodingKey, claims: &Value) -> Vec<u8> {
        encode(&Header::new(algorithm), claims, key)
            .unwrap()
            .into_bytes()
    }

    fn hs(claims: &Value) -> Vec<u8> {
        sign(
            Algorithm::HS256,
            &EncodingKey::from_secret(SECRET.as_bytes()),
            claims,
        )
    }

    fn alice() -> Value {
        let now = get_current_timestamp();
        json!({ "sub": "alice", "iat": now, "exp": now + 60, "roles": ["admin", "press"] })
    }

    fn with(change: impl FnOnce(&mut Value)) -> Value {
        let mut claims = alice();
        change(&mut claims);
        claims
    }

    #[test]
    fn a_short_secret_is_no_key_in_a_set_either() {
        let set = |secret: &str| json!({ "keys": [{ "kty": "oct", "k": secret }] }).to_string();
        // 31 and 32 bytes in Base64.
        let (short, long) = ("A".repeat(42), "A".repeat(43));
        for (secret, is_key) in [("", false), (short.as_str(), false), (long.as_str(), true)] {
            assert_eq!(
                keys_of_file(set(secret).as_bytes()).is_ok(),
                is_key,
                "{secret:?}"
            );
        }
    }

    #[test]
    fn each_algorithm_is_checked_with_its_own_kind_of_key_and_no_other() {
        let keys = [
            (
                Algorithm::HS256,
                SECRET,
                EncodingKey::from_secret(SECRET.as_bytes()),
            ),
            (
                Algorithm::ES256,
                ES_PUBLIC,
                EncodingKey::from_ec_pem(ES_PRIVATE.as_bytes()).unwrap(),
            ),
            (
                Algorithm::EdDSA,
                ED_PUBLIC,
                EncodingKey::from_ed_pem(ED_PRIVATE.as_bytes()).unwrap(),
            ),
            (
                Algorithm::RS256,
                RS_PUBLIC,
                EncodingKey::from_rsa_pem(RS_PRIVATE.as_bytes()).unwrap(),
            ),
        ];
        for (signed_by, _, private) in &keys {
            let token = sign(*signed_by, private, &alice());
            for (checked_by, public, _) in &keys {
                let tokens = with_keys(&[public], |_| {}).unwrap();
                let claims = tokens.verify(&token);
                assert_eq!(claims.is_some(), signed_by == checked_by, "{signed_by:?}");
            }
            let all = with_keys(&keys.each_ref().map(|(_, public, _)| *public), |_| {});
            let claims = all.unwrap().verify(&token).unwrap();
            assert_eq!((claims.user.as_str(), claims.roles.len()), ("alice", 2));
        }
    }

    /// The public key, which everyone knows, used as if it were a shared secret.
    #[test]
    fn a_public_key_is_never_a_secret() {
        let forged = EncodingKey::from_secret(RS_PUBLIC.as_bytes());
        let token = sign(Algorithm::HS256, &forged, &alice());
        assert_eq!(
            with_keys(&[RS_PUBLIC], |_| {}).unwrap().verify(&token),
            None
        );
    }

    #[test]
    fn tokens_that_must_not_count_do_not() {
        let tokens = with_keys(&[SECRET], |_| {}).unwrap();
        assert!(tokens.verify(&hs(&alice())).is_some());
        let now = get_current_timestamp();
        for (case, claims) in [
            ("expired", with(|c| c["exp"] = json!(now - 1))),
            ("without an end", with(|c| c["exp"] = Value::Null)),
            (
                "an end that is no number",
                with(|c| c["exp"] = json!("tomorrow")),
            ),
            ("not yet", with(|c| c["nbf"] = json!(now + 100))),
            (
                "a beginning that is no number",
                with(|c| c["nbf"] = json!("tomorrow")),
            ),
            ("for somebody else", with(|c| c["aud"] = json!("other"))),
            ("for a number", with(|c| c["aud"] = json!(1))),
            ("for a list of nobody", with(|c| c["aud"] = json!([1]))),
            ("without a name", with(|c| c["sub"] = Value::Null)),
            ("a name that is no text", with(|c| c["sub"] = json!(7))),
        ] {
            assert_eq!(tokens.verify(&hs(&claims)), None, "{case}");
        }
        let good = hs(&alice());
        let mut bytes = good.clone();
        for at in 0..bytes.len() {
            bytes[at] ^= 1;
            // The last character of Base64 has bits that mean nothing, and may be refused or not.
            if at + 1 < bytes.len() {
                assert_eq!(tokens.verify(&bytes), None, "byte {at} changed");
            }
            bytes[at] ^= 1;
        }
        let text = String::from_utf8(good).unwrap();
        let body = text.split('.').nth(1).unwrap();
        // {"alg":"none","typ":"JWT"}, as written by various programs.
        for header in [
            "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0",
            "eyJhbGciOiJOb25lIiwidHlwIjoiSldUIn0",
        ] {
            for token in [format!("{header}.{body}."), format!("{header}.{body}")] {
                assert_eq!(tokens.verify(token.as_bytes()), None, "{token}");
            }
        }
        let stranger = EncodingKey::from_secret(b"another secret that has 32 bytes as well");
        let forged = sign(Algorithm::HS256, &stranger, &alice());
        for token in [&forged[..], b"", b"..", b"eyJ", b"\0", &vec![b'a'; 9000]] {
            assert_eq!(tokens.verify(token), None);
        }
    }

    #[test]
    fn issuer_and_audience_must_be_those_that_are_set() {
        let tokens = with_keys(&[SECRET], |options| {
            options.issuer = Some("https://login.example".to_owned());
            options.audience = Some("tidings".to_owned());
        });
        let tokens = tokens.unwrap();
        let right = with(|c| {
            c["iss"] = json!("https://login.example");
            c["aud"] = json!(["tidings", "mail"]);
        });
        assert!(tokens.verify(&hs(&right)).is_some());
        let absent = |name: &str| {
            let mut claims = right.clone();
            claims.as_object_mut().unwrap().remove(name);
            claims
        };
        for claims in [alice(), absent("iss"), absent("aud")] {
            assert_eq!(tokens.verify(&hs(&claims)), None);
        }
    }

    #[test]
    fn a_key_set_gives_keys_by_their_id() {
        let set = json!({ "keys": [
            { "kty": "oct", "kid": "one", "k": "YSBzaGFyZWQgc2VjcmV0IHRoYXQgaGFzIDMyIGJ5dGVz" },
            { "kty": "EC", "crv": "P-384", "x": "AA", "y": "AA" },
        ]});
        let tokens = with_keys(&[&set.to_string()], |_| {}).unwrap();
        let key = EncodingKey::from_secret(b"a shared secret that has 32 bytes");
        for (id, counts) in [(Some("one"), true), (None, true), (Some("two"), false)] {
            let header = Header {
                kid: id.map(str::to_owned),
                ..Header::new(Algorithm::HS256)
            };
            let token = encode(&header, &alice(), &key).unwrap();
            assert_eq!(tokens.verify(token.as_bytes()).is_some(), counts, "{id:?}");
        }
    }

    /// Answers one request after the other with a status and a body.
    fn answering(answers: Vec<(u16, String)>) -> String {
        let answers = answers.into_iter().map(|(status, body)| {
            let length = body.len();
            format!(
                "HTTP/1.1 {status} X\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
            )
        });
        saying(answers.collect())
    }

    /// Answers one request after the other with these bytes.
    fn saying(answers: Vec<String>) -> String {
        use std::io::{Read, Write};
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/keys", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            for answer in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = Vec::new();
                let mut part = [0; 1024];
                while !request.ends_with(b"\r\n\r\n") {
                    let read = stream.read(&mut part).unwrap();
                    request.extend_from_slice(&part[..read]);
                }
                // Whoever asked may have heard enough.
                let _ = stream.write_all(answer.as_bytes());
            }
        });
        url
    }

    #[test]
    fn keys_are_fetched_and_stay_when_their_address_does_not_answer_as_it_should() {
        let key = EncodingKey::from_ec_pem(ES_PRIVATE.as_bytes()).unwrap();
        let token = sign(Algorithm::ES256, &key, &alice());
        let public = Jwk::from_encoding_key(&key, Algorithm::ES256).unwrap();
        let set = serde_json::to_string(&JwkSet { keys: vec![public] }).unwrap();
        // {"k": SECRET}: whoever sees the answer could sign.
        let secret = json!({ "keys": [{ "kty": "oct", "k": "YSBzaGFyZWQgc2VjcmV0IHRoYXQgaGFzIDMyIGJ5dGVzIGFuZCBtb3Jl" }]});
        let other = EncodingKey::from_ed_pem(ED_PRIVATE.as_bytes()).unwrap();
        let other = Jwk::from_encoding_key(&other, Algorithm::EdDSA).unwrap();
        let other = serde_json::to_string(&JwkSet { keys: vec![other] }).unwrap();
        let url = answering(vec![
            (200, set),
            (500, String::new()),
            (200, "no key set".to_owned()),
            (200, secret.to_string()),
            (200, other),
        ]);
        let tokens = with_keys(&[], |options| options.jwks_url = Some(url)).unwrap();
        assert_eq!(tokens.verify(&token), None);
        for answer in 0..4 {
            tokens.refresh();
            assert!(tokens.verify(&token).is_some(), "after answer {answer}");
            assert_eq!(tokens.verify(&hs(&alice())), None);
        }
        // The key was withdrawn.
        tokens.refresh();
        assert_eq!(tokens.verify(&token), None);
    }

    #[test]
    fn keys_come_from_their_address_alone_and_are_bounded_in_size_and_time() {
        let key = EncodingKey::from_ec_pem(ES_PRIVATE.as_bytes()).unwrap();
        let token = sign(Algorithm::ES256, &key, &alice());
        let public = Jwk::from_encoding_key(&key, Algorithm::ES256).unwrap();
        let set = serde_json::to_string(&JwkSet { keys: vec![public] }).unwrap();
        // Something that only this machine reaches, and that would give keys.
        let inside = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        inside.set_nonblocking(true).unwrap();
        let target = inside.local_addr().unwrap();
        let mut answers = Vec::new();
        for (status, place) in [
            (301, format!("http://{target}/keys")),
            (302, format!("//{target}/keys")),
            (303, "/keys".to_owned()),
            (307, format!("http://{target}/keys")),
            (308, "file:///etc/passwd".to_owned()),
        ] {
            let length = set.len();
            answers.push(format!(
                "HTTP/1.1 {status} X\r\nLocation: {place}\r\nContent-Length: {length}\r\n\
                 Connection: close\r\n\r\n{set}"
            ));
        }
        // Keys, and then more than anybody has.
        let padding = " ".repeat(usize::try_from(MAX_KEYS_BYTES).unwrap());
        answers.push(format!(
            "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{set}{padding}"
        ));
        // Announced, and never said.
        answers.push(format!(
            "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n{set}"
        ));
        let count = answers.len();
        let url = saying(answers);
        let tokens = with_keys(&[], |options| options.jwks_url = Some(url)).unwrap();
        for answer in 0..count {
            tokens.refresh();
            assert_eq!(tokens.verify(&token), None, "after answer {answer}");
        }
        assert!(inside.accept().is_err(), "a redirect was followed");
        // Nobody answers at all.
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", silent.local_addr().unwrap());
        assert!(fetch(&url, Duration::from_millis(100)).is_err());
        for other in [
            "file:///etc/passwd",
            "ftp://127.0.0.1/",
            "gopher://x/",
            "//x",
            "",
        ] {
            assert!(fetch(other, Duration::from_secs(5)).is_err(), "{other}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_that_is_not_known_is_looked_for_before_its_time() {
        let key = EncodingKey::from_ec_pem(ES_PRIVATE.as_bytes()).unwrap();
        let mut public = Jwk::from_encoding_key(&key, Algorithm::ES256).unwrap();
        public.common.key_id = Some("new".to_owned());
        let header = Header {
            kid: Some("new".to_owned()),
            ..Header::new(Algorithm::ES256)
        };
        let token = encode(&header, &alice(), &key).unwrap();
        let old = json!({ "keys": [] }).to_string();
        let new = serde_json::to_string(&JwkSet { keys: vec![public] }).unwrap();
        let url = answering(vec![(200, old), (200, new)]);
        let tokens = with_keys(&[], |options| {
            options.jwks_url = Some(url);
            options.reload = Duration::from_secs(86_400);
        });
        let tokens = Arc::new(tokens.unwrap());
        let begun = tokio::time::Instant::now();
        let keeping = tokio::spawn(tokens.clone().keep_fresh());
        while tokens.verify(token.as_bytes()).is_none() {
            sleep(Duration::from_millis(100)).await;
        }
        keeping.abort();
        assert!(begun.elapsed() < Duration::from_secs(60));
    }

    #[test]
    fn files_that_are_no_keys_are_refused_by_name() {
        for wrong in [
            "short",
            RS_PRIVATE,
            ED_PRIVATE,
            "{}",
            "{\"keys\":[]}",
            "-----BEGIN X",
        ] {
            let error = with_keys(&[wrong], |_| {}).unwrap_err().to_string();
            assert!(error.contains("/0: "), "{error}");
        }
        let absent = with_keys(&[], |options| {
            options.key_files.push("/no/such/file".into())
        });
        assert!(absent.is_err());
    }
}
