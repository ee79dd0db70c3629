//! A local CA and a certificate of the server, for trying TLS out: what `tidings init --tls` makes.
//!
//! Invariants: nothing that is there is overwritten; keys are readable for their owner alone from the
//! first byte. A CA for everybody is not this one: who uses it has to be told that it is trusted.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};

/// What is always in the server's certificate.
const HERE: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// How long the CA counts: as long as one tries things out.
const CA_DAYS: u32 = 3650;

/// How long the server's certificate counts: no client takes more (CA/Browser Forum, 398 days).
const SERVER_DAYS: u32 = 397;

/// Clocks of clients may be behind.
const BEHIND: Duration = DAY;

/// Where the files are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority {
    /// The certificate of the CA, for clients.
    pub ca: PathBuf,
    /// Its key.
    pub ca_key: PathBuf,
    /// The certificate of the server.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

impl Authority {
    /// The files in a folder, whether they are there or not.
    pub fn in_folder(folder: &Path) -> Self {
        Self {
            ca: folder.join("ca.crt"),
            ca_key: folder.join("ca.key"),
            cert: folder.join("server.crt"),
            key: folder.join("server.key"),
        }
    }

    /// Makes them; the certificate is for this machine under its local names, and for `names`, DNS names
    /// or addresses.
    ///
    /// # Errors
    /// If a name cannot be in a certificate, a file is there already, or none can be written.
    pub fn create(&self, names: &[String]) -> io::Result<()> {
        let made = Made::new(names).map_err(io::Error::other)?;
        if let Some(folder) = self.ca.parent() {
            fs::create_dir_all(folder)?;
        }
        // Certificates are for everybody to see, keys are not.
        for (path, content, mode) in [
            (&self.ca_key, made.ca_key, 0o600),
            (&self.key, made.key, 0o600),
            (&self.ca, made.ca, 0o644),
            (&self.cert, made.cert, 0o644),
        ] {
            let mut file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(mode)
                .open(path)?;
            file.write_all(content.as_bytes())?;
            file.sync_all()?;
        }
        Ok(())
    }
}

/// The contents, PEM.
struct Made {
    ca: String,
    ca_key: String,
    cert: String,
    key: String,
}

impl Made {
    fn new(names: &[String]) -> Result<Self, rcgen::Error> {
        let mut params = params(Vec::new(), "Tidings local CA", CA_DAYS)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let ca_key = KeyPair::generate()?;
        let ca_key_pem = ca_key.serialize_pem();
        let ca = CertifiedIssuer::self_signed(params, ca_key)?;

        let mut all: Vec<String> = HERE.map(str::to_owned).to_vec();
        all.extend(
            names
                .iter()
                .filter(|name| !HERE.contains(&name.as_str()))
                .cloned(),
        );
        let subject = names.first().map_or(HERE[0], String::as_str).to_owned();
        let mut params = self::params(all, &subject, SERVER_DAYS)?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let cert = params.signed_by(&key, &ca)?;
        Ok(Self {
            ca: ca.pem(),
            ca_key: ca_key_pem,
            cert: cert.pem(),
            key: key.serialize_pem(),
        })
    }
}

fn params(names: Vec<String>, subject: &str, days: u32) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name.push(DnType::CommonName, subject);
    let now = SystemTime::now();
    params.not_before = (now - BEHIND).into();
    params.not_after = (now + DAY * days).into();
    Ok(params)
}

/// Whether something can be a name of the server: a DNS name, `*.` before it or not, or an address.
pub fn is_name(name: &str) -> bool {
    let plain = name.strip_prefix("*.").unwrap_or(name);
    let is_label = |label: &str| {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        (1..=63).contains(&label.len()) && label.bytes().all(is_plain)
    };
    name.parse::<IpAddr>().is_ok() || (plain.len() <= 253 && plain.split('.').all(is_label))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::super::Options;
    use super::*;

    #[test]
    fn what_is_made_serves_once_and_its_keys_are_for_the_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::in_folder(&folder.path().join("tls"));
        let names = ["broker.example".to_owned(), "192.0.2.7".to_owned()];
        authority.create(&names).unwrap();
        Options::new(&authority.cert, &authority.key)
            .check()
            .unwrap();
        for key in [&authority.key, &authority.ca_key] {
            let mode = fs::metadata(key).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        let again = authority.create(&names).unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
    }

    #[test]
    fn names_of_a_server_are_dns_names_and_addresses() {
        for name in ["broker", "broker.example", "*.example", "192.0.2.7", "::1"] {
            assert!(is_name(name), "{name}");
        }
        for name in ["", "a b", "a..b", ".", "a/b", "*", "a\n", "ä.example"] {
            assert!(!is_name(name), "{name}");
        }
    }
}
