"""next_fire beside cronsim and croniter (Python) and croner (Rust), from the same random starts in Europe/Amsterdam.

Run by `make bench-calendar`, which provides a database, a venv and the croner program:
    bench.py CRONER [STARTS]
Each start is timed three times and its fastest time counts: what the machine does besides is not measured.
The first call of a new session, which PostgreSQL spends on loading PL/pgSQL and looking up names, is timed apart.
Exits with 1 when a target is missed.
"""

from __future__ import annotations

import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from croniter import croniter
from cronsim import CronSim

EXPRESSIONS = ["*/5 * * * *", "0 0 * * *", "0 0 1 1 *", "0 0 29 2 *", "15 10 * * MON-FRI", "0 9-17/2 * * *"]
OTHER_FORMS = ["30 0 9 * * *", "every 5 minutes", "at 2033-05-18 12:00", "@daily", "0 9 L * *", "0 9 15W * MON#2"]
ZONE = ZoneInfo("Europe/Amsterdam")
ROUNDS = 3
SESSIONS = 50
# microseconds
TARGET_COMPILED, TARGET_PARSED, TARGET_LONGEST = 40.0, 150.0, 5000.0

Times = tuple[float, float]


def summary(times: list[float]) -> Times:
    """Median and longest."""
    return statistics.median(times), max(times)


def python_times(call: Callable[[datetime], object], starts: list[int]) -> Times:
    times = []
    for start in starts:
        moment = datetime.fromtimestamp(start, ZONE)
        rounds = []
        for _ in range(ROUNDS):
            began = time.perf_counter()
            call(moment)
            rounds.append((time.perf_counter() - began) * 1e6)
        times.append(min(rounds))
    return summary(times)


def database_times(starts: Path) -> dict[str, list[Times]]:
    """Compiled and parsed, each timed in the session, so that no network is in it."""
    script = Path(__file__).with_name("bench.sql")
    found: dict[str, list[Times]] = {}
    command = ["psql", "-X", "-At", "-F", "\t", "-v", "ON_ERROR_STOP=1", "-v", f"starts={starts}"]
    command += ["-v", f"expressions={','.join(EXPRESSIONS)}", "-f", str(script)]
    for line in subprocess.run(command, check=True, text=True, capture_output=True).stdout.splitlines():
        expression, *numbers = line.split("\t")
        compiled, longest, parsed, longest_parsed = map(float, numbers)
        found[expression] = [(compiled, longest), (parsed, longest_parsed)]
    return found


def first_call_times(form: str) -> tuple[float, float, float]:
    """Median, fastest and longest, from statement to answer as the server sees it, in sessions that have called nothing before."""
    call = f"sisyphus.next_fire('{form}', '{ZONE.key}', '2026-11-03 12:00+00')"
    query = f"select {call}, extract(epoch from clock_timestamp() - statement_timestamp()) * 1e6"
    command = ["psql", "-X", "-At", "-F", "\t", "-v", "ON_ERROR_STOP=1", "-c", query]
    times = []
    for _ in range(SESSIONS):
        answer = subprocess.run(command, check=True, text=True, capture_output=True).stdout
        times.append(float(answer.split("\t")[1]))
    return statistics.median(times), min(times), max(times)


def croner_times(program: str, starts: Path) -> dict[str, Times]:
    output = subprocess.run([program, str(starts), *EXPRESSIONS], check=True, text=True, capture_output=True).stdout
    return {line.split("\t")[0]: tuple(map(float, line.split("\t")[1:3])) for line in output.splitlines()}


def main() -> int:
    program, count = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 2000
    chance = random.Random(20260101)
    starts = [chance.randrange(1_000_000_000, 2_000_000_000) for _ in range(count)]
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write("".join(f"{start}\n" for start in starts))
        file.flush()
        Path(file.name).chmod(0o644)
        ours = database_times(Path(file.name))
        croner = croner_times(program, Path(file.name))
    print(f"microseconds a call, median (longest), {count} starts in {ZONE}")
    print(f"{'':18}{'compiled':>16}{'with parsing':>16}{'cronsim':>16}{'croniter':>16}{'croner':>16}")
    missed = []
    few = starts[: max(100, count // 10)]
    for expression in EXPRESSIONS:
        compiled, parsed = ours[expression]
        cronsim = python_times(lambda moment, e=expression: next(CronSim(e, moment)), few)
        iterated = python_times(lambda moment, e=expression: croniter(e, moment).get_next(datetime), few)
        row = [compiled, parsed, cronsim, iterated, croner[expression]]
        print(f"{expression:18}" + "".join(f"{f'{median:.1f} ({longest:.0f})':>16}" for median, longest in row))
        for what, found, wanted in [
            ("compiled", compiled[0], TARGET_COMPILED),
            ("with parsing", parsed[0], TARGET_PARSED),
            ("longest call", max(compiled[1], parsed[1]), TARGET_LONGEST),
        ]:
            if found > wanted:
                missed.append(f"{expression}: {what} takes {found:.0f} us, wanted {wanted:.0f}")
    print(f"first call of a new session, median (fastest, longest) of {SESSIONS}; the median is judged")
    for form in EXPRESSIONS + OTHER_FORMS:
        typical, fastest, longest = first_call_times(form)
        print(f"{form:18}{f'{typical:.0f} ({fastest:.0f}, {longest:.0f})':>22}")
        if form in EXPRESSIONS and typical > TARGET_LONGEST:
            missed.append(f"{form}: the first call of a session takes {typical:.0f} us, wanted {TARGET_LONGEST:.0f}")
    print("\n".join(missed), file=sys.stderr if missed else sys.stdout, end="\n" if missed else "")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
