//! The file that `apply` reads and `export` writes: TOML, a table a job, in it the arguments of schedule().

use serde_json::Value as Json;
use toml::{
    Value,
    de::{DeTable, DeValue},
};

use super::settle::Wanted;
use crate::{
    db::{Property, client::Call},
    error::{Error, ErrorKind, Result},
};

/// What the tag of a set begins with.
const SET: &str = "set:";

/// The tag that jobs of a set have.
pub(super) fn tag_of(set: &str) -> String {
    format!("{SET}{set}")
}

/// Whether a tag says that a job is of a set: of which.
pub(super) fn set_of(tag: &str) -> Option<&str> {
    tag.strip_prefix(SET)
}

/// What a file says.
pub(super) struct JobsFile {
    /// The set its jobs belong to.
    pub(super) set: Option<String>,
    /// The jobs, by name, and the tags that each will have.
    pub(super) jobs: Vec<(Wanted, Vec<String>)>,
}

/// A text with its name, for the places of errors.
struct Source<'a> {
    name: &'a str,
    text: &'a str,
}

impl Source<'_> {
    fn place(&self, offset: usize) -> String {
        let before = &self.text[..offset.min(self.text.len())];
        let line = before.rsplit('\n').next().unwrap_or_default();
        format!("{}:{}:{}", self.name, before.matches('\n').count() + 1, line.chars().count() + 1)
    }

    fn error(&self, offset: usize, message: &str) -> Error {
        Error::new(ErrorKind::Failed, format!("{}: {message}", self.place(offset)))
    }
}

/// Reads a file; what the values mean is left to the database.
pub(super) fn read(name: &str, text: &str, properties: &[Property]) -> Result<JobsFile> {
    let source = Source { name, text };
    let table = DeTable::parse(text)
        .map_err(|err| source.error(err.span().map_or(0, |span| span.start), err.message()))?;
    let mut file = JobsFile { set: None, jobs: Vec::new() };
    let mut jobs = None;
    for (key, value) in table.get_ref() {
        match (key.get_ref().as_ref(), value.get_ref()) {
            ("set", DeValue::String(set)) if !set.is_empty() => file.set = Some(set.to_string()),
            ("jobs", DeValue::Table(table)) => jobs = Some(table),
            _ => {
                return Err(source
                    .error(key.span().start, &format!("{:?} is not known here", key.get_ref()))
                    .hint("a file has set = \"NAME\", and a table [jobs.NAME] for each job"));
            }
        }
    }
    for (key, value) in jobs.into_iter().flatten() {
        let DeValue::Table(table) = value.get_ref() else {
            return Err(source
                .error(value.span().start, &format!("job {:?} is no table", key.get_ref()))
                .hint(format!("begin it with [jobs.{}]", written_key(key.get_ref()))));
        };
        let place = source.place(key.span().start);
        file.jobs.push(job(&source, key.get_ref(), table, place, file.set.as_deref(), properties)?);
    }
    Ok(file)
}

fn job(
    source: &Source<'_>,
    name: &str,
    table: &DeTable<'_>,
    place: String,
    set: Option<&str>,
    properties: &[Property],
) -> Result<(Wanted, Vec<String>)> {
    let mut call = Call::new("schedule").arg("name", "text", name);
    let mut tags: Vec<String> = Vec::new();
    if !table.keys().any(|key| key.get_ref() == "schedule") {
        call = call.nullable("schedule", "text", None);
    }
    for (key, value) in table {
        let Some(property) = properties.iter().find(|property| property.name == *key.get_ref()) else {
            let known: Vec<_> = properties.iter().map(|property| property.name.as_str()).collect();
            return Err(source
                .error(
                    key.span().start,
                    &format!("{:?} of job {name:?} is no property of a job", key.get_ref()),
                )
                .hint(format!("give one of {}", known.join(", "))));
        };
        if let Some(wanted) = other_shape(&property.kind, value.get_ref()) {
            return Err(source
                .error(value.span().start, &format!("{} of job {name:?} takes {wanted}", property.name)));
        }
        match value.get_ref() {
            DeValue::Array(elements) if property.name == "tags" => {
                tags = elements.iter().map(|tag| text_of(tag.get_ref())).collect();
            }
            value => call = with_value(call, property, value),
        }
    }
    tags.extend(set.map(tag_of).filter(|tag| !tags.contains(tag)));
    if !tags.is_empty() {
        call = call.array("tags", "text[]", &tags);
    }
    Ok((Wanted { job: name.to_owned(), call, place }, tags))
}

/// What a value should be that a type of SQL cannot be made of.
fn other_shape(kind: &str, value: &DeValue<'_>) -> Option<&'static str> {
    match (kind, value) {
        ("jsonb", _) => None,
        (kind, DeValue::Array(_)) if kind.ends_with("[]") => None,
        (kind, _) if kind.ends_with("[]") => Some("an array, such as [0, 3] or [\"a\", \"b\"]"),
        (_, DeValue::Array(_) | DeValue::Table(_)) => Some("a single value"),
        _ => None,
    }
}

fn with_value(call: Call, property: &Property, value: &DeValue<'_>) -> Call {
    let Property { name, kind } = property.clone();
    match value {
        DeValue::Array(elements) if kind.ends_with("[]") => {
            let elements: Vec<_> = elements.iter().map(|element| text_of(element.get_ref())).collect();
            call.array(name, kind, &elements)
        }
        value => call.arg(name, kind, text_of(value)),
    }
}

/// A value as the database is to read it: a text as it is, a table or an array as JSON.
fn text_of(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => text.to_string(),
        DeValue::Datetime(instant) => instant.to_string(),
        value => json_of(value).to_string(),
    }
}

fn json_of(value: &DeValue<'_>) -> Json {
    match value {
        DeValue::String(text) => text.as_ref().into(),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map_or_else(|_| number.as_str().into(), Json::from),
        DeValue::Float(number) => number.as_str().parse::<f64>().map_or(Json::Null, Json::from),
        DeValue::Boolean(is) => (*is).into(),
        DeValue::Datetime(instant) => instant.to_string().into(),
        DeValue::Array(elements) => elements.iter().map(|element| json_of(element.get_ref())).collect(),
        DeValue::Table(table) => {
            table.iter().map(|(key, value)| (key.get_ref().to_string(), json_of(value.get_ref()))).collect()
        }
    }
}

/// A job as a table of the file: its properties in the order of schedule(). The payload is the text of its JSON, for
/// TOML has no null, which it may hold.
pub(super) fn written(
    name: &str,
    declared: &serde_json::Map<String, Json>,
    properties: &[Property],
) -> Result<String> {
    let mut text = format!("[jobs.{}]\n", written_key(name));
    for Property { name, .. } in properties {
        let Some(value) = declared.get(name) else { continue };
        let value = Value::try_from(value).map_err(|err| {
            Error::new(ErrorKind::Failed, format!("{name} cannot be written as TOML")).source(err)
        })?;
        text.push_str(&format!("{name} = {value}\n"));
    }
    Ok(text)
}

/// A key, quoted where it must be. Unlike a value it may not be quoted over several lines.
fn written_key(name: &str) -> String {
    let line = toml::Table::from_iter([(name.to_owned(), Value::from(0))]).to_string();
    line.trim_end().trim_end_matches(" = 0").to_owned()
}

/// A text as a value of the file.
pub(super) fn written_text(text: &str) -> String {
    Value::from(text).to_string()
}
