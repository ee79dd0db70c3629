//! A broker's process: started on its cores, watched, killed by id, never left behind.
//!
//! Invariants: the process is a child of ours and is reaped by us, so its id cannot be another
//! process's when it is signalled; it ends with the thread that started it, however that ends (the
//! kernel sees to that, see [`become_program`]); what it wrote is in its log file and shown when it
//! fails. Knows nothing of any particular broker.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::process::{Pid, Resource, Signal, getrlimit, kill_process, setrlimit};

use super::pinning;

/// The hidden subcommand of `tidings-bench` that becomes the broker, see [`become_program`].
pub const SUBCOMMAND: &str = "become";

/// How long a broker may take until it listens; rumqttd allocates before it does, and a restart
/// reads what was kept. Nothing but a failure waits so long.
const START_DEADLINE: Duration = Duration::from_secs(60);

/// How often a port or a file is looked at that cannot be waited for otherwise.
const LOOK: Duration = Duration::from_millis(2);

/// Lines of a log that are worth showing in an error.
const LOG_LINES: usize = 15;

/// The processes that run, for [`kill_all`]. An id is taken out before its process is reaped.
static RUNNING: Mutex<Running> = Mutex::new(Running {
    ids: Vec::new(),
    closed: false,
});

struct Running {
    ids: Vec<u32>,
    /// No more may start: this program is about to exit.
    closed: bool,
}

/// What is to be started, and where.
#[derive(Clone, Debug)]
pub struct Launch {
    /// The program `tidings-bench`, which becomes the broker.
    pub bench: PathBuf,
    /// The broker's program.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// Cores it may run on; empty: all.
    pub cores: Vec<usize>,
    /// Where its standard output and error go, appended.
    pub log: PathBuf,
}

/// A broker that runs.
#[derive(Debug)]
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts the program; it may not listen yet.
    ///
    /// # Errors
    /// If the log cannot be made or the program cannot be started.
    pub fn start(launch: &Launch) -> anyhow::Result<Self> {
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&launch.log)
            .with_context(|| format!("log {}", launch.log.display()))?;
        let mut command = Command::new(&launch.bench);
        command
            .arg(SUBCOMMAND)
            .arg("--parent")
            .arg(std::process::id().to_string());
        if !launch.cores.is_empty() {
            command.arg("--cores").arg(pinning::list(&launch.cores));
        }
        command
            .arg("--")
            .arg(&launch.program)
            .args(&launch.arguments)
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            // Ctrl-C is for us; we end the broker.
            .process_group(0);
        // Held while it starts, so that it cannot be overlooked.
        let mut running = running();
        if running.closed {
            bail!("interrupted");
        }
        let child = command
            .spawn()
            .with_context(|| format!("cannot start {}", launch.bench.display()))?;
        running.ids.push(child.id());
        drop(running);
        Ok(Self {
            child,
            log: launch.log.clone(),
        })
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until `ready` yields something, or the process ends instead.
    ///
    /// # Errors
    /// If it ends, or is not ready in time; with the end of its log.
    pub fn wait_until<T>(&mut self, mut ready: impl FnMut() -> Option<T>) -> anyhow::Result<T> {
        let until = Instant::now() + START_DEADLINE;
        loop {
            let value = ready();
            // Looked at after the port: who answers there is then our child, and nobody who took
            // the port while it failed to.
            if let Some(status) = self.child.try_wait()? {
                bail!("it ended, {status}: {}", self.end_of_log());
            }
            if let Some(value) = value {
                return Ok(value);
            }
            if Instant::now() >= until {
                bail!(
                    "it does not listen after {START_DEADLINE:?}: {}",
                    self.end_of_log()
                );
            }
            thread::sleep(LOOK);
        }
    }

    /// Waits until all of `addresses` accept connections.
    ///
    /// # Errors
    /// As [`Process::wait_until`].
    pub fn wait_until_listening(&mut self, addresses: &[SocketAddr]) -> anyhow::Result<()> {
        for address in addresses {
            self.wait_until(|| TcpStream::connect(address).ok())?;
        }
        Ok(())
    }

    /// SIGKILL, and reaps it.
    pub fn kill(&mut self) {
        // Before it is reaped: afterwards the id may be another process's.
        running().ids.retain(|id| *id != self.child.id());
        // Fails only if it has ended already, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    fn end_of_log(&self) -> String {
        let text = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        let shown = lines.len().saturating_sub(LOG_LINES);
        lines.get(shown..).unwrap_or_default().join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

fn running() -> MutexGuard<'static, Running> {
    // A list of numbers is whole, whoever panicked while holding it.
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Kills every broker that this program started, for a run that hangs.
pub fn kill_all() {
    // Held until the end: nobody starts or reaps a broker meanwhile.
    running().ids.iter().copied().for_each(kill);
}

/// Kills every broker that this program started, and lets no more start: it exits without unwinding.
pub fn close() {
    let mut running = running();
    running.closed = true;
    running.ids.iter().copied().for_each(kill);
}

/// SIGKILL to a child of ours that is not reaped yet.
fn kill(id: u32) {
    if let Some(id) = i32::try_from(id).ok().and_then(Pid::from_raw) {
        // Fails only if it has ended already, which is what is wanted.
        let _ = kill_process(id, Signal::KILL);
    }
}

/// Turns this process into `command`, pinned to `cores` and with as many open files as are allowed.
/// On Linux the kernel kills it when the thread that started it ends.
///
/// # Errors
/// If any of this fails. There is no other way to return.
pub fn become_program(
    parent: u32,
    cores: &[usize],
    command: &[OsString],
) -> anyhow::Result<std::convert::Infallible> {
    #[cfg(target_os = "linux")]
    {
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        if std::os::unix::process::parent_id() != parent {
            bail!("whoever started this has ended already");
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = parent;
    if !cores.is_empty() {
        pinning::pin_this_thread(cores)?;
    }
    raise_open_files()?;
    let (program, arguments) = command.split_first().context("no program given")?;
    let error = Command::new(program).args(arguments).exec();
    Err(error).with_context(|| format!("cannot start {}", program.display()))
}

/// As many open files as the system allows this process: one per connection is needed.
///
/// # Errors
/// If the system refuses.
pub fn raise_open_files() -> anyhow::Result<()> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit)?;
    Ok(())
}
