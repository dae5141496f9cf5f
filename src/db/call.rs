//! A call of one function of the schema by argument names, of which only those are passed that were given.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::client::Typed;
use crate::sqlstate::{DATETIME_FIELD_OVERFLOW, INVALID_DATETIME_FORMAT, INVALID_TEXT_REPRESENTATION};

enum Value {
    Null,
    Text(String),
    List(Vec<String>),
}

/// A call of one function of the schema by argument names.
pub struct Call {
    function: &'static str,
    arguments: Vec<(Cow<'static, str>, Cow<'static, str>, Value)>,
    of_flags: bool,
}

/// As wide as [`Call::statement`] writes, where it can.
const WIDTH: usize = 100;

impl Call {
    /// A call without arguments.
    pub fn new(function: &'static str) -> Self {
        Self { function, arguments: Vec::new(), of_flags: false }
    }

    /// Adds an argument; the database casts the text to the type.
    #[must_use]
    pub fn arg(
        mut self,
        name: impl Into<Cow<'static, str>>,
        kind: impl Into<Cow<'static, str>>,
        value: impl Into<String>,
    ) -> Self {
        self.arguments.push((name.into(), kind.into(), Value::Text(value.into())));
        self
    }

    /// Adds an argument when there is a value.
    #[must_use]
    pub fn given(self, name: &'static str, kind: &'static str, value: Option<impl ToString>) -> Self {
        match value {
            Some(value) => self.arg(name, kind, value.to_string()),
            None => self,
        }
    }

    /// Adds an argument that has no default, NULL when there is no value.
    #[must_use]
    pub fn nullable(mut self, name: &'static str, kind: &'static str, value: Option<&str>) -> Self {
        let value = value.map_or(Value::Null, |text| Value::Text(text.to_owned()));
        self.arguments.push((name.into(), kind.into(), value));
        self
    }

    /// Adds an array, when it has elements; the type is the array's.
    #[must_use]
    pub fn list(self, name: &'static str, kind: &'static str, values: &[impl ToString]) -> Self {
        if values.is_empty() { self } else { self.array(name, kind, values) }
    }

    /// Adds an array, also an empty one; the type is the array's.
    #[must_use]
    pub fn array(
        mut self,
        name: impl Into<Cow<'static, str>>,
        kind: impl Into<Cow<'static, str>>,
        values: &[impl ToString],
    ) -> Self {
        let values = values.iter().map(ToString::to_string).collect();
        self.arguments.push((name.into(), kind.into(), Value::List(values)));
        self
    }

    /// Says that the arguments were given as flags of these names, for hints.
    #[must_use]
    pub fn of_flags(mut self) -> Self {
        self.of_flags = true;
        self
    }

    /// What those arguments take of which the database could not read one, by its SQLSTATE.
    pub(super) fn hint(&self, code: &str) -> Option<String> {
        let kinds: &[(&str, &str)] = match code {
            INVALID_DATETIME_FORMAT | DATETIME_FIELD_OVERFLOW => &[
                ("interval", "a length of time such as 90s, 10min or '1 day'"),
                ("timestamptz", "a time such as '2030-01-31 07:00' or 2030-01-31T07:00+01:00"),
            ],
            INVALID_TEXT_REPRESENTATION => &[
                ("jsonb", "JSON such as '{\"image\": 7}' or '\"text\"'"),
                ("integer", "a whole number"),
                ("double precision", "a number"),
                ("boolean", "true or false"),
            ],
            _ => return None,
        };
        let hints: Vec<String> = kinds
            .iter()
            .filter_map(|(kind, takes)| {
                let names: Vec<String> = self
                    .arguments
                    .iter()
                    .filter(|(_, of, value)| of == kind && value.may_be_wrong(kind))
                    .map(|(name, ..)| self.told(name))
                    .collect();
                let verb = if names.len() == 1 { "takes" } else { "take" };
                (!names.is_empty()).then(|| format!("{} {verb} {takes}", names.join(" and ")))
            })
            .collect();
        (!hints.is_empty()).then(|| hints.join("; "))
    }

    fn told(&self, name: &str) -> String {
        if self.of_flags { format!("--{}", name.replace('_', "-")) } else { name.to_owned() }
    }

    /// Whether there is any argument beside the first.
    pub fn has_options(&self) -> bool {
        self.arguments.len() > 1
    }

    /// The call as a person would write it for psql, with its values.
    pub fn statement(&self) -> String {
        let mut text = format!("select sisyphus.{}(", self.function);
        let mut width = text.len();
        for (at, (name, kind, value)) in self.arguments.iter().enumerate() {
            let end = if at + 1 == self.arguments.len() { ");" } else { "," };
            let argument = format!("{name} => {}{end}", value.literal(kind));
            if at > 0 && width + 1 + argument.chars().count() > WIDTH {
                text.push_str("\n    ");
                width = 4;
            } else if at > 0 {
                text.push(' ');
                width += 1;
            }
            width += argument.chars().count();
            text.push_str(&argument);
        }
        text
    }

    pub(super) fn sql(&self) -> String {
        let arguments: Vec<String> = self
            .arguments
            .iter()
            .enumerate()
            .map(|(at, (name, kind, value))| {
                let text = if matches!(value, Value::List(_)) { "text[]" } else { "text" };
                format!("{name} => ${}::{text}::{kind}", at + 1)
            })
            .collect();
        format!("sisyphus.{}({})", self.function, arguments.join(", "))
    }

    pub(super) fn values(&self) -> Vec<&dyn Typed> {
        self.arguments
            .iter()
            .map(|(_, _, value)| match value {
                Value::Null => &None::<String> as &dyn Typed,
                Value::Text(text) => text as &dyn Typed,
                Value::List(list) => list as &dyn Typed,
            })
            .collect()
    }
}

impl Value {
    /// Whether the database may not have been able to read it; of some types one sees it.
    fn may_be_wrong(&self, kind: &str) -> bool {
        let Self::Text(text) = self else { return false };
        match kind {
            "jsonb" => serde_json::from_str::<&RawValue>(text).is_err(),
            "integer" => text.parse::<i32>().is_err(),
            "double precision" => text.parse::<f64>().is_err(),
            "boolean" => !matches!(text.as_str(), "true" | "false"),
            _ => true,
        }
    }

    fn literal(&self, kind: &str) -> String {
        match self {
            Self::Null => "null".to_owned(),
            Self::Text(text) if text.parse::<i64>().is_ok() && kind != "text" => text.clone(),
            Self::Text(text) => quoted(text),
            Self::List(list) if list.is_empty() => "'{}'".to_owned(),
            Self::List(list) => {
                let elements: Vec<_> = list.iter().map(|element| quoted(element)).collect();
                let cast = if kind == "text[]" { String::new() } else { format!("::{kind}") };
                format!("array[{}]{cast}", elements.join(", "))
            }
        }
    }
}

/// A literal, whatever standard_conforming_strings says.
fn quoted(text: &str) -> String {
    let escape = if text.contains('\\') { "E" } else { "" };
    format!("{escape}'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_is_what_a_person_would_write() {
        let call = Call::new("schedule")
            .arg("name", "text", "it's")
            .nullable("schedule", "text", None)
            .list("argv", "text[]", &["a", r"b\c"])
            .arg("retries", "int", "3")
            .array("success_exit_codes", "integer[]", &["0", "3"])
            .array("tags", "text[]", &[""; 0]);
        let wanted = r"select sisyphus.schedule(name => 'it''s', schedule => null, argv => array['a', E'b\\c'],
    retries => 3, success_exit_codes => array['0', '3']::integer[], tags => '{}');";
        assert_eq!(call.statement(), wanted);
    }
}
