//! `tidings user` and `tidings device` as a person uses them: the real program, with a broker that runs
//! and without one, and mosquitto's clients at the door.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use tempfile::TempDir;

use crate::peer::DEADLINE;

const PROGRAM: &str = env!("CARGO_BIN_EXE_tidings");

/// A broker in mode "accounts" as a child process.
struct Serving {
    child: Child,
    lines: Receiver<String>,
    /// Everything it logged, up to the last line that was waited for.
    log: Vec<String>,
    address: SocketAddr,
}

impl Serving {
    fn start(folder: &Path) -> Self {
        Self::start_with(&settings(folder))
    }

    fn start_with(arguments: &[String]) -> Self {
        let mut child = Command::new(PROGRAM)
            .arg("serve")
            .args(["--tcp", "127.0.0.1:0", "--set", "log.level=trace"])
            .args(arguments)
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("the program");
        let lines = read_lines(child.stderr.take().expect("a pipe"));
        let mut serving = Self {
            child,
            lines,
            log: Vec::new(),
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
        };
        let line = serving.wait_for("listening");
        let address = line.split("address=").nth(1).expect("an address");
        let address = address.split_whitespace().next().expect("an address");
        serving.address = address.parse().expect("an address");
        // The control socket is there before the first address is announced.
        serving
    }

    fn wait_for(&mut self, word: &str) -> String {
        loop {
            let line = self.lines.recv_timeout(DEADLINE);
            let line = line.unwrap_or_else(|_| panic!("no {word} in {:#?}", self.log));
            self.log.push(line.clone());
            if line.contains(word) {
                return line;
            }
        }
    }

    fn stop(mut self) -> Vec<String> {
        let id = self.child.id().to_string();
        let status = Command::new("kill").args(["-TERM", &id]).status();
        assert!(status.is_ok_and(|status| status.success()));
        assert!(self.child.wait().expect("its end").success());
        self.log.extend(self.lines.iter());
        std::mem::take(&mut self.log)
    }

    fn mosquitto(&self, program: &str, user: &str, password: &str, others: &[&str]) -> Output {
        Command::new(program)
            .args(["-h", "127.0.0.1", "-p", &self.address.port().to_string()])
            .args(["-u", user, "-P", password])
            .args(others)
            .output()
            .expect("mosquitto's clients are installed")
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // It has ended already, unless the test failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read_lines(stderr: ChildStderr) -> Receiver<String> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

fn settings(folder: &Path) -> Vec<String> {
    let data = folder.join("data").display().to_string();
    let set = [
        "auth.mode=accounts",
        "auth.password_memory_kib=1024",
        "auth.password_passes=1",
        "log.format=text",
    ];
    let set = set
        .iter()
        .flat_map(|one| ["--set".to_owned(), (*one).to_owned()]);
    ["--data-dir".to_owned(), data]
        .into_iter()
        .chain(set)
        .collect()
}

/// Runs a command with `input` on its standard input.
fn tidings(folder: &Path, arguments: &[&str], input: &str) -> Output {
    let settings = settings(folder);
    let all: Vec<&str> = arguments
        .iter()
        .copied()
        .chain(settings.iter().map(String::as_str))
        .collect();
    run(&all, input)
}

fn run(arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(PROGRAM)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program");
    let mut stdin = child.stdin.take().expect("a pipe");
    // A command that asks for nothing may have ended already.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    child.wait_with_output().expect("its end")
}

#[track_caller]
fn done(folder: &Path, arguments: &[&str], input: &str) -> String {
    let output = tidings(folder, arguments, input);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {error}");
    String::from_utf8(output.stdout).expect("text")
}

#[track_caller]
fn refused(folder: &Path, arguments: &[&str], input: &str) -> String {
    let output = tidings(folder, arguments, input);
    assert!(!output.status.success(), "{arguments:?} was done");
    String::from_utf8(output.stderr).expect("text")
}

#[test]
fn people_and_devices_are_managed_with_and_without_a_broker() {
    let home = TempDir::new().expect("a folder");
    let folder = home.path();
    // Nobody serves: the store is opened for each command.
    done(
        folder,
        &["user", "add", "alice", "--role", "admin"],
        "alice's secret\n",
    );
    let taken = refused(folder, &["user", "add", "alice"], "another secret\n");
    assert!(
        taken.contains("there is already an account \"alice\""),
        "{taken}"
    );
    for (name, password) in [("a/b", "long enough"), ("bob", "short"), ("bob", "")] {
        refused(folder, &["user", "add", name], password);
    }
    assert_eq!(
        done(folder, &["user", "list"], ""),
        "alice  enabled, admin\n"
    );

    let broker = Serving::start(folder);
    done(folder, &["user", "add", "bob"], "bob's secret\n");
    let token = done(folder, &["device", "add", "thermo", "--owner", "bob"], "");
    let token = token.trim_end();
    let list = done(folder, &["user", "list"], "");
    assert_eq!(list, "alice  enabled, admin\nbob    enabled\n");
    assert_eq!(
        done(folder, &["device", "list"], ""),
        "thermo  enabled, of bob\n"
    );

    let publish = ["-t", "chat/lobby/alice", "-q", "1", "-m", "hello"];
    let output = broker.mosquitto("mosquitto_pub", "alice", "alice's secret", &publish);
    assert!(output.status.success(), "{output:?}");
    let listen = ["-t", "$replay/last/1/chat/lobby/+", "-C", "1", "-W", "20"];
    let output = broker.mosquitto("mosquitto_sub", "bob", "bob's secret", &listen);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "hello\n");
    let measure = ["-t", "device/thermo/temperature", "-m", "21", "-q", "1"];
    let output = broker.mosquitto("mosquitto_pub", "thermo", token, &measure);
    assert!(output.status.success(), "{output:?}");

    for (user, password) in [
        ("alice", "bob's secret"),
        ("thermo", "alice's secret"),
        ("nobody", "alice's secret"),
    ] {
        let output = broker.mosquitto("mosquitto_pub", user, password, &publish);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            error.contains("Connection Refused: bad user name or password"),
            "{error}"
        );
    }

    let command = [
        "-V",
        "5",
        "-t",
        "device/thermo/command/on",
        "-q",
        "1",
        "-m",
        "1",
    ];
    let output = broker.mosquitto("mosquitto_pub", "bob", "bob's secret", &command);
    assert_eq!(String::from_utf8_lossy(&output.stderr), "", "its owner");
    let output = broker.mosquitto("mosquitto_pub", "alice", "alice's secret", &command);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(error.contains("Not authorized"), "{error}");

    done(folder, &["device", "revoke", "thermo"], "");
    let output = broker.mosquitto("mosquitto_pub", "thermo", token, &measure);
    assert!(!output.status.success());
    done(folder, &["user", "disable", "bob"], "");
    assert_eq!(
        done(folder, &["user", "list"], ""),
        "alice  enabled, admin\nbob    disabled\n"
    );
    let output = broker.mosquitto("mosquitto_pub", "bob", "bob's secret", &publish);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        error.contains("Connection Refused: not authorised"),
        "{error}"
    );
    done(folder, &["user", "enable", "bob"], "");
    done(folder, &["user", "passwd", "bob"], "bob's new secret\n");
    done(folder, &["user", "roles", "bob", "press", "admin"], "");
    let output = broker.mosquitto("mosquitto_sub", "bob", "bob's new secret", &listen);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "hello\n");

    // Everything above was logged at level trace.
    let log = broker.stop();
    assert!(log.len() > 10, "{log:#?}");
    let secrets = [
        "alice's secret",
        "bob's secret",
        "bob's new secret",
        token,
        "argon2id",
    ];
    for line in &log {
        assert!(
            !secrets.iter().any(|secret| line.contains(secret)),
            "{line}"
        );
    }

    done(folder, &["user", "delete", "bob"], "");
    let list = done(folder, &["user", "list"], "");
    assert_eq!(list, "alice  enabled, admin\n");
    let gone = refused(folder, &["user", "enable", "bob"], "");
    assert!(gone.contains("there is no user \"bob\""), "{gone}");
    let again = refused(folder, &["user", "add", "bob"], "bob's third secret\n");
    assert!(again.contains("the name is not given again"), "{again}");
}

#[test]
fn the_control_socket_is_for_its_owner_and_secrets_are_not_in_the_dump() {
    use std::os::unix::fs::PermissionsExt;
    let home = TempDir::new().expect("a folder");
    let folder = home.path();
    let broker = Serving::start(folder);
    let socket = folder.join("data").join("control.sock");
    let mode = std::fs::metadata(&socket)
        .expect("a socket")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    done(folder, &["user", "add", "alice"], "alice's secret\n");
    let token = done(folder, &["device", "add", "lamp"], "");
    broker.stop();
    assert!(!socket.exists());

    let data = folder.join("data").display().to_string();
    let dump = Command::new(PROGRAM)
        .args(["dump", "--data-dir", &data])
        .output();
    let dump = String::from_utf8(dump.expect("a dump").stdout).expect("text");
    assert!(dump.contains("\"kind\":\"account\""), "{dump}");
    for secret in ["argon2", "alice's secret", token.trim_end()] {
        assert!(!dump.contains(secret), "{dump}");
    }
}

#[test]
fn init_makes_everything_once_and_its_key_signs_tokens_that_count() {
    use std::os::unix::fs::PermissionsExt;
    let home = TempDir::new().expect("a folder");
    let at = |name: &str| home.path().join(name).display().to_string();
    let (config, data) = (at("tidings.toml"), at("data"));
    let init = || {
        let arguments = ["init", "--config", &config, "--data-dir", &data];
        run(&arguments, "a long password\n")
    };
    let output = init();
    assert!(output.status.success(), "{output:?}");
    let key = home.path().join("data/keys/signing.pem");
    let mode = std::fs::metadata(&key).expect("a key").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let before = std::fs::read(&config).expect("settings");
    let again = init();
    assert!(!again.status.success());
    assert!(String::from_utf8_lossy(&again.stderr).contains("is there already"));
    assert_eq!(std::fs::read(&config).expect("settings"), before);
    let judged = run(&["check-config", "--config", &config], "");
    assert!(judged.status.success(), "{judged:?}");

    let broker = Serving::start_with(&["--config".to_owned(), config.clone()]);
    let publish = ["-t", "chat/lobby/admin", "-q", "1", "-m", "hello"];
    let output = broker.mosquitto("mosquitto_pub", "admin", "a long password", &publish);
    assert!(output.status.success(), "{output:?}");
    let signed = run(
        &["token", "carol", "--role", "press", "--config", &config],
        "",
    );
    let token = String::from_utf8(signed.stdout).expect("text");
    let listen = ["-t", "$replay/last/1/chat/lobby/+", "-C", "1", "-W", "20"];
    let output = broker.mosquitto("mosquitto_sub", "carol", token.trim_end(), &listen);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "hello\n");
    let output = broker.mosquitto("mosquitto_sub", "admin", token.trim_end(), &listen);
    assert!(!output.status.success());
    let log = broker.stop();
    for secret in ["a long password", token.trim_end()] {
        assert!(!log.iter().any(|line| line.contains(secret)), "{secret}");
    }
}
