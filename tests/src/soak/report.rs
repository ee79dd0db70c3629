//! What a soak was like: a line of figures from time to time, and in the end what became of memory,
//! and each kind of warning and error that the broker logged, with how often.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::TidingsProcess;
use crate::crash::board::{Board, Counts};
use crate::measure::{cpu_seconds, descriptors_and_threads, disk_bytes, memory, mib};

/// A kind of warning is shown with one example of so many characters, at most.
const EXAMPLE_CHARS: usize = 300;
/// The part of a life that does not count for the slope of memory: caches fill then.
const WARM_UP: f64 = 0.25;

/// Figures of one moment.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Since the soak began.
    pub at: Duration,
    /// Which life of the broker.
    pub life: u32,
    /// Resident memory, bytes.
    pub resident: u64,
    /// At most in this life, bytes.
    pub peak: u64,
    /// File descriptors.
    pub descriptors: usize,
    /// Threads.
    pub threads: usize,
    /// The data directory, bytes.
    pub disk: u64,
    /// As the broker counts them.
    pub connections: u64,
    /// Sessions that outlive their connection.
    pub sessions: u64,
    /// Retained messages.
    pub retained: u64,
    /// Entries that sessions have not got yet.
    pub backlog: u64,
    /// CPUs in use since the last sample, or since the broker started: 1 is one of them.
    pub cpus: f64,
    /// Acknowledged to the publishers that are checked, a second, since the last sample.
    pub acked_per_s: f64,
    /// Delivered to the subscribers that are checked, a second, since the last sample.
    pub delivered_per_s: f64,
}

impl Sample {
    /// Names of the columns of a sample.
    pub const HEADER: &str = " minute life   RSS MiB  peak   fds threads disk MiB  conns sessions retained backlog  CPUs  acked/s delivered/s";
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:7.1} {:4} {:9.1} {:5.0} {:5} {:7} {:8.0} {:6} {:8} {:8} {:7} {:5.2} {:8.0} {:11.0}",
            self.at.as_secs_f64() / 60.0,
            self.life,
            mib(self.resident),
            mib(self.peak),
            self.descriptors,
            self.threads,
            mib(self.disk),
            self.connections,
            self.sessions,
            self.retained,
            self.backlog,
            self.cpus,
            self.acked_per_s,
            self.delivered_per_s
        )
    }
}

/// Warnings or errors of one kind.
#[derive(Clone, Debug)]
struct Complaint {
    count: u64,
    example: String,
}

/// All of it.
#[derive(Clone, Debug)]
pub struct Report {
    seed: u64,
    began: Instant,
    samples: Vec<Sample>,
    life: u32,
    /// When the last sample was, in which life, and what had been used and counted until then.
    last: (Instant, u32, f64, Counts),
    complaints: BTreeMap<String, Complaint>,
    counts: Counts,
    /// Changes of certificate and settings.
    pub reloads: u32,
    /// Ends of the broker.
    pub ends: u32,
    /// Messages through mosquitto's clients and TLS.
    pub visits_by_tls: u64,
    /// Events read over HTTP.
    pub events_by_http: u64,
    /// Connections of the crowd.
    pub crowd: u64,
    /// Connections of strangers.
    pub strangers: u64,
}

impl Report {
    pub(super) fn new(seed: u64) -> Self {
        let now = Instant::now();
        Self {
            seed,
            began: now,
            samples: Vec::new(),
            life: 1,
            last: (now, 1, 0.0, Counts::default()),
            complaints: BTreeMap::new(),
            counts: Counts::default(),
            reloads: 0,
            ends: 0,
            visits_by_tls: 0,
            events_by_http: 0,
            crowd: 0,
            strangers: 0,
        }
    }

    pub(super) fn begin_life(&mut self) {
        self.life += 1;
    }

    /// Takes a note.
    pub(super) fn sample(&mut self, broker: &TidingsProcess, board: &Board) -> &Sample {
        let id = broker.id();
        let memory = memory(id).expect("the broker runs");
        let (descriptors, threads) = descriptors_and_threads(id).expect("the broker runs");
        let cpu = cpu_seconds(id).expect("the broker runs");
        let now = Instant::now();
        let counts = board.counts();
        let (then, life, cpu_then, counts_then) = self.last;
        let seconds = now.duration_since(then).as_secs_f64().max(0.001);
        let cpu_before = if life == self.life { cpu_then } else { 0.0 };
        self.last = (now, self.life, cpu, counts);
        self.counts = counts;
        self.samples.push(Sample {
            at: now.duration_since(self.began),
            life: self.life,
            resident: memory.resident,
            peak: memory.peak,
            descriptors,
            threads,
            disk: disk_bytes(broker.data_dir()).expect("a directory"),
            connections: broker.metric("tidings_connections"),
            sessions: broker.metric("tidings_sessions_persistent"),
            retained: broker.metric("tidings_retained_messages"),
            backlog: broker.metric("tidings_backlog_entries"),
            cpus: (cpu - cpu_before) / seconds,
            acked_per_s: (counts.acked - counts_then.acked) as f64 / seconds,
            delivered_per_s: (counts.delivered - counts_then.delivered) as f64 / seconds,
        });
        self.samples.last().expect("it was just added")
    }

    /// Sorts warnings and errors of a log in JSON by what they say without its figures.
    pub(super) fn read_the_log(&mut self, log: &str) {
        for line in log.lines() {
            let Ok(event) = serde_json::from_str::<Value>(line) else {
                // A panic, for one, is no JSON.
                self.complain("(no line of the log)".into(), line);
                continue;
            };
            let level = event["level"].as_str().unwrap_or_default();
            if matches!(level, "WARN" | "ERROR") {
                let message = event["message"].as_str().unwrap_or_default();
                let target = event["target"].as_str().unwrap_or_default();
                let kind: String = message
                    .chars()
                    .map(|c| if c.is_ascii_digit() { '0' } else { c })
                    .collect();
                self.complain(format!("{level} {target}: {kind}"), line);
            }
        }
    }

    fn complain(&mut self, kind: String, line: &str) {
        let complaint = self.complaints.entry(kind).or_insert_with(|| Complaint {
            count: 0,
            example: line.chars().take(EXAMPLE_CHARS).collect(),
        });
        complaint.count += 1;
    }

    /// How memory changed in each life once it was warm: MiB an hour, by least squares.
    fn slopes(&self) -> Vec<(u32, usize, f64)> {
        let mut slopes = Vec::new();
        for life in 1..=self.life {
            let all: Vec<_> = self.samples.iter().filter(|s| s.life == life).collect();
            let cold = (all.len() as f64 * WARM_UP).ceil() as usize;
            let warm = all.get(cold..).unwrap_or_default();
            if warm.len() < 3 {
                continue;
            }
            let count = warm.len() as f64;
            let hours = |s: &Sample| s.at.as_secs_f64() / 3600.0;
            let mean_x = warm.iter().map(|s| hours(s)).sum::<f64>() / count;
            let mean_y = warm.iter().map(|s| mib(s.resident)).sum::<f64>() / count;
            let (mut above, mut below) = (0.0, 0.0);
            for sample in warm {
                let x = hours(sample) - mean_x;
                above += x * (mib(sample.resident) - mean_y);
                below += x * x;
            }
            if below > 0.0 {
                slopes.push((life, warm.len(), above / below));
            }
        }
        slopes
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = self.counts;
        writeln!(f, "seed                   {}", self.seed)?;
        writeln!(
            f,
            "time                   {:.1} minutes",
            self.last.0.duration_since(self.began).as_secs_f64() / 60.0
        )?;
        writeln!(f, "reloads                {}", self.reloads)?;
        writeln!(f, "ends of the broker     {}", self.ends)?;
        writeln!(f, "messages acknowledged  {}", counts.acked)?;
        writeln!(f, "deliveries             {}", counts.delivered)?;
        writeln!(
            f,
            "duplicates at QoS 1, DUP at QoS 2  {}",
            counts.duplicates
        )?;
        writeln!(f, "packets sent again     {}", counts.resent)?;
        writeln!(f, "connections, checked   {}", counts.connections)?;
        writeln!(f, "connections, crowd     {}", self.crowd)?;
        writeln!(f, "connections, strangers {}", self.strangers)?;
        writeln!(f, "messages through TLS   {}", self.visits_by_tls)?;
        writeln!(f, "events over HTTP       {}", self.events_by_http)?;
        for (life, samples, slope) in self.slopes() {
            writeln!(
                f,
                "memory in life {life:2}      {slope:+.1} MiB an hour, of {samples} samples"
            )?;
        }
        writeln!(f, "warnings and errors in the log:")?;
        for (kind, complaint) in &self.complaints {
            writeln!(
                f,
                "{:8}  {kind}\n          {}",
                complaint.count, complaint.example
            )?;
        }
        if self.complaints.is_empty() {
            writeln!(f, "          none")?;
        }
        Ok(())
    }
}
