//! The crash test: publishers and persistent subscribers at work while the broker is killed with
//! SIGKILL again and again, and its files are damaged between kill and restart.
//!
//! What must hold in the end: every message reached every subscriber, in order for each topic; at
//! QoS 2 exactly once; no session was lost; and a room has what was said in it, under the numbers
//! that were acknowledged, with its edits, recalls, reactions, read markers and members (see
//! [`room`]). Only what nobody was promised is damaged: the view of the journal in sled, and bytes
//! behind the journal's last whole frame.
//!
//! The seed decides what is done and to what; when the system runs which thread is not in its power,
//! so a failure is found again by many rounds, not by one.

pub(crate) mod board;
mod damage;
mod message;
pub(crate) mod publisher;
mod report;
pub(crate) mod room;
pub(crate) mod subscriber;

use std::thread;
use std::time::{Duration, Instant};

use tidings_core::codec::Version;
use tidings_core::message::QoS;

use crate::seeded::Seeded;
use crate::{TidingsOptions, TidingsProcess};
use board::{Board, Pace};
use damage::Damage;
use publisher::Publisher;
use room::{Guest, Talker};
use subscriber::Subscriber;

pub use report::Report;

/// What to do.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How many times the broker is killed.
    pub rounds: u32,
    /// Decides all that is not left to the system.
    pub seed: u64,
    /// Whether files are damaged in a part of the rounds.
    pub damage: bool,
}

/// Most rounds are over after so many acknowledgements, at most, ...
const ROUND_ACKS: u64 = 3000;
/// ... or after this time, so that a kill may also find the broker idle or stuck.
const ROUND_TIME: Duration = Duration::from_millis(1000);
/// Some are long enough for what the broker does from time to time: snapshots, and trimming.
const LONG_ROUND_TIME: Duration = Duration::from_millis(2500);
/// And even then some machines are so fast that the files would grow without need.
const LONG_ROUND_ACKS: u64 = 30_000;
/// A kill while the broker starts comes within this time.
const START_TIME: Duration = Duration::from_millis(60);
/// So many rounds without a single acknowledgement are a standstill.
const ROUNDS_WITHOUT_ACK: u32 = 10;
/// In the end something must arrive at least this often.
const STANDSTILL: Duration = Duration::from_secs(30);

/// As fast as it goes; of the room all is read in the end, a few hundred messages at a time.
const PACE: Pace = Pace {
    publish: Duration::ZERO,
    talk: Duration::from_millis(5),
    come_and_go: Duration::from_millis(30),
};

/// Bytes of a segment: small, so that kills also find the broker between two of them.
const SEGMENT_BYTES: u32 = 1 << 20;

/// Runs the test, calling `progress` after each round.
///
/// # Errors
/// What was violated, one sentence each, and the counts.
///
/// # Panics
/// If the broker does not start again.
pub fn run(options: Options, mut progress: impl FnMut(&Report)) -> Result<Report, String> {
    let started = Instant::now();
    let mut random = Seeded::new(options.seed);
    let mut report = Report::new(options.seed);
    let mut broker = TidingsOptions::new()
        .set("journal.segment_bytes", SEGMENT_BYTES)
        .set("journal.batch_max_bytes", SEGMENT_BYTES / 2)
        .set("state.snapshot_every_bytes", SEGMENT_BYTES * 4)
        .set("state.snapshot_every_entries", 5000)
        .set("rooms.mode", "\"managed\"")
        .set("rooms.requests_per_minute", 60_000)
        .start();

    let mut subscribers = subscribers(&mut random);
    for subscriber in &mut subscribers {
        subscriber.subscribe(&broker);
    }
    let mut publishers = publishers(&mut random);
    let mut talkers =
        [("ann", 200), ("bob", 201)].map(|(user, number)| Talker::new(user, random.fork(number)));
    let mut guest = Guest::new();
    room::prepare(&broker, &talkers);
    let speakers = publishers.len() + talkers.len() + 1;
    let board = Board::new(PACE, speakers, subscribers.len());

    let came_to_the_end = thread::scope(|scope| {
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
        board.broker_is_up(&broker);
        let mut without_ack = 0;
        for _ in 0..options.rounds {
            let acks = one_life(&mut random, &board);
            without_ack = if acks == 0 { without_ack + 1 } else { 0 };
            board.broker_is_down();
            broker.kill();
            one_recovery(
                &mut broker,
                &mut random,
                options.damage,
                &board,
                &mut report,
            );
            board.broker_is_up(&broker);
            report.rounds += 1;
            report.count(&board);
            report.took = started.elapsed();
            progress(&report);
            if board.has_violations() || without_ack == ROUNDS_WITHOUT_ACK {
                break;
            }
        }
        if without_ack == ROUNDS_WITHOUT_ACK {
            board.violation(format!("nothing was acknowledged in {without_ack} rounds"));
        }
        if board.has_violations() {
            return false;
        }
        if !board.finish(STANDSTILL) {
            board.violation("something is missing: nothing more arrives".into());
        }
        true
    });

    report.count(&board);
    report.took = started.elapsed();
    // A test that ends early has not waited for what is missing then.
    if came_to_the_end {
        for missing in subscribers.iter().flat_map(|s| s.missing(&publishers)) {
            board.violation(missing);
        }
    }
    if !board.has_violations() {
        for subscriber in &mut subscribers {
            subscriber.check_that_nothing_is_left(&broker, &board);
        }
        for fault in room::check(&broker, &talkers, &guest) {
            board.violation(fault);
        }
        check_the_files(&mut broker, &board);
    }
    let violations = board.violations();
    if violations.is_empty() {
        return Ok(report);
    }
    let log = broker.log();
    let skipped = log.lines().count().saturating_sub(100);
    let log = log.lines().skip(skipped).collect::<Vec<_>>().join("\n");
    Err(format!(
        "{}\n\n{report}\n\nthe broker said:\n{log}",
        violations.join("\n")
    ))
}

/// Waits for the moment of the next kill; returns how much was acknowledged until then.
fn one_life(random: &mut Seeded, board: &Board) -> u64 {
    let (acks, time) = match random.within(0..100) {
        // Early, while everyone resumes.
        0..45 => (random.magnitude(1..ROUND_ACKS), ROUND_TIME),
        45..90 => (random.within(1..ROUND_ACKS), ROUND_TIME),
        _ => (LONG_ROUND_ACKS, LONG_ROUND_TIME),
    };
    board.wait_for_acks(acks, time)
}

/// What happens between a kill and the next moment at which clients can connect.
fn one_recovery(
    broker: &mut TidingsProcess,
    random: &mut Seeded,
    with_damage: bool,
    board: &Board,
    report: &mut Report,
) {
    if with_damage && random.chance(40) {
        let damage = *random.pick(Damage::ALL);
        match damage.inflict(broker.data_dir(), random) {
            Ok(()) => report.damaged(damage),
            Err(error) => board.violation(format!("the test cannot do {damage}: {error}")),
        }
    } else if random.chance(10) {
        fsck(broker, "after a kill", board);
        report.fscks += 1;
    }
    if random.chance(15) {
        broker.launch_again();
        thread::sleep(Duration::from_micros(
            random.within(0..START_TIME.as_micros() as u64),
        ));
        broker.kill();
        report.killed_while_starting += 1;
    }
    let launched = Instant::now();
    broker.restart();
    report.recoveries.push(launched.elapsed());
}

pub(crate) fn check_the_files(broker: &mut TidingsProcess, board: &Board) {
    let status = broker.terminate();
    if !status.success() {
        board.violation(format!("the broker stopped with {status}"));
    }
    fsck(broker, "after a clean stop", board);
}

pub(crate) fn fsck(broker: &TidingsProcess, when: &str, board: &Board) {
    let output = broker.command("fsck");
    if !output.status.success() {
        board.violation(format!(
            "fsck {when}: {}\n{}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        ));
    }
}

/// Both QoS, both ways of resuming, all transports.
pub(crate) fn publishers(random: &mut Seeded) -> Vec<Publisher> {
    use QoS::{AtLeastOnce, ExactlyOnce};
    use publisher::Resume::{Persistent, StartOver};
    [
        (Version::V311, AtLeastOnce, StartOver, false),
        (Version::V5, AtLeastOnce, Persistent, true),
        (Version::V5, ExactlyOnce, Persistent, false),
        (Version::V311, ExactlyOnce, Persistent, true),
    ]
    .into_iter()
    .enumerate()
    .map(|(number, (version, qos, resume, over_websocket))| {
        Publisher::new(
            number,
            version,
            qos,
            resume,
            over_websocket,
            random.fork(number as u64),
        )
    })
    .collect()
}

/// Both QoS, large and small windows, all transports.
pub(crate) fn subscribers(random: &mut Seeded) -> Vec<Subscriber> {
    use QoS::{AtLeastOnce, ExactlyOnce};
    [
        (Version::V311, AtLeastOnce, None, false),
        (Version::V5, AtLeastOnce, Some(50), true),
        (Version::V311, ExactlyOnce, None, true),
        (Version::V5, ExactlyOnce, Some(7), false),
    ]
    .into_iter()
    .enumerate()
    .map(
        |(number, (version, qos, receive_maximum, over_websocket))| {
            let random = random.fork(100 + number as u64);
            Subscriber::new(
                number,
                version,
                qos,
                receive_maximum,
                over_websocket,
                random,
            )
        },
    )
    .collect()
}
