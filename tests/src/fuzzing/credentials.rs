//! Proofs of who somebody is, made by whoever: signed tokens, the files with their keys, certificates.
//! Nobody makes a token that counts without the key, none is changed, and one that counts says what its
//! claims say, while it is true; what a certificate names may be a user.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value};
use tidings_broker::auth::check_user_name;
use tidings_broker::fuzzing::{Token, certificate_names, hs256, token_says, tokens_of_key};

use super::choices::Choices;

const SECRET: &[u8] = b"forty bytes that nobody outside may know";
const HEADER: &[u8] = br#"{"alg":"HS256","typ":"JWT"}"#;
const CLAIMS: &[u8] = br#"{"sub":"alice","exp":9000000000,"roles":["admin"]}"#;

/// Bytes of the shortest secret that signs (RFC 7518 §3.2).
const MIN_SECRET: usize = 32;

/// Seconds that the clock may move while a token is judged.
const MOMENT: f64 = 60.0;

/// See the module. The first byte says what the rest is.
pub fn credentials(data: &[u8]) {
    let mut choices = Choices::new(data);
    let kind = choices.below(6);
    let at = usize::from(choices.short());
    let rest = choices.bytes(usize::MAX);
    let tokens = tokens_of_key(SECRET).expect("a key");
    match kind {
        0 => assert_eq!(token_says(&tokens, rest), None, "a token without the key"),
        1 => {
            let token = hs256(SECRET, HEADER, rest).expect("a token");
            check_claims(token_says(&tokens, token.as_bytes()), rest);
        }
        2 => {
            let token = hs256(SECRET, rest, CLAIMS).expect("a token");
            if token_says(&tokens, token.as_bytes()).is_some() {
                let header: Value = serde_json::from_slice(rest).expect("a header of JSON");
                assert_eq!(header["alg"], "HS256", "another way to sign");
                assert!(header["crit"].is_null(), "an extension that is not known");
            }
        }
        3 => {
            let token = hs256(SECRET, HEADER, CLAIMS).expect("a token").into_bytes();
            assert!(token_says(&tokens, &token).is_some());
            let at = at % (token.len() + 1);
            let end = (at + rest.len() / 2).min(token.len());
            let changed = [&token[..at], rest, &token[end..]].concat();
            if changed != token {
                assert_eq!(
                    token_says(&tokens, &changed),
                    None,
                    "a token that was changed"
                );
            }
        }
        4 => check_key_file(rest),
        _ => {
            for name in certificate_names(rest).into_iter().flatten() {
                assert!(check_user_name(&name).is_ok(), "{name:?}");
                assert!(!name.chars().any(char::is_control) && name.trim() == &*name);
            }
        }
    }
}

fn check_claims(found: Option<Token>, claims: &[u8]) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.expect("a clock").as_secs_f64();
    let text = claims;
    let claims: Option<Map<String, Value>> = serde_json::from_slice(text).ok();
    let Some(found) = found else {
        let is_plain = |claims: &Map<String, Value>| {
            let quotes = text.iter().filter(|byte| **byte == b'"').count();
            claims.len() == 2 && quotes == 6 && surely_counts(claims, now)
        };
        assert!(!claims.as_ref().is_some_and(is_plain), "a sound token");
        return;
    };
    let claims = claims.expect("an object");
    assert_eq!(
        claims.get("sub").and_then(Value::as_str),
        Some(&*found.user)
    );
    let end = claims.get("exp").and_then(Value::as_f64).expect("an end");
    assert!(end > now - MOMENT, "it is over");
    assert_eq!(found.ends_s, end as u64);
    let begin = claims.get("nbf").filter(|begin| !begin.is_null());
    let begin = begin.map_or(0.0, |begin| begin.as_f64().expect("a number"));
    assert!(begin < now + MOMENT, "it has not begun");
    assert!(
        claims.get("aud").is_none_or(Value::is_null),
        "for somebody else"
    );
    assert_eq!(found.roles, words(claims.get("roles"), 64));
    assert_eq!(found.rooms, words(claims.get("rooms"), 256));
}

/// Whether there is nothing to say against it: an end that is far away, a name, and nothing else. A claim
/// that is there twice is refused, but that is not seen here.
fn surely_counts(claims: &Map<String, Value>, now: f64) -> bool {
    let end = claims.get("exp").and_then(Value::as_u64).unwrap_or(0) as f64;
    let name = claims.get("sub").and_then(Value::as_str);
    (now + MOMENT..1e15).contains(&end) && name.is_some_and(|name| name.len() < 1000)
}

/// A list of texts, or a text of words.
fn words(claim: Option<&Value>, most: usize) -> Vec<Arc<str>> {
    let texts: Vec<&str> = match claim {
        Some(Value::Array(texts)) => texts.iter().filter_map(Value::as_str).collect(),
        Some(Value::String(text)) => text.split_whitespace().collect(),
        _ => Vec::new(),
    };
    texts.into_iter().take(most).map(Arc::from).collect()
}

fn check_key_file(text: &[u8]) {
    let Some(tokens) = tokens_of_key(text) else {
        return;
    };
    let text = text.trim_ascii();
    // What everyone may read, or guess, is no secret. Zeros at its end are as none to the hash.
    let is_public = text.starts_with(b"{") || text.starts_with(b"-----BEGIN");
    let short = text.get(..MIN_SECRET - 1).unwrap_or(text);
    let has_zeros = text.contains(&0) || text.windows(4).any(|part| part == b"AAAA");
    let guesses = [b"", short].into_iter().filter(|_| !has_zeros);
    for guess in guesses.chain(is_public.then_some(text)) {
        if let Some(token) = hs256(guess, HEADER, CLAIMS) {
            let found = token_says(&tokens, token.as_bytes());
            assert_eq!(found, None, "a secret that is none");
        }
    }
    assert!(
        is_public || text.len() >= MIN_SECRET,
        "a secret that can be guessed"
    );
    let short_keys = serde_json::from_slice::<Value>(text).ok();
    let keys = short_keys.as_ref().and_then(|set| set["keys"].as_array());
    for key in keys.into_iter().flatten().filter(|key| key["kty"] == "oct") {
        let encoded = key["k"].as_str().unwrap_or_default();
        let Some(secret) = base64url(encoded).filter(|secret| secret.len() < MIN_SECRET) else {
            continue;
        };
        if let Some(token) = hs256(&secret, HEADER, CLAIMS) {
            assert_eq!(
                token_says(&tokens, token.as_bytes()),
                None,
                "a short secret"
            );
        }
    }
}

/// RFC 4648 §5, without padding; as much of it as are whole bytes.
fn base64url(text: &str) -> Option<Vec<u8>> {
    let (mut out, mut bits, mut held) = (Vec::new(), 0_u32, 0);
    for byte in text.bytes() {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'-' => 62,
            b'_' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        held += 6;
        if held >= 8 {
            held -= 8;
            out.push((bits >> held) as u8);
        }
    }
    Some(out)
}
