//! `calendar`: the days and times that jobs leave out or keep to.

use super::output::{self, Column, Format, print_properties, print_rows};
use crate::{
    db::client::{Call, Session},
    error::{Error, ErrorKind, Result},
};

/// Arguments of `sisyphus calendar`.
#[derive(Debug, clap::Args)]
pub struct CalendarArgs {
    #[command(subcommand)]
    command: CalendarCommand,
}

#[derive(Debug, clap::Subcommand)]
enum CalendarCommand {
    /// List calendars, how far they go and how old they are
    #[command(after_long_help = "Example:\n  sisyphus calendar list")]
    List {
        /// For people or for programs
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Show all about a calendar
    #[command(after_long_help = "Example:\n  sisyphus calendar show holidays")]
    Show {
        /// Name of the calendar
        name: String,
        /// For people or for programs
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Make a calendar of what a query yields, or replace an own one
    #[command(
        after_long_help = "The query runs at once, with your rights and search_path pg_catalog; its first \
                                 column are dates, or ranges of instants.\n\nExample:\n  \
                                 sisyphus calendar create holidays 'select day from public.holidays'"
    )]
    Create {
        /// Name of the calendar
        name: String,
        /// Query that yields dates or tstzranges
        query: String,
    },
    /// Ask the query of own calendars again
    #[command(after_long_help = "Only the role that made a calendar may refresh it.\n\nExample:\n  \
                                 sisyphus calendar refresh holidays")]
    Refresh {
        /// Names of calendars
        #[arg(required = true)]
        names: Vec<String>,
    },
    /// Drop a calendar that no job uses
    #[command(after_long_help = "Example:\n  sisyphus calendar drop holidays")]
    Drop {
        /// Name of the calendar
        name: String,
    },
}

/// Looks at calendars and changes them.
pub(super) async fn calendar(args: CalendarArgs, session: &Session) -> Result<()> {
    match args.command {
        CalendarCommand::List { format } => list(format, session).await,
        CalendarCommand::Show { name, format } => show(&name, format, session).await,
        CalendarCommand::Create { name, query } => {
            let call = Call::new("create_calendar").arg("name", "text", &name).arg("query", "text", query);
            ask("created", &name, &call, session).await
        }
        CalendarCommand::Refresh { names } => {
            for name in names {
                let call = Call::new("refresh_calendar").arg("name", "text", &name);
                ask("refreshed", &name, &call, session).await?;
            }
            Ok(())
        }
        CalendarCommand::Drop { name } => {
            session.call(&Call::new("drop_calendar").arg("name", "text", &name)).await?;
            eprintln!("dropped calendar {name}");
            Ok(())
        }
    }
}

async fn list(format: Format, session: &Session) -> Result<()> {
    let columns = [
        Column::text("calendar"),
        Column::number("ranges"),
        Column::local("starts_at").titled("from"),
        Column::local("ends_at").titled("until"),
        Column::duration("age_seconds").titled("age"),
        Column::text("owner"),
        Column::prose("jobs"),
        Column::prose("problem"),
    ];
    print_rows(&session.calendars(None).await?, &columns, format, "no calendars")
}

async fn show(name: &str, format: Format, session: &Session) -> Result<()> {
    let rows = session.calendars(Some(name)).await?;
    let Some(text) = rows.objects.first() else {
        return Err(Error::new(ErrorKind::Failed, format!("calendar \"{name}\" does not exist"))
            .hint("sisyphus calendar list shows those there are"));
    };
    if format == Format::Json {
        return output::print(text);
    }
    print_properties(&output::object(text)?, rows.now)
}

/// Makes or refreshes one; the function says how many ranges it has.
async fn ask(done: &str, name: &str, call: &Call, session: &Session) -> Result<()> {
    let answer = session.call(call).await?;
    let ranges = answer.into_iter().flatten().next().unwrap_or_default();
    eprintln!("{done} calendar {name}: {ranges} {}", if ranges == "1" { "range" } else { "ranges" });
    Ok(())
}
