"""A descriptor held in reserve for when there are no others.

Owns: one open file, used only for its number. Promises: with it a connection can be accepted, to
see who it is, when the limit of open files is reached. If it can't be opened again, callers do
without.
Exposure: none of its own.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class SpareDescriptor:
    """One for a listener."""

    def __init__(self) -> None:
        self._descriptor: int | None = None
        self._keep()

    @contextmanager
    def lent(self) -> Iterator[None]:
        """Inside, there is room for one more descriptor. Whoever uses it has to close one again."""
        self.close()
        try:
            yield
        finally:
            self._keep()

    def _keep(self) -> None:
        # The system may have none at all; the next loan tries again.
        with suppress(OSError):
            self._descriptor = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)

    def close(self) -> None:
        """Close it."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
