//! A CA of one test, with certificates for servers and clients, and lists of those that it revoked;
//! and what `openssl s_client` finds when it speaks to a broker.

use std::fs;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use rcgen::{
    CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType, IsCa, KeyIdMethod,
    KeyPair, KeyUsagePurpose, RevokedCertParams, SanType, SerialNumber,
};
use tempfile::TempDir;

use crate::program::find;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// See the module.
pub struct Pki {
    folder: TempDir,
    ca: CertifiedIssuer<'static, KeyPair>,
    lists: u64,
}

impl Pki {
    /// Another CA than every other one; its certificate is `ca.crt`.
    ///
    /// # Panics
    /// If files cannot be written.
    pub fn new() -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(1);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let mut params = params(&format!("CA {number} of a test"), 1);
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().expect("a key");
        let ca = CertifiedIssuer::self_signed(params, key).expect("a certificate");
        let folder = TempDir::with_prefix("tidings-pki-").expect("a temporary directory");
        let pki = Self {
            folder,
            ca,
            lists: 0,
        };
        write(&pki.path("ca.crt"), &pki.ca.pem());
        pki
    }

    /// Where a file is.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A certificate of a server with this number, as `NAME.crt` and `NAME.key`; for localhost and
    /// 127.0.0.1, and under other DNS names.
    ///
    /// # Panics
    /// If it cannot be made.
    pub fn server(&self, name: &str, serial: u64, names: &[&str]) {
        let mut params = params(name, serial);
        let local = [
            SanType::DnsName("localhost".try_into().expect("ASCII")),
            SanType::IpAddress([127, 0, 0, 1].into()),
        ];
        let names = names
            .iter()
            .map(|name| SanType::DnsName((*name).try_into().expect("ASCII")));
        params.subject_alt_names = local.into_iter().chain(names).collect();
        self.issue(name, params);
    }

    /// A certificate of a client, as `FILE.crt` and `FILE.key`.
    ///
    /// # Panics
    /// If it cannot be made.
    pub fn client(&self, file: &str, common_name: &str, serial: u64, alternatives: Vec<SanType>) {
        let mut params = params(common_name, serial);
        params.subject_alt_names = alternatives;
        self.issue(file, params);
    }

    /// The same, of one that ended a day ago.
    ///
    /// # Panics
    /// If it cannot be made.
    pub fn expired_client(&self, file: &str, common_name: &str, serial: u64) {
        let mut params = params(common_name, serial);
        let now = SystemTime::now();
        (params.not_before, params.not_after) = ((now - 2 * DAY).into(), (now - DAY).into());
        self.issue(file, params);
    }

    fn issue(&self, file: &str, params: CertificateParams) {
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.ca).expect("a certificate");
        write(&self.path(&format!("{file}.key")), &key.serialize_pem());
        write(&self.path(&format!("{file}.crt")), &certificate.pem());
    }

    /// Writes the list of revoked certificates, `ca.crl`.
    ///
    /// # Panics
    /// If it cannot be made.
    pub fn revoke(&mut self, serials: &[u64]) {
        self.lists += 1;
        let now = SystemTime::now();
        let revoked = |serial: &u64| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: (now - DAY).into(),
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: (now - DAY).into(),
            next_update: (now + DAY).into(),
            crl_number: SerialNumber::from(self.lists),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = list.signed_by(&self.ca).expect("a list");
        write(&self.path("ca.crl"), &list.pem().expect("PEM"));
    }

    /// `[tls] certificates` of these servers, for `--set`.
    pub fn certificates(&self, names: &[&str]) -> String {
        let entry = |name: &&str| {
            let file = |kind| self.path(&format!("{name}.{kind}"));
            format!("{{ cert = {:?}, key = {:?} }}", file("crt"), file("key"))
        };
        let entries: Vec<_> = names.iter().map(entry).collect();
        format!("[{}]", entries.join(", "))
    }

    /// A list of one file, for `--set`.
    pub fn file(&self, name: &str) -> String {
        format!("[{:?}]", self.path(name))
    }

    /// What `openssl s_client` says of a server, with more arguments; it believes this CA alone.
    pub fn see(&self, address: SocketAddr, arguments: &[&str]) -> Seen {
        self.say(address, arguments, "")
    }

    /// The same, saying something once TLS was agreed on, and reading until the server ends it.
    ///
    /// # Panics
    /// If the program is missing.
    pub fn say(&self, address: SocketAddr, arguments: &[&str], text: &str) -> Seen {
        let mut command = Command::new(find("openssl"));
        command
            .args(["s_client", "-connect", &address.to_string(), "-CAfile"])
            .arg(self.path("ca.crt"))
            .arg("-verify_return_error")
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if !text.is_empty() {
            // Otherwise the end of its input ends it, once it has shaken hands.
            command.arg("-ign_eof");
        }
        let mut child = command.spawn().expect("openssl can be started");
        if let Some(mut input) = child.stdin.take() {
            // A server that refuses it is seen in what it says.
            let _ = input.write_all(text.as_bytes());
        }
        let output = child.wait_with_output().expect("a child can be waited for");
        let text = [output.stdout, output.stderr].concat();
        Seen {
            is_agreed: output.status.success(),
            text: String::from_utf8_lossy(&text).into_owned(),
        }
    }
}

impl Default for Pki {
    fn default() -> Self {
        Self::new()
    }
}

/// What `openssl s_client` found.
#[derive(Clone, Debug)]
pub struct Seen {
    /// TLS was agreed on, with a certificate that is believed.
    pub is_agreed: bool,
    /// All that it wrote.
    pub text: String,
}

impl Seen {
    /// The Common Name that the server showed.
    pub fn server(&self) -> Option<&str> {
        let line = self
            .text
            .lines()
            .find(|line| line.starts_with("subject="))?;
        let (_, name) = line.split_once("CN")?;
        Some(name.trim_start_matches([' ', '=']).trim())
    }
}

fn params(common_name: &str, serial: u64) -> CertificateParams {
    let mut params = CertificateParams::default();
    params
        .distinguished_name
        .push(DnType::CommonName, common_name);
    params.serial_number = Some(SerialNumber::from(serial));
    let now = SystemTime::now();
    params.not_before = (now - DAY).into();
    params.not_after = (now + 100 * DAY).into();
    params
}

/// Whole or not at all: a broker that looks sees the one or the other.
fn write(path: &Path, content: &str) {
    let unfinished = path.with_extension("unfinished");
    fs::write(&unfinished, content).expect("a file in a temporary directory");
    fs::rename(&unfinished, path).expect("a file in a temporary directory");
}
