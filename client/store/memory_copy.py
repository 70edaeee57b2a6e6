"""Reading a database whose folder can't be written: a copy of it in memory.

Owns: taking the copy.
Promises: opens two files for reading, and writes nowhere: neither to the disk nor to a temporary
folder, which may be full too, and where a kill would leave secrets. Everything committed is in the
copy, including what is only in the WAL so far.
Exposure: reads files that somebody else may have written; SQLite judges them.

SQLite itself opens a database of WAL mode only if it can make the index of the WAL beside it.
`immutable=1` needs none, but leaves the WAL out. So SQLite is given both files as a file system of
two files in memory, which it recovers as it would after a crash, with the index in its own memory
(`locking_mode = EXCLUSIVE`).

Source: https://www.sqlite.org/walformat.html,
https://www.sqlite.org/wal.html#use_of_wal_without_shared_memory
"""

from pathlib import Path
from typing import Any, Final

import apsw

_TRIES: Final = 20
_FILE: Final = "/store"
_WAL: Final = f"{_FILE}-wal"


def memory_copy(path: Path) -> apsw.Connection:
    """Return a database in memory with what is in the one at `path`; an empty one if there is none.

    Raises `OSError`, `apsw.Error`; `apsw.BusyError` if others write to it all the time.
    """
    files = _MemoryFiles(dict(zip((_FILE, _WAL), _read_both(path), strict=True)))
    try:
        copy = apsw.Connection(":memory:")
        try:
            original = apsw.Connection(_FILE, flags=apsw.SQLITE_OPEN_READONLY, vfs=files.name)
            try:
                original.execute("PRAGMA locking_mode = EXCLUSIVE")
                original.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
                with copy.backup("main", original, "main") as backup:
                    backup.step()
            finally:
                original.close()
        except BaseException:
            copy.close()
            raise
        return copy
    finally:
        files.unregister()


def _read_both(path: Path) -> tuple[bytes, bytes]:
    """Read the database and its WAL as they belong together.

    Whatever a checkpoint writes into the database meanwhile is in the WAL too, so only the WAL has
    to stay unchanged.
    """
    wal = path.with_name(f"{path.name}-wal")
    before = _content(wal)
    for _ in range(_TRIES):
        database = _content(path)
        after = _content(wal)
        if after == before:
            return database, before
        before = after
    raise apsw.BusyError(f"{path} is written to all the time")


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""


class _MemoryFiles(apsw.VFS):
    """SQLite's view of a file system in which there are these files and no others, to be read."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.name = f"memory-{id(self)}"
        self._files = files
        super().__init__(self.name, base="")

    def xFullPathname(self, name: str) -> str:  # noqa: N802
        return name

    def xAccess(self, pathname: str, flags: int) -> bool:  # noqa: N802
        return bool(self._files.get(pathname))

    def xOpen(self, name: Any, flags: list[int]) -> Any:  # noqa: N802
        # Any: a string or apsw's `URIFilename`; what is given is no `VFSFile`, which would stand on
        # a real file.
        path = name.filename() if hasattr(name, "filename") else name
        if path not in self._files:
            raise apsw.CantOpenError(str(path))
        flags[1] = flags[0]
        return _MemoryFile(self._files[path])


class _MemoryFile:
    """One of these files. It has no methods that write: calling one would be a bug."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def xRead(self, amount: int, offset: int) -> bytes:  # noqa: N802
        return self._content[offset : offset + amount]

    def xFileSize(self) -> int:  # noqa: N802
        return len(self._content)

    def xLock(self, level: int) -> None:  # noqa: N802
        """Nobody else has it."""

    def xUnlock(self, level: int) -> None:  # noqa: N802
        """Nobody else has it."""

    def xCheckReservedLock(self) -> bool:  # noqa: N802
        return False

    def xSync(self, flags: int) -> None:  # noqa: N802
        """There is nothing to sync."""

    def xFileControl(self, op: int, pointer: int) -> bool:  # noqa: N802
        return False

    def xSectorSize(self) -> int:  # noqa: N802
        return 4096

    def xDeviceCharacteristics(self) -> int:  # noqa: N802
        return 0

    def xClose(self) -> None:  # noqa: N802
        """Its bytes are the caller's."""
