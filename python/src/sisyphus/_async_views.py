# Written by tools/make_async.py from _views.py: change that one.
"""Asking: the views as rows, and the end of a run."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta

from psycopg.pq import TransactionStatus

from sisyphus._session import AsyncSession
from sisyphus.models import (
    Attempt,
    AuditEntry,
    Calendar,
    Definition,
    Host,
    Live,
    Metric,
    Overdue,
    Overview,
    QueueDepth,
    Running,
    RunState,
    Setting,
    Upcoming,
)
from sisyphus.options import Moment

_POLL_FIRST, _POLL_LAST = 0.05, 1.0


class AsyncViews(AsyncSession):
    """One method a view. Arguments choose rows by equality; None is any."""

    async def overview(self, *, job: str | None = None) -> list[Overview]:
        """Every job: what it is, when it is due next, how it has been doing."""
        return await self._view(Overview, "overview", job=job)

    async def definitions(self, *, job: str | None = None) -> list[Definition]:
        """Every job as it is defined, in the words of `schedule`."""
        return await self._view(Definition, "definitions", job=job)

    async def live(self, *, run_id: int | None = None, job: str | None = None, host: str | None = None) -> list[Live]:
        """Runs that have not ended, waiting ones included, by when they are due."""
        return await self._view(Live, "live", run_id=run_id, job=job, host=host)

    async def running(self, *, job: str | None = None, host: str | None = None) -> list[Running]:
        """Claimed and running attempts, oldest first."""
        return await self._view(Running, "running", job=job, host=host)

    async def upcoming(self, *, job: str | None = None, limit: int | None = None) -> list[Upcoming]:
        """Runs to come and occurrences of the next day, soonest first."""
        return await self._view(Upcoming, "upcoming", job=job, limit=limit)

    async def overdue(self, *, job: str | None = None) -> list[Overdue]:
        """Runs past their due time that nobody has claimed, and why."""
        return await self._view(Overdue, "overdue", job=job)

    async def history(
        self,
        *,
        run_id: int | None = None,
        job: str | None = None,
        host: str | None = None,
        state: RunState | None = None,
        is_final: bool | None = None,
        since: Moment | None = None,
        limit: int = 100,
    ) -> list[Attempt]:
        """Finished attempts, the latest first. Where the history is long, `run_id`, `job` or `since` makes it quick."""
        return await self._view(
            Attempt,
            "history",
            run_id=run_id,
            job=job,
            host=host,
            state=state,
            is_final=is_final,
            since=since,
            limit=limit,
        )

    async def failures(
        self, *, job: str | None = None, state: RunState | None = None, limit: int = 100
    ) -> list[Attempt]:
        """What went wrong in the last 7 days, the latest first."""
        return await self._view(Attempt, "failures", job=job, state=state, limit=limit)

    async def fleet(self, *, host: str | None = None) -> list[Host]:
        """Hosts, and how they are."""
        return await self._view(Host, "fleet", host=host)

    async def queue_depth(self, *, pool: str | None = None) -> list[QueueDepth]:
        """Pools, and what waits in them."""
        return await self._view(QueueDepth, "queue_depth", pool=pool)

    async def calendars(self, *, calendar: str | None = None) -> list[Calendar]:
        """Calendars, how far they go and how old they are."""
        return await self._view(Calendar, "calendars", calendar=calendar)

    async def settings(self, *, name: str | None = None) -> list[Setting]:
        """Settings of the installation."""
        return await self._view(Setting, "settings", name=name)

    async def audit_log(self, *, object: str | None = None, limit: int = 100) -> list[AuditEntry]:
        """Definition and control calls, the latest first."""
        return await self._view(AuditEntry, "audit_log", object=object, limit=limit)

    async def metrics(self) -> list[Metric]:
        """Numbers for a monitoring system."""
        return await self._view(Metric, "metrics")

    async def explain_run(self, run_id: int) -> str:
        """Why a run has not started, or what became of it."""
        return str(await self._scalar("explain_run", run_id=run_id))

    async def wait(self, run_id: int, timeout: float | timedelta | None = None) -> Attempt:
        """Waits until a run has ended and returns its last attempt; TimeoutError after `timeout` (seconds).

        The run must have been committed: inside an open transaction it can never start, so that is refused.
        """
        # A closed connection has no status: what is asked first says that it is closed.
        if self.connection.info.transaction_status not in (TransactionStatus.IDLE, TransactionStatus.UNKNOWN):
            raise RuntimeError("wait() inside an open transaction: the run cannot start before you commit")
        if not isinstance(timeout, timedelta | float | int | None):
            given = f"{type(timeout).__name__}: {timeout!r}"
            raise TypeError(f"timeout is a timedelta or a number of seconds, not {given}")
        seconds = timeout.total_seconds() if isinstance(timeout, timedelta) else timeout
        deadline = None if seconds is None else time.monotonic() + seconds
        pause = _POLL_FIRST
        while True:
            # Its own short transaction: a connection without autocommit would otherwise stay in one.
            async with self.connection.transaction():
                # Before the history is read: a run that is unknown is refused, one that ends in between is found.
                why = await self.explain_run(run_id)
                ended = await self.history(run_id=run_id, is_final=True, limit=1)
            if ended:
                return ended[0]
            left = pause if deadline is None else deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"run {run_id} has not ended within {seconds:g} s: {why}")
            await asyncio.sleep(min(pause, left))
            pause = min(pause * 1.5, _POLL_LAST)
