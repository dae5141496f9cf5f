//! `sisyphus config show`.

use serde_json::json;

use super::output::{Column, Format, print_rows};
use crate::{config::Connection, db::client::Rows, error::Result};

/// Arguments of `sisyphus config`.
#[derive(Debug, clap::Args)]
pub struct ConfigArgs {
    #[command(subcommand)]
    command: ConfigCommand,
}

#[derive(Debug, clap::Subcommand)]
enum ConfigCommand {
    /// Show which database is used and where each value comes from
    #[command(after_long_help = "Example:\n  PGHOST=db1 sisyphus config show")]
    Show {
        /// For people or for programs
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
}

/// Prints the settings; connects to nothing.
pub fn run(args: &ConfigArgs, connection: &Connection) -> Result<()> {
    let ConfigCommand::Show { format } = args.command;
    let objects = connection
        .settings
        .iter()
        .map(|s| json!({"setting": s.name, "value": s.value, "origin": s.origin}).to_string())
        .collect();
    let columns = [Column::text("setting"), Column::prose("value"), Column::text("origin")];
    print_rows(&Rows { now: 0.0, objects }, &columns, format, "no settings")
}
