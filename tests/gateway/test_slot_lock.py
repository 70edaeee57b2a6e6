"""One gateway for each slot of a data folder."""

from pathlib import Path

import pytest

from gateway.errors import SlotInUse
from gateway.slot_lock import gateway_lock


def test_a_slot_is_held_by_one_gateway_and_every_gateway_has_its_own(tmp_path: Path) -> None:
    with gateway_lock(tmp_path, 0), gateway_lock(tmp_path, 1):
        for slot in (0, 1):
            with (
                pytest.raises(SlotInUse, match=f"another gateway runs on {tmp_path}, slot {slot}"),
                gateway_lock(tmp_path, slot),
            ):
                pass
    with gateway_lock(tmp_path, 0):
        pass
