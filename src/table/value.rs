//! Holds a value of any Avro schema, to be looked into by the names of fields.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};

/// A value. Numbers of all widths are one kind, enum symbols and decimals are text.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Null,
    Flag(bool),
    Whole(i64),
    Real(f64),
    Text(String),
    Bytes(Vec<u8>),
    List(Vec<Value>),
    /// Of a record, in the order of its schema; of a map, as it was written.
    Fields(Vec<(String, Value)>),
}

impl Value {
    /// Returns the field of a record.
    pub fn field(&self, name: &str) -> Option<&Self> {
        let Self::Fields(fields) = self else { return None };
        fields.iter().find(|it| it.0 == name).map(|it| &it.1)
    }

    /// Returns what lies at the end of a path of fields; of what is null, everything is.
    pub fn at(&self, path: &[String]) -> Option<&Self> {
        let mut it = self;
        for name in path {
            if *it == Self::Null {
                return Some(it);
            }
            it = it.field(name)?;
        }
        Some(it)
    }

    /// Returns what kind of value this is, in words.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Flag(_) => "a boolean",
            Self::Whole(_) => "a whole number",
            Self::Real(_) => "a real number",
            Self::Text(_) => "text",
            Self::Bytes(_) => "bytes",
            Self::List(_) => "a list",
            Self::Fields(_) => "a record",
        }
    }
}

/// As JSON, bytes are hexadecimal text, and what is no number is null.
impl Serialize for Value {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => to.serialize_unit(),
            Self::Flag(it) => to.serialize_bool(*it),
            Self::Whole(it) => to.serialize_i64(*it),
            Self::Real(it) => to.serialize_f64(*it),
            Self::Text(it) => to.serialize_str(it),
            Self::Bytes(it) => {
                let digits: String = it.iter().map(|byte| format!("{byte:02x}")).collect();
                to.serialize_str(&digits)
            }
            Self::List(it) => to.collect_seq(it),
            Self::Fields(fields) => {
                let mut map = to.serialize_map(Some(fields.len()))?;
                for (name, value) in fields {
                    map.serialize_entry(name, value)?;
                }
                map.end()
            }
        }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Any)
    }
}

/// Takes what comes.
struct Any;

impl<'de> Visitor<'de> for Any {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, from: D) -> Result<Value, D::Error> {
        Value::deserialize(from)
    }

    fn visit_bool<E>(self, it: bool) -> Result<Value, E> {
        Ok(Value::Flag(it))
    }

    fn visit_i64<E>(self, it: i64) -> Result<Value, E> {
        Ok(Value::Whole(it))
    }

    fn visit_u64<E: serde::de::Error>(self, it: u64) -> Result<Value, E> {
        let whole = i64::try_from(it);
        whole.map(Value::Whole).map_err(|_| E::custom("a number has more than 63 bits"))
    }

    fn visit_f64<E>(self, it: f64) -> Result<Value, E> {
        Ok(Value::Real(it))
    }

    fn visit_str<E>(self, it: &str) -> Result<Value, E> {
        Ok(Value::Text(it.to_owned()))
    }

    fn visit_bytes<E>(self, it: &[u8]) -> Result<Value, E> {
        Ok(Value::Bytes(it.to_vec()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(it) = from.next_element()? {
            list.push(it);
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Value, A::Error> {
        let mut fields = Vec::new();
        while let Some(it) = from.next_entry()? {
            fields.push(it);
        }
        Ok(Value::Fields(fields))
    }
}
