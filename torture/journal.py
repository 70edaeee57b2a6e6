"""A journal of what a sender or receiver has done, on disk before its next step, from which its
successor continues.

Owns: one file of short lines.
Promises: a line that was written is found again after kill -9; an incomplete last line of a killed
writer is cut off. After `sync` it survives a power cut too.
Exposure: none.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Self


class Journal:
    """Append-only. One writer at a time."""

    def __init__(self, path: Path) -> None:
        lines, whole = _read(path)
        self.lines = lines
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.ftruncate(self._descriptor, whole)

    def write(self, lines: Sequence[str]) -> None:
        """Append lines, in one write."""
        data = "".join(f"{line}\n" for line in lines).encode()
        while data:
            data = data[os.write(self._descriptor, data) :]

    def sync(self) -> None:
        """Make what was written survive a power cut."""
        os.fdatasync(self._descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)


def read_journal(path: Path) -> list[str]:
    """The whole lines of a journal; none if there is no file."""
    return _read(path)[0]


def count_lines(path: Path, start: str) -> int:
    """How many whole lines begin so: without reading each, for a journal may have very many."""
    data = _whole(path)
    return data.startswith(start.encode()) + data.count(f"\n{start}".encode())


def _whole(path: Path) -> bytes:
    data = path.read_bytes() if path.exists() else b""
    return data[: data.rfind(b"\n") + 1]


def _read(path: Path) -> tuple[list[str], int]:
    """The whole lines, and how many bytes they are."""
    data = _whole(path)
    return data.decode().splitlines(), len(data)
