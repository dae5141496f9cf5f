"""Writes the asynchronous twins of the client's modules: `python tools/make_async.py`. A test compares them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "src" / "sisyphus"
TWINS = {"_views.py": "_async_views.py", "client.py": "async_client.py"}

RULES = (
    (r"^    def ", "    async def "),
    (r"(?<!def )\bself\.(_scalars?|_table|_view|explain_run|history)\(", r"await self.\1("),
    (r"\bwith self\.connection\.transaction", "async with self.connection.transaction"),
    (r"\btime\.sleep\(", "await asyncio.sleep("),
    (r"^import time$", "import asyncio\nimport time"),
    (r"\bsisyphus\._views\b", "sisyphus._async_views"),
    (r"\b(Session|Views|Client)\b", r"Async\1"),
)


def twin(source: Path) -> str:
    text = source.read_text()
    for pattern, replacement in RULES:
        text = re.sub(pattern, replacement, text, flags=re.MULTILINE)
    text = f"# Written by tools/make_async.py from {source.name}: change that one.\n{text}"
    for command in (["check", "--select=I", "--fix", "--quiet"], ["format"]):
        ruff = [sys.executable, "-m", "ruff", *command, "--stdin-filename", str(source), "-"]
        text = subprocess.run(ruff, input=text, capture_output=True, text=True, check=True).stdout
    return text


if __name__ == "__main__":
    for source, target in TWINS.items():
        (PACKAGE / target).write_text(twin(PACKAGE / source))
