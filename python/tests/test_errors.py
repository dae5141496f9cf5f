from __future__ import annotations

import re

import psycopg
import pytest
from database import SQL

import sisyphus
from sisyphus import errors

CASES = {
    # Codes of a block that are not known yet, one that is, and the standard ones.
    "SY001": errors.NotAdopted,
    "SY199": sisyphus.ScheduleError,
    "SY112": errors.NeverFires,
    "SY299": sisyphus.DefinitionError,
    "SY201": errors.NeverDue,
    "SY399": sisyphus.RunError,
    "SY301": sisyphus.ClaimLost,
    "SY499": sisyphus.GuardianError,
    "SY401": errors.GuardianUnknown,
    "SY501": sisyphus.ControlError,
    "SY999": sisyphus.SisyphusError,
    "22023": sisyphus.InvalidArgument,
    "22P02": sisyphus.InvalidArgument,
    "42704": sisyphus.NotFound,
    "55000": sisyphus.WrongState,
    "55006": sisyphus.WrongState,
    "42501": sisyphus.NotAllowed,
    "0A000": sisyphus.NotSupported,
}


@pytest.mark.parametrize(("sqlstate", "cls"), CASES.items(), ids=CASES)
def test_an_sqlstate_becomes_its_class(
    sqlstate: str, cls: type[sisyphus.SisyphusError], schema: psycopg.Connection
) -> None:
    body = f"begin raise exception 'no' using errcode = '{sqlstate}', detail = 'Why.', hint = 'Do.'; end"
    with pytest.raises(psycopg.Error) as raised:
        schema.execute(f"do $do${body}$do$")
    error = errors.from_database(raised.value)
    assert type(error) is cls
    assert (error.code, error.message, error.detail, error.hint) == (sqlstate, "no", "Why.", "Do.")
    assert str(error) == "no\nDETAIL: Why.\nHINT: Do."


@pytest.mark.parametrize("sqlstate", ["40001", "57014", "P0001"])
def test_what_is_not_the_schedulers_stays_what_it_is(sqlstate: str) -> None:
    assert errors.class_of(sqlstate) is None
    assert errors.class_of(None) is None


def test_every_code_that_the_schema_raises_has_a_class() -> None:
    text = "".join(path.read_text() for path in (SQL / "code").glob("*.sql"))
    raised = set(re.findall(r"'(SY\d{3})'", text))
    assert raised == {code for code in errors.CLASSES if re.fullmatch(r"SY\d{3}", code)}
    standard = set(re.findall(r"errcode = '((?!SY)\w{5})'", text))
    assert {code for code in standard if errors.class_of(code) is None} == set()


def test_the_docstring_is_the_default_message() -> None:
    assert str(sisyphus.NotAllowed()) == "The role may not do this."


def test_the_original_error_is_the_cause(client: sisyphus.Client) -> None:
    with pytest.raises(sisyphus.NotFound) as raised:
        client.suspend("no such job")
    assert isinstance(raised.value.__cause__, psycopg.errors.UndefinedObject)
    assert raised.value.code == "42704"


def test_an_error_leaves_the_callers_savepoint_to_the_caller(client: sisyphus.Client) -> None:
    with client.connection.transaction():
        client.schedule("kept", None, "true")
        with pytest.raises(sisyphus.NotFound), client.connection.transaction():
            client.suspend("no such job")
    assert [row.job for row in client.overview()] == ["kept"]


def test_a_database_without_the_schema_says_how_to_install_it(server: str) -> None:
    with sisyphus.connect(server, autocommit=True) as connection:
        client = sisyphus.Client(connection)
        for call in (client.overview, lambda: client.resume("a")):
            with pytest.raises(sisyphus.SchemaMissing, match="sisyphus") as raised:
                call()
            assert "sisyphus migrate" in str(raised.value.hint)


def test_a_role_without_rights_is_told_who_gives_them(schema: psycopg.Connection) -> None:
    with schema.transaction(force_rollback=True):
        schema.execute("set local role pg_monitor")
        with pytest.raises(sisyphus.NotAllowed) as raised:
            sisyphus.Client(schema).overview()
    assert raised.value.hint is not None
    assert "sisyphus_viewer" in raised.value.hint


def test_a_bug_inside_a_function_is_no_missing_schema(schema: psycopg.Connection) -> None:
    with pytest.raises(psycopg.errors.UndefinedFunction) as raised:
        schema.execute("do 'begin perform sisyphus.no_such_function(); end'")
    assert errors.from_database(raised.value) is None
