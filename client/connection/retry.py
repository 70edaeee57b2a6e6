"""What is retried automatically: long transfers whose connection breaks, and requests that the
server refuses as too fast.

Owns: what counts as long, how often and after which pauses it is retried; how long to wait if the
server asks for it.
Promises: nothing waits longer than `LONGEST_PATIENCE` because a server says so. `Retry` never
repeats short work, nor work that could take effect twice: the caller names the failures after which
that is impossible.

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
    """Repeats long work until it is done. `rest` pauses, or raises if it is interrupted."""

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
        """Return the result of `work`, which gets a function to report its progress.

        After a failure of the kinds in `healed`, work that turned out to be long is repeated.
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
