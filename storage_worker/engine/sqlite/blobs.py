"""Large contents: one file each, written as it arrives and synced in steps by a separate thread.

Owns: the folder `bodies/` in the data folder, and which part of which file is on disk.
Promises: `unsynced` is 0 only when the whole file, and its name in the folder, are on disk. A
failed sync makes the next call of any method raise `StoreFailed`, since what is on disk is then
unknown. An altered piece is never handed out: checksums of the pieces follow each content.
Exposure: contents are opaque bytes of strangers; the files' names are numbers of ours.
"""

import contextlib
import errno
import os
import threading
from collections import deque
from pathlib import Path
from typing import Final, Protocol

from storage_worker.engine.errors import StoreDamaged, StoreFailed
from storage_worker.engine.sqlite.blob_checksums import (
    PIECE_BYTES,
    PieceSums,
    pieces_are_whole,
    table_bytes,
    table_is_whole,
)
from storage_worker.engine.sqlite.folder import BLOBS_NAME, failed, sync_folder, unwritten

SYNC_STEP: Final = 8 * 1024 * 1024
"""Bytes after which a file that grows is handed to the thread."""


_ASIDE: Final = ".damaged"


class BlobFolder(Protocol):
    """The interface to the files; tests replace it by a disk that loses, tears or fails writes.

    All methods raise `StoreFailed`, and `append` raises `StoreFull` if there is no room. If no more
    files may be open, `append` and `read` raise `NoFileLeft`.
    """

    def append(self, blob_id: int, at: int, data: bytes) -> None:
        """Write at the end, which is at `at`; a file that is not there is made."""

    def sync(self, blob_id: int) -> None:
        """The file and its name are on disk when this returns. May be called by another thread."""

    def read(self, blob_id: int, at: int, length: int) -> bytes:
        """Bytes of a file, all of them."""

    def remove(self, blob_id: int) -> None:
        """Delete it, if it exists."""

    def set_aside(self, blob_id: int) -> str:
        """Keep it under a name that is ignored here; returns that name, or an empty one if there is
        no such file.
        """

    def sizes(self) -> dict[int, int]:
        """The files that are there: number -> bytes."""

    def close(self, blob_id: int) -> None:
        """Nothing more is appended to it."""

    def close_all(self) -> None:
        """It is of no use any more."""


class DiskBlobs:
    """`bodies/` on a real disk."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open: dict[int, int] = {}
        self._in_sync: set[int] = set()
        """Descriptors that a `sync` is at work on."""
        self._closing: set[int] = set()
        """Those of them that it closes when it is done."""
        self._lock = threading.Lock()
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            # Open for good, so that a sync never lacks it.
            self._names = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise StoreFailed(f"{folder} can't be made: {error.strerror}") from error
        sync_folder(folder.parent)

    def _path(self, blob_id: int) -> Path:
        return self._folder / str(blob_id)

    def append(self, blob_id: int, at: int, data: bytes) -> None:
        """Write at the end, which is at `at`."""
        try:
            descriptor = self._open.get(blob_id)
            if descriptor is None:
                flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | (os.O_TRUNC if at == 0 else 0)
                descriptor = self._open[blob_id] = os.open(self._path(blob_id), flags, 0o600)
            view = memoryview(data)
            while view:
                written = os.pwrite(descriptor, view, at)
                view, at = view[written:], at + written
        except OSError as error:
            raise unwritten(error, self._path(blob_id)) from error

    def sync(self, blob_id: int) -> None:
        """The file and its name are on disk when this returns."""
        with self._lock:
            descriptor = self._open.get(blob_id)
            if descriptor is None:
                return
            self._in_sync.add(descriptor)
        # Without the lock: the loop, which closes files, must not wait for the disk.
        try:
            os.fdatasync(descriptor)
            os.fsync(self._names)
        except OSError as error:
            raise StoreFailed(f"{self._path(blob_id)} can't be synced: {error.strerror}") from error
        finally:
            with self._lock:
                self._in_sync.remove(descriptor)
                if descriptor in self._closing:
                    self._closing.remove(descriptor)
                    os.close(descriptor)

    def read(self, blob_id: int, at: int, length: int) -> bytes:
        """Bytes of a file, all of them."""
        try:
            descriptor = os.open(self._path(blob_id), os.O_RDONLY | os.O_CLOEXEC)
            try:
                parts: list[bytes] = []
                while length:
                    part = os.pread(descriptor, length, at)
                    if not part:
                        raise OSError(errno.EIO, "it is shorter than it was")
                    parts.append(part)
                    at, length = at + len(part), length - len(part)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise failed(error, f"{self._path(blob_id)} can't be read") from error
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def remove(self, blob_id: int) -> None:
        """Delete it."""
        self.close(blob_id)
        try:
            with contextlib.suppress(FileNotFoundError):
                self._path(blob_id).unlink()
        except OSError as error:
            raise StoreFailed(f"{self._path(blob_id)} can't be deleted: {error.strerror}") from error

    def set_aside(self, blob_id: int) -> str:
        """Keep it as `NUMBER.damaged`."""
        self.close(blob_id)
        path = self._path(blob_id)
        aside = path.with_name(path.name + _ASIDE)
        try:
            path.replace(aside)
        except FileNotFoundError:
            return ""
        except OSError as error:
            raise StoreFailed(f"{path} can't be renamed: {error.strerror}") from error
        return f"{BLOBS_NAME}/{aside.name}"

    def sizes(self) -> dict[int, int]:
        """The files that are there: number -> bytes."""
        return file_sizes(self._folder)

    def close(self, blob_id: int) -> None:
        """Nothing more is appended to it."""
        with self._lock:
            descriptor = self._open.pop(blob_id, None)
            if descriptor in self._in_sync:
                self._closing.add(descriptor)
            elif descriptor is not None:
                os.close(descriptor)

    def close_all(self) -> None:
        """It is of no use any more."""
        for blob_id in list(self._open):
            self.close(blob_id)
        os.close(self._names)


def file_sizes(folder: Path) -> dict[int, int]:
    """The files of contents in a folder: number -> bytes. Works beside a running worker.
    Raises `StoreFailed`.
    """
    sizes: dict[int, int] = {}
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.isascii() and entry.name.isdigit():
                    # A running worker may have deleted it meanwhile.
                    with contextlib.suppress(FileNotFoundError):
                        sizes[int(entry.name)] = entry.stat().st_size
    except OSError as error:
        raise StoreFailed(f"{folder} can't be read: {error.strerror}") from error
    return sizes


class Syncer(Protocol):
    """Syncs files. `sync` begins it, now or soon; `synced` returns how far a file is on disk, or
    raises `StoreFailed`.
    """

    def sync(self, blob_id: int, size: int) -> None:
        """Bring the first `size` bytes of a file to the disk."""

    def synced(self, blob_id: int) -> int:
        """How many of its bytes surely are there; -1 while not even its name is."""

    def forget(self, blob_id: int) -> None:
        """The file is of no interest any more."""

    def close(self) -> None:
        """End."""


class SyncThread:
    """Syncs files one after the other in a thread of its own. Made once, ended by `close`."""

    def __init__(self, folder: BlobFolder) -> None:
        self._folder = folder
        self._wanted: deque[tuple[int, int]] = deque()
        self._synced: dict[int, int] = {}
        self._at_work: int | None = None
        self._failure: StoreFailed | None = None
        self._ending = False
        self._news = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="blob-sync", daemon=True)
        self._thread.start()

    def sync(self, blob_id: int, size: int) -> None:
        """Begin to bring the first `size` bytes of a file to the disk."""
        with self._news:
            self._check()
            if not any(entry == (blob_id, size) for entry in self._wanted):
                self._wanted.append((blob_id, size))
                self._news.notify()

    def synced(self, blob_id: int) -> int:
        """How many of its bytes surely are there; -1 while not even its name is."""
        with self._news:
            self._check()
            return self._synced.get(blob_id, -1)

    def _check(self) -> None:
        if self._failure is not None:
            raise StoreFailed(str(self._failure)) from self._failure

    def forget(self, blob_id: int) -> None:
        """The file is of no interest any more."""
        with self._news:
            self._synced.pop(blob_id, None)
            if self._at_work == blob_id:
                # What it comes to says nothing of another file that gets the same number.
                self._at_work = None
            self._wanted = deque([wanted for wanted in self._wanted if wanted[0] != blob_id])

    def _run(self) -> None:
        while True:
            with self._news:
                while not self._wanted and not self._ending:
                    self._news.wait()
                if self._ending:
                    return
                blob_id, size = self._wanted.popleft()
                self._at_work = blob_id
            try:
                self._folder.sync(blob_id)
            except StoreFailed as error:
                with self._news:
                    self._failure = error
                return
            with self._news:
                if self._at_work == blob_id:
                    self._synced[blob_id] = max(size, self._synced.get(blob_id, -1))
                self._at_work = None
                self._news.notify_all()

    def close(self) -> None:
        """End; what was not begun is not done."""
        with self._news:
            self._ending = True
            self._news.notify()
        self._thread.join()


class _Growing:
    """A file that is being written: its size, and up to where a sync was asked for."""

    __slots__ = ("asked", "is_whole", "size", "sums")

    def __init__(self) -> None:
        self.size = 0
        self.asked = -1
        self.is_whole = False
        self.sums = PieceSums()


class Blobs:
    """The files, and the pace of their syncing."""

    def __init__(self, folder: BlobFolder, syncer: Syncer) -> None:
        self._folder = folder
        self._syncer = syncer
        self._growing: dict[int, _Growing] = {}
        self._unchecked: set[int] = set()
        """Files that an earlier version wrote, without checksums."""
        self._table = (0, b"")
        self._put_off: set[int] | None = None
        """Files that are deleted later, while a backup is made."""
        self.unread: set[int] = set()
        """Files that could not be handed out when they were last read."""

    def append(self, blob_id: int, data: bytes) -> None:
        """The next bytes of a file. Raises `StoreFull`, after which the file is to be removed."""
        if self._put_off and blob_id not in self._growing:
            # A turn that was undone gave the number back.
            self._put_off.discard(blob_id)
        growing = self._growing.setdefault(blob_id, _Growing())
        self._folder.append(blob_id, growing.size, data)
        growing.size += len(data)
        if not growing.is_whole:
            growing.sums.add(data)
        if growing.size - max(growing.asked, 0) >= SYNC_STEP:
            self._ask(blob_id, growing)

    def _ask(self, blob_id: int, growing: _Growing) -> None:
        growing.asked = growing.size
        self._syncer.sync(blob_id, growing.size)

    def unsynced(self, blob_id: int) -> int:
        """Bytes of a growing file that are not surely on disk."""
        growing = self._growing.get(blob_id)
        return 0 if growing is None else growing.size - max(self._syncer.synced(blob_id), 0)

    def finish(self, blob_id: int) -> int:
        """All of it was written: sync the rest; how many bytes are not on disk yet, 0
        when it is done.
        """
        if blob_id not in self._growing:
            self.append(blob_id, b"")
        growing = self._growing[blob_id]
        if not growing.is_whole:
            growing.is_whole = True
            self.append(blob_id, growing.sums.table(blob_id))
        if growing.asked < growing.size:
            self._ask(blob_id, growing)
        synced = self._syncer.synced(blob_id)
        if synced < growing.size:
            # An empty file has a name that has to be there.
            return growing.size - synced
        self._let_go(blob_id)
        return 0

    def _let_go(self, blob_id: int) -> None:
        if self._growing.pop(blob_id, None) is not None:
            self._syncer.forget(blob_id)
            self._folder.close(blob_id)

    def read(self, blob_id: int, at: int, length: int, size: int) -> bytes:
        """Bytes of a content of `size` bytes. Raises `StoreDamaged` where a piece of them
        is altered, or not there.
        """
        try:
            data = self._read(blob_id, at, length, size)
        except StoreDamaged:
            self.unread.add(blob_id)
            raise
        if self.unread:
            # The disk may have had a bad moment.
            self.unread.discard(blob_id)
        return data

    def _read(self, blob_id: int, at: int, length: int, size: int) -> bytes:
        try:
            if blob_id in self._unchecked or not length:
                return self._folder.read(blob_id, at, length)
            if self._table[0] != blob_id:
                self._table = (blob_id, self._folder.read(blob_id, size, table_bytes(size)))
            table = self._table[1]
            first, behind = at // PIECE_BYTES, min(size, -(-(at + length) // PIECE_BYTES) * PIECE_BYTES)
            pieces = self._folder.read(blob_id, first * PIECE_BYTES, behind - first * PIECE_BYTES)
        except StoreFailed as error:
            raise StoreDamaged(f"a large message can't be handed out: {error}") from error
        if not table_is_whole(blob_id, table) or not pieces_are_whole(table, first, pieces):
            self._table = (0, b"")
            raise StoreDamaged(f"{BLOBS_NAME}/{blob_id} is altered: its message is not handed out")
        skipped = at - first * PIECE_BYTES
        return pieces if len(pieces) == length else pieces[skipped : skipped + length]

    def altered(self, contents: dict[int, int]) -> dict[int, str]:
        """Read all of these (number -> bytes) through: those that are altered, and what
        is wrong. Number 0 is none.
        """
        found = self._folder.sizes()
        self._unchecked |= {blob_id for blob_id, size in contents.items() if found.get(blob_id) == size}
        problems: dict[int, str] = {}
        for blob_id, size in contents.items():
            try:
                for at in range(0, size, SYNC_STEP):
                    self.read(blob_id, at, min(SYNC_STEP, size - at), size)
            except StoreDamaged as error:
                problems[blob_id] = str(error)
        return problems

    def remove(self, blob_id: int) -> None:
        """Delete a file."""
        self._unchecked.discard(blob_id)
        self.unread.discard(blob_id)
        if self._table[0] == blob_id:
            self._table = (0, b"")
        self._let_go(blob_id)
        if self._put_off is None:
            self._folder.remove(blob_id)
        else:
            self._put_off.add(blob_id)

    def put_off_deletions(self) -> None:
        """From now on `remove` deletes nothing yet. A restart deletes what no message needs."""
        if self._put_off is None:
            self._put_off = set()

    def delete_put_off(self, most: int) -> bool:
        """Delete some of what was put off; whether that was all, and `remove` deletes again. Raises
        `StoreFailed`.
        """
        put_off = self._put_off or set()
        for _ in range(min(most, len(put_off))):
            self._folder.remove(put_off.pop())
        if not put_off:
            self._put_off = None
        return not put_off

    def set_aside(self, blob_id: int) -> str:
        """Its message is dropped for its damage: keep the file, under the name that this
        gives; empty for none.
        """
        self._unchecked.discard(blob_id)
        self._let_go(blob_id)
        return self._folder.set_aside(blob_id)

    def sweep(self, needed: dict[int, int]) -> set[int]:
        """Delete the files that no message needs: what a crash left of uploads, and of messages
        that were fetched.

        `needed`: number -> bytes. Gives those that are not there, or shorter.
        """
        found = self._folder.sizes()
        for blob_id in found.keys() - needed.keys():
            self._folder.remove(blob_id)
        self._unchecked |= {blob_id for blob_id, size in needed.items() if found.get(blob_id) == size}
        return {blob_id for blob_id, size in needed.items() if found.get(blob_id, -1) < size}

    def close(self) -> None:
        """Let go of everything; what grows stays as it is."""
        self._syncer.close()
        self._growing.clear()
        self._folder.close_all()
