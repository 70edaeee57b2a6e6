"""The form of the server's log: a time in each line, but none of its own where the
journal writes one; in JSON one object a line.
"""

from __future__ import annotations

import io
import json
import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from common.rare_log import LINES_A_MINUTE, RareLog
from common.server_log import JsonForm, fields, is_journal
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


@pytest.mark.parametrize(("program", "option"), PROGRAMS)
def test_in_json_every_line_is_an_object(tmp_path: Path, program: str, option: str) -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-m", program, "--log-format=json", option],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=tmp_path, capture_output=True, check=False, timeout=HANG_SECONDS,
    )  # fmt: skip
    assert done.returncode == 78
    [line] = [json.loads(line) for line in done.stderr.decode("ascii").splitlines()]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line.pop("time"))
    assert line.pop("message").startswith(("the gateway ends: ", "can't start: "))
    assert line in ({"level": "error", "logger": "gateway"}, {"level": "critical", "logger": "storage_worker"})


def test_an_error_that_nobody_foresaw_is_one_line_too(tmp_path: Path) -> None:
    lines = [
        "import threading",
        "from common.server_log import begin_log",
        "begin_log('info', {}, 'json')",
        "thread = threading.Thread(target=lambda: [][0], name='helper')",
        "thread.start()",
        "thread.join()",
        "raise ValueError('first\\nsecond')",
    ]
    done = subprocess.run(
        [sys.executable, "-P", "-c", "\n".join(lines)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=tmp_path, capture_output=True, check=False, timeout=HANG_SECONDS,
    )  # fmt: skip
    assert done.returncode == 1
    of_thread, last = [json.loads(line) for line in done.stderr.splitlines()]
    assert of_thread["exception"].endswith("IndexError: list index out of range")
    assert last["exception"].endswith("ValueError: first\nsecond")
    assert last["level"] == of_thread["level"] == "critical"


def lines_of(caplog: pytest.LogCaptureFixture) -> list[dict[str, object]]:
    return [json.loads(JsonForm().format(record)) for record in caplog.records]


def test_fields_stand_beside_the_message() -> None:
    record = logging.makeLogRecord({"msg": "slot %d of \udcff\n", "args": (3,), **fields(slot=3)})
    text = JsonForm().format(record)
    assert text.isascii()
    assert text.isprintable()
    line = json.loads(text)
    assert line["message"] == "slot 3 of \udcff\n"
    assert line["slot"] == 3
    with pytest.raises(ValueError, match="exception, level, logger, message, time"):
        fields(time="now")


def test_what_was_left_out_is_a_field_beside_the_others(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    rare = RareLog(logging.getLogger("test.fields"), lambda: now)
    for number in range(LINES_A_MINUTE + 2):
        rare.write(logging.ERROR, "number %d", number, extra=fields(number=number))
    now = 60.0
    rare.write(logging.ERROR, "number %d", 99, extra=fields(number=99))
    rare.write(logging.ERROR, "none")
    found = [(line.get("number"), line.get("left_out")) for line in lines_of(caplog)]
    assert found == [*((number, None) for number in range(LINES_A_MINUTE)), (99, 2), (None, None)]
