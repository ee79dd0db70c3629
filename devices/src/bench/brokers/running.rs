//! A broker that we started: the process, where it listens, and how it comes back after a kill.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use serde::Deserialize;

use super::child::{Launch, Process};
use super::process_usage;
use crate::bench::target::{Carrier, Target, Usage};

/// How a broker is started, and how it is found out where it listens.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub launch: Launch,
    pub ports: Ports,
}

/// Where a broker will listen.
#[derive(Clone, Debug)]
pub(super) enum Ports {
    /// Where it was told to.
    Given { tcp: SocketAddr, ws: SocketAddr },
    /// It takes free ports and writes them to this file, as JSON.
    InFile(PathBuf),
}

/// A broker's listeners, as our broker writes them.
#[derive(Clone, Debug, Deserialize)]
struct Listeners {
    tcp: Vec<SocketAddr>,
    ws: Vec<SocketAddr>,
}

/// A broker that runs.
pub(super) struct Running {
    name: String,
    plan: Plan,
    process: Process,
    listeners: Listeners,
    /// CPU time of processes of this broker that were killed.
    cpu_before: Duration,
}

impl Running {
    /// Starts the broker and waits until it listens.
    pub fn start(name: &str, plan: Plan) -> anyhow::Result<Self> {
        let (process, listeners) = launch(&plan)?;
        Ok(Self {
            name: name.to_owned(),
            plan,
            process,
            listeners,
            cpu_before: Duration::ZERO,
        })
    }
}

fn launch(plan: &Plan) -> anyhow::Result<(Process, Listeners)> {
    if let Ports::InFile(file) = &plan.ports {
        // What an earlier start left would be taken for the new one's.
        let _ = fs::remove_file(file);
    }
    let mut process = Process::start(&plan.launch)?;
    let listeners = match &plan.ports {
        Ports::Given { tcp, ws } => {
            process.wait_until_listening(&[*tcp, *ws])?;
            Listeners {
                tcp: vec![*tcp],
                ws: vec![*ws],
            }
        }
        Ports::InFile(file) => process.wait_until(|| read(file))?,
    };
    Ok((process, listeners))
}

/// `None` while the file is not there, or half written.
fn read(file: &Path) -> Option<Listeners> {
    serde_json::from_str(&fs::read_to_string(file).ok()?).ok()
}

impl Target for Running {
    fn name(&self) -> &str {
        &self.name
    }

    fn address(&self, carrier: Carrier) -> Option<SocketAddr> {
        let listeners = match carrier {
            Carrier::Tcp => &self.listeners.tcp,
            Carrier::WebSocket => &self.listeners.ws,
        };
        listeners.first().copied()
    }

    fn websocket_path(&self) -> &str {
        "/mqtt"
    }

    fn usage(&self) -> Option<Usage> {
        let mut usage = process_usage::of(self.process.id())?;
        usage.cpu += self.cpu_before;
        Some(usage)
    }

    fn kill_and_restart(&mut self) -> anyhow::Result<()> {
        self.cpu_before = self.usage().map_or(self.cpu_before, |usage| usage.cpu);
        self.process.kill();
        let (process, listeners) =
            launch(&self.plan).with_context(|| format!("{} does not come back", self.name))?;
        self.process = process;
        self.listeners = listeners;
        Ok(())
    }
}
