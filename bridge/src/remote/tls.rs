//! TLS towards other brokers: whom we believe, and what we show of ourselves.
//!
//! Files are read anew for each connection, so that renewed ones count.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rumqttc::TlsConfiguration;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use thiserror::Error;

/// What a client is told of TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientTls {
    /// PEM: the CAs that are believed; `None`: those of the system.
    pub ca_file: Option<PathBuf>,
    /// PEM: our certificate and its key, if we show one.
    pub certificate: Option<(PathBuf, PathBuf)>,
}

/// Why there is no TLS to be had.
#[derive(Debug, Error)]
pub enum ClientTlsError {
    /// A file cannot be read.
    #[error("{}: {source}", .path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A file is not what it should be.
    #[error("{}: {what}", .path.display())]
    Broken {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The system has no CAs.
    #[error("this system trusts no CA: name a file with one")]
    NoRoots,
    /// What was read does not go together.
    #[error(transparent)]
    Rustls(#[from] rustls::Error),
}

impl ClientTls {
    /// As the client library wants it.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn configuration(&self) -> Result<TlsConfiguration, ClientTlsError> {
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(self.roots()?);
        let config = match &self.certificate {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let content = read(key)?;
                let private =
                    PrivateKeyDer::from_pem_slice(&content).map_err(|error| broken(key, error))?;
                builder.with_client_auth_cert(certificates(certificate)?, private)?
            }
        };
        Ok(TlsConfiguration::Rustls(Arc::new(config)))
    }

    fn roots(&self) -> Result<RootCertStore, ClientTlsError> {
        let mut roots = RootCertStore::empty();
        match &self.ca_file {
            Some(path) => {
                for certificate in certificates(path)? {
                    roots
                        .add(certificate)
                        .map_err(|error| broken(path, error))?;
                }
            }
            None => {
                // Some that cannot be used are on most systems.
                let found = rustls_native_certs::load_native_certs();
                roots.add_parsable_certificates(found.certs);
                if roots.is_empty() {
                    return Err(ClientTlsError::NoRoots);
                }
            }
        }
        Ok(roots)
    }
}

fn read(path: &Path) -> Result<Vec<u8>, ClientTlsError> {
    fs::read(path).map_err(|source| ClientTlsError::Read {
        path: path.to_owned(),
        source,
    })
}

fn broken(path: &Path, what: impl ToString) -> ClientTlsError {
    ClientTlsError::Broken {
        path: path.to_owned(),
        what: what.to_string(),
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, ClientTlsError> {
    let content = read(path)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&content).collect();
    let certificates = certificates.map_err(|error| broken(path, error))?;
    if certificates.is_empty() {
        return Err(broken(path, "no certificate in PEM is in it"));
    }
    Ok(certificates)
}
