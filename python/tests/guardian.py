"""A person at psql who acts as the guardian of a host."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any

from psycopg import Connection
from psycopg.rows import dict_row


@dataclass(frozen=True)
class Claim:
    run_id: int
    claim_no: int
    attempt: int
    job: str
    spec: dict[str, Any]
    payload: Any


class Guardian:
    """Registers on a connection with autocommit, then claims and finishes runs by plain SQL."""

    def __init__(self, connection: Connection[Any], host: str = "web1", slots: int = 10) -> None:
        self.connection = connection
        self.guardian_id = self._rows(
            "select * from sisyphus.register_guardian(host => %s, slots => %s, labels => '{}', pools => '{}',"
            " version => 'test', host_key => %s, boot_id => 'test', keepers => '{}', held => '[]')",
            host,
            slots,
            uuid.uuid4(),
        )[0]["guardian_id"]

    def claim(self, max_runs: int = 10) -> list[Claim]:
        """Plans what is due, then claims it."""
        self._rows("select sisyphus.tick()")
        rows = self._rows(
            "select * from sisyphus.claim_job(guardian_id => %s, max_runs => %s, slots_free => %s)",
            self.guardian_id,
            max_runs,
            max_runs,
        )
        return [
            Claim(**{n: row[n] for n in ("run_id", "claim_no", "attempt", "job", "spec", "payload")})
            for row in rows
            if row["kind"] == "run"
        ]

    def start(self, claim: Claim, pid: int = 4711) -> str:
        return self._answer(
            "select * from sisyphus.start_job(%s, array[%s::bigint], array[%s::bigint], array[%s::int],"
            " array[clock_timestamp()])",
            claim.run_id,
            claim.claim_no,
            pid,
        )

    def finish(self, claim: Claim, exit_code: int = 0, stdout: str = "", result: str | None = None) -> str:
        return self._answer(
            "select * from sisyphus.finish_job(%s, array[%s::bigint], array[%s::bigint], exit_codes => array[%s::int],"
            " stdouts => array[%s], results => array[%s::jsonb],"
            " started_at => array[clock_timestamp()], finished_at => array[clock_timestamp()])",
            claim.run_id,
            claim.claim_no,
            exit_code,
            stdout,
            result,
        )

    def _answer(self, query: str, *parameters: object) -> str:
        return str(self._rows(query, self.guardian_id, *parameters)[0]["answer"])

    def _rows(self, query: str, *parameters: object) -> list[dict[str, Any]]:
        with self.connection.cursor(row_factory=dict_row) as cursor:
            return cursor.execute(query, parameters).fetchall()
