"""Lines that others can cause are few, and the ones left out are counted."""

from __future__ import annotations

import logging

import pytest

from common.rare_log import LINES_A_MINUTE, RareLog


def test_some_lines_a_minute_then_how_many_were_left_out(caplog: pytest.LogCaptureFixture) -> None:
    now = 100.0
    rare = RareLog(logging.getLogger("test.rare"), lambda: now)
    with caplog.at_level(logging.INFO, "test.rare"):
        for number in range(LINES_A_MINUTE + 5):
            rare.write(logging.WARNING, "dropped %d", number)
        assert [record.getMessage() for record in caplog.records] == [f"dropped {n}" for n in range(LINES_A_MINUTE)]
        caplog.clear()
        now += 59.9
        rare.write(logging.WARNING, "dropped %d", 98)
        assert not caplog.records
        now += 0.1
        rare.write(logging.ERROR, "dropped %d", 99)
        rare.write(logging.ERROR, "dropped %d", 100)
    assert [(record.levelno, record.getMessage()) for record in caplog.records] == [
        (logging.ERROR, "dropped 99 (6 more lines like this were left out)"),
        (logging.ERROR, "dropped 100"),
    ]
