//! TLS of the listeners: what counts now, and that newer files count without a restart.
//!
//! Invariants: certificates, keys and lists count together or not at all; what cannot be used leaves
//! what was there before; an open connection is touched by newer files only if the certificate that its
//! client showed does not count by them.
//! Nothing here knows sockets; how TLS runs over one is in `transport`.

pub mod authority;
mod handshakes;
mod load;
mod shown;
mod sni;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::Notify;
use tracing::{error, info, warn};

use crate::auth::{ClientName, certified};
use crate::transport::Wire;
use crate::transport::tls::Session;
use handshakes::Handshakes;
use load::{Digest, Loaded};
use shown::Book;
pub(crate) use shown::Shown;

/// How often the ends of certificates are told again in the log.
const TELL_AGAIN: Duration = Duration::from_secs(24 * 60 * 60);

/// A certificate with what was signed on the way to it, and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// PEM: the server's certificate first, then those between it and the CA.
    pub cert: PathBuf,
    /// PEM: the private key, not encrypted (PKCS#8, PKCS#1 or SEC1).
    pub key: PathBuf,
}

/// Whether clients show a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientAuth {
    /// They are not asked.
    #[default]
    None,
    /// Who shows one has to show a good one.
    Optional,
    /// Who shows none is refused.
    Required,
}

/// The oldest version that is spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MinVersion {
    /// TLS 1.2 (RFC 5246).
    #[default]
    Tls12,
    /// TLS 1.3 (RFC 8446).
    Tls13,
}

/// What listeners with TLS are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// At least one; clients get the one whose name they ask for, and else the first.
    pub certificates: Vec<CertificateFiles>,
    /// PEM: whose signature on a client's certificate counts.
    pub client_ca: Vec<PathBuf>,
    /// Whether clients show a certificate.
    pub client_auth: ClientAuth,
    /// PEM or DER: certificates of clients that do not count any more.
    pub crl_files: Vec<PathBuf>,
    /// What in a client's certificate is its user name.
    pub client_name: ClientName,
    /// The oldest version that is spoken.
    pub min_version: MinVersion,
    /// Between two looks at the files.
    pub reload: Duration,
    /// How long before its end a certificate is told of in the log.
    pub warn: Duration,
}

impl Options {
    /// One certificate, nobody asked for theirs.
    pub fn new(cert: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        Self {
            certificates: vec![CertificateFiles {
                cert: cert.into(),
                key: key.into(),
            }],
            client_ca: Vec::new(),
            client_auth: ClientAuth::None,
            crl_files: Vec::new(),
            client_name: ClientName::default(),
            min_version: MinVersion::default(),
            reload: Duration::from_secs(5),
            warn: Duration::from_secs(30 * 24 * 60 * 60),
        }
    }

    /// Whether the files can be used now, without using them.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(&self) -> Result<(), TlsError> {
        load::load(self).map(drop)
    }
}

/// Why TLS cannot be offered with these options.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
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
    /// There are no threads for handshakes.
    #[error("no threads for handshakes: {0}")]
    Threads(io::Error),
    /// The files do not go together.
    #[error("{0}")]
    Unusable(String),
    /// A listener is to speak TLS, and there is no certificate.
    #[error("a listener with TLS needs a certificate: tls.certificates is empty")]
    NoCertificates,
}

impl TlsError {
    fn broken(path: &Path, what: impl ToString) -> Self {
        Self::Broken {
            path: path.to_owned(),
            what: what.to_string(),
        }
    }
}

/// What counts now.
#[derive(Debug)]
pub(crate) struct Front {
    current: RwLock<Arc<Loaded>>,
    handshakes: Handshakes,
    /// What clients showed that are connected.
    shown: Book,
    /// Some of it does not count any more.
    revoked: Notify,
    /// What was tried last: the same is not tried, and told, again.
    tried: Mutex<Tried>,
}

#[derive(Debug)]
struct Tried {
    options: Options,
    files: BTreeMap<PathBuf, Option<Digest>>,
}

impl Front {
    /// Reads everything.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn open(options: Options) -> Result<Self, TlsError> {
        // Before reading: what changes meanwhile is seen as a change.
        let files = load::digests(&options);
        let loaded = load::load(&options)?;
        Ok(Self {
            current: RwLock::new(Arc::new(loaded)),
            handshakes: Handshakes::start().map_err(TlsError::Threads)?,
            shown: Book::default(),
            revoked: Notify::new(),
            tried: Mutex::new(Tried { options, files }),
        })
    }

    fn current(&self) -> Arc<Loaded> {
        let current = self.current.read();
        current.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// TLS over a connection, up to where the peer may speak, on threads that do nothing else; what its
    /// certificate says of it goes along. If they do not agree the peer may still have to read why.
    /// Within what time is for the caller to say.
    ///
    /// # Errors
    /// If the connection is lost.
    pub async fn receive(
        self: &Arc<Self>,
        wire: Wire,
    ) -> io::Result<(Wire, io::Result<Option<Arc<Shown>>>)> {
        let (front, wire) = (self.clone(), wire.detach()?);
        let there = async move {
            let (wire, agreed) = front.shake_hands(wire.attach()?).await;
            io::Result::Ok((wire.detach()?, agreed))
        };
        let (wire, agreed) = self.handshakes.run(there).await??;
        Ok((wire.attach()?, agreed))
    }

    async fn shake_hands(&self, wire: Wire) -> (Wire, io::Result<Option<Arc<Shown>>>) {
        // One reading of what counts, so that the name is judged as the certificate was.
        let current = self.current();
        let session = match Session::new(current.config.clone()) {
            Ok(session) => session,
            Err(error) => return (wire, Err(io::Error::other(error))),
        };
        let mut wire = wire.with_tls(session);
        if let Err(error) = wire.shake_hands().await {
            return (wire, Err(error));
        }
        let chain = wire.agreed().and_then(|agreed| agreed.peer_certificates());
        let Some((first, chain)) = chain.and_then(|chain| Some((chain.first()?, chain))) else {
            return (wire, Ok(None));
        };
        let certified = match current.client_name {
            ClientName::None => None,
            client_name => Some(certified(client_name, first)),
        };
        let owned = chain.iter().map(|one| one.clone().into_owned()).collect();
        let shown = Arc::new(Shown::new(owned, certified));
        self.shown.add(&shown);
        // Newer files may count since it was judged, and may have been held against the book already.
        let newer = self.current();
        if !Arc::ptr_eq(&newer, &current) && !newer.counts(&shown) {
            let why = io::Error::other("the certificate does not count any more");
            return (wire, Err(why));
        }
        (wire, Ok(Some(shown)))
    }

    /// Waits until certificates of connections that are open do not count any more.
    pub async fn revoked(&self) {
        self.revoked.notified().await;
    }

    /// Until the first of our own certificates ends; 0 if one has.
    pub fn seconds_left(&self) -> u64 {
        let current = self.current();
        let first = current.ends.iter().map(|(_, ends_s)| *ends_s).min();
        first.unwrap_or(0).saturating_sub(now_s())
    }

    /// Reads everything again, with other options or the same; connections that come from now on get
    /// what is new, and open ones end if their client's certificate does not count any more.
    ///
    /// # Errors
    /// The first thing that is wrong; nothing has changed then.
    pub fn replace(&self, options: Options) -> Result<(), TlsError> {
        let mut tried = self.tried.lock().unwrap_or_else(PoisonError::into_inner);
        let files = load::digests(&options);
        let loaded = load::load(&options)?;
        *tried = Tried { options, files };
        drop(tried);
        self.put(loaded);
        Ok(())
    }

    fn put(&self, loaded: Loaded) {
        tell(&loaded, self.warn());
        let loaded = Arc::new(loaded);
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        *current = loaded.clone();
        drop(current);
        let gone = self.shown.judge(|shown| loaded.counts(shown));
        if gone > 0 {
            info!(
                gone,
                "TLS: certificates of open connections do not count any more: these end"
            );
            self.revoked.notify_one();
        }
    }

    /// Looks whether a file has changed. What cannot be used is told once, and does not count.
    fn look(&self) {
        let mut tried = self.tried.lock().unwrap_or_else(PoisonError::into_inner);
        let files = load::digests(&tried.options);
        if files == tried.files {
            return;
        }
        tried.files = files;
        match load::load(&tried.options) {
            Ok(loaded) => {
                drop(tried);
                self.put(loaded);
                info!("TLS: certificates and lists were read again");
            }
            Err(problem) => {
                error!(%problem, "TLS: a file has changed and cannot be used; what was there before counts on")
            }
        }
    }

    fn warn(&self) -> Duration {
        let tried = self.tried.lock().unwrap_or_else(PoisonError::into_inner);
        tried.options.warn
    }

    fn reload(&self) -> Duration {
        let tried = self.tried.lock().unwrap_or_else(PoisonError::into_inner);
        tried.options.reload
    }

    /// Looks at the files, and at the ends of certificates, for ever.
    pub async fn keep_fresh(self: Arc<Self>) {
        tell(&self.current(), self.warn());
        let mut told = tokio::time::Instant::now();
        loop {
            tokio::time::sleep(self.reload()).await;
            let front = self.clone();
            // Files may lie on something slow.
            if let Err(error) = tokio::task::spawn_blocking(move || front.look()).await {
                error!(%error, "TLS: files are not looked at any more");
                return;
            }
            if told.elapsed() >= TELL_AGAIN {
                told = tokio::time::Instant::now();
                tell(&self.current(), self.warn());
            }
        }
    }
}

/// Says what ends soon, or has ended.
fn tell(loaded: &Loaded, ahead: Duration) {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let now_s = now.as_secs();
    for (path, ends_s) in &loaded.ends {
        let path = path.display();
        if *ends_s <= now_s {
            error!(%path, "TLS: this certificate has ended: clients will refuse it");
        } else if *ends_s - now_s < ahead.as_secs() {
            let days = (*ends_s - now_s) / (24 * 60 * 60);
            warn!(%path, days, "TLS: this certificate ends soon");
        }
    }
    for (path, at_s) in &loaded.renewals {
        if *at_s <= now_s {
            let path = path.display();
            warn!(%path, "TLS: this list of revoked certificates should have been renewed; it still counts");
        }
    }
}

fn now_s() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap_or_default().as_secs()
}
