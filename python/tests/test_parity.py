"""The client and the catalogue name the same things."""

from __future__ import annotations

import dataclasses
import inspect
from datetime import datetime, timedelta
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import psycopg
import pytest

from sisyphus import Client, _sql, models

# For guardians and for jobs themselves, not for those who ask.
NOT_FOR_CLIENTS = {
    "register_guardian",
    "claim_job",
    "start_job",
    "finish_job",
    "release_job",
    "sign_off",
    "tick",
    "note_tick",
    "maintain",
    "adopt_installation",
}

VIEWS = {
    "overview": models.Overview,
    "definitions": models.Definition,
    "live": models.Live,
    "running": models.Running,
    "upcoming": models.Upcoming,
    "overdue": models.Overdue,
    "history": models.Attempt,
    "failures": models.Attempt,
    "fleet": models.Host,
    "queue_depth": models.QueueDepth,
    "calendars": models.Calendar,
    "settings": models.Setting,
    "audit_log": models.AuditEntry,
    "metrics": models.Metric,
}

TYPES = {
    "bigint": int,
    "integer": int,
    "boolean": bool,
    "double precision": float,
    "interval": timedelta,
    "name": str,
    "text": str,
    "timestamp with time zone": datetime,
    "timestamp without time zone": datetime,
    "integer[]": list[int],
    "text[]": list[str],
}

ARGUMENTS = """
    select p.proname::text,
           array(select a.name || ' ' || case a.type when 'timestamp with time zone' then 'timestamptz' else a.type end
                        || case when a.n > p.pronargs - p.pronargdefaults then '?' else '' end
                   from (select n, p.proargnames[n] as name, pg_catalog.format_type(t, null) as type
                           from unnest(p.proargtypes) with ordinality i (t, n)) a order by a.n)
      from pg_catalog.pg_proc p
     where p.pronamespace = 'sisyphus'::regnamespace and p.proname !~ '^_' and p.prokind = 'f'
       and p.prorettype <> 'trigger'::regtype
     order by p.proname
"""

COLUMNS = """
    select a.attname::text, pg_catalog.format_type(a.atttypid, null)
      from pg_catalog.pg_attribute a
     where a.attrelid = %s::regclass and a.attnum > 0
     order by a.attnum
"""


def catalogue(schema: psycopg.Connection) -> dict[str, list[str]]:
    return dict(schema.execute(ARGUMENTS).fetchall())


def test_the_client_knows_every_public_function(schema: psycopg.Connection) -> None:
    assert set(catalogue(schema)) - NOT_FOR_CLIENTS == set(_sql.FUNCTIONS)


@pytest.mark.parametrize("function", _sql.FUNCTIONS)
def test_arguments_are_those_of_the_catalogue(function: str, schema: psycopg.Connection) -> None:
    ours = [f"{name} {kind}" for name, kind in _sql.FUNCTIONS[function].items()]
    assert sorted(catalogue(schema)[function]) == sorted(ours)


@pytest.mark.parametrize("function", _sql.FUNCTIONS)
def test_methods_take_the_arguments_of_the_functions(function: str) -> None:
    required: set[str] = set()
    optional: set[str] = set()
    for parameter in list(inspect.signature(getattr(Client, function)).parameters.values())[1:]:
        if parameter.kind is parameter.VAR_KEYWORD:
            (options,) = get_args(get_type_hints(getattr(Client, function), include_extras=True)[parameter.name])
            optional |= set(get_type_hints(options))
        else:
            (required if parameter.default is parameter.empty else optional).add(parameter.name)
    kinds = _sql.FUNCTIONS[function]
    assert required == {name for name, kind in kinds.items() if not kind.endswith("?")}
    assert optional == {name for name, kind in kinds.items() if kind.endswith("?")}


def test_the_client_knows_every_view(schema: psycopg.Connection) -> None:
    rows = schema.execute("select viewname::text from pg_catalog.pg_views where schemaname = 'sisyphus'").fetchall()
    assert {name for (name,) in rows} == set(VIEWS)


@pytest.mark.parametrize(("view", "row"), VIEWS.items(), ids=VIEWS)
def test_rows_have_the_columns_of_the_view(view: str, row: Any, schema: psycopg.Connection) -> None:
    columns = schema.execute(COLUMNS, [f"sisyphus.{view}"]).fetchall()
    assert [name for name, _ in columns] == [field.name for field in dataclasses.fields(row)]
    hints = get_type_hints(row)
    for name, kind in columns:
        hint = plain(hints[name])
        assert hint is Any or get_origin(hint) is dict if kind == "jsonb" else hint == TYPES[kind], name


def plain(hint: Any) -> Any:
    """The type of a field without None, and of a Literal the type of its words."""
    if get_origin(hint) in (Union, UnionType):
        hint = next(part for part in get_args(hint) if part is not type(None))
    return str if get_origin(hint) is Literal else hint


@pytest.mark.parametrize("role", ["sisyphus_viewer", "sisyphus_author", "sisyphus_operator", "sisyphus_admin"])
def test_every_role_can_read_every_view(role: str, schema: psycopg.Connection) -> None:
    with schema.transaction(force_rollback=True):
        schema.execute(f"set local role {role}")
        for view in VIEWS:
            assert isinstance(getattr(Client(schema), view)(), list)
