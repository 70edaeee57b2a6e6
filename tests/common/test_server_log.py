"""The form of the server's log: a time in each line, but none of its own where the
journal writes one.
"""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from common.server_log import is_journal
from torture.patience import HANG_SECONDS

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = (("gateway", "--host="), ("storage_worker", "--journal=0"))
"""With an option that is refused: the refusal is a line of the log."""


@pytest.mark.parametrize(("program", "option"), PROGRAMS)
@pytest.mark.parametrize("is_journal_named", [False, True])
def test_the_journal_has_its_own_time(tmp_path: Path, program: str, option: str, *, is_journal_named: bool) -> None:
    log = tmp_path / "log"
    with log.open("wb") as file:
        status = os.fstat(file.fileno())
        named = {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"} if is_journal_named else {}
        environment = {name: value for name, value in os.environ.items() if name != "JOURNAL_STREAM"}
        done = subprocess.run(
            [sys.executable, "-P", "-m", program, option],
            env={**environment, "PYTHONPATH": str(ROOT), **named},
            cwd=tmp_path, stderr=file, check=False, timeout=HANG_SECONDS,
        )  # fmt: skip
    assert done.returncode == 78
    [line] = log.read_text().splitlines()
    assert bool(re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} ", line)) is not is_journal_named
    assert re.sub(r"^[-\d]+ [:,\d]+ ", "", line).startswith(("ERROR gateway: the gateway ends: ", "CRITICAL storage"))


def test_a_variable_that_was_inherited_says_nothing(tmp_path: Path) -> None:
    with (tmp_path / "a").open("w") as file, (tmp_path / "b").open("w") as other:
        status = os.fstat(file.fileno())
        named = {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}
        assert is_journal(file, named)
        assert not is_journal(other, named)
        assert not is_journal(file, {})
        assert not is_journal(file, {"JOURNAL_STREAM": "what is this"})
    assert not is_journal(io.StringIO(), named)
