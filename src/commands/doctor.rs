//! `sisyphus doctor`: why does it not run.

use serde_json::{Value, json};

use super::output::{self, Format};
use crate::{
    config::Connection,
    db::{client::Session, doctor::CHECKS},
    error::{Error, ErrorKind, Result},
    migrate, sqlstate,
};

/// Arguments of `sisyphus doctor`.
#[derive(Debug, clap::Args)]
#[command(
    after_long_help = "Looks at the database, the schema, the planner, hosts, jobs and late runs, and ends \
                             with 0 when nothing hinders a run, 1 when something does, 4 when the database cannot \
                             be reached, 5 when the schema is missing or of another version.\n\n\
                             Example:\n  sisyphus doctor || sisyphus hosts"
)]
pub struct DoctorArgs {
    /// For people or for programs
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Grade {
    Good,
    Note,
    Bad,
}

/// What one check found, and what to do about it.
struct Finding {
    check: &'static str,
    grade: Grade,
    found: String,
    remedy: Option<String>,
}

impl Finding {
    fn good(check: &'static str, found: impl Into<String>) -> Self {
        Self { check, grade: Grade::Good, found: found.into(), remedy: None }
    }

    fn note(check: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { check, grade: Grade::Note, found: found.into(), remedy: Some(remedy.into()) }
    }

    fn bad(check: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { check, grade: Grade::Bad, found: found.into(), remedy: Some(remedy.into()) }
    }
}

/// Runs every check, prints what they found, and fails when something hinders runs.
pub async fn run(args: DoctorArgs, connection: &Connection) -> Result<()> {
    let session = Session::open(connection).await?;
    let mut findings = vec![Finding::good("database", format!("reached at {}", connection.hosts()))];
    check_schema(&mut findings, &session).await?;
    for check in CHECKS {
        let rows = session.doctor(check).await?;
        for text in &rows.objects {
            let row = output::object(text)?;
            let get = |key: &str| row.get(key).map(output::plain).unwrap_or_default();
            let bad = row.get("bad").and_then(Value::as_bool).unwrap_or(true);
            let make = if bad { Finding::bad } else { Finding::note };
            findings.push(make(check.name, get("found"), get("remedy")));
        }
        if rows.objects.is_empty() {
            findings.push(Finding::good(check.name, check.good));
        }
    }
    print(&findings, args.format)?;
    match findings.iter().filter(|f| f.grade == Grade::Bad).count() {
        0 => Ok(()),
        1 => Err(Error::new(ErrorKind::Failed, "one thing hinders runs")),
        n => Err(Error::new(ErrorKind::Failed, format!("{n} things hinder runs"))),
    }
}

/// Without a schema no other check means anything.
async fn check_schema(findings: &mut Vec<Finding>, session: &Session) -> Result<()> {
    match session.schema_version().await {
        Ok(Some(installed)) if installed == migrate::version() => {
            findings.push(Finding::good("schema", format!("version {installed}")));
        }
        Ok(Some(installed)) if installed < migrate::version() => {
            return Err(Error::new(
                ErrorKind::Schema,
                format!("the schema is version {installed}, this program needs {}", migrate::version()),
            )
            .hint("run `sisyphus migrate`"));
        }
        Ok(Some(installed)) => findings.push(Finding::note(
            "schema",
            format!("version {installed}, newer than version {} of this program", migrate::version()),
            "upgrade this program",
        )),
        Ok(None) => {
            return Err(Error::new(ErrorKind::Schema, "Sisyphus is not installed in this database")
                .hint("run `sisyphus migrate`, or choose another database (`sisyphus config show`)"));
        }
        // Only the owner reads the table of versions; whoever uses the views sees that there is one.
        Err(error) if error.code() == Some(sqlstate::INSUFFICIENT_PRIVILEGE) => {
            findings.push(Finding::good("schema", "installed; its version is the owner's to see"));
        }
        Err(error) => return Err(error),
    }
    Ok(())
}

fn print(findings: &[Finding], format: Format) -> Result<()> {
    if format == Format::Json {
        let all: Vec<Value> = findings
            .iter()
            .map(|f| {
                let grade = match f.grade {
                    Grade::Good => "ok",
                    Grade::Note => "note",
                    Grade::Bad => "problem",
                };
                json!({"check": f.check, "grade": grade, "found": f.found, "remedy": f.remedy})
            })
            .collect();
        return output::print(&format!("{:#}", Value::Array(all)));
    }
    for finding in findings {
        let mark = match finding.grade {
            Grade::Good => "ok  ",
            Grade::Note => "note",
            Grade::Bad => "BAD ",
        };
        output::print(&format!("{mark}  {:<9} {}", finding.check, finding.found))?;
        if let Some(remedy) = &finding.remedy {
            output::print(&format!("{:16}→ {remedy}", ""))?;
        }
    }
    Ok(())
}
