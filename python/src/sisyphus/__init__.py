"""Sisyphus, a job scheduler that lives in PostgreSQL.

A `Client` wraps a connection that you own and never commits: submitting a job joins your transaction.

    with sisyphus.connect() as connection:
        sisyphus.Client(connection).schedule("backup", "0 7 * * *", "pg_dump shop > /backup/shop.sql")
"""

from sisyphus import errors
from sisyphus.async_client import AsyncClient
from sisyphus.client import Client
from sisyphus.connection import connect, connect_async, database_url
from sisyphus.errors import (
    ClaimLost,
    ControlError,
    DefinitionError,
    GuardianError,
    InstallationError,
    InvalidArgument,
    NotAllowed,
    NotFound,
    NotSupported,
    RunError,
    ScheduleError,
    SchemaMissing,
    SisyphusError,
    WrongState,
)
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
    Preview,
    QueueDepth,
    Running,
    Setting,
    Upcoming,
)
from sisyphus.options import Interval, JobChanges, JobOptions, Json, Moment, SubmitOptions

__all__ = [
    "AsyncClient",
    "Attempt",
    "AuditEntry",
    "Calendar",
    "ClaimLost",
    "Client",
    "ControlError",
    "Definition",
    "DefinitionError",
    "GuardianError",
    "Host",
    "InstallationError",
    "Interval",
    "InvalidArgument",
    "JobChanges",
    "JobOptions",
    "Json",
    "Live",
    "Metric",
    "Moment",
    "NotAllowed",
    "NotFound",
    "NotSupported",
    "Overdue",
    "Overview",
    "Preview",
    "QueueDepth",
    "RunError",
    "Running",
    "ScheduleError",
    "SchemaMissing",
    "Setting",
    "SisyphusError",
    "SubmitOptions",
    "Upcoming",
    "WrongState",
    "connect",
    "connect_async",
    "database_url",
    "errors",
]
