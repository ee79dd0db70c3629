//! Settings as a user gives them: precedence, replaced lists, and what the errors say.

use std::path::PathBuf;

use tidings_config::{
    AuthMode, BridgeAddress, ConfigErrors, Direction, Durability, Keep, Level, ListenerAuth,
    ListenerKind, LogFormat, Settings, SocketMode, Sources, Transport,
};

/// A directory for one test's `tidings.toml`, removed at the end.
struct File {
    directory: PathBuf,
}

impl File {
    fn new(test: &str, text: &str) -> Self {
        let directory =
            std::env::temp_dir().join(format!("tidings-config-{}-{test}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(directory.join("tidings.toml"), text).unwrap();
        Self { directory }
    }

    fn sources(&self) -> Sources {
        Sources {
            file: Some(self.directory.join("tidings.toml")),
            ..Sources::default()
        }
    }

    fn load(&self) -> Result<Settings, ConfigErrors> {
        Settings::load(&self.sources())
    }

    /// The error lines, with the directory cut off.
    fn errors(&self) -> Vec<String> {
        let prefix = format!("{}/", self.directory.display());
        self.load()
            .unwrap_err()
            .lines()
            .map(|line| line.replace(&prefix, ""))
            .collect()
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

fn env(name: &str, value: &str) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

fn load_set(set: &[&str]) -> Result<Settings, ConfigErrors> {
    let set = set.iter().map(|&flag| flag.to_owned()).collect();
    Settings::load(&Sources {
        set,
        ..Sources::default()
    })
}

fn only_error(result: Result<Settings, ConfigErrors>) -> String {
    let errors = result.unwrap_err();
    assert_eq!(errors.lines().count(), 1, "{errors}");
    errors.to_string()
}

#[test]
fn without_sources_the_settings_are_the_defaults() {
    assert_eq!(
        Settings::load(&Sources::default()).unwrap(),
        Settings::default()
    );
}

#[test]
fn flags_are_stronger_than_the_environment_than_the_file_than_the_defaults() {
    let file = File::new(
        "precedence",
        "[mqtt]\nmax_qos = 1\nreceive_maximum = 10\nmax_inflight_out = 10\n",
    );
    let mut sources = file.sources();
    sources.env = vec![
        env("TIDINGS_MQTT__RECEIVE_MAXIMUM", "20"),
        env("TIDINGS_MQTT__MAX_INFLIGHT_OUT", "20"),
    ];
    sources.set = vec![
        "mqtt.max_inflight_out=25".into(),
        "mqtt.max_inflight_out=30".into(),
    ];
    let mqtt = Settings::load(&sources).unwrap().mqtt;
    assert_eq!(mqtt.topic_alias_maximum, 64);
    assert_eq!(mqtt.max_qos, 1);
    assert_eq!(mqtt.receive_maximum, 20);
    assert_eq!(mqtt.max_inflight_out, 30, "the last flag counts");
}

#[test]
fn text_from_environment_and_flags_becomes_what_the_key_wants() {
    let sources = Sources {
        env: vec![
            env("TIDINGS_SERVER__DATA_DIR", "123"),
            env("TIDINGS_SERVER__ALLOW_PUBLIC_OPEN_MODE", "true"),
            env("TIDINGS_JOURNAL__DURABILITY", "interval"),
            env(
                "TIDINGS_LOG__MODULES",
                "{ \"tidings_broker::listener\" = \"trace\" }",
            ),
            env(
                "TIDINGS_LISTENERS",
                "[{ kind = \"auto\", address = \"127.0.0.1:7000\" }]",
            ),
            env("TIDINGS_TEST_PYTHON", "not a setting"),
            env("HOME", "/nowhere"),
        ],
        set: vec![
            "log.format=\"json\"".into(),
            "log.modules.tidings_core=debug".into(),
            "log.modules.tidings_bridge::remote=warn".into(),
        ],
        ..Sources::default()
    };
    let settings = Settings::load(&sources).unwrap();
    assert_eq!(settings.server.data_dir, PathBuf::from("123"));
    assert!(settings.server.allow_public_open_mode);
    assert_eq!(settings.journal.durability, Durability::Interval);
    assert_eq!(settings.log.format, LogFormat::Json);
    assert_eq!(
        settings.log.modules["tidings_broker::listener"],
        Level::Trace
    );
    assert_eq!(
        settings.log.directives(),
        "info,tidings_bridge::remote=warn,tidings_broker::listener=trace,tidings_core=debug"
    );
    assert_eq!(settings.listeners.len(), 1);
    assert_eq!(settings.listeners[0].kind, ListenerKind::Auto);
    assert_eq!(settings.listeners[0].path, "/mqtt");
}

#[test]
fn lists_in_a_file_replace_the_shipped_ones() {
    let file = File::new(
        "replace",
        r##"
bridges = []

[[listeners]]
kind = "ws"
address = "localhost:0"

[[topics]]
pattern = "a/{b}"
publish = "any"
subscribe = "any"
keep = { count = 3 }

[[topics]]
pattern = "#"
publish = "none"
subscribe = "none"
keep = {}
"##,
    );
    let settings = file.load().unwrap();
    assert_eq!(settings.listeners.len(), 1);
    assert_eq!(settings.listeners[0].address.to_string(), "127.0.0.1:0");
    let [first, second] = settings.topics.as_slice() else {
        panic!("{:?}", settings.topics)
    };
    assert_eq!((first.line, second.line), (8, 14));
    assert!(
        first.origin.to_string().ends_with("/tidings.toml:8"),
        "{}",
        first.origin
    );
    assert_eq!(
        first.keep,
        Some(Keep {
            days: None,
            count: Some(3),
            mib: None
        })
    );
    assert_eq!(first.stream, None);
    assert_eq!(second.keep, Some(Keep::default()));
}

#[test]
fn a_bridge_is_read_and_its_password_is_not_printed() {
    let file = File::new(
        "bridge",
        r##"
[[bridges]]
name = "plant"
address = "ws://broker.example:8083"
protocol = 5
username = "u"
password = "hunter2"
topics = [
  { pattern = "sensors/#", direction = "both", remote_prefix = "r/" },
  { pattern = "x" },
]
"##,
    );
    let settings = file.load().unwrap();
    let bridge = &settings.bridges[0];
    assert_eq!(bridge.address.to_string(), "ws://broker.example:8083/mqtt");
    assert_eq!(bridge.password.as_ref().unwrap().expose(), "hunter2");
    assert_eq!(bridge.topics[0].direction, Direction::Both);
    assert_eq!(
        (bridge.topics[1].direction, bridge.topics[1].qos),
        (Direction::In, 1)
    );
    assert!(!format!("{settings:?}").contains("hunter2"));
}

#[test]
fn errors_never_repeat_a_password() {
    let bridge =
        "[[bridges]]\nname = \"a\"\naddress = \"tcp://a:1\"\ntopics = []\nusername = \"u\"\n";
    for wrong in [
        "password = 771177",
        "password = 771177.5",
        "password = \"771177",
        "password = [\"771177\"]",
    ] {
        let errors = File::new("secret", &format!("{bridge}{wrong}\n")).errors();
        assert!(errors[0].starts_with("tidings.toml:6: "), "{errors:?}");
        assert!(!errors.concat().contains("771177"), "{errors:?}");
    }
    let file = File::new(
        "userinfo",
        "[[bridges]]\nname = \"a\"\ntopics = []\naddress = \"tcp://me:771177@a:1\"\n",
    );
    let errors = file.errors();
    assert!(!errors.concat().contains("771177"), "{errors:?}");
}

#[test]
fn several_errors_are_reported_together_with_file_and_line() {
    let file = File::new(
        "several",
        r#"[server]
data_dri = "x"
shards = "4"

[limits]
max_packet_bytes = 12

[mqtt]
max_packet_bytes = 12
max_qos = -1
keep_alive_max_s = 65536
receive_maximum = 99999999999999999999
connect_timeout_s = 1.5

[servr]
shards = 1

[journal]
durability = "fsnyc"

[log]
level = "loud"
modules = { a = "debug", b = "quiet" }

[[listeners]]
kind = "tcp"
adress = "127.0.0.1:1883"

[[listeners]]
kind = "udp"
address = "1883"

[[topics]]
pattern = "a"
publish = "any"
subscribe = ""
keep = { dayz = 3 }

[[bridges]]
name = "a"
address = "http://x"
topics = [
  { pattern = "x", direction = "out" },
  { pattern = "y", direction = "sideways" },
]
"#,
    );
    let expected = [
        "tidings.toml:2: [server] data_dri: unknown key; did you mean `data_dir`?",
        "tidings.toml:3: [server] shards: expected a whole number, not negative, found string \"4\"",
        "tidings.toml:6: [limits] max_packet_bytes: unknown key; the shipped tidings.toml has all 36",
        "tidings.toml:9: [mqtt] max_packet_bytes: 12 is not within 1024 to 268435460 (MQTT encodes no larger packet)",
        "tidings.toml:10: [mqtt] max_qos: expected a whole number from 0 to 255, found integer `-1`",
        "tidings.toml:11: [mqtt] keep_alive_max_s: expected a whole number from 0 to 65535, found integer `65536`",
        "tidings.toml:12: [mqtt] receive_maximum: expected a whole number from 0 to 65535, found string \"99999999999999999999\"",
        "tidings.toml:13: [mqtt] connect_timeout_s: expected a whole number, not negative, found floating point `1.5`",
        "tidings.toml:15: unknown section `servr`; did you mean `server`?",
        "tidings.toml:19: [journal] durability: \"fsnyc\" is none of \"fsync\", \"interval\"",
        "tidings.toml:22: [log] level: \"loud\" is none of \"off\", \"error\", \"warn\", \"info\", \"debug\", \"trace\"",
        "tidings.toml:23: [log] modules.b: \"quiet\" is none of \"off\", \"error\", \"warn\", \"info\", \"debug\", \"trace\"",
        "tidings.toml:25: [[listeners]] address: is missing",
        "tidings.toml:27: [[listeners]] adress: unknown key; did you mean `address`?",
        "tidings.toml:30: [[listeners]] kind: \"udp\" is none of \"tcp\", \"ws\", \"auto\"",
        "tidings.toml:31: [[listeners]] address: \"1883\" is not an address and port, such as 127.0.0.1:1883, [::1]:1883 or 0.0.0.0:1883, nor a Unix socket, such as unix:/run/tidings/mqtt.sock",
        "tidings.toml:36: [[topics]] subscribe: is empty",
        "tidings.toml:37: [[topics]] keep: unknown key `dayz`; did you mean `days`?",
        "tidings.toml:41: [[bridges]] address: expected tcp:// or mqtts://host:port, or ws:// or wss://host:port/path",
        "tidings.toml:44: [[bridges]] topics.direction: \"sideways\" is none of \"in\", \"out\", \"both\"",
    ];
    let errors = file.errors();
    for (found, expected) in errors.iter().zip(expected) {
        assert_eq!(found, expected);
    }
    assert_eq!(errors.len(), expected.len(), "{errors:#?}");
}

#[test]
fn what_is_wrong_in_one_place_is_said_in_the_same_order_each_time() {
    let flag =
        "topics=[{pattern=\"a\",publish=\"any\",subscribe=\"any\",b=1,c=1,d=1,keep={e=1,f=1,g=1}}]";
    let first = load_set(&[flag]).unwrap_err();
    for _ in 0..20 {
        assert_eq!(load_set(&[flag]).unwrap_err(), first);
    }
}

#[test]
fn an_address_that_is_asked_for_secrets_is_safe_however_it_is_written() {
    for (url, is_safe) in [
        ("https://example.org/", true),
        ("http://127.0.0.1:8000/", true),
        ("http://localhost", true),
        ("http://[::1]:80/?a=b", true),
        ("http://example.org/", false),
        ("http://localhost.example.org/", false),
        // A user named localhost, at another host.
        ("http://localhost@example.org/", false),
        ("http://localhost:@example.org/", false),
        ("http://localhost:80@example.org:80/", false),
        ("HTTP://example.org/", false),
        ("file:///etc/passwd", false),
    ] {
        let loaded = load_set(&[&format!("otel.endpoint={url}")]);
        assert_eq!(loaded.is_ok(), is_safe, "{url}: {loaded:?}");
    }
}

#[test]
fn all_syntax_errors_have_their_lines() {
    let errors = File::new("syntax", "[server]\nshards = \n\n[mqtt\nmax_qos = 2\n").errors();
    assert_eq!(errors.len(), 2, "{errors:#?}");
    assert!(errors[0].starts_with("tidings.toml:2: "), "{errors:#?}");
    assert!(errors[1].starts_with("tidings.toml:4: "), "{errors:#?}");
}

#[test]
fn a_file_that_is_not_there_is_an_error() {
    let sources = Sources {
        file: Some("/nonexistent/tidings.toml".into()),
        ..Sources::default()
    };
    let error = only_error(Settings::load(&sources));
    assert!(
        error.starts_with("/nonexistent/tidings.toml: cannot be read: "),
        "{error}"
    );
}

#[test]
fn a_section_of_the_wrong_shape_is_an_error_at_its_line() {
    let errors = File::new(
        "shape",
        "server = 5\ntopics = [1]\n[listeners]\nkind = \"tcp\"\n",
    )
    .errors();
    assert_eq!(
        errors,
        [
            "tidings.toml:1: [server]: expected a table",
            "tidings.toml:2: [[topics]]: expected a list of tables",
            "tidings.toml:3: [[listeners]]: expected a list of tables",
        ]
    );
}

#[test]
fn an_unknown_section_is_an_error_even_if_empty_or_dotted() {
    let errors = File::new("unknown", "\"server.shards\" = 3\n[nothing]\n").errors();
    assert_eq!(errors.len(), 2, "{errors:?}");
    assert!(
        errors[1].starts_with("tidings.toml:2: unknown section `nothing`"),
        "{errors:?}"
    );
}

#[test]
fn errors_of_flags_and_environment_name_the_flag_and_the_variable() {
    let sources = Sources {
        env: vec![
            env("TIDINGS_AUTH__MODES__X", "3"),
            env("TIDINGS_MQTT__MAX_QOS", "3"),
            env("TIDINGS_NOTHING__X", "3"),
        ],
        set: vec![
            "mqtt.receive_maximum=many".into(),
            "server".into(),
            "server=3".into(),
            "topics.pattern=a".into(),
            "topics=a".into(),
            "sys.interval_sec=1".into(),
        ],
        ..Sources::default()
    };
    let errors: Vec<_> = Settings::load(&sources).unwrap_err().lines().collect();
    let expected = [
        "TIDINGS_AUTH__MODES__X: [auth] modes: unknown key; did you mean `mode`?",
        "TIDINGS_MQTT__MAX_QOS: [mqtt] max_qos: 3 is not within 0 to 2 (MQTT has no other)",
        "TIDINGS_NOTHING__X: unknown section `nothing`; the shipped tidings.toml has all 20",
        "--set mqtt.receive_maximum: [mqtt] receive_maximum: expected a whole number from 0 to 65535, found string \"many\"",
        "--set server: expected section.key=value",
        "--set server: expected server.key=value",
        "--set sys.interval_sec: [sys] interval_sec: unknown key; did you mean `interval_s`?",
        "--set topics: expected a list of tables, [{ ... }, ...], as topics",
        "--set topics.pattern: topics is a list and can only be set as a whole",
    ];
    assert_eq!(errors, expected, "{errors:#?}");
}

#[test]
fn values_that_contradict_each_other_are_errors() {
    let error = only_error(load_set(&["journal.segment_bytes=1048576"]));
    assert!(
        error.contains("batch_max_bytes: a batch must fit into a segment"),
        "{error}"
    );
    let bridge = |rest: &str| {
        load_set(&[&format!(
            "bridges=[{{ name = \"a\", address = \"tcp://a:1\", topics = [{{ pattern = \"x\" }}], {rest} }}]"
        )])
    };
    bridge("keep_alive_s = 5").unwrap();
    assert!(only_error(bridge("reconnect_max_ms = 20")).contains("below reconnect_min_ms"));
    assert!(only_error(bridge("password = \"p\"")).contains("needs a username"));
    assert!(only_error(bridge("protocol = 3")).contains("neither 4"));
    assert!(only_error(bridge("topics2 = 3")).contains("did you mean `topics`"));
    let twice = "{ name = \"a\", address = \"tcp://a:1\", topics = [] }";
    assert!(only_error(load_set(&[&format!("bridges=[{twice},{twice}]")])).contains("is taken"));
}

#[test]
fn open_mode_is_refused_on_a_public_address_unless_it_is_meant() {
    let mut settings = load_set(&[
        "listeners=[{ kind = \"tcp\", address = \"0.0.0.0:1883\" }, { kind = \"ws\", address = \"[::1]:0\" }]",
    ])
    .unwrap();
    assert_eq!(settings.auth.mode, AuthMode::Open);
    let errors = settings.check_exposure().unwrap_err();
    assert_eq!(errors.lines().count(), 1, "{errors}");
    assert!(
        errors.to_string().contains("allow_public_open_mode"),
        "{errors}"
    );
    settings.server.allow_public_open_mode = true;
    settings.check_exposure().unwrap();
    settings.server.allow_public_open_mode = false;
    settings.replace_listeners(ListenerKind::Tcp, &["127.0.0.1:0".parse().unwrap()]);
    settings.check_exposure().unwrap();
    assert_eq!(settings.listeners.len(), 2);
}

#[test]
fn bridge_addresses_are_taken_apart() {
    let parse = |text: &str| text.parse::<BridgeAddress>();
    let v6 = parse("tcp://[::1]:1883").unwrap();
    assert_eq!(
        (v6.transport, v6.host.as_str(), v6.port),
        (Transport::Tcp, "::1", 1883)
    );
    assert_eq!(v6.to_string(), "tcp://[::1]:1883");
    assert_eq!(parse("ws://a:80/x/y").unwrap().path, "/x/y");
    for secure in ["mqtts://a:8883", "wss://a:443/mqtt"] {
        let address = parse(secure).unwrap();
        assert!(address.transport.is_tls());
        assert_eq!(address.to_string(), secure);
    }
    for wrong in [
        "a:1",
        "tcp://a",
        "tcp://a:0",
        "tcp://a:70000",
        "tcp://:1",
        "tcp://a:1/x",
        "tcp://u@a:1",
        "",
    ] {
        assert!(parse(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn how_messages_are_relayed_has_bounds_and_defaults() {
    let file = File::new(
        "relay",
        r#"
[[topics]]
pattern = "typing/{room}/{user}"
publish = "any"
subscribe = "any"
relay = { per_second = 2 }

[[topics]]
pattern = "seen/{user}"
publish = "any"
subscribe = "any"
grows = "log"
"#,
    );
    let settings = file.load().unwrap();
    let relay = settings.topics[0].relay.expect("a relay");
    assert_eq!((relay.per_second, relay.expires_s), (2, 5));
    assert_eq!(settings.topics[1].grows.as_deref(), Some("log"));

    let file = File::new(
        "relay-bounds",
        r#"
[[topics]]
pattern = "a"
publish = "any"
subscribe = "any"
relay = { per_second = 0 }

[[topics]]
pattern = "b"
publish = "any"
subscribe = "any"
relay = { expires_s = 3601 }
grows = ""
"#,
    );
    let expected = [
        "tidings.toml:6: [[topics]] relay: per_second is 1 to 1000",
        "tidings.toml:12: [[topics]] relay: expires_s is 1 to 3600 seconds",
        "tidings.toml:13: [[topics]] grows: is empty",
    ];
    let mut errors = file.errors();
    errors.sort();
    assert_eq!(errors.len(), expected.len(), "{errors:#?}");
    for line in expected {
        assert!(errors.iter().any(|error| error == line), "{errors:#?}");
    }
}

#[test]
fn a_listener_has_its_own_name_limits_permissions_and_proxies() {
    let file = File::new(
        "listener",
        r#"
[[listeners]]
kind = "tcp"
address = "[::]:1883"
ipv6_only = true
[[listeners]]
name = "local"
kind = "auto"
address = "unix:/run/tidings/mqtt.sock"
socket_mode = "0600"
auth = "open"
max_connections = 5
[[listeners]]
kind = "tcp"
address = "127.0.0.1:1884"
proxy_protocol = true
trusted_proxies = ["127.0.0.1", "10.0.0.0/8", "fd00::/8"]
"#,
    );
    let settings = file.load().unwrap();
    let names: Vec<_> = settings.listeners.iter().map(|l| &*l.name).collect();
    assert_eq!(names, ["tcp", "local", "tcp-2"]);
    let [first, local, proxied] = settings.listeners.as_slice() else {
        panic!("three listeners");
    };
    assert!(first.ipv6_only);
    assert_eq!(local.socket_mode, SocketMode(0o600));
    assert_eq!(local.auth, ListenerAuth::Open);
    assert_eq!(local.max_connections, 5);
    assert!(local.origin.to_string().ends_with("tidings.toml:6"));
    let networks: Vec<_> = proxied
        .trusted_proxies
        .0
        .iter()
        .map(|n| n.to_string())
        .collect();
    assert_eq!(networks, ["127.0.0.1/32", "10.0.0.0/8", "fd00::/8"]);
}

#[test]
fn what_is_wrong_with_listeners_is_said_with_its_line() {
    let file = File::new(
        "wrong-listeners",
        r#"
[[listeners]]
kind = "tcp"
address = "127.0.0.1:1883"
name = "a b"
ipv6_only = true
socket_mode = "888"
auth = "maybe"
[[listeners]]
kind = "tcp"
address = "127.0.0.1:1884"
proxy_protocol = true
[[listeners]]
kind = "tcp"
address = "127.0.0.1:1885"
proxy_protocol = true
trusted_proxies = ["the proxy"]
[[listeners]]
kind = "tcp"
address = "127.0.0.1:1886"
trusted_proxies = ["127.0.0.1"]
"#,
    );
    let errors = file.errors();
    let expected = [
        ("tidings.toml:5: [[listeners]] name: ", "letters, digits"),
        ("tidings.toml:6: [[listeners]] ipv6_only: ", "IPv6"),
        ("tidings.toml:7: [[listeners]] socket_mode: ", "octal"),
        ("tidings.toml:8: [[listeners]] auth: ", "none of"),
        (
            "tidings.toml:9: [[listeners]] trusted_proxies: ",
            "refuse everyone",
        ),
        (
            "tidings.toml:17: [[listeners]] trusted_proxies",
            "the proxy",
        ),
        (
            "tidings.toml:13: [[listeners]] trusted_proxies: ",
            "refuse everyone",
        ),
        (
            "tidings.toml:21: [[listeners]] trusted_proxies: ",
            "proxy_protocol = true",
        ),
    ];
    for (place, what) in expected {
        assert!(
            errors
                .iter()
                .any(|line| line.starts_with(place) && line.contains(what)),
            "{place}{what} is not in {errors:#?}"
        );
    }
    assert_eq!(errors.len(), expected.len(), "{errors:#?}");
}

#[test]
fn two_listeners_share_neither_name_nor_address() {
    let file = File::new(
        "twice",
        r#"
[[listeners]]
name = "twice"
kind = "tcp"
address = "unix:a"
[[listeners]]
name = "twice"
kind = "tcp"
address = "unix:a"
[[listeners]]
kind = "tcp"
address = "127.0.0.1:0"
[[listeners]]
kind = "tcp"
address = "127.0.0.1:0"
"#,
    );
    let errors = file.errors();
    assert_eq!(errors.len(), 2, "{errors:#?}");
    for (line, key) in errors.iter().zip(["name", "address"]) {
        let place = format!("tidings.toml:6: [[listeners]] {key}: ");
        assert!(line.starts_with(&place), "{line}");
        assert!(line.ends_with("tidings.toml:2"), "{line}");
    }
}

#[test]
fn each_listener_in_open_mode_must_not_be_reached_from_elsewhere() {
    let exposed = |auth: &str, listener: &str| {
        let listener = format!("listeners=[{{ kind = \"tcp\", {listener} }}]");
        let settings = load_set(&[&format!("auth.mode={auth}"), &listener]).unwrap();
        settings.check_exposure().is_err()
    };
    let public = "address = \"[::]:0\"";
    let proxied = "address = \"127.0.0.1:0\", proxy_protocol = true, trusted_proxies = [\"::1\"]";
    assert!(exposed("open", public));
    assert!(exposed("accounts", &format!("{public}, auth = \"open\"")));
    assert!(exposed("open", proxied));
    assert!(!exposed("open", &format!("{proxied}, auth = \"accounts\"")));
    let listener = "listeners=[{ kind = \"ws\", address = \"127.0.0.1:0\", forwarded_for = true, \
                    trusted_proxies = [\"::1\"] }]";
    assert!(load_set(&[listener]).unwrap().check_exposure().is_err());
    assert!(!exposed("open", &format!("{public}, auth = \"accounts\"")));
    assert!(!exposed("accounts", public));
    assert!(!exposed(
        "accounts",
        "address = \"unix:a\", auth = \"open\""
    ));
}
