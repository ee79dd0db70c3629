//! The program `tidings-bench` as people run it: it starts brokers itself, compares them, writes its
//! reports, and leaves nothing behind. What it measures is no matter of these tests.
//!
//! The broker is rumqttd, which is built into the program. Deadlines only bound a failing test.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tidings_devices::bench::scenario;

/// Longer than anything here takes even on a busy machine.
const DEADLINE: Duration = Duration::from_secs(60);

/// `compare` with rumqttd alone, in a directory of the test.
fn compare(directory: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidings-bench"));
    command
        .args(["compare", "--short", "--broker", "rumqttd", "--directory"])
        .arg(directory)
        .stdin(Stdio::null());
    command
}

fn ended_well(command: &mut Command) -> Output {
    let output = command.output().expect("the program starts");
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

fn is_empty(directory: &Path) -> bool {
    let mut entries = fs::read_dir(directory).expect("the directory of the test");
    entries.next().is_none()
}

#[test]
fn each_scenario_of_the_short_form_runs_and_is_in_every_report() {
    let directory = tempfile::tempdir().expect("a directory");
    let reports = tempfile::tempdir().expect("a directory");
    let report = |name: &str| reports.path().join(name);
    let output = ended_well(
        compare(directory.path())
            .args(["--warm-up", "20ms", "--measure", "100ms", "--targets"])
            .arg("--json")
            .arg(report("all.json"))
            .arg("--csv")
            .arg(report("all.csv"))
            .arg("--html")
            .arg(report("all.html")),
    );
    let table = String::from_utf8_lossy(&output.stdout);
    let read = |name| fs::read_to_string(report(name)).expect("the report was written");
    let (csv, html) = (read("all.csv"), read("all.html"));
    let json: Value = serde_json::from_str(&read("all.json")).expect("JSON");
    let rows = json["scenarios"].as_array().expect("a list");
    let wanted = scenario::short();
    assert_eq!(rows.len(), wanted.len());
    // Of all together: some take rumqttd longer than is measured here.
    let mut delivered = 0;
    for (row, scenario) in rows.iter().zip(&wanted) {
        let name = scenario.name.as_str();
        assert_eq!(row["name"], name);
        let run = &row["brokers"][0]["runs"][0];
        assert_eq!(run["failed"], Value::Null, "{name}");
        assert_eq!(run["doubled"], 0.0, "{name}");
        delivered += run["delivered"].as_u64().expect("a count");
        if cfg!(target_os = "linux") {
            assert!(run["peak_resident_bytes"].as_f64() > Some(0.0), "{name}");
        }
        for report in [&*table, &csv, &html] {
            assert!(report.contains(name), "{name} is in no line of {report}");
        }
    }
    assert!(delivered > 0, "nothing was delivered");
    assert!(is_empty(directory.path()), "something was left behind");
}

#[test]
fn a_broker_that_cannot_be_reached_is_a_result_and_the_others_go_on() {
    let directory = tempfile::tempdir().expect("a directory");
    let output = ended_well(compare(directory.path()).args([
        "--broker",
        "nobody",
        // Nothing listens on the port of tcpmux.
        "--peer",
        "nobody=127.0.0.1:1",
        "--scenario",
        "pairs-2-qos1-64B-w2-tcp",
        "--warm-up",
        "1ms",
        "--measure",
        "20ms",
    ]));
    let table = String::from_utf8_lossy(&output.stdout);
    let line = |broker: &str| {
        let mut lines = table.lines();
        lines.find(|line| line.contains(broker) && !line.contains(": "))
    };
    assert!(
        line("nobody").is_some_and(|l| l.contains("failed")),
        "{table}"
    );
    assert!(
        line("rumqttd").is_some_and(|l| !l.contains("failed")),
        "{table}"
    );
}

#[test]
fn an_unknown_scenario_is_refused_before_anything_starts() {
    let directory = tempfile::tempdir().expect("a directory");
    let output = compare(directory.path())
        .args(["--scenario", "nonsense"])
        .output()
        .expect("the program starts");
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("nonsense"));
}

/// Ends the program, should the test fail.
struct EndWithTest(Child);

impl Drop for EndWithTest {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A comparison that would take an hour, once its broker runs. Also the broker's process id.
fn long_comparison(directory: &Path) -> (EndWithTest, Pid) {
    let mut command = compare(directory);
    command.args(["--scenario", "pairs-2-qos1-64B-w2-tcp", "--measure", "1h"]);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let program = EndWithTest(command.spawn().expect("the program starts"));
    let children = format!("/proc/{0}/task/{0}/children", program.0.id());
    let broker = eventually(|| {
        let children = fs::read_to_string(&children).ok()?;
        Pid::from_raw(children.split_whitespace().next()?.parse().ok()?)
    });
    (program, broker)
}

fn eventually<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < until, "nothing after {DEADLINE:?}");
        thread::yield_now();
    }
}

/// A process that ended has no memory map any more, even before it is reaped.
fn is_gone(id: Pid) -> bool {
    fs::read_to_string(format!("/proc/{}/maps", id.as_raw_nonzero())).map_or(true, |m| m.is_empty())
}

#[test]
#[cfg(target_os = "linux")]
fn ctrl_c_ends_the_broker_and_removes_its_directory() {
    let directory = tempfile::tempdir().expect("a directory");
    let (mut program, broker) = long_comparison(directory.path());
    let id = Pid::from_child(&program.0);
    kill_process(id, Signal::INT).expect("it runs");
    let status = program.0.wait().expect("it ends");
    assert_eq!(status.code(), Some(130));
    eventually(|| is_gone(broker).then_some(()));
    assert!(is_empty(directory.path()), "something was left behind");
}

#[test]
#[cfg(target_os = "linux")]
fn a_broker_does_not_outlive_a_program_that_was_killed() {
    let directory = tempfile::tempdir().expect("a directory");
    let (mut program, broker) = long_comparison(directory.path());
    program.0.kill().expect("it runs");
    program.0.wait().expect("it ends");
    eventually(|| is_gone(broker).then_some(()));
}
