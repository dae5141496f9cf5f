//! The functions of the schema that a guardian calls, one typed method each. All its SQL text is here.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use tokio::time::timeout;
use tokio_postgres::{
    Client, Row,
    types::{Json, ToSql, Type},
};

use super::{
    messages::{
        Answer, Claim, Claimed, ClaimedRun, Finish, HeldClaim, Registered, Registration, Report,
        RequestedAction, RunRequest, SeenTick, Server, Start,
    },
    session::CALL_TIMEOUT,
};
use crate::error::{Error, ErrorKind, Result};

/// The functions, called over one session. Nothing is prepared, so that a transaction pooler may stand in
/// between.
#[derive(Debug, Clone, Copy)]
pub struct Api<'a> {
    client: &'a Client,
}

type Param<'a> = (&'a (dyn ToSql + Sync), Type);

const FINISH: &str = "select claim_no, answer
                        from sisyphus.finish_job($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)";
const CLAIM: &str =
    "select kind, run_id, claim_no, starts_in, spec, attempt, job, due_at, expires_at, payload
                       from sisyphus.claim_job($1, $2, $3, $4::text::interval, $5, $6, $7)";
/// One after the other, as an Append does it: the lock order wants the results first.
const FINISH_AND_CLAIM: &str = "
    select 'answer' as kind, run_id, claim_no, null::float8 as starts_in, null::jsonb as spec, null::int as attempt,
           answer as job, null::timestamptz as due_at, null::timestamptz as expires_at, null::jsonb as payload
      from sisyphus.finish_job($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
    union all
    select kind, run_id, claim_no, starts_in, spec, attempt, job, due_at, expires_at, payload
      from sisyphus.claim_job($1, $16, $17, $18::text::interval, $19, $20, $21)";

impl<'a> Api<'a> {
    /// Calls over this session.
    pub fn new(client: &'a Client) -> Self {
        Self { client }
    }

    /// Which server this session is with.
    pub async fn server(&self) -> Result<Server> {
        let rows = self
            .call(
                "select pg_catalog.substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()), 1, 8),
                        pg_catalog.pg_postmaster_start_time()::text, c.system_identifier::text,
                        coalesce(pg_catalog.host(pg_catalog.inet_server_addr()) || ':' || pg_catalog.inet_server_port(),
                                 'local')
                   from pg_catalog.pg_control_system() c",
                &[],
            )
            .await?;
        let row = only(&rows)?;
        Ok(Server {
            timeline: row.try_get(0)?,
            started_at: row.try_get(1)?,
            system_identifier: row.try_get(2)?,
            address: row.try_get(3)?,
        })
    }

    /// The database's clock, microseconds since 1970: as quick an answer as it can give.
    pub async fn now_us(&self) -> Result<i64> {
        let sql = "select (extract(epoch from pg_catalog.clock_timestamp()) * 1000000)::bigint";
        let rows = self.call(sql, &[]).await?;
        Ok(only(&rows)?.try_get(0)?)
    }

    /// Subscribes this session to the wake-ups of a host.
    pub async fn listen(&self, host_id: i64) -> Result<()> {
        let sql = format!("listen sisyphus_host_{host_id}");
        within(self.client.batch_execute(&sql)).await
    }

    /// Tells which tick this host has seen, in case the database was restored from before it.
    pub async fn note_tick(&self, seen: &SeenTick) -> Result<()> {
        self.call(
            "select sisyphus.note_tick($1, pg_catalog.to_timestamp($2::bigint / 1000000.0))",
            &[(&seen.installation, Type::UUID), (&seen.at_us, Type::INT8)],
        )
        .await
        .map(drop)
    }

    /// Makes this guardian the one of its host, and takes over what it holds.
    pub async fn register_guardian(&self, this: &Registration) -> Result<Registered> {
        let rows = self
            .call(
                "select guardian_id, host_id, installation, settings, owned
                   from sisyphus.register_guardian($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
                &[
                    (&this.host, Type::TEXT),
                    (&this.slots, Type::INT4),
                    (&this.labels, Type::JSONB),
                    (&this.pools, Type::TEXT_ARRAY),
                    (&env!("CARGO_PKG_VERSION"), Type::TEXT),
                    (&this.host_key, Type::UUID),
                    (&this.boot_id, Type::TEXT),
                    (&this.keepers, Type::UUID_ARRAY),
                    (&Json(&this.held), Type::JSONB),
                    (&this.periodic, Type::BOOL),
                ],
            )
            .await?;
        let row = only(&rows)?;
        let Json(settings) = row.try_get(3)?;
        let held: Option<Json<Vec<HeldClaim>>> = row.try_get(4)?;
        Ok(Registered {
            guardian_id: row.try_get(0)?,
            host_id: row.try_get(1)?,
            installation: row.try_get(2)?,
            settings,
            held: held.map(|Json(held)| held).unwrap_or_default(),
        })
    }

    /// Claims runs and renews the lease.
    pub async fn claim_job(&self, claim: &Claim) -> Result<Claimed> {
        let ahead = ahead(claim);
        let report = Json(&claim.report);
        let rest = claim_params(claim, &ahead, &report);
        let params = [&[(&claim.guardian_id as _, Type::INT8)], &rest[..]].concat();
        claimed(&self.call(CLAIM, &params).await?)
    }

    /// Reports attempts that ended, and claims, in one transaction: both or neither.
    pub async fn finish_and_claim(
        &self,
        ends: &[Finish],
        claim: &Claim,
    ) -> Result<(Vec<(i64, Answer)>, Claimed)> {
        let ahead = ahead(claim);
        let report = Json(&claim.report);
        let rest = claim_params(claim, &ahead, &report);
        let rows = self.send_ends(FINISH_AND_CLAIM, claim.guardian_id, ends, &rest).await?;
        // The kinds of claim_job() are others.
        let (told, rest) =
            rows.split_at(rows.iter().take_while(|row| matches!(row.try_get(0), Ok("answer"))).count());
        Ok((answers(told, 2, 6)?, claimed(rest)?))
    }

    /// Reports processes that run.
    pub async fn start_job(&self, guardian_id: i64, starts: &[Start]) -> Result<Vec<(i64, Answer)>> {
        let rows = self
            .call(
                "select claim_no, answer from sisyphus.start_job($1, $2, $3, $4, $5)",
                &[
                    (&guardian_id, Type::INT8),
                    (&column(starts, |s| s.run_id), Type::INT8_ARRAY),
                    (&column(starts, |s| s.claim_no), Type::INT8_ARRAY),
                    (&column(starts, |s| s.pid), Type::INT4_ARRAY),
                    (&column(starts, |s| s.started_at), Type::TIMESTAMPTZ_ARRAY),
                ],
            )
            .await?;
        answers(&rows, 0, 1)
    }

    /// Reports attempts that ended.
    pub async fn finish_job(&self, guardian_id: i64, ends: &[Finish]) -> Result<Vec<(i64, Answer)>> {
        let rows = self.send_ends(FINISH, guardian_id, ends, &[]).await?;
        answers(&rows, 0, 1)
    }

    async fn send_ends(
        &self,
        sql: &str,
        guardian_id: i64,
        ends: &[Finish],
        more: &[Param<'_>],
    ) -> Result<Vec<Row>> {
        let own: [Param<'_>; 15] = [
            (&guardian_id, Type::INT8),
            (&column(ends, |e| e.run_id), Type::INT8_ARRAY),
            (&column(ends, |e| e.claim_no), Type::INT8_ARRAY),
            (&column(ends, |e| e.exit_code), Type::INT4_ARRAY),
            (&column(ends, |e| e.signal), Type::INT4_ARRAY),
            (&column(ends, |e| e.ended_by), Type::TEXT_ARRAY),
            (&column(ends, |e| e.reason.as_deref()), Type::TEXT_ARRAY),
            (&column(ends, |e| e.started_at), Type::TIMESTAMPTZ_ARRAY),
            (&column(ends, |e| e.finished_at), Type::TIMESTAMPTZ_ARRAY),
            (&column(ends, |e| e.stdout.as_deref()), Type::TEXT_ARRAY),
            (&column(ends, |e| e.stderr.as_deref()), Type::TEXT_ARRAY),
            (&column(ends, |e| e.result.as_deref().map(Json)), Type::JSONB_ARRAY),
            (&column(ends, |e| e.cpu_user), Type::FLOAT8_ARRAY),
            (&column(ends, |e| e.cpu_system), Type::FLOAT8_ARRAY),
            (&column(ends, |e| e.peak_memory), Type::INT8_ARRAY),
        ];
        self.call(sql, &[&own, more].concat()).await
    }

    /// Gives claims back that were not started.
    pub async fn release_job(
        &self,
        guardian_id: i64,
        claims: &[(i64, i64)],
        reason: &str,
    ) -> Result<Vec<(i64, Answer)>> {
        let rows = self
            .call(
                "select claim_no, answer from sisyphus.release_job($1, $2, $3, $4)",
                &[
                    (&guardian_id, Type::INT8),
                    (&column(claims, |c| c.0), Type::INT8_ARRAY),
                    (&column(claims, |c| c.1), Type::INT8_ARRAY),
                    (&reason, Type::TEXT),
                ],
            )
            .await?;
        answers(&rows, 0, 1)
    }

    /// Says that this guardian leaves; its host is then `stopped`.
    pub async fn sign_off(&self, guardian_id: i64) -> Result<()> {
        self.call("select sisyphus.sign_off($1)", &[(&guardian_id, Type::INT8)]).await.map(drop)
    }

    /// One pass of the planner. Returns the seconds until the next one has something to do; below 0: it has already.
    pub async fn tick(&self, seen_tick_us: Option<i64>) -> Result<f64> {
        let rows = self
            .call(
                // The clock is read after the tick, as an argument behind it.
                "select extract(epoch from sisyphus.tick(pg_catalog.to_timestamp($1::bigint / 1000000.0))
                                           - pg_catalog.clock_timestamp())::float8",
                &[(&seen_tick_us, Type::INT8)],
            )
            .await?;
        Ok(only(&rows)?.try_get(0)?)
    }

    /// Drops partitions of the history whose time is over.
    pub async fn maintain(&self) -> Result<()> {
        self.call("select sisyphus.maintain()", &[]).await.map(drop)
    }

    async fn call(&self, sql: &str, params: &[Param<'_>]) -> Result<Vec<Row>> {
        within(self.client.query_typed(sql, params)).await
    }
}

/// Bounds a call. After a timeout the session is of no more use, which [`ErrorKind::Unreachable`] says.
async fn within<T>(call: impl Future<Output = Result<T, tokio_postgres::Error>>) -> Result<T> {
    match timeout(CALL_TIMEOUT, call).await {
        Ok(answer) => Ok(answer?),
        Err(elapsed) => Err(Error::new(
            ErrorKind::Unreachable,
            format!("the database did not answer within {CALL_TIMEOUT:?}"),
        )
        .source(elapsed)),
    }
}

fn column<'a, T, V>(rows: &'a [T], value: impl Fn(&'a T) -> V) -> Vec<V> {
    rows.iter().map(value).collect()
}

fn only(rows: &[Row]) -> Result<&Row> {
    rows.first().ok_or_else(|| strange("a function that returns one row returned none"))
}

fn strange(what: impl Into<String>) -> Error {
    Error::new(ErrorKind::Schema, what)
        .hint("the schema is of another version than this program: run `sisyphus migrate`")
}

/// What the job's definition says, completed with what is the run's own: all that a keeper needs.
fn claimed_run(row: &Row, output_limit: i64) -> Result<ClaimedRun> {
    let (run_id, claim_no): (i64, i64) = (row.try_get(1)?, row.try_get(2)?);
    let Json(mut spec): Json<BTreeMap<String, Box<RawValue>>> = row.try_get(4)?;
    spec.entry("output_limit".to_owned()).or_insert(raw(&output_limit)?);
    let micros = |at: DateTime<Utc>| at.timestamp_micros();
    let own = [
        ("run_id", Some(raw(&run_id)?)),
        ("claim_no", Some(raw(&claim_no)?)),
        ("attempt", Some(raw(&row.try_get::<_, i32>(5)?)?)),
        ("job", Some(raw(row.try_get::<_, &str>(6)?)?)),
        ("due_us", Some(raw(&micros(row.try_get(7)?))?)),
        ("expires_us", row.try_get::<_, Option<_>>(8)?.map(|at| raw(&micros(at))).transpose()?),
        ("payload", row.try_get::<_, Option<Json<_>>>(9)?.map(|Json(payload)| payload)),
    ];
    spec.extend(own.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
    Ok(ClaimedRun { run_id, claim_no, starts_in: row.try_get(3)?, spec: raw(&spec)? })
}

fn raw<T: Serialize + ?Sized>(value: &T) -> Result<Box<RawValue>> {
    to_raw_value(value).map_err(|err| strange(format!("a run that is no JSON: {err}")))
}

fn run_request(row: &Row) -> Result<RunRequest> {
    #[derive(Deserialize)]
    struct Wish {
        request_id: i64,
        action: RequestedAction,
        reason: Option<String>,
    }
    let Json(wish): Json<Wish> = row.try_get(4)?;
    Ok(RunRequest {
        request_id: wish.request_id,
        run_id: row.try_get(1)?,
        claim_no: row.try_get(2)?,
        action: wish.action,
        reason: wish.reason.unwrap_or_default(),
    })
}

/// What a claim says after the guardian.
fn claim_params<'a>(claim: &'a Claim, ahead: &'a String, report: &'a Json<&Report>) -> [Param<'a>; 6] {
    [
        (&claim.max_runs, Type::INT4),
        (&claim.slots_free, Type::INT4),
        (ahead, Type::TEXT),
        (&claim.holding, Type::INT8_ARRAY),
        (&claim.acknowledged, Type::INT8_ARRAY),
        (report, Type::JSONB),
    ]
}

fn ahead(claim: &Claim) -> String {
    format!("{} microseconds", claim.ahead.as_micros())
}

/// Requests in the order in which they were made.
fn claimed(rows: &[Row]) -> Result<Claimed> {
    // Last comes what holds for the whole answer.
    let Some((next, rows)) = rows.split_last() else { return Err(strange("claim_job() answered nothing")) };
    let mut claimed = Claimed { next_in: next.try_get(3)?, ..Claimed::default() };
    Json(claimed.next) = next.try_get(4)?;
    for row in rows {
        match row.try_get(0)? {
            "run" => claimed.runs.push(claimed_run(row, claimed.next.output_limit)?),
            "request" => claimed.requests.push(run_request(row)?),
            kind => return Err(strange(format!("claim_job() answered with a row of kind {kind:?}"))),
        }
    }
    Ok(claimed)
}

/// From the columns at these places.
fn answers(rows: &[Row], claim_no: usize, answer: usize) -> Result<Vec<(i64, Answer)>> {
    rows.iter()
        .map(|row| {
            let said = match row.try_get(answer)? {
                "accepted" => Answer::Accepted,
                "already" => Answer::Already,
                "superseded" => Answer::Superseded,
                "refused" => Answer::Refused,
                "busy" => Answer::Busy,
                word => return Err(strange(format!("the database answered {word:?}"))),
            };
            Ok((row.try_get(claim_no)?, said))
        })
        .collect()
}
