"""Fail points: parsed strictly, counted exactly, and nothing at all where none is armed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from common import fail_points
from common.errors import SettingRejected
from common.fail_points import VARIABLE, Countdown, FailPoint
from torture.patience import HANG_SECONDS

ROOT = Path(__file__).parent.parent.parent


def test_unset_nothing_is_ever_due_and_nothing_is_asked() -> None:
    assert VARIABLE not in os.environ
    for point in FailPoint:
        concerns = iter(["StoreMessage"])
        assert not fail_points.due(point, concerns)
        assert list(concerns) == ["StoreMessage"], "what a point concerns was gone through for nothing"


def test_the_given_pass_is_the_one_and_there_is_no_other() -> None:
    armed = Countdown("worker-before-commit:3")
    assert not armed.passes(FailPoint.WORKER_AFTER_COMMIT, ())
    assert [armed.passes(FailPoint.WORKER_BEFORE_COMMIT, ()) for _ in range(5)] == [False, False, True, False, False]


def test_only_passes_that_concern_the_operation_count() -> None:
    armed = Countdown("worker-received/Settle:2")
    batches = [["Hello"], ["Settle"], [], ["StoreMessage", "Settle"]]
    assert [armed.passes(FailPoint.WORKER_RECEIVED, batch) for batch in batches] == [False, False, False, True]


@pytest.mark.parametrize(
    "setting", ["", "worker-received", "worker-received:", "worker-received:0", "nowhere:1", "worker-received:x", ":1"]
)
def test_a_setting_that_makes_no_sense_is_rejected(setting: str) -> None:
    with pytest.raises(SettingRejected, match=VARIABLE):
        Countdown(setting)


def test_operations_are_named_by_their_type() -> None:
    assert list(fail_points.names([1, "a"])) == ["int", "str"]


def test_an_armed_process_dies_without_a_last_word() -> None:
    program = (
        "import atexit\n"
        "from common import fail_points\n"
        "atexit.register(print, 'a last word')\n"
        "for number in range(5):\n"
        "    print(number, flush=True)\n"
        "    fail_points.reach(fail_points.FailPoint.GATEWAY_SENT)\n"
    )
    died = subprocess.run(
        [sys.executable, "-P", "-c", program],
        env={**os.environ, "PYTHONPATH": str(ROOT), VARIABLE: "gateway-sent:2"},
        check=False,
        capture_output=True,
        text=True,
        timeout=HANG_SECONDS,
    )
    assert (died.returncode, died.stdout) == (-signal.SIGKILL, "0\n1\n")
