//! The library between the broker and the system, and the file with which a test steers it.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;
use tidings_tests::{TidingsOptions, TidingsProcess};

/// What goes wrong from now on.
#[derive(Clone, Copy, Debug, Default)]
pub struct Fault {
    /// What writes say, an `errno`; 0: they work.
    pub write: i32,
    /// What syncs say.
    pub sync: i32,
    /// Seconds that the wall clock is wrong.
    pub clock_s: i64,
    /// The disk fails for the state, not for the journal.
    pub of_state: bool,
}

/// A broker whose system does what a test says.
pub struct Machine {
    pub broker: TidingsProcess,
    faults: File,
    _folder: TempDir,
}

impl Machine {
    #[track_caller]
    pub fn start() -> Self {
        let folder = TempDir::with_prefix("tidings-faults-").expect("a temporary directory");
        let library = folder.path().join("faults.so");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/failures/faults.c");
        let built = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-Wall", "-o"])
            .args([&library, &source])
            .output()
            .expect("cc runs: Rust links with it");
        let said = String::from_utf8_lossy(&built.stderr);
        assert!(built.status.success(), "{said}");
        let path = folder.path().join("faults");
        let faults = OpenOptions::new()
            .create_new(true)
            .write(true)
            .open(&path)
            .expect("a file in a temporary directory");
        set(&faults, Fault::default());
        // Small segments: they are filled with zeros beforehand.
        let options = TidingsOptions::new()
            .set("journal.segment_bytes", 1 << 20)
            .set("journal.batch_max_bytes", 1 << 20)
            .environment("LD_PRELOAD", library.display())
            .environment("TIDINGS_TEST_FAULTS", path.display());
        Self {
            broker: options.start(),
            faults,
            _folder: folder,
        }
    }

    /// Whatever is done from now on meets this.
    pub fn set(&self, fault: Fault) {
        set(&self.faults, fault);
    }
}

fn set(faults: &File, fault: Fault) {
    let bytes = [
        &fault.write.to_ne_bytes()[..],
        &fault.sync.to_ne_bytes(),
        &fault.clock_s.to_ne_bytes(),
        &i32::from(fault.of_state).to_ne_bytes(),
        &[0; 4],
    ]
    .concat();
    let written = faults.write_all_at(&bytes, 0);
    written.expect("a file in a temporary directory");
}
