"""The one place that reads the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import psycopg

_NAMED = {"application_name": "sisyphus:python"}


def database_url(environment: Mapping[str, str] = os.environ) -> str:
    """What the environment names: SISYPHUS_DATABASE_URL, else DATABASE_URL, else nothing, so that libpq's own
    PG* variables and defaults decide. The order is that of the `sisyphus` command line."""
    return environment.get("SISYPHUS_DATABASE_URL") or environment.get("DATABASE_URL") or ""


def connect(url: str | None = None, **options: Any) -> psycopg.Connection:
    """Opens a psycopg connection to `url`, or to the database that the environment names.

    It is an ordinary connection and yours: as a context manager it commits at the end of the block. `options` go to
    `psycopg.connect`, for example `autocommit=True`.
    """
    return psycopg.connect(database_url() if url is None else url, **_NAMED | options)


async def connect_async(url: str | None = None, **options: Any) -> psycopg.AsyncConnection:
    """As `connect`, with an asynchronous connection."""
    return await psycopg.AsyncConnection.connect(database_url() if url is None else url, **_NAMED | options)
