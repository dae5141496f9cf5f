//! Names for jobs that had none: made of the command alone, so that a second import finds the same ones.

use std::collections::HashMap;

use sha2::{Digest, Sha256};

const LONGEST: usize = 48;

/// Gives names, each once.
#[derive(Debug)]
pub(super) struct Names<'a> {
    prefix: &'a str,
    given: HashMap<String, usize>,
}

impl<'a> Names<'a> {
    pub(super) fn new(prefix: &'a str) -> Self {
        Self { prefix, given: HashMap::new() }
    }

    /// This name behind the prefix; the second time with `-2`, and so on.
    pub(super) fn unique(&mut self, name: &str) -> String {
        let mut wanted = format!("{}{name}", self.prefix);
        loop {
            let times = self.given.entry(wanted.clone()).or_default();
            *times += 1;
            if *times == 1 {
                return wanted;
            }
            wanted = format!("{wanted}-{times}");
        }
    }
}

/// The words of a command up to a redirection, the first without its directory: `/opt/report/daily --all >> log`
/// is `daily-all`. A long one is cut, and marked with what it was made of.
pub(super) fn of_command(command: &str) -> String {
    let words = command.split('>').next().unwrap_or_default().trim();
    let program = words.split_whitespace().next().unwrap_or_default();
    let words = words.strip_prefix('/').map_or(words, |_| {
        let directory = program.rfind('/').map_or(0, |slash| slash + 1);
        &words[directory..]
    });
    let mut name = String::new();
    for c in words.chars() {
        if c.is_ascii_alphanumeric() || matches!(c, '.' | '_') {
            name.push(c);
        } else if !name.is_empty() && !name.ends_with('-') {
            name.push('-');
        }
    }
    name.truncate(name.trim_end_matches(['-', '.']).len());
    if name.len() <= LONGEST && !name.is_empty() {
        return name;
    }
    let mark: String = Sha256::digest(command).iter().take(3).map(|byte| format!("{byte:02x}")).collect();
    if name.is_empty() {
        return format!("job-{mark}");
    }
    name.truncate(LONGEST - 7);
    format!("{}-{mark}", name.trim_end_matches('-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_the_words_of_the_command() {
        for (command, name) in [
            ("/opt/report/daily --all >> /var/log/daily 2>&1", "daily-all"),
            ("pg_dump -Fc jobs > /backup/jobs.dump", "pg_dump-Fc-jobs"),
            ("cd / && run-parts --report /etc/cron.hourly", "cd-run-parts-report-etc-cron.hourly"),
            ("/usr/bin/find /tmp -name 'x*' -delete", "find-tmp-name-x-delete"),
            ("[ -x /usr/sbin/a ] && a", "x-usr-sbin-a-a"),
            ("true", "true"),
        ] {
            assert_eq!(of_command(command), name);
        }
    }

    #[test]
    fn long_and_empty_ones_are_marked_with_what_they_were_made_of() {
        let (one, other) = (of_command(&format!("{} 1", "x".repeat(60))), of_command(&"x".repeat(60)));
        assert!(one.len() == LONGEST && other.len() == LONGEST && one != other, "{one} {other}");
        assert!(of_command("((ü)) > x").starts_with("job-"));
        assert_ne!(of_command("((ü)) > x"), of_command("((ö)) > x"));
    }

    #[test]
    fn a_name_is_given_once() {
        let mut names = Names::new("p-");
        let given = ["a", "a-2", "a", "a", "b"].map(|name| names.unique(name));
        assert_eq!(given, ["p-a", "p-a-2", "p-a-2-2", "p-a-3", "p-b"]);
    }
}
