"""What the database refuses, as exceptions. The SQLSTATE decides, never the text."""

from __future__ import annotations

from typing import ClassVar

import psycopg


class SisyphusError(Exception):
    """The scheduler refused the call."""

    sqlstates: ClassVar[tuple[str, ...]] = ("SY",)
    """SQLSTATEs, or the beginnings of some, that raise this class."""
    remedy: ClassVar[str | None] = None
    """The hint, where the database has none."""

    def __init__(
        self,
        message: str | None = None,
        *,
        code: str | None = None,
        detail: str | None = None,
        hint: str | None = None,
    ) -> None:
        self.message = message or (type(self).__doc__ or "").partition("\n")[0]
        self.code = code
        self.detail = detail
        self.hint = hint
        super().__init__(self.message)

    def __str__(self) -> str:
        parts = (self.message, self.detail and f"DETAIL: {self.detail}", self.hint and f"HINT: {self.hint}")
        return "\n".join(part for part in parts if part)


class InstallationError(SisyphusError):
    """The installation is not what its database or this program expects."""

    sqlstates: ClassVar[tuple[str, ...]] = ("SY0",)


class NotAdopted(InstallationError):
    """The database is a copy, or was restored: nothing runs there before ``sisyphus migrate --adopt``."""

    sqlstates = ("SY001",)


class SchemaMissing(InstallationError):
    """The database has no Sisyphus schema, or another version of it."""

    sqlstates = ("3F000", "42P01", "42703", "42883")
    remedy = "Run `sisyphus migrate` on this database."


class ScheduleError(SisyphusError):
    """The schedule cannot be read, or never fires."""

    sqlstates = ("SY1",)


class UnknownSchedule(ScheduleError):
    """The schedule is neither a cron expression nor a macro, every or at."""

    sqlstates = ("SY100",)


class WrongFieldCount(ScheduleError):
    """The cron expression has neither five nor six fields."""

    sqlstates = ("SY101",)


class StrangeCharacter(ScheduleError):
    """The schedule has a character that no schedule has."""

    sqlstates = ("SY102",)


class ValueOutOfRange(ScheduleError):
    """A number is out of the range of its field."""

    sqlstates = ("SY103",)


class UnknownWord(ScheduleError):
    """A field of the cron expression holds a word that is no value of it."""

    sqlstates = ("SY104",)


class WrongRange(ScheduleError):
    """A range is reversed or incomplete."""

    sqlstates = ("SY105",)


class WrongStep(ScheduleError):
    """A step is zero or no number, or has nothing in front."""

    sqlstates = ("SY106",)


class EmptyItem(ScheduleError):
    """A list of the cron expression has an empty item."""

    sqlstates = ("SY107",)


class MisplacedSpecialDay(ScheduleError):
    """L, W or # stands where it has no meaning."""

    sqlstates = ("SY108",)


class UnknownMacro(ScheduleError):
    """There is no macro of that name."""

    sqlstates = ("SY109",)


class WrongInterval(ScheduleError):
    """This is no interval that every takes."""

    sqlstates = ("SY110",)


class WrongInstant(ScheduleError):
    """This is no timestamp that at takes, or one that the zone's clocks skip."""

    sqlstates = ("SY111",)


class NeverFires(ScheduleError):
    """The schedule can never fire."""

    sqlstates = ("SY112",)


class DefinitionError(SisyphusError):
    """The job is not well defined."""

    sqlstates = ("SY2",)


class NeverDue(DefinitionError):
    """The schedule of the job is never due from here on."""

    sqlstates = ("SY201",)


class CommandOrArgv(DefinitionError):
    """Both command and argv are given, or neither."""

    sqlstates = ("SY202",)


class Contradiction(DefinitionError):
    """Two properties of the job contradict each other."""

    sqlstates = ("SY203",)


class RunError(SisyphusError):
    """The run is not in a state that allows it."""

    sqlstates = ("SY3",)


class ClaimLost(RunError):
    """The claim has been lost: the run is another's, or has ended."""

    sqlstates = ("SY301",)


class GuardianError(SisyphusError):
    """The guardian or its claim is not the current one."""

    sqlstates = ("SY4",)


class GuardianUnknown(GuardianError):
    """The guardian is unknown, has ended, or was followed by another."""

    sqlstates = ("SY401",)


class HostTaken(GuardianError):
    """A guardian with another state directory is alive under this host name."""

    sqlstates = ("SY402",)


class ControlError(SisyphusError):
    """The control call cannot be carried out."""

    sqlstates = ("SY5",)


class InvalidArgument(SisyphusError):
    """An argument has a value that is not allowed."""

    sqlstates = ("22", "42804", "54000")


class NotFound(SisyphusError):
    """There is no job, run, host, pool, calendar or setting of that name."""

    sqlstates = ("42704",)


class WrongState(SisyphusError):
    """The object is in a state, or in use, that does not allow it."""

    sqlstates = ("55000", "55006", "2BP01")


class NotAllowed(SisyphusError):
    """The role may not do this."""

    sqlstates = ("42501",)
    remedy = "An admin grants roles: sisyphus_viewer, sisyphus_operator, sisyphus_author, sisyphus_admin."


class NotSupported(SisyphusError):
    """This version does not do that."""

    sqlstates = ("0A000",)


CLASSES: dict[str, type[SisyphusError]] = {}
"""The classes by SQLSTATE, or by its beginning."""


def _register(cls: type[SisyphusError]) -> None:
    CLASSES.update(dict.fromkeys(cls.sqlstates, cls))
    for child in cls.__subclasses__():
        _register(child)


_register(SisyphusError)


def class_of(sqlstate: str | None) -> type[SisyphusError] | None:
    """The class of an SQLSTATE, by its longest known beginning; None when it is not the scheduler's to explain."""
    code = sqlstate or ""
    return next((CLASSES[code[:n]] for n in range(len(code), 1, -1) if code[:n] in CLASSES), None)


def from_database(error: psycopg.Error) -> SisyphusError | None:
    """The exception for an error of the database; None when it is not the scheduler's to explain."""
    cls = class_of(error.sqlstate)
    if cls is None:
        return None
    diagnostics = error.diag
    if cls is SchemaMissing and diagnostics.context:
        return None  # a function that we did reach lacks something: a bug, not a missing schema
    return cls(
        diagnostics.message_primary,
        code=error.sqlstate,
        detail=diagnostics.message_detail,
        # Of a missing function PostgreSQL thinks that a cast may be.
        hint=cls.remedy if cls is SchemaMissing else diagnostics.message_hint or cls.remedy,
    )
