//! The command line: every command and its arguments.

use std::{env, ffi::OsStr};

use clap::{Parser, Subcommand, builder::Resettable};

use crate::{
    commands::{
        Ask, config::ConfigArgs, dev::DevArgs, doctor::DoctorArgs, guardian::GuardianArgs,
        keeper::KeeperArgs, migrate::MigrateArgs,
    },
    observe::LogFormat,
};

/// Schedule jobs on a pool of machines from PostgreSQL
#[derive(Debug, Parser)]
#[command(name = "sisyphus", version, max_term_width = 100)]
#[command(after_long_help = "Exit codes: 0 done, 1 refused or failed, 2 usage, 3 configuration, 4 database \
                             unreachable, 5 schema missing or of another version, 6 stopped with work left, 130 ended by \
                             Ctrl-C, 143 by SIGTERM")]
pub struct Cli {
    /// Database to use [env: SISYPHUS_DATABASE_URL, DATABASE_URL, else PGHOST, PGPORT, ...]
    #[arg(long, global = true, value_name = "URL", help_heading = "Connection")]
    pub database_url: Option<String>,

    /// How log lines look; what is logged is set in SISYPHUS_LOG
    #[arg(long, global = true, value_enum, default_value_t, env = "SISYPHUS_LOG_FORMAT")]
    #[arg(help_heading = "Logging", hide_short_help = true)]
    pub log_format: LogFormat,

    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
#[allow(clippy::large_enum_variant, reason = "made once")]
#[allow(missing_docs, reason = "a variant's text would replace the long help that stands with its arguments")]
pub enum Command {
    Dev(DevArgs),
    /// Install or upgrade the schema
    Migrate(MigrateArgs),
    Guardian(GuardianArgs),
    Keeper(KeeperArgs),
    /// What the database answers at once
    #[command(flatten)]
    Ask(Ask),
    /// Find out why something does not run
    Doctor(DoctorArgs),
    /// Look at the configuration
    Config(ConfigArgs),
    /// Print the completions of a shell
    #[command(after_long_help = "Example:\n  sisyphus completions bash > /etc/bash_completion.d/sisyphus")]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// The command with those variables of the environment that are set to nothing taken for unset, as in a file where a
/// line was only emptied.
pub fn without_empty_variables(command: clap::Command) -> clap::Command {
    let is_empty = |variable: &OsStr| env::var_os(variable).is_some_and(|value| value.is_empty());
    command
        .mut_args(|argument| match argument.get_env().is_some_and(is_empty) {
            true => argument.env(Resettable::Reset),
            false => argument,
        })
        .mut_subcommands(without_empty_variables)
}
