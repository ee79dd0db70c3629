//! Turns the merged tree into section structs, key by key, so that one wrong key does not hide the
//! next one.
//!
//! A section struct says what its keys are (its fields), which of them must be given, and which
//! values make sense; everything about places and messages is here.

use std::fmt::Display;
use std::ops::RangeInclusive;

use config::{Map, Value, ValueKind};
use serde::de::value::Error as FieldsTaken;
use serde::de::{DeserializeOwned, Deserializer, Error as _, Visitor};

use crate::errors::{Origin, Problem};
use crate::layers::{Origins, section_label};
use crate::node::{Node, NodeError, in_order};

/// A section of the settings, or one entry of a list of them.
pub(crate) trait Section: DeserializeOwned + Default {
    /// Keys that have no default.
    const REQUIRED: &'static [&'static str] = &[];

    /// Reports values that are of the right type and still make no sense.
    fn check(&self, _checks: &mut Checks<'_>) {}

    /// Told where the entry stands, for those that hand it on.
    fn placed_at(&mut self, _origin: &Origin) {}
}

/// Takes sections out of the merged tree and gathers problems.
pub(crate) struct Reader<'a> {
    pub(crate) sections: Map<String, Value>,
    pub(crate) origins: &'a Origins,
    pub(crate) problems: Vec<Problem>,
}

impl Reader<'_> {
    /// The section `[name]`.
    pub(crate) fn section<T: Section>(&mut self, name: &str) -> T {
        let value = self.sections.remove(name).unwrap_or_default();
        self.entry(&section_label(name), value)
    }

    /// The section `[[name]]`.
    pub(crate) fn list<T: Section>(&mut self, name: &str) -> Vec<T> {
        let items = match self.sections.remove(name).unwrap_or_default().kind {
            ValueKind::Array(items) => items,
            // The layers let only lists through.
            _ => Vec::new(),
        };
        let label = section_label(name);
        items
            .into_iter()
            .map(|item| self.entry(&label, item))
            .collect()
    }

    fn entry<T: Section>(&mut self, label: &str, value: Value) -> T {
        let place = self
            .origins
            .of(&value)
            .cloned()
            .unwrap_or(Origin::Shipped { line: 0 });
        let entries = match value.kind {
            ValueKind::Table(entries) => entries,
            // The layers let only tables through; an absent section is all defaults.
            _ => Map::new(),
        };
        for key in T::REQUIRED
            .iter()
            .filter(|key| !entries.contains_key(**key))
        {
            self.report(label, key, place.clone(), "is missing".to_owned());
        }
        let known = fields::<T>();
        let mut good = Map::new();
        for (key, value) in in_order(entries) {
            let origin = self
                .origins
                .of_any(&value)
                .cloned()
                .unwrap_or_else(|| place.clone());
            if !known.contains(&key.as_str()) {
                let what = format!("unknown key{}", suggestion(&key, known));
                self.report(label, &key, origin, what);
                continue;
            }
            let alone = Map::from_iter([(key.clone(), value.clone())]);
            match T::deserialize(Node::table(alone, self.origins)) {
                Ok(_) => drop(good.insert(key, value)),
                Err(error) => self.report_node(label, &key, origin, error),
            }
        }
        let origins_of_good: Map<String, Origin> = good
            .iter()
            .filter_map(|(key, value)| Some((key.clone(), self.origins.of(value)?.clone())))
            .collect();
        let mut section = T::deserialize(Node::table(good, self.origins)).unwrap_or_default();
        section.placed_at(&place);
        let mut checks = Checks {
            label,
            place: &place,
            origins: &origins_of_good,
            problems: &mut self.problems,
        };
        section.check(&mut checks);
        section
    }

    fn report_node(&mut self, label: &str, key: &str, place: Origin, error: NodeError) {
        let NodeError { what, origin, path } = error;
        let mut path: Vec<_> = path.into_iter().rev().collect();
        if path.is_empty() {
            path.push(key.to_owned());
        }
        self.report(label, &path.join("."), origin.unwrap_or(place), what);
    }

    fn report(&mut self, label: &str, key: &str, origin: Origin, what: String) {
        self.problems.push(Problem {
            origin,
            key: format!("{label} {key}"),
            what,
        });
    }
}

/// Where a section reports the values it does not accept.
pub(crate) struct Checks<'a> {
    label: &'a str,
    place: &'a Origin,
    origins: &'a Map<String, Origin>,
    problems: &'a mut Vec<Problem>,
}

impl Checks<'_> {
    /// Reports a key.
    pub(crate) fn refuse(&mut self, key: &str, what: impl Display) {
        let origin = self.origins.get(key).unwrap_or(self.place).clone();
        self.problems.push(Problem {
            origin,
            key: format!("{} {key}", self.label),
            what: what.to_string(),
        });
    }

    /// Reports a number outside the range; `why` explains the bounds.
    pub(crate) fn range(
        &mut self,
        key: &str,
        value: impl TryInto<u64>,
        range: RangeInclusive<u64>,
        why: &str,
    ) {
        let (least, most) = (range.start(), range.end());
        let Ok(value) = value.try_into() else { return };
        if !range.contains(&value) {
            self.refuse(
                key,
                format_args!("{value} is not within {least} to {most} ({why})"),
            );
        }
    }

    /// Reports an address that somebody on the way could answer for: it is `https://`, or on this
    /// machine, or not given.
    pub(crate) fn safe_url(&mut self, key: &str, url: &str) {
        let host = url.strip_prefix("http://").map(|rest| {
            let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
            // What stands before an @ is no host: in http://localhost:1@elsewhere/ neither.
            let authority = authority.rsplit('@').next().unwrap_or_default();
            match authority.rsplit_once(':') {
                Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
                _ => authority,
            }
        });
        let is_here = matches!(host, Some("127.0.0.1" | "localhost" | "[::1]"));
        if !url.is_empty() && !url.starts_with("https://") && !is_here {
            self.refuse(
                key,
                "must begin with https://, or be on this machine as in http://127.0.0.1:8000/: else \
                 anyone on the way answers",
            );
        }
    }

    /// Reports text that is given but has nothing in it.
    pub(crate) fn not_empty(&mut self, key: &str, value: &str) {
        if value.trim().is_empty() && self.origins.contains_key(key) {
            self.refuse(key, "is empty");
        }
    }
}

/// The names of a struct's fields, as its derived `Deserialize` knows them.
pub(crate) fn fields<T: DeserializeOwned>() -> &'static [&'static str] {
    struct Taker<'a>(&'a mut &'static [&'static str]);

    impl<'de> Deserializer<'de> for Taker<'_> {
        type Error = FieldsTaken;

        fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, FieldsTaken> {
            Err(FieldsTaken::custom("not a struct"))
        }

        fn deserialize_struct<V: Visitor<'de>>(
            self,
            _: &'static str,
            fields: &'static [&'static str],
            _: V,
        ) -> Result<V::Value, FieldsTaken> {
            *self.0 = fields;
            Err(FieldsTaken::custom("only the names were wanted"))
        }

        serde::forward_to_deserialize_any! {
            bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit
            unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
        }
    }

    let mut names: &'static [&'static str] = &[];
    // Always an error: the names are what was asked for, and they are in `names` by now.
    drop(T::deserialize(Taker(&mut names)));
    names
}

/// Keys that a message lists; more are looked up faster where they are explained.
const MAX_LISTED: usize = 16;

/// "; did you mean `x`?", or the choices if none is near.
pub(crate) fn suggestion(wrong: &str, known: &[&str]) -> String {
    let nearest = known.iter().map(|name| (distance(wrong, name), name)).min();
    match nearest {
        Some((distance, name)) if distance * 3 <= name.len() => format!("; did you mean `{name}`?"),
        _ if known.len() > MAX_LISTED => {
            format!("; the shipped tidings.toml has all {}", known.len())
        }
        _ => format!("; known are {}", known.join(", ")),
    }
}

/// Levenshtein's edit distance, by rows.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (cell, to) in row.iter_mut().skip(1).zip(b.chars()) {
            let above = *cell;
            left = (diagonal + usize::from(from != to))
                .min(left + 1)
                .min(above + 1);
            diagonal = above;
            *cell = left;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_word_is_near_the_right_one() {
        assert_eq!(distance("max_qos", "max_qos"), 0);
        assert_eq!(distance("max_qso", "max_qos"), 2);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(
            suggestion("max_qoss", &["interval_s", "max_qos"]),
            "; did you mean `max_qos`?"
        );
        assert_eq!(
            suggestion("wholly", &["interval_s", "max_qos"]),
            "; known are interval_s, max_qos"
        );
    }
}
