//! libpq's password file: `host:port:database:user:password`, `*` matches anything, `\` escapes.

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf};

use super::Env;
use crate::{
    error::{Error, ErrorKind, Result},
    observe::event,
};

/// A password file that may be used.
pub(super) struct PasswordFile {
    pub(super) path: String,
    text: String,
}

impl PasswordFile {
    /// The file that was named, or `~/.pgpass`; none when it is not there.
    pub(super) fn open(named: Option<&str>, env: Env) -> Result<Option<Self>> {
        let path = match (named, env("HOME")) {
            (Some(file), _) => PathBuf::from(file),
            (None, Some(home)) => PathBuf::from(home).join(".pgpass"),
            (None, None) => return Ok(None),
        };
        let Ok(meta) = fs::metadata(&path) else { return Ok(None) };
        if !meta.is_file() {
            return Ok(None);
        }
        if meta.permissions().mode() & 0o077 != 0 {
            tracing::warn!(
                event = event::PASSWORD_FILE_IGNORED,
                file = %path.display(),
                "password file ignored: others can read it, run chmod 0600"
            );
            return Ok(None);
        }
        let text = fs::read_to_string(&path).map_err(|e| {
            Error::new(ErrorKind::Config, format!("password file {} cannot be read", path.display()))
                .source(e)
        })?;
        Ok(Some(Self { path: path.display().to_string(), text }))
    }

    /// The password of the first line that fits host, port, database and user.
    pub(super) fn look_up(&self, wanted: [&str; 4]) -> Option<String> {
        self.text.lines().find_map(|line| password_of(line, wanted))
    }
}

fn password_of(line: &str, wanted: [&str; 4]) -> Option<String> {
    if line.starts_with('#') {
        return None;
    }
    let fields = split(line);
    let (patterns, password) = fields.split_at_checked(4)?;
    let matches = patterns.iter().zip(wanted).enumerate().all(|(at, (pattern, value))| {
        // libpq calls the socket of the default directory localhost; we any socket.
        pattern == "*" || *pattern == value || (at == 0 && pattern == "localhost" && value.starts_with('/'))
    });
    if matches { password.first().cloned() } else { None }
}

/// Splits at colons that no backslash precedes; the password is all that is left after the fourth.
fn split(line: &str) -> Vec<String> {
    let mut fields = Vec::new();
    let mut field = String::new();
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => field.extend(chars.next()),
            ':' if fields.len() < 4 => fields.push(std::mem::take(&mut field)),
            other => field.push(other),
        }
    }
    fields.push(field);
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    const WANTED: [&str; 4] = ["db1", "5432", "jobs", "ann"];

    #[test]
    fn a_line_matches_field_by_field_and_the_star_matches_all() {
        assert_eq!(password_of("db1:5432:jobs:ann:secret", WANTED).as_deref(), Some("secret"));
        assert_eq!(password_of("*:*:*:ann:s:x", WANTED).as_deref(), Some("s:x"));
        assert_eq!(password_of("db2:*:*:*:secret", WANTED), None);
        assert_eq!(password_of("# *:*:*:*:secret", WANTED), None);
    }

    #[test]
    fn a_backslash_escapes_colon_and_itself() {
        assert_eq!(password_of(r"*:*:*:*:a\:b\\c", WANTED).as_deref(), Some(r"a:b\c"));
    }

    #[test]
    fn localhost_stands_for_a_socket_directory() {
        let socket = ["/tmp/pg", "5432", "jobs", "ann"];
        assert_eq!(password_of("localhost:5432:*:*:secret", socket).as_deref(), Some("secret"));
    }
}
