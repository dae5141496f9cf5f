//! `make chaos`, and its short form.

use std::{
    collections::BTreeMap,
    env, fs,
    time::{Duration, Instant},
};

use tokio_postgres::Client;

use super::{
    changes,
    checker::{Report, check},
    driver::Driver,
    fleet_jobs::{AHEAD, JOBS, LEASE, definition, history, hurry},
    machine::Machine,
    records::{Books, Job, Process, SECOND, now},
    servers::Servers,
    stalls::Stalls,
    standing::{Change, Rhythm, What},
    witness::{self, Witness},
};
use crate::support::{self, folder, wait_until, wait_until_still};

const HOSTS: [&str; 4] = ["web1", "web2", "web3", "web4"];
/// For what runs to end and what waits to be delivered.
const SETTLED: Duration = Duration::from_secs(120);
/// The short form: as long as every kind of fault takes to come once. Jobs change in the long one alone: to find what that
/// breaks takes minutes.
const SHORT: u64 = 30;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whatever_breaks_each_occurrence_has_one_end_and_each_result_is_the_true_one() {
    let from_env = |name: &str| env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let seed = from_env("SISYPHUS_CHAOS_SEED").unwrap_or_else(|| fastrand::u64(..1_000_000));
    let seconds = from_env("SISYPHUS_CHAOS_MINUTES").map_or(SHORT, |minutes| minutes * 60);
    eprintln!("replay with SISYPHUS_CHAOS_SEED={seed}");
    let begun = Instant::now();
    let home = folder();
    let witness = Witness::in_folder(home.path());
    let mut driver = fleet(seed).await;
    let stalls = Stalls::watch();
    let span = schedule_all(&mut driver, &witness, i64::try_from(seconds).unwrap()).await;
    let set_up = begun.elapsed();
    driver.changes_jobs = seconds > SHORT;
    driver.run_until(span.1).await;
    driver.heal();
    let mended_at = now();
    driver.resume_all().await;
    let healed = begun.elapsed();
    settle(&driver, home.path(), mended_at).await;
    older_keepers_leave(&driver).await;
    driver.stop();
    let (processes, odd) = witness::read(&witness.text());
    let stalls = stalls.end();
    let books = Books { stalls, ..books(&driver, span, processes).await };
    let report = check(&books);
    eprintln!("set up in {set_up:?}, healed after {healed:?}, settled after {:?}", begun.elapsed());
    print(&books, &report);
    eprintln!("{:55} {:8}", "seen with an older keeper beside the newest", driver.side_by_side);
    let all_well = report.violations.is_empty() && odd.is_empty() && driver.ended.is_empty();
    assert!(all_well, "SISYPHUS_CHAOS_SEED={seed}\n{:#?}\n{odd:#?}\n{:#?}", report.violations, driver.ended);
}

/// Two servers, and all hosts at work.
async fn fleet(seed: u64) -> Driver {
    let servers = Servers::start().await;
    let mut machines = Vec::new();
    for name in HOSTS {
        machines.push(Machine::new(name, servers.ports()).await);
    }
    let client = support::connect(&servers.url()).await;
    hurry(&client).await;
    machines.iter_mut().for_each(Machine::start);
    let sql = "select count(*) from sisyphus.fleet where state = 'active'";
    wait_until("all hosts are there", SETTLED, async || {
        let count: i64 = client.query_one(sql, &[]).await.unwrap().get(0);
        if count == HOSTS.len() as i64 { Ok(()) } else { Err(count.to_string()) }
    })
    .await;
    Driver::new(seed, machines, servers)
}

/// All jobs, due from in a moment on for so many seconds. A machine that is too slow for that moment gets a later one.
async fn schedule_all(driver: &mut Driver, witness: &Witness, seconds: i64) -> (i64, i64) {
    let client = support::connect(&driver.servers.url()).await;
    changes::make_notes(&client).await;
    for lead in (2..).map(|power| 1 << power) {
        let first = (now() / SECOND + lead) * SECOND;
        let span = (first, first + seconds * SECOND);
        client.batch_execute("begin").await.unwrap();
        driver.changes.clear();
        for job in &JOBS {
            schedule(driver, &client, job, definition(job, witness, span)).await;
        }
        if now() < first {
            client.batch_execute("commit").await.unwrap();
            let answered = Some(now());
            driver.changes.iter_mut().for_each(|change| change.answered = answered);
            return span;
        }
        client.batch_execute("rollback").await.unwrap();
    }
    unreachable!("some moment is late enough")
}

async fn schedule(driver: &mut Driver, client: &Client, job: &'static Job, text: String) {
    let rhythm = job.period.map(|period| Rhythm { period, phase: 0 });
    let asked = now();
    changes::schedule(client, job, rhythm, &text).await;
    driver.definitions.insert(job.name, text);
    if let (Some(rhythm), true) = (rhythm, job.changing) {
        let what = What::Schedule(rhythm);
        driver.changes.push(Change { job: job.name, number: 0, what, asked, answered: None, kept: true });
    }
}

async fn books(driver: &Driver, span: (i64, i64), processes: Vec<Process>) -> Books {
    let client = support::connect(&driver.servers.url()).await;
    let live = client.query("select run_id from sisyphus.run", &[]).await.unwrap();
    Books {
        jobs: JOBS.to_vec(),
        hosts: HOSTS.map(str::to_owned).to_vec(),
        span,
        lease: LEASE * SECOND,
        claim_ahead: AHEAD[0] * SECOND,
        plan_ahead: AHEAD[1] * SECOND,
        rows: history(&client).await,
        live: live.iter().map(|row| row.get(0)).collect(),
        processes,
        faults: driver.faults.clone(),
        calls: driver.calls.clone(),
        changes: changes::kept(&client, &driver.changes).await,
        ..Books::default()
    }
}

/// Waits until no run is live, no occurrence is to come, no process of a job is left, and every host has been heard of
/// since this moment: what it ends up delivering is in the history, and its connections are none of those that nothing
/// mends. A guardian that is told to end before it has noticed those may leave without having told everything.
async fn settle(driver: &Driver, home: &std::path::Path, mended_at: i64) {
    let program = home.join("job.sh").to_str().unwrap().to_owned();
    let sql = format!(
        "select coalesce((select string_agg(format('%s of %s %s %s', r.run_id, j.name, r.state, r.reason), '; ')
                                  from sisyphus.run r left join sisyphus.job j using (job_id)), '')
                      || coalesce((select string_agg(format('job %s is due %s', job_id, next_due_at), '; ')
                                     from sisyphus.job_state where next_due_at < 'infinity'), '')
                      || coalesce((select string_agg(format('host %s is away', h.name), '; ')
                                     from sisyphus.host h
                                    where not exists (select from sisyphus.guardian g
                                                       where g.host_id = h.host_id and g.ended_at is null
                                                         and g.seen_at > to_timestamp({mended_at} / 1e6)
                                                         and g.lease_until > clock_timestamp())), '')"
    );
    wait_until("the world settles", SETTLED, async || {
        let Some(client) = driver.servers.reach().await else { return Err("nobody answers".to_owned()) };
        let left = match client.query_one(&sql, &[]).await {
            Ok(row) => row.get::<_, String>(0),
            Err(err) => format!("{err:?}"),
        };
        let alive = processes_of(&program);
        if left.is_empty() && alive == 0 { Ok(()) } else { Err(format!("{alive} processes, {left}")) }
    })
    .await;
    // They deliver what they have as soon as they have registered.
    let client = support::connect(&driver.servers.url()).await;
    let told =
        "select format('%s %s', count(*), count(*) filter (where state = 'lost')) from sisyphus.attempt";
    wait_until_still("nothing more is delivered", SETTLED, async || -> String {
        client.query_one(told, &[]).await.unwrap().get(0)
    })
    .await;
}

/// A keeper that is not the newest any more leaves once all it had is delivered.
async fn older_keepers_leave(driver: &Driver) {
    wait_until("one keeper is left on each host", SETTLED, async || {
        let older = driver.machines.iter().filter(|machine| machine.has_older_keepers());
        let older: Vec<_> = older.map(|machine| (machine.name(), machine.host.keepers())).collect();
        if older.is_empty() { Ok(()) } else { Err(format!("{older:?}")) }
    })
    .await;
}

fn processes_of(program: &str) -> usize {
    let of_job = |entry: &fs::DirEntry| {
        fs::read(entry.path().join("cmdline"))
            .is_ok_and(|line| line.windows(program.len()).any(|window| window == program.as_bytes()))
    };
    fs::read_dir("/proc").unwrap().flatten().filter(of_job).count()
}

/// The counts, as a table.
fn print(books: &Books, report: &Report) {
    let mut table: Vec<(String, usize)> = Vec::new();
    let occurrences: i64 = books
        .rows
        .iter()
        .filter(|row| row.is_final && row.origin == "schedule")
        .map(|row| row.occurrences)
        .sum();
    let runs = books.rows.iter().filter(|row| row.is_final && row.last_due.is_none()).count();
    table.push(("occurrences".to_owned(), usize::try_from(occurrences).unwrap_or_default()));
    table.push(("runs".to_owned(), runs));
    table.push(("attempts".to_owned(), books.rows.iter().filter(|row| row.attempt > 0).count()));
    table.push(("processes begun".to_owned(), books.processes.len()));
    table.push(("processes ended".to_owned(), books.processes.iter().filter(|p| p.ended.is_some()).count()));
    table.push(("calls".to_owned(), books.calls.len()));
    table.push(("changes of jobs".to_owned(), books.changes.len()));
    let sure = books.changes.iter().filter(|change| change.answered.is_some() && change.kept).count();
    table.push(("changes acknowledged and kept".to_owned(), sure));
    let states = counted(books.rows.iter().map(|row| row.state.clone()));
    table.extend(states.into_iter().map(|(name, count)| (format!("state {name}"), count)));
    let late = books.rows.iter().filter(|row| row.reason.contains("reported late")).count();
    table.push(("corrected by a late result".to_owned(), late));
    let beside = books.rows.iter().filter(|row| row.late_exit_code.is_some()).count();
    table.push(("late result kept beside".to_owned(), beside));
    table.push(("faults".to_owned(), books.faults.len()));
    let faults = counted(books.faults.iter().map(|fault| format!("fault {:?}", fault.kind)));
    table.extend(faults);
    table.extend(report.excused.iter().map(|(name, count)| (format!("excused: {name}"), *count)));
    table.extend(report.checks.iter().map(|(name, count)| (format!("checked: {name}"), *count)));
    table.push(("violations".to_owned(), report.violations.len()));
    for (name, count) in table {
        eprintln!("{name:55} {count:8}");
    }
}

fn counted(names: impl Iterator<Item = String>) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for name in names {
        *counts.entry(name).or_default() += 1;
    }
    counts
}
