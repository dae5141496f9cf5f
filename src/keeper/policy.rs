//! What this host runs: the file of its owner, which no database can widen.

pub(super) mod trust;

use std::{
    fmt::Display,
    fs,
    path::{Path, PathBuf},
};

use nix::unistd::geteuid;
use serde::Deserialize;

use super::{
    limits::Limits,
    protocol::{Database, RunSpec, Start},
};
use crate::error::{Error, ErrorKind, Result};

/// Read when no other file is named, and there is one.
const DEFAULT_FILE: &str = "/etc/sisyphus/policy.toml";
/// As whom root runs jobs unless the policy says otherwise.
const JOB_USER: &str = "sisyphus-job";

/// The rules of a host.
#[derive(Debug, Clone)]
pub(super) struct Policy {
    /// Read again on demand; none: there is no file, and the defaults hold.
    file: Option<PathBuf>,
    rules: Rules,
    /// As whom a job runs that does not say; also the only one where `users` is not given.
    default_user: String,
}

/// The file. What it does not mention is not restricted, but for `users` and `shell`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rules {
    users: Option<Vec<String>>,
    #[serde(default)]
    shell: bool,
    commands: Option<Vec<PathBuf>>,
    env: Option<Vec<String>>,
    owners: Option<Vec<String>>,
    databases: Option<Vec<DatabaseRule>>,
    #[serde(default)]
    limits: Ceiling,
}

/// A database that may send jobs; what is left out may be anything.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct DatabaseRule {
    system_identifier: Option<String>,
    address: Option<String>,
}

/// What a job may ask for at most, and gets when it asks for nothing.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Ceiling {
    #[serde(default, deserialize_with = "size")]
    memory: Option<u64>,
    cpu: Option<f64>,
    open_files: Option<u64>,
    /// The lowest, which is the most.
    nice: Option<i32>,
}

/// A start that the policy allows.
#[derive(Debug, PartialEq)]
pub(super) struct Allowed<'a> {
    pub(super) user: &'a str,
    pub(super) limits: Limits,
    /// Whether the program must be proof against everybody but root; to be looked at where a file system that
    /// hangs delays nobody else.
    pub(super) only_trusted: bool,
    /// Whether the user may have root's rights.
    pub(super) root: bool,
}

impl Policy {
    /// From this file, or the default one when it is there, or the defaults. `own` is the user of this process.
    pub(super) fn load(file: Option<&Path>, own: &str) -> Result<Self> {
        let file = match file {
            Some(file) => Some(file.to_owned()),
            None => Some(PathBuf::from(DEFAULT_FILE)).filter(|path| path.exists()),
        };
        let rules = match &file {
            Some(path) => read(path)?,
            None => Rules { shell: true, ..Rules::default() },
        };
        let fallback = if geteuid().is_root() { JOB_USER } else { own };
        let first = rules.users.as_ref().map(|users| users.first().cloned());
        let default_user = first.unwrap_or_else(|| Some(fallback.to_owned()));
        let default_user = default_user.ok_or_else(|| {
            Error::new(ErrorKind::Config, format!("policy {file:?} allows no user"))
                .hint("Name at least one in users, or leave it out.")
        })?;
        Ok(Self { file, rules, default_user })
    }

    /// The same, read again.
    pub(super) fn again(&self, own: &str) -> Result<Self> {
        Self::load(self.file.as_deref(), own)
    }

    /// Decides about a start; the error says why not.
    pub(super) fn judge(&self, start: &Start, limits: Limits) -> std::result::Result<Allowed<'_>, String> {
        let rules = &self.rules;
        let spec = &start.spec;
        let owner = spec.owner.as_deref().unwrap_or_default();
        if !rules.owners.as_ref().is_none_or(|owners| matches(owners, owner)) {
            return Err(forbids(format_args!("jobs of role {owner:?}")));
        }
        let from = start.database.as_ref();
        if !rules.databases.as_ref().is_none_or(|known| known.iter().any(|rule| rule.is_met_by(from))) {
            return Err(forbids(format_args!("jobs of {}", named(from))));
        }
        let user = self.user(spec)?;
        self.judge_program(spec)?;
        let none = Vec::new();
        // Whoever may run a few programs alone must not bend them by LD_PRELOAD.
        let allowed = rules.env.as_ref().or(rules.commands.as_ref().map(|_| &none));
        for name in spec.env.iter().flat_map(|env| env.keys()) {
            if !allowed.is_none_or(|allowed| matches(allowed, name)) {
                return Err(forbids(format_args!("the environment variable {name:?}")));
            }
        }
        let root = rules.users.as_ref().is_some_and(|users| users.iter().any(|user| user == "root"));
        let only_trusted = rules.commands.is_some();
        Ok(Allowed { user, limits: rules.limits.apply(limits)?, only_trusted, root })
    }

    fn user(&self, spec: &RunSpec) -> std::result::Result<&str, String> {
        let Some(wanted) = &spec.run_as else { return Ok(&self.default_user) };
        let listed = self.rules.users.as_ref().and_then(|users| users.iter().find(|user| *user == wanted));
        match listed {
            Some(user) => Ok(user),
            None if self.rules.users.is_none() && *wanted == self.default_user => Ok(&self.default_user),
            None => Err(forbids(format_args!("user {wanted:?}"))),
        }
    }

    fn judge_program(&self, spec: &RunSpec) -> std::result::Result<(), String> {
        if spec.command.is_some() {
            let shell = if self.rules.shell { Ok(()) } else { Err(forbids("shell commands (give argv)")) };
            return shell;
        }
        let (Some(commands), Some(argv)) = (&self.rules.commands, &spec.argv) else { return Ok(()) };
        let program = argv.first().map(String::as_str).unwrap_or_default();
        let listed = commands.iter().any(|command| command.as_os_str() == program);
        if listed { Ok(()) } else { Err(forbids(format_args!("program {program:?}"))) }
    }
}

impl DatabaseRule {
    fn is_met_by(&self, database: Option<&Database>) -> bool {
        let is = |wanted: &Option<String>, found: Option<&str>| {
            wanted.as_deref().is_none_or(|wanted| Some(wanted) == found)
        };
        is(&self.system_identifier, database.map(|it| it.system_identifier.as_str()))
            && is(&self.address, database.map(|it| it.address.as_str()))
    }
}

impl Ceiling {
    fn apply(&self, wanted: Limits) -> std::result::Result<Limits, String> {
        Ok(Limits {
            memory: at_most("memory", wanted.memory, self.memory)?,
            cpu: at_most("cpu", wanted.cpu, self.cpu)?,
            open_files: at_most("open_files", wanted.open_files, self.open_files)?,
            // The other way round: less is more.
            nice: at_most("nice", wanted.nice.map(|nice| -nice), self.nice.map(|nice| -nice))?
                .map(|nice| -nice),
            ..wanted
        })
    }
}

fn at_most<T: PartialOrd + Copy + Display>(
    name: &str,
    wanted: Option<T>,
    most: Option<T>,
) -> std::result::Result<Option<T>, String> {
    match (wanted, most) {
        (Some(wanted), Some(most)) if wanted > most => {
            Err(forbids(format_args!("so much of limit {name:?}")))
        }
        (wanted, most) => Ok(wanted.or(most)),
    }
}

fn read(path: &Path) -> Result<Rules> {
    let fault = |what: String| Error::new(ErrorKind::Config, format!("policy {path:?} {what}"));
    fs::metadata(path).map_err(|err| fault("cannot be read".to_owned()).source(err))?;
    trust::check(path).map_err(|why| {
        fault(format!("is not to be trusted: {why}"))
            .hint("It and the directories above it must belong to root and be writable by root alone.")
    })?;
    let text = fs::read_to_string(path).map_err(|err| fault("cannot be read".to_owned()).source(err))?;
    let rules: Rules = toml::from_str(&text).map_err(|err| fault("is not right".to_owned()).source(err))?;
    if let Some(command) = rules.commands.iter().flatten().find(|command| !command.is_absolute()) {
        return Err(fault(format!("names a command by no absolute path: {command:?}")));
    }
    Ok(rules)
}

/// Whether one of the patterns, which may end in `*`, is this word.
fn matches(patterns: &[String], word: &str) -> bool {
    patterns.iter().any(|pattern| match pattern.strip_suffix('*') {
        Some(start) => word.starts_with(start),
        None => pattern == word,
    })
}

fn forbids(what: impl Display) -> String {
    format!("the policy of this host does not allow {what}")
}

fn named(database: Option<&Database>) -> String {
    match database {
        Some(it) => format!("database system {} at {}", it.system_identifier, it.address),
        None => "a database that is not named".to_owned(),
    }
}

/// A number of bytes, or a text with a unit as PostgreSQL writes it.
fn size<'de, D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Option<u64>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Size {
        Bytes(u64),
        Text(String),
    }
    let bytes = match Size::deserialize(deserializer)? {
        Size::Bytes(bytes) => Some(bytes),
        Size::Text(text) => {
            let digits = text.trim_end_matches(|letter: char| !letter.is_ascii_digit());
            let shift = match text[digits.len()..].trim() {
                "kB" => Some(10),
                "MB" => Some(20),
                "GB" => Some(30),
                "TB" => Some(40),
                _ => None,
            };
            shift.and_then(|shift| digits.trim().parse::<u64>().ok()?.checked_mul(1 << shift))
        }
    };
    bytes.map(Some).ok_or_else(|| serde::de::Error::custom("give a size such as \"512MB\""))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn policy(text: &str) -> Policy {
        let rules: Rules = toml::from_str(text).unwrap();
        let default_user = rules.users.as_ref().map_or("own".to_owned(), |users| users[0].clone());
        Policy { file: None, rules, default_user }
    }

    fn start(fields: &serde_json::Value) -> Start {
        let mut spec =
            json!({"job": "j", "run_id": 1, "attempt": 1, "claim_no": 1, "due_us": 0, "grace": 1.0});
        spec.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        serde_json::from_value(json!({"installation": uuid::Uuid::nil(), "host": "h", "spec": spec,
            "database": {"system_identifier": "77", "address": "10.0.0.1:5432"}}))
        .unwrap()
    }

    #[track_caller]
    fn refused(policy: &Policy, fields: &serde_json::Value, what: &str) {
        let start = start(fields);
        let limits = Limits::of(&start.spec).unwrap();
        let reason = policy.judge(&start, limits).unwrap_err();
        assert!(
            reason.starts_with("the policy of this host does not allow ") && reason.contains(what),
            "{reason}"
        );
    }

    #[track_caller]
    fn allowed(policy: &Policy, fields: &serde_json::Value) -> Limits {
        let start = start(fields);
        let limits = Limits::of(&start.spec).unwrap();
        policy.judge(&start, limits).unwrap().limits
    }

    #[test]
    fn what_is_not_mentioned_is_allowed_but_for_users_and_the_shell() {
        let empty = policy("");
        allowed(&empty, &json!({"argv": ["ls"], "env": {"LD_PRELOAD": "x"}, "owner": "anybody"}));
        allowed(&empty, &json!({"argv": ["ls"], "run_as": "own"}));
        refused(&empty, &json!({"argv": ["ls"], "run_as": "root"}), "user \"root\"");
        refused(&empty, &json!({"command": "ls"}), "shell commands");
        allowed(&policy("shell = true"), &json!({"command": "ls"}));
    }

    #[test]
    fn users_programs_variables_and_owners_are_as_listed() {
        let text = r#"users = ["etl", "www"]
            commands = ["/bin/ls"]
            env = ["TZ", "ETL_*"]
            owners = ["etl", "web_*"]"#;
        let listed = policy(text);
        let fields = |more: serde_json::Value| {
            let mut fields = json!({"argv": ["/bin/ls", "-l"], "owner": "web_shop"});
            fields.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            fields
        };
        let first = start(&fields(json!({})));
        let judged = listed.judge(&first, Limits::default()).unwrap();
        assert_eq!((judged.user, judged.only_trusted, judged.root), ("etl", true, false));
        allowed(&listed, &fields(json!({"run_as": "www", "env": {"TZ": "UTC", "ETL_DAY": "1"}})));
        refused(&listed, &fields(json!({"run_as": "nobody"})), "user \"nobody\"");
        refused(&listed, &fields(json!({"argv": ["ls"]})), "program \"ls\"");
        refused(&listed, &fields(json!({"argv": ["/bin/../bin/ls"]})), "program");
        refused(&listed, &fields(json!({"env": {"ETL": "1"}})), "variable \"ETL\"");
        refused(&listed, &fields(json!({"owner": "webshop"})), "role \"webshop\"");
        let no_env = policy("commands = [\"/bin/ls\"]");
        refused(&no_env, &json!({"argv": ["/bin/ls"], "env": {"LD_PRELOAD": "x"}}), "\"LD_PRELOAD\"");
    }

    #[test]
    fn a_database_is_known_by_its_system_and_its_address() {
        let is = |text: &str| policy(text).judge(&start(&json!({"argv": ["ls"]})), Limits::default()).is_ok();
        assert!(is("[[databases]]\nsystem_identifier = \"77\""));
        assert!(is("[[databases]]\nsystem_identifier = \"1\"\n[[databases]]\naddress = \"10.0.0.1:5432\""));
        assert!(!is("[[databases]]\nsystem_identifier = \"77\"\naddress = \"10.0.0.2:5432\""));
        assert!(!is("databases = []"));
    }

    #[test]
    fn limits_are_given_to_who_asks_for_none_and_held_against_who_asks_for_more() {
        let limited = policy("[limits]\nmemory = \"1GB\"\ncpu = 2\nopen_files = 100\nnice = 5");
        let given = allowed(&limited, &json!({"argv": ["ls"], "limits": {"cpu": 0.5, "nice": 9}}));
        assert_eq!((given.memory, given.cpu), (Some(1 << 30), Some(0.5)));
        assert_eq!((given.open_files, given.nice), (Some(100), Some(9)));
        assert_eq!(allowed(&limited, &json!({"argv": ["ls"]})).nice, Some(5));
        for (limits, name) in [
            (json!({"memory": (1_u64 << 30) + 1}), "memory"),
            (json!({"cpu": 2.5}), "cpu"),
            (json!({"open_files": 101}), "open_files"),
            (json!({"nice": 4}), "nice"),
        ] {
            refused(
                &limited,
                &json!({"argv": ["ls"], "limits": limits}),
                &format!("so much of limit {name:?}"),
            );
        }
    }

    #[test]
    fn a_wrong_word_in_the_file_is_no_rule_that_is_missing() {
        for text in ["user = [\"a\"]", "[limits]\nmemory = \"1 big\"", "[[databases]]\nname = \"x\""] {
            assert!(toml::from_str::<Rules>(text).is_err(), "{text}");
        }
    }
}
