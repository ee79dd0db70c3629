//! `tidings serve`: the broker, until SIGINT or SIGTERM. SIGHUP reads the settings again.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tidings_broker::audit::Actor;
use tidings_broker::control;
use tidings_broker::listener::{Address, Kind, page_is_built};
use tidings_broker::{Broker, Running, heartbeat};
use tidings_config::{AuthMode, ListenAddress, Listener, ListenerKind, Settings};
use tokio::signal::unix::{SignalKind, signal};
use tracing::{error, info, warn};

use super::reload::reload;
use super::systemd::notify::Notifier;
use super::systemd::sockets::{HandedOver, Places};
use super::{SettingsArgs, compose, links, logging, ports_file};

/// Over the deadline of a stop, before the process ends anyway: the disk may not answer.
const GRACE: Duration = Duration::from_secs(2);

/// What the service manager shows.
const SERVING: &str = "serving";

#[derive(Clone, Debug, Default, Args)]
pub(super) struct Serve {
    #[command(flatten)]
    settings: SettingsArgs,
    /// Directory of the journal and the state, instead of server.data_dir
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Listen for MQTT on this address, such as 127.0.0.1:1883 (port 0 takes a free one) or unix:/path.
    /// Listeners given as flags replace all that are configured; may be given again
    #[arg(long, value_name = "ADDR")]
    tcp: Vec<ListenAddress>,
    /// Listen for MQTT over WebSocket, and for HTTP, on this address; may be given again
    #[arg(long, value_name = "ADDR")]
    ws: Vec<ListenAddress>,
    /// Listen for all of these on one address, told apart by the first byte; may be given again
    #[arg(long, value_name = "ADDR")]
    auto: Vec<ListenAddress>,
    /// Listen for MQTT in TLS on this address, such as 127.0.0.1:8883; may be given again
    #[arg(long, value_name = "ADDR")]
    mqtts: Vec<ListenAddress>,
    /// Listen for WebSocket and HTTP in TLS on this address; may be given again
    #[arg(long, value_name = "ADDR")]
    wss: Vec<ListenAddress>,
    /// Once listening, write the addresses to this file, as
    /// {"tcp":[..],"ws":[..],"auto":[..],"mqtts":[..],"wss":[..]}
    #[arg(long, value_name = "FILE")]
    ports_file: Option<PathBuf>,
}

impl Serve {
    /// The settings with what flags and sockets that were handed over make of them, and those sockets
    /// by the place of their listener.
    fn settings(&self, handed_over: &HandedOver) -> anyhow::Result<(Settings, Places)> {
        let mut settings = self.settings.load()?;
        if let Some(data_dir) = &self.data_dir {
            settings.server.data_dir.clone_from(data_dir);
        }
        let kinds = [
            (ListenerKind::Tcp, false, &self.tcp),
            (ListenerKind::Ws, false, &self.ws),
            (ListenerKind::Auto, false, &self.auto),
            (ListenerKind::Tcp, true, &self.mqtts),
            (ListenerKind::Ws, true, &self.wss),
        ];
        if kinds.iter().any(|(_, _, addresses)| !addresses.is_empty()) {
            let path = settings
                .listeners
                .iter()
                .find(|listener| listener.kind != ListenerKind::Tcp);
            let path = path.map_or_else(
                || Listener::default().path,
                |listener| listener.path.clone(),
            );
            settings.listeners.clear();
            for (kind, tls, addresses) in kinds {
                settings
                    .listeners
                    .extend(addresses.iter().map(|address| Listener {
                        kind,
                        address: address.clone(),
                        path: path.clone(),
                        tls,
                        ..Listener::default()
                    }));
            }
        }
        settings.name_listeners();
        let places = handed_over.place(&mut settings.listeners)?;
        settings.check_exposure()?;
        Ok((settings, places))
    }
}

pub(super) fn run(args: &Serve) -> anyhow::Result<ExitCode> {
    let handed_over = HandedOver::take()?;
    let (mut settings, places) = args.settings(&handed_over)?;
    let mut options = compose::broker_options(&settings).map_err(anyhow::Error::msg)?;
    for (listener, socket) in options.listeners.iter_mut().zip(places) {
        listener.handed_over = socket;
    }
    let wrong = links::problems(&settings);
    if !wrong.is_empty() {
        return Err(anyhow::Error::msg(wrong.join("\n")));
    }
    options.log = Some(logging::start(&settings.log)?);
    raise_file_limit(options.limits.max_connections);
    let manager = Notifier::from_environment();
    options.heartbeat = manager.interval().map(|every| heartbeat::Options {
        every,
        tell: {
            let manager = manager.clone();
            Arc::new(move |vitals| manager.vitals(&vitals))
        },
    });

    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let deadline = options.shutdown_deadline + GRACE;
    let code = runtime.block_on(async {
        // Before the start, so that a signal meanwhile is not lost.
        let mut interrupted = signal(SignalKind::interrupt())?;
        let mut terminated = signal(SignalKind::terminate())?;
        let mut hung_up = signal(SignalKind::hangup())?;
        let broker = Arc::new(Broker::start(options)?);
        let mut links = links::start(&settings, &broker);
        links.ready().await;
        let control = match control::serve(&settings.server.data_dir, broker.clone()) {
            Ok(control) => Some(control),
            Err(error) => {
                warn!(%error, "no control socket: `tidings user` and others need the broker stopped");
                None
            }
        };
        announce(&broker, &settings);
        if let Some(path) = &args.ports_file {
            ports_file::write(path, &broker)?;
        }
        manager.ready(SERVING);
        let ended = loop {
            tokio::select! {
                ended = broker.wait() => break Some(ended),
                _ = interrupted.recv() => break None,
                _ = terminated.recv() => break None,
                _ = hung_up.recv() => {
                    manager.reloading();
                    let wanted = args.settings(&handed_over).map(|(settings, _)| settings);
                    let reloaded = reload(&broker, &settings, wanted);
                    let actor = Actor {
                        who: "broker".to_owned(),
                        from: "signal".to_owned(),
                    };
                    let result = reloaded.as_ref().map(|_| ());
                    broker.audit().record(&actor, "reload", "settings", "", result);
                    match reloaded {
                        Ok(reloaded) => {
                            settings = reloaded;
                            info!("settings were read again");
                            manager.ready(SERVING);
                        }
                        Err(problem) => {
                            error!(%problem, "settings stay as they were");
                            manager.ready("serving; the new settings are wrong, see the log");
                        }
                    }
                }
            }
        };
        manager.stopping();
        let ended = match ended {
            Some(ended) => ended,
            None => {
                info!("stopping");
                drop(control);
                links.stop().await;
                broker.stop();
                match tokio::time::timeout(deadline, broker.wait()).await {
                    Ok(ended) => ended,
                    Err(_) => {
                        error!("the stop takes too long: giving up");
                        return Ok(ExitCode::FAILURE);
                    }
                }
            }
        };
        anyhow::Ok(match ended {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                error!(%error, "the broker did not stop in order");
                ExitCode::FAILURE
            }
        })
    })?;
    // What still runs now has been given up; the journal knows what counts.
    runtime.shutdown_background();
    Ok(code)
}

fn announce(broker: &Running, settings: &Settings) {
    for at in broker.listeners() {
        info!(address = %at.address, kind = at.kind.word(), tls = at.tls, name = at.name, "listening");
        if let (Kind::WebSocket | Kind::Auto, Address::Network(address)) = (at.kind, &at.address) {
            if page_is_built() {
                let scheme = if at.tls { "https" } else { "http" };
                info!("web chat: {scheme}://{address}/");
            } else {
                info!("web chat: not built, `make web` builds it");
            }
        }
    }
    if settings.auth.mode == AuthMode::Open {
        info!("open mode: any user name, no passwords");
    }
}

/// Each connection takes a file descriptor; the usual soft limit is 1024.
fn raise_file_limit(max_connections: usize) {
    // Segments, sled, listeners and connections in their handshake.
    const OTHERS: u64 = 8192;
    let wanted = max_connections as u64 + OTHERS;
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= wanted) {
        return;
    }
    let raised = limit.maximum.map_or(wanted, |maximum| wanted.min(maximum));
    let new = Rlimit {
        current: Some(raised),
        maximum: limit.maximum,
    };
    if setrlimit(Resource::Nofile, new).is_err() || raised < wanted {
        warn!(
            files = raised,
            wanted, "the limit on open files is low: raise it for so many connections"
        );
    }
}
