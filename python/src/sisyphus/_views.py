"""Asking: the views as rows, and the end of a run."""

from __future__ import annotations

import time
from datetime import timedelta

from psycopg.pq import TransactionStatus

from sisyphus._session import Session
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


class Views(Session):
    """One method a view. Arguments choose rows by equality; None is any."""

    def overview(self, *, job: str | None = None) -> list[Overview]:
        """Every job: what it is, when it is due next, how it has been doing."""
        return self._view(Overview, "overview", job=job)

    def definitions(self, *, job: str | None = None) -> list[Definition]:
        """Every job as it is defined, in the words of `schedule`."""
        return self._view(Definition, "definitions", job=job)

    def live(self, *, run_id: int | None = None, job: str | None = None, host: str | None = None) -> list[Live]:
        """Runs that have not ended, waiting ones included, by when they are due."""
        return self._view(Live, "live", run_id=run_id, job=job, host=host)

    def running(self, *, job: str | None = None, host: str | None = None) -> list[Running]:
        """Claimed and running attempts, oldest first."""
        return self._view(Running, "running", job=job, host=host)

    def upcoming(self, *, job: str | None = None, limit: int | None = None) -> list[Upcoming]:
        """Runs to come and occurrences of the next day, soonest first."""
        return self._view(Upcoming, "upcoming", job=job, limit=limit)

    def overdue(self, *, job: str | None = None) -> list[Overdue]:
        """Runs past their due time that nobody has claimed, and why."""
        return self._view(Overdue, "overdue", job=job)

    def history(
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
        return self._view(
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

    def failures(self, *, job: str | None = None, state: RunState | None = None, limit: int = 100) -> list[Attempt]:
        """What went wrong in the last 7 days, the latest first."""
        return self._view(Attempt, "failures", job=job, state=state, limit=limit)

    def fleet(self, *, host: str | None = None) -> list[Host]:
        """Hosts, and how they are."""
        return self._view(Host, "fleet", host=host)

    def queue_depth(self, *, pool: str | None = None) -> list[QueueDepth]:
        """Pools, and what waits in them."""
        return self._view(QueueDepth, "queue_depth", pool=pool)

    def calendars(self, *, calendar: str | None = None) -> list[Calendar]:
        """Calendars, how far they go and how old they are."""
        return self._view(Calendar, "calendars", calendar=calendar)

    def settings(self, *, name: str | None = None) -> list[Setting]:
        """Settings of the installation."""
        return self._view(Setting, "settings", name=name)

    def audit_log(self, *, object: str | None = None, limit: int = 100) -> list[AuditEntry]:
        """Definition and control calls, the latest first."""
        return self._view(AuditEntry, "audit_log", object=object, limit=limit)

    def metrics(self) -> list[Metric]:
        """Numbers for a monitoring system."""
        return self._view(Metric, "metrics")

    def explain_run(self, run_id: int) -> str:
        """Why a run has not started, or what became of it."""
        return str(self._scalar("explain_run", run_id=run_id))

    def wait(self, run_id: int, timeout: float | timedelta | None = None) -> Attempt:
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
            with self.connection.transaction():
                # Before the history is read: a run that is unknown is refused, one that ends in between is found.
                why = self.explain_run(run_id)
                ended = self.history(run_id=run_id, is_final=True, limit=1)
            if ended:
                return ended[0]
            left = pause if deadline is None else deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"run {run_id} has not ended within {seconds:g} s: {why}")
            time.sleep(min(pause, left))
            pause = min(pause * 1.5, _POLL_LAST)
