//! Who must not come in with a certificate: a list of cases, as for every other way to prove who one is,
//! with the right code in each version of MQTT.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use tidings_broker::listener::Kind;
use tidings_broker::tls::{ClientAuth, Options};
use tidings_core::codec::{self, Packet, ReasonCode, Version};

use crate::denials::{id_of, lenient};
use crate::peer::{Connect, DEADLINE, TestBroker, block_on, connect, connect_bytes, with_accounts};

const VERSIONS: [Version; 3] = [Version::V31, Version::V311, Version::V5];

/// A CA that signs servers and clients.
struct Ca(CertifiedIssuer<'static, KeyPair>);

impl Ca {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Self(CertifiedIssuer::self_signed(params, key).unwrap())
    }

    fn sign(&self, common_name: &str, names: &[&str]) -> (rcgen::Certificate, KeyPair) {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params
            .distinguished_name
            .push(DnType::CommonName, common_name);
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.0).unwrap(), key)
    }

    /// Certificates of clients are asked for, and believed if this CA signed them.
    fn options(&self, folder: &Path) -> Options {
        std::fs::create_dir_all(folder).unwrap();
        let (cert, key) = self.sign("server", &["localhost"]);
        let file = |name: &str, content: String| {
            let path = folder.join(name);
            std::fs::write(&path, content).unwrap();
            path
        };
        Options {
            client_auth: ClientAuth::Optional,
            client_ca: vec![file("ca.crt", self.0.pem())],
            ..Options::new(
                file("s.crt", cert.pem()),
                file("s.key", key.serialize_pem()),
            )
        }
    }

    /// The answer to a CONNECT with the certificate of a name.
    fn answer(&self, address: SocketAddr, client: &Client, connect: Connect<'_>) -> ReasonCode {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_client_auth_cert(
                vec![client.0.der().clone()],
                PrivateKeyDer::try_from(client.1.serialize_der()).unwrap(),
            )
            .unwrap();
        let name = "localhost".try_into().unwrap();
        let session = ClientConnection::new(Arc::new(config), name).unwrap();
        let socket = TcpStream::connect(address).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        let mut stream = StreamOwned::new(session, socket);
        let version = connect.version;
        stream.write_all(&connect_bytes(connect)).unwrap();
        let (mut bytes, mut more) = (Vec::new(), [0; 512]);
        loop {
            if let Some((Packet::ConnAck(connack), _)) =
                codec::decode(Some(version), &bytes, usize::MAX).unwrap()
            {
                return connack.reason;
            }
            let len = stream.read(&mut more).unwrap();
            assert_ne!(len, 0, "there is no CONNACK");
            bytes.extend_from_slice(&more[..len]);
        }
    }
}

/// A certificate, its key, and the name in it.
struct Client(rcgen::Certificate, KeyPair, String);

struct House {
    ca: Ca,
    broker: TestBroker,
    address: SocketAddr,
}

impl House {
    fn new() -> Self {
        let ca = Ca::new();
        let broker = TestBroker::start(|options| {
            with_accounts(options, lenient());
            options.tls = Some(ca.options(&options.store.data_dir));
            let port = "127.0.0.1:0".parse().unwrap();
            *options = options.clone().listen_tls(Kind::Tcp, port);
        });
        let address = broker.running.tls_addresses(Kind::Tcp).next().unwrap();
        Self {
            ca,
            broker,
            address,
        }
    }

    fn client(&self, common_name: &str) -> Client {
        let (certificate, key) = self.ca.sign(common_name, &[]);
        Client(certificate, key, common_name.to_owned())
    }

    #[track_caller]
    fn expect(
        &self,
        client: &Client,
        (username, password): (Option<&str>, Option<&[u8]>),
        expected: ReasonCode,
    ) {
        for version in VERSIONS {
            // MQTT 3 has no password alone [MQTT-3.1.2-22].
            if version != Version::V5 && username.is_none() && password.is_some() {
                continue;
            }
            let client_id = id_of(Some(&client.2));
            let connect = Connect {
                username,
                password,
                ..connect(version, &client_id)
            };
            let answer = self.ca.answer(self.address, client, connect);
            assert_eq!(answer, expected, "{username:?} {version:?}");
        }
    }
}

#[test]
fn a_certificate_counts_for_the_name_in_it_and_what_is_shown_beside_it_has_to_count_too() {
    let house = House::new();
    let book = house.broker.running.accounts();
    for (user, password) in [("alice", "alice's password"), ("bob", "bob's password")] {
        block_on(book.add_user(user, Some(password.to_owned()), &[])).unwrap();
    }
    let alice = house.client("alice");
    // Nobody has an account of this name, and nobody has to.
    let sensor = house.client("sensor-7");
    let right: &[u8] = b"alice's password";
    let long = "x".repeat(257);
    house.expect(&alice, (None, None), ReasonCode::Success);
    house.expect(&alice, (Some("alice"), None), ReasonCode::Success);
    house.expect(&alice, (Some("alice"), Some(right)), ReasonCode::Success);
    house.expect(&sensor, (None, None), ReasonCode::Success);
    for name in [
        "", "bob", "Alice", "alice ", "/", "+", "#", "alice/#", "$SYS", &long,
    ] {
        for password in [None, Some(right), Some(&b"bob's password"[..])] {
            let shown = (Some(name), password);
            house.expect(&alice, shown, ReasonCode::BadUserNameOrPassword);
        }
    }
    for wrong in [&b""[..], b"wrong", b"bob's password", &[0xFF, 0x00]] {
        let shown = (Some("alice"), Some(wrong));
        house.expect(&alice, shown, ReasonCode::BadUserNameOrPassword);
        let shown = (Some("sensor-7"), Some(wrong));
        house.expect(&sensor, shown, ReasonCode::BadUserNameOrPassword);
    }
    block_on(book.disable("alice")).unwrap();
    for shown in [(None, None), (Some("alice"), Some(right))] {
        house.expect(&alice, shown, ReasonCode::NotAuthorized);
    }
    block_on(book.enable("alice")).unwrap();
    house.expect(&alice, (None, None), ReasonCode::Success);
    block_on(book.delete("alice")).unwrap();
    house.expect(&alice, (None, None), ReasonCode::NotAuthorized);
}

#[test]
fn a_certificate_whose_name_could_be_more_than_a_name_lets_nobody_in() {
    let house = House::new();
    let book = house.broker.running.accounts();
    let password = "alice's password";
    block_on(book.add_user("alice", Some(password.to_owned()), &[])).unwrap();
    let long = "x".repeat(257);
    for name in [
        "",
        "+",
        "#",
        "a/b",
        "alice/#",
        "$SYS",
        "al\0ice",
        "al\nice",
        "\u{1b}[2J",
        "al\u{7f}ice",
        "\u{85}",
        " alice",
        "alice ",
        &long,
    ] {
        let client = house.client(name);
        house.expect(&client, (None, None), ReasonCode::NotAuthorized);
        let shown = (Some("alice"), Some(password.as_bytes()));
        house.expect(&client, shown, ReasonCode::NotAuthorized);
    }
}
