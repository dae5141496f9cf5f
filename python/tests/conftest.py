from __future__ import annotations

import os
import re
from collections.abc import Iterator

import database
import psycopg
import pytest
from guardian import Guardian

import sisyphus

# What the tests are told, and then nothing else of the environment that could lead to a database.
TEST_URL = os.environ.get("SISYPHUS_TEST_URL")
BINARY = os.environ.get("SISYPHUS_BIN")
for name in list(os.environ):
    if name.startswith(("SISYPHUS_", "PG")) or name == "DATABASE_URL":
        del os.environ[name]


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """The connection string of a superuser."""
    with database.server(TEST_URL) as url:
        yield url


@pytest.fixture(scope="session")
def template(server: str) -> str:
    """A database with the schema, from which each test's own is copied."""
    name = "sisyphus_python_template"
    database.install(database.create(server, name), BINARY)
    return name


@pytest.fixture
def url(server: str, template: str, request: pytest.FixtureRequest) -> str:
    """The connection string of a database of the test's own."""
    name = "sisyphus_python_" + re.sub(r"\W+", "_", request.node.name)[:40]
    return database.create(server, name, template)


@pytest.fixture
def connection(url: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(url, autocommit=True) as connection:
        yield connection


@pytest.fixture(scope="session")
def schema(server: str, template: str) -> Iterator[psycopg.Connection]:
    """A connection to one more copy, for those who only look at the schema."""
    with psycopg.connect(database.create(server, "sisyphus_python_schema", template), autocommit=True) as connection:
        yield connection


@pytest.fixture
def client(connection: psycopg.Connection) -> sisyphus.Client:
    return sisyphus.Client(connection)


@pytest.fixture
def guardian(url: str) -> Iterator[Guardian]:
    with psycopg.connect(url, autocommit=True) as connection:
        yield Guardian(connection)
