//! `sisyphus config show`.

use serde_json::json;

use super::{
    guardian,
    output::{Column, Format, print_rows},
};
use crate::{config::Connection, db::client::Rows, error::Result, observe};

/// Arguments of `sisyphus config`.
#[derive(Debug, clap::Args)]
pub struct ConfigArgs {
    #[command(subcommand)]
    command: ConfigCommand,
}

#[derive(Debug, clap::Subcommand)]
enum ConfigCommand {
    /// Show which database is used, what a guardian started here would take, and where each value comes from
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
    let of_connection =
        connection.settings.iter().map(|s| (s.name.to_owned(), s.value.clone(), s.origin.clone()));
    let (log, origin) = observe::filter();
    let objects = of_connection
        .chain(guardian::settings()?)
        .chain([("log".to_owned(), log, origin.to_owned())])
        .map(|(setting, value, origin)| {
            json!({"setting": setting, "value": value, "origin": origin}).to_string()
        })
        .collect();
    let columns = [Column::text("setting"), Column::prose("value"), Column::text("origin")];
    print_rows(&Rows { now: 0.0, objects }, &columns, format, "no settings")
}
