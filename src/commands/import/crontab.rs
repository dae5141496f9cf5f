//! Reads crontabs, in the form of `crontab -e` or that of /etc/crontab. What a schedule means, and whether it is
//! one, is left to the database.

use std::{iter::Peekable, str::Chars};

use crate::{
    commands::output::shell_word,
    error::{Error, ErrorKind, Result},
};

/// A line that runs a command, with all that stands above it and matters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// Its number, from 1.
    pub line: usize,
    /// Where the schedule begins, in characters from 1.
    pub column: usize,
    /// The five fields with a blank between, or a word with `@`.
    pub schedule: String,
    /// The sixth field of /etc/crontab.
    pub user: Option<String>,
    /// What the shell gets.
    pub command: String,
    /// What the command finds on its standard input: what stands behind `%`.
    pub input: Option<String>,
    /// The variables set so far, the last of each name.
    pub variables: Vec<(String, String)>,
    /// The comment right above it.
    pub comment: Option<String>,
}

/// The lines of a crontab that run something. `name` is that of the file, for errors.
pub(super) fn read(name: &str, text: &str, has_user: bool) -> Result<Vec<Entry>> {
    let mut entries = Vec::new();
    let mut variables: Vec<(String, String)> = Vec::new();
    let mut comment = Comment::default();
    for (at, line) in text.lines().enumerate() {
        let begin = line.trim_start_matches(BLANKS);
        if let Some(words) = begin.strip_prefix('#') {
            comment.add(words);
            continue;
        }
        let comment = comment.take();
        if begin.is_empty() {
            continue;
        }
        if let Some((name, value)) = variable(begin) {
            variables.retain(|(known, _)| *known != name);
            variables.push((name, value));
            continue;
        }
        let place = Place { name, line: at + 1, text: line };
        entries.push(entry(&place, begin, has_user, &variables, comment)?);
    }
    Ok(entries)
}

const BLANKS: [char; 2] = [' ', '\t'];

/// Where something stands, for errors.
struct Place<'a> {
    name: &'a str,
    line: usize,
    text: &'a str,
}

impl Place<'_> {
    /// The column at which the rest of the line begins.
    fn column(&self, rest: &str) -> usize {
        self.text.chars().count() - rest.chars().count() + 1
    }

    fn error(&self, rest: &str, message: &str) -> Error {
        Error::new(ErrorKind::Failed, format!("{}:{}:{}: {message}", self.name, self.line, self.column(rest)))
    }
}

fn entry(
    place: &Place<'_>,
    begin: &str,
    has_user: bool,
    variables: &[(String, String)],
    comment: Option<String>,
) -> Result<Entry> {
    let fields = if begin.starts_with('@') { 1 } else { 5 };
    let mut rest = begin;
    for found in 0..fields {
        rest = after_word(rest);
        if rest.is_empty() {
            return Err(too_short(place, rest, fields, found + 1, has_user));
        }
    }
    let schedule = begin[..begin.len() - rest.len()].trim_end_matches(BLANKS);
    if schedule.eq_ignore_ascii_case("@reboot") {
        let without = match place.name {
            "stdin" => "crontab -l | grep -v @reboot".to_owned(),
            file => format!("grep -v @reboot {}", shell_word(file)),
        };
        return Err(place.error(begin, "@reboot is no time").hint(format!(
            "what a machine does at its start is a matter of its own: make it a systemd unit there, and import the \
             rest: {without} | sisyphus import crontab -",
        )));
    }
    let mut user = None;
    if has_user {
        let behind = after_word(rest);
        if behind.is_empty() {
            return Err(too_short(place, behind, fields, fields + 1, has_user));
        }
        user = Some(rest[..rest.len() - behind.len()].trim_end_matches(BLANKS).to_owned());
        rest = behind;
    }
    let (command, input) = split_input(rest);
    if command.trim().is_empty() {
        return Err(place.error(rest, "there is no command in front of %"));
    }
    Ok(Entry {
        line: place.line,
        column: place.column(begin),
        schedule: schedule.split_whitespace().collect::<Vec<_>>().join(" "),
        user,
        command,
        input,
        variables: variables.to_vec(),
        comment,
    })
}

fn too_short(place: &Place<'_>, rest: &str, fields: usize, found: usize, has_user: bool) -> Error {
    let form = match (fields, has_user) {
        (1, false) => "@daily COMMAND",
        (1, true) => "@daily USER COMMAND",
        (_, false) => "MINUTE HOUR DAY MONTH WEEKDAY COMMAND",
        (_, true) => "MINUTE HOUR DAY MONTH WEEKDAY USER COMMAND",
    };
    let count = if found == 1 { "1 word".to_owned() } else { format!("{found} words") };
    place.error(rest, &format!("the line ends after {count}")).hint(format!(
        "a line is {form}, NAME=VALUE, or a comment; --user-field is for crontabs that have a user in each line"
    ))
}

/// What stands behind the first word and its blanks.
fn after_word(text: &str) -> &str {
    text.trim_start_matches(|c| !BLANKS.contains(&c)).trim_start_matches(BLANKS)
}

/// `NAME = "value"`, as cron takes it: nothing is expanded.
fn variable(line: &str) -> Option<(String, String)> {
    let (name, rest) = match line.chars().next()? {
        quote @ ('"' | '\'') => line[1..].split_once(quote)?,
        _ => line.split_at(line.find(|c| c == '=' || BLANKS.contains(&c))?),
    };
    let value = rest.trim_start_matches(BLANKS).strip_prefix('=')?.trim_matches(BLANKS);
    (!name.is_empty()).then(|| (name.to_owned(), unquoted(value).to_owned()))
}

fn unquoted(value: &str) -> &str {
    let inner = |quote: char| value.strip_prefix(quote)?.strip_suffix(quote);
    inner('"').or_else(|| inner('\'')).unwrap_or(value)
}

/// The first `%` ends the command, each further one is a line break of its input; `\%` is a `%`.
fn split_input(text: &str) -> (String, Option<String>) {
    let mut rest = text.chars().peekable();
    let (command, ended) = up_to_percent(&mut rest);
    if !ended {
        return (command, None);
    }
    let mut lines = Vec::new();
    loop {
        let (line, ended) = up_to_percent(&mut rest);
        lines.push(line);
        if !ended {
            return (command, Some(lines.join("\n")));
        }
    }
}

fn up_to_percent(rest: &mut Peekable<Chars<'_>>) -> (String, bool) {
    let mut text = String::new();
    while let Some(c) = rest.next() {
        match c {
            '%' => return (text, true),
            '\\' if rest.peek() == Some(&'%') => text.extend(rest.next()),
            c => text.push(c),
        }
    }
    (text, false)
}

/// The comment lines right above an entry, as far as they are words: no rulers, no entries that are switched off,
/// and not the line that names the fields.
#[derive(Default)]
struct Comment(Vec<String>);

impl Comment {
    fn add(&mut self, text: &str) {
        let text = text.trim_start_matches('#').trim();
        let names_fields = text.to_lowercase().split_whitespace().take(2).eq(["m", "h"]);
        if !text.starts_with(char::is_alphabetic) || names_fields {
            self.0.clear();
        } else {
            self.0.push(text.to_owned());
        }
    }

    fn take(&mut self) -> Option<String> {
        let lines = std::mem::take(&mut self.0);
        (!lines.is_empty()).then(|| lines.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(line: &str) -> Entry {
        read("f", line, false).unwrap().remove(0)
    }

    fn refused(text: &str, has_user: bool) -> String {
        read("f", text, has_user).unwrap_err().to_string()
    }

    #[test]
    fn a_line_is_a_schedule_and_all_the_rest() {
        let entry = one("\t*/5  7-9 * *\tmon   echo a  b # c ");
        assert_eq!((entry.schedule.as_str(), entry.column), ("*/5 7-9 * * mon", 2));
        assert_eq!(entry.command, "echo a  b # c ");
        let entry = one("@daily /opt/x");
        assert_eq!((entry.schedule.as_str(), entry.command.as_str()), ("@daily", "/opt/x"));
        let entry = read("f", "17 * * * * root cd / && x", true).unwrap().remove(0);
        assert_eq!((entry.user.as_deref(), entry.command.as_str()), (Some("root"), "cd / && x"));
    }

    #[test]
    fn a_percent_begins_the_input_unless_it_is_escaped() {
        let entry = one(r"0 0 * * * date +\%F\n >> x %one%two \% %");
        assert_eq!(entry.command, r"date +%F\n >> x ");
        assert_eq!(entry.input.as_deref(), Some("one\ntwo % \n"));
        assert_eq!(one("0 0 * * * x").input, None);
        assert_eq!(one("0 0 * * * x%").input.as_deref(), Some(""));
    }

    #[test]
    fn variables_hold_for_the_lines_below_them() {
        let text = "A=1\n0 0 * * * x\n A = ' 2 ' \n\"B C\"=\"d\n0 0 * * * X=1 y = z\n@daily A=3\n";
        let entries = read("f", text, false).unwrap();
        let pairs = |at: usize| -> Vec<_> {
            entries[at].variables.iter().map(|(name, value)| format!("{name}={value}")).collect()
        };
        assert_eq!(pairs(0), ["A=1"]);
        assert_eq!(pairs(1), ["A= 2 ", "B C=\"d"]);
        assert_eq!(entries[1].command, "X=1 y = z");
        assert_eq!(entries[2].command, "A=3");
    }

    #[test]
    fn words_right_above_a_line_are_its_comment() {
        let text = "# Not this one.\n\n# m h  dom mon dow   command\n0 0 * * * a\n# All of\n## the files.\n0 0 * * * b\n\
                    # Off:\n# 0 0 * * * c\n0 0 * * * d\n# Above a variable.\nA=1\n0 0 * * * e\n";
        let comments: Vec<_> = read("f", text, false).unwrap().into_iter().map(|e| e.comment).collect();
        assert_eq!(comments, [None, Some("All of the files.".to_owned()), None, None]);
    }

    #[test]
    fn what_is_no_entry_is_refused_with_line_and_column() {
        assert_eq!(refused("# x\n 0 0 * *", false), "f:2:9: the line ends after 4 words");
        assert_eq!(refused("0 0 * * *", false), "f:1:10: the line ends after 5 words");
        assert_eq!(refused("@daily", false), "f:1:7: the line ends after 1 word");
        assert_eq!(refused("0 0 * * * root", true), "f:1:15: the line ends after 6 words");
        assert_eq!(refused("\n\n  @Reboot x", false), "f:3:3: @reboot is no time");
        assert_eq!(refused("0 0 * * * %x", false), "f:1:11: there is no command in front of %");
    }
}
