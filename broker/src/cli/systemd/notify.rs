//! `NOTIFY_SOCKET`: ready, reloading, stopping, alive, and a line on how it goes.
//!
//! Invariants: who listens there is never waited for; that nobody does is no reason not to serve.

use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tidings_broker::Vitals;
use tracing::warn;

/// Time between two lines on how it goes, where nobody wants to know whether the program is alive.
const STATUS_EVERY: Duration = Duration::from_secs(30);

/// Who is to be told.
#[derive(Clone, Debug)]
pub(crate) struct Notifier {
    target: Option<Arc<Target>>,
    /// Without a sign of life for so long the program is ended.
    watchdog: Option<Duration>,
}

#[derive(Debug)]
struct Target {
    socket: UnixDatagram,
    address: SocketAddr,
}

impl Notifier {
    /// Whom the environment names; nobody, if that cannot be reached.
    pub fn from_environment() -> Self {
        let target = env::var_os("NOTIFY_SOCKET").and_then(|name| {
            let target = Target::open(&name);
            target
                .inspect_err(|error| warn!(?name, %error, "NOTIFY_SOCKET cannot be used"))
                .ok()
        });
        let own = std::process::id().to_string();
        // Meant for another process if that is said.
        let is_ours = env::var("WATCHDOG_PID").map_or(true, |id| id == own);
        let watchdog = env::var("WATCHDOG_USEC").ok().filter(|_| is_ours);
        Self {
            target: target.map(Arc::new),
            watchdog: watchdog.and_then(|text| watchdog_time(&text)),
        }
    }

    /// How often to tell that all is well; `None`: nobody listens.
    pub fn interval(&self) -> Option<Duration> {
        self.target.as_ref()?;
        // Half of it is what sd_watchdog_enabled(3) advises.
        Some(self.watchdog.map_or(STATUS_EVERY, |time| time / 2))
    }

    /// It serves.
    pub fn ready(&self, status: &str) {
        self.say(&format!("READY=1\nSTATUS={}", line(status)));
    }

    /// It reads its settings again, until it is [`Notifier::ready`].
    pub fn reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        let micros = now.tv_sec * 1_000_000 + now.tv_nsec / 1000;
        self.say(&format!("RELOADING=1\nMONOTONIC_USEC={micros}"));
    }

    /// It stops.
    pub fn stopping(&self) {
        self.say("STOPPING=1\nSTATUS=stopping");
    }

    /// How it does. Only who is well is alive: who is not shall be started anew, which recovers.
    pub fn vitals(&self, vitals: &Vitals) {
        match vitals {
            Vitals::Well { clients } => {
                let alive = self.watchdog.map_or("", |_| "WATCHDOG=1\n");
                self.say(&format!(
                    "{alive}STATUS=serving, {clients} clients connected"
                ));
            }
            Vitals::StoreFailed(cause) => {
                self.say(&format!("STATUS=the store failed: {}", line(cause)));
            }
            Vitals::Stuck(threads) => self.say(&format!("STATUS=stuck: {}", line(threads))),
        }
    }

    fn say(&self, text: &str) {
        if let Some(Target { socket, address }) = self.target.as_deref() {
            // Whoever does not listen any more misses it.
            let _ = socket.send_to_addr(text.as_bytes(), address);
        }
    }
}

impl Target {
    fn open(name: &OsStr) -> io::Result<Self> {
        let address = match name.as_bytes() {
            [b'@', rest @ ..] => SocketAddr::from_abstract_name(rest)?,
            [b'/', ..] => SocketAddr::from_pathname(name)?,
            _ => return Err(io::Error::other("neither a path nor an abstract name")),
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket, address })
    }
}

fn watchdog_time(text: &str) -> Option<Duration> {
    let micros = text.parse().ok().filter(|micros| *micros > 0)?;
    Some(Duration::from_micros(micros))
}

/// As one line: the next one would be another statement.
fn line(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(socket: &UnixDatagram) -> String {
        let mut bytes = [0; 512];
        let len = socket.recv(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes[..len]).into_owned()
    }

    fn notifier(name: &str, watchdog: Option<Duration>) -> Notifier {
        let target = Target::open(OsStr::new(name)).unwrap();
        Notifier {
            target: Some(Arc::new(target)),
            watchdog,
        }
    }

    #[test]
    fn paths_and_abstract_names_are_reached_and_each_statement_is_one_line() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("notify");
        let by_path = UnixDatagram::bind(&path).unwrap();
        notifier(path.to_str().unwrap(), None).ready("a\nSTOPPING=1");
        assert_eq!(heard(&by_path), "READY=1\nSTATUS=a STOPPING=1");

        let name = format!("tidings-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(name.as_bytes()).unwrap();
        let by_name = UnixDatagram::bind_addr(&address).unwrap();
        let notifier = notifier(&format!("@{name}"), Some(Duration::from_secs(1)));
        notifier.reloading();
        let text = heard(&by_name);
        let micros = text.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
        assert!(micros.parse::<u64>().unwrap() > 0);
        notifier.vitals(&Vitals::Well { clients: 2 });
        let text = heard(&by_name);
        assert_eq!(text, "WATCHDOG=1\nSTATUS=serving, 2 clients connected");
        notifier.vitals(&Vitals::StoreFailed("no disk".into()));
        assert_eq!(heard(&by_name), "STATUS=the store failed: no disk");
        notifier.vitals(&Vitals::Stuck("shard 0".into()));
        assert_eq!(heard(&by_name), "STATUS=stuck: shard 0");
    }

    #[test]
    fn other_names_and_times_are_no_use() {
        assert!(Target::open(OsStr::new("vsock:2:1")).is_err());
        assert!(Target::open(OsStr::new("")).is_err());
        assert_eq!(watchdog_time("0"), None);
        assert_eq!(watchdog_time("soon"), None);
        assert_eq!(watchdog_time("1500000"), Some(Duration::from_millis(1500)));
    }
}
