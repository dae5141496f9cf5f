//! What a command prints: tables for people, JSON for programs.

use std::{
    borrow::Cow,
    fs,
    io::{self, IsTerminal, Read, Write},
};

use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, LineStyle, Table, Width, presets};
use serde_json::{Map, Value};

use super::amount::{duration, instant, size, when};
pub use super::row::object;
use crate::{
    db::client::Rows,
    error::{Error, ErrorKind, Result},
};

/// Width of a terminal that does not say how wide it is.
const WIDTH: u16 = 100;

/// Between two columns.
const GAP: u16 = 2;

/// What is left of a cut column at least, with the space behind it.
const NARROWEST: u16 = 14;

/// What stands for a name that is missing is no longer than most names.
const LONGEST_INSTEAD: usize = 30;

/// Longer values are cut; `logs` and `--format json` have all of it.
const LONGEST_VALUE: usize = 300;

/// For whom a table is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Format {
    /// A table for people; a narrow terminal gets the columns that matter most
    #[default]
    Table,
    /// JSON with all columns: an array of objects, or one object where one job, pool or calendar is shown
    Json,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    Text,
    Prose,
    Number,
    When,
    Local,
    Duration,
    Bytes,
    Percent,
}

/// A column of a table: which key of the row, under which heading, written how.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    key: &'static str,
    heading: &'static str,
    shape: Shape,
    instead: Option<&'static str>,
    is_spare: bool,
}

impl Column {
    const fn new(key: &'static str, shape: Shape) -> Self {
        Self { key, heading: key, shape, instead: None, is_spare: false }
    }

    /// Text as it is, a list joined by commas.
    pub const fn text(key: &'static str) -> Self {
        Self::new(key, Shape::Text)
    }

    /// Text that a terminal may be too narrow for; names are never cut, or they cannot be told apart.
    pub const fn prose(key: &'static str) -> Self {
        Self::new(key, Shape::Prose)
    }

    /// A number, to the right.
    pub const fn number(key: &'static str) -> Self {
        Self::new(key, Shape::Number)
    }

    /// A timestamp, as distance from the database's clock.
    pub const fn when(key: &'static str) -> Self {
        Self::new(key, Shape::When)
    }

    /// A time on the clocks of a zone, to the second.
    pub const fn local(key: &'static str) -> Self {
        Self::new(key, Shape::Local)
    }

    /// Seconds.
    pub const fn duration(key: &'static str) -> Self {
        Self::new(key, Shape::Duration)
    }

    /// Bytes.
    pub const fn bytes(key: &'static str) -> Self {
        Self::new(key, Shape::Bytes)
    }

    /// A share of 1.
    pub const fn percent(key: &'static str) -> Self {
        Self::new(key, Shape::Percent)
    }

    /// The same column under another heading.
    #[must_use]
    pub const fn titled(mut self, heading: &'static str) -> Self {
        self.heading = heading;
        self
    }

    /// The beginning of another column where this one has no value.
    #[must_use]
    pub const fn or(mut self, instead: &'static str) -> Self {
        self.instead = Some(instead);
        self
    }

    /// Left out on a terminal that is too narrow for all of them, the last one first.
    #[must_use]
    pub const fn spare(mut self) -> Self {
        self.is_spare = true;
        self
    }

    /// How much of a line it takes at least, when its longest cell has this width.
    fn least_width(self, longest: u16) -> u16 {
        let width = longest.saturating_add(GAP);
        if self.shape == Shape::Prose { width.min(NARROWEST) } else { width }
    }

    fn alignment(self) -> CellAlignment {
        match self.shape {
            Shape::Text | Shape::Prose | Shape::When | Shape::Local => CellAlignment::Left,
            Shape::Number | Shape::Duration | Shape::Bytes | Shape::Percent => CellAlignment::Right,
        }
    }

    fn cell(self, row: &Map<String, Value>, now: f64) -> String {
        let value = row.get(self.key).unwrap_or(&Value::Null);
        if let (Value::Null, Some(other)) = (value, self.instead.and_then(|key| row.get(key))) {
            return beginning(&plain(other), LONGEST_INSTEAD);
        }
        match (self.shape, value.as_f64(), value) {
            (_, _, Value::Null) => String::new(),
            (Shape::When, _, Value::String(text)) => when(text, now),
            (Shape::Local, _, Value::String(text)) => {
                text.split('.').next().unwrap_or_default().replacen('T', " ", 1)
            }
            (Shape::Duration, Some(seconds), _) => duration(seconds),
            (Shape::Bytes, Some(bytes), _) => size(bytes),
            (Shape::Percent, Some(share), _) => format!("{:.0}%", share * 100.0),
            _ => plain(value),
        }
    }
}

/// Prints rows for people or programs; `nothing` is said to people when there are none.
pub fn print_rows(rows: &Rows, columns: &[Column], format: Format, nothing: &str) -> Result<()> {
    match format {
        Format::Json => print(&format!("[{}]", rows.objects.join(",\n "))),
        Format::Table if rows.objects.is_empty() => {
            eprintln!("{nothing}");
            Ok(())
        }
        Format::Table => print(&render(rows, columns)?),
    }
}

/// Prints all that is known of an object, a property a line; what has no value is left out.
pub(super) fn print_properties(properties: &Map<String, Value>, now: f64) -> Result<()> {
    let width = properties.keys().map(String::len).max().unwrap_or(0);
    for (key, value) in properties {
        let shown = match (value.as_str(), value.as_f64()) {
            (Some(time), _) if key.ends_with("_at") || key.ends_with("_until") => {
                match when(time, now) {
                    // On the clock of some zone, as distant as that zone says.
                    away if away == time => time.replacen('T', " ", 1),
                    away => format!("{} ({away})", instant(time)),
                }
            }
            (_, Some(seconds)) if key.ends_with("_seconds") => duration(seconds),
            (_, Some(bytes)) if key.ends_with("_bytes") => size(bytes),
            _ => plain(value),
        };
        let shown = beginning(&shown, LONGEST_VALUE);
        if !shown.is_empty() && shown != "{}" {
            print(&format!("{key:<width$}  {shown}"))?;
        }
    }
    Ok(())
}

/// Prints a line of data to stdout. A reader that has gone (`| head`) is an error that `main` forgives.
pub fn print(text: &str) -> Result<()> {
    writeln!(io::stdout().lock(), "{text}").map_err(unwritable)
}

/// Prints a text of a job as it is.
pub fn print_raw(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(unwritable)
}

fn unwritable(error: io::Error) -> Error {
    Error::new(ErrorKind::Failed, "cannot write to stdout").source(error)
}

/// The text of a file, or for `-` of standard input, behind the name to call it in errors.
pub fn read_file(file: &str) -> Result<(String, String)> {
    let (name, bytes) = match file {
        "-" => {
            let mut bytes = Vec::new();
            ("stdin".to_owned(), io::stdin().lock().read_to_end(&mut bytes).map(|_| bytes))
        }
        path => (path.to_owned(), fs::read(path)),
    };
    let fault = |why: String| Error::new(ErrorKind::Config, format!("{name} cannot be read: {why}"));
    let bytes = bytes.map_err(|err| fault(err.to_string()))?;
    let text = String::from_utf8(bytes).map_err(|err| fault(err.to_string()))?;
    Ok((name, text))
}

/// A table as text, without a newline at its end. On a terminal prose is cut to its width, and what is spare left out
/// where that is not enough; a program gets all of it.
pub fn render(rows: &Rows, columns: &[Column]) -> Result<String> {
    let mut columns = columns.to_vec();
    let mut table = filled(rows, &columns)?;
    let mut longest = table.column_max_content_widths();
    let is_terminal = io::stdout().is_terminal();
    while is_terminal && least_width(&columns, &longest) > width() {
        let Some(at) = columns.iter().rposition(|column| column.is_spare) else { break };
        columns.remove(at);
        table = filled(rows, &columns)?;
        longest = table.column_max_content_widths();
    }
    if is_terminal {
        // No cell has this character: what is cut is cut anywhere, not behind a word.
        table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width()).set_delimiter('\0');
    }
    for (at, column) in columns.iter().enumerate() {
        let made = table.column_mut(at).expect("the header made it");
        made.set_padding((0, GAP));
        made.set_cell_alignment(column.alignment());
        made.set_constraint(match column.shape {
            Shape::Prose if longest[at] + GAP > NARROWEST => {
                ColumnConstraint::LowerBoundary(Width::Fixed(NARROWEST))
            }
            _ => ColumnConstraint::ContentWidth,
        });
    }
    Ok(table.trim_fmt())
}

fn filled(rows: &Rows, columns: &[Column]) -> Result<Table> {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING.header_separator(LineStyle::none().fill('─')))
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(columns.iter().map(|c| c.heading.replace('_', " ")));
    for text in &rows.objects {
        let row = object(text)?;
        table.add_row(columns.iter().map(|column| column.cell(&row, rows.now)));
        // One line a row: tables are read with the eye and with grep.
        table.row_mut(table.row_count() - 1).expect("it was just added").max_height(1);
    }
    Ok(table)
}

fn least_width(columns: &[Column], longest: &[u16]) -> u16 {
    let widths = columns.iter().zip(longest).map(|(column, longest)| column.least_width(*longest));
    // Nothing stands behind the last one.
    widths.fold(0, u16::saturating_add).saturating_sub(GAP)
}

/// How wide the terminal is.
pub fn width() -> u16 {
    terminal_size::terminal_size().map_or(WIDTH, |(terminal_size::Width(width), _)| width.max(60))
}

/// A value on one line, without what moves a terminal's cursor.
pub fn plain(value: &Value) -> String {
    let text = match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        // Words are listed; what has blanks or commas in it keeps its quotes.
        Value::Array(items) if items.iter().all(is_word) => {
            items.iter().map(plain).collect::<Vec<_>>().join(", ")
        }
        other => other.to_string(),
    };
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// A text as a word of a command line that a person may copy.
pub fn shell_word(text: &str) -> Cow<'_, str> {
    let is_plain = |c: char| c.is_alphanumeric() || "-_./:@+,".contains(c);
    match !text.is_empty() && text.chars().all(is_plain) {
        true => text.into(),
        false => format!("'{}'", text.replace('\'', r"'\''")).into(),
    }
}

/// The first characters of a text, and a sign when there were more.
pub fn beginning(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

fn is_word(value: &Value) -> bool {
    value.as_str().map_or(!value.is_array() && !value.is_object(), |text| {
        !text.is_empty()
            && !text.contains(|c: char| c == ',' || c == '"' || c.is_whitespace() || c.is_control())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_one_line_without_escapes() {
        assert_eq!(plain(&Value::from("a\nb\u{1b}[31m")), "a b [31m");
        assert_eq!(plain(&serde_json::json!(["a", "b", 1])), "a, b, 1");
        assert_eq!(plain(&serde_json::json!(["sh", "a b"])), r#"["sh","a b"]"#);
    }
}
