//! `tidings dump`: the journal as JSON lines, also while a broker writes it.

use std::io::{self, BufWriter, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::bail;
use clap::Args;
use tidings_bridge::journal::segments::dump;
use tidings_bridge::journal::segments::fs::{Fs, RealFs};
use tidings_broker::store::journal_folder;
use tidings_core::message::Offset;
use tidings_core::topic;

use super::SettingsArgs;

#[derive(Clone, Debug, Args)]
pub(super) struct Dump {
    #[command(flatten)]
    settings: SettingsArgs,
    /// Data directory, instead of server.data_dir
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// First offset to print
    #[arg(long, value_name = "OFFSET", default_value_t = 0)]
    from: u64,
    /// Only messages on topics that match this filter
    #[arg(long, value_name = "FILTER")]
    topic: Option<String>,
}

pub(super) fn run(args: &Dump) -> anyhow::Result<ExitCode> {
    if let Some(filter) = &args.topic
        && let Err(error) = topic::validate_filter(filter)
    {
        bail!("--topic {filter}: {error}");
    }
    let folder = journal_folder(&args.settings.data_dir(args.data_dir.as_ref())?);
    if !folder.is_dir() {
        bail!("{} is not there", folder.display());
    }
    let fs: Arc<dyn Fs> = Arc::new(RealFs::new(folder)?);
    let mut out = BufWriter::new(io::stdout().lock());
    let result = print(args, fs, &mut out).and_then(|()| Ok(out.flush()?));
    match result {
        // Whoever read what is printed has seen enough.
        Err(error) if is_broken_pipe(&error) => Ok(ExitCode::SUCCESS),
        result => result.map(|()| ExitCode::SUCCESS),
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .downcast_ref()
        .is_some_and(|error: &io::Error| error.kind() == io::ErrorKind::BrokenPipe)
}

fn print(args: &Dump, fs: Arc<dyn Fs>, out: &mut impl io::Write) -> anyhow::Result<()> {
    for entry in dump(fs, Offset(args.from))? {
        let entry = entry?;
        let is_wanted = args.topic.as_ref().is_none_or(|filter| {
            entry
                .get("topic")
                .and_then(|topic| topic.as_str())
                .is_some_and(|topic| topic::matches(filter, topic))
        });
        if is_wanted {
            writeln!(out, "{entry}")?;
        }
    }
    Ok(())
}
