//! `tidings init`: a first configuration, a key to sign tokens with, and an administrator; and
//! `tidings token`, which signs with that key. Nothing that is there is ever overwritten.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use tidings_broker::audit::{self, Actor, AuditLog};
use tidings_broker::auth::{self, signing};
use tidings_broker::control::{self, Reply, Request};
use tidings_broker::tls::authority::{self, Authority};
use tidings_config::{Settings, Sources};
use tidings_core::account::ADMIN;

use super::{SettingsArgs, ask, owner, secret};

#[derive(Clone, Debug, Args)]
pub(super) struct Init {
    /// The settings file to write
    #[arg(long, value_name = "FILE", default_value = "tidings.toml")]
    config: PathBuf,
    /// The data directory
    #[arg(long, value_name = "DIR", default_value = "data")]
    data_dir: PathBuf,
    /// Name of the administrator; the password is asked for, or the first line of standard input
    #[arg(long, value_name = "USER", default_value = ADMIN)]
    admin: String,
    /// Also make a local CA, a certificate for localhost, and listeners with TLS
    #[arg(long)]
    tls: bool,
    /// Another name or address that the certificate is for; may be given again
    #[arg(long, value_name = "NAME", requires = "tls", value_parser = server_name)]
    tls_name: Vec<String>,
}

#[derive(Clone, Debug, Args)]
pub(super) struct Token {
    #[command(flatten)]
    settings: SettingsArgs,
    /// Data directory, instead of server.data_dir
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Whose it is; no account is needed
    user: String,
    /// A role that the token gives; may be given again
    #[arg(long, value_name = "ROLE")]
    role: Vec<String>,
    /// A room that the token lets into, where jwt.rooms_claim is "rooms"; may be given again
    #[arg(long, value_name = "ROOM")]
    room: Vec<String>,
    /// Hours that it counts
    #[arg(long, value_name = "N", default_value_t = 12)]
    hours: u32,
}

pub(super) fn run(args: &Init) -> anyhow::Result<ExitCode> {
    auth::check_user_name(&args.admin)?;
    let key = signing::private_key_file(&args.data_dir);
    let authority = Authority::in_folder(&args.data_dir.join("tls"));
    let mut wanted = vec![&args.config, &key];
    if args.tls {
        let Authority {
            ca,
            ca_key,
            cert,
            key,
        } = &authority;
        wanted.extend([ca, ca_key, cert, key]);
    }
    for path in wanted {
        if path.try_exists()? {
            bail!("{} is there already; nothing was changed", path.display());
        }
    }
    let settings = settings_of(args)?;
    let password = secret::new_password(&args.admin)?;
    ask::ask(
        &settings,
        &Request::UserAdd {
            user: args.admin.clone(),
            password: Some(password),
            roles: vec![ADMIN.to_owned()],
        },
    )?;
    owner::as_owner(&args.data_dir, || {
        signing::create_key(&args.data_dir)
            .with_context(|| format!("cannot write {}", key.display()))?;
        if args.tls {
            authority
                .create(&args.tls_name)
                .context("cannot make a CA and a certificate")?;
        }
        Ok(())
    })?;
    // Last: who has a settings file has everything that it speaks of.
    write_settings(&args.config, &args.data_dir, args.tls.then_some(&authority))
        .with_context(|| format!("cannot write {}", args.config.display()))?;
    let mut out = io::stdout().lock();
    writeln!(out, "settings       {}", args.config.display())?;
    writeln!(out, "signing key    {}", key.display())?;
    writeln!(out, "administrator  {}", args.admin)?;
    if args.tls {
        writeln!(out, "CA             {}", authority.ca.display())?;
        writeln!(out, "certificate    {}", authority.cert.display())?;
    }
    writeln!(
        out,
        "start it with: tidings serve --config {}",
        args.config.display()
    )?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn run_token(args: &Token) -> anyhow::Result<ExitCode> {
    auth::check_user_name(&args.user)?;
    let data_dir = args.settings.data_dir(args.data_dir.as_ref())?;
    let valid = Duration::from_secs(u64::from(args.hours) * 60 * 60);
    let token = signing::sign_token(&data_dir, &args.user, &args.role, &args.room, valid)
        .with_context(|| format!("no key in {}: `tidings init` makes one", data_dir.display()))?;
    if let Err(error) = note(&data_dir, args) {
        // It is signed, and counts all the same.
        writeln!(io::stderr(), "the audit log does not have it: {error:#}")?;
    }
    writeln!(io::stdout(), "{token}")?;
    Ok(ExitCode::SUCCESS)
}

/// Has it written down that a token was signed: by the broker that holds the data directory, or here.
fn note(data_dir: &Path, args: &Token) -> anyhow::Result<()> {
    let mut detail = format!("{} h", args.hours);
    for (name, given) in [("roles", &args.role), ("rooms", &args.room)] {
        if !given.is_empty() {
            detail = format!("{detail}, {name}: {}", given.join(" "));
        }
    }
    let request = Request::TokenSigned {
        user: args.user.clone(),
        detail,
    };
    match control::ask(data_dir, &request)? {
        Some(Reply::Error(error)) => bail!(error),
        Some(_) => Ok(()),
        None => {
            let actor = Actor::command_line();
            owner::as_owner(data_dir, || {
                let log = AuditLog::open(data_dir, audit::Options::default())?;
                request.note(&log, &actor);
                log.flush();
                Ok(())
            })
        }
    }
}

fn settings_of(args: &Init) -> anyhow::Result<Settings> {
    let mut settings = Settings::load(&Sources {
        file: None,
        env: Sources::process_environment(),
        set: Vec::new(),
    })?;
    settings.server.data_dir.clone_from(&args.data_dir);
    Ok(settings)
}

/// A name that can be in the certificate.
fn server_name(text: &str) -> anyhow::Result<String> {
    if !authority::is_name(text) {
        bail!("it is neither a name nor an address");
    }
    Ok(text.to_owned())
}

fn write_settings(path: &Path, data_dir: &Path, tls: Option<&Authority>) -> anyhow::Result<()> {
    let text = |path: &Path| serde_json::to_string(&path.to_string_lossy());
    let (data_dir, key) = (text(data_dir)?, text(&signing::public_key_file(data_dir))?);
    let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
    file.write_all(
        format!(
            "# Settings of this broker. What is not here is as it ships: `tidings check-config` judges,\n\
             # and the tidings.toml of the distribution explains every key.\n\
             \n\
             [server]\n\
             data_dir = {data_dir}\n\
             \n\
             # People and devices sign in: `tidings user` and `tidings device` manage them.\n\
             [auth]\n\
             mode = \"accounts\"\n\
             \n\
             # Tokens that `tidings token` signs count as passwords.\n\
             [jwt]\n\
             key_files = [{key}]\n"
        )
        .as_bytes(),
    )?;
    if let Some(tls) = tls {
        let (cert, key) = (text(&tls.cert)?, text(&tls.key)?);
        file.write_all(
            format!(
                "\n\
                 # The certificate of a local CA: clients are told to trust ca.crt beside it.\n\
                 [tls]\n\
                 certificates = [{{ cert = {cert}, key = {key} }}]\n\
                 \n\
                 # 0.0.0.0 instead of 127.0.0.1 is reached from other machines.\n\
                 [[listeners]]\n\
                 kind = \"tcp\"\n\
                 address = \"127.0.0.1:1883\"\n\
                 \n\
                 [[listeners]]\n\
                 kind = \"ws\"\n\
                 address = \"127.0.0.1:8083\"\n\
                 \n\
                 [[listeners]]\n\
                 kind = \"tcp\"\n\
                 tls = true\n\
                 address = \"127.0.0.1:8883\"\n\
                 \n\
                 # WebSocket and HTTPS.\n\
                 [[listeners]]\n\
                 kind = \"ws\"\n\
                 tls = true\n\
                 address = \"127.0.0.1:8084\"\n"
            )
            .as_bytes(),
        )?;
    }
    file.sync_all()?;
    Ok(())
}
