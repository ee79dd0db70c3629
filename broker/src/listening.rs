//! The thread of the listeners: acceptors, handshakes, pages, and what looks after the broker at intervals.
//!
//! Invariant: it ends when it is told to stop, and everything that runs in it ends with it. This module does
//! not know sessions.

use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;
use tracing::error;

use crate::auth::Tokens;
use crate::handshake::Reception;
use crate::heartbeat::Pulse;
use crate::http;
use crate::limits::{self, Limits};
use crate::listener::{self, Bound};
use crate::metrics::Sources;
use crate::readiness::Readiness;
use crate::shard::Mailboxes;
use crate::system::{self, SystemValues};
use crate::tls::Front;

/// See the module.
pub(crate) struct Listening {
    pub bound: Vec<Bound>,
    pub reception: Arc<Reception>,
    pub statistics: Option<(Duration, Arc<Sources>, SystemValues)>,
    pub tokens: Option<Arc<Tokens>>,
    pub pressure: (Arc<Limits>, PathBuf, Mailboxes, Readiness),
    pub api: http::Api,
    pub tls: Option<Arc<Front>>,
    pub heartbeat: Option<(Duration, Pulse)>,
    pub stop: watch::Receiver<bool>,
}

impl Listening {
    /// Begins to accept; what else is to run in that thread is given to the handle.
    ///
    /// # Errors
    /// If there is no thread to be had.
    pub fn start(self) -> std::io::Result<(tokio::runtime::Handle, thread::JoinHandle<()>)> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let handle = runtime.handle().clone();
        let thread = thread::Builder::new()
            .name("listeners".to_owned())
            .spawn(move || runtime.block_on(self.run()))?;
        Ok((handle, thread))
    }

    async fn run(self) {
        for bound in self.bound {
            let address = bound.address.clone();
            let (reception, api) = (self.reception.clone(), self.api.clone());
            let tls = self.tls.clone();
            let accepting = listener::accept_loop(bound, reception, api, tls, self.stop.clone());
            tokio::spawn(async move {
                if let Err(error) = accepting.await {
                    error!(%address, %error, "this listener does not work");
                }
            });
        }
        if let Some((every, sources, values)) = self.statistics {
            tokio::spawn(system::publish(every, sources, values));
        }
        let (limits, data_dir, shards, readiness) = self.pressure;
        tokio::spawn(limits::watch(limits, data_dir, shards, readiness));
        if let Some(tokens) = self.tokens {
            tokio::spawn(tokens.keep_fresh());
        }
        if let Some(tls) = self.tls {
            tokio::spawn(end_revoked(tls.clone(), self.reception.clone()));
            tokio::spawn(tls.keep_fresh());
        }
        if let Some((every, pulse)) = self.heartbeat {
            tokio::spawn(async move {
                loop {
                    pulse.beat();
                    sleep(every).await;
                }
            });
        }
        let mut stop = self.stop;
        // An error means that nobody can stop it any more, which is a stop too.
        let _ = stop.wait_for(|stop| *stop).await;
    }
}

/// Ends what is open with certificates that do not count any more, for ever.
async fn end_revoked(tls: Arc<Front>, reception: Arc<Reception>) {
    loop {
        tls.revoked().await;
        reception.shards.end_revoked();
    }
}
