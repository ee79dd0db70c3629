//! `tidings completions`: a script with which a shell completes commands, flags and files.

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::{Args, CommandFactory as _, ValueEnum};
use clap_complete::{Shell, generate};

use super::Cli;

#[derive(Debug, Args)]
pub(super) struct Completions {
    /// For which shell
    shell: Of,
}

/// Shells whose scripts are tried.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Of {
    Bash,
    Zsh,
    Fish,
}

pub(super) fn run(args: &Completions) -> anyhow::Result<ExitCode> {
    let shell = match args.shell {
        Of::Bash => Shell::Bash,
        Of::Zsh => Shell::Zsh,
        Of::Fish => Shell::Fish,
    };
    let mut script = Vec::new();
    generate(shell, &mut Cli::command(), "tidings", &mut script);
    // A pipe that is closed is no panic here.
    io::stdout().write_all(&script)?;
    Ok(ExitCode::SUCCESS)
}
