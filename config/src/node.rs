//! Deserializes a merged value strictly, and says for the innermost value that is wrong where it
//! was written.
//!
//! Strict: a number in quotes is not a number. Only values from the environment and from flags,
//! which have no types, are read as what is wanted.

use std::fmt;

use config::{Map, Value, ValueKind};
use serde::de::value::{MapAccessDeserializer, StringDeserializer};
use serde::de::{
    self, DeserializeSeed, Deserializer, Expected, IntoDeserializer, MapAccess, SeqAccess,
    Unexpected, Visitor,
};

use crate::errors::Origin;
use crate::layers::Origins;

/// A value to deserialize, with the origins it may refer to.
pub(crate) struct Node<'a> {
    value: Value,
    origins: &'a Origins,
}

/// What was wrong, and where: `path` leads from the deserialized value to the culprit.
#[derive(Debug)]
pub(crate) struct NodeError {
    pub(crate) what: String,
    pub(crate) origin: Option<Origin>,
    /// Innermost first.
    pub(crate) path: Vec<String>,
}

impl<'a> Node<'a> {
    pub(crate) fn new(value: Value, origins: &'a Origins) -> Self {
        Self { value, origins }
    }

    pub(crate) fn table(entries: Map<String, Value>, origins: &'a Origins) -> Self {
        Self::new(Value::new(None, entries), origins)
    }

    /// A value without a type is read as a number or a flag if it looks like one.
    fn visit_scalar<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NodeError> {
        let untyped = self.origins.of(&self.value).is_some_and(Origin::is_untyped);
        match &self.value.kind {
            ValueKind::String(text) if untyped => {
                let text = text.trim();
                if let Ok(number) = text.parse() {
                    visitor.visit_i64(number)
                } else if let Ok(number) = text.parse() {
                    visitor.visit_f64(number)
                } else if let Ok(flag) = text.parse() {
                    visitor.visit_bool(flag)
                } else {
                    visitor.visit_str(text)
                }
            }
            _ => self.deserialize_any(visitor),
        }
    }
}

macro_rules! visit_scalar {
    ($($method:ident)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NodeError> {
            self.visit_scalar(visitor)
        })*
    };
}

impl<'de> Deserializer<'de> for Node<'_> {
    type Error = NodeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NodeError> {
        let origins = self.origins;
        match self.value.kind {
            ValueKind::Nil => visitor.visit_unit(),
            ValueKind::Boolean(flag) => visitor.visit_bool(flag),
            ValueKind::I64(number) => visitor.visit_i64(number),
            ValueKind::I128(number) => visitor.visit_i128(number),
            ValueKind::U64(number) => visitor.visit_u64(number),
            ValueKind::U128(number) => visitor.visit_u128(number),
            ValueKind::Float(number) => visitor.visit_f64(number),
            ValueKind::String(text) => visitor.visit_string(text),
            ValueKind::Array(items) => visitor.visit_seq(Items {
                items: items.into_iter(),
                origins,
            }),
            ValueKind::Table(entries) => visitor.visit_map(Entries {
                entries: in_order(entries),
                value: None,
                origins,
            }),
        }
    }

    visit_scalar! {
        deserialize_bool
        deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128
        deserialize_f32 deserialize_f64
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NodeError> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, NodeError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, NodeError> {
        let origins = self.origins;
        match self.value.kind {
            ValueKind::String(text) => {
                let text: StringDeserializer<NodeError> = text.into_deserializer();
                visitor.visit_enum(text)
            }
            ValueKind::Table(entries) => visitor.visit_enum(MapAccessDeserializer::new(Entries {
                entries: in_order(entries),
                value: None,
                origins,
            })),
            _ => Err(de::Error::custom("expected one word in quotes")),
        }
    }

    serde::forward_to_deserialize_any! {
        char str string bytes byte_buf unit unit_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

/// The entries by name: a table has no order, and what is wrong first must not depend on luck.
pub(crate) fn in_order(entries: Map<String, Value>) -> std::vec::IntoIter<(String, Value)> {
    let mut entries: Vec<_> = entries.into_iter().collect();
    entries.sort_by(|(one, _), (other, _)| one.cmp(other));
    entries.into_iter()
}

struct Items<'a> {
    items: std::vec::IntoIter<Value>,
    origins: &'a Origins,
}

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = NodeError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, NodeError> {
        let Some(item) = self.items.next() else {
            return Ok(None);
        };
        seed_at(seed, item, self.origins).map(Some)
    }
}

struct Entries<'a> {
    entries: std::vec::IntoIter<(String, Value)>,
    value: Option<(String, Value)>,
    origins: &'a Origins,
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = NodeError;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, NodeError> {
        let Some((key, value)) = self.entries.next() else {
            return Ok(None);
        };
        let origin = self.origins.of(&value).cloned();
        self.value = Some((key.clone(), value));
        seed.deserialize(key.into_deserializer())
            .map(Some)
            .map_err(|error: NodeError| error.or_at(origin))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, NodeError> {
        let (key, value) = self
            .value
            .take()
            .ok_or_else(|| de::Error::custom("value without a key"))?;
        seed_at(seed, value, self.origins).map_err(|mut error| {
            error.path.push(key);
            error
        })
    }
}

fn seed_at<'de, T: DeserializeSeed<'de>>(
    seed: T,
    value: Value,
    origins: &Origins,
) -> Result<T::Value, NodeError> {
    let origin = origins.of(&value).cloned();
    seed.deserialize(Node::new(value, origins))
        .map_err(|error| error.or_at(origin))
}

impl NodeError {
    fn or_at(mut self, origin: Option<Origin>) -> Self {
        self.origin = self.origin.or(origin);
        self
    }
}

impl fmt::Display for NodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl std::error::Error for NodeError {}

impl de::Error for NodeError {
    fn custom<T: fmt::Display>(what: T) -> Self {
        Self {
            what: what.to_string(),
            origin: None,
            path: Vec::new(),
        }
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::custom(format_args!(
            "expected {}, found {found}",
            in_words(expected)
        ))
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::invalid_type(found, expected)
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        Self::custom(format_args!(
            "unknown key `{field}`{}",
            crate::reader::suggestion(field, expected)
        ))
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        let choices: Vec<_> = expected
            .iter()
            .map(|choice| format!("\"{choice}\""))
            .collect();
        Self::custom(format_args!(
            "\"{variant}\" is none of {}",
            choices.join(", ")
        ))
    }
}

/// The type that was wanted, in words of the file instead of words of the program.
fn in_words(expected: &dyn Expected) -> String {
    let expected = expected.to_string();
    match expected.as_str() {
        "u8" => format!("a whole number from 0 to {}", u8::MAX),
        "u16" => format!("a whole number from 0 to {}", u16::MAX),
        "u32" => format!("a whole number from 0 to {}", u32::MAX),
        "u64" | "usize" => "a whole number, not negative".to_owned(),
        "i64" => "a whole number".to_owned(),
        "a string" => "text in quotes".to_owned(),
        "a boolean" => "true or false".to_owned(),
        "a sequence" => "a list, [ ... ]".to_owned(),
        _ if expected.starts_with("struct ") => "a table, { ... }".to_owned(),
        "a map" => "a table".to_owned(),
        _ => expected,
    }
}
