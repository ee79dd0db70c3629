//! `tidings audit`: what administrators did, from the files; the broker may run or not.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use tidings_broker::audit::{Act, last_of};

use super::{SettingsArgs, shown};

#[derive(Clone, Debug, Args)]
pub(super) struct Audit {
    #[command(flatten)]
    settings: SettingsArgs,
    /// Data directory, instead of server.data_dir
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// At most so many, the newest
    #[arg(long, value_name = "COUNT", default_value_t = 100)]
    last: usize,
    /// Only of this actor: a user, or uid:1000
    #[arg(long)]
    who: Option<String>,
    /// Only on this user, device, session or section
    #[arg(long)]
    whom: Option<String>,
    /// Only acts of this kind, such as user_add
    #[arg(long)]
    what: Option<String>,
    /// As JSON, a line each
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Audit) -> anyhow::Result<ExitCode> {
    let data_dir = args.settings.data_dir(args.data_dir.as_ref())?;
    let is =
        |wanted: &Option<String>, found: &str| wanted.as_ref().is_none_or(|wanted| wanted == found);
    let acts = last_of(&data_dir, args.last, |act| {
        is(&args.who, &act.who) && is(&args.whom, &act.whom) && is(&args.what, &act.what)
    })?;
    let mut out = io::stdout().lock();
    for act in acts {
        if args.json {
            serde_json::to_writer(&mut out, &act)?;
            writeln!(out)?;
        } else {
            writeln!(out, "{}", line(&act))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn line(act: &Act) -> String {
    let Act {
        ts,
        who,
        from,
        what,
        whom,
        detail,
        result,
    } = act;
    let mut line = format!("{}  {who} ({from})  {what}", utc(*ts));
    for part in [whom, detail] {
        if !part.is_empty() {
            line.push(' ');
            line.push_str(part);
        }
    }
    shown(&format!("{line}: {result}"))
}

/// A time as people read it, in UTC.
pub(super) fn utc(unix_ms: u64) -> String {
    let seconds = unix_ms / 1000;
    let (day, second) = (seconds / 86_400, seconds % 86_400);
    // Days to a date of the Gregorian calendar, by eras of 400 years that begin in March.
    let day = day + 719_468;
    let era = day / 146_097;
    let of_era = day % 146_097;
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let date = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{date:02}T{:02}:{:02}:{:02}.{:03}Z",
        second / 3600,
        second / 60 % 60,
        second % 60,
        unix_ms % 1000
    )
}

#[cfg(test)]
mod tests {
    use super::utc;

    #[test]
    fn times_are_told_in_utc() {
        assert_eq!(utc(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(utc(951_782_400_000), "2000-02-29T00:00:00.000Z");
        assert_eq!(utc(1_795_263_543_696), "2026-11-21T12:19:03.696Z");
        assert_eq!(utc(4_102_444_799_999), "2099-12-31T23:59:59.999Z");
    }
}
