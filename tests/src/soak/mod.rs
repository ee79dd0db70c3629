//! The soak: one broker under a mixed load for as long as one likes, while it is killed, its
//! certificates and settings change, and strangers try their luck.
//!
//! * The publishers, subscribers and people of the crash test, at a pace that can be kept for hours:
//!   in the end nothing that was acknowledged is missing, doubled at QoS 2 or out of order.
//! * [`visitors`]: mosquitto's clients through TLS, and a reader of events over HTTP.
//! * [`crowd`]: hundreds of connections that come, subscribe, publish, and go in every way.
//! * [`strangers`]: from an address of their own, with bytes that are no MQTT.
//!
//! From time to time memory, descriptors, disk and what the broker counts are noted, and in the end
//! what it logged as a warning or an error: [`report`].

mod crowd;
mod report;
mod strangers;
mod visitors;

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::crash::board::{Board, Pace};
use crate::crash::room::{self, Guest, Talker};
use crate::crash::{check_the_files, fsck, publishers, subscribers};
use crate::seeded::Seeded;
use crate::{Pki, TidingsOptions, TidingsProcess};
use crowd::Crowd;
use strangers::Strangers;
use visitors::{EventReader, TlsVisitor};

pub use report::{Report, Sample};

/// What to do.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// All of it.
    pub time: Duration,
    /// Between two notes of the figures.
    pub sample_every: Duration,
    /// Between two changes of certificate and settings.
    pub reload_every: Duration,
    /// Between two ends of the broker: SIGKILL, and every third time SIGTERM.
    pub kill_every: Duration,
    /// Decides all that is not left to the system.
    pub seed: u64,
}

const PACE: Pace = Pace {
    publish: Duration::from_millis(200),
    talk: Duration::from_millis(250),
    come_and_go: Duration::from_secs(1),
};
/// In the end something must arrive at least this often.
const STANDSTILL: Duration = Duration::from_secs(60);
/// Bytes of a file of the journal.
const SEGMENT_BYTES: u32 = 8 << 20;
/// Threads of a crowd.
const CROWDS: u64 = 2;

/// Runs the soak, calling `progress` with each note.
///
/// # Errors
/// What was violated, one sentence each, and the report.
///
/// # Panics
/// If the broker does not start again, or the system does not tell figures.
pub fn run(options: Options, mut progress: impl FnMut(&Sample)) -> Result<Report, String> {
    let mut random = Seeded::new(options.seed);
    let mut house = House::open();
    let mut subscribers = subscribers(&mut random);
    for subscriber in &mut subscribers {
        subscriber.subscribe(&house.broker);
    }
    let mut publishers = publishers(&mut random);
    let mut talkers =
        [("ann", 200), ("bob", 201)].map(|(user, number)| Talker::new(user, random.fork(number)));
    let mut guest = Guest::new();
    room::prepare(&house.broker, &talkers);
    let mut by_tls = TlsVisitor::new(house.pki.path("ca.crt"));
    let mut by_http = EventReader::new();
    let mut strangers = Strangers::new(random.fork(300));
    let mut crowds: Vec<_> = (0..CROWDS)
        .map(|number| Crowd::new(number, random.fork(400 + number)))
        .collect();
    let speakers = publishers.len() + talkers.len() + 1;
    let board = Board::new(PACE, speakers, subscribers.len());
    let mut report = Report::new(options.seed);

    thread::scope(|scope| {
        // Whatever happens here, the others must end, or the scope does not.
        let _give_up = board.give_up_at_the_end();
        for publisher in &mut publishers {
            scope.spawn(|| publisher.run(&board));
        }
        for talker in &mut talkers {
            scope.spawn(|| talker.run(&board));
        }
        scope.spawn(|| guest.run(&board));
        for subscriber in &mut subscribers {
            scope.spawn(|| subscriber.run(&board));
        }
        for crowd in &mut crowds {
            scope.spawn(|| crowd.run(&board));
        }
        scope.spawn(|| strangers.run(&board));
        scope.spawn(|| by_tls.run(&board));
        scope.spawn(|| by_http.run(&board));
        board.broker_is_up(&house.broker);
        house.keep_busy(options, &board, &mut report, &mut progress);
        if !board.has_violations() && !board.finish(STANDSTILL) {
            board.violation("something is missing: nothing more arrives".into());
        }
        report.sample(&house.broker, &board);
    });

    // What ends early has not waited for what is missing then.
    if !board.has_violations() {
        for missing in subscribers.iter().flat_map(|s| s.missing(&publishers)) {
            board.violation(missing);
        }
        for subscriber in &mut subscribers {
            subscriber.check_that_nothing_is_left(&house.broker, &board);
        }
        for fault in room::check(&house.broker, &talkers, &guest) {
            board.violation(fault);
        }
        check_the_files(&mut house.broker, &board);
    }
    report.visits_by_tls = by_tls.visits();
    report.events_by_http = by_http.events();
    report.strangers = strangers.tries();
    report.crowd = crowds.iter().map(Crowd::visits).sum();
    report.read_the_log(&house.broker.log());
    let violations = board.violations();
    if violations.is_empty() {
        Ok(report)
    } else {
        Err(format!("{}\n\n{report}", violations.join("\n")))
    }
}

/// The broker with what may change below it.
struct House {
    broker: TidingsProcess,
    pki: Pki,
    /// The number of the newest certificate.
    serial: u64,
    settings: PathBuf,
    _directory: TempDir,
}

impl House {
    fn open() -> Self {
        let pki = Pki::new();
        pki.server("server", 2, &[]);
        let directory = TempDir::with_prefix("tidings-soak-").expect("a temporary directory");
        let settings = directory.path().join("tidings.toml");
        write_settings(&settings, 2);
        let broker = TidingsOptions::new()
            .config(&settings)
            .argument("--mqtts")
            .argument("127.0.0.1:0")
            .set("tls.certificates", pki.certificates(&["server"]))
            .set("rooms.requests_per_minute", 60_000)
            // Small, so that files are sealed, snapshots taken and the journal trimmed many times in an hour.
            .set("journal.segment_bytes", SEGMENT_BYTES)
            .set("state.snapshot_every_bytes", SEGMENT_BYTES * 4)
            .set("log.format", "\"json\"")
            // Strangers come from another address of this machine, and can be banned.
            .set("limits.unlimited_addresses", "[\"127.0.0.1/32\"]")
            .start();
        Self {
            broker,
            pki,
            serial: 2,
            settings,
            _directory: directory,
        }
    }

    /// Notes, reloads and kills, until it is time to end.
    fn keep_busy(
        &mut self,
        options: Options,
        board: &Board,
        report: &mut Report,
        progress: &mut impl FnMut(&Sample),
    ) {
        let started = Instant::now();
        let mut sample_at = started + options.sample_every;
        let mut reload_at = started + options.reload_every;
        let mut kill_at = started + options.kill_every;
        let end = started + options.time;
        while Instant::now() < end && !board.has_violations() {
            let next = sample_at.min(reload_at).min(kill_at).min(end);
            board.wait_for_violations(next.saturating_duration_since(Instant::now()));
            let now = Instant::now();
            if now >= sample_at {
                progress(report.sample(&self.broker, board));
                sample_at += options.sample_every;
            }
            if now >= reload_at {
                self.reload(board);
                report.reloads += 1;
                reload_at += options.reload_every;
            }
            if now >= kill_at {
                report.ends += 1;
                self.end_and_start_again(report.ends.is_multiple_of(3), board);
                report.begin_life();
                kill_at += options.kill_every;
            }
        }
    }

    /// Another certificate and other settings; connections stay.
    fn reload(&mut self, board: &Board) {
        self.serial += 1;
        let name = format!("server-{}", self.serial);
        self.pki.server(&name, self.serial, &[]);
        for kind in ["key", "crt"] {
            let new = self.pki.path(&format!("{name}.{kind}"));
            let to = self.pki.path(&format!("server.{kind}"));
            fs::rename(new, to).expect("a file in a temporary directory");
        }
        write_settings(&self.settings, self.serial);
        let before = self.broker.log().len();
        self.broker.signal("HUP");
        self.broker.wait_for_log(before, "settings were read again");
        let seen = self.pki.see(self.broker.mqtts(), &[]);
        if seen.server() != Some(&*name) {
            let what = format!("after a reload, instead of {name}:\n{}", seen.text);
            board.violation(what);
        }
    }

    fn end_and_start_again(&mut self, gracefully: bool, board: &Board) {
        board.broker_is_down();
        if gracefully {
            let status = self.broker.terminate();
            if !status.success() {
                board.violation(format!("the broker stopped with {status}"));
            }
        } else {
            self.broker.kill();
            fsck(&self.broker, "after a kill", board);
        }
        self.broker.restart();
        board.broker_is_up(&self.broker);
    }
}

/// Settings that differ from time to time, and must not matter to anybody here.
fn write_settings(path: &Path, number: u64) {
    let oldest = if number.is_multiple_of(2) {
        "1.2"
    } else {
        "1.3"
    };
    let settings = format!("[rooms]\nmode = \"managed\"\n\n[tls]\nmin_version = \"{oldest}\"\n");
    fs::write(path, settings).expect("a file in a temporary directory");
}
