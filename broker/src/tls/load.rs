//! From files to what rustls is told. Everything that is wrong is said with the file it is in.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoClientAuth, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig, version};
use sha2::{Digest as _, Sha256};
use x509_cert::der::Decode as _;

use super::shown::Shown;
use super::sni::{Offer, Offers, dns_names};
use super::{ClientAuth, MinVersion, Options, TlsError};
use crate::auth::ClientName;

/// Bytes of one file: bundles of all public CAs have some hundred kilobytes, lists of revoked
/// certificates some megabytes.
const MAX_FILE: u64 = 64 * 1024 * 1024;

/// What clients may ask to speak (ALPN, RFC 7301): a client that asks for nothing may speak either.
const PROTOCOLS: [&[u8]; 2] = [b"mqtt", b"http/1.1"];

/// SHA-256 of a file.
pub(super) type Digest = [u8; 32];

/// Files that were read and go together.
#[derive(Debug)]
pub(super) struct Loaded {
    pub config: Arc<ServerConfig>,
    pub client_name: ClientName,
    /// Who judges certificates of clients; `None`: nobody is asked for theirs.
    verifier: Option<Arc<dyn ClientCertVerifier>>,
    /// When our own certificates end, seconds since 1970.
    pub ends: Vec<(PathBuf, u64)>,
    /// When lists of revoked certificates should have been renewed.
    pub renewals: Vec<(PathBuf, u64)>,
}

impl Loaded {
    /// Whether what a client showed when it came counts by these files, too.
    pub fn counts(&self, shown: &Shown) -> bool {
        let (Some(verifier), Some((first, others))) = (&self.verifier, shown.chain().split_first())
        else {
            return false;
        };
        verifier
            .verify_client_cert(first, others, UnixTime::now())
            .is_ok()
    }
}

/// What the files have in them now, for telling whether that changed.
pub(super) fn digests(options: &Options) -> BTreeMap<PathBuf, Option<Digest>> {
    let Options {
        certificates,
        client_ca,
        crl_files,
        ..
    } = options;
    let of_certificates = certificates
        .iter()
        .flat_map(|files| [&files.cert, &files.key]);
    let files = of_certificates.chain(client_ca).chain(crl_files);
    let digest = |path: &PathBuf| {
        let content = read(path).ok();
        let digest = content.map(|content| Sha256::digest(content).into());
        (path.clone(), digest)
    };
    files.map(digest).collect()
}

/// Reads everything.
pub(super) fn load(options: &Options) -> Result<Loaded, TlsError> {
    let provider = Arc::new(ring::default_provider());
    let mut offers = Vec::new();
    let mut ends = Vec::new();
    for files in &options.certificates {
        let (offer, ends_s) = offer(&files.cert, &files.key, &provider)?;
        offers.push(offer);
        ends.push((files.cert.clone(), ends_s));
    }
    let offers = Offers::new(offers).ok_or(TlsError::NoCertificates)?;
    let (verifier, renewals) = client_verifier(options, &provider)?;
    let versions: &[_] = match options.min_version {
        MinVersion::Tls12 => &[&version::TLS13, &version::TLS12],
        MinVersion::Tls13 => &[&version::TLS13],
    };
    let unusable = |error: rustls::Error| TlsError::Unusable(error.to_string());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .map_err(unusable)?
        .with_client_cert_verifier(verifier.clone().unwrap_or_else(|| Arc::new(NoClientAuth)))
        .with_cert_resolver(Arc::new(offers));
    config.alpn_protocols = PROTOCOLS.iter().map(|name| name.to_vec()).collect();
    // Who comes again is known by a ticket of its own and not by memory of ours. The key is made
    // here: newer files, and with them newer lists of revoked certificates, end all tickets.
    config.ticketer = ring::Ticketer::new().map_err(unusable)?;
    Ok(Loaded {
        config: Arc::new(config),
        client_name: options.client_name,
        verifier,
        ends,
        renewals,
    })
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    let failed = |source| TlsError::Read {
        path: path.to_owned(),
        source,
    };
    let len = fs::metadata(path).map_err(failed)?.len();
    if len > MAX_FILE {
        return Err(TlsError::broken(path, "the file is too large"));
    }
    fs::read(path).map_err(failed)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let content = read(path)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&content).collect();
    let certificates = certificates.map_err(|error| TlsError::broken(path, error))?;
    if certificates.is_empty() {
        return Err(TlsError::broken(path, "no certificate in PEM is in it"));
    }
    Ok(certificates)
}

fn offer(cert: &Path, key: &Path, provider: &CryptoProvider) -> Result<(Offer, u64), TlsError> {
    let chain = certificates(cert)?;
    let parsed = chain
        .first()
        .map(|first| x509_cert::Certificate::from_der(first));
    let parsed = parsed.ok_or(TlsError::NoCertificates)?;
    let parsed = parsed.map_err(|error| TlsError::broken(cert, error))?;
    let ends = parsed.tbs_certificate.validity.not_after;
    let names = dns_names(&parsed);
    let content = read(key)?;
    // What pki-types says of a file that has none is about PEM alone.
    let private = PrivateKeyDer::from_pem_slice(&content)
        .map_err(|error| TlsError::broken(key, format_args!("no private key: {error}")))?;
    let certified = CertifiedKey::from_der(chain, private, provider).map_err(|error| {
        let what = match error {
            rustls::Error::InconsistentKeys(_) => {
                format!(
                    "this key does not belong to the certificate in {}",
                    cert.display()
                )
            }
            error => error.to_string(),
        };
        TlsError::broken(key, what)
    })?;
    let offer = Offer {
        names,
        certified: Arc::new(certified),
    };
    Ok((offer, ends.to_unix_duration().as_secs()))
}

/// Who judges certificates of clients, if anybody does, and when lists should be renewed.
type Verifier = (Option<Arc<dyn ClientCertVerifier>>, Vec<(PathBuf, u64)>);

fn client_verifier(
    options: &Options,
    provider: &Arc<CryptoProvider>,
) -> Result<Verifier, TlsError> {
    if options.client_auth == ClientAuth::None {
        return Ok((None, Vec::new()));
    }
    let mut roots = RootCertStore::empty();
    for path in &options.client_ca {
        for certificate in certificates(path)? {
            let added = roots.add(certificate);
            added.map_err(|error| TlsError::broken(path, error))?;
        }
    }
    if roots.is_empty() {
        let what = "certificates of clients cannot be judged: tls.client_ca is empty";
        return Err(TlsError::Unusable(what.to_owned()));
    }
    let roots = Arc::new(roots);
    let builder = || WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone());
    let mut lists = Vec::new();
    let mut renewals = Vec::new();
    for path in &options.crl_files {
        let (of_file, renewal) = revocations(path)?;
        // On its own, so that an error has a file.
        let alone = builder().with_crls(of_file.clone()).build();
        alone.map_err(|error| TlsError::broken(path, error))?;
        lists.extend(of_file);
        renewals.extend(renewal.map(|at_s| (path.clone(), at_s)));
    }
    let builder = builder().with_crls(lists);
    let builder = match options.client_auth {
        ClientAuth::Optional => builder.allow_unauthenticated(),
        ClientAuth::Required | ClientAuth::None => builder,
    };
    let verifier = builder
        .build()
        .map_err(|error| TlsError::Unusable(error.to_string()))?;
    Ok((Some(verifier), renewals))
}

type Revocations = (Vec<CertificateRevocationListDer<'static>>, Option<u64>);

/// The lists in a file, and when the first of them should be renewed.
fn revocations(path: &Path) -> Result<Revocations, TlsError> {
    let content = read(path)?;
    let is_pem = content.windows(11).any(|window| window == b"-----BEGIN ");
    let lists: Vec<_> = if is_pem {
        let lists: Result<_, _> = CertificateRevocationListDer::pem_slice_iter(&content).collect();
        lists.map_err(|error| TlsError::broken(path, error))?
    } else {
        vec![CertificateRevocationListDer::from(content)]
    };
    if lists.is_empty() {
        return Err(TlsError::broken(path, "no revocation list is in it"));
    }
    let mut renewal = None;
    for list in &lists {
        let parsed = x509_cert::crl::CertificateList::from_der(list);
        let parsed = parsed.map_err(|error| TlsError::broken(path, error))?;
        if let Some(next) = parsed.tbs_cert_list.next_update {
            let at_s = next.to_unix_duration().as_secs();
            renewal = Some(renewal.map_or(at_s, |first: u64| first.min(at_s)));
        }
    }
    Ok((lists, renewal))
}
