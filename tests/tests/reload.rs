//! Settings that are read again on SIGHUP: new topic rules count at once, on connections that are open
//! too; and settings that cannot be taken over change nothing.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tidings_core::codec::{ReasonCode, Version};
use tidings_core::message::QoS;
use tidings_tests::{DEADLINE, Delivery, RawClient, TidingsOptions, TidingsProcess, clean};

const TAKEN_OVER: &str = "settings were read again";
const AS_BEFORE: &str = "settings stay as they were";

/// Rules in which everyone may publish news, and `receive` says who gets them.
fn rules(receive: &str) -> String {
    format!(
        "[[topics]]\n\
         pattern = \"news/{{what}}\"\n\
         publish = \"any\"\n\
         subscribe = \"{receive}\"\n\
         keep = {{}}\n\
         \n\
         [[topics]]\n\
         pattern = \"#\"\n\
         publish = \"any\"\n\
         subscribe = \"any\"\n"
    )
}

struct House {
    broker: TidingsProcess,
    file: PathBuf,
    _directory: tempfile::TempDir,
}

impl House {
    fn new(settings: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("tidings.toml");
        fs::write(&file, settings).unwrap();
        let broker = TidingsOptions::new().config(&file).start();
        Self {
            broker,
            file,
            _directory: directory,
        }
    }

    /// Writes other settings, lets the broker read them, and gives what it logs about it.
    #[track_caller]
    fn reload(&self, settings: &str) -> String {
        let before = self.broker.log().len();
        fs::write(&self.file, settings).unwrap();
        self.broker.signal("HUP");
        let until = Instant::now() + DEADLINE;
        loop {
            let log = self.broker.log();
            let new = log.get(before..).unwrap_or_default();
            if new.contains(TAKEN_OVER) || new.contains(AS_BEFORE) {
                return new.to_owned();
            }
            assert!(Instant::now() < until, "it says nothing:\n{log}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

fn name_of(file: &Path) -> &str {
    file.file_name().and_then(|name| name.to_str()).unwrap()
}

#[test]
fn new_rules_count_on_open_connections_and_for_what_is_stored() {
    let house = House::new(&rules("any"));
    let tcp = house.broker.tcp();
    let mut reader = RawClient::connect(tcp, &clean(Version::V5, "reader"));
    let mut older = RawClient::connect(tcp, &clean(Version::V311, "older"));
    let mut writer = RawClient::connect(tcp, &clean(Version::V5, "writer"));
    for client in [&mut reader, &mut older] {
        client.subscribe("news/#", QoS::AtLeastOnce);
        client.subscribe("free", QoS::AtLeastOnce);
    }
    writer.publish("news/first", "1", QoS::AtLeastOnce);
    for client in [&mut reader, &mut older] {
        assert_eq!(client.receive().payload, b"1");
    }

    assert!(house.reload(&rules("none")).contains(TAKEN_OVER));
    writer.publish("news/second", "2", QoS::AtLeastOnce);
    writer.publish("free", "3", QoS::AtLeastOnce);
    for client in [&mut reader, &mut older] {
        assert_eq!(client.receive().payload, b"3");
    }
    for filter in ["news/first", "$replay/last/9/news/first"] {
        let refused = reader.subscribe(filter, QoS::AtLeastOnce);
        assert_eq!(refused, ReasonCode::NotAuthorized, "{filter}");
    }
    // What is stored already is not replayed through a wider filter either.
    reader.subscribe("$replay/last/9/#", QoS::AtLeastOnce);
    writer.publish("free", "4", QoS::AtLeastOnce);
    loop {
        let delivery = but_presence(&mut reader);
        assert_eq!(delivery.topic, "free");
        if delivery.payload == b"4" {
            break;
        }
    }
    assert_eq!(older.receive().payload, b"4");

    assert!(house.reload(&rules("any")).contains(TAKEN_OVER));
    writer.publish("news/third", "5", QoS::AtLeastOnce);
    for client in [&mut reader, &mut older] {
        assert_eq!(but_presence(client).payload, b"5");
    }
}

/// Who is here is said when the broker finds the time; a subscription to `#` has it, too.
fn but_presence(client: &mut RawClient) -> Delivery {
    loop {
        let delivery = client.receive();
        if !delivery.topic.ends_with("/presence") {
            return delivery;
        }
    }
}

#[test]
fn settings_that_cannot_be_taken_over_change_nothing() {
    let house = House::new(&rules("any"));
    let tcp = house.broker.tcp();
    let mut reader = RawClient::connect(tcp, &clean(Version::V5, "reader"));
    let mut writer = RawClient::connect(tcp, &clean(Version::V5, "writer"));
    reader.subscribe("news/#", QoS::AtLeastOnce);

    let bad_rule = rules("none").replace("subscribe = \"any\"", "subscribe = \"whoever\"");
    let bad_key = format!("{}\n[mqtt]\nmax_quos = 1\n", rules("none"));
    let fixed = format!("{}\n[mqtt]\nmax_qos = 1\n", rules("none"));
    let (name, not_toml) = (name_of(&house.file).to_owned(), "[[topics".to_owned());
    for (settings, says) in [
        (bad_rule, vec![&*name, "whoever"]),
        (bad_key, vec![&*name, "max_quos"]),
        (fixed, vec!["[mqtt]", "restart"]),
        (not_toml, vec![&*name]),
    ] {
        let log = house.reload(&settings);
        assert!(log.contains(AS_BEFORE), "{log}");
        for word in says {
            assert!(log.contains(word), "it does not say {word}: {log}");
        }
        writer.publish("news/first", settings.as_bytes(), QoS::AtLeastOnce);
        assert_eq!(reader.receive().payload, settings.as_bytes());
    }
}
