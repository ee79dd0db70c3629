//! mosquitto, where it is installed: how it is found, and configured for a run.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;

use super::Place;
use super::child::Launch;
use super::running::{Plan, Ports};

/// How much mosquitto may hold for a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Limits {
    /// As shipped: 20 messages in flight and 1,000 queued; more are dropped.
    Shipped,
    /// None.
    Raised,
}

impl Limits {
    pub const ALL: [Self; 2] = [Self::Shipped, Self::Raised];

    pub fn name(self) -> &'static str {
        match self {
            Self::Shipped => "mosquitto",
            Self::Raised => "mosquitto-raised",
        }
    }

    pub fn are_raised(self) -> bool {
        self == Self::Raised
    }

    pub fn in_words(self) -> &'static str {
        match self {
            Self::Shipped => {
                "shipped limits (20 in flight, 1,000 queued), set_tcp_nodelay; persistence where \
                 messages are to outlive the process"
            }
            Self::Raised => "as mosquitto, with no limit to what is in flight or queued",
        }
    }

    fn lines(self) -> &'static str {
        match self {
            Self::Shipped => "",
            Self::Raised => "max_inflight_messages 0\nmax_queued_messages 0\n",
        }
    }
}

/// The program, if it is installed.
pub(super) fn find(given: Option<&Path>) -> Option<PathBuf> {
    super::program_in_path(given.unwrap_or(Path::new("mosquitto")))
}

/// As its help says.
pub(super) fn version(program: &Path) -> anyhow::Result<String> {
    // It exits with an error after its help, which is no concern.
    let help = Command::new(program)
        .arg("-h")
        .output()
        .with_context(|| format!("cannot start {}", program.display()))?;
    Ok(version_in(&String::from_utf8_lossy(&help.stdout)))
}

fn version_in(help: &str) -> String {
    let mut words = help.lines().next().unwrap_or_default().split_whitespace();
    words.find(|word| *word == "version");
    words.next().unwrap_or("unknown").to_owned()
}

pub(super) fn plan(program: &Path, limits: Limits, place: &Place) -> anyhow::Result<Plan> {
    let [tcp, ws] = super::free_ports()?;
    let file = place.directory.join("mosquitto.conf");
    let text = configuration(limits, tcp, ws, place);
    fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
    Ok(Plan {
        launch: Launch {
            bench: place.bench.clone(),
            program: program.to_owned(),
            arguments: vec!["-c".into(), file.into()],
            cores: place.cores.clone(),
            log: place.directory.join("broker.log"),
        },
        ports: Ports::Given { tcp, ws },
    })
}

fn configuration(limits: Limits, tcp: SocketAddr, ws: SocketAddr, place: &Place) -> String {
    let persistence = if place.persistent {
        format!(
            "persistence true\npersistence_location {}/\n",
            place.directory.display()
        )
    } else {
        "persistence false\n".to_owned()
    };
    // As root it would become another user, who may not write to our directory. It ignores the
    // setting if it is not root.
    format!(
        "user root\n\
         log_dest stderr\nlog_type error\nlog_type warning\nconnection_messages false\n\
         {persistence}{limits}\
         allow_anonymous true\nset_tcp_nodelay true\n\
         listener {tcp_port} 127.0.0.1\nprotocol mqtt\n\
         listener {ws_port} 127.0.0.1\nprotocol websockets\n",
        limits = limits.lines(),
        tcp_port = tcp.port(),
        ws_port = ws.port(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(persistent: bool) -> Place {
        Place {
            directory: "/somewhere".into(),
            bench: PathBuf::new(),
            cores: Vec::new(),
            threads: 1,
            persistent,
        }
    }

    #[test]
    fn the_version_is_in_the_first_line_of_the_help() {
        assert_eq!(
            version_in("mosquitto version 2.0.20\n\nmosquitto is ..."),
            "2.0.20"
        );
        assert_eq!(version_in(""), "unknown");
    }

    #[test]
    fn limits_and_persistence_are_as_asked_for() {
        let (tcp, ws) = (([127, 0, 0, 1], 1).into(), ([127, 0, 0, 1], 2).into());
        let shipped = configuration(Limits::Shipped, tcp, ws, &place(false));
        assert!(shipped.contains("persistence false") && !shipped.contains("max_"));
        let raised = configuration(Limits::Raised, tcp, ws, &place(true));
        assert!(raised.contains("persistence_location /somewhere/\n"));
        assert!(raised.contains("max_queued_messages 0\n"));
        assert!(raised.contains("listener 2 127.0.0.1\nprotocol websockets\n"));
    }
}
