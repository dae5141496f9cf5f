//! Changes of jobs while everything breaks: alter, suspend, resume, unschedule, schedule anew.

use std::time::Duration;

use serde_json::json;
use tokio::time::timeout;
use tokio_postgres::{Client, Error, types::ToSql};

use super::{
    driver::Driver,
    fleet_jobs::JOBS,
    records::{Job, now},
    standing::{Change, Rhythm, Standing, What},
};

const RHYTHMS: [Rhythm; 4] = [
    Rhythm { period: 2, phase: 0 },
    Rhythm { period: 2, phase: 1 },
    Rhythm { period: 3, phase: 0 },
    Rhythm { period: 5, phase: 2 },
];

pub(super) fn changing() -> Vec<&'static Job> {
    JOBS.iter().filter(|job| job.changing).collect()
}

/// What a change says of itself, in its own transaction: so it is known whether it was done.
pub(super) async fn make_notes(client: &Client) {
    client.batch_execute("create table said (job text, number bigint)").await.unwrap();
}

/// Schedules a job for the first time.
pub(super) async fn schedule(client: &Client, job: &Job, rhythm: Option<Rhythm>, definition: &str) {
    let schedule = rhythm.map(Rhythm::expression);
    let env = json!({ "CHAOS_DEFINITION": "0" });
    let sql = format!("with noted as (insert into said values ($1, $2)) select {definition}");
    client
        .query(&sql, &[&job.name, &0_i64, &schedule, &env])
        .await
        .unwrap_or_else(|err| panic!("{job:?}: {err:?}"));
}

/// The changes, each with whether it is in the database.
pub(super) async fn kept(client: &Client, changes: &[Change]) -> Vec<Change> {
    let rows = client.query("select job, number from said", &[]).await.unwrap();
    let said: Vec<(String, i64)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    let is_said =
        |change: &Change| said.iter().any(|(job, number)| job == change.job && *number == change.number);
    changes.iter().map(|change| Change { kept: is_said(change), ..change.clone() }).collect()
}

/// Asks for a change; an error of class 22, 42 or 55 is an answer too: nothing was changed.
pub(super) async fn ask(
    client: &Client,
    job: &Job,
    number: i64,
    what: What,
    definition: &str,
) -> Result<(), Error> {
    let name: &(dyn ToSql + Sync) = &job.name;
    let env = json!({ "CHAOS_DEFINITION": number.to_string() });
    let (call, rhythm) = match what {
        What::Schedule(rhythm) => (definition, Some(rhythm)),
        What::Alter(rhythm) => ("sisyphus.alter_job($1, $3, env => $4)", Some(rhythm)),
        What::Suspend => ("sisyphus.suspend($1)", None),
        What::Resume => ("sisyphus.resume($1)", None),
        What::Unschedule => ("sisyphus.unschedule($1)", None),
    };
    let sql = format!("with noted as (insert into said values ($1, $2)) select {call}");
    match rhythm {
        Some(rhythm) => client.query(&sql, &[name, &number, &rhythm.expression(), &env]).await?,
        None => client.query(&sql, &[name, &number]).await?,
    };
    Ok(())
}

fn was_refused(err: &Error) -> bool {
    err.code().is_some_and(|code| ["22", "42", "55"].contains(&&code.code()[..2]))
}

impl Driver {
    /// Changes a job, mostly in a way that makes a difference.
    pub(super) async fn change(&mut self) {
        let jobs = changing();
        let job = *self.dice.choice(&jobs).expect("some");
        let rhythm = *self.dice.choice(&RHYTHMS).expect("some");
        let draw = self.dice.u8(..10);
        let what = match self.believed(job) {
            Some(standing) if standing.removed => What::Schedule(rhythm),
            Some(standing) if standing.suspended => match draw {
                0..6 => What::Resume,
                6..8 => What::Alter(rhythm),
                8 => What::Unschedule,
                _ => What::Suspend,
            },
            _ => match draw {
                0..4 => What::Alter(rhythm),
                4..7 => What::Suspend,
                7 => What::Schedule(rhythm),
                _ => What::Unschedule,
            },
        };
        self.change_to(job, what).await;
    }

    /// Nothing is suspended any more, so that all of it is told.
    pub(super) async fn resume_all(&mut self) {
        for job in changing() {
            while !self.change_to(job, What::Resume).await {}
        }
    }

    fn believed(&self, job: &Job) -> Option<Standing> {
        let changes =
            self.changes.iter().filter(|change| change.job == job.name && change.answered.is_some());
        changes.fold(None, Standing::after)
    }

    /// Whether there was an answer.
    async fn change_to(&mut self, job: &'static Job, what: What) -> bool {
        let number = i64::try_from(self.changes.len()).expect("few");
        let Some(client) = self.servers.reach().await else { return false };
        let asked = now();
        let asking = ask(&client, job, number, what, &self.definitions[job.name]);
        let answer = timeout(Duration::from_secs(3), asking).await;
        if let Ok(Err(err)) = &answer
            && was_refused(err)
        {
            return true;
        }
        let answered = matches!(answer, Ok(Ok(()))).then(now);
        eprintln!("{asked} {what:?} of {} as change {number}, answered {answered:?}", job.name);
        self.changes.push(Change { job: job.name, number, what, asked, answered, kept: false });
        answered.is_some()
    }
}
