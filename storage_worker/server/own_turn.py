"""A turn of the worker's own, between those for gateways: for expiry, and for an operator's
requests.

Owns: nothing. Promises: what is done in it is durable afterwards, or undone both in memory and on
disk. Raises `StoreFailed`, after which the state on disk is unknown, and passes on bugs of the code
that runs in it.
Exposure: none of its own.
"""

from collections.abc import Callable

from storage_worker.engine.errors import StoreFull
from storage_worker.engine.interface import Engine
from storage_worker.engine.values import Admission
from storage_worker.rules.rules import Rules


def own_turn(
    engine: Engine, rules: Rules, now_ms: int, act: Callable[[], object], *, registers: bool = False
) -> str | None:
    """Run `act` in a turn; returns why it was undone, or None.

    `registers`: see `Engine.turn`.
    """
    capacity = engine.prepare(now_ms, 0, rules.uploaded)
    if registers and capacity.level is Admission.NOTHING:
        return "there is no room"
    try:
        with engine.turn(now_ms, capacity.level, registers=registers):
            rules.begin(now_ms, capacity)
            act()
    except Exception as error:
        problem = str(error) if isinstance(error, StoreFull) else engine.damage(error)
        if problem is None:
            raise
        rules.roll_back()
        return problem
    rules.commit()
    return None
