-- The jobs of `sisyphus dev --demo`: what a crontab does, and what it cannot. They work in demo.scratch with
-- the programs on demo.path; the demo sets both.

-- A backup of this very database.
select sisyphus.schedule('backup', 'every 8 seconds',
    'pg_dump --format=custom --file=demo.dump && ls -l demo.dump',
    cwd => current_setting('demo.scratch'),
    env => jsonb_build_object('PATH', current_setting('demo.path'), 'PGHOST', current_setting('demo.socket'),
                              'PGUSER', current_user, 'PGDATABASE', current_database()),
    max_runtime => '20 s', description => 'pg_dump of the demo database');

-- On every host, with a result that SQL can ask for: select host, result from sisyphus.history.
select sisyphus.schedule('disk-space', 'every 5 seconds', $$
    df -P -k . | awk 'NR == 2 { printf "{\"used_kb\": %d, \"free_kb\": %d}\n", $3, $4 }' > "$SISYPHUS_RESULT_FILE"
    df -h .
$$,
    cwd => current_setting('demo.scratch'), run_on => 'all', description => 'df on each host');

select sisyphus.schedule('rotate-logs', 'every 3 seconds', $$
    date >> app.log
    [ $(wc -l < app.log) -ge 3 ] || exit 0
    mv app.log app.log.1 && gzip -f app.log.1 && echo "rotated by $SISYPHUS_HOST"
$$,
    cwd => current_setting('demo.scratch'), description => 'starts a new log after three lines');

-- Fails twice and is tried again, 1 and then 2 seconds later. On demand only: it has no schedule.
select sisyphus.schedule('upload', null, $$
    [ $SISYPHUS_ATTEMPT -ge 3 ] || { echo "connection refused" >&2; exit 75; }
    echo "uploaded $SISYPHUS_PAYLOAD"
$$,
    retries => 3, retry_delay => '1 s', description => 'the other side answers the third time');
select sisyphus.run_now('upload', payload => '{"file": "report.pdf"}');

-- Does not listen to TERM: after max_runtime and grace it is killed, with all its children.
select sisyphus.schedule('runaway', null, 'trap "" TERM; echo "busy"; while :; do sleep 1; done',
    max_runtime => '3 s', grace => '1 s', description => 'runs too long and is stopped');
select sisyphus.run_now('runaway');

-- Takes longer than its interval: the occurrences in between are skipped, and recorded as skipped.
select sisyphus.schedule('mirror', 'every 3 seconds', 'sleep 4; echo "mirrored"',
    overlap => 'skip', description => 'slower than its schedule');

-- Nobody is there to run it: after its ttl it is recorded as expired, not started late.
select sisyphus.create_pool('gpu', hosts => '{gpu1}', description => 'machines that are switched off');
select sisyphus.schedule('training', 'every 10 seconds', 'echo "never"', pool => 'gpu', ttl => '5 s',
    description => 'its pool has no host');

-- Ended by a person while it runs.
select sisyphus.schedule('import', null, 'echo "importing"; sleep 300', description => 'terminated half way');
select sisyphus.run_now('import');

select sisyphus.schedule('nightly-report', '30 3 * * mon-fri', 'echo "good morning"', timezone => 'Europe/Berlin',
    description => 'not due today: see sisyphus.upcoming');
