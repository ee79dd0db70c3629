//! The settings: whatever stands in the file, in the environment or behind `--set` is taken or refused,
//! the same each time, and each refusal names its place. What is taken keeps what it promises: names that
//! differ, rules with their lines, and no door that is open to others by mistake.

use tidings_config::{ConfigErrors, ListenAddress, Origin, Settings, Sources};
use tidings_core::rules::{RuleSource, Rules};

use super::choices::Choices;
use super::heap::peak_of;

/// What problems call the file.
const NAME: &str = "fuzzed.toml";

/// Bytes of memory for each byte of text: a name of one character becomes a node of a tree, its place,
/// and a problem that lists what is known.
const MEMORY_PER_BYTE: usize = 4096;

/// Bytes of memory that the shipped settings take.
const MEMORY: usize = 4 * 1024 * 1024;

/// See the module. The first byte says where the rest stands.
pub fn settings(data: &[u8]) {
    let mut choices = Choices::new(data);
    let place = choices.below(4);
    let text = String::from_utf8_lossy(choices.bytes(usize::MAX));
    match place {
        0 => check_flags(&text),
        1 => check_environment(&text),
        _ => check_file(&text),
    }
}

fn check_file(text: &str) {
    let (read, memory) = peak_of(|| Settings::parse(NAME, text));
    assert!(
        memory <= MEMORY + MEMORY_PER_BYTE * text.len(),
        "{memory} bytes"
    );
    assert_eq!(read, Settings::parse(NAME, text), "not the same again");
    let last = text.bytes().filter(|byte| *byte == b'\n').count() + 1;
    if let Err(errors) = &read {
        for line in errors.lines() {
            let number = place_of(&line).unwrap_or_else(|| panic!("no place: {line}"));
            assert!((1..=last).contains(&number), "{last} lines: {line}");
        }
    }
    if let Ok(settings) = &read {
        check_taken(settings);
    }
    // Only the first bytes of a file may be a byte order mark.
    if !text.starts_with('\u{FEFF}') {
        let below = Settings::parse(NAME, &format!("# a line more\n{text}"));
        assert_eq!(read.is_ok(), below.is_ok(), "a comment decides");
        if let (Err(read), Err(below)) = (read, below)
            && !is_too_deep(&read)
            && !is_too_deep(&below)
        {
            assert_eq!(moved(&read, 1), moved(&below, 0), "a line further down");
        }
    }
}

/// The reader gave up. How deep a key may be depends, by a little, on what stands above it.
fn is_too_deep(errors: &ConfigErrors) -> bool {
    errors.lines().any(|line| line.contains("recursion limit"))
}

/// The line that a problem names first.
fn place_of(problem: &str) -> Option<usize> {
    let rest = problem.strip_prefix(NAME)?.strip_prefix(':')?;
    rest.split_once(':')?.0.parse().ok()
}

/// The problems, with all places so many lines further down.
fn moved(errors: &ConfigErrors, by: usize) -> Vec<String> {
    let prefix = format!("{NAME}:");
    let place = |part: &str| {
        let digits = part.bytes().take_while(u8::is_ascii_digit).count();
        let (number, rest) = part.split_at(digits);
        let number = number.parse::<usize>().map(|number| number + by);
        number.map_or(part.to_owned(), |number| format!("{number}{rest}"))
    };
    let line = |line: String| line.split(&prefix).map(place).collect::<Vec<_>>().join("");
    errors.lines().map(line).collect()
}

fn check_flags(text: &str) {
    let set: Vec<String> = text.lines().map(str::to_owned).collect();
    let sources = Sources {
        set,
        ..Sources::default()
    };
    check_sources(&sources, |problem| problem.starts_with("--set"));
}

fn check_environment(text: &str) {
    let variables = text.lines().filter_map(|line| line.split_once('='));
    let sources = Sources {
        env: variables
            .map(|(name, value)| (format!("TIDINGS_{name}"), value.to_owned()))
            .collect(),
        ..Sources::default()
    };
    check_sources(&sources, |problem| problem.starts_with("TIDINGS_"));
}

fn check_sources(sources: &Sources, is_placed: impl Fn(&str) -> bool) {
    let read = Settings::load(sources);
    assert_eq!(read, Settings::load(sources), "not the same again");
    match &read {
        Ok(settings) => check_taken(settings),
        Err(errors) => {
            for line in errors.lines() {
                assert!(is_placed(&line), "no place: {line}");
            }
        }
    }
}

/// What holds for all settings.
fn check_taken(settings: &Settings) {
    for (number, listener) in settings.listeners.iter().enumerate() {
        let others = settings.listeners.iter().skip(number + 1);
        assert!(!listener.name.is_empty());
        assert!(others.clone().all(|other| other.name != listener.name));
    }
    if settings.check_exposure().is_ok() && !settings.server.allow_public_open_mode {
        for listener in &settings.listeners {
            let is_here = match &listener.address {
                ListenAddress::Network(address) => address.ip().to_canonical().is_loopback(),
                ListenAddress::Unix(_) => true,
            };
            let is_here = is_here && !listener.proxy_protocol && !listener.forwarded_for;
            assert!(is_here || !settings.is_open(listener), "{listener:?}");
        }
    }
    let sources: Vec<RuleSource> = settings
        .topics
        .iter()
        .map(|rule| RuleSource {
            pattern: rule.pattern.clone(),
            publish: rule.publish.clone(),
            subscribe: rule.subscribe.clone(),
            stream: rule.stream.clone(),
            grows: rule.grows.clone(),
            ..RuleSource::default()
        })
        .collect();
    if let Err(error) = Rules::compile(&sources) {
        let rule = settings
            .topics
            .get(error.index)
            .expect("the rule that is wrong");
        assert_ne!(rule.origin, Origin::Program, "a rule without a place");
    }
}
