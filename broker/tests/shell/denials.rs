//! Who must not come in: one list of cases, which every way to prove who one is has to refuse, over
//! the wire and with the right code in each version of MQTT.

use std::time::Duration;

use jsonwebtoken::{EncodingKey, Header, encode, get_current_timestamp};
use serde_json::{Value, json};

use crate::peer::{Connect, TestBroker, block_on, connect, with_accounts, with_others};
use tidings_broker::auth::{AccountOptions, HookOptions, Limit, TokenOptions};
use tidings_broker::listener::Kind;
use tidings_broker::{BrokerOptions, OtherProofs};
use tidings_core::codec::{ReasonCode, Version};

const VERSIONS: [Version; 3] = [Version::V31, Version::V311, Version::V5];

/// A broker, two clients that it knows, and their secrets.
struct Backend {
    name: &'static str,
    broker: TestBroker,
    user: &'static str,
    secret: String,
    others_secret: String,
}

impl Backend {
    fn all() -> Vec<Self> {
        vec![
            Self::passwords(),
            Self::devices(),
            Self::tokens(),
            Self::hook(),
        ]
    }

    fn passwords() -> Self {
        let broker = TestBroker::start(|options| with_accounts(options, lenient()));
        let book = broker.running.accounts();
        for (user, password) in [("alice", "alice's password"), ("bob", "bob's password")] {
            block_on(book.add_user(user, Some(password.to_owned()), &[])).unwrap();
        }
        Self {
            name: "passwords",
            broker,
            user: "alice",
            secret: "alice's password".to_owned(),
            others_secret: "bob's password".to_owned(),
        }
    }

    fn devices() -> Self {
        let broker = TestBroker::start(|options| with_accounts(options, lenient()));
        let book = broker.running.accounts();
        let token = |device| block_on(book.add_device(device, "alice")).unwrap();
        let (thermo, lamp) = (token("thermo"), token("lamp"));
        Self {
            name: "devices",
            secret: thermo.expose().to_owned(),
            others_secret: lamp.expose().to_owned(),
            broker,
            user: "thermo",
        }
    }

    /// Nobody has an account.
    fn tokens() -> Self {
        Self::tokens_with(|_| {})
    }

    fn tokens_with(change: impl FnOnce(&mut tidings_broker::BrokerOptions)) -> Self {
        let broker = TestBroker::start(|options| {
            with_tokens(options);
            change(options);
        });
        Self {
            name: "tokens",
            broker,
            user: "alice",
            secret: token("alice", get_current_timestamp(), 600),
            others_secret: token("bob", get_current_timestamp(), 600),
        }
    }

    /// A hook knows alice and bob.
    fn hook() -> Self {
        let url = hook_program(|question| {
            let known = [("alice", "alice's password"), ("bob", "bob's password")];
            let asked = (
                question["user"].as_str().unwrap_or_default(),
                question["password"].as_str().unwrap_or_default(),
            );
            match known.contains(&asked) {
                true => (
                    200,
                    json!({ "allow": true, "roles": ["press"] }).to_string(),
                ),
                false if asked.0 == "bob" => (403, String::new()),
                false => (200, json!({ "allow": false }).to_string()),
            }
        });
        Self {
            name: "hook",
            broker: TestBroker::start(|options| with_others(options, lenient(), asking(url))),
            user: "alice",
            secret: "alice's password".to_owned(),
            others_secret: "bob's password".to_owned(),
        }
    }

    #[track_caller]
    fn expect(
        &self,
        case: &str,
        (username, password): (Option<&str>, Option<&[u8]>),
        expected: ReasonCode,
    ) {
        for version in VERSIONS {
            // MQTT 3 has no password alone [MQTT-3.1.2-22].
            if version != Version::V5 && username.is_none() && password.is_some() {
                continue;
            }
            let mut peer = self.broker.peer(Kind::Tcp);
            let client_id = id_of(username);
            peer.connect(Connect {
                username,
                password,
                ..connect(version, &client_id)
            });
            assert_eq!(
                peer.connack(),
                expected,
                "{}, {case}, {version:?}",
                self.name
            );
        }
    }
}

/// A Client Identifier of one's own: that of an earlier connection may still be somebody else's.
pub fn id_of(username: Option<&str>) -> String {
    let name = username.unwrap_or("nobody").chars();
    let plain = name.filter(|c| c.is_alphanumeric()).take(20);
    format!("client of {}", plain.collect::<String>())
}

pub const SHARED_SECRET: &str = "a shared secret that has 32 bytes and more";

/// A token of `user` that was issued at a time and counts for so many seconds.
fn token(user: &str, issued: u64, seconds: u64) -> String {
    sign(&json!({ "sub": user, "iat": issued, "exp": issued + seconds, "roles": ["press"] }))
}

pub fn sign(claims: &Value) -> String {
    let key = EncodingKey::from_secret(SHARED_SECRET.as_bytes());
    encode(&Header::default(), claims, &key).unwrap()
}

/// Tokens that are signed with [`SHARED_SECRET`] count.
pub fn with_tokens(options: &mut BrokerOptions) {
    // It is read when the broker starts, so it stays as long as the data.
    let key = options.store.data_dir.join("shared-secret");
    std::fs::create_dir_all(&options.store.data_dir).unwrap();
    std::fs::write(&key, SHARED_SECRET).unwrap();
    let tokens = TokenOptions {
        key_files: vec![key],
        jwks_url: None,
        reload: Duration::from_secs(300),
        timeout: Duration::from_secs(5),
        issuer: None,
        audience: None,
        user_claim: "sub".to_owned(),
        roles_claim: "roles".to_owned(),
        rooms_claim: String::new(),
        leeway: Duration::ZERO,
    };
    let others = OtherProofs {
        tokens: Some(tokens),
        hook: None,
    };
    with_others(options, lenient(), others);
}

/// A hook at `url`.
fn asking(url: String) -> OtherProofs {
    OtherProofs {
        tokens: None,
        hook: Some(HookOptions {
            url,
            timeout: Duration::from_millis(500),
            remember: Duration::from_secs(60),
            at_once: 4,
        }),
    }
}

/// A program that answers questions with a status and a body, for as long as the test runs.
fn hook_program(answer: impl Fn(&Value) -> (u16, String) + Send + 'static) -> String {
    use std::io::{BufRead, BufReader, Read, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/login", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let mut reader = BufReader::new(&stream);
            let mut length = 0;
            let mut line = String::new();
            while reader.read_line(&mut line).is_ok_and(|read| read > 2) {
                let header = line.to_ascii_lowercase();
                if let Some(value) = header.strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
                line.clear();
            }
            let mut body = vec![0; length];
            if reader.read_exact(&mut body).is_err() {
                continue;
            }
            let (status, text) = answer(&serde_json::from_slice(&body).unwrap());
            let length = text.len();
            let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {length}\r\n");
            let response = format!("{head}Connection: close\r\n\r\n{text}");
            // The broker may have given up.
            let _ = (&stream).write_all(response.as_bytes());
        }
    });
    url
}

/// Limits that the cases do not reach.
pub fn lenient() -> AccountOptions {
    let limit = Limit {
        burst: 10_000,
        per_minute: 10_000,
    };
    AccountOptions {
        guests: false,
        failures_of_address: limit,
        failures_of_user: limit,
    }
}

#[test]
fn every_back_end_refuses_what_must_be_refused_and_nothing_else() {
    for backend in Backend::all() {
        let (user, secret) = (backend.user, backend.secret.as_bytes());
        backend.expect(
            "the right secret",
            (Some(user), Some(secret)),
            ReasonCode::Success,
        );

        let long = "x".repeat(257);
        let names = [
            "", "nobody", "Alice", "/", "a/b", "+", "#", "alice/#", "$SYS", "alice ", &long,
        ];
        for name in names {
            let credentials = (Some(name), Some(secret));
            backend.expect(name, credentials, ReasonCode::BadUserNameOrPassword);
        }
        let with_nul = [secret, b"\0"].concat();
        let cut = &secret[..secret.len() - 1];
        let too_long = vec![b'x'; 8 * 1024];
        let secrets: [(&str, Option<&[u8]>); 8] = [
            ("no secret", None),
            ("an empty secret", Some(b"")),
            ("a wrong secret", Some(b"wrong password")),
            ("NUL after the secret", Some(&with_nul)),
            ("the secret without its end", Some(cut)),
            ("a secret of 8 KiB", Some(&too_long)),
            (
                "the secret of another",
                Some(backend.others_secret.as_bytes()),
            ),
            ("a secret that is no text", Some(&[0xFF, 0xFE, 0x00])),
        ];
        for (case, secret) in secrets {
            backend.expect(
                case,
                (Some(user), secret),
                ReasonCode::BadUserNameOrPassword,
            );
        }
        backend.expect("no name", (None, None), ReasonCode::NotAuthorized);
        // A token brings its name along.
        if backend.name != "tokens" {
            let nameless = (None, Some(secret));
            backend.expect("a secret alone", nameless, ReasonCode::NotAuthorized);
        }
        backend.expect(
            "the right secret again",
            (Some(user), Some(secret)),
            ReasonCode::Success,
        );
    }
}

#[test]
fn a_disabled_person_is_told_so_only_with_the_right_password_and_their_devices_are_out_too() {
    let backend = Backend::passwords();
    let book = backend.broker.running.accounts();
    let token = block_on(book.add_device("thermo", "alice")).unwrap();
    let device = (Some("thermo"), Some(token.expose().as_bytes()));
    let right = (Some("alice"), Some(backend.secret.as_bytes()));
    backend.expect("device", device, ReasonCode::Success);
    block_on(book.disable("alice")).unwrap();
    backend.expect("disabled", right, ReasonCode::NotAuthorized);
    backend.expect(
        "device of a disabled person",
        device,
        ReasonCode::NotAuthorized,
    );
    let wrong = (Some("alice"), Some(&b"wrong password"[..]));
    backend.expect(
        "disabled and wrong",
        wrong,
        ReasonCode::BadUserNameOrPassword,
    );
    block_on(book.enable("alice")).unwrap();
    backend.expect("enabled", right, ReasonCode::Success);
    block_on(book.delete("alice")).unwrap();
    backend.expect("deleted", right, ReasonCode::BadUserNameOrPassword);
    backend.expect(
        "device of a deleted person",
        device,
        ReasonCode::BadUserNameOrPassword,
    );
}

#[test]
fn guests_come_in_only_where_they_are_welcome_and_with_no_name_at_all() {
    let guests = |options: &mut tidings_broker::BrokerOptions| {
        with_accounts(
            options,
            AccountOptions {
                guests: true,
                ..lenient()
            },
        );
    };
    let backend = Backend {
        broker: TestBroker::start(guests),
        name: "guests",
        user: "",
        secret: String::new(),
        others_secret: String::new(),
    };
    backend.expect("guest", (None, None), ReasonCode::Success);
    let named = (Some("guest"), None);
    backend.expect("named guest", named, ReasonCode::BadUserNameOrPassword);
    let empty = (Some(""), Some(&b""[..]));
    backend.expect("empty name", empty, ReasonCode::BadUserNameOrPassword);
}

#[test]
fn failed_logins_are_limited_per_user_and_the_right_password_does_not_help_then() {
    let strict = AccountOptions {
        failures_of_user: Limit {
            burst: 3,
            per_minute: 1,
        },
        ..lenient()
    };
    let broker = TestBroker::start(|options| with_accounts(options, strict));
    let book = broker.running.accounts();
    for user in ["alice", "bob"] {
        block_on(book.add_user(user, Some("a good password".to_owned()), &[])).unwrap();
    }
    let login = |version, user, password: &[u8]| {
        let mut peer = broker.peer(Kind::Tcp);
        peer.connect(Connect {
            username: Some(user),
            password: Some(password),
            ..connect(version, &id_of(Some(user)))
        });
        peer.connack()
    };
    for user in ["alice", "nobody"] {
        for _ in 0..3 {
            let refused = login(Version::V5, user, b"wrong password");
            assert_eq!(refused, ReasonCode::BadUserNameOrPassword);
        }
        let refused = login(Version::V5, user, b"a good password");
        assert_eq!(refused, ReasonCode::ConnectionRateExceeded, "{user}");
        // 3.1.1 has no better word than "Server unavailable" for it.
        let refused = login(Version::V311, user, b"a good password");
        assert_eq!(refused, ReasonCode::ServerUnavailable, "{user}");
    }
    for _ in 0..20 {
        let admitted = login(Version::V5, "bob", b"a good password");
        assert_eq!(admitted, ReasonCode::Success);
    }
}

/// Ends a session of each kind, and waits for what the client is told.
#[test]
fn disable_revoke_delete_and_a_new_password_end_live_sessions_within_a_second() {
    let backend = Backend::passwords();
    let book = backend.broker.running.accounts();
    let token = block_on(book.add_device("thermo", "bob")).unwrap();
    let online = |user: &'static str, secret: &str, id: &str| {
        let mut peer = backend.broker.peer(Kind::Tcp);
        peer.connect(Connect {
            username: Some(user),
            password: Some(secret.as_bytes()),
            ..connect(Version::V5, id)
        });
        assert_eq!(peer.connack(), ReasonCode::Success);
        peer.socket
            .set_read_timeout(Some(Duration::from_secs(1)))
            .unwrap();
        peer
    };
    let mut phone = online("alice", &backend.secret, "phone");
    let mut laptop = online("alice", &backend.secret, "laptop");
    let mut bob = online("bob", &backend.others_secret, "bob");
    let mut thermo = online("thermo", token.expose(), "thermo");

    block_on(book.set_password("alice", "another password".to_owned())).unwrap();
    assert_eq!(phone.disconnect(), ReasonCode::AdministrativeAction);
    assert_eq!(laptop.disconnect(), ReasonCode::AdministrativeAction);

    let mut phone = online("alice", "another password", "phone");
    block_on(book.disable("alice")).unwrap();
    assert_eq!(phone.disconnect(), ReasonCode::NotAuthorized);

    block_on(book.revoke_device("thermo")).unwrap();
    assert_eq!(thermo.disconnect(), ReasonCode::NotAuthorized);
    assert!(block_on(book.revoke_device("thermo")).is_err());

    bob.ping();
    block_on(book.delete("bob")).unwrap();
    assert_eq!(bob.disconnect(), ReasonCode::NotAuthorized);
}

#[test]
fn accounts_survive_a_restart() {
    let backend = Backend::passwords();
    let book = backend.broker.running.accounts();
    block_on(book.disable("bob")).unwrap();
    let Backend { broker, secret, .. } = backend;
    let folder = broker.stop();
    let broker = TestBroker::start_in(folder, |options| with_accounts(options, lenient()));
    let backend = Backend {
        broker,
        name: "after a restart",
        user: "alice",
        others_secret: "bob's password".to_owned(),
        secret,
    };
    let right = (Some("alice"), Some(backend.secret.as_bytes()));
    backend.expect("alice", right, ReasonCode::Success);
    let bob = (Some("bob"), Some(backend.others_secret.as_bytes()));
    backend.expect("bob", bob, ReasonCode::NotAuthorized);
}

#[test]
fn the_name_of_a_deleted_person_is_not_given_again() {
    let backend = Backend::tokens();
    let book = backend.broker.running.accounts();
    block_on(book.add_user("bob", Some("bob's password".to_owned()), &[])).unwrap();
    block_on(book.delete("bob")).unwrap();
    let again = block_on(book.add_user("bob", Some("a new password".to_owned()), &[]));
    let error = again.unwrap_err().to_string();
    assert!(error.contains("not given again"), "{error}");
    assert!(block_on(book.add_device("bob", "alice")).is_err());
    assert!(block_on(book.enable("bob")).is_err());
    let password = (Some("bob"), Some(&b"bob's password"[..]));
    backend.expect("deleted", password, ReasonCode::BadUserNameOrPassword);
    let token = token("bob", get_current_timestamp() + 5, 600);
    let token = (Some("bob"), Some(token.as_bytes()));
    backend.expect("deleted, with a token", token, ReasonCode::NotAuthorized);
}

#[test]
fn a_revoked_device_leaves_no_session_to_whichever_gets_the_name_next() {
    let backend = Backend::devices();
    let book = backend.broker.running.accounts();
    let connect_with = |token: &str| {
        let mut peer = backend.broker.peer(Kind::Tcp);
        peer.connect(Connect {
            username: Some("thermo"),
            password: Some(token.as_bytes()),
            clean_start: false,
            ..connect(Version::V311, "thermo")
        });
        peer.session_present()
    };
    assert!(!connect_with(&backend.secret));
    assert!(connect_with(&backend.secret));
    block_on(book.revoke_device("thermo")).unwrap();
    let token = block_on(book.add_device("thermo", "bob")).unwrap();
    assert!(!connect_with(token.expose()));
}

#[test]
fn tokens_that_end_or_were_withdrawn_or_are_of_names_that_cannot_be_do_not_count() {
    let backend = Backend::tokens();
    let now = get_current_timestamp();
    let bad = ReasonCode::BadUserNameOrPassword;
    let show = |case: &str, user: Option<&str>, token: &str, expected| {
        backend.expect(case, (user, Some(token.as_bytes())), expected);
    };
    show(
        "no name but that of the token",
        None,
        &backend.secret,
        ReasonCode::Success,
    );
    show(
        "expired",
        Some("alice"),
        &token("alice", now - 100, 99),
        bad,
    );
    for name in ["a/b", "+", "#", "", "$SYS"] {
        show(name, None, &token(name, now, 100), bad);
    }
    show(
        "not a user",
        None,
        &sign(&json!({ "sub": 7, "exp": now + 9 })),
        bad,
    );

    // With an account of that name, it decides too.
    let book = backend.broker.running.accounts();
    block_on(book.add_user("alice", None, &[])).unwrap();
    show(
        "before the account",
        Some("alice"),
        &token("alice", now - 100, 600),
        bad,
    );
    let fresh = token("alice", get_current_timestamp() + 1, 600);
    show("since then", Some("alice"), &fresh, ReasonCode::Success);
    block_on(book.disable("alice")).unwrap();
    show("disabled", Some("alice"), &fresh, ReasonCode::NotAuthorized);
    show(
        "another person",
        Some("bob"),
        &backend.others_secret,
        ReasonCode::Success,
    );
}

#[test]
fn a_connection_ends_with_its_token() {
    let backend = Backend::tokens();
    let short = token("alice", get_current_timestamp(), 2);
    let mut peer = backend.broker.peer(Kind::Tcp);
    peer.connect(Connect {
        username: Some("alice"),
        password: Some(short.as_bytes()),
        ..connect(Version::V5, "phone")
    });
    assert_eq!(peer.connack(), ReasonCode::Success);
    assert_eq!(peer.disconnect(), ReasonCode::MaximumConnectTime);
}

#[test]
fn a_token_that_comes_with_the_request_for_a_websocket_is_enough() {
    use std::net::TcpStream;
    use tungstenite::client::IntoClientRequest;
    use tungstenite::http::HeaderValue;

    let backend = Backend::tokens();
    let address = backend.broker.address(Kind::WebSocket);
    let open = |query: &str, headers: &[(&'static str, String)]| {
        let mut request = format!("ws://{address}/mqtt{query}")
            .into_client_request()
            .unwrap();
        let all = request.headers_mut();
        all.insert("Sec-WebSocket-Protocol", HeaderValue::from_static("mqtt"));
        for (name, value) in headers {
            all.insert(*name, HeaderValue::from_str(value).unwrap());
        }
        let socket = TcpStream::connect(address).unwrap();
        tungstenite::client(request, socket).ok()
    };
    let enter = |query: &str, headers: &[(&'static str, String)]| {
        let (mut socket, _) = open(query, headers).unwrap();
        let bytes = crate::peer::connect_bytes(connect(Version::V5, "browser"));
        socket.send(tungstenite::Message::binary(bytes)).unwrap();
        let answer = socket.read().unwrap().into_data();
        // CONNACK: its Reason Code.
        answer[3]
    };
    let good = &backend.secret;
    let bearer = ("Authorization", format!("Bearer {good}"));
    assert_eq!(enter("", &[bearer]), 0);
    assert_eq!(enter(&format!("?token={good}"), &[]), 0);
    assert_eq!(enter("", &[]), ReasonCode::NotAuthorized as u8);
    let wrong = enter("?token=eyJ.eyJ.x", &[]);
    assert_eq!(wrong, ReasonCode::BadUserNameOrPassword as u8);
    // A browser sends the cookie whichever page asks: the page has to be ours.
    let cookie = || ("Cookie", format!("a=b; token={good}"));
    let origin = |origin: &str| ("Origin", origin.to_owned());
    let ours = origin(&format!("http://{address}"));
    assert_eq!(enter("", &[cookie(), ours]), 0);
    assert_eq!(enter("", &[cookie(), ("X-Tidings", "1".to_owned())]), 0);
    assert_eq!(enter("", &[cookie()]), ReasonCode::NotAuthorized as u8);
    assert!(open("", &[cookie(), origin("https://evil.example")]).is_none());
}

#[test]
fn with_all_pages_allowed_the_cookie_of_one_that_is_not_ours_does_not_count() {
    use std::net::TcpStream;
    use tungstenite::client::IntoClientRequest;
    use tungstenite::http::HeaderValue;

    let backend = Backend::tokens_with(|options| {
        let origins = ["*", "https://app.example.org"].map(str::to_owned);
        options.websocket.origins = tidings_broker::listener::Origins::parse(&origins).unwrap();
    });
    let address = backend.broker.address(Kind::WebSocket);
    for (origin, reason) in [
        ("https://evil.example", ReasonCode::NotAuthorized),
        ("https://app.example.org", ReasonCode::Success),
    ] {
        let mut request = format!("ws://{address}/mqtt")
            .into_client_request()
            .unwrap();
        let headers = request.headers_mut();
        headers.insert("Sec-WebSocket-Protocol", HeaderValue::from_static("mqtt"));
        headers.insert("Origin", HeaderValue::from_static(origin));
        let cookie = format!("token={}", backend.secret);
        headers.insert("Cookie", HeaderValue::from_str(&cookie).unwrap());
        let socket = TcpStream::connect(address).unwrap();
        let (mut socket, _) = tungstenite::client(request, socket).unwrap();
        let bytes = crate::peer::connect_bytes(connect(Version::V5, "browser"));
        socket.send(tungstenite::Message::binary(bytes)).unwrap();
        assert_eq!(
            socket.read().unwrap().into_data()[3],
            reason as u8,
            "{origin}"
        );
    }
}

#[test]
fn a_hook_that_is_away_or_answers_nonsense_lets_nobody_in() {
    let nobody_listens = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}/", listener.local_addr().unwrap())
    };
    // Accepts, and never answers.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let never = format!("http://{}/", silent.local_addr().unwrap());
    let urls = [
        nobody_listens,
        never,
        hook_program(|_| (500, "{\"allow\":true}".to_owned())),
        hook_program(|_| (302, "{\"allow\":true}".to_owned())),
        hook_program(|_| (200, "yes".to_owned())),
        hook_program(|_| (200, "{\"allow\":\"true\"}".to_owned())),
        hook_program(|_| (200, "{}".to_owned())),
        hook_program(|_| (200, String::new())),
    ];
    for url in urls {
        let others = asking(url.clone());
        let broker = TestBroker::start(|options| with_others(options, lenient(), others));
        let book = broker.running.accounts();
        block_on(book.add_user("carol", Some("carol's password".to_owned()), &[])).unwrap();
        let backend = Backend {
            broker,
            name: "hook",
            user: "",
            secret: String::new(),
            others_secret: String::new(),
        };
        let alice = (Some("alice"), Some(&b"alice's password"[..]));
        backend.expect(&url, alice, ReasonCode::ServerUnavailable);
        // Who has an account is not asked about.
        let carol = (Some("carol"), Some(&b"carol's password"[..]));
        backend.expect(&url, carol, ReasonCode::Success);
    }
}

#[test]
fn a_yes_of_the_hook_is_remembered_for_this_name_and_password_only() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let url = hook_program(move |question| {
        count.fetch_add(1, SeqCst);
        let right = question["password"] == "right password";
        (200, json!({ "allow": right }).to_string())
    });
    let broker = TestBroker::start(|options| with_others(options, lenient(), asking(url)));
    let login = |user, password: &[u8]| {
        let mut peer = broker.peer(Kind::Tcp);
        peer.connect(Connect {
            username: Some(user),
            password: Some(password),
            ..connect(Version::V5, &id_of(Some(user)))
        });
        peer.connack()
    };
    for _ in 0..3 {
        assert_eq!(login("alice", b"right password"), ReasonCode::Success);
    }
    assert_eq!(asked.load(SeqCst), 1);
    for _ in 0..2 {
        let refused = login("alice", b"wrong password");
        assert_eq!(refused, ReasonCode::BadUserNameOrPassword);
    }
    assert_eq!(asked.load(SeqCst), 3);
    assert_eq!(login("bob", b"right password"), ReasonCode::Success);
    assert_eq!(asked.load(SeqCst), 4);
}
