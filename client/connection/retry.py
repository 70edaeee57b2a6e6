"""Long transfers, which start over by themselves when the connection breaks in their midst.

Owns: what counts as long, how often and after which pauses it is tried again.
Promises: short work is never repeated here, and no work whose repetition could do a thing twice:
the caller names the failures after which it can't.

Source: docs/client.md.
"""

from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from client.connection.server_link import Progress
from client.errors import OutcomeUnknown, ServerUnreachable

LONG: Final = 1_000_000
"""Bytes from which on a transfer is long: it shows its progress, and starts over by itself."""
PAUSES: Final = (1.0, 2.0, 4.0, 8.0, 15.0)
"""Seconds before each further attempt; after the last one the failure is reported."""

Result = TypeVar("Result")


class Retry:
    """Does long work until it is done. `rest` lets a pause pass, or raises where nobody
    waits any more.
    """

    def __init__(
        self, rest: Callable[[float], None], tell: Callable[[str], None], pauses: Sequence[float] = PAUSES
    ) -> None:
        self._rest = rest
        self._tell = tell
        self._pauses = pauses

    def do(
        self,
        work: Callable[[Progress], Result],
        progress: Progress | None,
        healed: tuple[type[OutcomeUnknown | ServerUnreachable], ...] = (ServerUnreachable, OutcomeUnknown),
    ) -> Result:
        """Give what `work` gives; it is told how to report its progress.

        After a failure of the kinds in `healed`, work that turned out to be long is done again.
        Raises the last failure.
        """
        is_long = False

        def watch(done: int, total: int) -> None:
            nonlocal is_long
            is_long = is_long or total >= LONG
            if progress is not None:
                progress(done, total)

        for pause in self._pauses:
            try:
                return work(watch)
            except healed as error:
                if not is_long:
                    raise
                self._tell(f"{error} Starting over in {pause:g} s.")
                self._rest(pause)
        return work(watch)
