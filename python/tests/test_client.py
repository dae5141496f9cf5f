from __future__ import annotations

import logging
from datetime import date, datetime, timedelta, timezone

import pytest
from guardian import Guardian
from psycopg.types.json import Jsonb

import sisyphus
from sisyphus import Client

UTC = timezone.utc


def spec_of(client: Client, guardian: Guardian, name: str) -> dict[str, object]:
    client.run_now(name)
    (claim,) = guardian.claim()
    return claim.spec


def test_a_job_is_scheduled_with_every_kind_of_option(client: Client) -> None:
    client.create_pool("web", hosts=["web1"], description="front")
    job_id = client.schedule(
        "report",
        "0 7 * * 1-5",
        argv=["/bin/report", "--all"],
        timezone="Europe/Amsterdam",
        pool="web",
        ttl=timedelta(minutes=10),
        max_runtime="1 hour",
        retries=2,
        retry_backoff=1.5,
        success_exit_codes=[0, 3],
        no_retry_exit_codes=[],
        priority=-3,
        starts_at=datetime(2030, 1, 1, tzinfo=UTC),
        payload={"list": [1, None, "ü"]},
        env={"LANG": "C"},
        tags=["daily"],
    )
    assert job_id > 0
    (job,) = client.overview()
    assert (job.job, job.state, job.schedule, job.pool) == ("report", "active", "0 7 * * 1-5", "web")
    assert job.next_due_at is None or job.next_due_at.tzinfo is not None


def test_scheduling_again_keeps_the_number_and_resets_what_is_not_given(client: Client) -> None:
    first = client.schedule("a", "@daily", "true", priority=3, description="old")
    assert client.schedule("a", "@hourly", "true") == first
    assert client.overview()[0].schedule == "@hourly"


def test_alter_job_changes_what_is_given_alone(client: Client, guardian: Guardian) -> None:
    client.schedule("a", None, "true", max_runtime="1 min", cwd="/tmp")
    client.alter_job("a", command="false")
    spec = spec_of(client, guardian, "a")
    assert (spec["command"], spec["max_runtime"], spec["cwd"]) == ("false", 60, "/tmp")


def test_alter_job_takes_none_as_back_to_the_default(client: Client, guardian: Guardian) -> None:
    client.schedule("a", None, "true", max_runtime="1 min", cwd="/tmp", grace="1 min")
    client.alter_job("a", max_runtime=None, reset=["grace"])
    spec = spec_of(client, guardian, "a")
    assert (spec.get("max_runtime"), spec["cwd"], spec["grace"]) == (None, "/tmp", 10)


def test_an_option_that_does_not_exist_is_a_type_error(client: Client) -> None:
    with pytest.raises(TypeError, match=r"schedule\(\) has no argument retry"):
        client.schedule("a", None, "true", retry=3)  # type: ignore[call-arg]


def test_a_text_where_a_list_is_wanted_is_a_type_error(client: Client) -> None:
    with pytest.raises(TypeError, match="hosts is a list, not str: 'web1'"):
        client.create_pool("web", hosts="web1")
    with pytest.raises(TypeError, match="argv is a list, not str: 'ls -l'"):
        client.submit(argv="ls -l")
    with pytest.raises(TypeError, match="tags is a list, not str"):
        client.schedule("a", None, "true", tags="web")
    client.schedule("a", None, "true")
    with pytest.raises(TypeError, match="reset is a list, not str"):
        client.alter_job("a", reset="ttl")
    with pytest.raises(TypeError, match="payloads is a list, not str"):
        client.run_many("a", "ab")
    assert [pool.pool for pool in client.queue_depth()] == ["default"]


def test_a_number_in_a_list_of_texts_is_a_type_error(client: Client) -> None:
    with pytest.raises(TypeError, match="argv is a list of texts, not of int: 42"):
        client.submit(argv=["echo", 42])  # type: ignore[list-item]
    with pytest.raises(TypeError, match="tags is a list of texts, not of NoneType: None"):
        client.schedule("a", None, "true", tags=[None])  # type: ignore[list-item]
    assert client.live() == []


def test_a_length_of_time_is_a_timedelta_or_a_text(client: Client) -> None:
    with pytest.raises(TypeError, match="ttl is a timedelta or a text such as '10 min', not int: 600"):
        client.schedule("a", "@daily", "true", ttl=600)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="grace is a timedelta or a text"):
        client.submit("true", grace=1.5)  # type: ignore[arg-type]
    assert client.overview() == []


def test_a_moment_without_a_time_zone_is_refused(client: Client) -> None:
    client.schedule("a", None, "true")
    with pytest.raises(ValueError, match="at has no time zone"):
        client.run_now("a", at=datetime(2030, 1, 1))
    assert client.history() == []


def test_a_moment_is_a_datetime_or_a_text(client: Client) -> None:
    with pytest.raises(TypeError, match="starts_at is a datetime with a time zone or a text, not date"):
        client.schedule("a", "@daily", "true", starts_at=date(2030, 1, 1))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="at is a datetime with a time zone or a text, not timedelta"):
        client.submit("true", at=timedelta(minutes=1))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="since is a datetime with a time zone or a text, not date"):
        client.history(since=date(2030, 1, 1))  # type: ignore[arg-type]
    assert client.overview() == []


def test_unschedule_says_whether_there_was_a_job(client: Client) -> None:
    client.schedule("a", None, "true")
    assert client.unschedule("a") is True
    assert client.unschedule("a") is False


def test_suspend_and_resume(client: Client) -> None:
    client.schedule("a", "@daily", "true")
    client.suspend("a", until=datetime(2100, 1, 1, tzinfo=UTC), reason="holiday")
    with pytest.raises(sisyphus.WrongState) as raised:
        client.run_now("a")
    assert "resume" in str(raised.value.hint)
    client.resume("a")
    assert len(client.run_now("a")) == 1


def test_suspend_all_and_resume_all_take_a_pool(client: Client) -> None:
    client.create_pool("web")
    client.schedule("a", "@daily", "true", pool="web")
    client.schedule("b", "@daily", "true")
    client.suspend_all(pool="web", reason="move")
    assert {row.job: row.state for row in client.overview()} == {"a": "suspended", "b": "active"}
    client.resume_all()
    assert {row.state for row in client.overview()} == {"active"}


def test_a_run_goes_from_the_call_to_its_result(client: Client, guardian: Guardian) -> None:
    client.schedule("a", None, "true")
    (run_id,) = client.run_now("a", payload={"n": [1, None], "m": None})
    (claim,) = guardian.claim()
    assert (claim.run_id, claim.job, claim.payload) == (run_id, "a", {"n": [1, None], "m": None})
    assert guardian.start(claim) == "accepted"
    (running,) = client.running(job="a")
    assert (running.run_id, running.host, running.state, running.pid) == (run_id, "web1", "running", 4711)
    assert guardian.finish(claim, exit_code=0, stdout="hello\n", result='{"rows": 3}') == "accepted"
    (attempt,) = client.history(run_id=run_id)
    assert attempt.succeeded
    assert attempt.is_final
    assert (attempt.state, attempt.exit_code, attempt.stdout, attempt.result) == (
        "succeeded",
        0,
        "hello\n",
        {"rows": 3},
    )
    assert (attempt.origin, attempt.host, attempt.payload) == ("run_now", "web1", {"n": [1, None], "m": None})
    assert attempt.finished_at.tzinfo is not None


def test_a_failure_stands_among_the_failures_until_it_is_rerun(client: Client, guardian: Guardian) -> None:
    client.schedule("a", None, "false")
    (run_id,) = client.run_now("a")
    (claim,) = guardian.claim()
    guardian.finish(claim, exit_code=1)
    assert [row.run_id for row in client.failures(job="a", state="failed")] == [run_id]
    again = client.rerun(run_id)
    assert again > run_id
    assert [claim.run_id for claim in guardian.claim()] == [again]


def test_a_state_that_no_attempt_can_have_is_refused_with_those_it_can_have(client: Client) -> None:
    for ask in (client.history, client.failures):
        with pytest.raises(ValueError, match=r"state is one of succeeded, failed, .*, not 'fialed'"):
            ask(state="fialed")  # type: ignore[arg-type]


def test_history_is_read_from_an_instant_on(client: Client, guardian: Guardian) -> None:
    client.schedule("a", None, "true", overlap="allow")
    runs = [client.run_now("a")[0], client.run_now("a")[0]]
    for claim in guardian.claim():
        guardian.finish(claim)
    rows = client.history(job="a", limit=1)
    assert [row.run_id for row in rows] == runs[1:]
    assert [row.run_id for row in client.history(job="a", since=rows[0].recorded_at)] == runs[1:]
    with pytest.raises(ValueError, match="since has no time zone"):
        client.history(since=datetime(2030, 1, 1))


def test_a_dedup_key_finds_the_unfinished_run(client: Client) -> None:
    client.schedule("a", None, "true")
    first = client.run_now("a", dedup_key="k")
    assert client.run_now("a", dedup_key="k") == first
    assert client.run_now("a", dedup_key="l") != first


def test_run_many_takes_any_json(client: Client, guardian: Guardian) -> None:
    client.schedule("a", None, "true", overlap="allow")
    payloads: list[object] = [{"a": 1}, [1, "x"], "text", 7, 1.5, True]
    assert client.run_many("a", payloads) == len(payloads)
    assert [claim.payload for claim in guardian.claim()] == payloads


def test_run_many_of_nothing_is_nothing(client: Client) -> None:
    client.schedule("a", None, "true")
    assert client.run_many("a", []) == 0


def test_a_submitted_run_needs_no_job(client: Client, guardian: Guardian) -> None:
    run_id = client.submit(argv=["/bin/echo", "hi"], max_runtime=timedelta(seconds=30), env={"A": "b"})
    (claim,) = guardian.claim()
    assert (claim.run_id, claim.spec["argv"], claim.spec["max_runtime"]) == (run_id, ["/bin/echo", "hi"], 30)


def test_a_submitted_run_belongs_to_who_submitted_it(client: Client, guardian: Guardian) -> None:
    client.connection.execute("set role sisyphus_author")
    ended, cancelled = client.submit("true"), client.submit("true", at=datetime(2100, 1, 1, tzinfo=UTC))
    client.cancel(cancelled)
    (claim,) = guardian.claim()
    guardian.finish(claim, stdout="mine")
    owners = {row.run_id: (row.owner, row.stdout) for row in client.history()}
    assert owners == {ended: ("sisyphus_author", "mine"), cancelled: ("sisyphus_author", None)}
    with pytest.raises(sisyphus.NotSupported):
        client.rerun(ended)


def test_what_is_submitted_in_a_rolled_back_transaction_never_runs(
    url: str, client: Client, guardian: Guardian
) -> None:
    with sisyphus.connect(url) as connection:
        run_id = sisyphus.Client(connection).submit("true")
        connection.rollback()
    assert guardian.claim() == []
    with pytest.raises(sisyphus.NotFound):
        client.explain_run(run_id)


def test_cancel_withdraws_and_terminate_ends(client: Client, guardian: Guardian) -> None:
    first, second = client.submit("true"), client.submit("true")
    client.cancel(first)
    client.terminate(second, reason="enough")
    assert guardian.claim() == []
    assert {row.run_id: row.state for row in client.history()} == {first: "cancelled", second: "cancelled"}


def test_a_backfill_makes_a_run_for_each_occurrence(client: Client) -> None:
    client.schedule("a", "0 7 * * *", "true", timezone="UTC")
    since = datetime(2026, 1, 1, tzinfo=UTC)
    assert len(client.backfill("a", since, since + timedelta(days=3))) == 3


def test_the_calendar_answers_without_a_job(client: Client) -> None:
    noon = datetime(2026, 3, 1, 12, tzinfo=UTC)
    assert client.next_fire("0 7 * * *", after=noon) == datetime(2026, 3, 2, 7, tzinfo=UTC)
    assert client.next_fire("0 0 31 2 *") is None
    fires = client.fires("0 */6 * * *", "UTC", noon, noon + timedelta(days=1), max=3)
    assert [fire.hour for fire in fires] == [12, 18, 0]
    assert "07:00" in client.describe_schedule("0 7 * * 1-5")


def test_a_wrong_schedule_says_where(client: Client) -> None:
    with pytest.raises(sisyphus.ScheduleError) as raised:
        client.schedule("a", "61 * * * *", "true")
    assert raised.value.code is not None
    assert raised.value.hint


def test_preview_shows_the_next_occurrences(client: Client) -> None:
    client.schedule("a", "0 7 * * *", "true", timezone="Europe/Amsterdam")
    rows = client.preview("a", 3)
    assert len(rows) == 3
    assert {row.local_time.hour for row in rows} == {7}
    assert rows == sorted(rows, key=lambda row: row.due_at)


def test_an_unknown_name_gets_the_nearest_one(client: Client) -> None:
    client.schedule("nightly-backup", None, "true")
    with pytest.raises(sisyphus.NotFound) as raised:
        client.run_now("nightly-bakcup")
    assert "nightly-backup" in str(raised.value.hint)


def test_hosts_are_drained_activated_and_sized(client: Client, guardian: Guardian) -> None:
    client.set_slots("web1", 7)
    client.drain_host("web1")
    (host,) = client.fleet()
    assert (host.host, host.slots, host.state) == ("web1", 7, "draining")
    client.submit("true")
    assert guardian.claim() == []
    client.activate_host("web1")
    assert len(guardian.claim()) == 1


def test_pools_come_and_go(client: Client, guardian: Guardian) -> None:
    client.create_pool("web")
    client.add_host("web", "web1")
    assert {row.pool for row in client.queue_depth()} == {"default", "web"}
    guardian.claim()  # pools reach the hosts with the next tick
    assert client.fleet(host="web1")[0].pools == ["default", "web"]
    client.remove_host("web", "web1")
    client.drop_pool("web")
    assert [row.pool for row in client.queue_depth()] == ["default"]


def test_a_setting_is_set_and_read(client: Client) -> None:
    client.set_setting("default_timezone", "Europe/Amsterdam")
    assert client.settings(name="default_timezone")[0].value == "Europe/Amsterdam"


def test_calls_stand_in_the_audit_log(client: Client) -> None:
    client.schedule("a", None, "true")
    assert [(entry.action, entry.object) for entry in client.audit_log(object="a")] == [("schedule", "a")]


def test_notices_are_logged(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "sisyphus"):
        client.schedule("a", None, "true")
    assert "has no active host" in caplog.text


def test_jsons_own_null_can_be_sent(client: Client, guardian: Guardian) -> None:
    client.schedule("a", None, "true", payload={"default": True})
    client.run_now("a", payload=None)
    assert guardian.claim()[0].payload == {"default": True}
    client.submit("true", payload=Jsonb(None))
    assert guardian.claim()[0].payload is None


def test_explain_tells_what_became_of_an_occurrence(client: Client) -> None:
    client.schedule("a", "0 7 * * *", "true", timezone="UTC")
    assert client.explain("a", datetime(2030, 1, 1, 7, tzinfo=UTC))
    run_id = client.submit("true")
    assert "no guardian is alive" in client.explain_run(run_id)


def test_a_calendar_leaves_days_out(client: Client) -> None:
    assert client.create_calendar("holidays", "values (date '2030-01-01'), ('2030-01-02'), ('2030-01-04')") == 2
    client.schedule("a", "0 7 * * *", "true", except_on="holidays", starts_at="2030-01-01", timezone="UTC")
    assert [row.due_at.day for row in client.preview("a", 3)] == [3, 5, 6]
    (calendar,) = client.calendars()
    assert (calendar.kind, calendar.ranges, calendar.jobs) == ("dates", 2, ["a"])
    assert calendar.ends_at == datetime(2030, 1, 5)
    assert client.refresh_calendar("holidays") == 2
    with pytest.raises(sisyphus.WrongState):
        client.drop_calendar("holidays")
    client.unschedule("a")
    client.drop_calendar("holidays")
    assert client.calendars() == []
