//! A file system that the kernel makes read-only under a broker that runs, as ext4 does by itself after an
//! error of its disk: a real one, in a file, in a mount namespace that only this test sees.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use nix::sched::{CloneFlags, unshare};
use tempfile::TempDir;
use tidings_core::codec::Version;
use tidings_core::message::QoS;
use tidings_tests::raw_client::publish_packet;
use tidings_tests::{RawClient, TidingsOptions, clean};

use crate::disk::{await_answer, is_sent_away};

/// Room for a few small segments, and not less than ext4 wants for a journal.
const DISK_BYTES: u64 = 64 << 20;

/// A disk in a file.
struct Disk {
    image: PathBuf,
    place: PathBuf,
}

impl Disk {
    /// For this thread and what it starts; what is mounted goes with them.
    fn new(folder: &Path) -> Result<Self, String> {
        unshare(CloneFlags::CLONE_NEWNS).map_err(|error| format!("unshare: {error}"))?;
        run("mount", &["--make-rprivate", "/"])?;
        let (image, place) = (folder.join("image"), folder.join("disk"));
        let sized = File::create(&image).and_then(|file| file.set_len(DISK_BYTES));
        sized.map_err(|error| error.to_string())?;
        fs::create_dir(&place).map_err(|error| error.to_string())?;
        run("mkfs.ext4", &["-q", "-F", &image.display().to_string()])?;
        let disk = Self { image, place };
        disk.mount()?;
        Ok(disk)
    }

    fn mount(&self) -> Result<(), String> {
        let (image, place) = (self.image.display(), self.place.display());
        run(
            "mount",
            &["-o", "loop", &image.to_string(), &place.to_string()],
        )
    }

    /// What ext4 does when its disk fails: whatever is open for writing cannot be written any more.
    fn fail(&self) -> Result<(), String> {
        run(
            "mount",
            &["-o", "remount,abort", &self.place.display().to_string()],
        )
    }

    fn unmount(&self) -> Result<(), String> {
        run("umount", &[&self.place.display().to_string()])
    }
}

fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    // Debian puts these where only root looks for programs.
    let path = format!(
        "{}:/usr/sbin:/sbin",
        std::env::var("PATH").unwrap_or_default()
    );
    let mut command = Command::new("env");
    command.arg(format!("PATH={path}")).arg(program);
    let output = command.args(arguments).output();
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!(
            "{program}: {}",
            String::from_utf8_lossy(&output.stderr)
        )),
    }
}

#[test]
fn a_file_system_that_becomes_read_only_loses_nothing_acknowledged_and_a_restart_recovers() {
    let folder = TempDir::with_prefix("tidings-read-only-").expect("a temporary directory");
    // A thread of its own, so that no other test is in its namespace.
    let ended = thread::scope(|scope| scope.spawn(|| becomes_read_only(folder.path())).join());
    match ended {
        Ok(Ok(())) => {}
        Ok(Err(why)) => {
            // Not to the output that is shown only for a test that fails.
            let _ = writeln!(
                std::io::stderr(),
                "NOT TESTED: a read-only file system; this system gives us none: {why}"
            );
        }
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// An error if there is no such disk to be had.
fn becomes_read_only(folder: &Path) -> Result<(), String> {
    let disk = Disk::new(folder)?;
    let mut broker = TidingsOptions::new()
        .data_dir(disk.place.join("data"))
        .set("journal.segment_bytes", 1 << 20)
        .set("journal.batch_max_bytes", 1 << 20)
        .set("limits.disk_free_mib", 1)
        .start();
    let mut alice = RawClient::connect(broker.tcp(), &clean(Version::V5, "alice"));
    let mut said = Vec::new();
    for number in 0..20 {
        said.push(format!("before {number}"));
        alice.publish("chat/lobby/alice", &said[number], QoS::AtLeastOnce);
    }
    disk.fail()?;
    let lost = publish_packet("chat/lobby/alice", b"lost", QoS::AtLeastOnce, 99);
    alice.send(&lost);
    is_sent_away(&mut alice);
    await_answer(&broker, "/readyz", "503");
    broker.terminate();
    // There is nothing that it could do here, and it says so.
    let before = broker.log().len();
    broker.launch_again();
    assert!(!broker.wait_for_the_end().success());
    let log = broker.log();
    assert!(log[before..].contains("Read-only file system"), "{log}");
    disk.unmount()?;
    disk.mount()?;
    broker.restart();
    await_answer(&broker, "/readyz", "200");
    let mut alice = RawClient::connect(broker.tcp(), &clean(Version::V5, "alice"));
    said.push("after".to_owned());
    alice.publish("chat/lobby/alice", "after", QoS::AtLeastOnce);
    let mut reader = RawClient::connect(broker.tcp(), &clean(Version::V5, "reader"));
    reader.subscribe("$replay/seq/1/chat/lobby/alice", QoS::AtLeastOnce);
    let mut found = Vec::new();
    while found.last() != said.last() {
        found.push(reader.receive().text());
    }
    // What was not acknowledged may be there or not.
    found.retain(|text| text != "lost");
    assert_eq!(found, said);
    broker.terminate();
    let checked = broker.command("fsck");
    assert!(
        checked.status.success(),
        "{}",
        String::from_utf8_lossy(&checked.stdout)
    );
    disk.unmount()
}
