"""What a job and a submitted run can be told, as keyword arguments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Literal

from typing_extensions import TypedDict

Json = Any
"""A value that `json.dumps` accepts. Python's None is SQL's null; for JSON's null give `Jsonb(None)`."""

Moment = datetime | str
"""An instant: a datetime with a time zone, or a text that PostgreSQL reads as timestamptz."""

Interval = timedelta | str
"""A length of time: a timedelta, or a text that PostgreSQL reads as interval, such as '10 min'."""


class JobOptions(TypedDict, total=False):
    """Options of a job, under the names that they have in SQL."""

    timezone: str | None
    """Of the schedule; None: the setting `default_timezone`."""
    argv: Sequence[str] | None
    """Program and arguments, executed without a shell; instead of `command`."""
    pool: str
    run_on: Literal["any", "all"]
    """On one host of the pool, or on each."""
    ttl: Interval | None
    """How late a run may still start; None: until the next occurrence is due."""
    missed: Literal["latest", "all", "none"]
    """Which still fresh occurrences of a downtime become runs; 'all' needs a ttl."""
    overlap: Literal["skip", "queue", "replace", "allow"]
    """When the run before is still live at due time."""
    max_runtime: Interval | None
    """How long an attempt may take; None: no limit."""
    grace: Interval
    """Time between TERM and KILL."""
    retries: int
    retry_delay: Interval
    retry_backoff: float
    """Factor of the delay from one retry to the next."""
    retry_max_delay: Interval
    retry_on_lost: bool
    """Whether an attempt whose guardian vanished is retried: it may then start twice."""
    fenced: bool
    """Whether its processes are killed when their guardian's lease ends."""
    success_exit_codes: Sequence[int]
    no_retry_exit_codes: Sequence[int]
    priority: int
    """-9 to 9, higher first."""
    jitter: Interval | None
    """Each occurrence is due up to this much later."""
    starts_at: Moment | None
    ends_at: Moment | None
    except_on: str | None
    """Calendar whose days are left out."""
    only_on: str | None
    """Calendar outside whose days nothing runs."""
    payload: Json
    """Input: a JSON value, on the standard input of the process."""
    env: Mapping[str, str] | None
    cwd: str | None
    run_as: str | None
    """OS user, as the host's policy allows."""
    limits: Mapping[str, Json] | None
    """Such as {"memory": "512MB", "cpu": 1.5, "output": "64kB"}."""
    leftovers: Literal["kill", "leave"]
    """What happens to processes it leaves behind."""
    retention: Mapping[str, str] | None
    """Such as {"success": "7 days", "failure": "90 days"}."""
    description: str | None
    tags: Sequence[str]


class JobChanges(JobOptions, total=False):
    """Changes that `alter_job` makes: the options, and what `schedule` takes by position."""

    schedule: str | None
    command: str | None


class SubmitOptions(TypedDict, total=False):
    """Options of `submit`, under the names that they have in SQL."""

    argv: Sequence[str] | None
    """Program and arguments, executed without a shell; instead of `command`."""
    pool: str
    host: str | None
    """A host of the pool; None: any."""
    at: Moment | None
    """Not before; None: at once."""
    ttl: Interval | None
    """How late it may still start, from `at` or the call; None: it never expires."""
    max_runtime: Interval | None
    grace: Interval
    priority: int
    payload: Json
    env: Mapping[str, str] | None
    cwd: str | None
    run_as: str | None
    limits: Mapping[str, Json] | None
    leftovers: Literal["kill", "leave"]
