//! `tidings trace`: what one client, user, topic or address does, live, from the broker that runs.

use std::io::{self, Write};
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::bail;
use clap::Args;
use serde_json::Value;
use tidings_broker::control::{self, Request};
use tidings_broker::trace::Wanted;

use super::audit::utc;
use super::{SettingsArgs, shown};

#[derive(Clone, Debug, Args)]
pub(super) struct Trace {
    #[command(flatten)]
    settings: SettingsArgs,
    /// Data directory, instead of server.data_dir
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// What this client does; what else is given must fit, too
    #[arg(long, value_name = "CLIENT_ID")]
    client: Option<String>,
    /// What this user does
    #[arg(long)]
    user: Option<String>,
    /// Packets about topics that match this filter
    #[arg(long, value_name = "FILTER")]
    topic: Option<String>,
    /// What peers with this address do
    #[arg(long, value_name = "IP")]
    address: Option<IpAddr>,
    /// Show payloads, too
    #[arg(long)]
    payloads: bool,
    /// As JSON, a line each
    #[arg(long)]
    json: bool,
    /// End after so many lines
    #[arg(long, value_name = "LINES")]
    count: Option<u64>,
}

pub(super) fn run(args: &Trace) -> anyhow::Result<ExitCode> {
    let data_dir = args.settings.data_dir(args.data_dir.as_ref())?;
    let request = Request::Trace {
        wanted: Wanted {
            client: args.client.clone(),
            user: args.user.clone(),
            topic: args.topic.clone(),
            address: args.address,
            payloads: args.payloads,
        },
    };
    let mut left = args.count;
    let mut out = io::stdout().lock();
    let runs = control::follow(&data_dir, &request, |told| {
        let shown = if args.json {
            told.to_owned()
        } else {
            line(told)
        };
        // Who reads it may be gone.
        let written = writeln!(out, "{shown}").and_then(|()| out.flush());
        left = left.map(|left| left.saturating_sub(1));
        written.is_ok() && left != Some(0)
    })?;
    if !runs {
        bail!("no broker runs in {}", data_dir.display());
    }
    Ok(ExitCode::SUCCESS)
}

/// Time, who, which way, what; and then everything else, as it came.
fn line(told: &str) -> String {
    let Ok(Value::Object(mut told)) = serde_json::from_str(told) else {
        return told.to_owned();
    };
    let mut take = |key: &str| match told.remove(key) {
        Some(Value::String(text)) => text,
        Some(value) => value.to_string(),
        None => String::new(),
    };
    if let dropped @ 1.. = take("dropped").parse().unwrap_or(0_u64) {
        return format!(
            "... {dropped} lines were dropped: this terminal is slower than what it shows"
        );
    }
    let time = utc(take("ts").parse().unwrap_or(0));
    let arrow = match take("direction").as_str() {
        "in" => "->",
        "out" => "<-",
        _ => "--",
    };
    let (client, user, door) = (take("client_id"), take("user"), take("door"));
    let (address, packet, event) = (take("address"), take("packet"), take("event"));
    let mut line = format!("{time} {client}");
    if !user.is_empty() {
        line.push_str(&format!(" ({user})"));
    }
    line.push_str(&format!(" {door}"));
    if !address.is_empty() {
        line.push_str(&format!(" {address}"));
    }
    line.push_str(&format!(" {arrow} {packet}{event}"));
    for (key, value) in told {
        line.push_str(&format!(" {key}={value}"));
    }
    shown(&line)
}
