//! The example configurations for nginx and haproxy, run as they are shipped, with other ports: what goes
//! through them arrives, and the broker knows from whom.
//!
//! `make test-tools` installs both where it can; where they are not, there is nothing to be tried.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tidings_core::codec::Version;
use tidings_core::message::QoS;
use tidings_tests::{
    DEADLINE, Endpoint, RawClient, TidingsOptions, TidingsProcess, clean, websocket,
};

const LOOK: Duration = Duration::from_millis(5);

/// Ports that somebody else may take meanwhile are tried again so often.
const ATTEMPTS: usize = 5;

fn shipped(name: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
    let path = root
        .expect("the workspace")
        .join("config/packaging")
        .join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Debian puts them where only root looks for programs.
fn installed(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<_> = std::env::split_paths(&path).collect();
    folders.push("/usr/sbin".into());
    let found = folders.into_iter().map(|folder| folder.join(program));
    found.into_iter().find(|file| file.is_file())
}

fn free_port() -> u16 {
    let socket = TcpListener::bind("127.0.0.1:0").expect("a port");
    socket.local_addr().expect("an address").port()
}

/// A broker with the settings of an example, on free ports.
fn broker(folder: &Path, settings: &str, ports: &[u16]) -> TidingsProcess {
    let mut settings = shipped(settings);
    for port in ports {
        settings = settings.replace(&format!("127.0.0.1:{port}"), "127.0.0.1:0");
    }
    let file = folder.join("tidings.toml");
    fs::write(&file, settings).expect("a file");
    TidingsOptions::new()
        .config(file)
        .listeners_of_settings()
        .set("log.level", "debug")
        .start()
}

/// A proxy, ended by its id when this is dropped.
struct Proxy(Child);

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a proxy on ports of its own: `command` is given those, in the order of `wanted`.
fn proxy(wanted: usize, command: impl Fn(&[u16]) -> Command) -> (Proxy, Vec<u16>) {
    for _ in 0..ATTEMPTS {
        let ports: Vec<u16> = (0..wanted).map(|_| free_port()).collect();
        let mut command = command(&ports);
        command.stdin(Stdio::null());
        let mut proxy = Proxy(command.spawn().expect("it was found"));
        let until = Instant::now() + DEADLINE;
        loop {
            if proxy.0.try_wait().expect("a child").is_some() {
                break;
            }
            let listens = |port: &u16| TcpStream::connect(("127.0.0.1", *port)).is_ok();
            if ports.iter().all(listens) {
                return (proxy, ports);
            }
            assert!(Instant::now() < until, "{command:?} does not listen");
            thread::sleep(LOOK);
        }
    }
    panic!("the proxy does not run");
}

fn wait_for_log(broker: &TidingsProcess, text: &str) {
    let until = Instant::now() + DEADLINE;
    while !broker.log().contains(text) {
        assert!(Instant::now() < until, "no {text:?} in\n{}", broker.log());
        thread::sleep(LOOK);
    }
}

fn get(port: u16, path: &str, more: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    stream.set_read_timeout(Some(DEADLINE)).expect("a deadline");
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{more}\r\n");
    stream.write_all(request.as_bytes()).expect("it reads");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer");
    text
}

/// Whoever publishes at one door is heard at the other.
fn talk(from: Endpoint, to: Endpoint) {
    let mut bob = RawClient::connect(to, &clean(Version::V5, "bob"));
    bob.subscribe("chat/lobby/+", QoS::AtLeastOnce);
    let mut alice = RawClient::connect(from, &clean(Version::V5, "alice"));
    alice.publish("chat/lobby/alice", b"through a proxy", QoS::AtLeastOnce);
    let heard = bob.receive();
    assert_eq!(heard.payload, b"through a proxy");
}

#[test]
fn haproxy_says_whom_it_speaks_for_and_asks_whether_the_broker_is_well() {
    let Some(haproxy) = installed("haproxy") else {
        eprintln!("haproxy is not installed: nothing is tried");
        return;
    };
    let folder = TempDir::new().expect("a directory");
    let broker = broker(folder.path(), "haproxy/tidings.toml", &[21883, 28083]);
    let behind = |name: &str| broker.listener(name).to_owned();
    let (_proxy, ports) = proxy(2, |ports| {
        let [mqtt, web] = ports else {
            panic!("two ports")
        };
        let settings = shipped("haproxy/haproxy.cfg")
            .replace("127.0.0.1:11883", &format!("127.0.0.1:{mqtt}"))
            .replace("127.0.0.1:18083", &format!("127.0.0.1:{web}"))
            .replace("127.0.0.1:21883", &behind("mqtt"))
            .replace("127.0.0.1:28083", &behind("web"));
        let file = folder.path().join("haproxy.cfg");
        fs::write(&file, settings).expect("a file");
        let mut command = Command::new(&haproxy);
        command.arg("-q").arg("-db").arg("-f").arg(file);
        command
    });
    let at = |port: u16| ([127, 0, 0, 1], port).into();
    talk(
        Endpoint::Tcp(at(ports[0])),
        Endpoint::WebSocket(at(ports[1])),
    );
    let answer = get(ports[1], "/healthz", "");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let mut nobody = TcpStream::connect(("127.0.0.1", ports[0])).expect("it listens");
    nobody.write_all(b"\x30\0nothing at all").expect("it reads");
    let port = nobody.local_addr().expect("an address").port();
    wait_for_log(&broker, &format!("peer=127.0.0.1:{port} by 127.0.0.1:"));
}

#[test]
fn nginx_brings_websockets_and_requests_and_says_whom_they_are_for() {
    let Some(nginx) = installed("nginx") else {
        eprintln!("nginx is not installed: nothing is tried");
        return;
    };
    let folder = TempDir::new().expect("a directory");
    let broker = broker(folder.path(), "nginx/tidings.toml", &[28084]);
    let (_proxy, ports) = proxy(1, |ports| {
        let server = shipped("nginx/tidings.conf")
            .replace("127.0.0.1:18084", &format!("127.0.0.1:{}", ports[0]))
            .replace("127.0.0.1:28084", broker.listener("web"));
        let here = folder.path().display();
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .iter()
            .map(|kind| format!("{kind}_temp_path {here}/{kind};\n"))
            .collect();
        let settings = format!(
            "daemon off;\nmaster_process off;\npid {here}/nginx.pid;\nerror_log {here}/nginx.log;\n\
             events {{ }}\nhttp {{\naccess_log off;\n{temporary}{server}}}\n"
        );
        let file = folder.path().join("nginx.conf");
        fs::write(&file, settings).expect("a file");
        let mut command = Command::new(&nginx);
        command.arg("-e").arg(folder.path().join("nginx.log"));
        command.arg("-c").arg(file);
        command
    });
    let front = Endpoint::WebSocket(([127, 0, 0, 1], ports[0]).into());
    talk(front, front);
    let answer = get(ports[0], "/readyz", "");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let answer = get(ports[0], "/metrics", "");
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    // Another proxy on this machine stands before it.
    let mut client = TcpStream::connect(front.address()).expect("it listens");
    client.set_read_timeout(Some(DEADLINE)).expect("a deadline");
    let request = websocket::request("localhost", "/mqtt", Some("mqtt"));
    let request = request.replacen("\r\n", "\r\nX-Forwarded-For: 192.0.2.9\r\n", 1);
    client.write_all(request.as_bytes()).expect("it reads");
    let mut first = [0; 12];
    client.read_exact(&mut first).expect("an answer");
    assert_eq!(&first, b"HTTP/1.1 101");
    let mut frame = Vec::new();
    websocket::write_frame(true, websocket::BINARY, b"\x30\0nothing", &mut frame);
    client.write_all(&frame).expect("it reads");
    wait_for_log(&broker, "peer=192.0.2.9:0 by 127.0.0.1:");
}
