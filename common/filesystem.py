"""The file system: which errors mean a full disk, how failures are reported, and how a name in a
folder survives a power cut.

Owns: which errors mean that there is no room, that nothing may be written, or that no more files
may be open; the wording of file system failures; what tells a file from its copy.
Promises: when `sync_folder` returns, the names in the folder are on disk.
Exposure: none.
"""

import contextlib
import errno
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from common.errors import FileUnwritten

NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""The disk is full, or the user's share of it, or what one file may hold."""
NO_LEAVE: Final = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})
"""The file system is read-only, or this user may not write there."""
NO_FILE: Final = frozenset({errno.EMFILE, errno.ENFILE})
"""This process, or all of them together, have as many files open as they may."""


_AT_FDCWD: Final = -100
_STATX_BTIME: Final = 0x800
_STATX: Final = struct.Struct("@I76xqI164x")
"""The mask of what the system filled in; seconds and nanoseconds of the file's birth."""


class Told(NamedTuple):
    """What happened and why, without a full stop, so that more can be said; and the next step."""

    problem: str
    advice: str


def told(error: OSError, path: Path, what: str = "written") -> Told:
    """Put a failure of the file system into words; `what` could not be done with the file."""
    why = error.strerror or str(error)
    if error.errno in NO_ROOM:
        return Told(f"There is no room to write {path} ({why})", "Free some space and try again.")
    return Told(f"{path} can't be {what} ({why})", "Check the folder, its permissions and the disk.")


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn a failure of the file system into `FileUnwritten`."""
    try:
        yield
    except OSError as error:
        raise FileUnwritten(path, *told(error, path)) from error


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable. Raises `OSError`."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def birth_of(path: Path) -> str:
    """Return what a file has and its copy has not, also where that has taken its name and place:
    the number of its inode, and when that was made, where the file system says so. Opens nothing,
    as closing a database would give up its locks. Raises `OSError`.
    """
    import ctypes  # noqa: PLC0415 - few programs need it

    number = path.stat().st_ino
    buffer = ctypes.create_string_buffer(_STATX.size)
    ask = getattr(ctypes.CDLL(None), "statx", None)
    if ask is None or ask(_AT_FDCWD, os.fsencode(path), 0, _STATX_BTIME, buffer) != 0:
        return str(number)
    mask, seconds, nanoseconds = _STATX.unpack(buffer.raw)
    return f"{number} {seconds}.{nanoseconds:09}" if mask & _STATX_BTIME else str(number)
