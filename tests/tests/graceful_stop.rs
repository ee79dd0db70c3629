//! How a broker ends, and what it refuses to begin with: stops, locks, versions, settings, the tools
//! that look at its files, and a disk that is full.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use serde_json::Value;
use tidings_core::codec::{ReasonCode, Version};
use tidings_core::message::QoS;
use tidings_tests::numbered::{number, publish, receive, try_publish};
use tidings_tests::tidings_process::tidings;
use tidings_tests::{ClientError, RawClient, TidingsOptions, TidingsProcess, clean, persistent};

/// Small files, so that a test sees several of them.
const SEGMENT_BYTES: u64 = 1 << 20;

fn with_small_segments() -> TidingsOptions {
    TidingsOptions::new()
        .set("journal.segment_bytes", SEGMENT_BYTES)
        .set("journal.batch_max_bytes", SEGMENT_BYTES / 4)
}

fn text(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

#[track_caller]
fn assert_refused(output: &Output, words: &[&str]) {
    let text = text(output);
    assert!(!output.status.success(), "it was not refused:\n{text}");
    // A clear message is no panic.
    assert!(!text.contains("panicked"), "{text}");
    for word in words {
        assert!(text.contains(word), "it does not say {word:?}:\n{text}");
    }
}

#[track_caller]
fn assert_accepted(output: &Output) {
    assert!(
        output.status.success(),
        "{}:\n{}",
        output.status,
        text(output)
    );
}

// ---- Stops

#[track_caller]
fn everyone_hears_a_goodbye(stop: impl FnOnce(&mut TidingsProcess) -> std::process::ExitStatus) {
    let mut broker = TidingsProcess::start();
    let mut newer = [
        RawClient::connect(broker.tcp(), &clean(Version::V5, "tcp-5")),
        RawClient::connect(broker.ws(), &persistent(Version::V5, "ws-5")),
        RawClient::connect(broker.auto_tcp(), &clean(Version::V5, "auto-5")),
    ];
    let mut older = [
        RawClient::connect(broker.tcp(), &clean(Version::V311, "tcp-4")),
        RawClient::connect(broker.ws(), &clean(Version::V31, "ws-3")),
    ];
    // A peer in the middle of its handshake must not hold up the end.
    let silent = RawClient::open(broker.tcp());

    let status = stop(&mut broker);
    assert_eq!(status.code(), Some(0), "{status}");
    for client in &mut newer {
        assert_eq!(
            client.expect_disconnect().reason,
            ReasonCode::ServerShuttingDown
        );
        client.expect_closed();
    }
    for client in &mut older {
        client.expect_closed();
    }
    drop(silent);
}

#[test]
fn sigterm_says_server_shutting_down_and_ends_with_0() {
    everyone_hears_a_goodbye(TidingsProcess::terminate);
}

#[test]
fn sigint_says_server_shutting_down_and_ends_with_0() {
    everyone_hears_a_goodbye(TidingsProcess::interrupt);
}

#[test]
fn a_stop_under_load_loses_nothing_that_was_acknowledged() {
    const SIZE: usize = 300;
    let mut broker = with_small_segments().start();
    let absent = persistent(Version::V5, "stop-absent");
    let mut client = RawClient::connect(broker.tcp(), &absent);
    client.subscribe("stop/load", QoS::AtLeastOnce);
    client.disconnect();

    let tcp = broker.tcp();
    let (sender, acks) = channel();
    let publisher = thread::spawn(move || {
        let mut client = RawClient::connect(tcp, &clean(Version::V311, "stop-publisher"));
        let mut last = 0;
        let ended = try_publish(&mut client, "stop/load", 1..=u64::MAX, SIZE, |number| {
            last = number;
            // The test waits for the first ones only.
            let _ = sender.send(number);
        });
        assert!(matches!(ended, Err(ClientError::Closed)), "{ended:?}");
        last
    });
    assert!(
        acks.iter().any(|number| number == 2000),
        "no acknowledgements"
    );
    assert_eq!(broker.terminate().code(), Some(0));
    let last = publisher.join().expect("the publisher does not panic");

    broker.restart();
    let mut client = RawClient::connect(broker.tcp(), &absent);
    assert!(client.session_present());
    receive(&mut client, "stop/load", 1..=last, SIZE);
}

// ---- What is refused at the start

#[test]
fn a_second_process_on_the_same_data_directory_is_refused() {
    let broker = TidingsProcess::start();
    let path = broker.data_dir().display().to_string();
    let second = TidingsOptions::new()
        .data_dir(broker.data_dir())
        .run_to_the_end();
    assert_refused(&second, &[&path, "in use by another process"]);
    // The first one has not noticed.
    RawClient::connect(broker.tcp(), &clean(Version::V5, "still-there")).expect_silence();
}

#[test]
fn a_data_directory_of_an_unknown_version_is_refused_and_left_alone() {
    let mut broker = TidingsProcess::start();
    broker.terminate();
    let meta = broker.data_dir().join("journal/meta");
    let file = fs::OpenOptions::new()
        .write(true)
        .open(&meta)
        .expect("the journal's meta file");
    // After the eight bytes that say what it is.
    file.write_all_at(&77_u32.to_le_bytes(), 8)
        .expect("the meta file can be written");
    let before = fs::read(&meta).expect("the meta file can be read");

    let refused = TidingsOptions::new()
        .data_dir(broker.data_dir())
        .run_to_the_end();
    assert_refused(&refused, &["version 77"]);
    assert_refused(&broker.command("fsck"), &["version 77"]);
    assert_eq!(fs::read(&meta).expect("the meta file can be read"), before);
}

#[test]
fn open_mode_refuses_a_public_address_unless_told_so() {
    let refused = TidingsOptions::new()
        .argument("--tcp")
        .argument("0.0.0.0:0")
        .run_to_the_end();
    assert_refused(&refused, &["0.0.0.0", "open"]);

    let meant = TidingsOptions::new()
        .argument("--tcp")
        .argument("0.0.0.0:0")
        .set("server.allow_public_open_mode", true)
        .start();
    assert!(meant.tcp().address().ip().is_unspecified());
}

#[test]
fn check_config_names_file_and_line_of_every_error() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("wrong.toml");
    fs::write(
        &file,
        "[mqtt]\nmax_qos = 3\n\n[journal]\ndurability = \"sometimes\"\n\n[server]\nshrads = 2\n",
    )
    .expect("a file in a temporary directory");
    let name = file.display().to_string();
    let output = tidings(["check-config", "--config", &name]);
    let lines = [2, 5, 8].map(|line| format!("{name}:{line}:"));
    assert_refused(&output, &lines.each_ref().map(String::as_str));

    // A pattern is checked when the rules are put together.
    fs::write(
        &file,
        "\n\n[[topics]]\npattern = \"a/{b\"\npublish = \"any\"\nsubscribe = \"any\"\n",
    )
    .expect("a file in a temporary directory");
    let output = tidings(["check-config", "--config", &name]);
    assert_refused(&output, &[&format!("{name}:3"), "a/{b"]);
    let output = TidingsOptions::new().config(&file).run_to_the_end();
    assert_refused(&output, &[&format!("{name}:3"), "a/{b"]);
}

#[test]
fn the_shipped_settings_are_in_order() {
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/tidings.toml");
    let arguments = [
        "check-config".as_ref(),
        "--config".as_ref(),
        shipped.as_os_str(),
    ];
    assert_accepted(&tidings(arguments));
    assert_accepted(&tidings(["check-config"]));
}

#[test]
fn help_is_there_for_every_command() {
    let help = tidings(["--help"]);
    assert_accepted(&help);
    for command in ["serve", "check-config", "pub", "sub", "fsck", "dump"] {
        assert!(
            text(&help).contains(command),
            "{command} is not in the help"
        );
        assert_accepted(&tidings([command, "--help"]));
    }
}

// ---- Tools for the files

/// A broker with something of everything on disk.
fn with_content() -> TidingsProcess {
    let broker = with_small_segments().start();
    let mut absent = RawClient::connect(broker.tcp(), &persistent(Version::V5, "fsck-absent"));
    absent.subscribe("fsck/#", QoS::ExactlyOnce);
    absent.abandon();
    let mut client = RawClient::connect(broker.tcp(), &clean(Version::V5, "alice"));
    publish(&mut client, "fsck/numbers", 1..=5000, 500);
    client.publish("fsck/two", "exactly once", QoS::ExactlyOnce);
    client.publish("chat/lobby/alice", "hello", QoS::AtLeastOnce);
    broker
}

#[test]
fn fsck_is_content_after_a_stop_and_after_a_kill() {
    let mut broker = with_content();
    let busy = broker.command("fsck");
    assert_refused(&busy, &["in use by another process"]);
    broker.kill();
    assert_accepted(&broker.command("fsck"));
    broker.restart();
    assert_eq!(broker.terminate().code(), Some(0));
    assert_accepted(&broker.command("fsck"));
}

#[test]
fn fsck_finds_a_wrong_bit_in_the_journal() {
    let mut broker = with_content();
    broker.terminate();
    let journal = broker.data_dir().join("journal");
    let mut segments: Vec<_> = fs::read_dir(&journal)
        .expect("the journal's directory")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "seg"))
        .collect();
    segments.sort();
    let first = segments.first().expect("a segment");
    let file = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(first)
        .expect("a segment can be opened");
    let mut byte = [0];
    // In the middle of many messages.
    file.read_exact_at(&mut byte, SEGMENT_BYTES / 2)
        .expect("a segment has its size");
    file.write_all_at(&[byte[0] ^ 4], SEGMENT_BYTES / 2)
        .expect("a segment can be written");
    let name = first.file_name().expect("it has a name").to_string_lossy();
    assert_refused(&broker.command("fsck"), &[&name, "problem"]);
}

#[test]
fn dump_prints_every_message_as_a_line_of_json() {
    let mut broker = with_content();
    broker.terminate();
    let output = broker.command("dump");
    assert_accepted(&output);
    let lines: Vec<Value> = String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}")))
        .collect();
    let on = |topic: &str| lines.iter().filter(|line| line["topic"] == topic).count();
    assert_eq!(on("fsck/numbers"), 5000);
    assert_eq!(on("fsck/two"), 1);
    assert_eq!(on("chat/lobby/alice"), 1);
}

// ---- A disk that is full

/// A file system of its own, of limited size; unmounted when dropped.
struct SmallDisk {
    directory: tempfile::TempDir,
}

impl SmallDisk {
    /// `None` where nobody may mount anything: the reason is printed.
    fn mount(mib: u32) -> Option<Self> {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let output = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={mib}m"), "tidings-test"])
            .arg(directory.path())
            .output();
        match output {
            Ok(output) if output.status.success() => Some(Self { directory }),
            Ok(output) => {
                eprintln!(
                    "NOT TESTED, no file system can be mounted here: {}",
                    text(&output)
                );
                None
            }
            Err(error) => {
                eprintln!("NOT TESTED, mount: {error}");
                None
            }
        }
    }

    fn grow(&self, mib: u32) {
        let status = Command::new("mount")
            .args(["-o", &format!("remount,size={mib}m")])
            .arg(self.directory.path())
            .status();
        assert!(status.expect("mount can be started").success());
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // What stays mounted is seen, and fails the removal of the directory.
        let _ = Command::new("umount").arg(self.directory.path()).status();
    }
}

#[test]
fn a_full_disk_ends_acknowledgements_and_turns_readiness_red_and_a_restart_recovers() {
    const SIZE: usize = 1000;
    let Some(disk) = SmallDisk::mount(16) else {
        return;
    };
    // The directory outlives the process; the disk is unmounted after it.
    let data_dir = disk.directory.path().join("data");
    // What happens at the very end: nothing is refused before.
    let mut broker = with_small_segments()
        .set("limits.disk_free_mib", 0)
        .data_dir(&data_dir)
        .start();
    assert!(broker.get("/readyz").starts_with("HTTP/1.1 200 "));
    let absent = persistent(Version::V5, "full-absent");
    let mut client = RawClient::connect(broker.tcp(), &absent);
    client.subscribe("full/#", QoS::AtLeastOnce);
    client.disconnect();

    let mut publisher = RawClient::connect(broker.tcp(), &clean(Version::V5, "full-publisher"));
    // Where the disk is full there is a DISCONNECT for what comes, and silence for what is under way.
    publisher.set_deadline(Duration::from_secs(10));
    let mut last = 0;
    let ended = try_publish(
        &mut publisher,
        "full/numbers",
        1..=u64::MAX,
        SIZE,
        |number| {
            last = number;
        },
    );
    eprintln!("the disk was full after {last} messages: {ended:?}");
    assert!(ended.is_err());
    assert!(last > 1000, "the disk has room for more than {last}");

    assert!(
        broker.get("/readyz").starts_with("HTTP/1.1 503 "),
        "{}",
        broker.get("/readyz")
    );
    assert!(broker.get("/healthz").starts_with("HTTP/1.1 200 "));
    assert!(broker.log().contains("ERROR"), "{}", broker.log());
    broker.terminate();

    disk.grow(64);
    broker.restart();
    assert!(broker.get("/readyz").starts_with("HTTP/1.1 200 "));
    let mut client = RawClient::connect(broker.tcp(), &absent);
    assert!(client.session_present());
    receive(&mut client, "full/numbers", 1..=last, SIZE);
    // What was on its way and not acknowledged may be there too; then the service goes on.
    let mut publisher = RawClient::connect(broker.tcp(), &clean(Version::V5, "full-publisher"));
    publisher.publish("full/numbers", "0 after", QoS::AtLeastOnce);
    loop {
        let delivery = client.receive();
        if number(&delivery.payload) == 0 {
            break;
        }
        last += 1;
        assert_eq!(number(&delivery.payload), last);
    }
    drop(broker);
}

#[test]
fn a_data_directory_whose_journal_is_gone_is_refused_instead_of_begun_anew() {
    let mut broker = TidingsProcess::start();
    assert!(broker.terminate().success());
    std::fs::remove_dir_all(broker.data_dir().join("journal")).expect("the journal");
    let refused = TidingsOptions::new()
        .data_dir(broker.data_dir())
        .run_to_the_end();
    assert!(!refused.status.success());
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("has a state but no journal"), "{said}");
}
