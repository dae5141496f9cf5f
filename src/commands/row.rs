//! Rows as the database wrote them: what a person gave as JSON is passed on to the letter, for a number of it may be
//! larger or longer than any that Rust has.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::{Map, Value, value::RawValue};

use crate::error::{Error, ErrorKind, Result};

/// Columns that hold what a person or a job gave.
const GIVEN: [&str; 2] = ["payload", "result"];

/// A row whose values are not read; the columns keep their order.
struct Unread(Vec<(String, Box<RawValue>)>);

impl<'de> Deserialize<'de> for Unread {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Columns;
        impl<'de> Visitor<'de> for Columns {
            type Value = Unread;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Unread, A::Error> {
                let mut columns = Vec::new();
                while let Some(column) = map.next_entry()? {
                    columns.push(column);
                }
                Ok(Unread(columns))
            }
        }
        deserializer.deserialize_map(Columns)
    }
}

/// Reads a row; the keys keep the order of the view's columns, and what was given as JSON is its text.
pub fn object(text: &str) -> Result<Map<String, Value>> {
    let value = |(key, raw): (String, Box<RawValue>)| {
        let is_text = raw.get().starts_with('"') || raw.get() == "null";
        let value = match GIVEN.contains(&key.as_str()) && !is_text {
            true => Value::from(raw.get()),
            false => serde_json::from_str(raw.get()).map_err(unreadable)?,
        };
        Ok((key, value))
    };
    unread(text)?.0.into_iter().map(value).collect()
}

/// Rows as one JSON object, of a column that several have the first.
pub(super) fn merged(texts: &[String]) -> Result<String> {
    let mut columns: Vec<(String, Box<RawValue>)> = Vec::new();
    for text in texts {
        for (key, value) in unread(text)?.0 {
            if !columns.iter().any(|(known, _)| *known == key) {
                columns.push((key, value));
            }
        }
    }
    let columns: Vec<_> =
        columns.iter().map(|(key, value)| format!("{}:{}", Value::from(key.as_str()), value.get())).collect();
    Ok(format!("{{{}}}", columns.join(",")))
}

fn unread(text: &str) -> Result<Unread> {
    serde_json::from_str(text).map_err(unreadable)
}

fn unreadable(error: serde_json::Error) -> Error {
    Error::new(ErrorKind::Failed, "the database sent a row that is no JSON object").source(error)
}
