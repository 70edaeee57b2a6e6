"""One gateway for each slot of a data folder.

Owns: the lock files of slots. Promises: a lock is gone with the process that held it.
Exposure: none.
"""

from contextlib import AbstractContextManager
from pathlib import Path

from common.data_folder import exclusive
from gateway.errors import SlotInUse


def gateway_lock(folder: Path, slot: int) -> AbstractContextManager[None]:
    """Hold a gateway's slot of the data folder. Entering raises `SlotInUse` if another process
    holds it.

    The worker would not notice two gateways: it serves the one that greeted last, and each would
    end the other's connections until one of them gives up.
    """
    return exclusive(folder / f"gateway-{slot}.lock", SlotInUse(f"another gateway runs on {folder}, slot {slot}"))
