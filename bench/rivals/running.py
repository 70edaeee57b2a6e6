"""What the plans for all rivals have in common.

Owns: the parts of a load that do not depend on whom it is for.
Promises: every rival is sent the same number of messages of the same size, in the same shape, for
the same time.
Exposure: none.
"""

import random
from collections.abc import Mapping, Sequence
from typing import Final

from bench.plan import Dialect, Mode, Plan
from bench.subject import Sending, Shape

_IDLE_SOURCES: Final = 4
_IDLE_AT_A_TIME: Final = 32


class RunningRival:
    """A started rival; see `subject.Running`. `longest`: how many seconds a load may take
    beyond its own.
    """

    dialect: Dialect
    longest: float
    greeting: bytes = b""
    greeted: bytes = b""

    def __init__(self, port: int, process_ids: Mapping[str, int]) -> None:
        self.process_ids = process_ids
        self._port = port

    def restart(self) -> None:
        """Not measured, where a rival does not say otherwise."""
        raise NotImplementedError

    def idle_plan(self, connections: int) -> Plan:
        """Not measured, where a rival does not say otherwise."""
        raise NotImplementedError

    def drain_plan(self, connections: int, size: int, *, close_each: bool, waiting: Sequence[int]) -> Plan:
        """Not measured, where a rival does not say otherwise."""
        raise NotImplementedError

    @staticmethod
    def _content(sending: Sending) -> bytes:
        return random.Random(sending.seed).randbytes(sending.size)

    def _sends(
        self, shape: Shape, sending: Sending, heads: list[bytes], body: bytes, *, tags: Sequence[bytes] = (),
        longer: float = 0.0,
    ) -> Plan:  # fmt: skip
        return Plan(
            mode=Mode.SEND,
            dialect=self.dialect,
            port=self._port,
            connections=shape.connections,
            window=shape.window,
            run_time=sending.seconds,
            messages=sending.messages,
            limit_time=sending.seconds + self.longest + longer,
            seed=sending.seed,
            heads=heads,
            tags=list(tags),
            body=body,
            greeting=self.greeting,
            greeted=self.greeted,
        )

    def _drain(
        self, connections: int, size: int, heads: list[bytes], closers: list[bytes], *, close_each: bool = False,
        keys: Sequence[bytes] = (),
    ) -> Plan:  # fmt: skip
        return Plan(
            mode=Mode.DRAIN,
            dialect=self.dialect,
            port=self._port,
            connections=connections,
            limit_time=self.longest,
            close_each=close_each,
            content_size=size,
            keys=list(keys),
            heads=heads,
            closers=closers,
            greeting=self.greeting,
            greeted=self.greeted,
        )

    def _idle(self, connections: int, heads: list[bytes]) -> Plan:
        return Plan(
            mode=Mode.IDLE,
            dialect=self.dialect,
            port=self._port,
            connections=connections,
            window=_IDLE_AT_A_TIME,
            limit_time=self.longest,
            sources=_IDLE_SOURCES,
            heads=heads,
            greeting=self.greeting,
            greeted=self.greeted,
        )
