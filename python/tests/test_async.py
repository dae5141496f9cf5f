from __future__ import annotations

import asyncio
import inspect
import sys
from pathlib import Path

import pytest
from guardian import Guardian

import sisyphus

sys.path.append(str(Path(__file__).parents[1] / "tools"))
import make_async


@pytest.mark.parametrize(("source", "target"), make_async.TWINS.items())
def test_the_twin_is_what_the_tool_writes(source: str, target: str) -> None:
    assert make_async.twin(make_async.PACKAGE / source) == (make_async.PACKAGE / target).read_text()


def test_every_method_is_a_coroutine_with_the_same_arguments() -> None:
    for name, method in inspect.getmembers(sisyphus.Client, inspect.isfunction):
        if not name.startswith("_"):
            twin = getattr(sisyphus.AsyncClient, name)
            assert inspect.iscoroutinefunction(twin)
            assert inspect.signature(twin) == inspect.signature(method)


def test_a_run_goes_from_the_call_to_its_result(url: str, guardian: Guardian) -> None:
    async def life() -> sisyphus.Attempt:
        async with await sisyphus.connect_async(url) as connection:
            client = sisyphus.AsyncClient(connection)
            await client.schedule("a", None, "true", ttl="10 min")
            (run_id,) = await client.run_now("a", payload=[1])
            await connection.commit()
            with pytest.raises(TimeoutError):
                await client.wait(run_id, timeout=0)
            waiting = asyncio.create_task(client.wait(run_id, timeout=60))
            await asyncio.to_thread(lambda: [guardian.finish(claim) for claim in guardian.claim()])
            return await waiting

    attempt = asyncio.run(life())
    assert attempt.succeeded
    assert attempt.payload == [1]


def test_what_the_database_refuses_is_raised(url: str) -> None:
    async def refused() -> None:
        async with await sisyphus.connect_async(url) as connection:
            await sisyphus.AsyncClient(connection).suspend("no such job")

    with pytest.raises(sisyphus.NotFound):
        asyncio.run(refused())
