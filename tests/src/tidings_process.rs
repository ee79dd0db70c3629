//! The real broker as a child process: started on free ports with a directory of its own, stopped
//! in every way a process can end, and never left behind.
//!
//! Invariants: a process is ended by its own id only, and reaped; it ends with the test, however that
//! ends; what it logged is shown if the test fails; the data directory lives as long as the value,
//! across restarts.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use serde::Deserialize;
use tempfile::TempDir;

use crate::{DEADLINE, Endpoint, Pki, binary};

/// How often a file or a child is looked at that cannot be waited for otherwise.
const LOOK: Duration = Duration::from_millis(2);

/// How a broker is to be started.
#[derive(Clone, Debug, Default)]
pub struct TidingsOptions {
    settings: Vec<String>,
    config: Option<PathBuf>,
    data_dir: Option<PathBuf>,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    listeners_of_settings: bool,
    handed_over: Vec<(String, Arc<OwnedFd>)>,
    open_files: Option<u32>,
}

impl TidingsOptions {
    /// The shipped defaults, except for the ports.
    pub fn new() -> Self {
        Self::default()
    }

    /// A setting, as `--set key=value`.
    #[must_use]
    pub fn set(mut self, key: &str, value: impl ToString) -> Self {
        self.settings.push(format!("{key}={}", value.to_string()));
        self
    }

    /// A configuration file.
    #[must_use]
    pub fn config(mut self, path: impl Into<PathBuf>) -> Self {
        self.config = Some(path.into());
        self
    }

    /// A data directory of the caller, instead of a new one that goes with the process.
    #[must_use]
    pub fn data_dir(mut self, path: impl Into<PathBuf>) -> Self {
        self.data_dir = Some(path.into());
        self
    }

    /// Another argument of `tidings serve`.
    #[must_use]
    pub fn argument(mut self, argument: impl Into<String>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// A variable of its environment.
    #[must_use]
    pub fn environment(mut self, name: &str, value: impl ToString) -> Self {
        self.environment.push((name.to_owned(), value.to_string()));
        self
    }

    /// The system gives it no more file descriptors than these.
    #[must_use]
    pub fn open_files(mut self, count: u32) -> Self {
        self.open_files = Some(count);
        self
    }

    /// Listens where the settings say, not on ports that are given as flags.
    #[must_use]
    pub fn listeners_of_settings(mut self) -> Self {
        self.listeners_of_settings = true;
        self
    }

    /// Hands over a socket that listens, under a name, as a service manager does; at most two.
    #[must_use]
    pub fn hand_over(mut self, name: &str, socket: impl Into<OwnedFd>) -> Self {
        let socket = Arc::new(socket.into());
        self.handed_over.push((name.to_owned(), socket));
        self
    }

    /// Starts the broker, and waits until it listens.
    ///
    /// # Panics
    /// If it ends instead, or does not listen in time; its log is shown.
    #[track_caller]
    pub fn start(self) -> TidingsProcess {
        let mut process = self.launch();
        process.wait_until_listening();
        process
    }

    /// Starts the broker and does not wait: it may not even have read its arguments.
    ///
    /// # Panics
    /// If the program cannot be started.
    pub fn launch(self) -> TidingsProcess {
        let home = TempDir::with_prefix("tidings-test-").expect("a temporary directory");
        let data_dir = self
            .data_dir
            .clone()
            .unwrap_or_else(|| home.path().join("data"));
        let mut process = TidingsProcess {
            options: self,
            home,
            data_dir,
            child: None,
            guard: None,
            ports: None,
        };
        process.launch_again();
        process
    }

    /// Runs a broker that is expected to refuse to start, and waits for its end.
    ///
    /// # Panics
    /// If it runs on; it is stopped then.
    #[track_caller]
    pub fn run_to_the_end(self) -> Output {
        let mut process = self.launch();
        let status = process.wait_for_the_end();
        let log = process.log().into_bytes();
        Output {
            status,
            stdout: Vec::new(),
            stderr: log,
        }
    }
}

/// Where a broker listens, as it wrote it to its ports file.
#[derive(Clone, Debug, Deserialize)]
struct Ports {
    #[serde(default)]
    tcp: Vec<SocketAddr>,
    #[serde(default)]
    ws: Vec<SocketAddr>,
    #[serde(default)]
    auto: Vec<SocketAddr>,
    #[serde(default)]
    mqtts: Vec<SocketAddr>,
    #[serde(default)]
    wss: Vec<SocketAddr>,
    #[serde(default)]
    listeners: BTreeMap<String, String>,
}

/// A running, or stopped, broker.
pub struct TidingsProcess {
    options: TidingsOptions,
    home: TempDir,
    data_dir: PathBuf,
    child: Option<Child>,
    guard: Option<Child>,
    ports: Option<Ports>,
}

impl TidingsProcess {
    /// A broker with the shipped defaults, on free ports.
    #[track_caller]
    pub fn start() -> Self {
        TidingsOptions::new().start()
    }

    /// One broker for all tests of a test program, for tests that use topics and client
    /// identifiers of their own; it speaks TLS, too. It ends with the test program, however that ends.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<TidingsProcess> = OnceLock::new();
        SHARED.get_or_init(|| {
            let pki = Pki::new();
            pki.server("server", 2, &[]);
            let address = "127.0.0.1:0";
            TidingsOptions::new()
                .argument("--mqtts")
                .argument(address)
                .argument("--wss")
                .argument(address)
                .set("tls.certificates", pki.certificates(&["server"]))
                // The files go when this returns.
                .set("tls.reload_s", 86_400)
                .start()
        })
    }

    /// Starts it again on the same data directory, with the same options and other ports.
    ///
    /// # Panics
    /// As [`TidingsOptions::start`], and if it still runs.
    #[track_caller]
    pub fn restart(&mut self) {
        self.launch_again();
        self.wait_until_listening();
    }

    /// As [`TidingsProcess::restart`], without waiting.
    ///
    /// # Panics
    /// If it still runs, or cannot be started.
    pub fn launch_again(&mut self) {
        assert!(self.child.is_none(), "the broker still runs");
        self.ports = None;
        // What an earlier start left would be taken for the new one's.
        let _ = fs::remove_file(self.ports_file());
        let log = || -> File {
            OpenOptions::new()
                .create(true)
                .append(true)
                .open(self.log_file())
                .expect("a file in a temporary directory")
        };
        let mut command = self.program();
        command.arg("serve");
        if let Some(config) = &self.options.config {
            command.arg("--config").arg(config);
        }
        command.arg("--data-dir").arg(&self.data_dir);
        for kind in ["--tcp", "--ws", "--auto"] {
            let is_given = self.options.arguments.iter().any(|given| given == kind);
            if !is_given && !self.options.listeners_of_settings {
                command.args([kind, "127.0.0.1:0"]);
            }
        }
        for setting in &self.options.settings {
            command.args(["--set", setting]);
        }
        command
            .args(&self.options.arguments)
            .arg("--ports-file")
            .arg(self.ports_file())
            // Tests must not depend on what is set where they run.
            .env_remove("RUST_LOG")
            .env("RUST_BACKTRACE", "1")
            .envs(self.options.environment.iter().cloned())
            .stderr(log());
        let mut sockets = self.options.handed_over.iter().map(|(_, socket)| socket);
        let mut next = || {
            sockets
                .next()
                .map(|socket| socket.try_clone().expect("a socket"))
        };
        command.stdin(next().map_or_else(Stdio::null, Stdio::from));
        command.stdout(next().map_or_else(|| log().into(), Stdio::from));
        let child = command.spawn();
        let child = child.unwrap_or_else(|error| panic!("{command:?}: {error}"));
        self.guard = Some(end_with_this_process(child.id()));
        self.child = Some(child);
    }

    /// The program, or a shell that becomes it once sockets have the numbers that they are to have: ours
    /// come as its standard input and output.
    fn program(&self) -> Command {
        let names: Vec<_> = self
            .options
            .handed_over
            .iter()
            .map(|(name, _)| &**name)
            .collect();
        if names.is_empty() {
            let Some(files) = self.options.open_files else {
                return Command::new(binary::tidings());
            };
            let mut command = Command::new("sh");
            let script = format!("ulimit -n {files} && exec \"$0\" \"$@\"");
            command.args(["-c", &script]).arg(binary::tidings());
            return command;
        }
        let mut command = Command::new("sh");
        let script = match names.len() {
            1 => "exec 3<&0 0</dev/null; LISTEN_PID=$$ exec \"$0\" \"$@\"",
            2 => "exec 3<&0 4<&1 0</dev/null 1>&2; LISTEN_PID=$$ exec \"$0\" \"$@\"",
            more => panic!("{more} sockets cannot be handed over here"),
        };
        command.args(["-c", script]).arg(binary::tidings());
        command
            .env("LISTEN_FDS", names.len().to_string())
            .env("LISTEN_FDNAMES", names.join(":"));
        command
    }

    /// Waits until it listens on all its ports.
    ///
    /// # Panics
    /// If it ends instead, or does not listen in time; its log is shown.
    #[track_caller]
    pub fn wait_until_listening(&mut self) {
        let until = Instant::now() + DEADLINE;
        loop {
            // The file may be seen half written: then it is no JSON yet.
            if let Ok(text) = fs::read_to_string(self.ports_file())
                && let Ok(ports) = serde_json::from_str(&text)
            {
                self.ports = Some(ports);
                return;
            }
            if let Some(status) = self.try_wait() {
                self.child = None;
                panic!("the broker did not start, {status}:\n{}", self.log());
            }
            assert!(
                Instant::now() < until,
                "the broker does not listen after {DEADLINE:?}:\n{}",
                self.log()
            );
            thread::sleep(LOOK);
        }
    }

    // ---- Where it is

    /// Its first TCP listener.
    #[track_caller]
    pub fn tcp(&self) -> Endpoint {
        Endpoint::Tcp(self.ports().tcp[0])
    }

    /// Its first WebSocket listener.
    #[track_caller]
    pub fn ws(&self) -> Endpoint {
        Endpoint::WebSocket(self.ports().ws[0])
    }

    /// TCP on the listener that recognises what is spoken.
    #[track_caller]
    pub fn auto_tcp(&self) -> Endpoint {
        Endpoint::Tcp(self.ports().auto[0])
    }

    /// WebSocket on the listener that recognises what is spoken.
    #[track_caller]
    pub fn auto_ws(&self) -> Endpoint {
        Endpoint::WebSocket(self.ports().auto[0])
    }

    /// Its first listener for MQTT in TLS, if the options have one.
    #[track_caller]
    pub fn mqtts(&self) -> SocketAddr {
        self.ports().mqtts[0]
    }

    /// Whether it has a listener for MQTT in TLS.
    pub fn speaks_tls(&self) -> bool {
        self.ports
            .as_ref()
            .is_some_and(|ports| !ports.mqtts.is_empty())
    }

    /// Its first listener for WebSocket and HTTP in TLS, if the options have one.
    #[track_caller]
    pub fn wss(&self) -> SocketAddr {
        self.ports().wss[0]
    }

    /// Waits until its log says something that it had not said when the log was `before` long.
    ///
    /// # Panics
    /// If it does not in time.
    #[track_caller]
    pub fn wait_for_log(&self, before: usize, text: &str) {
        let until = Instant::now() + DEADLINE;
        while !self.log().get(before..).unwrap_or_default().contains(text) {
            assert!(
                Instant::now() < until,
                "the log does not say {text:?}:\n{}",
                self.log()
            );
            thread::sleep(LOOK);
        }
    }

    /// The two listeners that every client may choose from.
    #[track_caller]
    pub fn endpoints(&self) -> [Endpoint; 2] {
        [self.tcp(), self.ws()]
    }

    /// The two listeners for the same in TLS, if the options have them.
    pub fn secure_endpoints(&self) -> Vec<Endpoint> {
        let ports = self.ports();
        let mqtts = ports.mqtts.iter().map(|address| Endpoint::Tls(*address));
        let wss = ports.wss.iter().map(|address| Endpoint::Wss(*address));
        mqtts.chain(wss).collect()
    }

    /// Where the listener of a name listens: address and port, or `unix:/path`.
    #[track_caller]
    pub fn listener(&self, name: &str) -> &str {
        let listeners = &self.ports().listeners;
        let found = listeners.get(name);
        found.unwrap_or_else(|| panic!("no listener {name} in {listeners:?}"))
    }

    #[track_caller]
    fn ports(&self) -> &Ports {
        self.ports.as_ref().expect("the broker listens")
    }

    /// Its process id.
    ///
    /// # Panics
    /// If it does not run.
    #[track_caller]
    pub fn id(&self) -> u32 {
        self.child.as_ref().expect("the broker runs").id()
    }

    /// Journal and state.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// A directory that goes with this value, for files of the test.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// Everything it wrote to its standard output and error so far, over all starts.
    pub fn log(&self) -> String {
        let bytes = fs::read(self.log_file()).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn log_file(&self) -> PathBuf {
        self.home.path().join("tidings.log")
    }

    fn ports_file(&self) -> PathBuf {
        self.home.path().join("ports.json")
    }

    /// Answer to a GET of `path` on the WebSocket port: status line, headers and body.
    ///
    /// # Panics
    /// If there is none.
    #[track_caller]
    pub fn get(&self, path: &str) -> String {
        let address = self.ws().address();
        let answer = (|| {
            let mut stream = TcpStream::connect_timeout(&address, DEADLINE)?;
            stream.set_read_timeout(Some(DEADLINE))?;
            write!(
                stream,
                "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
            )?;
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer)?;
            Ok::<_, std::io::Error>(String::from_utf8_lossy(&answer).into_owned())
        })();
        answer.unwrap_or_else(|error| panic!("GET {path} from {address}: {error}"))
    }

    /// A figure of `/metrics` without labels.
    ///
    /// # Panics
    /// If there is none of that name.
    #[track_caller]
    pub fn metric(&self, name: &str) -> u64 {
        let figures = self.get("/metrics");
        let line = figures
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        let value = line.and_then(|value| value.trim().parse().ok());
        value.unwrap_or_else(|| panic!("no {name} in:\n{figures}"))
    }

    /// How often a limit was reached.
    ///
    /// # Panics
    /// If there is none of that name.
    #[track_caller]
    pub fn limit_hits(&self, limit: &str) -> u64 {
        self.metric(&format!("tidings_limit_hits_total{{limit=\"{limit}\"}}"))
    }

    /// A limit was reached, at least so often: shards say so each quarter of a second.
    ///
    /// # Panics
    /// If it was not, in time.
    #[track_caller]
    pub fn expect_hits(&self, limit: &str, least: u64) {
        let until = Instant::now() + DEADLINE;
        while self.limit_hits(limit) < least {
            assert!(
                Instant::now() < until,
                "{limit} was not reached {least} times"
            );
            thread::sleep(Duration::from_millis(50));
        }
    }

    // ---- How it ends

    /// SIGKILL: it does nothing any more.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Fails only if it is gone already, which is what is wanted.
            let _ = child.kill();
            self.dismiss_the_guard();
            let _ = child.wait();
        }
    }

    /// Before the broker is reaped: afterwards its id may be another process's.
    fn dismiss_the_guard(&mut self) {
        if let Some(mut guard) = self.guard.take() {
            let _ = guard.kill();
            let _ = guard.wait();
        }
    }

    /// SIGTERM, and its end.
    ///
    /// # Panics
    /// If it does not end in time; it is killed then.
    #[track_caller]
    pub fn terminate(&mut self) -> ExitStatus {
        self.signal("TERM");
        self.wait_for_the_end()
    }

    /// SIGINT, as Ctrl-C sends it, and its end.
    ///
    /// # Panics
    /// As [`TidingsProcess::terminate`].
    #[track_caller]
    pub fn interrupt(&mut self) -> ExitStatus {
        self.signal("INT");
        self.wait_for_the_end()
    }

    /// Sends a signal (`TERM`, `INT`, `STOP`, ...) and does not wait.
    ///
    /// # Panics
    /// If it does not run.
    #[track_caller]
    pub fn signal(&self, name: &str) {
        let status = Command::new("sh")
            .args(["-c", "kill -s \"$0\" \"$1\"", name, &self.id().to_string()])
            .status()
            .expect("sh can be started");
        assert!(status.success(), "kill -s {name} {}", self.id());
    }

    /// Waits until it has ended by itself.
    ///
    /// # Panics
    /// If it does not end in time; it is killed then.
    #[track_caller]
    pub fn wait_for_the_end(&mut self) -> ExitStatus {
        let until = Instant::now() + DEADLINE;
        loop {
            if let Some(status) = self.try_wait() {
                self.child = None;
                return status;
            }
            if Instant::now() >= until {
                self.kill();
                panic!("the broker runs on after {DEADLINE:?}:\n{}", self.log());
            }
            thread::sleep(LOOK);
        }
    }

    /// How it ended, if it has.
    fn try_wait(&mut self) -> Option<ExitStatus> {
        let child = self.child.as_mut().expect("the broker was started");
        let ended = child.try_wait().expect("a child can be waited for");
        if ended.is_some() {
            self.dismiss_the_guard();
        }
        ended
    }

    /// True while it runs.
    pub fn is_running(&mut self) -> bool {
        self.child.is_some() && self.try_wait().is_none()
    }

    /// Runs another command of the program, such as `fsck`, on the data directory.
    ///
    /// # Panics
    /// If the program cannot be started.
    pub fn command(&self, name: &str) -> Output {
        tidings([
            name.as_ref(),
            "--data-dir".as_ref(),
            self.data_dir.as_os_str(),
        ])
    }

    /// What failed, with the end of the log, for a test that fails.
    fn show_log(&self) {
        const LINES: usize = 100;
        let log = self.log();
        let skipped = log.lines().count().saturating_sub(LINES);
        let end = log.lines().skip(skipped).collect::<Vec<_>>().join("\n");
        eprintln!("--- the broker said (the last {LINES} lines):\n{end}\n---");
    }
}

impl Drop for TidingsProcess {
    fn drop(&mut self) {
        self.kill();
        if thread::panicking() {
            self.show_log();
        }
    }
}

/// Runs the program with any arguments, to its end.
///
/// # Panics
/// If it cannot be started.
pub fn tidings<S: AsRef<std::ffi::OsStr>>(arguments: impl IntoIterator<Item = S>) -> Output {
    let mut command = Command::new(binary::tidings());
    command
        .args(arguments)
        .env_remove("RUST_LOG")
        .stdin(Stdio::null());
    let output = command.output();
    output.unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

/// A shell that kills `id` when our end of its standard input closes, which happens when this
/// process ends, however that is: `Drop` does not run for statics, nor after SIGKILL.
fn end_with_this_process(id: u32) -> Child {
    Command::new("sh")
        .args([
            "-c",
            "trap '' INT TERM; read -r _; kill -s KILL \"$0\"",
            &id.to_string(),
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("sh can be started")
}
