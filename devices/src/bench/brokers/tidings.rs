//! Our own broker: how its program is found or built, and started for a run.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

use super::Place;
use super::child::Launch;
use super::running::{Plan, Ports};

/// What differs from the shipped settings: limits that scenarios would hit, and the log.
const SETTINGS: [&str; 3] = [
    "limits.max_connections=100000",
    "mqtt.max_subscriptions_per_session=1000000",
    "log.level=warn",
];

pub(super) fn settings_in_words(settings: &[String]) -> String {
    let mut all: Vec<&str> = SETTINGS.to_vec();
    all.extend(settings.iter().map(String::as_str));
    format!("shipped settings (fsync), but {}", all.join(", "))
}

/// The program: the given one, or the one beside this program. Under `cargo run` that one is brought
/// up to date first, as this program was; without it, it is built only if it is not there.
pub(super) fn find(given: Option<&Path>, say: &dyn Fn(&str)) -> anyhow::Result<PathBuf> {
    if let Some(program) = given {
        if !program.is_file() {
            bail!("{} is not there", program.display());
        }
        return Ok(program.to_owned());
    }
    let this = env::current_exe().context("where is this program?")?;
    let directory = this.parent().context("a program is in a directory")?;
    let program = directory.join("tidings");
    let cargo = env::var_os("CARGO");
    if program.is_file() && cargo.is_none() {
        return Ok(program);
    }
    say("building tidings, the broker");
    build(
        Path::new(&cargo.unwrap_or_else(|| "cargo".into())),
        directory,
    )?;
    if !program.is_file() {
        bail!(
            "{} was not built; name one with --tidings",
            program.display()
        );
    }
    Ok(program)
}

/// Builds it where this program is, with the same profile.
fn build(cargo: &Path, directory: &Path) -> anyhow::Result<()> {
    let mut command = Command::new(cargo);
    command
        .args([
            "build",
            "--quiet",
            "-p",
            "tidings-broker",
            "--bin",
            "tidings",
        ])
        .current_dir(env!("CARGO_MANIFEST_DIR"));
    if let Some(target) = directory.parent() {
        command.arg("--target-dir").arg(target);
    }
    match directory.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => (),
        Some(profile) => {
            command.args(["--profile", profile]);
        }
    }
    let status = command.status().with_context(|| {
        format!(
            "{}: name the broker's program with --tidings",
            cargo.display()
        )
    })?;
    if !status.success() {
        bail!("tidings does not build; name its program with --tidings");
    }
    Ok(())
}

/// What it says, and how it was built.
pub(super) fn version(program: &Path) -> anyhow::Result<String> {
    let output = Command::new(program)
        .arg("--version")
        .output()
        .with_context(|| format!("cannot start {}", program.display()))?;
    let said = String::from_utf8_lossy(&output.stdout);
    let version = said.split_whitespace().last().unwrap_or("unknown");
    let revision = revision().map_or(String::new(), |revision| format!(" ({revision})"));
    let built = if program.parent().is_some_and(|d| d.ends_with("debug")) {
        ", not optimised"
    } else {
        ""
    };
    Ok(format!("{version}{revision}{built}"))
}

/// The commit of the sources that this program was built from, if they are still there.
fn revision() -> Option<String> {
    let output = Command::new("git")
        .args(["describe", "--always", "--dirty"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    (output.status.success() && !text.is_empty()).then_some(text)
}

pub(super) fn plan(program: &Path, settings: &[String], place: &Place) -> Plan {
    let ports = place.directory.join("ports.json");
    let mut arguments = vec![
        "serve".into(),
        "--data-dir".into(),
        place.directory.join("data").into_os_string(),
        "--tcp".into(),
        "127.0.0.1:0".into(),
        "--ws".into(),
        "127.0.0.1:0".into(),
        "--ports-file".into(),
        ports.clone().into_os_string(),
        "--set".into(),
        format!("server.shards={}", place.threads).into(),
    ];
    for setting in SETTINGS.into_iter().chain(settings.iter().map(|s| &**s)) {
        arguments.extend(["--set".into(), setting.into()]);
    }
    Plan {
        launch: Launch {
            bench: place.bench.clone(),
            program: program.to_owned(),
            arguments,
            cores: place.cores.clone(),
            log: place.directory.join("broker.log"),
        },
        ports: Ports::InFile(ports),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_of_the_caller_come_last_and_are_said() {
        let place = Place {
            directory: "/somewhere".into(),
            bench: PathBuf::new(),
            cores: vec![0],
            threads: 2,
            persistent: false,
        };
        let more = ["journal.durability=interval".to_owned()];
        let plan = plan(Path::new("/bin/tidings"), &more, &place);
        let words: Vec<_> = plan
            .launch
            .arguments
            .iter()
            .filter_map(|a| a.to_str())
            .collect();
        assert_eq!(words.last(), Some(&"journal.durability=interval"));
        assert!(words.contains(&"server.shards=2"));
        assert!(settings_in_words(&more).ends_with("log.level=warn, journal.durability=interval"));
    }

    #[test]
    fn a_program_that_is_not_there_is_not_started() {
        assert!(find(Some(Path::new("/no/such/tidings")), &|_| ()).is_err());
    }
}
