//! The key with which this broker's owner signs tokens: Ed25519, made by `tidings init`. The private half
//! is a file for its owner alone; the public half is a key set that `jwt.key_files` names.
//!
//! It does not know who may have a token: whoever can read the key may say so.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jsonwebtoken::jwk::{Jwk, JwkSet};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode, get_current_timestamp};
use serde_json::json;

/// Of a data directory, so that what belongs together is saved and moved together.
const FOLDER: &str = "keys";
const PRIVATE: &str = "signing.pem";
const PUBLIC: &str = "signing.jwks.json";

/// DER of everything that stands before the 32 bytes of an Ed25519 key in PKCS #8 (RFC 8410 §7).
const PKCS8_PREFIX: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];

/// Where a data directory has its keys.
pub(super) fn folder(data_dir: &Path) -> PathBuf {
    data_dir.join(FOLDER)
}

/// Where the private key of a data directory is.
pub fn private_key_file(data_dir: &Path) -> PathBuf {
    data_dir.join(FOLDER).join(PRIVATE)
}

/// Where the public key of a data directory is.
pub fn public_key_file(data_dir: &Path) -> PathBuf {
    data_dir.join(FOLDER).join(PUBLIC)
}

/// Makes a key for a data directory.
///
/// # Errors
/// If there is one already, or the files cannot be written.
pub fn create_key(data_dir: &Path) -> io::Result<()> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(io::Error::other)?;
    let der = [&PKCS8_PREFIX[..], &seed].concat();
    let text = STANDARD.encode(der);
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----\n");
    let key = EncodingKey::from_ed_pem(pem.as_bytes()).map_err(io::Error::other)?;
    let public = Jwk::from_encoding_key(&key, Algorithm::EdDSA).map_err(io::Error::other)?;
    let set = JwkSet { keys: vec![public] };
    let mut public = serde_json::to_vec_pretty(&set).map_err(io::Error::other)?;
    public.push(b'\n');
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(data_dir.join(FOLDER))?;
    write_new(&private_key_file(data_dir), 0o600, pem.as_bytes())?;
    write_new(&public_key_file(data_dir), 0o644, &public)
}

/// A token of `user` that counts from now on for a while, signed with the key of a data directory.
///
/// # Errors
/// If there is no key.
pub fn sign_token(
    data_dir: &Path,
    user: &str,
    roles: &[String],
    rooms: &[String],
    valid: Duration,
) -> io::Result<String> {
    let pem = fs::read(private_key_file(data_dir))?;
    let key = EncodingKey::from_ed_pem(&pem).map_err(io::Error::other)?;
    let now = get_current_timestamp();
    let end = now.saturating_add(valid.as_secs());
    let claims = json!({ "sub": user, "iat": now, "exp": end, "roles": roles, "rooms": rooms });
    encode(&Header::new(Algorithm::EdDSA), &claims, &key).map_err(io::Error::other)
}

fn write_new(path: &Path, mode: u32, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}
