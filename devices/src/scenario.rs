//! Scenario files: which devices a fleet simulates, against which broker, for how long.
//!
//! A [`Scenario`] that exists is valid: everything is checked while reading, and every error says
//! file and line. Knows nothing of connections.

use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use crate::broker_address::BrokerAddress;
use crate::time_span;

/// MQTT version a device speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// MQTT 3.1.1, protocol level 4.
    V311,
    /// MQTT 5.0, protocol level 5.
    V5,
}

impl std::str::FromStr for Protocol {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "3.1.1" | "4" => Ok(Self::V311),
            "5" | "5.0" => Ok(Self::V5),
            other => Err(format!(
                "\"{other}\" is no protocol, use \"3.1.1\" or \"5\""
            )),
        }
    }
}

/// When a sensor stops taking readings by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// After this many readings.
    Count(u64),
    /// After this time, counted from the sensor's own start.
    After(Duration),
    /// Only when asked to.
    Never,
}

/// How each sensor behaves; shared by `sensor` and `fleet`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Behaviour {
    /// Where to connect.
    pub broker: BrokerAddress,
    /// MQTT version.
    pub protocol: Protocol,
    /// Topic of the readings; `{device}` stands for the device's name.
    pub topic: String,
    /// QoS of the readings, 0 to 2.
    pub qos: u8,
    /// Time between readings.
    pub interval: Duration,
    /// Each reading is earlier or later by up to this.
    pub jitter: Duration,
    /// Smallest payload size in bytes; shorter readings are padded.
    pub payload_bytes: usize,
    /// When a sensor is done.
    pub end: End,
    /// Readings under way at once, per sensor.
    pub inflight: u16,
    /// Keep Alive (§3.1.2.10).
    pub keep_alive: Duration,
    /// How long the broker keeps the session while the device is away; zero asks for a clean one.
    pub session_expiry: Duration,
    /// How long to wait at the end for what is still unacknowledged.
    pub drain: Duration,
    /// Seed of readings and jitter.
    pub seed: u64,
}

impl Behaviour {
    /// Topic of the readings unless a scenario names another.
    pub const DEFAULT_TOPIC: &'static str = "device/{device}/telemetry/temperature";
    /// A reading a second is what a thermometer does at most.
    pub const DEFAULT_INTERVAL: Duration = Duration::from_secs(1);
    /// Below what brokers commonly accept: mosquitto closes 3.1.1 connections above 20 at QoS 2.
    pub const DEFAULT_INFLIGHT: u16 = 16;
    /// Below the idle limit of common NATs (60 s and more).
    pub const DEFAULT_KEEP_ALIVE: Duration = Duration::from_secs(30);
    /// A device that is away for less than this gets the commands it missed.
    pub const DEFAULT_SESSION_EXPIRY: Duration = Duration::from_secs(3600);
    /// Longer than a broker needs to restart.
    pub const DEFAULT_DRAIN: Duration = Duration::from_secs(15);
    /// Shortest interval: finer than a millisecond no timer here is.
    pub const MIN_INTERVAL: Duration = Duration::from_millis(1);
    /// Shortest Keep Alive that the client library accepts.
    pub const MIN_KEEP_ALIVE: Duration = Duration::from_secs(5);
    /// Largest payload a scenario may ask for: 1 MiB per reading.
    pub const MAX_PAYLOAD_BYTES: usize = 1024 * 1024;
    /// Largest window: a quarter of the Packet Identifiers, so that they never run out.
    pub const MAX_INFLIGHT: u16 = u16::MAX / 4;

    /// A sensor with every default, against `broker`.
    pub fn new(broker: BrokerAddress) -> Self {
        Self {
            broker,
            protocol: Protocol::V5,
            topic: Self::DEFAULT_TOPIC.to_owned(),
            qos: 1,
            interval: Self::DEFAULT_INTERVAL,
            jitter: Duration::ZERO,
            payload_bytes: 0,
            end: End::Never,
            inflight: Self::DEFAULT_INFLIGHT,
            keep_alive: Self::DEFAULT_KEEP_ALIVE,
            session_expiry: Self::DEFAULT_SESSION_EXPIRY,
            drain: Self::DEFAULT_DRAIN,
            seed: 1,
        }
    }
}

/// A fleet: how many sensors, what they are called, how they start and behave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scenario {
    /// Number of sensors, at least 1.
    pub sensors: u32,
    /// Names of the devices; `{n}` stands for 1, 2, 3, ...
    pub name: String,
    /// The sensors start evenly spread over this time.
    pub ramp_up: Duration,
    /// What each of them does.
    pub behaviour: Behaviour,
}

impl Scenario {
    /// Most sensors of one fleet: each needs a socket, and ports of one address end at 65,535.
    pub const MAX_SENSORS: u32 = 60_000;

    /// Name of the sensor number `n`, counted from 1.
    pub fn device(&self, n: u32) -> String {
        self.name.replace("{n}", &n.to_string())
    }

    /// Reads a scenario; `origin` is the file's name as it should appear in errors.
    ///
    /// # Errors
    /// The first thing that is wrong, with its line.
    pub fn parse(text: &str, origin: &str) -> Result<Self, ScenarioError> {
        let at = |span: Option<Range<usize>>, message: String| ScenarioError {
            origin: origin.to_owned(),
            line: span.map_or(1, |s| line_of(text, s.start)),
            message,
        };
        let file: File = toml::from_str(text)
            .map_err(|e| at(e.span(), e.message().trim().replace('\n', " ")))?;
        file.check().map_err(|(span, message)| at(span, message))
    }

    /// Reads the scenario in `path`.
    ///
    /// # Errors
    /// The file cannot be read, or what [`Scenario::parse`] says.
    pub fn load(path: &Path) -> Result<Self, ScenarioError> {
        let origin = path.display().to_string();
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(&text, &origin),
            Err(e) => Err(ScenarioError {
                origin,
                line: 0,
                message: e.to_string(),
            }),
        }
    }
}

/// What is wrong with a scenario, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScenarioError {
    /// The file as named by whoever asked for it.
    pub origin: String,
    /// Line counted from 1; 0 if the file could not be read at all.
    pub line: usize,
    /// What is wrong, as a sentence.
    pub message: String,
}

impl fmt::Display for ScenarioError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.origin, self.message),
            line => write!(f, "{}:{line}: {}", self.origin, self.message),
        }
    }
}

impl std::error::Error for ScenarioError {}

/// A topic readings may be published to: not empty, no wildcards, no NUL (§4.7).
///
/// # Errors
/// A sentence for people.
pub fn check_topic(topic: &str) -> Result<(), String> {
    if topic.is_empty() || topic.len() > 65_535 || topic.contains(['+', '#', '\0']) {
        return Err(format!(
            "{topic:?} cannot be published to: a topic is not empty and has no \"+\", \"#\" or NUL"
        ));
    }
    Ok(())
}

/// A device name fits in one topic level and is a Client Identifier.
///
/// # Errors
/// A sentence for people.
pub fn check_device_name(name: &str) -> Result<(), String> {
    let bad = |c: char| matches!(c, '/' | '+' | '#') || c.is_control() || c.is_whitespace();
    if name.is_empty() || name.len() > 128 || name.contains(bad) || name.starts_with('$') {
        return Err(format!(
            "{name:?} is no device name: 1 to 128 bytes without \"/\", \"+\", \"#\", white space, \
             and not starting with \"$\""
        ));
    }
    Ok(())
}

fn line_of(text: &str, offset: usize) -> usize {
    let before = text.get(..offset).unwrap_or(text);
    before.matches('\n').count() + 1
}

type Checked<T> = Result<T, (Option<Range<usize>>, String)>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    broker: BrokerSection,
    #[serde(default)]
    fleet: FleetSection,
    #[serde(default)]
    sensor: SensorSection,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BrokerSection {
    address: Spanned<String>,
    protocol: Option<Spanned<String>>,
    keep_alive: Option<Spanned<String>>,
    session_expiry: Option<Spanned<String>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct FleetSection {
    sensors: Option<Spanned<i64>>,
    name: Option<Spanned<String>>,
    ramp_up: Option<Spanned<String>>,
    seed: Option<Spanned<i64>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct SensorSection {
    topic: Option<Spanned<String>>,
    qos: Option<Spanned<i64>>,
    interval: Option<Spanned<String>>,
    jitter: Option<Spanned<String>>,
    payload_bytes: Option<Spanned<i64>>,
    inflight: Option<Spanned<i64>>,
    count: Option<Spanned<i64>>,
    duration: Option<Spanned<String>>,
    drain: Option<Spanned<String>>,
}

impl File {
    fn check(self) -> Checked<Scenario> {
        let Self {
            broker,
            fleet,
            sensor,
        } = self;
        let mut b = Behaviour::new(read(&broker.address, |s| s.parse())?);
        if let Some(protocol) = &broker.protocol {
            b.protocol = read(protocol, |s| s.parse())?;
        }
        let keep_alive = Behaviour::MIN_KEEP_ALIVE..=Duration::from_secs(65_535);
        b.keep_alive = span(&broker.keep_alive, "keep_alive", keep_alive, b.keep_alive)?;
        let expiry = Duration::ZERO..=Duration::from_secs(u64::from(u32::MAX));
        b.session_expiry = span(
            &broker.session_expiry,
            "session_expiry",
            expiry,
            b.session_expiry,
        )?;

        if let Some(topic) = &sensor.topic {
            b.topic = read(topic, |t| check_topic(t).map(|()| t.to_owned()))?;
        }
        b.qos = whole(&sensor.qos, "qos", 0..=2, 1)? as u8;
        let interval = Behaviour::MIN_INTERVAL..=DAY;
        b.interval = span(&sensor.interval, "interval", interval, b.interval)?;
        b.jitter = span(
            &sensor.jitter,
            "jitter",
            Duration::ZERO..=b.interval,
            b.jitter,
        )?;
        let most_bytes = Behaviour::MAX_PAYLOAD_BYTES as i64;
        b.payload_bytes =
            whole(&sensor.payload_bytes, "payload_bytes", 0..=most_bytes, 0)? as usize;
        let most = i64::from(Behaviour::MAX_INFLIGHT);
        b.inflight = whole(
            &sensor.inflight,
            "inflight",
            1..=most,
            i64::from(b.inflight),
        )? as u16;
        b.drain = span(&sensor.drain, "drain", Duration::ZERO..=DAY, b.drain)?;
        b.seed = whole(&fleet.seed, "seed", 0..=i64::MAX, 1)? as u64;
        b.end = sensor.end()?;

        let sensors = whole(
            &fleet.sensors,
            "sensors",
            1..=i64::from(Scenario::MAX_SENSORS),
            1,
        )?;
        let scenario = Scenario {
            sensors: sensors as u32,
            name: match &fleet.name {
                Some(name) => read(name, |n| check_name_pattern(n, sensors))?,
                None => "d{n}".to_owned(),
            },
            ramp_up: span(
                &fleet.ramp_up,
                "ramp_up",
                Duration::ZERO..=DAY,
                Duration::ZERO,
            )?,
            behaviour: b,
        };
        Ok(scenario)
    }
}

const DAY: Duration = Duration::from_secs(24 * 3600);

impl SensorSection {
    fn end(&self) -> Checked<End> {
        match (&self.count, &self.duration) {
            (Some(_), Some(duration)) => Err((
                Some(duration.span()),
                "give either \"count\" or \"duration\", not both".to_owned(),
            )),
            (count @ Some(_), None) => {
                Ok(End::Count(whole(count, "count", 1..=i64::MAX, 1)? as u64))
            }
            (None, duration @ Some(_)) => Ok(End::After(span(
                duration,
                "duration",
                Behaviour::MIN_INTERVAL..=365 * DAY,
                DAY,
            )?)),
            (None, None) => Ok(End::Never),
        }
    }
}

fn check_name_pattern(name: &str, sensors: i64) -> Result<String, String> {
    check_device_name(&name.replace("{n}", "1"))?;
    if sensors > 1 && !name.contains("{n}") {
        return Err(format!(
            "name {name:?} needs \"{{n}}\", or all sensors would have the same name"
        ));
    }
    Ok(name.to_owned())
}

fn read<T>(value: &Spanned<String>, parse: impl Fn(&str) -> Result<T, String>) -> Checked<T> {
    parse(value.get_ref()).map_err(|message| (Some(value.span()), message))
}

fn whole(
    value: &Option<Spanned<i64>>,
    name: &str,
    allowed: std::ops::RangeInclusive<i64>,
    default: i64,
) -> Checked<i64> {
    let Some(value) = value else {
        return Ok(default);
    };
    let number = *value.get_ref();
    if allowed.contains(&number) {
        return Ok(number);
    }
    let message = format!(
        "{name} = {number} is out of range, {} to {} is allowed",
        allowed.start(),
        allowed.end()
    );
    Err((Some(value.span()), message))
}

fn span(
    value: &Option<Spanned<String>>,
    name: &str,
    allowed: std::ops::RangeInclusive<Duration>,
    default: Duration,
) -> Checked<Duration> {
    let Some(value) = value else {
        return Ok(default);
    };
    let found = read(value, time_span::parse)?;
    if allowed.contains(&found) {
        return Ok(found);
    }
    let message = format!(
        "{name} = {found:?} is out of range, {:?} to {:?} is allowed",
        allowed.start(),
        allowed.end()
    );
    Err((Some(value.span()), message))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: &str = "[broker]\naddress = \"127.0.0.1:1883\"\n";

    fn error(text: &str) -> String {
        Scenario::parse(text, "fleet.toml")
            .expect_err(text)
            .to_string()
    }

    #[test]
    fn a_broker_address_is_enough_and_the_rest_has_defaults() {
        let scenario = Scenario::parse(SMALL, "x").expect("valid");
        assert_eq!(scenario.sensors, 1);
        assert_eq!(scenario.device(3), "d3");
        assert_eq!(scenario.behaviour.topic, Behaviour::DEFAULT_TOPIC);
        assert_eq!(scenario.behaviour.protocol, Protocol::V5);
        assert_eq!(scenario.behaviour.end, End::Never);
    }

    #[test]
    fn every_key_is_read() {
        let text = r#"
            [broker]
            address = "ws://127.0.0.1:8083/mqtt"
            protocol = "3.1.1"
            keep_alive = "1m"
            session_expiry = "0s"
            [fleet]
            sensors = 7
            name = "hall-{n}"
            ramp_up = "2s"
            seed = 9
            [sensor]
            topic = "t/{device}"
            qos = 2
            interval = "50ms"
            jitter = "10ms"
            payload_bytes = 256
            inflight = 4
            count = 100
            drain = "3s"
        "#;
        let scenario = Scenario::parse(text, "x").expect("valid");
        assert_eq!(
            (scenario.sensors, scenario.ramp_up),
            (7, Duration::from_secs(2))
        );
        assert_eq!(scenario.device(7), "hall-7");
        let b = scenario.behaviour;
        assert_eq!(b.broker.to_string(), "ws://127.0.0.1:8083/mqtt");
        assert_eq!((b.protocol, b.qos, b.seed), (Protocol::V311, 2, 9));
        assert_eq!(b.end, End::Count(100));
        assert_eq!((b.payload_bytes, b.inflight), (256, 4));
        assert_eq!(b.interval, Duration::from_millis(50));
        assert_eq!(b.jitter, Duration::from_millis(10));
        assert_eq!(b.keep_alive, Duration::from_secs(60));
        assert_eq!(b.session_expiry, Duration::ZERO);
        assert_eq!(b.drain, Duration::from_secs(3));
    }

    #[test]
    fn errors_name_file_and_line() {
        for (rest, line, part) in [
            (
                "[fleet]\nsensors = 0\n",
                4,
                "sensors = 0 is out of range, 1 to 60000",
            ),
            ("[fleet]\n\nsensor = 4\n", 5, "unknown field `sensor`"),
            ("[fleet]\nsensors = \"4\"\n", 4, "expected"),
            (
                "[fleet]\nsensors = 2\nname = \"same\"\n",
                5,
                "needs \"{n}\"",
            ),
            ("[fleet]\nname = \"a/b\"\n", 4, "no device name"),
            ("[sensor]\nqos = 3\n", 4, "0 to 2"),
            (
                "[sensor]\ninterval = \"soon\"\n",
                4,
                "\"soon\" is not a time span",
            ),
            ("[sensor]\ninterval = \"0s\"\n", 4, "1ms to"),
            (
                "[sensor]\ninterval = \"1s\"\njitter = \"2s\"\n",
                5,
                "jitter = 2s",
            ),
            ("[sensor]\ntopic = \"a/#\"\n", 4, "cannot be published to"),
            ("[sensor]\ncount = 1\nduration = \"1s\"\n", 5, "not both"),
            ("[sensor\n", 3, ""),
        ] {
            let message = error(&format!("{SMALL}{rest}"));
            assert!(
                message.starts_with(&format!("fleet.toml:{line}: ")),
                "{message}"
            );
            assert!(message.contains(part), "{message}");
        }
    }

    #[test]
    fn a_bad_broker_section_is_an_error_with_its_line() {
        for (text, line, part) in [
            ("", 1, "missing field `broker`"),
            (
                "[broker]\naddress = \"nowhere\"\n",
                2,
                "not a broker address",
            ),
            ("[broker]\naddress = \"wss://h:1/\"\n", 2, "not supported"),
            (
                "[broker]\naddress = \"h:1\"\nprotocol = \"6\"\n",
                3,
                "no protocol",
            ),
            (
                "[broker]\naddress = \"h:1\"\nkeep_alive = \"1s\"\n",
                3,
                "keep_alive",
            ),
        ] {
            let message = error(text);
            assert!(
                message.starts_with(&format!("fleet.toml:{line}: ")),
                "{message}"
            );
            assert!(message.contains(part), "{message}");
        }
    }

    #[test]
    fn a_file_that_cannot_be_read_is_named() {
        let error = Scenario::load(Path::new("no/such.toml")).expect_err("it does not exist");
        assert!(error.to_string().starts_with("no/such.toml: "), "{error}");
    }

    #[test]
    fn the_shipped_scenarios_are_valid() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
        let mut seen = 0;
        for entry in std::fs::read_dir(folder).expect("the folder is shipped") {
            let path = entry.expect("readable").path();
            Scenario::load(&path).expect("valid");
            seen += 1;
        }
        assert!(seen >= 2);
    }
}
