//! What a client's certificate says of its owner.
//!
//! A name in a certificate was signed by a CA, and is still only text: it becomes a user name, and with
//! that a level of topics, if it could be one. More than one name of the kind that counts is refused,
//! since which one is meant is not for us to guess.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls::pki_types::CertificateDer;
use sha2::{Digest as _, Sha256};
use tidings_core::message::UnixMillis;
use x509_cert::Certificate;
use x509_cert::der::asn1::{Ia5StringRef, ObjectIdentifier, PrintableStringRef, Utf8StringRef};
use x509_cert::der::{Any, Decode as _, Tag, Tagged as _};
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

use super::{Denied, check_user_name};

/// `id-at-commonName` (RFC 5280, appendix A).
const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");

/// What in a client's certificate is its user name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientName {
    /// Nothing: it opens the door, and who comes in says so by other means.
    None,
    /// The Common Name of the subject.
    #[default]
    SubjectCn,
    /// The DNS name of the Subject Alternative Name.
    SanDns,
    /// Its mail address.
    SanEmail,
    /// Its URI.
    SanUri,
}

/// What a certificate that was found good says of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certified {
    /// Its user name, or why it has none; then it may not come in by any other name either.
    pub name: Result<Arc<str>, NameError>,
    /// When the certificate ends, and with it what it proves.
    pub ends: UnixMillis,
    /// SHA-256 of it, in base64url: `x5t#S256` of RFC 8705 §3.1.
    pub thumbprint: Arc<str>,
}

/// Why a certificate names no user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// It cannot be read.
    #[error("the certificate cannot be read")]
    Unreadable,
    /// It has no name of the kind that counts.
    #[error("the certificate has no such name")]
    Missing,
    /// It has several.
    #[error("the certificate has more than one such name")]
    Several,
    /// The name is in letters that are not read.
    #[error("the name in the certificate is not in UTF-8 or ASCII")]
    Encoding,
    /// Nobody may have this name.
    #[error("the name in the certificate is not allowed: {0}")]
    NotAllowed(&'static str),
}

impl Certified {
    /// The user name, unless the client says that it has another one.
    ///
    /// # Errors
    /// If it has none that may come in, or says so.
    pub fn user(&self, said: Option<&str>) -> Result<&Arc<str>, Denied> {
        let name = self
            .name
            .as_ref()
            .map_err(|error| Denied::Certificate(*error))?;
        match said {
            Some(said) if *said != **name => Err(Denied::Credentials),
            _ => Ok(name),
        }
    }
}

/// What a client's certificate says.
pub(crate) fn certified(client_name: ClientName, der: &CertificateDer<'_>) -> Certified {
    let thumbprint = URL_SAFE_NO_PAD.encode(Sha256::digest(der)).into();
    let Ok(certificate) = Certificate::from_der(der) else {
        return Certified {
            name: Err(NameError::Unreadable),
            ends: 0,
            thumbprint,
        };
    };
    let ends = certificate.tbs_certificate.validity.not_after;
    Certified {
        name: name_of(client_name, &certificate),
        ends: UnixMillis::try_from(ends.to_unix_duration().as_millis()).unwrap_or(UnixMillis::MAX),
        thumbprint,
    }
}

fn name_of(client_name: ClientName, certificate: &Certificate) -> Result<Arc<str>, NameError> {
    let names: Vec<String> = match client_name {
        ClientName::None => Vec::new(),
        ClientName::SubjectCn => common_names(certificate)?,
        ClientName::SanDns | ClientName::SanEmail | ClientName::SanUri => {
            let names = alternatives(certificate).ok_or(NameError::Unreadable)?;
            let chosen = names
                .into_iter()
                .filter_map(|name| match (client_name, name) {
                    (ClientName::SanDns, GeneralName::DnsName(name))
                    | (ClientName::SanEmail, GeneralName::Rfc822Name(name))
                    | (ClientName::SanUri, GeneralName::UniformResourceIdentifier(name)) => {
                        Some(name.as_str().to_owned())
                    }
                    _ => None,
                });
            chosen.collect()
        }
    };
    match names.as_slice() {
        [] => Err(NameError::Missing),
        [name] => {
            check(name)?;
            Ok(name.as_str().into())
        }
        _ => Err(NameError::Several),
    }
}

/// Whether a name that stands in a certificate may be a user name.
fn check(name: &str) -> Result<(), NameError> {
    if let Err(Denied::UserName(why)) = check_user_name(name) {
        return Err(NameError::NotAllowed(why));
    }
    if name.trim() != name {
        return Err(NameError::NotAllowed("it begins or ends with a space"));
    }
    Ok(())
}

fn common_names(certificate: &Certificate) -> Result<Vec<String>, NameError> {
    let subject = &certificate.tbs_certificate.subject;
    let attributes = subject.0.iter().flat_map(|relative| relative.0.iter());
    let names = attributes.filter(|attribute| attribute.oid == COMMON_NAME);
    names.map(|attribute| text(&attribute.value)).collect()
}

fn text(value: &Any) -> Result<String, NameError> {
    let text = match value.tag() {
        Tag::Utf8String => value
            .decode_as::<Utf8StringRef<'_>>()
            .map(|text| text.as_str().to_owned()),
        Tag::PrintableString => value
            .decode_as::<PrintableStringRef<'_>>()
            .map(|text| text.as_str().to_owned()),
        Tag::Ia5String => value
            .decode_as::<Ia5StringRef<'_>>()
            .map(|text| text.as_str().to_owned()),
        _ => return Err(NameError::Encoding),
    };
    text.map_err(|_| NameError::Encoding)
}

/// What the Subject Alternative Name holds; nothing if that cannot be read.
fn alternatives(certificate: &Certificate) -> Option<Vec<GeneralName>> {
    let found = certificate.tbs_certificate.get::<SubjectAltName>().ok()?;
    Some(found.map(|(_, names)| names.0).unwrap_or_default())
}
