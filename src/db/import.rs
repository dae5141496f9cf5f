//! What other schedulers keep in their tables, in the words of schedule(): for each job the place of its row, its
//! name, why it cannot be taken over, and the arguments. docs/migration.md has the same as SQL for people.

use super::client::{Rows, Session};
use crate::error::{Error, ErrorKind, Result};

/// Another scheduler.
#[derive(Debug, Clone, Copy)]
pub struct Scheduler {
    /// Its name, and the tag of the jobs that come from it.
    pub name: &'static str,
    /// The table by which a database is known to hold it.
    table: &'static str,
    query: &'static str,
}

/// `$` is its last day of the month. In a connection string a value that is no plain word is quoted.
pub const PG_CRON: Scheduler = Scheduler {
    name: "pg_cron",
    table: "cron.job",
    query: r"
    select 'cron.job ' || j.jobid as place, coalesce(j.jobname, 'cron-' || j.jobid) as name,
           case when not j.active then 'it is not active'
                when j.schedule = '@reboot' then '@reboot is no time' end as left_out,
           json_build_object(
               'schedule', case when j.schedule ~ '^\d+ seconds?$' then 'every ' || j.schedule
                                else replace(j.schedule, '$', 'L') end,
               'timezone', coalesce(current_setting('cron.timezone', true), 'GMT'),
               'argv', json_build_array('psql', '-X', '-v', 'ON_ERROR_STOP=1', '-d', c.connection, '-c', j.command),
               'overlap', 'queue', 'missed', 'none', 'description', 'from pg_cron, job ' || j.jobid) as arguments
      from cron.job j
     cross join lateral (
            select string_agg(p.key || '=' || case when p.value ~ '^[\w./-]+$' then p.value
                       else '''' || replace(replace(p.value, '\', '\\'), '''', '\''') || '''' end, ' ' order by p.n) as connection
              from (values (1, 'host', coalesce(nullif(j.nodename, ''), 'localhost')), (2, 'port', j.nodeport::text),
                           (3, 'dbname', j.database), (4, 'user', j.username::text)) p (n, key, value)
             where p.value is not null) c
     order by j.jobid",
};

/// Of its arrays of booleans none set means any; the 32nd day of a month is the last.
pub const PGAGENT: Scheduler = Scheduler {
    name: "pgagent",
    table: "pgagent.pga_schedule",
    query: r"
    select coalesce('pgagent.pga_schedule ' || s.jscid, 'pgagent.pga_job ' || j.jobid) as place,
           j.jobname || case when count(*) over (partition by j.jobid) > 1 then '/' || s.jscname else '' end as name,
           case when not j.jobenabled then 'its job is not enabled'
                when s.jscid is null then 'it has no schedule'
                when not s.jscenabled then 'it is not enabled'
                when s.jscend <= now() then 'it has ended'
                when p.command is null then 'its job has no enabled step'
                when c.fields[3] <> '*' and c.fields[5] <> '*'
                then 'days of the month and of the week had both to match there, either may here'
                when exists (select from pgagent.pga_exception x where x.jexscid = s.jscid)
                then 'it has exceptions, which become a calendar for except_on' end as left_out,
           json_build_object('schedule', array_to_string(c.fields, ' '), 'command', p.command,
                             'timezone', current_setting('TimeZone'), 'starts_at', s.jscstart, 'ends_at', s.jscend,
                             'description', nullif(j.jobdesc, '')) as arguments
      from pgagent.pga_job j
      left join pgagent.pga_schedule s on s.jscjobid = j.jobid
     cross join lateral (
            select array_agg(f.field order by f.n) as fields
              from (select a.n, coalesce(string_agg(case when a.n = 3 and v.i = 32 then 'L' else (v.i - a.base)::text end, ','
                                                    order by v.i)
                                         filter (where v.chosen and not (true = all (a.chosen))), '*') as field
                      from (values (1, s.jscminutes, 1), (2, s.jschours, 1), (3, s.jscmonthdays, 0), (4, s.jscmonths, 0),
                                   (5, s.jscweekdays, 1)) a (n, chosen, base)
                     cross join unnest(a.chosen) with ordinality v (chosen, i)
                     group by a.n) f) c
      left join lateral (
            select string_agg(
                       case t.jstkind when 'b' then format('( %s )', t.jstcode)
                            else format('psql -X -v ON_ERROR_STOP=1 -d %s -c %s', q.database, q.code) end
                       || case when t.jstonerror = 'f' then ' || exit' else ' || true' end,
                       E'\n' order by t.jstname, t.jstid) as command
              from pgagent.pga_jobstep t
             cross join lateral (
                    select '''' || replace(coalesce(nullif(t.jstconnstr, ''), 'dbname=' || t.jstdbname), '''', '''\''''') || '''' as database,
                           '''' || replace(t.jstcode, '''', '''\''''') || '''' as code) q
             where t.jstenabled and t.jstjobid = j.jobid) p on true
     order by j.jobid, s.jscid",
};

/// A chain is taken over when it is one task, with one row of parameters at most.
pub const PG_TIMETABLE: Scheduler = Scheduler {
    name: "pg_timetable",
    table: "timetable.chain",
    query: r"
    select 'timetable.chain ' || c.chain_id as place, c.chain_name as name,
           case when not c.live then 'it is not live'
                when c.self_destruct then 'it runs once and goes: submit() does that'
                when c.run_at = '@reboot' then '@reboot is no time'
                when n.tasks <> 1 then format('it has %s tasks: make one script of them', n.tasks)
                when t.kind = 'BUILTIN' then 'its task is built in there'
                when n.parameters > 1 or n.parameters > 0 and t.kind = 'SQL' then 'of its parameters only one row of a program is taken'
                when c.run_at ~ '^\S+ \S+ [^*\s]\S* \S+ [^*\s]'
                then 'days of the month and of the week had both to match there, either may here' end as left_out,
           json_build_object(
               'schedule', coalesce(regexp_replace(c.run_at, '^@(every|after)', 'every'), '* * * * *'),
               'timezone', current_setting('TimeZone'),
               'argv', case when t.kind = 'SQL'
                            then json_build_array('psql', '-X', '-v', 'ON_ERROR_STOP=1', '-d',
                                     coalesce(nullif(t.database_connection, ''), 'dbname=' || current_database()), '-c', t.command)
                            else array_to_json(array[t.command] || array(select jsonb_array_elements_text(t.value))) end,
               'overlap', case when c.max_instances = 1 or c.run_at ~ '^@after' then 'skip' else 'allow' end,
               'missed', 'none', 'max_runtime', nullif(c.timeout, 0) * interval '1 ms') as arguments
      from timetable.chain c
     cross join lateral (
            select count(distinct k.task_id) as tasks, count(p.value) as parameters
              from timetable.task k left join timetable.parameter p on p.task_id = k.task_id
             where k.chain_id = c.chain_id) n
      left join lateral (
            select k.kind::text as kind, k.command, k.database_connection, p.value
              from timetable.task k left join timetable.parameter p on p.task_id = k.task_id
             where k.chain_id = c.chain_id
             limit 1) t on true
     order by c.chain_id",
};

impl Session {
    /// The jobs of another scheduler in this database, as far as this login may see them.
    pub async fn jobs_of(&self, scheduler: &Scheduler) -> Result<Rows> {
        let hint = format!("the login must be allowed to read the tables of {}", scheduler.name);
        self.read_jobs_of(scheduler).await.map_err(|error| error.hint_if_denied(&hint))
    }

    async fn read_jobs_of(&self, scheduler: &Scheduler) -> Result<Rows> {
        let Scheduler { name, table, query } = scheduler;
        if self.rows("select where to_regclass($1) is not null", &[table]).await?.objects.is_empty() {
            let message = format!("there is no table {table} in that database");
            return Err(Error::new(ErrorKind::Failed, message)
                .hint(format!("--from names the database that {name} lives in")));
        }
        self.rows(query, &[]).await
    }
}
