from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import psycopg
import pytest
from guardian import Guardian

import sisyphus
from sisyphus import Client


def test_an_ended_run_is_returned_at_once(client: Client, guardian: Guardian) -> None:
    run_id = client.submit("true")
    (claim,) = guardian.claim()
    guardian.finish(claim, exit_code=3)
    attempt = client.wait(run_id, timeout=0)
    assert (attempt.run_id, attempt.state, attempt.exit_code) == (run_id, "failed", 3)


def test_a_run_that_ends_later_is_waited_for(url: str, client: Client, guardian: Guardian) -> None:
    run_id = client.submit("true")
    with ThreadPoolExecutor() as pool, psycopg.connect(url) as connection:
        waiting = pool.submit(Client(connection).wait, run_id, 60)
        (claim,) = guardian.claim()
        guardian.start(claim)
        guardian.finish(claim)
        assert waiting.result().succeeded
        assert connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE


def test_a_retried_run_has_not_ended_with_its_first_attempt(client: Client, guardian: Guardian) -> None:
    client.schedule("a", None, "false", retries=1, retry_delay="1 hour")
    (run_id,) = client.run_now("a")
    (claim,) = guardian.claim()
    guardian.finish(claim, exit_code=1)
    assert len(client.history(run_id=run_id)) == 1
    with pytest.raises(TimeoutError):
        client.wait(run_id, timeout=timedelta(0))


def test_the_timeout_says_why(client: Client) -> None:
    run_id = client.submit("true")
    with pytest.raises(TimeoutError, match=f"run {run_id} has not ended within 0 s: .*no guardian is alive"):
        client.wait(run_id, timeout=0)


def test_a_run_that_never_was_is_refused(client: Client) -> None:
    with pytest.raises(sisyphus.NotFound):
        client.wait(10**9)


def test_waiting_inside_an_open_transaction_is_refused(client: Client) -> None:
    with client.connection.transaction():
        run_id = client.submit("true")
        with pytest.raises(RuntimeError, match="commit"):
            client.wait(run_id)


def test_a_closed_connection_is_not_taken_for_an_open_transaction(client: Client) -> None:
    client.connection.close()
    with pytest.raises(psycopg.OperationalError, match="closed"):
        client.wait(1, timeout=0)


def test_a_timeout_is_a_timedelta_or_seconds(client: Client) -> None:
    with pytest.raises(TypeError, match="timeout is a timedelta or a number of seconds, not str: '10 s'"):
        client.wait(client.submit("true"), timeout="10 s")  # type: ignore[arg-type]
