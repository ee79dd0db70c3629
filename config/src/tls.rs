//! `[tls]`: certificates of the listeners, and of their clients.

use std::path::PathBuf;

use serde::Deserialize;

use crate::reader::{Checks, Section};

/// `[tls]`: certificates of the listeners, and of their clients; without a certificate there is no TLS.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tls {
    /// Certificates and their keys.
    pub certificates: Vec<Certificate>,
    /// Whether clients show a certificate.
    pub client_auth: ClientAuth,
    /// Files with the CAs whose signature on a client's certificate counts.
    pub client_ca: Vec<PathBuf>,
    /// Files with lists of revoked certificates of clients.
    pub crl_files: Vec<PathBuf>,
    /// What in a client's certificate is its user name.
    pub client_name: ClientName,
    /// The oldest version that is spoken.
    pub min_version: MinVersion,
    /// Seconds between two looks at the files.
    pub reload_s: u64,
    /// Days before its end that a certificate is told of in the log.
    pub warn_days: u32,
}

/// A certificate and its key.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Certificate {
    /// File with the certificate and those between it and the CA, PEM.
    pub cert: PathBuf,
    /// File with the private key, PEM.
    pub key: PathBuf,
}

/// Whether clients show a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClientAuth {
    /// They are not asked.
    None,
    /// Who shows one has to show a good one.
    Optional,
    /// Who shows none is refused.
    Required,
}

/// What in a client's certificate is its user name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientName {
    /// Nothing.
    None,
    /// The Common Name of the subject.
    SubjectCn,
    /// The DNS name among the alternative names.
    SanDns,
    /// The mail address among the alternative names.
    SanEmail,
    /// The URI among the alternative names.
    SanUri,
}

/// The oldest version that is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum MinVersion {
    /// TLS 1.2.
    #[serde(rename = "1.2")]
    Tls12,
    /// TLS 1.3.
    #[serde(rename = "1.3")]
    Tls13,
}

impl Default for Tls {
    fn default() -> Self {
        Self {
            certificates: Vec::new(),
            client_auth: ClientAuth::None,
            client_ca: Vec::new(),
            crl_files: Vec::new(),
            client_name: ClientName::SubjectCn,
            min_version: MinVersion::Tls12,
            reload_s: 5,
            warn_days: 30,
        }
    }
}

impl Tls {
    /// Whether there is TLS.
    pub fn is_used(&self) -> bool {
        !self.certificates.is_empty()
    }
}

impl Section for Tls {
    fn check(&self, checks: &mut Checks<'_>) {
        let asks = self.client_auth != ClientAuth::None;
        if asks && self.client_ca.is_empty() {
            checks.refuse(
                "client_auth",
                "needs client_ca: certificates are judged by who signed them",
            );
        }
        for (key, files) in [
            ("client_ca", &self.client_ca),
            ("crl_files", &self.crl_files),
        ] {
            if !asks && !files.is_empty() {
                checks.refuse(
                    key,
                    "counts only with client_auth = \"optional\" or \"required\"",
                );
            }
        }
        if asks && self.certificates.is_empty() {
            checks.refuse(
                "client_auth",
                "needs certificates: without them there is no TLS",
            );
        }
        checks.range("reload_s", self.reload_s, 1..=86_400, "1 s to a day");
        checks.range("warn_days", self.warn_days, 0..=3650, "0 is not at all");
    }
}
