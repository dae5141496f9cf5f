//! `export`: jobs as a file.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::{jobs_file, output};
use crate::{db::client::Session, error::Result};

/// Write jobs down as `apply` reads them
///
/// Every job that the login may change, in the order of the names, as TOML: a table a job, with what was given to
/// schedule and is no default. What a suspension, a pool or a calendar is does not stand there. `sisyphus apply`
/// of what was written changes nothing.
#[derive(Debug, clap::Args)]
#[command(
    after_long_help = "Examples:\n  sisyphus export > jobs.toml\n  sisyphus export --set web > web.toml"
)]
pub struct ExportArgs {
    /// Only the jobs of this set, which the file then names
    #[arg(long, value_name = "NAME")]
    set: Option<String>,
}

#[derive(Deserialize)]
struct Declared {
    job: String,
    declared: Map<String, Value>,
}

/// Prints the file.
pub(super) async fn export(args: ExportArgs, session: &Session) -> Result<()> {
    let properties = session.properties().await?;
    let tag = args.set.as_deref().map(jobs_file::tag_of);
    let jobs: Vec<Declared> = session.declared(tag.as_deref()).await?.read()?;
    if jobs.is_empty() {
        eprintln!("no jobs");
    }
    let mut parts = Vec::new();
    if let Some(set) = &args.set {
        parts.push(format!("set = {}\n", jobs_file::written_text(set)));
    }
    for Declared { job, mut declared } in jobs {
        if let (Some(tag), Some(Value::Array(tags))) = (&tag, declared.get_mut("tags")) {
            tags.retain(|known| known != tag);
            if tags.is_empty() {
                declared.remove("tags");
            }
        }
        parts.push(jobs_file::written(&job, &declared, &properties)?);
    }
    output::print_raw(&parts.join("\n"))
}
