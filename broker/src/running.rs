//! What can be done with a broker that runs, by the program it runs in.

use std::net::SocketAddr;
use std::sync::{Arc, mpsc};

use bytes::Bytes;
use tidings_core::message::Epoch;
use tidings_core::rules::Rules;
use tidings_core::shard::Input;
use tokio::io::DuplexStream;
use tokio::sync::watch;

use crate::audit::AuditLog;
use crate::auth::{AccountBook, Admitted};
use crate::handshake::{Origin, Reception};
use crate::limits::BanBook;
use crate::listener::{Address, Kind, ListeningAt};
use crate::metrics::Via;
use crate::readiness::{Readiness, State};
use crate::rulebook::Rulebook;
use crate::supervisor::{Happened, StopError};
use crate::system::SystemValues;
use crate::tls::{self, Front, TlsError};
use crate::trace::{Following, TraceError, Tracing, Wanted};

/// A connection with the broker's own rights, whose other end is in memory.
pub(crate) fn connect_in_memory(
    reception: &Arc<Reception>,
    runtime: &tokio::runtime::Handle,
    label: &str,
) -> DuplexStream {
    let label = label.into();
    let _inside = runtime.enter();
    reception.connect_in_memory(Origin::Broker { label })
}

/// A broker that runs. Dropping it stops the broker without waiting for the end.
pub struct Running {
    pub(crate) listeners: Vec<ListeningAt>,
    pub(crate) events: mpsc::Sender<Happened>,
    pub(crate) done: watch::Receiver<Option<Result<(), StopError>>>,
    pub(crate) readiness: Readiness,
    pub(crate) reception: Arc<Reception>,
    pub(crate) runtime: tokio::runtime::Handle,
    pub(crate) system: SystemValues,
    pub(crate) epoch: Epoch,
    pub(crate) book: Arc<AccountBook>,
    pub(crate) rules: Arc<Rulebook>,
    pub(crate) tls: Option<Arc<Front>>,
    pub(crate) audit: AuditLog,
    pub(crate) tracing: Arc<Tracing>,
}

impl Running {
    /// Lets other topic rules count from now on: for what is published, subscribed, delivered and
    /// replayed, on connections that are open too.
    pub fn replace_rules(&self, rules: Rules) {
        let rules = Arc::new(rules);
        self.rules.replace(rules.clone());
        let shards = &self.reception.shards;
        shards.broadcast(|| Input::SetRules(rules.clone()));
    }

    /// The audit log.
    pub fn audit(&self) -> &AuditLog {
        &self.audit
    }

    /// Tells what something does, packet by packet, until what is given is dropped.
    ///
    /// # Errors
    /// If there is nothing to trace, or too much.
    pub fn trace(&self, wanted: Wanted) -> Result<Following, TraceError> {
        self.tracing.follow(wanted)
    }

    /// The book of bans.
    pub fn bans(&self) -> BanBook {
        BanBook {
            reception: self.reception.clone(),
            audit: self.audit.clone(),
        }
    }

    /// The book of accounts.
    pub fn accounts(&self) -> &Arc<AccountBook> {
        &self.book
    }

    /// Identity of this broker: that of its journal, as text.
    pub fn identity(&self) -> String {
        format!("{:016x}", self.epoch.0)
    }

    /// The listeners, in the order of the options.
    pub fn listeners(&self) -> &[ListeningAt] {
        &self.listeners
    }

    /// Addresses and ports where the listeners of a kind really listen, in the order of the options;
    /// those that speak nothing but TLS are of [`Running::tls_addresses`].
    pub fn addresses(&self, kind: Kind) -> impl Iterator<Item = SocketAddr> + '_ {
        self.addresses_of(kind, false)
    }

    /// The same for listeners that speak nothing but TLS.
    pub fn tls_addresses(&self, kind: Kind) -> impl Iterator<Item = SocketAddr> + '_ {
        self.addresses_of(kind, true)
    }

    fn addresses_of(&self, kind: Kind, tls: bool) -> impl Iterator<Item = SocketAddr> + '_ {
        let listeners = self.listeners.iter();
        let found = listeners.filter(move |at| (at.kind, at.tls) == (kind, tls));
        found.filter_map(|at| match at.address {
            Address::Network(address) => Some(address),
            Address::Unix(_) => None,
        })
    }

    /// Lets other certificates, keys and lists count for connections that come from now on, or the
    /// same read anew; open connections stay.
    ///
    /// # Errors
    /// The first thing that is wrong, or that the broker was started without TLS; nothing has changed
    /// then.
    pub fn replace_tls(&self, options: tls::Options) -> Result<(), TlsError> {
        match &self.tls {
            Some(tls) => tls.replace(options),
            None => Err(TlsError::NoCertificates),
        }
    }

    /// Whether it can do its work.
    pub fn readiness(&self) -> State {
        self.readiness.get()
    }

    /// A connection that speaks MQTT like a socket, but with the broker's own rights; its client
    /// identifier must begin with [`handshake::LINK_PREFIX`]. `label` names it in logs.
    pub fn connect_in_memory(&self, label: &str) -> DuplexStream {
        connect_in_memory(&self.reception, &self.runtime, label)
    }

    /// A connection that speaks MQTT like a socket, for someone who was let in already; its client
    /// identifier must begin with [`handshake::HTTP_PREFIX`]. It ends like a socket's: when the
    /// account may not be here any more, or at `valid_until`.
    ///
    /// [`handshake::HTTP_PREFIX`]: crate::handshake::HTTP_PREFIX
    pub fn connect_as(&self, admitted: Admitted) -> DuplexStream {
        let admitted = Arc::new(admitted);
        let _inside = self.runtime.enter();
        self.reception.connect_in_memory(Origin::Gateway {
            admitted,
            via: Via::Gateway,
        })
    }

    /// Sets a value of the `$SYS` tree; `topic` begins with `$SYS/`.
    pub fn set_system_value(&self, topic: &str, payload: impl Into<Bytes>) {
        self.system.set(topic, payload.into());
    }

    /// Asks the broker to stop; [`Running::wait`] says when it has.
    pub fn stop(&self) {
        let _ = self.events.send(Happened::Stop);
    }

    /// Waits until the broker has stopped, for whatever reason.
    ///
    /// # Errors
    /// If it did not stop in order.
    pub async fn wait(&self) -> Result<(), StopError> {
        let mut done = self.done.clone();
        let ended = done.wait_for(Option::is_some).await;
        ended
            .ok()
            .and_then(|ended| ended.clone())
            .unwrap_or(Err(StopError::Unknown))
    }

    /// Stops the broker: no more clients, goodbye to those that are there, everything on disk.
    ///
    /// # Errors
    /// If it did not stop in order.
    pub async fn shutdown(self) -> Result<(), StopError> {
        self.stop();
        self.wait().await
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop();
    }
}
