//! Settings that say nothing, or something else than was meant: the broker refuses to start, or denies.
//! None of them opens anything.

use std::fs;
use std::path::Path;

use tidings_core::codec::{Connect, ReasonCode, Version};
use tidings_core::message::QoS;
use tidings_tests::raw_client::publish_packet;
use tidings_tests::{DEADLINE, RawClient, TidingsOptions, clean};

/// A broker that must not start with these settings; what it says.
#[track_caller]
fn refusal(settings: &[(&str, &str)]) -> String {
    let mut options = TidingsOptions::new();
    for (key, value) in settings {
        options = options.set(key, value);
    }
    let output = options.run_to_the_end();
    assert!(!output.status.success(), "it started with {settings:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[track_caller]
fn refusal_of_file(text: &str) -> String {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("tidings.toml");
    fs::write(&file, text).expect("written");
    let output = TidingsOptions::new().config(&file).run_to_the_end();
    assert!(!output.status.success(), "it started with {text:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn unknown_keys_sections_and_words_are_refused() {
    for text in [
        "[auth]\nmodus = \"accounts\"\n",
        "[auth]\nmode = \"acounts\"\n",
        "[auth]\nmode = \"\"\n",
        "[auth]\nmode = false\n",
        "[Auth]\nmode = \"accounts\"\n",
        "[authentication]\nmode = \"accounts\"\n",
        "auth = \"accounts\"\n",
        "mode = \"accounts\"\n",
        "[rooms]\nmode = \"manged\"\n",
        "[jwt]\nkeyfiles = [\"key.pem\"]\n",
        "[jwt]\nkey_files = \"key.pem\"\n",
        "[auth_hook]\nurl = 7\n",
        "[http]\nmetrics = \"everyone\"\n",
        "[[topics]]\npattern = \"a\"\npublish = \"any\"\n",
        "[[topics]]\npattern = \"a\"\npublish = \"any\"\nsubscribe = \"\"\n",
        "[[topics]]\npattern = \"a\"\npublish = \"any\"\nsubscribe = \"membr(room)\"\n",
        "[[topics]]\npattern = \"a\"\npublish = \"any\"\nsubscribe = \"member(room)\"\n",
        "[[topics]]\npattern = \"a\"\npublish = \"any\"\nsubscribe = \"any\"\nsubscrib = \"none\"\n",
        "[[topics]]\npattern = \"a/+\"\npublish = \"any\"\nsubscribe = \"any\"\n",
        "[[listeners]]\nkind = \"tcp\"\naddres = \"127.0.0.1:0\"\n",
        "[[listeners]]\nkind = \"tpc\"\naddress = \"127.0.0.1:0\"\n",
    ] {
        let log = refusal_of_file(text);
        assert!(log.contains("tidings.toml"), "{text:?}: {log}");
    }
}

/// Whoever is asked there could let anybody in: it has to be this machine, or TLS.
#[test]
fn an_address_that_only_looks_like_this_machine_is_refused() {
    for url in [
        "http://192.0.2.1/",
        "http://localhost.example/",
        "http://127.0.0.1.example:80/",
        "http://localhost@192.0.2.1/",
        "http://localhost:80@192.0.2.1/",
        "http://192.0.2.1?http://localhost/",
        "http://192.0.2.1#@localhost/",
        "HTTP://192.0.2.1/",
        "file:///etc/passwd",
        "//localhost/",
    ] {
        let text = format!("\"{url}\"");
        for key in ["jwt.jwks_url", "auth_hook.url"] {
            let log = refusal(&[("auth.mode", "\"accounts\""), (key, &text)]);
            assert!(
                log.contains("must begin with https://"),
                "{key} {url}: {log}"
            );
        }
    }
}

#[test]
fn a_file_that_is_missing_or_cannot_be_read_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    for path in [
        directory.path().join("nowhere.toml"),
        directory.path().into(),
    ] {
        let output = TidingsOptions::new().config(&path).run_to_the_end();
        assert!(!output.status.success(), "{}", path.display());
    }
    let text = b"[log]\nlevel = \"\xFF\"\n";
    let file = directory.path().join("binary.toml");
    fs::write(&file, text).expect("written");
    let output = TidingsOptions::new().config(&file).run_to_the_end();
    assert!(!output.status.success());
}

#[test]
fn open_doors_to_everyone_have_to_be_meant() {
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:1883"] {
        let output = TidingsOptions::new()
            .argument("--tcp")
            .argument(address)
            .run_to_the_end();
        assert!(!output.status.success());
        let log = String::from_utf8_lossy(&output.stderr);
        assert!(log.contains("allow_public_open_mode"), "{address}: {log}");
    }
    refusal_of_file("[[listeners]]\nkind = \"tcp\"\naddress = \"\"\n");
}

fn accounts<'a>(more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let mut settings = vec![("auth.mode", "\"accounts\"")];
    settings.extend_from_slice(more);
    settings
}

#[test]
fn a_key_that_is_missing_empty_or_no_key_stops_the_start() {
    let directory = tempfile::tempdir().expect("a directory");
    let write = |name: &str, bytes: &[u8]| {
        let path = directory.path().join(name);
        fs::write(&path, bytes).expect("written");
        path
    };
    let paths = [
        directory.path().join("missing.pem"),
        directory.path().into(),
        write("empty.pem", b""),
        write("short.key", b"secret"),
        write("half.pem", b"-----BEGIN PUBLIC KEY-----\nMCow\n"),
    ];
    for path in &paths {
        let list = format!("[{:?}]", path.display().to_string());
        let log = refusal(&accounts(&[("jwt.key_files", &list)]));
        assert!(log.contains(&path.display().to_string()), "{log}");
    }
}

#[test]
fn the_environment_and_flags_are_as_strict_as_the_file() {
    for setting in [
        ("auth.modus", "accounts"),
        ("auth.mode", "acounts"),
        ("authentication.mode", "accounts"),
        ("auth", "accounts"),
        ("topics", "any"),
        ("limits.max_connections", "-1"),
        ("mqtt.max_connect_bytes", "0"),
    ] {
        refusal(&[setting]);
    }
    let output = std::process::Command::new(tidings_tests::binary::tidings())
        .args(["check-config"])
        .env("TIDINGS_AUTH__MODUS", "accounts")
        .output()
        .expect("it runs");
    assert!(!output.status.success());
}

/// An empty table of rules leaves everything to the broker, and empty accounts let nobody in.
#[test]
fn nothing_in_a_list_means_nobody_and_not_everybody() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("tidings.toml");
    fs::write(&file, "topics = []\n").expect("written");
    if let Some(broker) = started(&file) {
        let mut client = RawClient::connect(broker.tcp(), &clean(Version::V5, "c"));
        for filter in ["#", "a", "chat/#", "$SYS/#"] {
            assert!(
                client.subscribe(filter, QoS::AtLeastOnce).is_failure(),
                "{filter}"
            );
        }
        for topic in ["a", "chat/lobby/c", "$SYS/x"] {
            let packet_id = client.new_packet_id();
            client.send(&publish_packet(topic, b"x", QoS::AtLeastOnce, packet_id));
            let reason = client.expect_puback(packet_id).reason;
            assert_eq!(reason, ReasonCode::NotAuthorized, "{topic}");
        }
    }
    let broker = TidingsOptions::new()
        .set("auth.mode", "\"accounts\"")
        .start();
    let anonymous = Connect {
        username: None,
        ..clean(Version::V5, "c")
    };
    let empty_password = Connect {
        password: Some(b""),
        ..clean(Version::V5, "c")
    };
    for connect in [anonymous, clean(Version::V5, "c"), empty_password] {
        let (_, connack) =
            RawClient::try_connect(broker.tcp(), &connect, DEADLINE).expect("an answer");
        assert!(connack.reason.is_failure(), "{connect:?}");
    }
}

/// A broker with this file, if it accepts it.
fn started(file: &Path) -> Option<tidings_tests::TidingsProcess> {
    let arguments = [
        "check-config".as_ref(),
        "--config".as_ref(),
        file.as_os_str(),
    ];
    let check = tidings_tests::tidings_process::tidings(arguments);
    check
        .status
        .success()
        .then(|| TidingsOptions::new().config(file).start())
}
