//! What another client notices of a flood: its round trips while all is quiet and while the flood runs,
//! by turns, and the memory and the CPU time of the broker.
//!
//! Each flood meets a broker of its own, with the shipped limits but for a memory limit and as many places
//! for handshakes as the flood is large. Everything comes from this machine, whose addresses have no limits
//! of their own: so it is as if each connection came from another address. The flood is a process of its
//! own that gets what time the broker and the other client leave (`chrt --idle`), as if it came from
//! elsewhere; and the other client never waits for a processor that the broker uses (`renice`), as if it
//! were elsewhere. `--same-priority` lets all of them compete.

#![expect(clippy::print_stdout, reason = "the table is what it is for")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use clap::{Parser, ValueEnum};
use tidings_core::codec::Version;
use tidings_core::message::QoS;
use tidings_tests::floods::{Flood, Running, Target};
use tidings_tests::measure::{cpu_seconds, memory, mib};
use tidings_tests::{Pki, RawClient, TidingsOptions, TidingsProcess, clean};

/// Between two round trips of the other client: it is a client like any other, and no flood.
const PAUSE: Duration = Duration::from_millis(1);

/// Nice value of the other client.
const AHEAD: i32 = -20;

/// Below so much of a core the broker is done with what a flood left.
const CALM: f64 = 0.05;

/// Floods against a broker, and what another client notices of them
#[derive(Debug, Parser)]
#[command(max_term_width = 100)]
struct Arguments {
    /// Which; all of them if none is named
    floods: Vec<Flood>,
    /// Connections of floods that hold some
    #[arg(long, default_value_t = 5000)]
    size: usize,
    /// Of each turn
    #[arg(long, default_value_t = 3)]
    seconds: u64,
    /// Turns, each quiet and then not
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// MiB that the broker may take (limits.memory_mib)
    #[arg(long, default_value_t = 512)]
    memory: u64,
    /// Settings of the broker, as --set of the program
    #[arg(long = "set")]
    settings: Vec<String>,
    /// Flood, broker and the other client compete for the processor
    #[arg(long)]
    same_priority: bool,
    /// Be the flood, against MQTT, WebSocket and MQTTS there
    #[arg(long, hide = true, value_delimiter = ',')]
    target: Vec<SocketAddr>,
}

fn main() {
    let arguments = Arguments::parse();
    if let [tcp, ws, tls] = arguments.target[..] {
        return be_the_flood(&arguments, Target { tcp, ws, tls });
    }
    let floods = match &arguments.floods[..] {
        [] => Flood::value_variants(),
        some => some,
    };
    println!(
        "{:<16} {:>10} {:>21} {:>21} {:>6} {:>15} {:>6} {:>9}",
        "", "", "not kept: p99 ms", "kept: p99 ms", "", "memory MiB", "CPU", ""
    );
    println!(
        "{:<16} {:>10} {:>6} {:>6} {:>7} {:>6} {:>6} {:>7} {:>6} {:>7} {:>7} {:>6} {:>9}",
        "flood",
        "a second",
        "quiet",
        "then",
        "ratio",
        "quiet",
        "then",
        "ratio",
        "",
        "before",
        "at most",
        "cores",
        "samples"
    );
    for flood in floods {
        measure(*flood, &arguments);
    }
}

/// What one turn was like.
#[derive(Default)]
struct Turn {
    passing: Vec<Duration>,
    kept: Vec<Duration>,
    cpu_s: f64,
    took_s: f64,
}

/// One client that goes on whatever others do.
struct Bystander {
    client: RawClient,
}

impl Bystander {
    fn new(broker: &TidingsProcess) -> Self {
        let mut client = RawClient::connect(broker.tcp(), &clean(Version::V5, "bystander"));
        client.subscribe("free/bystander", QoS::AtMostOnce);
        Self { client }
    }

    /// For so long: a message to itself that is not kept, and one that is kept, until it is stored.
    fn go_on(&mut self, broker: &TidingsProcess, seconds: u64) -> Turn {
        let (began, cpu_s) = (Instant::now(), cpu_s(broker));
        let mut turn = Turn::default();
        while began.elapsed() < Duration::from_secs(seconds) {
            let sent = Instant::now();
            self.client.publish("free/bystander", "x", QoS::AtMostOnce);
            self.client.receive();
            turn.passing.push(sent.elapsed());
            let sent = Instant::now();
            let topic = "chat/quiet/bystander";
            self.client.publish(topic, "x", QoS::AtLeastOnce);
            turn.kept.push(sent.elapsed());
            thread::sleep(PAUSE);
        }
        turn.cpu_s = self::cpu_s(broker) - cpu_s;
        turn.took_s = began.elapsed().as_secs_f64();
        turn
    }
}

/// The priority of this thread.
fn renice(nice: i32) {
    let mut command = Command::new("renice");
    let thread = std::process::id().to_string();
    command.args(["--priority", &nice.to_string(), "--pid", &thread]);
    let done = command.stdout(Stdio::null()).status();
    assert!(
        done.is_ok_and(|status| status.success()),
        "only root may come before others; --same-priority does without"
    );
}

fn p99_ms(times: &mut [Duration]) -> f64 {
    times.sort_unstable();
    let at = times.len() * 99 / 100;
    times.get(at).map_or(0.0, |time| time.as_secs_f64() * 1e3)
}

/// The one in the middle, so that one bad moment of the machine decides nothing.
fn median(mut of: Vec<f64>) -> f64 {
    of.sort_unstable_by(f64::total_cmp);
    of.get(of.len() / 2).copied().unwrap_or_default()
}

fn cpu_s(broker: &TidingsProcess) -> f64 {
    cpu_seconds(broker.id()).unwrap_or_default()
}

fn measure(flood: Flood, arguments: &Arguments) {
    let pki = Pki::new();
    pki.server("server", 1, &[]);
    let mut options = TidingsOptions::new()
        .argument("--mqtts")
        .argument("127.0.0.1:0")
        .set("tls.certificates", pki.certificates(&["server"]))
        .set("limits.memory_mib", arguments.memory)
        .set("limits.max_handshakes", arguments.size + 500)
        .set("limits.max_retained_messages", 20_000)
        .set("journal.backlog_max_bytes", 256 << 20);
    for setting in &arguments.settings {
        let (key, value) = setting.split_once('=').expect("a setting is key=value");
        options = options.set(key, value);
    }
    // What this starts would have the same priority.
    renice(0);
    let broker = options.start();
    if !arguments.same_priority {
        renice(AHEAD);
    }
    let mut bystander = Bystander::new(&broker);
    bystander.go_on(&broker, 1);
    let resident = memory(broker.id()).expect("the broker runs").resident;
    let (mut quiet, mut then, mut a_second) = (Vec::new(), Vec::new(), Vec::new());
    let mut peak = 0;
    for _ in 0..arguments.rounds {
        quiet.push(bystander.go_on(&broker, arguments.seconds));
        forget_peak(&broker);
        let other = Other::start(flood, arguments, &broker);
        let turn = bystander.go_on(&broker, arguments.seconds);
        a_second.push(other.stop() as f64 / turn.took_s);
        then.push(turn);
        peak = peak.max(memory(broker.id()).expect("the broker runs").peak);
        wait_until_calm(&broker);
    }
    let p99 = |turns: &mut [Turn], times: fn(&mut Turn) -> &mut Vec<Duration>| {
        median(turns.iter_mut().map(|turn| p99_ms(times(turn))).collect())
    };
    let of = |turns: &mut [Turn]| {
        let passing = p99(turns, |turn| &mut turn.passing);
        (passing, p99(turns, |turn| &mut turn.kept))
    };
    let cores = then.iter().map(|turn| turn.cpu_s / turn.took_s).collect();
    let samples: usize = then.iter().map(|turn| turn.passing.len()).sum();
    let (before, during) = (of(&mut quiet), of(&mut then));
    let name = flood.to_possible_value();
    println!(
        "{:<16} {:>10.0} {:>6.2} {:>6.2} {:>7.1} {:>6.2} {:>6.2} {:>7.1} {:>6} {:>7.0} {:>7.0} {:>6.2} {:>9}",
        name.as_ref().map_or("?", |name| name.get_name()),
        median(a_second),
        before.0,
        during.0,
        during.0 / before.0,
        before.1,
        during.1,
        during.1 / before.1,
        "",
        mib(resident),
        mib(peak),
        median(cores),
        samples,
    );
}

/// The most that the process took is counted anew; where the system does not let us, since its start.
fn forget_peak(broker: &TidingsProcess) {
    let _ = fs::write(format!("/proc/{}/clear_refs", broker.id()), "5");
}

/// What a flood left behind is not what the next turn measures.
fn wait_until_calm(broker: &TidingsProcess) {
    let look = Duration::from_millis(300);
    for _ in 0..100 {
        let before = cpu_s(broker);
        thread::sleep(look);
        if cpu_s(broker) - before < CALM * look.as_secs_f64() {
            return;
        }
    }
}

/// The process that floods.
struct Other {
    child: Child,
    ends: Option<ChildStdin>,
    said: mpsc::Receiver<String>,
}

impl Other {
    fn start(flood: Flood, arguments: &Arguments, broker: &TidingsProcess) -> Self {
        let this = env::current_exe().expect("a process knows its program");
        let mut command = match arguments.same_priority {
            true => Command::new(this),
            false => {
                let mut command = Command::new("chrt");
                command.args(["--idle", "0"]).arg(this);
                command
            }
        };
        let name = flood.to_possible_value();
        let (tcp, ws) = (broker.tcp().address(), broker.ws().address());
        let mut child = command
            .args(name.as_ref().map(|name| name.get_name()))
            .args(["--size", &arguments.size.to_string()])
            .args(["--target", &format!("{tcp},{ws},{}", broker.mqtts())])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("chrt can be started; --same-priority needs no chrt");
        let ends = child.stdin.take();
        let (say, said) = mpsc::channel();
        let lines = child.stdout.take().map(BufReader::new);
        thread::spawn(move || {
            for line in lines
                .into_iter()
                .flat_map(BufRead::lines)
                .map_while(Result::ok)
            {
                // Nobody waits for it any more.
                let _ = say.send(line);
            }
        });
        Self { child, ends, said }
    }

    /// Ends it; how much it did.
    fn stop(mut self) -> u64 {
        drop(self.ends.take());
        let done = self.said.recv().ok();
        let _ = self.child.wait();
        done.and_then(|done| done.parse().ok()).unwrap_or_default()
    }
}

fn be_the_flood(arguments: &Arguments, target: Target) {
    let running = Running::new(target, arguments.size);
    let flood = *arguments.floods.first().expect("the flood is named");
    thread::scope(|scope| {
        scope.spawn(|| running.run(flood));
        // Until the other side closes it.
        let _ = std::io::stdin().read(&mut [0]);
        let done = running.done();
        running.stop();
        let _ = writeln!(std::io::stdout(), "{done}");
        // Connections of thousands are ended by the system at once, and quicker than one by one.
        std::process::exit(0);
    });
}
