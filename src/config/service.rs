//! libpq's connection service file: sections of options, `[name]` above `option=value` lines.

use std::{fs, io, path::PathBuf};

use super::Env;
use crate::error::{Error, ErrorKind, Result};

/// Where the distributions put the file of the whole system.
const SYSTEM_DIRECTORIES: [&str; 2] = ["/etc/postgresql-common", "/etc/sysconfig/pgsql"];

/// The options of a service, and the file they came from.
pub(super) fn look_up(
    name: &str,
    given_file: Option<&str>,
    env: Env,
) -> Result<(Vec<(String, String)>, String)> {
    let mut files: Vec<PathBuf> = Vec::new();
    match (given_file, env("HOME")) {
        (Some(file), _) => files.push(file.into()),
        (None, Some(home)) => files.push(PathBuf::from(home).join(".pg_service.conf")),
        (None, None) => {}
    }
    match env("PGSYSCONFDIR") {
        Some(directory) => files.push(PathBuf::from(directory).join("pg_service.conf")),
        None => files.extend(SYSTEM_DIRECTORIES.map(|d| PathBuf::from(d).join("pg_service.conf"))),
    }
    for (at, file) in files.iter().enumerate() {
        match fs::read_to_string(file) {
            Ok(text) => {
                if let Some(options) = section(&text, name).map_err(|line| bad_line(file, line))? {
                    return Ok((options, file.display().to_string()));
                }
            }
            // One that a person named must be there.
            Err(err) if err.kind() == io::ErrorKind::NotFound && (at > 0 || given_file.is_none()) => {}
            Err(err) => {
                let said = format!("service file {} cannot be read", file.display());
                return Err(Error::new(ErrorKind::Config, said).source(err));
            }
        }
    }
    let tried: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
    Err(Error::new(ErrorKind::Config, format!("connection service {name:?} is not defined"))
        .hint(format!("a section [{name}] was looked for in {}", tried.join(", "))))
}

/// The options of a section; the number of the first line in it that is none.
fn section(text: &str, name: &str) -> Result<Option<Vec<(String, String)>>, usize> {
    let mut found = None;
    for (at, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(section) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            if found.is_some() {
                break;
            }
            if section == name {
                found = Some(Vec::new());
            }
        } else if let Some(options) = &mut found {
            match line.split_once('=') {
                // A service that refers to another would never end.
                Some((option, _)) if matches!(option.trim(), "service" | "servicefile") => return Err(at + 1),
                Some((option, value)) => options.push((option.trim().to_owned(), value.trim().to_owned())),
                None => return Err(at + 1),
            }
        }
    }
    Ok(found)
}

fn bad_line(file: &std::path::Path, line: usize) -> Error {
    Error::new(ErrorKind::Config, format!("line {line} of service file {} cannot be used", file.display()))
        .hint("below [name] stand lines of the form option=value; `service` is not allowed there")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_ends_where_the_next_begins() {
        let text = "# mine\n[a]\nhost=x\n\n[jobs]\nhost = db1\nport=5433\n#user=b\n[c]\nhost=y\n";
        let options = section(text, "jobs").unwrap().unwrap();
        assert_eq!(options, [("host".into(), "db1".into()), ("port".into(), "5433".into())]);
        assert_eq!(section(text, "none"), Ok(None));
        assert_eq!(section("[a]\nhost\n", "a"), Err(2));
        assert_eq!(section("[a]\nservice=b\n", "a"), Err(2));
        assert_eq!(section("[b]\nhost\n[a]\nhost=x", "a").unwrap().unwrap().len(), 1, "others are not read");
    }
}
