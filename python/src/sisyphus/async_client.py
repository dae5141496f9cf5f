# Written by tools/make_async.py from client.py: change that one.
"""The client: one method a function of the schema, with the same argument names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import cast

from typing_extensions import Unpack

from sisyphus._async_views import AsyncViews
from sisyphus._sql import listed
from sisyphus.models import Preview
from sisyphus.options import JobChanges, JobOptions, Json, Moment, SubmitOptions


class AsyncClient(AsyncViews):
    """Calls on a connection that you own, in your transaction: the client never commits, so a job that you submit
    runs if your transaction commits, together with everything else you did in it, and never if it rolls back.

    An optional argument that is not given, or None, is left to the default that the database has for it. What the
    database refuses is raised as a `SisyphusError`; what it notes is logged to the logger `sisyphus`.
    """

    # Definition

    async def schedule(
        self, name: str, schedule: str | None, command: str | None = None, **options: Unpack[JobOptions]
    ) -> int:
        """Makes or replaces a job and returns its job_id. On an existing job, what is not given is reset.

        `schedule` is a cron expression, '@daily', 'every 90 seconds', 'at 2027-05-01 07:00', or None for a job that
        runs on demand only. Either `command` (for a shell) or the option `argv` says what to run.
        """
        return cast(int, await self._scalar("schedule", name=name, schedule=schedule, command=command, **options))

    async def alter_job(self, name: str, *, reset: Sequence[str] = (), **changes: Unpack[JobChanges]) -> int:
        """Changes what is given, and only that; `reset` names what goes back to its default, as None does."""
        given = {n: v for n, v in changes.items() if v is not None}
        none = changes.keys() - given.keys()
        return cast(
            int, await self._scalar("alter_job", name=name, reset=[*listed("reset", reset), *none] or None, **given)
        )

    async def unschedule(self, name: str) -> bool:
        """Removes a job: what is planned is withdrawn, what runs goes on. False: it had been removed before."""
        return cast(bool, await self._scalar("unschedule", name=name))

    async def suspend(self, name: str, *, until: Moment | None = None, reason: str | None = None) -> bool:
        """Withdraws what is planned of a job and starts nothing more until `resume`, or `until`. False: it was
        suspended already."""
        return cast(bool, await self._scalar("suspend", name=name, until=until, reason=reason))

    async def resume(self, name: str) -> bool:
        """Ends a suspension. False: there was none."""
        return cast(bool, await self._scalar("resume", name=name))

    async def suspend_all(self, *, pool: str | None = None, reason: str | None = None) -> int:
        """Suspends every job that may be, or those of a pool; how many."""
        return cast(int, await self._scalar("suspend_all", pool=pool, reason=reason))

    async def resume_all(self, *, pool: str | None = None) -> int:
        """Resumes every job that may be, or those of a pool; how many."""
        return cast(int, await self._scalar("resume_all", pool=pool))

    # Running and control

    async def run_now(
        self,
        name: str,
        *,
        payload: Json = None,
        at: Moment | None = None,
        host: str | None = None,
        dedup_key: str | None = None,
    ) -> list[int]:
        """Runs a job by hand: the run_ids, one a target. With a `dedup_key` that an unfinished run has, its id."""
        return await self._scalars("run_now", name=name, payload=payload, at=at, host=host, dedup_key=dedup_key)

    async def run_many(self, name: str, payloads: Sequence[Json]) -> int:
        """Runs a job once for each payload, in order; how many."""
        return cast(int, await self._scalar("run_many", name=name, payloads=payloads))

    async def submit(self, command: str | None = None, **options: Unpack[SubmitOptions]) -> int:
        """Runs something once, without a job, like at(1); the run_id."""
        return cast(int, await self._scalar("submit", command=command, **options))

    async def terminate(self, run_id: int, *, reason: str | None = None) -> bool:
        """Ends a run: TERM, grace, KILL; before its start it is cancelled. False: it had ended."""
        return cast(bool, await self._scalar("terminate", run_id=run_id, reason=reason))

    async def cancel(self, run_id: int) -> bool:
        """Withdraws a run that has not started. False: it had."""
        return cast(bool, await self._scalar("cancel", run_id=run_id))

    async def pause(self, run_id: int) -> bool:
        """Stops the processes of a run; its max_runtime stands still."""
        return cast(bool, await self._scalar("pause", run_id=run_id))

    async def unpause(self, run_id: int) -> bool:
        """Lets the processes of a paused run go on."""
        return cast(bool, await self._scalar("unpause", run_id=run_id))

    async def rerun(self, run_id: int) -> int:
        """Runs again what an ended run was; the new run_id."""
        return cast(int, await self._scalar("rerun", run_id=run_id))

    async def backfill(self, name: str, since: Moment, until: Moment) -> list[int]:
        """Runs a job for each occurrence of a stretch of time; the run_ids."""
        return await self._scalars("backfill", name=name, since=since, until=until)

    async def assert_current(self, run_id: int, claim_no: int) -> None:
        """For a job's own transaction: raises `ClaimLost` when its claim (environment variable SISYPHUS_CLAIM) has been
        lost, and keeps it from being lost until the transaction ends."""
        await self._scalar("assert_current", run_id=run_id, claim_no=claim_no)

    # Calendar

    async def next_fire(
        self,
        schedule: str,
        *,
        timezone: str | None = None,
        after: Moment | None = None,
        starts_at: Moment | None = None,
    ) -> datetime | None:
        """The first instant strictly after `after` (now) at which the schedule fires; None: never."""
        fire = await self._scalar("next_fire", schedule=schedule, timezone=timezone, after=after, starts_at=starts_at)
        return cast("datetime | None", fire)

    async def fires(
        self,
        schedule: str,
        timezone: str,
        since: Moment,
        until: Moment | None,
        *,
        max: int | None = None,
        starts_at: Moment | None = None,
    ) -> list[datetime]:
        """The instants from `since` to before `until` at which the schedule fires, at most `max` (1,000)."""
        return await self._scalars(
            "fires",
            schedule=schedule,
            timezone=timezone,
            since=since,
            until=until,
            max=max,
            starts_at=starts_at,
        )

    async def describe_schedule(self, schedule: str) -> str:
        """The schedule in words."""
        return cast(str, await self._scalar("describe_schedule", schedule=schedule))

    async def preview(self, name: str, n: int | None = None) -> list[Preview]:
        """The next 10, or n, occurrences of a job: with run_on all a row for each host."""
        return await self._table(Preview, "preview", name=name, n=n)

    async def explain(self, name: str, due_at: Moment) -> str:
        """What became of an occurrence of a job."""
        return cast(str, await self._scalar("explain", name=name, due_at=due_at))

    async def create_calendar(self, name: str, query: str) -> int:
        """Makes a calendar of the dates or tstzranges that a query yields, or replaces an own one; how many ranges."""
        return cast(int, await self._scalar("create_calendar", name=name, query=query))

    async def refresh_calendar(self, name: str) -> int:
        """Asks the query of an own calendar again; how many ranges."""
        return cast(int, await self._scalar("refresh_calendar", name=name))

    async def drop_calendar(self, name: str) -> None:
        """Removes a calendar that no job uses."""
        await self._scalar("drop_calendar", name=name)

    # Pools, hosts, settings

    async def create_pool(
        self,
        name: str,
        *,
        hosts: Sequence[str] | None = None,
        selector: Mapping[str, Json] | None = None,
        description: str | None = None,
    ) -> int:
        """Makes or replaces a pool of listed hosts, of those that have the labels of `selector`, or of both; its
        pool_id."""
        pool = await self._scalar("create_pool", name=name, hosts=hosts, selector=selector, description=description)
        return cast(int, pool)

    async def drop_pool(self, name: str) -> None:
        """Removes a pool that no job uses."""
        await self._scalar("drop_pool", name=name)

    async def add_host(self, pool: str, host: str) -> bool:
        """Lists a host as member of a pool; it need not have registered yet. False: it was listed."""
        return cast(bool, await self._scalar("add_host", pool=pool, host=host))

    async def remove_host(self, pool: str, host: str) -> bool:
        """Takes a host off a pool's list. False: it was not on it."""
        return cast(bool, await self._scalar("remove_host", pool=pool, host=host))

    async def drain_host(self, name: str) -> bool:
        """Lets a host finish what it runs and claim nothing new. False: it was draining."""
        return cast(bool, await self._scalar("drain_host", name=name))

    async def activate_host(self, name: str) -> bool:
        """Ends a drain. False: there was none."""
        return cast(bool, await self._scalar("activate_host", name=name))

    async def set_slots(self, host: str, n: int | None) -> None:
        """Sets how many runs a host takes at once; None: what its guardian says at its next start."""
        await self._scalar("set_slots", host=host, n=n)

    async def forget_host(self, name: str) -> None:
        """Removes a host that is gone."""
        await self._scalar("forget_host", name=name)

    async def bind_guardian(
        self,
        role: str,
        host: str,
        *,
        pools: Sequence[str] | None = None,
        labels: Mapping[str, Json] | None = None,
    ) -> None:
        """Lets a login act as the guardian of a host, in these pools, with these labels."""
        await self._scalar("bind_guardian", role=role, host=host, pools=pools, labels=labels)

    async def grant_run_as(self, role: str, os_user: str) -> None:
        """Lets jobs of a role run as an operating system user, where the policy of the host does too."""
        await self._scalar("grant_run_as", role=role, os_user=os_user)

    async def revoke_run_as(self, role: str, os_user: str) -> bool:
        """Takes a grant back; refused while a job needs it."""
        return cast(bool, await self._scalar("revoke_run_as", role=role, os_user=os_user))

    async def set_setting(self, name: str, value: str) -> None:
        """Changes a setting of the installation."""
        await self._scalar("set_setting", name=name, value=value)
