"""A disk on which one write, truncation or sync fails: a file layer of apsw over real files.

Operations are counted from 1; number `fail_at` fails, once, in the way of `fault`. A short write
leaves the first half of its bytes.
"""

from enum import Enum
from typing import Any

import apsw

from storage_worker.engine.errors import StorageError, StoreFailed, StoreFull
from storage_worker.engine.sqlite.blobs import BlobFolder
from storage_worker.engine.sqlite.journal import JournalFile
from storage_worker.engine.sqlite.store_identity import StoreIdentityFile


class Fault(Enum):
    """What goes wrong. SQLite's own file layer tells a short write as "full", too."""

    EIO = "input/output error"
    ENOSPC = "no space left on device"
    SHORT = "short write"

    def raised(self) -> Exception:
        """As SQLite hears of it."""
        return apsw.IOError(self.value) if self is Fault.EIO else apsw.FullError(self.value)

    def told(self) -> StorageError:
        """As our own file ports raise it."""
        return StoreFailed(self.value) if self is Fault.EIO else StoreFull(self.value)


class FaultyDisk(apsw.VFS):
    """Registered under `name`; `failed` tells what it was, after it happened."""

    def __init__(self, name: str, fail_at: int, fault: Fault) -> None:
        self.name = name
        self.operations = 0
        self.failed = ""
        self._fail_at = fail_at
        self.fault = fault
        super().__init__(name, base="")

    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:  # noqa: N802
        return _FaultyFile(self, name, flags)

    def fails(self, what: str) -> bool:
        """Count an operation; whether it is the one."""
        self.operations += 1
        if self.operations == self._fail_at:
            self.failed = what
        return self.operations == self._fail_at


class _FaultyFile(apsw.VFSFile):
    def __init__(self, disk: FaultyDisk, name: Any, flags: list[int]) -> None:
        self._disk = disk
        self._name = str(name.filename() if hasattr(name, "filename") else name).rpartition("/")[2]
        super().__init__("", name, flags)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        if self._disk.fails(f"write {self._name}"):
            if self._disk.fault is Fault.SHORT:
                super().xWrite(bytes(data)[: len(data) // 2], offset)
            raise self._disk.fault.raised()
        super().xWrite(data, offset)

    def xTruncate(self, size: int) -> None:  # noqa: N802
        if self._disk.fails(f"truncate {self._name}"):
            raise self._disk.fault.raised()
        super().xTruncate(size)

    def xSync(self, flags: int) -> None:  # noqa: N802
        if self._disk.fails(f"sync {self._name}"):
            raise self._disk.fault.raised()
        super().xSync(flags)


class FaultyIdentityFile:
    """The port of `store.generation` on the same disk: writing is one operation."""

    def __init__(self, disk: FaultyDisk, file: StoreIdentityFile) -> None:
        self._disk = disk
        self._file = file

    def read(self) -> str | None:
        """As it is."""
        return self._file.read()

    def write(self, text: str) -> None:
        """Fails before anything is replaced."""
        if self._disk.fails("write store.generation"):
            raise self._disk.fault.told()
        self._file.write(text)


class FaultyJournalFile:
    """The port of the journal on the same disk."""

    def __init__(self, disk: FaultyDisk, file: JournalFile, name: str) -> None:
        self._disk = disk
        self._file = file
        self._name = name

    def read(self) -> bytes:
        """As it is."""
        return self._file.read()

    def write(self, offset: int, data: bytes) -> None:
        """Fails before anything is written, or behind half of it."""
        if self._disk.fails(f"write {self._name}"):
            if self._disk.fault is Fault.SHORT:
                self._file.write(offset, data[: len(data) // 2])
            raise self._disk.fault.told()
        self._file.write(offset, data)

    def sync(self) -> None:
        """A sync that fails for want of room is as bad as any."""
        if self._disk.fails(f"sync {self._name}"):
            raise StoreFailed(self._disk.fault.value)
        self._file.sync()

    def write_synced(self, offset: int, data: bytes) -> None:
        """Both, each of which may fail."""
        self.write(offset, data)
        self.sync()

    def close(self) -> None:
        """As it is."""
        self._file.close()


class FaultyBlobs:
    """The port of the blobs on the same disk."""

    def __init__(self, disk: FaultyDisk, folder: BlobFolder) -> None:
        self._disk = disk
        self._folder = folder
        self.read = folder.read
        self.remove = folder.remove
        self.set_aside = folder.set_aside
        self.sizes = folder.sizes
        self.close = folder.close
        self.close_all = folder.close_all

    def append(self, blob_id: int, at: int, data: bytes) -> None:
        """Fails before anything is written, or behind half of it."""
        if self._disk.fails(f"write bodies/{blob_id}"):
            if self._disk.fault is Fault.SHORT:
                self._folder.append(blob_id, at, data[: len(data) // 2])
            raise self._disk.fault.told()
        self._folder.append(blob_id, at, data)

    def sync(self, blob_id: int) -> None:
        """As the journal's."""
        if self._disk.fails(f"sync bodies/{blob_id}"):
            raise StoreFailed(self._disk.fault.value)
        self._folder.sync(blob_id)
