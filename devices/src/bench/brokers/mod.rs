//! The brokers that are compared: which are present, and how each is started for one run.
//!
//! Invariants: each run gets a broker process of its own with a directory of its own, so that no run
//! sees what another left; ours is the first in the list. A broker known by its address only is used
//! as it is. Knows nothing of scenarios beyond which of them a variant of a broker is for.

pub mod by_address;
pub mod child;
mod mosquitto;
pub mod pinning;
mod process_usage;
mod rumqttd;
mod running;
mod tidings;

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use anyhow::Context;

use super::scenario::{Scenario, Shape};
use super::target::Target;
use by_address::Peer;
pub use rumqttd::{SUBCOMMAND as RUMQTTD_SUBCOMMAND, serve as serve_rumqttd};

/// The name of our own broker in tables.
pub const OURS: &str = "tidings";

/// Which brokers to look for, and where.
#[derive(Clone, Debug, Default)]
pub struct Search {
    /// The program `tidings`; none: beside this program, built if it is not there.
    pub tidings: Option<PathBuf>,
    /// Settings of our broker, as `key=value`.
    pub tidings_settings: Vec<String>,
    /// The program `mosquitto`; none: where programs are, if it is installed.
    pub mosquitto: Option<PathBuf>,
    /// Brokers that run already.
    pub peers: Vec<Peer>,
    /// Only brokers whose name begins with one of these; empty: all.
    pub only: Vec<String>,
}

/// A broker to compare.
#[derive(Clone, Debug)]
pub struct Broker {
    /// Its name in tables.
    pub name: String,
    /// Its version, as it says itself.
    pub version: String,
    /// What is set differently from how it is shipped.
    pub settings: String,
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    Tidings {
        program: PathBuf,
        settings: Vec<String>,
    },
    Rumqttd,
    Mosquitto {
        program: PathBuf,
        limits: mosquitto::Limits,
    },
    ByAddress(Peer),
}

/// Where and how one run's broker is started.
#[derive(Clone, Debug)]
pub struct Place {
    /// A new, empty directory for its data, configuration and log.
    pub directory: PathBuf,
    /// The program `tidings-bench`, of which hidden subcommands are needed.
    pub bench: PathBuf,
    /// Cores it may run on; empty: all.
    pub cores: Vec<usize>,
    /// Threads it should use, where it lets that be chosen.
    pub threads: usize,
    /// It is to keep messages and sessions on disk, where that is not a matter of course.
    pub persistent: bool,
}

/// The brokers that are present; `say` is told what takes long.
///
/// # Errors
/// If ours cannot be found or built, or one that was asked for does not run.
pub fn present(search: &Search, say: &dyn Fn(&str)) -> anyhow::Result<Vec<Broker>> {
    let wanted = |name: &str| {
        search.only.is_empty()
            || search
                .only
                .iter()
                .any(|only| name.starts_with(only.as_str()))
    };
    let mut found = Vec::new();
    if wanted(OURS) {
        let program = tidings::find(search.tidings.as_deref(), say)?;
        found.push(Broker {
            name: OURS.to_owned(),
            version: tidings::version(&program)?,
            settings: tidings::settings_in_words(&search.tidings_settings),
            kind: Kind::Tidings {
                program,
                settings: search.tidings_settings.clone(),
            },
        });
    }
    if wanted(rumqttd::NAME) {
        found.push(Broker {
            name: rumqttd::NAME.to_owned(),
            version: rumqttd::version().to_owned(),
            settings: rumqttd::SETTINGS.to_owned(),
            kind: Kind::Rumqttd,
        });
    }
    if let Some(program) = mosquitto::find(search.mosquitto.as_deref()) {
        for limits in mosquitto::Limits::ALL {
            if wanted(limits.name()) {
                found.push(Broker {
                    name: limits.name().to_owned(),
                    version: mosquitto::version(&program)?,
                    settings: limits.in_words().to_owned(),
                    kind: Kind::Mosquitto {
                        program: program.clone(),
                        limits,
                    },
                });
            }
        }
    }
    for peer in search.peers.iter().filter(|peer| wanted(&peer.name)) {
        found.push(Broker {
            name: peer.name.clone(),
            version: "unknown".to_owned(),
            settings: format!("runs already, at {}", peer.tcp),
            kind: Kind::ByAddress(peer.clone()),
        });
    }
    anyhow::ensure!(!found.is_empty(), "no broker of that name is present");
    Ok(found)
}

impl Broker {
    /// False for a variant of a broker in scenarios where it would be the same broker again.
    pub fn takes_part_in(&self, scenario: &Scenario) -> bool {
        match &self.kind {
            Kind::Mosquitto { limits, .. } if limits.are_raised() => matches!(
                scenario.shape,
                Shape::OfflineBurst { .. } | Shape::SlowSubscriber { .. } | Shape::Durable { .. }
            ),
            _ => true,
        }
    }

    /// Starts it, and waits until it listens.
    ///
    /// # Errors
    /// If it does not start; with the end of its log.
    pub fn start(&self, place: &Place) -> anyhow::Result<Box<dyn Target>> {
        if let Kind::ByAddress(peer) = &self.kind {
            return Ok(Box::new(by_address::Known::new(peer.clone())));
        }
        let mut attempts = 3;
        loop {
            // A port that was free may be taken by another program before the broker binds it.
            attempts -= 1;
            match running::Running::start(&self.name, self.plan(place)?) {
                Ok(running) => return Ok(Box::new(running)),
                Err(error) if attempts == 0 => {
                    return Err(error.context(format!("{} does not start", self.name)));
                }
                Err(_) => (),
            }
        }
    }

    fn plan(&self, place: &Place) -> anyhow::Result<running::Plan> {
        match &self.kind {
            Kind::Tidings { program, settings } => Ok(tidings::plan(program, settings, place)),
            Kind::Rumqttd => rumqttd::plan(place),
            Kind::Mosquitto { program, limits } => mosquitto::plan(program, *limits, place),
            Kind::ByAddress(_) => anyhow::bail!("{} is not ours to start", self.name),
        }
    }
}

/// Ports that were free just now, for brokers that cannot say which one they took.
fn free_ports<const N: usize>() -> anyhow::Result<[SocketAddr; N]> {
    // Held together, so that they differ.
    let mut held = Vec::with_capacity(N);
    for _ in 0..N {
        held.push(TcpListener::bind("127.0.0.1:0").context("no free port on loopback")?);
    }
    let addresses: Vec<SocketAddr> = held
        .iter()
        .map(TcpListener::local_addr)
        .collect::<Result<_, _>>()?;
    addresses
        .try_into()
        .map_err(|_| anyhow::anyhow!("as many addresses as ports"))
}

/// A program by its path, or by its name in PATH and where system programs are.
fn program_in_path(name: &Path) -> Option<PathBuf> {
    if name.components().count() > 1 {
        return name.is_file().then(|| name.to_owned());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        // Debian puts brokers where only root looks.
        .chain(["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from))
        .map(|directory| directory.join(name))
        .find(|program| program.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::scenario;

    #[test]
    fn mosquitto_with_other_limits_takes_part_only_where_limits_decide() {
        let broker = |limits| Broker {
            name: String::new(),
            version: String::new(),
            settings: String::new(),
            kind: Kind::Mosquitto {
                program: PathBuf::new(),
                limits,
            },
        };
        let [shipped, raised] = mosquitto::Limits::ALL.map(broker);
        for scenario in scenario::catalogue() {
            assert!(shipped.takes_part_in(&scenario));
        }
        let count = |broker: &Broker| {
            let all = scenario::catalogue();
            all.iter().filter(|s| broker.takes_part_in(s)).count()
        };
        assert!(count(&raised) > 0 && count(&raised) < count(&shipped) / 2);
    }

    #[test]
    fn free_ports_differ() {
        let [a, b] = free_ports().expect("two ports");
        assert_ne!(a, b);
    }

    #[test]
    fn a_program_is_found_by_name_or_path_or_not_at_all() {
        let sh = program_in_path(Path::new("sh")).expect("a shell");
        assert_eq!(program_in_path(&sh), Some(sh));
        assert_eq!(program_in_path(Path::new("no-such-program-here")), None);
        assert_eq!(program_in_path(Path::new("/no/such/program")), None);
    }
}
