//! `tidings user` and `tidings device`: who may sign in.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::bail;
use clap::{Args, Subcommand};
use tidings_broker::control::{Account, Reply, Request};
use tidings_core::account::ADMIN;

use super::{SettingsArgs, ask, secret};

#[derive(Clone, Debug, Args)]
pub(super) struct User {
    #[command(flatten)]
    place: Place,
    #[command(subcommand)]
    command: UserCommand,
}

#[derive(Clone, Debug, Args)]
pub(super) struct Device {
    #[command(flatten)]
    place: Place,
    #[command(subcommand)]
    command: DeviceCommand,
}

/// Where the accounts are.
#[derive(Clone, Debug, Args)]
struct Place {
    #[command(flatten)]
    settings: SettingsArgs,
    /// Data directory, instead of server.data_dir
    #[arg(long, value_name = "DIR", global = true)]
    data_dir: Option<PathBuf>,
}

#[derive(Clone, Debug, Subcommand)]
enum UserCommand {
    /// Add a person; the password is asked for, or the first line of standard input
    Add {
        /// The name: one topic level
        user: String,
        /// A role, such as admin; may be given again
        #[arg(long, value_name = "ROLE")]
        role: Vec<String>,
        /// The person signs in by other means
        #[arg(long)]
        no_password: bool,
    },
    /// Set a password, and end the sessions of whoever used the old one
    Passwd {
        /// The name
        user: String,
    },
    /// Give a person exactly these roles, from the next time they sign in
    Roles {
        /// The name
        user: String,
        /// All roles from now on
        roles: Vec<String>,
    },
    /// Lock a person out, with their devices; their sessions end at once
    Disable {
        /// The name
        user: String,
    },
    /// Let a person in again
    Enable {
        /// The name
        user: String,
    },
    /// Remove a person, their devices and their sessions; what they published stays, and nobody gets
    /// the name again
    Delete {
        /// The name
        user: String,
    },
    /// List people
    List,
}

#[derive(Clone, Debug, Subcommand)]
enum DeviceCommand {
    /// Add a device and print its token, which is shown only now: it signs in with its name and that
    Add {
        /// The name: one topic level
        device: String,
        /// Whose it is
        #[arg(long, value_name = "USER", default_value = ADMIN)]
        owner: String,
    },
    /// Remove a device with its token; its sessions end at once
    Revoke {
        /// The name
        device: String,
    },
    /// List devices
    List,
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

pub(super) fn run_user(args: &User) -> anyhow::Result<ExitCode> {
    let request = match args.command.clone() {
        UserCommand::Add {
            user,
            role,
            no_password,
        } => Request::UserAdd {
            password: match no_password {
                true => None,
                false => Some(secret::new_password(&user)?),
            },
            user,
            roles: role,
        },
        UserCommand::Passwd { user } => Request::UserPasswd {
            password: secret::new_password(&user)?,
            user,
        },
        UserCommand::Roles { user, roles } => Request::UserRoles { user, roles },
        UserCommand::Disable { user } => Request::UserDisable { user },
        UserCommand::Enable { user } => Request::UserEnable { user },
        UserCommand::Delete { user } => Request::UserDelete { user },
        UserCommand::List => Request::UserList {},
    };
    show(args.place.ask(&request)?)
}

pub(super) fn run_device(args: &Device) -> anyhow::Result<ExitCode> {
    let request = match args.command.clone() {
        DeviceCommand::Add { device, owner } => Request::DeviceAdd { device, owner },
        DeviceCommand::Revoke { device } => Request::DeviceRevoke { device },
        DeviceCommand::List => Request::DeviceList {},
    };
    show(args.place.ask(&request)?)
}

fn show(reply: Reply) -> anyhow::Result<ExitCode> {
    let mut out = io::stdout().lock();
    match reply {
        Reply::Done => {}
        Reply::Token(token) => writeln!(out, "{token}")?,
        Reply::Accounts(accounts) => {
            let longest = |account: &Account| account.user.chars().count();
            let width = accounts.iter().map(longest).max().unwrap_or_default();
            for account in accounts {
                let words = describe(&account);
                writeln!(out, "{:width$}  {words}", account.user)?;
            }
        }
        Reply::Bans(_) => bail!("the broker answered something else"),
        Reply::Error(error) => bail!(error),
    }
    Ok(ExitCode::SUCCESS)
}

fn describe(account: &Account) -> String {
    let mut words = vec![
        if account.enabled {
            "enabled"
        } else {
            "disabled"
        }
        .to_owned(),
    ];
    if account.secret == "none" {
        words.push("no password".to_owned());
    }
    if let Some(owner) = &account.owner {
        words.push(format!("of {owner}"));
    }
    words.extend(account.roles.iter().cloned());
    words.join(", ")
}
