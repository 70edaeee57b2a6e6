"""An answer with mail that can't be parsed, kept as it came, because the server may have deleted
the mail.

Owns: files `unparsed-2104-N.bin` in the home, mode 0600, of at most 256 MiB each.
Promises: what is named to the user as kept is on disk. Messages before the unparsable place are in
the inbox and not in here. A disk failure is reported together with the answer's own failure, never
instead of it.
Exposure: the bytes are the server's; nobody but a person reads them again.

Source: docs/client-protocol.md, "Where other servers differ".
"""

import os
from pathlib import Path
from typing import BinaryIO, Final

from client.errors import InvalidServerResponse
from client.terminal.sanitize import visible_line
from common.filesystem import sync_folder, told

_LARGEST: Final = 256 * 1024 * 1024
_MOST_FILES: Final = 100
"""Bounds the space that a server can fill with such answers."""


class UnparsedAnswer:
    """One answer. No file is made before its first byte."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._path: Path | None = None
        self._file: BinaryIO | None = None
        self._size = 0
        self._problem = ""

    def add(self, data: bytes) -> None:
        """Keep its next bytes."""
        if self._problem:
            return
        if self._size + len(data) > _LARGEST:
            self._problem = f"it is larger than {_LARGEST // 1024 // 1024} MiB"
            return
        self._size += len(data)
        try:
            if self._file is None:
                self._begin()
            if self._file is not None:
                self._file.write(data)
        except OSError as error:
            self._problem = told(error, self._path or self._home).problem

    def told(self, error: InvalidServerResponse) -> InvalidServerResponse:
        """Return the failure, with what became of the answer."""
        if not self._size:
            return error
        self._end()
        sentence = str(error)
        if self._problem:
            return InvalidServerResponse(f"{sentence} Its answer could not be kept: {self._problem}.", error.advice)
        kept = visible_line(str(self._path))
        return InvalidServerResponse(
            f"{sentence} The rest of its answer ({self._size:,} bytes) is kept as it came in {kept}, "
            "for the server may have deleted that mail.",
            error.advice,
        )

    def close(self) -> None:
        """Close the file: no more bytes follow."""
        self._end()

    def _begin(self) -> None:
        for number in range(1, _MOST_FILES + 1):
            path = self._home / f"unparsed-2104-{number}.bin"
            try:
                descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            except FileExistsError:
                continue
            self._path = path
            self._file = os.fdopen(descriptor, "wb")
            return
        self._problem = f"there are {_MOST_FILES} such files in the home already (unparsed-2104-*.bin)"

    def _end(self) -> None:
        file, self._file = self._file, None
        if file is None:
            return
        try:
            with file:
                file.flush()
                os.fsync(file.fileno())
            sync_folder(self._home)
        except OSError as error:
            self._problem = self._problem or told(error, self._path or self._home).problem
