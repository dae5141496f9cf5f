"""All SQL text of the package: the functions it calls, the views it reads, and how values get there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from datetime import datetime, timedelta
from functools import cache
from typing import Any, get_args

from psycopg.types.json import Jsonb

from sisyphus.models import RunState

Statement = tuple[str, dict[str, object]]

_JOB = """
    command text?, timezone text?, argv text[]?, pool text?, run_on text?, ttl interval?, missed text?, overlap text?,
    max_runtime interval?, grace interval?, retries integer?, retry_delay interval?, retry_backoff double precision?,
    retry_max_delay interval?, retry_on_lost boolean?, fenced boolean?, success_exit_codes integer[]?,
    no_retry_exit_codes integer[]?, priority integer?, jitter interval?, starts_at timestamptz?, ends_at timestamptz?,
    except_on text?, only_on text?, payload jsonb?, env jsonb?, cwd text?, run_as text?, limits jsonb?,
    leftovers text?, retention jsonb?, description text?, tags text[]?"""

# A question mark: the argument has a default. A test compares all of it with the catalogue.
_SIGNATURES = f"""
schedule(name text, schedule text, {_JOB})
alter_job(name text, schedule text?, {_JOB}, reset text[]?)
unschedule(name text)
suspend(name text, until timestamptz?, reason text?)
resume(name text)
suspend_all(pool text?, reason text?)
resume_all(pool text?)

run_now(name text, payload jsonb?, at timestamptz?, host text?, dedup_key text?)
run_many(name text, payloads jsonb[])
submit(command text?, argv text[]?, pool text?, host text?, at timestamptz?, ttl interval?, max_runtime interval?,
    grace interval?, priority integer?, payload jsonb?, env jsonb?, cwd text?, run_as text?, limits jsonb?,
    leftovers text?)
terminate(run_id bigint, reason text?)
cancel(run_id bigint)
pause(run_id bigint)
unpause(run_id bigint)
rerun(run_id bigint)
backfill(name text, since timestamptz, until timestamptz)
assert_current(run_id bigint, claim_no bigint)

next_fire(schedule text, timezone text?, after timestamptz?, starts_at timestamptz?)
fires(schedule text, timezone text, since timestamptz, until timestamptz, max integer?, starts_at timestamptz?)
describe_schedule(schedule text)
preview(name text, n integer?)
explain_run(run_id bigint)
explain(name text, due_at timestamptz)

create_calendar(name text, query text)
refresh_calendar(name text)
drop_calendar(name text)

create_pool(name text, hosts text[]?, selector jsonb?, description text?)
drop_pool(name text)
add_host(pool text, host text)
remove_host(pool text, host text)
drain_host(name text)
activate_host(name text)
set_slots(host text, n integer)
forget_host(name text)
bind_guardian(role name, host text, pools text[]?, labels jsonb?)
grant_run_as(role name, os_user text)
revoke_run_as(role name, os_user text)
set_setting(name text, value text)
"""


def _parse(signatures: str) -> dict[str, dict[str, str]]:
    functions = {}
    for signature in signatures.split(")")[:-1]:
        function, _, arguments = signature.partition("(")
        pairs = (argument.split(maxsplit=1) for argument in arguments.split(","))
        functions[function.strip()] = dict(pairs)
    return functions


FUNCTIONS: Mapping[str, Mapping[str, str]] = _parse(_SIGNATURES)
"""The functions of schema sisyphus that the client calls: the types of their arguments by name, with a question mark
where the argument has a default."""


_ORDER = {
    "overview": "job",
    "definitions": "job",
    "live": "due_at, run_id",
    "running": "started_at nulls last, run_id",
    "upcoming": "due_at, job, host",
    "overdue": "due_at, run_id",
    "history": "recorded_at desc, run_id desc, attempt desc",
    "failures": "recorded_at desc, run_id desc, attempt desc",
    "fleet": "host",
    "queue_depth": "pool",
    "calendars": "calendar",
    "settings": "name",
    "audit_log": "at desc",
    "metrics": "name, labels",
}


def call(function: str, arguments: Mapping[str, object], row: type[Any] | None = None) -> Statement:
    """The statement that calls `function`, and its parameters. An argument that has a default is left to it when
    None; a required one is then null. `row`: the dataclass whose fields name the columns of what it returns."""
    kinds = FUNCTIONS[function]
    if unknown := arguments.keys() - kinds.keys():
        raise TypeError(f"{function}() has no argument {', '.join(sorted(unknown))}")
    given = {n: v for n, v in arguments.items() if v is not None or not kinds[n].endswith("?")}
    parameters = {n: _adapt(n, kinds[n].removesuffix("?"), v) for n, v in given.items()}
    text = _call_text(function, tuple(parameters))
    return f"select {text}" if row is None else f"select {_columns(row)} from {text}", parameters


def view(name: str, row: type[Any], /, **equal: object) -> Statement:
    """The statement that reads a view into rows of the dataclass `row`, and its parameters: columns that must equal
    a value, where None is any; `since`, when a row was recorded at the earliest; `limit`, how many rows at most."""
    kinds = {"since": "timestamptz"}
    if equal.get("state") not in (None, *get_args(RunState)):
        raise ValueError(f"state is one of {', '.join(get_args(RunState))}, not {equal['state']!r}")
    parameters = {n: _adapt(n, kinds.get(n, ""), v) for n, v in equal.items() if v is not None}
    conditions = {n: f"{n} = %({n})s" for n in parameters if n != "limit"}
    if "since" in parameters:
        conditions["since"] = "recorded_at >= %(since)s::timestamptz"
    where = " and ".join(conditions.values())
    text = f"select {_columns(row)} from sisyphus.{name}{where and ' where ' + where} order by {_ORDER[name]}"
    return f"{text} limit %(limit)s" if "limit" in parameters else text, parameters


@cache
def _call_text(function: str, names: tuple[str, ...]) -> str:
    kinds = FUNCTIONS[function]
    # The cast says what a text means, and what an empty list is a list of.
    arguments = (f"{n} => %({n})s::{kinds[n].removesuffix('?')}" for n in names)
    return f"sisyphus.{function}({', '.join(arguments)})"


def _columns(row: type[Any]) -> str:
    return ", ".join(f'"{field.name}"' for field in fields(row))


def listed(name: str, value: object) -> list[Any]:
    """The items of a sequence; a text is one of letters, none of which was meant."""
    if isinstance(value, str | bytes) or not isinstance(value, Sequence):
        raise TypeError(f"{name} is a list, not {type(value).__name__}: {value!r}")
    return list(value)


def _adapt(name: str, kind: str, value: object) -> object:
    if kind == "jsonb":
        return value if value is None or isinstance(value, Jsonb) else Jsonb(value)
    if kind.endswith("[]") and value is not None:
        return [_adapt_item(name, kind.removesuffix("[]"), item) for item in listed(name, value)]
    if kind == "interval" and not isinstance(value, timedelta | str | None):
        raise TypeError(f"{name} is a timedelta or a text such as '10 min', not {type(value).__name__}: {value!r}")
    if kind == "timestamptz" and not isinstance(value, datetime | str | None):
        given = f"{type(value).__name__}: {value!r}"
        raise TypeError(f"{name} is a datetime with a time zone or a text, not {given}")
    if isinstance(value, datetime) and value.tzinfo is None:
        # The database would read it in the session's time zone, whatever that is.
        raise ValueError(f"{name} has no time zone: {value!r}")
    return value


def _adapt_item(name: str, kind: str, item: object) -> object:
    if kind == "text" and not isinstance(item, str):
        raise TypeError(f"{name} is a list of texts, not of {type(item).__name__}: {item!r}")
    return _adapt(name, kind, item)
