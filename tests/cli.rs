//! The command line itself: usage, help and what needs no job.

use std::{fs, path::Path};

use clap::{Command, CommandFactory};
use sisyphus::cli::Cli;

use crate::support::{self, command, finish, run};

/// Every command that does something, with its words.
fn leaves(command: &Command, words: &[String], found: &mut Vec<(Vec<String>, Command)>) {
    for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
        let words = [words, &[sub.get_name().to_owned()]].concat();
        if sub.has_subcommands() {
            leaves(sub, &words, found);
        } else {
            found.push((words, sub.clone()));
        }
    }
}

fn commands() -> Vec<(Vec<String>, Command)> {
    let mut cli = Cli::command();
    cli.build();
    let mut found = Vec::new();
    leaves(&cli, &[], &mut found);
    assert!(found.len() > 25, "{}", found.len());
    found
}

#[test]
fn every_command_shows_an_example_of_itself() {
    for (words, command) in commands() {
        let help = command.clone().render_long_help().to_string();
        let line = format!("sisyphus {}", words.join(" "));
        let usage = help.lines().find(|l| l.starts_with("Usage: ")).unwrap_or_default();
        let shown = help.replace(usage, "");
        assert!(
            shown.contains(&line) || shown.contains(&format!(" {}", words.join(" "))),
            "no example {line:?} in its help:\n{help}"
        );
    }
}

#[test]
fn short_helps_are_imperative_lines_without_a_full_stop() {
    for (words, command) in commands() {
        let about = command.get_about().unwrap_or_else(|| panic!("{words:?} has no help")).to_string();
        assert!(about.starts_with(char::is_uppercase) && !about.ends_with('.'), "{words:?}: {about}");
        for argument in command.get_arguments() {
            let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
            assert!(!help.is_empty() && !help.ends_with('.'), "{words:?} {}: {help:?}", argument.get_id());
        }
    }
}

#[test]
fn the_reference_page_is_the_help() {
    let mut page = String::from(
        "# The command line\n\nThis page is the help of every command, as `sisyphus COMMAND --help` prints it.\n",
    );
    let top = run(&["--help"]).success();
    page.push_str(&format!("\n## sisyphus\n\n```\n{}```\n", trimmed(&top)));
    for (words, _) in commands() {
        let mut arguments: Vec<&str> = words.iter().map(String::as_str).collect();
        arguments.push("--help");
        let help = run(&arguments).success();
        // The connection and logging are the same everywhere, and told once.
        let own = help.split("\nConnection:\n").next().unwrap();
        page.push_str(&format!("\n## sisyphus {}\n\n```\n{}```\n", words.join(" "), trimmed(own)));
        if let Some(example) = help.find("\nExample") {
            page.push_str(&format!("\n```\n{}```\n", trimmed(&help[example + 1..])));
        }
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/cli.md");
    if std::env::var_os("UPDATE").is_some() {
        fs::write(path, page).unwrap();
        return;
    }
    let is = fs::read_to_string(path).unwrap_or_default();
    assert!(
        is == page,
        "docs/cli.md is not the help; this writes it: UPDATE=1 cargo nextest run reference_page"
    );
}

fn trimmed(text: &str) -> String {
    text.trim_end().lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

#[test]
fn wrong_usage_ends_with_2_and_says_what_would_do() {
    for (words, texts) in [
        (&["jobbs"][..], ["unrecognized subcommand 'jobbs'", "jobs"]),
        (&[], ["Usage: sisyphus", "Commands:"]),
        (&["schedule", "x"], ["<SCHEDULE>", "Usage: sisyphus schedule"]),
        (&["schedule", "x", "@daily"], ["<COMMAND>", "Usage: sisyphus schedule"]),
        (&["schedule", "x", "@daily", "a", "--", "b"], ["cannot be used with", "Usage: sisyphus schedule"]),
        (&["jobs", "--format", "xml"], ["invalid value 'xml'", "table, json"]),
        (&["suspend"], ["<NAME|--all>", "Usage: sisyphus suspend"]),
        (&["suspend", "x", "--pool", "web"], ["cannot be used with", "Usage: sisyphus suspend"]),
        (&["terminate", "x"], ["invalid value 'x'", "RUN_ID"]),
        (&["slots", "web1", "-1"], ["unexpected argument '-1'", "Usage: sisyphus slots"]),
    ] {
        run(words).failure(2, &texts);
    }
}

#[tokio::test]
async fn flags_that_mean_nothing_end_with_2() {
    let db = support::empty_db().await;
    for (words, text) in [
        (&["alter", "x"][..], "nothing to change on job \"x\""),
        (&["schedule", "x", "@daily", "true", "--env", "A"], "--env \"A\" is not NAME=VALUE"),
        (&["schedule", "x", "@daily", "true", "--limit", "=1"], "--limit \"=1\" is not NAME=VALUE"),
    ] {
        let mut command = command(words);
        command.env("DATABASE_URL", db.url());
        finish(command).failure(2, &[text]);
    }
}

#[test]
fn version_and_completions_go_to_stdout() {
    assert_eq!(run(&["--version"]).success(), format!("sisyphus {}\n", env!("CARGO_PKG_VERSION")));
    for shell in ["bash", "zsh", "fish"] {
        assert!(run(&["completions", shell]).success().contains("unschedule"), "{shell}");
    }
}

#[test]
fn a_reader_that_has_gone_is_no_failure() {
    let mut command = command(&["completions", "bash"]);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let status = command.stdout(writer).stderr(std::process::Stdio::piped()).spawn().unwrap();
    let out = status.wait_with_output().unwrap();
    assert!(out.status.success(), "{} {}", out.status, String::from_utf8_lossy(&out.stderr));
}

#[test]
fn help_is_a_word_as_well() {
    assert_eq!(run(&["help"]).success(), run(&["--help"]).success());
    assert_eq!(run(&["help", "run"]).success(), run(&["run", "--help"]).success());
    assert_eq!(run(&["help", "pool", "add"]).success(), run(&["pool", "add", "--help"]).success());
}
