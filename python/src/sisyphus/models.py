"""Rows of the views, and of `preview`. The fields are the columns; SQL's null is None."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

JobState = Literal["active", "suspended", "broken"]
RunState = Literal[
    "succeeded", "failed", "timed_out", "terminated", "lost", "refused", "expired", "skipped", "cancelled"
]
Origin = Literal["schedule", "run_now", "run_many", "submit", "rerun", "backfill"]


@dataclass(frozen=True, slots=True)
class Overview:
    """A job."""

    job: str
    state: JobState
    schedule: str | None
    timezone: str
    pool: str
    run_on: Literal["any", "all"]
    next_due_at: datetime | None
    running: int
    last_state: RunState | None
    last_started_at: datetime | None
    last_duration_seconds: float | None
    success_ratio: float | None
    p50_seconds: float | None
    p95_seconds: float | None
    owner: str
    problem: str | None


@dataclass(frozen=True, slots=True)
class Definition:
    """A job as it is defined, in the words of `schedule`; what belongs to its owner is None for others."""

    job: str
    owner: str
    version: int
    schedule: str | None
    command: str | None
    timezone: str
    argv: list[str] | None
    pool: str
    run_on: Literal["any", "all"]
    ttl: timedelta | None
    missed: Literal["latest", "all", "none"]
    overlap: Literal["skip", "queue", "replace", "allow"]
    max_runtime: timedelta | None
    grace: timedelta
    retries: int
    retry_delay: timedelta
    retry_backoff: float
    retry_max_delay: timedelta
    retry_on_lost: bool
    fenced: bool
    success_exit_codes: list[int]
    no_retry_exit_codes: list[int]
    priority: int
    jitter: timedelta | None
    starts_at: datetime | None
    ends_at: datetime | None
    except_on: str | None
    only_on: str | None
    payload: Any
    env: dict[str, str] | None
    cwd: str | None
    run_as: str | None
    limits: dict[str, Any] | None
    leftovers: Literal["kill", "leave"]
    retention: dict[str, str] | None
    description: str | None
    tags: list[str]
    suspended_at: datetime | None
    suspended_until: datetime | None
    suspend_reason: str | None
    created_at: datetime
    changed_at: datetime


@dataclass(frozen=True, slots=True)
class Live:
    """A run that has not ended."""

    run_id: int
    attempt: int
    claim_no: int | None
    origin: Origin
    job: str | None
    job_version: int
    owner: str | None
    pool: str | None
    host: str | None
    state: Literal["waiting", "pending", "claimed", "running"]
    due_at: datetime
    expires_at: datetime | None
    requested_at: datetime | None
    claimed_at: datetime | None
    started_at: datetime | None
    running_seconds: float | None
    max_runtime: timedelta | None
    paused_at: datetime | None
    pid: int | None
    command: str | None
    why: str | None


@dataclass(frozen=True, slots=True)
class Running:
    """A claimed or running attempt."""

    run_id: int
    attempt: int
    claim_no: int
    job: str | None
    host: str
    state: Literal["claimed", "running"]
    due_at: datetime
    started_at: datetime | None
    running_seconds: float | None
    max_runtime: timedelta | None
    paused_at: datetime | None
    pid: int | None


@dataclass(frozen=True, slots=True)
class Upcoming:
    """A run to come, or an occurrence of the next day that is none yet."""

    job: str | None
    due_at: datetime
    local_time: datetime | None
    pool: str | None
    host: str | None
    run_id: int | None
    command: str | None


@dataclass(frozen=True, slots=True)
class Overdue:
    """A run that is past its due time and has not been claimed."""

    run_id: int
    job: str | None
    due_at: datetime
    late_seconds: float
    expires_at: datetime | None
    why: str


@dataclass(frozen=True, slots=True)
class Attempt:
    """A finished attempt, or a run that never started (attempt 0)."""

    run_id: int
    attempt: int
    claim_no: int | None
    is_final: bool
    origin: Origin
    job: str | None
    job_version: int
    pool: str | None
    host: str | None
    state: RunState
    reason: str
    exit_code: int | None
    signal: int | None
    due_at: datetime
    claimed_at: datetime | None
    started_at: datetime | None
    finished_at: datetime
    lateness_seconds: float | None
    duration_seconds: float | None
    cpu_user_seconds: float | None
    cpu_system_seconds: float | None
    peak_memory_bytes: int | None
    stdout: str | None
    stderr: str | None
    result: Any
    payload: Any
    nominal_at: datetime
    expires_at: datetime | None
    last_due_at: datetime | None
    occurrences: int
    late_state: RunState | None
    late_exit_code: int | None
    late_finished_at: datetime | None
    owner: str | None
    requested_at: datetime | None
    recorded_at: datetime
    command: str | None

    @property
    def succeeded(self) -> bool:
        return self.state == "succeeded"


@dataclass(frozen=True, slots=True)
class Host:
    """A host, as its guardian last reported."""

    host: str
    state: Literal["active", "draining", "unreachable", "lost", "stopped", "periodic"]
    slots: int
    running: int
    seen_seconds_ago: float | None
    clock_offset_ms: float | None
    version: str | None
    labels: dict[str, Any]
    pools: list[str]
    problem: str | None


@dataclass(frozen=True, slots=True)
class QueueDepth:
    """A pool, and what waits in it."""

    pool: str
    pending: int
    overdue: int
    claimed: int
    running: int
    slots_free: int
    description: str | None
    selector: dict[str, Any] | None
    listed: list[str]
    members: list[str]


@dataclass(frozen=True, slots=True)
class Calendar:
    """A calendar, and how far it goes: `starts_at` and `ends_at` are on the clock of each job for dates, in UTC for
    ranges."""

    calendar: str
    owner: str
    kind: Literal["dates", "ranges"]
    ranges: int
    starts_at: datetime | None
    ends_at: datetime | None
    refreshed_at: datetime
    age_seconds: float
    jobs: list[str]
    problem: str | None
    query: str | None


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting of the installation."""

    name: str
    value: str
    unit: str | None
    default: str
    description: str


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """A definition or control call."""

    at: datetime
    role: str
    action: str
    object: str | None
    before: Any
    after: Any


@dataclass(frozen=True, slots=True)
class Metric:
    """A number for a monitoring system."""

    name: str
    labels: dict[str, str]
    value: float | None


@dataclass(frozen=True, slots=True)
class Preview:
    """An occurrence to come."""

    due_at: datetime
    local_time: datetime
    host_or_pool: str
