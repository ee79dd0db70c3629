//! Proofs of who somebody is: signed tokens and certificates.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey};
use rustls::pki_types::CertificateDer;

use crate::auth::{ClientName, TokenOptions, Tokens, certified};

/// What a token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// Its claim `sub`.
    pub user: String,
    /// Its claim `roles`.
    pub roles: Vec<Arc<str>>,
    /// Its claim `rooms`.
    pub rooms: Vec<Arc<str>>,
    /// Its claim `exp`, seconds since 1970.
    pub ends_s: u64,
}

/// Tokens by one key file; `None` if its text is no key.
pub fn tokens_of_key(key_file: &[u8]) -> Option<Tokens> {
    let options = TokenOptions {
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
    };
    Tokens::of_key_text(options, key_file).ok()
}

/// What a token says, if it counts.
pub fn token_says(tokens: &Tokens, token: &[u8]) -> Option<Token> {
    tokens.verify(token).map(|claims| Token {
        user: claims.user,
        roles: claims.roles,
        rooms: claims.rooms,
        ends_s: claims.ends_s,
    })
}

/// A token with this header and these claims, whatever they are, and the HMAC with SHA-256 of both.
pub fn hs256(secret: &[u8], header: &[u8], claims: &[u8]) -> Option<String> {
    let [header, claims] = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part));
    let message = format!("{header}.{claims}");
    let key = EncodingKey::from_secret(secret);
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256).ok()?;
    Some(format!("{message}.{signature}"))
}

/// The user name in a certificate, by each of the ways to choose one.
pub fn certificate_names(der: &[u8]) -> [Option<Arc<str>>; 4] {
    let ways = [
        ClientName::SubjectCn,
        ClientName::SanDns,
        ClientName::SanEmail,
        ClientName::SanUri,
    ];
    let der = CertificateDer::from(der);
    ways.map(|way| certified(way, &der).name.ok())
}
