//! `tidings check-config`: everything that is wrong with the settings, without starting anything.

use std::process::ExitCode;

use clap::Args;
use tidings_config::Settings;

use super::{FOUND_PROBLEMS, SettingsArgs, compose, links};

#[derive(Debug, Args)]
pub(super) struct CheckConfig {
    #[command(flatten)]
    settings: SettingsArgs,
}

pub(super) fn run(args: &CheckConfig) -> anyhow::Result<ExitCode> {
    let settings = match args.settings.load() {
        Ok(settings) => settings,
        Err(errors) => {
            for line in errors.lines() {
                eprintln!("{line}");
            }
            return Ok(ExitCode::from(FOUND_PROBLEMS));
        }
    };
    let mut problems: Vec<String> = Vec::new();
    if let Err(errors) = settings.check_exposure() {
        problems.extend(errors.lines());
    }
    problems.extend(compose::rules(&settings.topics).err());
    problems.extend(tls_problem(&settings));
    problems.extend(links::problems(&settings));
    for problem in &problems {
        eprintln!("{problem}");
    }
    if problems.is_empty() {
        eprintln!("the settings are in order");
        Ok(ExitCode::SUCCESS)
    } else {
        Ok(ExitCode::from(FOUND_PROBLEMS))
    }
}

fn tls_problem(settings: &Settings) -> Option<String> {
    let problem = match compose::tls_options(&settings.tls) {
        Some(options) => options.check().err()?.to_string(),
        None => {
            let listener = settings.listeners.iter().find(|listener| listener.tls)?;
            format!(
                "{}: tls = true needs a certificate in [tls]",
                listener.origin
            )
        }
    };
    Some(format!("[tls] {problem}"))
}
