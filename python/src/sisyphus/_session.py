"""How a call reaches the database and what comes back."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from psycopg import AsyncConnection, Connection, Error
from psycopg.errors import Diagnostic
from psycopg.rows import class_row, scalar_row

from sisyphus import _sql, errors

Row = TypeVar("Row")

log = logging.getLogger("sisyphus")


class Session:
    """A connection that belongs to the caller, and statements on it."""

    def __init__(self, connection: Connection[Any]) -> None:
        self.connection = connection

    def _scalar(self, function: str, /, **arguments: object) -> Any:
        return self._scalars(function, **arguments)[0]

    def _scalars(self, function: str, /, **arguments: object) -> list[Any]:
        statement = _sql.call(function, arguments)
        with _translated(self.connection), self.connection.cursor(row_factory=scalar_row) as cursor:
            return cursor.execute(*statement).fetchall()

    def _table(self, row: type[Row], function: str, /, **arguments: object) -> list[Row]:
        return self._fetch(row, _sql.call(function, arguments, row))

    def _view(self, row: type[Row], name: str, /, **equal: object) -> list[Row]:
        return self._fetch(row, _sql.view(name, row, **equal))

    def _fetch(self, row: type[Row], statement: _sql.Statement) -> list[Row]:
        with _translated(self.connection), self.connection.cursor(row_factory=class_row(row)) as cursor:
            return cursor.execute(*statement).fetchall()


class AsyncSession:
    """As Session, on an asynchronous connection."""

    def __init__(self, connection: AsyncConnection[Any]) -> None:
        self.connection = connection

    async def _scalar(self, function: str, /, **arguments: object) -> Any:
        return (await self._scalars(function, **arguments))[0]

    async def _scalars(self, function: str, /, **arguments: object) -> list[Any]:
        statement = _sql.call(function, arguments)
        with _translated(self.connection):
            async with self.connection.cursor(row_factory=scalar_row) as cursor:
                return await (await cursor.execute(*statement)).fetchall()

    async def _table(self, row: type[Row], function: str, /, **arguments: object) -> list[Row]:
        return await self._fetch(row, _sql.call(function, arguments, row))

    async def _view(self, row: type[Row], name: str, /, **equal: object) -> list[Row]:
        return await self._fetch(row, _sql.view(name, row, **equal))

    async def _fetch(self, row: type[Row], statement: _sql.Statement) -> list[Row]:
        with _translated(self.connection):
            async with self.connection.cursor(row_factory=class_row(row)) as cursor:
                return await (await cursor.execute(*statement)).fetchall()


@contextmanager
def _translated(connection: Connection[Any] | AsyncConnection[Any]) -> Iterator[None]:
    """Turns the database's refusals into ours, and its notices into log records: psycopg drops them, and "the pool
    has no active host" is the commonest reason why a job does not run."""
    connection.add_notice_handler(_log_notice)
    try:
        yield
    except Error as error:
        ours = errors.from_database(error)
        if ours is None:
            raise
        raise ours from error
    finally:
        connection.remove_notice_handler(_log_notice)


def _log_notice(notice: Diagnostic) -> None:
    level = logging.WARNING if notice.severity_nonlocalized in ("NOTICE", "WARNING") else logging.INFO
    log.log(level, "%s", notice.message_primary, extra={"hint": notice.message_hint})
