"""Whatever number a time came as, it is shown."""

from __future__ import annotations

import pytest

from client.terminal import local_time


@pytest.mark.parametrize("milliseconds", [253_402_400_000_000, 2**63 - 1, 2**64, -(2**63)])
def test_what_no_calendar_has_is_unknown(milliseconds: int) -> None:
    assert local_time.local(milliseconds) is None
    assert local_time.shown(milliseconds) == "unknown time"


def test_a_moment() -> None:
    found = local_time.local(1_700_000_000_000)
    assert found is not None
    assert found.timestamp() == 1_700_000_000
    assert local_time.shown(1_700_000_000_000) == f"{found:%Y-%m-%d %H:%M}"
