//! `tidings man`: the manual page, from the same words as `--help`.

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, CommandFactory as _};
use clap_mangen::{Man as Page, generate_to};

use super::Cli;

#[derive(Debug, Args)]
pub(super) struct Man {
    /// Write a page for each command into this directory, instead of printing the one of the program
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

pub(super) fn run(args: &Man) -> anyhow::Result<ExitCode> {
    let command = Cli::command().disable_help_subcommand(true);
    match &args.dir {
        Some(dir) => {
            let write = || {
                std::fs::create_dir_all(dir)?;
                generate_to(command, dir)
            };
            write().with_context(|| format!("cannot write into {}", dir.display()))?;
        }
        None => {
            let mut page = Vec::new();
            Page::new(command).render(&mut page)?;
            io::stdout().write_all(&page)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
