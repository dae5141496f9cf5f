"""The client and the catalogue name the same things."""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any, get_args, get_type_hints

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
    "maintain",
    "adopt_installation",
}

VIEWS = {
    "overview": models.Overview,
    "running": models.Running,
    "upcoming": models.Upcoming,
    "overdue": models.Overdue,
    "history": models.Attempt,
    "failures": models.Attempt,
    "fleet": models.Host,
    "queue_depth": models.QueueDepth,
    "settings": models.Setting,
    "audit_log": models.AuditEntry,
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


def catalogue(connection: psycopg.Connection) -> dict[str, list[str]]:
    return dict(connection.execute(ARGUMENTS).fetchall())


def test_the_client_knows_every_public_function(connection: psycopg.Connection) -> None:
    assert set(catalogue(connection)) - NOT_FOR_CLIENTS == set(_sql.FUNCTIONS)


@pytest.mark.parametrize("function", _sql.FUNCTIONS)
def test_arguments_are_those_of_the_catalogue(function: str, connection: psycopg.Connection) -> None:
    ours = [f"{name} {kind}" for name, kind in _sql.FUNCTIONS[function].items()]
    assert sorted(catalogue(connection)[function]) == sorted(ours)


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


@pytest.mark.parametrize(("view", "row"), VIEWS.items(), ids=VIEWS)
def test_rows_have_the_columns_of_the_view(view: str, row: Any, connection: psycopg.Connection) -> None:
    cursor = connection.execute(f"select * from sisyphus.{view} limit 0")
    columns = [column.name for column in cursor.description or ()]
    assert columns == [field.name for field in dataclasses.fields(row)]


@pytest.mark.parametrize("view", VIEWS)
def test_every_view_can_be_read(view: str, connection: psycopg.Connection) -> None:
    assert isinstance(getattr(Client(connection), view)(), list)
