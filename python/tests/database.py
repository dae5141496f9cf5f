"""A PostgreSQL server for the tests: the one that SISYPHUS_TEST_URL names, or a private, temporary one."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psycopg
from psycopg.conninfo import make_conninfo

# A copy is refused until it is adopted; adopt_installation() itself would raise the numbers of runs.
ADOPT = """
update sisyphus.installation i set database_oid = d.oid, database_name = d.datname
  from pg_database d where d.datname = current_database()
"""
SQL = Path(__file__).parents[2] / "sql"
SERVER_USER = "postgres" if os.geteuid() == 0 else None  # the server refuses to run as root


@contextmanager
def server(url: str | None) -> Iterator[str]:
    """The connection string of a superuser of a server on which databases may be made."""
    if url:
        yield url
        return
    # Not under pytest's own directory: a socket's path has at most 107 bytes, and that one is closed to others.
    directory = Path(tempfile.mkdtemp(prefix="sisyphus-", dir="/tmp"))
    data = directory / "data"
    try:
        if SERVER_USER:
            shutil.chown(directory, SERVER_USER)
        _as_server("initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync")
        options = f"-k {directory} -c listen_addresses= -c fsync=off -c full_page_writes=off -c timezone=UTC"
        _as_server("pg_ctl", "-D", data, "-w", "-l", directory / "log", "-o", options, "start")
        try:
            yield make_conninfo(host=str(directory), user="postgres", dbname="postgres")
        finally:
            _as_server("pg_ctl", "-D", data, "-w", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(directory)


def install(url: str, binary: str | None) -> None:
    """Installs the schema as a person would: with the binary when there is one, else with psql alone."""
    if binary:
        _run([binary, "migrate", "--database-url", url])
    else:
        _run(["psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", url, "-f", SQL / "install.sql"])


def create(server: str, name: str, template: str | None = None) -> str:
    """Makes a database, dropping what an earlier test run left under the name; its connection string."""
    with psycopg.connect(server, autocommit=True) as admin:
        admin.execute(f'drop database if exists "{name}" with (force)')
        admin.execute(f'create database "{name}"' + (f' template "{template}"' if template else ""))
    url = make_conninfo(server, dbname=name)
    if template:
        with psycopg.connect(url, autocommit=True) as copy:
            copy.execute(ADOPT)
    return url


def _as_server(program: str, *arguments: object) -> None:
    _run([_find(program), *arguments], user=SERVER_USER)


def _find(program: str) -> str:
    places = [str(place) for pattern in ("lib/postgresql/*/bin", "pgsql-*/bin") for place in Path("/usr").glob(pattern)]
    found = shutil.which(program) or shutil.which(program, path=os.pathsep.join(sorted(places, reverse=True)))
    if found is None:
        raise RuntimeError(f"{program} not found: install a PostgreSQL server, or name one in SISYPHUS_TEST_URL")
    return found


def _run(command: Sequence[object], user: str | None = None) -> None:
    # To a file, not a pipe: the server inherits it and would keep a pipe open.
    with tempfile.TemporaryFile("w+") as output:
        words = [str(word) for word in command]
        status = subprocess.run(
            words, user=user, group=user, cwd="/", stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
        if status.returncode:
            output.seek(0)
            raise RuntimeError(f"{' '.join(words)}: exit code {status.returncode}\n{output.read()}")
