from __future__ import annotations

import contextlib
import os

import psycopg
import pytest

import sisyphus


def test_the_environment_is_read_in_the_order_of_the_command_line() -> None:
    both = {"SISYPHUS_DATABASE_URL": "postgres://a", "DATABASE_URL": "postgres://b"}
    assert sisyphus.database_url(both) == "postgres://a"
    assert sisyphus.database_url({"DATABASE_URL": "postgres://b"}) == "postgres://b"
    assert sisyphus.database_url({}) == ""


def test_the_tests_own_environment_leads_nowhere() -> None:
    assert sisyphus.database_url() == ""
    assert [name for name in os.environ if name.startswith("PG")] == []


def test_connect_takes_the_url_of_the_environment(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SISYPHUS_DATABASE_URL", url)
    with sisyphus.connect() as connection:
        assert connection.execute("show application_name").fetchone() == ("sisyphus:python",)


def test_connect_takes_libpqs_variables(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    parameters = psycopg.conninfo.conninfo_to_dict(url)
    for name, variable in {"host": "PGHOST", "port": "PGPORT", "user": "PGUSER", "dbname": "PGDATABASE"}.items():
        if name in parameters:
            monkeypatch.setenv(variable, str(parameters[name]))
    with sisyphus.connect() as connection:
        assert connection.info.dbname == parameters["dbname"]


def test_a_url_that_is_given_wins(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SISYPHUS_DATABASE_URL", "postgres://nowhere.invalid/none")
    with sisyphus.connect(url, autocommit=True) as connection:
        assert connection.autocommit


def test_the_block_commits_and_the_client_does_not(url: str, client: sisyphus.Client) -> None:
    with contextlib.suppress(ZeroDivisionError), sisyphus.connect(url) as connection:
        sisyphus.Client(connection).schedule("rolled-back", None, "true")
        raise ZeroDivisionError
    with sisyphus.connect(url) as connection:
        sisyphus.Client(connection).schedule("committed", None, "true")
        assert client.overview() == []
    assert [row.job for row in client.overview()] == ["committed"]


def test_the_callers_row_factory_does_not_matter(url: str) -> None:
    with sisyphus.connect(url, row_factory=psycopg.rows.dict_row) as connection:
        client = sisyphus.Client(connection)
        client.schedule("a", None, "true")
        assert client.overview(job="a")[0].job == "a"
