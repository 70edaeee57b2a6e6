"""Large contents, in files of their own beside the database.

Owns: the spool folder.
Promises: after `keep`, content is on disk. A file that no row refers to is removed once it is so
old that no process can be about to refer to it. Whatever name a store holds, only files of this
folder with our own form of name are opened or removed.
Exposure: holds contents as they are received or sent, encrypted by the sender. A store that
somebody else made may hold any names.
"""

import contextlib
import os
import re
import secrets
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Final

from client.errors import StoreUnusable
from client.store.database import told
from common.filesystem import sync_folder

_ORPHAN_AGE: Final = 24 * 3600 * 1000
"""Milliseconds."""
_NAME: Final = re.compile(r"[0-9a-f]{32}")


def spool_name(name: object) -> str:
    """Check the name of a spool file in a store. Raises `StoreUnusable` for a name that this
    program never makes.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise StoreUnusable(
            f"The store names {str(name)[:80]!r} as a large content, which is no name of this program's: "
            "somebody altered it.",
            "Restore an export of yours.",
        )
    return name


class SpoolFile:
    """Large content on its way to disk. `keep` makes it permanent; without it, nothing stays."""

    def __init__(self, folder: Path) -> None:
        self.name = secrets.token_hex(16)
        self._folder = folder
        self._path = folder / self.name
        with told(self._path):
            folder.mkdir(mode=0o700, exist_ok=True)
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        self._file = open(descriptor, "w+b", buffering=0)  # noqa: PTH123, SIM115 - closed by keep and discard

    def write(self, data: bytes | bytearray) -> None:
        """Append. Raises `StoreUnusable` (no room)."""
        view = memoryview(data)
        with told(self._path):
            while view:
                view = view[self._file.write(view) :]

    def keep(self) -> str:
        """Sync the content and return the name under which the store finds it."""
        with told(self._path):
            os.fsync(self._file.fileno())
            self._file.close()
            sync_folder(self._folder)
        return self.name

    def discard(self) -> None:
        """Remove the file."""
        self._file.close()
        self._path.unlink(missing_ok=True)


class Spools:
    """The folder of large contents."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def new(self) -> SpoolFile:
        """Begin to store large content. Raises `StoreUnusable`."""
        return SpoolFile(self._folder)

    def read(self, name: str, chunk: int, start: int = 0) -> Iterator[bytes]:
        """Yield stored large content in parts, from byte `start` on. Raises `StoreUnusable`."""
        path = self._folder / spool_name(name)
        with told(path):
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with told(path), open(descriptor, "rb", buffering=0) as file:  # noqa: PTH123
            file.seek(start)
            while data := file.read(chunk):
                yield data

    def is_there(self, name: str) -> bool:
        """Whether stored large content is there."""
        return (self._folder / spool_name(name)).exists()

    def size(self, name: str) -> int:
        """Return the size of stored large content, in bytes. Raises `StoreUnusable`."""
        path = self._folder / spool_name(name)
        with told(path):
            return path.lstat().st_size

    def forget(self, name: object) -> None:
        """Remove a file, if there is one."""
        if name is not None:
            with told(self._folder):
                (self._folder / spool_name(name)).unlink(missing_ok=True)

    @contextlib.contextmanager
    def brought_in(self, names: Iterable[str | None]) -> Iterator[None]:
        """Around the transaction that refers to new contents: they are removed if it definitely
        failed.
        """
        try:
            yield
        except StoreUnusable:
            # After anything else, such as an interrupt, it may be committed. `sweep` finds files
            # that nothing refers to.
            for name in names:
                self.forget(name)
            raise

    def sweep(self, known: Collection[str], now: int) -> None:
        """Remove unknown files, which a crash left. Young ones stay: another process may be about
        to send them.
        """
        with told(self._folder):
            if self._folder.is_dir():
                for path in self._folder.iterdir():
                    old = now - path.lstat().st_mtime * 1000 > _ORPHAN_AGE
                    if old and path.name not in known and _NAME.fullmatch(path.name):
                        path.unlink(missing_ok=True)
