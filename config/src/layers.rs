//! Reads each source of settings into a tree of values that remember where they were written, and
//! lays the trees over each other: shipped defaults < file < environment < flags.
//!
//! A table is merged key by key; anything else, lists included, replaces what lies below it.
//! It knows the names of the sections, not what is in them.

use std::fs;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, LazyLock};

use config::{Config, Map, Source, Value, ValueKind};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::errors::{Origin, Problem};

/// The shipped file: the lowest layer, and the documentation of every key.
pub(crate) const SHIPPED: &str = include_str!("../tidings.toml");

/// Sections that are one table, `[server]`.
pub(crate) const TABLES: &[&str] = &[
    "server",
    "tls",
    "auth",
    "jwt",
    "auth_hook",
    "http",
    "rooms",
    "people",
    "websocket",
    "mqtt",
    "limits",
    "journal",
    "state",
    "log",
    "sys",
    "audit",
    "otel",
];
/// Sections that are a list of tables, `[[topics]]`.
pub(crate) const LISTS: &[&str] = &["listeners", "topics", "bridges"];

/// What every environment variable that holds a setting begins with.
const ENVIRONMENT_PREFIX: &str = "TIDINGS_";
/// Between section and key in an environment variable; variables without it are not settings.
const ENVIRONMENT_SEPARATOR: &str = "__";

/// The layers, in order, with the origins their values refer to by number.
#[derive(Clone, Debug, Default)]
pub(crate) struct Layers {
    layers: Vec<Layer>,
    origins: Origins,
    pub(crate) problems: Vec<Problem>,
}

/// One source, read.
#[derive(Clone, Debug, Default)]
struct Layer(Map<String, Value>);

impl Source for Layer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, config::ConfigError> {
        Ok(self.0.clone())
    }
}

/// Origins by number: the layering crate carries a string with each value, here it is an index.
#[derive(Clone, Debug, Default)]
pub(crate) struct Origins(Vec<Origin>);

impl Origins {
    fn mark(&mut self, origin: Origin) -> String {
        self.0.push(origin);
        (self.0.len() - 1).to_string()
    }

    /// Where the value was written; `None` for tables that were merged from several places.
    pub(crate) fn of(&self, value: &Value) -> Option<&Origin> {
        self.0.get(value.origin()?.parse::<usize>().ok()?)
    }

    /// Where the value was written, or of a merged table the strongest of what is in it.
    pub(crate) fn of_any(&self, value: &Value) -> Option<&Origin> {
        let inside = || match &value.kind {
            ValueKind::Table(entries) => entries.values().filter_map(|one| self.of_any(one)).max(),
            _ => None,
        };
        self.of(value).or_else(inside)
    }
}

impl Layers {
    /// The shipped defaults, with nothing on them yet. A test proves that they have no error.
    pub(crate) fn shipped() -> Self {
        static READ: LazyLock<Layers> = LazyLock::new(|| {
            let mut layers = Layers::default();
            layers.add_toml(SHIPPED, |line| Origin::Shipped { line });
            layers
        });
        READ.clone()
    }

    /// A file in TOML.
    pub(crate) fn add_file(&mut self, path: &Path) {
        let name: Arc<str> = path.display().to_string().into();
        match fs::read_to_string(path) {
            Ok(text) => self.add_text_of_file(&name, &text),
            Err(error) => self.problems.push(Problem {
                origin: Origin::File { name, line: 0 },
                key: String::new(),
                what: format!("cannot be read: {error}"),
            }),
        }
    }

    /// What stands in a file.
    pub(crate) fn add_text_of_file(&mut self, name: &Arc<str>, text: &str) {
        self.add_toml(text, |line| Origin::File {
            name: Arc::clone(name),
            line,
        });
    }

    fn add_toml(&mut self, text: &str, origin: impl Fn(usize) -> Origin) {
        let (document, errors) = DeTable::parse_recoverable(text);
        let origin_at = |span: Range<usize>| origin(line_of(text, span.start));
        if !errors.is_empty() {
            // What was guessed of a broken file would only add errors that are not there.
            // And only the message: the full display repeats the line, which may hold a secret.
            self.problems
                .extend(errors.into_iter().map(|error| Problem {
                    origin: origin_at(error.span().unwrap_or_default()),
                    key: String::new(),
                    what: error.message().to_owned(),
                }));
            return;
        }
        let mut layer = Layer::default();
        for (section, value) in document.get_ref() {
            let place = origin_at(section.span());
            let name: &str = section.get_ref();
            match shape_problem(name, value.get_ref()) {
                Some(what) => {
                    let key = if TABLES.contains(&name) || LISTS.contains(&name) {
                        section_label(name)
                    } else {
                        String::new()
                    };
                    self.problems.push(Problem {
                        origin: place,
                        key,
                        what,
                    });
                }
                None => {
                    let mut mark = |span| self.origins.mark(origin_at(span));
                    layer
                        .0
                        .insert(name.to_owned(), to_value(value, None, &mut mark));
                }
            }
        }
        self.layers.push(layer);
    }

    /// `TIDINGS_SECTION__KEY=value`. Other variables are not ours to judge.
    pub(crate) fn add_environment(&mut self, variables: &[(String, String)]) {
        let mut variables: Vec<_> = variables.iter().collect();
        variables.sort();
        for (name, text) in variables {
            let Some(path) = name.strip_prefix(ENVIRONMENT_PREFIX) else {
                continue;
            };
            let path: Vec<String> = path
                .split(ENVIRONMENT_SEPARATOR)
                .map(str::to_lowercase)
                .collect();
            let path: Vec<&str> = path.iter().map(String::as_str).collect();
            if path.len() > 1 || path.first().is_some_and(|section| LISTS.contains(section)) {
                self.add_text(&path, text, Origin::Environment(name.clone()));
            }
        }
    }

    /// `section.key=value`, in the order given.
    pub(crate) fn add_flags(&mut self, set: &[String]) {
        for flag in set {
            let (path, text) = flag.split_once('=').unwrap_or((flag, ""));
            let origin = Origin::Flag(format!("--set {path}"));
            if flag.contains('=') {
                // A third part is a key of a table, and may itself have dots in it.
                let path: Vec<&str> = path.trim().splitn(3, '.').collect();
                self.add_text(&path, text, origin);
            } else {
                let what = "expected section.key=value".to_owned();
                self.problems.push(Problem {
                    origin,
                    key: String::new(),
                    what,
                });
            }
        }
    }

    fn add_text(&mut self, path: &[&str], text: &str, origin: Origin) {
        let mut refuse = |what: String| {
            self.problems.push(Problem {
                origin: origin.clone(),
                key: String::new(),
                what,
            });
        };
        let (section, keys) = match path {
            [section, keys @ ..] if LISTS.contains(section) => {
                if !keys.is_empty() {
                    let what = format!("{section} is a list and can only be set as a whole");
                    return refuse(what);
                }
                (*section, keys)
            }
            [section] if TABLES.contains(section) => {
                return refuse(format!("expected {section}.key=value"));
            }
            [section, keys @ ..] if TABLES.contains(section) => (*section, keys),
            _ => return refuse(unknown_section(path.first().copied().unwrap_or_default())),
        };
        let parsed = parse_structured(text);
        if keys.is_empty() {
            let shape = parsed
                .as_ref()
                .map(|value| shape_problem(section, value.get_ref()));
            if shape != Some(None) {
                return refuse(format!(
                    "expected a list of tables, [{{ ... }}, ...], as {section}"
                ));
            }
        }
        let mut mark = |_| self.origins.mark(origin.clone());
        let value = match &parsed {
            Some(value) => to_value(value, None, &mut mark),
            None => Value::new(Some(&mark(0..0)), text.to_owned()),
        };
        let nested = keys.iter().rev().fold(value, |inner, key| {
            let key = key.trim_matches('"').to_owned();
            Value::new(None, Map::from_iter([(key, inner)]))
        });
        self.layers
            .push(Layer(Map::from_iter([(section.to_owned(), nested)])));
    }

    /// Lays the layers over each other.
    pub(crate) fn merge(self) -> (Map<String, Value>, Origins, Vec<Problem>) {
        let Self {
            layers,
            origins,
            mut problems,
        } = self;
        let builder = layers
            .into_iter()
            .fold(Config::builder(), |builder, layer| {
                builder.add_source(layer)
            });
        let merged = builder.build().and_then(|config| config.cache.into_table());
        let sections = merged.unwrap_or_else(|error| {
            let origin = Origin::Flag("settings".to_owned());
            problems.push(Problem {
                origin,
                key: String::new(),
                what: error.to_string(),
            });
            Map::new()
        });
        (sections, origins, problems)
    }
}

/// `[server]` or `[[topics]]`, as people write it.
pub(crate) fn section_label(section: &str) -> String {
    if LISTS.contains(&section) {
        format!("[[{section}]]")
    } else {
        format!("[{section}]")
    }
}

/// Why a top-level value cannot be that section; `None` if its shape is right.
fn shape_problem(section: &str, value: &DeValue<'_>) -> Option<String> {
    let is_table = |value: &DeValue<'_>| matches!(value, DeValue::Table(_));
    if TABLES.contains(&section) {
        (!is_table(value)).then(|| "expected a table".to_owned())
    } else if LISTS.contains(&section) {
        let DeValue::Array(items) = value else {
            return Some("expected a list of tables".to_owned());
        };
        let all_tables = items.iter().all(|item| is_table(item.get_ref()));
        (!all_tables).then(|| "expected a list of tables".to_owned())
    } else {
        Some(unknown_section(section))
    }
}

fn unknown_section(section: &str) -> String {
    let known: Vec<_> = TABLES.iter().chain(LISTS).copied().collect();
    format!(
        "unknown section `{section}`{}",
        crate::reader::suggestion(section, &known)
    )
}

/// Text from the environment or a flag that is written as TOML: a list, a table, a quoted string.
/// Anything else is taken as it stands, so that names and paths need no quotes.
fn parse_structured(text: &str) -> Option<Spanned<DeValue<'_>>> {
    let text = text.trim();
    if text.starts_with(['[', '{', '"']) {
        DeValue::parse(text).ok()
    } else {
        None
    }
}

/// The tree of a TOML value, each node with its mark; `key` is where the node's key stands, the
/// better place to point at than a value that may begin lines later.
fn to_value(
    value: &Spanned<DeValue<'_>>,
    key: Option<Range<usize>>,
    mark: &mut dyn FnMut(Range<usize>) -> String,
) -> Value {
    let origin = mark(key.unwrap_or_else(|| value.span()));
    let kind = match value.get_ref() {
        DeValue::String(text) => ValueKind::String(text.to_string()),
        DeValue::Integer(digits) => match i64::from_str_radix(digits.as_str(), digits.radix()) {
            Ok(number) => ValueKind::I64(number),
            // Beyond i64 there is no setting; as text it is refused with its digits.
            Err(_) => ValueKind::String(digits.to_string()),
        },
        DeValue::Float(digits) => digits
            .as_str()
            .parse()
            .map_or_else(|_| ValueKind::String(digits.to_string()), ValueKind::Float),
        DeValue::Boolean(flag) => ValueKind::Boolean(*flag),
        DeValue::Datetime(time) => ValueKind::String(time.to_string()),
        DeValue::Array(items) => ValueKind::Array(
            items
                .iter()
                .map(|item| to_value(item, None, mark))
                .collect(),
        ),
        DeValue::Table(entries) => ValueKind::Table(
            entries
                .iter()
                .map(|(key, item)| {
                    (
                        key.get_ref().to_string(),
                        to_value(item, Some(key.span()), mark),
                    )
                })
                .collect(),
        ),
    };
    Value::new(Some(&origin), kind)
}

/// The line a byte stands in, counted from 1.
fn line_of(text: &str, byte: usize) -> usize {
    1 + text.bytes().take(byte).filter(|&b| b == b'\n').count()
}
