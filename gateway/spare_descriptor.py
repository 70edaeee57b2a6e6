"""A descriptor that is kept for the moment in which there are no others.

Owns: one open file, which is nothing but a number. Promises: with it a connection can be accepted,
to see who it is, where the limit of open files is reached. Where it can't be had again, callers go
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
        """Meanwhile there is room for one descriptor more. Whoever took it gives one back."""
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
        """Keep none."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
