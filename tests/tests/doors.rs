//! The ways in: behind proxies that say whom they speak for, over Unix sockets and IPv6, by listeners with
//! limits and authentication of their own, and over sockets that a service manager hands over and is told
//! about.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr as UnixAddress, UnixDatagram, UnixListener, UnixStream};
use std::path::Path;
use std::time::Instant;

use tempfile::TempDir;
use tidings_core::codec::{Connect, Packet, ReasonCode, Version, decode, encode};
use tidings_tests::tidings_process::tidings;
use tidings_tests::{DEADLINE, TidingsOptions, TidingsProcess, clean, websocket};

/// A connection over anything.
trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

fn tcp(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(DEADLINE)).expect("a deadline");
    stream.set_nodelay(true).expect("a socket option");
    stream
}

fn unix(address: &str) -> UnixStream {
    let path = address.strip_prefix("unix:").expect("a Unix socket");
    let stream = UnixStream::connect(path).expect("it listens");
    stream.set_read_timeout(Some(DEADLINE)).expect("a deadline");
    stream
}

/// The address of a listener, by whatever it listens.
fn open(address: &str) -> Box<dyn Stream> {
    match address.starts_with("unix:") {
        true => Box::new(unix(address)),
        false => Box::new(tcp(address)),
    }
}

fn connect_bytes(connect: &Connect<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(
        connect.version,
        &Packet::Connect(connect.clone()),
        &mut bytes,
    );
    bytes
}

fn with_password<'a>(user: &'a str, password: &'a str) -> Connect<'a> {
    let mut connect = clean(Version::V5, user);
    connect.password = Some(password.as_bytes());
    connect
}

/// The Reason Code of the CONNACK; `None` if the connection ends without one.
fn connack(stream: &mut impl Stream, connect: &Connect<'_>) -> Option<ReasonCode> {
    // What was refused already may be closed.
    let _ = stream.write_all(&connect_bytes(connect));
    let mut bytes = Vec::new();
    read_until(stream, &mut bytes, |bytes| reason(bytes).is_some());
    reason(&bytes)
}

fn reason(bytes: &[u8]) -> Option<ReasonCode> {
    match decode(Some(Version::V5), bytes, usize::MAX).expect("MQTT") {
        Some((Packet::ConnAck(connack), _)) => Some(connack.reason),
        Some((other, _)) => panic!("no CONNACK: {other:?}"),
        None => None,
    }
}

/// Reads until it is enough, or until the end.
fn read_until(stream: &mut impl Stream, bytes: &mut Vec<u8>, enough: impl Fn(&[u8]) -> bool) {
    let mut more = [0; 4096];
    while !enough(bytes) {
        match stream.read(&mut more) {
            Ok(0) => return,
            Ok(len) => bytes.extend_from_slice(&more[..len]),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return,
            Err(error) => panic!("no answer: {error}"),
        }
    }
}

/// As [`connack`], over WebSocket.
fn connack_in_frames(stream: &mut impl Stream, connect: &Connect<'_>) -> Option<ReasonCode> {
    let request = websocket::request("localhost", "/mqtt", Some("mqtt"));
    stream.write_all(request.as_bytes()).expect("it reads");
    let ends = |bytes: &[u8]| bytes.windows(4).position(|four| four == b"\r\n\r\n");
    let mut bytes = Vec::new();
    read_until(stream, &mut bytes, |bytes| ends(bytes).is_some());
    let head = String::from_utf8_lossy(&bytes).into_owned();
    websocket::check_answer(&head).expect("a WebSocket");
    bytes.drain(..ends(&bytes)? + 4);
    let mut frame = Vec::new();
    websocket::write_frame(true, websocket::BINARY, &connect_bytes(connect), &mut frame);
    stream.write_all(&frame).expect("it reads");
    let payload = |bytes: &[u8]| websocket::read_frame(bytes).expect("a frame");
    read_until(stream, &mut bytes, |bytes| payload(bytes).is_some());
    reason(&bytes[payload(&bytes)?.payload])
}

/// A GET, and the status and body of its answer.
fn get(stream: &mut impl Stream, path: &str) -> (String, String) {
    http(stream, &format!("GET {path}"), "")
}

fn http(stream: &mut impl Stream, begin: &str, body: &str) -> (String, String) {
    let length = body.len();
    write!(
        stream,
        "{begin} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .expect("it reads");
    let mut bytes = Vec::new();
    read_until(stream, &mut bytes, |_| false);
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let status = text.split(' ').nth(1).unwrap_or_default().to_owned();
    let body = text.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
    (status, body.unwrap_or_default())
}

/// PROXY, version 1.
fn line(from: &str) -> Vec<u8> {
    format!("PROXY TCP4 {from} 10.0.0.1 12345 1883\r\n").into_bytes()
}

/// PROXY, version 2, with something added that is to be passed over.
fn binary(from: Ipv4Addr) -> Vec<u8> {
    let mut bytes = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x13".to_vec();
    bytes.extend(from.octets());
    bytes.extend([10, 0, 0, 1, 0x30, 0x39, 0x07, 0x5b, 0xE0, 0, 4, 1, 2, 3, 4]);
    bytes
}

struct House {
    broker: TidingsProcess,
    folder: TempDir,
}

impl House {
    /// A broker with these settings; `FOLDER` in them is a directory of its own.
    fn new(settings: &str) -> Self {
        Self::with(settings, |options| options)
    }

    fn with(settings: &str, more: impl FnOnce(TidingsOptions) -> TidingsOptions) -> Self {
        let folder = TempDir::new().expect("a directory");
        let options = Self::options(settings, folder.path());
        let broker = more(options).start();
        Self { broker, folder }
    }

    fn options(settings: &str, folder: &Path) -> TidingsOptions {
        let file = folder.join("tidings.toml");
        let settings = settings.replace("FOLDER", &folder.display().to_string());
        fs::write(&file, settings).expect("a file");
        TidingsOptions::new()
            .config(file)
            .listeners_of_settings()
            .set("log.level", "debug")
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    fn connack(&self, listener: &str, connect: &Connect<'_>) -> Option<ReasonCode> {
        connack(&mut open(self.broker.listener(listener)), connect)
    }

    fn wait_for_log(&self, text: &str) {
        let until = Instant::now() + DEADLINE;
        while !self.broker.log().contains(text) {
            assert!(
                Instant::now() < until,
                "no {text:?} in\n{}",
                self.broker.log()
            );
            std::thread::yield_now();
        }
    }
}

const PROXIED: &str = r#"
[auth]
mode = "accounts"
failures_per_address = 1
failures_per_address_per_minute = 1
[[listeners]]
name = "mqtt"
kind = "tcp"
address = "127.0.0.1:0"
proxy_protocol = true
trusted_proxies = ["127.0.0.0/8"]
[[listeners]]
name = "web"
kind = "ws"
address = "unix:FOLDER/web.sock"
proxy_protocol = true
[[listeners]]
name = "any"
kind = "auto"
address = "127.0.0.1:0"
proxy_protocol = true
trusted_proxies = ["127.0.0.1"]
[[listeners]]
name = "elsewhere"
kind = "tcp"
address = "127.0.0.1:0"
proxy_protocol = true
trusted_proxies = ["10.0.0.0/8"]
[[listeners]]
name = "any-elsewhere"
kind = "auto"
address = "127.0.0.1:0"
proxy_protocol = true
trusted_proxies = ["10.0.0.0/8"]
"#;

#[test]
fn what_a_trusted_proxy_says_is_whom_limits_and_logs_are_about() {
    let house = House::new(PROXIED);
    let wrong = ReasonCode::BadUserNameOrPassword;
    let too_many = ReasonCode::ConnectionRateExceeded;

    let mut stream = tcp(house.broker.listener("mqtt"));
    for byte in line("192.0.2.1") {
        stream.write_all(&[byte]).expect("it reads");
    }
    let guess = with_password("alice", "guess");
    assert_eq!(connack(&mut stream, &guess), Some(wrong));
    house.wait_for_log("192.0.2.1:12345 by 127.0.0.1:");

    // The address has failed once; the proxy's has not, nor has another.
    let after = |header: Vec<u8>, guess: &Connect<'_>, listener: &str| {
        let mut stream = open(house.broker.listener(listener));
        stream.write_all(&header).expect("it reads");
        connack(&mut stream, guess)
    };
    let guess = with_password("bob", "guess");
    assert_eq!(after(line("192.0.2.1"), &guess, "mqtt"), Some(too_many));
    let first = Ipv4Addr::new(192, 0, 2, 1);
    assert_eq!(after(binary(first), &guess, "mqtt"), Some(too_many));
    assert_eq!(after(binary(first), &guess, "any"), Some(too_many));
    let second = Ipv4Addr::new(192, 0, 2, 2);
    assert_eq!(after(binary(second), &guess, "any"), Some(wrong));
    let guess = with_password("carol", "guess");
    assert_eq!(after(line("192.0.2.2"), &guess, "any"), Some(too_many));

    let mut stream = unix(house.broker.listener("web"));
    stream.write_all(&line("192.0.2.2")).expect("it reads");
    let refused = connack_in_frames(&mut stream, &guess);
    assert_eq!(refused, Some(too_many));
    let mut stream = unix(house.broker.listener("web"));
    stream.write_all(&binary(second)).expect("it reads");
    let body = r#"{"user":"dave","password":"guess"}"#;
    let (status, text) = http(&mut stream, "POST /v1/login", body);
    assert_eq!(status, "429", "{text}");
}

#[test]
fn a_port_for_everything_takes_connections_with_and_without_a_header() {
    let house = House::new(PROXIED);
    let any = house.broker.listener("any");
    let guess = with_password("alice", "guess");
    let wrong = Some(ReasonCode::BadUserNameOrPassword);
    assert_eq!(connack(&mut tcp(any), &guess), wrong);
    assert_eq!(get(&mut tcp(any), "/healthz").0, "200");
    // P is also how a header begins, and one byte does not tell.
    let mut stream = tcp(any);
    stream.write_all(b"P").expect("it reads");
    stream.write_all(b"O").expect("it reads");
    let body = r#"{"user":"bob","password":"guess"}"#;
    assert_eq!(http(&mut stream, "ST /v1/login", body).0, "429");
    // LOCAL: the proxy asks for itself.
    let mut stream = tcp(any);
    let local = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";
    stream.write_all(local).expect("it reads");
    assert_eq!(get(&mut stream, "/readyz").0, "200");
    // Who is no proxy comes without a header.
    let elsewhere = house.broker.listener("any-elsewhere");
    assert_eq!(get(&mut tcp(elsewhere), "/readyz").0, "200");
}

#[test]
fn who_is_not_trusted_or_brings_no_proper_header_is_refused() {
    let house = House::new(PROXIED);
    let guess = with_password("alice", "guess");
    let refused = |listener: &str, begin: &[u8]| {
        let mut stream = tcp(house.broker.listener(listener));
        stream.write_all(begin).expect("it reads");
        assert_eq!(connack(&mut stream, &guess), None, "{begin:?}");
    };
    refused("elsewhere", &line("10.0.0.7"));
    house.wait_for_log("not one of the listener's trusted_proxies");
    refused("any-elsewhere", &binary(Ipv4Addr::new(10, 0, 0, 7)));
    refused("mqtt", b"");
    house.wait_for_log("does not begin with a PROXY header");
    refused("mqtt", b"PROXY TCP4 192.0.2.1 10.0.0.1 12345 99999\r\n");
    refused("any", b"PROXY TCP4 192.0.2.1 10.0.0.1 12345 99999\r\n");
    // Nobody was believed: what failed, failed from nowhere.
    let mut stream = tcp(house.broker.listener("mqtt"));
    stream.write_all(&line("192.0.2.1")).expect("it reads");
    let judged = connack(&mut stream, &guess);
    assert_eq!(judged, Some(ReasonCode::BadUserNameOrPassword));
}

#[test]
fn a_request_of_a_trusted_http_proxy_is_for_whom_it_says_and_of_others_for_themselves() {
    let house = House::new(
        r#"
[auth]
mode = "accounts"
failures_per_address = 1
failures_per_address_per_minute = 1
[[listeners]]
name = "web"
kind = "ws"
address = "127.0.0.1:0"
forwarded_for = true
trusted_proxies = ["127.0.0.1"]
[[listeners]]
name = "elsewhere"
kind = "ws"
address = "127.0.0.1:0"
forwarded_for = true
trusted_proxies = ["10.0.0.0/8"]
"#,
    );
    let login = |listener: &str, user: &str, forwarded: &str| {
        let begin =
            format!("POST /v1/login HTTP/1.1\r\nX-Forwarded-For: {forwarded}\r\nX-Rest: of");
        let body = format!(r#"{{"user":"{user}","password":"guess"}}"#);
        let mut stream = tcp(house.broker.listener(listener));
        http(&mut stream, &begin, &body).0
    };
    assert_eq!(login("web", "alice", "127.0.0.1, 192.0.2.1"), "401");
    assert_eq!(login("web", "bob", "192.0.2.9, 192.0.2.1"), "429");
    assert_eq!(login("web", "bob", "192.0.2.2"), "401");
    // Where nobody is believed all of them are the same.
    assert_eq!(login("elsewhere", "carol", "192.0.2.3"), "401");
    assert_eq!(login("elsewhere", "dave", "192.0.2.4"), "429");
}

const UNIX: &str = r#"
[[listeners]]
name = "mqtt"
kind = "tcp"
address = "unix:FOLDER/mqtt.sock"
socket_mode = "0600"
[[listeners]]
name = "web"
kind = "ws"
address = "unix:FOLDER/web.sock"
[[listeners]]
name = "any"
kind = "auto"
address = "unix:FOLDER/any.sock"
"#;

#[test]
fn unix_sockets_carry_everything_and_are_replaced_after_a_crash_and_gone_after_a_stop() {
    let mut house = House::new(UNIX);
    let sockets = ["mqtt.sock", "web.sock", "any.sock"].map(|name| house.path(name));
    let mode = |path: &Path| fs::metadata(path).expect("a socket").permissions().mode() & 0o777;
    assert_eq!(mode(&sockets[0]), 0o600);
    assert_eq!(mode(&sockets[1]), 0o660);
    let second = House::options(UNIX, house.folder.path()).run_to_the_end();
    assert!(!second.status.success());
    let text = String::from_utf8_lossy(&second.stderr);
    assert!(text.contains("somebody listens on that socket"), "{text}");
    for round in 0..2 {
        let alice = clean(Version::V5, "alice");
        let success = Some(ReasonCode::Success);
        assert_eq!(house.connack("mqtt", &alice), success);
        assert_eq!(house.connack("any", &alice), success);
        for listener in ["web", "any"] {
            let at = house.broker.listener(listener);
            assert_eq!(connack_in_frames(&mut unix(at), &alice), success);
            assert_eq!(get(&mut unix(at), "/healthz").0, "200");
            // Whoever is on this machine.
            assert_eq!(get(&mut unix(at), "/metrics").0, "200");
        }
        if round == 0 {
            house.broker.kill();
            assert!(sockets.iter().all(|path| path.exists()));
            house.broker.restart();
        }
    }
    assert!(house.broker.terminate().success());
    assert!(!sockets.iter().any(|path| path.exists()));
}

#[test]
fn ipv6_is_taken_and_ipv4_over_it_is_called_ipv4() {
    if TcpListener::bind("[::1]:0").is_err() {
        // A machine without IPv6 has nothing to be tested.
        return;
    }
    let house = House::new(
        r#"
[server]
allow_public_open_mode = true
[[listeners]]
name = "loopback"
kind = "tcp"
address = "[::1]:0"
[[listeners]]
name = "both"
kind = "auto"
address = "[::]:0"
[[listeners]]
name = "six"
kind = "tcp"
address = "[::]:0"
ipv6_only = true
"#,
    );
    let alice = clean(Version::V5, "alice");
    let success = Some(ReasonCode::Success);
    assert_eq!(house.connack("loopback", &alice), success);
    let port_of = |name: &str| -> u16 {
        let address: SocketAddr = house.broker.listener(name).parse().expect("an address");
        address.port()
    };
    let both = port_of("both");
    assert_eq!(connack(&mut tcp(&format!("[::1]:{both}")), &alice), success);
    let mut by_ipv4 = tcp(&format!("127.0.0.1:{both}"));
    by_ipv4.write_all(b"\x30nonsense").expect("it reads");
    let mut rest = Vec::new();
    read_until(&mut by_ipv4, &mut rest, |_| false);
    house.wait_for_log("peer=127.0.0.1:");
    assert!(!house.broker.log().contains("::ffff"));
    let six = port_of("six");
    assert_eq!(connack(&mut tcp(&format!("[::1]:{six}")), &alice), success);
    assert!(TcpStream::connect(("127.0.0.1", six)).is_err());
}

#[test]
fn each_listener_has_its_own_places_and_its_own_authentication() {
    let house = House::new(
        r#"
[auth]
mode = "accounts"
[[listeners]]
name = "public"
kind = "auto"
address = "127.0.0.1:0"
[[listeners]]
name = "inside"
kind = "auto"
address = "unix:FOLDER/inside.sock"
auth = "open"
max_connections = 1
"#,
    );
    let alice = clean(Version::V5, "alice");
    let no_password = Some(ReasonCode::BadUserNameOrPassword);
    let success = Some(ReasonCode::Success);
    assert_eq!(house.connack("public", &alice), no_password);
    let mut first = unix(house.broker.listener("inside"));
    assert_eq!(connack(&mut first, &alice), success);
    let bob = clean(Version::V5, "bob");
    let full = Some(ReasonCode::QuotaExceeded);
    assert_eq!(house.connack("inside", &bob), full);
    drop(first);
    // Its place is free when its end was seen.
    let until = Instant::now() + DEADLINE;
    while house.connack("inside", &bob) != success {
        assert!(Instant::now() < until, "the place is not given back");
    }

    // A login where everyone is believed counts there alone.
    let mut stream = unix(house.broker.listener("inside"));
    let (status, body) = http(&mut stream, "POST /v1/login", r#"{"user":"admin"}"#);
    assert_eq!(status, "200", "{body}");
    let body: serde_json::Value = serde_json::from_str(&body).expect("JSON");
    let token = body["token"].as_str().expect("a token");
    let me = format!("GET /v1/me?x=1 HTTP/1.1\r\nAuthorization: Bearer {token}\r\nX-Rest:");
    let mut stream = unix(house.broker.listener("inside"));
    assert_eq!(http(&mut stream, &me, "").0, "200");
    let mut stream = tcp(house.broker.listener("public"));
    assert_eq!(http(&mut stream, &me, "").0, "401");
    let admin = with_password("admin", token);
    assert_eq!(house.connack("public", &admin), no_password);
}

#[test]
fn the_same_settings_are_judged_before_anything_starts() {
    let folder = TempDir::new().expect("a directory");
    let file = folder.path().join("tidings.toml");
    let settings = "[auth]\nmode = \"accounts\"\n[[listeners]]\nkind = \"tcp\"\naddress = \"0.0.0.0:0\"\n\
                    auth = \"open\"\n";
    fs::write(&file, settings).expect("a file");
    for command in ["check-config", "serve"] {
        let output = tidings([command.as_ref(), "--config".as_ref(), file.as_os_str()]);
        assert!(!output.status.success(), "{command}");
        let text = String::from_utf8_lossy(&output.stderr);
        let place = format!("{}:3: [[listeners]] address", file.display());
        assert!(text.contains(&place), "{command}: {text}");
    }
}

/// What the broker says to its service manager, in its order.
struct Manager(UnixDatagram);

impl Manager {
    fn next(&self) -> String {
        let mut bytes = [0; 4096];
        self.0.set_read_timeout(Some(DEADLINE)).expect("a deadline");
        let len = self.0.recv(&mut bytes).expect("the broker says something");
        String::from_utf8_lossy(&bytes[..len]).into_owned()
    }

    /// The next statement that is no sign of life.
    fn next_change(&self) -> String {
        loop {
            let text = self.next();
            if !text.contains("WATCHDOG=1") {
                return text;
            }
        }
    }
}

#[test]
fn a_service_manager_is_told_when_the_broker_is_ready_reloads_lives_and_stops() {
    let name = format!("tidings-doors-{}", std::process::id());
    let address = UnixAddress::from_abstract_name(&name).expect("a name");
    let manager = Manager(UnixDatagram::bind_addr(&address).expect("a socket"));
    let mut house = House::with(UNIX, |options| {
        options
            .environment("NOTIFY_SOCKET", format!("@{name}"))
            .environment("WATCHDOG_USEC", 1_000_000)
    });
    assert_eq!(manager.next(), "READY=1\nSTATUS=serving");
    assert_eq!(
        manager.next(),
        "WATCHDOG=1\nSTATUS=serving, 0 clients connected"
    );
    house.broker.signal("HUP");
    let reloading = manager.next_change();
    assert!(
        reloading.starts_with("RELOADING=1\nMONOTONIC_USEC="),
        "{reloading}"
    );
    assert_eq!(manager.next_change(), "READY=1\nSTATUS=serving");
    fs::write(house.path("tidings.toml"), "[nonsense]\n").expect("a file");
    house.broker.signal("HUP");
    let reloading = manager.next_change();
    assert!(reloading.starts_with("RELOADING=1"), "{reloading}");
    let ready = manager.next_change();
    assert!(
        ready.starts_with("READY=1\n") && ready.contains("wrong"),
        "{ready}"
    );
    assert!(manager.next().contains("WATCHDOG=1"));
    assert!(house.broker.terminate().success());
    assert!(manager.next_change().starts_with("STOPPING=1"));
}

#[test]
fn sockets_that_are_handed_over_go_to_their_listeners_and_stay() {
    let folder = TempDir::new().expect("a directory");
    let path = folder.path().join("held.sock");
    let network = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = network.local_addr().expect("an address").to_string();
    let local = UnixListener::bind(&path).expect("a socket");
    let settings = format!(
        r#"
[[listeners]]
name = "by-name"
kind = "tcp"
address = "127.0.0.1:1"
[[listeners]]
name = "by-address"
kind = "auto"
address = "unix:{}"
"#,
        path.display()
    );
    let (held_network, held_local) = (network.try_clone(), local.try_clone());
    let mut house = House::with(&settings, |options| {
        options
            .hand_over("by-name", held_network.expect("a socket"))
            .hand_over("tidings.socket", held_local.expect("a socket"))
    });
    assert_eq!(house.broker.listener("by-name"), address);
    let alice = clean(Version::V5, "alice");
    let success = Some(ReasonCode::Success);
    assert_eq!(house.connack("by-name", &alice), success);
    assert_eq!(house.connack("by-address", &alice), success);
    house.broker.signal("HUP");
    house.wait_for_log("settings were read again");
    assert!(house.broker.terminate().success());
    // Who connects meanwhile waits for the next start.
    let mut early = tcp(&address);
    assert!(path.exists());
    house.broker.restart();
    assert_eq!(connack(&mut early, &alice), success);
}

#[test]
fn a_socket_that_is_handed_over_is_judged_by_where_it_is_bound_and_must_belong_to_a_listener() {
    let folder = TempDir::new().expect("a directory");
    let settings = "[[listeners]]\nname = \"mqtt\"\nkind = \"tcp\"\naddress = \"127.0.0.1:0\"\n";
    let refused = |name: &str, address: &str| {
        let socket = TcpListener::bind(address).expect("a port");
        let options = House::options(settings, folder.path()).hand_over(name, socket);
        let output = options.run_to_the_end();
        assert!(!output.status.success());
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let public = refused("mqtt", "0.0.0.0:0");
    assert!(
        public.contains("can be reached from other machines"),
        "{public}"
    );
    let foreign = refused("web", "127.0.0.1:0");
    assert!(foreign.contains("no listener has that name"), "{foreign}");
}
