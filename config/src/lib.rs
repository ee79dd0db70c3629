//! The settings of Tidings: one struct per section of `tidings.toml`, which documents every key.
//!
//! Precedence: shipped defaults < file < environment (`TIDINGS_SECTION__KEY`) < flags
//! (`--set section.key=value`). A list of tables (`[[listeners]]`, `[[topics]]`, `[[bridges]]`) is
//! replaced as a whole, never merged.
//! A [`Settings`] that was loaded is complete and within its bounds; everything wrong is reported
//! together, with file and line.
//!
//! This crate does not know what the settings are for: topic patterns and permission expressions
//! stay text here, with their line, for the broker's compiler to judge.

mod auth;
mod auth_hook;
mod bridges;
mod errors;
mod http;
mod jwt;
mod layers;
mod limits;
mod listen;
mod logging;
mod mqtt;
mod node;
mod people;
mod reader;
mod rooms;
mod server;
#[cfg(test)]
mod shipped;
mod storage;
mod tls;
mod topics;
mod visibility;
mod websocket;

use std::env;
use std::path::PathBuf;

pub use auth::{Auth, AuthMode};
pub use auth_hook::AuthHook;
pub use bridges::{AddressError, Bridge, BridgeAddress, BridgeTopic, Direction, Secret, Transport};
pub use errors::{ConfigErrors, Origin};
pub use http::{Http, MetricsAccess};
pub use jwt::Jwt;
pub use limits::Limits;
pub use listen::{ListenAddress, ListenAddressError, Networks, SocketMode};
pub use logging::{Level, Log, LogFormat, Sys};
pub use mqtt::Mqtt;
pub use people::{People, VisibleTo};
pub use rooms::{RoomMode, Rooms};
pub use server::{Listener, ListenerAuth, ListenerKind, Server};
pub use storage::{Durability, Journal, State};
pub use tls::{Certificate, ClientAuth, ClientName, MinVersion, Tls};
pub use topics::{Keep, Relay, TopicRule};
pub use visibility::{Audit, Otel};
pub use websocket::WebSocket;

use errors::Problem;
use layers::Layers;
use reader::Reader;

/// Where settings come from, weakest first; the shipped defaults lie below all of them.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The configuration file, if one was named or found.
    pub file: Option<PathBuf>,
    /// Environment variables. Those that are not `TIDINGS_SECTION__KEY` are ignored.
    pub env: Vec<(String, String)>,
    /// `section.key=value` of each `--set` flag, in order.
    pub set: Vec<String>,
}

impl Sources {
    /// The variables of this process that are text; others cannot be settings.
    pub fn process_environment() -> Vec<(String, String)> {
        env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect()
    }
}

/// All settings. The field names are those of the file, and so are the units at their ends.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// `[server]`: the process.
    pub server: Server,
    /// `[[listeners]]`: where clients connect.
    pub listeners: Vec<Listener>,
    /// `[tls]`: certificates of the listeners, and of their clients.
    pub tls: Tls,
    /// `[auth]`: who may connect.
    pub auth: Auth,
    /// `[rooms]`: who is in which room.
    pub rooms: Rooms,
    /// `[people]`: who is here, and who may see it.
    pub people: People,
    /// `[jwt]`: signed tokens of somebody else.
    pub jwt: Jwt,
    /// `[auth_hook]`: a program that is asked who may come in.
    pub auth_hook: AuthHook,
    /// `[http]`: the HTTP API.
    pub http: Http,
    /// `[websocket]`: how WebSockets are spoken.
    pub websocket: WebSocket,
    /// `[mqtt]`: what a client may ask for.
    pub mqtt: Mqtt,
    /// `[limits]`: bounds on the whole server.
    pub limits: Limits,
    /// `[journal]`: messages on disk.
    pub journal: Journal,
    /// `[state]`: the indexed view of the journal.
    pub state: State,
    /// `[[topics]]`: who may use which topics, and what is kept; the first match decides.
    pub topics: Vec<TopicRule>,
    /// `[[bridges]]`: links to other brokers.
    pub bridges: Vec<Bridge>,
    /// `[log]`: what is logged, and how.
    pub log: Log,
    /// `[sys]`: the statistics topics.
    pub sys: Sys,
    /// `[audit]`: what administrators did.
    pub audit: Audit,
    /// `[otel]`: an OpenTelemetry collector.
    pub otel: Otel,
}

impl Default for Settings {
    /// The shipped file.
    fn default() -> Self {
        // A test proves that the shipped file has no error, so nothing is dropped here.
        Self::read(Layers::shipped()).0
    }
}

impl Settings {
    /// Reads all sources.
    ///
    /// # Errors
    /// Everything that is wrong with them: a file that cannot be read or is not TOML, unknown
    /// sections and keys, wrong types, values out of range. One line each, with its place.
    pub fn load(sources: &Sources) -> Result<Self, ConfigErrors> {
        let mut layers = Layers::shipped();
        if let Some(path) = &sources.file {
            layers.add_file(path);
        }
        layers.add_environment(&sources.env);
        layers.add_flags(&sources.set);
        Self::judged(layers)
    }

    /// Reads the text of a file that need not be on disk, and nothing else; `name` is what problems call it.
    ///
    /// # Errors
    /// As for [`Settings::load`].
    pub fn parse(name: &str, text: &str) -> Result<Self, ConfigErrors> {
        let mut layers = Layers::shipped();
        layers.add_text_of_file(&name.into(), text);
        Self::judged(layers)
    }

    fn judged(layers: Layers) -> Result<Self, ConfigErrors> {
        let (settings, problems) = Self::read(layers);
        match ConfigErrors::from_problems(problems) {
            None => Ok(settings),
            Some(errors) => Err(errors),
        }
    }

    fn read(layers: Layers) -> (Self, Vec<Problem>) {
        let (sections, origins, problems) = layers.merge();
        let mut reader = Reader {
            sections,
            origins: &origins,
            problems,
        };
        let mut settings = Self {
            server: reader.section("server"),
            listeners: reader.list("listeners"),
            tls: reader.section("tls"),
            auth: reader.section("auth"),
            rooms: reader.section("rooms"),
            people: reader.section("people"),
            jwt: reader.section("jwt"),
            auth_hook: reader.section("auth_hook"),
            http: reader.section("http"),
            websocket: reader.section("websocket"),
            mqtt: reader.section("mqtt"),
            limits: reader.section("limits"),
            journal: reader.section("journal"),
            state: reader.section("state"),
            topics: reader.list("topics"),
            bridges: reader.list("bridges"),
            log: reader.section("log"),
            sys: reader.section("sys"),
            audit: reader.section("audit"),
            otel: reader.section("otel"),
        };
        let mut problems = reader.problems;
        settings.check_names(&mut problems);
        settings.name_listeners();
        // What could not be read is as by default, and would only add errors that are not there.
        if problems.is_empty() {
            settings.check_listeners(&mut problems);
        }
        (settings, problems)
    }

    /// Gives listeners without a name one: their kind, and from the second on a number, as `tcp`, `tcp-2`.
    pub fn name_listeners(&mut self) {
        for index in 0..self.listeners.len() {
            let Some(listener) = self.listeners.get(index) else {
                return;
            };
            if !listener.name.is_empty() {
                continue;
            }
            let word = listener.kind.word();
            let is_free = |name: &String| self.listeners.iter().all(|other| other.name != *name);
            let numbered = (2..).map(|number| format!("{word}-{number}"));
            let name = std::iter::once(word.to_owned())
                .chain(numbered)
                .find(is_free);
            if let (Some(name), Some(listener)) = (name, self.listeners.get_mut(index)) {
                listener.name = name;
            }
        }
    }

    /// Two listeners of one name could not be told apart, two of one address could not both be there.
    fn check_listeners(&self, problems: &mut Vec<Problem>) {
        for (index, listener) in self.listeners.iter().enumerate() {
            let before = || self.listeners.iter().take(index);
            let mut refuse = |key: &str, what: String| {
                problems.push(Problem {
                    origin: listener.origin.clone(),
                    key: format!("[[listeners]] {key}"),
                    what,
                });
            };
            if let Some(first) = before().find(|other| other.name == listener.name) {
                let (name, origin) = (&listener.name, &first.origin);
                refuse(
                    "name",
                    format!("\"{name}\" is taken by the listener at {origin}"),
                );
            }
            let is_given = match &listener.address {
                ListenAddress::Network(address) => address.port() != 0,
                ListenAddress::Unix(_) => true,
            };
            let is_same = |other: &&Listener| other.address == listener.address;
            if let Some(first) = before().find(is_same).filter(|_| is_given) {
                let (address, origin) = (&listener.address, &first.origin);
                refuse(
                    "address",
                    format!("{address} is taken by the listener at {origin}"),
                );
            }
        }
    }

    /// Whether clients of a listener are who they say they are.
    pub fn is_open(&self, listener: &Listener) -> bool {
        match listener.auth {
            ListenerAuth::Inherit => self.auth.mode == AuthMode::Open,
            ListenerAuth::Open => true,
            ListenerAuth::Accounts => false,
        }
    }

    /// Two links of one name would share a session, and with it a position.
    fn check_names(&self, problems: &mut Vec<Problem>) {
        for (index, bridge) in self.bridges.iter().enumerate() {
            let is_same = |other: &&Bridge| other.name == bridge.name && !bridge.name.is_empty();
            if let Some(first) = self.bridges.iter().take(index).find(is_same) {
                problems.push(Problem {
                    origin: bridge.origin.clone(),
                    key: "[[bridges]] name".to_owned(),
                    what: format!(
                        "\"{}\" is taken by the bridge at {}",
                        bridge.name, first.origin
                    ),
                });
            }
        }
    }

    /// Replaces all listeners of a kind, as flags such as `--tcp ADDRESS` do.
    ///
    /// With no addresses nothing changes.
    pub fn replace_listeners(&mut self, kind: ListenerKind, addresses: &[std::net::SocketAddr]) {
        if addresses.is_empty() {
            return;
        }
        let path = self
            .listeners
            .iter()
            .find(|listener| listener.kind == kind)
            .map_or_else(
                || Listener::default().path,
                |listener| listener.path.clone(),
            );
        self.listeners.retain(|listener| listener.kind != kind);
        self.listeners
            .extend(addresses.iter().map(|&address| Listener {
                kind,
                address: address.into(),
                path: path.clone(),
                ..Listener::default()
            }));
        self.name_listeners();
    }

    /// Refuses listeners in open mode, where anyone may be anyone, that other machines can reach, by their
    /// address or through a proxy, unless `server.allow_public_open_mode` says that it is meant. To be
    /// called when no more listeners will be added.
    ///
    /// # Errors
    /// One line per listener.
    pub fn check_exposure(&self) -> Result<(), ConfigErrors> {
        if self.server.allow_public_open_mode {
            return Ok(());
        }
        let open = self
            .listeners
            .iter()
            .filter(|listener| self.is_open(listener));
        let exposed = open.filter_map(|listener| {
            let (key, how) = if listener.address.is_public() {
                ("address", "can be reached from other machines")
            } else if listener.proxy_protocol {
                ("proxy_protocol", "is reached from other machines through a proxy")
            } else if listener.forwarded_for {
                ("forwarded_for", "is reached from other machines through a proxy")
            } else {
                return None;
            };
            Some(Problem {
                origin: listener.origin.clone(),
                key: format!("[[listeners]] {key}"),
                what: format!(
                    "{} {how}, and in open mode nobody needs a password; listen on 127.0.0.1, or set \
                     server.allow_public_open_mode = true if this is meant",
                    listener.address
                ),
            })
        });
        ConfigErrors::from_problems(exposed.collect()).map_or(Ok(()), Err)
    }
}
