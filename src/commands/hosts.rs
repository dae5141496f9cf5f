//! `hosts`, `pool`, `drain`, `activate`, `slots`, `forget`: where jobs run.

use super::{
    control::said_no,
    job_options::{pairs, text},
    known::{self, Filter},
    output::{self, Column, Format, print_properties, print_rows},
};
use crate::{
    db::client::{Call, Session},
    error::Result,
};

/// Arguments of `sisyphus hosts`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Example:\n  sisyphus hosts --pool web")]
pub struct HostsArgs {
    /// Only hosts of this pool
    #[arg(long)]
    pool: Option<String>,
    /// For people or for programs
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Arguments of `sisyphus pool`.
#[derive(Debug, clap::Args)]
pub struct PoolArgs {
    #[command(subcommand)]
    command: PoolCommand,
}

#[derive(Debug, clap::Subcommand)]
enum PoolCommand {
    /// List pools and what waits in them
    #[command(after_long_help = "Example:\n  sisyphus pool list")]
    List {
        /// For people or for programs
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Show a pool: what it is made of, and which hosts are in it
    #[command(after_long_help = "Example:\n  sisyphus pool show web")]
    Show {
        /// Name of the pool
        name: String,
        /// For people or for programs
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Make a pool of listed hosts, of those that have certain labels, or of both
    #[command(after_long_help = "Examples:\n  sisyphus pool create web web1 web2\n  \
                                 sisyphus pool create gpu --label gpu=yes\n  \
                                 sisyphus pool create db db1 --label role=db")]
    Create {
        /// Name of the pool
        name: String,
        /// Its hosts; they may register later
        hosts: Vec<String>,
        /// Label that its hosts have, may be repeated
        #[arg(long = "label", value_name = "NAME=VALUE")]
        labels: Vec<String>,
        /// What it is for
        #[arg(long, value_name = "TEXT")]
        description: Option<String>,
    },
    /// Drop a pool that no job uses
    #[command(after_long_help = "Example:\n  sisyphus pool drop web")]
    Drop {
        /// Name of the pool
        name: String,
    },
    /// Put hosts into a pool
    #[command(after_long_help = "Example:\n  sisyphus pool add web web3")]
    Add {
        /// Name of the pool
        pool: String,
        /// Names of hosts
        #[arg(required = true)]
        hosts: Vec<String>,
    },
    /// Take hosts out of a pool
    #[command(after_long_help = "Example:\n  sisyphus pool remove web web3")]
    Remove {
        /// Name of the pool
        pool: String,
        /// Names of hosts
        #[arg(required = true)]
        hosts: Vec<String>,
    },
}

/// Arguments of `sisyphus drain`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Example:\n  sisyphus drain web1")]
pub struct DrainArgs {
    /// Name of the host
    host: String,
}

/// Arguments of `sisyphus activate`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Example:\n  sisyphus activate web1")]
pub struct ActivateArgs {
    /// Name of the host
    host: String,
}

/// Arguments of `sisyphus slots`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Examples:\n  sisyphus slots web1 8\n  sisyphus slots web1 -")]
pub struct SlotsArgs {
    /// Name of the host
    host: String,
    /// Runs it takes at once, or - for as many as its guardian says
    #[arg(value_name = "N|-", value_parser = slots_or_none)]
    slots: Slots,
}

#[derive(Debug, Clone, Copy)]
struct Slots(Option<u32>);

/// Arguments of `sisyphus forget`.
#[derive(Debug, clap::Args)]
#[command(
    after_long_help = "Its history stays, runs that wait for it alone are cancelled. A guardian that starts \
                             there again makes it known again.\n\nExample:\n  sisyphus forget web1"
)]
pub struct ForgetArgs {
    /// Name of the host
    host: String,
}

/// Lists hosts.
pub(super) async fn hosts(args: HostsArgs, session: &Session) -> Result<()> {
    let rows = session.hosts(args.pool.as_deref()).await?;
    let columns = [
        Column::text("host"),
        Column::text("state"),
        Column::number("running"),
        Column::number("slots"),
        Column::duration("seen_seconds_ago").titled("seen ago"),
        Column::number("clock_offset_ms").titled("clock ms"),
        Column::text("version"),
        Column::prose("pools"),
        Column::prose("problem"),
    ];
    known::check(&rows, &[Filter::Pool(args.pool.as_deref())], session).await?;
    let nothing = match &args.pool {
        None => "no host has registered; start `sisyphus guardian` on one".to_owned(),
        Some(pool) => format!("no host of pool {pool} has registered"),
    };
    print_rows(&rows, &columns, args.format, &nothing)
}

/// Looks at pools and changes them.
pub(super) async fn pool(args: PoolArgs, session: &Session) -> Result<()> {
    match args.command {
        PoolCommand::List { format } => {
            let columns = [
                Column::text("pool"),
                Column::number("pending"),
                Column::number("overdue"),
                Column::number("claimed"),
                Column::number("running"),
                Column::number("slots_free"),
            ];
            print_rows(&session.pools(None).await?, &columns, format, "no pools")
        }
        PoolCommand::Show { name, format } => {
            let rows = session.pools(Some(&name)).await?;
            known::check(&rows, &[Filter::Pool(Some(&name))], session).await?;
            for text in &rows.objects {
                match format {
                    Format::Json => output::print(text)?,
                    Format::Table => print_properties(&output::object(text)?, rows.now)?,
                }
            }
            Ok(())
        }
        PoolCommand::Create { name, hosts, labels, description } => {
            let selector = pairs("--label", &labels, text)?;
            let call = Call::new("create_pool")
                .arg("name", "text", &name)
                .list("hosts", "text[]", &hosts)
                .given("selector", "jsonb", selector)
                .given("description", "text", description);
            session.call(&call).await?;
            eprintln!("created pool {name}");
            Ok(())
        }
        PoolCommand::Drop { name } => {
            session.call(&Call::new("drop_pool").arg("name", "text", &name)).await?;
            eprintln!("dropped pool {name}");
            Ok(())
        }
        PoolCommand::Add { pool, hosts } => {
            membership("add_host", ("added", "to", "was listed in"), &pool, &hosts, session).await
        }
        PoolCommand::Remove { pool, hosts } => {
            membership("remove_host", ("removed", "from", "was not listed in"), &pool, &hosts, session).await
        }
    }
}

/// Stops new work on a host.
pub(super) async fn drain(args: DrainArgs, session: &Session) -> Result<()> {
    session.call(&Call::new("drain_host").arg("name", "text", &args.host)).await?;
    eprintln!("{} finishes what it runs and takes nothing new", args.host);
    Ok(())
}

/// Gives a drained host work again.
pub(super) async fn activate(args: ActivateArgs, session: &Session) -> Result<()> {
    session.call(&Call::new("activate_host").arg("name", "text", &args.host)).await?;
    eprintln!("{} takes runs", args.host);
    Ok(())
}

/// Sets how many runs a host takes at once.
pub(super) async fn slots(args: SlotsArgs, session: &Session) -> Result<()> {
    let slots = args.slots.0.map(|slots| slots.to_string());
    let call = Call::new("set_slots").arg("host", "text", &args.host).nullable("n", "int", slots.as_deref());
    session.call(&call).await?;
    match slots {
        Some(slots) => eprintln!("{} takes {slots} runs at once", args.host),
        None => {
            eprintln!("{} takes as many runs at once as its guardian says when it starts next", args.host)
        }
    }
    Ok(())
}

fn slots_or_none(text: &str) -> std::result::Result<Slots, String> {
    match text {
        "-" => Ok(Slots(None)),
        text => text.parse().map(|slots| Slots(Some(slots))).map_err(|_| "it is a number, or -".to_owned()),
    }
}

/// Removes a host that is gone.
pub(super) async fn forget(args: ForgetArgs, session: &Session) -> Result<()> {
    session.call(&Call::new("forget_host").arg("name", "text", &args.host)).await?;
    eprintln!("forgot {}", args.host);
    Ok(())
}

async fn membership(
    function: &'static str,
    (done, preposition, stays): (&str, &str, &str),
    pool: &str,
    hosts: &[String],
    session: &Session,
) -> Result<()> {
    for host in hosts {
        let call = Call::new(function).arg("pool", "text", pool).arg("host", "text", host);
        match said_no(&session.call(&call).await?) {
            true => eprintln!("{host} {stays} pool {pool}"),
            false => eprintln!("{done} {host} {preposition} pool {pool}"),
        }
    }
    Ok(())
}
