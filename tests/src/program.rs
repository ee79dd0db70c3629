//! Programs of others as clients: mosquitto's, Node and Python scripts, read line by line.
//!
//! A program that is missing fails the test with the command that installs it: a test that is
//! skipped in silence is worse than none.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use crate::DEADLINE;

/// What to do about a missing program.
const ADVICE: &str = "`make test-tools` installs what the tests need";

/// A running program. It is killed by its id and reaped when this is dropped.
pub struct Program {
    what: String,
    child: Child,
    input: Option<ChildStdin>,
    lines: Receiver<String>,
    seen: Vec<String>,
    errors: Arc<Mutex<String>>,
    readers: Vec<JoinHandle<()>>,
}

impl Program {
    /// Starts a command; its standard output is read line by line.
    ///
    /// # Panics
    /// If it cannot be started, with advice.
    #[track_caller]
    pub fn start(mut command: Command) -> Self {
        let what = format!("{command:?}");
        let child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let mut child = child.unwrap_or_else(|error| panic!("{what}: {error}; {ADVICE}"));
        let input = child.stdin.take();
        let (sender, lines) = channel();
        let output = child.stdout.take().expect("it is piped");
        let reader = thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let errors = Arc::new(Mutex::new(String::new()));
        let error_output = child.stderr.take().expect("it is piped");
        let collected = Arc::clone(&errors);
        let error_reader = thread::spawn(move || {
            for line in BufReader::new(error_output).lines().map_while(Result::ok) {
                let mut text = collected.lock().unwrap_or_else(PoisonError::into_inner);
                text.push_str(&line);
                text.push('\n');
            }
        });
        Self {
            what,
            child,
            input,
            lines,
            seen: Vec::new(),
            errors,
            readers: vec![reader, error_reader],
        }
    }

    /// Waits for a line that `fits`, and returns it; lines before it are passed over.
    ///
    /// # Panics
    /// If none comes in time, with what came.
    #[track_caller]
    pub fn expect_line(&mut self, expected: &str, fits: impl Fn(&str) -> bool) -> String {
        let until = Instant::now() + DEADLINE;
        loop {
            match self
                .lines
                .recv_timeout(until.saturating_duration_since(Instant::now()))
            {
                Ok(line) => {
                    self.seen.push(line.clone());
                    if fits(&line) {
                        return line;
                    }
                }
                Err(error) => {
                    let why = match error {
                        RecvTimeoutError::Timeout => "nothing more came",
                        RecvTimeoutError::Disconnected => "it ended",
                    };
                    self.fail(&format!("expected {expected}, {why}"));
                }
            }
        }
    }

    /// Writes a line to its standard input.
    ///
    /// # Panics
    /// If it reads no more.
    #[track_caller]
    pub fn say(&mut self, line: &str) {
        let input = self.input.as_mut().expect("its input is open");
        if let Err(error) = writeln!(input, "{line}").and_then(|()| input.flush()) {
            self.fail(&format!("could not be told {line:?}: {error}"));
        }
    }

    /// Closes its input, waits for its end, and returns all lines that it has written.
    ///
    /// # Panics
    /// If it runs on, or fails.
    #[track_caller]
    pub fn finish(mut self) -> Vec<String> {
        self.input = None;
        let until = Instant::now() + DEADLINE * 2;
        loop {
            match self
                .lines
                .recv_timeout(until.saturating_duration_since(Instant::now()))
            {
                Ok(line) => self.seen.push(line),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => self.fail("it does not end"),
            }
        }
        let status = self.child.wait().expect("a child can be waited for");
        if !status.success() {
            self.fail(&format!("it failed, {status}"));
        }
        std::mem::take(&mut self.seen)
    }

    /// Waits until it ends by itself.
    ///
    /// # Panics
    /// If it runs on.
    #[track_caller]
    pub fn expect_end(&mut self) {
        let until = Instant::now() + DEADLINE;
        loop {
            match self
                .lines
                .recv_timeout(until.saturating_duration_since(Instant::now()))
            {
                Ok(line) => self.seen.push(line),
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => self.fail("it does not end"),
            }
        }
    }

    /// Its end, whatever its status.
    ///
    /// # Panics
    /// If the system cannot tell.
    pub fn wait(mut self) -> ExitStatus {
        self.input = None;
        self.child.wait().expect("a child can be waited for")
    }

    #[track_caller]
    fn fail(&mut self, why: &str) -> ! {
        // What it has to say about its own failure comes with its end.
        let _ = self.child.kill();
        let _ = self.child.wait();
        for reader in self.readers.drain(..) {
            let _ = reader.join();
        }
        self.seen.extend(self.lines.try_iter());
        panic!(
            "{}: {why}\n--- it wrote:\n{}\n--- and as errors:\n{}",
            self.what,
            self.seen.join("\n"),
            self.errors.lock().unwrap_or_else(PoisonError::into_inner)
        );
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.input = None;
        // Both fail only if it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a command to its end.
///
/// # Panics
/// If it cannot be started, runs too long or fails.
#[track_caller]
pub fn run(command: Command) -> Vec<String> {
    Program::start(command).finish()
}

/// `mosquitto_sub` or `mosquitto_pub` with address and port of a broker.
pub fn mosquitto(program: &str, address: std::net::SocketAddr) -> Command {
    // Into a pipe it would keep what -d prints until it ends.
    let mut command = Command::new("stdbuf");
    command.arg("-oL").arg(find(program)).args([
        "-h",
        &address.ip().to_string(),
        "-p",
        &address.port().to_string(),
    ]);
    command
}

/// A script of `tests/node`, run by Node.
///
/// # Panics
/// If the packages that it needs are not installed.
#[track_caller]
pub fn node(script: &str) -> Command {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("node");
    let packages = directory.join("node_modules/.package-lock.json");
    assert!(
        packages.exists(),
        "{} is missing; {ADVICE}",
        packages.display()
    );
    let mut command = Command::new("node");
    command.current_dir(&directory).arg(script);
    command
}

/// A script of `tests/python`, run by the Python that has the packages of the tests.
///
/// # Panics
/// If it is not installed.
#[track_caller]
pub fn python(script: &str) -> Command {
    let interpreter = workspace().join("target/venv/bin/python");
    assert!(
        interpreter.exists(),
        "{} is missing; {ADVICE}",
        interpreter.display()
    );
    let mut command = Command::new(interpreter);
    command
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("python"))
        // It leaves no files of its own among the sources.
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .arg(script);
    command
}

/// The file of a program, looked up as a shell does.
///
/// # Panics
/// If it is not there, with advice.
#[track_caller]
pub fn find(program: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path)
        .map(|directory| directory.join(OsStr::new(program)))
        .find(|file| file.is_file());
    found.unwrap_or_else(|| panic!("{program} is not installed; {ADVICE}"))
}

/// Where a test leaves what a person may want to look at; not in git.
///
/// # Panics
/// If the directory cannot be made.
pub fn artifact(name: &str) -> PathBuf {
    let directory = workspace().join("target/test-artifacts");
    std::fs::create_dir_all(&directory).expect("a directory below target");
    directory.join(name)
}

fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the package is in the workspace")
}
