//! `tidings ban`, `tidings unban` and `tidings bans`: who is kept out.

use std::io::{self, Write};
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::bail;
use clap::Args;
use tidings_broker::control::{BanLine, Reply, Request};
use tidings_broker::limits::Banned;

use super::{SettingsArgs, ask, shown};

#[derive(Clone, Debug, Args)]
pub(super) struct Ban {
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    who: Who,
    /// How long, in seconds; without it, until `tidings unban`
    #[arg(long, value_name = "N")]
    seconds: Option<u64>,
    /// What for: shown by `tidings bans`
    #[arg(long, value_name = "TEXT", default_value = "")]
    why: String,
}

#[derive(Clone, Debug, Args)]
pub(super) struct Unban {
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    who: Who,
}

#[derive(Clone, Debug, Args)]
pub(super) struct Bans {
    #[command(flatten)]
    place: Place,
}

#[derive(Clone, Debug, Args)]
struct Place {
    #[command(flatten)]
    settings: SettingsArgs,
    /// Directory of the journal and the state, instead of server.data_dir
    #[arg(long, value_name = "DIR", global = true)]
    data_dir: Option<PathBuf>,
}

/// One of the three, or a client of one user.
#[derive(Clone, Debug, Args)]
struct Who {
    /// An address; of IPv6 its /64
    #[arg(long, value_name = "IP", conflicts_with_all = ["user", "client"], required_unless_present_any = ["user", "client"])]
    address: Option<IpAddr>,
    /// A user, on all devices; with --client only that one
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// A client identifier
    #[arg(long, value_name = "ID")]
    client: Option<String>,
}

impl Who {
    fn banned(&self) -> anyhow::Result<Banned> {
        match (self.address, self.user.clone(), self.client.clone()) {
            (Some(address), None, None) => Ok(Banned::Address(address)),
            (None, Some(user), None) => Ok(Banned::User(user)),
            (None, user, Some(client)) => Ok(Banned::Client(client, user)),
            _ => bail!("say --address, --user or --client"),
        }
    }
}

impl Place {
    fn ask(&self, request: &Request) -> anyhow::Result<Reply> {
        let mut settings = self.settings.load()?;
        if let Some(data_dir) = &self.data_dir {
            settings.server.data_dir.clone_from(data_dir);
        }
        ask::ask(&settings, request)
    }
}

pub(super) fn run_ban(args: &Ban) -> anyhow::Result<ExitCode> {
    let request = Request::Ban {
        who: args.who.banned()?,
        seconds: args.seconds,
        why: args.why.clone(),
    };
    args.place.ask(&request)?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn run_unban(args: &Unban) -> anyhow::Result<ExitCode> {
    let who = args.who.banned()?;
    args.place.ask(&Request::Unban { who })?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn run_bans(args: &Bans) -> anyhow::Result<ExitCode> {
    let Reply::Bans(bans) = args.place.ask(&Request::BanList {})? else {
        bail!("the broker answered something else");
    };
    let mut out = io::stdout().lock();
    for BanLine { who, ban } in bans {
        let until = match ban.until {
            Some(until) => format!("{} s more", until.saturating_sub(now_ms()) / 1000),
            None => "until it is ended".to_owned(),
        };
        let (who, why) = (shown(&who.to_string()), shown(&ban.why));
        let by = if ban.by_hand { "by hand" } else { "by itself" };
        let colon = if why.is_empty() { "" } else { ": " };
        writeln!(
            out,
            "{who}  {until}, {by}, refused {}{colon}{why}",
            ban.refused
        )?;
    }
    Ok(ExitCode::SUCCESS)
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}
