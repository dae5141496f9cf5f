"""The SQL of docs/migration.md, run against tables as the other schedulers have them."""

from __future__ import annotations

import re

import pytest
from database import SQL

from sisyphus import Client

GUIDE = (SQL.parent / "docs" / "migration.md").read_text()
BLOCKS = re.findall(r"^```sql ?(\w*)\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)

PG_CRON = """
create schema cron;
create table cron.job (jobid bigint, schedule text, command text, nodename text, nodeport integer, database text,
                       username text, active boolean, jobname text);
insert into cron.job values
    (1, '30 3 * * 6', 'delete from events', 'localhost', 5432, 'shop', 'shop', true, null),
    (2, '30 seconds', 'call refresh()', 'localhost', 5432, 'shop', 'shop', true, 'refresh'),
    (3, '0 12 $ * *', 'call payroll()', '', 5432, 'shop', 'shop', true, 'payroll'),
    (4, '* * * * *', 'select 1', 'localhost', 5432, 'shop', 'shop', false, 'off'),
    (5, '@reboot', 'select 1', 'localhost', 5432, 'shop', 'shop', true, 'boot');
"""

PGAGENT = """
create schema pgagent;
create table pgagent.pga_job (jobid integer, jobname text, jobdesc text, jobhostagent text, jobenabled boolean);
create table pgagent.pga_jobstep (jstid integer, jstjobid integer, jstname text, jstenabled boolean, jstkind char,
                                  jstcode text, jstconnstr text, jstdbname text, jstonerror char);
create table pgagent.pga_schedule (jscid integer primary key, jscjobid integer, jscname text, jscenabled boolean,
    jscstart timestamptz, jscend timestamptz, jscminutes bool[], jschours bool[], jscweekdays bool[],
    jscmonthdays bool[], jscmonths bool[]);
create table pgagent.pga_exception (jexid integer, jexscid integer, jexdate date, jextime time);
create function pg_temp.chosen(n integer, variadic ones integer[]) returns bool[] language sql as
    'select array(select i = any (ones) from generate_series(1, n) i order by i)';
insert into pgagent.pga_job values (1, 'nightly', 'all of it', '', true), (2, 'often', '', '', true),
                                   (3, 'first monday', '', '', true), (4, 'off', '', '', false);
insert into pgagent.pga_jobstep values
    (1, 1, 'a', true, 's', 'select ''it''''s''', '', 'shop', 'f'), (2, 1, 'b', true, 'b', 'rm -f /tmp/x', '', '', 'i'),
    (3, 2, 'a', true, 'b', 'true', '', '', 'f'), (4, 3, 'a', true, 'b', 'true', '', '', 'f');
insert into pgagent.pga_schedule
select n, job, 's' || n, true, now() - interval '1 day', null, pg_temp.chosen(60, variadic minutes),
       pg_temp.chosen(24, variadic hours), pg_temp.chosen(7, variadic weekdays), pg_temp.chosen(32, variadic days),
       pg_temp.chosen(12, variadic months)
  from (values (1, 1, array[31], array[3], '{0}'::int[], array[1, 32], '{0}'::int[]),
               (2, 2, '{0}', '{0}', '{0}', '{0}', '{0}'),
               (3, 2, array[1], array[13], array[2, 6], '{0}', array[1, 7]),
               (4, 3, array[1], array[1], array[2], array[1, 2, 3, 4, 5, 6, 7], '{0}'))
       s (n, job, minutes, hours, weekdays, days, months);
"""

PG_TIMETABLE = """
create schema timetable;
create table timetable.chain (chain_id bigint, chain_name text, run_at text, max_instances integer, timeout integer,
                              live boolean, self_destruct boolean, client_name text);
create table timetable.task (task_id bigint, chain_id bigint, kind text, command text, database_connection text);
create table timetable.parameter (task_id bigint, order_id integer, value jsonb);
insert into timetable.chain values
    (1, 'dump', '0 2 * * *', 1, 60000, true, false, null), (2, 'sync', '@every 5 minutes', null, 0, true, null, null),
    (3, 'sql', null, null, null, true, null, null), (4, 'both', '0 7 1-7 * 1', 1, 0, true, null, null),
    (5, 'off', '* * * * *', 1, 0, false, null, null), (6, 'two', '* * * * *', 1, 0, true, null, null);
insert into timetable.task values
    (1, 1, 'PROGRAM', 'pg_dump', null), (2, 2, 'PROGRAM', '/opt/sync', null), (3, 3, 'SQL', 'select 1', null),
    (4, 4, 'SQL', 'select 1', null), (5, 5, 'SQL', 'select 1', null), (6, 6, 'SQL', 'select 1', null),
    (7, 6, 'SQL', 'select 2', null);
insert into timetable.parameter values (1, 1, '["-d", "shop"]');
"""


def run(client: Client, scheduler: str) -> dict[str, str | None]:
    """Runs the blocks of a scheduler; the schedules of the jobs that they made."""
    for name, block in BLOCKS:
        if name == scheduler:
            client.connection.execute(block)
    return {job.job: job.schedule for job in client.definitions()}


def test_every_block_belongs_to_a_test() -> None:
    assert {name for name, _ in BLOCKS} == {"", "pg_cron", "pgagent", "pg_timetable"}


def test_the_examples_run(client: Client) -> None:
    assert run(client, "") == {
        "report": "0 7 * * 1-5",
        "sync": "*/15 6-22 * * 1-5",
        "vacuum-orders": "30 3 * * *",
    }
    assert {job.state for job in client.overview()} == {"active"}


def test_the_special_days_are_what_the_guide_says(client: Client) -> None:
    (block,) = (block for name, block in BLOCKS if "MON#1" in block)
    assert client.connection.execute(block).fetchone() == (True, True, True)


def test_pg_cron_is_taken_over(client: Client) -> None:
    client.connection.execute(PG_CRON)
    assert run(client, "pg_cron") == {"cron-1": "30 3 * * 6", "refresh": "every 30 seconds", "payroll": "0 12 L * *"}
    (job,) = client.definitions(job="payroll")
    assert (job.timezone, job.overlap, job.missed) == ("GMT", "queue", "none")
    assert job.argv is not None
    assert job.argv[-3:] == ["host=localhost port=5432 dbname=shop user=shop", "-c", "call payroll()"]


def test_pgagent_is_taken_over(client: Client) -> None:
    client.connection.execute(PGAGENT)
    jobs = run(client, "pgagent")
    assert jobs == {"nightly": "30 2 1,L * *", "often/s2": "* * * * *", "often/s3": "0 12 * 1,7 1,5"}
    (job,) = client.definitions(job="nightly")
    assert job.description == "all of it"
    assert job.command == (
        "psql -X -v ON_ERROR_STOP=1 -d 'dbname=shop' -c 'select '\\''it'\\'''\\''s'\\''' || exit\n"
        "( rm -f /tmp/x ) || true"
    )


def test_pg_timetable_is_taken_over(client: Client) -> None:
    client.connection.execute(PG_TIMETABLE)
    assert run(client, "pg_timetable") == {"dump": "0 2 * * *", "sync": "every 5 minutes", "sql": "* * * * *"}
    (job,) = client.definitions(job="dump")
    assert (job.argv, job.overlap) == (["pg_dump", "-d", "shop"], "skip")
    assert job.max_runtime is not None
    assert job.max_runtime.total_seconds() == 60


@pytest.mark.parametrize("line", re.findall(r"schedule\('sync', .*?'\)", GUIDE)[:1])
def test_the_one_line_example_runs(client: Client, line: str) -> None:
    client.connection.execute(f"select sisyphus.{line}")
    assert client.definitions(job="sync")[0].command == "/opt/sync"
